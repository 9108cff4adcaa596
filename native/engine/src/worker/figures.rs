//! What a move tells of itself while it runs, and after.

use std::time::{Duration, Instant};

use super::moving::{Moving, State, lock};
use super::status::MoveStatus;
use crate::disk::DiskError;
use crate::mirror::{JournalPhase, Phase, Progress, Side};

/// Bytes per second over the last second or so.
pub(super) struct Speed {
    at: Instant,
    bytes: u64,
    per_second: u64,
}

impl Speed {
    pub(super) fn new() -> Self {
        Self { at: Instant::now(), bytes: 0, per_second: 0 }
    }

    fn sample(&mut self, bytes: u64) {
        let elapsed = self.at.elapsed();
        if elapsed >= Duration::from_millis(500) {
            self.per_second = (bytes.saturating_sub(self.bytes) as f64 / elapsed.as_secs_f64()) as u64;
            self.bytes = bytes;
            self.at = Instant::now();
        }
    }
}

impl State {
    /// A move that came to nothing is told by the phase that it did not get out of.
    pub(super) fn reached(&mut self, phase: Phase) {
        if phase != Phase::Ending {
            self.reached = phase;
        }
    }
}

impl Moving {
    pub fn status(&self) -> Result<MoveStatus, DiskError> {
        let driver = self.driver();
        let figures = self.engine.call(move |s| s.figures(driver))?;
        let mut state = lock(&self.state);
        state.last = figures.or(state.last);
        let figures = state.last;
        let (phase, percent) = without_figures(state.journal_phase, state.reached, state.percent);
        let mut status = MoveStatus {
            move_id: self.plan.move_id.clone(),
            phase,
            percent,
            bytes_total: "0".to_owned(),
            bytes_copied: "0".to_owned(),
            bytes_recopied: "0".to_owned(),
            bytes_mirrored: "0".to_owned(),
            bytes_verified: "0".to_owned(),
            bytes_data: None,
            bytes_compared: "0".to_owned(),
            bytes_per_second: 0,
            seconds_remaining: None,
            guest_p99_us: None,
            guest_max_us: None,
            guest_rest_max_us: None,
            blackout_us: None,
            bound_bytes: None,
            longest_turn: None,
            outcome: state.outcome.clone(),
            receipt: state.receipts.clone(),
            warnings: state.warnings.clone(),
        };
        if let Some(f) = figures {
            state.speed.sample(f.progress.copied_bytes + f.progress.recopied_bytes + f.progress.compared_bytes);
            let speed = state.speed.per_second;
            let p = f.progress;
            let left = p.dirty_bytes + (data_bytes(&p) - p.compared_bytes.min(data_bytes(&p)));
            state.reached(f.phase);
            status.phase = phase_name(state.reached);
            let percent = match f.phase {
                Phase::Release => 100.0,
                Phase::Synchronized | Phase::Switch => 99.0,
                Phase::Copy | Phase::Mirror | Phase::Verify | Phase::Ending => percent_of_data(&p),
            };
            // A guest that writes makes work; the bar stands still then instead of going back.
            state.percent = state.percent.max(percent);
            status.percent = state.percent;
            status.bytes_total = p.total_bytes.to_string();
            status.bytes_copied = f.progress.copied_bytes.to_string();
            status.bytes_recopied = f.progress.recopied_bytes.to_string();
            status.bytes_mirrored = f.progress.mirrored_bytes.to_string();
            status.bytes_verified = f.progress.verified_bytes.to_string();
            status.bytes_data = p.is_scanned.then(|| data_bytes(&p).to_string());
            status.bytes_compared = p.compared_bytes.to_string();
            status.bytes_per_second = speed;
            status.seconds_remaining = (speed > 0 && p.is_scanned).then(|| left.div_ceil(speed));
            status.guest_p99_us = f.guest_p99_us;
            status.guest_max_us = Some(f.guest_max_us);
            status.guest_rest_max_us = f.guest_rest_max_us;
            status.blackout_us = f.blackout_us;
            status.bound_bytes = f.bound_bytes.map(|b| b.to_string());
            status.longest_turn = Some(f.longest_turn.into());
        }
        Ok(status)
    }
}

/// Of a move that was taken up and has no machine yet, or never had one: the journal says which side holds the disks.
fn without_figures(record: JournalPhase, reached: Phase, percent: f64) -> (&'static str, f64) {
    match record.authority() {
        Side::Target => (phase_name(Phase::Release), 100.0),
        Side::Source => (phase_name(reached), percent),
    }
}

/// What is copied once, and then compared: the data of the disks, not their length. It grows where the guest writes to a hole.
fn data_bytes(p: &Progress) -> u64 {
    p.copied_bytes + p.dirty_bytes
}

/// Half for the copy, half for the comparison, up to 99. Of a disk that is being looked through nothing can be said: the part that is known
/// is soon copied.
fn percent_of_data(p: &Progress) -> f64 {
    let data = data_bytes(p);
    if !p.is_scanned || data == 0 {
        return 0.0;
    }
    let part = |bytes: u64| (bytes as f64 / data as f64).min(1.0);
    (495.0 * (part(p.copied_bytes) + part(p.compared_bytes))).floor() / 10.0
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Ending | Phase::Copy => "copy",
        Phase::Mirror => "mirror",
        Phase::Verify => "verify",
        Phase::Synchronized => "synchronized",
        Phase::Switch => "switch",
        Phase::Release => "release",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn progress(is_scanned: bool, copied: u64, dirty: u64, compared: u64) -> Progress {
        Progress {
            phase: Phase::Copy,
            total_bytes: 1 << 40,
            copied_bytes: copied * MIB,
            recopied_bytes: 0,
            zero_bytes: 0,
            mirrored_bytes: 0,
            verified_bytes: 0,
            compared_bytes: compared * MIB,
            is_scanned,
            dirty_bytes: dirty * MIB,
            bound_bytes: None,
            repaired_units: 0,
            locks: 0,
            locks_broken: 0,
            fallbacks: 0,
            switch_attempts: 0,
            held_max_us: None,
            flush_wait_max_us: None,
        }
    }

    #[test]
    fn a_move_that_is_taken_up_is_told_as_released_only_when_its_journal_says_that_it_has_switched() {
        for record in [JournalPhase::Started, JournalPhase::Copy, JournalPhase::Prepared, JournalPhase::Cancelled] {
            assert_eq!(without_figures(record, Phase::Copy, 0.0), ("copy", 0.0), "{record:?}");
        }
        for record in [JournalPhase::Committed, JournalPhase::Released, JournalPhase::Deleted] {
            assert_eq!(without_figures(record, Phase::Copy, 0.0), ("release", 100.0), "{record:?}");
        }
    }

    #[test]
    fn percent_is_of_the_data_of_a_sparse_disk_not_of_its_terabyte() {
        assert_eq!(percent_of_data(&progress(true, 50, 50, 0)), 24.7);
        assert_eq!(percent_of_data(&progress(true, 100, 0, 0)), 49.5);
        assert_eq!(percent_of_data(&progress(true, 100, 0, 50)), 74.2);
        assert_eq!(percent_of_data(&progress(true, 100, 0, 300)), 99.0, "what was compared again counts once");
    }

    #[test]
    fn percent_is_nothing_until_the_disk_was_looked_through() {
        assert_eq!(percent_of_data(&progress(false, 8, 0, 0)), 0.0);
        assert_eq!(percent_of_data(&progress(true, 0, 0, 0)), 0.0);
    }
}
