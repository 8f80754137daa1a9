//! A judgement as Markdown, as GitHub shows it beside a job: the verdict first, then what it rests on.
//!
//! It is appended to a file that other steps write to, so it begins with a heading and ends with an empty line. Text from
//! outside is escaped: it is shown, never obeyed.

use std::fmt::Write;

use super::Report;
use super::json::Saved;
use super::judged::{Case, CaseOutcome, Judged};
use super::suite::SuiteReport;
use super::text;
use crate::analyze::summary::TABLED;

/// The summary.
pub fn render(judged: &Judged<'_>) -> String {
    let mut page = String::new();
    let mark = mark(judged.exit_code);
    let _ = writeln!(page, "## {mark} hairspring {}: {}\n", judged.command, escaped(judged.words));
    for report in judged.saved.reports() {
        let name = escaped(&report.plan.target.name);
        let _ = writeln!(page, "- **{name}**: {}", escaped(&text::target(&report.plan)));
    }
    if let Some(report) = judged.saved.reports().first() {
        let _ = writeln!(page, "- **load**: {}\n", escaped(&report.plan.load_in_words()));
    }
    responses(&mut page, &judged.saved.reports());
    for report in judged.saved.reports() {
        if let Some(alerts) = text::alerts_in_short(report) {
            let _ =
                writeln!(page, "- **alerts of {}**: {}", escaped(&report.plan.target.name), escaped(&alerts));
        }
    }
    let conclusion = match judged.saved {
        Saved::Report(_) => None,
        Saved::Comparison(comparison) => Some(&comparison.conclusion),
        Saved::Ranking(ranking) => Some(&ranking.conclusion),
    };
    if let Some(conclusion) = conclusion {
        let _ = writeln!(page, "{}\n", escaped(conclusion));
    }
    page.push_str("| judged | | why |\n|---|---|---|\n");
    for Case { name, outcome, reason, .. } in judged.cases() {
        let word = match outcome {
            CaseOutcome::Passed => "✅",
            CaseOutcome::Failed => "❌ failed",
            CaseOutcome::Error => "⚠️ error",
            CaseOutcome::Skipped => "➖ not decided",
        };
        let _ = writeln!(page, "| {} | {word} | {} |", escaped(&name), escaped(&reason));
    }
    page.push('\n');
    page
}

/// The summary of a suite: its table.
pub fn suite(suite: &SuiteReport) -> String {
    let (mark, name, words) = (mark(suite.exit_code), escaped(&suite.name), escaped(&suite.words));
    let mut page = format!("## {mark} hairspring suite {name}: {words}\n\n");
    page.push_str("| scenario | metric | measured | target | status |\n|---|---|---|---|---|\n");
    for row in suite.rows() {
        let _ = writeln!(page, "| {} |", row.map(|cell| escaped(&cell)).join(" | "));
    }
    page.push('\n');
    page
}

fn mark(exit_code: u8) -> &'static str {
    match exit_code {
        0 => "✅",
        2 => "❌",
        _ => "⚠️",
    }
}

/// Response times with what they lie between.
fn responses(page: &mut String, reports: &[&Report]) {
    let names: Vec<String> = TABLED.iter().map(|(_, p)| p.to_string()).collect();
    let _ = writeln!(
        page,
        "| response | {} | errors |\n|---|{}---|",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for report in reports {
        let cell =
            |(name, _): &(&str, _)| text::percentile(&report.response_ns, name) + &between(report, name);
        let cells: Vec<String> = TABLED.iter().map(|named| escaped(&cell(named))).collect();
        let failed = report.totals.scheduled - report.totals.successful;
        let name = escaped(&report.plan.target.name);
        let _ =
            writeln!(page, "| {name} | {} | {failed} of {} |", cells.join(" | "), report.totals.scheduled);
    }
    page.push('\n');
}

fn between(report: &Report, name: &str) -> String {
    let Some(interval) = report.response_intervals.get(name) else { return String::new() };
    let high = interval.high.map_or("∞".to_owned(), |high| high.to_string());
    format!(" ({} to {high})", interval.low)
}

/// Markdown's and HTML's marks as plain text, in one line.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' | '$' => safe.extend(['\\', c]),
            '\t' | '\n' | '\r' => safe.push(' '),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_obeyed() {
        assert_eq!(
            escaped("|a|`b`\n# <img src=x> ![i](u) **c** &amp; \\\u{1b}"),
            "\\|a\\|\\`b\\` \\# &lt;img src=x&gt; \\!\\[i\\](u) \\*\\*c\\*\\* &amp;amp; \\\\\u{fffd}"
        );
    }
}
