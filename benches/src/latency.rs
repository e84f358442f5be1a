//! Distributions of durations. They are counted in buckets, so that millions take little memory.

use std::time::Duration;

/// Buckets between a power of two and the next. With 128, a percentile is off by less than 1 %.
const STEPS: u64 = 128;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// A distribution of durations.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// The number of durations in each bucket.
    buckets: Vec<u64>,
    count: u64,
    /// The longest duration in nanoseconds.
    most: u64,
}

impl Latencies {
    pub fn add(&mut self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket_of(nanoseconds);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.most = self.most.max(nanoseconds);
    }

    pub fn merge(&mut self, other: &Latencies) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (ours, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *ours += theirs;
        }
        self.count += other.count;
        self.most = self.most.max(other.most);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// A quantile in microseconds: with a part of 0.99, 99 % of the durations are at most this
    /// long. Not a number if there are none.
    pub fn quantile(&self, part: f64) -> f64 {
        let rank = ((self.count as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle_of(bucket as u64).min(self.most as f64) / 1e3;
            }
        }
        f64::NAN
    }

    /// The longest duration in microseconds; not a number if there are none.
    pub fn most(&self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.most as f64 / 1e3 }
    }
}

/// Small numbers have a bucket each. The leading bits of larger numbers choose the bucket.
fn bucket_of(number: u64) -> usize {
    let shift = number.checked_ilog2().unwrap_or(0).saturating_sub(STEP_BITS);
    (u64::from(shift) * STEPS + (number >> shift)) as usize
}

fn middle_of(bucket: u64) -> f64 {
    let shift = (bucket / STEPS).saturating_sub(1);
    let leading = bucket - shift * STEPS;
    (leading as f64 + if shift == 0 { 0.0 } else { 0.5 }) * (1_u64 << shift) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = 0;
        for number in (0..100_000_u64).chain((17..40).map(|bits| (1 << bits) + 12_345)) {
            let bucket = bucket_of(number);
            if number < 100_000 {
                assert!(bucket == last || bucket == last + 1);
                last = bucket;
            }
            let middle = middle_of(bucket as u64);
            assert!((middle - number as f64).abs() <= number as f64 / STEPS as f64);
        }
    }

    #[test]
    fn quantiles_cover_all_merged_durations() {
        let (mut all, mut upper) = (Latencies::default(), Latencies::default());
        assert!(all.quantile(0.5).is_nan());
        for microseconds in 1..=500 {
            all.add(Duration::from_micros(microseconds));
            upper.add(Duration::from_micros(microseconds + 500));
        }
        all.merge(&upper);
        assert_eq!((all.count(), all.most()), (1000, 1000.0));
        for (part, expected) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            assert!((all.quantile(part) / expected - 1.0).abs() < 0.01);
        }
    }
}
