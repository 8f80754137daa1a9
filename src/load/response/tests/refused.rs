//! The other half of the table: what is malformed, and what is cut off.

use super::cases::{Case, Expect};
use crate::load::response::{End, Malformed};

fn bad(reason: Malformed, raws: &[&'static str]) -> impl Iterator<Item = Case> {
    let case = move |raw: &&'static str| Case {
        raw: raw.as_bytes(),
        head_request: false,
        expect: Expect::Bad(reason),
    };
    raws.iter().map(case).collect::<Vec<_>>().into_iter()
}

fn cut(raw: &'static str, end: End) -> Case {
    Case { raw: raw.as_bytes(), head_request: false, expect: Expect::Cut(end) }
}

pub(super) fn all() -> Vec<Case> {
    let mut cases = bad_heads();
    cases.extend(bad_framing());
    cases.extend(bad_chunks());
    cases.extend(cuts());
    cases
}

fn bad_heads() -> Vec<Case> {
    let status_line = [
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "\n",
        "hello",
        "http/1.1 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}",
        "\0\0\u{12}\u{4}\0\0\0\0\0",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 -20 OK\r\n\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 200 O\rK\r\n\r\n",
        "HTTP/1.1 200\tOK\r\n\r\n",
    ];
    let version = ["HTTP/2", "HTTP/0.9 200 OK\r\n\r\n", "HTTP/1.2 200 OK\r\n\r\n", "HTTP/1,1 "];
    let header = [
        ok!("No colon\r\n"),
        ok!(": no name\r\n"),
        ok!("A : space before the colon\r\n"),
        ok!("A\t: tab before the colon\r\n"),
        ok!("A: n\0l\r\n"),
        ok!("A: c\rr\r\n"),
        ok!("A: b\r\r\n"),
        ok!("A: \u{b}vt\r\n"),
        ok!("A: \u{7f}del\r\n"),
        ok!("A(b): c\r\n"),
        ok!(" A: a fold, but of nothing\r\n"),
        "HTTP/1.1 200 OK\r\n\rX\r\n\r\n",
        "HTTP/1.1 100 Continue\r\nNo colon\r\n\r\n",
    ];
    let mut cases = Vec::new();
    cases.extend(bad(Malformed::BadStatusLine, &status_line));
    cases.extend(bad(Malformed::BadVersion, &version));
    cases.extend(bad(Malformed::BadHeader, &header));
    cases.extend(bad(
        Malformed::UnexpectedUpgrade,
        &["HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"],
    ));
    cases
}

