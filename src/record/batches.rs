//! Response times by contiguous batches of requests: what tells how dependent neighbouring requests are.
//!
//! How often each batch exceeds a percentile is only asked when the run is over and the percentile known, so each batch
//! keeps a coarse distribution: buckets at most 0.8 % wide. They are never read as response times, only to count; what the
//! coarseness costs is told in docs/STATISTICS.md. Memory is fixed: when the batches are used up, neighbours are merged and
//! each holds twice as many requests. Batches go by the number of the request, which is the order of its intended time, so
//! the batches of several threads add up exactly.

use super::Anatomy;
use super::anatomy::BUCKETS;
use crate::load::time::Nanos;

/// A run whose length is known has so many batches, and any other between half as many and twice as many.
pub const BATCHES: usize = 20;
/// Requests in a batch, to begin with, where the length of the run is not known.
const SIZE_AT_START: u64 = 8;

/// One batch of consecutive requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Requests in it, whatever became of them.
    pub requests: u64,
    /// The sum of the response times of the successful, in nanoseconds.
    pub sum_ns: u64,
    /// The successful by bucket of their response time, ascending; only buckets that are not empty.
    pub counts: Vec<(u16, u32)>,
}

impl Batch {
    /// Successful requests.
    pub fn successful(&self) -> u64 {
        self.counts.iter().map(|&(_, n)| u64::from(n)).sum()
    }

    /// Successful requests in the buckets below the one of `value`, and in those up to it.
    pub fn around(&self, value: Nanos) -> (u64, u64) {
        let at = Anatomy::index(value) as u16;
        let among = |kept: fn(u16, u16) -> bool| {
            self.counts.iter().filter(|&&(bucket, _)| kept(bucket, at)).map(|&(_, n)| u64::from(n)).sum()
        };
        (among(|bucket, at| bucket < at), among(|bucket, at| bucket <= at))
    }

    /// Adds the requests of another batch.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        for &(bucket, n) in &other.counts {
            match self.counts.binary_search_by_key(&bucket, |&(bucket, _)| bucket) {
                Ok(at) => self.counts[at].1 = self.counts[at].1.saturating_add(n),
                Err(at) => self.counts.insert(at, (bucket, n)),
            }
        }
    }
}

/// The batches of one round, in the order of its requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batches {
    /// Requests that belong into each batch.
    size: u64,
    batches: Vec<Batch>,
}

impl Batches {
    /// From batches as they were saved.
    pub fn restore(batches: Vec<Batch>) -> Self {
        let size = batches.iter().map(|batch| batch.requests).max().unwrap_or(0);
        Self { size, batches }
    }

    /// In the order of the requests; the last may have fewer.
    pub fn as_slice(&self) -> &[Batch] {
        &self.batches
    }

    /// Adds another thread of the same round.
    pub(super) fn merge_thread(&mut self, other: &Self) {
        let mut other = other.clone();
        while self.size < other.size {
            self.fold();
        }
        while other.size < self.size {
            other.fold();
        }
        self.batches.resize(self.batches.len().max(other.batches.len()), Batch::default());
        for (mine, theirs) in self.batches.iter_mut().zip(&other.batches) {
            mine.add(theirs);
        }
    }

    fn fold(&mut self) {
        self.size *= 2;
        let merged = self.batches.chunks(2).map(|pair| {
            let mut both = pair[0].clone();
            pair[1..].iter().for_each(|second| both.add(second));
            both
        });
        self.batches = merged.collect();
    }
}

/// Batches while they are counted. One increment a request, no allocation.
#[derive(Debug)]
pub struct BatchCounter {
    size: u64,
    cells: Box<[Cell]>,
    /// `BUCKETS` for each cell.
    counts: Box<[u32]>,
    /// The first bucket in use and the first behind the last, so that a fold touches no others.
    used: (usize, usize),
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    requests: u64,
    sum_ns: u64,
}

impl BatchCounter {
    /// For a round of `expected` requests over all threads, if that is known.
    pub fn new(expected: Option<u64>) -> Self {
        let (cells, size) = match expected {
            Some(requests) => (BATCHES, requests.div_ceil(BATCHES as u64).max(1)),
            None => (2 * BATCHES, SIZE_AT_START),
        };
        let mut counts = vec![0; cells * BUCKETS].into_boxed_slice();
        // Writes every page once: the faults come now, not under the first requests.
        counts.fill(std::hint::black_box(0));
        Self { size, cells: vec![Cell::default(); cells].into_boxed_slice(), counts, used: (BUCKETS, 0) }
    }

