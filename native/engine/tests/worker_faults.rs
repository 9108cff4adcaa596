//! Moves under the built-in guest while files fail, wait and hang: every layer but the kernel. A target's trouble never reaches the
//! guest; whatever is reported as done is done, byte for byte; what failed leaves nothing.
//!
//! `VMSTORAGE_FAULT_SEEDS=500` runs more seeds, `VMSTORAGE_FAULT_SEED=17` exactly one.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

mod support;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use support::faulty_reactor::{Faults, FaultyReactor, Trouble};
use support::vm::{MIB, Vm};
use vmstorage_engine::formats::Format;
use vmstorage_engine::service::Engine;
use vmstorage_engine::testing::guest::GuestOptions;
use vmstorage_engine::testing::random::Random;

const SEEDS: u64 = 4;
const MOVES: u64 = 6;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn target_trouble(random: &mut Random, place: &str) -> Trouble {
    let often = [0, 0, 1, 10, 100][random.below(5) as usize];
    let errnos = match random.below(4) {
        0 => vec![libc::EIO],
        1 => vec![libc::ENOSPC],
        2 => vec![libc::EAGAIN, libc::EINTR],
        _ => vec![libc::EIO, libc::ENOSPC, libc::EAGAIN, libc::ENOMEM],
    };
    let hang = [0, 0, 0, 300, 600][random.below(5) as usize];
    Trouble {
        place: place.to_owned(),
        failed: often,
        errnos,
        flush_failed: [0, 0, 0, 300][random.below(4) as usize],
        hangs_until: (hang > 0).then(|| Instant::now() + Duration::from_millis(random.below(300) + hang)),
        stands_at: None,
        delay_most: Duration::from_micros([0, 200, 3000][random.below(3) as usize]),
    }
}

#[test]
fn whatever_happens_to_files_the_guest_keeps_every_byte() {
    let seeds = match number("VMSTORAGE_FAULT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("VMSTORAGE_FAULT_SEEDS").unwrap_or(SEEDS),
    };
    let (mut done, mut failed) = (0, 0);
    for seed in seeds {
        let mut random = Random::new(seed);
        let faults = Faults::default();
        let theirs = faults.clone();
        let engine = Engine::start_on(move || Ok(Box::new(FaultyReactor::new(theirs.clone(), seed)))).unwrap();
        let format = [Format::Raw, Format::Vhdx][random.below(2) as usize];
        let guest = GuestOptions {
            seed,
            depth: [1, 8, 32][random.below(3) as usize],
            zero_percent: [2, 15, 30][random.below(3) as usize],
            hot_percent: [0, 50, 90][random.below(3) as usize],
            flush_every: [4, 64][random.below(2) as usize],
            rate: [None, Some(2000)][random.below(2) as usize],
            ..GuestOptions::default()
        };
        let disks = 1 + random.below(2) as usize;
        let size = [6, 12][random.below(2) as usize] * MIB;
        // Errors of the source are the guest's to hear of; it keeps writing, and what failed may hold the old or the new.
        let source_fails = random.below(3) == 0;
        eprintln!("seed {seed}: {format:?} {disks} x {size}, source fails: {source_fails}, {guest:?}");
        let vm = Vm::start_on(engine, format, disks, size, guest);
        // After COMMITTED a target's errors are the guest's, too.
        let mut guest_hears = source_fails;
        let mut here = "a";
        for _ in 0..MOVES {
            let there = if here == "a" { "b" } else { "a" };
            let mut troubles = vec![target_trouble(&mut random, &format!("/{there}/"))];
            if source_fails {
                let source =
                    Trouble { flush_failed: 0, hangs_until: None, ..target_trouble(&mut random, &format!("/{here}/")) };
                troubles.push(source);
            }
            faults.set(troubles.clone());
            vm.worker.start_move(&vm.plan(here, there), &vm.journal()).unwrap();
            if random.below(4) == 0 {
                std::thread::sleep(Duration::from_millis(random.below(400)));
                vm.worker.stop_move().unwrap();
            }
            let status = vm.outcome();
            let outcome = status.outcome.clone().unwrap();
            eprintln!("  {here} to {there}: {} {} {troubles:?}", outcome.ok, outcome.message);
            if outcome.ok {
                vm.worker.release_move().unwrap();
                (0..vm.disks).for_each(|disk| std::fs::remove_file(vm.path(here, disk)).unwrap());
                guest_hears |= troubles[0].failed + troubles[0].flush_failed > 0;
                here = there;
                done += 1;
            } else {
                assert!((0..vm.disks).all(|disk| !vm.path(there, disk).exists()), "seed {seed}: {outcome:?}");
                failed += 1;
            }
            vm.worker.end_move().unwrap();
            assert!(!vm.journal().exists());
        }
        faults.set(Vec::new());
        vm.finish_with(here, guest_hears);
    }
    eprintln!("{done} moves done, {failed} failed");
}

