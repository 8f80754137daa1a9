//! What a scenario says beyond the figures of any run: its stages, and the answers to the questions its preset asks.
//!
//! One file a question. Each answer is a [`Check`]: it passes, fails or is not evaluable, with its figure and its limit; none is
//! a gate. What a question does not apply to (a load of other flags, a server that is not ours) is said, never guessed.

use serde::{Deserialize, Serialize};

use super::diagnose::{Check, judged, not_evaluable};
use super::validity::Verdict;
use crate::facts::Round;
use crate::load::time::Nanos;
use crate::plan::{Plan, Server};
use crate::preset::Judged;
use crate::record::Tally;

mod endurance;
mod exhaustion;
mod first;
mod health;
mod scaling;
mod stages;

pub use endurance::Trend;
pub use exhaustion::Capacity;
pub use first::FirstAgainstLater;
pub use scaling::{Bounded, Scaling, ScalingPoint};
pub use stages::Stage;

/// The scenario of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// The preset.
    pub preset: String,
    /// What its durations and numbers of requests were multiplied by.
    pub time_scale: f64,
    /// What has to be known to read the rest.
    pub notes: Vec<String>,
    /// The answers.
    pub checks: Vec<Check>,
    /// The stretches in which the number of users stayed or changed evenly; empty where it does not change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// The first request of each round against its later ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_against_later: Option<FirstAgainstLater>,
    /// What changed with time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trends: Vec<Trend>,
    /// What the server can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Throughput by the number of users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
}

/// Of one target over all rounds; none where no preset was named.
pub fn findings(plan: &Plan, rounds: &[Round], tally: &Tally, verdict: Verdict) -> Option<Findings> {
    let scenario = plan.scenario.as_ref()?;
    let mut findings = Findings {
        preset: scenario.preset.clone(),
        time_scale: scenario.time_scale,
        notes: notes(plan, scenario.time_scale, verdict),
        checks: Vec::new(),
        stages: stages::of(plan, rounds),
        first_against_later: None,
        trends: Vec::new(),
        capacity: None,
        scaling: None,
    };
    match scenario.judged {
        Judged::Nothing => {}
        Judged::FirstAgainstLater => first::judge(plan, rounds, &mut findings),
        Judged::Health => health::judge(plan, tally, &mut findings),
        Judged::Recovery => stages::judge(plan, rounds, &mut findings),
        Judged::Endurance => endurance::judge(rounds, &mut findings),
        Judged::Exhaustion => exhaustion::judge(plan, rounds, tally, &mut findings),
        Judged::Scaling => scaling::judge(plan, rounds, &mut findings),
    }
    Some(findings)
}

fn notes(plan: &Plan, time_scale: f64, verdict: Verdict) -> Vec<String> {
    let mut notes = Vec::new();
    if verdict == Verdict::Invalid {
        notes.push(
            "the run is INVALID: the instrument was disturbed, and what follows may be its own doing"
                .to_owned(),
        );
    }
    if time_scale != 1.0 {
        notes.push(format!(
            "a trial: durations and numbers of requests are {time_scale} of the preset's, so its figures are not those of the \
             scenario"
        ));
    }
    if matches!(plan.target.server, Server::External) {
        notes.push(
            "the server ran already: rounds share it, nothing is known of its start, and its memory is seen only with --server-pid".to_owned(),
        );
    }
    notes
}

/// A stretch of a round: slices of time that lie in it wholly.
fn between(round: &Round, from: Nanos, to: Nanos) -> impl Iterator<Item = crate::record::Interval> {
    let length = round.recorded.slices.interval();
    round.recorded.slices.iter().filter(move |slice| slice.start >= from && slice.start + length <= to)
}

/// Seconds that a number of slices last.
fn seconds(round: &Round, from: Nanos, to: Nanos) -> f64 {
    let length = round.recorded.slices.interval().0.max(1);
    let (first, end) = (from.0.div_ceil(length), to.0 / length);
    end.saturating_sub(first) as f64 * length as f64 / 1e9
}
