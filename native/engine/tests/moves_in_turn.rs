//! A move that is over, or is reported as over while its destination still hangs, has no hold on the disk's next one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

mod support;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use support::export::{TestDisk, pattern};
use vmstorage_engine::disk::DiskError;
use vmstorage_engine::file::{LockWait, Trust};
use vmstorage_engine::formats::Format;
use vmstorage_engine::image::{Image, OpenImage, open_image};
use vmstorage_engine::mirror::{
    CHUNK_BYTES, DiskSetup, Event, JournalPhase, Move, MoveLimits, RecordResult, Revocation, SharedWords,
};
use vmstorage_engine::service::{DiskId, MoveFigures, Notice, Service};

const DISK_BYTES: u64 = 8 << 20;
const NO_DRIVER: u32 = u32::MAX;
/// Long enough for a loaded machine; an answer that never comes is the failure.
const PATIENCE: Duration = Duration::from_secs(30);

fn machine() -> Move {
    let words = || SharedWords::in_memory(DISK_BYTES / CHUNK_BYTES);
    let setup = DiskSetup { size_bytes: DISK_BYTES, dirty: words(), intent: words() };
    Move::new(MoveLimits::default(), Revocation::in_memory(), vec![setup]).unwrap()
}

struct Place {
    folder: tempfile::TempDir,
    disk: TestDisk,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let disk = TestDisk::open(&new_disk(&folder.path().join("source")));
        Self { folder, disk }
    }

    fn target(&self, name: &str) -> Image {
        let path = new_disk(&self.folder.path().join(name));
        let request =
            OpenImage { path: &path, format: Format::Raw, writable: true, wait: LockWait::No, trust: Trust::own() };
        open_image(&request).unwrap()
    }

    fn begin(&self, target: Image) -> (u32, Receiver<Notice>) {
        let (driver, notices) = self.disk.engine.call(move |service| begin(service, target)).unwrap();
        (driver.unwrap(), notices)
    }

    fn figures(&self, driver: u32) -> MoveFigures {
        self.disk.engine.call(move |service| service.figures(driver)).unwrap().unwrap()
    }

    /// Bytes that this move knows to be its own to copy.
    fn seen_bytes(&self, driver: u32) -> u64 {
        let progress = self.figures(driver).progress;
        progress.copied_bytes + progress.dirty_bytes
    }
}

fn new_disk(path: &Path) -> PathBuf {
    std::fs::File::create(path).unwrap().set_len(DISK_BYTES).unwrap();
    path.to_owned()
}

fn begin(service: &mut Service, target: Image) -> (Result<u32, DiskError>, Receiver<Notice>) {
    let limits = MoveLimits::default();
    let slots = (limits.copy_slots() as usize, limits.verify_slots() as usize);
    let (sink, notices) = channel();
    let notify = Box::new(move |notice: &Notice| drop(sink.send(notice.clone())));
    (service.begin_move(machine(), vec![(DiskId(0), target)], Vec::new(), slots, notify), notices)
}

#[test]
fn when_an_earlier_move_lets_go_of_the_disk_late_the_next_one_keeps_seeing_its_writes() {
    let place = Place::new();
    let (first, _notices) = place.begin(place.target("hangs"));
    place.disk.engine.call(move |service| service.bypass_move(first)).unwrap();
    let (second, _notices) = place.begin(place.target("target"));
    place.disk.engine.call(move |service| service.bypass_move(first)).unwrap();
    place.disk.write(0, &pattern(0, CHUNK_BYTES as usize), 0, 1, false).unwrap();
    assert_eq!(place.seen_bytes(second), CHUNK_BYTES);
    place.disk.close();
}

#[test]
fn a_write_that_an_earlier_move_still_has_at_the_source_is_taken_over_by_the_next_one_and_answered_once() {
    for fua in [false, true] {
        let place = Place::new();
        let (first, _notices) = place.begin(place.target("hangs"));
        let target = place.target("target");
        // All of it is queued before the reactor thread goes on, so that it does all in one turn: no completion comes between.
        let engine = &place.disk.engine;
        let (go_on, wait) = channel::<()>();
        engine.post(move |_| wait.recv().unwrap()).unwrap();
        let answer = place.disk.begin_write(0, pattern(0, CHUNK_BYTES as usize).leak(), fua);
        engine.post(|service| service.move_event(NO_DRIVER, Event::Tick)).unwrap();
        let (begun, outcome) = channel();
        engine
            .post(move |service| {
                service.move_event(first, Event::Stop);
                service.bypass_move(first);
                begun.send(begin(service, target)).unwrap();
            })
            .unwrap();
        go_on.send(()).unwrap();
        let (second, _notices) = outcome.recv_timeout(PATIENCE).unwrap();
        let second = second.unwrap();
        assert_eq!(answer.recv_timeout(PATIENCE), Ok(Ok(())));
        assert_eq!(place.seen_bytes(second), CHUNK_BYTES);
        let since = Instant::now();
        while place.figures(second).progress.copied_bytes == 0 {
            assert!(since.elapsed() < PATIENCE, "a write is under way for ever: {:?}", place.figures(second));
            std::thread::yield_now();
        }
        place.disk.close();
    }
}

#[test]
fn what_is_said_to_a_move_that_is_over_does_not_reach_the_next_one() {
    let place = Place::new();
    let (first, _notices) = place.begin(place.target("stopped"));
    let cancelled = Event::RecordDone { phase: JournalPhase::Cancelled, result: RecordResult::Durable };
    let engine = &place.disk.engine;
    let retired = engine.call(move |service| {
        service.move_event(first, Event::Stop);
        service.move_event(first, cancelled);
        service.bypass_move(first);
        service.retire_move(first, false)
    });
    assert_eq!(retired.unwrap().map(|remains| remains.images.len()), Some(1), "nothing was in flight");
    let (second, notices) = place.begin(place.target("target"));
    // Its scan, on a thread of its own, has not heard of the stop.
    engine.call(move |service| service.move_event(first, Event::AllocationKnown { disk: 0 })).unwrap();
    let said: Vec<Notice> = notices.try_iter().collect();
    assert!(!said.iter().any(|notice| matches!(notice, Notice::Record(_))), "{said:?} after word for another move");
    engine.call(move |service| service.move_event(second, Event::AllocationKnown { disk: 0 })).unwrap();
    let said: Vec<Notice> = notices.try_iter().collect();
    assert!(said.contains(&Notice::Record(JournalPhase::Copy)), "{said:?}");
    place.disk.close();
}
