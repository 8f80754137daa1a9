//! Where response times went, kept jointly with the response time itself: percentiles of parts do not add up.

use super::RANGE_MAX;
use crate::load::sample::Sample;
use crate::load::time::Nanos;

/// The response times of one group of requests, split into their parts; sums in ns over the requests that have the part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// Requests in the group.
    pub count: u64,
    /// Of these, with the server's own account.
    pub timed: u64,
    /// With the kernel's stamp of their departure.
    pub departed: u64,
    /// With the kernel's stamp of their answer's arrival.
    pub arrived: u64,
    /// Their response times.
    pub response: u128,
    /// Waiting for a connection.
    pub conn_wait: u128,
    /// The instrument's own lateness.
    pub send_lag: u128,
    /// From our system call to the network device.
    pub send_path: u128,
    /// In the server, from the last byte in its kernel until work began.
    pub queue: u128,
    /// In the server's handler.
    pub service: u128,
    /// Between the kernels, without the server's account: both ways, and the server's writing.
    pub transport: u128,
    /// From the arrival of the answer in our kernel until we had read it.
    pub wake_up: u128,
}

impl Parts {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.timed += other.timed;
        self.departed += other.departed;
        self.arrived += other.arrived;
        self.response += other.response;
        self.conn_wait += other.conn_wait;
        self.send_lag += other.send_lag;
        self.send_path += other.send_path;
        self.queue += other.queue;
        self.service += other.service;
        self.transport += other.transport;
        self.wake_up += other.wake_up;
    }

    /// What is in none of the parts.
    pub fn residual(&self) -> u128 {
        let client = self.conn_wait + self.send_lag + self.send_path + self.wake_up;
        self.response.saturating_sub(client + self.queue + self.service + self.transport)
    }
}

/// Parts by response time: buckets at most 0.8 % wide, so that the anatomy of the tail is that of tail requests.
/// Only successful requests are in it.
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
        let account = queue.zip(sample.server.service);
        let (queue, service) = account.unwrap_or_default();
        let (send_path, wake_up) = (sample.send_path(), sample.wake_up());
        let between = sample.remote().filter(|_| account.is_some());
        let transport = between.map_or(Nanos::ZERO, |between| between.saturating_sub(queue + service));
        let wide = |part: Nanos| u128::from(part.0);
        let response = sample.response();
        self.buckets[Self::index(response)].add(&Parts {
            count: 1,
            timed: u64::from(account.is_some()),
            departed: u64::from(send_path.is_some()),
            arrived: u64::from(wake_up.is_some()),
            response: wide(response),
            conn_wait: wide(conn_wait),
            send_lag: wide(send_lag),
            send_path: wide(send_path.unwrap_or_default()),
            queue: wide(queue),
            service: wide(service),
            transport: wide(transport),
            wake_up: wide(wake_up.unwrap_or_default()),
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
