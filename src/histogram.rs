//! How often values of which size occur.
//!
//! Up to 16 every value has a bucket of its own; above, the values between two
//! powers of two share four buckets of equal width. So what is read off above
//! 16 is at most a quarter too high, whatever the values are, and a histogram
//! takes at most 2 KiB.
//!
//! ```text
//! 0  1  2 ... 16 | 17-20  21-24  25-28  29-32 | 33-40  41-48  49-56  57-64 | 65-80 ...
//! ```

/// Values with a bucket of their own: 0 to 16.
const EXACT: u64 = 16;
/// Steps from one power of two to the next, as a logarithm.
const STEP_BITS: u32 = 2;

/// How often values of which size were counted.
///
/// Count, sum, smallest and largest value are exact. Values above 16 are
/// counted together with others of about their size.
///
/// ```
/// let mut sizes = swissdb::Histogram::new();
/// for bytes in [3, 3, 8, 100] {
///     sizes.add(bytes);
/// }
/// assert_eq!((sizes.count(), sizes.mean()), (4, 28.5));
/// assert_eq!((sizes.min(), sizes.max()), (Some(3), Some(100)));
/// // Three of four values are at most 8.
/// assert_eq!(sizes.quantile(0.75), Some(8));
/// let buckets: Vec<_> = sizes.buckets().map(|b| (b.low, b.high, b.count)).collect();
/// assert_eq!(buckets, [(3, 3, 2), (8, 8, 1), (97, 112, 1)]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// One count per bucket, up to the highest that was needed.
    counts: Vec<u64>,
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
}

/// A range of values, and how many of those counted lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bucket {
    /// The smallest value of the range.
    pub low: u64,
    /// The largest value of the range.
    pub high: u64,
    /// How many values were counted in it.
    pub count: u64,
}

impl Histogram {
    /// One in which nothing was counted.
    pub fn new() -> Histogram {
        Histogram::default()
    }

    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        self.add_many(value, 1);
    }

    /// Counts a value so many times.
    pub fn add_many(&mut self, value: u64, times: u64) {
        if times == 0 {
            return;
        }
        let bucket = bucket_of(value);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += times;
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.count += times;
        self.sum = self.sum.saturating_add(value.saturating_mul(times));
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The smallest value; none if nothing was counted.
    pub fn min(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min)
    }

    /// The largest value; none if nothing was counted.
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// The mean of the values; 0 if nothing was counted.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// A value that at least this share of the values (0 to 1) does not
    /// exceed: the largest of its bucket, but never more than the largest
    /// value. None if nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = (share.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut passed = 0;
        let reached = self.buckets().find(|bucket| {
            passed += bucket.count;
            passed >= wanted
        });
        reached.map(|bucket| bucket.high.min(self.max)).or(self.max())
    }

    /// The buckets in which values were counted, from small to large.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(bucket, count)| {
            let (low, high) = range_of(bucket);
            Bucket { low, high, count: *count }
        })
    }
}

/// The bucket of a value.
fn bucket_of(value: u64) -> usize {
    if value <= EXACT {
        return value as usize;
    }
    // Counted from 0 the ranges begin at powers of two, not behind them.
    let value = value - 1;
    let shift = value.ilog2() - STEP_BITS;
    let first = u64::from(shift - first_shift()) << STEP_BITS;
    (EXACT + 1 + first + ((value >> shift) - (1 << STEP_BITS))) as usize
}

/// The smallest and the largest value of a bucket.
fn range_of(bucket: usize) -> (u64, u64) {
    let bucket = bucket as u64;
    if bucket <= EXACT {
        return (bucket, bucket);
    }
    let above = bucket - EXACT - 1;
    let shift = (above >> STEP_BITS) as u32 + first_shift();
    let low = ((1 << STEP_BITS) + (above & ((1 << STEP_BITS) - 1))) << shift;
    (low + 1, low.saturating_add(1 << shift))
}

/// The width of the first shared bucket, as a logarithm.
fn first_shift() -> u32 {
    EXACT.ilog2() - STEP_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts these values once each.
    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::new();
        values.into_iter().for_each(|value| histogram.add(value));
        histogram
    }

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        let mut next = 0;
        for bucket in 0..=bucket_of(u64::MAX) {
            let (low, high) = range_of(bucket);
            assert_eq!(low, next, "bucket {bucket}");
            assert_eq!((bucket_of(low), bucket_of(high)), (bucket, bucket));
            assert!(high - low <= low / 4, "{low} to {high} is wider than a quarter");
            next = high.wrapping_add(1);
        }
        assert_eq!(next, 0, "the last bucket ends at the largest value");
    }

    #[test]
    fn slot_payloads_end_a_bucket_up_to_64_bytes() {
        for payload in [24, 32, 40, 48, 56, 64] {
            assert_eq!(range_of(bucket_of(payload)).1, payload);
        }
    }

    #[test]
    fn an_empty_histogram_has_no_values() {
        let empty = Histogram::new();
        assert_eq!((empty.count(), empty.sum(), empty.mean()), (0, 0, 0.0));
        assert_eq!((empty.min(), empty.max(), empty.quantile(0.5)), (None, None, None));
        assert_eq!(empty.buckets().count(), 0);
    }

    #[test]
    fn quantiles_are_exact_for_small_values() {
        let ten = of(1..=10);
        for (share, value) in [(0.0, 1), (0.1, 1), (0.11, 2), (0.5, 5), (0.99, 10), (1.0, 10)] {
            assert_eq!(ten.quantile(share), Some(value), "{share}");
        }
        assert_eq!(of([0]).quantile(0.0), Some(0));
    }

    #[test]
    fn quantiles_of_large_values_are_at_most_a_quarter_too_high() {
        let many = of((1..=1000).map(|i| i * 977));
        for i in 1..=1000u64 {
            let exact = i * 977;
            let read = many.quantile(i as f64 / 1000.0).unwrap();
            assert!((exact..=exact + exact / 4).contains(&read), "{exact} read as {read}");
        }
        assert_eq!(many.quantile(1.0), many.max());
    }

    #[test]
    fn counting_many_is_counting_one_many_times() {
        let mut many = Histogram::new();
        many.add_many(30, 3);
        many.add_many(7, 0);
        assert_eq!(many, of([30, 30, 30]));
        assert_eq!((many.min(), many.sum()), (Some(30), 90));
    }

    #[test]
    fn the_largest_values_do_not_overflow() {
        let largest = of([u64::MAX, u64::MAX]);
        assert_eq!((largest.sum(), largest.max()), (u64::MAX, Some(u64::MAX)));
        assert_eq!(largest.quantile(1.0), Some(u64::MAX));
    }
}
