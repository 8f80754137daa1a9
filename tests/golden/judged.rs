//! The same judgement as Markdown and as JUnit XML, and a percentile that is only known to be at least the timeout.

use clap::Parser;
use hairspring::analyze::gate::{SlaReport, SlaVerdict};
use hairspring::load::sample::{Failure, Outcome};
use hairspring::load::time::Nanos;
use hairspring::record::{BatchCounter, Recorder};
use hairspring::report::json::Saved;
use hairspring::report::{CaseOutcome, Comparison, Judged, Report, json, junit, markdown, text};

use super::{Run, assert_golden, report, round_of, sample};

fn judged<'a>(saved: &'a Saved, verdicts: &'a [SlaReport]) -> Judged<'a> {
    Judged {
        command: "compare",
        saved,
        verdicts,
        exit_code: 0,
        words: "PASS: the SLA is met",
        environment_failed: false,
        strict: false,
        inconclusive: CaseOutcome::Error,
    }
}

/// The comparison of the golden text, in the forms that CI servers show.
pub(super) fn assert_forms(comparison: &Comparison) {
    let saved = Saved::Comparison(Box::new(comparison.clone()));
    let verdicts = saved.verdicts();
    let judged = judged(&saved, &verdicts);
    assert_golden("comparison.md", &markdown::render(&judged));
    assert_golden("comparison.junit.xml", &junit::render(&judged));
}

/// 2000 requests of 50 ms, of which `every`-th timed out after 1 s.
fn timed_out(every: u64) -> Report {
    let rules = ["--sla", "p50<=800ms", "--sla", "p99<=800ms", "--sla", "p99>=900ms"];
    let args = Run::parse_from([&["run", "http://127.0.0.1:1/", "-n", "2000"][..], &rules].concat()).args;
    let plan = args.plan(&[0, 1]).unwrap();
    let mut recorder = Recorder::new(plan.ok_statuses(), false, 0, None);
    let mut batches = BatchCounter::new(Some(2_000));
    for seq in 0..2_000 {
        let slow = seq % every == 0;
        let service = if slow { Nanos::from_secs(1) } else { Nanos::from_millis(50) };
        let outcome = if slow { Outcome::Failed(Failure::Timeout) } else { Outcome::Completed(200) };
        let sample = sample(seq, service, Nanos::ZERO, outcome);
        batches.record(seq, (!slow).then(|| sample.response()));
        recorder.record(&sample);
    }
    let mut recorded = recorder.finish(0, 0);
    recorded.measured.batches = vec![batches.finish()];
    recorded.measured.close_round();
    report(&plan, &[round_of(0, recorded)], Vec::new())
}

/// "p99 ≥ 1 s" is an answer, and it is the same one everywhere.
#[test]
fn a_percentile_among_the_timeouts_is_at_least_the_timeout() {
    let report = timed_out(20);
    // 1 s of service, and 75 µs on the way
    let page = text::run(&report);
    let response = page.lines().find(|line| line.starts_with("response ")).unwrap();
    assert_eq!(response.matches(">=1000.1ms").count(), 2, "p99 and p99.9: {page}");
    let value: serde_json::Value = serde_json::from_slice(&json::render(&report)).unwrap();
    let figures = &value["response_ns"];
    assert!(figures["p99"].is_null() && figures["p95"].is_u64(), "{figures}");
    assert_eq!(figures["censored_at_ns"]["p99"], 1_000_075_000);
    let interval = &value["response_intervals"]["p99"];
    assert!(interval["high"].is_null() && interval["unbounded"] == true, "{interval}");
    assert_eq!(interval["low"], 1_000_075_000, "even its lower end is among the timeouts: {interval}");

    let verdicts: Vec<SlaVerdict> = report.sla.rules.iter().map(|rule| rule.verdict).collect();
    assert_eq!(verdicts, [SlaVerdict::Met, SlaVerdict::NotMet, SlaVerdict::Met], "{:?}", report.sla);
    let reason = &report.sla.rules[1].reason;
    assert!(reason.contains("falls among") && reason.contains("at least 1000.1ms"), "{reason}");

    let saved = Saved::Report(Box::new(report));
    let verdicts = saved.verdicts();
    let judged = judged(&saved, &verdicts);
    let summary = markdown::render(&judged);
    assert!(summary.contains("| &gt;=1000.1ms (1000.1ms to ∞) |"), "{summary}");
    let xml = junit::render(&judged);
    assert!(xml.contains("name=\"p99&lt;=800ms\" time=\"0\"><failure "), "{xml}");
}

/// Where the figure is among the timeouts but its lower end is not, an upper limit is neither met nor missed.
#[test]
fn a_percentile_at_the_edge_of_the_timeouts_is_inconclusive() {
    let report = timed_out(90);
    let interval = report.response_intervals["p99"];
    assert!(interval.low < Nanos::from_millis(60) && interval.high.is_none(), "{interval:?}");
    assert_eq!(report.response_ns.p99, None);
    assert_eq!(report.sla.rules[1].verdict, SlaVerdict::Inconclusive, "{:?}", report.sla);
    let saved = Saved::Report(Box::new(report));
    let xml = junit::render(&judged(&saved, &saved.verdicts()));
    assert!(xml.contains("name=\"p99&lt;=800ms\" time=\"0\"><error "), "{xml}");
}
