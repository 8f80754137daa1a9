//! A suite's page: one table of all that was judged, then why what did not pass did not.

use std::fmt::Write;

use super::clean;
use crate::report::judged::{Case, CaseOutcome};
use crate::report::suite::{ScenarioReport, SuiteReport};

const HEAD: [&str; 5] = ["scenario", "metric", "measured", "target", "status"];

/// Characters of a reason.
const REASON_MAX: usize = 160;

/// What became of a suite.
pub fn suite(suite: &SuiteReport) -> String {
    let partial = if suite.partial { "  ** PARTIAL: interrupted **" } else { "" };
    let mut text = format!("suite {} ({}){partial}\n\n", clean(&suite.name), clean(&suite.file));
    table(&mut text, &suite.rows());
    text.push('\n');
    for scenario in &suite.scenarios {
        ended(&mut text, scenario);
    }
    text
}

impl SuiteReport {
    /// Scenario, metric, measured, target, status: each rule, effect and figure, and whatever else did not pass.
    pub(in crate::report) fn rows(&self) -> Vec<[String; 5]> {
        let row = |scenario: &ScenarioReport, case: &Case| {
            let metric = if case.metric.is_empty() { &case.name } else { &case.metric };
            [&scenario.name, metric, &case.measured, &case.target, &case.status].map(|cell| clean(cell))
        };
        let rows = self.scenarios.iter().flat_map(|scenario| {
            scenario.cases.iter().filter(|case| is_shown(case)).map(move |case| row(scenario, case))
        });
        rows.collect()
    }
}

fn is_shown(case: &Case) -> bool {
    let always = ["sla", "effect", "figure", "scenario"].contains(&case.group.as_str());
    always || matches!(case.outcome, CaseOutcome::Failed | CaseOutcome::Error)
}

/// Columns as wide as what is in them.
fn table(text: &mut String, rows: &[[String; 5]]) {
    let head = HEAD.map(str::to_owned);
    let all = || std::iter::once(&head).chain(rows);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    for row in all() {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
}

fn ended(text: &mut String, scenario: &ScenarioReport) {
    let code = scenario.exit_code.map_or(String::new(), |code| format!(" (exit code {code})"));
    let report = scenario.report.as_ref().map_or(String::new(), |report| format!("; {report}"));
    let _ = writeln!(text, "{}: {}{code}{report}", scenario.name, clean(&scenario.words));
    let told = |case: &&Case| {
        let failed = matches!(case.outcome, CaseOutcome::Failed | CaseOutcome::Error);
        failed && case.group != "scenario" && !case.reason.is_empty()
    };
    for case in scenario.cases.iter().filter(told) {
        let _ = writeln!(text, "  {}: {}", clean(&case.name), shortened(&clean(&case.reason)));
    }
}

/// Its beginning; the whole of it is in the scenario's own page.
fn shortened(reason: &str) -> String {
    match reason.char_indices().nth(REASON_MAX) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}
