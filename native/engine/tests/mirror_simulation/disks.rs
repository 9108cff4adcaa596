//! A disk in memory: what is in it now, and what would be left of it after a power cut.

use crate::random::Random;

/// The simulator's sector. The machine knows nothing of it; 4 KiB keeps thousands of seeds fast.
pub const GRAIN: u64 = 4096;

#[derive(Clone)]
pub struct SimDisk {
    /// What a read finds (page cache, or the device's).
    pub now: Vec<u32>,
    /// What survives a power cut for certain.
    pub durable: Vec<u32>,
    /// Written since, in order: any of it may survive, in any combination over grains.
    unflushed: Vec<(u32, u32)>,
    /// Entries ever removed from the front of `unflushed`.
    flushed: u64,
}

impl SimDisk {
    pub fn new(now: Vec<u32>) -> Self {
        Self { durable: now.clone(), now, unflushed: Vec::new(), flushed: 0 }
    }

    pub fn write(&mut self, grain: u64, value: u32) {
        self.now[grain as usize] = value;
        self.unflushed.push((grain as u32, value));
    }

    /// What a flush submitted now covers.
    pub fn flush_mark(&self) -> u64 {
        self.flushed + self.unflushed.len() as u64
    }

    pub fn flush_done(&mut self, mark: u64) {
        let count = mark.saturating_sub(self.flushed) as usize;
        for (grain, value) in self.unflushed.drain(..count) {
            self.durable[grain as usize] = value;
        }
        self.flushed = self.flushed.max(mark);
    }

    pub fn power_cut(&mut self, random: &mut Random) {
        for (grain, value) in std::mem::take(&mut self.unflushed) {
            if random.permille(500) {
                self.durable[grain as usize] = value;
            }
        }
        self.now = self.durable.clone();
    }
}
