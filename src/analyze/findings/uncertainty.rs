//! How far an explained share is known: the delete-one jackknife over consecutive stretches of the run.
//!
//! Neighbouring requests share a queue, so single requests are no sample of their own; a stretch of many is nearly one. Each
//! share is worked out again without each of the stretches in turn (Quenouille 1956, Tukey 1958; of blocks, Künsch 1989), and
//! what it lies between is the share ± t·s. What the monitor saw is one figure for the run and is taken as it is. Shares of
//! the unsuccessful are counted, so theirs is the exact interval of a share (Clopper and Pearson 1934).

use super::rules::Rule;
use super::symptoms::{Excess, Shortest, Symptoms};
use super::{Of, share_of};
use crate::analyze::special::{share_bounds, t_quantile};
use crate::analyze::stats::CONFIDENCE;
use crate::load::time::Nanos;
use crate::record::Passage;

/// Stretches of a run, as many as it has batches elsewhere.
const STRETCHES: usize = 20;
/// Slow requests that must have been kept for a word on their spread.
const SLOW_MIN: u64 = 20;
/// Stretches that must have some of them.
const STRETCHES_MIN: usize = 5;

/// What there is to explain without one stretch of the run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeftOut {
    excess: Excess,
    /// Of the slow requests' time, what lay in stalls.
    stalled: f64,
}

/// Sums over slow requests, ns.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    requests: u64,
    timed: u64,
    response: f64,
    conn_wait: f64,
    queue: f64,
    service: f64,
    beside: f64,
    stalled: f64,
}

impl Sums {
    fn add(&mut self, passage: &Passage, response: Nanos, stalled: f64) {
        let sent = passage.issued.saturating_sub(passage.intended).0 as f64;
        let (queue, service) = passage.server.map_or((0.0, 0.0), |s| (s.queue.0 as f64, s.service.0 as f64));
        self.requests += 1;
        self.timed += u64::from(passage.server.is_some());
        self.response += response.0 as f64;
        self.conn_wait += sent;
        self.queue += queue;
        self.service += service;
        self.beside += (response.0 as f64 - sent - queue - service).max(0.0);
        self.stalled += stalled;
    }

    fn with(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            timed: self.timed + other.timed,
            response: self.response + other.response,
            conn_wait: self.conn_wait + other.conn_wait,
            queue: self.queue + other.queue,
            service: self.service + other.service,
            beside: self.beside + other.beside,
            stalled: self.stalled + other.stalled,
        }
    }

    fn left_out(self, shortest: &Shortest) -> Option<LeftOut> {
        if self.requests == 0 {
            return None;
        }
        let mean = |sum: f64, least: f64| Nanos((sum / self.requests as f64 - least).max(0.0) as u64);
        let timed = self.timed == self.requests;
        let service_least = shortest.service.filter(|_| timed).unwrap_or(0.0);
        let unloaded = service_least + shortest.beside;
        let excess = Excess {
            unloaded_ns: Nanos(unloaded as u64),
            response_ns: mean(self.response, 0.0),
            excess_ns: mean(self.response, unloaded),
            queue_ns: timed.then(|| mean(self.queue, 0.0)),
            service_ns: timed.then(|| mean(self.service, service_least)),
            conn_wait_ns: mean(self.conn_wait, 0.0),
            beside_ns: mean(self.beside, shortest.beside),
        };
        Some(LeftOut { excess, stalled: (self.stalled / self.response.max(1.0)).min(1.0) })
    }
}

/// The requests at and above `slow` without each stretch in turn; empty where too few were kept. `stalled` has the ns of each
/// kept request that lay in stalls.
pub(super) fn leave_out(
    kept: &[Vec<Passage>],
    stalled: &[Vec<f64>],
    slow: Nanos,
    shortest: &Shortest,
) -> Vec<LeftOut> {
    let each: Vec<(&Passage, f64)> = kept.iter().flatten().zip(stalled.iter().flatten().copied()).collect();
    let mut stretches = Vec::with_capacity(STRETCHES);
    for stretch in each.chunks(each.len().div_ceil(STRETCHES).max(1)) {
        let mut sums = Sums::default();
        for (passage, stalled) in stretch {
            if let Some(response) = passage.response.filter(|response| *response >= slow) {
                sums.add(passage, response, *stalled);
            }
        }
        stretches.push(sums);
    }
    let all = stretches.iter().fold(Sums::default(), |all, one| all.with(*one));
    let seen = stretches.iter().filter(|sums| sums.requests > 0).count();
    if all.requests < SLOW_MIN || seen < STRETCHES_MIN {
        return Vec::new();
    }
    let without = |at: usize| {
        let others = stretches.iter().enumerate().filter(|(other, _)| *other != at);
        others.fold(Sums::default(), |all, (_, one)| all.with(*one)).left_out(shortest)
    };
    (0..stretches.len()).filter_map(without).collect()
}

