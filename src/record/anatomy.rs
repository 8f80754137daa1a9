//! Where response times went, kept jointly with the response time itself: percentiles of parts do not add up.

use super::RANGE_MAX;
use crate::load::sample::Sample;
use crate::load::time::Nanos;

/// The response time of one group of requests, split into its parts; sums over `count` requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// Requests in the group.
    pub count: u64,
    /// Their response times.
    pub response: u128,
    /// Waiting for a connection.
    pub conn_wait: u128,
    /// The instrument's own lateness.
    pub send_lag: u128,
    /// In the server, from the last byte in its kernel until work began.
    pub queue: u128,
    /// In the server's handler.
    pub service: u128,
}

impl Parts {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.response += other.response;
        self.conn_wait += other.conn_wait;
        self.send_lag += other.send_lag;
        self.queue += other.queue;
        self.service += other.service;
    }

    /// What the parts do not explain: both network paths, the server's writing, the client's wake-up.
    pub fn transport(&self) -> u128 {
        self.response.saturating_sub(self.conn_wait + self.send_lag + self.queue + self.service)
    }
}

/// Parts by response time: buckets at most 0.8 % wide, so that the anatomy of the tail is that of tail requests.
/// Only requests whose server gave its share of the time are in it.
#[derive(Debug, Clone)]
pub struct Anatomy {
    buckets: Box<[Parts]>,
}

const ANATOMY_BITS: u32 = 7;
/// Buckets up to [`RANGE_MAX`], the last with all that is longer.
pub(super) const BUCKETS: usize = Anatomy::index(RANGE_MAX) + 1;

impl Default for Anatomy {
    fn default() -> Self {
        Self { buckets: vec![Parts::default(); BUCKETS].into_boxed_slice() }
    }
}

impl Anatomy {
    pub(super) fn record(&mut self, sample: &Sample) {
        let (Some(conn_wait), Some(send_lag)) = (sample.conn_wait(), sample.send_lag()) else { return };
        let queue = sample.server.queue.or(sample.server.queue_from_read);
        let (Some(queue), Some(service)) = (queue, sample.server.service) else { return };
        let response = sample.response();
        let wide = |part: Nanos| u128::from(part.0);
        self.buckets[Self::index(response)].add(&Parts {
            count: 1,
            response: wide(response),
            conn_wait: wide(conn_wait),
            send_lag: wide(send_lag),
            queue: wide(queue),
            service: wide(service),
        });
    }

    /// The last bucket also takes what is out of range.
    pub(super) const fn index(value: Nanos) -> usize {
        let value = if value.0 < RANGE_MAX.0 { value.0 } else { RANGE_MAX.0 };
        let exponent = (value | 1).ilog2().saturating_sub(ANATOMY_BITS);
        ((exponent as usize) << ANATOMY_BITS) + (value >> exponent) as usize
    }

    /// The sum over all requests whose response time is in the buckets from `from` to `to`, both included whole.
    pub fn between(&self, from: Nanos, to: Nanos) -> Parts {
        let mut sum = Parts::default();
        let range = Self::index(from)..=Self::index(to);
        for bucket in self.buckets.iter().enumerate().filter(|(index, _)| range.contains(index)) {
            sum.add(bucket.1);
        }
        sum
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            mine.add(theirs);
        }
    }
}
