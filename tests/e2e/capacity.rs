//! The search for capacity on the real stub: against theory, at the client's limit, at the end of its budget or patience.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use hairspring::analyze::queueing::Deterministic;

use crate::support::{Finished, Scratch, eventually, free_port, skipped};

/// Runs a search with these flags; `capacity.json` and what it printed. None where the machine was so disturbed that the
/// instrument convicted itself: then it is consistent about that, and says nothing else.
fn searched(scratch: &Scratch, flags: &str) -> Option<(Value, Finished)> {
    let finished =
        scratch.hairspring(&format!("capacity --wait park {flags}")).deadline(Duration::from_secs(60)).run();
    let capacity = scratch.json("results/capacity.json");
    assert_eq!(capacity["schema"], "hairspring.capacity/1");
    assert_eq!(capacity["partial"], false, "{finished}");
    consistent(&capacity);
    let invalid = capacity["probes"].as_array().unwrap().iter().any(|p| p["validity"] == "invalid");
    if capacity["stopped_by"] == "client" {
        client_limited(&capacity, &finished);
    }
    // probes that had to be repeated used up the budget
    let starved = capacity["stopped_by"] == "budget" && invalid;
    if capacity["stopped_by"] == "client" || starved {
        skipped("the machine was too disturbed for a search for capacity");
        return None;
    }
    Some((capacity, finished))
}

fn client_limited(capacity: &Value, finished: &Finished) {
    assert_eq!(finished.code(), 3, "{finished}");
    assert_eq!(capacity["capacity_per_s"], Value::Null, "{finished}");
    assert!(finished.stdout.contains("CLIENT is the limit"), "{finished}");
    let probes = capacity["probes"].as_array().unwrap();
    let last = &probes[probes.len() - 5..];
    assert!(last.iter().all(|p| p["validity"] == "invalid" && p["verdict"] == "not_evaluated"), "{finished}");
    assert!(last.iter().all(|p| p["rate_per_s"] == last[0]["rate_per_s"]), "{finished}");
}

/// What holds for every search.
fn consistent(capacity: &Value) {
    let probes = capacity["probes"].as_array().unwrap();
    let curve = capacity["curve"].as_array().unwrap();
    let rate = |row: &Value| row["rate_per_s"].as_f64().unwrap();
    assert!(curve.windows(2).all(|pair| rate(&pair[0]) <= rate(&pair[1])));
    for point in curve {
        let here = |p: &&Value| p["rate_per_s"] == point["rate_per_s"] && p["purpose"] == point["purpose"];
        let valid: Vec<&Value> =
            probes.iter().filter(here).filter(|p| p["verdict"] != "not_evaluated").collect();
        let requests: u64 = valid.iter().map(|p| p["requests"].as_u64().unwrap()).sum();
        assert_eq!(point["requests"], requests, "{point}");
        assert_eq!(valid.last().unwrap()["judged_requests"], requests);
        assert_eq!(point["response_ns"]["count"], requests);
    }
    for probe in probes.iter().filter(|p| p["validity"] == "invalid") {
        assert_eq!(probe["verdict"], "not_evaluated", "{probe}");
    }
    let mut seeds: Vec<u64> = probes
        .iter()
        .filter(|p| p["verdict"] != "not_evaluated")
        .map(|p| p["seed"].as_u64().unwrap())
        .collect();
    seeds.sort_unstable();
    assert!(seeds.windows(2).all(|pair| pair[0] != pair[1]), "two probes had the same arrivals");
}

/// M/D/1 with D = 2 ms: the highest rate with a p95 of at most 10 ms, by theory.
fn truth() -> f64 {
    let p95 = |rho: f64| 2.0 * Deterministic::new(1, rho, 1.0).unwrap().response_quantile(0.05);
    let (mut below, mut over) = (0.1, 0.99);
    for _ in 0..40 {
        let middle = f64::midpoint(below, over);
        if p95(middle) > 10.0 { over = middle } else { below = middle }
    }
    500.0 * below
}

#[test]
fn a_single_threaded_server_has_the_capacity_that_theory_gives() {
    assert!((340.0..355.0).contains(&truth()), "{}", truth());
    let scratch = Scratch::new("capacity");
    let flags =
        "--stub single --service fixed:2ms --sla p95<=10ms --budget 10s --precision 25% --start 200/s";
    let Some((capacity, finished)) = searched(&scratch, flags) else { return };
    assert!([0, 4].contains(&finished.code()), "{finished}");
    // wide: the budget allows few requests a look, and the machine is shared
    let (low, high) =
        (capacity["interval"]["low_per_s"].as_f64(), capacity["interval"]["high_per_s"].as_f64());
    assert!(low.is_some_and(|low| (0.5 * truth()..=1.1 * truth()).contains(&low)), "{finished}");
    assert!(high.is_none_or(|high| (0.75 * truth()..=2.5 * truth()).contains(&high)), "{finished}");
    if finished.code() == 0 {
        assert_eq!(capacity["stopped_by"], "server", "{finished}");
        assert_eq!(capacity["capacity_per_s"].as_f64(), low, "{finished}");
        assert!(high.unwrap() / low.unwrap() <= 1.26 * 1.26, "{finished}");
        let last = capacity["probes"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&last["purpose"], &last["verdict"]), (&json!("confirm"), &json!("met")), "{finished}");
    }
}

