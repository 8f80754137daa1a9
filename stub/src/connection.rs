//! One connection: reads requests, writes answers, keeps its deadlines, closes without losing the last answer.
//!
//! Never blocks, and is owned by exactly one thread at a time; who calls `advance` when is the business of the
//! threading models. It serves one request at a time, so pipelined requests are answered in order, and it reads no
//! further while an answer is unsent, so a client that does not read holds up only itself.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::answer::{Answer, ReplyTo};
use crate::behavior::{PIECE, common_prefix};
use crate::clock;
use crate::evidence::{Arrival, Record};
use crate::handler;
use crate::history::pace;
use crate::http::{Progress, Reader, Request};
use crate::shared::Shared;
use crate::sys;

/// Bytes read at once; the buffer belongs to the thread.
pub(crate) const SCRATCH: usize = 16 * 1024;
/// Reads of one turn, so that a fast sender of a long body does not hold up the others.
const READS_PER_TURN: usize = 8;
/// A closing connection discards what still comes for so long and so much, because closing with unread bytes sends an
/// RST, which can eat the last answer (RFC 9112 §9.6).
const LINGER_NS: u64 = 1_000_000_000;
const LINGER_BYTES: usize = 8 << 20;

/// What a connection needs next.
#[derive(Debug)]
pub(crate) enum Step {
    /// A request to serve; answer it with `reply` before the next `advance`.
    Request(Request, Arrival),
    /// Nothing until its socket is ready or its deadline has come.
    Wait,
    /// Another turn, after the others had theirs.
    Again,
    /// It is over.
    Closed,
}

