//! A move whose process died: what the journal's bits mean to its successor.

use super::bench::{CHUNK, chunks, is_copy, setups};
use crate::disk::ErrorKind;
use crate::mirror::*;

#[test]
fn after_a_kill_intent_becomes_dirty_and_nothing_of_the_target_is_fresh() {
    let words = (SharedWords::in_memory(64), SharedWords::in_memory(64));
    SavedMap::new(words.0.clone(), 64).expect("room").set(1..2);
    SavedMap::new(words.1.clone(), 64).expect("room").set(30..31);
    for phase in [JournalPhase::Copy, JournalPhase::Mirror, JournalPhase::Verify, JournalPhase::Prepared] {
        let sizes = [64 * CHUNK];
        let mut machine = Move::resume(
            MoveLimits::default(),
            phase,
            Revocation::in_memory(),
            setups(&sizes, std::slice::from_ref(&words)),
        )
        .expect("resumed");
        let mut out = Vec::new();
        machine.on(Event::Tick, 5, &mut out);
        let copies: Vec<Action> = out.iter().copied().filter(is_copy).collect();
        let copy = |slot, chunk| Action::Copy { disk: 0, slot, range: chunks(chunk, 1), target_fresh: false };
        assert_eq!(copies, [copy(0, 1), copy(1, 30)], "in {phase:?}: {out:?}");
        assert_eq!(machine.read_side(), Side::Source);
        assert!(
            SavedMap::new(words.0.clone(), 64).expect("room").get(30),
            "saved as dirty before the intent is forgotten"
        );
    }
}

#[test]
fn nothing_is_resumed_after_committed_or_cancelled() {
    for phase in [JournalPhase::Committed, JournalPhase::Released, JournalPhase::Deleted, JournalPhase::Cancelled] {
        let words = (SharedWords::in_memory(64), SharedWords::in_memory(64));
        let resumed =
            Move::resume(MoveLimits::default(), phase, Revocation::in_memory(), setups(&[64 * CHUNK], &[words]));
        assert_eq!(resumed.err().map(|error| error.kind), Some(ErrorKind::InvalidState), "{phase:?}");
    }
}
