//! Reading back: every unit of the target is compared with the source before the switch, while mirroring goes on. Units that are a hole on
//! both sides are not read (see `holes.rs`).
//!
//! A comparison that a guest write met proves nothing and is done again; the third time the unit is locked. A unit
//! that differed is copied and compared once more; if it differs again the move fails. A unit that becomes dirty after
//! it was compared is compared again.

use std::ops::Range;

use super::copier::LockFor;
use super::limits::{COMPARED_RECENTLY_US, COMPARES_BEFORE_LOCK, EXAMINED_MAX, STARTED_AT_ONCE};
use super::machine::Move;
use super::vocabulary::*;
use super::writes::{LockIndex, chunks_of};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct VerifySlot {
    disk: DiskIndex,
    unit: Option<u64>,
    /// A guest write met it.
    disturbed: bool,
    lock: Option<LockIndex>,
}

impl VerifySlot {
    pub(super) fn is_free(&self) -> bool {
        self.unit.is_none()
    }

    pub(super) fn disturb(&mut self, disk: DiskIndex, units: &Range<u64>) {
        self.disturbed |= self.disk == disk && self.unit.is_some_and(|unit| units.contains(&unit));
    }

    pub(super) fn forget_lock(&mut self, lock: LockIndex) {
        if self.lock == Some(lock) {
            self.lock = None;
        }
    }
}

impl Move {
    pub(super) fn fill_verifies(&mut self, now_us: u64, out: &mut Vec<Action>) {
        let mut started = 0;
        for disk in 0..self.disks.len() as DiskIndex {
            while started < STARTED_AT_ONCE {
                if self.bytes_in_flight > 0 && self.bytes_in_flight + VERIFY_UNIT_BYTES > self.share_now_bytes {
                    return;
                }
                let ordinary = self.limits.verifies_max as usize;
                let Some(slot) = self.verifies[..ordinary].iter().position(VerifySlot::is_free) else { return };
                let Some(unit) = self.pick_unit(disk, now_us, out) else { break };
                self.start_verify(disk, slot, unit, None, out, now_us);
                started += 1;
            }
        }
    }

    /// The next unit to compare, going once around the part of the disk whose holes are known.
    fn pick_unit(&mut self, disk: DiskIndex, now_us: u64, out: &mut Vec<Action>) -> Option<u64> {
        let state = &self.disks[disk as usize];
        if state.unverified.is_empty() || state.abandoned > 0 {
            return None;
        }
        let begin = state.verify_cursor;
        let mut from = begin;
        let mut wrapped = false;
        for _ in 0..EXAMINED_MAX {
            let state = &self.disks[disk as usize];
            let until = if wrapped { begin } else { state.holes.units_known() };
            let Some(unit) = state.unverified.next_set(from).filter(|unit| *unit < until) else {
                if wrapped || begin == 0 {
                    self.disks[disk as usize].verify_cursor = 0;
                    return None;
                }
                wrapped = true;
                from = 0;
                continue;
            };
            from = unit + 1;
            let chunks = chunks_of(state.unit_bytes(unit));
            if self.is_comparing(disk, unit) || state.dirty.any(chunks.clone()) || state.copying.any(chunks.clone()) {
                continue;
            }
            if state.attempts[unit as usize] >= COMPARES_BEFORE_LOCK {
                self.ask_lock(disk, LockFor::Verify { unit }, now_us, out);
            } else if state.writes.in_flight_in(chunks).next().is_some() {
                // Certain to be disturbed: an attempt that costs no reading.
                self.disks[disk as usize].attempts[unit as usize] += 1;
            } else {
                self.disks[disk as usize].verify_cursor = unit + 1;
                return Some(unit);
            }
        }
        self.disks[disk as usize].verify_cursor = from;
        None
    }

    fn is_comparing(&self, disk: DiskIndex, unit: u64) -> bool {
        self.verifies.iter().any(|slot| slot.disk == disk && slot.unit == Some(unit))
            || self.locks.iter().any(|lock| lock.disk == disk && lock.purpose == Some(LockFor::Verify { unit }))
    }

