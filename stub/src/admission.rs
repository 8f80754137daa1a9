//! Who is let in: the queue limit of the pool and the rate limit.
//!
//! Both are lock-free and take the time as an argument, so tests inject it. They only decide; the answers (503, 429)
//! are made by `handler.rs`.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts the requests given to the workers: the ones they work on and the ones that wait.
#[derive(Debug)]
pub(crate) struct Queue {
    workers: usize,
    limit: Option<usize>,
    inside: AtomicUsize,
    high_water: AtomicUsize,
}

impl Queue {
    pub(crate) fn new(workers: usize, limit: Option<usize>) -> Self {
        Self { workers, limit, inside: AtomicUsize::new(0), high_water: AtomicUsize::new(0) }
    }

    /// Admits a request if a worker is free for it or fewer than `limit` requests wait. Only the reactor enters, so
    /// check and count need not be one step: others can only leave in between.
    pub(crate) fn enter(&self) -> bool {
        let waiting = (self.inside.load(Ordering::Acquire) + 1).saturating_sub(self.workers);
        if self.limit.is_some_and(|limit| waiting > limit) {
            return false;
        }
        self.inside.fetch_add(1, Ordering::AcqRel);
        self.high_water.fetch_max(waiting, Ordering::Relaxed);
        true
    }

    /// A worker has finished with a request.
    pub(crate) fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::AcqRel);
    }

    /// The most requests that ever waited at once.
    pub(crate) fn high_water(&self) -> usize {
        self.high_water.load(Ordering::Relaxed)
    }

    /// Requests that wait now.
    pub(crate) fn waiting(&self) -> usize {
        self.inside.load(Ordering::Acquire).saturating_sub(self.workers)
    }
}

/// A token bucket (kept as the one time at which it will be full again): `rate` tokens a second, room for a tenth of
/// a second's worth, at least one.
#[derive(Debug)]
pub(crate) struct RateLimit {
    interval_ns: u64,
    room_ns: u64,
    full_at: AtomicU64,
}

impl RateLimit {
    pub(crate) fn per_second(rate: f64) -> Self {
        let interval_ns = (1e9 / rate).round().max(1.0) as u64;
        let room = (rate / 10.0).floor().max(1.0) as u64;
        Self { interval_ns, room_ns: interval_ns.saturating_mul(room), full_at: AtomicU64::new(0) }
    }

    /// Takes a token at `now`, or says how many nanoseconds later one will be there.
    pub(crate) fn admit(&self, now: u64) -> Result<(), u64> {
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let next = full_at.max(now).saturating_add(self.interval_ns);
            let wait = next.saturating_sub(now.saturating_add(self.room_ns));
            if wait > 0 {
                return Err(wait);
            }
            match self.full_at.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(seen) => full_at = seen,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_and_remembers_its_high_water_mark() {
        let queue = Queue::new(2, Some(1));
        assert!(queue.enter() && queue.enter() && queue.enter());
        assert!(!queue.enter());
        assert_eq!((queue.high_water(), queue.waiting()), (1, 1));
        queue.leave();
        assert!(queue.enter());
        let loss = Queue::new(1, Some(0));
        assert!(loss.enter() && !loss.enter());
        let unlimited = Queue::new(1, None);
        assert!((0..100).all(|_| unlimited.enter()));
        assert_eq!(unlimited.high_water(), 99);
    }

    #[test]
    fn the_bucket_gives_its_rate_and_no_more() {
        let limit = RateLimit::per_second(100.0); // one each 10 ms, room for 10
        let start = 5_000_000_000;
        assert_eq!((0..20).filter(|_| limit.admit(start).is_ok()).count(), 10);
        assert_eq!(limit.admit(start), Err(10_000_000));
        assert_eq!(limit.admit(start + 9_999_999), Err(1));
        assert_eq!(limit.admit(start + 10_000_000), Ok(()));
        let second = (0..1000).filter(|i| limit.admit(start + 10_000_000 + i * 1_000_000).is_ok()).count();
        assert_eq!(second, 99);
        // A long pause fills the bucket, it does not overfill it.
        assert_eq!((0..20).filter(|_| limit.admit(start * 2).is_ok()).count(), 10);
        let slow = RateLimit::per_second(0.5);
        assert_eq!(slow.admit(start), Ok(()));
        assert_eq!(slow.admit(start), Err(2_000_000_000));
    }
}
