//! The stages of a load whose users come and go, each with its figures; and whether the last is as good as the first.

use serde::{Deserialize, Serialize};

use super::super::diagnose::Evidence;
use super::super::stats::Percentile;
use super::super::summary::Figures;
use super::{Findings, between, judged, not_evaluable, seconds};
use crate::facts::Round;
use crate::load::schedule::{Load, UsersAt};
use crate::load::time::Nanos;
use crate::plan::Plan;
use crate::record::Distribution;

/// One of them, over all rounds. A request counts where it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Since the start of the measurement.
    pub from_ns: Nanos,
    /// Its end.
    pub to_ns: Nanos,
    /// Users at its start.
    pub users_from: u32,
    /// Users at its end; in between linear.
    pub users_to: u32,
    /// Requests that ended in slices of time that lie in it wholly.
    pub requests: u64,
    /// Of these successful.
    pub successful: u64,
    /// Successful requests per second.
    pub throughput_per_s: Option<f64>,
    /// Response times of the successful.
    pub response_ok_ns: Figures,
}

/// Slower than before by no more than this is recovered, and as many more errors.
const SLOWER_MAX: f64 = 25.0;
const ERRORS_MAX: f64 = 1.0;

pub(super) fn of(plan: &Plan, rounds: &[Round]) -> Vec<Stage> {
    let Load::Users { stages, .. } = &plan.load else { return Vec::new() };
    let offset = plan.warmup.time.unwrap_or_default();
    let spans = stages.windows(2).filter(|pair| pair[1].at > pair[0].at);
    let stage = |pair: &[UsersAt]| {
        let Stretch { requests, responses, time } = stretch(rounds, pair[0].at + offset, pair[1].at + offset);
        let successful = responses.count();
        Stage {
            from_ns: pair[0].at,
            to_ns: pair[1].at,
            users_from: pair[0].users,
            users_to: pair[1].users,
            requests,
            successful,
            throughput_per_s: (time > 0.0).then(|| successful as f64 / time),
            response_ok_ns: Figures::of(&responses),
        }
    };
    spans.map(stage).collect()
}

/// What ended in a stretch of each round.
struct Stretch {
    requests: u64,
    responses: Distribution,
    /// Seconds.
    time: f64,
}

fn stretch(rounds: &[Round], from: Nanos, to: Nanos) -> Stretch {
    let mut sum = Stretch { requests: 0, responses: Distribution::default(), time: 0.0 };
    for round in rounds {
        sum.time += seconds(round, from, to);
        for slice in between(round, from, to) {
            sum.requests += slice.requests;
            sum.responses.merge(&slice.responses);
        }
    }
    sum
}

impl Stretch {
    fn median(&self) -> Option<Nanos> {
        self.responses.at_rank(Percentile::P50.rank(self.responses.count()))
    }

    /// In percent.
    fn unsuccessful(&self) -> f64 {
        100.0 * (1.0 - self.responses.count() as f64 / self.requests.max(1) as f64)
    }
}

/// The first stage against the second half of the last: what the server still had to do for those who are gone is over then.
pub(super) fn judge(plan: &Plan, rounds: &[Round], findings: &mut Findings) {
    let (slower, errors) = ("recovers", "recovers-from-errors");
    let (unit, share) = ("% slower at the median than before", "% more errors than before");
    let offset = plan.warmup.time.unwrap_or_default();
    let ends = match &findings.stages[..] {
        [first, .., last] if first.users_from == last.users_to => Some((first, last)),
        _ => None,
    };
    let found = ends.map(|(first, last)| {
        let middle = Nanos(last.from_ns.0.midpoint(last.to_ns.0));
        let before = stretch(rounds, first.from_ns + offset, first.to_ns + offset);
        (before, stretch(rounds, middle + offset, last.to_ns + offset), last)
    });
    let Some((before, after, last)) = found.filter(|(b, a, _)| b.requests > 0 && a.requests > 0) else {
        let why = "needs stages that end with as many users as they begin with, and answers in both";
        findings.checks.push(not_evaluable(slower, unit, SLOWER_MAX, why));
        findings.checks.push(not_evaluable(errors, share, ERRORS_MAX, why));
        return;
    };
    let speed = match (before.median(), after.median()) {
        (Some(then), Some(now)) => {
            let figure = 100.0 * (now.0 as f64 / then.0.max(1) as f64 - 1.0).max(0.0);
            let when = recovered_after(plan, rounds, last, then);
            let when = when.map_or("never for good".to_owned(), |time| format!("after {time}"));
            let meaning =
                format!("p50 {then} before; {now} at the end, as fast as before {when} without the others");
            judged(
                slower,
                Evidence { figure, limit: SLOWER_MAX, unit, statistic: None, critical: None, meaning },
            )
        }
        _ => not_evaluable(slower, unit, SLOWER_MAX, "nothing succeeded before, or at the end"),
    };
    let (then, now) = (before.unsuccessful(), after.unsuccessful());
    let meaning = format!("{then:.2} % before, {now:.2} % at the end");
    let figure = (now - then).max(0.0);
    let evidence =
        Evidence { figure, limit: ERRORS_MAX, unit: share, statistic: None, critical: None, meaning };
    findings.checks.push(speed);
    findings.checks.push(judged(errors, evidence));
}

/// From the start of the last stage to the slice from which on all are as fast as `then`, in the slowest round.
fn recovered_after(plan: &Plan, rounds: &[Round], last: &Stage, then: Nanos) -> Option<Nanos> {
    let offset = plan.warmup.time.unwrap_or_default();
    let (from, to) = (last.from_ns + offset, last.to_ns + offset);
    let limit = then.0 as f64 * (1.0 + SLOWER_MAX / 100.0);
    let mut worst = Nanos::ZERO;
    for round in rounds {
        let slices: Vec<_> = between(round, from, to).collect();
        let slow = |slice: &crate::record::Interval| {
            let responses = &slice.responses;
            responses.at_rank(Percentile::P50.rank(responses.count())).is_none_or(|p50| p50.0 as f64 > limit)
        };
        let recovered = match slices.iter().rposition(slow) {
            Some(at) => slices.get(at + 1)?.start.saturating_sub(from),
            None => Nanos::ZERO,
        };
        worst = worst.max(recovered);
    }
    Some(worst)
}
