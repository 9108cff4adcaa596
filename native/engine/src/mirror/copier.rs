//! The copier: which dirty run next, how long, and what to do about chunks the guest will not leave alone.
//!
//! ```text
//!   dirty ──pick──▶ copying ──done, nobody wrote──▶ clean (persisted bit goes behind the next target flush)
//!     ▲                │ a guest write met it: a strike
//!     └────────────────┘          third strike: the next copy holds a lock on its 64 KiB, guest writes to it wait
//! ```
//! A chunk with a guest write in flight is never copied: the copy would read the source before that write and reach
//! the target after it. While mirroring, passing over such a chunk is a strike as well, else a hot spot would never be
//! copied.

use std::ops::Range;

use super::disk_state::units_of;
use super::limits::{CONTENDED_US, EXAMINED_MAX, SHARE_STEP_BYTES, STARTED_AT_ONCE, STRIKES_BEFORE_LOCK};
use super::machine::Move;
use super::stage::Stage;
use super::vocabulary::*;
use super::writes::{LockIndex, Owner};
use crate::disk::ByteRange;

/// One copy under way. `chunks` is empty while the slot is free.
#[derive(Clone, Debug, Default)]
pub(super) struct CopySlot {
    disk: DiskIndex,
    chunks: Range<u64>,
    /// Bit n: a guest write met the n-th chunk. Copies are at most 64 chunks long.
    collided: u64,
    lock: Option<LockIndex>,
}

/// Longest copy in chunks, for the mask above.
const CHUNKS_PER_COPY_MAX: u64 = 64;

impl CopySlot {
    pub(super) fn is_free(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The part of this copy that `chunks` touches.
    pub(super) fn chunks_hit(&self, disk: DiskIndex, chunks: &Range<u64>) -> Option<Range<u64>> {
        let hit = self.chunks.start.max(chunks.start)..self.chunks.end.min(chunks.end);
        (self.disk == disk && !hit.is_empty()).then_some(hit)
    }

    /// Chunks became dirty again while they are copied.
    pub(super) fn collide(&mut self, disk: DiskIndex, chunks: &Range<u64>) {
        if let Some(hit) = self.chunks_hit(disk, chunks) {
            for chunk in hit {
                self.collided |= 1 << (chunk - self.chunks.start);
            }
        }
    }
}

/// What a lock is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockFor {
    Copy { chunk: u64 },
    Verify { unit: u64 },
}

/// A lock asked for or held: an entry among the writes of its disk, in their order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lock {
    pub disk: DiskIndex,
    pub purpose: Option<LockFor>,
    /// Since when it waits or, once started, is held.
    pub since_us: u64,
    pub started: bool,
}

impl Move {
    /// Starts copies while the share lasts, disk by disk in turn.
    pub(super) fn fill_copies(&mut self, now_us: u64, out: &mut Vec<Action>) {
        if now_us < self.copy_after_us {
            return;
        }
        let disks = self.disks.len();
        let (mut idle, mut started) = (0, 0);
        while idle < disks && started < STARTED_AT_ONCE {
            let disk = self.next_disk % disks;
            self.next_disk = (disk + 1) % disks;
            let unit = self.copy_unit_bytes(now_us);
            if self.bytes_in_flight > 0 && self.bytes_in_flight + unit > self.share_now_bytes {
                return;
            }
            let Some(slot) = self.free_copy_slot() else { return };
            match self.pick_run(disk as DiskIndex, unit / CHUNK_BYTES, now_us, out) {
                Some(chunks) => {
                    idle = 0;
                    started += 1;
                    self.start_copy(disk as DiskIndex, slot, chunks, None, out, now_us);
                }
                None => idle += 1,
            }
        }
    }

    fn copy_unit_bytes(&self, now_us: u64) -> u64 {
        let careful = now_us < self.contended_until_us || self.share_now_bytes < self.share_bytes / 2;
        let unit = if careful { self.limits.contended_unit_bytes } else { self.limits.copy_unit_bytes };
        (unit.min(self.share_now_bytes) / CHUNK_BYTES).clamp(1, CHUNKS_PER_COPY_MAX) * CHUNK_BYTES
    }

    fn free_copy_slot(&self) -> Option<usize> {
        // The slots beyond `copies_max` are for copies under a lock, which must not wait for a place.
        let ordinary = self.limits.copies_max as usize;
        self.copies[..ordinary].iter().position(CopySlot::is_free)
    }

