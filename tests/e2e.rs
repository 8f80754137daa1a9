//! Whole runs on healthy servers: every threading model under every load, every kind of answer, and the comparison of
//! two.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use xxhash_rust::xxh64::xxh64;

use crate::support::{ENGINES, Heard, Rows, Scratch, Scripted, Stub, check_report, exchange, judged, ok};

mod alerts;
mod answers;
mod capacity;
mod compare;
mod engines;
mod instrument;
mod loads;
mod metrics;
mod monitor;
mod suite;
mod trend;
mod variants;

const MODELS: [&str; 4] = ["single", "threads", "pool", "per-core"];

/// Forty requests in the given way; everything that must hold for a healthy stub.
fn forty(engine: &str, model: &str, keepalive: &str, load: &str) {
    let scratch = Scratch::new("forty");
    let flags = format!(
        "run --engine {engine} --stub {model} --workers 3 --service fixed:1ms --keepalive {keepalive} {load} -n 40 -c 4 --wait park --warmup 6"
    );
    let finished = scratch.hairspring(&flags).run().expect(0);
    let report = scratch.json("results/report.json");
    let rows = check_report(&report, &scratch.path("results/requests.csv"));
    rows.expect_ids(40);
    assert_eq!(report["outcomes"], json!({"200": 40}), "{finished}");
    for (name, count) in
        [("scheduled", 40), ("completed", 40), ("failed", 0), ("unsent", 0), ("successful", 40)]
    {
        assert_eq!(report["totals"][name], count, "{name}: {finished}");
    }
    assert_eq!(report["warmup"]["scheduled"], 6);
    assert_eq!(report["warmup"]["successful"], 6);
    assert_eq!(report["evidence"]["server_stats"][0]["statuses"], json!({"200": 46}), "{finished}");
    assert_eq!(report["evidence"]["server_timing"], 40);
    let mut first_on_connection = 0;
    for row in &rows.rows {
        assert!(row.ns("server_service_ns") >= 1_000_000, "a service of 1 ms took less: {row:?}");
        assert!(
            row.number("server_queue_ns").or(row.number("server_queue_from_read_ns")).is_some(),
            "{row:?}"
        );
        assert!(row.ns("done_ns") - row.ns("issued_ns") >= 1_000_000, "{row:?}");
        first_on_connection += u64::from(row.number("connect_ns").is_some());
    }
    let connects = report["totals"]["connects"].as_u64().unwrap();
    match keepalive {
        "off" => assert_eq!((connects, first_on_connection), (46, 40), "{finished}"),
        "3" => {
            assert!((16..=20).contains(&connects), "{connects} connections for 46 requests by 3: {finished}");
            assert!(first_on_connection >= 10, "{first_on_connection}");
        }
        _ => assert_eq!(connects, 4, "{finished}"),
    }
    let accepted = report["evidence"]["server_stats"][0]["accepted"].as_u64().unwrap();
    assert_eq!(accepted, connects + 1, "the server saw other connections than the client made (and /stats)");
    for thread in report["rounds"][0]["threads"].as_array().unwrap() {
        assert_eq!(thread["engine"]["engine"], engine);
    }
    let log = json!([{"file": "requests.csv", "rows": 40, "lost": 0, "error": null}]);
    assert_eq!(report["logs"], log);
}

fn forty_in_every_way(model: &str) {
    for engine in ENGINES {
        for keepalive in ["on", "off", "3"] {
            for load in ["", "--rate 1000/s"] {
                forty(engine, model, keepalive, load);
            }
        }
    }
}

#[test]
fn single_in_every_way() {
    forty_in_every_way("single");
}

#[test]
fn threads_in_every_way() {
    forty_in_every_way("threads");
}

#[test]
fn pool_in_every_way() {
    forty_in_every_way("pool");
}

#[test]
fn per_core_in_every_way() {
    forty_in_every_way("per-core");
}

/// Digest by id of one side of a comparison.
fn digests(rows: &Rows) -> BTreeMap<u64, String> {
    rows.rows.iter().map(|row| (row.ns("request_id"), row.text("body_digest").to_owned())).collect()
}