/// What the share that the rule explains lies between with 95 %.
pub(super) fn of_share(rule: &Rule, symptoms: &Symptoms) -> Option<[f64; 2]> {
    let share = share_of(rule, symptoms)?;
    if rule.of == Of::Unsuccessful {
        let n = symptoms.refusals.requests as f64;
        let (low, high) = share_bounds((share * n).round(), n, (1.0 - CONFIDENCE) / 2.0);
        return (n > 0.0).then_some([low, high]);
    }
    let again = symptoms.left_out.iter().filter_map(|left_out| {
        let mut without = Symptoms { excess: Some(left_out.excess), ..symptoms.clone() };
        if let Some(stalls) = &mut without.stalls {
            stalls.tail_share = left_out.stalled;
        }
        share_of(rule, &without)
    });
    jackknife(share, &again.collect::<Vec<_>>())
}

/// `value` ± t·s, s² = (n−1)/n·Σ(θᵢ − θ̄)², within 0 and 1. Where what was kept is not all, it is as uncertain as what was kept.
fn jackknife(value: f64, without: &[f64]) -> Option<[f64; 2]> {
    let n = without.len() as f64;
    if without.len() < STRETCHES_MIN {
        return None;
    }
    let mean = without.iter().sum::<f64>() / n;
    let variance = (n - 1.0) / n * without.iter().map(|one| (one - mean).powi(2)).sum::<f64>();
    let half = t_quantile(1.0 - (1.0 - CONFIDENCE) / 2.0, n - 1.0) * variance.sqrt();
    Some([(value - half).max(0.0), (value + half).min(1.0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Worked;

    const MS: u64 = 1_000_000;

    /// 1 ms of work, and a wait of so many ms by number.
    fn run(wait_ms: impl Fn(u64) -> u64) -> Vec<Vec<Passage>> {
        let passage = |seq: u64| {
            let (queue, service) = (Nanos(wait_ms(seq) * MS), Nanos(MS));
            Passage {
                seq,
                intended: Nanos(seq * MS),
                issued: Nanos(seq * MS),
                response: Some(queue + service + Nanos(MS)),
                server: Some(Worked { queue, service }),
            }
        };
        vec![(0..400).map(passage).collect()]
    }

    fn symptoms(kept: &[Vec<Passage>]) -> Symptoms {
        let shortest = Shortest { service: Some(1e6), beside: 0.5e6 };
        let stalled: Vec<Vec<f64>> = kept.iter().map(|round| vec![0.0; round.len()]).collect();
        let left_out = leave_out(kept, &stalled, Nanos(MS), &shortest);
        Symptoms {
            excess: left_out.first().map(|one| one.excess),
            left_out,
            service: Some(1e6),
            ..Symptoms::default()
        }
    }

    fn interval(kept: &[Vec<Passage>]) -> Option<[f64; 2]> {
        of_share(&super::super::rules::RULES[2], &symptoms(kept))
    }

    #[test]
    fn a_share_that_is_the_same_everywhere_is_known_exactly() {
        let [low, high] = interval(&run(|_| 9)).unwrap();
        assert!((low - 9.0 / 9.5).abs() < 1e-6 && (high - low).abs() < 1e-6, "{low} {high}");
    }

    #[test]
    fn a_share_that_one_stretch_decides_is_not() {
        let [low, high] = interval(&run(|seq| if seq < 20 { 90 } else { 1 })).unwrap();
        assert!(high - low > 0.2, "{low} {high}");
        let [evenly_low, evenly_high] = interval(&run(|seq| if seq % 20 == 0 { 90 } else { 1 })).unwrap();
        assert!(evenly_high - evenly_low < 0.01, "{evenly_low} {evenly_high}");
    }

    /// s of a mean over n stretches is that of the mean of n values: here 1…20, s/√20 = 1.3229, t₁₉ = 2.0930.
    #[test]
    fn of_a_mean_it_is_the_usual_interval() {
        let without: Vec<f64> = (1..=20).map(|x| (210.0 - f64::from(x)) / 19.0 / 100.0).collect();
        let [low, high] = jackknife(0.105, &without).unwrap();
        assert!(
            (high - 0.105 - 0.027_688).abs() < 1e-4 && (0.105 - low - 0.027_688).abs() < 1e-4,
            "{low} {high}"
        );
    }

    #[test]
    fn too_little_says_nothing() {
        let mut few = run(|_| 9);
        few[0].truncate(SLOW_MIN as usize - 1);
        assert!(symptoms(&few).left_out.is_empty());
        assert_eq!(jackknife(0.5, &[0.5; STRETCHES_MIN - 1]), None);
    }
}
