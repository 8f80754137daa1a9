//! The io_uring engine: operations handed to the kernel in batches, completions reaped in batches, one thread.
//!
//! A turn costs at most one system call where sends need not be apart: the enter that submits what is queued also finishes
//! what has come in. Where they do (open loop, kernel stamps), sends go in enters of their own, eight at a time, so that
//! the stamp before the enter is close to each of them. A turn without work costs none.
//!
//! Everything beyond the basics is probed for and done without where the kernel lacks it ([`Feature`]). Memory that
//! the kernel points to belongs to a slot (`slot`) or to the engine, and outlives the operations that use it.
//!
//! Not here: retries, timeouts, HTTP.
#![allow(unsafe_code)] // entries of the submission queue carry pointers

mod buffers;
mod connection;
mod feature;
mod probe;
mod receive;
mod ring;
mod slot;

use std::collections::VecDeque;
use std::io;
use std::mem;

use io_uring::{cqueue, squeue};
use rustix::io::Errno;
use socket2::SockAddr;

pub use self::feature::{Feature, Features};
pub use self::probe::{available, has_wide_completions};
pub use self::ring::Completion;

use self::buffers::{Pool, no_message};
use self::ring::Ring;
use self::slot::{Kind, Outgoing, SLOTS_MAX, Slot, owner, user_data};
use super::{Clock, Engine, Setup, close_reason};
use crate::load::io::{BodyId, CloseReason, ConnId, EngineAccount, Event, Op, Stamp, Stamps, Tag};
use crate::load::time::Nanos;
use crate::sys::stamps::{Awake, WallRelation};

/// Of the submission queue; more is submitted in several enters.
const ENTRIES: u32 = 256;
/// Of the completion queue: a burst of answers on many connections. What does not fit waits in the kernel.
const COMPLETIONS: u32 = 4096;
/// Of the pool. One turn rarely brings more; if it does, the connections concerned are served in the next.
const POOL: u16 = 256;
/// Sends in one enter where their stamps have to be near.
const SMALL_BATCH: usize = 8;
/// Until what is in flight has ended when an engine is dropped.
const FAREWELL: Nanos = Nanos::from_secs(1);

/// The engine on a ring of ordinary completions.
pub type Narrow<C> = UringEngine<C, cqueue::Entry>;
/// The engine on a ring whose completions have room for transmit stamps.
pub type Wide<C> = UringEngine<C, cqueue::Entry32>;

/// What the engine is allowed to use; the defaults are everything, at the sizes above.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Of what the kernel offers.
    pub features: Features,
    /// Of the submission queue, a power of two.
    pub entries: u32,
    /// Of the completion queue, a power of two, at least `entries`.
    pub completions: u32,
    /// Of the pool of receive buffers, a power of two.
    pub buffers: u16,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { features: Features::ALL, entries: ENTRIES, completions: COMPLETIONS, buffers: POOL }
    }
}

/// Drives the sockets of one thread.
pub struct UringEngine<C: Clock, Q: Completion> {
    clock: C,
    ring: Ring<Q>,
    /// `None`: each connection has a buffer of its own.
    pool: Option<Pool>,
    targets: Vec<Target>,
    bodies: Vec<Vec<u8>>,
    slots: Vec<Slot>,
    /// Connections whose first send is to be handed over.
    to_send: VecDeque<ConnId>,
    /// Sends in the submission queue whose `Sent` is due when they are entered.
    unannounced: Vec<(ConnId, Tag)>,
    /// What goes behind the sends: connects and cancels.
    behind: Vec<squeue::Entry>,
    /// Connections that are over, to be told at the end of the turn.
    over: Vec<(ConnId, CloseReason, Nanos)>,
    batch: Vec<Q>,
    /// For the next sends, so that they allocate nothing.
    #[allow(clippy::vec_box)]
    // they go to a slot and come back without moving: the kernel has pointers into them
    spare: Vec<Box<Outgoing>>,
    small_batches: bool,
    stamping: Option<Stamping>,
    uncertainty: Nanos,
}

#[derive(Debug)]
struct Target {
    addresses: Vec<Address>,
    /// The address that last worked: the first of a new connect.
    first: usize,
}

#[derive(Debug)]
struct Address {
    address: std::net::SocketAddr,
    /// The same as the kernel reads it.
    raw: SockAddr,
}

