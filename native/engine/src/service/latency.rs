//! Guest latency, from the moment a request was fetched to its acknowledgement: a log2 histogram with eight linear steps
//! per power of two (a percentile is within 12 %), kept for the running 100 ms window, the last whole one, and for ever.

const STEPS: usize = 8;
const BUCKETS: usize = 64 * STEPS;
const WINDOW_US: u64 = 100_000;

#[derive(Clone)]
pub struct Histogram {
    buckets: Box<[u32; BUCKETS]>,
    count: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: Box::new([0; BUCKETS]), count: 0, max_us: 0 }
    }
}

impl Histogram {
    pub fn record(&mut self, us: u64) {
        self.buckets[Self::bucket(us)] = self.buckets[Self::bucket(us)].saturating_add(1);
        self.count += 1;
        self.max_us = self.max_us.max(us);
    }

    fn bucket(us: u64) -> usize {
        if us < STEPS as u64 {
            return us as usize;
        }
        let power = 63 - us.leading_zeros() as usize;
        ((power - 2) * STEPS + ((us >> (power - 3)) & 7) as usize).min(BUCKETS - 1)
    }

    fn lower_bound(bucket: usize) -> u64 {
        if bucket < STEPS { bucket as u64 } else { (STEPS as u64 + (bucket % STEPS) as u64) << (bucket / STEPS - 1) }
    }

    /// The smallest value not exceeded by the share `p` (0..1) of all, in microseconds; `None` when nothing was recorded.
    pub fn percentile(&self, p: f64) -> Option<u64> {
        let wanted = (self.count as f64 * p) as u64;
        let mut seen = 0u64;
        for (bucket, &n) in self.buckets.iter().enumerate() {
            seen += u64::from(n);
            if seen > wanted {
                return Some(Self::lower_bound(bucket).min(self.max_us));
            }
        }
        (self.count > 0).then_some(self.max_us)
    }

    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    fn clear(&mut self) {
        self.buckets.fill(0);
        self.count = 0;
        self.max_us = 0;
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencySummary {
    pub count: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

#[derive(Default)]
pub struct Latency {
    window: Histogram,
    window_start_us: u64,
    /// p99 of the last whole window that saw a request.
    last_p99_us: Option<u64>,
    /// Since the last `mark`: the longest wait before and during a move are told apart by it.
    since_mark: Histogram,
}

impl Latency {
    pub fn record(&mut self, now_us: u64, us: u64) {
        if now_us.saturating_sub(self.window_start_us) >= WINDOW_US {
            self.last_p99_us = self.window.percentile(0.99).or(self.last_p99_us);
            self.window.clear();
            self.window_start_us = now_us;
        }
        self.window.record(us);
        self.since_mark.record(us);
    }

    /// Requests answered since the last `mark`.
    pub fn count(&self) -> u64 {
        self.since_mark.count()
    }

    pub fn last_p99_us(&self) -> Option<u64> {
        self.last_p99_us
    }

    pub fn summary(&self) -> LatencySummary {
        LatencySummary {
            count: self.since_mark.count(),
            p50_us: self.since_mark.percentile(0.5).unwrap_or(0),
            p99_us: self.since_mark.percentile(0.99).unwrap_or(0),
            max_us: self.since_mark.max_us(),
        }
    }

    /// Starts counting anew; the answer is what was counted until now.
    pub fn mark(&mut self) -> LatencySummary {
        let summary = self.summary();
        self.since_mark.clear();
        self.window.clear();
        self.last_p99_us = None;
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_within_an_eighth() {
        let mut h = Histogram::default();
        (1..=10_000).for_each(|us| h.record(us));
        for (p, exact) in [(0.5, 5_000.0), (0.99, 9_900.0)] {
            let got = h.percentile(p).unwrap() as f64;
            assert!((got - exact).abs() / exact <= 0.125, "p{p}: {got}");
        }
        assert_eq!(h.max_us(), 10_000);
    }

    #[test]
    fn a_mark_forgets_the_window_before_it() {
        let mut latency = Latency::default();
        latency.record(1, 5);
        latency.record(1 + WINDOW_US, 5);
        assert_eq!(latency.last_p99_us(), Some(5));
        latency.mark();
        assert_eq!(latency.last_p99_us(), None, "an idle guest's old figure is not the move's");
    }

    #[test]
    fn nothing_recorded_has_no_percentile() {
        assert_eq!(Histogram::default().percentile(0.99), None);
    }
}
