//! Guest writes while both sides get them: which side, in which order, and when the guest is answered.

use super::bench::{ACK, Bench, CHUNK, chunks};
use crate::disk::ByteRange;
use crate::mirror::*;

#[test]
fn in_mirror_a_write_to_a_clean_chunk_goes_to_both_sides_with_its_intent_first_and_waits_for_both() {
    let mut bench = Bench::mirroring(&[64]);
    let actions = bench.write(0, 0, chunks(7, 1));
    assert!(actions.contains(&Action::WriteBoth { disk: 0, id: 0 }));
    assert!(bench.intent(0, 7) && !bench.dirty(0, 7));
    assert!(!bench.source(0).contains(&ACK));
    assert!(bench.target(0).contains(&ACK));
    assert!(bench.intent(0, 7), "the intent goes behind a flush, not with the write");
}

#[test]
fn in_mirror_a_write_to_a_dirty_chunk_goes_to_the_source_but_one_that_touches_a_clean_chunk_too_goes_to_both() {
    let mut bench = Bench::new(&[64]);
    bench.write(0, 9, chunks(3, 1));
    bench.allocate();
    assert_eq!(bench.machine.progress().phase, Phase::Mirror, "chunk 3 is in use, the rest is equal");
    assert!(bench.write(0, 0, ByteRange::new(3 * CHUNK, 512)).is_empty(), "behind the write it overlaps");
    let actions = bench.write(0, 1, ByteRange::new(4 * CHUNK - 512, 512));
    assert!(actions.is_empty());
    let actions = bench.source(9);
    assert!(
        actions.contains(&Action::WriteSource { disk: 0, id: 0 })
            && actions.contains(&Action::WriteSource { disk: 0, id: 1 })
    );
    let actions = bench.write(0, 2, chunks(4, 1));
    assert!(actions.contains(&Action::WriteBoth { disk: 0, id: 2 }));
    bench.write(0, 3, ByteRange::new(2 * CHUNK, CHUNK + 512));
    assert!(!bench.dirty(0, 2), "the dirty set never grows");
}

#[test]
fn in_mirror_overlapping_writes_are_serialised_in_order_of_arrival() {
    let mut bench = Bench::mirroring(&[64]);
    bench.write(0, 0, ByteRange::new(0, 4096));
    assert!(bench.write(0, 1, ByteRange::new(2048, 4096)).is_empty());
    assert!(bench.write(0, 2, ByteRange::new(4096, 4096)).is_empty(), "also behind one that waits");
    assert!(bench.write(0, 3, ByteRange::new(8192, 512)).contains(&Action::WriteBoth { disk: 0, id: 3 }));
    bench.source(0);
    let actions = bench.target(0);
    assert!(actions.contains(&Action::WriteBoth { disk: 0, id: 1 }));
    assert!(!actions.contains(&Action::WriteBoth { disk: 0, id: 2 }));
}

#[test]
fn a_source_error_is_the_guests_and_marks_dirty() {
    let mut bench = Bench::mirroring(&[64]);
    bench.write(0, 0, chunks(7, 1));
    bench.target(0);
    let actions = bench.on(Event::SourceWriteDone { disk: 0, id: 0, result: Err(libc::EIO) }).to_vec();
    assert!(actions.contains(&Action::Acknowledge { disk: 0, id: 0, result: Err(libc::EIO) }));
    assert!(bench.dirty(0, 7));
}

#[test]
fn a_warm_machine_gives_few_actions_and_keeps_its_tables() {
    let mut bench = Bench::mirroring(&[64]);
    for round in 0..10_000u64 {
        bench.write(0, 0, ByteRange::new(round % 64 * CHUNK + round % 100 * 512, 512));
        bench.source(0);
        bench.target(0);
    }
    assert_eq!(bench.machine.progress().mirrored_bytes, 10_000 * 512);
    assert!(bench.machine.disks[0].writes.len() == 0);
}

#[test]
fn a_write_whose_id_is_taken_is_answered_with_an_error_and_the_one_that_has_it_goes_on() {
    for mut bench in [Bench::new(&[64]), Bench::mirroring(&[64]), Bench::committing(&[64])] {
        let first = bench.write(0, 0, chunks(7, 1));
        assert!(first.iter().any(|a| matches!(a, Action::WriteSource { .. } | Action::WriteBoth { .. })), "{first:?}");
        let (dirty, intent) = (bench.dirty(0, 7), bench.intent(0, 7));
        assert_eq!(bench.write(0, 0, chunks(9, 1)), [Action::Refuse { disk: 0, id: 0, errno: libc::EIO }]);
        assert!(!bench.dirty(0, 9) && !bench.intent(0, 9), "nothing of it is done");
        assert_eq!((bench.dirty(0, 7), bench.intent(0, 7)), (dirty, intent));
        let mut answers = bench.source(0);
        if first.contains(&Action::WriteBoth { disk: 0, id: 0 }) {
            answers.extend(bench.target(0));
        }
        assert!(answers.contains(&ACK) && answers.contains(&Action::Retire { disk: 0, id: 0 }), "{answers:?}");
        assert!(!bench.write(0, 0, chunks(9, 1)).is_empty(), "the id is free again");
    }
}
