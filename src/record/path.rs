//! Of an open loop: when each request was due, how long the server says it worked on it, and how long it took. From these
//! `analyze` computes what an ideal server would have given.
//!
//! One step takes 24 bytes, and a round keeps at most 4 Mi of them (96 MiB), each thread its share. Where the server says
//! nothing of its service time, nothing is kept. A path that is too long is a true path of its beginning: what is beyond
//! the first request that was not kept is cut off.

use crate::load::sample::{Outcome, Sample};
use crate::load::time::Nanos;

/// Steps kept in a round, over all threads.
pub const STEPS_MAX: usize = 4 << 20;

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When it was due.
    pub intended: Nanos,
    /// How long the server worked on it, by its own account.
    pub service: Nanos,
    /// done − intended.
    pub response: Nanos,
}

/// The requests of one thread or round; those of the warm-up too, whose queue the first measured request finds.
#[derive(Debug, Clone, Default)]
pub struct Path {
    steps: Vec<Step>,
    most: usize,
    /// Requests of a thread or round that could not be a step: no complete answer, or no service time in it.
    missing: u64,
    /// The first that there was no room for.
    cut: Option<Nanos>,
}

impl Path {
    /// For one of `threads` threads. `expected`: so many steps are allocated, and written once, before the run; further ones
    /// when they come.
    pub fn for_thread(threads: usize, expected: u64) -> Self {
        let most = STEPS_MAX / threads.max(1);
        let expected = usize::try_from(expected).map_or(most, |n| n.min(most));
        let nothing = Step { intended: Nanos::ZERO, service: Nanos::ZERO, response: Nanos::ZERO };
        let mut steps = vec![nothing; expected];
        steps.clear();
        Self { steps, most, missing: 0, cut: None }
    }

    /// Takes in one ended request.
    pub fn record(&mut self, sample: &Sample) {
        let completed = matches!(sample.outcome, Outcome::Completed(_));
        let Some(service) = sample.server.service.filter(|_| completed && sample.server_timing_fits()) else {
            self.missing += 1;
            return;
        };
        if self.steps.len() == self.most {
            self.cut = Some(self.cut.map_or(sample.intended, |cut| cut.min(sample.intended)));
            return;
        }
        self.steps.push(Step { intended: sample.intended, service, response: sample.response() });
    }

    /// Adds another thread of the same round.
    pub fn merge(&mut self, mut other: Self) {
        self.steps.append(&mut other.steps);
        self.missing += other.missing;
        self.cut = match (self.cut, other.cut) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// Brings the steps of all threads into the order of time, and cuts them where one is missing for want of room.
    pub fn close(&mut self) {
        let cut = self.cut.unwrap_or(Nanos::MAX);
        self.steps.retain(|step| step.intended < cut);
        self.steps.sort_unstable_by_key(|step| step.intended);
    }

    /// In the order of time, once closed.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many requests are no step, though there was room.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// True if it is only the beginning of the run.
    pub fn is_cut(&self) -> bool {
        self.cut.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(steps: &[u64], most: usize) -> Path {
        let mut path = Path { most, ..Path::default() };
        for &at in steps {
            if path.steps.len() == most {
                path.cut = Some(path.cut.map_or(Nanos(at), |cut| cut.min(Nanos(at))));
            } else {
                path.steps.push(Step { intended: Nanos(at), service: Nanos(1), response: Nanos(2) });
            }
        }
        path
    }

    fn times(path: &Path) -> Vec<u64> {
        path.steps().iter().map(|step| step.intended.0).collect()
    }

    #[test]
    fn threads_become_one_path_in_the_order_of_time() {
        let mut whole = path(&[2, 0, 4], 9);
        whole.merge(path(&[5, 1, 3], 9));
        whole.close();
        assert_eq!(times(&whole), [0, 1, 2, 3, 4, 5]);
        assert!(!whole.is_cut());
    }

    #[test]
    fn a_path_that_is_too_long_is_true_in_its_beginning() {
        let mut whole = path(&[0, 4, 2, 6, 8], 3); // 6 and 8 are not kept
        whole.merge(path(&[1, 3, 5, 7], 9));
        whole.close();
        assert_eq!(times(&whole), [0, 1, 2, 3, 4, 5]);
        assert!(whole.is_cut());
    }

    #[test]
    fn what_is_expected_is_allocated_before_the_run() {
        assert!(Path::for_thread(2, 1_000).steps.capacity() >= 1_000);
        let bounded = Path::for_thread(4, u64::MAX);
        assert_eq!((bounded.most, bounded.steps.len()), (STEPS_MAX / 4, 0));
    }
}
