//! The simulator's engine: a virtual network, a virtual clock and a scripted server, all from one seed.
//!
//! The driver, the worker's loop and the recorder run on it unchanged, so that a run of seconds with every fault
//! that a network has takes milliseconds and repeats exactly. It is shaped like the epoll engine: sends are written in
//! `submit`, reads happen in `poll`, in any order of connections. What the server saw is kept as a journal of
//! [`Exchange`]s: the ground truth.
//!
//! Not here: judging. Whether a client's account fits the journal is decided by tests. The one place in the engine
//! room that speaks HTTP is the server (`peer`, `answer`), which shares no code with the client's side.

mod answer;
mod clock;
mod dice;
mod peer;
mod socket;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;
use std::io;

use self::dice::Dice;
use self::peer::{Act, Peer, Wire};
use self::socket::{Due, Outgoing, Socket, Transmission};
use super::{Clock, Engine};
use crate::load::io::{BodyId, CloseReason, ConnId, Event, Op, Stamp, Stamps, Tag};
use crate::load::rng::mix;
use crate::load::time::Nanos;

pub use self::clock::{SimClock, Stop};
pub use self::peer::Exchange;
pub use self::world::{Costs, Faults, Freeze, Server, Service, World};

/// One thread's sockets in a virtual world of its own.
pub struct SimEngine {
    world: World,
    clock: SimClock,
    dice: Dice,
    bodies: Vec<Vec<u8>>,
    peer: Peer,
    /// What is going to happen, by time, then in the order in which it was caused.
    future: BTreeMap<(Nanos, u64), Happening>,
    caused: u64,
    sockets: Vec<Socket>,
    /// What `submit` found out and `poll` has to tell.
    pending: Vec<(ConnId, Event<'static>, Nanos)>,
    /// Slots about which the client's kernel has something to say.
    ready: Vec<u32>,
    connects: u64,
    stamps: Stamps,
}

/// Something that happens without the client's doing.
#[derive(Debug)]
enum Happening {
    /// The client's kernel learns how a connect ended.
    Handshake(Result<(), CloseReason>, ConnId),
    /// The client's kernel has room for more of a send.
    Room(ConnId),
    /// Bytes arrive at the server; the client handed them over at this time.
    Request(ConnId, Vec<u8>, Nanos),
    /// The last byte of a send leaves the client's kernel, which stamps it.
    Left(ConnId, Transmission),
    /// The server learns that the client has closed.
    HangUp(ConnId),
    /// The server's kernel sends something.
    Act(ConnId, Act),
    /// It arrives in the client's kernel.
    Arrival(ConnId, Wire),
}

const ECONNREFUSED: i32 = 111;
const EMFILE: i32 = 24;
/// A slow accept takes at most so long.
const SLOW_ACCEPT_MAX: Nanos = Nanos::from_millis(80);
/// A full socket buffer has room again after at most so long.
const ROOM_AFTER_MAX: Nanos = Nanos::from_millis(3);

impl SimEngine {
    /// An engine for connection slots `0..connections` in `world`; `bodies` are what `BodyId`s stand for.
    pub fn new(world: World, connections: u32, bodies: Vec<Vec<u8>>) -> Self {
        Self {
            clock: SimClock::new(world.start, world.costs.clock, world.stops.clone()),
            dice: Dice::new(mix(world.seed, 1)),
            bodies,
            peer: Peer::new(&world),
            future: BTreeMap::new(),
            caused: 0,
            sockets: (0..connections).map(|_| Socket::default()).collect(),
            pending: Vec::new(),
            ready: Vec::new(),
            connects: 0,
            stamps: Stamps::User,
            world,
        }
    }

    /// The same with these stamps of the kernel.
    pub fn with_stamps(self, stamps: Stamps) -> Self {
        Self { stamps, ..self }
    }

    /// How often which fault, and what else is worth knowing, has happened.
    pub fn marks(&self) -> BTreeMap<&'static str, u64> {
        let mut marks = self.dice.marks().clone();
        marks.extend(self.peer.marks());
        marks
    }

    /// The clock of this world.
    pub fn clock(&self) -> SimClock {
        self.clock.clone()
    }

    /// What the server saw and did, in the order in which requests came.
    pub fn exchanges(&self) -> &[Exchange] {
        self.peer.exchanges()
    }

