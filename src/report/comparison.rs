//! Two targets over the same rounds: what differs, whether it is a difference, and whether it may be judged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Report, Tool, json};
use crate::analyze::compare::{self, Change, Outputs, PairedRequests, PairedRound};
use crate::analyze::gate::{self, Relative, Rule, SlaReport, SlaVerdict};
use crate::analyze::paired::{Criteria, Effect, Sequential};
use crate::analyze::summary::{Figures, Responses, measured};
use crate::analyze::validity::Verdict;
use crate::record::Tally;

/// The version of [`Comparison`].
pub const COMPARISON_SCHEMA: &str = "hairspring.comparison/1";

/// Baseline against optimized.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// [`COMPARISON_SCHEMA`].
    pub schema: String,
    /// The program that wrote it.
    pub tool: Tool,
    /// When it was written: milliseconds since the Unix epoch.
    pub created_unix_ms: u64,
    /// The seed of the experiment: of its requests and of the order of its rounds.
    pub seed: u64,
    /// In which order the variants were measured in each round.
    pub order: Vec<Vec<String>>,
    /// Interrupted, or rounds are missing.
    pub partial: bool,
    /// Requests pooled over rounds.
    pub baseline: Report,
    /// Requests pooled over rounds.
    pub optimized: Report,
    /// Of the response time; the unit is the round.
    pub improvement: BTreeMap<String, Change>,
    /// What decides whether a change is a difference.
    #[serde(default)]
    pub criteria: Criteria,
    /// The effect on each figure of the response time and its verdict; the unit is the round.
    #[serde(default)]
    pub effects: BTreeMap<String, Effect>,
    /// The same by requests with the same id; null where answers were not compared.
    #[serde(default)]
    pub paired_requests: Option<PairedRequests>,
    /// Of all pairs of requests, in how many the optimized side's is faster; ties count half, the unsuccessful rank last.
    #[serde(default)]
    pub chance_faster: Option<f64>,
    /// `--aa`: the baseline against itself.
    #[serde(default)]
    pub noise: Option<Noise>,
    /// `--until`: the rule by which rounds were added.
    #[serde(default)]
    pub sequential: Option<Sequential>,
    /// Null where nothing could be compared, or comparing was switched off.
    pub outputs_identical: Option<bool>,
    /// The comparison of answers.
    pub outputs: Outputs,
    /// What follows from the figures.
    pub conclusion: String,
    /// The worst of them.
    pub validity: Verdict,
    /// Of the optimized side.
    pub sla: SlaReport,
    /// True if `sla.verdict` is met.
    pub sla_met: bool,
}

/// The baseline against itself, measured in the same rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// The second baseline.
    pub again: Box<Report>,
    /// Its effect on each figure; the interval's farther end is the noise floor of that figure.
    pub effects: BTreeMap<String, Effect>,
}

/// The requests of one side beside those of the first, over the rounds.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// The comparison of answers.
    pub outputs: Outputs,
    /// Requests on both sides, by round.
    pub paired: Vec<PairedRound>,
}

/// How sides were compared.
#[derive(Debug, Default)]
pub struct Design {
    /// In which order the variants were measured in each round.
    pub order: Vec<Vec<String>>,
    /// Each side but the first, beside the first.
    pub beside: Vec<Beside>,
    /// Answers were not to be compared.
    pub ignore_output: bool,
    /// What makes a difference.
    pub criteria: Criteria,
    /// `--aa`: the first side once more.
    pub again: Option<Report>,
    /// `--until`
    pub sequential: Option<Sequential>,
}

impl Comparison {
    /// From the two reports, which were made over the same rounds.
    pub fn new(baseline: Report, optimized: Report, design: Design) -> Self {
        let Design { order, beside, ignore_output, criteria, again, sequential } = design;
        let Beside { outputs, paired } = beside.into_iter().next().unwrap_or_default();
        let against_baseline = |other: &Report| -> Vec<(Figures, Figures)> {
            let rounds = baseline.rounds.iter().zip(&other.rounds);
            rounds.map(|(b, o)| (b.response_ns.clone(), o.response_ns.clone())).collect()
        };
        let pairs = against_baseline(&optimized);
        let noise = again.map(|again| Noise {
            effects: compare::effects(&against_baseline(&again), criteria, None),
            again: Box::new(again),
        });
        let again = noise.as_ref().map_or(Verdict::Valid, |noise| noise.again.validity.verdict);
        let worse = baseline.validity.verdict.max(optimized.validity.verdict).max(again);
        let mut effects = compare::effects(&pairs, criteria, noise.as_ref().map(|noise| &noise.effects));
        let mut paired_requests = compare::paired_requests(&paired, criteria);
        if worse == Verdict::Invalid {
            effects.values_mut().for_each(Effect::refuse);
            paired_requests.iter_mut().for_each(|paired| paired.effect.refuse());
        }
        let improvement = compare::improvement(&pairs);
        let conclusion = compare::conclusion(
            &baseline.evidence,
            &optimized.evidence,
            improvement.get("p50"),
            effects.get("p50"),
        );
        let sides = baseline.tally().ok().zip(optimized.tally().ok());
        let partial = baseline.partial || optimized.partial;
        let sla = refusal(&gate::rules(&optimized.plan.sla), partial, worse)
            .unwrap_or_else(|| optimized.sla.clone());
        Self {
            schema: COMPARISON_SCHEMA.to_owned(),
            tool: Tool::this(),
            created_unix_ms: optimized.created_unix_ms,
            seed: optimized.plan.seed,
            order,
            partial,
            improvement,
            criteria,
            effects,
            paired_requests,
            chance_faster: sides.and_then(|(b, o)| compare::chance_faster(&b, &o)),
            noise,
            sequential,
            outputs_identical: if ignore_output { None } else { outputs.identical() },
            outputs,
            conclusion,
            validity: worse,
            sla_met: sla.verdict == SlaVerdict::Met,
            sla,
            baseline,
            optimized,
        }
    }

    /// Judges the optimized side by other rules.
    pub fn judge(&self, rules: &[Rule]) -> Result<SlaReport, json::BadReport> {
        match refusal(rules, self.partial, self.validity) {
            Some(refused) => Ok(refused),
            None => self.optimized.judge(rules),
        }
    }

    /// Judges the optimized side against an earlier report; these verdicts join those in `sla`.
    pub fn judge_against(
        &self,
        baseline: &Report,
        rules: &[Relative],
        sla: SlaReport,
    ) -> Result<SlaReport, json::BadReport> {
        let (judged, evaluable) = self.optimized.regressions(baseline, rules)?;
        let whole = unfit(self.partial, self.validity).map_or(Ok(()), |why| Err(why.to_owned()));
        Ok(sla.joined(judged, whole.and(evaluable)))
    }
}

/// Why nothing follows from the comparison, if that is so. An invalid baseline makes no optimized side wrong, but it makes
/// the comparison wrong.
pub(super) fn unfit(partial: bool, worse: Verdict) -> Option<&'static str> {
    match worse {
        _ if partial => Some("the comparison is partial"),
        Verdict::Invalid => Some("one side of the comparison is INVALID"),
        _ => None,
    }
}

/// The gate of a comparison that cannot be judged.
pub(super) fn refusal(rules: &[Rule], partial: bool, worse: Verdict) -> Option<SlaReport> {
    let why = unfit(partial, worse)?;
    let nothing = Tally::default();
    Some(gate::evaluate(rules, &measured(&nothing, &Responses(&nothing)), Err(why.to_owned())))
}