#[test]
fn where_the_client_is_the_limit_there_is_no_capacity() {
    // A fast server, a limit that only we can break, and a rate that no client reaches.
    let scratch = Scratch::new("capacity-client");
    let flags = "capacity --wait park --stub per-core --workers 1 --service fixed:0ms --sla p50<=1s --start 4000000/s --budget 60s";
    let finished = scratch.hairspring(flags).deadline(Duration::from_secs(120)).run().expect(3);
    let capacity = scratch.json("results/capacity.json");
    consistent(&capacity);
    assert_eq!(capacity["stopped_by"], "client", "{finished}");
    client_limited(&capacity, &finished);
}

#[test]
fn a_budget_that_ends_too_early_leaves_it_open() {
    let scratch = Scratch::new("capacity-budget");
    let flags = "--stub single --service fixed:2ms --sla p95<=10ms --budget 2s --start 100/s";
    let Some((capacity, finished)) = searched(&scratch, flags) else { return };
    assert_eq!(finished.code(), 4, "{finished}");
    assert_eq!((&capacity["stopped_by"], &capacity["capacity_per_s"]), (&json!("budget"), &Value::Null));
}

#[test]
fn a_server_that_is_too_slow_at_any_rate_does_not_meet_the_sla() {
    let scratch = Scratch::new("capacity-none");
    let flags = "--stub threads --service fixed:5ms --sla p50<=2ms --budget 20s --start 400/s";
    let Some((capacity, finished)) = searched(&scratch, flags) else { return };
    assert_eq!(finished.code(), 2, "{finished}");
    assert_eq!(capacity["interval"], json!({"low_per_s": null, "high_per_s": 12.5}), "{finished}");
    assert_eq!(capacity["stopped_by"], "server", "{finished}");
}

#[test]
fn a_server_that_refuses_is_stopped_by_errors_and_swept_up_and_down() {
    let scratch = Scratch::new("capacity-errors");
    // 300 requests a second are let in; each is quick
    let flags = "--stub threads --service fixed:1ms --rate-limit 300 --sla p90<=500ms --budget 12s --precision 25% --start 100/s --arrivals constant --sweep";
    let Some((capacity, finished)) = searched(&scratch, flags) else { return };
    assert_eq!(finished.code(), 0, "{finished}");
    assert_eq!(capacity["stopped_by"], "errors", "{finished}");
    let found = capacity["capacity_per_s"].as_f64().unwrap();
    assert!((200.0..=420.0).contains(&found), "{finished}");
    let sweep = &capacity["sweep"];
    let steps = sweep["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 7, "{finished}");
    assert!(sweep["hysteresis"].is_boolean() && finished.stdout.contains("hysteresis: "), "{finished}");
    let ways: Vec<&str> = capacity["probes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|p| p["purpose"].as_str().filter(|way| ["up", "down"].contains(way)))
        .collect();
    assert_eq!(ways, [["up"; 7], ["down"; 7]].concat());
    assert!(capacity["knee"]["rate_per_s"].is_number(), "{finished}");
}

#[test]
fn what_was_measured_before_an_interrupt_is_reported() {
    let scratch = Scratch::new("capacity-interrupt");
    let flags =
        "capacity --wait park --stub single --service fixed:2ms --sla p95<=10ms --start 100/s --budget 60s";
    let running = scratch.hairspring(flags).deadline(Duration::from_secs(60)).start();
    assert!(eventually(Duration::from_secs(20), || scratch.path("results/target.server.txt").is_file()));
    std::thread::sleep(Duration::from_secs(3));
    running.signal(Signal::INT);
    let finished = running.wait().expect(130);
    let capacity = scratch.json("results/capacity.json");
    consistent(&capacity);
    assert_eq!(capacity["partial"], true, "{finished}");
    assert_eq!((&capacity["capacity_per_s"], &capacity["stopped_by"]), (&Value::Null, &json!("interrupt")));
    assert!(!capacity["probes"].as_array().unwrap().is_empty(), "{finished}");
}

#[test]
fn nobody_there_is_a_failure_of_the_environment() {
    let scratch = Scratch::new("capacity-nobody");
    let flags = format!("capacity http://127.0.0.1:{}/ --sla p95<=10ms --start 1000/s", free_port());
    let finished = scratch.hairspring(&flags).run().expect(1);
    assert!(finished.stderr.contains("is the server there?"), "{finished}");
    assert_eq!(scratch.json("results/capacity.json")["partial"], true);
}
