//! What servers do wrong: every fault becomes exactly one outcome class, and the run goes on.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    ENGINES, Peer, Row, Rows, Scratch, Scripted, answer, check_report, judged, ok, patched,
};

mod host;
mod interrupts;
mod machine;
mod peers;
mod scarce;
mod table;
mod trial;

/// A run of `n` requests; the report and the rows, which must tell the same story.
fn run_of(server: &Scripted, n: u64, flags: &str, code: i32) -> (Value, Rows) {
    let scratch = Scratch::new("fault");
    let flags = format!("run {} -n {n} --wait park {flags}", server.url("/"));
    scratch.hairspring(&flags).deadline(Duration::from_secs(20)).run().expect(code);
    let report = scratch.json("results/report.json");
    let rows = check_report(&report, &scratch.path("results/requests.csv"));
    rows.expect_ids(n);
    (report, rows)
}

/// Eight requests of which every second meets a fault; it must become `class` (with `detail`), and the other four must
/// be none the worse.
fn half(class: &str, detail: &str, fault: impl Fn(&mut Peer) -> bool + Send + Sync + 'static) -> Vec<Row> {
    half_with("", class, detail, fault)
}

fn half_with(
    flags: &str,
    class: &str,
    detail: &str,
    fault: impl Fn(&mut Peer) -> bool + Send + Sync + 'static,
) -> Vec<Row> {
    let server = Scripted::new(move |mut peer| {
        while let Some(heard) = peer.request() {
            if heard.id().parse::<u64>().unwrap().is_multiple_of(2) {
                peer.send(ok("fine"));
            } else if fault(&mut peer) {
                return peer.reset();
            } else {
                return;
            }
        }
    });
    let mut all = Vec::new();
    for (before, engine) in ENGINES.into_iter().enumerate() {
        let flags = format!("--engine {engine} -c 1 --keepalive off {flags}");
        let (report, rows) = run_of(&server, 8, &flags, 0);
        assert_eq!(report["outcomes"], json!({"200": 4, class: 4}), "{engine}");
        for row in &rows.rows {
            let faulty = row.ns("request_id") % 2 == 1;
            assert_eq!(row.text("outcome"), if faulty { class } else { "200" });
            assert_eq!(row.text("status_code"), if faulty { "-1" } else { "200" });
            assert_eq!(row.text("detail"), if faulty { detail } else { "" });
        }
        assert_eq!(server.heard().len(), 8 * (before + 1), "a failed request must not be sent again");
        all.extend(rows.rows);
    }
    all
}

#[test]
fn the_end_before_any_answer() {
    half("no-response", "", |_| false);
    half("reset", "", |_| true);
}

#[test]
fn the_end_within_the_head() {
    half("truncated-head", "", |peer| {
        peer.send("HTTP/1.1 200 OK\r\nContent-Le");
        false
    });
    half("truncated-head", "", |peer| {
        peer.send("HTTP/1.1 100 Continue\r\n\r\n");
        false
    });
}

#[test]
fn the_end_within_the_body() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    ] {
        half("truncated-body", "", move |peer| {
            peer.send(text);
            false
        });
    }
}

#[test]
fn a_reset_after_the_first_byte() {
    half("reset", "", |peer| {
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
        std::thread::sleep(Duration::from_millis(20));
        true
    });
}

#[test]
fn answers_that_are_not_http() {
    let head = "HTTP/1.1 200 OK\r\n";
    for (text, detail) in [
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "bad-status-line"),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n".to_owned(), "bad-status-line"),
        ("HTTP/1.1 20 OK\r\n\r\n".to_owned(), "bad-status-line"),
        ("HTTP/3.0 200 OK\r\n\r\n".to_owned(), "bad-version"),
        (format!("{head}no colon\r\n\r\n"), "bad-header"),
        (format!("{head}Content-Length: -1\r\n\r\n"), "bad-content-length"),
        (format!("{head}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), "bad-content-length"),
        (
            format!("{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "ambiguous-framing",
        ),
        (format!("{head}Transfer-Encoding: chunked, chunked\r\n\r\n"), "bad-transfer-encoding"),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), "bad-chunk"),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"), "bad-chunk"),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n"), "bad-trailer"),
        (format!("{head}X: {}\r\n\r\n", "a".repeat(70_000)), "head-too-large"),
        (format!("{head}{}\r\n", "A: b\r\n".repeat(101)), "too-many-fields"),
        ("HTTP/1.1 102 Processing\r\n\r\n".repeat(40), "too-many-informational"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".to_owned(), "unexpected-upgrade"),
    ] {
        half("malformed", detail, move |peer| {
            peer.send(&text);
            peer.hold(); // the client has to close
            false
        });
    }
}

