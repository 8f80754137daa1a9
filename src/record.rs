//! What a thread counts while it runs, and the merging of threads and rounds.
//!
//! Nothing here allocates per request. Histograms keep nanoseconds with 3 significant digits and are read at
//! the midpoint of a bucket, which is within 0.05 % of the value recorded; count, sum, minimum and maximum
//! are exact. Merging adds counts; percentiles are never averaged.

use std::collections::BTreeMap;

use crossbeam_channel::{Receiver, Sender};

use crate::load::io::Stamps;
use crate::load::sample::{Failure, Outcome, Sample};
use crate::load::schedule::Phase;
use crate::load::time::Nanos;

mod anatomy;
mod batches;
mod distribution;
mod kernel;
mod passages;
mod path;
mod slices;
mod templates;

pub use anatomy::{Anatomy, Parts};
pub use batches::{BATCHES, Batch, BatchCounter, Batches};
pub use distribution::{Distribution, RANGE_MAX, RELATIVE_ERROR};
pub use kernel::KernelSplit;
pub use passages::{BLOCK, Moments, Passage, Passages};
pub use path::{Path, STEPS_MAX, Step};
pub use slices::{Interval, SLICES_MAX, SliceMerger, SlicePort, Slices, slicing};
pub use templates::{TemplateTallies, TemplateTally};

/// Digests are kept for the first so many ids of a round (48 MiB); what lies beyond is not compared.
const DIGESTS_MAX: u64 = 4 << 20;
const DIGESTS_AT_START: usize = 64 << 10;
/// Statuses beyond the first so many are counted but get no histogram of their own.
const STATUS_HISTOGRAMS_MAX: usize = 8;

/// Which statuses count as success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OkStatuses(Vec<std::ops::RangeInclusive<u16>>);

impl OkStatuses {
    /// From ranges, both ends included.
    pub fn new(ranges: Vec<std::ops::RangeInclusive<u16>>) -> Self {
        Self(ranges)
    }

    /// True if `status` is a success.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

/// Counts and distributions of measured requests; those of several threads or rounds merge into one.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Measured requests the plan had for this run.
    pub scheduled: u64,
    /// A complete response arrived, whatever its status.
    pub completed: u64,
    /// Ended in an error class.
    pub failed: u64,
    /// The run ended first.
    pub unsent: u64,
    /// Completed with a status in `--ok`.
    pub successful: u64,
    /// Sent a second time.
    pub retries: u64,
    /// By outcome.
    pub outcomes: BTreeMap<Key, u64>,
    /// `done - intended` of the successful.
    pub response_ok: Distribution,
    /// What the successful would have taken without the instrument's own part ([`Sample::undisturbed`]).
    pub undisturbed: Distribution,
    /// `done - intended` of everything else that was drawn: how long it had been wanted when it was known to have failed.
    pub response_not_ok: Distribution,
    /// Response times by contiguous batches, for each round.
    pub batches: Vec<Batches>,
    /// `done - intended` of completed requests, by status.
    pub by_status: BTreeMap<u16, Distribution>,
    /// A distribution made before the run, for the first status that comes.
    pub(crate) spare: Option<Distribution>,
    /// `done - issued` of the completed.
    pub service: Distribution,
    /// `first_byte - issued` of the completed.
    pub first_byte: Distribution,
    /// `ready - intended` of all that got a connection.
    pub conn_wait: Distribution,
    /// `issued - max(intended, ready)` of all that were issued.
    pub send_lag: Distribution,
    /// Open loop: how far a thread's sends were off the plan, one from the next.
    pub arrival_gap: Distribution,
    /// Sum of `done - issued` of all that were issued: requests · ns in flight.
    pub in_flight_time: u128,
    /// Connect times of the connections that carried requests.
    pub connect: Distribution,
    /// The server's queue time, where it said one.
    pub server_queue: Distribution,
    /// The server's service time, where it said one.
    pub server_service: Distribution,
    /// How many server queue times began only when the server read the request, not when its kernel received it.
    pub queue_from_read: u64,
    /// Answers whose server claimed more time than the whole response took; they are not in the three above.
    pub timing_rejected: u64,
    /// Where the time went.
    pub anatomy: Anatomy,
    /// What the kernel's stamps say, where they were asked for.
    pub kernel: Option<(Stamps, KernelSplit)>,
    /// Each request of a mix.
    pub templates: TemplateTallies,
    /// Bytes of the requests and the responses.
    pub bytes_sent: u64,
    /// Bytes of the responses.
    pub bytes_received: u64,
    /// The first intended time.
    pub first_intended: Option<Nanos>,
    /// When the last request ended.
    pub last_done: Option<Nanos>,
    /// Sum over rounds of first intended to last done.
    pub elapsed: Nanos,
}

