//! What a command judged, as cases with an outcome: the ground that the summary and the JUnit file stand on.
//!
//! An outcome here says the same as the exit code, with one exception: that the optimized side is slower is a failed case,
//! though only rules decide the exit code. No forms: those are in `markdown` and `junit`.

use serde::{Deserialize, Serialize};

use super::json::Saved;
use super::text::Answers;
use super::{Comparison, Report};
use crate::analyze::compare::Outputs;
use crate::analyze::gate::{RuleReport, SlaReport, SlaVerdict};
use crate::analyze::paired::{Difference, Effect};
use crate::analyze::summary::TABLED;
use crate::analyze::validity::{Level, Validity, Verdict};

/// A command's judgement, for readers that see no terminal.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// `run`, `compare` or `gate`.
    pub command: &'a str,
    /// What was judged.
    pub saved: &'a Saved,
    /// The rules and what became of them, those against a baseline too: one for each report that is judged.
    pub verdicts: &'a [SlaReport],
    /// The exit code.
    pub exit_code: u8,
    /// The exit code in words.
    pub words: &'a str,
    /// A server, a log or a file failed, or nothing completed.
    pub environment_failed: bool,
    /// SUSPECT counts as INVALID.
    pub strict: bool,
    /// What an inconclusive rule is: an error, or by `--on-inconclusive` a failure or skipped.
    pub inconclusive: CaseOutcome,
}

/// What became of a case, in JUnit's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseOutcome {
    /// It holds.
    Passed,
    /// It does not hold.
    Failed,
    /// It could not be found out, and that is a fault.
    Error,
    /// It was not asked, or there is too little to tell.
    Skipped,
}

/// One thing that was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// `environment`, `validity`, `sla`, `answers` or `effect`; in a suite also `scenario` and `figure`.
    pub group: String,
    /// What has to hold.
    pub name: String,
    /// The name in a table that has columns for the rest; empty where it is no other.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metric: String,
    /// The figure, if there is one, with its unit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub measured: String,
    /// What it should be.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// The verdict in its own word: `met`, `SUSPECT`, `faster`.
    pub status: String,
    /// What that amounts to.
    pub outcome: CaseOutcome,
    /// Why.
    pub reason: String,
}

impl Case {
    pub(super) fn new(group: &str, name: &str, outcome: CaseOutcome, reason: &str) -> Self {
        Self {
            group: group.to_owned(),
            name: name.to_owned(),
            metric: String::new(),
            measured: String::new(),
            target: String::new(),
            status: String::new(),
            outcome,
            reason: reason.to_owned(),
        }
    }
}

impl<'a> Judged<'a> {
    /// All cases, in the order in which a reader wants them.
    pub(super) fn cases(&self) -> Vec<Case> {
        let mut cases = vec![self.environment()];
        let again = self.saved.noise().map(|noise| noise.again.as_ref());
        cases.extend(self.saved.reports().into_iter().chain(again).map(|report| self.validity(report)));
        let judged = self.saved.judged();
        for (report, sla) in judged.iter().zip(self.verdicts) {
            let whose =
                if judged.len() > 1 { format!("{}: ", report.plan.target.name) } else { String::new() };
            cases.extend(sla.rules.iter().map(|rule| self.rule(&whose, rule)));
        }
        match self.saved {
            Saved::Report(_) => {}
            Saved::Comparison(comparison) => {
                cases.push(answers("", &comparison.outputs, comparison.outputs_identical));
                cases.extend(effects(comparison));
            }
            Saved::Ranking(ranking) => {
                let beside =
                    ranking.variants.iter().filter_map(|variant| Some((variant, variant.outputs.as_ref()?)));
                cases.extend(
                    beside
                        .map(|(v, outputs)| answers(&format!("{}: ", v.name), outputs, v.outputs_identical)),
                );
            }
        }
        cases
    }

    fn rule(&self, whose: &str, rule: &RuleReport) -> Case {
        let (outcome, status) = match rule.verdict {
            SlaVerdict::Met => (CaseOutcome::Passed, "met"),
            SlaVerdict::NotMet => (CaseOutcome::Failed, "not met"),
            SlaVerdict::Inconclusive => (self.inconclusive, "inconclusive"),
            SlaVerdict::NotEvaluated => (CaseOutcome::Skipped, "not evaluated"),
        };
        let measured = rule.measured.map_or("-".to_owned(), |figure| format!("{figure:.3} {}", rule.unit));
        Case {
            metric: format!("{whose}{}", rule.metric),
            measured,
            target: rule.rule.strip_prefix(&rule.metric).unwrap_or(&rule.rule).to_owned(),
            status: status.to_owned(),
            ..Case::new("sla", &format!("{whose}{}", rule.rule), outcome, &rule.reason)
        }
    }