    /// The next run that may be copied. Goes once around the disk at most; the very first time around (`swept`) only
    /// to its end.
    fn pick_run(
        &mut self,
        disk: DiskIndex,
        unit_chunks: u64,
        now_us: u64,
        out: &mut Vec<Action>,
    ) -> Option<Range<u64>> {
        let first_sweep = !self.disks[disk as usize].swept;
        let begin = self.disks[disk as usize].cursor;
        let mut from = begin;
        let mut wrapped = false;
        for _ in 0..EXAMINED_MAX {
            let state = &self.disks[disk as usize];
            // A slow target is not given more to do before it has answered for what was given up.
            if state.dirty.is_empty() && state.swept || state.abandoned > 0 {
                return None;
            }
            let found = state.dirty.next_set(from).filter(|chunk| !wrapped || *chunk < begin);
            let Some(chunk) = found else {
                let state = &mut self.disks[disk as usize];
                state.swept |= state.allocation_known;
                if wrapped || begin == 0 {
                    state.cursor = 0;
                    return None;
                }
                if first_sweep && state.swept {
                    // Leave what remains to mirroring: it may be a hot spot.
                    state.cursor = 0;
                    return None;
                }
                wrapped = true;
                from = 0;
                continue;
            };
            match self.run_at(disk, chunk, unit_chunks) {
                Run::Free(run) => {
                    self.disks[disk as usize].cursor = run.end;
                    return Some(run);
                }
                Run::Busy => {}
                Run::InUse => {
                    if self.stage.locks() {
                        self.strike(disk, chunk, now_us);
                    }
                }
                Run::Contended => self.ask_lock(disk, LockFor::Copy { chunk }, now_us, out),
            }
            from = chunk + 1;
        }
        self.disks[disk as usize].cursor = from;
        None
    }

    /// What can be done about the dirty chunk `chunk`.
    fn run_at(&self, disk: DiskIndex, chunk: u64, unit_chunks: u64) -> Run {
        let state = &self.disks[disk as usize];
        if state.copying.get(chunk) || self.is_locked(disk, chunk) {
            return Run::Busy;
        }
        let contended = |chunk: u64| self.stage.locks() && state.strikes(chunk) >= STRIKES_BEFORE_LOCK;
        if contended(chunk) {
            return Run::Contended;
        }
        let limit = ((chunk / unit_chunks + 1) * unit_chunks).min(state.chunks);
        let mut end = chunk + 1;
        while end < limit
            && state.dirty.get(end)
            && !state.copying.get(end)
            && !contended(end)
            && !self.is_locked(disk, end)
        {
            end += 1;
        }
        for busy in state.writes.in_flight_in(chunk..end) {
            if busy.start <= chunk {
                return Run::InUse;
            }
            end = end.min(busy.start);
        }
        Run::Free(chunk..end)
    }

    fn strike(&mut self, disk: DiskIndex, chunk: u64, now_us: u64) {
        self.disks[disk as usize].strike(chunk);
        self.contended_until_us = now_us + CONTENDED_US;
    }

    fn start_copy(
        &mut self,
        disk: DiskIndex,
        slot: usize,
        chunks: Range<u64>,
        lock: Option<LockIndex>,
        out: &mut Vec<Action>,
        now_us: u64,
    ) {
        let state = &mut self.disks[disk as usize];
        let range = state.bytes_of(chunks.clone());
        // Only in memory: the persisted bit stays until a flush of the target covers the copy.
        state.dirty.clear(chunks.clone());
        state.copying.set(chunks.clone());
        let target_fresh = state.is_target_fresh(chunks.clone());
        state.touched.set(chunks.clone());
        state.holes.disturb(units_of(range));
        for side in Side::BOTH {
            self.opened(disk, side, now_us);
        }
        self.bytes_in_flight += range.len;
        self.copies[slot] = CopySlot { disk, chunks, collided: 0, lock };
        out.push(Action::Copy { disk, slot: slot as SlotId, range, target_fresh });
    }

    pub(super) fn copy_done(
        &mut self,
        disk: DiskIndex,
        slot: SlotId,
        outcome: CopyOutcome,
        now_us: u64,
        out: &mut Vec<Action>,
    ) {
        let Some(done) = self.copies.get_mut(slot as usize).filter(|copy| !copy.is_free() && copy.disk == disk) else {
            debug_assert!(false, "no copy in slot {slot} of disk {disk}");
            return;
        };
        let CopySlot { chunks, collided, lock, .. } = std::mem::take(done);
        let state = &mut self.disks[disk as usize];
        let range = state.bytes_of(chunks.clone());
        state.copying.clear(chunks.clone());
        self.bytes_in_flight -= range.len;
        for side in Side::BOTH {
            self.answered(disk, side, now_us);
        }
        match outcome {
            CopyOutcome::Copied { was_zero } => self.account_copy(disk, chunks, collided, was_zero, now_us),
            CopyOutcome::SourceError(errno) => {
                self.mark_dirty(disk, range);
                self.fail(EndReason::SourceFailed { disk, errno }, now_us, out);
            }
            CopyOutcome::TargetError(errno) => {
                self.mark_dirty(disk, range);
                self.target_failed(disk, errno, now_us, out);
            }
        }
        if let Some(lock) = lock {
            self.drop_lock(lock);
        }
    }

