//! A target that fails, is slow or says nothing: never the guest's trouble, and never for ever the move's.

use super::bench::{ACK, Bench, MS, chunks, is_copy};
use crate::mirror::*;

#[test]
fn a_target_error_marks_dirty_and_never_reaches_the_guest() {
    let mut bench = Bench::mirroring(&[64]);
    bench.write(0, 0, chunks(7, 1));
    bench.on(Event::TargetWriteDone { disk: 0, id: 0, result: Err(libc::EAGAIN) });
    assert!(bench.dirty(0, 7));
    let actions = bench.source(0);
    assert!(actions.contains(&ACK), "{actions:?}");
    assert!(bench.later(20 * MS).iter().any(is_copy), "and is copied again");
}

#[test]
fn a_full_or_broken_target_ends_the_move_at_once_and_others_after_bounded_retries() {
    for errno in [libc::ENOSPC, libc::EIO, libc::EROFS, libc::ENODEV] {
        let mut bench = Bench::mirroring(&[64]);
        bench.write(0, 0, chunks(7, 1));
        let actions = bench.on(Event::TargetWriteDone { disk: 0, id: 0, result: Err(errno) }).to_vec();
        assert!(actions.contains(&Action::Ending { reason: EndReason::TargetFailed { disk: 0, errno } }));
        assert!(bench.source(0).contains(&ACK), "the guest is fine");
    }
    let mut bench = Bench::mirroring(&[64]);
    let mut tries = 0;
    while bench.machine.progress().phase != Phase::Ending {
        tries += 1;
        assert!(tries <= MoveLimits::default().target_retries_max + 1);
        bench.write(0, 0, chunks(u64::from(tries), 1));
        bench.on(Event::TargetWriteDone { disk: 0, id: 0, result: Err(libc::EAGAIN) });
        bench.source(0);
    }
    assert_eq!(tries, MoveLimits::default().target_retries_max + 1);
}

#[test]
fn a_target_half_older_than_250_ms_is_given_up_and_mirroring_waits_for_the_target() {
    let mut bench = Bench::mirroring(&[64]);
    bench.write(0, 0, chunks(7, 1));
    bench.source(0);
    assert!(!bench.later(250 * MS).contains(&ACK), "not a moment too early");
    let actions = bench.later(MS);
    assert!(actions.contains(&Action::TargetFellBehind { disk: 0, id: 0 }) && actions.contains(&ACK));
    assert!(!actions.contains(&Action::Retire { disk: 0, id: 0 }), "its buffer is still in use");
    assert!(bench.dirty(0, 7));
    assert_eq!(bench.machine.progress().phase, Phase::Copy);
    assert!(bench.write(0, 1, chunks(9, 1)).contains(&Action::WriteSource { disk: 0, id: 1 }));
    for _ in 0..40 {
        assert!(!bench.later(100 * MS).iter().any(is_copy), "an abandoned write is in flight: nothing is copied");
    }
    assert_eq!(bench.machine.progress().phase, Phase::Copy);
    bench.source(1);
    let actions = bench.target(0);
    assert!(actions.contains(&Action::Retire { disk: 0, id: 0 }));
    assert!(actions.iter().any(|a| matches!(a, Action::PhaseChanged { phase: Phase::Mirror, bound_bytes: Some(_) })));
}

#[test]
fn time_in_which_the_worker_itself_stood_still_is_not_the_targets_silence() {
    let mut bench = Bench::mirroring(&[64]);
    bench.write(0, 0, chunks(7, 1));
    bench.source(0);
    let ends = |actions: Vec<Action>| actions.iter().any(|a| matches!(a, Action::Ending { .. }));
    assert!(!ends(bench.later(MS)));
    assert!(!ends(bench.later(35_000_000)), "stopped for 35 s, and the answer is taken behind the first tick");
    let seconds = (1..=31).find(|_| ends(bench.later(1_000_000)));
    assert!(matches!(seconds, Some(29..=31)), "what follows counts from there: {seconds:?} s");
}

#[test]
fn a_target_silent_for_30_s_fails_the_move_with_the_guest_unharmed() {
    let mut bench = Bench::mirroring(&[64]);
    bench.write(0, 0, chunks(7, 1));
    assert!(bench.source(0).is_empty());
    let mut ended_after = None;
    for second in 1..=31 {
        if bench.later(1_000_000).iter().any(|a| matches!(a, Action::Ending { reason: EndReason::TargetSilent { .. } }))
        {
            ended_after = Some(second);
            break;
        }
    }
    assert_eq!(ended_after, Some(30));
}

#[test]
fn a_target_that_falls_behind_without_end_fails_the_move() {
    let mut bench = Bench::mirroring(&[64]);
    let mut rounds = 0;
    loop {
        assert!(bench.write(0, 0, chunks(rounds, 1)).contains(&Action::WriteBoth { disk: 0, id: 0 }));
        rounds += 1;
        bench.source(0);
        let actions = bench.later(251 * MS);
        if actions.iter().any(|a| matches!(a, Action::Ending { reason: EndReason::TargetTooSlow { .. } })) {
            break;
        }
        bench.target(0);
        while bench.machine.progress().phase == Phase::Copy {
            bench.later(25 * MS);
        }
    }
    assert_eq!(rounds, u64::from(MoveLimits::default().fallbacks_max) + 1);
}

#[test]
fn a_failed_target_flush_fails_the_move_and_not_the_guests_flush() {
    let mut bench = Bench::mirroring(&[16]);
    bench.on(Event::VerifyDone { disk: 0, slot: 0, outcome: VerifyOutcome::Equal });
    bench.on(Event::GuestFlush { disk: 0, id: 0 });
    let flush = Flush::Guest(0);
    let actions = bench.on(Event::TargetFlushDone { disk: 0, flush, result: Err(libc::EIO) }).to_vec();
    assert!(actions.contains(&Action::Ending { reason: EndReason::TargetFlushFailed { disk: 0, errno: libc::EIO } }));
    let actions = bench.on(Event::SourceFlushDone { disk: 0, flush, result: Ok(()) }).to_vec();
    assert!(actions.contains(&Action::AcknowledgeFlush { disk: 0, id: 0, result: Ok(()) }));
}
