//! The comparison's page: figures side by side, what each change may be called, where the time went.

use std::fmt::Write;

use super::alerts::alerts;
use super::models::sides;
use super::{
    anatomy, closed_loop, counts, findings, line, logs, percentile, pooled, shown, sla, target, validity,
};
use crate::analyze::compare::{Change, Outputs};
use crate::analyze::gate::SlaVerdict;
use crate::analyze::paired::Effect;
use crate::analyze::summary::TABLED;
use crate::report::{Comparison, Report};

/// Baseline against optimized.
pub fn comparison(comparison: &Comparison) -> String {
    let Comparison { baseline, optimized, .. } = comparison;
    let mut text = String::new();
    let rounds = comparison.order.len();
    let _ = writeln!(
        text,
        "{}, {rounds} round{} each, seed {}{}",
        baseline.plan.load_in_words(),
        if rounds == 1 { "" } else { "s" },
        comparison.seed,
        if comparison.partial { "  ** PARTIAL: interrupted **" } else { "" }
    );
    let _ = writeln!(text, "  baseline:  {}", target(&baseline.plan));
    let _ = writeln!(text, "  optimized: {}\n", target(&optimized.plan));
    let medians = if rounds > 1 { format!("median of {rounds}") } else { "response".to_owned() };
    line(&mut text, &[&medians, "baseline", "optimized", "change", "(rounds)"]);
    let names = TABLED.iter().map(|(name, _)| *name).chain(["mean", "max"]);
    for name in names {
        changed(&mut text, name, comparison);
    }
    verdicts(&mut text, comparison);
    let per_s = |r: &Report| r.throughput_per_s.map_or("-".to_owned(), |x| format!("{x:.1}/s"));
    line(&mut text, &["throughput", &per_s(baseline), &per_s(optimized)]);
    let ok = |r: &Report| format!("{} of {}", r.totals.successful, r.totals.scheduled);
    line(&mut text, &["successful", &ok(baseline), &ok(optimized)]);
    if let Some(chance) = comparison.chance_faster {
        let _ = writeln!(
            text,
            "of all pairs of requests, the optimized side's is faster in {:.1} %",
            100.0 * chance
        );
    }
    text.push('\n');
    for (name, report) in [("baseline", baseline), ("optimized", optimized)] {
        if report.totals.successful < report.totals.scheduled {
            let _ = writeln!(text, "{name}: {}", counts(report));
        }
    }
    let answers = Answers(&comparison.outputs, comparison.outputs_identical);
    let _ = writeln!(text, "{answers}");
    anatomy::side_by_side(&mut text, &[("baseline", &baseline.evidence), ("optimized", &optimized.evidence)]);
    closed_loop(&mut text, "baseline", baseline.evidence.closed_loop.as_ref());
    closed_loop(&mut text, "optimized", optimized.evidence.closed_loop.as_ref());
    sides(&mut text, &[("baseline", baseline), ("optimized", optimized)]);
    let _ = writeln!(text, "\n{}\n", comparison.conclusion);
    for (name, report) in [("baseline", baseline), ("optimized", optimized)] {
        findings::in_short(&mut text, name, report.findings.as_ref());
    }
    for (name, report) in [("baseline", baseline), ("optimized", optimized)] {
        alerts(&mut text, name, report);
    }
    for (name, report) in [("baseline", baseline), ("optimized", optimized)] {
        validity(&mut text, &format!("validity of {name}"), &report.validity);
    }
    if comparison.sla.verdict != SlaVerdict::NotEvaluated {
        sla(&mut text, &pooled("baseline", baseline), &baseline.sla);
    }
    sla(&mut text, &pooled("optimized", optimized), &comparison.sla);
    logs(&mut text, &[&baseline.logs[..], &optimized.logs[..]].concat());
    text
}

