//! One number for how well the target is, made of four penalties that are printed with it. It never hides a failed gate.

use serde::{Deserialize, Serialize};

use super::{Grounds, failed};
use crate::analyze::findings::Word;
use crate::analyze::validity::Verdict;

/// A failed gate caps the score here.
const FAILED_GATE: u32 = 49;
/// All points for errors are lost from this share on.
const ERRORS_ALL: f64 = 0.1;
/// Headroom is lost from this utilisation up to 1.
const BUSY_FROM: f64 = 0.7;

/// The score: 100 less the penalties.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// 0 to 100; null for a run that is INVALID or partial.
    pub score: Option<u32>,
    /// What was taken off.
    pub penalties: Vec<Penalty>,
    /// Why it is not more, where the penalties do not say so, or why there is none.
    pub note: Option<String>,
}

/// Points taken off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Penalty {
    /// For what.
    pub what: String,
    /// How many; null where the figure could not be seen, and nothing was taken off.
    pub points: Option<f64>,
    /// Of at most so many.
    pub of: f64,
}

pub(super) fn score(grounds: Grounds<'_>) -> Health {
    if grounds.partial || grounds.sources.validity.verdict == Verdict::Invalid {
        let note = "no score: the run is INVALID or partial".to_owned();
        return Health { score: None, penalties: Vec::new(), note: Some(note) };
    }
    let penalties = penalties(grounds);
    let off: f64 = penalties.iter().filter_map(|penalty| penalty.points).sum();
    let score = (100.0 - off).clamp(0.0, 100.0).round() as u32;
    if failed(grounds.sla) {
        let note = format!("the gate is not met: at most {FAILED_GATE}");
        return Health { score: Some(score.min(FAILED_GATE)), penalties, note: Some(note) };
    }
    Health { score: Some(score), penalties, note: None }
}

fn penalties(grounds: Grounds<'_>) -> Vec<Penalty> {
    let Grounds { sources, symptoms, findings, theory, .. } = grounds;
    let of = |what: &str, of: f64, share: Option<f64>| Penalty {
        what: what.to_owned(),
        points: share.map(|share| of * share.clamp(0.0, 1.0)),
        of,
    };
    let tally = sources.tally;
    let errors = 1.0 - tally.successful as f64 / tally.scheduled.max(1) as f64;
    let waiting = symptoms.excess.and_then(|excess| {
        excess.queue_ns?;
        Some(excess.waiting().0 as f64 / excess.response_ns.0.max(1) as f64)
    });
    let found = findings.findings.iter().map(|finding| finding.word).max();
    let cause = match found {
        Some(word) if word >= Word::Shown => 1.0,
        Some(_) => 0.5,
        None => 0.0,
    };
    let busy = [symptoms.server.cpu.map(|cpu| cpu / 100.0), theory.utilisation];
    let busy = busy.into_iter().flatten().reduce(f64::max);
    vec![
        of("errors", 40.0, Some(errors / ERRORS_ALL)),
        of("waiting in the slow requests", 30.0, waiting),
        of("a bottleneck", 20.0, Some(cause)),
        of("no headroom", 10.0, busy.map(|busy| (busy - BUSY_FROM) / (1.0 - BUSY_FROM))),
    ]
}