    fn environment(&self) -> Case {
        let (outcome, reason) = match self.environment_failed {
            true => (CaseOutcome::Error, "it failed: a server, a log or a file, or no request completed"),
            false => (CaseOutcome::Passed, ""),
        };
        let status = if self.environment_failed { "failed" } else { "ok" };
        Case { status: status.to_owned(), ..Case::new("environment", "environment", outcome, reason) }
    }

    fn validity(&self, report: &Report) -> Case {
        let Validity { verdict, .. } = report.validity;
        let convicted = verdict == Verdict::Invalid || (self.strict && verdict == Verdict::Suspect);
        let outcome = if convicted || report.partial { CaseOutcome::Error } else { CaseOutcome::Passed };
        let partial = if report.partial { "partial: interrupted; " } else { "" };
        let reason = format!("{partial}{}", findings(&report.validity));
        let name = format!("validity of {}", report.plan.target.name);
        Case { status: word(verdict).to_owned(), ..Case::new("validity", &name, outcome, &reason) }
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "VALID",
        Verdict::Suspect => "SUSPECT",
        Verdict::Invalid => "INVALID",
    }
}

/// The verdict and what it rests on, in a line.
fn findings(validity: &Validity) -> String {
    let verdict = word(validity.verdict);
    let found = validity.findings.iter().map(|finding| {
        let level = if finding.level == Level::Invalid { "INVALID" } else { "SUSPECT" };
        format!(
            "{level} {}: {:.2} {}; {}",
            finding.rule,
            finding.figure.unwrap_or_default(),
            finding.unit,
            finding.meaning
        )
    });
    std::iter::once(verdict.to_owned()).chain(found).collect::<Vec<_>>().join(". ")
}

fn answers(whose: &str, outputs: &Outputs, identical: Option<bool>) -> Case {
    let (outcome, status) = match identical {
        Some(true) => (CaseOutcome::Passed, "identical"),
        Some(false) => (CaseOutcome::Failed, "they differ"),
        None => (CaseOutcome::Skipped, "not compared"),
    };
    let reason = Answers(outputs, identical).to_string();
    let name = format!("{whose}answers are identical");
    Case { status: status.to_owned(), ..Case::new("answers", &name, outcome, &reason) }
}

/// One for each figure that the comparison's page shows, and one for the paired requests.
fn effects(comparison: &Comparison) -> Vec<Case> {
    let figures = TABLED.iter().map(|(name, p)| (*name, p.to_string())).chain([("mean", "mean".to_owned())]);
    let by_figure = figures.filter_map(|(name, label)| Some((label, comparison.effects.get(name)?)));
    let paired = comparison.paired_requests.as_ref();
    let paired =
        paired.map(|paired| (format!("median of {} paired requests", paired.requests), &paired.effect));
    by_figure.chain(paired).map(|(label, effect)| slower(&label, effect)).collect()
}

fn slower(label: &str, effect: &Effect) -> Case {
    let outcome = match effect.verdict {
        Difference::Faster | Difference::Same => CaseOutcome::Passed,
        Difference::Slower => CaseOutcome::Failed,
        Difference::Inconclusive => CaseOutcome::Skipped,
    };
    let reason = format!("{}, {}; {}", effect.verdict.name(), size(effect), effect.reason);
    Case {
        metric: format!("change of {label}"),
        measured: size(effect),
        target: "not slower".to_owned(),
        status: effect.verdict.name().to_owned(),
        ..Case::new("effect", &format!("{label}: optimized is not slower"), outcome, &reason)
    }
}

/// A change with its interval.
fn size(effect: &Effect) -> String {
    let percent = |share: f64| format!("{:+.1} %", 100.0 * share);
    let interval = effect.interval.map(|[low, high]| format!(" [{}, {}]", percent(low), percent(high)));
    percent(effect.change) + &interval.unwrap_or_default()
}
