//! `threads`: a thread per connection, which reads, serves and writes.
//!
//! A thread sleeps in poll(2) on its socket, so the very same `Connection` works here as in the event loops. Threads
//! end with their connections; the acceptor waits for them when the server stops.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::net::TcpListener;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::Running;
use super::accept::{Accepted, Acceptor, BACK_OFF_NS};
use crate::answer::ReplyTo;
use crate::clock;
use crate::connection::{Connection, SCRATCH, Step};
use crate::handler::{self, Routed};
use crate::shared::Shared;
use crate::threading;

/// The stack of a connection's thread; the deepest frames are the reader's (100 header fields) and the formatter's.
const STACK: usize = 256 * 1024;

pub(super) fn start(shared: &Arc<Shared>, listener: TcpListener, running: &mut Running) -> io::Result<()> {
    // Becomes readable when the server stops, and stays so: one descriptor wakes all threads.
    let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let acceptor = Acceptor::new(listener, Arc::clone(shared));
    let (shared_here, stop_here) = (Arc::clone(shared), Arc::clone(&stop));
    running
        .spawn(shared, "stub-accept".to_owned(), move || accept_all(&shared_here, acceptor, &stop_here))?;
    running.wake.push(Box::new(move || {
        // It could only fail by overflowing, after 2^64 stops.
        let _ = rustix::io::write(&stop, &1u64.to_ne_bytes());
    }));
    Ok(())
}

/// Accepts until the server stops, then waits for the connections to end.
fn accept_all(shared: &Arc<Shared>, mut acceptor: Acceptor, stop: &Arc<OwnedFd>) {
    while !shared.stopping() {
        match acceptor.accept() {
            Accepted::Connection(connection) => serve_in_thread(shared, connection, stop),
            Accepted::Next => {}
            Accepted::None => wait(Some((acceptor.as_fd(), PollFlags::IN)), Some(stop.as_fd()), u64::MAX),
            Accepted::Exhausted => wait(None, Some(stop.as_fd()), clock::now() + BACK_OFF_NS),
        }
    }
    drop(acceptor);
    while shared.counters.open.load(Ordering::Acquire) > 0 && clock::now() < shared.drained_by() {
        wait(None, None, clock::now() + 1_000_000);
    }
}

fn serve_in_thread(shared: &Arc<Shared>, connection: Box<Connection>, stop: &Arc<OwnedFd>) {
    let prepare = threading::prepare(&shared.plan.server_cpus);
    let (shared_here, stop) = (Arc::clone(shared), Arc::clone(stop));
    let spawned =
        std::thread::Builder::new().name("stub-conn".to_owned()).stack_size(STACK).spawn(move || {
            prepare();
            serve(&shared_here, connection, stop.as_fd());
        });
    if spawned.is_err() {
        // No thread to be had: the connection was closed with the closure that owned it.
        shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// One connection from its first byte to its last.
fn serve(shared: &Shared, mut connection: Box<Connection>, stop: BorrowedFd<'_>) {
    let mut scratch = vec![0; SCRATCH];
    loop {
        if shared.stopping() && (connection.wind_down() || clock::now() >= shared.drained_by()) {
            return;
        }
        match connection.advance(&mut scratch) {
            Step::Closed => return,
            Step::Again => {}
            Step::Wait => {
                if !await_client(shared, &mut connection, stop) {
                    return;
                }
            }
            Step::Request(request, arrival) => {
                let to = ReplyTo::request(&request.head);
                let answer = match handler::route(shared, request, arrival) {
                    Routed::Answer(answer) => answer,
                    Routed::Infer(infer) => handler::infer(shared, infer),
                };
                connection.reply(to, answer);
            }
        }
    }
}

/// Sleeps until the client or the stop flag wants something; `false` when the connection's time is over.
fn await_client(shared: &Shared, connection: &mut Connection, stop: BorrowedFd<'_>) -> bool {
    let wanted = if connection.unsent() { PollFlags::OUT } else { PollFlags::IN };
    let deadline = connection.deadline().min(shared.drained_by());
    // Once it stops, the flag has been seen and must not end every sleep.
    let stop = (!shared.stopping()).then_some(stop);
    let readable = wait_ready(Some((connection.as_fd(), wanted)), stop, deadline) && wanted == PollFlags::IN;
    connection.notice(readable, false);
    clock::now() < connection.deadline() || !connection.expire()
}

fn wait(socket: Option<(BorrowedFd<'_>, PollFlags)>, stop: Option<BorrowedFd<'_>>, deadline: u64) {
    wait_ready(socket, stop, deadline);
}

/// Waits for the socket, the stop flag or the deadline; returns whether the socket is ready.
fn wait_ready(
    socket: Option<(BorrowedFd<'_>, PollFlags)>,
    stop: Option<BorrowedFd<'_>>,
    deadline: u64,
) -> bool {
    let stop = stop.map(|fd| (fd, PollFlags::IN));
    let mut fds: Vec<PollFd<'_>> =
        socket.iter().chain(&stop).map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
    let left = clock::timespec(deadline.saturating_sub(clock::now()));
    let timeout = (deadline != u64::MAX).then_some(&left);
    // Interrupted counts as not ready: every caller looks again.
    poll(&mut fds, timeout).is_ok() && socket.is_some() && !fds[0].revents().is_empty()
}