/// The end of a move is told after five seconds, whether its destination lets go or not; then the next one may begin.
#[test]
fn a_destination_that_lets_go_during_the_next_move_takes_no_write_away_from_it() {
    let faults = Faults::default();
    let theirs = faults.clone();
    let engine = Engine::start_on(move || Ok(Box::new(FaultyReactor::new(theirs.clone(), 1)))).unwrap();
    let calm = GuestOptions { span_bytes: Some(16 * MIB), rate: Some(400), depth: 4, ..GuestOptions::default() };
    let vm = Vm::start_on(engine, Format::Raw, 1, 1024 * MIB, calm);
    let hangs_until = Some(Instant::now() + Duration::from_secs(3600));
    faults.set(vec![Trouble { place: "/c/".to_owned(), hangs_until, ..Trouble::default() }]);
    vm.worker.start_move(&vm.plan("a", "c"), &vm.journal()).unwrap();
    while !faults.has_hung() {
        std::thread::yield_now();
    }
    assert!(vm.worker.stop_move().unwrap());
    assert!(vm.status().outcome.unwrap().message.contains("does not let go"));
    vm.worker.end_move().unwrap();
    vm.worker.start_move(&vm.plan("a", "b"), &vm.journal()).unwrap();
    // When most of what the guest writes to has been compared: nothing looks at it again before the switch.
    while vm.status().bytes_verified.parse::<u64>().unwrap() < 64 * MIB {
        std::thread::yield_now();
    }
    faults.set(Vec::new());
    let status = vm.outcome();
    assert!(status.outcome.as_ref().unwrap().ok, "{status:?}");
    let late = vm.path("c", 0);
    let since = Instant::now();
    while late.exists() {
        assert!(since.elapsed() < Duration::from_secs(20), "the first target stays");
        std::thread::yield_now();
    }
    vm.worker.release_move().unwrap();
    vm.worker.end_move().unwrap();
    vm.finish("b");
}

/// SIGTERM: an end in order. A move that is under way goes on in the next worker, as it does after a death.
#[test]
fn a_worker_that_ends_in_order_in_mid_move_leaves_the_move_to_the_next_one() {
    for format in [Format::Raw, Format::Vhdx] {
        for end_at in ["begun", "copying", "half"] {
            let faults = Faults::default();
            let on = |faults: &Faults| {
                let theirs = faults.clone();
                Engine::start_on(move || Ok(Box::new(FaultyReactor::new(theirs.clone(), 1)))).unwrap()
            };
            let calm = GuestOptions { rate: Some(400), depth: 4, ..GuestOptions::default() };
            let mut vm = Vm::start_on(on(&faults), format, 2, 8 * MIB, calm);
            // Late enough that the end meets copies that are under way.
            let delay_most = Duration::from_millis(20);
            faults.set(vec![Trouble { place: "/b/".to_owned(), delay_most, ..Trouble::default() }]);
            vm.worker.start_move(&vm.plan("a", "b"), &vm.journal()).unwrap();
            let copied = |vm: &Vm| vm.status().bytes_copied.parse::<u64>().unwrap();
            let wanted = match end_at {
                "begun" => 0,
                "copying" => 1,
                _ => 4 * MIB,
            };
            while copied(&vm) < wanted {
                std::thread::yield_now();
            }
            vm.replace_worker(on(&faults));
            let outcome = vm.outcome().outcome.unwrap();
            assert!(outcome.ok, "{format:?} ended when {end_at}: {}", outcome.message);
            vm.worker.release_move().unwrap();
            vm.worker.end_move().unwrap();
            vm.finish("b");
        }
    }
}

