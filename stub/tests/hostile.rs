//! Clients that mean harm, on raw sockets, against every model: request smuggling, forms and bytes that are no HTTP,
//! endless heads, bodies and trailers, floods. Each gets its status and a closed connection where it must, nothing of
//! what it smuggled is served, and others are served meanwhile.

use std::time::{Duration, Instant};

use hairspring_stub::{Model, Server};

use crate::support::{Client, MODELS, get, infer, start, until};

/// What a smuggler hides behind a request whose end is in doubt. It must never be answered.
const HIDDEN: &str = "GET /stats HTTP/1.1\r\nHost: a\r\nX-Request-Id: smuggled\r\n\r\n";

/// A POST with these lines and what follows its head.
fn post(lines: &str, rest: &str) -> String {
    format!("POST /v1/infer HTTP/1.1\r\nHost: a\r\n{lines}\r\n{rest}")
}

/// Requests that two servers could end at two places, and what each is refused with.
fn ambiguous() -> Vec<(String, u16)> {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let after_chunks = |wire: &str| post(chunked, wire);
    let mut cases = vec![
        // two framings
        (post(&format!("Content-Length: 6\r\n{chunked}"), "0\r\n\r\nX"), 400),
        (post(&format!("{chunked}Content-Length: 6\r\n"), "0\r\n\r\nX"), 400),
        (post("Content-Length: 0\r\nContent-Length: 5\r\n", "hello"), 400),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), 400),
        (post("Content-Length: 5\r\ncontent-length: 0\r\n", "hello"), 400),
        // lengths that are no numbers
        (post("Content-Length: 5, 5\r\n", "hello"), 400),
        (post("Content-Length: +5\r\n", "hello"), 400),
        (post("Content-Length: 0x5\r\n", "hello"), 400),
        (post("Content-Length: 5 0\r\n", "hello"), 400),
        (post("Content-Length: -0\r\n", ""), 400),
        (post("Content-Length: 5\u{b}\r\n", "hello"), 400),
        // a field that is one to some
        (post("Content-Length : 5\r\n", "hello"), 400),
        (post("Content-Length\t: 5\r\n", "hello"), 400),
        (post(" Content-Length: 5\r\n", "hello"), 400),
        (post("Content-Length:\r\n 5\r\n", "hello"), 400),
        (post("X: y\rContent-Length: 5\r\n", "hello"), 400),
        (post("X: y\0\r\nContent-Length: 0\r\n", ""), 400),
        (post("Content_Length: 5\r\n", "hello"), 411),
        (post("Content-Length5\r\n", ""), 400),
        // codings that are chunked to some
        (post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: identity, chunked\r\n", "0\r\n\r\n"), 501),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: \u{b}chunked\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), 400),
        (post("X: y\nTransfer-Encoding: chunked\nContent-Length: 4\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: chunked\0\r\n", "0\r\n\r\n"), 400),
        ("POST /v1/infer HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 400),
        // ends of a line or a head
        ("GET /stats HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n".to_owned(), 400),
        ("GET /stats HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n".to_owned(), 400),
    ];
    for wire in [
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\t;a\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-1\r\n",
        "5_\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\n\n",
    ] {
        cases.push((after_chunks(wire), 400));
    }
    cases
}

/// What no server should take for a request, and what it is refused with.
fn garbage() -> Vec<(Vec<u8>, u16)> {
    let request = |line: &str| format!("{line}\r\nHost: a\r\n\r\n").into_bytes();
    let mut cases = vec![
        (request("GET /\0 HTTP/1.1"), 400),
        (request("GET /\x7f HTTP/1.1"), 400),
        (request("GET\t/ HTTP/1.1"), 400),
        (request("GET /\tHTTP/1.1"), 400),
        (request("GET /a b HTTP/1.1"), 400),
        (request("GET / HTTP/1.1 "), 400),
        (request("GET / HTTP/1.10"), 400),
        (request("GET / http/1.1"), 400),
        (request("GET / HTTP/1,1"), 400),
        (request("GET / HTTP/3.0"), 505),
        (request("GET / HTTP/0.9"), 505),
        (request("GET /"), 400),
        (request("GET"), 400),
        (request("GET a HTTP/1.1"), 400),
        (request("GET ../stats HTTP/1.1"), 400),
        (request("GET ftp://a/ HTTP/1.1"), 400),
        (request("GET http:// HTTP/1.1"), 400),
        (request("GET http://a\\b/ HTTP/1.1"), 400),
        (request("GET a:80 HTTP/1.1"), 400),
        (request("CONNECT a:80 HTTP/1.1"), 400),
        (request("CONNECT / HTTP/1.1"), 400),
        (request("GET * HTTP/1.1"), 400),
        (request("POST * HTTP/1.1"), 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(), 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_vec(), 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_vec(), 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_vec(), 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n".to_vec(), 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA(: x\r\n\r\n".to_vec(), 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 505),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00".to_vec(), 400),
        (b"\0".to_vec(), 400),
        (b"\xff\xfe".to_vec(), 400),
        (b" GET / HTTP/1.1\r\n\r\n".to_vec(), 400),
    ];
    for control in (0..=0x1f).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
        let mut bytes = b"GET /stats HTTP/1.1\r\nHost: a\r\nX: a".to_vec();
        bytes.push(control);
        bytes.extend_from_slice(b"b\r\n\r\n");
        cases.push((bytes, 400));
    }
    cases
}