/// The answer to one id over a socket of the test's own, without any code of the program.
fn fetched(stub: &Stub, id: u64, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "POST /v1/infer HTTP/1.1\r\nHost: x\r\nX-Request-Id: {id}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let answer = String::from_utf8(exchange(stub.addr(), &request)).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("chunked"), "{head}");
    body.to_owned()
}

#[test]
fn every_model_answers_the_same_bytes_to_the_same_ids() {
    let scratch = Scratch::new("identical");
    let service = "--work-seed 77 --service exp:200us --payload-bytes 300";
    let stubs = MODELS.map(|model| Stub::start(&scratch, &format!("--model {model} {service}")));
    let body = r#"{"a":"b"}"#;
    let mut sides = Vec::new();
    for pair in [[0, 1], [2, 3]] {
        let [baseline, optimized] = pair.map(|side| stubs[side].url());
        let finished = scratch
            .hairspring("compare -n 30 -c 3 --rounds 1 --wait park --sla mean<=10s --body")
            .arg(body)
            .arg(format!("--baseline-url={baseline}"))
            .arg(format!("--optimized-url={optimized}"))
            .run();
        let comparison = scratch.json("results/comparison.json");
        assert_eq!(comparison["outputs_identical"], true, "{finished}");
        let expected = json!({"compared": 30, "different": 0, "missing": 0, "examples": []});
        assert_eq!(comparison["outputs"], expected, "{finished}");
        for side in ["baseline", "optimized"] {
            let csv = scratch.path(&format!("results/{side}.csv"));
            sides.push(digests(&check_report(&comparison[side], &csv)));
        }
    }
    assert!(sides.iter().all(|side| side == &sides[0] && side.len() == 30), "{sides:?}");
    assert_eq!(sides[0].values().collect::<BTreeSet<_>>().len(), 30, "answers must differ between ids");
    for id in [0, 1, 17, 29] {
        for (stub, model) in stubs.iter().zip(MODELS) {
            let body = fetched(stub, id, body);
            assert_eq!(
                sides[0][&id],
                format!("{:016x}", xxh64(body.as_bytes(), 0)),
                "{model}, id {id}: {body}"
            );
        }
    }
}

/// A request without what must differ between two runs: where it went, and over which connection.
fn logical(heard: &[Heard], addr: &str) -> BTreeSet<(String, String, Vec<u8>)> {
    let one = |h: &Heard| (h.id().to_owned(), h.head.replace(addr, "SERVER"), h.body.clone());
    heard.iter().map(one).collect()
}

#[test]
fn both_sides_are_sent_the_same_requests() {
    let scratch = Scratch::new("same-requests");
    let servers = [0, 1].map(|_| Scripted::answering(|heard| ok(&format!("you are {}", heard.id()))));
    let finished = scratch
        .hairspring("compare -n 24 -c 3 --rounds 2 --warmup 4 --wait park --sla mean<=10s -X PUT")
        .arg(format!("--baseline-url={}", servers[0].url("/x?y=1")))
        .arg(format!("--optimized-url={}", servers[1].url("/x?y=1")))
        .args_pair("-H", "Accept: text/*")
        .args_pair("--body", "what?")
        .run();
    judged(&finished, &scratch.json("results/comparison.json")["validity"], 0);
    let heard = servers.each_ref().map(Scripted::heard);
    let sets = [0, 1].map(|side| logical(&heard[side], &servers[side].addr().to_string()));
    assert_eq!(sets[0], sets[1], "baseline and optimized were asked different things");
    for side in 0..2 {
        assert_eq!(heard[side].len(), 2 * (24 + 4));
        assert_eq!(sets[side].len(), 24 + 4, "a round asks what the round before it asked");
        for request in &heard[side] {
            assert_eq!(request.line(), "PUT /x?y=1 HTTP/1.1");
            assert_eq!((request.field("Accept"), request.body.as_slice()), (Some("text/*"), &b"what?"[..]));
            assert_eq!(request.field("X-Attempt"), None);
        }
    }
    let mut ids: Vec<&str> = heard[0].iter().map(Heard::id).collect();
    ids.sort_unstable();
    ids.dedup();
    let measured = (0..24).map(|n| n.to_string());
    let expected: BTreeSet<String> = measured.chain((0..4).map(|n| format!("w{n}"))).collect();
    assert_eq!(ids.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), expected);
    for side in ["baseline", "optimized"] {
        let rows = Rows::read(&scratch.path(&format!("results/{side}.csv")));
        assert_eq!(rows.rows.len(), 48);
        for round in ["0", "1"] {
            let mut ids: Vec<u64> =
                rows.rows.iter().filter(|r| r.text("round") == round).map(|r| r.ns("request_id")).collect();
            ids.sort_unstable();
            assert_eq!(ids, (0..24).collect::<Vec<_>>(), "{side}, round {round}");
        }
    }
}

