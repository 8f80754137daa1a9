//! The verdicts: at, below and above every limit; what is not successful; too few requests.

use super::*;
use crate::analyze::special::share_bounds;
use crate::analyze::stats::SortedResponses;
use SlaVerdict::{Inconclusive, Met, NotEvaluated, NotMet};

const NS: u64 = 1;
const MS: u64 = 1_000_000;

/// A run: its successful response times (ascending), and how many requests were not successful.
struct Run {
    successful: Vec<Nanos>,
    unsuccessful: u64,
    timeouts: u64,
    censored_at: Nanos,
    throughput: Throughput,
}

impl Run {
    fn new(successful: Vec<Nanos>, unsuccessful: u64) -> Self {
        let throughput = Throughput { requests: successful.len() as u64, window: Nanos::from_secs(1) };
        Self { successful, unsuccessful, timeouts: 0, censored_at: Nanos::ZERO, throughput }
    }

    /// `n` requests, every response time `ns`.
    fn constant(n: usize, ns: u64) -> Self {
        Self::new(vec![Nanos(ns); n], 0)
    }

    fn judge(&self, rules: &[&str]) -> SlaReport {
        self.judge_if(rules, Ok(()))
    }

    fn judge_if(&self, rules: &[&str], evaluable: Result<(), String>) -> SlaReport {
        let parse = |text: &&str| text.parse().expect("a rule");
        let rules: Vec<Rule> = rules.iter().map(parse).collect();
        let n = self.successful.len() as u64;
        let scheduled = n + self.unsuccessful;
        let sum: u64 = self.successful.iter().map(|time| time.0).sum();
        let responses =
            SortedResponses { successful: &self.successful, scheduled, censored_at: self.censored_at };
        let measured = Measured {
            scheduled,
            successful: n,
            timeouts: self.timeouts,
            error_share: share(self.unsuccessful, scheduled),
            timeout_share: share(self.timeouts, scheduled),
            throughput: self.throughput,
            mean: sum.checked_div(n).map(Nanos),
            mean_bounds: sum.checked_div(n).map(|ns| Bounds {
                low: Nanos(ns),
                high: Some(Nanos(ns)),
                censored: false,
            }),
            max: self.successful.last().copied(),
            responses: &responses,
            system: None,
        };
        evaluate(&rules, &measured, evaluable)
    }

    fn verdict(&self, rule: &str) -> SlaVerdict {
        self.judge(&[rule]).verdict
    }

    fn rule(&self, rule: &str) -> RuleReport {
        self.judge(&[rule]).rules.remove(0)
    }
}

fn share(events: u64, of: u64) -> (f64, f64) {
    if of == 0 { (0.0, 1.0) } else { share_bounds(events as f64, of as f64, 0.025) }
}

/// The verdicts of `<`, `<=`, `>`, `>=` on figures below, at and above the limit.
const TABLE: [(&str, [SlaVerdict; 3]); 4] = [
    ("<", [Met, NotMet, NotMet]),
    ("<=", [Met, Met, NotMet]),
    (">", [NotMet, NotMet, Met]),
    (">=", [NotMet, Met, Met]),
];

#[test]
fn response_times_at_below_and_above_the_limit() {
    for metric in ["p0", "p50", "p95", "p99", "mean", "max"] {
        for (op, verdicts) in TABLE {
            let rule = format!("{metric}{op}800ms");
            let times = [800 * MS - NS, 800 * MS, 800 * MS + NS];
            let judged = times.map(|ns| Run::constant(400, ns).verdict(&rule));
            assert_eq!(judged, verdicts, "{rule}");
        }
    }
}

#[test]
fn counts_at_below_and_above_the_limit() {
    let run = |bad: u64| {
        let mut run = Run::new(vec![Nanos(MS); 1_000 - bad as usize], bad);
        run.timeouts = bad;
        run
    };
    for metric in ["errors", "timeouts"] {
        for (op, verdicts) in TABLE {
            let rule = format!("{metric}{op}10");
            let judged = [9, 10, 11].map(|bad| run(bad).verdict(&rule));
            assert_eq!(judged, verdicts, "{rule}");
        }
    }
}