/// Sends `bytes`, in two pieces if `at`, and insists on one answer with this status and a closed connection.
fn refused(model: Model, server: &Server, bytes: &[u8], at: Option<usize>, status: u16) {
    let what = format!("{model:?}, cut at {at:?}: {}", bytes.escape_ascii());
    let mut client = Client::connect(server.addr());
    let (left, right) = bytes.split_at(at.unwrap_or(bytes.len()));
    // It may be refused before its last byte.
    let _ = client.try_send(left);
    if !right.is_empty() {
        std::thread::sleep(Duration::from_micros(200));
        let _ = client.try_send(right);
    }
    let answer = client.response().unwrap_or_else(|| panic!("no answer: {what}"));
    assert_eq!(answer.status, status, "{what}");
    assert_eq!(answer.field("Connection"), Some("close"), "{what}");
    assert!(client.is_closed(), "more than one answer, or left open: {what}");
}

fn is_alive(model: Model, server: &Server) {
    let answer = Client::connect(server.addr()).exchange(infer("after"));
    assert_eq!(answer.status, 200, "{model:?}");
    until("all connections closed", || server.counts().open == 0);
    assert_eq!(server.counts().in_flight, 0, "{model:?}");
}

#[test]
fn nothing_is_smuggled() {
    for model in MODELS {
        let server = start(model, "fixed:0ms", |_| {});
        for (request, status) in ambiguous() {
            let bytes = [request.as_bytes(), HIDDEN.as_bytes()].concat();
            refused(model, &server, &bytes, None, status);
            refused(model, &server, &bytes, Some(request.len()), status);
            refused(model, &server, &bytes, Some(request.len() / 2), status);
        }
        assert_eq!(server.counts().statuses.get(&200), None, "{model:?}: something hidden was served");
        is_alive(model, &server);
    }
}

#[test]
fn a_body_is_not_a_request_and_what_follows_it_is_one() {
    let hidden = HIDDEN.len();
    let chunked = post("Transfer-Encoding: chunked\r\n", "");
    for model in MODELS {
        let server = start(model, "fixed:0ms", |_| {});
        for first in [
            post(&format!("Content-Length: {hidden}\r\n"), HIDDEN),
            format!("{chunked}{hidden:x}\r\n{HIDDEN}\r\n0\r\nContent-Length: 3\r\nHost: b\r\n\r\n"),
            // a GET may have a body, which is not the next request either
            format!("GET /health/live HTTP/1.1\r\nHost: a\r\nContent-Length: {hidden}\r\n\r\n{HIDDEN}"),
        ] {
            let mut client = Client::connect(server.addr());
            client.send(first + &infer("second"));
            let first = client.response().expect("an answer");
            assert_eq!((first.status, first.field("X-Request-Id")), (200, None), "{model:?}");
            let second = client.response().expect("an answer");
            assert_eq!(second.field("X-Request-Id"), Some("second"), "{model:?}");
        }
        is_alive(model, &server);
    }
}

#[test]
fn garbage_is_refused_and_closed() {
    for model in MODELS {
        let server = start(model, "fixed:0ms", |_| {});
        for (bytes, status) in garbage() {
            refused(model, &server, &bytes, None, status);
        }
        assert_eq!(server.counts().statuses.get(&200), None, "{model:?}");
        is_alive(model, &server);
    }
}

/// Sends `block` over and over until the server answers or hangs up; fails if it takes more than 64 MiB.
fn endless(model: Model, server: &Server, start: &str, block: &[u8], status: u16) {
    let what = format!("{model:?}: {start}… {}", block[..block.len().min(30)].escape_ascii());
    let mut client = Client::connect(server.addr());
    client.send(start);
    let mut sent = 0;
    while sent < 64 << 20 && client.try_send(block).is_ok() && !client.has_answer() {
        sent += block.len();
    }
    assert!(sent < 64 << 20, "it would take for ever: {what}");
    assert_eq!(client.response().map(|answer| answer.status), Some(status), "{what}");
}

