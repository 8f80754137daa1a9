//! Tests of the request reader: every case fed whole, byte by byte, and cut in two at every place.

use super::*;

/// What a reader made of some bytes: (method, path, keep-alive, id, body) per request, then the rejection if any.
type Outcome = (Vec<(Method, String, bool, RequestId, Vec<u8>)>, Option<u16>);

fn read(pieces: &[&[u8]]) -> Outcome {
    let mut reader = Reader::new(100);
    let mut requests = Vec::new();
    for piece in pieces {
        reader.feed(piece);
        loop {
            match reader.next() {
                Progress::NeedMore => break,
                Progress::Expects => {}
                Progress::Reject(reject) => return (requests, Some(reject.status)),
                Progress::Request(Request { head, body, .. }) => {
                    requests.push((head.method, head.path, head.keep_alive, head.request_id, body));
                }
            }
        }
    }
    (requests, None)
}

/// Reads the bytes in every cut and insists on one outcome.
fn outcome(bytes: &[u8]) -> Outcome {
    let whole = read(&[bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single), whole, "byte by byte: {}", String::from_utf8_lossy(bytes));
    // Long inputs (limits) are cut at some places only: the square of their length would take minutes.
    let step = if bytes.len() > 2000 { 997 } else { 1 };
    for cut in (0..bytes.len()).step_by(step) {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(read(&[a, b]), whole, "cut at {cut}: {}", String::from_utf8_lossy(bytes));
    }
    whole
}

fn bodies(text: &str) -> Vec<String> {
    let (requests, reject) = outcome(text.as_bytes());
    assert_eq!(reject, None, "{text}");
    requests.into_iter().map(|r| String::from_utf8(r.4).expect("UTF-8")).collect()
}

/// The status a request with these extra lines and body is refused with, or 0.
fn post(lines: &str, body: &str) -> u16 {
    outcome(format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}").as_bytes()).1.unwrap_or(0)
}