    /// Connects asked for.
    pub fn connects(&self) -> u64 {
        self.connects
    }

    // ---- what the client asks

    fn connect(&mut self, conn: ConnId) {
        self.connects += 1;
        let faults = self.world.faults;
        let now = self.clock.time();
        if self.dice.strikes("local", faults.local) {
            self.pending.push((conn, Event::Closed(CloseReason::Local(EMFILE)), now));
            return;
        }
        *self.socket(conn) = Socket { generation: conn.generation, connecting: true, ..Socket::default() };
        if self.dice.strikes("unanswered", faults.unanswered) {
            return;
        }
        let mut answered = now + self.world.latency + self.world.latency + self.dice.up_to(self.world.jitter);
        let result = if self.dice.strikes("refused", faults.refused) {
            Err(CloseReason::Refused(ECONNREFUSED))
        } else if self.dice.strikes("handshake_reset", faults.handshake_reset) {
            Err(CloseReason::Reset)
        } else {
            Ok(())
        };
        if self.dice.strikes("slow_accept", faults.slow_accept) {
            answered += self.dice.up_to(SLOW_ACCEPT_MAX);
        }
        self.socket(conn).last_in = answered;
        self.cause(answered, Happening::Handshake(result, conn));
    }

    fn send(&mut self, conn: ConnId, tag: Tag, head: &[u8], body: Option<BodyId>) {
        let mut bytes = head.to_vec();
        bytes.extend(body.map_or(&[][..], |id| &self.bodies[id.0 as usize]));
        let issued = self.clock.now();
        self.pending.push((conn, Event::Sent(tag), issued));
        self.socket(conn).out.push_back(Outgoing { tag, rest: bytes });
        if let Some(tag) = self.write(conn) {
            self.pending.push((conn, Event::SentAll(tag), issued));
        }
    }

    /// The kernel takes what it has room for. Returns the tag of a send it has taken whole.
    fn write(&mut self, conn: ConnId) -> Option<Tag> {
        let now = self.clock.time();
        let partial = self.dice.chance(self.world.faults.partial_write);
        let socket = &mut self.sockets[conn.index as usize];
        if socket.ending == Some(CloseReason::Reset) {
            socket.out.clear(); // EPIPE; the reader finds out
            self.ready.push(conn.index);
            return None;
        }
        let out = socket.out.front_mut()?;
        let taken = match partial {
            true => 1 + self.dice.below(out.rest.len() as u64) as usize,
            false => out.rest.len(),
        };
        let piece: Vec<u8> = out.rest.drain(..taken).collect();
        let tag = out.tag;
        let whole = out.rest.is_empty();
        if whole {
            socket.out.pop_front();
            self.transmit(conn, tag, now);
        } else {
            self.dice.mark("partial_write");
        }
        let arrives = self.way_out(conn, now);
        self.cause(arrives, Happening::Request(conn, piece, now));
        if !whole {
            let room = now + Nanos(1) + self.dice.up_to(ROOM_AFTER_MAX);
            self.cause(room, Happening::Room(conn));
        }
        whole.then_some(tag)
    }

    /// The last byte of a send leaves the kernel a little after it was handed over.
    fn transmit(&mut self, conn: ConnId, tag: Tag, handed: Nanos) {
        let faults = self.world.faults;
        if self.stamps != Stamps::RxTx || self.dice.strikes("stamp_missing", faults.stamp_missing) {
            return;
        }
        let due = match self.dice.strikes("stamp_late", faults.stamp_late) {
            true => Due::BehindAnswer(self.dice.below(3) as u8),
            false => Due::Now,
        };
        let left = handed + self.world.leaves_after();
        self.cause(left, Happening::Left(conn, Transmission { tag, left, due }));
    }

    fn close(&mut self, conn: ConnId) {
        if self.live(conn) {
            let now = self.clock.now();
            let arrives = self.way_out(conn, now);
            *self.socket(conn) = Socket { generation: conn.generation, ..Socket::default() };
            self.cause(arrives, Happening::HangUp(conn));
            self.pending.push((conn, Event::Closed(CloseReason::Requested), now));
        }
    }

    // ---- what happens meanwhile

