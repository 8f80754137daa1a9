//! Several variants over the same rounds: each with its report and its gate, every pair, and the ranking that follows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::comparison::{Beside, Design, Noise, refusal, unfit};
use super::{Report, Tool, json};
use crate::analyze::compare::{self, Outputs, PairedRequests};
use crate::analyze::gate::{self, Relative, Rule, SlaReport, SlaVerdict};
use crate::analyze::paired::{Criteria, Effect, Sequential};
use crate::analyze::ranking::{self, Pair, Standing, Variant};
use crate::analyze::validity::Verdict;

/// The version of [`Ranking`].
pub const RANKING_SCHEMA: &str = "hairspring.ranking/1";

/// Variants that were measured in the same rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// [`RANKING_SCHEMA`].
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
    /// The figure of the response time that ranks.
    pub figure: String,
    /// The variants by it, the fastest first.
    pub ranking: Vec<Standing>,
    /// Every two of them; the unit is the round.
    pub pairs: Vec<Pair>,
    /// What decides whether a change is a difference; the confidence is that of all pairs together.
    pub criteria: Criteria,
    /// `--aa`: the first variant against itself.
    pub noise: Option<Noise>,
    /// `--until`: the rule by which rounds were added.
    pub sequential: Option<Sequential>,
    /// In the order of the command line.
    pub variants: Vec<RankedVariant>,
    /// Whether all answered as the first did; null where that is not known of all, and none is known to differ.
    pub outputs_identical: Option<bool>,
    /// What follows from the figures.
    pub conclusion: String,
    /// The worst of them.
    pub validity: Verdict,
    /// The names of those whose gates decide.
    pub judged: Vec<String>,
    /// The gravest verdict of their gates.
    pub sla_verdict: SlaVerdict,
    /// True if it is met.
    pub sla_met: bool,
}

/// One of the variants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankedVariant {
    /// Its name.
    pub name: String,
    /// What it sets beside the common flags.
    pub flags: String,
    /// Requests pooled over rounds.
    pub report: Report,
    /// Its gate; not evaluated where a variant is INVALID or the experiment is partial.
    pub sla: SlaReport,
    /// Its answers beside those of the first variant; null for that one.
    pub outputs: Option<Outputs>,
    /// Null where nothing could be compared, or comparing was switched off.
    pub outputs_identical: Option<bool>,
    /// Its requests beside those of the first variant with the same id. One view of one pair: no correction.
    pub paired_requests: Option<PairedRequests>,
}

/// What ranks, and who is judged.
#[derive(Debug, Clone)]
pub struct Contest {
    /// Key of the figure.
    pub figure: String,
    /// Names.
    pub judged: Vec<String>,
    /// What each variant sets beside the common flags.
    pub flags: Vec<String>,
}

