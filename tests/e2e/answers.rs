//! Every kind of answer that HTTP/1.1 allows, and where it comes from.

use std::time::Duration;

use serde_json::{Value, json};
use xxhash_rust::xxh64::xxh64;

use crate::support::{Heard, Rows, Scratch, Scripted, answer, check_report, ok};

/// Six requests over two connections to a server that answers like this; the report and the rows.
fn six(
    flags: &str,
    respond: impl Fn(&Heard) -> Vec<u8> + Send + Sync + 'static,
) -> (Value, Rows, Vec<Heard>) {
    let server = Scripted::answering(respond);
    let (report, rows) = six_of(flags, &server);
    (report, rows, server.heard())
}

fn six_of(flags: &str, server: &Scripted) -> (Value, Rows) {
    let scratch = Scratch::new("six");
    let flags = format!("run {} -n 6 -c 2 --wait park {flags}", server.url("/"));
    scratch.hairspring(&flags).deadline(Duration::from_secs(20)).run().expect(0);
    let report = scratch.json("results/report.json");
    let rows = check_report(&report, &scratch.path("results/requests.csv"));
    rows.expect_ids(6);
    (report, rows)
}

/// Fails unless all six were completed over two connections: the framing left nothing behind.
fn clean(report: &Value, status: &str) {
    assert_eq!(report["outcomes"], json!({status: 6}));
    assert_eq!(report["totals"]["connects"], 2, "a connection was lost");
    assert_eq!(report["totals"]["unsolicited"], 0);
}

#[test]
fn chunked_with_trailers_in_single_bytes() {
    let text =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n00a\r\n0123456789\r\n0\r\n\
        Server-Timing: service;dur=2.5, queue;dur=0.25\r\n\r\n";
    let server = Scripted::new(move |mut peer| {
        while peer.request().is_some() {
            for byte in text {
                peer.send([*byte]);
            }
        }
    });
    let (report, rows) = six_of("", &server);
    clean(&report, "200");
    for row in &rows.rows {
        assert_eq!(row.ns("bytes_received"), text.len() as u64);
        assert_eq!((row.ns("server_service_ns"), row.ns("server_queue_ns")), (2_500_000, 250_000));
    }
    assert!(rows.rows.iter().any(|row| row.ns("first_byte_ns") < row.ns("done_ns")), "none came in pieces");
}

#[test]
fn interim_answers_do_not_count_as_the_answer() {
    let (report, rows, _) = six("", |_| {
        let mut bytes =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec();
        bytes.extend(answer(201, "made"));
        bytes
    });
    clean(&report, "201");
    assert!(rows.rows.iter().all(|row| row.text("status_code") == "201"));
}

#[test]
fn statuses_without_a_body_whatever_their_fields_say() {
    for (status, field) in
        [(204, ""), (304, "Content-Length: 500\r\n"), (304, "Transfer-Encoding: chunked\r\n")]
    {
        let text = format!("HTTP/1.1 {status} X\r\n{field}\r\n");
        let (report, ..) = six("", move |_| text.clone().into_bytes());
        clean(&report, &status.to_string());
        assert_eq!(report["totals"]["successful"], 6);
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n";
    let (report, rows, heard) = six("-X HEAD", |_| head.as_bytes().to_vec());
    clean(&report, "200");
    assert!(heard.iter().all(|h| h.line().starts_with("HEAD ")));
    assert!(rows.rows.iter().all(|row| row.ns("bytes_received") == head.len() as u64));
}

#[test]
fn bodies_that_end_with_the_connection() {
    for version in ["1.0", "1.1"] {
        let server = Scripted::new(move |mut peer| {
            if peer.request().is_some() {
                peer.send(format!("HTTP/{version} 200 OK\r\n\r\nuntil ")).send("the end");
            }
        });
        let (report, _) = six_of("", &server);
        assert_eq!(report["outcomes"], json!({"200": 6}));
        assert!(report["totals"]["connects"].as_u64().unwrap() >= 6);
        assert_eq!(server.heard().len(), 6, "no request was sent twice");
    }
}

#[test]
fn a_server_that_says_close_is_believed() {
    let server = Scripted::new(|mut peer| {
        if peer.request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
            peer.hold(); // leaves the closing to the client: it must not send another here
        }
    });
    let (report, _) = six_of("", &server);
    assert_eq!(report["outcomes"], json!({"200": 6}));
    assert!(server.heard().iter().all(|h| h.nth == 0));
}

#[test]
fn digests_are_of_the_decoded_body() {
    let scratch = Scratch::new("digests");
    let plain = Scripted::answering(|heard| ok(&format!("body of {}", heard.id())));
    let chunked = Scripted::answering(|heard| {
        let (a, b) = ("body of ", heard.id());
        let length = b.len();
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{a}\r\n{length}\r\n{b}\r\n0\r\n\r\n"
        )
        .into_bytes()
    });
    let finished = scratch
        .hairspring("compare -n 12 -c 2 --rounds 1 --wait park --sla p95<=20s")
        .args_pair("--baseline-url", &plain.url("/"))
        .args_pair("--optimized-url", &chunked.url("/"))
        .run();
    assert_eq!(scratch.json("results/comparison.json")["outputs_identical"], true, "{finished}");
    for side in ["baseline", "optimized"] {
        for row in Rows::read(&scratch.path(&format!("results/{side}.csv"))).rows {
            let expected = xxh64(format!("body of {}", row.text("request_id")).as_bytes(), 0);
            assert_eq!(row.text("body_digest"), format!("{expected:016x}"), "{side}: {row:?}");
        }
    }
}

