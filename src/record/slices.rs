//! The run cut into slices of time: what ended in each, merged over threads while the load runs.
//!
//! A request belongs to the slice in which it ended. The slice of its intended time would have to stay open for as long
//! as an answer can take, and memory would grow with the server's slowness. Only measured requests are in slices.
//!
//! A thread fills one slice at a time. At its end it hands the slice over and goes on with an empty one; nothing blocks
//! and nothing is allocated. A thread that finds no empty one keeps the slice it has, which becomes longer: no value is
//! lost, and [`Recorded::slices_held`](super::Recorded) counts how often.

use std::collections::BTreeMap;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::distribution::{Distribution, Packed};
use crate::load::time::Nanos;

/// A run has at most so many slices; a longer one has longer slices.
pub const SLICES_MAX: usize = 3_600;
/// The open slice, one on its way, and one to spare.
const PER_THREAD: usize = 3;

/// What one thread saw end in one slice.
#[derive(Debug, Default)]
struct Slice {
    /// Counts intervals since t0.
    index: u64,
    requests: u64,
    /// Response times of the successful.
    responses: Distribution,
}

/// The slices of one thread: full ones go to be merged, empty ones come back.
#[derive(Debug)]
pub struct SlicePort {
    full: Sender<Slice>,
    empty: Receiver<Slice>,
    interval: Nanos,
}

/// Where slices of all threads come together.
#[derive(Debug)]
pub struct SliceMerger {
    full: Receiver<Slice>,
    empty: Sender<Slice>,
    slices: Slices,
}

/// Ports for so many threads, and where they lead.
pub fn slicing(interval: Nanos, threads: usize) -> (Vec<SlicePort>, SliceMerger) {
    let (full_sender, full) = bounded(PER_THREAD * threads);
    let (empty, empty_receiver) = bounded(PER_THREAD * threads);
    for _ in 0..PER_THREAD * threads {
        empty.send(Slice::default()).expect("there is room for every slice");
    }
    let port = || SlicePort { full: full_sender.clone(), empty: empty_receiver.clone(), interval };
    let ports = (0..threads).map(|_| port()).collect();
    (ports, SliceMerger { full, empty, slices: Slices::new(interval) })
}

impl SliceMerger {
    /// Merges what has been handed over so far.
    pub fn merge(&mut self) {
        self.merge_telling(|_, _| {});
    }

    /// The same, and tells of each slice how many requests ended in it, and the response times of the successful.
    pub fn merge_telling(&mut self, mut told: impl FnMut(u64, &Distribution)) {
        for mut slice in self.full.try_iter() {
            told(slice.requests, &slice.responses);
            self.slices.add(&slice);
            (slice.index, slice.requests) = (0, 0);
            slice.responses.clear();
            let _ = self.empty.try_send(slice);
        }
    }

    /// All slices of a round that began at `t0`, once every thread has ended.
    pub fn finish(mut self, t0: Nanos) -> Slices {
        self.merge();
        Slices { t0, ..self.slices }
    }
}

/// A thread's side.
#[derive(Debug)]
pub(super) struct Slicer {
    port: SlicePort,
    t0: Nanos,
    open: Slice,
    /// When the open slice is over.
    until: Nanos,
    held: u64,
}

impl Slicer {
    pub(super) fn new(port: SlicePort, t0: Nanos) -> Self {
        let open = port.empty.try_recv().unwrap_or_default();
        Self { until: t0.saturating_add(port.interval), port, t0, open, held: 0 }
    }

    pub(super) fn record(&mut self, done: Nanos, successful: Option<Nanos>) {
        if done >= self.until {
            self.advance(done);
        }
        self.open.requests += 1;
        if let Some(response) = successful {
            self.open.responses.record(response);
        }
    }

    #[cold]
    fn advance(&mut self, at: Nanos) {
        let interval = self.port.interval.0;
        let index = at.saturating_sub(self.t0).0 / interval;
        self.until = self.t0.saturating_add(Nanos((index + 1).saturating_mul(interval)));
        if self.open.requests > 0 {
            let Ok(empty) = self.port.empty.try_recv() else {
                self.held += 1;
                return;
            };
            let full = std::mem::replace(&mut self.open, empty);
            // There is room for every slice there is.
            let _ = self.port.full.try_send(full);
        }
        self.open.index = index;
    }

    /// Hands over the last one; returns how often a slice had to be kept.
    pub(super) fn finish(self) -> u64 {
        if self.open.requests > 0 {
            let _ = self.port.full.send(self.open);
        }
        self.held
    }
}

/// The slices of one round, all threads merged; packed, so that an hour of them is a few megabytes.
#[derive(Debug, Clone, Default)]
pub struct Slices {
    t0: Nanos,
    base: Nanos,
    /// At most so many are kept.
    most: usize,
    /// So many intervals make a slice: 1, doubled as often as the run was too long.
    factor: u64,
    merged: BTreeMap<u64, Merged>,
}

