//! Silences that are stalls: much longer than the work explains, with several requests caught in each; how long, how
//! regular, and how much of the slow requests' time lay in them.

use crate::analyze::stats::median;
use crate::load::time::Nanos;
use crate::record::{Passage, Silence};

/// A stall is longer than so many typical service times (done − issued).
const TIMES_TYPICAL: f64 = 3.0;
/// Requests caught in it, at least.
const CAUGHT_MIN: usize = 2;
/// A request whose own service covers so much of a silence may be what it waited for.
const COVERED: f64 = 0.8;
/// Intervals between stalls that vary less (σ/mean) are a period.
const PERIODIC_BELOW: f64 = 0.25;

/// The stalls of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stalls {
    /// How many.
    pub count: usize,
    /// Their median length.
    pub length: Nanos,
    /// From the begin of one to that of the next, where they come regularly.
    pub period: Option<Nanos>,
    /// Of the time that the slow requests took, the share that lay in stalls, 0 to 1.
    pub tail_share: f64,
    /// Of the stalls, the share that the work on one long request covers: then it is that request.
    pub covered: f64,
}

/// One round.
pub(super) struct Heard<'a> {
    pub(super) silences: &'a [Silence],
    pub(super) passages: &'a [Passage],
}

impl Stalls {
    /// `typical`: median of done − issued; `slow`: response times from here on are the tail.
    pub(super) fn of(rounds: &[Heard<'_>], typical: Nanos, slow: Nanos) -> Self {
        let least = least(typical);
        let mut seen = Self::default();
        let (mut lengths, mut gaps) = (Vec::new(), Vec::new());
        let (mut covered, mut in_stalls, mut in_all) = (0, 0.0, 0.0);
        for Heard { silences, passages } in rounds {
            let stalls = standing(passages, silences, least);
            covered += stalls.iter().filter(|stall| is_covered(passages, stall)).count();
            lengths.extend(stalls.iter().map(|stall| stall.length().0 as f64));
            gaps.extend(stalls.windows(2).map(|pair| (pair[1].from.0 - pair[0].from.0) as f64));
            for passage in passages.iter().filter(|passage| passage.response.is_some_and(|r| r >= slow)) {
                in_stalls += stalls.iter().map(|stall| overlap(passage, stall)).sum::<f64>();
                in_all += passage.response.map_or(0.0, |response| response.0 as f64);
            }
        }
        seen.count = lengths.len();
        seen.length = Nanos(median(&lengths).unwrap_or(0.0) as u64);
        seen.period = period(&gaps);
        seen.tail_share = if in_all > 0.0 { (in_stalls / in_all).min(1.0) } else { 0.0 };
        seen.covered = covered as f64 / lengths.len().max(1) as f64;
        seen
    }
}

/// Of each kept request the ns that lay in stalls, by round; 0 of those that are not slow.
pub(super) fn stalled(rounds: &[Heard<'_>], typical: Nanos, slow: Nanos) -> Vec<Vec<f64>> {
    let of_round = |heard: &Heard<'_>| {
        let stalls = standing(heard.passages, heard.silences, least(typical));
        let of_one = |passage: &Passage| match passage.response {
            Some(response) if response >= slow => stalls.iter().map(|stall| overlap(passage, stall)).sum(),
            _ => 0.0,
        };
        heard.passages.iter().map(of_one).collect()
    };
    rounds.iter().map(of_round).collect()
}

fn least(typical: Nanos) -> Nanos {
    Nanos((TIMES_TYPICAL * typical.0 as f64) as u64)
}

/// The silences that are stalls.
fn standing(passages: &[Passage], silences: &[Silence], least: Nanos) -> Vec<Silence> {
    let long = silences.iter().filter(|silence| silence.length() > least);
    long.filter(|silence| caught(passages, silence) >= CAUGHT_MIN).copied().collect()
}

fn ends(passage: &Passage) -> Option<Nanos> {
    Some(passage.intended + passage.response?)
}

/// Nanoseconds of the response time that lie in the stall.
fn overlap(passage: &Passage, stall: &Silence) -> f64 {
    let Some(done) = ends(passage) else { return 0.0 };
    done.min(stall.to).saturating_sub(passage.intended.max(stall.from)).0 as f64
}

fn caught(passages: &[Passage], stall: &Silence) -> usize {
    passages.iter().filter(|passage| overlap(passage, stall) > 0.0).count()
}

fn is_covered(passages: &[Passage], stall: &Silence) -> bool {
    passages.iter().any(|passage| {
        let (Some(done), Some(server)) = (ends(passage), passage.server) else { return false };
        let begun = done.saturating_sub(server.service);
        let worked = done.min(stall.to).saturating_sub(begun.max(stall.from));
        worked.0 as f64 >= COVERED * stall.length().0 as f64
    })
}

fn period(gaps: &[f64]) -> Option<Nanos> {
    let typical = median(gaps).filter(|_| gaps.len() >= 2)?;
    let off = gaps.iter().map(|gap| (gap / typical - 1.0).abs());
    // a stall that was missed makes one gap of two periods
    let regular = off.filter(|off| *off < PERIODIC_BELOW).count();
    (regular * 4 >= gaps.len() * 3).then_some(Nanos(typical as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Worked;

    const MS: u64 = 1_000_000;

    /// 1 ms each at 100/s, but for 200 ms in every 2 s nothing goes on.
    fn stalling() -> (Vec<Passage>, Vec<Silence>) {
        let standing = |at: u64| at >= 2_000 && at % 2_000 < 200;
        let passages = (0..1_000)
            .map(|seq| {
                let at = seq * 10;
                let done = if standing(at) { at / 2_000 * 2_000 + 200 + 1 } else { at + 1 };
                let queue = Nanos((done - at - 1) * MS);
                Passage {
                    seq,
                    intended: Nanos(at * MS),
                    issued: Nanos(at * MS),
                    response: Some(Nanos((done - at) * MS)),
                    server: Some(Worked { queue, service: Nanos(MS) }),
                }
            })
            .collect();
        let silences =
            (1..5).map(|k| Silence { from: Nanos(2_000 * k * MS), to: Nanos((2_000 * k + 201) * MS) });
        (passages, silences.collect())
    }

    #[test]
    fn period_length_and_share_are_found() {
        let (passages, silences) = stalling();
        let heard = Heard { silences: &silences, passages: &passages };
        let seen = Stalls::of(&[heard], Nanos(MS), Nanos(100 * MS));
        assert_eq!((seen.count, seen.length), (4, Nanos(201 * MS)));
        assert_eq!(seen.period, Some(Nanos(2_000 * MS)));
        assert!(seen.tail_share > 0.95 && seen.covered == 0.0, "{seen:?}");
    }

    #[test]
    fn slow_work_is_no_stall() {
        let (passages, silences) = stalling();
        let heard = || Heard { silences: &silences, passages: &passages };
        assert_eq!(Stalls::of(&[heard()], Nanos(100 * MS), Nanos(100 * MS)).count, 0);
        let alone = Heard { silences: &silences, passages: &passages[..1] };
        assert_eq!(Stalls::of(&[alone], Nanos(MS), Nanos(100 * MS)).count, 0);
        // one long request for which the others wait
        let mut long = passages.clone();
        for passage in &mut long {
            if passage.response > Some(Nanos(198 * MS)) {
                passage.server = Some(Worked { queue: Nanos::ZERO, service: passage.response.unwrap() });
            }
        }
        let heard = Heard { silences: &silences, passages: &long };
        assert_eq!(Stalls::of(&[heard], Nanos(MS), Nanos(100 * MS)).covered, 1.0);
    }

    #[test]
    fn by_chance_is_no_period() {
        assert_eq!(period(&[2.0, 2.1, 1.9, 4.0]), Some(Nanos(2)));
        assert_eq!(period(&[1.0, 5.0, 2.0, 9.0]), None);
        assert_eq!(period(&[2.0]), None);
    }
}
