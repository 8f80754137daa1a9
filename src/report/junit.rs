//! A judgement as JUnit XML, as CI servers read it: one test suite, a test case for each thing that was judged.
//!
//! | here | in the file |
//! |---|---|
//! | holds | a test case |
//! | does not hold | `failure` |
//! | could not be found out | `error` |
//! | not asked, or too little to tell | `skipped` |
//!
//! Written by hand: the format is four elements deep and is never read here. What matters is that no text from outside can
//! break out of an attribute, which is `escaped`.

use std::fmt::Write;

use super::judged::{Case, CaseOutcome, Judged};
use super::suite::{ScenarioReport, SuiteReport};

/// The file.
pub fn render(judged: &Judged<'_>) -> String {
    document(&[TestSuite {
        name: format!("hairspring {}", judged.command),
        cases: &judged.cases(),
        seconds: judged.saved.reports().iter().map(|report| report.elapsed_ns.as_secs()).sum(),
        words: judged.words,
    }])
}

/// The file of a suite: one test suite a scenario.
pub fn suite(suite: &SuiteReport) -> String {
    let suites: Vec<TestSuite<'_>> = suite.scenarios.iter().map(TestSuite::of).collect();
    document(&suites)
}

struct TestSuite<'a> {
    name: String,
    cases: &'a [Case],
    seconds: f64,
    words: &'a str,
}

impl<'a> TestSuite<'a> {
    fn of(scenario: &'a ScenarioReport) -> Self {
        let ScenarioReport { name, cases, elapsed_ns, words, .. } = scenario;
        Self { name: format!("hairspring suite: {name}"), cases, seconds: elapsed_ns.as_secs(), words }
    }
}

fn document(suites: &[TestSuite<'_>]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(xml, "<testsuites name=\"hairspring\" {}>", totals(suites));
    for suite in suites {
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" {}>",
            escaped(&suite.name),
            totals(std::slice::from_ref(suite))
        );
        suite.cases.iter().for_each(|case| test_case(&mut xml, case));
        let _ = writeln!(xml, "    <system-out>{}</system-out>", escaped(suite.words));
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn totals(suites: &[TestSuite<'_>]) -> String {
    let cases = || suites.iter().flat_map(|suite| suite.cases);
    let count = |outcome| cases().filter(|case| case.outcome == outcome).count();
    format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.3}\"",
        cases().count(),
        count(CaseOutcome::Failed),
        count(CaseOutcome::Error),
        count(CaseOutcome::Skipped),
        suites.iter().map(|suite| suite.seconds).sum::<f64>(),
    )
}

fn test_case(xml: &mut String, case: &Case) {
    let Case { group, name, outcome, reason, .. } = case;
    let reason = escaped(reason);
    let inside = match outcome {
        CaseOutcome::Passed if reason.is_empty() => String::new(),
        CaseOutcome::Passed => format!("<system-out>{reason}</system-out>"),
        CaseOutcome::Failed => format!("<failure type=\"{group}\" message=\"{reason}\">{reason}</failure>"),
        CaseOutcome::Error => format!("<error type=\"{group}\" message=\"{reason}\">{reason}</error>"),
        CaseOutcome::Skipped => format!("<skipped message=\"{reason}\"/>"),
    };
    let _ = writeln!(
        xml,
        "    <testcase classname=\"hairspring.{group}\" name=\"{}\" time=\"0\">{inside}</testcase>",
        escaped(name)
    );
}

/// Text for an attribute or between tags. What XML 1.0 has no place for, even as a reference, is replaced.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&apos;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(safe, "&#{};", u32::from(c));
            }
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_out() {
        let wild = "a\"/><failure>&]]>'\n\u{1b}[31m\0\u{ffff}ä";
        assert_eq!(
            escaped(wild),
            "a&quot;/&gt;&lt;failure&gt;&amp;]]&gt;&apos;&#10;\u{fffd}[31m\u{fffd}\u{fffd}ä"
        );
        let case = Case::new("sla", wild, CaseOutcome::Failed, wild);
        let mut xml = String::new();
        test_case(&mut xml, &case);
        assert_eq!((xml.matches('<').count(), xml.matches("<failure ").count()), (4, 1), "{xml}");
    }
}
