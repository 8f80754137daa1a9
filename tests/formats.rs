//! The files: their fields, and every number recomputed from the CSV by a second implementation.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::{Heard, Row, Rows, Scratch, Scripted, answer, check_report, ok};

mod gate;
mod handouts;
mod recompute;
mod theory;

use recompute::recompute;

/// A server that answers like [`mixed`], in two pieces, so that the first byte is not the last.
fn in_pieces() -> Scripted {
    Scripted::new(|mut peer| {
        while let Some(heard) = peer.request() {
            let bytes = mixed(&heard);
            peer.send(&bytes[..20]);
            if heard.id().ends_with('1') {
                std::thread::sleep(Duration::from_millis(2));
            }
            peer.send(&bytes[20..]);
            if heard.field("Connection") == Some("close") {
                return;
            }
        }
    })
}

/// An answer in one of six ways by the id's last digit: most succeed, with the server's account of their time.
fn mixed(heard: &Heard) -> Vec<u8> {
    let id: u64 = heard.id().trim_start_matches('w').parse().unwrap();
    std::thread::sleep(Duration::from_micros(id % 7 * 300));
    match id % 10 {
        3 => answer(503, "busy"),
        6 => answer(404, "nothing here"),
        8 => b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-Request-Id: other\r\n\r\nx".to_vec(),
        n => {
            let timing = format!("Server-Timing: queue;dur=0.00{n}, service;dur=0.{:03}\r\n", id % 500);
            format!("HTTP/1.1 200 OK\r\n{timing}Content-Length: 2\r\n\r\nok").into_bytes()
        }
    }
}

#[test]
fn a_report_is_what_its_log_says() {
    for load in ["", "--rate 1500/s", "--keepalive 3 --think 100us"] {
        let scratch = Scratch::new("recompute");
        let server = in_pieces();
        let flags = format!("run {} -n 600 -c 6 --warmup 20 --wait park {load}", server.url("/"));
        scratch.hairspring(&flags).run().expect(0);
        let report = scratch.json("results/report.json");
        let rows = check_report(&report, &scratch.path("results/requests.csv"));
        rows.expect_ids(600);
        assert_eq!(report["outcomes"], json!({"200": 420, "404": 60, "503": 60, "mismatch": 60}));
        recompute(&report, &rows);
    }
}

#[test]
fn a_run_that_ends_by_time_is_what_its_log_says() {
    let scratch = Scratch::new("by-time");
    // two connections cannot take the rate: arrivals queue, and some are never drawn
    let server = Scripted::answering(|_| {
        std::thread::sleep(Duration::from_millis(10));
        ok("x")
    });
    let flags = format!("run {} -d 400ms --rate 1000/s -c 2 --drain 100ms --wait park", server.url("/"));
    scratch.hairspring(&flags).run().expect(0);
    let report = scratch.json("results/report.json");
    let rows = check_report(&report, &scratch.path("results/requests.csv"));
    assert_eq!(report["totals"]["scheduled"], 400, "the plan decides, not the server");
    let unsent = report["totals"]["unsent"].as_u64().unwrap();
    assert!(unsent > 200, "two connections of 10 ms each took 1000/s: {}", report["totals"]);
    assert_eq!(report["response_ns"]["p95"], Value::Null, "unsent requests rank last");
    recompute(&report, &rows);
    let finding = |rule: &str| {
        let findings = report["validity"]["findings"].as_array().unwrap();
        findings.iter().find(|f| f["rule"] == rule).map(|f| f["level"].clone())
    };
    assert_eq!(finding("not-offered"), Some(json!("suspect")));
    assert_eq!(finding("pool-bound"), Some(json!("suspect")));
}

