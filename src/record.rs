//! What a thread counts while it runs, and the merging of threads and rounds.
//!
//! Nothing here allocates per request. Histograms keep nanoseconds with 3 significant digits and are read at
//! the midpoint of a bucket, which is within 0.05 % of the value recorded; count, sum, minimum and maximum
//! are exact. Merging adds counts; percentiles are never averaged.

use crate::load::io::Stamps;
use crate::load::sample::{Outcome, Sample};
use crate::load::schedule::Phase;
use crate::load::time::Nanos;

mod anatomy;
mod batches;
mod digests;
mod distribution;
mod kernel;
mod log;
mod passages;
mod path;
mod silences;
mod slices;
mod tally;
mod templates;

pub use anatomy::{Anatomy, Parts};
pub use batches::{BATCHES, Batch, BatchCounter, Batches};
pub use digests::Digests;
pub use distribution::{Distribution, RANGE_MAX, RELATIVE_ERROR};
pub use kernel::KernelSplit;
use log::Log;
pub use log::{LogChunk, LogPort};
pub use passages::{BLOCK, Moments, Passage, Passages, Worked};
pub use path::{Path, STEPS_MAX, Step};
pub use silences::{SILENCE_MIN, Silence, Silences};
pub use slices::{Interval, SLICES_MAX, SliceMerger, SlicePort, Slices, slicing};
pub use tally::{Key, OkStatuses, Tally, count_of};
pub use templates::{TemplateTallies, TemplateTally};

/// What one thread records.
#[derive(Debug)]
pub struct Recorder {
    ok: OkStatuses,
    measured: Tally,
    warmup: Tally,
    batches: BatchCounter,
    outcomes: Vec<(Outcome, u64)>,
    digests: Option<Digests>,
    log: Option<Log>,
    slicer: Option<slices::Slicer>,
    path: Option<Path>,
    passages: Passages,
    silences: Silences,
    thread: usize,
    connections: Vec<Moments>,
}

/// What a thread hands back when it has ended.
#[derive(Debug, Default)]
pub struct Recorded {
    /// The measured requests.
    pub measured: Tally,
    /// The warm-up.
    pub warmup: Tally,
    /// Digests of the answers, if they were asked for.
    pub digests: Digests,
    /// Rows that the log had no room for.
    pub log_lost: u64,
    /// The run in slices of time; filled where the threads come together.
    pub slices: Slices,
    /// How often a thread had to go on with a slice that was over, because the slices before it were not merged yet.
    pub slices_held: u64,
    /// What the ideal server is fed with, where it was asked for.
    pub path: Path,
    /// Stretches of consecutive requests.
    pub passages: Passages,
    /// When nothing was answered.
    pub silences: Silences,
    /// Of the service times (done − issued), one for each connection slot of each thread.
    pub connections: Vec<Moments>,
}

impl Recorder {
    /// For worker `thread`. `log`: where its rows go, with the first empty chunk taken from it.
    pub fn new(ok: OkStatuses, digests: bool, thread: usize, log: Option<LogPort>) -> Self {
        let tally = || {
            let mut tally = Tally::default();
            // A map that had an entry has room for the next: no allocation under the first request.
            tally.by_status.insert(0, Distribution::default());
            tally.spare = tally.by_status.remove(&0);
            tally
        };
        Self {
            ok,
            measured: tally(),
            warmup: tally(),
            batches: BatchCounter::new(None),
            outcomes: Vec::with_capacity(32),
            digests: digests.then(Digests::for_thread),
            log: log.map(|port| Log::new(port, thread)),
            slicer: None,
            path: None,
            passages: Passages::for_thread(),
            silences: Silences::for_thread(),
            thread,
            connections: Vec::new(),
        }
    }

    /// The thread has so many connection slots; their sums have their place before the load.
    pub fn with_connections(mut self, slots: u32) -> Self {
        self.connection(slots.saturating_sub(1));
        self
    }

    /// The samples have these stamps of the kernel.
    pub fn with_stamps(mut self, stamps: Stamps) -> Self {
        self.measured.kernel = (stamps != Stamps::User).then(|| (stamps, KernelSplit::default()));
        self
    }