/// What the kernel's stamps need.
struct Stamping {
    stamps: Stamps,
    relation: WallRelation,
    /// Tells multishot receives how much room to leave for control messages.
    message: Box<libc::msghdr>,
    /// Keeps the kernel stamping while no socket of ours is open.
    _awake: Awake,
}

impl Stamping {
    fn begin(stamps: Stamps) -> io::Result<Option<Self>> {
        if stamps == Stamps::User {
            return Ok(None);
        }
        let mut message = Box::new(no_message());
        message.msg_controllen = buffers::CONTROL_BYTES;
        Ok(Some(Self { stamps, relation: WallRelation::measure(), message, _awake: Awake::wait()? }))
    }

    fn departures(&self) -> bool {
        self.stamps == Stamps::RxTx
    }
}

impl<C: Clock, Q: Completion> UringEngine<C, Q> {
    /// An engine at rest, without sockets. Belongs to the thread that calls this.
    pub fn new(clock: C, setup: Setup) -> io::Result<Self> {
        Self::with(clock, setup, Wanted::default())
    }

    /// The same, with less than the kernel offers.
    pub fn with(clock: C, setup: Setup, wanted: Wanted) -> io::Result<Self> {
        let Setup { connections, targets, bodies, stamps, small_batches } = setup;
        assert!(connections <= SLOTS_MAX, "{connections} connections in one thread");
        let mut ring = Ring::open(wanted.entries, wanted.completions, wanted.features)?;
        let mut stamping = Stamping::begin(stamps)?;
        let pool = probe::receiving(&mut ring, wanted, stamping.as_ref().map(|stamping| &*stamping.message))?;
        if let Some(stamping) = stamping.as_mut().filter(|stamping| stamping.departures()) {
            stamping.stamps = probe::departures(&mut ring, wanted)?;
        }
        let target = |addresses: Vec<std::net::SocketAddr>| Target {
            addresses: addresses
                .into_iter()
                .map(|address| Address { address, raw: address.into() })
                .collect(),
            first: 0,
        };
        Ok(Self {
            clock,
            ring,
            pool,
            targets: targets.into_iter().map(target).collect(),
            bodies,
            slots: (0..connections).map(|_| Slot::default()).collect(),
            to_send: VecDeque::with_capacity(connections as usize),
            unannounced: Vec::with_capacity(wanted.entries as usize),
            behind: Vec::new(),
            over: Vec::new(),
            batch: Vec::with_capacity(wanted.completions as usize),
            spare: Vec::new(),
            small_batches,
            stamping,
            uncertainty: Nanos::ZERO,
        })
    }

    /// Puts an operation of `conn` into the submission queue, for the next enter.
    fn push(
        &mut self,
        conn: ConnId,
        kind: Kind,
        entry: squeue::Entry,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) -> io::Result<()> {
        self.slots[conn.index as usize].in_kernel.add(kind);
        self.push_entry(&entry.user_data(user_data(conn, kind)), sink)
    }

    fn push_entry(
        &mut self,
        entry: &squeue::Entry,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) -> io::Result<()> {
        if self.ring.is_full() {
            self.submit_queued(sink)?;
        }
        // SAFETY: what an entry of ours points to belongs to its slot, which keeps it until the operation has completed (and so
        // does the engine when it is dropped), or to the engine: addresses, bodies, the pool, the message of stamped receives.
        unsafe { self.ring.push(entry) };
        Ok(())
    }

    /// One enter that only submits, and `Sent` for the sends in it.
    fn submit_queued(&mut self, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) -> io::Result<()> {
        self.publish_buffers();
        if self.unannounced.is_empty() {
            return self.ring.submit();
        }
        let issued = self.clock.now();
        self.ring.submit()?;
        let returned = self.clock.now();
        self.announce(issued, returned, sink);
        Ok(())
    }

    /// What was given back to the pool is there for the enter that follows.
    fn publish_buffers(&mut self) {
        if let Some(pool) = &mut self.pool {
            pool.publish();
        }
    }

    fn announce(&mut self, issued: Nanos, returned: Nanos, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) {
        self.uncertainty = self.uncertainty.max(returned.saturating_sub(issued));
        for (conn, tag) in self.unannounced.drain(..) {
            sink(conn, Event::Sent(tag), Stamp::at(issued));
        }
    }

