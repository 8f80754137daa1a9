//! What the engine knows of one connection slot: its socket, what the kernel holds of it, and what it is still to send.
//!
//! The rule that keeps memory safe: a slot lets go of its socket and of what its operations point to only when the last of
//! them has completed ([`Slot::in_kernel`] is empty). So a slot is never used again while something old is under way.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::{opcode, squeue, types};

use super::buffers::{Inbox, no_message};
use crate::load::io::{BodyId, CloseReason, ConnId, Tag, TargetId};
use crate::load::time::Nanos;

/// Slots that user data has room for.
pub(super) const SLOTS_MAX: u32 = 1 << 24;
/// One operation sends at most so much.
const SEND_MAX: usize = 1 << 30;

/// The kinds of operations; a slot has at most one of each in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Connect,
    Receive,
    Send,
    /// Waits for transmit stamps.
    Stamps,
    /// Cancels one of the others; belongs to no slot.
    Cancel,
}

impl Kind {
    pub(super) const OF_A_SLOT: [Self; 4] = [Self::Connect, Self::Receive, Self::Send, Self::Stamps];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Which operation a completion is of: 8 bits of kind, 24 of slot, 32 of generation.
pub(super) fn user_data(conn: ConnId, kind: Kind) -> u64 {
    (kind as u64) << 56 | u64::from(conn.index) << 32 | u64::from(conn.generation)
}

/// The reverse; `None` is nobody's.
pub(super) fn owner(user_data: u64) -> Option<(ConnId, Kind)> {
    let kind = match user_data >> 56 {
        0 => Kind::Connect,
        1 => Kind::Receive,
        2 => Kind::Send,
        3 => Kind::Stamps,
        4 => Kind::Cancel,
        _ => return None,
    };
    let index = (user_data >> 32) as u32 & (SLOTS_MAX - 1);
    Some((ConnId { index, generation: user_data as u32 }, kind))
}

/// Operations that the kernel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct InKernel(u8);

impl InKernel {
    pub(super) fn has(self, kind: Kind) -> bool {
        self.0 & kind.bit() != 0
    }

    pub(super) fn add(&mut self, kind: Kind) {
        debug_assert!(!self.has(kind), "one of each kind");
        self.0 |= kind.bit();
    }

    pub(super) fn remove(&mut self, kind: Kind) {
        self.0 &= !kind.bit();
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// While connecting: where to, the address under way, and how many have failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connecting {
    pub(super) target: TargetId,
    pub(super) at: usize,
    pub(super) failed: usize,
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) socket: Option<OwnedFd>,
    pub(super) generation: u32,
    pub(super) connecting: Option<Connecting>,
    pub(super) in_kernel: InKernel,
    /// Cancels under way.
    pub(super) cancels: u8,
    /// It is over for this reason since then; what is left is to wait for the kernel.
    pub(super) closing: Option<(CloseReason, Nanos)>,
    /// A send failed like this; what was received before is still delivered.
    pub(super) broken: Option<CloseReason>,
    /// Sends that are not complete; the first is the one under way.
    pub(super) out: VecDeque<Box<Outgoing>>,
    /// Where receives go that have no pool.
    pub(super) inbox: Option<Box<Inbox>>,
    /// Bytes of this connection that were or will be handed over, and the last byte of each send that waits for its stamp.
    pub(super) stream: u32,
    pub(super) unstamped: VecDeque<(u32, Tag)>,
}

impl Slot {
    pub(super) fn fd(&self) -> types::Fd {
        types::Fd(self.socket.as_ref().expect("operations need a socket").as_raw_fd())
    }

    /// Notes the next send, which will need a stamp, and so many bytes of the stream.
    pub(super) fn await_stamp(&mut self, tag: Tag, bytes: usize) {
        self.stream = self.stream.wrapping_add(bytes as u32);
        self.unstamped.push_back((self.stream.wrapping_sub(1), tag));
    }

