//! Rules on what the load saw, looked at in its slices of time when the round is over.

use std::iter;

use super::requests::Kept;
use super::rule::AlertRule;
use super::{Baseline, Watched};
use crate::analyze::gate::{Limit, Metric, Rule};
use crate::analyze::stats::Percentile;
use crate::analyze::theory;
use crate::facts::Round;
use crate::facts::alerts::{Found, NotEvaluated};
use crate::load::time::Nanos;
use crate::plan::Plan;
use crate::record::{Distribution, Interval};

/// The start of the run, which a rise is measured against: its first slices in which requests ended.
const START: usize = 5;
/// A slice with fewer requests has no share, no mean and no percentile.
const REQUESTS_MIN: u64 = 20;

/// One slice.
struct Slice {
    from: Nanos,
    to: Nanos,
    /// Measured requests that ended in it.
    requests: u64,
    /// Of the successful; none where nothing ended.
    responses: Option<Distribution>,
    /// Requests were due before it began and after it ended: only then is what ended in it a rate.
    whole: bool,
}

/// What the slices of one round say of those of `rules` that are about them.
pub(super) fn look(
    plan: &Plan,
    round: &Round,
    rules: &[AlertRule],
    baseline: &Baseline,
    kept: &Kept,
) -> (Found, Vec<NotEvaluated>) {
    let capacity = theory::capacity_per_s(plan, &round.recorded.measured);
    let mut slices = each(round, kept.due());
    let start = start(&mut slices);
    let (mut found, mut not_evaluated) = (Found::default(), Vec::new());
    let mut watched = Vec::new();
    for &rule in rules.iter().filter(|rule| rule.sampled().is_none()) {
        let against = match rule.rise_of() {
            Some(percentile) => against(percentile, baseline, &start).map(Some),
            None => Ok(None),
        };
        let known = if matches!(rule, AlertRule::Capacity { .. }) { capacity.map(drop) } else { Ok(()) };
        match known.map_err(str::to_owned).and(against) {
            Ok(against) => watched.push(Watched::new(rule, against)),
            Err(why) => not_evaluated.push(NotEvaluated { rule: rule.to_string(), why }),
        }
    }
    for slice in &start {
        // the start is not compared with itself
        let others = watched.iter_mut().filter(|one| one.against.is_none() || !baseline.is_none());
        others.for_each(|one| one.observe_slice(slice, capacity));
    }
    for slice in slices {
        watched.iter_mut().for_each(|one| one.observe_slice(&slice, capacity));
    }
    for one in watched {
        if one.watch.could_see() {
            one.finish(false, &mut found);
        } else {
            not_evaluated.push(NotEvaluated { rule: one.rule.to_string(), why: why_not(&one.rule) });
        }
    }
    (found, not_evaluated)
}

impl Watched {
    fn observe_slice(&mut self, slice: &Slice, capacity: Result<f64, &'static str>) {
        let figure = match &self.rule {
            AlertRule::Limit(rule) => figure(rule, slice),
            AlertRule::Rise { percentile, .. } => {
                let rise = |ns: f64, before: Nanos| 100.0 * (ns / before.0.max(1) as f64 - 1.0);
                slice.percentile(*percentile).zip(self.against).map(|(ns, before)| rise(ns, before))
            }
            AlertRule::Capacity { .. } => {
                slice.per_s().zip(capacity.ok()).map(|(per_s, most)| 100.0 * per_s / most)
            }
        };
        self.watch.observe(slice.from, slice.to, figure);
    }
}

/// The slice's figure in the unit of the rule's limit.
fn figure(rule: &Rule, slice: &Slice) -> Option<f64> {
    const NS_PER_MS: f64 = 1e6;
    let enough = slice.requests >= REQUESTS_MIN;
    let errors = slice.requests - slice.successful();
    let share = |n: u64| enough.then(|| 100.0 * n as f64 / slice.requests as f64);
    match rule.metric() {
        Metric::Percentile(p) => slice.percentile(p).map(|ns| ns / NS_PER_MS),
        Metric::Mean => slice.responses.as_ref()?.mean().filter(|_| enough).map(Nanos::as_ms),
        Metric::Max => slice.responses.as_ref()?.max().map(Nanos::as_ms),
        Metric::Errors if matches!(rule.limit(), Limit::Count(_)) => Some(errors as f64),
        Metric::Errors => share(errors),
        Metric::Availability => share(slice.successful()),
        Metric::Throughput => slice.per_s(),
        // refused by the grammar, and sampled
        Metric::Timeouts | Metric::System(_) => None,
    }
}

impl Slice {
    fn successful(&self) -> u64 {
        self.responses.as_ref().map_or(0, Distribution::count)
    }

    /// In ns; infinite where it falls among the requests that were not successful, which rank last. It takes a request
    /// beyond it.
    fn percentile(&self, p: Percentile) -> Option<f64> {
        let rank = p.rank(self.requests);
        if self.requests < REQUESTS_MIN || rank >= self.requests {
            return None;
        }
        let value = self.responses.as_ref()?.at_rank(rank);
        Some(value.map_or(f64::INFINITY, |time| time.0 as f64))
    }

    /// Successful requests per second.
    fn per_s(&self) -> Option<f64> {
        let length = self.to.saturating_sub(self.from).as_secs();
        (self.whole && length > 0.0).then(|| self.successful() as f64 / length)
    }
}

