//! Everything that depends on the clock: how long a guest waits for the target, a lock is held, a target may be silent.

use super::copier::{Lock, LockFor};
use super::limits::{LOCK_WAIT_FACTOR, LOST_TIME_US, SHARE_STEP_BYTES};
use super::machine::Move;
use super::stage::{Half, Halves, Stage, SwitchStep};
use super::vocabulary::*;
use super::writes::{LockIndex, Owner};

impl Move {
    pub(super) fn check_deadlines(&mut self, now_us: u64, out: &mut Vec<Action>) {
        self.leave_out_lost_time(now_us);
        self.give_up_late_halves(now_us, out);
        self.break_old_locks(now_us, out);
        self.check_silence(now_us, out);
        self.forgive_fallbacks(now_us);
        self.distrust_some();
        self.give_up_late_looks(now_us);
        if let Stage::Switch(SwitchStep::Ready) = self.stage
            && now_us.saturating_sub(self.ready_since_us) > self.limits.prepared_patience_us
        {
            self.abort_switch(now_us, out);
        }
    }

    /// While nobody ticks, nobody listens either: a worker that was stopped (SIGSTOP, a debugger, a suspended machine) does not take that
    /// time for the target's silence.
    fn leave_out_lost_time(&mut self, now_us: u64) {
        let gap_us = now_us.saturating_sub(self.ticked_us.unwrap_or(now_us));
        self.ticked_us = Some(now_us);
        if gap_us > LOST_TIME_US {
            for disk in &mut self.disks {
                disk.target_heard_us = (disk.target_heard_us + gap_us).min(now_us);
            }
        }
    }

    /// A target half older than the limit no longer holds the guest: the source answers, the chunk is dirty.
    fn give_up_late_halves(&mut self, now_us: u64, out: &mut Vec<Action>) {
        let limit = self.limits.target_patience_us;
        let is_late = |halves: &Halves, since_us: u64| {
            halves.target == Half::Open && !halves.abandoned && now_us.saturating_sub(since_us) > limit
        };
        if self.stage.needs_both() {
            let late = self.disks.iter().any(|disk| {
                disk.writes.iter().any(|entry| !entry.waiting && is_late(&entry.halves, entry.submitted_us))
                    || disk.flushes.iter().any(|flush| is_late(&flush.halves, flush.submitted_us))
            });
            // What only the target got waits for COMMITTED, but not longer than for anything else.
            let held_long = |due_us: Option<u64>| due_us.is_some_and(|due_us| now_us.saturating_sub(due_us) > limit);
            let held = self.disks.iter().any(|disk| {
                disk.writes.iter().any(|entry| !entry.acknowledged && held_long(entry.due_us))
                    || disk.flushes.iter().any(|flush| !flush.acknowledged && held_long(flush.due_us))
            });
            if !late && !held {
                return;
            }
            self.revert(None, late, now_us, out);
        }
        if !self.stage.source_decides() {
            return;
        }
        let mut fell_behind = false;
        for disk in 0..self.disks.len() as DiskIndex {
            for place in 0..self.disks[disk as usize].writes.len() {
                let entry = self.disks[disk as usize].writes.at_mut(place);
                let Owner::Guest(id) = entry.owner else { continue };
                if !entry.waiting && is_late(&entry.halves, entry.submitted_us) {
                    entry.halves.abandoned = true;
                    let range = entry.range;
                    self.disks[disk as usize].abandoned += 1;
                    self.mark_dirty(disk, range);
                    out.push(Action::TargetFellBehind { disk, id });
                    fell_behind = true;
                }
            }
            let state = &mut self.disks[disk as usize];
            for flush in &mut state.flushes {
                if is_late(&flush.halves, flush.submitted_us) {
                    flush.halves.abandoned = true;
                    state.abandoned += 1;
                    fell_behind = true;
                }
            }
        }
        if fell_behind {
            if self.stage == Stage::Reverting {
                self.fell_behind_while_reverting = true;
            } else {
                self.fall_back(now_us, out);
            }
            self.settle_all(now_us, out);
        }
    }

    /// Back to writing the source only, until the target has answered for everything.
    pub(super) fn fall_back(&mut self, now_us: u64, out: &mut Vec<Action>) {
        self.share_now_bytes = (self.share_now_bytes / 2).max(SHARE_STEP_BYTES);
        let pause_us = self.limits.fallback_pause_us << self.fallbacks.min(5);
        self.mirror_after_us = now_us + pause_us;
        self.drop_all_locks();
        if self.stage == Stage::Copy {
            return;
        }
        self.fallbacks += 1;
        self.counters.fallbacks += 1;
        self.fallbacks_forgiven_us = now_us;
        if matches!(self.stage, Stage::Switch(_)) {
            self.postpone_switch(now_us);
        }
        self.counters.bound_bytes = None;
        self.enter(Stage::Copy, out);
        if self.fallbacks > self.limits.fallbacks_max {
            self.fail(EndReason::TargetTooSlow { fallbacks: self.counters.fallbacks }, now_us, out);
        }
    }

    fn forgive_fallbacks(&mut self, now_us: u64) {
        if self.fallbacks > 0 && now_us.saturating_sub(self.fallbacks_forgiven_us) >= self.limits.forgive_after_us {
            self.fallbacks -= 1;
            self.fallbacks_forgiven_us = now_us;
        }
    }

    fn break_old_locks(&mut self, now_us: u64, out: &mut Vec<Action>) {
        let mut fell_behind = false;
        for index in 0..self.locks.len() {
            let Lock { disk, purpose, since_us, started } = self.locks[index];
            let Some(purpose) = purpose else { continue };
            // A lock that waits costs the writes behind it little more than the writes before it do.
            let patience_us = self.limits.lock_patience_us * if started { 1 } else { LOCK_WAIT_FACTOR };
            if now_us.saturating_sub(since_us) <= patience_us {
                continue;
            }
            self.drop_lock(index as LockIndex);
            self.counters.locks_broken += 1;
            match purpose {
                // A copy of 64 KiB that takes so long is a target that fell behind.
                LockFor::Copy { .. } => fell_behind |= started,
                LockFor::Verify { unit } => self.verify_lock_broken(disk, unit, now_us, out),
            }
        }
        if fell_behind && self.stage.tracks() {
            self.fall_back(now_us, out);
            self.settle_all(now_us, out);
        }
    }

    /// A target with something in flight that answers nothing at all.
    fn check_silence(&mut self, now_us: u64, out: &mut Vec<Action>) {
        if !self.stage.source_decides() && !self.stage.needs_both() {
            return;
        }
        let limit = self.limits.silence_limit_us;
        let silent = |since_us: u64| now_us.saturating_sub(since_us) >= limit;
        for disk in 0..self.disks.len() {
            let state = &self.disks[disk];
            // With a source that hangs as long, copies and comparisons wait for that: not the target's fault.
            let source_hangs = state
                .writes
                .iter()
                .any(|entry| !entry.waiting && entry.halves.source == Half::Open && silent(entry.submitted_us));
            if state.target_open > 0 && silent(state.target_heard_us) && !source_hangs {
                let silent_us = now_us - state.target_heard_us;
                self.fail(EndReason::TargetSilent { disk: disk as DiskIndex, silent_us }, now_us, out);
                return;
            }
        }
    }
}
