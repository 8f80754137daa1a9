//! Judging a saved report: at, below and above the limit, and what is never judged.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Scratch, Scripted, ok, patched};

/// A scratch folder with a VALID `saved.json` of 400 requests, and the report.
fn saved() -> (Scratch, Value) {
    let scratch = Scratch::new("gate");
    let server = Scripted::answering(|heard| {
        std::thread::sleep(Duration::from_micros(heard.id().parse::<u64>().unwrap() % 40 * 50));
        ok("x")
    });
    scratch.hairspring(&format!("run {} -n 400 -c 4 --wait park", server.url("/"))).run().expect(0);
    let calm = scratch.json("results/report.json")["histograms"]["response_ok"].clone();
    let changes = [("/validity/verdict", json!("valid")), ("/histograms/undisturbed", calm)];
    patched(&scratch, "results/report.json", "saved.json", &changes);
    let report = scratch.json("saved.json");
    (scratch, report)
}

/// Milliseconds with six decimals: nanoseconds, exactly.
fn ms(ns: u64) -> String {
    format!("{}.{:06}ms", ns / 1_000_000, ns % 1_000_000)
}

#[test]
fn at_below_and_above_the_limit() {
    let (scratch, report) = saved();
    let gate = |rule: &str, code: i32| {
        let finished = scratch.hairspring("gate saved.json").args_pair("--sla", rule).run().expect(code);
        let verdict = ["MET", "", "NOT MET", "", "INCONCLUSIVE"][code as usize];
        assert!(
            finished.stdout.contains(&format!("SLA of target (400 requests): {verdict}\n")),
            "{rule}: {finished}"
        );
        assert!(finished.stderr.is_empty(), "{finished}");
    };
    // max is this run's own, and so is decided at the nanosecond
    let max = report["response_ns"]["max"].as_u64().unwrap();
    for (op, limit, code) in
        [("<=", max, 0), ("<", max, 2), (">=", max, 0), (">", max - 1, 0), ("<", max + 1, 0)]
    {
        gate(&format!("max{op}{}", ms(limit)), code);
    }
    // a percentile by the ends of its interval, as the report has them
    for (metric, name) in [("p50", "p50"), ("p90", "p90"), ("p95", "p95")] {
        let interval = &report["response_intervals"][name];
        let (low, high) = (interval["low"].as_u64().unwrap(), interval["high"].as_u64().unwrap());
        let p = report["response_ns"][name].as_u64().unwrap();
        assert!(low < high && low <= p && p <= high, "{metric}: {interval}");
        for (op, limit, code) in [
            ("<=", high, 0),
            ("<", high, 4),
            ("<=", p, 4),
            ("<=", low, 4),
            ("<", low, 2),
            (">=", low, 0),
            (">=", high, 4),
            (">", high, 2),
        ] {
            gate(&format!("{metric}{op}{}", ms(limit)), code);
        }
    }
    gate("mean<=30s", 0);
    gate("mean<1us", 2);
    gate(&format!("mean<={}", ms(report["response_ns"]["mean"].as_u64().unwrap())), 4);
    for (rule, code) in [
        ("errors<=0%", 0),
        ("errors<1%", 0),
        ("errors<0.0001%", 4),
        ("errors>0%", 2),
        ("timeouts<=0", 0),
        ("timeouts>0", 2),
        ("throughput>0/s", 0),
        ("throughput<0.001/s", 2),
    ] {
        gate(rule, code);
    }
}

#[test]
fn one_of_several_rules_is_enough_to_fail() {
    let (scratch, _) = saved();
    for (rules, code) in [
        (["p90<=30s", "errors<1%", "p50<=30s"], 0),
        (["p95<=30s", "errors<1%", "p50<=1ns"], 2),
        (["p95<=30s", "p99.99<=30s", "p50<=30s"], 4),
        (["p95<=1ns", "p99.99<=30s", "p50<=30s"], 2),
    ] {
        let command = scratch.hairspring("gate saved.json");
        rules.iter().fold(command, |c, rule| c.args_pair("--sla", rule)).run().expect(code);
    }
}