impl Ranking {
    /// From the variants' reports, which were made over the same rounds, in the order of the command line.
    pub fn new(reports: Vec<Report>, contest: &Contest, design: Design) -> Self {
        let Design { order, beside, ignore_output, criteria, again, sequential } = design;
        let rounds = |report: &Report| Variant {
            name: report.plan.target.name.clone(),
            rounds: report.rounds.iter().map(|round| round.response_ns.clone()).collect(),
        };
        let measured: Vec<Variant> = reports.iter().map(rounds).collect();
        let noise = again.map(|again| {
            let rounds = measured[0].rounds.iter().cloned().zip(rounds(&again).rounds);
            let effects = compare::effects(&rounds.collect::<Vec<_>>(), criteria, None);
            Noise { effects, again: Box::new(again) }
        });
        let floor: Option<&BTreeMap<String, Effect>> = noise.as_ref().map(|noise| &noise.effects);
        let mut pairs = ranking::pairs(&measured, criteria, floor);
        let again = noise.iter().map(|noise| noise.again.validity.verdict);
        let validity =
            reports.iter().map(|r| r.validity.verdict).chain(again).max().unwrap_or(Verdict::Valid);
        if validity == Verdict::Invalid {
            let effects = pairs.iter_mut().flat_map(|pair| pair.effects.values_mut());
            effects.for_each(|corrected| corrected.effect.refuse());
        }
        let standings = ranking::standings(&measured, &pairs, &contest.figure);
        let sides = reports.iter().map(|r| compare::side(&r.plan.target.name, &r.evidence));
        let said = ranking::conclusion(&standings, &pairs, &contest.figure, criteria.confidence);
        let conclusion = sides.chain([said]).collect::<Vec<_>>().join(" ");
        let partial = reports.iter().any(|report| report.partial);
        let (created_unix_ms, seed) = (reports[0].created_unix_ms, reports[0].plan.seed);
        // the first has nobody beside it
        let beside = std::iter::once(None).chain(beside.into_iter().map(Some));
        let variants: Vec<RankedVariant> = reports
            .into_iter()
            .zip(&contest.flags)
            .zip(beside)
            .map(|((report, flags), beside)| {
                let beside = beside.filter(|_| !ignore_output);
                let rules = gate::rules(&report.plan.sla);
                RankedVariant {
                    name: report.plan.target.name.clone(),
                    flags: flags.clone(),
                    sla: refusal(&rules, partial, validity).unwrap_or_else(|| report.sla.clone()),
                    outputs_identical: beside.as_ref().and_then(|beside| beside.outputs.identical()),
                    paired_requests: beside
                        .as_ref()
                        .and_then(|beside: &Beside| compare::paired_requests(&beside.paired, criteria)),
                    outputs: beside.map(|beside| beside.outputs),
                    report,
                }
            })
            .collect();
        let others: Vec<Option<bool>> = variants.iter().skip(1).map(|v| v.outputs_identical).collect();
        let outputs_identical = if others.contains(&Some(false)) {
            Some(false)
        } else {
            (!others.contains(&None)).then_some(true)
        };
        let judged = variants.iter().filter(|variant| contest.judged.contains(&variant.name));
        let sla_verdict =
            SlaVerdict::together(judged.map(|v| v.sla.verdict)).unwrap_or(SlaVerdict::NotEvaluated);
        Self {
            schema: RANKING_SCHEMA.to_owned(),
            tool: Tool::this(),
            created_unix_ms,
            seed,
            order,
            partial,
            figure: contest.figure.clone(),
            ranking: standings,
            pairs,
            criteria,
            noise,
            sequential,
            variants,
            outputs_identical,
            conclusion,
            validity,
            judged: contest.judged.clone(),
            sla_verdict,
            sla_met: sla_verdict == SlaVerdict::Met,
        }
    }

    /// The variants whose gates decide.
    pub fn judged(&self) -> impl Iterator<Item = &RankedVariant> {
        self.variants.iter().filter(|variant| self.judged.contains(&variant.name))
    }

    /// The variant of this name.
    pub fn variant(&self, name: &str) -> Option<&RankedVariant> {
        self.variants.iter().find(|variant| variant.name == name)
    }

    /// Judges those variants by other rules, each by itself.
    pub fn judge(&self, rules: &[Rule]) -> Result<Vec<SlaReport>, json::BadReport> {
        let refused = refusal(rules, self.partial, self.validity);
        let judge = |report: &Report| refused.clone().map_or_else(|| report.judge(rules), Ok);
        self.judged().map(|variant| judge(&variant.report)).collect()
    }

    /// Judges them against an earlier report; these verdicts join theirs.
    pub fn judge_against(
        &self,
        baseline: &Report,
        rules: &[Relative],
        verdicts: Vec<SlaReport>,
    ) -> Result<Vec<SlaReport>, json::BadReport> {
        let whole = unfit(self.partial, self.validity).map_or(Ok(()), |why| Err(why.to_owned()));
        let each = self.judged().zip(verdicts).map(|(variant, sla)| {
            let (judged, evaluable) = variant.report.regressions(baseline, rules)?;
            Ok(sla.joined(judged, whole.clone().and(evaluable)))
        });
        each.collect()
    }

    /// Takes these verdicts for its own.
    pub(super) fn adopt(&mut self, verdicts: Vec<SlaReport>) {
        let judged = &self.judged;
        let variants = self.variants.iter_mut().filter(|variant| judged.contains(&variant.name));
        variants.zip(verdicts).for_each(|(variant, sla)| variant.sla = sla);
        let together = SlaVerdict::together(self.judged().map(|variant| variant.sla.verdict));
        self.sla_verdict = together.unwrap_or(SlaVerdict::NotEvaluated);
        self.sla_met = self.sla_verdict == SlaVerdict::Met;
    }
}
