//! A TCP server that does what a test says, byte by byte, and remembers what it was sent.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a connection may be held by a script.
const LONGEST: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The connection, in the order of acceptance.
    pub(crate) connection: usize,
    /// Which of this connection's requests, from 0.
    pub(crate) nth: usize,
    /// Request line and fields without the empty line.
    pub(crate) head: String,
    /// As Content-Length said.
    pub(crate) body: Vec<u8>,
}

impl Heard {
    /// The value of the only field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().skip(1).filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        let value = values.next();
        assert!(values.next().is_none(), "{name} stands there twice:\n{}", self.head);
        value
    }

    /// The request's id.
    pub(crate) fn id(&self) -> &str {
        self.field("X-Request-Id").unwrap_or_else(|| panic!("no id:\n{}", self.head))
    }

    /// The request line.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

/// An answer of this status with Content-Length.
pub(crate) fn answer(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Whatever\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A plain 200.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    answer(200, body)
}

/// One accepted connection in the hands of a script.
pub(crate) struct Peer {
    stream: TcpStream,
    /// Which one, in the order of acceptance.
    pub(crate) index: usize,
    nth: usize,
    buffer: Vec<u8>,
    shared: Arc<Shared>,
}

impl Peer {
    /// The next request, or `None` when the client has closed or the server stops.
    pub(crate) fn request(&mut self) -> Option<Heard> {
        let mut heard = self.take_head()?;
        let length: usize = heard.field("Content-Length").map_or(0, |text| text.parse().unwrap());
        while self.buffer.len() < length {
            self.fill()?;
        }
        heard.body = self.buffer.drain(..length).collect();
        self.shared.heard.lock().unwrap().push(heard.clone());
        Some(heard)
    }

    /// The head of the next request as soon as it is there; its body is not waited for.
    pub(crate) fn head(&mut self) -> Option<Heard> {
        let heard = self.take_head()?;
        self.shared.heard.lock().unwrap().push(heard.clone());
        Some(heard)
    }

    fn take_head(&mut self) -> Option<Heard> {
        let end = loop {
            match self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                Some(at) => break at,
                None => self.fill()?,
            }
        };
        let head = String::from_utf8(self.buffer[..end].to_vec()).unwrap();
        self.buffer.drain(..end + 4);
        let nth = self.nth;
        self.nth += 1;
        Some(Heard { connection: self.index, nth, head, body: Vec::new() })
    }

    /// Sends these bytes; a client that went away is no failure.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    /// Sends `piece` over and over: `total` bytes, or until the client closes.
    pub(crate) fn pour(&mut self, piece: &[u8], total: u64) {
        let pieces = total.div_ceil(piece.len() as u64);
        let _ = (0..pieces).try_for_each(|_| self.stream.write_all(piece));
    }

    /// Says that nothing more will come; what the client sends is still taken.
    pub(crate) fn half_close(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Closes with an RST.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Keeps the connection open and silent until the client closes it.
    pub(crate) fn hold(&mut self) {
        while self.fill().is_some() {}
    }

    /// Reads something; `None` at the end.
    fn fill(&mut self) -> Option<()> {
        let began = Instant::now();
        let mut chunk = [0; 16 << 10];
        while !self.shared.stop.load(Ordering::Relaxed) && began.elapsed() < LONGEST {
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => {
                    self.buffer.extend_from_slice(&chunk[..n]);
                    return Some(());
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return None,
            }
        }
        None
    }
}

struct Shared {
    stop: AtomicBool,
    accepted: AtomicUsize,
    heard: Mutex<Vec<Heard>>,
}

/// A running script, stopped when dropped.
pub(crate) struct Scripted {
    addr: SocketAddr,
    shared: Arc<Shared>,
    listener: TcpListener,
    acceptor: Option<JoinHandle<()>>,
}

impl Scripted {
    /// Runs `script` on each connection to a free port of 127.0.0.1, each in a thread of its own.
    pub(crate) fn new(script: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", script)
    }

    /// The same at another address.
    pub(crate) fn at(address: &str, script: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            heard: Mutex::new(Vec::new()),
        });
        let accepting = listener.try_clone().unwrap();
        let (script, state) = (Arc::new(script), shared.clone());
        let acceptor = std::thread::spawn(move || {
            for stream in accepting.incoming() {
                if state.stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let _ = stream.set_nodelay(true);
                let _ = stream.set_read_timeout(Some(LOOK));
                let _ = stream.set_write_timeout(Some(LONGEST));
                let index = state.accepted.fetch_add(1, Ordering::Relaxed);
                let peer = Peer { stream, index, nth: 0, buffer: Vec::new(), shared: state.clone() };
                let script = script.clone();
                std::thread::spawn(move || script(peer));
            }
        });
        Self { addr, shared, listener, acceptor: Some(acceptor) }
    }

    /// Answers every request with what `respond` makes of it, and keeps the connection unless the request asks to
    /// close it.
    pub(crate) fn answering(respond: impl Fn(&Heard) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::new(move |mut peer| {
            while let Some(heard) = peer.request() {
                peer.send(respond(&heard));
                if heard.field("Connection") == Some("close") {
                    return;
                }
            }
        })
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Requests so far, in the order of their arrival.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.shared.heard.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // ends the accept that is under way; a connect might find no port
        let _ = socket2::SockRef::from(&self.listener).shutdown(std::net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}