#[test]
fn warm_up_requests_are_reported_apart_and_nowhere_else() {
    let scratch = Scratch::new("warmup");
    // a warm-up answer is slow, a measured one is not: if one leaked into the figures, it would show
    let server = Scripted::answering(|heard| {
        if heard.id().starts_with('w') {
            std::thread::sleep(Duration::from_millis(60));
        }
        ok("x")
    });
    let flags = format!("run {} -n 50 -c 5 --warmup 10 --wait park", server.url("/"));
    scratch.hairspring(&flags).run().expect(0);
    let report = scratch.json("results/report.json");
    check_report(&report, &scratch.path("results/requests.csv")).expect_ids(50);
    let ids: BTreeSet<String> = server.heard().iter().map(|h| h.id().to_owned()).collect();
    let expected = (0..50).map(|n| n.to_string()).chain((0..10).map(|n| format!("w{n}")));
    assert_eq!(ids, expected.collect());
    assert_eq!(report["totals"]["scheduled"], 50);
    assert_eq!(report["warmup"]["scheduled"], 10);
    assert!(report["warmup"]["response_ok_ns"]["min"].as_u64().unwrap() >= 60_000_000);
    for histogram in ["response_ok", "service", "send_lag"] {
        assert_eq!(report["histograms"][histogram]["count"], 50, "{histogram}");
    }
    let first = Rows::read(&scratch.path("results/requests.csv"));
    assert!(first.rows.iter().all(|row| row.text("request_id").parse::<u64>().is_ok()));
}

/// The loop of a worker asks for no memory while it measures: over kept-alive connections, open and closed loop, with
/// body, log, warm-up, and both ways of waiting. And it says by which clock it measured.
#[test]
fn a_warm_loop_asks_for_no_memory() {
    let scratch = Scratch::new("allocations");
    for flags in [
        "-n 2000 -c 8 --wait park",
        "-n 300 -c 3 --rate 1000/s --warmup 50 --wait spin",
        "-n 300 -c 3 --method POST --body hello --wait park --digest",
    ] {
        scratch.hairspring(&format!("run --stub pool --service fixed:50us {flags}")).run();
        let report = scratch.json("results/report.json");
        for thread in report["rounds"][0]["threads"].as_array().unwrap() {
            assert_eq!(thread["allocations"], 0, "{flags}: {thread}");
            let clock = &thread["clock"];
            assert!(clock["source"] == "tsc" || clock["why_not_tsc"].is_string(), "{clock}");
            assert!(clock["read_ns"].as_u64().unwrap() > 0 && clock["resolution_ns"].as_u64().unwrap() > 0);
            let (busy, wall) = (thread["busy_ns"].as_u64().unwrap(), thread["wall_ns"].as_u64().unwrap());
            assert!(0 < busy && busy <= wall, "{thread}");
        }
        let law = report["validity"]["checks"].as_array().unwrap();
        let law = law.iter().find(|check| check["rule"] == "littles-law").unwrap();
        assert_eq!(law["figure"], 0.0, "{flags}");
    }
}