    /// Puts the sends that are due into the submission queue; in small batches, enters each.
    fn queue_sends(&mut self, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) -> io::Result<()> {
        let most = if self.small_batches { SMALL_BATCH } else { usize::MAX };
        while !self.to_send.is_empty() {
            let mut queued = 0;
            while queued < most
                && let Some(conn) = self.to_send.pop_front()
            {
                queued += usize::from(self.queue_send(conn, sink)?);
            }
            if self.small_batches {
                self.submit_queued(sink)?;
            }
        }
        Ok(())
    }

    /// False if there is nothing to send any more.
    fn queue_send(
        &mut self,
        conn: ConnId,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) -> io::Result<bool> {
        let slot = &mut self.slots[conn.index as usize];
        let stale = slot.generation != conn.generation || slot.closing.is_some() || slot.broken.is_some();
        if stale || slot.in_kernel.has(Kind::Send) || slot.out.is_empty() {
            return Ok(false);
        }
        if self.ring.is_full() {
            self.submit_queued(sink)?;
        }
        let slot = &mut self.slots[conn.index as usize];
        let fd = slot.fd();
        let out = slot.out.front_mut().expect("looked at above");
        let entry = out.entry(fd, &self.bodies);
        if !mem::replace(&mut out.announced, true) {
            let (tag, total) = (out.tag, out.total(&self.bodies));
            self.unannounced.push((conn, tag));
            if self.stamping.as_ref().is_some_and(Stamping::departures) {
                slot.await_stamp(tag, total);
            }
        }
        self.push(conn, Kind::Send, entry, sink)?;
        Ok(true)
    }

    fn send(&mut self, conn: ConnId, tag: Tag, head: &[u8], body: Option<BodyId>) {
        let slot = &mut self.slots[conn.index as usize];
        let over = slot.closing.is_some() || slot.broken.is_some();
        if slot.socket.is_none() || slot.generation != conn.generation || over {
            return;
        }
        let mut out = self.spare.pop().unwrap_or_else(Outgoing::new);
        out.fill(tag, head, body);
        slot.out.push_back(out);
        if slot.out.len() == 1 {
            self.to_send.push_back(conn);
        }
    }

    /// Deals out what completed: sends and departures first, so that a request is known to be complete before its answer is.
    fn deal(&mut self, now: Nanos, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) -> io::Result<()> {
        let mut batch = mem::take(&mut self.batch);
        for first in [true, false] {
            for completion in &batch {
                let Some((conn, kind)) = owner(completion.user_data()) else { continue };
                if first != matches!(kind, Kind::Send | Kind::Stamps) {
                    continue;
                }
                self.on_completion(conn, kind, completion, now, sink)?;
            }
        }
        batch.clear();
        self.batch = batch;
        Ok(())
    }

    fn on_completion(
        &mut self,
        conn: ConnId,
        kind: Kind,
        completion: &Q,
        now: Nanos,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) -> io::Result<()> {
        let slot = self.slots.get_mut(conn.index as usize).filter(|slot| slot.generation == conn.generation);
        if kind == Kind::Cancel {
            if let Some(slot) = slot {
                slot.cancels = slot.cancels.saturating_sub(1);
            }
            self.cancel_again(conn);
            return Ok(());
        }
        let Some(slot) = slot.filter(|slot| slot.in_kernel.has(kind)) else {
            // Nobody's, or of an earlier life: its buffer must not be lost all the same.
            self.give_back(completion.flags());
            return Ok(());
        };
        if !cqueue::more(completion.flags()) {
            slot.in_kernel.remove(kind);
        }
        match kind {
            Kind::Send => self.on_sent(conn, completion.result(), now, sink),
            Kind::Stamps => self.on_stamp(conn, completion, now, sink)?,
            Kind::Connect => self.on_connected(conn, completion.result(), now, sink)?,
            Kind::Receive => self.on_received(conn, completion, now, sink)?,
            Kind::Cancel => {}
        }
        self.settle(conn, now, sink);
        Ok(())
    }

