//! What all threads of one server share: its plan, its limits, its counters, its stop flag.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::admission::{Queue, RateLimit};
use crate::clock::{self, StampClock};
use crate::config::{Config, Model};
use crate::counts::{Counters, Counts};
use crate::evidence::Record;
use crate::history::History;
use crate::log::LogSender;

/// How long a stopping server waits for answers to be finished.
const DRAIN_NS: u64 = 5_000_000_000;

/// The shared state of one server.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Config,
    pub(crate) counters: Counters,
    pub(crate) queue: Queue,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) history: History,
    pub(crate) stamps: StampClock,
    pub(crate) kernel_stamps: bool,
    pub(crate) log: Option<LogSender>,
    /// In seconds since the Unix epoch.
    pub(crate) started: f64,
    stopping: AtomicBool,
    drained_by: AtomicU64,
}

impl Shared {
    pub(crate) fn new(plan: Config, kernel_stamps: bool, log: Option<LogSender>) -> Self {
        Self {
            counters: Counters::new(),
            queue: Queue::new(plan.workers, plan.queue_limit),
            rate_limit: plan.rate_limit.map(RateLimit::per_second),
            history: History::new(plan.behavior.clone()),
            stamps: StampClock::new(),
            kernel_stamps,
            log,
            started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64()),
            stopping: AtomicBool::new(false),
            drained_by: AtomicU64::new(u64::MAX),
            plan,
        }
    }

    /// Whether the server is stopping: nothing new is begun.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn stop(&self) {
        self.drained_by.store(clock::now() + DRAIN_NS, Ordering::Release);
        self.stopping.store(true, Ordering::Release);
    }

    /// The moment at which a stopping server gives up on what is unfinished; never, while it is not stopping.
    pub(crate) fn drained_by(&self) -> u64 {
        self.drained_by.load(Ordering::Acquire)
    }

    pub(crate) fn log(&self, record: Record) {
        if let Some(log) = &self.log {
            log.send(record);
        }
    }

    /// A snapshot of the counts.
    pub(crate) fn counts(&self) -> Counts {
        let queues = self.plan.model == Model::Pool;
        let counters = &self.counters;
        Counts {
            model: self.plan.model.name(),
            workers: self.plan.worker_count(),
            kernel_stamps: self.kernel_stamps,
            accepted: counters.accepted.load(Ordering::Relaxed),
            turned_away: counters.turned_away.load(Ordering::Relaxed),
            dropped: counters.dropped.load(Ordering::Relaxed),
            open: counters.open.load(Ordering::Relaxed),
            in_flight: counters.in_flight.load(Ordering::Relaxed),
            queued: queues.then(|| self.queue.waiting()),
            queue_high_water: queues.then(|| self.queue.high_water()),
            log_lost: self.log.as_ref().map(LogSender::lost),
            statuses: counters.statuses(),
        }
    }
}