/// An outcome as a key that sorts: statuses first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The status, or the class.
    pub outcome: String,
    /// More about it: the reason of a malformed response, the errno's text.
    pub detail: Option<String>,
}

impl Tally {
    fn record(&mut self, sample: &Sample, ok: &OkStatuses) -> bool {
        let response = sample.response();
        let mut successful = false;
        self.scheduled += 1;
        match sample.outcome {
            Outcome::Completed(status) => {
                self.completed += 1;
                successful = ok.contains(status);
                self.record_completed(sample, status, response);
            }
            Outcome::Failed(_) => self.failed += 1,
            Outcome::Unsent => self.unsent += 1,
        }
        if successful {
            self.successful += 1;
            self.response_ok.record(response);
            self.undisturbed.record(sample.undisturbed());
        } else {
            self.response_not_ok.record(response);
        }
        self.templates.record(sample.template, response, successful);
        if let Some(wait) = sample.conn_wait() {
            self.conn_wait.record(wait);
        }
        if let Some(lag) = sample.send_lag() {
            self.send_lag.record(lag);
        }
        if let Some(gap) = sample.arrival_gap {
            self.arrival_gap.record(gap);
        }
        self.in_flight_time += u128::from(sample.service().unwrap_or_default().0);
        if let Some(connect) = sample.connect {
            self.connect.record(connect);
        }
        self.bytes_sent += sample.bytes_sent;
        self.bytes_received += sample.bytes_received;
        self.first_intended = Some(self.first_intended.map_or(sample.intended, |t| t.min(sample.intended)));
        self.last_done = Some(self.last_done.map_or(sample.done, |t| t.max(sample.done)));
        successful
    }

    fn record_completed(&mut self, sample: &Sample, status: u16, response: Nanos) {
        let room = self.by_status.len() < STATUS_HISTOGRAMS_MAX;
        if room || self.by_status.contains_key(&status) {
            let spare = &mut self.spare;
            self.by_status.entry(status).or_insert_with(|| spare.take().unwrap_or_default()).record(response);
        }
        if let Some(service) = sample.service() {
            self.service.record(service);
        }
        if let (Some(first_byte), Some(issued)) = (sample.first_byte, sample.issued) {
            self.first_byte.record(first_byte - issued);
        }
        if let Some((stamps, kernel)) = &mut self.kernel {
            kernel.record(sample, *stamps);
        }
        if !sample.server_timing_fits() {
            self.timing_rejected += 1;
            return;
        }
        if let Some(queue) = sample.server.queue.or(sample.server.queue_from_read) {
            self.server_queue.record(queue);
            self.queue_from_read += u64::from(sample.server.queue.is_none());
        }
        if let Some(service) = sample.server.service {
            self.server_service.record(service);
            self.anatomy.record(sample);
        }
    }

    /// Requests of the plan that were never due, or never found a connection.
    pub fn add_undrawn(&mut self, n: u64) {
        self.scheduled += n;
        self.unsent += n;
    }