#[test]
fn too_few_requests_are_inconclusive_not_met() {
    let (scratch, _) = saved();
    // 400 requests, however independent: p99 needs 368 for an upper bound, p99.5 needs 736; and however dependent: on a busy
    // machine they are worth few, but enough for the median
    for (rule, code) in [
        ("p50<=30s", 0),
        ("p99.5<=30s", 4),
        ("p99.9<=30s", 4),
        ("p99.999<=30s", 4),
        ("p99.9<=1ns", 2),
        ("p50>=1ns", 0),
        ("p0.1>=1ns", 4),
    ] {
        let finished = scratch.hairspring("gate saved.json").args_pair("--sla", rule).run().expect(code);
        let explained = finished.stdout.contains("too few");
        assert_eq!(explained, code == 4, "{rule}: {finished}");
    }
}

/// The run was judged by p50, p95 and p99; a percentile that is asked for later is judged then.
#[test]
fn a_percentile_that_the_client_moved_is_not_judged_later_either() {
    let (scratch, report) = saved();
    // as if all but the send lag of each answer had been the client's doing
    let moved = [("/histograms/undisturbed", report["histograms"]["send_lag"].clone())];
    patched(&scratch, "saved.json", "moved.json", &moved);
    for (rule, code) in [("p95<=30s", 0), ("p98<=30s", 3), ("p98<=1ns", 3), ("errors<1%", 0)] {
        let finished = scratch.hairspring("gate moved.json").args_pair("--sla", rule).run().expect(code);
        assert_eq!(finished.stdout.contains("INVALID (disturbance-p98)"), code == 3, "{finished}");
    }
}

#[test]
fn a_pipeline_decides_what_inconclusive_means() {
    let (scratch, _) = saved();
    for (flags, code) in [("", 4), ("--on-inconclusive fail", 2), ("--on-inconclusive pass", 0)] {
        let finished =
            scratch.hairspring(&format!("gate saved.json --sla p99.9<=30s {flags}")).run().expect(code);
        assert!(finished.stdout.contains("INCONCLUSIVE"), "{finished}");
        // what is decided is not touched by it
        scratch.hairspring(&format!("gate saved.json --sla p99.9<=1ns {flags}")).run().expect(2);
    }
    scratch.hairspring("gate saved.json --sla p50<=1s --on-inconclusive maybe").run().expect(64);
}

#[test]
fn a_regression_is_judged_against_an_earlier_report() {
    let (scratch, _) = saved();
    let gate = |rule: &str, file: &str, code: i32| {
        let command = scratch.hairspring(&format!("gate saved.json --against {file}"));
        command.args_pair("--sla-against", rule).run().expect(code)
    };
    let same = gate("p50<=+1000%", "saved.json", 0);
    assert!(same.stdout.contains("p50<=+1000%: MET") && same.stdout.contains("+0.0 % [-"), "{same}");
    gate("p50<=-99%", "saved.json", 2);
    gate("p50<=+0%", "saved.json", 4);
    gate("mean<=+0%", "saved.json", 4);
    gate("p99.9<=+10000%", "saved.json", 4); // neither side has an upper bound
    patched(&scratch, "saved.json", "invalid.json", &[("/validity/verdict", json!("invalid"))]);
    let refused = gate("p50<=+1000%", "invalid.json", 3);
    assert!(refused.stdout.contains("the baseline: the run is INVALID"), "{refused}");
    gate("p50<=+5%", "nothing.json", 1);
    gate("p50<=5%", "saved.json", 64);
    scratch.hairspring("gate saved.json --sla-against p50<=+5%").run().expect(64);
    scratch.hairspring("gate saved.json --against saved.json").run().expect(64);
    scratch.hairspring("gate saved.json").run().expect(64);
}

