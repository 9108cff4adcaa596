//! The switch of all disks together, without draining:
//!
//! ```text
//!   equal, verified ─▶ flush both ─▶ PREPARED durable ─▶ [equal, still] COMMITTED asked for; both are written, the source is read
//!                                                              │
//!                            ┌─────────────────────────────────┴───────────┐
//!                            ▼ COMMITTED durable                           ▼ the target fails or falls behind
//!                     reads of all disks flip, in one call:     COMMITTED is revoked in the same call: writes are the source's again;
//!                     the target alone is written               flushes wait until a record has taken COMMITTED's place
//! ```
//! No answer to a guest depends on a read of the target before COMMITTED is durable.
//!
//! Why the flushes suffice: they begin when everything is equal, and from that moment guest flushes go to both sides.
//! The copier stands still meanwhile, and if anything becomes dirty before COMMITTED is asked for the attempt is given up: so no
//! copy can reach the target behind the flush. After a power cut the side the journal names therefore holds every
//! flushed write; after kill -9 it holds every acknowledged one, because until COMMITTED is durable a write is
//! acknowledged only when both sides have it, or when COMMITTED was revoked (docs/design/0007-records.md).

use super::machine::Move;
use super::stage::{Half, Halves, Stage, SwitchStep};
use super::vocabulary::*;
use crate::disk::Errno;

/// A flush of the machine's own: one side to go for settling, two for the switch.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnFlush {
    number: u32,
    disk: DiskIndex,
    /// The attempt to switch, or `None`: persisted bits are to be cleared behind it.
    attempt: Option<u32>,
    /// The source's is absent without an attempt. Over when neither is open.
    halves: Halves,
}

impl Move {
    pub(super) fn is_synchronized(&self) -> bool {
        self.disks.iter().all(|disk| disk.is_equal()) && self.is_all_verified()
    }

    pub(super) fn begin_switch(&mut self, now_us: u64, out: &mut Vec<Action>) {
        self.drop_all_locks();
        self.attempt += 1;
        self.counters.switch_attempts += 1;
        out.push(Action::PhaseChanged { phase: Phase::Synchronized, bound_bytes: None });
        self.enter(Stage::Switch(SwitchStep::Flush), out);
        for disk in 0..self.disks.len() as DiskIndex {
            self.own_flush(disk, Some(self.attempt), now_us, out);
        }
        self.record_prepared_when_flushed(out);
    }

    fn own_flush(&mut self, disk: DiskIndex, attempt: Option<u32>, now_us: u64, out: &mut Vec<Action>) {
        let number = self.next_own_flush;
        self.next_own_flush = number.wrapping_add(1);
        let flush = Flush::Own(number);
        let source = if attempt.is_some() { Half::Open } else { Half::Absent };
        let halves = Halves { source, target: Half::Open, abandoned: false };
        self.own_flushes.push(OwnFlush { number, disk, attempt, halves });
        self.submit_flush(disk, flush, halves, now_us, out);
    }

    fn record_prepared_when_flushed(&mut self, out: &mut Vec<Action>) {
        if self.stage == Stage::Switch(SwitchStep::Flush)
            && !self.own_flushes.iter().any(|flush| flush.attempt == Some(self.attempt))
        {
            self.enter(Stage::Switch(SwitchStep::Record), out);
            self.recorder.want(JournalPhase::Prepared, self.attempt);
        }
    }

    pub(super) fn own_flush_done(
        &mut self,
        disk: DiskIndex,
        side: Side,
        number: u32,
        result: Result<(), Errno>,
        now_us: u64,
        out: &mut Vec<Action>,
    ) {
        let is_asked = |flush: &OwnFlush| flush.number == number && flush.halves.at(side) == Half::Open;
        let place = self.own_flushes.iter().position(is_asked);
        let Some(place) = place.filter(|place| self.own_flushes[*place].disk == disk) else {
            debug_assert!(false, "no flush of our own {number} of disk {disk} at the {side:?}");
            return;
        };
        let flush = &mut self.own_flushes[place];
        flush.halves.set(side, Half::Done(result));
        // One that settles went to the target alone: this is its only answer.
        let settles = flush.attempt.is_none();
        if !flush.halves.any_open() {
            self.own_flushes.swap_remove(place);
        }
        self.answered(disk, side, now_us);
        if settles {
            let state = &mut self.disks[disk as usize];
            state.settling = result.is_ok();
            state.settle_flush = state.settling;
        }
        match (side, result) {
            (_, Ok(())) => self.record_prepared_when_flushed(out),
            (Side::Source, Err(errno)) => self.fail(EndReason::SourceFlushFailed { disk, errno }, now_us, out),
            (Side::Target, Err(errno)) => self.target_flush_failed(disk, errno, now_us, out),
        }
    }

