//! A process that has no descriptor to spare for a moment. A test of its own process: the limit is the process's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

mod support;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::export::TestDisk;
use vmstorage_engine::file::{LockWait, Trust};
use vmstorage_engine::formats::Format;
use vmstorage_engine::image::{OpenImage, open_image};
use vmstorage_engine::mirror::{CHUNK_BYTES, DiskSetup, Move, MoveLimits, Revocation, SharedWords};
use vmstorage_engine::service::DiskId;

const DISK_BYTES: u64 = 8 << 20;

#[test]
fn every_disk_is_scanned_or_copied_whole_even_when_its_file_cannot_be_opened_once_more() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = |name| folder.path().join(name);
    for name in ["source", "target"] {
        std::fs::File::create(path(name)).unwrap().set_len(DISK_BYTES).unwrap();
    }
    let disk = TestDisk::open(&path("source"));
    let words = || SharedWords::in_memory(DISK_BYTES / CHUNK_BYTES);
    let setup = DiskSetup { size_bytes: DISK_BYTES, dirty: words(), intent: words() };
    let machine = Move::new(MoveLimits::default(), Revocation::in_memory(), vec![setup]).unwrap();
    let target = path("target");
    let request =
        OpenImage { path: &target, format: Format::Raw, writable: true, wait: LockWait::No, trust: Trust::own() };
    let targets = vec![(DiskId(0), open_image(&request).unwrap())];
    let limits = MoveLimits::default();
    let slots = (limits.copy_slots() as usize, limits.verify_slots() as usize);
    let driver =
        disk.engine.call(move |service| service.begin_move(machine, targets, Vec::new(), slots, Box::new(|_| {})));
    let driver = driver.unwrap().unwrap();

    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..before }).unwrap();
    let taken: Vec<std::fs::File> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    let page = disk.engine.call(move |service| service.source_page(driver, 0, 0)).unwrap();
    let page = page.expect("a disk of which nothing is ever known keeps the move from going on");
    assert_eq!(page.pieces.range.len, DISK_BYTES);
    assert!(page.look().is_err(), "so the scan takes all of it as data");
    drop(taken);
    setrlimit(Resource::Nofile, before).unwrap();
    assert!(page.look().is_ok(), "it was for want of descriptors");
    disk.close();
}
