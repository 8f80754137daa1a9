//! Live figures for others, and the target's own: both ways over real sockets.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Finished, Running, Scratch, Scripted, Stub, answer, eventually, exchange, free_port, ok,
};

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

/// Where a program says that it serves its metrics.
fn served_at(running: &Running) -> SocketAddr {
    let address = || {
        let said = running.stderr();
        let (_, rest) = said.split_once("metrics at http://")?;
        rest.split_once("/metrics").and_then(|(address, _)| address.parse().ok())
    };
    assert!(eventually(Duration::from_secs(10), || address().is_some()), "{}", running.stderr());
    address().unwrap()
}

/// Head and body of what is served.
fn asked(at: SocketAddr, question: &str) -> (String, String) {
    let answer = String::from_utf8(exchange(at, question)).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
    (head.to_owned(), body.to_owned())
}

/// Samples by series, of a text whose form is checked line by line.
fn samples(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
    };
    lines.map(sample).collect()
}

const SUCCESSFUL: &str = "hairspring_requests_total{target=\"target\",outcome=\"successful\"}";

#[test]
fn a_run_serves_its_figures_while_it_runs() {
    let scratch = Scratch::new("listen");
    let running = scratch
        .hairspring("run --stub pool --workers 2 --service fixed:5ms -c 4 -d 1500ms --rounds 2 --interval 200ms --wait park --metrics-listen 0")
        .start();
    let at = served_at(&running);
    assert!(at.ip().is_loopback());
    let mut before = 0.0;
    let mut rounds = Vec::new();
    let counted = eventually(Duration::from_secs(10), || {
        let (head, text) = asked(at, GET);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let kind = "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
        assert!(head.contains(kind) && head.contains(&format!("Content-Length: {}", text.len())), "{head}");
        let now = samples(&text);
        let successful = now.get(SUCCESSFUL).copied().unwrap_or(0.0);
        assert!(successful >= before, "a counter went back from {before}: {text}");
        before = successful;
        rounds.extend(now.get("hairspring_round{target=\"target\"}").map(|round| *round as u64));
        let count = "hairspring_response_seconds_count{target=\"target\"}";
        assert_eq!(now.get(count).copied().unwrap_or(0.0), successful);
        let system = now.keys().any(|series| series.starts_with("hairspring_server_cores{"));
        std::thread::sleep(Duration::from_millis(100));
        successful > 0.0 && system && rounds.last() == Some(&2)
    });
    assert!(counted && rounds[0] == 1, "{rounds:?}, {before}");
    for (question, status) in [
        ("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200"),
        ("GET /other HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let (head, _) = asked(at, question);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{question:?}: {head}");
    }
    let finished = running.wait().expect(0);
    assert!(TcpStream::connect(at).is_err(), "it ends with the command: {finished}");
    let report = scratch.json("results/report.json");
    assert!(before <= report["totals"]["successful"].as_f64().unwrap());
    for round in report["rounds"].as_array().unwrap() {
        let helpers = round["helpers"].as_array().unwrap();
        assert!(helpers.iter().any(|h| h["name"] == "metrics" && h["on_cpu_ns"].is_u64()), "{round}");
    }
    // what is served is no part of the plan, but what is asked would be
    assert!(report["plan"]["scrape"].is_null() && report["scraped"].is_null());
}

/// Who says nothing is dropped, and the next is heard.
#[test]
fn silent_clients_hold_up_nobody_for_long() {
    let scratch = Scratch::new("silent");
    let server = Scripted::answering(|_| ok("x"));
    let flags = format!("run {} -c 1 --rate 50/s -d 4s --wait park --metrics-listen 0", server.url("/"));
    let running = scratch.hairspring(&flags).start();
    let at = served_at(&running);
    let silent: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(at).unwrap()).collect();
    let (head, text) = asked(at, GET);
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert_eq!(samples(&text)["hairspring_measuring{target=\"target\"}"], 1.0);
    drop(silent);
    running.wait().expect(0);
}

