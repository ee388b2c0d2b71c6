//! Numbers about many measurements, in little memory.

use alloc::vec::Vec;

/// Buckets per octave: the width of a bucket is at most 1/64 of its values.
const SUB_BUCKETS: u64 = 64;
const SUB_BUCKET_BITS: u32 = SUB_BUCKETS.trailing_zeros();
/// One linear run for the values below 64, and one run of 64 buckets for each octave above.
const BUCKETS_MAX: usize = (64 - SUB_BUCKET_BITS as usize + 1) * SUB_BUCKETS as usize;

/// A streaming histogram of whole numbers: exact count, sum, least and greatest, and quantiles with an error below
/// 1.6 %.
///
/// Values below 128 are exact; above, each octave has 64 buckets. Integers only, so results are equal everywhere. It
/// takes 512 bytes per octave up to the greatest value that it has seen: 11 KB for microseconds up to a minute.
///
/// ```
/// let mut delays_us = suffuse::Histogram::new();
/// for delay_us in 1..=1_000 {
///     delays_us.record(delay_us);
/// }
/// assert_eq!(delays_us.count(), 1_000);
/// let median = delays_us.quantile_ppm(500_000).unwrap();
/// assert!((492..=508).contains(&median));
/// assert_eq!(delays_us.max(), Some(1_000));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
}

impl Histogram {
    /// An empty histogram. It takes no memory until the first value.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one value.
    pub fn record(&mut self, value: u64) {
        self.record_many(value, 1);
    }

    /// Adds the same value `times` times.
    pub fn record_many(&mut self, value: u64, times: u64) {
        if times == 0 {
            return;
        }
        let bucket = bucket_of(value);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.counts[bucket] += times;
        self.count += times;
        self.sum += u128::from(value) * u128::from(times);
    }

    /// Adds every value of `other`.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.min = if self.count == 0 { other.min } else { self.min.min(other.min) };
        self.max = self.max.max(other.max);
        self.count += other.count;
        self.sum += other.sum;
    }

    /// Forgets every value and keeps the memory.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        (self.count, self.sum, self.min, self.max) = (0, 0, 0, 0);
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The least value, exactly.
    pub fn min(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min)
    }

    /// The greatest value, exactly.
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// The sum of all values, exactly.
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// The mean, rounded down.
    pub fn mean(&self) -> Option<u64> {
        self.sum.checked_div(u128::from(self.count)).map(|mean| mean as u64)
    }

    /// The value at or below which `ppm` of a million values lie: 500,000 asks for the median, 990,000 for the 99th
    /// percentile. More than a million asks for the greatest. `None` if there are no values.
    pub fn quantile_ppm(&self, ppm: u32) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        // The nearest rank: the least one that covers the share.
        let wanted = u128::from(self.count) * u128::from(ppm.min(1_000_000));
        let rank = (wanted.div_ceil(1_000_000) as u64).max(1);
        if rank == self.count {
            return Some(self.max);
        }
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(middle_of(bucket).clamp(self.min, self.max));
            }
        }
        Some(self.max)
    }

    /// The median.
    pub fn p50(&self) -> Option<u64> {
        self.quantile_ppm(500_000)
    }

    /// The 95th percentile.
    pub fn p95(&self) -> Option<u64> {
        self.quantile_ppm(950_000)
    }

    /// The 99th percentile.
    pub fn p99(&self) -> Option<u64> {
        self.quantile_ppm(990_000)
    }

    /// How many values are at most `value`, to within the bucket that holds it.
    pub fn count_at_most(&self, value: u64) -> u64 {
        let end = (bucket_of(value) + 1).min(self.counts.len());
        self.counts[..end].iter().sum()
    }

    /// The buckets that hold something: the least value of each, and how many values it holds.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let full = self.counts.iter().enumerate().filter(|&(_, &count)| count > 0);
        full.map(|(bucket, &count)| (bounds_of(bucket).0, count))
    }
}

fn bucket_of(value: u64) -> usize {
    let octave = (u64::BITS - value.leading_zeros()).saturating_sub(SUB_BUCKET_BITS + 1);
    (u64::from(octave) * SUB_BUCKETS + (value >> octave)) as usize
}

/// The least value of a bucket, and how many values it spans.
fn bounds_of(bucket: usize) -> (u64, u64) {
    debug_assert!(bucket < BUCKETS_MAX);
    let bucket = bucket as u64;
    let octave = (bucket / SUB_BUCKETS).saturating_sub(1);
    ((bucket - octave * SUB_BUCKETS) << octave, 1 << octave)
}

fn middle_of(bucket: usize) -> u64 {
    let (least, width) = bounds_of(bucket);
    least + (width - 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_sorted_values(
            mut values in prop::collection::vec(prop_oneof![0u64..300, 0u64..100_000, any::<u64>()], 1..300),
            ppm in 0u32..=1_000_000,
        ) {
            let mut histogram = Histogram::new();
            for &value in &values {
                histogram.record(value);
            }
            values.sort_unstable();
            let rank = (values.len() as u128 * u128::from(ppm)).div_ceil(1_000_000).max(1) as usize;
            let exact = values[rank - 1];
            let found = histogram.quantile_ppm(ppm).unwrap();
            let error = found.abs_diff(exact);
            prop_assert!(u128::from(error) * 1_000 <= u128::from(exact) * 16, "{} for {}", found, exact);
            if exact < 128 {
                prop_assert_eq!(found, exact);
            }
            prop_assert_eq!(histogram.min(), values.first().copied());
            prop_assert_eq!(histogram.max(), values.last().copied());
            prop_assert_eq!(histogram.count(), values.len() as u64);
            prop_assert_eq!(histogram.sum(), values.iter().map(|&value| u128::from(value)).sum::<u128>());
            prop_assert_eq!(histogram.count_at_most(u64::MAX), values.len() as u64);
        }

        #[test]
        fn merging_equals_recording_everything(
            left in prop::collection::vec(0u64..1_000_000, 0..50),
            right in prop::collection::vec(0u64..1_000, 0..50),
        ) {
            let record = |values: &[u64]| {
                let mut histogram = Histogram::new();
                values.iter().for_each(|&value| histogram.record(value));
                histogram
            };
            let mut merged = record(&left);
            merged.merge(&record(&right));
            let all: Vec<u64> = left.into_iter().chain(right).collect();
            prop_assert_eq!(merged, record(&all));
        }
    }

    #[test]
    fn buckets_tile_the_numbers() {
        let mut next = 0u64;
        for bucket in 0..BUCKETS_MAX {
            let (least, width) = bounds_of(bucket);
            assert_eq!(least, next, "bucket {bucket}");
            assert_eq!((bucket_of(least), bucket_of(least + (width - 1))), (bucket, bucket));
            next = least.wrapping_add(width);
        }
        assert_eq!(next, 0, "the last bucket ends at the greatest number");
    }

    #[test]
    fn an_empty_histogram_has_no_values() {
        let mut histogram = Histogram::new();
        assert_eq!(
            (histogram.min(), histogram.max(), histogram.p50(), histogram.mean()),
            (None, None, None, None)
        );
        histogram.record(7);
        histogram.clear();
        assert!(histogram.is_empty() && histogram.p99().is_none());
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_histogram_survives_serialisation() {
        let mut histogram = Histogram::new();
        histogram.record_many(u64::MAX, 1_000);
        histogram.record(3);
        let text = serde_json::to_string(&histogram).unwrap();
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
    }
}