#[test]
fn a_share_is_judged_by_its_exact_bounds() {
    // of 1000 requests: 2 are .02 % to .72 %, 10 are .48 % to 1.83 %, 25 are 1.62 % to 3.67 %
    let run = |bad: u64| {
        let mut run = Run::new(vec![Nanos(MS); 1_000 - bad as usize], bad);
        run.timeouts = bad;
        run
    };
    for metric in ["errors", "timeouts"] {
        let judged = |rule: &str| [2, 10, 25].map(|bad| run(bad).verdict(&format!("{metric}{rule}")));
        assert_eq!(judged("<=1%"), [Met, Inconclusive, NotMet], "{metric}");
        assert_eq!(judged(">1%"), [NotMet, Inconclusive, Met], "{metric}");
    }
    // None of 299 are at most 1.23 % with 97.5 % a side; it takes 368 for 1 %.
    assert_eq!(Run::constant(367, MS).verdict("errors<=1%"), Inconclusive);
    assert_eq!(Run::constant(368, MS).verdict("errors<=1%"), Met);
}

#[test]
fn that_something_never_happens_is_said_of_this_run_alone() {
    assert_eq!(Run::constant(4, MS).verdict("errors<=0%"), Met);
    assert_eq!(Run::constant(4, MS).verdict("errors>0%"), NotMet);
    assert_eq!(Run::new(vec![Nanos(MS); 3], 1).verdict("errors<=0%"), NotMet);
    assert_eq!(Run::new(vec![Nanos(MS); 3], 1).verdict("errors<100%"), Met);
}

#[test]
fn an_interval_across_the_limit_is_inconclusive() {
    // 400 values, 1 to 400 ms: the p95 is 380 ms, and ranks 371 to 389 enclose it
    let run = Run::new((1..=400).map(Nanos::from_millis).collect(), 0);
    let judged = |rule: &str| run.rule(rule);
    for (rule, verdict) in [
        ("p95<=389ms", Met),
        ("p95<389ms", Inconclusive),
        ("p95<=371ms", Inconclusive),
        ("p95<371ms", NotMet),
        ("p95>=371ms", Met),
        ("p95>371ms", Inconclusive),
        ("p95>=389ms", Inconclusive),
        ("p95>389ms", NotMet),
    ] {
        assert_eq!(judged(rule).verdict, verdict, "{rule}: {}", judged(rule).reason);
    }
    assert_eq!(judged("p95<=1s").reason, "p95 is 380.0ms [371.0ms, 389.0ms]");
    assert_eq!(judged("p99.5<=1s").reason, "p99.5 is 398.0ms [395.0ms, no upper bound]");
}

#[test]
fn throughput_at_below_and_above_the_limit() {
    let run = |requests, window_ns| {
        let mut run = Run::constant(400, MS);
        let window = Nanos(window_ns);
        run.throughput = Throughput { requests, window };
        run
    };
    for (op, verdicts) in TABLE {
        // 1 request in 10 s is 0.1/s, exactly; a nanosecond more or less is less or more.
        let rule = format!("throughput{op}0.1/s");
        let windows = [10_000_000_001, 10_000_000_000, 9_999_999_999];
        let judged = windows.map(|window| run(1, window).verdict(&rule));
        assert_eq!(judged, verdicts, "{rule}");
        let rule = format!("throughput{op}500/s");
        let judged = [999, 1_000, 1_001].map(|n| run(n, 2_000 * MS).verdict(&rule));
        assert_eq!(judged, verdicts, "{rule}");
    }
    assert_eq!(run(0, 0).verdict("throughput>=0/s"), Inconclusive);
    assert_eq!(run(0, MS).verdict("throughput>=1/s"), NotMet);
    assert_eq!(run(u64::MAX, 1).verdict("throughput>=1000000000/s"), Met);
}

#[test]
fn fast_503s_cannot_improve_a_percentile() {
    // 400 slow answers miss the limit. Shedding 40 of them with 503 in a millisecond must not help,
    // although the p95 of all answers, 503s included, would then be the same or better.
    let slow = Run::constant(400, 900 * MS);
    assert_eq!(slow.verdict("p95<=800ms"), NotMet);
    let mut shedding = Run::constant(360, 100 * MS);
    shedding.unsuccessful = 40;
    shedding.censored_at = Nanos(MS); // as fast as a 503 comes back
    let judged = shedding.rule("p95<=800ms");
    assert_eq!((judged.verdict, judged.measured), (NotMet, None));
    assert_eq!(
        judged.reason,
        "p95 falls among the requests that were not successful (40 of 400); it is at least 1.00ms"
    );
    // The percentiles below them are what they are.
    assert_eq!(shedding.verdict("p80<=800ms"), Met);
    // How many fail is known no better than anything else: 5 of 400 are too few to reach the p95, 30 are enough.
    let few = |bad: u64| Run::new(vec![Nanos(100 * MS); 400 - bad as usize], bad).rule("p95<=800ms");
    assert_eq!(few(5).verdict, Met);
    assert_eq!((few(20).verdict, few(20).measured), (Inconclusive, Some(100.0)));
    assert_eq!((few(21).verdict, few(21).measured), (Inconclusive, None));
    assert_eq!(few(30).verdict, NotMet);
}

