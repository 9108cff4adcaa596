//! What is copied while the source alone decides: nothing that is being written, no hole, nothing twice without need.

use super::bench::{ACK, Bench, CHUNK, MS, chunks, is_copy};
use crate::disk::ByteRange;
use crate::mirror::*;

#[test]
fn in_copy_a_guest_write_goes_to_the_source_alone_and_is_dirty_before_it_is_submitted() {
    let mut bench = Bench::new(&[64]);
    let actions = bench.write(0, 0, ByteRange::new(CHUNK - 512, 1024));
    assert!(actions.contains(&Action::WriteSource { disk: 0, id: 0 }));
    assert!(bench.dirty(0, 0) && bench.dirty(0, 1) && !bench.dirty(0, 2), "both chunks it touches");
    assert_eq!(bench.source(0)[..2], [ACK, Action::Retire { disk: 0, id: 0 }], "answered with the source");
}

#[test]
fn a_chunk_with_a_source_only_write_in_flight_is_not_copied() {
    let mut bench = Bench::new(&[64]);
    let actions = bench.write(0, 0, chunks(3, 1));
    assert!(!actions.iter().any(is_copy));
    let actions = bench.source(0);
    assert!(actions.iter().any(|a| matches!(a, Action::Copy { range, .. } if *range == chunks(3, 1))), "{actions:?}");
}

#[test]
fn a_run_ends_before_a_chunk_that_is_being_written_and_is_not_longer_than_the_copy_unit() {
    let mut bench = Bench::new(&[64]);
    bench.write(0, 0, chunks(5, 1));
    let actions = bench.on(Event::MarkAllocated { disk: 0, range: chunks(0, 40) }).to_vec();
    let ranges: Vec<ByteRange> =
        actions.iter().filter_map(|a| if let Action::Copy { range, .. } = a { Some(*range) } else { None }).collect();
    assert_eq!(ranges, [chunks(0, 5), chunks(6, 10), chunks(16, 16), chunks(32, 8)]);
}

#[test]
fn holes_are_never_copied() {
    let mut bench = Bench::new(&[64]);
    bench.on(Event::MarkAllocated { disk: 0, range: chunks(10, 1) });
    let actions = bench.allocate();
    bench.obey(actions, |_| false);
    bench.copied(0);
    assert_eq!(bench.machine.progress().copied_bytes, CHUNK);
}

#[test]
fn a_write_that_meets_a_copy_leaves_its_chunk_dirty_and_only_that() {
    let mut bench = Bench::new(&[64]);
    let actions = bench.on(Event::MarkAllocated { disk: 0, range: chunks(0, 4) }).to_vec();
    assert!(actions.iter().any(is_copy));
    bench.write(0, 0, chunks(2, 1));
    bench.source(0);
    let again = bench.copied(0);
    assert!(again.iter().any(|a| matches!(a, Action::Copy { range, .. } if *range == chunks(2, 1))), "{again:?}");
    let progress = bench.machine.progress();
    assert_eq!((progress.copied_bytes, progress.recopied_bytes, progress.dirty_bytes), (4 * CHUNK, 0, CHUNK));
}

#[test]
fn a_persisted_dirty_bit_goes_only_behind_a_target_flush_and_not_if_written_meanwhile() {
    let mut bench = Bench::new(&[64]);
    bench.on(Event::MarkAllocated { disk: 0, range: chunks(0, 2) });
    bench.copied(0);
    assert!(bench.dirty(0, 0) && bench.dirty(0, 1), "copied, not flushed");
    let actions = bench.later(6_000_000);
    let flush = Flush::Own(0);
    assert!(actions.contains(&Action::FlushTarget { disk: 0, flush }), "{actions:?}");
    bench.write(0, 0, chunks(1, 1));
    bench.on(Event::TargetFlushDone { disk: 0, flush, result: Ok(()) });
    assert!(!bench.dirty(0, 0) && bench.dirty(0, 1));
}

#[test]
fn a_hot_chunk_is_locked_after_three_strikes_and_writes_to_it_wait_no_longer_than_250_ms() {
    let mut bench = Bench::new(&[64]);
    bench.write(0, 0, chunks(3, 1));
    bench.allocate();
    // Never without a write in flight: as one ends the next is there.
    let mut current = 0;
    let mut next = 1;
    let mut locked = None;
    for _ in 0..10 {
        let actions = bench.write(0, next, ByteRange::new(3 * CHUNK + u64::from(next) * 512, 512));
        if actions.is_empty() && bench.machine.progress().locks > 0 {
            locked = Some(next);
            break;
        }
        bench.source(current);
        (current, next) = (next, next + 1);
    }
    let waiting = locked.expect("a lock");
    let actions = bench.source(current);
    let slot = MoveLimits::default().copies_max;
    let mut copy = actions.iter().filter(|a| is_copy(a));
    assert_eq!(
        copy.next(),
        Some(&Action::Copy { disk: 0, slot, range: chunks(3, 1), target_fresh: true }),
        "{actions:?}"
    );
    assert!(!bench.later(250 * MS).contains(&Action::WriteSource { disk: 0, id: waiting }));
    let actions = bench.later(MS);
    assert!(actions.contains(&Action::WriteSource { disk: 0, id: waiting }), "{actions:?}");
    assert_eq!(bench.machine.progress().locks_broken, 1);
}
