//! A protocol that is not HTTP/1.1, to prove that others fit between driver and engine: two streams on one connection.
//!
//! [`Mux`] is a client's side of it, an engine over an engine: the connections 2k and 2k + 1 of the driver are streams of
//! connection k below. It shakes hands before any stream opens, answers pings, and so sends without a request; its
//! frames come interleaved and cut anywhere.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use hairspring::engine::sim::SimClock;
use hairspring::engine::{Clock, Engine};
use hairspring::load::io::{CloseReason, ConnId, Event, Op, Stamp, Tag, TargetId};
use hairspring::load::rng::Rng;
use hairspring::load::time::Nanos;

use super::frame::{Frame, Heard, Kind, NO_STREAM, State, cut, reason_of};

/// A stream: a connection of the driver.
#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    generation: u32,
    state: State,
}

/// A connection below.
#[derive(Debug, Default)]
struct Link {
    generation: u32,
    state: State,
    /// The handshake is over: streams may open.
    ready: bool,
    inbox: VecDeque<u8>,
    /// Frames that wait for the handshake.
    waiting: Vec<Frame>,
}

/// A send of the driver's on its way: which frame is its last.
#[derive(Debug, Clone, Copy)]
struct Part {
    stream: ConnId,
    tag: Tag,
    first: bool,
    last: bool,
}

/// What the proof rests on: how often it happened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Frames sent that belong to no request.
    pub(crate) unrequested: u64,
    pub(crate) pongs: u64,
    /// Reads that ended within a frame.
    pub(crate) cuts: u64,
    /// Frames of one stream between two frames of one answer of the other.
    pub(crate) interleaved: u64,
    /// Connections below that we closed when both streams had ended.
    pub(crate) closed_below: u64,
}

/// Two streams on each connection of the engine below.
pub(crate) struct Mux<E> {
    below: E,
    clock: SimClock,
    rng: Rng,
    bodies: Vec<Vec<u8>>,
    streams: Vec<Stream>,
    links: Vec<Link>,
    parts: BTreeMap<u64, Part>,
    next_tag: u64,
    /// Streams whose end the driver asked for.
    closing: Vec<ConnId>,
    last_data: Option<u32>,
    pub(crate) seen: Seen,
}

impl<E: Engine> Mux<E> {
    pub(crate) fn new(below: E, clock: SimClock, connections: u32, bodies: Vec<Vec<u8>>, seed: u64) -> Self {
        Self {
            below,
            clock,
            rng: Rng::new(seed),
            bodies,
            streams: vec![Stream::default(); connections as usize],
            links: (0..connections.div_ceil(2)).map(|_| Link::default()).collect(),
            parts: BTreeMap::new(),
            next_tag: 0,
            closing: Vec::new(),
            last_data: None,
            seen: Seen::default(),
        }
    }

    pub(crate) fn below(&self) -> &E {
        &self.below
    }

    fn frame(&mut self, k: usize, frame: &Frame) -> u64 {
        self.next_tag += 1;
        let conn = ConnId { index: k as u32, generation: self.links[k].generation };
        self.below.submit(conn, Op::Send { tag: Tag(self.next_tag), head: &frame.bytes(), body: None });
        self.next_tag
    }

    /// Sends a frame that is no part of a request, as soon as streams may have frames.
    fn control(&mut self, k: usize, frame: Frame) {
        if self.links[k].ready {
            self.seen.unrequested += 1;
            self.frame(k, &frame);
        } else {
            self.links[k].waiting.push(frame);
        }
    }

    fn connect_below(&mut self, k: usize) {
        let link = &mut self.links[k];
        *link = Link {
            generation: link.generation + 1,
            state: State::Opening,
            waiting: std::mem::take(&mut link.waiting),
            ..Link::default()
        };
        let conn = ConnId { index: k as u32, generation: link.generation };
        self.below.submit(conn, Op::Connect(TargetId(0)));
    }

    fn open(&mut self, stream: ConnId) {
        let k = (stream.index / 2) as usize;
        self.streams[stream.index as usize] = Stream { generation: stream.generation, state: State::Opening };
        self.control(k, Frame::new(Kind::Open, stream, &[]));
        if self.links[k].state == State::Closed {
            self.connect_below(k);
        }
    }

    fn send(&mut self, stream: ConnId, tag: Tag, head: &[u8], body: &[u8]) {
        let bytes = [head, body].concat();
        let pieces = cut(&mut self.rng, &bytes);
        let last = pieces.len() - 1;
        for (at, piece) in pieces.into_iter().enumerate() {
            let number = self.frame((stream.index / 2) as usize, &Frame::new(Kind::Data, stream, piece));
            self.parts.insert(number, Part { stream, tag, first: at == 0, last: at == last });
        }
    }

    fn close(&mut self, stream: ConnId) {
        let was = std::mem::replace(&mut self.streams[stream.index as usize].state, State::Closing);
        assert!(matches!(was, State::Opening | State::Open));
        self.control((stream.index / 2) as usize, Frame::new(Kind::Closed, stream, &[]));
        self.closing.push(stream);
    }

