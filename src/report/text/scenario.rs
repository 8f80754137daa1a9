//! The scenario's page: its notes, its stages, what it asks and the answers.

use std::fmt::Write;

use super::{line, shown};
use crate::analyze::diagnose::Outcome;
use crate::analyze::scenario::{Bounded, Capacity, Findings, FirstAgainstLater, Scaling};
use crate::load::time::Nanos;

pub(super) fn scenario(text: &mut String, findings: Option<&Findings>) {
    let Some(findings) = findings else { return };
    let _ = writeln!(text, "\nscenario {}", findings.preset);
    for note in &findings.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    stages(text, findings);
    if let Some(first) = &findings.first_against_later {
        first_against_later(text, first);
    }
    for trend in &findings.trends {
        let shown = |value: f64| match trend.unit.as_str() {
            "ns" => format!("{}{}", if value < 0.0 { "-" } else { "" }, Nanos(value.abs() as u64)),
            "bytes" => format!("{:.2} MiB", value / f64::from(1 << 20)),
            _ => format!("{value:.1}{}", trend.unit),
        };
        let _ = writeln!(
            text,
            "  {}: level {}, {} per hour",
            trend.figure,
            shown(trend.level),
            shown(trend.per_hour)
        );
    }
    if let Some(capacity) = &findings.capacity {
        self::capacity(text, capacity);
    }
    if let Some(scaling) = &findings.scaling {
        self::scaling(text, scaling);
    }
    for check in &findings.checks {
        let word = match check.outcome {
            Outcome::Pass => "passes",
            Outcome::Fail => "FAILS",
            Outcome::NotEvaluable => "not evaluated",
        };
        let figure =
            check.figure.map(|figure| format!("{figure:.2} {} (limit {}): ", check.unit, check.limit));
        let _ = writeln!(text, "  {}: {word}: {}{}", check.check, figure.unwrap_or_default(), check.meaning);
    }
}

fn stages(text: &mut String, findings: &Findings) {
    if findings.stages.is_empty() {
        return;
    }
    line(text, &["  users", "requests", "successful", "per s", "p50", "p95", "p99"]);
    for stage in &findings.stages {
        let users = match stage.users_from == stage.users_to {
            true => stage.users_from.to_string(),
            false => format!("{} to {}", stage.users_from, stage.users_to),
        };
        let rate = stage.throughput_per_s.map_or("-".to_owned(), |rate| format!("{rate:.1}"));
        let times = &stage.response_ok_ns;
        let cells = [
            format!("  {users}"),
            stage.requests.to_string(),
            stage.successful.to_string(),
            rate,
            shown(times.p50),
            shown(times.p95),
            shown(times.p99),
        ];
        line(text, &cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

fn first_against_later(text: &mut String, first: &FirstAgainstLater) {
    let each = |values: &[Option<Nanos>]| values.iter().map(|v| shown(*v)).collect::<Vec<_>>().join(" ");
    if first.startup_ns.iter().any(Option::is_some) {
        let _ = writeln!(text, "  ready after, by round: {}", each(&first.startup_ns));
    }
    let _ = writeln!(text, "  first request, by round: {}", each(&first.first_ns));
    let _ = writeln!(text, "  later ones (median):     {}", each(&first.later_ns));
}

fn capacity(text: &mut String, capacity: &Capacity) {
    let measured = match (capacity.measured_per_s, capacity.interval_per_s) {
        (Some(rate), Some([low, high])) => format!("{rate:.1}/s ({low:.1} to {high:.1} with 95 %)"),
        (Some(rate), None) => format!("{rate:.1}/s (too few slices of time for an interval)"),
        (None, _) => "not reached".to_owned(),
    };
    let pool = capacity.of_pool_per_s.map(|rate| format!("; by the pool, c/S: {rate:.1}/s"));
    let _ = writeln!(text, "  capacity: {measured}{}", pool.unwrap_or_default());
    let _ = writeln!(
        text,
        "  refused {} (p95 {}), timed out {}, otherwise not successful {}",
        capacity.refused,
        shown(capacity.refused_p95_ns),
        capacity.timed_out,
        capacity.broken
    );
}

fn scaling(text: &mut String, scaling: &Scaling) {
    let value = |of: Option<Bounded>, digits: usize| {
        let Some(Bounded { value, interval }) = of else { return "-".to_owned() };
        match interval {
            Some([low, high]) => format!("{value:.digits$} ({low:.digits$} to {high:.digits$})"),
            None => format!("{value:.digits$} (no interval)"),
        }
    };
    let _ = writeln!(
        text,
        "  scalability law: contention α {}, coherency β {}, one user {}/s; R² {:.4}",
        value(scaling.contention, 4),
        value(scaling.coherency, 6),
        value(scaling.single_per_s, 1),
        scaling.explained.unwrap_or_default()
    );
    let _ = match (scaling.users_at_most, scaling.most_per_s) {
        (Some(users), Some(rate)) => writeln!(text, "  most useful: {users} users, {rate:.1}/s"),
        _ => writeln!(text, "  most useful: no peak within twice the users that were tried"),
    };
}
