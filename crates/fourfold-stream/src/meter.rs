//! Counts of what happens, for whoever watches the server: relaxed atomics of a fixed size. Nothing here locks, waits or grows.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How often something has happened, or how much of it. Any thread may add.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So much more.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// So much less, of what goes up and down.
    pub fn take(&self, amount: u64) {
        self.0.fetch_sub(amount, Relaxed);
    }

    /// It stands at this now.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// What it stands at.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How values are distributed over fixed buckets. Any thread may add.
#[derive(Debug)]
pub struct Histogram {
    /// The largest value of each bucket, ascending; what is larger than the last one is in a bucket of its own.
    bounds: &'static [u64],
    counts: Box<[Count]>,
    sum: Count,
}

impl Histogram {
    /// Nothing was counted yet.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| Count::default()).collect(), sum: Count::default() }
    }

    /// Counts a value.
    pub fn add(&self, value: u64) {
        self.counts[self.bounds.partition_point(|bound| *bound < value)].one();
        self.sum.add(value);
    }

    /// What it stands at. Not one moment's, if values are added meanwhile; but never more in a bucket than was counted.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        let counts = self.counts.iter().map(Count::get).collect();
        Distribution { bounds: self.bounds, counts, sum: self.sum.get() }
    }
}

/// A histogram at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// The largest value of each bucket but the last.
    pub bounds: &'static [u64],
    /// How many values are in each bucket; one more than there are bounds.
    pub counts: Vec<u64>,
    /// All values together.
    pub sum: u64,
}

impl Distribution {
    /// The empty one with these buckets.
    #[must_use]
    pub fn empty(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0 }
    }

    /// Adds what another one has counted, in the same buckets.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds);
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.sum += other.sum;
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// For durations in microseconds: from what a memory engine takes to what makes an operator look.
pub const MICROS: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// For how many come at once.
pub const CROWD: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&[1, 10]);
        for value in [0, 1, 2, 10, 11, 1_000] {
            histogram.add(value);
        }
        let distribution = histogram.distribution();
        assert_eq!((distribution.counts.as_slice(), distribution.sum), (&[2, 2, 2][..], 1_024));
        assert_eq!(distribution.count(), 6);
    }

    #[test]
    fn distributions_add_up() {
        let one = Histogram::new(CROWD);
        one.add(3);
        let mut all = Distribution::empty(CROWD);
        all.merge(&one.distribution());
        all.merge(&one.distribution());
        assert_eq!((all.count(), all.sum, all.counts[2]), (2, 6, 2));
    }
}
