//! Each scenario in a fraction of its time, on the stub: it runs, its plan is its preset's, and its questions are answered. Times
//! are asserted only where the stub cannot be faster.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Scratch, Scripted, Stub, answer, check_report, ok};

/// Runs a preset with these flags; the report.
fn trial(scratch: &Scratch, flags: &str) -> Value {
    trial_with(scratch, flags, "")
}

/// The same with further flags of the stub.
fn trial_with(scratch: &Scratch, flags: &str, of_stub: &str) -> Value {
    let mut command = scratch.hairspring(&format!("run --wait park --preset {flags}"));
    if !of_stub.is_empty() {
        command = command.args_pair("--stub-flags", of_stub);
    }
    let finished = command.deadline(Duration::from_secs(60)).run().expect(0);
    let report = scratch.json("results/report.json");
    check_report(&report, &scratch.path("results/requests.csv"));
    let name = flags.split(' ').next().unwrap();
    assert_eq!(report["scenario"]["preset"], name);
    assert_eq!(report["plan"]["scenario"]["preset"], name);
    assert!(finished.stdout.contains(&format!("\nscenario {name}\n")), "{finished}");
    assert!(finished.stdout.contains("a trial: "), "{finished}");
    report
}

/// The outcome and the figure of a check.
fn check<'a>(report: &'a Value, name: &str) -> (&'a str, Option<f64>) {
    let checks = report["scenario"]["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["check"] == name);
    let check = check.unwrap_or_else(|| panic!("no check {name} in {checks:?}"));
    (check["outcome"].as_str().unwrap(), check["figure"].as_f64())
}

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

#[test]
fn a_cold_start_is_slow_to_be_ready_and_slow_at_first() {
    let scratch = Scratch::new("preset-cold");
    let report = trial(&scratch, "cold-start --time-scale 0.2 --rounds 6");
    let first = &report["scenario"]["first_against_later"];
    assert!(numbers(&first["startup_ns"]).iter().all(|ns| *ns >= 300e6), "{first}");
    let (firsts, laters) = (numbers(&first["first_ns"]), numbers(&first["later_ns"]));
    assert_eq!((firsts.len(), laters.len()), (6, 6));
    // 150 ms, and twice about 20 ms
    assert!(firsts.iter().all(|ns| *ns >= 170e6), "{first}");
    assert_eq!(report["rounds"][5]["startup_ns"], first["startup_ns"][5]);
    assert!(first["effect"]["interval"].is_array() && first["curve_ns"].as_array().unwrap().len() == 12);
    let (outcome, figure) = check(&report, "first-request");
    assert!(outcome == "fail" && figure.unwrap() > 10.0, "{outcome} {figure:?}: {first}");
}

#[test]
fn the_first_of_a_session_has_no_cached_prefix() {
    let scratch = Scratch::new("preset-sequential");
    let report = trial(&scratch, "sequential --time-scale 0.3 --rounds 6 --service fixed:60ms");
    let first = &report["scenario"]["first_against_later"];
    assert!(numbers(&first["first_ns"]).iter().all(|ns| *ns >= 60e6), "{first}");
    // 30 % of 60 ms; not all of six medians can be held up by the machine
    let least = numbers(&first["later_ns"]).into_iter().fold(f64::INFINITY, f64::min);
    assert!((18e6..60e6).contains(&least), "{first}");
    assert_eq!(report["plan"]["target"]["server"]["extra"], json!(["--prefix-cache", "0.7"]));
}

#[test]
fn health_asks_for_the_three_paths() {
    for (preset, connections) in [("health", 1), ("health-concurrent", 100)] {
        let scratch = Scratch::new(preset);
        let report = trial(&scratch, &format!("{preset} --time-scale 0.1"));
        assert_eq!(report["plan"]["connections"], connections);
        for path in ["/health/startup", "/health/live", "/health/ready"] {
            assert_eq!(check(&report, &format!("{path} answers")), ("pass", Some(0.0)));
            assert!(check(&report, &format!("{path} in time")).1.unwrap() > 0.0);
        }
    }
}

#[test]
fn a_path_that_does_not_answer_is_named() {
    let scratch = Scratch::new("preset-unhealthy");
    let server = Scripted::answering(|heard| {
        if heard.head.starts_with("GET /health/ready ") { answer(503, "no") } else { ok("yes") }
    });
    let report = trial(&scratch, &format!("health --time-scale 0.1 {}", server.url("/")));
    assert_eq!(check(&report, "/health/ready answers"), ("fail", Some(100.0)));
    assert_eq!(check(&report, "/health/ready in time").0, "not_evaluable");
    assert_eq!(check(&report, "/health/live answers"), ("pass", Some(0.0)));
}

#[test]
fn steady_loads_have_their_users() {
    for (preset, users) in [("basic", 10), ("stress", 50)] {
        let scratch = Scratch::new(preset);
        let report = trial(&scratch, &format!("{preset} --time-scale 0.004"));
        assert_eq!(report["plan"]["connections"], users);
        let time = report["plan"]["measure"]["time_ns"].as_u64().unwrap();
        assert_eq!(time, if preset == "basic" { 240_000_000 } else { 1_200_000_000 });
        assert!(report["scenario"]["notes"][0].as_str().is_some());
    }
}

#[test]
fn a_spike_has_a_before_a_during_and_an_after() {
    let scratch = Scratch::new("preset-spike");
    let report = trial(&scratch, "spike --time-scale 0.03");
    let stages = report["scenario"]["stages"].as_array().unwrap();
    let users: Vec<_> = stages.iter().map(|stage| stage["users_from"].as_u64().unwrap()).collect();
    assert_eq!(users, [10, 100, 10]);
    assert_eq!(stages[2]["to_ns"], 5_100_000_000u64);
    assert_eq!(report["plan"]["interval_ns"], 100_000_000);
    assert!(stages[1]["successful"].as_u64().unwrap() > 0);
    check(&report, "recovers");
    assert_eq!(check(&report, "recovers-from-errors").0, "pass", "nobody is refused");
}

#[test]
fn endurance_sees_a_leak() {
    let scratch = Scratch::new("preset-endurance");
    // 8 workers of 200 ms leave 64 KiB and a descriptor 40 times a second to a server of some 10 MiB and 40 descriptors
    let report = trial_with(
        &scratch,
        "endurance --time-scale 0.0025 --service fixed:200ms",
        "--leak-bytes 65536 --leak-fds 1",
    );
    let trends = report["scenario"]["trends"].as_array().unwrap();
    let figures: Vec<_> = trends.iter().map(|trend| trend["figure"].as_str().unwrap()).collect();
    assert_eq!(figures, ["p50", "p99", "throughput", "memory", "descriptors"]);
    for (at, name) in [(3, "memory-growth"), (4, "descriptor-growth")] {
        let (outcome, figure) = check(&report, name);
        assert!(outcome == "fail" && figure.unwrap() > 5.0, "{outcome} {figure:?}: {}", trends[at]);
        assert!(trends[at]["interval"][0].as_f64().unwrap() > 0.0, "{}", trends[at]);
    }
    for name in ["latency-drift", "tail-drift", "throughput-drift"] {
        assert_ne!(check(&report, name).0, "not_evaluable", "{trends:?}");
    }
}

#[test]
fn exhaustion_tells_what_was_refused_and_what_the_pool_can_do() {
    let scratch = Scratch::new("preset-exhaustion");
    let report = trial(&scratch, "exhaustion --time-scale 0.1");
    let capacity = &report["scenario"]["capacity"];
    let refused = capacity["refused"].as_u64().unwrap();
    let by_status = |status: &str| report["outcomes"][status].as_u64().unwrap_or(0);
    assert_eq!(refused, by_status("503") + by_status("429"));
    assert!(refused > 0, "{}", report["outcomes"]);
    // 4 workers of about 50 ms and not less than 40 in the mean
    let of_pool = capacity["of_pool_per_s"].as_f64().unwrap();
    assert!(of_pool > 0.0 && of_pool < 100.0, "{capacity}");
    assert_eq!(check(&report, "survives"), ("pass", Some(0.0)));
    for name in ["sheds-fast", "sheds-in-time", "keeps-serving", "recovers", "recovers-from-errors"] {
        check(&report, name);
    }
}

#[test]
fn scaling_fits_the_law_to_its_stages() {
    let scratch = Scratch::new("preset-scaling");
    let report = trial(&scratch, "scaling --time-scale 0.05 --rounds 2");
    let scaling = &report["scenario"]["scaling"];
    let users: Vec<u64> =
        scaling["points"].as_array().unwrap().iter().map(|p| p["users"].as_u64().unwrap()).collect();
    assert_eq!(users, [[1, 2, 4, 8, 16, 32, 64]; 2].concat(), "{scaling}");
    assert!(scaling["contention"]["value"].as_f64().unwrap() >= 0.0, "{scaling}");
    assert!(scaling["contention"]["interval"].is_array(), "{scaling}");
    check(&report, "scalability-law");
}

#[test]
fn a_flag_wins_over_its_preset() {
    let scratch = Scratch::new("preset-flags");
    let flags = "exhaustion --time-scale 0.5 -d 300ms -c 3 --queue-limit 5 --think 7ms --workers 2";
    let report = trial(&scratch, flags);
    let plan = &report["plan"];
    assert_eq!(plan["load"], json!({"model": "closed", "think_ns": 7_000_000}));
    assert_eq!(plan["measure"], json!({"count": null, "time_ns": 300_000_000}));
    assert_eq!((&plan["connections"], &plan["target"]["server"]["workers"]), (&json!(3), &json!(2)));
    let extra = &plan["target"]["server"]["extra"];
    assert_eq!(extra, &json!(["--rate-limit", "400/s", "--queue-limit", "5"]));
    assert_eq!(check(&report, "recovers").0, "not_evaluable", "there are no stages to compare");
}

#[test]
fn a_server_that_runs_already_is_said_to() {
    let scratch = Scratch::new("preset-url");
    let stub = Stub::start(&scratch, "--model pool --service fixed:1ms");
    let url = stub.url();
    let report = trial(&scratch, &format!("cold-start --time-scale 0.2 --rounds 6 -X POST {url}"));
    let notes = report["scenario"]["notes"].to_string();
    assert!(notes.contains("ran already"), "{notes}");
    assert_eq!(
        report["scenario"]["first_against_later"]["startup_ns"],
        json!([null, null, null, null, null, null])
    );
    assert_eq!(report["plan"]["target"]["server"], json!({"kind": "external"}));
}

#[test]
fn presets_are_listed_with_their_plans() {
    let scratch = Scratch::new("preset-list");
    let list = scratch.hairspring("presets").run().expect(0).stdout;
    for name in
        ["founding", "cold-start", "sequential", "health", "health-concurrent", "basic", "stress", "spike"]
    {
        assert!(list.lines().any(|line| line == name), "{name}: {list}");
    }
    let plan = scratch.hairspring("presets endurance").run().expect(0).stdout;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(
        (&plan["measure"]["time_ns"], &plan["connections"]),
        (&json!(1_800_000_000_000u64), &json!(20))
    );
}
