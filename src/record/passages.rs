//! Stretches of consecutive requests as they were, and sums by connection: what the diagnosis of a run looks at, in
//! bounded memory however long the run is.
//!
//! Requests are kept in blocks of 256 consecutive ids. When a thread's room is full, every other block is thrown away and
//! from then on only every other is kept; so what remains is spread evenly over the run.

use crate::load::sample::{Outcome, Sample};
use crate::load::time::Nanos;

/// Ids in a block.
pub const BLOCK: u64 = 256;
/// Requests kept by a thread (less than a MiB).
const KEPT_MAX: usize = 8_192;

/// One measured request that was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    /// Its id.
    pub seq: u64,
    /// When it was due.
    pub intended: Nanos,
    /// When it was sent.
    pub issued: Nanos,
    /// done − intended, if it completed.
    pub response: Option<Nanos>,
    /// The server's own account, if it gave one that can be true.
    pub server: Option<Worked>,
}

/// What a server said of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worked {
    /// In its queue.
    pub queue: Nanos,
    /// In its handler.
    pub service: Nanos,
}

/// Every `stride`-th block of 256 requests.
#[derive(Debug, Clone)]
pub struct Passages {
    stride: u64,
    kept: Vec<Passage>,
}

impl Default for Passages {
    fn default() -> Self {
        Self { stride: 1, kept: Vec::new() }
    }
}

impl Passages {
    /// With room for all that a thread keeps.
    pub(super) fn for_thread() -> Self {
        Self { stride: 1, kept: Vec::with_capacity(KEPT_MAX) }
    }

    pub(super) fn record(&mut self, sample: &Sample) {
        let Some(issued) = sample.issued.filter(|_| self.keeps(sample.id.seq)) else { return };
        if self.kept.len() == KEPT_MAX {
            self.widen(2 * self.stride);
            if !self.keeps(sample.id.seq) {
                return;
            }
        }
        let response = matches!(sample.outcome, Outcome::Completed(_)).then(|| sample.response());
        let timing = &sample.server;
        let server = timing.queue.or(timing.queue_from_read).zip(timing.service);
        let server = server
            .filter(|_| response.is_some() && sample.server_timing_fits())
            .map(|(queue, service)| Worked { queue, service });
        self.kept.push(Passage { seq: sample.id.seq, intended: sample.intended, issued, response, server });
    }

    fn keeps(&self, seq: u64) -> bool {
        (seq / BLOCK).is_multiple_of(self.stride)
    }

    fn widen(&mut self, stride: u64) {
        self.stride = stride;
        self.kept.retain(|passage| (passage.seq / BLOCK).is_multiple_of(stride));
    }

    /// Adds another thread of the same round.
    pub(super) fn merge(&mut self, other: &Self) {
        let stride = self.stride.max(other.stride);
        self.widen(stride);
        self.kept.extend(other.kept.iter().filter(|passage| (passage.seq / BLOCK).is_multiple_of(stride)));
    }

    /// One block in so many was kept.
    pub fn stride(&self) -> u64 {
        self.stride
    }

    /// The blocks, each in the order of ids.
    pub fn blocks(&self) -> Vec<Vec<Passage>> {
        let mut kept = self.kept.clone();
        kept.sort_unstable_by_key(|passage| passage.seq);
        kept.chunk_by(|a, b| a.seq / BLOCK == b.seq / BLOCK).map(<[_]>::to_vec).collect()
    }
}

/// Count, sum and sum of squares of the service times (done − issued) on one connection slot of one thread.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments {
    /// The thread.
    pub thread: usize,
    /// Completed requests.
    pub count: u64,
    /// ns.
    pub sum: f64,
    /// ns².
    pub squares: f64,
}

impl Moments {
    /// Adds one value.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    /// All together, of the first one's thread.
    pub fn total<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut total = Self::default();
        for moments in all {
            total.thread = if total.count == 0 { moments.thread } else { total.thread };
            total.count += moments.count;
            total.sum += moments.sum;
            total.squares += moments.squares;
        }
        total
    }

    /// Of what was added.
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::schedule::{Phase, RequestId};
    use crate::load::server_timing::ServerTiming;

    fn sample(seq: u64) -> Sample {
        Sample {
            id: RequestId { phase: Phase::Measure, seq },
            intended: Nanos(seq),
            ready: Some(Nanos(seq)),
            issued: Some(Nanos(seq + 1)),
            transmitted: None,
            arrived: None,
            first_byte: None,
            done: Nanos(seq + 5),
            read_gap: Nanos::ZERO,
            own_wait: Nanos::ZERO,
            arrival_gap: None,
            outcome: Outcome::Completed(200),
            bytes_sent: 0,
            bytes_received: 0,
            connection: 0,
            template: 0,
            connect: None,
            attempt: 1,
            server: ServerTiming::default(),
            digest: None,
        }
    }

    #[test]
    fn what_is_kept_is_bounded_whole_and_spread_over_the_run() {
        let requests = 300_000;
        let mut threads = [(); 3].map(|()| Passages::for_thread());
        for seq in 0..requests {
            threads[seq as usize % 3].record(&sample(seq));
        }
        let mut all = Passages::default();
        for thread in &threads {
            assert!(thread.kept.len() <= KEPT_MAX);
            all.merge(thread);
        }
        let blocks = all.blocks();
        let starts: Vec<u64> = blocks.iter().map(|block| block[0].seq).collect();
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == all.stride * BLOCK), "{starts:?}");
        assert!(blocks.len() >= 32 && starts[starts.len() - 1] > requests * 9 / 10);
        for block in &blocks[..blocks.len() - 1] {
            assert_eq!(block.len() as u64, BLOCK);
            assert!(block.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
        }
    }

    #[test]
    fn moments_add_up() {
        let mut parts = [Moments { thread: 4, ..Moments::default() }; 2];
        parts[0].add(1.0);
        parts[1].add(2.0);
        parts[1].add(6.0);
        let total = Moments::total(&parts);
        assert_eq!((total.thread, total.count, total.mean(), total.squares), (4, 3, 3.0, 41.0));
    }
}
