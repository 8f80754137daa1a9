//! When nothing was answered though requests were in flight: what a server that stands still looks like from outside.
//!
//! A silence begins with the last answer, or when the request that ends it was sent if that is later, so that idleness is
//! none. Only the long ones are kept, in bounded memory: where there are too many, the least length doubles. Whether a
//! silence is a stall or just slow work is for `analyze` to say.

use crate::load::sample::{Outcome, Sample};
use crate::load::time::Nanos;

/// Shorter ones are not kept.
pub const SILENCE_MIN: Nanos = Nanos::from_millis(20);
const KEPT_MAX: usize = 2_048;

/// A time in which nothing was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// On CLOCK_MONOTONIC.
    pub from: Nanos,
    /// When the next answer came.
    pub to: Nanos,
}

impl Silence {
    /// How long it was.
    pub fn length(&self) -> Nanos {
        self.to.saturating_sub(self.from)
    }
}

/// The silences of one thread, or those that all threads of a round heard together.
#[derive(Debug, Clone)]
pub struct Silences {
    /// The last answer.
    last: Option<Nanos>,
    least: Nanos,
    kept: Vec<Silence>,
}

impl Default for Silences {
    fn default() -> Self {
        Self { last: None, least: SILENCE_MIN, kept: Vec::new() }
    }
}

impl Silences {
    /// With room for all that a thread keeps.
    pub(super) fn for_thread() -> Self {
        Self { kept: Vec::with_capacity(KEPT_MAX), ..Self::default() }
    }

    pub(super) fn record(&mut self, sample: &Sample) {
        let (Outcome::Completed(_), Some(issued)) = (sample.outcome, sample.issued) else { return };
        if let Some(last) = self.last {
            let silence = Silence { from: last.max(issued), to: sample.done };
            if silence.length() >= self.least {
                self.keep(silence);
            }
        }
        self.last = Some(self.last.map_or(sample.done, |last| last.max(sample.done)));
    }

    #[cold]
    fn keep(&mut self, silence: Silence) {
        if self.kept.len() == KEPT_MAX {
            self.least = Nanos(self.least.0 * 2);
            let least = self.least;
            self.kept.retain(|kept| kept.length() >= least);
        }
        if silence.length() >= self.least && self.kept.len() < KEPT_MAX {
            self.kept.push(silence);
        }
    }

    /// Another thread of the same round: only what both heard is the server's. A thread that was never answered says nothing.
    pub(super) fn merge(&mut self, other: &Self) {
        match (self.last, other.last) {
            (_, None) => {}
            (None, Some(_)) => self.clone_from(other),
            (Some(mine), Some(theirs)) => {
                self.last = Some(mine.max(theirs));
                self.least = self.least.max(other.least);
                self.kept = common(&self.kept, &other.kept);
                let least = self.least;
                self.kept.retain(|silence| silence.length() >= least);
            }
        }
    }

    /// Those that were kept, in the order of time.
    pub fn kept(&self) -> &[Silence] {
        &self.kept
    }
}

/// Where two ascending lists overlap.
fn common(a: &[Silence], b: &[Silence]) -> Vec<Silence> {
    let (mut i, mut j, mut both) = (0, 0, Vec::new());
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        let overlap = Silence { from: x.from.max(y.from), to: x.to.min(y.to) };
        if overlap.from < overlap.to {
            both.push(overlap);
        }
        if x.to <= y.to { i += 1 } else { j += 1 }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    const MS: u64 = 1_000_000;

    /// Heard by a thread whose requests were sent and answered at these times in ms.
    fn heard(requests: &[(u64, u64)]) -> Silences {
        let mut silences = Silences::for_thread();
        for (seq, &(issued, done)) in requests.iter().enumerate() {
            let mut answered = sample(seq as u64, Nanos(MS), Outcome::Completed(200));
            answered.issued = Some(Nanos(issued * MS));
            answered.done = Nanos(done * MS);
            silences.record(&answered);
        }
        silences
    }

    fn told(silences: &Silences) -> Vec<(u64, u64)> {
        silences.kept().iter().map(|s| (s.from.0 / MS, s.to.0 / MS)).collect()
    }

    #[test]
    fn a_silence_needs_a_request_in_flight() {
        // answered at 1; idle until 100, answered at 150; 40 ms later the next, sent long before; then at once
        let silences = heard(&[(0, 1), (100, 150), (101, 190), (102, 191)]);
        assert_eq!(told(&silences), [(100, 150), (150, 190)]);
    }

    #[test]
    fn threads_hear_together() {
        let mut both = heard(&[(0, 1), (2, 60), (61, 100), (101, 200)]);
        both.merge(&heard(&[(0, 20), (20, 70), (71, 72), (150, 190)]));
        assert_eq!(told(&both), [(20, 60), (150, 190)]);
        both.merge(&Silences::default());
        assert_eq!(told(&both), [(20, 60), (150, 190)]);
        let mut first = Silences::default();
        first.merge(&both);
        assert_eq!(told(&first), told(&both));
    }

    #[test]
    fn memory_is_bounded_and_the_long_ones_stay() {
        let requests: Vec<(u64, u64)> =
            (0..10_000).map(|i| (i * 1_000, i * 1_000 + if i % 100 == 0 { 500 } else { 30 })).collect();
        let silences = heard(&requests);
        assert!(silences.kept().len() <= KEPT_MAX);
        let long = silences.kept().iter().filter(|s| s.length() == Nanos(500 * MS)).count();
        assert_eq!(long, 99, "the first has no answer before it");
    }
}
