//! A descriptor table in the memory of a guest.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmstorage_engine::exports::vhost_user_blk::hostile::virtio_driver(data));