#[test]
fn a_comparison_is_what_its_logs_say() {
    let scratch = Scratch::new("comparison");
    let finished = scratch
        .hairspring("compare --service exp:2ms --workers 3 -n 60 -c 4 --rounds 3 --warmup 5 --wait park")
        .run();
    let comparison = scratch.json("results/comparison.json");
    assert!([0, 3].contains(&finished.code()), "{finished}");
    let mut per_round = Vec::new();
    for side in ["baseline", "optimized"] {
        let rows = check_report(&comparison[side], &scratch.path(&format!("results/{side}.csv")));
        recompute(&comparison[side], &rows);
        per_round.push(recompute::rounds(&comparison[side], &rows));
    }
    recompute::improvement(&comparison, &per_round[0], &per_round[1]);
    // the work of a request depends on its id and the round alone: both sides had the same to do
    let work = |side: &str| {
        let rows = Rows::read(&scratch.path(&format!("results/{side}.csv")));
        let mut work: Vec<(String, u64, u64)> = rows
            .rows
            .iter()
            .map(|row| (row.text("round").to_owned(), row.ns("request_id"), row.ns("server_service_ns")))
            .collect();
        work.sort();
        work
    };
    let (baseline, optimized) = (work("baseline"), work("optimized"));
    let of_round = |work: &[(String, u64, u64)], round: &str| -> Vec<u64> {
        work.iter().filter(|w| w.0 == round).map(|w| w.2).collect()
    };
    // per cent of the ids whose service times are within half a millisecond of each other; drawn apart, exp:2ms gives 22
    let alike = |a: &[u64], b: &[u64]| {
        100 * a.iter().zip(b).filter(|(a, b)| a.abs_diff(**b) < 500_000).count() / a.len()
    };
    for round in ["0", "1", "2"] {
        let percent = alike(&of_round(&baseline, round), &of_round(&optimized, round));
        assert!(percent >= 65, "round {round}: only {percent} % had the same work on both sides");
    }
    for (one, other) in [("0", "1"), ("1", "2")] {
        let percent = alike(&of_round(&baseline, one), &of_round(&baseline, other));
        assert!(percent < 60, "rounds {one} and {other} drew the same work: {percent} % alike");
    }
}

#[test]
fn a_comparison_is_no_better_than_its_worse_side() {
    let scratch = Scratch::new("worse");
    // microseconds on one side, where our own lateness weighs most; milliseconds on the other
    let quick = Scripted::answering(|_| ok("x"));
    let slow = Scripted::answering(|_| {
        std::thread::sleep(Duration::from_millis(15));
        ok("x")
    });
    for servers in [[&quick, &slow], [&slow, &quick]] {
        scratch
            .hairspring("compare -n 60 -c 4 --rounds 1 --wait park")
            .args_pair("--baseline-url", &servers[0].url("/"))
            .args_pair("--optimized-url", &servers[1].url("/"))
            .run();
        let comparison = scratch.json("results/comparison.json");
        let rank =
            |verdict: &Value| ["valid", "suspect", "invalid"].iter().position(|v| verdict == v).unwrap();
        let sides = ["baseline", "optimized"].map(|side| rank(&comparison[side]["validity"]["verdict"]));
        assert_eq!(rank(&comparison["validity"]), sides[0].max(sides[1]), "{}", comparison["validity"]);
        if comparison["validity"] == "invalid" {
            assert_eq!(comparison["sla"]["verdict"], "not_evaluated");
            assert_eq!(comparison["sla_met"], false);
        }
    }
}

#[test]
fn the_log_begins_with_its_four_columns_and_its_fields_have_their_form() {
    let scratch = Scratch::new("columns");
    let server = Scripted::answering(mixed);
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1e3;
    let flags = format!("run {} -n 100 -c 4 --wait park", server.url("/"));
    scratch.hairspring(&flags).run().expect(0);
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1e3;
    let text = std::fs::read_to_string(scratch.path("results/requests.csv")).unwrap();
    assert!(text.starts_with("request_id,timestamp_ms,latency_ms,status_code,"), "{text:.100}");
    assert!(text.ends_with('\n') && !text.contains('\r'));
    let rows = Rows::read(&scratch.path("results/requests.csv"));
    assert_eq!(
        rows.header[..6],
        ["request_id", "timestamp_ms", "latency_ms", "status_code", "round", "outcome"]
    );
    let decimals = |text: &str| text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let mut offsets = Vec::new();
    for row in &rows.rows {
        assert_eq!(decimals(row.text("timestamp_ms")), 3, "{row:?}");
        assert!(decimals(row.text("latency_ms")) >= 6, "{row:?}");
        let latency: f64 = row.text("latency_ms").parse().unwrap();
        let response = row.ns("done_ns") - row.ns("intended_ns");
        assert!((latency * 1e6 - response as f64).abs() < 0.5, "latency is not done − intended: {row:?}");
        let completed = row.text("outcome").parse::<u16>().is_ok();
        let status = if completed { row.text("outcome") } else { "-1" };
        assert_eq!(row.text("status_code"), status, "{row:?}");
        let timestamp: f64 = row.text("timestamp_ms").parse().unwrap();
        assert!((before - 1.0..after + 1.0).contains(&timestamp), "{timestamp} is not in {before}..{after}");
        offsets.push(timestamp - row.ns("intended_ns") as f64 / 1e6);
        ordered(row);
    }
    let spread =
        offsets.iter().fold(f64::MIN, |a, b| a.max(*b)) - offsets.iter().fold(f64::MAX, |a, b| a.min(*b));
    assert!(spread < 0.01, "timestamps are not the intended times on another clock: {spread} ms");
    for wanted in ["-1", "200", "404", "503"] {
        assert!(rows.rows.iter().any(|row| row.text("status_code") == wanted), "no row with {wanted}");
    }
}