    /// Ends a round: its time is added up, and every request is accounted for.
    pub fn close_round(&mut self) {
        if let (Some(first), Some(last)) = (self.first_intended, self.last_done) {
            self.elapsed = last - first;
        }
        self.assert_conserved();
    }

    /// Panics unless scheduled = completed + failed + unsent.
    pub fn assert_conserved(&self) {
        assert_eq!(
            self.scheduled,
            self.completed + self.failed + self.unsent,
            "a request was lost or counted twice"
        );
        assert_eq!(self.completed, self.service.count(), "a completed request has no service time");
    }

    /// Adds another thread of the same round.
    pub fn merge_thread(&mut self, other: &Self) {
        self.merge(other);
        match (self.batches.first_mut(), other.batches.first()) {
            (Some(mine), Some(theirs)) => mine.merge_thread(theirs),
            _ => self.batches.extend(other.batches.iter().cloned()),
        }
        self.first_intended = earliest(self.first_intended, other.first_intended);
        self.last_done = self.last_done.max(other.last_done);
    }

    /// Adds another round, closed before.
    pub fn merge_round(&mut self, other: &Self) {
        self.merge(other);
        self.batches.extend(other.batches.iter().cloned());
        self.elapsed += other.elapsed;
    }

    fn merge(&mut self, other: &Self) {
        self.scheduled += other.scheduled;
        self.completed += other.completed;
        self.failed += other.failed;
        self.unsent += other.unsent;
        self.successful += other.successful;
        self.retries += other.retries;
        self.queue_from_read += other.queue_from_read;
        self.timing_rejected += other.timing_rejected;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        for (key, n) in &other.outcomes {
            *self.outcomes.entry(key.clone()).or_default() += n;
        }
        for (&status, distribution) in &other.by_status {
            self.by_status.entry(status).or_default().merge(distribution);
        }
        self.response_ok.merge(&other.response_ok);
        self.undisturbed.merge(&other.undisturbed);
        self.arrival_gap.merge(&other.arrival_gap);
        self.in_flight_time += other.in_flight_time;
        self.response_not_ok.merge(&other.response_not_ok);
        self.service.merge(&other.service);
        self.first_byte.merge(&other.first_byte);
        self.conn_wait.merge(&other.conn_wait);
        self.send_lag.merge(&other.send_lag);
        self.connect.merge(&other.connect);
        self.server_queue.merge(&other.server_queue);
        self.server_service.merge(&other.server_service);
        self.anatomy.merge(&other.anatomy);
        match (&mut self.kernel, &other.kernel) {
            (Some((_, mine)), Some((_, theirs))) => mine.merge(theirs),
            (mine @ None, theirs) => *mine = theirs.clone(),
            (Some(_), None) => {}
        }
        self.templates.merge(&other.templates);
    }
}

fn earliest(a: Option<Nanos>, b: Option<Nanos>) -> Option<Nanos> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Rows on their way to the log, and the thread they come from.
#[derive(Debug)]
pub struct LogChunk {
    /// Which worker.
    pub thread: usize,
    /// Its samples, in the order they ended.
    pub samples: Vec<Sample>,
}

/// The log's preallocated chunks: full ones go to the writer, empty ones come back.
#[derive(Debug)]
pub struct LogPort {
    /// To the writer.
    pub full: Sender<LogChunk>,
    /// From the writer.
    pub empty: Receiver<Vec<Sample>>,
}

#[derive(Debug)]
struct Log {
    port: LogPort,
    thread: usize,
    chunk: Vec<Sample>,
    lost: u64,
}

impl Log {
    fn push(&mut self, sample: &Sample) {
        if self.chunk.len() == self.chunk.capacity() && !self.hand_over() {
            self.lost += 1;
            return;
        }
        self.chunk.push(sample.clone());
    }

    /// One hand-over per full chunk, never blocking: false where the writer is that far behind.
    fn hand_over(&mut self) -> bool {
        let Ok(empty) = self.port.empty.try_recv() else { return false };
        let samples = std::mem::replace(&mut self.chunk, empty);
        self.port.full.try_send(LogChunk { thread: self.thread, samples }).is_ok()
    }
}