    pub(super) fn start_verify(
        &mut self,
        disk: DiskIndex,
        slot: usize,
        unit: u64,
        lock: Option<LockIndex>,
        out: &mut Vec<Action>,
        now_us: u64,
    ) {
        let state = &mut self.disks[disk as usize];
        let range = state.unit_bytes(unit);
        for side in Side::BOTH {
            self.opened(disk, side, now_us);
        }
        self.bytes_in_flight += range.len;
        self.verifies[slot] = VerifySlot { disk, unit: Some(unit), disturbed: false, lock };
        out.push(Action::Verify { disk, slot: slot as SlotId, range, expect: Expect::ReadSource });
    }

    pub(super) fn verify_done(
        &mut self,
        disk: DiskIndex,
        slot: SlotId,
        outcome: VerifyOutcome,
        now_us: u64,
        out: &mut Vec<Action>,
    ) {
        let slot = self.verifies.get_mut(slot as usize).filter(|slot| slot.disk == disk && slot.unit.is_some());
        let Some(VerifySlot { unit: Some(unit), disturbed, lock, .. }) = slot.map(std::mem::take) else {
            debug_assert!(false, "no comparison in this slot of disk {disk}");
            return;
        };
        let state = &mut self.disks[disk as usize];
        let range = state.unit_bytes(unit);
        self.bytes_in_flight -= range.len;
        for side in Side::BOTH {
            self.answered(disk, side, now_us);
        }
        let state = &mut self.disks[disk as usize];
        match outcome {
            VerifyOutcome::Equal | VerifyOutcome::Different if disturbed => {
                let attempts = &mut state.attempts[unit as usize];
                *attempts = attempts.saturating_add(1);
            }
            VerifyOutcome::Equal => {
                state.unverified.clear(unit..unit + 1);
                state.written_since.clear(unit..unit + 1);
                state.attempts[unit as usize] = 0;
                state.last_compared = Some((unit, now_us));
                self.counters.compared_bytes += range.len;
            }
            VerifyOutcome::Different if state.repaired.get(unit) => {
                self.fail(EndReason::VerificationFailed { disk, offset: range.start }, now_us, out);
            }
            VerifyOutcome::Different => {
                state.repaired.set(unit..unit + 1);
                state.attempts[unit as usize] = 0;
                self.counters.repaired_units += 1;
                self.mark_dirty(disk, range);
            }
            VerifyOutcome::SourceError(errno) => self.fail(EndReason::SourceFailed { disk, errno }, now_us, out),
            VerifyOutcome::TargetError(errno) => self.target_failed(disk, errno, now_us, out),
        }
        if let Some(lock) = lock {
            self.drop_lock(lock);
        }
    }

    /// A lock for a comparison was older than a guest may be held.
    pub(super) fn verify_lock_broken(&mut self, disk: DiskIndex, unit: u64, now_us: u64, out: &mut Vec<Action>) {
        let limit = COMPARES_BEFORE_LOCK.saturating_add(self.limits.verify_lock_tries_max);
        let state = &mut self.disks[disk as usize];
        let attempts = &mut state.attempts[unit as usize];
        *attempts = attempts.saturating_add(1);
        if *attempts >= limit {
            let offset = state.unit_bytes(unit).start;
            self.fail(EndReason::VerificationTooSlow { disk, offset }, now_us, out);
        }
    }

    /// One unit of each disk that was not read for a while is to be compared again: true when there is one. A disk may have waited hours
    /// for the others of its move, and a target that has become unreadable meanwhile must not become the virtual machine's.
    ///
    /// Which disks those are is decided once: with many disks, or slow ones, the first would be due again before the last was read, and
    /// the switch would never begin.
    pub(super) fn compare_stale_disks_again(&mut self, now_us: u64) -> bool {
        let since_us = *self.last_reading_since_us.get_or_insert(now_us);
        let mut some = false;
        for state in &mut self.disks {
            if let Some((unit, at_us)) = state.last_compared
                && since_us.saturating_sub(at_us) > COMPARED_RECENTLY_US
            {
                state.unverified.set(unit..unit + 1);
                some = true;
            }
        }
        if !some {
            self.last_reading_since_us = None;
        }
        some
    }

    pub(super) fn is_all_verified(&self) -> bool {
        self.disks.iter().all(|disk| disk.unverified.is_empty()) && self.verifies.iter().all(VerifySlot::is_free)
    }
}
