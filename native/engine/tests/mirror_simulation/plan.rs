//! What a seed stands for: sizes, load, what goes wrong and when.

use vmstorage_engine::mirror::MoveLimits;

use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerCut {
    /// After so many steps.
    After(u64),
    /// At some moment between the request for COMMITTED and the report that it is durable.
    InWindow,
    /// So many steps after that report.
    AfterCommit(u64),
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Grains per disk.
    pub disks: Vec<u64>,
    /// Of a thousand chunks, how many hold data.
    pub allocated_permille: u64,
    pub queue_depth: u64,
    /// Grains of the hot spot of each disk, and how often it is hit.
    pub hot_grains: u64,
    pub hot_permille: u64,
    pub write_grains_max: u64,
    pub flush_permille: u64,
    pub step_us: u64,
    pub source_error_permyriad: u64,
    pub target_transient_permyriad: u64,
    pub target_fatal_permyriad: u64,
    pub target_flush_error_permille: u64,
    pub record_trouble_permille: u64,
    /// Copies that say they worked and wrote rubbish.
    pub rotten_copy_permille: u64,
    /// Target operations take so much longer.
    pub target_delay_us: u64,
    /// The target answers nothing in these intervals.
    pub hangs: Vec<(u64, u64)>,
    /// While COMMITTED is on its way to the journal: writes under way fail so often, of a thousand steps ...
    pub window_target_error_permille: u64,
    pub window_source_error_permille: u64,
    /// ... the target hangs for so long ...
    pub window_hang_us: u64,
    /// ... a stop arrives.
    pub window_stop: bool,
    /// A record takes so long.
    pub record_delay_us: u64,
    /// The journal's disk hangs so long with COMMITTED.
    pub committed_hangs_us: u64,
    pub stop_after: Option<u64>,
    /// Steps after which the process is killed, one after the other.
    pub kills: Vec<u64>,
    /// Kill while COMMITTED is on its way (in addition).
    pub kill_in_window: bool,
    pub power_cut: Option<PowerCut>,
    pub settle_every_us: u64,
    pub adopted: u64,
    /// Limits as in production; else smaller ones that fit small disks.
    pub production_limits: bool,
}

