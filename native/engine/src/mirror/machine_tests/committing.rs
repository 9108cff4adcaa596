//! The window in which COMMITTED is on its way to the journal, and a restart may choose either side.

use super::bench::{ACK, Bench, MS, chunks, is_copy};
use crate::mirror::*;

#[test]
fn until_committed_is_durable_writes_go_to_both_and_a_source_error_is_held_and_then_success() {
    let mut bench = Bench::committing(&[16]);
    assert!(bench.write(0, 0, chunks(1, 1)).contains(&Action::WriteBoth { disk: 0, id: 0 }));
    bench.target(0);
    let actions = bench.on(Event::SourceWriteDone { disk: 0, id: 0, result: Err(libc::EIO) }).to_vec();
    assert!(actions.is_empty(), "nobody knows yet which side counts: {actions:?}");
    bench.now_us += 700;
    let actions = bench.recorded(JournalPhase::Committed);
    assert!(actions.contains(&ACK), "the target has it: {actions:?}");
    assert_eq!(bench.machine.progress().held_max_us, Some(700));
    assert!(
        bench.write(0, 0, chunks(1, 1)).contains(&Action::WriteTarget { disk: 0, id: 0 }),
        "the source gets no more"
    );
}

#[test]
fn reads_stay_on_the_source_until_committed_is_durable_and_then_flip_for_all_disks_in_one_call() {
    let mut bench = Bench::committing(&[16, 16]);
    assert_eq!(bench.machine.read_side(), Side::Source);
    let actions = bench.recorded(JournalPhase::Committed);
    let flip = |disk| Action::SetReadSide { disk, side: Side::Target };
    assert_eq!(actions[..2], [flip(0), flip(1)], "{actions:?}");
    assert_eq!(bench.machine.read_side(), Side::Target);
}

#[test]
fn a_target_error_in_the_window_revokes_committed_and_the_write_is_answered_in_the_same_call() {
    let mut bench = Bench::committing(&[16, 16]);
    bench.write(0, 0, chunks(1, 1));
    bench.source(0);
    assert!(!bench.revocation.is_set());
    let actions = bench.on(Event::TargetWriteDone { disk: 0, id: 0, result: Err(libc::EAGAIN) }).to_vec();
    assert!(actions.contains(&ACK) && bench.revocation.is_set(), "{actions:?}");
    assert!(bench.dirty(0, 1), "the target may lack it");
    assert!(!actions.iter().any(|a| matches!(a, Action::SetReadSide { .. })), "reads never left the source");
    let actions = bench.write(1, 0, chunks(2, 1));
    assert_eq!(actions, [Action::WriteSource { disk: 1, id: 0 }], "the source alone decides");
    bench.on(Event::SourceWriteDone { disk: 1, id: 0, result: Ok(()) });
    let actions = bench.recorded(JournalPhase::Committed);
    assert_eq!(
        actions,
        [Action::Record { phase: JournalPhase::Mirror }],
        "COMMITTED may be found: it has to be replaced first"
    );
    assert!(bench.revocation.is_set());
    bench.recorded(JournalPhase::Mirror);
    assert!(!bench.revocation.is_set(), "the next COMMITTED counts");
    let copies = bench.later(20 * MS);
    assert!(copies.iter().any(is_copy), "{copies:?}");
    let seen = bench.obey(copies, |_| false);
    let again = bench.later(20 * MS);
    let rest = bench.obey(again, |_| false);
    let committed = Action::Finished { outcome: Outcome::Committed };
    assert!(seen.iter().chain(&rest).any(|a| *a == committed), "and tries again: {seen:?} {rest:?}");
}

#[test]
fn a_target_that_falls_behind_in_the_window_holds_a_write_for_the_patience_whatever_the_journal_does() {
    let mut bench = Bench::committing(&[16]);
    bench.write(0, 0, chunks(1, 1));
    bench.source(0);
    assert!(!bench.later(250 * MS).contains(&ACK), "not a moment too early");
    let actions = bench.later(MS);
    assert!(actions.contains(&ACK) && actions.contains(&Action::TargetFellBehind { disk: 0, id: 0 }), "{actions:?}");
    assert!(bench.revocation.is_set() && bench.dirty(0, 1));
    assert!(!actions.contains(&Action::Retire { disk: 0, id: 0 }), "its buffer is still in use");
    bench.recorded(JournalPhase::Committed);
    bench.recorded(JournalPhase::Mirror);
    assert_eq!(bench.machine.progress().phase, Phase::Copy);
}

#[test]
fn a_write_behind_one_that_hangs_at_the_target_is_let_go_with_it() {
    let mut bench = Bench::committing(&[16]);
    bench.write(0, 0, chunks(1, 1));
    bench.source(0);
    assert!(bench.write(0, 1, chunks(1, 1)).is_empty(), "it overlaps and waits");
    let actions = bench.later(251 * MS);
    assert!(actions.contains(&ACK) && actions.contains(&Action::WriteSource { disk: 0, id: 1 }), "{actions:?}");
    assert!(bench.source(1).contains(&Action::Acknowledge { disk: 0, id: 1, result: Ok(()) }));
}

