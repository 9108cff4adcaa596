//! The bytes of an NBD client, cut anywhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmstorage_engine::exports::nbd::hostile::nbd_client(data));
