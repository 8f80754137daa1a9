//! The epoll engine: readiness turned into completions, edge-triggered, one thread.
//!
//! Sockets are registered through mio; waiting goes past it, through epoll_pwait2 on the same
//! descriptor, because mio (like epoll_wait) rounds its timeout up to whole milliseconds and would wake
//! a schedule up to 1 ms late. Sends are written at once, in `submit`: readiness is not awaited first.
//!
//! Not here: retries, timeouts, HTTP.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use super::{Clock, Engine, Setup, close_reason};
use crate::load::io::{BodyId, CloseReason, ConnId, EngineAccount, Event, Op, Stamp, Stamps, Tag, TargetId};
use crate::load::time::Nanos;
use crate::sys::socket;
use crate::sys::stamps::{self, Awake, WallRelation};

/// One read; a whole response of ordinary size.
const READ_BYTES: usize = 64 * 1024;
/// After so many full reads another connection gets its turn.
const READS_PER_TURN: u32 = 16;
const EVENTS_PER_TURN: usize = 256;

/// Drives the sockets of one thread.
pub struct EpollEngine<C> {
    clock: C,
    poll: Poll,
    targets: Vec<Target>,
    bodies: Vec<Vec<u8>>,
    slots: Vec<Slot>,
    /// What `submit` found out and `poll` has to tell.
    pending: Vec<(ConnId, Event<'static>, Nanos)>,
    /// Connections to read from without a new edge: unfinished reads, failed writes.
    again: Vec<ConnId>,
    ready: Vec<epoll::Event>,
    buffer: Box<[u8]>,
    stamping: Option<Stamping>,
    /// Where the kernel (or valgrind) has no epoll_pwait2, mio waits, in whole milliseconds.
    coarse: Option<Events>,
}

/// What the kernel's stamps need.
#[derive(Debug)]
struct Stamping {
    stamps: Stamps,
    relation: WallRelation,
    /// Keeps the kernel stamping while no socket of ours is open.
    _awake: Awake,
}

#[derive(Debug)]
struct Target {
    addresses: Vec<SocketAddr>,
    /// The address that last worked: the first of a new connect.
    first: usize,
}

#[derive(Debug, Default)]
struct Slot {
    socket: Option<OwnedFd>,
    generation: u32,
    /// While connecting: the target, the address under way, and how many have failed.
    connecting: Option<(TargetId, usize, usize)>,
    out: VecDeque<Outgoing>,
    /// The peer or the kernel ended it; what was received before is still delivered.
    ending: bool,
    /// A write failed like this.
    broken: Option<CloseReason>,
    /// Bytes handed to the kernel so far, and the sends whose departure has not been reported: their tags and the offsets
    /// behind their last bytes. Both modulo 2^32, as the kernel counts.
    written: u32,
    departing: VecDeque<(u32, Tag)>,
}

/// A send that the socket did not take at once.
#[derive(Debug)]
struct Outgoing {
    tag: Tag,
    head: Vec<u8>,
    body: Option<BodyId>,
    written: usize,
    /// `Sent` has been reported.
    announced: bool,
}

impl<C: Clock> EpollEngine<C> {
    /// An engine at rest, without sockets.
    pub fn new(clock: C, setup: Setup) -> io::Result<Self> {
        let Setup { connections, targets, bodies, stamps, .. } = setup;
        let stamping = match stamps {
            Stamps::User => None,
            stamps => Some(Stamping { stamps, _awake: Awake::wait()?, relation: WallRelation::measure() }),
        };
        Ok(Self {
            stamping,
            coarse: None,
            clock,
            poll: Poll::new()?,
            targets: targets.into_iter().map(|addresses| Target { addresses, first: 0 }).collect(),
            bodies,
            slots: (0..connections).map(|_| Slot::default()).collect(),
            pending: Vec::with_capacity(2 * connections as usize),
            again: Vec::with_capacity(connections as usize),
            ready: Vec::with_capacity(EVENTS_PER_TURN),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        })
    }

