//! A VHDX file somebody wrote to hurt: patches of a good one, checksums made right again, opened, read, written, closed, opened again.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmstorage_engine::formats::vhdx::hostile::vhdx_file(data));
