//! I/O: one HTTP answer to one client: the text at `/metrics`, or why not. For Prometheus and curl, not for crowds: the
//! question is small and has little time, and the connection ends with the answer.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// All of a question.
const HEAD_BYTES: usize = 4 << 10;
/// From the connection to the end of the answer. A client that takes longer makes others wait, so it is short.
const PATIENCE: Duration = Duration::from_millis(500);
/// What a client may still send after its question, to be read so that the kernel does not reset the connection.
const REST_BYTES: usize = 64 << 10;

/// Answers whatever `stream` asks; `render` makes the text.
pub(super) fn answer(
    mut stream: TcpStream,
    content_type: &str,
    render: impl FnOnce() -> String,
) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    stream.set_nonblocking(false)?;
    let question = Question::read(&mut stream, deadline)?;
    let (status, body) = match question {
        Question::Get | Question::Head => ("200 OK", render()),
        Question::Elsewhere => ("404 Not Found", "there is nothing but /metrics\n".to_owned()),
        Question::OtherMethod => ("405 Method Not Allowed", "GET and HEAD alone\n".to_owned()),
        Question::Malformed => ("400 Bad Request", "this is no HTTP request\n".to_owned()),
    };
    let content_type = if status.starts_with('2') { content_type } else { "text/plain; charset=utf-8" };
    let allow = if question == Question::OtherMethod { "Allow: GET, HEAD\r\n" } else { "" };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
        body.len()
    );
    if question != Question::Head {
        answer.push_str(&body);
    }
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(answer.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut rest = [0; 4 << 10];
    let mut read = 0;
    while read < REST_BYTES {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut rest)? {
            0 => break,
            n => read += n,
        }
    }
    Ok(())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Get,
    Head,
    Elsewhere,
    OtherMethod,
    Malformed,
}

impl Question {
    fn read(stream: &mut TcpStream, deadline: Instant) -> io::Result<Self> {
        let (mut head, mut length) = ([0; HEAD_BYTES], 0);
        while length < HEAD_BYTES {
            stream.set_read_timeout(Some(left(deadline)?))?;
            let n = stream.read(&mut head[length..])?;
            length += n;
            match (Self::of(&head[..length]), n) {
                (Some(question), _) => return Ok(question),
                (None, 0) if length == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                (None, 0) => break,
                (None, _) => {}
            }
        }
        Ok(Self::Malformed)
    }

    /// Of a head that is complete, or wrong already.
    fn of(head: &[u8]) -> Option<Self> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(head) {
            Ok(httparse::Status::Partial) => return None,
            Err(_) => return Some(Self::Malformed),
            Ok(httparse::Status::Complete(_)) => {}
        }
        let path = request.path.unwrap_or_default().split('?').next();
        Some(match (path, request.method.unwrap_or_default()) {
            (Some("/metrics"), "GET") => Self::Get,
            (Some("/metrics"), "HEAD") => Self::Head,
            (Some("/metrics"), _) => Self::OtherMethod,
            _ => Self::Elsewhere,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What a client hears that sends these pieces.
    fn asked(pieces: &[&[u8]]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| answer(listener.accept().unwrap().0, "text/x", || "a 1\n".to_owned()));
            for piece in pieces {
                let _ = client.write_all(piece);
                std::thread::sleep(Duration::from_millis(2));
            }
            let mut heard = String::new();
            let _ = client.read_to_string(&mut heard);
            heard
        })
    }

    #[test]
    fn the_text_is_at_one_path_for_two_methods() {
        let whole = asked(&[b"GET /metr", b"ics?x=y HTTP/1.1\r\nHost: a\r\n", b"\r\n"]);
        assert_eq!(
            whole,
            "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 4\r\nConnection: close\r\n\r\na 1\n"
        );
        assert_eq!(asked(&[b"HEAD /metrics HTTP/1.0\r\n\r\n"]) + "a 1\n", whole);
        for (question, status) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "404"),
            (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405"),
            (b"\x16\x03\x01\x02\x00", "400"),
            (b"GET /metrics\r\n\r\n", "400"),
            (&[b'x'; HEAD_BYTES + 5], "400"),
        ] {
            let heard = asked(&[question]);
            assert!(
                heard.starts_with(&format!("HTTP/1.1 {status} ")),
                "{}: {heard}",
                question.escape_ascii()
            );
            assert_eq!(heard.contains("Allow: GET, HEAD"), status == "405");
        }
    }

    #[test]
    fn who_says_nothing_is_not_waited_for() {
        let began = Instant::now();
        assert_eq!(asked(&[b"GET /metrics HTTP/1.1\r\n"]), "");
        assert!(began.elapsed() >= PATIENCE && began.elapsed() < 20 * PATIENCE);
    }
}
