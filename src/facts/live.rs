//! What is known while a command still runs: how far it is, and what the monitor saw last. Written beside the load, about once
//! a second and at each sample; read by whoever asks.

use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::load::time::Nanos;
use crate::record::Distribution;

/// Response times are counted up to each of these; longer ones beside them.
pub const BOUNDS_NS: [u64; 16] = {
    const MS: u64 = 1_000_000;
    [
        MS / 20,
        MS / 10,
        MS / 4,
        MS / 2,
        MS,
        5 * MS / 2,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        1_000 * MS,
        2_500 * MS,
        10_000 * MS,
    ]
};

/// One target over the rounds so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Its name.
    pub target: String,
    /// Rounds of it that have begun.
    pub rounds: u64,
    /// Rounds that are planned.
    pub planned: u64,
    /// Measured requests that ended, as far as their slice of time is over.
    pub ended: u64,
    /// Of these successful.
    pub successful: u64,
    /// Response times of the successful: their sum,
    pub response_sum_ns: u128,
    /// and how many took at most [`BOUNDS_NS`], each more than the bound before.
    pub response_within: [u64; BOUNDS_NS.len()],
}

impl Progress {
    fn add(&mut self, ended: u64, responses: &Distribution) {
        self.ended += ended;
        self.successful += responses.count();
        self.response_sum_ns += responses.sum();
        for value in responses.histogram().iter_recorded() {
            let bound = BOUNDS_NS.partition_point(|&bound| bound < value.value_iterated_to());
            if let Some(within) = self.response_within.get_mut(bound) {
                *within += value.count_at_value();
            }
        }
    }
}

/// Everything at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Each target, in the order in which they were first measured.
    pub targets: Vec<Progress>,
    /// The place of the one that is measured now.
    pub measuring: Option<usize>,
    /// The newest value of each metric of the monitor that has one; empty where nothing is measured.
    pub system: Vec<(Cow<'static, str>, f64)>,
}

/// A [`Snapshot`] that threads share.
#[derive(Debug, Default)]
pub struct Live {
    now: Mutex<Snapshot>,
    /// What those who read it have taken of a processor.
    readers_ns: AtomicU64,
}

impl Live {
    /// A round of a target, `planned` of them in all, is about to begin.
    pub fn begin_round(&self, target: &str, planned: u64) {
        self.write(|now| {
            let known = now.targets.iter().position(|progress| progress.target == target);
            let at = known.unwrap_or_else(|| {
                let target = target.to_owned();
                now.targets.push(Progress { target, planned, ..Progress::default() });
                now.targets.len() - 1
            });
            now.targets[at].rounds += 1;
            now.measuring = Some(at);
        });
    }

    /// It is over, or failed.
    pub fn end_round(&self) {
        self.write(|now| {
            now.measuring = None;
            now.system.clear();
        });
    }

    /// So many requests of the round have ended, the successful with these response times.
    pub fn add(&self, ended: u64, responses: &Distribution) {
        self.write(|now| {
            if let Some(at) = now.measuring {
                now.targets[at].add(ended, responses);
            }
        });
    }

    /// The monitor has sampled.
    pub fn sampled(&self, values: impl Iterator<Item = (Cow<'static, str>, f64)>) {
        self.write(|now| {
            now.system.clear();
            now.system.extend(values);
        });
    }

    /// As it is now.
    pub fn snapshot(&self) -> Snapshot {
        self.write(|now| now.clone())
    }

    /// What readers have taken of a processor so far.
    pub fn readers(&self) -> Nanos {
        Nanos(self.readers_ns.load(Ordering::Relaxed))
    }

    /// A reader tells what it has taken.
    pub fn account(&self, taken: Nanos) {
        self.readers_ns.store(taken.0, Ordering::Relaxed);
    }

    fn write<T>(&self, change: impl FnOnce(&mut Snapshot) -> T) -> T {
        // nothing that holds it can panic half-way in a way that matters
        change(&mut self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_for_the_target_that_is_measured() {
        let live = Live::default();
        let mut responses = Distribution::default();
        for ns in [40_000, 70_000, 900_000, 20_000_000_000] {
            responses.record(Nanos(ns));
        }
        live.add(9, &responses);
        live.begin_round("a", 2);
        live.add(5, &responses);
        live.sampled([(Cow::Borrowed("server.cpu"), 50.0)].into_iter());
        live.begin_round("b", 2);
        live.add(1, &Distribution::default());
        live.begin_round("a", 2);
        assert_eq!(live.snapshot().measuring, Some(0));
        live.end_round();
        let now = live.snapshot();
        let [a, b] = &now.targets[..] else { panic!("{now:?}") };
        assert_eq!((a.rounds, a.planned, a.ended, a.successful), (2, 2, 5, 4));
        assert_eq!(
            (a.response_within[..6].to_vec(), a.response_sum_ns),
            (vec![1, 1, 0, 0, 1, 0], 20_001_010_000)
        );
        assert_eq!(a.response_within.iter().sum::<u64>(), 3, "one took longer than the last bound");
        assert_eq!((b.rounds, b.ended, b.successful), (1, 1, 0));
        assert_eq!((now.measuring, now.system.len()), (None, 0));
    }
}