#[test]
fn what_was_measured_badly_is_not_judged() {
    let (scratch, _) = saved();
    let judge = |changes: &[(&str, Value)], flags: &str, code: i32| {
        let file = patched(&scratch, "saved.json", "changed.json", changes);
        let command = scratch.hairspring(&format!("gate {file} {flags}"));
        command.args_pair("--sla", "p50<=30s").run().expect(code)
    };
    judge(&[], "", 0);
    judge(&[], "--strict", 0);
    let invalid = judge(&[("/validity/verdict", json!("invalid"))], "", 3);
    assert!(invalid.stdout.contains("INVALID") && !invalid.stdout.contains("): MET"), "{invalid}");
    let partial = judge(&[("/partial", json!(true))], "", 3);
    assert!(partial.stdout.contains("partial") && !partial.stdout.contains("): MET"), "{partial}");
    judge(&[("/validity/verdict", json!("suspect"))], "", 0);
    judge(&[("/validity/verdict", json!("suspect"))], "--strict", 3);
    // a damaged report proves nothing
    for changes in [
        [("/totals/scheduled", json!(401))],
        [("/totals/successful", json!(399))],
        [("/totals/completed", json!(-1))],
        [("/histograms/response_ok/data", json!("AAAA"))],
        [("/histograms/response_ok/count", json!(399))],
        [("/batches/0/0/requests", json!(19))],
        [("/batches/0/0/counts", json!("AAAA"))],
        [("/histograms/response_ok/encoding", json!("hdr-v3"))],
        [("/schema", json!("hairspring.report/2"))],
        [("/schema", json!(null))],
        [("/validity/verdict", json!("splendid"))],
        [("/outcomes", json!("many"))],
    ] {
        let finished = judge(&changes, "", 1);
        assert!(
            finished.stderr.contains("cannot judge changed.json") && finished.stdout.is_empty(),
            "{finished}"
        );
    }
    let whole = std::fs::read(scratch.path("saved.json")).unwrap();
    for (name, bytes) in [
        ("cut.json", &whole[..whole.len() / 2]),
        ("empty.json", &b""[..]),
        ("text.json", &b"results"[..]),
        ("list.json", &b"[]"[..]),
    ] {
        scratch.write(name, bytes);
        let finished = scratch.hairspring(&format!("gate {name} --sla p50<=30s")).run().expect(1);
        assert!(finished.stderr.contains(name), "{finished}");
    }
    scratch.hairspring("gate plan.json --sla p50<=30s").run().expect(1);
}

#[test]
fn outcomes_that_were_edited_are_noticed() {
    let (scratch, _) = saved();
    // the outcomes must add up to the totals, or the timeouts rule could be fooled
    let changes = [("/outcomes", json!({"200": 300, "timeout": 100}))];
    let file = patched(&scratch, "saved.json", "changed.json", &changes);
    scratch.hairspring(&format!("gate {file} --sla timeouts<=0")).run().expect(1);
}

#[test]
fn of_a_comparison_the_optimized_side_is_judged() {
    let scratch = Scratch::new("gate-comparison");
    let slow = Scripted::answering(|_| {
        std::thread::sleep(Duration::from_millis(12));
        ok("x")
    });
    let quick = Scripted::answering(|_| {
        std::thread::sleep(Duration::from_millis(2));
        ok("x")
    });
    scratch
        .hairspring("compare -n 80 -c 4 --rounds 1 --wait park")
        .args_pair("--baseline-url", &slow.url("/"))
        .args_pair("--optimized-url", &quick.url("/"))
        .run();
    let valid = ["/validity", "/baseline/validity/verdict", "/optimized/validity/verdict"];
    let valid = valid.map(|pointer| (pointer, json!("valid")));
    patched(&scratch, "results/comparison.json", "saved.json", &valid);
    let p50 = scratch.json("saved.json")["optimized"]["response_intervals"]["p50"].clone();
    let rule = |end: &str, more: u64| format!("p50<={}", ms(p50[end].as_u64().unwrap() - more));
    scratch.hairspring("gate saved.json --sla").arg(rule("high", 0)).run().expect(0);
    scratch.hairspring("gate saved.json --sla").arg(rule("low", 1)).run().expect(2);
    // an invalid baseline makes the comparison invalid, though the optimized side alone is not
    let worse = [("/validity", json!("invalid")), ("/baseline/validity/verdict", json!("invalid"))];
    patched(&scratch, "saved.json", "invalid.json", &worse);
    let finished = scratch.hairspring("gate invalid.json --sla p50<=30s").run().expect(3);
    assert!(!finished.stdout.contains("): MET"), "exit code 3 beside a verdict of MET: {finished}");
    patched(&scratch, "saved.json", "partial.json", &[("/partial", json!(true))]);
    scratch.hairspring("gate partial.json --sla p50<=30s").run().expect(3);
}