#[test]
fn bytes_nobody_asked_for() {
    half("surplus", "", |peer| {
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n");
        peer.hold();
        false
    });
    // between two requests they belong to neither
    let server = Scripted::new(|mut peer| {
        if peer.request().is_some() {
            peer.send(ok("fine"));
            std::thread::sleep(Duration::from_millis(10));
            peer.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n").hold();
        }
    });
    let (report, _) = run_of(&server, 4, "-c 1 --think 120ms", 0);
    assert_eq!(report["outcomes"], json!({"200": 4}), "late bytes were taken for an answer");
    assert!(report["totals"]["unsolicited"].as_u64().unwrap() >= 3, "{}", report["totals"]);
    assert!(server.heard().iter().all(|heard| heard.nth == 0), "the connection was used again");
}

#[test]
fn an_answer_to_another_request() {
    half("mismatch", "", |peer| {
        peer.send("HTTP/1.1 200 OK\r\nX-Request-Id: 12345\r\nContent-Length: 2\r\n\r\nok");
        peer.hold();
        false
    });
    let close_delimited = "HTTP/1.1 200 OK\r\nX-Request-Id: 12345\r\n\r\nok";
    half("mismatch", "", move |peer| {
        peer.send(close_delimited);
        false
    });
}

#[test]
fn answers_that_do_not_come_in_time() {
    let rows = half_with("--timeout 150ms", "timeout", "", |peer| {
        peer.hold();
        false
    });
    for row in rows.iter().filter(|row| row.text("outcome") == "timeout") {
        assert!(row.ns("done_ns") - row.ns("issued_ns") >= 150_000_000, "{row:?}");
    }
    // an answer that trickles is not in time either: the limit is for the last byte
    half_with("--timeout 150ms", "timeout", "", |peer| {
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        for _ in 0..40 {
            peer.send("x");
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    });
}

#[test]
fn timeouts_are_counted_by_their_rule() {
    let scratch = Scratch::new("timeouts");
    let server = Scripted::new(|mut peer| {
        if peer.request().is_some_and(|heard| heard.id() == "0") {
            peer.send(ok("x"));
        }
        peer.hold();
    });
    let flags = format!("run {} -n 5 -c 5 --timeout 100ms --wait park", server.url("/"));
    let finished = scratch.hairspring(&flags).run().expect(0);
    assert!(finished.stdout.contains("outcomes: 200 × 1, timeout × 4"), "{finished}");
    let saved = patched(&scratch, "results/report.json", "r.json", &[("/validity/verdict", json!("valid"))]);
    scratch.hairspring(&format!("gate {saved} --sla timeouts<=3")).run().expect(2);
    scratch.hairspring(&format!("gate {saved} --sla timeouts<=4")).run().expect(0);
}

#[test]
fn a_server_that_resets_whoever_comes() {
    let server = Scripted::new(Peer::reset);
    for engine in ENGINES {
        let (report, rows) = run_of(&server, 40, &format!("--engine {engine} -c 4"), 1);
        assert_eq!(report["outcomes"], json!({"reset": 40}), "{engine}");
        assert!(rows.rows.iter().all(|row| row.text("status_code") == "-1"));
        let connects = report["totals"]["connects"].as_u64().unwrap();
        assert!(connects < 4_000, "{connects} connections for 40 requests");
    }
}

/// A connection that is gone before its request could be sent may be replaced, but not without end.
#[test]
fn a_server_that_closes_whoever_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let closing = std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            drop(stream);
            if stopped.load(Ordering::Relaxed) {
                return;
            }
        }
    });
    let finished = ENGINES.map(|engine| {
        let scratch = Scratch::new("closes");
        let flags = format!("run http://{addr}/ --engine {engine} -n 300 -c 300 --wait park");
        let finished = scratch.hairspring(&flags).run();
        (scratch, finished)
    });
    stop.store(true, Ordering::Relaxed);
    let _ = TcpStream::connect(addr);
    closing.join().unwrap();
    for (scratch, finished) in finished {
        assert_eq!(finished.code(), 1, "{finished}");
        let report = scratch.json("results/report.json");
        check_report(&report, &scratch.path("results/requests.csv")).expect_ids(300);
        let count = |class: &str| report["outcomes"][class].as_u64().unwrap_or(0);
        assert_eq!(count("no-response") + count("reset"), 300, "{}", report["outcomes"]);
        let connects = report["totals"]["connects"].as_u64().unwrap();
        assert!(connects <= 300 * 5, "{connects} connections for 300 requests");
    }
}