/// intended <= ready <= issued <= first byte <= done, as far as each is known.
fn ordered(row: &Row) {
    let names = ["intended_ns", "ready_ns", "issued_ns", "first_byte_ns", "done_ns"];
    let stamps: Vec<u64> = names.iter().filter_map(|name| row.number(name)).collect();
    assert!(stamps.is_sorted(), "{row:?}");
}

#[test]
fn a_constant_rate_is_exact_to_the_nanosecond() {
    let scratch = Scratch::new("schedule");
    let server = Scripted::answering(|_| ok("x"));
    let flags = format!("run {} -n 90 -c 8 --rate 300/s --wait park", server.url("/"));
    scratch.hairspring(&flags).run().expect(0);
    let rows = Rows::read(&scratch.path("results/requests.csv")).rows;
    let t0 = rows.iter().map(|row| row.ns("intended_ns")).min().unwrap();
    for row in &rows {
        let due = row.ns("request_id") * 1_000_000_000 / 300;
        assert_eq!(
            row.ns("intended_ns") - t0,
            due,
            "arrival {} is not where the rate puts it",
            row.ns("request_id")
        );
    }
}

#[test]
fn a_closed_loop_intends_the_next_request_at_the_answer_before() {
    let scratch = Scratch::new("closed");
    let server = Scripted::answering(mixed);
    let flags = format!("run {} -n 80 -c 4 --think 2ms --wait park", server.url("/"));
    scratch.hairspring(&flags).run().expect(0);
    let rows = Rows::read(&scratch.path("results/requests.csv")).rows;
    for connection in ["0", "1", "2", "3"] {
        let mut own: Vec<&Row> = rows.iter().filter(|row| row.text("connection") == connection).collect();
        own.sort_by_key(|row| row.ns("intended_ns"));
        assert!(own.len() > 10, "connection {connection} carried {}", own.len());
        for pair in own.windows(2) {
            let gap = pair[1].ns("intended_ns") - pair[0].ns("done_ns");
            assert_eq!(gap, 2_000_000, "the think time is not {gap} ns");
        }
    }
    let t0 = rows.iter().map(|row| row.ns("intended_ns")).min().unwrap();
    assert_eq!(rows.iter().filter(|row| row.ns("intended_ns") == t0).count(), 4, "four begin at t0");
}

#[test]
fn two_threads_share_the_requests_by_residue() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        crate::support::skipped("one processor cannot carry two client threads");
        return;
    }
    for load in ["", "--rate 2000/s"] {
        let scratch = Scratch::new("threads");
        let server = Scripted::answering(mixed);
        let flags = format!("run {} -n 201 -c 5 --threads 2 --cpus 0-1 --wait park {load}", server.url("/"));
        scratch.hairspring(&flags).run().expect(0);
        let report = scratch.json("results/report.json");
        let rows = check_report(&report, &scratch.path("results/requests.csv"));
        rows.expect_ids(201);
        recompute(&report, &rows);
        assert!(rows.rows.iter().all(|row| row.ns("request_id") % 2 == row.ns("thread")));
        assert_eq!(report["rounds"][0]["threads"].as_array().unwrap().len(), 2);
        assert_eq!(report["totals"]["connects"].as_u64().unwrap().max(5), report["totals"]["connects"]);
    }
}

/// Fails unless `value` is of the kind that `kind` names.
fn is_a(value: &Value, kind: &str, name: &str) {
    let fine = match kind {
        "text" => value.as_str().is_some_and(|text| !text.is_empty()),
        "count" => value.is_u64(),
        "number" => value.is_number(),
        "bool" => value.is_boolean(),
        "list" => value.is_array(),
        "map" => value.is_object(),
        "figures" => ["count", "valued", "min", "mean", "p50", "p90", "p95", "p99", "p999", "max"]
            .iter()
            .all(|figure| value.get(figure).is_some_and(|figure| figure.is_u64() || figure.is_null())),
        other => panic!("unknown kind {other}"),
    };
    assert!(fine, "{name} is not a {kind}: {value}");
}

fn fields(document: &Value, expected: &[(&str, &str)]) {
    for (pointer, kind) in expected {
        let value = document.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is missing"));
        is_a(value, kind, pointer);
    }
}

