//! Units are compared until each was equal once and nothing has dirtied it since.

use super::bench::{Bench, CHUNK, MS, chunks, is_copy};
use crate::mirror::*;

#[test]
fn a_unit_that_differs_is_copied_and_compared_once_more_and_then_fails_the_move() {
    let mut bench = Bench::mirroring(&[16]);
    let different = Event::VerifyDone { disk: 0, slot: 0, outcome: VerifyOutcome::Different };
    let actions = bench.on(different).to_vec();
    assert!(actions.iter().any(|a| matches!(a, Action::Copy { range, .. } if *range == chunks(0, 16))), "{actions:?}");
    let actions = bench.copied(0);
    assert!(actions.iter().any(|a| matches!(a, Action::Verify { .. })), "{actions:?}");
    let actions = bench.on(different).to_vec();
    assert!(actions.contains(&Action::Ending { reason: EndReason::VerificationFailed { disk: 0, offset: 0 } }));
}

#[test]
fn a_unit_written_meanwhile_is_compared_again_and_the_third_time_under_a_lock() {
    let mut bench = Bench::mirroring(&[16]);
    let equal = Event::VerifyDone { disk: 0, slot: 0, outcome: VerifyOutcome::Equal };
    for _ in 0..2 {
        assert!(bench.write(0, 0, chunks(1, 1)).contains(&Action::WriteBoth { disk: 0, id: 0 }));
        bench.source(0);
        bench.target(0);
        bench.on(equal);
        assert_eq!(bench.machine.progress().verified_bytes, 0, "met by a write: no proof");
    }
    let slot = MoveLimits::default().verifies_max;
    assert!(bench.write(0, 0, chunks(1, 1)).is_empty(), "the unit is locked: the write waits");
    let actions = bench.on(Event::VerifyDone { disk: 0, slot, outcome: VerifyOutcome::Equal }).to_vec();
    assert!(actions.contains(&Action::WriteBoth { disk: 0, id: 0 }), "{actions:?}");
    assert_eq!(bench.machine.progress().verified_bytes, 16 * CHUNK);
}

#[test]
fn a_unit_that_becomes_dirty_after_it_was_compared_is_compared_again() {
    let mut bench = Bench::mirroring(&[40]);
    bench.on(Event::VerifyDone { disk: 0, slot: 0, outcome: VerifyOutcome::Equal });
    assert_eq!(bench.machine.progress().verified_bytes, 16 * CHUNK);
    bench.write(0, 0, chunks(3, 1));
    bench.source(0);
    let actions = bench.on(Event::TargetWriteDone { disk: 0, id: 0, result: Err(libc::EAGAIN) }).to_vec();
    assert_eq!(bench.machine.progress().verified_bytes, 0);
    assert!(!actions.iter().any(is_copy), "a target that asked for patience gets some");
    assert!(bench.later(20 * MS).iter().any(is_copy));
    let actions = bench.copied(0);
    assert!(
        actions.iter().any(|a| matches!(a, Action::Verify { range, .. } if *range == chunks(0, 16))),
        "{actions:?}"
    );
}

#[test]
fn units_written_after_they_were_compared_are_counted() {
    let mut bench = Bench::mirroring(&[40]);
    bench.on(Event::VerifyDone { disk: 0, slot: 0, outcome: VerifyOutcome::Equal });
    bench.write(0, 0, chunks(3, 1));
    bench.source(0);
    bench.target(0);
    assert_eq!(bench.machine.units_written_since(0), 1);
    assert_eq!(bench.machine.progress().verified_bytes, 16 * CHUNK, "both sides got it: still verified");
}