    /// A target flush now and then, so that what a killed move has to copy again stays small.
    pub(super) fn settle_where_due(&mut self, now_us: u64, out: &mut Vec<Action>) {
        for disk in 0..self.disks.len() as DiskIndex {
            let state = &mut self.disks[disk as usize];
            if state.settling && state.settle_some() {
                state.settling = false;
                state.settle_flush = false;
            }
            let due = now_us >= state.settled_at_us + self.limits.settle_every_us
                || state.copied_since_settle >= self.limits.settle_every_bytes;
            if due && !state.settle_flush && !state.settled.is_empty() {
                state.settle_flush = true;
                state.settled_at_us = now_us;
                state.copied_since_settle = 0;
                state.begin_settling();
                self.own_flush(disk, None, now_us, out);
            }
        }
    }

    /// The attempt came to nothing: back to comparing (and copying), a little later again.
    pub(super) fn abort_switch(&mut self, now_us: u64, out: &mut Vec<Action>) {
        self.postpone_switch(now_us);
        self.enter(Stage::Verify, out);
        self.settle_all(now_us, out);
    }

    pub(super) fn postpone_switch(&mut self, now_us: u64) {
        self.switch_after_us = now_us + (self.limits.switch_pause_us << self.switch_failures.min(6));
        self.switch_failures += 1;
    }

    /// PREPARED is durable and both sides are equal (the caller looked in this very call): asks for COMMITTED, for all
    /// disks together.
    pub(super) fn try_commit(&mut self, now_us: u64, out: &mut Vec<Action>) {
        let waited_us = now_us - self.ready_since_us.min(now_us);
        // A moment without overlapping writes is preferred. It is not needed: those that wait have been submitted to
        // neither side, and a guest that overlaps all the time must not keep the move from ending.
        if waited_us < self.limits.overlap_patience_us && self.disks.iter().any(|disk| disk.writes.waiting() > 0) {
            return;
        }
        self.enter(Stage::Committing, out);
        self.committed_may_be_seen = false;
        self.end_after_revert = None;
        self.fell_behind_while_reverting = false;
        self.recorder.want(JournalPhase::Committed, self.attempt);
        self.settle_all(now_us, out);
    }

    /// The target is the VM's disk, on all disks in this call. A read the source has not answered yet is as good as any: the guest has
    /// not been told of a write that only the target got.
    pub(super) fn committed(&mut self, now_us: u64, out: &mut Vec<Action>) {
        for disk in 0..self.disks.len() as DiskIndex {
            out.push(Action::SetReadSide { disk, side: Side::Target });
        }
        self.enter(Stage::Release, out);
        if self.stop_asked {
            self.stop_asked = false;
            out.push(Action::StopTooLate);
        }
        self.settle_all(now_us, out);
    }

    /// The target failed before COMMITTED was durable: the source decides at once, for all disks, whatever the journal's disk does.
    pub(super) fn revert(&mut self, end: Option<EndReason>, fell_behind: bool, now_us: u64, out: &mut Vec<Action>) {
        self.end_after_revert = self.end_after_revert.or(end);
        self.fell_behind_while_reverting |= fell_behind;
        if self.stage != Stage::Committing {
            return;
        }
        // Before anything is answered: a successor must not believe a COMMITTED that lands after this.
        self.revocation.set();
        self.enter(Stage::Reverting, out);
        if !self.recorder.is_writing() {
            // COMMITTED was to be asked for again.
            self.recorder.forget_queue();
            self.record_un_commit();
        }
        self.settle_all(now_us, out);
    }

    fn record_un_commit(&mut self) {
        let ends = self.end_after_revert.is_some() || self.stop_asked;
        self.recorder.want(if ends { JournalPhase::Cancelled } else { JournalPhase::Mirror }, self.attempt);
    }

    /// The fate of COMMITTED is known as far as it ever will be.
    pub(super) fn un_commit(&mut self, now_us: u64, out: &mut Vec<Action>) {
        if self.committed_may_be_seen {
            self.record_un_commit();
        } else {
            self.leave_revert(now_us, out);
        }
    }

    /// The journal names the source again: flushes that were held are answered by it.
    pub(super) fn leave_revert(&mut self, now_us: u64, out: &mut Vec<Action>) {
        self.revocation.clear();
        let stopped = self.stop_asked.then_some(EndReason::Stopped);
        self.postpone_switch(now_us);
        if let Some(reason) = self.end_after_revert.or(stopped) {
            self.begin_ending(reason, now_us, out);
        } else if self.fell_behind_while_reverting {
            self.fall_back(now_us, out);
            self.settle_all(now_us, out);
        } else {
            self.begin_mirror(out);
            self.settle_all(now_us, out);
        }
    }
}
