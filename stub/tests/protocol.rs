//! HTTP on the wire, against every model: framing, persistence, errors, closing.

use hairspring_stub::{Model, Server};

use crate::support::{Client, MODELS, get, infer, infer_with, start};

/// Runs a test against every model.
fn for_each_model(test: impl Fn(Model, &Server)) {
    for model in MODELS {
        let server = start(model, "fixed:0ms", |config| config.body_limit = 10_000);
        test(model, &server);
        server.stop().expect("stop");
    }
}

#[test]
fn requests_are_answered_on_one_connection_in_order() {
    for_each_model(|model, server| {
        let mut client = Client::connect(server.addr());
        let ids: Vec<String> = (0..300).map(|i| format!("p{i}")).collect();
        let pipelined: String = ids.iter().map(|id| infer(id) + &get("/health/live")).collect();
        client.send(pipelined);
        for id in &ids {
            let answer = client.response().expect("an answer");
            assert_eq!((answer.status, answer.field("X-Request-Id")), (200, Some(id.as_str())), "{model:?}");
            assert_eq!(client.response().map(|r| r.status), Some(200), "{model:?}");
        }
    });
}

#[test]
fn bodies_come_by_length_by_chunks_or_in_pieces() {
    for_each_model(|model, server| {
        let mut client = Client::connect(server.addr());
        let head = "POST /v1/infer HTTP/1.1\r\nHost: a\r\nX-Request-Id: 7\r\n";
        let by_length = client.exchange(format!("{head}Content-Length: 5\r\n\r\nhello"));
        let chunked =
            format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nSum: 1\r\n\r\n");
        assert_eq!(client.exchange(&chunked).content(), by_length.clone().content(), "{model:?}");
        for byte in chunked.as_bytes().chunks(1) {
            client.send(byte);
        }
        assert_eq!(client.response().expect("an answer").content(), by_length.clone().content(), "{model:?}");
        assert_eq!(by_length.json()["body_digest"], "xxh64:26c7827d889f6da3");
        assert_eq!(by_length.json()["id"], "7");
        let nameless = client.exchange("POST /v1/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert!(nameless.json()["id"].is_null() && nameless.field("X-Request-Id").is_none());
    });
}

#[test]
fn connections_persist_as_version_and_client_want() {
    for_each_model(|model, server| {
        for (request, field, closes) in [
            ("GET /health/live HTTP/1.0\r\n\r\n".to_owned(), Some("close"), true),
            (
                "GET /health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned(),
                Some("keep-alive"),
                false,
            ),
            (infer("a"), None, false),
            (infer_with("a", "Connection: close\r\n"), Some("close"), true),
        ] {
            let mut client = Client::connect(server.addr());
            let answer = client.exchange(&request);
            assert_eq!((answer.status, answer.field("Connection")), (200, field), "{model:?} {request}");
            if closes {
                assert!(client.is_closed(), "{model:?} {request}");
            } else {
                assert_eq!(client.exchange(get("/health/ready")).status, 200, "{model:?} {request}");
            }
        }
    });
}

#[test]
fn a_body_is_asked_for_only_if_it_will_be_taken() {
    for_each_model(|model, server| {
        let mut client = Client::connect(server.addr());
        let head = |path| {
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        };
        assert_eq!(client.exchange(head("/v1/infer")).status, 100, "{model:?}");
        assert_eq!(client.exchange("hi").status, 200, "{model:?}");
        assert_eq!(client.exchange(head("/nowhere")).status, 404, "{model:?}");
        assert!(client.is_closed(), "{model:?}");
    });
}

#[test]
fn head_is_get_without_the_body() {
    for_each_model(|model, server| {
        let mut client = Client::connect(server.addr());
        for path in ["/health/live", "/health/ready", "/health/startup"] {
            let whole = client.exchange(get(path));
            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let head = client.response_to(true).expect("an answer");
            assert_eq!(head.field("Content-Length"), whole.field("Content-Length"), "{model:?}");
            assert_eq!(head.status, 200, "{model:?}");
        }
        assert_eq!(client.exchange(get("/stats")).json()["model"], model.name());
    });
}

#[test]
fn metrics_are_the_counts_as_openmetrics() {
    for_each_model(|model, server| {
        let mut client = Client::connect(server.addr());
        (0..3).for_each(|id| drop(client.exchange(infer(&id.to_string()))));
        client.exchange(get("/nowhere"));
        let answer = client.exchange(get("/metrics"));
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!((answer.status, answer.field("Content-Type")), (200, Some(kind)), "{model:?}");
        let text = String::from_utf8(answer.body).expect("text");
        for line in [
            "# TYPE stub_requests counter",
            "stub_requests_total{status=\"200\"} 3",
            "stub_requests_total{status=\"404\"} 1",
            "stub_connections_accepted_total 1",
            "stub_connections_open 1",
            "stub_requests_in_flight 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{model:?}, {line}: {text}");
        }
        assert_eq!(text.contains("\nstub_queue_requests 0\n"), model == Model::Pool, "{text}");
        assert!(text.ends_with("\n# EOF\n"), "{text}");
    });
}