    fn cause(&mut self, at: Nanos, happening: Happening) {
        self.caused += 1;
        self.future.insert((at, self.caused), happening);
    }

    fn cause_acts(&mut self, conn: ConnId, acts: Vec<Act>) {
        for act in acts {
            self.cause(act.at, Happening::Act(conn, act));
        }
    }

    /// Everything up to now happens.
    fn catch_up(&mut self) {
        let now = self.clock.time();
        while let Some(entry) = self.future.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((at, _), happening) = entry.remove_entry();
            self.happen(at, happening);
        }
    }

    fn happen(&mut self, now: Nanos, happening: Happening) {
        match happening {
            Happening::Handshake(result, conn) if self.live(conn) => {
                self.socket(conn).handshake = Some(result);
                self.ready.push(conn.index);
                if result.is_ok() {
                    let acts = self.peer.accept(conn, now);
                    self.cause_acts(conn, acts);
                }
            }
            Happening::Room(conn) if self.live(conn) => {
                self.socket(conn).room = true;
                self.ready.push(conn.index);
            }
            Happening::Request(conn, bytes, handed) => {
                let acts = self.peer.on_bytes(conn, &bytes, handed, now);
                self.cause_acts(conn, acts);
            }
            Happening::HangUp(conn) => self.peer.hang_up(conn),
            Happening::Act(conn, act) => self.act(conn, act),
            Happening::Left(conn, transmission) if self.live(conn) => {
                self.socket(conn).transmissions.push(transmission);
                self.ready.push(conn.index);
            }
            Happening::Arrival(conn, wire) if self.live(conn) => self.arrive(conn, wire, now),
            // the client has closed
            Happening::Handshake(..) | Happening::Room(_) | Happening::Left(..) | Happening::Arrival(..) => {}
        }
    }

    fn act(&mut self, conn: ConnId, Act { at, wire, marks }: Act) {
        let wire = match wire {
            Wire::IfIdle { served, then } if self.peer.while_idle(conn, served, &then, at) => *then,
            Wire::IfIdle { .. } => return,
            wire => wire,
        };
        if !self.live(conn) {
            return;
        }
        let arrives = at + self.world.latency + self.dice.up_to(self.world.jitter);
        let socket = self.socket(conn);
        let arrives = arrives.max(socket.last_in);
        socket.last_in = arrives;
        for mark in marks {
            self.peer.arrives(mark, arrives);
        }
        self.cause(arrives, Happening::Arrival(conn, wire));
    }

    fn arrive(&mut self, conn: ConnId, wire: Wire, now: Nanos) {
        let purges =
            matches!(wire, Wire::Rst) && self.dice.strikes("reset_purges", self.world.faults.reset_purges);
        let socket = self.socket(conn);
        if socket.ending == Some(CloseReason::Reset) {
            return;
        }
        match wire {
            Wire::Bytes(bytes) => {
                socket.pieces.push_back((bytes.len(), now));
                socket.inbox.extend(bytes);
            }
            Wire::Fin => socket.ending = Some(CloseReason::Eof),
            Wire::Rst => {
                socket.ending = Some(CloseReason::Reset);
                socket.out.clear();
                if purges {
                    socket.inbox.clear();
                    socket.pieces.clear();
                }
            }
            Wire::IfIdle { .. } => unreachable!("decided when it was sent"),
        }
        self.ready.push(conn.index);
    }

    // ---- what the client learns

    /// Sleeps until the kernel has something to say, at most until `deadline`.
    fn wait(&mut self, deadline: Nanos) {
        self.clock.spend(self.world.costs.poll);
        self.catch_up();
        while self.ready.is_empty() && self.pending.is_empty() && self.clock.time() < deadline {
            let next = self.future.first_key_value().map_or(Nanos::MAX, |((at, _), _)| *at);
            let until = next.min(deadline);
            assert!(
                until < Nanos::MAX,
                "the client waits for ever: nothing is due and nothing is on its way"
            );
            self.clock.wait_until(until);
            self.catch_up();
        }
    }

    fn tell(&mut self, index: u32, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) {
        let conn = ConnId { index, generation: self.sockets[index as usize].generation };
        if let Some(result) = self.socket(conn).handshake.take() {
            let socket = self.socket(conn);
            socket.connecting = false;
            socket.open = result.is_ok();
            let event = result.map_or_else(Event::Closed, |()| Event::Connected);
            sink(conn, event, self.stamp());
        }
        if std::mem::take(&mut self.socket(conn).room)
            && let Some(tag) = self.write(conn)
        {
            sink(conn, Event::SentAll(tag), self.stamp());
        }
        self.socket(conn).poll_has_come();
        self.tell_transmissions(conn, sink);
        let there = self.socket(conn).inbox.len();
        self.read(conn, sink);
        if self.socket(conn).inbox.len() < there {
            self.socket(conn).answered();
            self.tell_transmissions(conn, sink);
        }
        if self.socket(conn).needs_poll() {
            self.ready.push(conn.index);
        }
    }

    /// The transmit stamps that are due.
    fn tell_transmissions(&mut self, conn: ConnId, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) {
        let mut at = 0;
        while let Some(&Transmission { tag, left, due }) = self.socket(conn).transmissions.get(at) {
            if due != Due::Now {
                at += 1;
                continue;
            }
            self.socket(conn).transmissions.remove(at);
            sink(conn, Event::Transmitted(tag), Stamp { kernel: Some(left), ..self.stamp() });
        }
    }

    fn read(&mut self, conn: ConnId, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) {
        if !self.socket(conn).open {
            return;
        }
        let there = self.socket(conn).inbox.len();
        if there > 0 {
            let short = self.dice.chance(self.world.faults.short_read);
            let n = if short { 1 + self.dice.below(there as u64) as usize } else { there };
            if n < there {
                self.dice.mark("short_read");
            }
            let (bytes, arrived) = self.socket(conn).take(n);
            let faults = self.world.faults;
            let lost =
                self.stamps == Stamps::User || self.dice.strikes("stamp_missing", faults.stamp_missing);
            let kernel = (!lost).then_some(arrived);
            sink(conn, Event::Received(&bytes), Stamp { kernel, ..self.stamp() });
            if n < there {
                self.ready.push(conn.index); // the rest next time
                return;
            }
        }
        if let Some(reason) = self.socket(conn).ending {
            *self.socket(conn) = Socket { generation: conn.generation, ..Socket::default() };
            let arrives = self.way_out(conn, self.clock.time());
            self.cause(arrives, Happening::HangUp(conn));
            sink(conn, Event::Closed(reason), self.stamp());
        }
    }

    fn stamp(&self) -> Stamp {
        self.clock.spend(self.world.costs.event);
        Stamp::at(self.clock.now())
    }

    // ---- small things

    fn socket(&mut self, conn: ConnId) -> &mut Socket {
        &mut self.sockets[conn.index as usize]
    }

    fn live(&self, conn: ConnId) -> bool {
        let socket = &self.sockets[conn.index as usize];
        socket.generation == conn.generation && (socket.open || socket.connecting)
    }

    /// When what the client's kernel sends at `now` arrives at the server.
    fn way_out(&mut self, conn: ConnId, now: Nanos) -> Nanos {
        let arrives = now + self.world.latency + self.dice.up_to(self.world.jitter);
        let socket = &mut self.sockets[conn.index as usize];
        socket.last_out = arrives.max(socket.last_out);
        socket.last_out
    }
}

impl Engine for SimEngine {
    fn submit(&mut self, conn: ConnId, op: Op<'_>) {
        self.catch_up();
        match op {
            Op::Connect(_) => self.connect(conn),
            Op::Send { tag, head, body } => self.send(conn, tag, head, body),
            Op::Close => self.close(conn),
        }
        self.clock.spend(self.world.costs.submit);
    }

    fn poll(&mut self, deadline: Nanos, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) -> io::Result<()> {
        self.wait(deadline);
        // What submit did comes first: `Sent` precedes the answer.
        for (conn, event, at) in self.pending.drain(..) {
            sink(conn, event, Stamp::at(at));
        }
        let mut ready = std::mem::take(&mut self.ready);
        ready.sort_unstable();
        ready.dedup();
        let by_slot = ready.clone();
        self.dice.shuffle(&mut ready);
        if ready != by_slot {
            self.dice.mark("reordered");
        }
        for index in ready {
            self.tell(index, sink);
        }
        Ok(())
    }
}
