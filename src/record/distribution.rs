//! A distribution of durations: a histogram with its exact figures beside it.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

use crate::load::time::Nanos;

/// Longer values are counted as out of range; they keep their place in count, sum and maximum.
pub const RANGE_MAX: Nanos = Nanos::from_secs(3_600);

/// A value is read at most this much, as a share of itself, from the one recorded: half the width of a bucket of 3
/// significant digits, 1/2048, rounded up. Below 2048 ns a bucket is one nanosecond, and values are exact.
pub const RELATIVE_ERROR: f64 = 0.0005;

/// A distribution of durations.
#[derive(Debug, Clone)]
pub struct Distribution {
    histogram: Histogram<u64>,
    out_of_range: u64,
    sum: u128,
    min: Nanos,
    max: Nanos,
}

impl Default for Distribution {
    fn default() -> Self {
        let mut histogram = Histogram::new_with_bounds(1, RANGE_MAX.0, 3).expect("the bounds are valid");
        // Writes every counter once: the page faults come now, not under the first requests.
        histogram.clear();
        Self { histogram, out_of_range: 0, sum: 0, min: Nanos::MAX, max: Nanos::ZERO }
    }
}

impl Distribution {
    /// Puts a saved histogram back together with its exact figures.
    pub fn restore(histogram: Histogram<u64>, out_of_range: u64, sum: u128, min: Nanos, max: Nanos) -> Self {
        Self { histogram, out_of_range, sum, min, max }
    }

    /// Forgets all values; allocates nothing.
    pub fn clear(&mut self) {
        self.histogram.reset();
        (self.out_of_range, self.sum, self.min, self.max) = (0, 0, Nanos::MAX, Nanos::ZERO);
    }

    /// The same in little memory: runs of empty buckets take a few bytes.
    pub(super) fn pack(&self) -> Packed {
        let mut counts = Vec::new();
        V2Serializer::new()
            .serialize(&self.histogram, &mut counts)
            .expect("a histogram of known bounds can be serialised into memory");
        counts.shrink_to_fit();
        let Self { out_of_range, sum, min, max, .. } = *self;
        Packed { counts, out_of_range, sum, min, max }
    }

    /// Counts one value.
    pub fn record(&mut self, value: Nanos) {
        if value > RANGE_MAX || self.histogram.record(value.0).is_err() {
            self.out_of_range += 1;
        }
        self.sum += u128::from(value.0);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("all distributions have the same bounds");
        self.out_of_range += other.out_of_range;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.histogram.len() + self.out_of_range
    }

    /// How many of them were longer than [`RANGE_MAX`].
    pub fn out_of_range(&self) -> u64 {
        self.out_of_range
    }

    /// Their exact sum.
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// The exact mean, rounded down to a nanosecond.
    pub fn mean(&self) -> Option<Nanos> {
        let count = u128::from(self.count());
        (count > 0).then(|| Nanos((self.sum / count) as u64))
    }

    /// The exact least value.
    pub fn min(&self) -> Option<Nanos> {
        (self.count() > 0).then_some(self.min)
    }

    /// The exact greatest value.
    pub fn max(&self) -> Option<Nanos> {
        (self.count() > 0).then_some(self.max)
    }

    /// The value of rank `rank` (1 is the least), within 0.05 %; the first and the last exactly.
    pub fn at_rank(&self, rank: u64) -> Option<Nanos> {
        if rank == 0 || rank > self.count() {
            return None;
        }
        if rank == 1 {
            return self.min();
        }
        if rank > self.histogram.len() || rank == self.count() {
            return self.max();
        }
        let mut seen = 0;
        let bucket = self.histogram.iter_recorded().find(|step| {
            seen += step.count_since_last_iteration();
            seen >= rank
        })?;
        let middle = Nanos(self.histogram.median_equivalent(bucket.value_iterated_to()));
        Some(middle.clamp(self.min, self.max))
    }

    /// What the value of rank `rank` lies between: the edges of its bucket, within the exact extremes.
    pub fn edges_at_rank(&self, rank: u64) -> Option<(Nanos, Nanos)> {
        let middle = self.at_rank(rank)?;
        if rank == 1 || rank == self.count() || middle > RANGE_MAX {
            return Some((middle, middle));
        }
        let low = Nanos(self.histogram.lowest_equivalent(middle.0));
        let high = Nanos(self.histogram.highest_equivalent(middle.0));
        Some((low.max(self.min), high.min(self.max)))
    }

    /// The histogram itself, for export.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

/// A distribution that is kept, not recorded into.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    /// HdrHistogram V2.
    counts: Vec<u8>,
    out_of_range: u64,
    sum: u128,
    min: Nanos,
    max: Nanos,
}

impl Packed {
    pub(super) fn unpack(&self) -> Distribution {
        let histogram =
            Deserializer::new().deserialize(&mut self.counts.as_slice()).expect("it was packed here");
        let Self { out_of_range, sum, min, max, .. } = *self;
        Distribution { histogram, out_of_range, sum, min, max }
    }
}
