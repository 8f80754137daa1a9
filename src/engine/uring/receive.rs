//! Receiving on io_uring: pieces, the stamps that come with them, and the stamps of what was sent.

use std::io;
use std::os::fd::AsFd;

use io_uring::types::RecvMsgOut;
use io_uring::{cqueue, opcode};
use rustix::io::Errno;

use super::buffers::{BUFFER_BYTES, GROUP, Inbox};
use super::feature::Feature;
use super::ring::Completion;
use super::slot::Kind;
use super::{Stamping, UringEngine, close_reason};
use crate::engine::Clock;
use crate::load::io::{CloseReason, ConnId, Event, Stamp};
use crate::load::time::Nanos;
use crate::sys::stamps;

/// `SOCKET_URING_OP_TX_TIMESTAMP`.
pub(super) const TX_TIMESTAMP: u32 = 4;
/// In the flags of its completions: which point of the way, from this bit on; 0 is "left".
const STAMP_KIND_SHIFT: u32 = 16;
/// Entries of an error queue in one go.
const ERRORS_MAX: usize = 64;

impl<C: Clock, Q: Completion> UringEngine<C, Q> {
    /// From the next enter on the connection receives.
    pub(super) fn arm_receive(
        &mut self,
        conn: ConnId,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) -> io::Result<()> {
        let multishot = self.ring.inventory.has(Feature::MultishotReceive);
        let slot = &mut self.slots[conn.index as usize];
        let fd = slot.fd();
        let entry = match (&self.pool, &self.stamping) {
            (Some(_), Some(stamping)) => {
                opcode::RecvMsgMulti::new(fd, &raw const *stamping.message, GROUP).build()
            }
            (Some(_), None) if multishot => opcode::RecvMulti::new(fd, GROUP).build(),
            (Some(_), None) => opcode::Recv::new(fd, std::ptr::null_mut(), BUFFER_BYTES as u32)
                .buf_group(GROUP)
                .build()
                .flags(io_uring::squeue::Flags::BUFFER_SELECT),
            (None, stamping) => {
                let inbox = slot.inbox.get_or_insert_with(Inbox::new);
                if stamping.is_some() {
                    opcode::RecvMsg::new(fd, inbox.message()).build()
                } else {
                    opcode::Recv::new(fd, inbox.pointer(), BUFFER_BYTES as u32).build()
                }
            }
        };
        self.push(conn, Kind::Receive, entry, sink)
    }

    pub(super) fn on_received(
        &mut self,
        conn: ConnId,
        completion: &Q,
        now: Nanos,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) -> io::Result<()> {
        let (result, flags) = (completion.result(), completion.flags());
        if self.slots[conn.index as usize].closing.is_some() {
            self.give_back(flags);
            return Ok(());
        }
        let ended = match result {
            length @ 1.. => {
                self.drain_departures(conn, now, sink);
                let any = self.deliver(conn, length as usize, flags, now, sink);
                if any { None } else { Some(CloseReason::Eof) }
            }
            0 => Some(CloseReason::Eof),
            failed => match Errno::from_raw_os_error(-failed) {
                // No buffer was free (they are, by the next enter), or it was cut short: armed again below. Cancelled because
                // a send failed: not armed again.
                Errno::NOBUFS | Errno::CANCELED | Errno::INTR | Errno::AGAIN => None,
                errno => Some(close_reason(errno)),
            },
        };
        self.give_back(flags);
        if let Some(reason) = ended {
            self.end(conn, reason, now);
        } else if !cqueue::more(flags) && self.slots[conn.index as usize].broken.is_none() {
            self.arm_receive(conn, sink)?;
        }
        Ok(())
    }