    /// From now on, measured requests are also recorded by the slice of time after `t0` in which they end.
    pub fn slice(&mut self, port: SlicePort, t0: Nanos) {
        self.slicer = Some(slices::Slicer::new(port, t0));
    }

    /// The requests of a mix of so many are counted apart too.
    pub fn with_mix(mut self, templates: usize) -> Self {
        self.measured.templates = TemplateTallies::new(templates);
        self
    }

    /// From now on, requests are also kept as steps of this path.
    pub fn follow(&mut self, path: Path) {
        self.path = Some(path);
    }

    /// So many requests are measured in the round, over all threads, if that is known.
    pub fn expecting(mut self, requests: Option<u64>) -> Self {
        self.batches = BatchCounter::new(requests);
        self
    }

    /// Takes in one ended request.
    pub fn record(&mut self, sample: &Sample) {
        if let Some(path) = &mut self.path {
            path.record(sample);
        }
        if sample.id.phase == Phase::Warmup {
            self.warmup.record(sample, &self.ok);
            return;
        }
        match self.outcomes.iter_mut().find(|(outcome, _)| *outcome == sample.outcome) {
            Some((_, n)) => *n += 1,
            None => self.outcomes.push((sample.outcome, 1)),
        }
        let successful = self.measured.record(sample, &self.ok);
        if let Some(slicer) = &mut self.slicer {
            slicer.record(sample.done, successful.then(|| sample.response()));
        }
        self.batches.record(sample.id.seq, successful.then(|| sample.response()));
        if let (Some(digests), Outcome::Completed(status), true) =
            (&mut self.digests, sample.outcome, successful)
        {
            digests.record(sample, status);
        }
        self.passages.record(sample);
        self.silences.record(sample);
        if let (Outcome::Completed(_), Some(service)) = (sample.outcome, sample.service()) {
            self.connection(sample.connection).add(service.0 as f64);
        }
        if let Some(log) = &mut self.log {
            log.push(sample);
        }
    }

    /// The sums of a connection slot; grown when a slot is first used.
    fn connection(&mut self, slot: u32) -> &mut Moments {
        let slot = slot as usize;
        if self.connections.len() <= slot {
            let empty = Moments { thread: self.thread, ..Moments::default() };
            self.connections.resize(slot + 1, empty);
        }
        &mut self.connections[slot]
    }

    /// The end of this thread's run: `undrawn` requests of its plan never came up.
    pub fn finish(mut self, undrawn: u64, retries: u64) -> Recorded {
        self.measured.add_undrawn(undrawn);
        self.measured.retries = retries;
        if undrawn > 0 {
            self.outcomes.push((Outcome::Unsent, undrawn));
        }
        for (outcome, n) in self.outcomes {
            let key = Key { outcome: outcome.key(), detail: outcome.detail() };
            *self.measured.outcomes.entry(key).or_default() += n;
        }
        self.measured.batches = vec![self.batches.finish()];
        self.measured.assert_conserved();
        Recorded {
            measured: self.measured,
            warmup: self.warmup,
            digests: self.digests.unwrap_or_default(),
            log_lost: self.log.map_or(0, Log::finish),
            slices: Slices::default(),
            slices_held: self.slicer.map_or(0, slices::Slicer::finish),
            path: self.path.unwrap_or_default(),
            passages: self.passages,
            silences: self.silences,
            connections: self.connections,
        }
    }
}

impl Recorded {
    /// Adds another thread of the same round.
    pub fn merge(&mut self, other: Self) {
        self.measured.merge_thread(&other.measured);
        self.warmup.merge_thread(&other.warmup);
        self.digests.merge(&other.digests);
        self.log_lost += other.log_lost;
        self.slices_held += other.slices_held;
        self.path.merge(other.path);
        self.passages.merge(&other.passages);
        self.silences.merge(&other.silences);
        self.connections.extend(other.connections);
    }
}

#[cfg(test)]
mod tests;