    /// Counts request `seq`; `response` is the response time of a successful one.
    pub fn record(&mut self, seq: u64, response: Option<Nanos>) {
        let mut at = seq / self.size;
        while at >= self.cells.len() as u64 {
            self.fold();
            at = seq / self.size;
        }
        let cell = &mut self.cells[at as usize];
        cell.requests += 1;
        let Some(response) = response else { return };
        cell.sum_ns = cell.sum_ns.saturating_add(response.0);
        let bucket = Anatomy::index(response);
        self.used = (self.used.0.min(bucket), self.used.1.max(bucket + 1));
        self.counts[at as usize * BUCKETS + bucket] += 1;
    }

    /// Merges neighbours: half as many batches, each of twice as many requests.
    fn fold(&mut self) {
        self.size *= 2;
        let cells = self.cells.len();
        for to in 0..cells {
            let pair = [2 * to, 2 * to + 1].map(|from| self.cells.get(from).copied().unwrap_or_default());
            self.cells[to] = Cell {
                requests: pair[0].requests + pair[1].requests,
                sum_ns: pair[0].sum_ns.saturating_add(pair[1].sum_ns),
            };
            for bucket in self.used.0..self.used.1 {
                let of = |from: usize| if from < cells { self.counts[from * BUCKETS + bucket] } else { 0 };
                self.counts[to * BUCKETS + bucket] = of(2 * to).saturating_add(of(2 * to + 1));
            }
        }
    }

    /// What was counted, without the empty buckets and the empty batches at the end.
    pub fn finish(&self) -> Batches {
        let last = self.cells.iter().rposition(|cell| cell.requests > 0).map_or(0, |last| last + 1);
        let batch = |(at, cell): (usize, &Cell)| {
            let buckets =
                (self.used.0..self.used.1).map(|bucket| (bucket as u16, self.counts[at * BUCKETS + bucket]));
            Batch {
                requests: cell.requests,
                sum_ns: cell.sum_ns,
                counts: buckets.filter(|b| b.1 > 0).collect(),
            }
        };
        Batches { size: self.size, batches: self.cells[..last].iter().enumerate().map(batch).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(expected: Option<u64>, seqs: impl Iterator<Item = u64>) -> Batches {
        let mut counter = BatchCounter::new(expected);
        for seq in seqs {
            counter.record(seq, (seq % 10 != 9).then_some(Nanos(1_000 + 10 * seq)));
        }
        counter.finish()
    }

    #[test]
    fn a_known_length_makes_twenty_batches() {
        let batches = counted(Some(400), 0..400);
        assert_eq!(batches.as_slice().len(), BATCHES);
        assert!(batches.as_slice().iter().all(|b| b.requests == 20 && b.successful() == 18));
        let sum: u64 = batches.as_slice().iter().map(|b| b.sum_ns).sum();
        assert_eq!(sum, (0..400).filter(|seq| seq % 10 != 9).map(|seq| 1_000 + 10 * seq).sum::<u64>());
    }

    #[test]
    fn memory_stays_fixed_and_nothing_is_lost_however_long_the_run() {
        for n in [1, 7, 8, 9, 319, 320, 321, 5_000, 100_000] {
            let batches = counted(None, 0..n);
            let slice = batches.as_slice();
            assert!(slice.len() <= 2 * BATCHES, "{n}");
            assert!(n <= 160 || slice.len() > BATCHES, "{n}: {}", slice.len());
            assert_eq!(slice.iter().map(|b| b.requests).sum::<u64>(), n);
            assert_eq!(slice.iter().map(Batch::successful).sum::<u64>(), n - n / 10);
            let full = &slice[..slice.len() - 1];
            assert!(full.iter().all(|b| b.requests == batches.size), "{n}");
        }
    }

    #[test]
    fn threads_of_unequal_progress_add_up_to_what_one_would_have_counted() {
        // one thread has the even ids and came far, the other the odd ones and did not
        let mut merged = counted(None, (0..20_000).step_by(2));
        merged.merge_thread(&counted(None, (1..300).step_by(2)));
        let whole = counted(None, (0..20_000).filter(|seq| seq % 2 == 0 || *seq < 300));
        assert_eq!(merged, whole);
    }

    #[test]
    fn late_requests_find_their_batch() {
        let mut seqs: Vec<u64> = (0..1_000).collect();
        seqs.rotate_left(3);
        assert_eq!(counted(None, seqs.into_iter()), counted(None, 0..1_000));
    }

    #[test]
    fn requests_around_a_value_are_counted_by_whole_buckets() {
        let mut batch = BatchCounter::new(Some(20));
        for (seq, ns) in [1_000_000, 2_000_000, 2_000_001, 3_000_000].into_iter().enumerate() {
            batch.record(seq as u64, Some(Nanos(ns)));
        }
        let mut all = Batch::default();
        batch.finish().as_slice().iter().for_each(|one| all.add(one));
        assert_eq!(all.around(Nanos(2_000_000)), (1, 3));
        assert_eq!(all.around(Nanos(3_000_000)), (3, 4));
        assert_eq!(all.around(Nanos(10)), (0, 0));
    }
}