#[derive(Debug, Clone)]
struct Merged {
    requests: u64,
    responses: Packed,
}

/// One slice of a round.
#[derive(Debug)]
pub struct Interval {
    /// After t0.
    pub start: Nanos,
    /// Requests that ended in it, however.
    pub requests: u64,
    /// Response times of those that were successful.
    pub responses: Distribution,
}

impl Slices {
    fn new(interval: Nanos) -> Self {
        Self { t0: Nanos::ZERO, base: interval, most: SLICES_MAX, factor: 1, merged: BTreeMap::new() }
    }

    /// When the first one began, on CLOCK_MONOTONIC.
    pub fn t0(&self) -> Nanos {
        self.t0
    }

    /// The length of each.
    pub fn interval(&self) -> Nanos {
        Nanos(self.base.0.saturating_mul(self.factor.max(1)))
    }

    /// In the order of time; those in which nothing ended are left out.
    pub fn iter(&self) -> impl Iterator<Item = Interval> {
        let interval = self.interval().0;
        self.merged.iter().map(move |(index, merged)| Interval {
            start: Nanos(index * interval),
            requests: merged.requests,
            responses: merged.responses.unpack(),
        })
    }

    fn add(&mut self, slice: &Slice) {
        self.add_at(slice.index / self.factor, slice.requests, &slice.responses);
        while self.merged.len() > self.most {
            self.factor *= 2;
            for (index, merged) in std::mem::take(&mut self.merged) {
                self.add_at(index / 2, merged.requests, &merged.responses.unpack());
            }
        }
    }

    fn add_at(&mut self, index: u64, requests: u64, responses: &Distribution) {
        let merged = match self.merged.remove(&index) {
            None => Merged { requests, responses: responses.pack() },
            Some(before) => {
                let mut sum = before.responses.unpack();
                sum.merge(responses);
                Merged { requests: before.requests + requests, responses: sum.pack() }
            }
        };
        self.merged.insert(index, merged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = Nanos::from_secs(1);

    fn ms(ms: u64) -> Nanos {
        Nanos::from_millis(ms)
    }

    /// Start in seconds, requests, successful.
    fn told(slices: &Slices) -> Vec<(u64, u64, u64)> {
        slices.iter().map(|i| (i.start.0 / SECOND.0, i.requests, i.responses.count())).collect()
    }

    #[test]
    fn threads_are_merged_by_the_time_in_which_requests_ended() {
        let t0 = Nanos::from_secs(77);
        let (mut ports, mut merger) = slicing(SECOND, 2);
        let mut slicers = [(); 2].map(|()| Slicer::new(ports.pop().unwrap(), t0));
        for (thread, done, successful) in [(0, 0, true), (1, 999, false), (0, 1_000, true), (0, 5_999, true)]
        {
            slicers[thread].record(t0 + ms(done), successful.then_some(ms(3)));
            merger.merge();
        }
        // late by a turn: it stays with the slice that is open
        slicers[0].record(t0 + ms(4_999), Some(ms(7)));
        assert_eq!(slicers.map(Slicer::finish), [0, 0]);
        let slices = merger.finish(Nanos::ZERO);
        assert_eq!(told(&slices), [(0, 2, 1), (1, 1, 1), (5, 2, 2)]);
        let last = slices.iter().last().unwrap().responses;
        assert_eq!((last.min(), last.max(), last.sum()), (Some(ms(3)), Some(ms(7)), 10_000_000));
    }

    #[test]
    fn a_thread_that_finds_no_empty_slice_keeps_its_own_and_loses_nothing() {
        let (mut ports, merger) = slicing(SECOND, 1);
        let mut slicer = Slicer::new(ports.remove(0), Nanos::ZERO);
        for second in 0..10 {
            slicer.record(Nanos::from_secs(second), Some(ms(1)));
        }
        assert_eq!(slicer.finish(), 7, "three slices, and the last had to last");
        assert_eq!(told(&merger.finish(Nanos::ZERO)), [(0, 1, 1), (1, 1, 1), (2, 8, 8)]);
    }

    #[test]
    fn a_run_that_is_too_long_has_longer_slices() {
        let (mut ports, mut merger) = slicing(SECOND, 1);
        merger.slices.most = 30;
        let mut slicer = Slicer::new(ports.remove(0), Nanos::ZERO);
        let seconds = 72;
        for second in 0..seconds {
            slicer.record(Nanos::from_secs(second), second.is_multiple_of(2).then_some(ms(second)));
            merger.merge();
        }
        assert_eq!(slicer.finish(), 0);
        let slices = merger.finish(Nanos::ZERO);
        assert_eq!(slices.interval(), Nanos::from_secs(4));
        assert_eq!(slices.iter().count() as u64, seconds.div_ceil(4));
        assert!(slices.iter().all(|i| i.requests == 4 && i.responses.count() == 2));
        assert_eq!(slices.iter().nth(9).unwrap().responses.max(), Some(ms(38)));
    }
}
