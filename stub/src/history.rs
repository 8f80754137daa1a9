//! What a server with a `Behavior` remembers and does: how long it has run, how many requests it began, its one lock, what it
//! leaked. With no behaviour asked for, each of these costs a comparison.

use std::cell::Cell;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::behavior::Behavior;
use crate::clock;
use crate::config::WorkKind;

/// The most of a thread's own handling of requests that counts as service: more is a disturbance, and to be seen.
const HANDLING_MAX_NS: u64 = 250_000;

thread_local! {
    /// When this thread ended the service before.
    static FREE_SINCE: Cell<u64> = const { Cell::new(0) };
}

/// What is leaked in all, at most: the machine has other users.
const LEAKED_MAX: usize = 1 << 30;

/// The memory of one server.
#[derive(Debug)]
pub(crate) struct History {
    behavior: Behavior,
    started: u64,
    begun: AtomicU64,
    lock: Mutex<()>,
    leaked: Mutex<Leaked>,
}

#[derive(Debug, Default)]
struct Leaked {
    memory: Vec<Box<[u8]>>,
    bytes: usize,
    files: Vec<File>,
}

impl History {
    /// Of a server that starts now.
    pub(crate) fn new(behavior: Behavior) -> Self {
        Self {
            behavior,
            started: clock::now(),
            begun: AtomicU64::new(0),
            lock: Mutex::new(()),
            leaked: Mutex::default(),
        }
    }

    /// How long until infer requests are taken, if they are not yet.
    pub(crate) fn not_ready_for(&self) -> Option<u64> {
        let age = self.age();
        (!self.behavior.is_ready(age)).then(|| self.behavior.startup_delay - age)
    }

    /// The service time of an infer request that begins now.
    pub(crate) fn service(&self, demand: u64, known: usize, len: usize) -> u64 {
        let order =
            if self.behavior.counts() { self.begun.fetch_add(1, Ordering::Relaxed) } else { u64::MAX };
        self.behavior.service(demand, order, known, len)
    }

    /// Takes the service time of a request that was begun then.
    pub(crate) fn perform(&self, kind: WorkKind, service: u64, mut begun: Begun) {
        let locked = self.behavior.locked(service);
        if locked > 0 {
            // What is guarded is time, and a panic leaves that whole.
            let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.spend(kind, locked, Begun::now(kind));
            begun = Begun::now(kind);
        }
        self.spend(kind, service - locked, begun);
        self.leak();
    }

    /// Stands still while the server does.
    pub(crate) fn stand_still(&self) {
        if let Some(stall) = self.behavior.stall
            && let Some(until) = stall.until(self.age())
        {
            clock::sleep_until(self.started + until);
        }
    }

    /// Spends so much time, and the stalls in it, in which nothing goes on.
    fn spend(&self, kind: WorkKind, time: u64, begun: Begun) {
        match kind {
            WorkKind::Sleep => clock::sleep_until(begun.at.saturating_add(time)),
            WorkKind::Spin => clock::burn_until(begun.cpu.saturating_add(time)),
        }
        if let Some(stall) = self.behavior.stall {
            let age = |at: u64| at.saturating_sub(self.started);
            clock::sleep_until(self.started + stall.stretched(age(begun.at), age(clock::now())));
        }
    }

    fn leak(&self) {
        let Behavior { leak_bytes, leak_fds, .. } = self.behavior;
        if leak_bytes == 0 && leak_fds == 0 {
            return;
        }
        let mut leaked = self.leaked.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = leak_bytes as usize;
        if bytes > 0 && leaked.bytes + bytes <= LEAKED_MAX {
            // Written to, so that it is resident.
            leaked.memory.push(vec![1; bytes].into_boxed_slice());
            leaked.bytes += bytes;
        }
        leaked.files.extend((0..leak_fds).filter_map(|_| File::open("/dev/null").ok()));
    }

    fn age(&self) -> u64 {
        clock::now().saturating_sub(self.started)
    }
}

/// When work was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    /// On CLOCK_MONOTONIC.
    pub(crate) at: u64,
    /// What the thread had used of its CPU by then; 0 where nobody will ask.
    cpu: u64,
}

impl Begun {
    /// For a request that arrived then and takes so long. Service by sleeping begins when the request is there and the thread is
    /// done with the one before: what the thread does around it (waking up, reading, writing the answer before) is part
    /// of the service time, so that a server of `fixed:2ms` really serves 500 requests a second. That holds for a quarter of
    /// the service time and 250 µs at most. Work that spins has its handling on top, as computing does.
    pub(crate) fn due(kind: WorkKind, service: u64, arrived: u64) -> Self {
        let now = Self::now(kind);
        match kind {
            WorkKind::Spin => now,
            WorkKind::Sleep => Self { at: begin(now.at, arrived, FREE_SINCE.get(), service), ..now },
        }
    }

    /// The service of this thread's request ends now.
    pub(crate) fn end() -> u64 {
        let now = clock::now();
        FREE_SINCE.set(now);
        now
    }

    /// Now, for work of this kind.
    fn now(kind: WorkKind) -> Self {
        Self { at: clock::now(), cpu: if kind == WorkKind::Spin { clock::cpu_time() } else { 0 } }
    }
}

/// When a service began that is first looked at now; all on CLOCK_MONOTONIC.
fn begin(now: u64, arrived: u64, free_since: u64, service: u64) -> u64 {
    arrived.max(free_since).max(now.saturating_sub(HANDLING_MAX_NS.min(service / 4))).min(now)
}

/// Sleeps for as long as so many bytes take at a rate.
pub(crate) fn pace(bytes: usize, rate: Option<u32>) {
    if let Some(rate) = rate {
        clock::sleep_until(clock::now() + bytes as u64 * 1_000_000_000 / u64::from(rate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_begins_when_the_request_is_there_and_the_thread_is_free() {
        const NOW: u64 = 10_000_000;
        const MS: u64 = 1_000_000;
        for (arrived, free_since, service, begins, why) in [
            (9_950_000, 5_000_000, 2 * MS, 9_950_000, "an idle thread had to wake up"),
            (9_000_000, 9_980_000, 2 * MS, 9_980_000, "a busy thread wrote the answer before"),
            (8_000_000, 5_000_000, 2 * MS, 9_750_000, "held up: no more than 250 us count"),
            (9_900_000, 5_000_000, 100_000, 9_975_000, "and no more than a quarter of the service"),
            (9_900_000, 5_000_000, 0, NOW, "which may be nothing"),
            (10_000_400, 5_000_000, 2 * MS, NOW, "a stamp of the kernel may be half a microsecond late"),
        ] {
            assert_eq!(begin(NOW, arrived, free_since, service), begins, "{why}");
        }
    }
}
