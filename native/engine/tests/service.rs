//! The service over a real file, on both reactors: every byte that was acknowledged is read back, whatever the shape of the
//! guest's memory, and what is malformed is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

mod support;

use std::path::Path;

use support::export::{TestDisk, pattern};
use vmstorage_engine::disk::RequestKind;

const MIB: u64 = 1 << 20;

fn raw_disk(folder: &Path, bytes: u64) -> TestDisk {
    let path = folder.join("disk.img");
    std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
    TestDisk::open(&path)
}

/// Runs `test` on io_uring and on the thread pool.
fn on_both_reactors(test: impl Fn()) {
    for io in ["io_uring", "threads"] {
        // SAFETY: each integration test file is its own process and these tests run one at a time (one test function).
        unsafe { std::env::set_var("VMSTORAGE_IO", io) };
        test();
    }
}

#[test]
fn the_service_keeps_every_acknowledged_byte_and_refuses_what_is_malformed() {
    on_both_reactors(|| {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let disk = raw_disk(folder.path(), 8 * MIB);

        // Aligned, misaligned in memory, scattered over many small parts, large.
        let shapes: &[(u64, usize, usize, usize)] = &[
            (0, 4096, 0, 1),
            (4096, 512, 3, 1),
            (8192, 65536, 512, 7),
            (MIB, 2 << 20, 0, 16),
            (3 * MIB + 512, 1536, 1, 3),
        ];
        for &(offset, len, skew, parts) in shapes {
            let data = pattern(offset, len);
            assert_eq!(disk.write(offset, &data, skew, parts, false), Ok(()));
            assert_eq!(disk.read(offset, len, skew, parts), Ok(data), "offset {offset}, skew {skew}, {parts} parts");
        }
        assert_eq!(disk.flush(), Ok(()));
        assert_eq!(disk.write(5 * MIB, &pattern(5 * MIB, 4096), 0, 1, true), Ok(()), "a write with FUA");

        // Discard and write-zeroes read back as zeros, and touch nothing else.
        assert_eq!(disk.plain(RequestKind::Discard, MIB + 4096, 8192), Ok(()));
        assert_eq!(disk.plain(RequestKind::WriteZeroes { unmap: false }, MIB + 65536, 512), Ok(()));
        let mut expected = pattern(MIB, 2 << 20);
        expected[4096..4096 + 8192].fill(0);
        expected[65536..65536 + 512].fill(0);
        assert_eq!(disk.read(MIB, 2 << 20, 0, 1), Ok(expected));

        // Outside the disk, not whole sectors, overflowing: refused, and the disk goes on.
        for (offset, len) in [(8 * MIB, 512), (8 * MIB - 512, 1024), (1, 512), (0, 511), (u64::MAX - 511, 512), (0, 0)]
        {
            assert_eq!(disk.read(offset, len as usize, 0, 1), Err(libc::EINVAL), "{offset}+{len}");
        }
        assert_eq!(disk.read(0, 4096, 0, 1), Ok(pattern(0, 4096)));
        disk.close();
    });
}
