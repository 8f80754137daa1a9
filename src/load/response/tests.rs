//! Tests of the decoder: a table of answers, each cut in every way, and what a table cannot show.

/// A 200 of HTTP/1.1 with these fields and this body.
macro_rules! ok {
    ($fields:literal) => {
        ok!($fields, "")
    };
    ($fields:literal, $body:literal) => {
        concat!("HTTP/1.1 200 OK\r\n", $fields, "\r\n", $body)
    };
}

/// A chunked 200 whose body is these bytes on the wire.
macro_rules! chunked {
    ($wire:literal) => {
        ok!("Transfer-Encoding: chunked\r\n", $wire)
    };
}

mod cases;
mod refused;

use xxhash_rust::xxh64::xxh64;

use self::cases::{Case, Expect};
use super::*;
use crate::load::time::Nanos;

const ID: &[u8] = b"42";

/// All that can be observed of one run over a stream that ends after its last byte.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Complete { used: usize, response: Response },
    AtEnd { end: End, response: Response },
    Bad(Malformed),
}

fn decoder() -> Decoder {
    Decoder::new(Limits::default())
}

fn run<'a>(decoder: &mut Decoder, head_request: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    decoder.begin(head_request, true);
    let mut before = 0;
    for piece in pieces {
        match decoder.feed(piece, ID) {
            Ok(Progress::Partial) => before += piece.len(),
            Ok(Progress::Complete { used }) => {
                assert!(used <= piece.len());
                assert_eq!(decoder.feed(b"HTTP/1.1", ID), Ok(Progress::Complete { used: 0 }));
                let response = decoder.response().clone();
                assert_eq!(response.total_bytes, (before + used) as u64);
                return Seen::Complete { used: before + used, response };
            }
            Err(reason) => {
                assert_eq!(decoder.feed(b"", ID), Err(reason), "it stays malformed");
                return Seen::Bad(reason);
            }
        }
    }
    let end = decoder.eof();
    let response = decoder.response().clone();
    assert_eq!(response.total_bytes, before as u64);
    Seen::AtEnd { end, response }
}

fn whole(raw: &[u8], head_request: bool) -> Seen {
    run(&mut decoder(), head_request, [raw])
}

fn check(case: &Case, seen: &Seen) {
    let text = String::from_utf8_lossy(case.raw);
    match (&case.expect, seen) {
        (Expect::Bad(expected), Seen::Bad(reason)) => assert_eq!(expected, reason, "{text}"),
        (Expect::Cut(expected), Seen::AtEnd { end, .. }) => assert_eq!(expected, end, "{text}"),
        (Expect::Answer { framing: Framing::Close, .. }, Seen::AtEnd { end: End::Complete, response }) => {
            check_answer(case, response);
        }
        (Expect::Answer { framing, .. }, Seen::Complete { used, response }) if *framing != Framing::Close => {
            assert_eq!(*used, case.raw.len(), "{text}");
            check_answer(case, response);
        }
        _ => panic!("{text}: {seen:?}"),
    }
}

fn check_answer(case: &Case, response: &Response) {
    let text = String::from_utf8_lossy(case.raw);
    let Expect::Answer { status, body, keep_alive, framing } = &case.expect else {
        panic!("{text} is no answer");
    };
    assert_eq!(response.status, *status, "{text}");
    assert_eq!(response.body_bytes, body.len() as u64, "{text}");
    assert_eq!(response.digest, Some(xxh64(body, 0)), "{text}");
    assert_eq!(response.keep_alive, *keep_alive, "{text}");
    assert_eq!(response.framing, *framing, "{text}");
}

#[test]
fn every_case_however_it_is_cut() {
    let cases = cases::all();
    assert!(cases.len() >= 70, "{}", cases.len());
    let mut reused = decoder();
    for case in &cases {
        let expected = whole(case.raw, case.head_request);
        check(case, &expected);
        let bytes = run(&mut reused, case.head_request, case.raw.chunks(1));
        assert_eq!(bytes, expected, "{}", String::from_utf8_lossy(case.raw));
        for at in 0..=case.raw.len() {
            let (left, right) = case.raw.split_at(at);
            let seen = run(&mut reused, case.head_request, [left, right]);
            assert_eq!(seen, expected, "at {at}: {}", String::from_utf8_lossy(case.raw));
        }
    }
}

