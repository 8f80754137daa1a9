//! What a command judged, as cases with an outcome: the ground that the summary and the JUnit file stand on.
//!
//! An outcome here says the same as the exit code, with one exception: that the optimized side is slower is a failed case,
//! though only rules decide the exit code. No forms: those are in `markdown` and `junit`.

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    /// `environment`, `validity`, `sla`, `answers` or `effect`.
    pub(super) group: &'static str,
    pub(super) name: String,
    pub(super) outcome: CaseOutcome,
    pub(super) reason: String,
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
        Case {
            group: "sla",
            name: format!("{whose}{}", rule.rule),
            outcome: match rule.verdict {
                SlaVerdict::Met => CaseOutcome::Passed,
                SlaVerdict::NotMet => CaseOutcome::Failed,
                SlaVerdict::Inconclusive => self.inconclusive,
                SlaVerdict::NotEvaluated => CaseOutcome::Skipped,
            },
            reason: rule.reason.clone(),
        }
    }

    fn environment(&self) -> Case {
        let (outcome, reason) = match self.environment_failed {
            true => (CaseOutcome::Error, "it failed: a server, a log or a file, or no request completed"),
            false => (CaseOutcome::Passed, ""),
        };
        Case { group: "environment", name: "environment".to_owned(), outcome, reason: reason.to_owned() }
    }

    fn validity(&self, report: &Report) -> Case {
        let Validity { verdict, .. } = report.validity;
        let convicted = verdict == Verdict::Invalid || (self.strict && verdict == Verdict::Suspect);
        let outcome = if convicted || report.partial { CaseOutcome::Error } else { CaseOutcome::Passed };
        let partial = if report.partial { "partial: interrupted; " } else { "" };
        let reason = format!("{partial}{}", findings(&report.validity));
        Case { group: "validity", name: format!("validity of {}", report.plan.target.name), outcome, reason }
    }
}

/// The verdict and what it rests on, in a line.
fn findings(validity: &Validity) -> String {
    let verdict = match validity.verdict {
        Verdict::Valid => "VALID",
        Verdict::Suspect => "SUSPECT",
        Verdict::Invalid => "INVALID",
    };
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
    let outcome = match identical {
        Some(true) => CaseOutcome::Passed,
        Some(false) => CaseOutcome::Failed,
        None => CaseOutcome::Skipped,
    };
    let reason = Answers(outputs, identical).to_string();
    Case { group: "answers", name: format!("{whose}answers are identical"), outcome, reason }
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
    Case { group: "effect", name: format!("{label}: optimized is not slower"), outcome, reason }
}

/// A change with its interval.
fn size(effect: &Effect) -> String {
    let percent = |share: f64| format!("{:+.1} %", 100.0 * share);
    let interval = effect.interval.map(|[low, high]| format!(" [{}, {}]", percent(low), percent(high)));
    percent(effect.change) + &interval.unwrap_or_default()
}