#[test]
fn what_never_ends_is_cut_off() {
    let many = |text: &str| text.repeat(16 * 1024 / text.len()).into_bytes();
    let get = "GET /stats HTTP/1.1\r\nHost: a\r\n";
    let chunked = post("Transfer-Encoding: chunked\r\n", "");
    for model in MODELS {
        let server = start(model, "fixed:0ms", |config| config.body_limit = 100_000);
        for (start, block, status) in [
            ("G", many("E"), 414),
            ("GET /", many("a"), 414),
            (get, many("A: b\r\n"), 431),
            (&format!("{get}A"), many("a"), 431),
            (&format!("{get}A: "), many("a"), 431),
            ("\r\n", many("\r\n"), 400),
            ("\n", many("\n"), 400),
            (&chunked, many("1\r\nx\r\n"), 413),
            (&format!("{chunked}1"), many("0"), 400),
            (&format!("{chunked}1;"), many("a"), 400),
            (&format!("{chunked}0\r\n"), many("A: b\r\n"), 431),
            (&format!("{chunked}0\r\nA: "), many("a"), 431),
            (&format!("{chunked}ffffff\r\n"), many("a"), 413),
            (&post("Content-Length: 18446744073709551615\r\n", ""), many("a"), 413),
            (&post("Content-Length: 99999999999999999999999\r\n", ""), many("a"), 413),
        ] {
            endless(model, &server, start, &block, status);
        }
        is_alive(model, &server);
    }
}

#[test]
fn tricklers_are_late_however_busy_they_look() {
    for model in MODELS {
        let server = start(model, "fixed:0ms", |config| {
            config.header_timeout = 300_000_000;
            config.body_timeout = 300_000_000;
            config.idle_timeout = 300_000_000;
        });
        let chunked = post("Transfer-Encoding: chunked\r\n", "");
        // A byte every 10 ms, for ever: the deadline is that of the whole, not of the next byte.
        for (begin, byte) in [
            ("GET /stats HTTP/1.1\r\nHost: a\r\nX: ", "a"),
            ("GET /", "a"),
            (post("Content-Length: 1000\r\n", "x").as_str(), "a"),
            (format!("{chunked}ff\r\n").as_str(), "a"),
            (format!("{chunked}0\r\nX: ").as_str(), "a"),
        ] {
            let mut slow = Client::connect(server.addr());
            slow.send(begin);
            let began = Instant::now();
            while !slow.has_answer() && slow.try_send(byte).is_ok() {
                assert!(began.elapsed() < Duration::from_secs(8), "{model:?}: {begin} is waited for");
                let answer = Client::connect(server.addr()).exchange(get("/health/live"));
                assert_eq!(answer.status, 200, "{model:?}: held up by {begin}");
                std::thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(slow.response().map(|answer| answer.status), Some(408), "{model:?}: {begin}");
        }
        is_alive(model, &server);
    }
}

#[test]
fn a_flood_of_pipelined_requests_is_answered_in_order_or_not_read() {
    const FLOOD: usize = 20_000;
    for model in MODELS {
        let server = start(model, "fixed:0ms", |config| config.body_timeout = 1_000_000_000);
        // One that reads gets every answer, in order.
        let mut reader = Client::connect(server.addr());
        let mut writer = reader.writer();
        let sender = std::thread::spawn(move || {
            let all: String = (0..FLOOD).map(|id| infer(&id.to_string())).collect();
            std::io::Write::write_all(&mut writer, all.as_bytes())
        });
        // One that does not is not read either, and is dropped when its time is over.
        let mut deaf = Client::connect(server.addr());
        let flood = infer("deaf").repeat(500);
        deaf.give_up_after(Duration::from_millis(300));
        let taken = (0..1_000).take_while(|_| deaf.try_send(&flood).is_ok()).count();
        assert!(taken < 1_000, "{model:?}: 50 MB of requests were read that nobody took the answers of");
        for id in 0..FLOOD {
            let answer = reader.response().expect("an answer");
            assert_eq!(answer.field("X-Request-Id"), Some(id.to_string().as_str()), "{model:?}");
        }
        sender.join().expect("sender").expect("sent");
        drop(reader);
        until("the deaf one dropped", || server.counts().open == 0);
        drop(deaf);
        is_alive(model, &server);
    }
}
