//! Rules on what the load saw, looked at in its slices of time when the round is over.

use std::iter;

use super::rule::AlertRule;
use super::{Baseline, Watched};
use crate::analyze::gate::{Limit, Metric, Rule};
use crate::analyze::stats::Percentile;
use crate::facts::alerts::{Found, NotEvaluated};
use crate::load::time::Nanos;
use crate::record::{Distribution, Interval};

/// The start of the run, which a rise is measured against: its first slices in which requests ended.
const START: usize = 5;
/// A slice with fewer requests has no share, no mean and no percentile.
const REQUESTS_MIN: u64 = 20;

/// One slice.
pub(super) struct Slice {
    from: Nanos,
    to: Nanos,
    /// Measured requests that ended in it.
    requests: u64,
    /// Of the successful; none where nothing ended.
    responses: Option<Distribution>,
    /// Requests were due before it began and after it ended: only then is what ended in it a rate.
    whole: bool,
}

/// What the slices of one round say of those of `rules` that are about them; `capacity` is in requests per second.
pub(super) fn look(
    rules: &[AlertRule],
    baseline: &Baseline,
    mut slices: impl Iterator<Item = Slice>,
    capacity: Result<f64, &'static str>,
) -> (Found, Vec<NotEvaluated>) {
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

/// Every slice from the first in which something ended to the last, of those in which something did; `due` is when requests
/// were due.
pub(super) fn each(
    slices: impl Iterator<Item = Interval>,
    length: Nanos,
    due: Option<(Nanos, Nanos)>,
) -> impl Iterator<Item = Slice> {
    let length = length.0.max(1);
    let slice = move |index: u64, requests, responses| {
        let (from, to) = (Nanos(index * length), Nanos((index + 1) * length));
        let whole = due.is_some_and(|(first, last)| first <= from && to <= last);
        Slice { from, to, requests, responses, whole }
    };
    let mut next = None;
    slices.flat_map(move |Interval { start, requests, responses }| {
        let index = start.0 / length;
        let empty = next.replace(index + 1).unwrap_or(index)..index;
        empty.map(move |index| slice(index, 0, None)).chain(iter::once(slice(
            index,
            requests,
            Some(responses),
        )))
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
        return of_baseline
            .ok_or(format!("the baseline has no {percentile}: it falls among the unsuccessful"));
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

    /// Slices of a second: so many requests, of which so many took so long; the others were not successful.
    fn run(slices: &[(u64, u64, u64)]) -> Vec<Slice> {
        let second = |(index, &(requests, successful, ms)): (usize, &(u64, u64, u64))| {
            let (from, to) = (Nanos::from_secs(index as u64), Nanos::from_secs(index as u64 + 1));
            Slice { from, to, ..slice(requests, &vec![ms; successful as usize]) }
        };
        slices.iter().enumerate().map(second).collect()
    }

    /// Rule, begin and end in seconds, value.
    type Told = (String, u64, Option<u64>, Option<f64>);

    /// What was raised, and what was not evaluated.
    fn seen(rules: &[&str], slices: Vec<Slice>) -> (Vec<Told>, Vec<String>) {
        let rules: Vec<AlertRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let (found, not_evaluated) = look(&rules, &Baseline::default(), slices.into_iter(), Ok(100.0));
        let seconds = |time: Nanos| time.0 / 1_000_000_000;
        let told = found.alerts.into_iter().map(|alert| {
            assert!(!alert.live && alert.requests.is_none());
            (alert.rule, seconds(alert.start_ns), alert.end_ns.map(seconds), alert.value.map(f64::round))
        });
        (told.collect(), not_evaluated.into_iter().map(|not| not.rule).collect())
    }

    const CALM: (u64, u64, u64) = (40, 40, 10);

    #[test]
    fn a_rise_is_measured_against_the_start_and_must_last() {
        let slow = (40, 40, 20);
        let rises = |slices: &[(u64, u64, u64)]| seen(&["p95>+50%"], run(slices));
        let start = [CALM; 5];
        assert_eq!(rises(&[&start[..], &[slow, slow, CALM, CALM]].concat()), (vec![], vec![]));
        let (told, _) = rises(&[&start[..], &[slow, slow, slow, CALM, CALM, CALM, CALM]].concat());
        assert_eq!(told, [("p95>+50%".to_owned(), 5, Some(8), Some(100.0))]);
        let (told, _) = rises(&[&start[..], &[slow, slow, slow, CALM]].concat());
        assert_eq!(told[0].2, None, "three slices end it, as three begin it");
        // what falls among the unsuccessful has no value, and is beyond every limit
        let (told, _) = rises(&[&start[..], &[(40, 20, 10); 3]].concat());
        assert_eq!(told, [("p95>+50%".to_owned(), 5, None, None)]);
        // a start of its own that is too short, or bad, is nothing to compare with
        assert_eq!(rises(&[CALM; 7]), (vec![], vec!["p95>+50%".to_owned()]));
        assert_eq!(rises(&[(40, 20, 10); 9]), (vec![], vec!["p95>+50%".to_owned()]));
    }

    #[test]
    fn a_baseline_takes_the_place_of_the_start() {
        let p95 = Percentile::P95;
        let baseline = |value: Option<u64>| Baseline([(p95, value.map(Nanos::from_millis))].into());
        let look = |baseline| {
            let (found, not) =
                look(&["p95>+50%".parse().unwrap()], &baseline, run(&[CALM; 4]).into_iter(), Ok(1.0));
            (found.alerts.len(), found.alerts.first().and_then(|alert| alert.against_ns), not.len())
        };
        assert_eq!(look(baseline(Some(5))), (1, Some(Nanos::from_millis(5)), 0));
        assert_eq!(look(baseline(Some(9))), (0, None, 0));
        assert_eq!(look(baseline(None)), (0, None, 1));
    }

    #[test]
    fn shares_rates_and_the_capacity_are_seen_in_one_slice() {
        let slices = [CALM, (40, 30, 10), CALM, (95, 95, 10), (0, 0, 0), CALM];
        let (told, not) = seen(&["errors>10%", "throughput<35/s", "capacity>90%", "p50>1000s"], run(&slices));
        // slices of a second, 100/s are all it can do
        let expected = [
            ("errors>10%", 1, Some(2), 25.0),
            ("throughput<35/s", 1, Some(2), 30.0),
            ("throughput<35/s", 4, Some(5), 0.0),
            ("capacity>90%", 3, Some(4), 95.0),
        ];
        let expected: Vec<_> = expected.map(|(rule, a, b, v)| (rule.to_owned(), a, b, Some(v))).into();
        assert_eq!((told, not), (expected, vec![]));
        let (told, not) = seen(&["errors>10%", "capacity>90%"], run(&[(5, 0, 0); 3]));
        assert_eq!((told, not), (vec![], vec!["errors>10%".to_owned()]), "too few to have a share");
    }

    #[test]
    fn times_in_which_nothing_ended_are_slices_too() {
        let ended = |second| Interval {
            start: Nanos::from_secs(second),
            requests: 1,
            responses: Distribution::default(),
        };
        let due = Some((Nanos::from_secs(2), Nanos::from_secs(5)));
        let slices = each([2, 5].map(ended).into_iter(), Nanos::from_secs(1), due);
        let told: Vec<_> = slices.map(|s| (s.from.0 / 1_000_000_000, s.requests, s.whole)).collect();
        assert_eq!(told, [(2, 1, true), (3, 0, true), (4, 0, true), (5, 1, false)]);
    }
}
