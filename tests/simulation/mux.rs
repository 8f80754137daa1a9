//! A protocol that is not HTTP/1.1, to prove that others fit between driver and engine: two streams on one connection.
//!
//! [`Mux`] is a client's side of it, an engine over an engine: the connections 2k and 2k + 1 of the driver are streams of
//! connection k below. It shakes hands before any stream opens, answers pings, and so sends without a request; its
//! frames come interleaved and cut anywhere. [`Demux`] is the network and the server's side: an engine whose connections
//! carry frames, over a simulated world in which each stream is a connection with the scripted server behind it. So the
//! journal of that world is the ground truth, and all its faults befall streams.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use hairspring::engine::contract::Checked;
use hairspring::engine::sim::{SimClock, SimEngine};
use hairspring::engine::{Clock, Engine};
use hairspring::load::io::{CloseReason, ConnId, Event, Op, Stamp, Tag, TargetId};
use hairspring::load::rng::Rng;
use hairspring::load::time::Nanos;

/// What frames mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Settings,
    SettingsAck,
    Ping,
    Pong,
    /// A stream is wanted; it is there.
    Open,
    Opened,
    Data,
    /// A stream has ended; the payload says why, if the server did it.
    Closed,
}

const KINDS: [Kind; 8] = [
    Kind::Settings,
    Kind::SettingsAck,
    Kind::Ping,
    Kind::Pong,
    Kind::Open,
    Kind::Opened,
    Kind::Data,
    Kind::Closed,
];

/// Stream (its slot below the driver's two), generation of the stream, payload.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    kind: Kind,
    stream: ConnId,
    payload: Vec<u8>,
}

const HEAD: usize = 11;
const NO_STREAM: ConnId = ConnId { index: u32::MAX, generation: 0 };

