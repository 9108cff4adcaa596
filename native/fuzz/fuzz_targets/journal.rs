//! A journal that a disk damaged, or somebody wrote.
#![no_main]

use std::path::Path;

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmstorage_engine::mirror::hostile::journal_file(Path::new("/dev/shm"), data));
