//! The client's end of a virtual connection: what its kernel holds.

use std::collections::VecDeque;

use crate::load::io::{CloseReason, Tag};
use crate::load::time::Nanos;

/// The client's end of a connection, with what its kernel holds.
#[derive(Debug, Default)]
pub(super) struct Socket {
    pub(super) generation: u32,
    pub(super) open: bool,
    pub(super) connecting: bool,
    /// The result of the connect, not yet told.
    pub(super) handshake: Option<Result<(), CloseReason>>,
    pub(super) out: VecDeque<Outgoing>,
    /// The kernel has room again.
    pub(super) room: bool,
    pub(super) inbox: VecDeque<u8>,
    /// The pieces in the inbox: how many bytes, and when they arrived.
    pub(super) pieces: VecDeque<(usize, Nanos)>,
    /// Transmit stamps not yet told.
    pub(super) transmissions: Vec<Transmission>,
    /// After the inbox comes this.
    pub(super) ending: Option<CloseReason>,
    /// Pieces of one direction do not overtake each other.
    pub(super) last_out: Nanos,
    pub(super) last_in: Nanos,
}

/// A send that the kernel did not take at once.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) tag: Tag,
    pub(super) rest: Vec<u8>,
}

/// A transmit stamp.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transmission {
    pub(super) tag: Tag,
    pub(super) left: Nanos,
    pub(super) due: Due,
}

/// When a transmit stamp is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// With the next poll, before anything that was read.
    Now,
    /// So many polls behind one that reads something; 0: in the same poll, behind what it read.
    BehindAnswer(u8),
    /// After so many polls.
    In(u8),
}

impl Socket {
    /// A poll has come: stamps that wait for polls are nearer.
    pub(super) fn poll_has_come(&mut self) {
        for waiting in &mut self.transmissions {
            waiting.due = match waiting.due {
                Due::In(1) => Due::Now,
                Due::In(polls) => Due::In(polls - 1),
                same => same,
            };
        }
    }

    /// Something was read: stamps that wait for that are due, now or some polls later.
    pub(super) fn answered(&mut self) {
        for waiting in &mut self.transmissions {
            waiting.due = match waiting.due {
                Due::BehindAnswer(0) => Due::Now,
                Due::BehindAnswer(polls) => Due::In(polls),
                same => same,
            };
        }
    }

    /// Some stamps wait for the next poll, whatever else happens.
    pub(super) fn needs_poll(&self) -> bool {
        self.transmissions.iter().any(|waiting| matches!(waiting.due, Due::In(_)))
    }

    /// Takes `n` bytes out of the inbox; when the last of them had arrived.
    pub(super) fn take(&mut self, n: usize) -> (Vec<u8>, Nanos) {
        let (mut left, mut arrived) = (n, Nanos::ZERO);
        while left > 0 {
            let piece = self.pieces.front_mut().expect("every byte came in a piece");
            let taken = left.min(piece.0);
            (piece.0, left, arrived) = (piece.0 - taken, left - taken, piece.1);
            if piece.0 == 0 {
                self.pieces.pop_front();
            }
        }
        (self.inbox.drain(..n).collect(), arrived)
    }
}
