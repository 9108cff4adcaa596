//! The guest of the simulated world: reads, writes and flushes as fast as its queue allows; and the scan of what is
//! allocated.

use std::ops::Range;

use vmstorage_engine::mirror::*;

use crate::world::{Check, GuestFlush, GuestWrite, World, bytes};

impl World {
    pub fn guest_acts(&mut self) -> Check {
        for _ in 0..self.random.below(3) {
            let disk = self.random.below(self.disks.len() as u64) as usize;
            if self.disks[disk].unanswered < self.plan.queue_depth {
                if self.random.permille(self.plan.flush_permille) {
                    self.guest_flush(disk)?;
                } else {
                    let (grains, value) = self.some_write(disk);
                    self.guest_write(disk, grains, value)?;
                }
            }
        }
        let disk = self.random.below(self.disks.len() as u64) as usize;
        let grain = self.random.below(self.disks[disk].grains);
        let value = self.pairs[disk].side(self.read_side).now[grain as usize];
        self.disks[disk].oracle.check(grain, value, "a read of the guest")
    }

    pub fn some_write(&mut self, disk: usize) -> (Range<u64>, u32) {
        let size = self.disks[disk].grains;
        let hot = self.random.permille(self.plan.hot_permille);
        let room = if hot { self.plan.hot_grains.min(size) } else { size };
        let len = self.random.within(1, self.plan.write_grains_max.min(room));
        // The hot spot begins inside a chunk and crosses into the next.
        let base = if hot { 9.min(size - room) } else { 0 };
        let start = base + self.random.below(room - len + 1);
        self.next_value += 1;
        let value = if self.random.permille(150) { 0 } else { self.next_value };
        (start..start + len, value)
    }

    pub fn guest_write(&mut self, disk: usize, grains: Range<u64>, value: u32) -> Check {
        let id = self.take_write(disk, grains.clone(), value);
        let kind = if value == 0 { WriteKind::Zeroes } else { WriteKind::Data };
        self.give(Event::GuestWrite { disk: disk as u32, id, range: bytes(&grains), kind })
    }

    pub fn take_write(&mut self, disk: usize, grains: Range<u64>, value: u32) -> WriteId {
        let now_us = self.now_us;
        let disk = &mut self.disks[disk];
        let issued = disk.oracle.write_issued(grains.clone(), value);
        disk.unanswered += 1;
        let write = GuestWrite {
            grains,
            value,
            issued,
            since_us: now_us,
            answered: false,
            source_failed: false,
            target_failed: false,
            open: 0,
        };
        place(&mut disk.writes, write)
    }

    pub fn adopt(&mut self) -> Check {
        let disk = self.random.below(self.disks.len() as u64) as usize;
        let (grains, value) = self.some_write(disk);
        self.adopt_write(disk, grains, value)
    }

    /// Given to the source before the machine was there.
    pub fn adopt_write(&mut self, disk: usize, grains: Range<u64>, value: u32) -> Check {
        let id = self.take_write(disk, grains.clone(), value);
        self.open_write(disk as u32, id, Side::Source)?;
        self.machine.adopt(disk as u32, id, bytes(&grains), self.now_us).map_err(|error| error.to_string())
    }

    pub fn guest_flush(&mut self, disk: usize) -> Check {
        let since_us = self.now_us;
        let state = &mut self.disks[disk];
        let issued = state.oracle.issue();
        state.unanswered += 1;
        let id =
            place(&mut state.flushes, GuestFlush { issued, since_us, answered: false, target_failed: false, open: 0 });
        self.give(Event::GuestFlush { disk: disk as u32, id })
    }

    /// What is allocated is found out bit by bit, while the guest writes.
    pub fn scan(&mut self) -> Check {
        for disk in 0..self.disks.len() {
            let Some(chunk) = self.disks[disk].scan.filter(|_| self.random.permille(300)) else { continue };
            let grains = chunk * 16..((chunk + 1) * 16).min(self.disks[disk].grains);
            let index = disk as u32;
            if grains.is_empty() {
                self.disks[disk].scan = None;
                self.give(Event::AllocationKnown { disk: index })?;
                continue;
            }
            self.disks[disk].scan = Some(chunk + 1);
            let content = &self.pairs[disk].source.now[grains.start as usize..grains.end as usize];
            if content.iter().any(|value| *value != 0) {
                self.give(Event::MarkAllocated { disk: index, range: bytes(&grains) })?;
            }
        }
        Ok(())
    }
}

fn place<T>(slots: &mut Vec<Option<T>>, value: T) -> u32 {
    let free = slots.iter().position(Option::is_none).unwrap_or(slots.len());
    if free == slots.len() {
        slots.push(None);
    }
    slots[free] = Some(value);
    free as u32
}
