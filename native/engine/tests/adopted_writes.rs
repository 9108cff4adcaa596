//! Writes that are under way when a move begins: its machine takes them over, or there is no move; the guest is answered either way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

mod support;

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use support::export::{TestDisk, pattern};
use vmstorage_engine::disk::{DiskError, Errno, ErrorKind};
use vmstorage_engine::file::{LockWait, Trust};
use vmstorage_engine::formats::Format;
use vmstorage_engine::image::{OpenImage, open_image};
use vmstorage_engine::mirror::{
    CHUNK_BYTES, DiskSetup, Event, JournalPhase, Move, MoveLimits, Revocation, SavedMap, SharedWords,
};
use vmstorage_engine::service::{DiskId, now_us};

const DISK_BYTES: u64 = 8 << 20;
const NO_DRIVER: u32 = u32::MAX;
/// Long enough for a loaded machine; an answer that never comes is the failure.
const PATIENCE: Duration = Duration::from_secs(30);

fn machine() -> Move {
    let words = || SharedWords::in_memory(DISK_BYTES / CHUNK_BYTES);
    let setup = DiskSetup { size_bytes: DISK_BYTES, dirty: words(), intent: words() };
    Move::new(MoveLimits::default(), Revocation::in_memory(), vec![setup]).unwrap()
}

fn new_disk(path: &Path) {
    std::fs::File::create(path).unwrap().set_len(DISK_BYTES).unwrap();
}

/// Begins a move while a write is at the kernel: the answer of the write, and what became of the move.
fn begin_amid_a_write(
    disk: &TestDisk,
    machine: Move,
    target: &Path,
) -> (Receiver<Result<(), Errno>>, Result<u32, DiskError>) {
    new_disk(target);
    let request =
        OpenImage { path: target, format: Format::Raw, writable: true, wait: LockWait::No, trust: Trust::own() };
    let targets = vec![(DiskId(0), open_image(&request).unwrap())];
    let limits = MoveLimits::default();
    let slots = (limits.copy_slots() as usize, limits.verify_slots() as usize);
    // All of it is queued before the reactor thread goes on, so that it does all in one turn: no completion comes between.
    let (go_on, wait) = channel::<()>();
    disk.engine.post(move |_| wait.recv().unwrap()).unwrap();
    let answer = disk.begin_write(0, pattern(0, CHUNK_BYTES as usize).leak(), false);
    disk.engine.post(|service| service.move_event(NO_DRIVER, Event::Tick)).unwrap();
    let (begun, outcome) = channel();
    disk.engine
        .post(move |service| {
            begun.send(service.begin_move(machine, targets, Vec::new(), slots, Box::new(|_| {}))).unwrap()
        })
        .unwrap();
    go_on.send(()).unwrap();
    (answer, outcome.recv_timeout(PATIENCE).unwrap())
}

#[test]
fn a_write_under_way_when_the_move_begins_is_answered_and_is_left_to_copy() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    new_disk(&folder.path().join("source"));
    let disk = TestDisk::open(&folder.path().join("source"));
    let (answer, driver) = begin_amid_a_write(&disk, machine(), &folder.path().join("target"));
    let driver = driver.unwrap();
    assert_eq!(answer.recv_timeout(PATIENCE), Ok(Ok(())));
    let figures = disk.engine.call(move |service| service.figures(driver)).unwrap().unwrap();
    let progress = figures.progress;
    assert_eq!(progress.copied_bytes + progress.dirty_bytes, CHUNK_BYTES, "{progress:?}");
    disk.close();
}

/// A resumed move reads the journal's bitmaps on a thread of its own, and waits for its target; the guest does not wait.
#[test]
fn a_write_between_the_reading_of_the_bitmaps_and_the_beginning_is_left_to_copy() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    new_disk(&folder.path().join("source"));
    new_disk(&folder.path().join("target"));
    let disk = TestDisk::open(&folder.path().join("source"));
    let chunks = DISK_BYTES / CHUNK_BYTES;
    let (dirty, intent) = (SharedWords::in_memory(chunks), SharedWords::in_memory(chunks));
    let tracked = SavedMap::new(dirty.clone(), chunks).unwrap();
    disk.engine.call(move |service| service.track(DiskId(0), tracked)).unwrap();
    let setup = DiskSetup { size_bytes: DISK_BYTES, dirty, intent };
    let machine =
        Move::resume(MoveLimits::default(), JournalPhase::Copy, Revocation::in_memory(), vec![setup]).unwrap();
    disk.write(3 * CHUNK_BYTES, &pattern(0, 512), 0, 1, false).unwrap();
    let path = folder.path().join("target");
    let request =
        OpenImage { path: &path, format: Format::Raw, writable: true, wait: LockWait::No, trust: Trust::own() };
    let targets = vec![(DiskId(0), open_image(&request).unwrap())];
    let limits = MoveLimits::default();
    let slots = (limits.copy_slots() as usize, limits.verify_slots() as usize);
    let driver =
        disk.engine.call(move |service| service.begin_move(machine, targets, Vec::new(), slots, Box::new(|_| {})));
    let driver = driver.unwrap().unwrap();
    let progress = disk.engine.call(move |service| service.figures(driver)).unwrap().unwrap().progress;
    assert_eq!(progress.copied_bytes + progress.dirty_bytes, CHUNK_BYTES, "{progress:?}");
    disk.close();
}

#[test]
fn a_move_that_cannot_take_a_write_over_does_not_begin_and_the_write_is_answered() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    new_disk(&folder.path().join("source"));
    let disk = TestDisk::open(&folder.path().join("source"));
    let mut ended = machine();
    ended.on(Event::Stop, now_us(), &mut Vec::new());
    let (answer, driver) = begin_amid_a_write(&disk, ended, &folder.path().join("target"));
    assert_eq!(answer.recv_timeout(PATIENCE), Ok(Ok(())), "as if nobody had asked for a move");
    assert_eq!(driver.err().map(|error| error.kind), Some(ErrorKind::InvalidState));
    let (answer, driver) = begin_amid_a_write(&disk, machine(), &folder.path().join("another target"));
    assert_eq!(answer.recv_timeout(PATIENCE), Ok(Ok(())));
    assert!(driver.is_ok(), "the disk is free for another move");
    disk.close();
}
