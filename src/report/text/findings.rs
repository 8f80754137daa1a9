//! Why it is slow and what to do, for people: findings first, then what was looked for in vain, then advice.

use std::fmt::Write;

use crate::analyze::confirm::{Confirmation, Intervention, Trial, Verdict};
use crate::analyze::findings::{Finding, Findings, Of, Test, Word};
use crate::analyze::recommend::{Advice, Improvement, Recommendation};
use crate::load::time::Nanos;

/// Findings with their figures.
pub(super) fn findings(text: &mut String, findings: Option<&Findings>) {
    let Some(found) = findings else { return };
    let _ = writeln!(text, "\nwhy: {}", found.summary);
    if let Some(excess) = &found.excess {
        let _ = writeln!(
            text,
            "  requests at and above p95 take {} on average, on an unloaded server {}: {} to explain",
            excess.response_ns, excess.unloaded_ns, excess.excess_ns
        );
    }
    for finding in &found.findings {
        one(text, finding);
    }
    names(text, "looked for and not shown", &found.cleared);
    let unseen: Vec<String> = found.not_evaluated.iter().map(why_not).collect();
    if !unseen.is_empty() {
        let _ = writeln!(text, "  not evaluated: {}", unseen.join("; "));
    }
}

fn one(text: &mut String, finding: &Finding) {
    let explains = finding.explained.map_or(String::new(), |share| {
        let of = match finding.of {
            Of::Excess => "the excess",
            Of::Unsuccessful => "the unsuccessful",
        };
        let between = finding.explained_interval.map_or(String::new(), |[low, high]| {
            format!(" (95 %: {:.0} to {:.0} %)", 100.0 * low, 100.0 * high)
        });
        format!(", explains {:.0} % of {of}{between}", 100.0 * share)
    });
    let word = finding.word.name().to_uppercase();
    let _ = writeln!(text, "  {word} {}{explains}: {}", finding.rule, finding.says);
    let tests: Vec<String> = finding.tests.iter().map(figure).collect();
    let _ = writeln!(text, "    by: {}", tests.join("; "));
    let _ = writeln!(text, "    disproved if: {}", finding.disproof);
}

fn figure(test: &Test) -> String {
    let sign = if test.at_least { ">=" } else { "<=" };
    let value = test.value.map_or("not visible".to_owned(), |value| format!("{value:.2}"));
    let fails = if test.holds == Some(false) { ", fails" } else { "" };
    let unit = if test.unit.is_empty() { String::new() } else { format!(" {}", test.unit) };
    format!("{} {value} ({sign} {}{unit}{fails})", test.figure, test.limit)
}

fn names(text: &mut String, what: &str, findings: &[Finding]) {
    if findings.is_empty() {
        return;
    }
    let name = |finding: &Finding| match &finding.note {
        Some(note) => format!("{} ({note})", finding.rule),
        None => finding.rule.clone(),
    };
    let _ = writeln!(text, "  {what}: {}", findings.iter().map(name).collect::<Vec<_>>().join(", "));
}

/// The note, or the first figure that is missing; report.json has all.
fn why_not(finding: &Finding) -> String {
    let missing = finding.tests.iter().find(|test| test.holds.is_none());
    let missing = || missing.map_or(String::new(), |test| format!("no figure: {}", test.figure));
    format!("{} ({})", finding.rule, finding.note.clone().unwrap_or_else(missing))
}

/// The intervention: predicted, then measured.
pub(super) fn confirmation(text: &mut String, confirmation: Option<&Confirmation>) {
    let Some(confirmation) = confirmation else { return };
    let Some(intervention) = &confirmation.intervention else {
        let _ = writeln!(text, "\nconfirmation: nothing was changed: {}", confirmation.says);
        return;
    };
    let Intervention { rule, change, figure, expected, expected_interval: [least, most], otherwise, by } =
        intervention;
    let verdict = confirmation.verdict.name().to_uppercase();
    let _ = writeln!(text, "\nconfirmation of {rule}: {verdict}, with {}", change.in_words());
    let percent = |share: f64| format!("{:+.1} %", 100.0 * share + 0.0);
    let _ = writeln!(
        text,
        "  predicted before it was changed (by the {by}): {figure} {} ({} to {}) if it is the cause, {} if not",
        percent(*expected),
        percent(*least),
        percent(*most),
        percent(*otherwise)
    );
    if let Some(Trial { from_ns, to_ns, effect, order, file, .. }) = &confirmation.trial {
        let shown = |ns: &Option<Nanos>| ns.map_or("-".to_owned(), |ns| ns.to_string());
        let between = effect.as_ref().and_then(|effect| effect.interval);
        let change = effect.as_ref().map_or("-".to_owned(), |effect| percent(effect.change));
        let between = between
            .map_or("no interval".to_owned(), |[low, high]| format!("{} to {}", percent(low), percent(high)));
        let _ = writeln!(
            text,
            "  measured in {} pairs of rounds, in random order: {figure} {change} ({between}), {} as it was, {} with the change (medians; {file})",
            order.len(),
            shown(from_ns),
            shown(to_ns)
        );
    }
    if matches!(confirmation.verdict, Verdict::NotDecided | Verdict::NotTested) {
        let _ = writeln!(text, "  {}", confirmation.says);
    }
}

/// What to change.
pub(super) fn advice(text: &mut String, advice: Option<&Advice>) {
    let Some(advice) = advice else { return };
    if !advice.recommendations.is_empty() {
        text.push_str("\nwhat to do\n");
    }
    for recommendation in &advice.recommendations {
        recommended(text, recommendation);
    }
    let health = &advice.health;
    let off: Vec<String> = health
        .penalties
        .iter()
        .map(|penalty| match penalty.points {
            Some(points) => format!("{} -{points:.0} of {:.0}", penalty.what, penalty.of),
            None => format!("{} not visible", penalty.what),
        })
        .collect();
    let note = health.note.as_ref().map_or(String::new(), |note| format!("; {note}"));
    match health.score {
        Some(score) => {
            let _ = writeln!(text, "health: {score} of 100 ({}{note})", off.join(", "));
        }
        None => {
            let _ = writeln!(text, "health: {}", health.note.as_deref().unwrap_or("no score"));
        }
    }
}

fn recommended(text: &mut String, recommendation: &Recommendation) {
    let Recommendation { priority, what, from, improvement, cost, verify } = recommendation;
    let _ = writeln!(text, "  {priority}. {what} [{from}]");
    if let Some(improvement) = improvement {
        let _ = writeln!(text, "     brings: {}", brings(improvement));
    }
    let _ = writeln!(text, "     costs: {cost}; verify: {verify}");
}

fn brings(improvement: &Improvement) -> String {
    let Improvement { figure, from_ns, to_ns, low_ns, high_ns } = improvement;
    let from = from_ns.map_or("no value".to_owned(), |from| from.to_string());
    let bounds = match (low_ns, high_ns) {
        (Some(low), Some(high)) => format!("95 %: {low} to {high}"),
        _ => "by the accounting, if all of it goes; too little was kept for an interval".to_owned(),
    };
    format!("{figure} from {from} to {to_ns} ({bounds})")
}

/// The first word on a side of a comparison.
pub(super) fn in_short(text: &mut String, name: &str, findings: Option<&Findings>) {
    let Some(found) = findings else { return };
    let word = found.findings.first().map_or(Word::NotShown, |finding| finding.word);
    let word = if word >= Word::ConsistentWith { format!(" ({})", word.name()) } else { String::new() };
    let _ = writeln!(text, "why, {name}{word}: {}", found.summary);
}