#[test]
fn a_reset_on_a_reused_connection() {
    // before the first byte it is the keep-alive race, behind it the server's fault
    for (sent, class) in [("", "stale-keepalive"), ("HTTP/1.1 200 OK\r\n", "reset")] {
        let server = Scripted::new(move |mut peer| {
            peer.request();
            peer.send(ok("first"));
            if peer.request().is_some() {
                peer.send(sent);
                std::thread::sleep(Duration::from_millis(20));
                peer.reset();
            }
        });
        for engine in ENGINES {
            let (report, rows) = run_of(&server, 6, &format!("--engine {engine} -c 1"), 0);
            assert_eq!(report["outcomes"], json!({"200": 3, class: 3}), "{engine}");
            let classes: Vec<&str> = rows.rows.iter().map(|row| row.text("outcome")).collect();
            assert_eq!(classes, ["200", class, "200", class, "200", class]);
        }
    }
}

#[test]
fn a_full_backlog_is_a_connect_timeout() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    // nobody accepts: connections until the kernel takes no more
    let full: Vec<TcpStream> =
        (0..8).map_while(|_| TcpStream::connect_timeout(&addr, Duration::from_millis(300)).ok()).collect();
    assert!((1..8).contains(&full.len()), "the backlog cannot be filled: {}", full.len());
    for engine in ENGINES {
        let scratch = Scratch::new("backlog");
        let flags =
            format!("run http://{addr}/ --engine {engine} -n 4 -c 2 --connect-timeout 200ms --wait park");
        scratch.hairspring(&flags).deadline(Duration::from_secs(15)).run().expect(1);
        let report = scratch.json("results/report.json");
        let rows = check_report(&report, &scratch.path("results/requests.csv"));
        assert_eq!(report["outcomes"], json!({"connect-timeout": 4}), "{engine}");
        for row in &rows.rows {
            let waited = row.ns("done_ns") - row.ns("intended_ns");
            assert!(waited >= 200_000_000 && row.number("issued_ns").is_none(), "{row:?}");
        }
    }
}

#[test]
fn failing_fast_does_not_pass_a_gate() {
    let scratch = Scratch::new("fast-503");
    // half the requests are refused at once; the others take 15 ms
    let server = Scripted::answering(|heard| {
        if heard.id().parse::<u64>().unwrap() % 2 == 1 {
            return answer(503, "busy");
        }
        std::thread::sleep(Duration::from_millis(15));
        ok("fine")
    });
    let flags = format!("run {} -n 200 -c 8 --wait park --sla p95<=10s", server.url("/"));
    let finished = scratch.hairspring(&flags).run();
    let report = scratch.json("results/report.json");
    judged(&finished, &report["validity"]["verdict"], 2);
    check_report(&report, &scratch.path("results/requests.csv"));
    assert_eq!(report["outcomes"], json!({"200": 100, "503": 100}));
    let response = &report["response_ns"];
    assert_eq!((&response["count"], &response["valued"]), (&json!(200), &json!(100)));
    for p in ["p90", "p95", "p99", "p999"] {
        assert_eq!(response[p], Value::Null, "{p} has a value among failures");
        let at_least = response["censored_at_ns"][p].as_u64().unwrap();
        assert!(at_least >= response["max"].as_u64().unwrap(), "a failure ranks behind every success");
    }
    // rank 100 of 200 is the slowest success, not the 100th fastest answer
    let p50 = response["p50"].as_u64().unwrap();
    assert!(p50 >= 15_000_000, "fast 503s made the median {p50} ns");
    assert_eq!(response["p50"], report["response_ok_ns"]["max"]);
    // as if nothing had disturbed us: other percentiles than the run's own are asked for below
    let calm = report["histograms"]["response_ok"].clone();
    let changes = [("/validity/verdict", json!("valid")), ("/histograms/undisturbed", calm)];
    let saved = patched(&scratch, "results/report.json", "saved.json", &changes);
    for (rule, code) in [
        ("p95<=10s", 2),
        ("p99.9<900s", 2),
        ("max<=10s", 2),
        ("errors<1%", 2),
        ("errors<=25%", 2),
        ("errors<=50%", 4),
        ("errors<75%", 0),
        ("p50<=10s", 4),
        ("p5<=10s", 0),
        ("mean<=10s", 0),
        ("timeouts<=0", 0),
        ("throughput>=1/s", 0),
        ("throughput>=100000/s", 2),
    ] {
        scratch.hairspring(&format!("gate {saved} --sla {rule}")).run().expect(code);
    }
}
