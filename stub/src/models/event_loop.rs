//! The event loop of `single`, `per-core` and `pool`: looks at the kernel, gives connections their turns, keeps their
//! deadlines, drains.
//!
//! Connections get their turns in the order in which the kernel reports them, one request each, then they queue again
//! behind the others: arrival-fair. Who serves a request is the `Dispatch`'s business.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use super::accept::{Accepted, Acceptor, BACK_OFF_NS};
use crate::answer::ReplyTo;
use crate::clock;
use crate::connection::{Connection, SCRATCH, Step};
use crate::handler::{self, Infer, Routed};
use crate::shared::Shared;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// Connections accepted between two turns, so that a storm of them does not hold up the requests.
const ACCEPTS_PER_ROUND: usize = 64;

/// Who serves the infer requests.
pub(super) trait Dispatch {
    /// Turns given between two looks at the kernel. With inline service one: a request may take long.
    const TURNS: usize;

    /// Serves a request and gives its connection back, or keeps both until `returned`.
    fn submit(
        &mut self,
        slot: usize,
        connection: Box<Connection>,
        to: ReplyTo,
        infer: Infer,
    ) -> Option<Box<Connection>>;

    /// The next connection that has been answered elsewhere.
    fn returned(&mut self) -> Option<(usize, Box<Connection>)>;
}

/// Where a connection lives. Its index is its mio token.
#[derive(Default)]
struct Slot {
    connection: Option<Box<Connection>>,
    /// The connection is with the `Dispatch`.
    away: bool,
    /// It is in the queue of turns.
    queued: bool,
    /// What the kernel reported since its last turn.
    readable: bool,
    hung_up: bool,
    /// There is room again for what could not be sent; told once, perhaps while the connection was away.
    writable: bool,
    /// The earliest of its entries in the heap of deadlines.
    armed: Option<u64>,
}

/// One thread's event loop.
pub(super) struct EventLoop<D> {
    poll: Poll,
    acceptor: Option<Acceptor>,
    may_accept: bool,
    accept_after: u64,
    slots: Vec<Slot>,
    free: Vec<usize>,
    turns: VecDeque<usize>,
    /// Lazy: an entry may be early for its connection, it is then put in again; it is never late.
    deadlines: BinaryHeap<Reverse<(u64, usize)>>,
    scratch: Vec<u8>,
    dispatch: D,
    shared: Arc<Shared>,
}

