//! The target's own metrics: asked for again and again while the load runs, by a thread and over connections of their own.
//!
//! Whatever goes wrong is counted and never fatal: a target under load may well fail to tell of itself. Not here: which
//! series matter (analyze).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::clock::Monotonic;
use super::helper::rest;
use crate::engine::Clock;
use crate::facts::scraped::Scraped;
use crate::load::time::Nanos;

pub mod parse;
mod rows;

use rows::Rows;

/// A slow answer is waited for this long: what is asked for stands in the queue that it is to tell of.
const PATIENCE: Duration = Duration::from_secs(5);
/// A larger answer is refused.
const BODY_BYTES: usize = 1 << 20;
/// The head comes on top.
const HEAD_BYTES: usize = 16 << 10;

/// What is asked, where, and how often.
#[derive(Debug, Clone)]
pub struct Scraper {
    /// The target's addresses, tried in turn.
    pub addresses: Vec<SocketAddr>,
    /// Host field.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// From one question to the next; one that is not answered in time takes the place of the next.
    pub interval: Nanos,
}

impl Scraper {
    /// From now until the load is over, and once more then; `t0` is the load's. Whoever sets `over` unparks this thread.
    pub fn watch(&self, t0: Nanos, over: &AtomicBool) -> Scraped {
        let mut rows = Rows::new();
        let began = Monotonic.now();
        let mut due = began;
        loop {
            let last = rest(due, over);
            match self.ask() {
                Ok((at, text)) => rows.add(at.saturating_sub(t0), &text),
                Err(error) => rows.failed(error.to_string()),
            }
            if last {
                return rows.finish();
            }
            let since = Monotonic.now().saturating_sub(began);
            due = began + Nanos((since.0 / self.interval.0 + 1).saturating_mul(self.interval.0));
        }
    }

    /// The text, and when it began to arrive: the target wrote it just before.
    fn ask(&self) -> io::Result<(Nanos, Vec<u8>)> {
        let deadline = Instant::now() + PATIENCE;
        let mut stream = self.connect(deadline)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(self.question().as_bytes())?;
        let (mut answer, mut at) = (Vec::new(), None);
        let mut block = [0; 16 << 10];
        loop {
            stream.set_read_timeout(Some(left(deadline)?))?;
            let n = stream.read(&mut block).map_err(told)?;
            at.get_or_insert(Monotonic.now());
            answer.extend_from_slice(&block[..n]);
            if n == 0 || whole(&answer)? {
                let at = at.expect("it was just set");
                return Ok((at, body(answer)?));
            }
            if answer.len() > BODY_BYTES + HEAD_BYTES {
                return Err(refused(format!("the answer is longer than {BODY_BYTES} bytes")));
            }
        }
    }

    /// In HTTP/1.0: the answer comes in one piece, and ends with the connection.
    fn question(&self) -> String {
        format!(
            "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: hairspring/{}\r\nAccept: \
             application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n\r\n",
            self.path,
            self.authority,
            env!("CARGO_PKG_VERSION"),
        )
    }

    fn connect(&self, deadline: Instant) -> io::Result<TcpStream> {
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for address in &self.addresses {
            match TcpStream::connect_timeout(address, left(deadline)?) {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(late()) } else { Ok(left) }
}

/// A read that timed out is called "resource temporarily unavailable" by the system.
fn told(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { late() } else { error }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", PATIENCE.as_secs()))
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// What the head says: where the body begins and how long it is; none while the head is not complete.
struct Head {
    status: u16,
    begin: usize,
    length: Option<usize>,
}

impl Head {
    fn read(answer: &[u8]) -> io::Result<Option<Self>> {
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut head = httparse::Response::new(&mut fields);
        let parsed =
            head.parse(answer).map_err(|error| refused(format!("the answer is not HTTP: {error}")))?;
        let httparse::Status::Complete(begin) = parsed else { return Ok(None) };
        let field = |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        if field("Transfer-Encoding").is_some() {
            return Err(refused("the answer is chunked, which HTTP/1.0 does not know".to_owned()));
        }
        let length = field("Content-Length").map(|field| {
            let text = std::str::from_utf8(field.value).ok();
            text.and_then(|text| text.trim().parse().ok())
                .ok_or_else(|| refused("Content-Length is no number".to_owned()))
        });
        Ok(Some(Self { status: head.code.unwrap_or(0), begin, length: length.transpose()? }))
    }
}

/// Nothing more has to come.
fn whole(answer: &[u8]) -> io::Result<bool> {
    let head = Head::read(answer)?;
    Ok(head.is_some_and(|head| head.length.is_some_and(|length| answer.len() - head.begin >= length)))
}

fn body(mut answer: Vec<u8>) -> io::Result<Vec<u8>> {
    let Some(head) = Head::read(&answer)? else {
        return Err(refused("the connection ended before an answer".to_owned()));
    };
    if head.status != 200 {
        return Err(refused(format!("the answer is {}, not 200", head.status)));
    }
    let mut body = answer.split_off(head.begin);
    if let Some(length) = head.length {
        if body.len() < length {
            return Err(refused("the answer is cut off".to_owned()));
        }
        body.truncate(length);
    }
    if body.len() > BODY_BYTES {
        return Err(refused(format!("the answer is longer than {BODY_BYTES} bytes")));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What becomes of an answer in two pieces.
    fn asked(first: &str, second: &str) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scraper = Scraper {
            addresses: vec![listener.local_addr().unwrap()],
            authority: "a".to_owned(),
            path: "/metrics".to_owned(),
            interval: Nanos::from_secs(1),
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut peer, _) = listener.accept().unwrap();
                let mut question = [0; 4096];
                let n = peer.read(&mut question).unwrap();
                assert!(question[..n].starts_with(b"GET /metrics HTTP/1.0\r\nHost: a\r\n"));
                peer.write_all(first.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(5));
                let _ = peer.write_all(second.as_bytes());
            });
            let asked = scraper.ask().map(|(_, text)| String::from_utf8(text).unwrap());
            asked.map_err(|error| error.to_string())
        })
    }

    #[test]
    fn an_answer_ends_by_its_length_or_with_the_connection() {
        assert_eq!(asked("HTTP/1.0 200 OK\r\n\r\n", "a 1\n").unwrap(), "a 1\n");
        assert_eq!(asked("HTTP/1.1 200 OK\r\nContent-Le", "ngth: 3\r\n\r\na 1\nmore").unwrap(), "a 1");
        for (first, second, why) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "a 1\n", "cut off"),
            ("HTTP/1.1 503 Busy\r\n\r\n", "", "is 503"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n", "chunked"),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "", "no number"),
            ("SSH-2.0-x\r\n", "", "not HTTP"),
            ("", "", "ended before"),
        ] {
            let error = asked(first, second).unwrap_err();
            assert!(error.contains(why), "{first}{second}: {error}");
        }
    }

    #[test]
    fn an_answer_without_an_end_is_refused() {
        let endless = "x".repeat(BODY_BYTES + 2 * HEAD_BYTES);
        assert!(asked("HTTP/1.0 200 OK\r\n\r\n", &endless).unwrap_err().contains("longer than"));
    }
}
