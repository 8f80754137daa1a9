//! What became of one request: its stamps and exactly one outcome.

use super::response::Malformed;
use super::schedule::RequestId;
use super::server_timing::ServerTiming;
use super::time::Nanos;

/// Everything known about one scheduled request once it has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Which request.
    pub id: RequestId,
    /// Which of the requests of a mix it sent; 0 where there is but one.
    pub template: u16,
    /// When it was due.
    pub intended: Nanos,
    /// When a connection could carry it; never before `intended`.
    pub ready: Option<Nanos>,
    /// Read immediately before its bytes were handed to the kernel.
    pub issued: Option<Nanos>,
    /// When the kernel handed the last byte of the request to the network device (`--stamps rxtx`).
    pub transmitted: Option<Nanos>,
    /// When the last byte of the response arrived in our kernel (`--stamps rx` and `rxtx`).
    pub arrived: Option<Nanos>,
    /// When the first byte of the final response (not of a 1xx) was read.
    pub first_byte: Option<Nanos>,
    /// When its outcome was known: the last byte was read, or it failed.
    pub done: Nanos,
    /// At most so long had the end of the response lain unread because our loop was busy or not running.
    pub read_gap: Nanos,
    /// At most so much of `conn_wait` is our doing: the loop was stopped, or never came to a turn without work, while
    /// arrivals waited for a connection.
    pub own_wait: Nanos,
    /// Open loop: how much longer or shorter the gap to the thread's request before it was than the plan has it.
    pub arrival_gap: Option<Nanos>,
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes of the request, once the kernel had taken all of them.
    pub bytes_sent: u64,
    /// Bytes of the response: heads, framing and body.
    pub bytes_received: u64,
    /// The connection slot of the thread.
    pub connection: u32,
    /// How long the connect took, when this request was the first on its connection.
    pub connect: Option<Nanos>,
    /// 1, or 2 for the retry of a stale keep-alive connection.
    pub attempt: u8,
    /// The server's own account of the time.
    pub server: ServerTiming,
    /// xxh64 of the decoded body, where digests were asked for.
    pub digest: Option<u64>,
}

impl Sample {
    /// `done - intended`: what the user of the service felt. Failed requests have it too: how long until the failure.
    pub fn response(&self) -> Nanos {
        self.done - self.intended
    }

    /// `done - issued`.
    pub fn service(&self) -> Option<Nanos> {
        Some(self.done - self.issued?)
    }

    /// `ready - intended`: no free connection, or a slow connect. The target's and the plan's share.
    pub fn conn_wait(&self) -> Option<Nanos> {
        Some(self.ready? - self.intended)
    }

    /// `issued - max(intended, ready)`: the instrument's own share.
    pub fn send_lag(&self) -> Option<Nanos> {
        Some(self.issued? - self.ready?)
    }

    /// `transmitted - issued`: our system call and the kernel's way out.
    pub fn send_path(&self) -> Option<Nanos> {
        Some(self.transmitted?.saturating_sub(self.issued?))
    }

    /// `arrived - transmitted`: from kernel to kernel, the wire and the server.
    pub fn remote(&self) -> Option<Nanos> {
        Some(self.arrived?.saturating_sub(self.transmitted?))
    }

    /// `done - arrived`: the kernel's way in, our wake-up and our read.
    pub fn wake_up(&self) -> Option<Nanos> {
        Some(self.done.saturating_sub(self.arrived?))
    }

    /// The instrument's own share of the response time, as far as it can tell: how late it sent, how late it read (at
    /// most; exactly, where the kernel stamped the arrival), and its own part of the wait for a connection.
    pub fn disturbance(&self) -> Nanos {
        self.own_wait + self.send_lag().unwrap_or_default() + self.wake_up().unwrap_or(self.read_gap)
    }

    /// What the response time would have been without [`Sample::disturbance`]: an estimate, rather too low.
    pub fn undisturbed(&self) -> Nanos {
        self.response().saturating_sub(self.disturbance())
    }

    /// False where the server claims more time than passed between sending the request and the end of its answer.
    pub fn server_timing_fits(&self) -> bool {
        let claimed = self.server.queue.or(self.server.queue_from_read).unwrap_or_default();
        let claimed = claimed.saturating_add(self.server.service.unwrap_or_default());
        self.service().is_none_or(|service| claimed <= service)
    }

    /// Panics unless `intended <= ready <= issued <= first_byte <= done`, as far as each is known.
    pub fn assert_ordered(&self) {
        let stamps = [Some(self.intended), self.ready, self.issued, self.first_byte, Some(self.done)];
        let mut known = stamps.iter().flatten();
        let mut last = known.next().copied().unwrap_or_default();
        for &stamp in known {
            assert!(last <= stamp, "stamps out of order: {self:?}");
            last = stamp;
        }
    }
}

/// How a scheduled request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A complete response arrived, with this status.
    Completed(u16),
    /// It failed.
    Failed(Failure),
    /// The run ended first: never issued, or cut in flight when the drain was over.
    Unsent,
}

/// The error classes, one per failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Nobody listens there, or no route leads there.
    ConnectRefused,
    /// No connection within `--connect-timeout`.
    ConnectTimeout,
    /// RST on a fresh connection, or after the first response byte.
    Reset,
    /// FIN on a fresh connection before any response byte.
    NoResponse,
    /// FIN, RST or EPIPE before any response byte on a reused connection: the keep-alive race.
    StaleKeepalive,
    /// The connection ended inside the response's head.
    TruncatedHead,
    /// The connection ended inside the response's body.
    TruncatedBody,
    /// Not HTTP/1.1 as RFC 9112 has it.
    Malformed(Malformed),
    /// Bytes behind the response that nobody asked for.
    Surplus,
    /// No complete response within `--timeout` of `issued`.
    Timeout,
    /// The response echoes the id of another request.
    Mismatch,
    /// This machine ran out of descriptors, ports or memory; the errno. Never the server's fault.
    LocalResource(i32),
}

impl Outcome {
    /// The key of this outcome in reports: the status, or the name of the class.
    pub fn key(self) -> String {
        match self {
            Self::Completed(status) => status.to_string(),
            Self::Failed(failure) => failure.name().to_owned(),
            Self::Unsent => "unsent".to_owned(),
        }
    }

    /// What the key leaves out: why a response was malformed, which resource ran out.
    pub fn detail(self) -> Option<String> {
        match self {
            Self::Failed(Failure::Malformed(reason)) => Some(reason.name().to_owned()),
            Self::Failed(Failure::LocalResource(errno)) => {
                Some(std::io::Error::from_raw_os_error(errno).to_string())
            }
            _ => None,
        }
    }
}

impl Failure {
    /// The stable name of the class in reports and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connect-refused",
            Self::ConnectTimeout => "connect-timeout",
            Self::Reset => "reset",
            Self::NoResponse => "no-response",
            Self::StaleKeepalive => "stale-keepalive",
            Self::TruncatedHead => "truncated-head",
            Self::TruncatedBody => "truncated-body",
            Self::Malformed(_) => "malformed",
            Self::Surplus => "surplus",
            Self::Timeout => "timeout",
            Self::Mismatch => "mismatch",
            Self::LocalResource(_) => "local-resource",
        }
    }
}
