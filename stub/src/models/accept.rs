//! Accepting connections: the cap, and what to do when descriptors run out.
//!
//! Over the cap a client is answered 503 and closed in stages like any other, which takes a descriptor for up to a
//! second; at most `MAX_TURNED_AWAY` clients are being told so at a time, beyond that they are closed unanswered.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::net::{TcpListener, TcpStream};
use rustix::io::Errno;

use crate::answer::ReplyTo;
use crate::clock;
use crate::connection::Connection;
use crate::handler;
use crate::shared::Shared;

/// Clients over the cap that are being answered at a time.
const MAX_TURNED_AWAY: usize = 256;

/// How long to leave a listener alone that cannot accept for want of resources.
pub(super) const BACK_OFF_NS: u64 = 10_000_000;

/// What an attempt to accept came to.
pub(super) enum Accepted {
    Connection(Box<Connection>),
    /// This client is gone or was sent away; there may be others.
    Next,
    /// There is no client waiting.
    None,
    /// The machine has no descriptors or memory: try again after `BACK_OFF_NS`.
    Exhausted,
}

/// A listener with a spare descriptor to give up when none is left.
pub(super) struct Acceptor {
    pub(super) listener: TcpListener,
    spare: Option<File>,
    shared: Arc<Shared>,
}

impl Acceptor {
    pub(super) fn new(listener: TcpListener, shared: Arc<Shared>) -> Self {
        Self { listener, spare: spare(), shared }
    }

    pub(super) fn accept(&mut self) -> Accepted {
        match self.listener.accept() {
            Ok((stream, _)) => self.admit(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accepted::None,
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::MFILE | Errno::NFILE) => self.turn_off_one(),
                Some(Errno::NOBUFS | Errno::NOMEM) => Accepted::Exhausted,
                // Whatever else there is (ECONNABORTED, EPROTO, EINTR) concerns one client.
                _ => Accepted::Next,
            },
        }
    }

    fn admit(&self, stream: TcpStream) -> Accepted {
        let counters = &self.shared.counters;
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        let delay = self.shared.plan.behavior.accept_delay;
        if delay > 0 {
            clock::sleep_until(clock::now() + delay);
        }
        let excess =
            (counters.open.load(Ordering::Acquire) + 1).saturating_sub(self.shared.plan.max_connections);
        if excess > MAX_TURNED_AWAY {
            counters.dropped.fetch_add(1, Ordering::Relaxed);
            return Accepted::Next;
        }
        // Answers are written whole; waiting to fill segments would only delay them. It fails on dead sockets alone.
        let _ = stream.set_nodelay(true);
        let mut connection = Box::new(Connection::new(stream, Arc::clone(&self.shared)));
        if excess > 0 {
            counters.turned_away.fetch_add(1, Ordering::Relaxed);
            let answer = handler::retry_after(503, "there are too many connections", 0);
            connection.reply(ReplyTo::nobody(), answer);
        }
        Accepted::Connection(connection)
    }

    /// With no descriptor left the waiting client would keep the listener ready for ever: the spare one is used to
    /// accept and close it.
    fn turn_off_one(&mut self) -> Accepted {
        if self.spare.take().is_none() {
            self.spare = spare();
            return Accepted::Exhausted;
        }
        let accepted = self.listener.accept();
        if accepted.is_ok() {
            self.shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
        drop(accepted);
        self.spare = spare();
        Accepted::Exhausted
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}
