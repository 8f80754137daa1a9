//! I/O: the two traits between the load path and the operating system, and their implementations.
//!
//! An engine moves bytes and stamps when it did; it knows no HTTP and keeps no statistics.

use std::io;
use std::net::SocketAddr;

use rustix::io::Errno;

use crate::load::io::{CloseReason, ConnId, EngineAccount, Event, Op, Stamp, Stamps};
use crate::load::time::Nanos;

pub mod contract;
pub mod epoll;
pub mod sim;
pub mod uring;

/// The clock of a run: CLOCK_MONOTONIC nanoseconds.
pub trait Clock {
    /// The time. Never goes back.
    fn now(&self) -> Nanos;
}

impl<C: Clock> Clock for &C {
    fn now(&self) -> Nanos {
        (**self).now()
    }
}

/// What the engine of one thread is given at start.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Connection slots `0..connections`.
    pub connections: u32,
    /// What `TargetId`s stand for: lists of addresses that are tried in turn.
    pub targets: Vec<Vec<SocketAddr>>,
    /// What `BodyId`s stand for.
    pub bodies: Vec<Vec<u8>>,
    /// Which stamps the kernel is asked for.
    pub stamps: Stamps,
    /// Stamps of sends have to be near: an engine that hands over many at once keeps such batches small.
    pub small_batches: bool,
}

/// Completion-shaped network I/O for one thread.
pub trait Engine {
    /// Queues an operation; what becomes of it comes out of [`Engine::poll`].
    fn submit(&mut self, conn: ConnId, op: Op<'_>);

    /// Hands queued work to the kernel, waits at most until `deadline` (not at all if it has passed), and reports what
    /// happened. An error is one of the engine itself, not of a connection.
    fn poll(&mut self, deadline: Nanos, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) -> io::Result<()>;

    /// What it used of the kernel, and what it could not have.
    fn account(&self) -> EngineAccount {
        EngineAccount::default()
    }
}

/// What an errno of a socket says about its connection.
fn close_reason(errno: Errno) -> CloseReason {
    match errno {
        Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED | Errno::NOTCONN => CloseReason::Reset,
        Errno::TIMEDOUT => CloseReason::TimedOut,
        Errno::MFILE
        | Errno::NFILE
        | Errno::NOBUFS
        | Errno::NOMEM
        | Errno::ADDRNOTAVAIL
        | Errno::ADDRINUSE
        | Errno::PERM
        | Errno::ACCESS
        | Errno::INVAL
        | Errno::NOSPC => CloseReason::Local(errno.raw_os_error()),
        _ => CloseReason::Refused(errno.raw_os_error()),
    }
}

#[cfg(test)]
mod tests;
