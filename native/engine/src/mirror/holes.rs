//! Holes: what is one on both sides is equal without being read.
//!
//! ```text
//!   FindHoles ──▶ somebody looks at both sides' maps, which takes a while ──▶ Hole, Hole ... HolesKnown ──▶ FindHoles for what follows
//!        └── from here on: whatever touches a unit *disturbs* it; disturbed units are no holes, they are compared by reading
//! ```
//! Why that is enough. A look at a map is true for some moment between `FindHoles` and `HolesKnown`. If nothing was submitted to a unit on
//! either side in all that time, and nothing was in flight to it at its beginning, both sides of it were the same all the time, so they were
//! zeros at the end as well; and from then on it is like any unit that was compared: a write to both sides keeps it equal, everything else
//! makes it dirty and takes it back. What the look itself rests on is argued in docs/design/0005-a-turn.md.

use std::ops::Range;

use super::chunk_map::ChunkMap;
use super::disk_state::units_of;
use super::machine::Move;
use super::vocabulary::*;
use super::writes::chunks_of;
use crate::disk::ByteRange;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    NotUnderWay,
    Since(u64),
    /// A look took too long: nothing is asked any more, and an answer that comes late counts for nothing.
    GivenUp,
}

pub(super) struct Holes {
    /// Units whose holes are known: all below this number.
    known: u64,
    look: Look,
    /// Units something has happened in since the look under way began.
    disturbed: ChunkMap,
}

impl Holes {
    pub(super) fn new(units: u64) -> Self {
        Self { known: 0, look: Look::NotUnderWay, disturbed: ChunkMap::new(units) }
    }

    /// Units below this number are compared by reading unless they are verified.
    pub(super) fn units_known(&self) -> u64 {
        self.known
    }

    /// Something happens in these units.
    pub(super) fn disturb(&mut self, units: Range<u64>) {
        if self.is_looking() {
            self.disturbed.set(units);
        }
    }

    fn is_looking(&self) -> bool {
        matches!(self.look, Look::Since(_))
    }
}

impl Move {
    /// Asks for the holes that are not known yet, ahead of the verifier.
    pub(super) fn look_for_holes(&mut self, now_us: u64, out: &mut Vec<Action>) {
        for disk in 0..self.disks.len() as DiskIndex {
            let state = &mut self.disks[disk as usize];
            if state.holes.look != Look::NotUnderWay || state.holes.known == state.units {
                continue;
            }
            state.holes.disturbed.clear_all();
            state.holes.look = Look::Since(now_us);
            for entry in state.writes.iter().filter(|entry| !entry.waiting) {
                state.holes.disturb(units_of(entry.range));
            }
            let mut from = 0;
            while let Some(chunk) = state.copying.next_set(from) {
                state.holes.disturb(units_of(state.bytes_of(chunk..chunk + 1)));
                from = chunk + 1;
            }
            out.push(Action::FindHoles { disk, from: state.holes.known * VERIFY_UNIT_BYTES });
        }
    }

    /// Takes the whole, undisturbed units of `range` as verified.
    pub(super) fn hole(&mut self, disk: DiskIndex, range: ByteRange) {
        let state = &mut self.disks[disk as usize];
        if state.holes.look == Look::GivenUp {
            return;
        }
        if !state.holes.is_looking() || !state.contains(range) || range.len > HOLE_BYTES_MAX {
            debug_assert!(false, "{range:?} is no answer to what was asked of disk {disk}");
            return;
        }
        let end = if range.end() == state.size_bytes { state.units } else { range.end() / VERIFY_UNIT_BYTES };
        let mut at = range.start.div_ceil(VERIFY_UNIT_BYTES);
        while at < end {
            // Dirty and copying ones were disturbed or have been dirty all the time.
            let chunks = chunks_of(state.unit_bytes(at)).start..chunks_of(state.unit_bytes(end - 1)).end;
            let unit_of = |chunk: u64| chunk * CHUNK_BYTES / VERIFY_UNIT_BYTES;
            let stop = [
                state.holes.disturbed.next_set(at),
                state.dirty.next_set(chunks.start).map(unit_of),
                state.copying.next_set(chunks.start).map(unit_of),
            ]
            .into_iter()
            .flatten()
            .min()
            .map_or(end, |unit| unit.min(end));
            state.unverified.clear(at..stop);
            state.written_since.clear(at..stop);
            at = stop + 1;
        }
    }

    pub(super) fn holes_known(&mut self, disk: DiskIndex, until: u64) {
        let state = &mut self.disks[disk as usize];
        let known = if until >= state.size_bytes { state.units } else { until / VERIFY_UNIT_BYTES };
        if state.holes.look == Look::GivenUp {
            return;
        }
        if !state.holes.is_looking() || known <= state.holes.known {
            debug_assert!(false, "a look at disk {disk} that saw nothing would be asked for for ever");
            // As if there were none: everything is compared by reading.
            state.holes.known = state.units;
        }
        state.holes.known = state.holes.known.max(known);
        state.holes.look = Look::NotUnderWay;
    }

    /// A file that does not answer for its holes is read: then it is heard or found silent, like any other.
    pub(super) fn give_up_late_looks(&mut self, now_us: u64) {
        for disk in &mut self.disks {
            if let Look::Since(since_us) = disk.holes.look
                && now_us.saturating_sub(since_us) >= self.limits.silence_limit_us
            {
                disk.holes.look = Look::GivenUp;
                disk.holes.known = disk.units;
            }
        }
    }
}