#[test]
fn bodies_are_framed_by_length_and_by_chunks() {
    let post = "POST /x HTTP/1.1\r\nHost: a\r\n";
    assert_eq!(bodies("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), [""]);
    assert_eq!(bodies(&format!("{post}Content-Length: 5\r\n\r\nhello")), ["hello"]);
    let chunked = format!(
        "{post}Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n00A;x=\"y\"\r\n, 10 bytes\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n"
    );
    assert_eq!(bodies(&chunked), ["hello, 10 bytes"]);
    let pipelined = format!("\r\n{post}Content-Length: 2\r\n\r\nab\r\n{chunked}GET /2 HTTP/1.1\nhost:\n\n");
    assert_eq!(bodies(&pipelined), ["ab", "hello, 10 bytes", ""]);
}

#[test]
fn ambiguous_framing_is_refused() {
    assert_eq!(post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400);
    assert_eq!(post("Content-Length: 1\r\nContent-Length: 1\r\n", "a"), 400);
    assert_eq!(post("Content-Length: 1\r\nContent-Length: 2\r\n", "a"), 400);
    for bad in ["1, 1", "+1", "-1", "0x1", "", "1 1", "1_0", "١"] {
        assert_eq!(post(&format!("Content-Length: {bad}\r\n"), ""), 400, "{bad}");
    }
    for (coding, status) in [
        ("xchunked", 400),
        ("chunked, identity", 400),
        ("chunked, chunked", 400),
        ("identity", 400),
        ("gzip", 400),
        ("", 400),
        ("chunked,", 400),
        (", chunked", 400),
        ("chunked;q=1", 400),
        ("\x0bchunked", 400),
        ("gzip, chunked", 501),
        ("identity, chunked", 501),
    ] {
        assert_eq!(post(&format!("Transfer-Encoding: {coding}\r\n"), ""), status, "{coding}");
    }
    assert_eq!(post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", ""), 501);
    assert_eq!(post("Transfer-Encoding : chunked\r\n", ""), 400);
    assert_eq!(post("", ""), 411);
    let old = "POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(outcome(old.as_bytes()).1, Some(400));
}

#[test]
fn chunks_are_read_strictly() {
    for bad in [
        "\r\n",
        "g\r\n",
        "0x5\r\n",
        "+5\r\n",
        " 5\r\n",
        "5 \r\n",
        "5\nhello\r\n",
        "5\r\nhelloX\r\n",
        "5\r\nhello\n0\r\n",
        "1;\x01\r\n",
        "0000000000000001\r\na\r\n",
        "0\r\nno colon\r\n",
        "0\r\n: x\r\n",
        "0\r\na b: x\r\n",
        "0\r\na: \0\r\n",
        "1;a\rb\r\na\r\n",
        "0\r\na: 1\n\r\n",
    ] {
        assert_eq!(post("Transfer-Encoding: chunked\r\n", bad), 400, "{bad:?}");
    }
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    assert_eq!(chunked(&format!("64\r\n{}\r\n0\r\n\r\n", "a".repeat(100))), 0);
    assert_eq!(chunked("65\r\n"), 413);
    assert_eq!(chunked(&format!("64\r\n{}\r\n1\r\n", "a".repeat(100))), 413);
    assert_eq!(chunked("fffffffffffffff\r\n"), 413);
    assert_eq!(chunked(&format!("1;{}", "x".repeat(300))), 400);
    assert_eq!(chunked(&format!("0\r\n{}\r\n", "a: b\r\n".repeat(101))), 431);
    assert_eq!(chunked(&format!("0\r\na: {}\r\n\r\n", "b".repeat(40_000))), 431);
}

#[test]
fn limits_have_their_own_status() {
    let line = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(n));
    assert_eq!(outcome(line(8000).as_bytes()).1, None);
    assert_eq!(outcome(line(8192).as_bytes()).1, Some(414));
    assert_eq!(outcome("G".repeat(9000).as_bytes()).1, Some(414));
    assert_eq!(post(&format!("Content-Length: 0\r\nA: {}\r\n", "b".repeat(32_000)), ""), 0);
    assert_eq!(post(&format!("Content-Length: 0\r\nA: {}\r\n", "b".repeat(33_000)), ""), 431);
    assert_eq!(post(&format!("Content-Length: 0\r\n{}", "A: b\r\n".repeat(98)), ""), 0);
    assert_eq!(post(&format!("Content-Length: 0\r\n{}", "A: b\r\n".repeat(99)), ""), 431);
    assert_eq!(post("Content-Length: 101\r\n", ""), 413);
    assert_eq!(post("Content-Length: 99999999999999999999999\r\n", ""), 413);
}

#[test]
fn heads_that_are_no_heads_are_refused() {
    for (head, status) in [
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/x\r\nHost: a\r\n\r\n", 400),
        ("GET /\r\nHost: a\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\x16\x03\x01\x02", 400),
        ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /é HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ] {
        assert_eq!(outcome(head.as_bytes()).1, Some(status), "{head:?}");
    }
}

#[test]
fn targets_give_their_path() {
    for (line, path) in [
        ("GET /a?b=/c", "/a"),
        ("GET http://h:80/a?b", "/a"),
        ("GET HTTPS://h", "/"),
        ("GET http://h?q", "/"),
        ("OPTIONS *", "*"),
        ("OPTIONS http://h", "*"),
        ("BREW /pot", "/pot"),
    ] {
        let (requests, reject) = outcome(format!("{line} HTTP/1.1\r\nHost: other\r\n\r\n").as_bytes());
        assert_eq!(reject, None, "{line}");
        assert_eq!(requests[0].1, path, "{line}");
    }
}

#[test]
fn connections_persist_as_the_version_says() {
    for (version, connection, keep) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, Close\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
    ] {
        let (requests, _) =
            outcome(format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n").as_bytes());
        assert_eq!(requests[0].2, keep, "{version} {connection}");
    }
}

#[test]
fn request_ids_are_visible_ascii() {
    let id =
        |lines: &str| outcome(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes()).0[0].3.clone();
    assert_eq!(id(""), RequestId::Absent);
    assert_eq!(id("x-request-id: w0\r\n"), RequestId::Valid("w0".to_owned()));
    assert_eq!(id(&format!("X-Request-Id: {}\r\n", "a".repeat(128))), RequestId::Valid("a".repeat(128)));
    for bad in ["", "a b", "é", &"a".repeat(129), "a\r\nX-Request-Id: a"] {
        assert_eq!(id(&format!("X-Request-Id: {bad}\r\n")), RequestId::Invalid, "{bad}");
    }
}

#[test]
fn an_unfinished_request_is_no_work() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for begun in ["G", "GET / HTTP/1.1\r\nHost: a\r\n\r", &format!("{head}5"), &format!("{head}1\r\na\r")] {
        let mut reader = Reader::new(100);
        reader.feed(begun.as_bytes());
        assert!(reader.buffered(), "{begun}");
        assert!(matches!(reader.next(), Progress::NeedMore), "{begun}");
        assert!(reader.has_begun() && !reader.buffered(), "{begun}");
    }
    let mut reader = Reader::new(100);
    reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET");
    assert!(matches!(reader.next(), Progress::Request(_)));
    assert!(reader.buffered(), "the next one was not looked at");
}

#[test]
fn empty_lines_before_a_request_are_few() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let between = "\r\n".repeat(32);
    assert_eq!(bodies(&format!("{between}{request}{between}{request}")), ["", ""]);
    assert_eq!(outcome(format!("{between}\n{request}").as_bytes()).1, Some(400));
    assert_eq!(outcome(format!("{request}{between}\n").as_bytes()).1, Some(400));
}

