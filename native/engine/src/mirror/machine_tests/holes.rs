//! What is a hole on both sides is verified without being read; what a guest touches meanwhile is not.

use super::bench::{Bench, CHUNK, chunks};
use crate::disk::ByteRange;
use crate::mirror::*;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// Empty disks whose holes are being looked for; the second value is what was asked meanwhile.
fn looking(disk_chunks: &[u64]) -> (Bench, Vec<Action>) {
    let mut bench = Bench::new(disk_chunks);
    let asked = bench.allocate();
    (bench, asked)
}

fn verifies(actions: &[Action]) -> Vec<ByteRange> {
    let range = |action: &Action| match action {
        Action::Verify { range, .. } => Some(*range),
        _ => None,
    };
    actions.iter().filter_map(range).collect()
}

#[test]
fn nothing_is_read_before_its_holes_are_known_and_then_only_what_is_none() {
    let (mut bench, asked) = looking(&[64 + 3]);
    assert!(asked.contains(&Action::FindHoles { disk: 0, from: 0 }), "{asked:?}");
    assert_eq!(verifies(&asked), []);
    // Two whole units of the first three: half a unit on either side is no unit.
    assert_eq!(verifies(bench.on(Event::Hole { disk: 0, range: ByteRange::new(MIB / 2, 5 * MIB / 2) })), []);
    let actions = bench.on(Event::HolesKnown { disk: 0, until: 3 * MIB }).to_vec();
    assert_eq!(verifies(&actions), [ByteRange::new(0, MIB)]);
    assert!(actions.contains(&Action::FindHoles { disk: 0, from: 3 * MIB }), "{actions:?}");
    // The last unit is shorter, and whole all the same.
    bench.on(Event::Hole { disk: 0, range: ByteRange::new(4 * MIB, 3 * CHUNK) });
    let actions = bench.on(Event::HolesKnown { disk: 0, until: 4 * MIB + 3 * CHUNK }).to_vec();
    assert_eq!(verifies(&actions), [ByteRange::new(3 * MIB, MIB)]);
    assert_eq!(bench.machine.progress().verified_bytes, 2 * MIB + 3 * CHUNK);
    assert_eq!(bench.machine.progress().compared_bytes, 0);
}

#[test]
fn a_unit_that_is_written_while_holes_are_looked_for_is_compared() {
    let (mut bench, _) = looking(&[64]);
    assert!(bench.write(0, 0, chunks(17, 1)).contains(&Action::WriteBoth { disk: 0, id: 0 }));
    bench.source(0);
    bench.target(0);
    bench.on(Event::Hole { disk: 0, range: chunks(0, 64) });
    let actions = bench.on(Event::HolesKnown { disk: 0, until: 4 * MIB }).to_vec();
    assert_eq!(verifies(&actions), [ByteRange::new(MIB, MIB)], "the unit of chunk 17");
}

#[test]
fn a_unit_with_a_write_in_flight_when_the_look_begins_is_compared() {
    let (mut bench, _) = looking(&[64]);
    bench.on(Event::HolesKnown { disk: 0, until: MIB });
    // The second look is under way. This write begins in it, and ends in the third.
    bench.write(0, 0, chunks(50, 1));
    bench.on(Event::HolesKnown { disk: 0, until: 2 * MIB });
    bench.on(Event::Hole { disk: 0, range: chunks(32, 32) });
    bench.source(0);
    bench.target(0);
    let actions = bench.on(Event::HolesKnown { disk: 0, until: 4 * MIB }).to_vec();
    assert_eq!(verifies(&actions), [ByteRange::new(3 * MIB, MIB)], "the unit of chunk 50");
}

#[test]
fn a_hole_the_guest_writes_afterwards_is_like_any_verified_unit() {
    let (mut bench, _) = looking(&[32]);
    bench.on(Event::Hole { disk: 0, range: chunks(0, 32) });
    bench.write(0, 0, chunks(3, 1));
    bench.source(0);
    // Its error makes the unit dirty: copied, then compared by reading.
    bench.on(Event::TargetWriteDone { disk: 0, id: 0, result: Err(libc::EAGAIN) });
    assert_eq!(bench.machine.progress().verified_bytes, MIB);
}

#[test]
fn a_file_that_does_not_answer_for_its_holes_is_read() {
    let (mut bench, _) = looking(&[16]);
    assert_eq!(verifies(&bench.later(MoveLimits::default().silence_limit_us - 1)), []);
    assert_eq!(verifies(&bench.later(1)), [ByteRange::new(0, MIB)]);
    // What comes late counts for nothing, and asks for nothing.
    assert!(bench.on(Event::Hole { disk: 0, range: chunks(0, 16) }).is_empty());
    assert!(bench.on(Event::HolesKnown { disk: 0, until: MIB }).is_empty());
    assert_eq!(bench.machine.progress().verified_bytes, 0);
}

/// The search for the next unit, chunk or hole at this size is what every event pays.
#[test]
fn a_disk_of_64_tib_is_verified_by_as_many_events_as_it_has_holes() {
    let (mut bench, _) = looking(&[64 * TIB / CHUNK]);
    for from in (0..64).map(|tib| tib * TIB) {
        bench.on(Event::Hole { disk: 0, range: ByteRange::new(from, TIB) });
        bench.on(Event::HolesKnown { disk: 0, until: from + TIB });
    }
    let progress = bench.machine.progress();
    assert_eq!((progress.verified_bytes, progress.compared_bytes), (64 * TIB, 0));
    assert_eq!(progress.phase, Phase::Switch);
}
