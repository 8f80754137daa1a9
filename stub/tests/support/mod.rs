//! A raw-socket HTTP client and the ways to start a server. It shares no code with the server.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hairspring_stub::{Config, Model, Server};

pub(crate) const MODELS: [Model; 4] = [Model::Single, Model::Threads, Model::Pool, Model::PerCore];

/// Longer than anything a test waits for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a server whose service times are `service`.
pub(crate) fn start(model: Model, service: &str, adjust: impl FnOnce(&mut Config)) -> Server {
    let mut config = Config { model, service: service.parse().expect("service"), ..Config::default() };
    adjust(&mut config);
    Server::start(config).expect("server")
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// An infer request with a two-byte body.
pub(crate) fn infer(id: &str) -> String {
    infer_with(id, "")
}

/// An infer request with more header lines.
pub(crate) fn infer_with(id: &str, lines: &str) -> String {
    format!("POST /v1/infer HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\nContent-Length: 2\r\n{lines}\r\nhi")
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A response as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// A `Server-Timing` duration in milliseconds.
    pub(crate) fn timing(&self, name: &str) -> Option<f64> {
        let metrics = self.field("Server-Timing")?.split(", ");
        let (_, dur) = metrics.filter_map(|m| m.split_once(";dur=")).find(|(n, _)| *n == name)?;
        dur.parse().ok()
    }

    /// The response without what differs between equal answers.
    pub(crate) fn content(mut self) -> Self {
        self.fields.retain(|(name, _)| name != "Date" && name != "Server-Timing");
        self
    }
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Self { stream, unread: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("send");
    }

    /// Sends as much as the server takes.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// From now on sending waits no longer than this for room.
    pub(crate) fn give_up_after(&mut self, patience: Duration) {
        self.stream.set_write_timeout(Some(patience)).expect("timeout");
    }

    /// Whether something is there to be read, the end of the stream included. Does not wait.
    pub(crate) fn has_answer(&self) -> bool {
        self.stream.set_nonblocking(true).expect("nonblocking");
        let blocked = self.stream.peek(&mut [0]).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).expect("blocking");
        !blocked
    }

    /// Whether an answer comes within a second, not the end of the stream.
    pub(crate) fn has_answer_soon(&self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_secs(1))).expect("timeout");
        self.stream.peek(&mut [0]).is_ok_and(|n| n > 0)
    }

    pub(crate) fn end(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("shutdown");
    }

    pub(crate) fn exchange(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.send(request);
        self.response().expect("a response")
    }

    pub(crate) fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("clone")
    }

    /// The next response, 1xx included; `None` at the end of the stream.
    pub(crate) fn response(&mut self) -> Option<Response> {
        self.response_to(false)
    }

    /// The next response to a HEAD request, if `head`.
    pub(crate) fn response_to(&mut self, head: bool) -> Option<Response> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            if !self.more() {
                assert!(self.unread.is_empty(), "a truncated response");
                return None;
            }
        };
        let text = String::from_utf8(self.unread.drain(..end + 4).collect()).expect("ASCII");
        let mut lines = text.trim_end().split("\r\n");
        let status_line = lines.next().expect("a status line");
        let mut response = Response {
            status: status_line[9..12].parse().expect("a status"),
            fields: lines
                .map(|line| line.split_once(": ").expect("a field"))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            body: Vec::new(),
        };
        if status_line.starts_with("HTTP/1.1 1") || head {
            return Some(response);
        }
        let len: usize = response.field("Content-Length").expect("a length").parse().expect("a number");
        while self.unread.len() < len {
            assert!(self.more(), "a truncated body");
        }
        response.body = self.unread.drain(..len).collect();
        Some(response)
    }

    /// Whether the server ends the stream, and in order (not with an RST).
    pub(crate) fn is_closed(&mut self) -> bool {
        self.response().is_none()
    }

    fn more(&mut self) -> bool {
        let mut buf = [0; 65536];
        let n = self.stream.read(&mut buf).expect("no reset and no timeout");
        self.unread.extend_from_slice(&buf[..n]);
        n > 0
    }
}