fn changed(text: &mut String, name: &str, comparison: &Comparison) {
    let label = if name == "p999" { "p99.9" } else { name };
    match comparison.improvement.get(name) {
        Some(Change { baseline_ns, optimized_ns, relative, relative_range: [least, most], .. }) => {
            let percent = |share: f64| format!("{:+.1} %", -100.0 * share);
            let spread = format!("({} .. {})", percent(*most), percent(*least));
            let cells =
                [label, &baseline_ns.to_string(), &optimized_ns.to_string(), &percent(*relative), &spread];
            line(text, &cells);
        }
        None => {
            let side = |report: &Report| match name {
                "mean" => shown(report.response_ns.mean),
                "max" => shown(report.response_ns.max),
                _ => percentile(&report.response_ns, name),
            };
            line(text, &[label, &side(&comparison.baseline), &side(&comparison.optimized), "-"]);
        }
    }
}

/// What each change may be called, where there are rounds enough.
fn verdicts(text: &mut String, comparison: &Comparison) {
    let enough = comparison.effects.values().any(|effect| effect.interval.is_some());
    if !enough {
        let reason = comparison.effects.get("p50").map(|effect| effect.reason.as_str());
        let _ = writeln!(text, "faster or slower: {}", reason.unwrap_or("nothing to compare"));
        return;
    }
    let criteria = comparison.criteria;
    let _ = writeln!(
        text,
        "\n{:<18} {:>11} {:>21} {:>8}  (least effect {} %, intervals {} %)",
        "effect",
        "change",
        "interval",
        "p",
        100.0 * criteria.min_effect,
        (1e4 * criteria.confidence).round() / 1e2
    );
    for (name, p) in TABLED {
        effect_row(text, &p.to_string(), comparison.effects.get(name));
    }
    effect_row(text, "mean", comparison.effects.get("mean"));
    if let Some(paired) = &comparison.paired_requests {
        effect_row(text, &format!("by {} pairs", paired.requests), Some(&paired.effect));
    }
    for (name, p) in TABLED {
        let noise = comparison.noise.as_ref().and_then(|noise| noise.effects.get(name));
        if noise.is_some() {
            effect_row(text, &format!("A against A {p}"), noise);
        }
    }
    text.push('\n');
}

fn effect_row(text: &mut String, label: &str, effect: Option<&Effect>) {
    if let Some(effect) = effect {
        effect_cells(text, Width(18), label, effect, effect.p_value);
    }
}

/// Of the first column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Width(pub(super) usize);

impl Width {
    /// Wide enough for all of these.
    pub(super) fn of(lengths: impl Iterator<Item = usize>) -> Self {
        Self(lengths.max().unwrap_or_default())
    }
}

/// One effect, with the p-value that counts for it.
pub(super) fn effect_cells(text: &mut String, width: Width, label: &str, effect: &Effect, p_value: f64) {
    let percent = |share: f64| format!("{:+.1} %", 100.0 * share);
    let interval = effect
        .interval
        .map_or("-".to_owned(), |[low, high]| format!("[{}, {}]", percent(low), percent(high)));
    let _ = writeln!(
        text,
        "{label:<width$} {:>11} {interval:>21} {p_value:>8.4}  {}",
        percent(effect.change),
        effect.verdict.name(),
        width = width.0
    );
}

/// Whether answers are identical, in words.
pub(in crate::report) struct Answers<'a>(
    pub(in crate::report) &'a Outputs,
    pub(in crate::report) Option<bool>,
);

impl std::fmt::Display for Answers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(outputs, identical) = self;
        match identical {
            Some(true) => {
                write!(f, "answers identical: {} compared, {} missing", outputs.compared, outputs.missing)
            }
            Some(false) => write!(
                f,
                "ANSWERS DIFFER: {} of {} (round/id {}{}); {} missing",
                outputs.different,
                outputs.compared,
                outputs.examples.join(", "),
                if outputs.different > outputs.examples.len() as u64 { ", …" } else { "" },
                outputs.missing
            ),
            None => f.write_str("answers not compared"),
        }
    }
}