/// Every slice from the first in which something ended to the last; `due` is when requests were due.
fn each(round: &Round, due: Option<(Nanos, Nanos)>) -> impl Iterator<Item = Slice> {
    let slices = &round.recorded.slices;
    let length = slices.interval().0.max(1);
    let slice = move |index: u64, requests, responses| {
        let (from, to) = (Nanos(index * length), Nanos((index + 1) * length));
        let whole = due.is_some_and(|(first, last)| first <= from && to <= last);
        Slice { from, to, requests, responses, whole }
    };
    let mut next = None;
    slices.iter().flat_map(move |Interval { start, requests, responses }| {
        let index = start.0 / length;
        let empty = next.replace(index + 1).unwrap_or(index)..index;
        empty.map(move |index| slice(index, 0, None)).chain(iter::once(slice(index, requests, Some(responses))))
    })
}

/// Takes slices until [`START`] of them had requests.
fn start(slices: &mut impl Iterator<Item = Slice>) -> Vec<Slice> {
    let mut taken: Vec<Slice> = Vec::new();
    let full = |taken: &[Slice]| taken.iter().filter(|slice| slice.requests > 0).count() >= START;
    while !full(&taken)
        && let Some(slice) = slices.next()
    {
        taken.push(slice);
    }
    taken
}

/// What a rise of `percentile` is measured against.
fn against(percentile: Percentile, baseline: &Baseline, start: &[Slice]) -> Result<Nanos, String> {
    if let Some(of_baseline) = baseline.figure(percentile) {
        return of_baseline.ok_or(format!("the baseline has no {percentile}: it falls among the unsuccessful"));
    }
    let (mut requests, mut responses) = (0, Distribution::default());
    for slice in start {
        requests += slice.requests;
        slice.responses.iter().for_each(|more| responses.merge(more));
    }
    if requests < REQUESTS_MIN {
        return Err("the start of the run has too few requests to compare with".to_owned());
    }
    let value = responses.at_rank(percentile.rank(requests));
    value.ok_or(format!("{percentile} of the start of the run falls among the unsuccessful"))
}

fn why_not(rule: &AlertRule) -> String {
    match rule {
        AlertRule::Rise { .. } => format!(
            "it takes {START} slices of time to compare with and then three with {REQUESTS_MIN} requests or more, and \
             one beyond the percentile: run longer, or lower --interval"
        ),
        AlertRule::Limit(rule) if rule.metric() != Metric::Throughput => {
            format!("no slice of time had {REQUESTS_MIN} requests, and for a percentile one beyond it")
        }
        _ => "no slice of time lies wholly in the load: run longer, or lower --interval".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(requests: u64, responses_ms: &[u64]) -> Slice {
        let mut responses = Distribution::default();
        responses_ms.iter().for_each(|&ms| responses.record(Nanos::from_millis(ms)));
        let (from, to) = (Nanos::from_secs(1), Nanos::from_secs(3));
        Slice { from, to, requests, responses: Some(responses), whole: true }
    }

    #[test]
    fn figures_of_a_slice_are_those_that_the_gate_would_have() {
        let ascending: Vec<u64> = (1..=20).map(|ms| 10 * ms).collect();
        let of = |rule: &str, slice: &Slice| figure(&rule.parse().unwrap(), slice);
        let good = slice(20, &ascending);
        for (rule, expected) in [
            ("mean>1ms", Some(105.0)),
            ("max>1ms", Some(200.0)),
            ("errors>1%", Some(0.0)),
            ("availability<99%", Some(100.0)),
            ("throughput<1/s", Some(10.0)),
            ("p99>1ms", None),
        ] {
            assert_eq!(of(rule, &good), expected, "{rule}");
        }
        let p95 = of("p95>1ms", &good).unwrap();
        assert!((p95 / 190.0 - 1.0).abs() < 0.001, "{p95}");
        // the unsuccessful rank last
        let bad = slice(25, &ascending);
        assert_eq!(of("errors>1%", &bad), Some(20.0));
        assert_eq!(of("errors>1", &bad), Some(5.0));
        assert_eq!(of("p90>1ms", &bad), Some(f64::INFINITY));
        // too few to say, but what was counted was counted
        let few = slice(19, &[1; 4]);
        assert_eq!((of("errors>1%", &few), of("mean>1us", &few), of("p50>1us", &few)), (None, None, None));
        assert_eq!((of("errors>1", &few), of("max>1us", &few)), (Some(15.0), Some(1.0)));
        let nothing = Slice { requests: 0, responses: None, ..slice(0, &[]) };
        assert_eq!((of("throughput<1/s", &nothing), of("errors>1%", &nothing)), (Some(0.0), None));
        let edge = Slice { whole: false, ..slice(20, &ascending) };
        assert_eq!(of("throughput<1/s", &edge), None, "part of it is not in the load");
    }

    #[test]
    fn the_start_is_what_a_rise_is_measured_against() {
        let mut slices = [0, 20, 20, 0, 20, 20, 20, 20].map(|n| slice(n, &vec![n; n as usize])).into_iter();
        let start = start(&mut slices);
        assert_eq!((start.len(), slices.len()), (7, 1));
        let p95 = Percentile::P95;
        assert_eq!(against(p95, &Baseline::default(), &start), Ok(Nanos::from_millis(20)));
        let refused = against(p95, &Baseline::default(), &[slice(40, &[1; 20])]).unwrap_err();
        assert!(refused.contains("among the unsuccessful"), "{refused}");
        assert!(against(p95, &Baseline::default(), &[]).unwrap_err().contains("too few"));
    }
}
