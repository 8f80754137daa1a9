//! How a connection begins and ends on io_uring.
//!
//! The end is in two steps: it is decided that it is over, and what the kernel still holds of it is cancelled; when the
//! last of that has completed, the socket is closed and `Closed` is told.

use std::io;
use std::os::fd::AsFd;

use io_uring::opcode;
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown};

use super::ring::Completion;
use super::slot::{Connecting, Kind, Slot, user_data};
use super::{UringEngine, close_reason};
use crate::engine::Clock;
use crate::load::io::{CloseReason, ConnId, Event, Stamp, Stamps, TargetId};
use crate::load::time::Nanos;
use crate::sys::{socket, stamps};

impl<C: Clock, Q: Completion> UringEngine<C, Q> {
    pub(super) fn connect(&mut self, conn: ConnId, target: TargetId, failed: usize) {
        let addresses = &self.targets[target.0 as usize];
        let at = (addresses.first + failed) % addresses.addresses.len();
        let address = &addresses.addresses[at];
        let slot = &mut self.slots[conn.index as usize];
        debug_assert!(slot.in_kernel.is_empty(), "the slot has not let go of its last connection");
        let (inbox, mut out, mut unstamped) =
            (slot.inbox.take(), std::mem::take(&mut slot.out), std::mem::take(&mut slot.unstamped));
        self.spare.extend(out.drain(..));
        unstamped.clear();
        *slot = Slot { generation: conn.generation, inbox, out, unstamped, ..Slot::default() };
        match socket::blocking(address.address) {
            Ok(socket) => {
                slot.socket = Some(socket);
                slot.connecting = Some(Connecting { target, at, failed });
                slot.in_kernel.add(Kind::Connect);
                let entry = opcode::Connect::new(slot.fd(), address.raw.as_ptr().cast(), address.raw.len());
                self.behind.push(entry.build().user_data(user_data(conn, Kind::Connect)));
            }
            Err(error) => {
                let reason = close_reason(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
                let now = self.clock.now();
                self.connect_failed(conn, Connecting { target, at, failed }, reason, now);
            }
        }
    }

    /// The next address, or the end.
    fn connect_failed(&mut self, conn: ConnId, connecting: Connecting, reason: CloseReason, now: Nanos) {
        let Connecting { target, failed, .. } = connecting;
        let more = failed + 1 < self.targets[target.0 as usize].addresses.len();
        if more && !matches!(reason, CloseReason::Local(_)) {
            self.connect(conn, target, failed + 1);
        } else {
            self.slots[conn.index as usize].socket = None;
            self.over.push((conn, reason, now));
        }
    }

    pub(super) fn on_connected(
        &mut self,
        conn: ConnId,
        result: i32,
        now: Nanos,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) -> io::Result<()> {
        let slot = &mut self.slots[conn.index as usize];
        if slot.closing.is_some() {
            return Ok(());
        }
        let socket = slot.socket.as_ref().expect("it was connecting");
        let connecting = slot.connecting.take().expect("it was connecting");
        let result = match result {
            0 => socket::connect_result(socket),
            failed => Err(Errno::from_raw_os_error(-failed)),
        };
        let stamps = self.stamping.as_ref().map_or(Stamps::User, |stamping| stamping.stamps);
        if let Err(errno) = result.and_then(|()| stamps::enable(socket.as_fd(), stamps)) {
            self.connect_failed(conn, connecting, close_reason(errno), now);
            return Ok(());
        }
        self.targets[connecting.target.0 as usize].first = connecting.at;
        sink(conn, Event::Connected, Stamp::at(now));
        // Armed before the first send: a stamp that is there already would end the wait for stamps at once.
        if stamps == Stamps::RxTx {
            self.slots[conn.index as usize].unstamped.reserve(4); // now, not under the first request
            self.arm_stamps(conn, sink)?;
        }
        self.arm_receive(conn, sink)
    }

    pub(super) fn close(&mut self, conn: ConnId) {
        // It may have ended already, and only not been told.
        if let Some((_, reason, _)) = self.over.iter_mut().find(|(over, ..)| *over == conn) {
            *reason = CloseReason::Requested;
        }
        let slot = &mut self.slots[conn.index as usize];
        if slot.socket.is_none() || slot.generation != conn.generation {
            return;
        }
        let under_way = slot.closing.is_some() || slot.broken.is_some();
        let now = self.clock.now();
        let slot = &mut self.slots[conn.index as usize];
        slot.closing = Some((CloseReason::Requested, now));
        if !under_way {
            self.cancel_all(conn);
        }
        self.let_go(conn);
    }

    /// It is over, for `reason`; nothing of it will be told any more but that.
    pub(super) fn end(&mut self, conn: ConnId, reason: CloseReason, now: Nanos) {
        let slot = &mut self.slots[conn.index as usize];
        let (reason, under_way) = (slot.broken.unwrap_or(reason), slot.broken.is_some());
        slot.closing = Some((reason, now));
        if !under_way {
            self.cancel_all(conn);
        }
    }

    /// Takes back what the kernel holds. By user data, which names the generation: a cancel that comes too late finds
    /// nothing.
    pub(super) fn cancel_all(&mut self, conn: ConnId) {
        let slot = &mut self.slots[conn.index as usize];
        if slot.in_kernel.has(Kind::Send)
            && let Some(socket) = &slot.socket
        {
            // On a socket that the peer has half closed, a send that has to wait is tried over and over and ends up blocking a
            // kernel thread (io_uring polls for RDHUP always); between two tries no cancel finds it. This ends it in any case.
            let _ = rustix::net::shutdown(socket, Shutdown::Both);
        }
        for kind in Kind::OF_A_SLOT.into_iter().filter(|&kind| slot.in_kernel.has(kind)) {
            let entry = opcode::AsyncCancel::new(user_data(conn, kind)).build();
            self.behind.push(entry.user_data(user_data(conn, Kind::Cancel)));
            slot.cancels += 1;
        }
    }

    /// A cancel can miss an operation that is just being moved from one queue of the kernel to another.
    pub(super) fn cancel_again(&mut self, conn: ConnId) {
        let slot = self.slots.get(conn.index as usize).filter(|slot| slot.generation == conn.generation);
        let missed = |slot: &Slot| {
            (slot.closing.is_some() || slot.broken.is_some())
                && slot.cancels == 0
                && !slot.in_kernel.is_empty()
        };
        if slot.is_some_and(missed) {
            self.cancel_all(conn);
        }
    }

    /// After each completion: a connection that is over and of which the kernel holds nothing any more is let go.
    pub(super) fn settle(
        &mut self,
        conn: ConnId,
        now: Nanos,
        sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
    ) {
        let slot = &mut self.slots[conn.index as usize];
        if let Some(reason) = slot.broken.filter(|_| slot.closing.is_none() && slot.in_kernel.is_empty()) {
            // The receive was cancelled; what it did not take is still delivered.
            let mut buffer = [0; 4096];
            let socket = slot.socket.as_ref().expect("only let go at the end");
            while let Ok((n @ 1.., _)) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                sink(conn, Event::Received(&buffer[..n]), Stamp::at(now));
            }
            slot.closing = Some((reason, now));
        }
        self.let_go(conn);
    }

    fn let_go(&mut self, conn: ConnId) {
        let slot = &mut self.slots[conn.index as usize];
        if let Some((reason, at)) = slot.closing.filter(|_| slot.in_kernel.is_empty()) {
            slot.closing = None;
            slot.broken = None;
            slot.socket = None;
            self.spare.extend(slot.out.drain(..));
            self.over.push((conn, reason, at));
        }
    }
}