#[test]
fn a_warm_up_in_time_ends_before_the_measurement_begins() {
    let scratch = Scratch::new("warmup-time");
    let server = Scripted::answering(|_| ok("x"));
    let flags = format!("run {} -d 150ms -c 2 --rate 200/s --warmup 100ms --wait park", server.url("/"));
    scratch.hairspring(&flags).run().expect(0);
    let report = scratch.json("results/report.json");
    let rows = check_report(&report, &scratch.path("results/requests.csv"));
    assert_eq!(report["totals"]["scheduled"], 30, "150 ms at 200/s");
    assert_eq!(report["warmup"]["scheduled"], 20, "100 ms at 200/s");
    rows.expect_ids(30);
    let mut intended: Vec<u64> = rows.rows.iter().map(|row| row.ns("intended_ns")).collect();
    intended.sort_unstable();
    assert!(intended.windows(2).all(|pair| pair[1] - pair[0] == 5_000_000), "{intended:?}");
}

/// What a run of `n` requests with these flags sent to a server that answers `x`.
fn sent(n: u64, flags: &str, more: &[(&str, &str)]) -> (Scratch, Vec<Heard>) {
    let scratch = Scratch::new("sent");
    scratch.write("body.bin", b"bytes\0\r\n\r\nand more".as_slice());
    let server = Scripted::answering(|_| ok("x"));
    let flags = format!("run {} -n {n} -c 1 --wait park {flags}", server.url("/p?q"));
    let command = more.iter().fold(scratch.hairspring(&flags), |c, (flag, value)| c.args_pair(flag, value));
    command.run().expect(0);
    check_report(&scratch.json("results/report.json"), &scratch.path("results/requests.csv")).expect_ids(n);
    (scratch, server.heard())
}

#[test]
fn requests_are_what_the_flags_say() {
    let (_s, heard) = sent(3, "", &[]);
    assert!(heard.iter().all(|h| h.line() == "GET /p?q HTTP/1.1" && h.field("Content-Length").is_none()));
    assert_eq!(heard.iter().map(|h| h.nth).collect::<Vec<_>>(), [0, 1, 2], "one connection carries all");
    assert!(heard.iter().all(|h| h.field("Connection").is_none()));

    let (_s, heard) =
        sent(4, "--keepalive 2", &[("-H", "A: 1"), ("-H", "B:  two  "), ("-H", "Host: elsewhere")]);
    assert_eq!(heard.iter().map(|h| h.nth).collect::<Vec<_>>(), [0, 1, 0, 1]);
    assert!(heard.iter().all(|h| (h.field("Connection") == Some("close")) == (h.nth == 1)));
    assert!(heard.iter().all(|h| h.field("A") == Some("1") && h.field("B") == Some("two")));
    assert!(heard.iter().all(|h| h.field("Host") == Some("elsewhere")));

    let (_s, heard) = sent(2, "", &[("--body", "grüße")]);
    assert!(heard.iter().all(|h| h.line().starts_with("POST ") && h.body == "grüße".as_bytes()));

    let (_s, heard) = sent(2, "-X PATCH --body-file body.bin", &[]);
    assert!(heard.iter().all(|h| h.line().starts_with("PATCH ") && h.body == b"bytes\0\r\n\r\nand more"));

    let (_s, heard) = sent(1, "", &[("--body", "")]);
    assert_eq!((heard[0].line(), heard[0].field("Content-Length")), ("POST /p?q HTTP/1.1", Some("0")));
}

#[test]
fn large_bodies_go_both_ways_whole() {
    let scratch = Scratch::new("large");
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    scratch.write("large.bin", &body);
    let server = Scripted::answering(move |heard| {
        let text = if heard.body == body { "y".repeat(2_000_000) } else { "damaged".to_owned() };
        ok(&text)
    });
    for engine in ENGINES {
        let flags =
            format!("run {} --engine {engine} -n 6 -c 2 --wait park --body-file large.bin", server.url("/"));
        scratch.hairspring(&flags).arg(format!("--out={engine}")).run().expect(0);
        let report = scratch.json(&format!("{engine}/report.json"));
        let rows = check_report(&report, &scratch.path(&format!("{engine}/requests.csv")));
        for row in &rows.rows {
            assert_eq!(row.text("outcome"), "200");
            assert!(row.ns("bytes_sent") > 3_000_000 && row.ns("bytes_received") > 2_000_000, "{row:?}");
        }
    }
}
