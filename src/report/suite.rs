//! A suite's report: what became of each scenario, as the cases that its own command judged. Pure data; the scenarios' own
//! reports stand beside it.

use serde::{Deserialize, Serialize};

use super::judged::{Case, CaseOutcome, Judged};
use super::{Report, Tool};
use crate::load::time::Nanos;

/// The version of [`SuiteReport`].
pub const SUITE_SCHEMA: &str = "hairspring.suite/1";

/// What became of a suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuiteReport {
    /// [`SUITE_SCHEMA`].
    pub schema: String,
    /// The program that wrote it.
    pub tool: Tool,
    /// When it was begun: milliseconds since the Unix epoch.
    pub created_unix_ms: u64,
    /// The suite's name.
    pub name: String,
    /// The file it was read from.
    pub file: String,
    /// Interrupted, or not yet at its end.
    pub partial: bool,
    /// In the order of the file.
    pub scenarios: Vec<ScenarioReport>,
    /// The gravest of its scenarios.
    pub exit_code: u8,
    /// The exit code in words.
    pub words: String,
}

/// What became of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScenarioReport {
    /// Its name.
    pub name: String,
    /// `run` or `compare`.
    pub command: String,
    /// Its command line.
    pub argv: Vec<String>,
    /// Null where it was not run.
    pub exit_code: Option<u8>,
    /// That in words.
    pub words: String,
    /// Its own report, in the suite's folder; null where there is none.
    pub report: Option<String>,
    /// How long it took, servers and files included.
    pub elapsed_ns: Nanos,
    /// What was judged.
    pub cases: Vec<Case>,
}

impl SuiteReport {
    /// One of which nothing has been run yet.
    pub fn new(name: &str, file: String, created_unix_ms: u64) -> Self {
        Self {
            schema: SUITE_SCHEMA.to_owned(),
            tool: Tool::this(),
            created_unix_ms,
            name: name.to_owned(),
            file,
            partial: true,
            scenarios: Vec::new(),
            exit_code: 0,
            words: "not finished".to_owned(),
        }
    }

    /// Ends it with the gravest exit code; `unwritten`: a file of the suite's own could not be written.
    pub fn conclude(&mut self, exit_code: u8, interrupted: bool, unwritten: bool) {
        (self.exit_code, self.partial) = (exit_code, interrupted);
        let passed = self.scenarios.iter().filter(|scenario| scenario.exit_code == Some(0)).count();
        let mut words = format!("{passed} of {} scenarios passed", self.scenarios.len());
        let gravest = self.scenarios.iter().find(|scenario| scenario.exit_code == Some(exit_code));
        match gravest {
            _ if exit_code == 0 => words = format!("PASS: {words}"),
            Some(scenario) => words += &format!("; {}: {}", scenario.name, scenario.words),
            None if unwritten => words += "; FAIL: a file could not be written",
            None => words += "; NO VERDICT: interrupted",
        }
        self.words = words;
    }
}

impl ScenarioReport {
    /// One that has not been run.
    pub fn not_run(name: &str, command: &str, argv: &[String]) -> Self {
        Self {
            name: name.to_owned(),
            command: command.to_owned(),
            argv: argv.to_vec(),
            exit_code: None,
            words: "not run: interrupted before".to_owned(),
            report: None,
            elapsed_ns: Nanos::ZERO,
            cases: vec![Case {
                status: "not run".to_owned(),
                ..Case::new("scenario", "measured", CaseOutcome::Skipped, "interrupted before")
            }],
        }
    }

    /// It ended before it could be judged.
    pub fn failed(self, exit_code: u8, why: &str, elapsed_ns: Nanos) -> Self {
        let case = Case {
            status: "failed".to_owned(),
            ..Case::new("scenario", "measured", CaseOutcome::Error, why)
        };
        Self { exit_code: Some(exit_code), words: why.to_owned(), elapsed_ns, cases: vec![case], ..self }
    }

    /// It was judged. Where no rule was asked for, its figures are shown.
    pub fn judged(self, judged: &Judged<'_>, elapsed_ns: Nanos) -> Self {
        let mut cases = judged.cases();
        if !cases.iter().any(|case| case.group == "sla") {
            let reports = judged.saved.reports();
            let several = reports.len() > 1;
            cases.extend(reports.into_iter().flat_map(|report| figures(report, several)));
        }
        Self {
            exit_code: Some(judged.exit_code),
            words: judged.words.to_owned(),
            report: Some(format!("{}/{}", self.name, judged.saved.file())),
            elapsed_ns,
            cases,
            ..self
        }
    }
}

/// What one wants to know of a run that no rule asks about.
fn figures(report: &Report, several: bool) -> Vec<Case> {
    let whose = if several { format!("{}: ", report.plan.target.name) } else { String::new() };
    let failed = report.totals.scheduled - report.totals.successful;
    let per_s = report.throughput_per_s.map_or("-".to_owned(), |per_s| format!("{per_s:.1}/s"));
    let percentile = |name| super::text::percentile(&report.response_ns, name);
    [
        ("p50", percentile("p50")),
        ("p95", percentile("p95")),
        ("p99", percentile("p99")),
        ("errors", format!("{failed} of {}", report.totals.scheduled)),
        ("throughput", per_s),
    ]
    .map(|(metric, measured)| Case {
        measured,
        status: "measured".to_owned(),
        ..Case::new("figure", &format!("{whose}{metric}"), CaseOutcome::Skipped, "no rule asks for it")
    })
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(name: &str, exit_code: u8, words: &str) -> ScenarioReport {
        ScenarioReport::not_run(name, "run", &[]).failed(exit_code, words, Nanos(7))
    }

    #[test]
    fn the_words_name_what_decided() {
        let mut suite = SuiteReport::new("nightly", "s.toml".to_owned(), 1);
        suite.scenarios = vec![ended("a", 0, "fine"), ended("b", 2, "FAIL: slow"), ended("c", 4, "open")];
        suite.conclude(2, false, false);
        assert_eq!(suite.words, "1 of 3 scenarios passed; b: FAIL: slow");
        assert!(!suite.partial);
        suite.conclude(1, false, true);
        assert!(suite.words.ends_with("a file could not be written"), "{}", suite.words);
        suite.scenarios.truncate(1);
        suite.conclude(0, false, false);
        assert_eq!(suite.words, "PASS: 1 of 1 scenarios passed");
        let back: SuiteReport = serde_json::from_slice(&super::super::json::render(&suite)).unwrap();
        assert_eq!(back, suite);
    }
}
