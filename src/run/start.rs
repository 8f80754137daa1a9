//! Where the threads of a round wait for each other, so that the load begins everywhere at once, or nowhere.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use crate::engine::Clock;
use crate::load::time::Nanos;
use crate::sys::alloc;
use crate::sys::clock::Monotonic;

/// From the moment all threads are ready to t0.
const LEAD: Nanos = Nanos::from_millis(2);

/// The last thread to come sets t0. (A `Barrier` would wait forever for a thread that could not be started.)
pub(super) struct StartLine {
    gathering: Mutex<Gathering>,
    complete: Condvar,
}

struct Gathering {
    missing: usize,
    failed: bool,
    t0: Nanos,
}

impl StartLine {
    /// For so many threads.
    pub(super) fn of(threads: usize) -> Self {
        let gathering = Gathering { missing: threads, failed: false, t0: Nanos::ZERO };
        Self { gathering: Mutex::new(gathering), complete: Condvar::new() }
    }

    /// Waits for the others; t0, or `None` if some thread could not get ready, or a report would have no memory.
    pub(super) fn wait(&self, ready: bool) -> Option<Nanos> {
        let mut gathering = self.lock();
        gathering.failed |= !ready;
        gathering.missing = gathering.missing.saturating_sub(1);
        if gathering.missing == 0 {
            gathering.failed |= !alloc::keep_reserve();
            gathering.t0 = Monotonic.now() + LEAD;
            self.complete.notify_all();
        }
        let all = self.complete.wait_while(gathering, |gathering| gathering.missing > 0);
        let gathering = all.expect("nothing panics under the lock");
        (!gathering.failed).then_some(gathering.t0)
    }

    /// Some thread will never come: nobody waits for it.
    pub(super) fn abandon(&self) {
        let mut gathering = self.lock();
        (gathering.failed, gathering.missing) = (true, 0);
        self.complete.notify_all();
    }

    /// Once all have come.
    pub(super) fn t0(&self) -> Nanos {
        self.lock().t0
    }

    fn lock(&self) -> MutexGuard<'_, Gathering> {
        self.gathering.lock().expect("nothing panics under the lock")
    }
}

/// Starts a thread, if the system has room for one more.
pub(super) fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: impl Into<String>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    Builder::new().name(name.into()).spawn_scoped(scope, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(come: usize, unready: usize, abandoned: bool) -> (Vec<Option<Nanos>>, Nanos) {
        let start = StartLine::of(4);
        let results = std::thread::scope(|scope| {
            let start = &start;
            let threads: Vec<_> =
                (0..come).map(|i| spawn(scope, "t", move || start.wait(i >= unready)).unwrap()).collect();
            if abandoned {
                start.abandon();
            }
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        (results, start.t0())
    }

    #[test]
    fn all_begin_at_one_moment_that_is_still_to_come_for_the_last() {
        let before = Monotonic.now();
        let (results, t0) = started(4, 0, false);
        assert_eq!(results, [Some(t0); 4]);
        assert!(t0 >= before + LEAD && t0 <= Monotonic.now() + LEAD);
    }

    #[test]
    fn nobody_begins_where_one_is_not_ready_or_never_comes() {
        assert_eq!(started(4, 1, false).0, [None; 4]);
        assert_eq!(started(3, 0, true).0, [None; 3]);
    }
}
