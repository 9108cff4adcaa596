//! Writes the source got before there was a machine.

use super::bench::{ACK, Bench, CHUNK, chunks, is_copy, setups};
use crate::disk::{ByteRange, ErrorKind};
use crate::mirror::*;

#[test]
fn a_write_already_in_flight_when_the_move_began_is_dirty_and_answered() {
    let mut bench = Bench::new(&[64]);
    bench.machine.adopt(0, 0, chunks(3, 1), bench.now_us).expect("adopted");
    assert!(bench.dirty(0, 3));
    assert!(!bench.allocate().iter().any(is_copy), "not copied while it is in flight");
    assert!(bench.source(0).contains(&ACK));
}

#[test]
fn a_resumed_move_with_nothing_to_copy_adopts_every_write_and_each_is_answered() {
    let sizes = [64 * CHUNK, 64 * CHUNK];
    let words: Vec<_> = sizes.iter().map(|_| (SharedWords::in_memory(64), SharedWords::in_memory(64))).collect();
    let revocation = Revocation::in_memory();
    let machine = Move::resume(MoveLimits::default(), JournalPhase::Verify, revocation.clone(), setups(&sizes, &words))
        .expect("resumed");
    let mut bench = Bench { machine, revocation, words, now_us: 1_000_000, out: Vec::new() };
    let writes = [(0, 0), (0, 1), (1, 0), (1, 1)];
    for (disk, id) in writes {
        bench.machine.adopt(disk, id, chunks(3, 1), bench.now_us).expect("adopted");
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

#[test]
fn a_write_the_machine_could_not_answer_is_refused_aloud_and_changes_nothing() {
    let mut bench = Bench::new(&[64]);
    let now_us = bench.now_us;
    bench.machine.adopt(0, 0, chunks(3, 1), now_us).expect("adopted");
    let refused = [
        (0, 0, chunks(5, 1), "its id is taken"),
        (1, 1, chunks(5, 1), "there is no such disk"),
        (0, 1, chunks(63, 2), "it ends behind the disk"),
        (0, 1, ByteRange::default(), "it is empty"),
    ];
    for (disk, id, range, why) in refused {
        let error = bench.machine.adopt(disk, id, range, now_us).expect_err(why);
        assert_eq!(error.kind, ErrorKind::InvalidState, "{why}");
    }
    bench.on(Event::Tick);
    let error = bench.machine.adopt(0, 1, chunks(5, 1), now_us).expect_err("after the first event");
    assert_eq!(error.kind, ErrorKind::InvalidState);
    assert!(bench.dirty(0, 3) && !bench.dirty(0, 5) && !bench.dirty(0, 63));
    assert_eq!(bench.source(0)[..2], [ACK, Action::Retire { disk: 0, id: 0 }], "what was adopted is answered once");
    assert_eq!(bench.machine.disks[0].writes.len(), 0);
}
