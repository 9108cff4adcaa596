//! How much of a move may be in flight, steered by what the guest feels: additive increase, multiplicative decrease.
//!
//! A copy of 1 MiB ahead of a guest's 4 KiB in the disk's own queue is the guest's wait; no order in our ring changes that. So the
//! bytes in flight shrink while the guest's p99 is high, and grow back when it is low or the guest is idle.

/// How often the share is reconsidered: one window of the guest's latency.
const INTERVAL_US: u64 = 100_000;
/// Above this p99 the guest is in the way of the move: halve. Below the second: there is room.
const HIGH_US: u64 = 20_000;
const LOW_US: u64 = 10_000;
const SHARE_MIN_BYTES: u64 = 1 << 20;
const SHARE_START_BYTES: u64 = 16 << 20;
const SHARE_MAX_BYTES: u64 = 24 << 20;
const STEP_BYTES: u64 = 1 << 20;

pub struct Governor {
    share_bytes: u64,
    due_us: u64,
    requests: u64,
}

impl Default for Governor {
    fn default() -> Self {
        Self { share_bytes: SHARE_START_BYTES, due_us: 0, requests: 0 }
    }
}

impl Governor {
    /// The new share, when it is time and it changes. `requests`: guest requests answered so far; `p99_us`: of the last window.
    pub fn consider(&mut self, now_us: u64, requests: u64, p99_us: Option<u64>) -> Option<u64> {
        if now_us < self.due_us {
            return None;
        }
        self.due_us = now_us + INTERVAL_US;
        let idle = requests == self.requests;
        self.requests = requests;
        let wanted = match p99_us {
            _ if idle => self.share_bytes * 2,
            Some(p99) if p99 > HIGH_US => self.share_bytes / 2,
            Some(p99) if p99 >= LOW_US => self.share_bytes,
            _ => self.share_bytes + STEP_BYTES,
        };
        let wanted = wanted.clamp(SHARE_MIN_BYTES, SHARE_MAX_BYTES);
        (wanted != self.share_bytes).then(|| {
            self.share_bytes = wanted;
            wanted
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_waits_shrinks_the_share_and_an_idle_one_gives_it_back() {
        let mut governor = Governor::default();
        assert_eq!(governor.consider(0, 100, Some(50_000)), Some(8 << 20));
        assert_eq!(governor.consider(1, 200, Some(50_000)), None, "not before the next window");
        assert_eq!(governor.consider(100_000, 200, Some(50_000)), Some(4 << 20));
        assert_eq!(governor.consider(200_000, 300, Some(12_000)), None, "neither high nor low");
        assert_eq!(governor.consider(300_000, 400, Some(1_000)), Some(5 << 20));
        assert_eq!(governor.consider(400_000, 400, Some(1_000)), Some(10 << 20), "nobody waits");
    }

    #[test]
    fn the_share_never_leaves_its_bounds() {
        let mut governor = Governor::default();
        let mut now = 0;
        let mut last = SHARE_MAX_BYTES;
        for n in 1..20 {
            last = governor.consider(now, n, Some(1_000_000)).unwrap_or(last);
            now += INTERVAL_US;
        }
        assert_eq!(last, SHARE_MIN_BYTES);
    }
}