/// What the connection is waiting for its client to do; each has a time limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To begin a request.
    Idle,
    /// To finish a head.
    Head,
    /// To finish a body.
    Body,
    /// To take an answer.
    Write,
    /// To close, after the last answer.
    Linger,
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    shared: Arc<Shared>,
    reader: Reader,
    arrival: Arrival,
    /// The previous body, for the prefix cache.
    previous: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
    /// The record of the answer in `out`, logged when that is written.
    record: Option<Record>,
    /// There may be something to read; only a short read disproves it.
    readable: bool,
    /// The client has shut down its side: a short read does not disprove the end of stream behind it.
    hung_up: bool,
    /// Its end of stream was read. It is still answered.
    ended: bool,
    /// No more requests: close when `out` is written.
    closing: bool,
    /// The socket is broken.
    broken: bool,
    phase: Phase,
    phase_began: u64,
    discarded: usize,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        shared.counters.open.fetch_add(1, Ordering::AcqRel);
        Self {
            reader: Reader::new(shared.plan.body_limit),
            stream,
            shared,
            arrival: Arrival::default(),
            previous: Vec::new(),
            out: Vec::new(),
            sent: 0,
            record: None,
            readable: false,
            hung_up: false,
            ended: false,
            closing: false,
            broken: false,
            phase: Phase::Idle,
            phase_began: clock::now(),
            discarded: 0,
        }
    }

    /// The socket became readable, or its other side was shut down.
    pub(crate) fn notice(&mut self, readable: bool, hung_up: bool) {
        self.readable |= readable || hung_up;
        self.hung_up |= hung_up;
    }

    /// Goes on as far as the socket lets it.
    pub(crate) fn advance(&mut self, scratch: &mut [u8]) -> Step {
        let step = self.step(scratch);
        let phase = match step {
            Step::Request(..) => Phase::Idle,
            _ if self.phase == Phase::Linger => Phase::Linger,
            _ if self.unsent() => Phase::Write,
            _ if self.reader.in_body() => Phase::Body,
            _ if self.reader.has_begun() => Phase::Head,
            _ => Phase::Idle,
        };
        self.enter(phase);
        step
    }

    /// Answers the request that `advance` returned, and writes as much as the socket takes.
    pub(crate) fn reply(&mut self, to: ReplyTo, answer: Answer) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let stays = answer.render(to, self.shared.stopping(), unix, &mut self.out);
        self.shared.counters.answered(answer.status);
        self.closing |= !stays;
        self.record = answer.record;
        self.phase_began = clock::now();
        self.flush();
        self.phase = if self.unsent() { Phase::Write } else { Phase::Idle };
    }

    /// Whether `advance` has something to do without hearing from the socket.
    pub(crate) fn has_more(&self) -> bool {
        self.broken
            || (!self.unsent() && (self.closing || self.ended || self.readable || self.reader.buffered()))
    }

    /// Whether its socket may hold bytes that were not read, and there is room for their answer.
    pub(crate) fn may_read(&self) -> bool {
        self.readable && !self.closing && !self.unsent()
    }

    /// Whether it takes no more requests.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether part of an answer waits for the client to make room.
    pub(crate) fn unsent(&self) -> bool {
        self.sent < self.out.len()
    }

    /// When its client will have been too slow.
    pub(crate) fn deadline(&self) -> u64 {
        let plan = &self.shared.plan;
        self.phase_began.saturating_add(match self.phase {
            Phase::Idle => plan.idle_timeout,
            Phase::Head => plan.header_timeout,
            Phase::Body | Phase::Write => plan.body_timeout,
            Phase::Linger => LINGER_NS,
        })
    }

    /// The deadline has passed: a begun request is answered 408, anything else ends here. Returns whether it is over.
    pub(crate) fn expire(&mut self) -> bool {
        match self.phase {
            // Bytes are waiting that this busy server has not looked at: that lateness is its own.
            Phase::Idle | Phase::Head | Phase::Body if self.readable => false,
            Phase::Head | Phase::Body => {
                self.reply(ReplyTo::nobody(), Answer::error(408, "the request was not finished in time"));
                false
            }
            Phase::Idle | Phase::Write | Phase::Linger => true,
        }
    }

    /// The server stops. Returns whether the connection is over at once, having no answer to finish.
    pub(crate) fn wind_down(&mut self) -> bool {
        self.closing = true;
        let busy = self.unsent() || self.phase == Phase::Linger;
        !busy && !self.readable
    }

    fn step(&mut self, scratch: &mut [u8]) -> Step {
        self.shared.history.stand_still();
        self.flush();
        if self.broken {
            return Step::Closed;
        }
        if self.unsent() {
            return Step::Wait;
        }
        if self.closing {
            return self.linger(scratch);
        }
        for _ in 0..READS_PER_TURN {
            match self.reader.next() {
                Progress::Request(request) => return Step::Request(self.known(request), self.arrival),
                Progress::Reject(reject) => {
                    self.reply(ReplyTo::nobody(), reject.into());
                    return Step::Again;
                }
                Progress::Expects => {
                    self.answer_expectation();
                    return Step::Again;
                }
                Progress::NeedMore if self.ended => return self.end(),
                Progress::NeedMore if !self.readable => return Step::Wait,
                Progress::NeedMore => self.read(scratch),
            }
            if self.broken {
                return Step::Closed;
            }
        }
        Step::Again
    }

    /// The request, with what its body has in common with the previous one.
    fn known(&mut self, request: Request) -> Request {
        if self.shared.plan.behavior.prefix_cache == 0.0 || request.body.is_empty() {
            return request;
        }
        let known = common_prefix(&self.previous, &request.body);
        self.previous.clone_from(&request.body);
        Request { known, ..request }
    }

    /// The client will send nothing more; what it left unfinished is an error.
    fn end(&mut self) -> Step {
        if !self.reader.has_begun() {
            return Step::Closed;
        }
        self.reply(ReplyTo::nobody(), Answer::error(400, "the request ends before it is complete"));
        Step::Again
    }

    /// Asks for the body, unless the head alone shows that it would be in vain.
    fn answer_expectation(&mut self) {
        match self.reader.pending_head().and_then(handler::refuse) {
            Some(refusal) => self.reply(ReplyTo::nobody(), refusal),
            None => self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"),
        }
    }

    fn read(&mut self, scratch: &mut [u8]) {
        if let Some((bytes, stamp)) = self.receive(scratch) {
            let read = clock::now();
            let received = stamp.and_then(|stamp| self.shared.stamps.to_monotonic(stamp, read));
            self.arrival = Arrival { received, read };
            self.reader.feed(bytes);
        }
    }

    /// Reads once; `None` if there was nothing. A short read means that the socket is empty, unless the client hung
    /// up: then the end of stream is behind it.
    fn receive<'a>(&mut self, scratch: &'a mut [u8]) -> Option<(&'a [u8], Option<i64>)> {
        let rate = self.shared.plan.behavior.read_rate;
        let most = if rate.is_some() { PIECE.min(scratch.len()) } else { scratch.len() };
        let scratch = &mut scratch[..most];
        match sys::recv_stamped(self.stream.as_fd(), scratch) {
            Ok((0, _)) => {
                self.ended = true;
                self.readable = false;
                None
            }
            Ok((n, stamp)) => {
                self.readable = self.hung_up || n == scratch.len();
                pace(n, rate);
                Some((&scratch[..n], stamp))
            }
            Err(error) => {
                match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => self.readable = false,
                    _ => self.broken = true,
                }
                None
            }
        }
    }

    fn flush(&mut self) {
        let rate = self.shared.plan.behavior.write_rate;
        while self.unsent() && !self.broken {
            let rest = &self.out[self.sent..];
            let most = if rate.is_some() { PIECE.min(rest.len()) } else { rest.len() };
            match self.stream.write(&rest[..most]) {
                Ok(0) => self.broken = true,
                Ok(n) => {
                    self.sent += n;
                    pace(n, rate);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.broken = true,
            }
        }
        if !self.unsent() {
            self.out.clear();
            self.sent = 0;
            if let Some(record) = self.record.take() {
                let written = Some(clock::now());
                self.shared.log(Record { written, ..record });
            }
        }
    }

    /// Closes in stages: first the own side, then, when the client has closed or the limits are reached, all.
    fn linger(&mut self, scratch: &mut [u8]) -> Step {
        if self.phase != Phase::Linger {
            self.enter(Phase::Linger);
            if self.stream.shutdown(Shutdown::Write).is_err() {
                return Step::Closed;
            }
        }
        for _ in 0..READS_PER_TURN {
            if self.ended || self.broken || self.discarded > LINGER_BYTES {
                return Step::Closed;
            }
            if !self.readable {
                return Step::Wait;
            }
            self.discarded += self.receive(scratch).map_or(0, |(bytes, _)| bytes.len());
        }
        Step::Again
    }

    fn enter(&mut self, phase: Phase) {
        if self.phase != phase {
            self.phase = phase;
            self.phase_began = clock::now();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // An answer that was never written is evidence too.
        if let Some(record) = self.record.take() {
            self.shared.log(record);
        }
        self.shared.counters.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Source for Connection {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.stream.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.stream.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.stream.deregister(registry)
    }
}