/// The last file has all that the report has.
#[test]
fn a_file_of_metrics_is_whole_at_any_time_and_complete_at_the_end() {
    let scratch = Scratch::new("file");
    let running = scratch
        .hairspring("compare --workers 2 --service fixed:2ms -c 4 -n 400 --rounds 2 --sla mean<=10s --wait park --metrics-file m.prom")
        .start();
    let path = scratch.path("m.prom");
    let read = || fs::read_to_string(&path).ok();
    assert!(eventually(Duration::from_secs(10), || read().is_some()), "there from the start");
    let mut running = running;
    while running.is_running() {
        samples(&read().expect("it is never gone"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let finished = running.wait();
    assert!([0, 3].contains(&finished.code()), "{finished}");
    let now = samples(&read().unwrap());
    let comparison = scratch.json("results/comparison.json");
    for side in ["baseline", "optimized"] {
        let of = |name: &str, more: &str| now[&format!("hairspring_{name}{{target=\"{side}\"{more}}}")];
        let totals = &comparison[side]["totals"];
        assert_eq!(of("requests_total", ",outcome=\"successful\""), totals["successful"].as_f64().unwrap());
        assert_eq!(of("requests_total", ",outcome=\"unsuccessful\""), 0.0);
        assert_eq!((of("round", ""), of("rounds_planned", ""), of("measuring", "")), (2.0, 2.0, 0.0));
        let mean = comparison[side]["response_ok_ns"]["mean"].as_f64().unwrap() / 1e9;
        let told = of("response_seconds_sum", "") / of("response_seconds_count", "");
        assert!((told / mean - 1.0).abs() < 1e-6, "{side}: {told}, not {mean}");
        assert_eq!(of("response_seconds_bucket", ",le=\"0.001\""), 0.0, "an answer takes 2 ms");
        assert_eq!(of("response_seconds_bucket", ",le=\"10\""), of("response_seconds_count", ""));
    }
    assert!(!now.keys().any(|series| series.starts_with("hairspring_server_")), "nothing is measured now");
    assert!(!scratch.path(".m.prom.tmp").exists());
}

#[test]
fn what_cannot_be_served_or_written_is_refused_before_any_load() {
    let taken = Scripted::answering(|_| ok("x"));
    let other = Scripted::answering(|_| ok("x"));
    for (flag, says) in [
        (format!("--metrics-listen {}", taken.addr()), "--metrics-listen 127.0.0.1"),
        ("--metrics-file no/such/folder/m.prom".to_owned(), "cannot write --metrics-file no/such"),
        ("--scrape http://no-such-host.invalid/metrics".to_owned(), "no-such-host.invalid"),
    ] {
        let scratch = Scratch::new("refused");
        let finished =
            scratch.hairspring(&format!("run {} -n 4 -c 1 {flag}", other.url("/"))).run().expect(1);
        assert!(finished.stderr.contains(says), "{flag}: {finished}");
    }
    assert_eq!(other.accepted(), 0, "there was a load");
    let scratch = Scratch::new("usage");
    for (flags, says) in [
        ("run http://127.0.0.1:9/ --metrics-listen somewhere", "write a port"),
        ("run http://127.0.0.1:9/ --scrape metrics", "http://"),
        ("run http://127.0.0.1:9/ --scrape /m --scrape-interval 1ms", "from 100"),
        ("run http://127.0.0.1:9/ --scrape-interval 1s", "--scrape"),
        ("capacity http://127.0.0.1:9/ --sla p95<=1s --scrape /m", "capacity does not know it"),
        ("capacity http://127.0.0.1:9/ --sla p95<=1s --metrics-listen 1", "capacity does not know it"),
    ] {
        let finished = scratch.hairspring(flags).run().expect(64);
        assert!(finished.stderr.contains(says), "{flags}: {finished}");
    }
}

/// A port that everybody can reach is said loudly.
#[test]
fn an_address_for_everybody_is_said() {
    let scratch = Scratch::new("everybody");
    let server = Scripted::answering(|_| ok("x"));
    let port = free_port();
    let flags = format!("run {} -n 4 -c 1 --wait park --metrics-listen 0.0.0.0:{port}", server.url("/"));
    let finished = scratch.hairspring(&flags).run().expect(0);
    assert!(finished.stderr.contains("not a loopback address"), "{finished}");
}

#[test]
fn a_file_that_cannot_be_written_any_more_is_loud_and_loses_no_figure() {
    let scratch = Scratch::new("gone");
    let server = Scripted::answering(|_| {
        std::thread::sleep(Duration::from_millis(5));
        ok("x")
    });
    scratch.write("live/keep", "");
    let flags = format!("run {} -d 1500ms -c 2 --wait park --metrics-file live/m.prom", server.url("/"));
    let running = scratch.hairspring(&flags).start();
    let folder = scratch.path("live");
    assert!(eventually(Duration::from_secs(10), || folder.join("m.prom").exists()));
    fs::remove_dir_all(&folder).unwrap();
    let finished = running.wait().expect(1);
    assert!(finished.stderr.contains("could not be written"), "{finished}");
    assert!(scratch.json("results/report.json")["totals"]["successful"].as_u64().unwrap() > 100);
}

/// The series of a report's `scraped`, in its first round.
fn series<'a>(report: &'a Value, name: &str) -> &'a Value {
    let found = &report["scraped"]["rounds"][0]["series"][name];
    assert!(found.is_object(), "{name}: {}", report["scraped"]);
    found
}

fn shown(finished: &Finished, what: &str) {
    assert!(finished.stdout.contains(what), "no `{what}`: {finished}");
}

#[test]
fn what_the_stub_tells_of_itself_is_joined_to_the_load() {
    let scratch = Scratch::new("scrape-stub");
    let flags = "run --stub pool --workers 2 --service fixed:4ms -c 6 -d 1200ms --wait park --scrape /metrics --scrape-interval 100ms";
    let finished = scratch.hairspring(flags).run().expect(0);
    let report = scratch.json("results/report.json");
    let scraped = &report["scraped"];
    assert_eq!(report["plan"]["scrape"], json!({"from": {"path": "/metrics"}, "interval_ns": 100_000_000}));
    assert_eq!((&scraped["failures"], &scraped["failure"]), (&json!(0), &Value::Null), "{finished}");
    let at: Vec<u64> = serde_json::from_value(scraped["rounds"][0]["at_ns"].clone()).unwrap();
    assert!(at.len() >= 5 && at.is_sorted() && *at.last().unwrap() >= 1_200_000_000, "{at:?}");
    assert_eq!(scraped["attempts"], at.len());
    // the last answer came after the load: it has every request that the load had
    let requests = "stub_requests_total{status=\"200\"}";
    let values: Vec<Option<f64>> =
        serde_json::from_value(series(&report, requests)["values"].clone()).unwrap();
    let last = values.last().unwrap().unwrap();
    let completed = report["totals"]["completed"].as_f64().unwrap();
    let questions = at.len() as f64;
    assert!((completed..=completed + questions).contains(&last), "{last}, of {completed} and {questions}");
    let figures = &scraped["figures"][requests];
    assert_eq!((&figures["kind"], &figures["last"]), (&json!("counter"), &json!(last)), "{figures}");
    let per_s: Vec<Option<f64>> = serde_json::from_value(series(&report, requests)["per_s"].clone()).unwrap();
    assert_eq!((per_s.len(), per_s[0]), (at.len(), None));
    // two workers that take 4 ms each, as the server itself counts
    assert_eq!(scraped["figures"]["stub_workers"]["max"], 2.0);
    let in_flight = scraped["figures"]["stub_requests_in_flight"]["max"].as_f64().unwrap();
    assert!((1.0..=2.0).contains(&in_flight), "{in_flight}");
    assert!(scraped["figures"]["stub_queue_requests"]["max"].as_f64().unwrap() >= 1.0, "{scraped}");
    let helpers = report["rounds"][0]["helpers"].as_array().unwrap();
    assert!(helpers.iter().any(|helper| helper["name"] == "scrape"), "{helpers:?}");
    shown(&finished, "stub_requests_total{status=\"200\"}");
    shown(&finished, "scrape: /metrics answered");
}

/// A level that is told to rise and fall with the service time is found to; one that is told to do as it likes is not.
#[test]
fn a_series_that_moves_with_the_response_time_is_named() {
    let scratch = Scratch::new("scrape-moves");
    let began = std::time::Instant::now();
    // a level of 0 to 3, each for three slices of time: a machine that delays an answer moves one slice, not the pattern
    let level = move || began.elapsed().as_millis() as u64 / 600 * 7 % 4;
    let own = Scripted::answering(move |_| {
        let now = level();
        let text = format!(
            "# TYPE load gauge\nload {now}\nevil{{a=\"\x1b[2J\"}} {now}\nsteady 5\nclock_total {}\n",
            began.elapsed().as_secs_f64()
        );
        answer(200, &text)
    });
    let server = Scripted::answering(move |_| {
        std::thread::sleep(Duration::from_millis(2 + 20 * level()));
        ok("x")
    });
    let flags = format!(
        "run {} -c 2 -d 6s --interval 200ms --wait park --scrape {} --scrape-interval 100ms",
        server.url("/"),
        own.url("/metrics")
    );
    let finished = scratch.hairspring(&flags).deadline(Duration::from_secs(40)).run().expect(0);
    let figures = &scratch.json("results/report.json")["scraped"]["figures"];
    let moves = &figures["load"]["moves_with_p95"];
    let (found, chance) = (moves["rank_correlation"].as_f64().unwrap(), moves["by_chance"].as_f64().unwrap());
    assert!(moves["slices"].as_u64().unwrap() >= 8 && found > chance && found > 0.5, "{moves}: {finished}");
    assert!(figures["steady"]["moves_with_p95"].is_null(), "it does not vary: {figures}");
    let rate = figures["clock_total"]["mean"].as_f64().unwrap();
    assert!((rate - 1.0).abs() < 0.05, "a counter of seconds grows by one a second: {rate}");
    let line =
        finished.stdout.lines().find(|line| line.ends_with("  load")).unwrap_or_else(|| panic!("{finished}"));
    assert!(line.contains(&format!("{found:+.2}")), "{line}");
    shown(&finished, "not a cause");
    shown(&finished, "evil{a=\"\u{fffd}[2J\"}");
    assert!(!finished.stdout.contains('\x1b'), "a label steers the terminal: {finished}");
}

#[test]
fn a_target_that_tells_nothing_is_measured_all_the_same() {
    let scratch = Scratch::new("scrape-nothing");
    let server = Scripted::answering(|heard| match heard.line() {
        line if line.contains("/metrics") => ok("<html>\n<p>no metrics here</p>\n"),
        _ => ok("x"),
    });
    for (from, why) in [
        ("/metrics".to_owned(), "the answer is no metrics: 2 lines"),
        (format!("http://127.0.0.1:{}/metrics", free_port()), "refused"),
    ] {
        let flags = format!("run {} -n 200 -c 2 --rate 400/s --wait park --scrape {from}", server.url("/"));
        let finished = scratch.hairspring(&flags).run().expect(0);
        let scraped = &scratch.json("results/report.json")["scraped"];
        let failure = scraped["failure"].as_str().unwrap();
        assert!(failure.contains(why) && scraped["failures"] == scraped["attempts"], "{scraped}");
        assert_eq!((&scraped["figures"], &scraped["rounds"][0]["at_ns"]), (&json!({}), &json!([])));
        shown(&finished, &format!("scrape: {from} answered 0 of "));
    }
}

/// Both sides of a comparison tell of themselves.
#[test]
fn a_path_is_asked_for_at_each_side() {
    let scratch = Scratch::new("scrape-sides");
    let flags = "compare --workers 2 --service fixed:2ms -c 4 -n 200 --rounds 2 --sla mean<=10s --wait park --scrape /metrics";
    let finished = scratch.hairspring(flags).run();
    assert!([0, 3].contains(&finished.code()), "{finished}");
    let comparison = scratch.json("results/comparison.json");
    for side in ["baseline", "optimized"] {
        let scraped = &comparison[side]["scraped"];
        assert_eq!(scraped["rounds"].as_array().unwrap().len(), 2, "{scraped}");
        // each round's own server counts from its start
        let of = |round: usize| &scraped["rounds"][round]["series"]["stub_requests_total{status=\"200\"}"]["values"];
        for round in [0, 1] {
            let last = of(round).as_array().unwrap().last().unwrap().as_f64().unwrap();
            assert!((200.0..=205.0).contains(&last), "{side} {round}: {last}");
        }
    }
}

#[test]
fn the_stub_answers_who_scrapes_it() {
    let scratch = Scratch::new("stub-metrics");
    let stub = Stub::start(&scratch, "--model threads --service fixed:1ms --addr 127.0.0.1:0");
    let (head, text) = asked(stub.addr(), "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(head.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert_eq!(samples(&text)["stub_connections_accepted_total"], 1.0);
}