    /// Hands on the bytes of a completion; false if there are none: the peer has closed.
    fn deliver(
        &mut self,
        conn: ConnId,
        length: usize,
        flags: u32,
        now: Nanos,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) -> bool {
        let parsed;
        let buffer = self.pool.as_ref().zip(cqueue::buffer_select(flags));
        let (bytes, control) = match (buffer, &self.stamping) {
            (Some((pool, id)), Some(stamping)) => {
                parsed = RecvMsgOut::parse(pool.bytes(id, length), &stamping.message)
                    .expect("the kernel leaves the room that it was told to");
                (parsed.payload_data(), parsed.control_data())
            }
            (Some((pool, id)), None) => (pool.bytes(id, length), &[][..]),
            (None, _) => {
                let inbox = self.slots[conn.index as usize].inbox.as_ref();
                inbox.expect("a receive without pool has an inbox").received(length)
            }
        };
        if bytes.is_empty() {
            return false;
        }
        let kernel = self.stamping.as_mut().and_then(|stamping| {
            stamps::wall_stamp(control).and_then(|wall| stamping.relation.monotonic(wall, now))
        });
        sink(conn, Event::Received(bytes), Stamp { at: now, kernel });
        true
    }

    /// The buffer that a completion came with is free.
    pub(super) fn give_back(&mut self, flags: u32) {
        if let (Some(pool), Some(id)) = (&mut self.pool, cqueue::buffer_select(flags)) {
            pool.give(id);
        }
    }

    // ---- transmit stamps

    pub(super) fn arm_stamps(
        &mut self,
        conn: ConnId,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) -> io::Result<()> {
        if !self.ring.inventory.has(Feature::StampCompletions) {
            return Ok(());
        }
        let entry = opcode::UringCmd16::new(self.slots[conn.index as usize].fd(), TX_TIMESTAMP).build();
        self.push(conn, Kind::Stamps, entry, sink)
    }

    pub(super) fn on_stamp(
        &mut self,
        conn: ConnId,
        completion: &Q,
        now: Nanos,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) -> io::Result<()> {
        let flags = completion.flags();
        let slot = &mut self.slots[conn.index as usize];
        if slot.closing.is_some() || slot.broken.is_some() {
            return Ok(());
        }
        if !cqueue::more(flags) {
            // Ended: a stamp was in the error queue already when the wait began, or the kernel has no more of this.
            match Errno::from_raw_os_error(-completion.result()) {
                Errno::CANCELED | Errno::AGAIN => {
                    self.read_departures(conn, now, sink);
                    return self.arm_stamps(conn, sink);
                }
                errno => self.ring.inventory.lacks(Feature::StampCompletions, errno.to_string()),
            }
            return Ok(());
        }
        if flags >> STAMP_KIND_SHIFT == 0
            && let Some(wall) = completion.wall()
        {
            self.departed(conn, stamps::Departure { byte: completion.result() as u32, wall }, now, sink);
        }
        Ok(())
    }

    fn departed(
        &mut self,
        conn: ConnId,
        departure: stamps::Departure,
        now: Nanos,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) {
        if let Some(tag) = self.slots[conn.index as usize].stamped(departure.byte)
            && let Some(stamping) = &mut self.stamping
        {
            let kernel = stamping.relation.monotonic(departure.wall, now);
            sink(conn, Event::Transmitted(tag), Stamp { at: now, kernel });
        }
    }

    /// Before data is delivered, where stamps do not come as completions: a stamp belongs to what comes next.
    fn drain_departures(
        &mut self,
        conn: ConnId,
        now: Nanos,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) {
        let departures = self.stamping.as_ref().is_some_and(Stamping::departures);
        let by_hand = departures && !self.ring.inventory.has(Feature::StampCompletions);
        if by_hand && !self.slots[conn.index as usize].unstamped.is_empty() {
            self.read_departures(conn, now, sink);
        }
    }

    fn read_departures(&mut self, conn: ConnId, now: Nanos, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) {
        for _ in 0..ERRORS_MAX {
            let socket = self.slots[conn.index as usize].socket.as_ref().expect("it is open").as_fd();
            let Ok(departure) = stamps::next_departure(socket) else { return };
            if let Some(departure) = departure {
                self.departed(conn, departure, now, sink);
            }
        }
    }
}
