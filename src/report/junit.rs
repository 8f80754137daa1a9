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

/// The file.
pub fn render(judged: &Judged<'_>) -> String {
    let cases = judged.cases();
    let count = |outcome| cases.iter().filter(|case| case.outcome == outcome).count();
    let seconds: f64 = judged.saved.reports().iter().map(|report| report.elapsed_ns.as_secs()).sum();
    let totals = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{seconds:.3}\"",
        cases.len(),
        count(CaseOutcome::Failed),
        count(CaseOutcome::Error),
        count(CaseOutcome::Skipped),
    );
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let name = format!("hairspring {}", judged.command);
    let _ = writeln!(xml, "<testsuites name=\"hairspring\" {totals}>");
    let _ = writeln!(xml, "  <testsuite name=\"{}\" {totals}>", escaped(&name));
    cases.iter().for_each(|case| test_case(&mut xml, case));
    let _ = writeln!(xml, "    <system-out>{}</system-out>", escaped(judged.words));
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

fn test_case(xml: &mut String, case: &Case) {
    let Case { group, name, outcome, reason } = case;
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
        let case = Case {
            group: "sla",
            name: wild.to_owned(),
            outcome: CaseOutcome::Failed,
            reason: wild.to_owned(),
        };
        let mut xml = String::new();
        test_case(&mut xml, &case);
        assert_eq!((xml.matches('<').count(), xml.matches("<failure ").count()), (4, 1), "{xml}");
    }
}