    fn on_sent(
        &mut self,
        conn: ConnId,
        result: i32,
        now: Nanos,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) {
        let slot = &mut self.slots[conn.index as usize];
        if slot.closing.is_some() {
            return;
        }
        let out = slot.out.front_mut().expect("it was under way");
        match result {
            taken if taken >= 0 => {
                if out.advance(taken as usize, &self.bodies) {
                    sink(conn, Event::SentAll(out.tag), Stamp::at(now));
                    self.spare.extend(slot.out.pop_front());
                }
                if !slot.out.is_empty() {
                    self.to_send.push_back(conn);
                }
            }
            failed => match Errno::from_raw_os_error(-failed) {
                Errno::INTR | Errno::AGAIN => self.to_send.push_back(conn),
                errno => {
                    slot.broken = Some(close_reason(errno));
                    self.cancel_all(conn);
                }
            },
        }
    }
}

impl<C: Clock, Q: Completion> Engine for UringEngine<C, Q> {
    fn submit(&mut self, conn: ConnId, op: Op<'_>) {
        match op {
            Op::Connect(target) => self.connect(conn, target, 0),
            Op::Send { tag, head, body } => self.send(conn, tag, head, body),
            Op::Close => self.close(conn),
        }
    }

    fn poll(&mut self, deadline: Nanos, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) -> io::Result<()> {
        let sends = !self.to_send.is_empty();
        self.queue_sends(sink)?;
        for at in 0..self.behind.len() {
            let entry = self.behind[at].clone();
            self.push_entry(&entry, sink)?;
        }
        self.behind.clear();
        self.publish_buffers();
        // What goes out is not held up by a wait, and what is to be told is not either.
        let may_wait = deadline > Nanos::ZERO && !sends && self.over.is_empty();
        let issued = (may_wait || !self.unannounced.is_empty()).then(|| self.clock.now());
        match issued.filter(|&now| may_wait && deadline > now) {
            Some(now) => self.ring.wait(deadline, now)?,
            None => self.ring.reap()?,
        }
        self.ring.take(&mut self.batch)?;
        if !self.batch.is_empty() || !self.unannounced.is_empty() {
            // One stamp for all that the enter brought: what is dealt out last was not received later.
            let now = self.clock.now();
            if let Some(issued) = issued.filter(|_| !self.unannounced.is_empty()) {
                self.announce(issued, now, sink);
            }
            self.deal(now, sink)?;
        }
        for (conn, reason, at) in self.over.drain(..) {
            sink(conn, Event::Closed(reason), Stamp::at(at));
        }
        Ok(())
    }

    fn account(&self) -> EngineAccount {
        let mut features = self.ring.inventory.features();
        features.extend(self.stamping.as_ref().map(|stamping| {
            let by_hand = stamping.departures() && !self.ring.inventory.has(Feature::StampCompletions);
            if by_hand { "receive stamps, transmit stamps by error queue" } else { "receive stamps" }
                .to_owned()
        }));
        EngineAccount {
            engine: "uring".to_owned(),
            features,
            missing: self.ring.inventory.missing(),
            stamps_discarded: self.stamping.as_ref().map_or(0, |s| s.relation.discarded()),
            overflows: self.ring.overflows,
            issue_uncertainty_max_ns: self.uncertainty,
        }
    }
}

impl<C: Clock, Q: Completion> Drop for UringEngine<C, Q> {
    /// The kernel holds pointers to what is about to be freed: everything in flight is cancelled and awaited. If that does
    /// not succeed, the memory is never freed.
    fn drop(&mut self) {
        let busy = |slots: &[Slot]| slots.iter().any(|slot| !slot.in_kernel.is_empty());
        for index in 0..self.slots.len() as u32 {
            let conn = ConnId { index, generation: self.slots[index as usize].generation };
            self.close(conn);
        }
        let end = self.clock.now().saturating_add(FAREWELL);
        while busy(&self.slots) && self.clock.now() < end {
            if self.poll(end, &mut |_, _, _| {}).is_err() {
                break;
            }
        }
        match self.pool.take() {
            pool if busy(&self.slots) => {
                mem::forget(pool);
                for slot in mem::take(&mut self.slots) {
                    mem::forget(slot);
                }
                mem::forget(mem::take(&mut self.bodies));
                mem::forget(mem::take(&mut self.targets));
                mem::forget(self.stamping.take());
            }
            Some(_) => self.ring.unregister_buffers(buffers::GROUP),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