impl Frame {
    fn new(kind: Kind, stream: ConnId, payload: &[u8]) -> Self {
        Self { kind, stream, payload: payload.to_vec() }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind as u8];
        bytes.extend(self.stream.index.to_be_bytes());
        bytes.extend(self.stream.generation.to_be_bytes());
        bytes.extend((self.payload.len() as u16).to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The frame at the front, once it is whole.
    fn take(buffer: &mut VecDeque<u8>) -> Option<Self> {
        if buffer.len() < HEAD {
            return None;
        }
        let number = |from: usize, to: usize| (from..to).fold(0, |n, at| n << 8 | u32::from(buffer[at]));
        let (index, generation, length) = (number(1, 5), number(5, 9), number(9, 11) as usize);
        if buffer.len() < HEAD + length {
            return None;
        }
        let kind = KINDS[usize::from(buffer[0])];
        let payload = buffer.drain(..HEAD + length).skip(HEAD).collect();
        Some(Self { kind, stream: ConnId { index, generation }, payload })
    }
}

fn reason_bytes(reason: CloseReason) -> Vec<u8> {
    let (code, errno) = match reason {
        CloseReason::Requested => unreachable!("nobody is told what he asked for"),
        CloseReason::Eof => (0u8, 0),
        CloseReason::Reset => (1, 0),
        CloseReason::TimedOut => (2, 0),
        CloseReason::Refused(errno) => (3, errno),
        CloseReason::Local(errno) => (4, errno),
    };
    [&[code][..], &errno.to_be_bytes()].concat()
}

fn reason_of(bytes: &[u8]) -> CloseReason {
    let errno = i32::from_be_bytes(bytes[1..].try_into().unwrap());
    match bytes[0] {
        0 => CloseReason::Eof,
        1 => CloseReason::Reset,
        2 => CloseReason::TimedOut,
        3 => CloseReason::Refused(errno),
        _ => CloseReason::Local(errno),
    }
}

/// Pieces of `bytes`, cut at up to three places.
fn cut<'a>(rng: &mut Rng, bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> =
        (0..rng.next_u64() % 4).map(|_| (rng.next_u64() as usize) % (bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

// ---- the client's side

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Opening,
    Open,
    Closing,
}

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

/// An event that can be kept: while the engine below polls, nothing can be submitted to it.
enum Heard {
    Connected,
    Sent(Tag),
    SentAll(Tag),
    Received(Vec<u8>),
    Closed(CloseReason),
}

impl From<Event<'_>> for Heard {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Connected => Self::Connected,
            Event::Sent(tag) => Self::Sent(tag),
            Event::SentAll(tag) => Self::SentAll(tag),
            Event::Transmitted(_) => panic!("no stamps of the kernel were asked for"),
            Event::Received(bytes) => Self::Received(bytes.to_vec()),
            Event::Closed(reason) => Self::Closed(reason),
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

// ---- the server's side and the wire

/// The server's end of a connection that carries frames.
#[derive(Debug, Default)]
struct Far {
    generation: u32,
    inbox: VecDeque<u8>,
    last_stamp: Nanos,
    /// Frames of each stream, not yet on the wire; within a stream in order.
    out: [VecDeque<Frame>; 2],
    /// On the wire.
    wire: VecDeque<u8>,
    /// Sends of the client in order, and whether the kernel has taken them whole.
    sends: VecDeque<(Tag, bool)>,
    pings: VecDeque<Vec<u8>>,
    settings: bool,
}

/// What `submit` has to tell, in order.
enum Told {
    Event(ConnId, Heard, Nanos),
    /// `Sent` of a send that goes through to the world below, with the tag it has there.
    Through(ConnId, Tag, u64),
}

/// A network of connections that carry frames.
pub(crate) struct Demux {
    world: Checked<SimEngine>,
    clock: SimClock,
    rng: Rng,
    far: Vec<Far>,
    /// Streams that are connected in the world below: their generation there.
    inner: Vec<(u32, State)>,
    /// The generation of the stream that it stands for.
    standing_for: Vec<u32>,
    /// Streams that were connected since the last poll.
    fresh: Vec<bool>,
    /// Frames of streams that have to wait for the world below.
    deferred: Vec<VecDeque<Frame>>,
    told: VecDeque<Told>,
    /// By the tag below: the connection and the tag of the send, and the slot below.
    through: BTreeMap<u64, (ConnId, Tag, usize)>,
    next_tag: u64,
    pub(crate) pinged: u64,
    /// Handshakes that were over.
    pub(crate) acknowledged: u64,
}

impl Demux {
    pub(crate) fn new(world: SimEngine, connections: u32, seed: u64) -> Self {
        Self {
            clock: world.clock(),
            world: Checked::new(world, connections),
            rng: Rng::new(seed),
            far: (0..connections.div_ceil(2)).map(|_| Far::default()).collect(),
            inner: vec![(0, State::Closed); connections as usize],
            standing_for: vec![0; connections as usize],
            fresh: vec![false; connections as usize],
            deferred: vec![VecDeque::new(); connections as usize],
            told: VecDeque::new(),
            through: BTreeMap::new(),
            next_tag: 0,
            pinged: 0,
            acknowledged: 0,
        }
    }

    pub(crate) fn world(&self) -> &SimEngine {
        self.world.inner()
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.rng.next_u64().is_multiple_of(n)
    }

    fn on_bytes(&mut self, conn: ConnId, tag: Tag, bytes: &[u8]) {
        let k = conn.index as usize;
        let far = &mut self.far[k];
        far.inbox.extend(bytes);
        let frame = Frame::take(&mut far.inbox).expect("a client sends whole frames");
        assert!(far.inbox.is_empty(), "one frame each");
        far.sends.push_back((tag, false));
        assert!(far.settings || frame.kind == Kind::Settings, "{frame:?} before the handshake");
        if frame.kind == Kind::Data && self.inner_is(frame.stream, State::Open) {
            self.next_tag += 1;
            let number = self.next_tag;
            self.told.push_back(Told::Through(conn, tag, number));
            self.through.insert(number, (conn, tag, frame.stream.index as usize));
            let inner = self.inner_conn(frame.stream.index);
            self.world.submit(inner, Op::Send { tag: Tag(number), head: &frame.payload, body: None });
            return;
        }
        let now = self.clock.now();
        self.told.push_back(Told::Event(conn, Heard::Sent(tag), now));
        self.taken(conn, tag, now);
        if frame.stream == NO_STREAM {
            self.on_frame(k, &frame);
        } else {
            self.deferred[frame.stream.index as usize].push_back(frame.clone());
            self.catch_up(frame.stream.index as usize);
        }
    }

    /// Frames of a stream take effect in order, each when the world below is ready for it.
    fn catch_up(&mut self, index: usize) {
        while !self.fresh[index]
            && self.inner[index].1 != State::Closing
            && let Some(frame) = self.deferred[index].pop_front()
        {
            self.on_frame(index / 2, &frame);
        }
    }

    fn on_frame(&mut self, k: usize, frame: &Frame) {
        let stream = frame.stream;
        match frame.kind {
            Kind::Settings => {
                let far = &mut self.far[k];
                far.settings = true;
                far.out[0].push_back(Frame::new(Kind::Settings, NO_STREAM, b"two streams, and pings"));
                far.out[0].push_back(Frame::new(Kind::SettingsAck, NO_STREAM, &[]));
            }
            Kind::Pong => {
                let asked = self.far[k].pings.pop_front();
                assert_eq!(asked.as_ref(), Some(&frame.payload), "an answer to another ping");
            }
            Kind::Open => {
                let slot = &mut self.inner[stream.index as usize];
                assert_eq!(slot.1, State::Closed, "{frame:?}: the stream before it has not ended");
                *slot = (slot.0 + 1, State::Opening);
                self.standing_for[stream.index as usize] = stream.generation;
                self.fresh[stream.index as usize] = true;
                let inner = self.inner_conn(stream.index);
                self.world.submit(inner, Op::Connect(TargetId(0)));
            }
            Kind::Closed => {
                if self.inner_is(stream, State::Open) || self.inner_is(stream, State::Opening) {
                    self.inner[stream.index as usize].1 = State::Closing;
                    let inner = self.inner_conn(stream.index);
                    self.world.submit(inner, Op::Close);
                }
            }
            Kind::Data => {} // for a stream that has ended meanwhile
            Kind::SettingsAck => self.acknowledged += 1,
            Kind::Opened | Kind::Ping => panic!("a client does not say {frame:?}"),
        }
    }

    fn inner_conn(&self, index: u32) -> ConnId {
        ConnId { index, generation: self.inner[index as usize].0 }
    }

    fn inner_is(&self, stream: ConnId, state: State) -> bool {
        let at = stream.index as usize;
        self.standing_for[at] == stream.generation && self.inner[at].1 == state
    }

    /// The kernel has taken a send whole; bytes of one connection are taken in order.
    fn taken(&mut self, conn: ConnId, tag: Tag, at: Nanos) {
        let far = &mut self.far[conn.index as usize];
        if far.generation != conn.generation {
            return;
        }
        if let Some(send) = far.sends.iter_mut().find(|send| send.0 == tag) {
            send.1 = true;
        }
        while far.sends.front().is_some_and(|send| send.1) {
            let (tag, _) = far.sends.pop_front().expect("just seen");
            self.told.push_back(Told::Event(conn, Heard::SentAll(tag), at));
        }
    }

    /// Something happened to a stream in the world below.
    fn on_event(&mut self, conn: ConnId, event: Heard, stamp: Stamp) {
        let index = conn.index as usize;
        let stream = ConnId { index: conn.index, generation: self.standing_for[index] };
        let (k, side) = (index / 2, index % 2);
        let frames: Vec<Frame> = match event {
            Heard::Sent(tag) => {
                let place =
                    self.told.iter_mut().find(|told| matches!(told, Told::Through(.., n) if *n == tag.0));
                if let Some(place) = place
                    && let Told::Through(above, original, _) = *place
                {
                    *place = Told::Event(above, Heard::Sent(original), stamp.at);
                }
                return;
            }
            Heard::SentAll(tag) => {
                let (above, original, _) = self.through.remove(&tag.0).expect("it was sent");
                return self.taken(above, original, stamp.at);
            }
            Heard::Connected => {
                self.inner[index].1 = State::Open;
                vec![Frame::new(Kind::Opened, stream, &[])]
            }
            Heard::Received(bytes) => {
                cut(&mut self.rng, &bytes).iter().map(|piece| Frame::new(Kind::Data, stream, piece)).collect()
            }
            Heard::Closed(reason) => {
                self.inner[index].1 = State::Closed;
                // what its kernel had not taken is gone; on this connection nothing waits for it
                let lost: Vec<u64> = self
                    .through
                    .iter()
                    .filter(|(_, send)| send.2 == index)
                    .map(|(number, _)| *number)
                    .collect();
                for number in lost {
                    let (above, original, _) = self.through.remove(&number).expect("just seen");
                    self.taken(above, original, stamp.at);
                }
                if reason == CloseReason::Requested {
                    return;
                }
                vec![Frame::new(Kind::Closed, stream, &reason_bytes(reason))]
            }
        };
        self.far[k].out[side].extend(frames);
    }
}

impl Demux {
    fn close(&mut self, conn: ConnId) {
        self.told.retain(|told| match told {
            Told::Event(of, ..) | Told::Through(of, ..) => *of != conn,
        });
        self.far[conn.index as usize] = Far { generation: conn.generation, ..Far::default() };
        let now = self.clock.now();
        self.told.push_back(Told::Event(conn, Heard::Closed(CloseReason::Requested), now));
    }

    /// A server that wants to know whether the client is there.
    fn ping(&mut self) {
        for k in 0..self.far.len() {
            if self.far[k].settings && self.far[k].pings.len() < 3 && self.one_in(60) {
                self.pinged += 1;
                let nonce = self.pinged.to_be_bytes();
                self.far[k].pings.push_back(nonce.to_vec());
                // all on one side: they are answered in the order in which they were asked
                self.far[k].out[0].push_back(Frame::new(Kind::Ping, NO_STREAM, &nonce));
            }
        }
    }

    /// Frames of both streams go on the wire in any order, a stream's own in order.
    fn interleave(&mut self) {
        for k in 0..self.far.len() {
            while self.far[k].out.iter().any(|out| !out.is_empty()) {
                let side = self.rng.next_u64() as usize % 2;
                let far = &mut self.far[k];
                let frame = far.out[side].pop_front().or_else(|| far.out[1 - side].pop_front());
                far.wire.extend(frame.expect("one of them is not empty").bytes());
            }
        }
    }

    fn tell(&mut self, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) {
        while let Some(Told::Event(..)) = self.told.front() {
            let Some(Told::Event(conn, heard, at)) = self.told.pop_front() else { unreachable!() };
            let far = &mut self.far[conn.index as usize];
            far.last_stamp = far.last_stamp.max(at);
            let event = match heard {
                Heard::Connected => Event::Connected,
                Heard::Sent(tag) => Event::Sent(tag),
                Heard::SentAll(tag) => Event::SentAll(tag),
                Heard::Closed(reason) => Event::Closed(reason),
                Heard::Received(_) => unreachable!("what is read comes from the wire"),
            };
            sink(conn, event, Stamp::at(far.last_stamp));
        }
    }

    /// Reads end anywhere.
    fn read(&mut self, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) {
        for k in 0..self.far.len() {
            let there = self.far[k].wire.len();
            if there == 0 || !self.told.is_empty() {
                continue;
            }
            let n = if self.one_in(2) { there } else { 1 + self.rng.next_u64() as usize % there };
            let bytes: Vec<u8> = self.far[k].wire.drain(..n).collect();
            let conn = ConnId { index: k as u32, generation: self.far[k].generation };
            let at = self.clock.now();
            self.far[k].last_stamp = at;
            sink(conn, Event::Received(&bytes), Stamp::at(at));
        }
    }
}

impl Engine for Demux {
    fn submit(&mut self, conn: ConnId, op: Op<'_>) {
        match op {
            Op::Connect(_) => {
                self.far[conn.index as usize] = Far { generation: conn.generation, ..Far::default() };
                let now = self.clock.now();
                self.told.push_back(Told::Event(conn, Heard::Connected, now));
            }
            Op::Send { tag, head, body } => {
                assert!(body.is_none(), "a protocol in between sends bytes of its own");
                self.on_bytes(conn, tag, head);
            }
            Op::Close => self.close(conn),
        }
    }

    fn poll(&mut self, deadline: Nanos, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) -> io::Result<()> {
        self.ping();
        let waits = self.told.is_empty()
            && self.deferred.iter().all(VecDeque::is_empty)
            && self.far.iter().all(|far| far.wire.is_empty() && far.out.iter().all(VecDeque::is_empty));
        let mut heard = Vec::new();
        let deadline = if waits { deadline } else { Nanos::ZERO };
        self.world.poll(deadline, &mut |conn, event, stamp| heard.push((conn, Heard::from(event), stamp)))?;
        for (conn, event, stamp) in heard {
            self.on_event(conn, event, stamp);
        }
        self.fresh.fill(false);
        (0..self.deferred.len()).for_each(|index| self.catch_up(index));
        self.interleave();
        self.tell(sink);
        self.read(sink);
        Ok(())
    }
}
