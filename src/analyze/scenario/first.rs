//! The first request of each round against its later ones: a fresh server, or a fresh session.

use serde::{Deserialize, Serialize};

use super::super::diagnose::Evidence;
use super::super::paired::{Criteria, Effect, effect};
use super::super::stats::median;
use super::{Findings, judged, not_evaluable};
use crate::facts::Round;
use crate::load::time::Nanos;
use crate::plan::{Plan, Server};

/// First against later, over rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FirstAgainstLater {
    /// Response time of each round's first request, by round; null where it did not complete.
    pub first_ns: Vec<Option<Nanos>>,
    /// Median response time of the second half of each round's requests.
    pub later_ns: Vec<Option<Nanos>>,
    /// First over later, less 1: the change, its interval over rounds, the verdict.
    pub effect: Option<Effect>,
    /// The median over rounds of the response time of the k-th request, from the first on.
    pub curve_ns: Vec<Nanos>,
    /// So many requests at the start are slower than later ones by more than a tenth, in the median over rounds.
    pub warm_after: Option<u64>,
    /// From the start of the server to its readiness, by round; null where it is not ours.
    pub startup_ns: Vec<Option<Nanos>>,
}

/// Points of the curve.
const CURVE_MAX: usize = 64;
/// Later requests that make a median.
const LATER_MIN: usize = 5;
/// Slower by more than this is not warm.
const WARM_WITHIN: f64 = 1.1;
/// In percent: the first request matters from here on.
const SLOWER_MAX: f64 = 10.0;

pub(super) fn judge(plan: &Plan, rounds: &[Round], findings: &mut Findings) {
    let found = measure(rounds);
    let (name, unit) = ("first-request", "% slower than later ones");
    let what = match plan.target.server {
        Server::External => "a session (the server ran already)",
        _ => "a fresh server's session",
    };
    findings.checks.push(match &found.effect {
        None => not_evaluable(
            name,
            unit,
            SLOWER_MAX,
            "no round has a first request and at least five later ones that completed",
        ),
        Some(effect) => match effect.interval {
            None => not_evaluable(
                name,
                unit,
                SLOWER_MAX,
                format!("{:+.1} %, but {}", 100.0 * effect.change, effect.reason),
            ),
            Some([low, high]) => {
                let percent = |share: f64| format!("{:.1}", 100.0 * share);
                let warm = found.warm_after.map_or(String::new(), |n| format!("; warm after {n} requests"));
                let meaning = format!(
                    "the first request of {what} is {} % slower ({} to {} % with 95 %, over {} rounds){warm}",
                    percent(effect.change),
                    percent(low),
                    percent(high),
                    effect.rounds
                );
                // Shown only where the whole interval lies above nothing.
                let figure = if low > 0.0 { 100.0 * effect.change } else { 0.0 };
                let evidence =
                    Evidence { figure, limit: SLOWER_MAX, unit, statistic: None, critical: None, meaning };
                judged(name, evidence)
            }
        },
    });
    findings.first_against_later = Some(found);
}

fn measure(rounds: &[Round]) -> FirstAgainstLater {
    let each: Vec<Vec<Option<Nanos>>> = rounds.iter().map(responses).collect();
    let first_ns: Vec<_> = each.iter().map(|round| round.first().copied().flatten()).collect();
    let later_ns: Vec<_> = each.iter().map(|round| later(round)).collect();
    let ratios: Vec<f64> = first_ns
        .iter()
        .zip(&later_ns)
        .filter_map(|(first, later)| Some((first.as_ref()?.0 as f64 / later.as_ref()?.0.max(1) as f64).ln()))
        .collect();
    let longest = each.iter().map(Vec::len).max().unwrap_or(0);
    let at = |k: usize| {
        let values: Vec<f64> = each.iter().filter_map(|round| Some((*round.get(k)?)?.0 as f64)).collect();
        median(&values).map(|ns| Nanos(ns as u64))
    };
    let curve_ns: Vec<Nanos> = (0..longest.min(CURVE_MAX)).map_while(at).collect();
    let settled: Vec<f64> = later_ns.iter().flatten().map(|ns| ns.0 as f64).collect();
    let warm_after = median(&settled).map(|settled| {
        // Later requests that happen to be slow are not a beginning: it ends at the first that is not slow.
        curve_ns.iter().take_while(|ns| ns.0 as f64 > WARM_WITHIN * settled).count() as u64
    });
    FirstAgainstLater {
        effect: effect(&ratios, Criteria::default(), None),
        first_ns,
        later_ns,
        curve_ns,
        warm_after,
        startup_ns: rounds.iter().map(|round| round.server_facts.startup).collect(),
    }
}

/// Of the first requests, in the order of their ids.
fn responses(round: &Round) -> Vec<Option<Nanos>> {
    let blocks = round.recorded.passages.blocks();
    let first = blocks.first().filter(|block| block.first().is_some_and(|passage| passage.seq == 0));
    first.map(|block| block.iter().map(|passage| passage.response).collect()).unwrap_or_default()
}

fn later(responses: &[Option<Nanos>]) -> Option<Nanos> {
    let later: Vec<f64> = responses[responses.len() / 2..].iter().flatten().map(|ns| ns.0 as f64).collect();
    if later.len() < LATER_MIN { None } else { median(&later).map(|ns| Nanos(ns as u64)) }
}
