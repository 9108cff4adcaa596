//! What a move tells of itself while it runs, and after.

use std::time::{Duration, Instant};

use super::moving::{Moving, lock};
use super::status::MoveStatus;
use crate::disk::DiskError;
use crate::mirror::Phase;

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

impl Moving {
    pub fn status(&self) -> Result<MoveStatus, DiskError> {
        let driver = self.driver();
        let figures = self.engine.call(move |s| s.figures(driver))?;
        let mut state = lock(&self.state);
        state.last = figures.or(state.last);
        let figures = state.last;
        let mut status = MoveStatus {
            move_id: self.plan.move_id.clone(),
            phase: "release",
            percent: 100.0,
            bytes_total: "0".to_owned(),
            bytes_copied: "0".to_owned(),
            bytes_recopied: "0".to_owned(),
            bytes_mirrored: "0".to_owned(),
            bytes_verified: "0".to_owned(),
            bytes_per_second: 0,
            seconds_remaining: None,
            guest_p99_us: None,
            guest_max_us: None,
            blackout_us: None,
            bound_bytes: None,
            longest_turn: None,
            outcome: state.outcome.clone(),
            receipt: state.receipts.clone(),
            warnings: state.warnings.clone(),
        };
        if let Some(f) = figures {
            state.speed.sample(f.progress.copied_bytes + f.progress.recopied_bytes + f.progress.verified_bytes);
            let speed = state.speed.per_second;
            let p = f.progress;
            let to_copy = p.copied_bytes + p.dirty_bytes;
            let copied = if to_copy == 0 { 0.0 } else { p.copied_bytes as f64 / to_copy as f64 };
            let verified = if p.total_bytes == 0 { 0.0 } else { p.verified_bytes as f64 / p.total_bytes as f64 };
            let left = p.dirty_bytes + (p.total_bytes - p.verified_bytes.min(p.total_bytes));
            status.phase = phase_name(f.phase);
            let percent = match f.phase {
                Phase::Release => 100.0,
                Phase::Synchronized | Phase::Switch => 99.0,
                Phase::Copy | Phase::Mirror | Phase::Verify | Phase::Ending => {
                    (495.0 * (copied + verified)).floor() / 10.0
                }
            };
            // A guest that writes makes work; the bar stands still then instead of going back.
            state.percent = state.percent.max(percent);
            status.percent = state.percent;
            status.bytes_total = p.total_bytes.to_string();
            status.bytes_copied = f.progress.copied_bytes.to_string();
            status.bytes_recopied = f.progress.recopied_bytes.to_string();
            status.bytes_mirrored = f.progress.mirrored_bytes.to_string();
            status.bytes_verified = f.progress.verified_bytes.to_string();
            status.bytes_per_second = speed;
            status.seconds_remaining = (speed > 0).then(|| left.div_ceil(speed));
            status.guest_p99_us = f.guest_p99_us;
            status.guest_max_us = Some(f.guest_max_us);
            status.blackout_us = f.blackout_us;
            status.bound_bytes = f.bound_bytes.map(|b| b.to_string());
            status.longest_turn = Some(f.longest_turn.into());
        }
        Ok(status)
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Copy | Phase::Ending => "copy",
        Phase::Mirror => "mirror",
        Phase::Verify => "verify",
        Phase::Synchronized => "synchronized",
        Phase::Switch => "switch",
        Phase::Release => "release",
    }
}
