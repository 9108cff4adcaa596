//! A file system at which submission itself stands still holds up nobody but those who wait for it: a reactor that blocks in `submit`
//! stands for the kernel that blocks in io_uring_enter(2). It stands until the test lets it go.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::faulty_reactor::{Faults, FaultyReactor, Trouble};
use support::vm::{ELSEWHERE, MIB, Vm};
use vmstorage_engine::formats::Format;
use vmstorage_engine::image::inspect_image;
use vmstorage_engine::reactor::Op;
use vmstorage_engine::service::Engine;
use vmstorage_engine::testing::guest::GuestOptions;

type Stands = fn(&Op) -> bool;
/// Enough that an answer which waits for the hang would be among them.
const REQUESTS: u64 = 200;
/// A test that has failed ends, too.
const STANDS_AT_MOST: Duration = Duration::from_secs(90);

fn standing(at: Stands) -> Vec<Trouble> {
    let hangs_until = Some(Instant::now() + STANDS_AT_MOST);
    vec![Trouble { place: format!("{ELSEWHERE}/"), stands_at: Some(at), hangs_until, ..Trouble::default() }]
}

fn is_flush(op: &Op) -> bool {
    matches!(op, Op::Sync { .. })
}

fn start(format: Format, disks: usize) -> (Vm, Faults) {
    let faults = Faults::default();
    let theirs = faults.clone();
    let engine = Engine::start_on(move || Ok(Box::new(FaultyReactor::new(theirs.clone(), 3)))).unwrap();
    let calm = GuestOptions { span_bytes: Some(16 * MIB), rate: Some(2000), depth: 8, ..GuestOptions::default() };
    (Vm::start_on(engine, format, disks, 96 * MIB, calm), faults)
}

fn wait(what: &str, mut there: impl FnMut() -> bool) {
    let since = Instant::now();
    while !there() {
        assert!(since.elapsed() < STANDS_AT_MOST / 3, "still not: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Every disk of the guest gets answers, to all it asks for.
fn goes_on(vm: &Vm) {
    let before = vm.guest.stats();
    let more = |disk: usize, now: u64| now >= before[disk].writes + before[disk].reads + REQUESTS;
    wait("the guest goes on", || {
        vm.guest.stats().iter().enumerate().all(|(n, disk)| more(n, disk.writes + disk.reads))
    });
    wait("no request is held", || vm.guest.stats().iter().all(|disk| disk.oldest_wait < Duration::from_millis(300)));
}

fn lanes(vm: &Vm) -> usize {
    vm.worker.lane_count().unwrap()
}

/// Two disks, one of them moves to where submission stands from `phase` on.
fn stands_in(phase: &str, format: Format, at: Stands) {
    assert_ne!(
        device(Path::new(ELSEWHERE)),
        device(Path::new(env!("CARGO_TARGET_TMPDIR"))),
        "two file systems are needed"
    );
    let (vm, faults) = start(format, 2);
    // Slow enough that every phase is met.
    let slow = Trouble { place: format!("{ELSEWHERE}/"), delay_most: Duration::from_millis(4), ..Trouble::default() };
    faults.set(vec![slow]);
    vm.worker.start_move(&vm.plan_of(1, "a", "elsewhere"), &vm.journal()).unwrap();
    wait(phase, || vm.status().phase == phase);
    faults.set(standing(at));
    wait("an operation stands", || faults.has_hung());
    goes_on(&vm);
    assert_ne!(vm.status().phase, "release", "it cannot get there");
    assert!(vm.worker.stop_move().unwrap(), "the stop is answered while the destination hangs");
    assert!(faults.has_hung() && vm.path("elsewhere", 0).exists());
    goes_on(&vm);
    let outcome = vm.status().outcome.unwrap();
    assert_eq!(outcome.code, "OperationStopped", "{outcome:?}");
    vm.worker.end_move().unwrap();
    vm.worker.start_move(&vm.plan_of(1, "a", "b"), &vm.journal()).unwrap();
    assert!(vm.outcome().outcome.unwrap().ok, "the next move does not wait for the last one's destination");
    vm.worker.release_move().unwrap();
    vm.worker.end_move().unwrap();
    faults.set(Vec::new());
    wait("the first target is deleted", || !vm.path("elsewhere", 0).exists());
    wait("the lanes end", || lanes(&vm) == 0);
    std::fs::rename(vm.path("b", 0), vm.path("a", 0)).unwrap();
    vm.finish("a");
}

fn device(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::dev(&path.metadata().unwrap())
}

#[test]
fn a_destination_that_stands_still_during_the_copy_holds_nobody() {
    stands_in("copy", Format::Raw, |_| true);
}

#[test]
fn a_destination_that_stands_still_while_it_is_mirrored_to_holds_nobody() {
    stands_in("verify", Format::Raw, |op| matches!(op, Op::Writev { .. }));
}

#[test]
fn a_destination_that_stands_still_while_it_is_compared_holds_nobody() {
    stands_in("verify", Format::Vhdx, |op| matches!(op, Op::Readv { .. }));
}

#[test]
fn a_destination_that_stands_still_in_the_flush_of_the_switch_holds_nobody() {
    stands_in("verify", Format::Vhdx, is_flush);
}

#[test]
fn a_source_that_stands_still_when_it_is_closed_after_the_switch_holds_nobody() {
    let (vm, faults) = start(Format::Vhdx, 1);
    vm.worker.start_move(&vm.plan("a", "elsewhere"), &vm.journal()).unwrap();
    assert!(vm.outcome().outcome.unwrap().ok);
    vm.worker.release_move().unwrap();
    assert!(
        !inspect_image(&vm.path("a", 0), Format::Vhdx).unwrap().dirty_log,
        "whoever keeps the source need not replay it"
    );
    vm.worker.end_move().unwrap();
    assert_eq!(lanes(&vm), 0, "a move that is over has none");
    std::fs::remove_file(vm.path("a", 0)).unwrap();
    // And back: the source is where submission stands now.
    vm.worker.start_move(&vm.plan("elsewhere", "a"), &vm.journal()).unwrap();
    assert!(vm.outcome().outcome.unwrap().ok);
    faults.set(standing(|_| true));
    std::thread::scope(|scope| {
        let released = scope.spawn(|| vm.worker.release_move());
        wait("an operation stands", || faults.has_hung());
        goes_on(&vm);
        vm.status();
        faults.set(Vec::new());
        released.join().unwrap().unwrap();
    });
    vm.worker.end_move().unwrap();
    wait("the lanes end", || lanes(&vm) == 0);
    vm.finish("a");
}