#[test]
fn a_head_that_expects_100_is_reported_once_and_only_before_its_body() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
    let mut reader = Reader::new(100);
    reader.feed(head);
    assert!(matches!(reader.next(), Progress::Expects));
    assert_eq!(reader.pending_head().map(|h| h.path.as_str()), Some("/"));
    assert!(matches!(reader.next(), Progress::NeedMore));
    reader.feed(b"ab");
    assert!(matches!(reader.next(), Progress::Request(_)));
    reader.feed(&[head.as_slice(), b"a"].concat());
    assert!(matches!(reader.next(), Progress::NeedMore));
    assert_eq!(post("Expect: tea\r\nContent-Length: 1\r\n", ""), 417);
    assert_eq!(post("Expect: 100-continue\r\nContent-Length: 101\r\n", ""), 413);
}

#[test]
fn mutated_requests_read_the_same_however_cut() {
    let corpus = [
        "GET /a?b HTTP/1.1\r\nHost: a\r\nX-Request-Id: 1\r\n\r\n",
        "POST /v1/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nSum: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        "OPTIONS * HTTP/1.1\nHost: [::1]:80\nConnection: close, x\n\n",
        "GET http://h/p HTTP/1.1\r\nhost: h\r\n\r\n\r\nHEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
    ];
    let alphabet = b"\r\n\r\n\t :;,=\"0159afAF-+/HTP\0\x7f\x80";
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut below = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n.max(1) as u64) as usize
    };
    let (mut served, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut raw = corpus[below(corpus.len())].as_bytes().to_vec();
        for _ in 0..=below(3) {
            let at = below(raw.len() + 1);
            match below(4) {
                0 if at < raw.len() => drop(raw.remove(at)),
                1 => raw.insert(at, alphabet[below(alphabet.len())]),
                2 => raw.truncate(raw.len().saturating_sub(below(8))),
                _ if at < raw.len() => raw[at] = alphabet[below(alphabet.len())],
                _ => {}
            }
        }
        let whole = read(&[&raw]);
        let pieces: Vec<&[u8]> = raw.chunks(1 + below(3)).collect();
        assert_eq!(read(&pieces), whole, "{}", raw.escape_ascii());
        assert!(whole.0.iter().all(|request| request.4.len() <= 100), "{}", raw.escape_ascii());
        served += usize::from(!whole.0.is_empty());
        refused += usize::from(whole.1.is_some());
    }
    assert!(served > 1_000 && refused > 1_000, "one-sided: {served}, {refused}");
}