fn bad_framing() -> Vec<Case> {
    let length = [
        ok!("Content-Length: 5, 6\r\n"),
        ok!("Content-Length: 5\r\nContent-Length: 6\r\n"),
        ok!("Content-Length: 6\r\nContent-Length: 5\r\nContent-Length: 5\r\n"),
        ok!("Content-Length:\r\n"),
        ok!("Content-Length: +5\r\n"),
        ok!("Content-Length: -5\r\n"),
        ok!("Content-Length: 0x5\r\n"),
        ok!("Content-Length: 5 5\r\n"),
        ok!("Content-Length: 5_0\r\n"),
        ok!("Content-Length: 5.0\r\n"),
        ok!("Content-Length: 5,\r\n"),
        ok!("Content-Length: \"5\"\r\n"),
        ok!("Content-Length: 18446744073709551616\r\n"),
        ok!("Content-Length: 99999999999999999999999999\r\n"),
    ];
    let ambiguous = [
        ok!("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ok!("Content-Length: 5\r\nTransfer-Encoding: identity\r\n"),
        ok!("Content-Length: x\r\nTransfer-Encoding: chunked\r\n"),
        "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        ok!("Content-Length: 5\r\nTransfer-Encoding:\r\n"),
    ];
    let coding = [
        ok!("Transfer-Encoding:\r\n"),
        ok!("Transfer-Encoding: ,\r\n"),
        ok!("Transfer-Encoding: chunked, chunked\r\n"),
        ok!("Transfer-Encoding: chunked, gzip, chunked\r\n"),
        ok!("Transfer-Encoding: chunked;a=b\r\n"),
        ok!("Transfer-Encoding: chunked x\r\n"),
        ok!("Transfer-Encoding: \"chunked\"\r\n"),
        ok!("Transfer-Encoding: gzip;a=\"b, chunked\r\n"),
        ok!("Transfer-Encoding: chunked\r\n  abc\r\n"),
        ok!("Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n"),
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];
    let mut cases = Vec::new();
    cases.extend(bad(Malformed::BadContentLength, &length));
    cases.extend(bad(Malformed::AmbiguousFraming, &ambiguous));
    cases.extend(bad(Malformed::BadTransferEncoding, &coding));
    cases
}

fn bad_chunks() -> Vec<Case> {
    let chunk = [
        chunked!("\r\n"),
        chunked!("x\r\n"),
        chunked!("0x5\r\nhello\r\n"),
        chunked!("+5\r\nhello\r\n"),
        chunked!("-5\r\nhello\r\n"),
        chunked!(" 5\r\nhello\r\n"),
        chunked!("5_0\r\nhello\r\n"),
        chunked!("5 \r\nhello\r\n"),
        chunked!("5 a\r\nhello\r\n"),
        chunked!("5\nhello\r\n"),
        chunked!("5\rhello\r\n"),
        chunked!("5\r\nhello\n"),
        chunked!("5\r\nhello6\r\n"),
        chunked!("5\r\nhello\r0"),
        chunked!("00000000000000005\r\nhello\r\n"),
        chunked!("fffffffffffffffff\r\n"),
        chunked!("5;\r\nhello\r\n"),
        chunked!("5;=b\r\nhello\r\n"),
        chunked!("5;a=\r\nhello\r\n"),
        chunked!("5;a b\r\nhello\r\n"),
        chunked!("5;a \r\nhello\r\n"),
        chunked!("5;a=b=c\r\nhello\r\n"),
        chunked!("5;a=\"b\r\nhello\r\n"),
        chunked!("5;a=\"b\"c\r\nhello\r\n"),
        chunked!("5;a\nhello\r\n"),
        chunked!("5;\0\r\nhello\r\n"),
        chunked!(";a\r\n"),
        chunked!("0\n\n"),
    ];
    let trailer = [
        chunked!("0\r\nno colon\r\n\r\n"),
        chunked!("0\r\nA : b\r\n\r\n"),
        chunked!("0\r\nA: b\r\n c\r\n\r\n"),
        chunked!("0\r\n A: b\r\n\r\n"),
        chunked!("0\r\nA: b\n\r\n"),
        chunked!("0\r\nA: \0\r\n\r\n"),
        chunked!("0\r\n\n"),
    ];
    let mut cases = Vec::new();
    cases.extend(bad(Malformed::BadChunk, &chunk));
    cases.extend(bad(Malformed::BadTrailer, &trailer));
    cases
}

fn cuts() -> Vec<Case> {
    use End::{Nothing, TruncatedBody, TruncatedHead};
    vec![
        cut("", Nothing),
        cut("H", TruncatedHead),
        cut("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", TruncatedHead),
        cut("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r", TruncatedHead),
        cut("HTTP/1.1 100 Continue\r\n\r\n", TruncatedHead),
        cut(ok!("Content-Length: 5\r\n"), TruncatedBody),
        cut(ok!("Content-Length: 5\r\n", "hell"), TruncatedBody),
        cut(ok!("Content-Length: 18446744073709551615\r\n", "hell"), TruncatedBody),
        cut(chunked!(""), TruncatedBody),
        cut(chunked!("ffffffffffffffff\r\nhell"), TruncatedBody),
        cut(chunked!("5\r\nhello"), TruncatedBody),
        cut(chunked!("5\r\nhello\r\n"), TruncatedBody),
        cut(chunked!("5\r\nhello\r\n0\r\n"), TruncatedBody),
        cut(chunked!("5\r\nhello\r\n0\r\n\r"), TruncatedBody),
        cut(chunked!("0\r\nA: b\r\n"), TruncatedBody),
    ]
}
