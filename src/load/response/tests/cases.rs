//! The table of answers: raw bytes, and what must come of them however they are cut.

use super::refused;
use crate::load::response::{End, Framing, Malformed};

/// What must come of one case.
pub(super) enum Expect {
    /// Complete at the last byte (at the end of the stream if framed by close).
    Answer {
        status: u16,
        body: &'static [u8],
        keep_alive: bool,
        framing: Framing,
    },
    Bad(Malformed),
    /// Incomplete; the end of the stream means this.
    Cut(End),
}

pub(super) struct Case {
    pub(super) raw: &'static [u8],
    pub(super) head_request: bool,
    pub(super) expect: Expect,
}

fn answer(raw: &'static str, status: u16, body: &'static str, keep_alive: bool, framing: Framing) -> Case {
    let expect = Expect::Answer { status, body: body.as_bytes(), keep_alive, framing };
    Case { raw: raw.as_bytes(), head_request: false, expect }
}

fn to_head(case: Case) -> Case {
    Case { head_request: true, ..case }
}

pub(super) fn all() -> Vec<Case> {
    let mut cases = answers();
    cases.extend(without_body());
    cases.extend(by_close());
    cases.extend(chunked());
    cases.extend(refused::all());
    cases
}

fn answers() -> Vec<Case> {
    use Framing::Length;
    let five = |raw, keep_alive| answer(raw, 200, "hello", keep_alive, Length);
    vec![
        five(ok!("Content-Length: 5\r\n", "hello"), true),
        five(ok!("content-length:5\r\n", "hello"), true),
        five(ok!("CONTENT-LENGTH: \t 5 \t \r\n", "hello"), true),
        five(ok!("Content-Length: 5, 5\r\n", "hello"), true),
        five(ok!("Content-Length: 5,05 ,5\r\n", "hello"), true),
        five(ok!("Content-Length: 5\r\nA: b\r\nContent-Length: 5\r\n", "hello"), true),
        five(ok!("Content-Length: 00000000000000000000000000000005\r\n", "hello"), true),
        five(ok!("Content-Length: 5\r\nConnection: close\r\n", "hello"), false),
        five(ok!("Content-Length: 5\r\nConnection: CLOSE\r\n", "hello"), false),
        five(ok!("Content-Length: 5\r\nConnection: Foo ,  Close\r\n", "hello"), false),
        five(ok!("Content-Length: 5\r\nConnection: keep-alive, close\r\n", "hello"), false),
        five(ok!("Content-Length: 5\r\nConnection: a\r\nConnection: close\r\n", "hello"), false),
        five(ok!("Content-Length: 5\r\nConnection: closed\r\n", "hello"), true),
        five(ok!("Content-Length: 5\r\nConnection: ,,\r\n", "hello"), true),
        five(ok!("Content-Length: 5\r\nProxy-Connection: close\r\n", "hello"), true),
        five("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", false),
        five("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\nhello", true),
        five("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive, close\r\n\r\nhello", false),
        five("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", true),
        five("HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello", true),
        five("HTTP/1.1 200 caf\u{e9}\r\nContent-Length: 5\r\nX: \u{fc}\r\n\r\nhello", true),
        // Bare LF (RFC 9112 §2.2), alone and mixed; obs-fold (§5.2) in fields that matter.
        five("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", true),
        five("HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\nhello", true),
        five("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello", true),
        five(ok!("X: a\r\n b\r\nContent-Length:\r\n\t5\r\n", "hello"), true),
        five(ok!("Content-Length: 5\r\nConnection: a,\r\n close\r\n", "hello"), false),
        // Interim responses: skipped whatever their fields say.
        five("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", true),
        five(
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 9\r\nConnection: close\r\n\r\n\
             HTTP/1.1 199 X\r\nTransfer-Encoding: chunked\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            true,
        ),
        answer(ok!("Content-Length: 0\r\n"), 200, "", true, Length),
        answer("HTTP/1.1 999 ?\r\nContent-Length: 1\r\n\r\nx", 999, "x", true, Length),
        answer("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", 503, "no", true, Length),
        answer("HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", 205, "", true, Length),
        answer(ok!("Content-Length: 4\r\n", "\r\n\r\n"), 200, "\r\n\r\n", true, Length),
    ]
}