impl<D: Dispatch> EventLoop<D> {
    /// The loop, and the waker that makes it look at the stop flag and at what `dispatch` returns.
    pub(super) fn new(
        shared: Arc<Shared>,
        mut acceptor: Acceptor,
        dispatch: impl FnOnce(Arc<Waker>) -> io::Result<D>,
    ) -> io::Result<(Self, Arc<Waker>)> {
        let poll = Poll::new()?;
        poll.registry().register(&mut acceptor.listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let event_loop = Self {
            poll,
            acceptor: Some(acceptor),
            may_accept: true,
            accept_after: 0,
            slots: Vec::new(),
            free: Vec::new(),
            turns: VecDeque::new(),
            deadlines: BinaryHeap::new(),
            scratch: vec![0; SCRATCH],
            dispatch: dispatch(Arc::clone(&waker))?,
            shared,
        };
        Ok((event_loop, waker))
    }

    /// Runs until the server stops and everything is answered, or the time to drain is over.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            if self.shared.stopping() {
                self.wind_down();
                if self.is_drained() {
                    return;
                }
            }
            match self.poll.poll(&mut events, self.patience()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // epoll fails only on descriptors that are none, which would be a bug: no answer can be expected.
                Err(_) => return,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.may_accept = true,
                    WAKER => {}
                    Token(slot) => self.notice(slot, event),
                }
            }
            self.accept();
            while let Some((slot, connection)) = self.dispatch.returned() {
                self.put_back(slot, connection);
            }
            self.expire();
            for _ in 0..D::TURNS {
                let Some(slot) = self.turns.pop_front() else {
                    break;
                };
                self.turn(slot);
            }
        }
    }

    /// How long the kernel may keep the loop waiting.
    fn patience(&self) -> Option<Duration> {
        if !self.turns.is_empty() || (self.may_accept && self.acceptor.is_some() && self.accept_after == 0) {
            return Some(Duration::ZERO);
        }
        let first = self.deadlines.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
        let retry = if self.accept_after > 0 { self.accept_after } else { u64::MAX };
        let next = first.min(retry).min(self.shared.drained_by());
        (next != u64::MAX).then(|| Duration::from_nanos(next.saturating_sub(clock::now())))
    }

    fn notice(&mut self, slot: usize, event: &mio::event::Event) {
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.readable |= event.is_readable() || event.is_error();
            entry.hung_up |= event.is_read_closed() || event.is_error();
            entry.writable |= event.is_writable();
            self.queue(slot);
        }
    }

    fn queue(&mut self, slot: usize) {
        let entry = &mut self.slots[slot];
        if !entry.queued && !entry.away {
            entry.queued = true;
            self.turns.push_back(slot);
        }
    }

    /// Gives a connection its turn: at most one request.
    fn turn(&mut self, slot: usize) {
        let entry = &mut self.slots[slot];
        entry.queued = false;
        let Some(mut connection) = entry.connection.take() else {
            return;
        };
        connection.notice(std::mem::take(&mut entry.readable), std::mem::take(&mut entry.hung_up));
        entry.writable = false;
        // What has arrived already is still answered.
        if self.shared.stopping() && !connection.may_read() && connection.wind_down() {
            return self.release(slot);
        }
        match connection.advance(&mut self.scratch) {
            Step::Closed => {
                drop(connection);
                self.release(slot);
            }
            Step::Wait => self.put_back(slot, connection),
            Step::Again => {
                self.put_back(slot, connection);
                self.queue(slot);
            }
            Step::Request(request, arrival) => {
                let to = ReplyTo::request(&request.head);
                match handler::route(&self.shared, request, arrival) {
                    Routed::Answer(answer) => {
                        connection.reply(to, answer);
                        self.put_back(slot, connection);
                    }
                    Routed::Infer(infer) => match self.dispatch.submit(slot, connection, to, infer) {
                        Some(connection) => self.put_back(slot, connection),
                        None => self.slots[slot].away = true,
                    },
                }
            }
        }
    }

    /// Keeps a connection until its next turn.
    fn put_back(&mut self, slot: usize, connection: Box<Connection>) {
        let entry = &mut self.slots[slot];
        let winds_down = self.shared.stopping() && !connection.is_closing();
        let sends = entry.writable && connection.unsent();
        let more = connection.has_more() || entry.readable || entry.hung_up || sends || winds_down;
        entry.away = false;
        entry.connection = Some(connection);
        self.arm(slot);
        if more {
            self.queue(slot);
        }
    }

    /// Makes sure that the heap holds an entry that is not later than the connection's deadline.
    fn arm(&mut self, slot: usize) {
        let entry = &mut self.slots[slot];
        let Some(connection) = &entry.connection else {
            return;
        };
        let deadline = connection.deadline();
        if entry.armed.is_none_or(|armed| armed > deadline) {
            entry.armed = Some(deadline);
            self.deadlines.push(Reverse((deadline, slot)));
        }
    }

    fn expire(&mut self) {
        let Some(Reverse((first, _))) = self.deadlines.peek() else {
            return;
        };
        let now = clock::now();
        if *first > now {
            return;
        }
        while let Some(Reverse((at, slot))) = self.deadlines.peek().copied() {
            if at > now {
                return;
            }
            self.deadlines.pop();
            let entry = &mut self.slots[slot];
            if entry.armed == Some(at) {
                entry.armed = None;
            }
            let Some(connection) = &mut entry.connection else {
                continue;
            };
            if connection.deadline() > now {
                self.arm(slot);
                continue;
            }
            connection.notice(std::mem::take(&mut entry.readable), std::mem::take(&mut entry.hung_up));
            if connection.expire() {
                entry.connection = None;
                self.release(slot);
            } else {
                // Its turn comes, and arms it again.
                self.queue(slot);
            }
        }
    }

    fn accept(&mut self) {
        if self.accept_after > 0 && clock::now() >= self.accept_after {
            self.accept_after = 0;
        }
        for _ in 0..ACCEPTS_PER_ROUND {
            if !self.may_accept || self.accept_after > 0 {
                return;
            }
            let Some(acceptor) = &mut self.acceptor else {
                return;
            };
            match acceptor.accept() {
                Accepted::Connection(connection) => self.adopt(connection),
                Accepted::Next => {}
                Accepted::None => self.may_accept = false,
                Accepted::Exhausted => self.accept_after = clock::now() + BACK_OFF_NS,
            }
        }
    }

    fn adopt(&mut self, mut connection: Box<Connection>) {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(Slot::default());
        }
        let both = Interest::READABLE | Interest::WRITABLE;
        match self.poll.registry().register(&mut *connection, Token(slot), both) {
            Ok(()) => self.put_back(slot, connection),
            // Out of kernel memory: the connection closes.
            Err(_) => self.free.push(slot),
        }
    }

    /// Frees the slot of a connection that is gone. A stale entry in the queue or heap finds the slot empty, or gives
    /// its next connection a turn too many.
    fn release(&mut self, slot: usize) {
        let entry = &mut self.slots[slot];
        entry.readable = false;
        entry.hung_up = false;
        self.free.push(slot);
    }

    /// Stops accepting, and gives every connection a last turn.
    fn wind_down(&mut self) {
        if self.acceptor.take().is_some() {
            for slot in 0..self.slots.len() {
                self.queue(slot);
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.free.len() == self.slots.len() || clock::now() >= self.shared.drained_by()
    }
}
