//! Theory beside measurement, and what the diagnosis found, as text. Said only where there is something to say.

use std::fmt::Write;

use super::{line, shown};
use crate::analyze::diagnose::{Check, Diagnosis, Outcome};
use crate::analyze::theory::{Arrivals, Discipline, Levels, Prediction, Strength, Theory};
use crate::load::time::Nanos;
use crate::report::Report;

/// Levels are in the order mean, p50, …; a table has the mean last.
const LABELS: [&str; 6] = ["p50", "p90", "p95", "p99", "p99.9", "mean"];

fn row<T>(text: &mut String, name: &str, levels: [T; 6], cell: impl Fn(T) -> String) {
    let [mean, rest @ ..] = levels.map(cell);
    let cells = [vec![name.to_owned()], rest.to_vec(), vec![mean]].concat();
    line(text, &cells.iter().map(String::as_str).collect::<Vec<_>>());
}

fn levels(text: &mut String, name: &str, levels: &Levels) {
    row(text, name, levels.array(), shown);
}

/// A difference in ns, with its sign.
fn signed(ns: i64) -> String {
    format!("{}{}", if ns < 0 { '-' } else { '+' }, Nanos(ns.unsigned_abs()))
}

/// The block on theory; nothing where no model and no path is there.
pub(super) fn theory(text: &mut String, theory: Option<&Theory>) {
    let Some(theory) = theory.filter(|theory| !theory.models.is_empty() || theory.pathwise.is_some()) else {
        return;
    };
    let _ = writeln!(text, "\ntheory: {}", assumptions(theory));
    line(text, &[&[" "][..], &LABELS].concat());
    levels(text, "measured", &theory.measured);
    for model in &theory.models {
        levels(text, &named(model), &model.predicted);
        row(text, "  measured above it", model.residual, percent);
    }
    if let Some(path) = &theory.pathwise {
        levels(text, "ideal, FIFO", &path.fifo);
        if let Some(sharing) = &path.sharing {
            levels(text, "ideal, shared", sharing);
        }
        row(text, "  beyond the ideal", path.beyond_ns, |ns| ns.map_or("-".to_owned(), signed));
        let beginning = if path.cut { ", the beginning of the run" } else { "" };
        let closer = match (path.closer, &path.sharing) {
            (_, None) => "",
            (Discipline::Fifo, _) => "; first come first served is closer",
            (Discipline::Sharing, _) => "; shared processors are closer",
        };
        let [p50, p99, max] = path.beyond_each_ns.map(signed);
        let _ = writeln!(
            text,
            "the ideal of these very {} requests{beginning}{closer}; each beyond its own: p50 {p50}, p99 {p99}, max {max}",
            path.requests
        );
    }
    for why in &theory.not_evaluated {
        let _ = writeln!(text, "not evaluated: {why}");
    }
}

/// Theory and diagnosis of the sides of a comparison, a line for each thing to say; the reports have all of it.
pub(super) fn sides(text: &mut String, reports: &[(&str, &Report)]) {
    let theories: Vec<(&str, &Theory)> = reports
        .iter()
        .filter_map(|(name, report)| Some((*name, report.theory.as_ref()?)))
        .filter(|(_, theory)| !theory.models.is_empty() || theory.pathwise.is_some())
        .collect();
    if !theories.is_empty() {
        text.push('\n');
        line(text, &[&["above theory"][..], &LABELS].concat());
    }
    for (name, theory) in theories {
        let _ = writeln!(text, "{name}: {}", assumptions(theory));
        for model in &theory.models {
            row(text, &format!("  {}", named(model)), model.residual, percent);
        }
        if let Some(path) = &theory.pathwise {
            row(text, "  ideal path", path.beyond_ns, |ns| ns.map_or("-".to_owned(), signed));
        }
    }
    for (name, report) in reports {
        let Some(diagnosis) = &report.diagnosis else { continue };
        let failed = with_outcome(diagnosis, Outcome::Fail);
        if !failed.is_empty() {
            let names: Vec<&str> = failed.iter().map(|check| check.check.as_str()).collect();
            let _ = writeln!(text, "diagnosis of {name}: {} ({})", tally(diagnosis), names.join(", "));
        }
    }
}

fn named(model: &Prediction) -> String {
    let strength = match model.strength {
        Strength::Exact => "",
        Strength::Approximate => " (about)",
        Strength::LowerBound => " (at least)",
    };
    format!("{}{strength}", model.model)
}

fn percent(residual: Option<f64>) -> String {
    residual.map_or("-".to_owned(), |r| format!("{:+.1} %", 100.0 * r))
}

fn assumptions(theory: &Theory) -> String {
    let mut text = match theory.arrivals {
        Arrivals::Closed { clients, think_ns } if think_ns == Nanos::ZERO => {
            format!("closed loop of {clients}")
        }
        Arrivals::Closed { clients, think_ns } => format!("closed loop of {clients}, {think_ns} think time"),
        Arrivals::Constant { per_s } => format!("even arrivals, {per_s}/s"),
        Arrivals::Poisson { per_s } => format!("Poisson arrivals, {per_s}/s"),
        Arrivals::Other => "arrivals of no model".to_owned(),
    };
    if let Some(servers) = theory.servers {
        let _ = write!(text, ", c = {servers}");
    }
    if let Some(service) = theory.service_mean_ns {
        let _ = write!(text, ", S = {service}");
    }
    if let Some(variation) = theory.service_variation {
        let _ = write!(text, " (σ/S {variation:.3})");
    }
    if let Some(utilisation) = theory.utilisation {
        let _ = write!(text, ", ρ = {utilisation:.3}");
    }
    text
}

fn with_outcome(diagnosis: &Diagnosis, outcome: Outcome) -> Vec<&Check> {
    diagnosis.checks.iter().filter(|check| check.outcome == outcome).collect()
}

fn tally(diagnosis: &Diagnosis) -> String {
    let [passed, failed, not_evaluable] = [Outcome::Pass, Outcome::Fail, Outcome::NotEvaluable]
        .map(|outcome| with_outcome(diagnosis, outcome).len());
    format!("{passed} passed, {failed} failed, {not_evaluable} not evaluable")
}

/// What failed, and the beginning of the run where it differs.
pub(super) fn diagnosis(text: &mut String, diagnosis: Option<&Diagnosis>) {
    let Some(diagnosis) = diagnosis else { return };
    let failed = with_outcome(diagnosis, Outcome::Fail);
    if failed.is_empty() {
        return;
    }
    let _ = writeln!(text, "\ndiagnosis of the run: {}", tally(diagnosis));
    for check in failed {
        let figure = check.figure.unwrap_or_default();
        let _ = writeln!(
            text,
            "  {}: {figure:.3} {} (limit {}): {}",
            check.check, check.unit, check.limit, check.meaning
        );
    }
    for cold in &diagnosis.cold_starts {
        let _ = writeln!(
            text,
            "  cold start (counted above): the first {} have p50 {}, p99 {}; the rest p50 {}, p99 {}",
            cold.until_ns,
            shown(cold.cold_ns.p50),
            shown(cold.cold_ns.p99),
            shown(cold.rest_ns.p50),
            shown(cold.rest_ns.p99)
        );
    }
}