#[test]
fn what_counts_as_success_is_the_users_word() {
    let by_parity = |heard: &Heard| {
        let even = heard.id().parse::<u64>().unwrap().is_multiple_of(2);
        answer(if even { 200 } else { 404 }, "x")
    };
    for (flags, successful) in
        [("", 3), ("--ok 2xx", 3), ("--ok 404", 3), ("--ok 2xx,404", 6), ("--ok 100-999", 6), ("--ok 500", 0)]
    {
        let (report, ..) = six(flags, by_parity);
        assert_eq!(report["outcomes"], json!({"200": 3, "404": 3}), "{flags}");
        assert_eq!(report["totals"]["successful"], successful, "{flags}");
        assert_eq!(report["totals"]["completed"], 6, "{flags}: a status is an answer");
        assert_eq!(report["response_ok_ns"]["count"], successful, "{flags}");
        assert_eq!(report["response_ns"]["count"], 6, "{flags}");
        assert_eq!(report["response_by_status_ns"]["404"]["count"], 3, "{flags}");
    }
}

#[test]
fn addresses_of_every_kind() {
    let scratch = Scratch::new("addresses");
    let six = Scripted::at("[::1]:0", |mut peer| {
        while peer.request().is_some() {
            peer.send(ok("six"));
        }
    });
    let url = format!("http://[::1]:{}/", six.addr().port());
    scratch.hairspring(&format!("run {url} -n 3 -c 1 --wait park")).run().expect(0);
    assert_eq!(scratch.json("results/report.json")["outcomes"], json!({"200": 3}));
    let host = format!("[::1]:{}", six.addr().port());
    assert!(six.heard().iter().all(|h| h.field("Host") == Some(&host)));

    // localhost may be ::1 first; the server is on 127.0.0.1 alone
    let four = Scripted::answering(|_| ok("four"));
    let port = four.addr().port();
    scratch.hairspring(&format!("run http://localhost:{port}/ -n 3 -c 1 --wait park")).run().expect(0);
    assert_eq!(scratch.json("results/report.json")["outcomes"], json!({"200": 3}));
    assert!(four.heard().iter().all(|h| h.field("Host") == Some(&format!("localhost:{port}"))));
}

/// A server that answers one request on each connection and closes when the second arrives: the keep-alive race.
fn one_each() -> Scripted {
    Scripted::new(|mut peer| {
        if peer.request().is_some() {
            peer.send(ok("first"));
            peer.request();
        }
    })
}

#[test]
fn a_stale_connection_fails_its_request_unless_the_user_wants_a_retry() {
    let scratch = Scratch::new("stale");
    let server = one_each();
    scratch.hairspring(&format!("run {} -n 6 -c 1 --wait park", server.url("/"))).run().expect(0);
    let report = scratch.json("results/report.json");
    check_report(&report, &scratch.path("results/requests.csv"));
    assert_eq!(report["outcomes"], json!({"200": 3, "stale-keepalive": 3}));
    assert_eq!(report["totals"]["retries"], 0);
    assert_eq!(server.heard().len(), 6);

    let server = one_each();
    let flags = format!("run {} -n 6 -c 1 --wait park --retry-stale", server.url("/"));
    scratch.hairspring(&flags).run().expect(0);
    let report = scratch.json("results/report.json");
    let rows = check_report(&report, &scratch.path("results/requests.csv"));
    assert_eq!(report["outcomes"], json!({"200": 6}));
    assert_eq!(report["totals"]["retries"], 5);
    let second: Vec<&str> =
        rows.rows.iter().filter(|r| r.text("attempt") == "2").map(|r| r.text("request_id")).collect();
    assert_eq!(second, ["1", "2", "3", "4", "5"]);
    let heard = server.heard();
    assert_eq!(heard.len(), 11, "six requests, five of them twice");
    for request in &heard {
        let again = request.field("X-Attempt").is_some();
        assert_eq!(again, request.nth == 0 && request.id() != "0", "{request:?}");
        assert!(!again || request.field("X-Attempt") == Some("2"));
    }
    // a retry keeps its intended time: the first attempt is part of what the user waited
    for row in rows.rows.iter().filter(|r| r.text("attempt") == "2") {
        assert!(row.ns("ready_ns") > row.ns("intended_ns"), "{row:?}");
    }
}

/// The second attempt is the last: a server that never answers on a reused connection cannot make a loop of it.
#[test]
fn a_retry_is_made_once() {
    let scratch = Scratch::new("retry-once");
    // the first connection answers once and closes; every later one closes at its first request
    let server = Scripted::new(|mut peer| {
        if peer.request().is_some() && peer.index == 0 {
            peer.send(ok("first"));
            peer.request();
        }
    });
    let flags = format!("run {} -n 3 -c 1 --wait park --retry-stale", server.url("/"));
    scratch.hairspring(&flags).run().expect(0);
    let report = scratch.json("results/report.json");
    check_report(&report, &scratch.path("results/requests.csv"));
    assert_eq!(report["outcomes"], json!({"200": 1, "no-response": 2}));
    assert_eq!(report["totals"]["retries"], 1);
}