#[test]
fn a_flush_in_a_revoked_window_is_answered_when_the_journal_has_forgotten_committed_and_not_before() {
    let mut bench = Bench::committing(&[16]);
    bench.write(0, 0, chunks(1, 1));
    bench.source(0);
    let flush = Flush::Guest(0);
    assert_eq!(bench.on(Event::GuestFlush { disk: 0, id: 0 }).len(), 2, "to both");
    bench.on(Event::SourceFlushDone { disk: 0, flush, result: Ok(()) });
    let answer = Action::AcknowledgeFlush { disk: 0, id: 0, result: Ok(()) };
    assert!(!bench.later(300 * MS).contains(&answer) && bench.revocation.is_set());
    let later = bench.on(Event::GuestFlush { disk: 0, id: 1 }).to_vec();
    assert_eq!(later, [Action::FlushSource { disk: 0, flush: Flush::Guest(1) }]);
    let done = Event::SourceFlushDone { disk: 0, flush: Flush::Guest(1), result: Ok(()) };
    assert!(bench.on(done).is_empty(), "after a power cut the journal might say COMMITTED");
    assert_eq!(bench.recorded(JournalPhase::Committed), [Action::Record { phase: JournalPhase::Mirror }]);
    let actions = bench.recorded(JournalPhase::Mirror);
    let second = Action::AcknowledgeFlush { disk: 0, id: 1, result: Ok(()) };
    assert!(actions.contains(&answer) && actions.contains(&second), "{actions:?}");
}

#[test]
fn a_source_error_is_not_held_for_a_journal_that_hangs() {
    let mut bench = Bench::committing(&[16]);
    bench.write(0, 0, chunks(1, 1));
    bench.target(0);
    bench.on(Event::SourceWriteDone { disk: 0, id: 0, result: Err(libc::EIO) });
    assert!(bench.later(250 * MS).is_empty());
    let answer = Action::Acknowledge { disk: 0, id: 0, result: Err(libc::EIO) };
    assert!(bench.later(MS).contains(&answer) && bench.revocation.is_set());
}

#[test]
fn while_the_fate_of_committed_is_unknown_both_are_written_and_it_is_asked_again_at_a_bounded_rate() {
    let mut bench = Bench::committing(&[16]);
    let unknown = Event::RecordDone { phase: JournalPhase::Committed, result: RecordResult::Unknown };
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert!(bench.on(unknown).is_empty());
        let mut waited = 0;
        while !bench.later(MS).contains(&Action::Record { phase: JournalPhase::Committed }) {
            waited += 1;
        }
        pauses.push(waited);
        assert!(bench.write(0, 0, chunks(1, 1)).contains(&Action::WriteBoth { disk: 0, id: 0 }));
        bench.source(0);
        assert!(bench.target(0).contains(&ACK));
    }
    assert!(pauses[0] >= 49 && pauses.windows(2).all(|p| p[1] >= p[0]) && pauses[7] <= 800, "{pauses:?}");
    bench.recorded(JournalPhase::Committed);
    assert_eq!(bench.machine.progress().phase, Phase::Release);
}

#[test]
fn committed_that_certainly_failed_ends_the_move_on_the_source_at_once() {
    let mut bench = Bench::committing(&[16]);
    let actions = bench.on(Event::RecordDone { phase: JournalPhase::Committed, result: RecordResult::Failed }).to_vec();
    let phase = JournalPhase::Committed;
    assert!(actions.contains(&Action::Ending { reason: EndReason::JournalFailed { phase } }));
    assert!(actions.contains(&Action::Record { phase: JournalPhase::Cancelled }));
    let reason = EndReason::JournalFailed { phase };
    assert!(bench.recorded(JournalPhase::Cancelled).contains(&Action::Finished { outcome: Outcome::Ended(reason) }));
}

#[test]
fn finished_waits_for_what_is_in_flight_to_the_source_but_the_guest_does_not() {
    let mut bench = Bench::committing(&[16]);
    bench.write(0, 0, chunks(1, 1));
    let actions = bench.recorded(JournalPhase::Committed);
    assert!(actions.contains(&Action::PhaseChanged { phase: Phase::Release, bound_bytes: None }));
    assert!(!actions.iter().any(|a| matches!(a, Action::Finished { .. })));
    assert_eq!(bench.target(0), [ACK]);
    assert_eq!(bench.source(0), [Action::Retire { disk: 0, id: 0 }, Action::Finished { outcome: Outcome::Committed }]);
}

#[test]
fn a_stop_in_the_window_wins_if_the_target_fails_there() {
    let mut bench = Bench::committing(&[16]);
    bench.write(0, 0, chunks(1, 1));
    bench.on(Event::Stop);
    bench.source(0);
    bench.on(Event::TargetWriteDone { disk: 0, id: 0, result: Err(libc::EAGAIN) });
    let actions = bench.recorded(JournalPhase::Committed);
    assert_eq!(actions, [Action::Record { phase: JournalPhase::Cancelled }]);
    let actions = bench.recorded(JournalPhase::Cancelled);
    assert!(actions.contains(&Action::Ending { reason: EndReason::Stopped }), "{actions:?}");
    assert!(actions.contains(&Action::Finished { outcome: Outcome::Ended(EndReason::Stopped) }));
}
