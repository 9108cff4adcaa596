//! The one way a chunk becomes dirty, and the one way a write to both sides is announced.

use super::disk_state::units_of;
use super::machine::Move;
use super::vocabulary::*;
use super::writes::chunks_of;
use crate::disk::ByteRange;

impl Move {
    /// The sides differ, or may differ, in `range`. Persisted before anything is submitted that makes it true.
    pub(super) fn mark_dirty(&mut self, disk: DiskIndex, range: ByteRange) {
        let state = &mut self.disks[disk as usize];
        let chunks = chunks_of(range);
        state.saved_dirty.set(chunks.clone());
        state.dirty.set(chunks.clone());
        state.settled.clear(chunks.clone());
        state.flushing.clear(chunks.clone());
        // What was compared before counts for nothing now.
        let units = units_of(range);
        state.unverified.set(units.clone());
        state.written_since.clear(units.clone());
        state.holes.disturb(units);
        for slot in &mut self.copies {
            slot.collide(disk, &chunks);
        }
        self.disturb_verifies(disk, range);
    }

    /// A write goes to both sides. Its intent is in the journal before it is submitted: if the process dies, the
    /// halves may differ.
    pub(super) fn mark_intent(&mut self, disk: DiskIndex, range: ByteRange) {
        let state = &mut self.disks[disk as usize];
        let chunks = chunks_of(range);
        state.saved_intent.set(chunks.clone());
        state.touched.set(chunks.clone());
        state.settled.clear(chunks.clone());
        state.flushing.clear(chunks.clone());
        state.written_since.set(units_of(range));
        state.holes.disturb(units_of(range));
        if !state.copying.is_empty() {
            // The copy may carry older data to the target behind this write: those chunks have to be copied again.
            for place in 0..self.copies.len() {
                if let Some(hit) = self.copies[place].chunks_hit(disk, &chunks) {
                    let bytes = self.disks[disk as usize].bytes_of(hit);
                    self.mark_dirty(disk, bytes);
                }
            }
        }
        self.disturb_verifies(disk, range);
    }

    /// A write arrived in a unit that is being compared: whatever the comparison says is no proof.
    fn disturb_verifies(&mut self, disk: DiskIndex, range: ByteRange) {
        for slot in &mut self.verifies {
            slot.disturb(disk, &units_of(range));
        }
    }

    /// Chunks both halves of a write have reached are equal again, unless something else is going on there.
    pub(super) fn mark_settled(&mut self, disk: DiskIndex, range: ByteRange) {
        let state = &mut self.disks[disk as usize];
        let chunks = chunks_of(range);
        let mut at = chunks.start;
        // Run by run: a discard may cover a whole disk.
        while let Some(start) = state.dirty.first_clear(at..chunks.end) {
            if state.copying.get(start) {
                at = start + 1;
                continue;
            }
            let dirty = state.dirty.next_set(start).unwrap_or(chunks.end);
            let copying = state.copying.next_set(start).unwrap_or(chunks.end);
            at = dirty.min(copying).min(chunks.end);
            state.settled.set(start..at);
        }
    }
}