fn without_body() -> Vec<Case> {
    let none = |raw, status, keep_alive| answer(raw, status, "", keep_alive, Framing::None);
    vec![
        none("HTTP/1.1 204 No Content\r\n\r\n", 204, true),
        none("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", 204, false),
        none("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204, true),
        none("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, true),
        none("HTTP/1.1 304 Not Modified\r\nContent-Length: x\r\n\r\n", 304, true),
        none("HTTP/1.0 304 Not Modified\r\n\r\n", 304, false),
        to_head(none(ok!("Content-Length: 10737418240\r\n"), 200, true)),
        to_head(none(ok!("Transfer-Encoding: chunked\r\n"), 200, true)),
        to_head(none(ok!("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 200, true)),
        to_head(none("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\n\r\n", 404, true)),
        to_head(none("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", 200, true)),
    ]
}

fn by_close() -> Vec<Case> {
    let close = |raw, body| answer(raw, 200, body, false, Framing::Close);
    vec![
        close(ok!("", "hello"), "hello"),
        close(ok!("Connection: keep-alive\r\n", "hello"), "hello"),
        close(ok!(""), ""),
        close("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello", "hello"),
        close(ok!("Transfer-Encoding: gzip\r\n", "hello"), "hello"),
        close(ok!("Transfer-Encoding: identity\r\n", "hello"), "hello"),
        close(ok!("Transfer-Encoding: chunked, gzip\r\n", "hello"), "hello"),
        close(ok!("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "5"), "5"),
        close(ok!("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), "0\r\n\r\n"),
        close(ok!("Transfer-Encoding: chunkedchunked\r\n", "0\r\n\r\n"), "0\r\n\r\n"),
        close(ok!("Transfer-Encoding: gzip;level=9\r\n", "x"), "x"),
    ]
}

fn chunked() -> Vec<Case> {
    let whole = |raw, body| answer(raw, 200, body, true, Framing::Chunked);
    vec![
        whole(chunked!("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), "hello world"),
        whole(chunked!("0\r\n\r\n"), ""),
        whole(chunked!("000\r\n\r\n"), ""),
        whole(chunked!("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), "01234567890123456789"),
        whole(chunked!("0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n"), "hello"),
        whole(chunked!("4\r\n\r\n\r\n\r\n0\r\n\r\n"), "\r\n\r\n"),
        whole(ok!("Transfer-Encoding: Chunked\r\n", "1\r\nx\r\n0\r\n\r\n"), "x"),
        whole(ok!("Transfer-Encoding: gzip, chunked\r\n", "1\r\nx\r\n0\r\n\r\n"), "x"),
        whole(ok!("Transfer-Encoding: , chunked ,\r\n", "1\r\nx\r\n0\r\n\r\n"), "x"),
        whole(ok!("Transfer-Encoding: gzip\r\ntransfer-encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n"), "x"),
        // Extensions with and without the white space that §7.1.1 allows.
        whole(chunked!("1;a\r\nx\r\n0;b=c\r\n\r\n"), "x"),
        whole(chunked!("1 \t; a \t=\t b ; c\r\nx\r\n0\r\n\r\n"), "x"),
        whole(chunked!("1;a=\"q;\\\"\t =\"; b=\"\" ;c\r\nx\r\n0\r\n\r\n"), "x"),
        // Trailers; none of them touches the framing.
        whole(chunked!("1\r\nx\r\n0\r\nA: b\r\nServer-Timing: queue;dur=1\r\n\r\n"), "x"),
        whole(chunked!("0\r\nContent-Length: 7\r\nTransfer-Encoding: x\r\n\r\n"), ""),
        answer(
            ok!("Transfer-Encoding: chunked\r\nConnection: close\r\n", "0\r\n\r\n"),
            200,
            "",
            false,
            Framing::Chunked,
        ),
    ]
}
