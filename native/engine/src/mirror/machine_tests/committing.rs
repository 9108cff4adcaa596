//! The window between the flip and COMMITTED, in which a restart may choose either side.

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
fn a_target_error_in_the_window_flips_all_disks_back_in_the_same_call_and_is_held_until_the_journal_says_so() {
    let mut bench = Bench::committing(&[16, 16]);
    bench.write(0, 0, chunks(1, 1));
    bench.source(0);
    let actions = bench.on(Event::TargetWriteDone { disk: 0, id: 0, result: Err(libc::EAGAIN) }).to_vec();
    let back = |disk| Action::SetReadSide { disk, side: Side::Source };
    assert!(actions.contains(&back(0)) && actions.contains(&back(1)) && !actions.contains(&ACK), "{actions:?}");
    assert_eq!(bench.machine.read_side(), Side::Source);
    let actions = bench.recorded(JournalPhase::Committed);
    assert_eq!(
        actions,
        [Action::Record { phase: JournalPhase::Mirror }],
        "COMMITTED may be found: it has to be replaced first"
    );
    assert!(bench.recorded(JournalPhase::Mirror).contains(&ACK));
    let copies = bench.later(20 * MS);
    assert!(copies.iter().any(is_copy), "{copies:?}");
    let seen = bench.obey(copies, |_| false);
    let again = bench.later(20 * MS);
    let rest = bench.obey(again, |_| false);
    let committed = Action::Finished { outcome: Outcome::Committed };
    assert!(seen.iter().chain(&rest).any(|a| *a == committed), "and tries again: {seen:?} {rest:?}");
}

#[test]
fn a_target_that_falls_behind_in_the_window_leads_back_to_copy_without_an_early_answer() {
    let mut bench = Bench::committing(&[16]);
    bench.write(0, 0, chunks(1, 1));
    bench.source(0);
    let actions = bench.later(251 * MS);
    assert!(actions.contains(&Action::SetReadSide { disk: 0, side: Side::Source }) && !actions.contains(&ACK));
    bench.recorded(JournalPhase::Committed);
    bench.recorded(JournalPhase::Mirror);
    assert_eq!(bench.machine.progress().phase, Phase::Copy);
    assert!(bench.later(MS).contains(&ACK), "the journal names the source: now it may be given up");
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
    assert!(actions.contains(&Action::SetReadSide { disk: 0, side: Side::Source }));
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
    assert!(actions.contains(&ACK) && actions.contains(&Action::Ending { reason: EndReason::Stopped }));
    assert!(actions.contains(&Action::Finished { outcome: Outcome::Ended(EndReason::Stopped) }));
}