    fn account_copy(&mut self, disk: DiskIndex, chunks: Range<u64>, collided: u64, was_zero: bool, now_us: u64) {
        let first = chunks.start;
        for chunk in chunks {
            let state = &mut self.disks[disk as usize];
            let bytes = state.bytes_of(chunk..chunk + 1).len;
            if state.copied.set(chunk..chunk + 1) == 1 {
                self.counters.copied_bytes += bytes;
            } else {
                self.counters.recopied_bytes += bytes;
            }
            self.counters.zero_bytes += if was_zero { bytes } else { 0 };
            state.copied_since_settle += bytes;
            if collided >> (chunk - first) & 1 == 0 {
                state.forget_strikes(chunk);
                state.settled.set(chunk..chunk + 1);
            } else if self.stage.locks() {
                self.strike(disk, chunk, now_us);
            }
        }
        self.share_now_bytes = (self.share_now_bytes + SHARE_STEP_BYTES).min(self.share_bytes);
    }

    fn is_locked(&self, disk: DiskIndex, chunk: u64) -> bool {
        self.locks.iter().any(|lock| lock.disk == disk && lock.purpose == Some(LockFor::Copy { chunk }))
    }

    /// Asks for a lock if there is room for one; it starts when the writes before it are over.
    pub(super) fn ask_lock(&mut self, disk: DiskIndex, purpose: LockFor, now_us: u64, out: &mut Vec<Action>) {
        // Work begun under a lock that was broken may still occupy its slot.
        let is_free = |index: usize| {
            self.locks[index].purpose.is_none()
                && self.copies[self.limits.copies_max as usize + index].is_free()
                && self.verifies[self.limits.verifies_max as usize + index].is_free()
        };
        let Some(index) = (0..self.locks.len()).find(|index| is_free(*index)) else { return };
        let state = &mut self.disks[disk as usize];
        let range: ByteRange = match purpose {
            LockFor::Copy { chunk } => state.bytes_of(chunk..chunk + 1),
            LockFor::Verify { unit } => state.unit_bytes(unit),
        };
        let waits = state.writes.add(Owner::Lock(index as LockIndex), range, true);
        self.locks[index] = Lock { disk, purpose: Some(purpose), since_us: now_us, started: false };
        self.counters.locks += 1;
        if waits == Some(false) {
            self.start_locked(index as LockIndex, now_us, out);
        }
    }

    /// The writes before the lock are over.
    pub(super) fn start_locked(&mut self, index: LockIndex, now_us: u64, out: &mut Vec<Action>) {
        let Lock { disk, purpose, .. } = self.locks[index as usize];
        let Some(purpose) = purpose else { return };
        let state = &mut self.disks[disk as usize];
        let Some(place) = state.writes.find(Owner::Lock(index)) else { return };
        let chunks = super::writes::chunks_of(state.writes.at(place).range);
        let itself = usize::from(!state.writes.at(place).waiting);
        let in_use = state.writes.in_flight_in(chunks.clone()).count() > itself;
        let wanted = match purpose {
            LockFor::Copy { chunk } => state.dirty.get(chunk) && !state.copying.get(chunk),
            LockFor::Verify { .. } => self.stage == Stage::Verify && !state.dirty.any(chunks.clone()),
        };
        if in_use || !wanted || !self.stage.locks() {
            self.drop_lock(index);
            return;
        }
        self.disks[disk as usize].writes.start(place);
        let lock = &mut self.locks[index as usize];
        (lock.started, lock.since_us) = (true, now_us);
        match purpose {
            LockFor::Copy { .. } => {
                let slot = self.limits.copies_max as usize + index as usize;
                self.start_copy(disk, slot, chunks, Some(index), out, now_us);
            }
            LockFor::Verify { unit } => {
                let slot = self.limits.verifies_max as usize + index as usize;
                self.start_verify(disk, slot, unit, Some(index), out, now_us);
            }
        }
    }

    /// The lock is gone; writes behind it go on. What was done under it goes on too, like without one.
    pub(super) fn drop_lock(&mut self, index: LockIndex) {
        let Lock { disk, .. } = std::mem::take(&mut self.locks[index as usize]);
        if let Some(place) = self.disks[disk as usize].writes.find(Owner::Lock(index)) {
            self.complete_entry(disk, place);
            self.disks[disk as usize].writes.remove(place);
        }
        for copy in &mut self.copies {
            if copy.lock == Some(index) {
                copy.lock = None;
            }
        }
        for verify in &mut self.verifies {
            verify.forget_lock(index);
        }
    }

    pub(super) fn drop_all_locks(&mut self) {
        for index in 0..self.locks.len() {
            if self.locks[index].purpose.is_some() {
                self.drop_lock(index as LockIndex);
            }
        }
    }
}

enum Run {
    Free(Range<u64>),
    /// Being copied, or a lock is on its way.
    Busy,
    /// A guest write is in flight.
    InUse,
    /// Has its strikes: needs a lock.
    Contended,
}
