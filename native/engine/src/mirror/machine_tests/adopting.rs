//! Writes the source got before there was a machine.

use super::bench::{ACK, Bench, CHUNK, chunks, is_copy, setups};
use crate::mirror::*;

#[test]
fn a_write_already_in_flight_when_the_move_began_is_dirty_and_answered() {
    let mut bench = Bench::new(&[64]);
    bench.on(Event::Adopt { disk: 0, id: 0, range: chunks(3, 1) });
    assert!(bench.dirty(0, 3));
    assert!(!bench.allocate().iter().any(is_copy), "not copied while it is in flight");
    assert!(bench.source(0).contains(&ACK));
}

#[test]
fn a_resumed_move_with_nothing_to_copy_adopts_every_write_and_each_is_answered() {
    let sizes = [64 * CHUNK, 64 * CHUNK];
    let words: Vec<_> = sizes.iter().map(|_| (SharedWords::in_memory(64), SharedWords::in_memory(64))).collect();
    let machine = Move::resume(MoveLimits::default(), JournalPhase::Verify, setups(&sizes, &words)).expect("resumed");
    let mut bench = Bench { machine, words, now_us: 1_000_000, out: Vec::new() };
    let writes = [(0, 0), (0, 1), (1, 0), (1, 1)];
    for (disk, id) in writes {
        bench.on(Event::Adopt { disk, id, range: chunks(3, 1) });
        assert_eq!(bench.machine.progress().phase, Phase::Copy, "it waits until all are in");
    }
    bench.on(Event::Tick);
    for (disk, id) in writes {
        let answer = bench.on(Event::SourceWriteDone { disk, id, result: Ok(()) }).to_vec();
        assert!(
            answer.contains(&Action::Acknowledge { disk, id, result: Ok(()) }),
            "write {id} of disk {disk}: {answer:?}"
        );
    }
}
