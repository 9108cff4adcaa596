//! A latency histogram: a power of two per step, eight sub-steps each, so that every bucket is at most 12.5 % wide.

use std::time::Duration;

const SUB_STEPS: usize = 8;
const SUB_BITS: u32 = 3;
/// Up to 2^42 ns, over an hour; longer waits count in the last bucket.
const STEPS: usize = 40;

#[derive(Clone)]
pub struct Histogram {
    buckets: Box<[u64; STEPS * SUB_STEPS]>,
    count: u64,
    longest_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: Box::new([0; STEPS * SUB_STEPS]), count: 0, longest_ns: 0 }
    }
}

impl Histogram {
    pub fn add(&mut self, wait: Duration) {
        let ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(ns)] += 1;
        self.count += 1;
        self.longest_ns = self.longest_ns.max(ns);
    }

    pub fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets.iter()).for_each(|(a, b)| *a += b);
        self.count += other.count;
        self.longest_ns = self.longest_ns.max(other.longest_ns);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest_ns)
    }

    /// The upper end of the bucket that holds the given share of all waits; `share` from 0 to 1.
    pub fn percentile(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Duration::from_nanos(upper_end(index).min(self.longest_ns));
            }
        }
        Duration::ZERO
    }
}

fn bucket(ns: u64) -> usize {
    if ns < SUB_STEPS as u64 {
        return ns as usize;
    }
    let shift = ns.ilog2() - SUB_BITS;
    let index = (shift as usize + 1) * SUB_STEPS + ((ns >> shift) as usize & (SUB_STEPS - 1));
    index.min(STEPS * SUB_STEPS - 1)
}

fn upper_end(index: usize) -> u64 {
    if index < SUB_STEPS {
        return index as u64;
    }
    let shift = index / SUB_STEPS - 1;
    (((SUB_STEPS + index % SUB_STEPS + 1) as u64) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wait_lies_in_a_bucket_that_is_at_most_an_eighth_wide() {
        for ns in (0..1 << 20).step_by(37).chain([u64::MAX >> 24]) {
            let end = upper_end(bucket(ns));
            assert!(ns <= end && end - ns <= ns / 8, "{ns} in a bucket up to {end}");
        }
    }

    #[test]
    fn percentiles_and_the_longest_are_those_of_what_was_added() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|us| histogram.add(Duration::from_micros(us)));
        let median = histogram.percentile(0.5).as_micros();
        assert!((500..=563).contains(&median), "{median}");
        assert_eq!(histogram.longest(), Duration::from_millis(1));
        assert_eq!(histogram.percentile(1.0), Duration::from_millis(1));
    }
}
