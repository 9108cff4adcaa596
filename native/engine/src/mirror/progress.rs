//! Figures of a move: what was done, what is left, how long the guest was held.

use super::limits::STRIKES_BEFORE_LOCK;
use super::machine::Move;
use super::stage::Stage;
use super::vocabulary::*;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub copied_bytes: u64,
    pub recopied_bytes: u64,
    pub zero_bytes: u64,
    pub mirrored_bytes: u64,
    pub compared_bytes: u64,
    pub repaired_units: u64,
    pub bound_bytes: Option<u64>,
    pub locks: u64,
    pub locks_broken: u64,
    pub fallbacks: u32,
    pub switch_attempts: u32,
    held_max_us: u64,
    flush_wait_max_us: u64,
}

impl Counters {
    pub(super) fn held(&mut self, us: u64) {
        self.held_max_us = self.held_max_us.max(us);
    }

    pub(super) fn flush_waited(&mut self, us: u64) {
        self.flush_wait_max_us = self.flush_wait_max_us.max(us);
    }
}

/// A snapshot. Bytes are guest bytes over all disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub phase: Phase,
    pub total_bytes: u64,
    /// Copied for the first time, zeros included.
    pub copied_bytes: u64,
    /// Copied again, because the guest had written there meanwhile.
    pub recopied_bytes: u64,
    /// Part of the two above that was all zeros.
    pub zero_bytes: u64,
    /// Written by the guest to both sides.
    pub mirrored_bytes: u64,
    /// In units that are verified now; falls when the guest makes one dirty.
    pub verified_bytes: u64,
    /// Read from both sides and compared, in all; the rest of what is verified are holes of both.
    pub compared_bytes: u64,
    /// All of the disks were looked through for data: what is to be copied is known but for what the guest writes.
    pub is_scanned: bool,
    /// Still to be copied, copies under way included.
    pub dirty_bytes: u64,
    /// Upper bound of what the copier had to move when mirroring last began; `None` in `Copy`.
    pub bound_bytes: Option<u64>,
    /// Units that differed when they were read back, and were copied again.
    pub repaired_units: u64,
    pub locks: u64,
    /// Locks given back before their copy or comparison was done, because the guest had waited long enough.
    pub locks_broken: u64,
    /// How often the target fell behind.
    pub fallbacks: u32,
    pub switch_attempts: u32,
    /// Longest time a request was held for the switch's sake, microseconds: its I/O was done, its answer had to wait
    /// for a record.
    /// `None` before COMMITTED was asked for.
    pub held_max_us: Option<u64>,
    /// Longest time a guest flush waited for the target after the source had done it (from PREPARED-begin both are
    /// flushed).
    pub flush_wait_max_us: Option<u64>,
}

impl Move {
    pub fn progress(&self) -> Progress {
        let Counters { copied_bytes, recopied_bytes, zero_bytes, mirrored_bytes, .. } = self.counters;
        let mut verified_bytes = 0;
        for disk in &self.disks {
            verified_bytes += (disk.units - disk.unverified.count()) * VERIFY_UNIT_BYTES;
            if disk.units > 0 && !disk.unverified.get(disk.units - 1) {
                verified_bytes -= VERIFY_UNIT_BYTES - disk.unit_bytes(disk.units - 1).len;
            }
        }
        let switched = matches!(self.stage, Stage::Committing | Stage::Reverting) || self.stage.target_alone();
        Progress {
            phase: self.stage.phase(),
            total_bytes: self.disks.iter().map(|disk| disk.size_bytes).sum(),
            copied_bytes,
            recopied_bytes,
            zero_bytes,
            mirrored_bytes,
            verified_bytes,
            compared_bytes: self.counters.compared_bytes,
            is_scanned: self.disks.iter().all(|disk| disk.allocation_known),
            dirty_bytes: self.different_bytes(),
            bound_bytes: self.counters.bound_bytes,
            repaired_units: self.counters.repaired_units,
            locks: self.counters.locks,
            locks_broken: self.counters.locks_broken,
            fallbacks: self.counters.fallbacks,
            switch_attempts: self.counters.switch_attempts,
            held_max_us: switched.then_some(self.counters.held_max_us),
            flush_wait_max_us: switched.then_some(self.counters.flush_wait_max_us),
        }
    }

    /// Where the guest's reads go, the same for all disks.
    pub fn read_side(&self) -> Side {
        match self.stage {
            stage if stage.target_alone() => Side::Target,
            _ => Side::Source,
        }
    }

    /// Upper bound of the bytes still to copy, published when mirroring begins; holds as long as the target answers
    /// without errors.
    pub fn bound_bytes(&self) -> Option<u64> {
        self.counters.bound_bytes
    }

    /// Verified units of a disk that the guest has written since they were compared (both sides got those writes).
    pub fn units_written_since(&self, disk: DiskIndex) -> u64 {
        self.disks.get(disk as usize).map_or(0, |disk| disk.written_since.count())
    }

    /// Chunks that are dirty or being copied, in bytes (whole chunks; the end of a disk counts as one).
    fn different_bytes(&self) -> u64 {
        let copying_only = |disk: &super::disk_state::DiskState| {
            let mut count = 0;
            let mut from = 0;
            while let Some(chunk) = disk.copying.next_set(from) {
                count += u64::from(!disk.dirty.get(chunk));
                from = chunk + 1;
            }
            count
        };
        self.disks.iter().map(|disk| (disk.dirty.count() + copying_only(disk)) * CHUNK_BYTES).sum()
    }

    /// Each chunk that differs now is copied at most so often: three copies may each meet a guest write, the fourth
    /// holds a lock. No other chunk becomes dirty, because writes that touch a clean one go to both sides.
    pub(super) fn convergence_bound_bytes(&self) -> u64 {
        self.different_bytes() * (STRIKES_BEFORE_LOCK + 1)
    }
}