#[test]
fn censored_figures() {
    let mut run = Run::constant(80, 100 * MS);
    run.unsuccessful = 20;
    run.timeouts = 20;
    run.censored_at = Nanos::from_secs(30);
    // Upper limits: not met, on either side of the bound.
    for rule in ["p95<=800ms", "p95<10s", "p95<=60s", "max<=60s", "max<1ms"] {
        let judged = run.rule(rule);
        assert_eq!((judged.verdict, judged.measured), (NotMet, None), "{rule}");
        assert!(judged.reason.contains("not successful (20 of 100)"), "{}", judged.reason);
    }
    // Lower limits: met where the bound meets them, else it cannot be known.
    assert_eq!(run.verdict("p95>=30s"), Met);
    assert_eq!(run.verdict("p95>30s"), Inconclusive);
    assert_eq!(run.verdict("p95>=31s"), Inconclusive);
    assert_eq!(run.verdict("max>=100ms"), Met);
    assert_eq!(run.verdict("max>100ms"), Inconclusive);
    // The mean is over the successful.
    assert_eq!(run.verdict("mean<=100ms"), Met);
    assert_eq!(run.verdict("mean<100ms"), NotMet);
}

#[test]
fn nothing_successful_meets_no_limit_on_times() {
    let run = Run::new(Vec::new(), 400);
    for rule in ["p50<=1s", "p0<1s", "mean<1s", "max<1s"] {
        assert_eq!(run.verdict(rule), NotMet, "{rule}");
    }
    for rule in ["p50>=0s", "mean>=0s", "max>=0s"] {
        assert_eq!(run.verdict(rule), Inconclusive, "{rule}");
    }
    assert_eq!(run.rule("mean<1s").reason, "no request was successful");
    assert_eq!(run.verdict("errors<100%"), NotMet);
    assert_eq!(run.verdict("errors<=100%"), Met);
}

#[test]
fn nothing_scheduled_is_inconclusive() {
    let run = Run::new(Vec::new(), 0);
    for rule in ["p95<=1s", "mean<1s", "max>1s", "errors<1%", "timeouts<=0", "throughput>=0/s"] {
        let judged = run.rule(rule);
        assert_eq!(judged.verdict, Inconclusive, "{rule}");
        assert_eq!(judged.reason, "nothing was scheduled");
    }
}

/// Availability is the other side of errors, interval and all.
#[test]
fn availability_is_judged_by_its_interval() {
    let share = |unsuccessful| share(unsuccessful, 10_000);
    for (unsuccessful, rule, wanted) in [
        (2, "availability>=99.9%", Met),
        (10, "availability>=99.9%", Inconclusive),
        (40, "availability>=99.9%", NotMet),
        (0, "availability>=100%", Met),
        (1, "availability>=100%", NotMet),
    ] {
        let responses = SortedResponses { successful: &[], scheduled: 10_000, censored_at: Nanos::ZERO };
        let measured = Measured {
            scheduled: 10_000,
            successful: 10_000 - unsuccessful,
            timeouts: 0,
            error_share: share(unsuccessful),
            timeout_share: share(0),
            throughput: Throughput { requests: 0, window: Nanos::ZERO },
            mean: None,
            mean_bounds: None,
            max: None,
            responses: &responses,
            system: None,
        };
        let rules = [rule.parse().expect("a rule")];
        assert_eq!(evaluate(&rules, &measured, Ok(())).verdict, wanted, "{unsuccessful} {rule}");
    }
}

#[test]
fn figures_that_a_report_lacks_are_not_made_up() {
    let responses = SortedResponses { successful: &[], scheduled: 0, censored_at: Nanos::ZERO };
    let measured = Measured {
        scheduled: 400,
        successful: 400,
        timeouts: 0,
        error_share: share(0, 400),
        timeout_share: share(0, 400),
        throughput: Throughput { requests: 0, window: Nanos::ZERO },
        mean: None,
        mean_bounds: None,
        max: None,
        responses: &responses,
        system: None,
    };
    for rule in ["p50<1s", "mean<1s", "max<1s", "mean>=0s", "throughput>1/s"] {
        let rules = [rule.parse().expect("a rule")];
        assert_eq!(evaluate(&rules, &measured, Ok(())).verdict, Inconclusive, "{rule}");
    }
}

