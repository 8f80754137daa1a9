//! The network and the server's side of the two-stream protocol: an engine whose connections carry frames, over a
//! simulated world in which each stream is a connection with the scripted server behind it. So the journal of that world
//! is the ground truth, and all its faults befall streams.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use hairspring::engine::contract::Checked;
use hairspring::engine::sim::{SimClock, SimEngine};
use hairspring::engine::{Clock, Engine};
use hairspring::load::io::{CloseReason, ConnId, Event, Op, Stamp, Tag, TargetId};
use hairspring::load::rng::Rng;
use hairspring::load::time::Nanos;

use super::frame::{Frame, Heard, Kind, NO_STREAM, State, cut, reason_bytes};

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
