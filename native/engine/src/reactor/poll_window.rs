//! How long to look for what is awaited (a guest's next request, a disk's completion) before sleeping: as long as it pays,
//! as QEMU's event loop decides it.
//!
//! What comes within microseconds is served without a kick, a poll and a wake-up; what is slow or idle must not cost a core,
//! which on a small machine is the guest's. So the window grows while the wait turns out to be short after all and closes as
//! soon as it is not.

use std::time::{Duration, Instant};

/// A longer sleep is not worth avoiding. QEMU's default (poll-max-ns) too.
const LONGEST: Duration = Duration::from_micros(32);
const SHORTEST: Duration = Duration::from_micros(4);

pub struct PollWindow {
    length: Duration,
    /// When something last came, or was given away to be answered.
    active: Instant,
}

impl PollWindow {
    pub fn new(now: Instant) -> Self {
        Self { length: Duration::ZERO, active: now }
    }

    /// Something was found by looking, or given away.
    pub fn activity(&mut self, now: Instant) {
        self.active = now;
    }

    /// Something ended a sleep: was it a short one?
    pub fn woken(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.active);
        self.length = if gap > LONGEST { Duration::ZERO } else { (self.length * 2).clamp(SHORTEST, LONGEST) };
        self.active = now;
    }

    /// Whether to look again rather than to sleep.
    pub fn is_open(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.active) < self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_with_short_sleeps_up_to_a_limit_and_closes_with_a_long_one() {
        let mut now = Instant::now();
        let mut window = PollWindow::new(now);
        assert!(!window.is_open(now), "an idle guest is not polled");
        for _ in 0..10 {
            now += Duration::from_micros(10);
            window.woken(now);
        }
        assert!(window.is_open(now + LONGEST / 2));
        assert!(!window.is_open(now + LONGEST));
        now += LONGEST * 3;
        window.woken(now);
        assert!(!window.is_open(now));
    }
}
