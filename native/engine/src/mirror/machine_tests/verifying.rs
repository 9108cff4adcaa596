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

#[test]
fn a_disk_that_waited_long_for_another_is_read_once_more_before_the_switch() {
    let done = |disk, slot, outcome| Event::VerifyDone { disk, slot, outcome };
    let slots = |actions: &[Action]| -> Vec<(u32, u32)> {
        let place = |a: &Action| if let Action::Verify { disk, slot, .. } = a { Some((*disk, *slot)) } else { None };
        actions.iter().filter_map(place).collect()
    };
    let begins =
        |actions: &[Action]| actions.iter().any(|a| matches!(a, Action::FlushTarget { flush: Flush::Own(_), .. }));
    let mut bench = Bench::mirroring(&[16, 16]);
    bench.on(done(0, 0, VerifyOutcome::Equal));
    bench.later(900 * MS);
    bench.later(900 * MS);
    let actions = bench.on(done(1, 1, VerifyOutcome::Equal)).to_vec();
    assert!(!begins(&actions));
    let [(0, slot)] = slots(&actions)[..] else { panic!("only disk 0 waited: {actions:?}") };
    let gone = bench.on(done(0, slot, VerifyOutcome::TargetError(libc::EIO))).to_vec();
    let reason = EndReason::TargetFailed { disk: 0, errno: libc::EIO };
    assert!(gone.contains(&Action::Ending { reason }), "a target that has become unreadable: {gone:?}");

    let mut bench = Bench::mirroring(&[16, 16]);
    bench.on(done(0, 0, VerifyOutcome::Equal));
    bench.later(900 * MS);
    bench.later(900 * MS);
    bench.on(done(1, 1, VerifyOutcome::Equal));
    assert!(begins(bench.on(done(0, slot, VerifyOutcome::Equal))), "and then the switch begins");
}

#[test]
fn a_last_reading_that_takes_longer_than_it_stays_fresh_is_not_begun_for_ever() {
    let mut bench = Bench::mirroring(&[16, 16, 16]);
    let begins = |a: &Action| matches!(a, Action::FlushTarget { flush: Flush::Own(_), .. });
    let mut asked: Vec<(u32, u32)> = (0..3).map(|number| (number, number)).collect();
    let mut readings = 0;
    // Many disks, or slow ones: by the time the last is read the first was read long ago.
    while let [(disk, slot), ..] = asked[..] {
        asked.remove(0);
        readings += 1;
        assert!(readings <= 6, "each was read, and each was read once more: the switch is due");
        bench.later(600 * MS);
        for action in bench.on(Event::VerifyDone { disk, slot, outcome: VerifyOutcome::Equal }).to_vec() {
            if begins(&action) {
                return;
            }
            if let Action::Verify { disk, slot, .. } = action {
                asked.push((disk, slot));
            }
        }
    }
    panic!("nothing is asked any more, and no switch was begun");
}