/// Requests, the status each must get, and whether the connection must close.
fn wrong_requests() -> Vec<(String, u16, bool)> {
    let post = |lines: &str| format!("POST /v1/infer HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let long = "x".repeat(9000);
    vec![
        (get("/nowhere"), 404, false),
        (get("/v1/infer"), 405, false),
        ("HEAD /v1/infer HTTP/1.0\r\n\r\n".to_owned(), 405, true),
        ("DELETE /stats HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405, false),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 200, false),
        ("BREW /v1/infer HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 501, false),
        (infer_with("b", "X-Request-Id: c\r\n"), 400, false),
        (infer("two words"), 400, false),
        (get("http://other/health/live"), 200, false),
        (get("other:80"), 400, true),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, true),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03".to_owned(), 400, true),
        (post(""), 411, true),
        (post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400, true),
        (post("Content-Length: 1\r\nContent-Length: 2\r\n"), 400, true),
        (post("Transfer-Encoding: chunked, gzip\r\n"), 400, true),
        (post("Transfer-Encoding: gzip, chunked\r\n"), 501, true),
        (post("Transfer-Encoding: chunked\r\n") + "5\r\nhelloXX", 400, true),
        (post("Expect: tea\r\nContent-Length: 1\r\n"), 417, true),
        (post("Content-Length: 10001\r\n") + &"x".repeat(10_001), 413, true),
        (get(&format!("/{long}")), 414, true),
        (post(&"A: b\r\n".repeat(101)), 431, true),
        (post(&format!("A: {}\r\n", "x".repeat(40_000))), 431, true),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505, true),
    ]
}

#[test]
fn wrong_requests_get_their_status_and_close_where_they_must() {
    for_each_model(|model, server| {
        for (request, status, closes) in wrong_requests() {
            let what = format!("{model:?}: {}", &request[..request.len().min(200)]);
            let mut client = Client::connect(server.addr());
            client.send(&request);
            let head = request.starts_with("HEAD");
            let answer = client.response_to(head).expect("an answer");
            assert_eq!(answer.status, status, "{what}");
            assert_eq!(answer.field("Connection") == Some("close"), closes, "{what}");
            assert_eq!(
                answer.field("Allow").is_some(),
                status == 405 || request.starts_with("OPTIONS"),
                "{what}"
            );
            if closes {
                assert!(client.is_closed(), "{what}");
            } else {
                assert_eq!(client.exchange(get("/health/live")).status, 200, "{what}");
            }
        }
    });
}

#[test]
fn the_last_answer_survives_bytes_nobody_reads() {
    for_each_model(|model, server| {
        let mut client = Client::connect(server.addr());
        client.send("POST /v1/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n");
        // The server may stop reading at any time: that the answer is still readable is the point.
        let _ = client.try_send(vec![b'x'; 4_000_000]);
        assert_eq!(client.response().map(|r| r.status), Some(413), "{model:?}");
        assert!(client.is_closed(), "{model:?}");
    });
}

#[test]
fn a_client_that_has_ended_its_side_is_still_answered() {
    for_each_model(|model, server| {
        let mut client = Client::connect(server.addr());
        client.send(infer("1") + &infer("2") + &infer("3"));
        client.end();
        for id in ["1", "2", "3"] {
            assert_eq!(client.response().expect("an answer").field("X-Request-Id"), Some(id), "{model:?}");
        }
        assert!(client.is_closed(), "{model:?}");
        let mut half = Client::connect(server.addr());
        half.send("POST /v1/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe");
        half.end();
        assert_eq!(half.response().map(|r| r.status), Some(400), "{model:?}");
        assert!(half.is_closed(), "{model:?}");
    });
}
