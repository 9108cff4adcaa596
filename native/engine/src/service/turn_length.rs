//! How long the turns of the reactor were: what a guest feels of the worker itself, whatever its disks do.
//!
//! Three figures, each with a maximum of its own. *Operations* do not depend on the machine: tests assert them. *Processor time* is what
//! the thread itself burnt. *Wall time* also has what others burnt meanwhile, and a system call that blocked.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::clock::now_us;

/// The clock of the thread's processor time costs a system call (0.1 to 0.3 us here), so it is read at most so often while turns are short.
/// Turns shorter than this have no processor time of their own, and what a longer one is told has an error of at most this.
const READ_EVERY_US: u64 = 1_000;
/// The maximum of the last one or two of these is what Get-VM looks at: a turn of last week says nothing of today.
const RECENT: Duration = Duration::from_secs(60);

/// The longest of many turns; each figure may be of another turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnLength {
    pub operations: u32,
    pub processor_us: u64,
    pub wall_us: u64,
}

impl TurnLength {
    pub fn longer_of(self, other: Self) -> Self {
        Self {
            operations: self.operations.max(other.operations),
            processor_us: self.processor_us.max(other.processor_us),
            wall_us: self.wall_us.max(other.wall_us),
        }
    }
}

#[derive(Default)]
pub struct TurnMeter {
    began_us: u64,
    slept_us: u64,
    /// The processor clock when it was last read, and when that was.
    processor_us: u64,
    read_at_us: u64,
    recent: TurnLength,
    recent_since_us: u64,
    before_recent: TurnLength,
}

impl TurnMeter {
    pub fn begin(&mut self) {
        self.began_us = now_us();
        self.slept_us = 0;
        if self.began_us.saturating_sub(self.read_at_us) >= READ_EVERY_US {
            self.read_at_us = self.began_us;
            self.processor_us = processor_us();
        }
    }

    /// The thread slept since `since_us`, because it had nothing to do.
    pub fn slept(&mut self, since_us: u64) {
        self.slept_us += now_us().saturating_sub(since_us);
    }

    pub fn end(&mut self, operations: u32) -> TurnLength {
        let now = now_us();
        let wall_us = now.saturating_sub(self.began_us + self.slept_us);
        let mut turn = TurnLength { operations, processor_us: 0, wall_us };
        if wall_us >= READ_EVERY_US {
            let processor = processor_us();
            turn.processor_us = processor.saturating_sub(self.processor_us).min(wall_us);
            (self.processor_us, self.read_at_us) = (processor, now);
        }
        if now.saturating_sub(self.recent_since_us) >= RECENT.as_micros() as u64 {
            self.before_recent = std::mem::take(&mut self.recent);
            self.recent_since_us = now;
        }
        self.recent = self.recent.longer_of(turn);
        turn
    }

    /// Of the last minute or two.
    pub fn recent(&self) -> TurnLength {
        self.recent.longer_of(self.before_recent)
    }
}

fn processor_us() -> u64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waits_has_a_long_turn_and_burns_little() {
        let mut meter = TurnMeter::default();
        meter.begin();
        // The one sleep of the tests: time passing is what is measured.
        std::thread::sleep(Duration::from_millis(20));
        let turn = meter.end(7);
        assert!(turn.wall_us >= 20_000 && turn.processor_us < turn.wall_us / 2, "{turn:?}");
        assert_eq!((turn.operations, meter.recent()), (7, turn));
    }

    #[test]
    fn what_was_slept_is_not_part_of_a_turn() {
        let mut meter = TurnMeter::default();
        meter.begin();
        let since = now_us();
        std::thread::sleep(Duration::from_millis(20));
        meter.slept(since);
        assert!(meter.end(1).wall_us < 20_000);
    }
}