#[test]
fn a_percentile_needs_its_requests() {
    for (rule, needed) in [
        ("p0<=1ms", 1),
        ("p50<=1ms", 6),
        ("p95<=1ms", 72),
        ("p99<=1ms", 368),
        ("p99.9<=1ms", 3_688),
        ("p50>=1ms", 6),
        ("p5>=1ms", 72),
        ("p99>=1ms", 1),
        ("p0>=1ms", 1),
    ] {
        assert_eq!(Run::constant(needed, MS).verdict(rule), Met, "{rule}");
        if needed > 1 {
            let judged = Run::constant(needed - 1, MS).rule(rule);
            assert_eq!(judged.verdict, Inconclusive, "{rule}");
            assert_eq!(judged.measured, Some(1.0));
            let open = if rule.contains('<') { "no upper bound]" } else { "[0ns, " };
            assert!(judged.reason.contains(open), "{}", judged.reason);
        }
    }
    // A limit that is broken is broken, however few the requests.
    assert_eq!(Run::constant(3, 2 * MS).verdict("p99<=1ms"), NotMet);
    // A bound that meets a lower limit needs them too.
    let mut censored = Run::new(vec![Nanos(MS)], 2);
    censored.censored_at = Nanos::from_secs(30);
    assert_eq!(censored.verdict("p50>=30s"), Inconclusive);
}

#[test]
fn percentiles_of_one_to_four_hundred() {
    let run = Run::new((1..=400).map(Nanos::from_millis).collect(), 0);
    for (rule, measured) in [("p50<1s", 200.0), ("p95<1s", 380.0), ("p99<1s", 396.0)] {
        assert_eq!(run.rule(rule).measured, Some(measured), "{rule}");
    }
}

#[test]
fn the_worst_rule_decides() {
    let run = Run::constant(100, 100 * MS);
    assert_eq!(run.judge(&["p95<=1s", "errors<5%"]).verdict, Met);
    assert_eq!(run.judge(&["p95<=1s", "p99<=1s"]).verdict, Inconclusive);
    let all = run.judge(&["p95<=1s", "p99<=1s", "mean<1ms"]);
    assert_eq!(all.verdict, NotMet);
    let each: Vec<_> = all.rules.iter().map(|rule| rule.verdict).collect();
    assert_eq!(each, [Met, Inconclusive, NotMet]);
    assert_eq!(all.reason, None);
}

#[test]
fn runs_that_may_not_be_judged_are_not() {
    let run = Run::constant(400, 900 * MS);
    let refused = run.judge_if(&["p95<=800ms"], Err("the run is INVALID".to_owned()));
    assert_eq!(refused.verdict, NotEvaluated);
    assert_eq!(refused.reason.as_deref(), Some("the run is INVALID"));
    assert_eq!(refused.rules[0].verdict, NotEvaluated);
    assert_eq!(refused.rules[0].measured, None);
    let none = run.judge(&[]);
    assert_eq!((none.verdict, none.rules.len()), (NotEvaluated, 0));
    assert!(none.reason.is_some());
}

#[test]
fn reports_keep_their_form() {
    let mut run = Run::constant(400, 382_800_000);
    run.throughput.window = Nanos(51_040_000_000);
    let report = run.judge(&["p95<=800ms", "errors<1%", "timeouts<=0", "throughput>=500/s"]);
    let json = serde_json::to_string_pretty(&report).expect("json");
    let expected = r#"{
  "verdict": "not_met",
  "rules": [
    {
      "rule": "p95<=800ms",
      "metric": "p95",
      "measured": 382.8,
      "limit": 800.0,
      "unit": "ms",
      "verdict": "met",
      "reason": "p95 is 382.8ms [382.8ms, 382.8ms]"
    },"#;
    assert!(json.starts_with(expected), "{json}");
    let back: SlaReport = serde_json::from_str(&json).expect("what was written");
    assert_eq!(back, report);

    let reasons: Vec<_> = report.rules.iter().map(|rule| rule.reason.as_str()).collect();
    let expected = [
        "p95 is 382.8ms [382.8ms, 382.8ms]",
        "errors are 0 of 400 requests, 0.000 % to 0.918 %",
        "timeouts are 0 of 400 requests",
        "throughput is 400 requests in 51.04s, not >=500/s",
    ];
    assert_eq!(reasons, expected);
    let units: Vec<_> = report.rules.iter().map(|rule| rule.unit.as_str()).collect();
    assert_eq!(units, ["ms", "%", "requests", "/s"]);
    for (verdict, name) in
        [(Met, "met"), (NotMet, "not_met"), (Inconclusive, "inconclusive"), (NotEvaluated, "not_evaluated")]
    {
        let json = serde_json::to_string(&verdict).expect("json");
        assert_eq!(json, format!("\"{name}\""));
    }
}