/// The digests of one round's responses, by id.
#[derive(Debug, Clone, Default)]
pub struct Digests {
    /// `digests[seq]`: status and body of the successful answer; 0 where there was none.
    by_seq: Vec<u64>,
    /// Beside it, the response time in nanoseconds (to seven digits).
    response_ns: Vec<f32>,
}

impl Digests {
    fn record(&mut self, sample: &Sample, status: u16) {
        let (Some(digest), true) = (sample.digest, sample.id.seq < DIGESTS_MAX) else { return };
        let at = sample.id.seq as usize;
        if self.by_seq.len() <= at {
            self.resize((at + 1).next_power_of_two());
        }
        self.by_seq[at] = digest.wrapping_add(u64::from(status)).max(1);
        self.response_ns[at] = sample.response().0 as f32;
    }

    fn merge(&mut self, other: &Self) {
        if self.by_seq.len() < other.by_seq.len() {
            self.resize(other.by_seq.len());
        }
        for (mine, theirs) in self.by_seq.iter_mut().zip(&other.by_seq) {
            *mine = (*mine).max(*theirs);
        }
        for (mine, theirs) in self.response_ns.iter_mut().zip(&other.response_ns) {
            *mine = mine.max(*theirs);
        }
    }

    fn resize(&mut self, ids: usize) {
        self.by_seq.resize(ids, 0);
        self.response_ns.resize(ids, 0.0);
    }

    /// For each id that both answered successfully: ln of `other`'s response time over ours.
    pub fn log_ratios(&self, other: &Self) -> Vec<f64> {
        let both = self.response_ns.iter().zip(&other.response_ns).filter(|&(a, b)| *a > 0.0 && *b > 0.0);
        both.map(|(a, b)| (f64::from(*b) / f64::from(*a)).ln()).collect()
    }

    /// Every id that either has, with both digests.
    pub fn pairs<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (u64, Option<u64>, Option<u64>)> + 'a {
        let at = |digests: &Self, seq: usize| digests.by_seq.get(seq).copied().filter(|&d| d != 0);
        (0..self.by_seq.len().max(other.by_seq.len()))
            .map(move |seq| (seq as u64, at(self, seq), at(other, seq)))
            .filter(|(_, a, b)| a.is_some() || b.is_some())
    }
}

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
        let log = log.map(|port| {
            let chunk = port.empty.try_recv().unwrap_or_default();
            Log { port, thread, chunk, lost: 0 }
        });
        Self {
            ok,
            measured: tally(),
            warmup: tally(),
            batches: BatchCounter::new(None),
            outcomes: Vec::with_capacity(32),
            digests: digests.then(|| Digests {
                by_seq: vec![0; DIGESTS_AT_START],
                response_ns: vec![0.0; DIGESTS_AT_START],
            }),
            log,
            slicer: None,
            path: None,
            passages: Passages::for_thread(),
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
        let log_lost = self.log.map_or(0, |mut log| {
            let samples = std::mem::take(&mut log.chunk);
            let rows = samples.len() as u64;
            let sent = log.port.full.send(LogChunk { thread: log.thread, samples }).is_ok();
            log.lost + if sent { 0 } else { rows }
        });
        Recorded {
            measured: self.measured,
            warmup: self.warmup,
            digests: self.digests.unwrap_or_default(),
            log_lost,
            slices: Slices::default(),
            slices_held: self.slicer.map_or(0, slices::Slicer::finish),
            path: self.path.unwrap_or_default(),
            passages: self.passages,
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
        self.connections.extend(other.connections);
    }
}

/// How many of the scheduled ended as `class`.
pub fn count_of(tally: &Tally, class: Failure) -> u64 {
    tally.outcomes.iter().filter(|(key, _)| key.outcome == class.name()).map(|(_, n)| n).sum()
}

#[cfg(test)]
mod tests;
