//! The contract between driver and engine, checked: a wrapper around any engine that panics when either side breaks it.
//!
//! Used by the simulator and by tests of the real engines; never by a measurement.

use std::collections::VecDeque;
use std::io;

use super::Engine;
use crate::load::io::{CloseReason, ConnId, EngineAccount, Event, Op, Stamp, Tag};
use crate::load::time::Nanos;

/// A transmit stamp comes within so many sends, or not at all.
const UNTRANSMITTED_MAX: usize = 64;

/// An engine under supervision.
#[derive(Debug)]
pub struct Checked<E> {
    engine: E,
    slots: Vec<Slot>,
}

/// What has been asked and told of the latest generation of a slot.
#[derive(Debug, Clone, Default)]
struct Slot {
    generation: u32,
    state: State,
    /// Submitted, not yet `Sent`.
    unsent: Vec<Tag>,
    /// `Sent`, not yet `SentAll`.
    sending: Vec<Tag>,
    /// `Sent`, not yet `Transmitted`; the latest, for stamps can be missing.
    untransmitted: VecDeque<Tag>,
    last_stamp: Nanos,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Connecting,
    Open,
    /// `Close` was submitted.
    Closing,
}

impl<E> Checked<E> {
    /// Supervises `engine`, which has the slots `0..connections`.
    pub fn new(engine: E, connections: u32) -> Self {
        Self { engine, slots: vec![Slot::default(); connections as usize] }
    }

    /// The engine itself.
    pub fn inner(&self) -> &E {
        &self.engine
    }
}

impl<E: Engine> Engine for Checked<E> {
    fn submit(&mut self, conn: ConnId, op: Op<'_>) {
        self.slots[conn.index as usize].check_op(conn, &op);
        self.engine.submit(conn, op);
    }

    fn poll(&mut self, deadline: Nanos, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) -> io::Result<()> {
        let Self { engine, slots } = self;
        engine.poll(deadline, &mut |conn, event, stamp| {
            slots[conn.index as usize].check_event(conn, &event, stamp.at);
            sink(conn, event, stamp);
        })
    }

    fn account(&self) -> EngineAccount {
        self.engine.account()
    }
}

impl Slot {
    fn check_op(&mut self, conn: ConnId, op: &Op<'_>) {
        let live = self.generation == conn.generation && self.state != State::Closed;
        match op {
            Op::Connect(_) => {
                assert_eq!(self.state, State::Closed, "{conn:?}: Connect before Closed");
                assert_eq!(
                    conn.generation,
                    self.generation + 1,
                    "{conn:?}: each Connect is a new generation"
                );
                *self = Self { generation: conn.generation, state: State::Connecting, ..Self::default() };
            }
            Op::Send { tag, .. } => {
                assert!(live && self.state == State::Open, "{conn:?}: Send while {self:?}");
                self.unsent.push(*tag);
            }
            Op::Close => {
                assert!(live && self.state != State::Closing, "{conn:?}: Close while {self:?}");
                self.state = State::Closing;
            }
        }
    }

    fn check_event(&mut self, conn: ConnId, event: &Event<'_>, at: Nanos) {
        assert!(
            self.generation == conn.generation && self.state != State::Closed,
            "{conn:?}: {event:?} after Closed"
        );
        assert!(at >= self.last_stamp, "{conn:?}: {event:?}: the stamp goes back to {at:?}");
        self.last_stamp = at;
        match event {
            Event::Closed(reason) => {
                let requested = *reason == CloseReason::Requested;
                assert_eq!(requested, self.state == State::Closing, "{conn:?}: {event:?}");
                self.state = State::Closed;
            }
            _ if self.state == State::Closing => panic!("{conn:?}: {event:?} after Close"),
            Event::Connected => {
                assert_eq!(self.state, State::Connecting, "{conn:?}: connected twice");
                self.state = State::Open;
            }
            Event::Sent(tag) => {
                assert_eq!(self.unsent.first(), Some(tag), "{conn:?}: Sent out of order");
                self.sending.push(self.unsent.remove(0));
                self.untransmitted.push_back(*tag);
                if self.untransmitted.len() > UNTRANSMITTED_MAX {
                    self.untransmitted.pop_front();
                }
            }
            Event::Transmitted(tag) => {
                assert_eq!(self.state, State::Open, "{conn:?}: transmitted before Connected");
                let sent = self.untransmitted.iter().position(|t| t == tag);
                let sent = sent.unwrap_or_else(|| {
                    panic!("{conn:?}: {event:?}, which was not sent, or long ago, or twice")
                });
                self.untransmitted.remove(sent);
            }
            Event::SentAll(tag) => {
                assert_eq!(self.sending.first(), Some(tag), "{conn:?}: SentAll out of order");
                self.sending.remove(0);
            }
            Event::Received(bytes) => {
                assert_eq!(self.state, State::Open, "{conn:?}: bytes before Connected");
                assert!(self.unsent.is_empty(), "{conn:?}: Received before Sent");
                assert!(!bytes.is_empty(), "{conn:?}: no bytes received is no event");
            }
        }
    }
}
