//! A stop: what it still waits for, what it leaves in the journal, and when it comes too late.

use super::bench::{ACK, Bench, chunks};
use crate::mirror::*;

#[test]
fn a_stop_before_committed_cancels_and_one_after_it_is_too_late() {
    let mut bench = Bench::mirroring(&[64]);
    bench.write(0, 0, chunks(7, 1));
    let actions = bench.on(Event::Stop).to_vec();
    assert!(actions.contains(&Action::Ending { reason: EndReason::Stopped }));
    assert!(bench.source(0).contains(&ACK), "the target is not waited for");
    assert!(
        bench.write(0, 1, chunks(9, 1)).contains(&Action::WriteSource { disk: 0, id: 1 }),
        "no new work for the target"
    );
    bench.source(1);
    bench.recorded(JournalPhase::Cancelled);
    for slot in 0..4 {
        bench.on(Event::VerifyDone { disk: 0, slot, outcome: VerifyOutcome::Equal });
    }
    assert!(bench.target(0).contains(&Action::Finished { outcome: Outcome::Ended(EndReason::Stopped) }));

    let mut bench = Bench::committing(&[16]);
    assert!(bench.on(Event::Stop).is_empty(), "COMMITTED may be durable: its record decides");
    assert!(bench.recorded(JournalPhase::Committed).contains(&Action::StopTooLate));
    assert_eq!(bench.on(Event::Stop).to_vec(), [Action::StopTooLate]);
}

#[test]
fn what_the_scan_finds_after_a_stop_records_nothing_behind_cancelled() {
    for allocation_known_at in [0, 1] {
        let mut bench = Bench::new(&[16]);
        bench.on(Event::Stop);
        if allocation_known_at == 0 {
            assert_eq!(bench.allocate(), []);
        }
        let ended = bench.recorded(JournalPhase::Cancelled);
        assert_eq!(ended, [Action::Finished { outcome: Outcome::Ended(EndReason::Stopped) }]);
        assert_eq!(bench.allocate(), []);
        assert!(bench.machine.is_idle());
    }
}

#[test]
fn if_cancelled_cannot_be_recorded_everything_is_marked_so_that_nothing_stale_is_resumed() {
    let mut bench = Bench::new(&[64]);
    bench.on(Event::Stop);
    for _ in 0..10 {
        bench.later(1_000_000);
        if bench.machine.is_idle() {
            break;
        }
        bench.on(Event::RecordDone { phase: JournalPhase::Cancelled, result: RecordResult::Unknown });
    }
    assert!(bench.machine.is_idle() && (0..64).all(|chunk| bench.dirty(0, chunk)));
}
