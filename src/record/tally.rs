//! Counts and distributions of requests, and their merging: threads of a round, rounds of a run.

use std::collections::BTreeMap;

use super::{Anatomy, Batches, Distribution, KernelSplit, TemplateTallies};
use crate::load::io::Stamps;
use crate::load::sample::{Failure, Outcome, Sample};
use crate::load::time::Nanos;

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
    pub(super) fn record(&mut self, sample: &Sample, ok: &OkStatuses) -> bool {
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
            if sample.server_timing_fits() {
                self.anatomy.record(sample);
            }
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

/// How many of the scheduled ended as `class`.
pub fn count_of(tally: &Tally, class: Failure) -> u64 {
    tally.outcomes.iter().filter(|(key, _)| key.outcome == class.name()).map(|(_, n)| n).sum()
}
