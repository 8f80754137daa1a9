//! The page of histories: a sparkline of each figure, where it changed, and the newest run beside those before it.

use std::fmt::Write;

use super::clean;
use crate::analyze::paired::Difference;
use crate::load::time::Nanos;
use crate::report::trend::{History, RunRow, Trend, TrendReport};

/// Levels of a sparkline.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// A run that is not used.
const UNUSED: char = '·';
/// More runs do not fit a line: the newest are shown.
const WIDTH: usize = 60;

/// Histories.
pub fn trend(report: &TrendReport) -> String {
    let mut text = String::new();
    for history in &report.histories {
        heading(&mut text, history);
        history.trends.iter().for_each(|trend| figure(&mut text, history, trend));
        text.push('\n');
    }
    if !report.left_out.is_empty() {
        text.push_str("left out:\n");
        for left in &report.left_out {
            let _ = writeln!(text, "  {}: {}", clean(&left.file), clean(&left.why));
        }
    }
    text
}

fn heading(text: &mut String, history: &History) {
    let _ = writeln!(text, "{}: {}", history.name, history.target);
    let _ = writeln!(text, "  {}; on {}", history.load, clean(&history.machine));
    if !history.differs_in.is_empty() {
        let _ =
            writeln!(text, "  apart from the history above for another {}", history.differs_in.join(", "));
    }
    let unused = history.runs.iter().filter(|run| !run.used).count();
    let unused = if unused > 0 { format!(", {unused} of them not used ({UNUSED})") } else { String::new() };
    let (first, last) = (&history.runs[0], &history.runs[history.runs.len() - 1]);
    let runs = if history.runs.len() == 1 { "run" } else { "runs" };
    let _ = writeln!(
        text,
        "  {} {runs}{unused}, {} to {}",
        history.runs.len(),
        utc(first.created_unix_ms),
        utc(last.created_unix_ms)
    );
}

fn figure(text: &mut String, history: &History, trend: &Trend) {
    let label = if trend.metric == "p999" { "p99.9" } else { &trend.metric };
    let last = trend.values.iter().zip(&history.runs).rposition(|(value, run)| value.is_some() && run.used);
    let newest = last.and_then(|at| Some((at, trend.values[at]?)));
    let Some((at, value)) = newest else {
        let _ = writeln!(text, "  {label:<11}no run that is used has it");
        return;
    };
    let line = sparkline(trend, &history.runs);
    let beside = match &trend.deviations[at] {
        Some(one) => format!(
            "{} {} against the {} before: {}",
            percent(one.change),
            between(Some(one.interval)),
            one.runs,
            one.verdict.name()
        ),
        None => "too few runs of this level before it to compare".to_owned(),
    };
    let _ = writeln!(text, "  {label:<11}{line}  newest {}, {beside}", shown(&trend.metric, value));
    for point in &trend.change_points {
        let run = &history.runs[point.at];
        let _ = writeln!(
            text,
            "    changed by {} {} from {} on ({}), p = {:.4}",
            percent(point.change),
            between(point.interval),
            utc(run.created_unix_ms),
            clean(&run.file),
            point.p_value
        );
    }
    match &trend.reason {
        Some(reason) => {
            let _ = writeln!(text, "    changes: {reason}");
        }
        None if trend.change_points.is_empty() => text.push_str("    changes: none shown\n"),
        None => {}
    }
    let slower = trend.deviations.iter().flatten().filter(|one| one.verdict == Difference::Slower).count();
    if slower > 0 {
        let judged = trend.deviations.iter().flatten().count();
        let _ = writeln!(text, "    slower than the runs before it: {slower} of {judged}");
    }
}

/// From the least to the greatest value that is shown.
fn sparkline(trend: &Trend, runs: &[RunRow]) -> String {
    let from = trend.values.len().saturating_sub(WIDTH);
    let shown: Vec<Option<f64>> =
        trend.values.iter().zip(runs).skip(from).map(|(value, run)| value.filter(|_| run.used)).collect();
    let low = shown.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let high = shown.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    let bar = |value: f64| {
        let share = if high > low { (value - low) / (high - low) } else { 0.0 };
        BARS[((share * BARS.len() as f64) as usize).min(BARS.len() - 1)]
    };
    shown.into_iter().map(|value| value.map_or(UNUSED, bar)).collect()
}

fn shown(metric: &str, value: f64) -> String {
    if metric == "throughput" { format!("{value:.1}/s") } else { Nanos(value.round() as u64).to_string() }
}

fn percent(share: f64) -> String {
    format!("{:+.1} %", 100.0 * share)
}

fn between(interval: Option<[f64; 2]>) -> String {
    interval
        .map_or("[too few runs]".to_owned(), |[low, high]| format!("[{}, {}]", percent(low), percent(high)))
}

/// `2026-11-24 19:26`, UTC. The day by Hinnant's `civil_from_days` ("chrono-Compatible Low-Level Date Algorithms").
fn utc(unix_ms: u64) -> String {
    let minutes = unix_ms / 60_000;
    let days = minutes / 1_440 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // GNU date -u -d @SECONDS
        for (seconds, date) in [
            (0, "1970-01-01 00:00"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (1_704_067_199, "2023-12-31 23:59"),
            (1_795_548_360, "2026-11-24 19:26"),
            (4_107_542_400, "2100-03-01 00:00"),
        ] {
            assert_eq!(utc(seconds * 1_000 + 7), date);
        }
    }
}