    /// What the connection below says.
    fn on_event(
        &mut self,
        conn: ConnId,
        event: &Heard,
        stamp: Stamp,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) {
        let k = conn.index as usize;
        if self.links[k].state == State::Closing && !matches!(event, Heard::Closed(_)) {
            return; // heard in the same poll, before it was closed
        }
        match event {
            Heard::Connected => {
                // before anything is asked
                self.links[k].state = State::Open;
                self.seen.unrequested += 1;
                self.frame(k, &Frame::new(Kind::Settings, NO_STREAM, b"two streams"));
            }
            Heard::Sent(tag) => {
                if let Some(part) =
                    self.parts.get(&tag.0).copied().filter(|part| part.first && self.is_open(part.stream))
                {
                    sink(part.stream, Event::Sent(part.tag), stamp);
                }
            }
            Heard::SentAll(tag) => {
                if let Some(part) =
                    self.parts.remove(&tag.0).filter(|part| part.last && self.is_open(part.stream))
                {
                    sink(part.stream, Event::SentAll(part.tag), stamp);
                }
            }
            Heard::Received(bytes) => {
                self.links[k].inbox.extend(bytes);
                while self.links[k].state == State::Open
                    && let Some(frame) = Frame::take(&mut self.links[k].inbox)
                {
                    self.on_frame(k, &frame, stamp, sink);
                }
                self.seen.cuts += u64::from(!self.links[k].inbox.is_empty());
            }
            Heard::Closed(_) => {
                self.links[k].state = State::Closed;
                self.links[k].ready = false;
                if !self.links[k].waiting.is_empty() {
                    self.connect_below(k);
                }
            }
        }
    }

    fn is_open(&self, stream: ConnId) -> bool {
        let it = self.streams[stream.index as usize];
        it.generation == stream.generation && it.state == State::Open
    }

    fn on_frame(
        &mut self,
        k: usize,
        frame: &Frame,
        stamp: Stamp,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) {
        match frame.kind {
            Kind::Settings => {
                self.links[k].ready = true;
                self.control(k, Frame::new(Kind::SettingsAck, NO_STREAM, &[]));
                for frame in std::mem::take(&mut self.links[k].waiting) {
                    self.control(k, frame);
                }
                return;
            }
            Kind::SettingsAck => return,
            Kind::Ping => {
                self.seen.pongs += 1;
                return self.control(k, Frame::new(Kind::Pong, NO_STREAM, &frame.payload));
            }
            Kind::Pong | Kind::Open => panic!("a server does not say {frame:?}"),
            _ => {}
        }
        let stream = self.streams[frame.stream.index as usize];
        if stream.generation != frame.stream.generation
            || matches!(stream.state, State::Closed | State::Closing)
        {
            return; // it was on its way when the driver closed
        }
        let state = &mut self.streams[frame.stream.index as usize].state;
        match frame.kind {
            Kind::Opened => {
                *state = State::Open;
                sink(frame.stream, Event::Connected, stamp);
            }
            Kind::Closed => {
                *state = State::Closed;
                sink(frame.stream, Event::Closed(reason_of(&frame.payload)), stamp);
                self.rest(k);
            }
            _ => {
                let other = self.last_data.replace(frame.stream.index);
                self.seen.interleaved += u64::from(other == Some(frame.stream.index ^ 1));
                sink(frame.stream, Event::Received(&frame.payload), stamp);
            }
        }
    }

    /// A connection without streams may be closed.
    fn rest(&mut self, k: usize) {
        let idle = self.streams[2 * k..].iter().take(2).all(|stream| stream.state == State::Closed);
        let link = &mut self.links[k];
        if idle && link.ready && link.state == State::Open && self.rng.next_u64().is_multiple_of(3) {
            (link.state, link.ready) = (State::Closing, false);
            let conn = ConnId { index: k as u32, generation: link.generation };
            self.seen.closed_below += 1;
            self.below.submit(conn, Op::Close);
        }
    }
}

impl<E: Engine> Engine for Mux<E> {
    fn submit(&mut self, conn: ConnId, op: Op<'_>) {
        match op {
            Op::Connect(_) => self.open(conn),
            Op::Send { tag, head, body } => {
                let body = body.map_or_else(Vec::new, |id| self.bodies[id.0 as usize].clone());
                self.send(conn, tag, head, &body);
            }
            Op::Close => self.close(conn),
        }
    }

    fn poll(&mut self, deadline: Nanos, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) -> io::Result<()> {
        let deadline = if self.closing.is_empty() { deadline } else { Nanos::ZERO };
        let mut heard = Vec::new();
        self.below.poll(deadline, &mut |conn, event, stamp| heard.push((conn, Heard::from(event), stamp)))?;
        for (conn, event, stamp) in heard {
            self.on_event(conn, &event, stamp, sink);
        }
        for stream in std::mem::take(&mut self.closing) {
            self.streams[stream.index as usize].state = State::Closed;
            sink(stream, Event::Closed(CloseReason::Requested), Stamp::at(self.clock.now()));
            self.rest((stream.index / 2) as usize);
        }
        Ok(())
    }
}
