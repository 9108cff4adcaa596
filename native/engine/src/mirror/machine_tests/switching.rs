//! The way to the flip: both sides flushed, PREPARED durable, COMMITTED durable, all disks in one call.

use super::bench::{Bench, chunks};
use crate::mirror::*;

#[test]
fn guest_flushes_go_to_the_source_until_the_switch_begins_and_then_to_both() {
    let mut bench = Bench::mirroring(&[16]);
    let flush = Flush::Guest(0);
    assert_eq!(bench.on(Event::GuestFlush { disk: 0, id: 0 })[..1], [Action::FlushSource { disk: 0, flush }]);
    bench.on(Event::SourceFlushDone { disk: 0, flush, result: Ok(()) });
    let actions = bench.on(Event::VerifyDone { disk: 0, slot: 0, outcome: VerifyOutcome::Equal }).to_vec();
    assert!(actions.contains(&Action::PhaseChanged { phase: Phase::Switch, bound_bytes: None }), "{actions:?}");
    let actions = bench.on(Event::GuestFlush { disk: 0, id: 0 }).to_vec();
    assert_eq!(actions, [Action::FlushSource { disk: 0, flush }, Action::FlushTarget { disk: 0, flush }]);
    assert!(bench.on(Event::SourceFlushDone { disk: 0, flush, result: Ok(()) }).is_empty(), "waits for both");
    let actions = bench.on(Event::TargetFlushDone { disk: 0, flush, result: Ok(()) }).to_vec();
    assert!(actions.contains(&Action::AcknowledgeFlush { disk: 0, id: 0, result: Ok(()) }));
}

#[test]
fn the_switch_flushes_both_records_prepared_and_committed_and_then_flips_all_disks_in_one_call() {
    let mut bench = Bench::new(&[16, 5, 40]);
    let actions = bench.allocate();
    let seen = bench.obey(actions, |_| false);
    let at =
        |wanted: Action| seen.iter().position(|a| *a == wanted).unwrap_or_else(|| panic!("no {wanted:?} in {seen:?}"));
    let prepared = at(Action::Record { phase: JournalPhase::Prepared });
    let flip = at(Action::SetReadSide { disk: 0, side: Side::Target });
    assert!(seen[..prepared].iter().filter(|a| matches!(a, Action::FlushTarget { .. })).count() >= 3);
    assert_eq!(
        seen[flip..flip + 3],
        [
            Action::SetReadSide { disk: 0, side: Side::Target },
            Action::SetReadSide { disk: 1, side: Side::Target },
            Action::SetReadSide { disk: 2, side: Side::Target },
        ]
    );
    let committed = at(Action::Record { phase: JournalPhase::Committed });
    assert!(prepared < committed && committed < flip);
    assert_eq!(seen.last(), Some(&Action::Finished { outcome: Outcome::Committed }));
    assert!(bench.machine.is_idle());
    assert_eq!(bench.machine.progress().held_max_us, Some(0));
}

#[test]
fn one_disk_that_is_not_equal_keeps_all_from_switching() {
    let mut bench = Bench::new(&[16, 16]);
    bench.write(1, 0, chunks(3, 1));
    let actions = bench.allocate();
    let seen = bench.obey(actions, |_| false);
    assert!(
        !seen
            .iter()
            .any(|a| matches!(a, Action::SetReadSide { .. } | Action::Record { phase: JournalPhase::Prepared }))
    );
    let actions = bench.on(Event::SourceWriteDone { disk: 1, id: 0, result: Ok(()) }).to_vec();
    let seen = bench.obey(actions, |_| false);
    assert_eq!(seen.last(), Some(&Action::Finished { outcome: Outcome::Committed }));
}

#[test]
fn a_disk_of_no_bytes_and_a_move_of_no_disks_complete() {
    for sizes in [&[][..], &[0][..], &[0, 3][..]] {
        let mut bench = Bench::new(sizes);
        let mut actions = bench.allocate();
        actions.extend(bench.later(1));
        let seen = bench.obey(actions, |_| false);
        assert_eq!(seen.last(), Some(&Action::Finished { outcome: Outcome::Committed }), "{sizes:?}: {seen:?}");
    }
}