    fn connect(&mut self, conn: ConnId, target: TargetId, failed: usize) {
        let Target { addresses, first } = &self.targets[target.0 as usize];
        let at = (first + failed) % addresses.len();
        let slot = &mut self.slots[conn.index as usize];
        *slot = Slot { generation: conn.generation, ..Slot::default() };
        let opened = socket::start_connect(addresses[at]).and_then(|socket| {
            let token = Token((conn.index as usize) | ((conn.generation as usize) << 32));
            let interest = Interest::READABLE | Interest::WRITABLE;
            if let Some(stamping) = &self.stamping {
                stamps::enable(&socket, stamping.stamps)?;
            }
            self.poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), token, interest)?;
            Ok(socket)
        });
        match opened {
            Ok(socket) => {
                slot.socket = Some(socket);
                if self.stamping.is_some() {
                    slot.departing.reserve(4); // now, not under the first request
                }
                slot.connecting = Some((target, at, failed));
            }
            Err(error) => {
                let reason = close_reason(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
                self.connect_failed(conn, target, failed, reason);
            }
        }
    }

    /// The next address, or the end.
    fn connect_failed(&mut self, conn: ConnId, target: TargetId, failed: usize, reason: CloseReason) {
        let more = failed + 1 < self.targets[target.0 as usize].addresses.len();
        if more && !matches!(reason, CloseReason::Local(_)) {
            self.connect(conn, target, failed + 1);
        } else {
            self.slots[conn.index as usize].socket = None;
            self.pending.push((conn, Event::Closed(reason), self.clock.now()));
        }
    }

    fn send(&mut self, conn: ConnId, tag: Tag, head: &[u8], body: Option<BodyId>) {
        let slot = &mut self.slots[conn.index as usize];
        let Some(socket) = &slot.socket else { return };
        if !slot.out.is_empty() {
            slot.out.push_back(Outgoing { tag, head: head.to_vec(), body, written: 0, announced: false });
            return;
        }
        let issued = self.clock.now();
        self.pending.push((conn, Event::Sent(tag), issued));
        let bytes = body.map_or(&[][..], |id| &self.bodies[id.0 as usize]);
        let result = write(socket, head, bytes, 0);
        slot.note_written(&result, tag, head.len() + bytes.len(), &self.stamping);
        match result {
            Ok(written) if written == head.len() + bytes.len() => {
                self.pending.push((conn, Event::SentAll(tag), issued));
            }
            Ok(written) => {
                slot.out.push_back(Outgoing { tag, head: head.to_vec(), body, written, announced: true });
            }
            Err(errno) => {
                slot.broken = Some(close_reason(errno));
                self.again.push(conn);
            }
        }
    }

    /// The socket takes bytes again.
    fn flush(&mut self, conn: ConnId, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) {
        let slot = &mut self.slots[conn.index as usize];
        while let (Some(socket), Some(out)) = (&slot.socket, slot.out.front_mut()) {
            let body = out.body.map_or(&[][..], |id| &self.bodies[id.0 as usize]);
            let total = out.head.len() + body.len();
            if !std::mem::replace(&mut out.announced, true) {
                sink(conn, Event::Sent(out.tag), Stamp::at(self.clock.now()));
            }
            let result = write(socket, &out.head, body, out.written);
            let (tag, rest) = (out.tag, total - out.written);
            slot.note_written(&result, tag, rest, &self.stamping);
            let out = slot.out.front_mut().expect("it was there a moment ago");
            match result {
                Ok(0) => return,
                Ok(written) => out.written += written,
                Err(errno) => {
                    slot.broken = Some(close_reason(errno));
                    slot.out.clear();
                    self.again.push(conn);
                    return;
                }
            }
            if out.written == total {
                sink(conn, Event::SentAll(out.tag), Stamp::at(self.clock.now()));
                slot.out.pop_front();
            }
        }
    }

    fn on_ready(
        &mut self,
        conn: ConnId,
        flags: epoll::EventFlags,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) {
        use epoll::EventFlags as Flags;
        let slot = &mut self.slots[conn.index as usize];
        let Some(socket) = slot.socket.as_ref().filter(|_| slot.generation == conn.generation) else {
            return;
        };
        if let Some((target, at, failed)) = slot.connecting {
            match socket::connect_result(socket) {
                Ok(()) if flags.contains(Flags::OUT) => {
                    slot.connecting = None;
                    self.targets[target.0 as usize].first = at;
                    sink(conn, Event::Connected, Stamp::at(self.clock.now()));
                }
                Ok(()) => return,
                Err(errno) => return self.connect_failed(conn, target, failed, close_reason(errno)),
            }
        }
        // With transmit stamps an error may be no more than an entry of the error queue.
        let telling = if slot.departing.is_empty() { Flags::ERR } else { Flags::empty() };
        slot.ending |= flags.intersects(Flags::RDHUP | Flags::HUP | telling);
        if flags.contains(Flags::OUT) && !slot.out.is_empty() {
            self.flush(conn, sink);
        }
        let slot = &self.slots[conn.index as usize];
        if slot.ending || flags.contains(Flags::IN) {
            self.read(conn, sink);
        }
    }