impl Plan {
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let r = &mut random;
        let disks = (0..[1, 1, 2, 2, 3][r.below(5) as usize]).map(|_| r.within(1, 45) * 16 - r.below(16)).collect();
        let faults = r.permille(500);
        let sometimes =
            |r: &mut Random, permille: u64, value: u64| if faults && r.permille(permille) { value } else { 0 };
        let kills = if r.permille(500) { (0..r.within(1, 4)).map(|_| r.below(6000)).collect() } else { Vec::new() };
        let hang_start = r.below(100_000);
        let mut plan = Self {
            seed,
            disks,
            allocated_permille: [0, 300, 700, 1000][r.below(4) as usize],
            queue_depth: [1, 8, 32, 32][r.below(4) as usize],
            hot_grains: [4, 16, 40, 100][r.below(4) as usize],
            hot_permille: [0, 500, 900, 1000][r.below(4) as usize],
            write_grains_max: [2, 8, 40, 300][r.below(4) as usize],
            flush_permille: [0, 20, 100][r.below(3) as usize],
            step_us: [1, 3, 9][r.below(3) as usize],
            source_error_permyriad: sometimes(r, 200, 10),
            target_transient_permyriad: sometimes(r, 300, 10),
            target_fatal_permyriad: sometimes(r, 200, 5),
            target_flush_error_permille: sometimes(r, 100, 50),
            record_trouble_permille: sometimes(r, 300, 300),
            rotten_copy_permille: sometimes(r, 150, 100),
            target_delay_us: sometimes(r, 200, 3000),
            hangs: if faults && r.permille(300) {
                vec![(hang_start, hang_start + [10_000, 50_000, 200_000, u64::MAX / 2][r.below(4) as usize])]
            } else {
                Vec::new()
            },
            window_target_error_permille: sometimes(r, 400, 20),
            window_source_error_permille: sometimes(r, 200, 20),
            window_hang_us: sometimes(r, 100, 60_000),
            window_stop: faults && r.permille(100),
            record_delay_us: [0, 0, 2_000, 40_000][r.below(4) as usize],
            committed_hangs_us: sometimes(r, 200, 150_000),
            stop_after: (r.permille(150)).then(|| r.below(8000)),
            kills,
            kill_in_window: r.permille(250),
            power_cut: (r.permille(250)).then(|| match r.below(5) {
                0 | 1 => PowerCut::After(r.below(10_000)),
                2 => PowerCut::InWindow,
                _ => PowerCut::AfterCommit(r.below(100)),
            }),
            settle_every_us: [3_000, 3_000, 1_000_000][r.below(3) as usize],
            adopted: if r.permille(300) { r.within(1, 8) } else { 0 },
            production_limits: false,
        };
        if plan.source_error_permyriad > 0 {
            // A source that fails a write during every attempt to switch never lets one succeed.
            plan.record_delay_us = plan.record_delay_us.min(100);
            plan.committed_hangs_us = 0;
        }
        if plan.power_cut.is_some() {
            // Without flushes a power cut may leave anything: nothing could be found out.
            plan.flush_permille = plan.flush_permille.max(20);
        }
        if plan.target_delay_us > 0 || plan.record_delay_us > 2_000 {
            plan.step_us = plan.step_us.max(5);
        }
        if plan.committed_hangs_us > 0 {
            plan.step_us = plan.step_us.max(9);
        }
        plan
    }

    /// No I/O fails: the bound has to be kept, as long as the target does not fall behind.
    pub fn is_without_errors(&self) -> bool {
        self.source_error_permyriad == 0
            && self.target_transient_permyriad == 0
            && self.target_fatal_permyriad == 0
            && self.rotten_copy_permille == 0
            && self.window_target_error_permille == 0
            && self.window_source_error_permille == 0
    }

    /// Nothing goes wrong and nobody interferes: the move has to succeed.
    pub fn is_calm(&self) -> bool {
        self.is_without_errors()
            && self.target_flush_error_permille == 0
            && self.record_trouble_permille == 0
            && self.target_delay_us == 0
            && self.hangs.is_empty()
            && self.window_hang_us == 0
            && !self.window_stop
            && self.stop_after.is_none()
            && self.power_cut.is_none()
    }

    /// A busy guest, nothing wrong. What scenarios start from.
    pub fn calm(seed: u64, disks: Vec<u64>) -> Self {
        Self {
            seed,
            disks,
            allocated_permille: 1000,
            queue_depth: 32,
            hot_grains: 64,
            hot_permille: 0,
            write_grains_max: 8,
            flush_permille: 20,
            step_us: 3,
            source_error_permyriad: 0,
            target_transient_permyriad: 0,
            target_fatal_permyriad: 0,
            target_flush_error_permille: 0,
            record_trouble_permille: 0,
            rotten_copy_permille: 0,
            target_delay_us: 0,
            hangs: Vec::new(),
            window_target_error_permille: 0,
            window_source_error_permille: 0,
            window_hang_us: 0,
            window_stop: false,
            record_delay_us: 0,
            committed_hangs_us: 0,
            stop_after: None,
            kills: Vec::new(),
            kill_in_window: false,
            power_cut: None,
            settle_every_us: 3_000,
            adopted: 0,
            production_limits: false,
        }
    }

    /// Small disks want small limits: the same relations as in production, a tenth of the time.
    pub fn limits(&self) -> MoveLimits {
        if self.production_limits {
            return MoveLimits::default();
        }
        MoveLimits {
            copies_max: 4,
            verifies_max: 2,
            locks_max: 2,
            share_bytes: 3 * 1024 * 1024,
            target_patience_us: 25_000,
            lock_patience_us: 25_000,
            silence_limit_us: 150_000,
            fallback_pause_us: 5_000,
            target_retry_pause_us: 100,
            forgive_after_us: 200_000,
            settle_every_us: self.settle_every_us,
            settle_every_bytes: if self.settle_every_us < 1_000_000 { 512 * 1024 } else { u64::MAX },
            switch_pause_us: 500,
            overlap_patience_us: 500,
            prepared_patience_us: 50_000,
            record_pause_us: 500,
            ..MoveLimits::default()
        }
    }
}
