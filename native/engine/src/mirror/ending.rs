//! Stop and failure: the source keeps the VM, the target gets nothing more.

use super::limits::SHARE_STEP_BYTES;
use super::machine::Move;
use super::stage::Stage;
use super::vocabulary::*;
use crate::disk::Errno;

/// Chunks: 256 GiB of a disk.
const DISTRUSTED_AT_ONCE: u64 = 4 << 20;

/// Target errors that may pass: anything else will be the same next time.
fn is_transient(errno: Errno) -> bool {
    matches!(errno, libc::EAGAIN | libc::EINTR | libc::ENOMEM | libc::ENOBUFS | libc::EBUSY | libc::ETIMEDOUT)
}

impl Move {
    /// Only an explicit stop cancels, and only before COMMITTED.
    pub(super) fn stop(&mut self, now_us: u64, out: &mut Vec<Action>) {
        match self.stage {
            stage if stage.tracks() => self.begin_ending(EndReason::Stopped, now_us, out),
            // COMMITTED may be durable already: the answer to the record decides.
            Stage::Committing | Stage::Reverting => self.stop_asked = true,
            stage if stage.target_alone() => out.push(Action::StopTooLate),
            // It is ending already.
            _ => {}
        }
    }

    /// The move cannot go on. Never touches the guest.
    pub(super) fn fail(&mut self, reason: EndReason, now_us: u64, out: &mut Vec<Action>) {
        if self.stage.tracks() {
            self.begin_ending(reason, now_us, out);
        } else if matches!(self.stage, Stage::Committing | Stage::Reverting) {
            self.revert(Some(reason), false, now_us, out);
        }
    }

    /// The target refused something; what it was about is dirty.
    pub(super) fn target_failed(&mut self, disk: DiskIndex, errno: Errno, now_us: u64, out: &mut Vec<Action>) {
        if !self.stage.source_decides() && !self.stage.needs_both() {
            return;
        }
        self.target_retries += 1;
        if !is_transient(errno) || self.target_retries > self.limits.target_retries_max {
            self.fail(EndReason::TargetFailed { disk, errno }, now_us, out);
        } else {
            self.share_now_bytes = (self.share_now_bytes / 2).max(SHARE_STEP_BYTES);
            self.copy_after_us =
                now_us + (self.limits.target_retry_pause_us << self.target_retries.min(8).saturating_sub(1));
            if self.stage == Stage::Committing {
                self.revert(None, false, now_us, out);
            }
        }
    }

    /// After a failed flush nothing the target has acknowledged is certain.
    pub(super) fn target_flush_failed(&mut self, disk: DiskIndex, errno: Errno, now_us: u64, out: &mut Vec<Action>) {
        self.fail(EndReason::TargetFlushFailed { disk, errno }, now_us, out);
    }

    pub(super) fn begin_ending(&mut self, reason: EndReason, now_us: u64, out: &mut Vec<Action>) {
        self.end_reason = reason;
        self.stop_asked = false;
        out.push(Action::Ending { reason });
        self.enter(Stage::Ending, out);
        self.drop_all_locks();
        self.recorder.forget_queue();
        self.recorder.want(JournalPhase::Cancelled, self.attempt);
        self.settle_all(now_us, out);
    }

    /// Marks the next chunks of a journal that is not to be trusted. A step is some 100 us; 64 TiB take 256 ticks, in which the guest's
    /// writes are marked as they always were.
    pub(super) fn distrust_some(&mut self) {
        for disk in &mut self.disks {
            let Some(from) = disk.distrusted_from else { continue };
            let until = (from + DISTRUSTED_AT_ONCE).min(disk.chunks);
            disk.saved_dirty.set(from..until);
            disk.distrusted_from = (until < disk.chunks).then_some(until);
        }
    }

    /// Reports the end once the losing side has answered everything.
    pub(super) fn finish_if_quiet(&mut self, out: &mut Vec<Action>) {
        if !self.recorder.is_idle() || self.disks.iter().any(|disk| disk.distrusted_from.is_some()) {
            return;
        }
        let quiet = |side: Side| {
            self.disks.iter().all(|disk| match side {
                Side::Source => disk.source_open == 0,
                Side::Target => disk.target_open == 0,
            })
        };
        let outcome = match self.stage {
            Stage::Release if quiet(Side::Source) => Outcome::Committed,
            Stage::Ending if quiet(Side::Target) => Outcome::Ended(self.end_reason),
            _ => return,
        };
        let side = if outcome == Outcome::Committed { Side::Target } else { Side::Source };
        self.enter(Stage::Done(side), out);
        out.push(Action::Finished { outcome });
    }
}
