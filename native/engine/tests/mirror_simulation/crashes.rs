//! How a run of the simulated world ends, or is interrupted: a kill, a power cut, the end of the move; and what is
//! checked then.

use vmstorage_engine::mirror::*;

use crate::plan::PowerCut;
use crate::world::{Check, End, World, setups};

impl World {
    pub fn must_kill(&mut self) -> bool {
        if self.plan.kill_in_window && self.in_window() && self.random.permille(30) {
            self.plan.kill_in_window = false;
            return true;
        }
        let steps = self.steps;
        let before = self.plan.kills.len();
        self.plan.kills.retain(|at| *at != steps);
        self.plan.kills.len() < before
    }

    pub fn must_cut_power(&mut self) -> bool {
        self.steps_since_commit += u64::from(self.released);
        match self.plan.power_cut {
            None => false,
            Some(PowerCut::After(steps)) => self.steps == steps,
            Some(PowerCut::InWindow) => self.in_window() && self.random.permille(30),
            Some(PowerCut::AfterCommit(steps)) => self.steps_since_commit > steps,
        }
    }

    /// kill -9: the machine is gone, I/O in flight may land, the guest waits for its answers.
    pub fn kill(&mut self) -> Check<Option<End>> {
        self.kills += 1;
        for op in std::mem::take(&mut self.ops) {
            op.orphaned(&mut self.pairs, &mut self.superblock, &mut self.random);
        }
        if self.superblock.visible == JournalPhase::Committed && self.revocation.is_set() {
            // What whoever opens the journal does before anything is served.
            (self.superblock.visible, self.superblock.durable) = (JournalPhase::Mirror, JournalPhase::Mirror);
        }
        let phase = self.superblock.visible;
        let (bitmaps_count, rotten) = (phase != JournalPhase::Started, self.plan.rotten_copy_permille > 0);
        if phase.authority() == Side::Source && phase != JournalPhase::Cancelled && bitmaps_count && !rotten {
            self.check_bitmaps()?;
        }
        let mut again = Vec::new();
        for (index, disk) in self.disks.iter_mut().enumerate() {
            for write in std::mem::take(&mut disk.writes).into_iter().flatten().filter(|write| !write.answered) {
                // The client may be one that does not send its requests again: then nobody knows.
                disk.oracle.write_answered(write.grains.clone(), write.issued, false);
                if self.random.permille(900) {
                    again.push((index, write));
                }
            }
            disk.flushes.clear();
            disk.unanswered = 0;
        }
        if phase.authority() == Side::Target || phase == JournalPhase::Cancelled {
            self.check_all(phase.authority(), "after a kill")?;
            let committed = phase.authority() == Side::Target;
            return Ok(Some(if committed { End::KilledAfterCommit } else { End::KilledAfterCancel }));
        }
        self.read_side = Side::Source;
        (self.ending, self.bound) = (false, None);
        self.machine = Move::resume(self.plan.limits(), phase, self.revocation.clone(), setups(&self.disks))
            .map_err(|error| error.to_string())?;
        for disk in &mut self.disks {
            disk.scan = (phase == JournalPhase::Started).then_some(0);
        }
        // The guest sends them as soon as there is somebody to take them: before the targets are open, or after.
        let adopted = if self.random.permille(500) { again.len() } else { 0 };
        let later = again.split_off(adopted);
        for (disk, write) in again {
            self.adopt_write(disk, write.grains, write.value)?;
        }
        for (disk, write) in later {
            self.guest_write(disk, write.grains, write.value)?;
        }
        Ok(None)
    }

    /// Whatever differs is known to the journal, and stays known until a flush of the target has covered the repair.
    pub fn check_bitmaps(&mut self) -> Check {
        for (index, disk) in self.disks.iter().enumerate() {
            let chunks = disk.grains.div_ceil(16);
            let map = |words: &SharedWords| SavedMap::new(words.clone(), chunks).ok_or("too few words".to_string());
            let (dirty, intent) = (map(&disk.setup.0)?, map(&disk.setup.1)?);
            for grain in 0..disk.grains {
                let source = self.pairs[index].source.now[grain as usize];
                let target = &self.pairs[index].target;
                let differs = source != target.now[grain as usize] || source != target.durable[grain as usize];
                if differs && !dirty.get(grain / 16) && !intent.get(grain / 16) {
                    return Err(format!("disk {index} grain {grain} differs and no bit says so"));
                }
            }
        }
        Ok(())
    }

    pub fn check_all(&mut self, side: Side, what: &str) -> Check {
        for (index, disk) in self.disks.iter_mut().enumerate() {
            for grain in 0..disk.grains {
                let value = self.pairs[index].side(side).now[grain as usize];
                disk.oracle.check(grain, value, &format!("{what}: disk {index}"))?;
            }
        }
        Ok(())
    }

    pub fn power_cut(&mut self) -> Check<End> {
        for op in std::mem::take(&mut self.ops) {
            op.orphaned(&mut self.pairs, &mut self.superblock, &mut self.random);
        }
        let seen = if self.random.permille(500) { self.superblock.visible } else { self.superblock.durable };
        let side = seen.authority();
        for (index, disk) in self.disks.iter().enumerate() {
            let content = self.pairs[index].side(side);
            content.power_cut(&mut self.random);
            for grain in 0..disk.grains {
                let value = content.now[grain as usize];
                disk.oracle.check_after_power_cut(grain, value, &format!("journal {seen:?}, disk {index}"))?;
            }
        }
        Ok(End::PowerCut(side))
    }

    pub fn finish(&mut self, outcome: Outcome) -> Check<End> {
        let unanswered: u64 = self.disks.iter().map(|disk| disk.unanswered).sum();
        let taken = self
            .disks
            .iter()
            .any(|disk| disk.writes.iter().any(Option::is_some) || disk.flushes.iter().any(Option::is_some));
        if unanswered > 0 || taken {
            return Err(format!("{unanswered} requests were never answered, or not all were retired"));
        }
        let side = if outcome == Outcome::Committed { Side::Target } else { Side::Source };
        self.check_all(side, "at the end")?;
        Ok(match outcome {
            Outcome::Committed => End::Committed,
            Outcome::Ended(reason) => End::Ended(reason),
        })
    }
}
