//! I/O: how much memory a server takes while it is under load, seen from outside.

use crate::load::time::Nanos;
use crate::sys::host;

/// So many looks are kept; a longer run has them further apart.
const LOOKS_MAX: usize = 3_600;

/// Looks at one process at equal distances.
pub(super) struct MemoryWatch {
    process: u32,
    every: Nanos,
    next: Nanos,
    looks: Vec<(Nanos, u64)>,
}

impl MemoryWatch {
    pub(super) fn new(process: u32, every: Nanos) -> Self {
        Self { process, every, next: Nanos::ZERO, looks: Vec::with_capacity(LOOKS_MAX) }
    }

    /// Looks, if it is time to.
    pub(super) fn look(&mut self, now: Nanos) {
        if now < self.next {
            return;
        }
        self.next = now.saturating_add(self.every);
        if self.looks.len() == LOOKS_MAX {
            self.every = self.every + self.every;
            let mut keep = false;
            self.looks.retain(|_| {
                keep = !keep;
                keep
            });
        }
        if let Some(bytes) = host::resident(self.process) {
            self.looks.push((now, bytes));
        }
    }

    /// What was seen from `t0` on, by the time since then.
    pub(super) fn since(self, t0: Nanos) -> Vec<(Nanos, u64)> {
        self.looks.into_iter().filter(|(at, _)| *at >= t0).map(|(at, bytes)| (at - t0, bytes)).collect()
    }
}