    /// Reads until the socket is drained. A short read counts as drained unless the end of the stream is known to be
    /// near: the extra read that would only return EAGAIN costs a third of a request.
    fn read(&mut self, conn: ConnId, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) {
        let slot = &mut self.slots[conn.index as usize];
        if slot.generation != conn.generation {
            return;
        }
        if let Some(stamping) = &mut self.stamping {
            // Before the data: an answer's request has left before it, and a full queue would take its room.
            slot.report_departures(conn, &self.clock, &mut stamping.relation, sink);
        }
        let Some(socket) = &slot.socket else { return };
        let mut reads = 0;
        let reason = loop {
            if reads == READS_PER_TURN {
                self.again.push(conn);
                return;
            }
            reads += 1;
            let received = match &self.stamping {
                None => rustix::net::recv(socket, &mut self.buffer[..], RecvFlags::empty())
                    .map(|(n, _)| (n, None)),
                Some(_) => stamps::receive(socket.as_fd(), &mut self.buffer),
            };
            match received {
                Ok((0, _)) => break slot.broken.unwrap_or(CloseReason::Eof),
                Ok((n, wall)) => {
                    let at = self.clock.now();
                    let relation = self.stamping.as_mut().map(|stamping| &mut stamping.relation);
                    let kernel = wall.zip(relation).and_then(|(wall, relation)| relation.monotonic(wall, at));
                    sink(conn, Event::Received(&self.buffer[..n]), Stamp { at, kernel });
                    if n < self.buffer.len() && !slot.ending && slot.broken.is_none() {
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => match slot.broken {
                    Some(reason) => break reason,
                    None => return,
                },
                Err(errno) => break slot.broken.unwrap_or(close_reason(errno)),
            }
        };
        slot.socket = None;
        sink(conn, Event::Closed(reason), Stamp::at(self.clock.now()));
    }

    fn wait(&mut self, deadline: Nanos) -> io::Result<()> {
        let idle = self.pending.is_empty() && self.again.is_empty();
        let timeout = match deadline {
            _ if !idle => Nanos::ZERO,
            Nanos::ZERO => Nanos::ZERO,
            deadline => deadline.saturating_sub(self.clock.now()),
        };
        self.ready.clear();
        if let Some(events) = &mut self.coarse {
            return wait_coarsely(&mut self.poll, events, timeout, &mut self.ready);
        }
        let timeout = Timespec {
            tv_sec: (timeout.0 / 1_000_000_000) as i64,
            tv_nsec: (timeout.0 % 1_000_000_000) as i64,
        };
        match epoll::wait(self.poll.registry().as_fd(), spare_capacity(&mut self.ready), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(Errno::NOSYS) => {
                self.coarse = Some(Events::with_capacity(EVENTS_PER_TURN));
                Ok(())
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

impl<C: Clock> Engine for EpollEngine<C> {
    fn submit(&mut self, conn: ConnId, op: Op<'_>) {
        match op {
            Op::Connect(target) => self.connect(conn, target, 0),
            Op::Send { tag, head, body } => self.send(conn, tag, head, body),
            Op::Close => {
                if self.slots[conn.index as usize].socket.take().is_some() {
                    self.pending.retain(|(of, ..)| *of != conn); // nothing else is told of it
                    self.pending.push((conn, Event::Closed(CloseReason::Requested), self.clock.now()));
                }
            }
        }
    }

    fn poll(&mut self, deadline: Nanos, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) -> io::Result<()> {
        self.wait(deadline)?;
        // What submit did comes first: `Sent` precedes the answer.
        for (conn, event, at) in self.pending.drain(..) {
            sink(conn, event, Stamp::at(at));
        }
        let before = self.again.len();
        for at in 0..before {
            self.read(self.again[at], sink);
        }
        self.again.drain(..before);
        for at in 0..self.ready.len() {
            let epoll::Event { flags, data } = self.ready[at];
            let data = data.u64();
            let conn = ConnId { index: data as u32, generation: (data >> 32) as u32 };
            self.on_ready(conn, flags, sink);
        }
        Ok(())
    }

    fn account(&self) -> EngineAccount {
        let mut features = vec!["edge-triggered".to_owned()];
        let mut missing = Vec::new();
        match self.coarse {
            None => features.push("epoll_pwait2".to_owned()),
            Some(_) => {
                missing.push("epoll_pwait2: not in this kernel; the last millisecond is spun".to_owned());
            }
        }
        let stamping = self.stamping.as_ref();
        features.extend(stamping.map(|s| match s.stamps {
            Stamps::RxTx => "receive stamps, transmit stamps by error queue".to_owned(),
            _ => "receive stamps".to_owned(),
        }));
        EngineAccount {
            engine: "epoll".to_owned(),
            features,
            missing,
            stamps_discarded: stamping.map_or(0, |s| s.relation.discarded()),
            ..EngineAccount::default()
        }
    }
}

impl Slot {
    /// Keeps count of the stream, and of whose last byte is where in it.
    fn note_written(
        &mut self,
        result: &Result<usize, Errno>,
        tag: Tag,
        rest: usize,
        stamping: &Option<Stamping>,
    ) {
        if stamping.as_ref().is_some_and(|s| s.stamps == Stamps::RxTx)
            && let Ok(written) = *result
        {
            self.written = self.written.wrapping_add(written as u32);
            if written == rest {
                self.departing.push_back((self.written, tag));
            }
        }
    }

    /// Empties the error queue.
    fn report_departures(
        &mut self,
        conn: ConnId,
        clock: &impl Clock,
        relation: &mut WallRelation,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) {
        while let (Some(socket), false) = (&self.socket, self.departing.is_empty()) {
            let departure = match stamps::next_departure(socket.as_fd()) {
                Ok(Some(departure)) => departure,
                Ok(None) | Err(Errno::INTR) => continue,
                Err(_) => return,
            };
            // A stamp may be that of a part of a send; those before its own are lost.
            let behind = departure.byte.wrapping_add(1);
            while let Some(&(end, tag)) = self.departing.front() {
                if (behind.wrapping_sub(end) as i32) < 0 {
                    break;
                }
                self.departing.pop_front();
                if behind == end {
                    let at = clock.now();
                    if let Some(left) = relation.monotonic(departure.wall, at) {
                        sink(conn, Event::Transmitted(tag), Stamp { at, kernel: Some(left) });
                    }
                }
            }
        }
    }
}

/// Woken early the loop turns once more; woken late the schedule is late: so the timeout is rounded down.
fn wait_coarsely(
    poll: &mut Poll,
    events: &mut Events,
    timeout: Nanos,
    ready: &mut Vec<epoll::Event>,
) -> io::Result<()> {
    use epoll::EventFlags as Flags;
    match poll.poll(events, Some(Duration::from_millis(timeout.0 / 1_000_000))) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
        _ => {}
    }
    ready.extend(events.iter().map(|event| {
        let mut flags = Flags::empty();
        flags.set(Flags::IN, event.is_readable());
        flags.set(Flags::OUT, event.is_writable());
        flags.set(Flags::RDHUP, event.is_read_closed());
        flags.set(Flags::ERR, event.is_error());
        epoll::Event { flags, data: epoll::EventData::new_u64(event.token().0 as u64) }
    }));
    Ok(())
}

/// Writes what is left behind the first `written` bytes of head and body. 0 means: not now.
fn write(socket: &OwnedFd, head: &[u8], body: &[u8], written: usize) -> Result<usize, Errno> {
    let from_head = written.min(head.len());
    let (head, body) = (&head[from_head..], &body[written - from_head..]);
    loop {
        let result = if body.is_empty() {
            rustix::net::send(socket, head, SendFlags::NOSIGNAL)
        } else {
            let parts = [IoSlice::new(head), IoSlice::new(body)];
            rustix::net::sendmsg(socket, &parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
        };
        match result {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(0),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests;
