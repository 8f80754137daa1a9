//! What the server counts, for `/stats`, `/metrics` and tests.
//!
//! Plain atomics, each touched once per request or connection. They are read while others write: a snapshot may be
//! torn by a request or two while the server is busy, and is exact when it is idle.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde::Serialize;

const STATUSES: usize = 600;

/// A snapshot of the server's counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// The threading model.
    pub model: &'static str,
    /// Threads that do work: 1 for `single`, the loops of `per-core`; absent for `threads`.
    pub workers: Option<usize>,
    /// Whether the kernel stamps received segments.
    pub kernel_stamps: bool,
    /// Connections accepted, the turned away ones included.
    pub accepted: u64,
    /// Connections over the cap that were answered 503.
    pub turned_away: u64,
    /// Connections closed without an answer, for want of descriptors or threads.
    pub dropped: u64,
    /// Connections open now.
    pub open: usize,
    /// Infer requests in service now.
    pub in_flight: usize,
    /// Requests read that wait for a worker now; absent where requests wait unread in their sockets.
    pub queued: Option<usize>,
    /// The most requests that ever waited at once; absent as above.
    pub queue_high_water: Option<usize>,
    /// Records that did not get into the server log; absent without one.
    pub log_lost: Option<u64>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
}

/// The counters behind a snapshot.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) accepted: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) open: AtomicUsize,
    pub(crate) in_flight: AtomicUsize,
    statuses: Box<[AtomicU64]>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            accepted: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            statuses: (0..STATUSES).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub(crate) fn answered(&self, status: u16) {
        if let Some(count) = self.statuses.get(usize::from(status)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn statuses(&self) -> BTreeMap<u16, u64> {
        (0u16..)
            .zip(&self.statuses)
            .map(|(status, count)| (status, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}