#[test]
fn what_follows_an_answer_is_left_alone() {
    let second = b"HTTP/1.1 404 No\r\nContent-Length: 3\r\n\r\nabc";
    for case in cases::all() {
        if !matches!(whole(case.raw, case.head_request), Seen::Complete { .. }) {
            continue;
        }
        let glued = [case.raw, second].concat();
        for at in 0..glued.len() {
            let mut decoder = decoder();
            let (left, right) = glued.split_at(at);
            let Seen::Complete { used, .. } = run(&mut decoder, case.head_request, [left, right]) else {
                panic!("{} is complete", String::from_utf8_lossy(case.raw));
            };
            assert_eq!(used, case.raw.len(), "{}", String::from_utf8_lossy(case.raw));
            let Seen::Complete { response, .. } = run(&mut decoder, false, [&glued[used..]]) else {
                panic!("the second is complete");
            };
            assert_eq!((response.status, response.body_bytes), (404, 3));
            assert_eq!(response.digest, Some(xxh64(b"abc", 0)), "nothing is left of the first");
        }
    }
}

#[test]
fn the_digest_is_that_of_the_body_at_every_split() {
    let body: Vec<u8> = (0..150u8).collect();
    let mut wire = Vec::new();
    for chunk in body.chunks(37) {
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    for (field, wire) in
        [("Content-Length: 150", &body), ("Transfer-Encoding: chunked", &wire), ("A: b", &body)]
    {
        let raw = [format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n").as_bytes(), wire].concat();
        for at in 0..=raw.len() {
            let mut decoder = decoder();
            let seen = run(&mut decoder, false, [&raw[..at], &raw[at..]]);
            assert_eq!(decoder.response().body_bytes, 150, "{field} at {at}: {seen:?}");
            assert_eq!(decoder.response().digest, Some(xxh64(&body, 0)), "{field} at {at}");
        }
    }
}

#[test]
fn lenience_is_noted() {
    let noted = |raw: &str| match whole(raw.as_bytes(), true) {
        Seen::Complete { response, .. } => (response.bare_lf, response.folded),
        seen => panic!("{raw}: {seen:?}"),
    };
    assert_eq!(noted("HTTP/1.1 200 OK\r\nA: b\r\n\r\n"), (false, 0));
    assert_eq!(noted("HTTP/1.1 200 OK\nA: b\r\n\r\n"), (true, 0));
    assert_eq!(noted("HTTP/1.1 200 OK\r\nA: b\n\r\n"), (true, 0));
    assert_eq!(noted("HTTP/1.1 200 OK\r\nA: b\r\n\n"), (true, 0));
    assert_eq!(noted("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\td\r\nE: f\r\n\r\n"), (false, 2));
    assert_eq!(noted("HTTP/1.1 100 C\n\r\nHTTP/1.1 200 OK\r\n\r\n"), (true, 0));
}

#[test]
fn an_echoed_id_must_be_ours() {
    let mismatch = |fields: &str, id: &[u8]| {
        let mut decoder = decoder();
        decoder.begin(false, false);
        let raw = format!("HTTP/1.1 204 No\r\n{fields}\r\n");
        assert_eq!(decoder.feed(raw.as_bytes(), id), Ok(Progress::Complete { used: raw.len() }));
        assert_eq!(decoder.response().digest, None, "it was not asked for");
        decoder.response().id_mismatch
    };
    assert!(!mismatch("", ID));
    assert!(!mismatch("x-request-ID: 42\r\n", ID));
    assert!(mismatch("X-Request-Id: 43\r\n", ID));
    assert!(mismatch("X-Request-Id: 4\r\n", ID));
    assert!(mismatch("X-Request-Id:\r\n", ID));
    assert!(mismatch("X-Request-Id: 42\r\nX-Request-Id: 43\r\n", ID));
    assert!(!mismatch("X-Request-Id: 43\r\n", b""), "none was sent");
}

#[test]
fn server_timing_of_head_and_trailer() {
    let raw = b"HTTP/1.1 103 Early\r\nServer-Timing: recv;dur=9\r\n\r\n\
        HTTP/1.1 200 OK\r\nServer-Timing: queue;dur=1\r\nserver-timing: recv;dur=2\r\n\
        Transfer-Encoding: chunked\r\n\r\n0\r\nServer-Timing: queue;dur=7, service;dur=3\r\n\r\n";
    let Seen::Complete { response, .. } = whole(raw, false) else { panic!("complete") };
    let expected = ServerTiming {
        recv: Some(Nanos::from_millis(2)),
        queue: Some(Nanos::from_millis(1)),
        queue_from_read: None,
        service: Some(Nanos::from_millis(3)),
    };
    assert_eq!(response.timing, expected);
    assert_eq!(response.informational, 1);
}

#[test]
fn the_first_byte_is_that_of_the_final_response() {
    let mut decoder = decoder();
    decoder.begin(false, false);
    assert!(decoder.awaiting_first_byte());
    for (bytes, first, awaiting) in [
        (&b""[..], false, true),
        (b"HTTP/1.1 102 P\r\n\r\n", false, true),
        (b"HTTP/1.1 10", true, false), // may be the final one
        (b"0 Continue\r\n\r", false, false),
        (b"\n", false, true), // it was not
        (b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 10", true, false),
        (b"2 P\r\n\r\nHTT", true, false), // first byte glued to the rest of a 1xx
        (b"P/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", false, false),
        (b"ok", false, false),
    ] {
        decoder.feed(bytes, ID).expect("well-formed");
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(decoder.first_byte_in_last_feed(), first, "{shown}");
        assert_eq!(decoder.awaiting_first_byte(), awaiting, "{shown}");
    }
    assert_eq!((decoder.eof(), decoder.response().informational), (End::Complete, 4));
}

#[test]
fn before_the_first_request_all_is_surplus() {
    let mut decoder = decoder();
    assert!(!decoder.awaiting_first_byte());
    assert_eq!(decoder.feed(b"HTTP/1.1 408 Timeout\r\n\r\n", ID), Ok(Progress::Complete { used: 0 }));
}

#[test]
fn limits_hold_to_the_byte() {
    let limits = Limits { head_bytes: 100, informational: 2, chunk_extension_bytes: 10, trailer_bytes: 20 };
    let seen = |raw: &str| {
        let mut decoder = Decoder::new(limits);
        let seen = run(&mut decoder, false, [raw.as_bytes()]);
        assert_eq!(run(&mut decoder, false, raw.as_bytes().chunks(1)), seen, "{raw}");
        assert!(decoder.gather.capacity() <= 128, "{}", decoder.gather.capacity());
        match seen {
            Seen::Bad(reason) => Some(reason),
            Seen::Complete { .. } => None,
            Seen::AtEnd { end, .. } => panic!("{raw}: {end:?}"),
        }
    };
    let padded = |len: usize| {
        let head = "HTTP/1.1 204 No\r\nA: ";
        format!("{head}{}\r\n\r\n", "x".repeat(len - head.len() - 4))
    };
    assert_eq!(seen(&padded(100)), None);
    assert_eq!(seen(&padded(101)), Some(Malformed::HeadTooLarge));
    assert_eq!(seen(&padded(100_000)), Some(Malformed::HeadTooLarge));

    let interim = |count| "HTTP/1.1 100 C\r\n\r\n".repeat(count) + "HTTP/1.1 204 No\r\n\r\n";
    assert_eq!(seen(&interim(2)), None);
    assert_eq!(seen(&interim(3)), Some(Malformed::TooManyInformational));

    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let extended = |ext: &str| format!("{chunked}1{ext}\r\nx\r\n1{ext}\r\nx\r\n0\r\n\r\n");
    assert_eq!(seen(&extended(";123456789")), None);
    assert_eq!(seen(&extended(";1234567890")), Some(Malformed::BadChunk));

    let trailed = |len: usize| format!("{chunked}0\r\nA: {}\r\n\r\n", "x".repeat(len - 7));
    assert_eq!(seen(&trailed(20)), None);
    assert_eq!(seen(&trailed(21)), Some(Malformed::TrailerTooLarge));
}

#[test]
fn a_hundred_fields_and_no_more() {
    let fields = |count| "A: b\r\n".repeat(count);
    let chunked = "Transfer-Encoding: chunked\r\n\r\n0\r\n";
    let seen = |raw: String| whole(raw.as_bytes(), false);
    for (count, accepted) in [(100, true), (101, false), (5_000, false)] {
        let head = seen(format!("HTTP/1.1 204 No\r\n{}\r\n", fields(count)));
        let trailer = seen(format!("HTTP/1.1 200 OK\r\n{chunked}{}\r\n", fields(count.min(900))));
        for seen in [head, trailer] {
            match seen {
                Seen::Complete { .. } => assert!(accepted, "{count}"),
                seen => assert_eq!((seen, accepted), (Seen::Bad(Malformed::TooManyFields), false)),
            }
        }
    }
}

#[test]
fn a_large_body_needs_no_memory() {
    const SLICE: usize = 64 * 1024;
    const COUNT: u64 = 16 * 1024;
    let data = vec![b'x'; SLICE];
    let chunk = [format!("{SLICE:x}\r\n").as_bytes(), &data, b"\r\n"].concat();
    let length = format!("Content-Length: {}\r\n\r\n", COUNT * SLICE as u64);
    for (fields, slice) in
        [(length.as_str(), &data), ("Transfer-Encoding: chunked\r\n\r\n", &chunk), ("\r\n", &data)]
    {
        let mut decoder = decoder();
        decoder.begin(false, false);
        // Cut, so that the buffer is in use.
        decoder.feed(b"HTTP/1.1 200 OK\r\nServer: x", ID).expect("well-formed");
        decoder.feed(b"y\r\n", ID).expect("well-formed");
        decoder.feed(fields.as_bytes(), ID).expect("well-formed");
        let capacity = decoder.gather.capacity();
        assert!(capacity > 0, "{fields}");
        for _ in 0..COUNT {
            decoder.feed(slice, ID).expect("well-formed");
        }
        assert_eq!(decoder.response().body_bytes, 1 << 30, "{fields}");
        assert_eq!(decoder.gather.capacity(), capacity, "{fields}");
    }
}

#[test]
fn names_are_stable_and_serialised() {
    for case in cases::all() {
        if let Expect::Bad(reason) = case.expect {
            let json = serde_json::to_string(&reason).expect("a name");
            assert_eq!(json, format!("\"{}\"", reason.name()));
            assert_eq!(serde_json::from_str::<Malformed>(&json).expect("its name"), reason);
        }
    }
    let limits = ["head-too-large", "too-many-fields", "too-many-informational"];
    let rest = [Malformed::HeadTooLarge, Malformed::TooManyFields, Malformed::TooManyInformational];
    assert_eq!(rest.map(|reason| reason.name()), limits);
    assert_eq!(serde_json::to_value(rest).expect("names"), serde_json::to_value(limits).expect("names"));
    assert_eq!(Malformed::TrailerTooLarge.name(), "trailer-too-large");
}

#[test]
fn mutated_answers_read_the_same_however_cut() {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let alphabet = b"\r\n\r\n\t :;,=\"\\0159afAF-+_xX\0\x7f\x80HTTP/chunked";
    let cases = cases::all();
    let (mut together, mut apart) = (decoder(), decoder());
    let mut outcomes = [0u32; 3];
    for _ in 0..20_000 {
        let case = &cases[random(cases.len())];
        let mut raw = case.raw.to_vec();
        for _ in 0..=random(3) {
            let at = random(raw.len());
            match random(4) {
                0 if !raw.is_empty() => drop(raw.remove(at)),
                1 => raw.insert(at, alphabet[random(alphabet.len())]),
                2 => raw.truncate(raw.len() - random(8).min(raw.len())),
                _ if !raw.is_empty() => raw[at] = alphabet[random(alphabet.len())],
                _ => {}
            }
        }
        let expected = whole(&raw, case.head_request);
        // twice: the second time the head is remembered, if it may be
        for _ in 0..2 {
            assert_eq!(run(&mut together, case.head_request, [&raw[..]]), expected);
        }
        let seen = run(&mut apart, case.head_request, raw.chunks(1 + random(3)));
        assert_eq!(seen, expected, "{}", String::from_utf8_lossy(&raw));
        outcomes[match expected {
            Seen::Complete { .. } => 0,
            Seen::AtEnd { .. } => 1,
            Seen::Bad(_) => 2,
        }] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 500), "one-sided: {outcomes:?}");
}