const REPORT: [(&str, &str); 47] = [
    ("/schema", "text"),
    ("/tool/name", "text"),
    ("/tool/version", "text"),
    ("/created_unix_ms", "count"),
    ("/plan", "map"),
    ("/plan/target/name", "text"),
    ("/plan/request/method", "text"),
    ("/plan/load/model", "text"),
    ("/plan/connections", "count"),
    ("/plan/limits/timeout_ns", "count"),
    ("/plan/client/cpus", "list"),
    ("/plan/seed", "count"),
    ("/host", "map"),
    ("/host/kernel", "text"),
    ("/host/cpus", "list"),
    ("/partial", "bool"),
    ("/totals/scheduled", "count"),
    ("/totals/completed", "count"),
    ("/totals/failed", "count"),
    ("/totals/unsent", "count"),
    ("/totals/successful", "count"),
    ("/totals/retries", "count"),
    ("/outcomes", "map"),
    ("/response_ns", "figures"),
    ("/response_ok_ns", "figures"),
    ("/response_by_status_ns/200", "figures"),
    ("/service_ns", "figures"),
    ("/conn_wait_ns", "figures"),
    ("/send_lag_ns", "figures"),
    ("/throughput_per_s", "number"),
    ("/elapsed_ns", "count"),
    ("/warmup/scheduled", "count"),
    ("/warmup/response_ok_ns", "figures"),
    ("/evidence/queue_ns", "figures"),
    ("/evidence/service_ns", "figures"),
    ("/evidence/server_stats", "list"),
    ("/validity/verdict", "text"),
    ("/validity/findings", "list"),
    ("/sla/verdict", "text"),
    ("/sla/rules", "list"),
    ("/rounds", "list"),
    ("/rounds/0/alerts/found", "list"),
    ("/rounds/0/alerts/not_evaluated", "list"),
    ("/plan/alerts/rules", "list"),
    ("/logs", "list"),
    ("/histograms/response_ok/data", "text"),
    ("/histograms/response_not_ok/count", "count"),
];

#[test]
fn documents_have_every_field_that_was_promised() {
    let scratch = Scratch::new("fields");
    let flags = "run --stub pool --service fixed:1ms -n 80 -c 4 --warmup 4 --wait park --sla p95<=10s --sla errors<1%";
    scratch.hairspring(flags).run();
    let report = scratch.json("results/report.json");
    assert_eq!(report["schema"], "hairspring.report/1");
    fields(&report, &REPORT);
    let verdicts = ["met", "not_met", "inconclusive", "not_evaluated"];
    assert!(verdicts.contains(&report["sla"]["verdict"].as_str().unwrap()));
    assert!(["valid", "suspect", "invalid"].contains(&report["validity"]["verdict"].as_str().unwrap()));
    assert_eq!(report["sla"]["rules"].as_array().unwrap().len(), 2);
    for rule in report["sla"]["rules"].as_array().unwrap() {
        fields(rule, &[("/rule", "text"), ("/metric", "text"), ("/limit", "number"), ("/verdict", "text")]);
    }
    for check in report["validity"]["checks"].as_array().unwrap() {
        fields(
            check,
            &[("/rule", "text"), ("/level", "text"), ("/suspect_above", "number"), ("/meaning", "text")],
        );
    }

    scratch.hairspring("compare --service fixed:1ms -n 80 -c 4 --rounds 2 --wait park").run();
    let comparison = scratch.json("results/comparison.json");
    assert_eq!(comparison["schema"], "hairspring.comparison/1");
    for side in ["baseline", "optimized"] {
        fields(&comparison[side], &REPORT);
        assert_eq!(comparison[side]["plan"]["target"]["name"], side);
    }
    fields(
        &comparison,
        &[
            ("/seed", "count"),
            ("/order", "list"),
            ("/partial", "bool"),
            ("/improvement/p50/absolute_ns", "number"),
            ("/improvement/p95/relative", "number"),
            ("/improvement/p999/rounds", "count"),
            ("/outputs_identical", "bool"),
            ("/outputs/compared", "count"),
            ("/outputs/different", "count"),
            ("/outputs/missing", "count"),
            ("/conclusion", "text"),
            ("/validity", "text"),
            ("/sla/verdict", "text"),
            ("/sla_met", "bool"),
        ],
    );
    assert_eq!(comparison["sla_met"], comparison["sla"]["verdict"] == "met");
    let leftovers: Vec<String> = std::fs::read_dir(scratch.path("results"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(".tmp"))
        .collect();
    assert_eq!(leftovers, [""; 0], "temporary files were left");
}
