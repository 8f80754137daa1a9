//! The requests that an alert overlaps, of those that were kept (`record::Passages`).

use crate::analyze::stats::Percentile;
use crate::facts::Round;
use crate::facts::alerts::{Overlapping, SlowRequest};
use crate::load::time::Nanos;
use crate::record::Passage;

/// So many of the slow are named.
const NAMED: usize = 5;

/// The kept requests of a round.
pub(super) struct Kept {
    t0: Nanos,
    passages: Vec<Passage>,
    one_in: u64,
    /// What is slower is slow.
    p95: Option<Nanos>,
    wall: Nanos,
}

impl Kept {
    pub(super) fn of(round: &Round) -> Self {
        let successful = &round.recorded.measured.response_ok;
        Self {
            t0: round.recorded.slices.t0(),
            passages: round.recorded.passages.blocks().concat(),
            one_in: round.recorded.passages.stride(),
            p95: successful.at_rank(Percentile::P95.rank(successful.count())),
            wall: round.wall,
        }
    }

    /// Between which times, after t0, requests were due.
    pub(super) fn due(&self) -> Option<(Nanos, Nanos)> {
        let due = || self.passages.iter().map(|passage| passage.intended.saturating_sub(self.t0));
        due().min().zip(due().max())
    }

    /// Those under way between two times after t0; without an end, until the round was over.
    pub(super) fn under_way(&self, from: Nanos, to: Option<Nanos>) -> Overlapping {
        let to = to.unwrap_or(self.wall);
        let mut seen = Overlapping { one_in: self.one_in, ..Overlapping::default() };
        for passage in &self.passages {
            let intended_ns = passage.intended.saturating_sub(self.t0);
            let Some(response_ns) = passage.response else {
                seen.unanswered += u64::from(from <= intended_ns && intended_ns < to);
                continue;
            };
            if intended_ns >= to || intended_ns + response_ns <= from {
                continue;
            }
            seen.answered += 1;
            if self.p95.is_some_and(|p95| response_ns > p95) {
                seen.slow += 1;
                seen.slowest.push(SlowRequest { id: passage.seq, intended_ns, response_ns });
            }
        }
        seen.slowest.sort_by_key(|slow| (std::cmp::Reverse(slow.response_ns), slow.id));
        seen.slowest.truncate(NAMED);
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_overlaps_from_when_it_was_due_until_its_answer() {
        let ms = Nanos::from_millis;
        let passage = |seq, due: u64, response: Option<u64>| Passage {
            seq,
            intended: ms(1_000 + due),
            issued: ms(1_000 + due),
            response: response.map(ms),
            server: None,
        };
        let kept = Kept {
            t0: ms(1_000),
            passages: vec![
                passage(0, 0, Some(100)),
                passage(1, 50, Some(60)),
                passage(2, 90, Some(500)),
                passage(3, 150, None),
                passage(4, 199, Some(90)),
                passage(5, 200, Some(900)),
                passage(6, 250, None),
            ],
            one_in: 4,
            p95: Some(ms(80)),
            wall: ms(2_000),
        };
        let slow = |id, due, response| SlowRequest { id, intended_ns: ms(due), response_ns: ms(response) };
        let seen = kept.under_way(ms(100), Some(ms(200)));
        let slowest = vec![slow(2, 90, 500), slow(4, 199, 90)];
        assert_eq!(seen, Overlapping { one_in: 4, answered: 3, slow: 2, unanswered: 1, slowest });
        let seen = kept.under_way(ms(300), None);
        assert_eq!((seen.answered, seen.slow, seen.unanswered), (2, 2, 0));
        assert_eq!(seen.slowest[0].id, 5, "the slowest first");
        assert_eq!(kept.due(), Some((ms(0), ms(250))));
    }
}