    /// Whose last byte that was. Stamps come in order: those of earlier sends will not come any more.
    pub(super) fn stamped(&mut self, last_byte: u32) -> Option<Tag> {
        let at = self.unstamped.iter().position(|&(byte, _)| byte == last_byte)?;
        self.unstamped.drain(..=at).next_back().map(|(_, tag)| tag)
    }
}

/// A send under way. Boxed: the kernel has pointers into it.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) tag: Tag,
    head: Vec<u8>,
    body: Option<BodyId>,
    written: usize,
    /// `Sent` has been reported, or is about to be.
    pub(super) announced: bool,
    parts: [libc::iovec; 2],
    message: libc::msghdr,
}

impl Outgoing {
    pub(super) fn new() -> Box<Self> {
        let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Box::new(Self {
            tag: Tag(0),
            head: Vec::new(),
            body: None,
            written: 0,
            announced: false,
            parts: [nothing; 2],
            message: no_message(),
        })
    }

    pub(super) fn fill(&mut self, tag: Tag, head: &[u8], body: Option<BodyId>) {
        (self.tag, self.body, self.written, self.announced) = (tag, body, 0, false);
        self.head.clear();
        self.head.extend_from_slice(head);
    }

    pub(super) fn total(&self, bodies: &[Vec<u8>]) -> usize {
        self.head.len() + self.body(bodies).len()
    }

    fn body<'a>(&self, bodies: &'a [Vec<u8>]) -> &'a [u8] {
        self.body.map_or(&[][..], |id| &bodies[id.0 as usize])
    }

    /// So many more bytes have been taken; true if those were the last.
    pub(super) fn advance(&mut self, bytes: usize, bodies: &[Vec<u8>]) -> bool {
        self.written += bytes;
        self.written >= self.total(bodies)
    }

    /// The operation that sends what is left. It points into `self` and `bodies`.
    ///
    /// MSG_WAITALL would let the kernel send the rest of a partial send by itself; sending the rest here costs nothing that
    /// shows, and works alike on every kernel.
    pub(super) fn entry(&mut self, fd: types::Fd, bodies: &[Vec<u8>]) -> squeue::Entry {
        let from_head = self.written.min(self.head.len());
        let body = &self.body(bodies)[self.written - from_head..];
        let head = &self.head[from_head..];
        if !head.is_empty() && !body.is_empty() {
            let part =
                |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr() as *mut _, iov_len: bytes.len() };
            self.parts = [part(head), part(body)];
            self.message.msg_iov = self.parts.as_mut_ptr();
            self.message.msg_iovlen = 2;
            return opcode::SendMsg::new(fd, &raw const self.message)
                .flags(libc::MSG_NOSIGNAL as u32)
                .build();
        }
        let rest = if head.is_empty() { body } else { head };
        opcode::Send::new(fd, rest.as_ptr(), rest.len().min(SEND_MAX) as u32)
            .flags(libc::MSG_NOSIGNAL)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_comes_back() {
        for index in [0, 1, SLOTS_MAX - 1] {
            for generation in [1, u32::MAX] {
                for kind in Kind::OF_A_SLOT.into_iter().chain([Kind::Cancel]) {
                    let conn = ConnId { index, generation };
                    assert_eq!(owner(user_data(conn, kind)), Some((conn, kind)));
                }
            }
        }
        assert_eq!(owner(u64::MAX), None);
    }

    #[test]
    fn a_stamp_belongs_to_the_send_that_ends_with_its_byte() {
        let mut slot = Slot { stream: u32::MAX - 9, ..Slot::default() };
        for (tag, bytes) in [(1, 10), (2, 5), (3, 1)] {
            slot.await_stamp(Tag(tag), bytes);
        }
        assert_eq!(slot.stamped(2), None, "in the midst of a send");
        assert_eq!(slot.stamped(4), Some(Tag(2)), "across the end of the numbers");
        assert_eq!(slot.stamped(u32::MAX), None, "too late for the first");
        assert_eq!(slot.stamped(5), Some(Tag(3)));
        assert!(slot.unstamped.is_empty());
    }
}