/// Nobody waits for a destination that hangs: not the guest, whose disk the next worker serves.
#[test]
fn a_worker_that_ends_in_order_does_not_wait_for_a_destination_that_hangs() {
    let faults = Faults::default();
    let theirs = faults.clone();
    let engine = Engine::start_on(move || Ok(Box::new(FaultyReactor::new(theirs.clone(), 1)))).unwrap();
    let calm = GuestOptions { rate: Some(400), depth: 4, ..GuestOptions::default() };
    let vm = Vm::start_on(engine, Format::Raw, 1, 24 * MIB, calm);
    let hangs_until = Some(Instant::now() + Duration::from_secs(3600));
    faults.set(vec![Trouble { place: "/b/".to_owned(), hangs_until, ..Trouble::default() }]);
    vm.worker.start_move(&vm.plan("a", "b"), &vm.journal()).unwrap();
    while !faults.has_hung() {
        std::thread::yield_now();
    }
    let worker = Arc::new(vm.worker);
    let (told, ended) = channel();
    let ending = Arc::clone(&worker);
    std::thread::spawn(move || {
        ending.close();
        told.send(())
    });
    ended.recv_timeout(Duration::from_secs(20)).expect("the worker ends");
}

/// What the guest was refused is told with the worker's status: which request, why, how often; and not of a disk it has moved away to.
#[test]
fn a_request_that_the_storage_refuses_is_told_until_the_disk_is_moved_away() {
    let faults = Faults::default();
    let theirs = faults.clone();
    let engine = Engine::start_on(move || Ok(Box::new(FaultyReactor::new(theirs.clone(), 1)))).unwrap();
    let calm = GuestOptions { rate: Some(400), depth: 4, ..GuestOptions::default() };
    let vm = Vm::start_on(engine, Format::Raw, 1, 6 * MIB, calm);
    let failed = |vm: &Vm| serde_json::to_value(vm.worker.status().unwrap()).unwrap()["disks"][0]["failed"].clone();
    assert!(failed(&vm).is_null());
    faults.set(vec![Trouble {
        place: "/a/".to_owned(),
        failed: 10_000,
        errnos: vec![libc::EIO],
        ..Trouble::default()
    }]);
    while failed(&vm).is_null() {
        std::thread::yield_now();
    }
    faults.set(Vec::new());
    let told = failed(&vm);
    assert_eq!(
        (told["errno"].as_i64(), told["text"].as_str()),
        (Some(i64::from(libc::EIO)), Some("Input/output error"))
    );
    assert!(
        told["count"].as_u64() >= Some(1) && ["read", "write"].contains(&told["request"].as_str().unwrap()),
        "{told}"
    );
    vm.do_move("a", "b");
    assert!(failed(&vm).is_null());
    vm.finish_with("b", true);
}

/// A stall shows while it lasts, beside what the guest was used to.
#[test]
fn the_guests_longest_wait_is_told_while_it_goes_on_and_what_it_was_at_rest() {
    let faults = Faults::default();
    let theirs = faults.clone();
    let engine = Engine::start_on(move || Ok(Box::new(FaultyReactor::new(theirs.clone(), 1)))).unwrap();
    let calm = GuestOptions { rate: Some(400), depth: 4, ..GuestOptions::default() };
    let vm = Vm::start_on(engine, Format::Raw, 1, 24 * MIB, calm);
    let slow = Trouble { place: "/b/".to_owned(), delay_most: Duration::from_millis(50), ..Trouble::default() };
    faults.set(vec![slow.clone()]);
    vm.worker.start_move(&vm.plan("a", "b"), &vm.journal()).unwrap();
    let hangs_until = Instant::now() + Duration::from_secs(5);
    faults.set(vec![Trouble { place: "/a/".to_owned(), hangs_until: Some(hangs_until), ..Trouble::default() }, slow]);
    while vm.status().guest_max_us < Some(2_000_000) {
        assert!(Instant::now() < hangs_until, "not before it is over: {:?}", vm.status());
        std::thread::yield_now();
    }
    assert!(vm.status().guest_rest_max_us < Some(2_000_000), "{:?}", vm.status());
    faults.set(Vec::new());
    let status = vm.outcome();
    assert!(status.outcome.as_ref().unwrap().ok, "{status:?}");
    assert!(status.guest_max_us >= Some(2_000_000), "{status:?}");
    vm.worker.release_move().unwrap();
    vm.worker.end_move().unwrap();
    vm.finish("b");
}
