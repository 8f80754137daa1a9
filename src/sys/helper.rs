//! Threads beside the load, which wait, merge and write: they keep to the processors that the plan has for them, and account
//! for the time they take there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::clock::Monotonic;
use super::{affinity, host};
use crate::engine::Clock;
use crate::facts::{HelperReport, ThreadTimes};
use crate::load::time::Nanos;

/// Sleeps until `due`, or until the load is over; says whether it is. Whoever sets `over` unparks this thread. What ends the
/// load while this returns is found by the next call: whoever samples in a loop samples once more then.
pub fn rest(due: Nanos, over: &AtomicBool) -> bool {
    loop {
        let is_over = over.load(Ordering::Acquire);
        let now = Monotonic.now();
        if is_over || now >= due {
            return is_over;
        }
        std::thread::park_timeout(Duration::from_nanos(due.saturating_sub(now).0));
    }
}

/// The calling thread, since it became a helper.
#[derive(Debug)]
pub struct Helper {
    name: &'static str,
    /// Where it could run before.
    from: Vec<usize>,
    /// Where it may run now: if the kernel refuses, where it was.
    cpus: Vec<usize>,
    before: ThreadTimes,
}

impl Helper {
    /// Moves the calling thread to `cpus`.
    pub fn begin(name: &'static str, cpus: &[usize]) -> Self {
        let from = affinity::allowed();
        affinity::confine_current(cpus);
        Self { name, from, cpus: affinity::allowed(), before: host::thread_times() }
    }

    /// What it has taken so far.
    pub fn account(&self) -> HelperReport {
        HelperReport {
            name: self.name.to_owned(),
            cpus: self.cpus.clone(),
            times: host::thread_times().since(self.before),
        }
    }

    /// Lets the thread run where it could before.
    pub fn end(self) -> HelperReport {
        let account = self.account();
        affinity::confine_current(&self.from);
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_keeps_to_its_processors_and_goes_back() {
        let all = affinity::allowed();
        let last = *all.last().unwrap();
        let helper = Helper::begin("test", &[last]);
        assert_eq!(affinity::allowed(), [last]);
        let account = helper.end();
        assert_eq!((account.name.as_str(), account.cpus), ("test", vec![last]));
        assert_eq!(affinity::allowed(), all);
    }

    #[test]
    fn where_it_cannot_be_it_says_where_it_is() {
        let all = affinity::allowed();
        let helper = Helper::begin("test", &[affinity::CPU_MAX]);
        assert_eq!((affinity::allowed(), helper.account().cpus), (all.clone(), all));
    }
}
