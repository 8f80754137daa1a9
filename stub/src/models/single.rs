//! `single`, the baseline: one event loop that serves each request itself, one at a time over all connections.
//!
//! While it serves, further requests wait unread in their sockets; their kernel stamps show for how long.

use std::io;
use std::sync::Arc;

use mio::Waker;
use mio::net::TcpListener;

use super::Running;
use super::accept::Acceptor;
use super::event_loop::{Dispatch, EventLoop};
use crate::answer::ReplyTo;
use crate::connection::Connection;
use crate::handler::{self, Infer};
use crate::shared::Shared;

pub(super) fn start(shared: &Arc<Shared>, listener: TcpListener, running: &mut Running) -> io::Result<()> {
    start_loop(shared, listener, "stub-single".to_owned(), running)
}

/// Starts one inline-serving loop.
pub(super) fn start_loop(
    shared: &Arc<Shared>,
    listener: TcpListener,
    name: String,
    running: &mut Running,
) -> io::Result<()> {
    let acceptor = Acceptor::new(listener, Arc::clone(shared));
    let inline = |_: Arc<Waker>| Ok(Inline(Arc::clone(shared)));
    let (event_loop, waker) = EventLoop::new(Arc::clone(shared), acceptor, inline)?;
    running.spawn(shared, name, || event_loop.run())?;
    running.wake.push(Box::new(move || {
        // Failing to wake leaves the loop to its next event; the drain deadline bounds that.
        let _ = waker.wake();
    }));
    Ok(())
}

/// Serves in the loop's own thread.
struct Inline(Arc<Shared>);

impl Dispatch for Inline {
    const TURNS: usize = 1;

    fn submit(
        &mut self,
        _: usize,
        mut connection: Box<Connection>,
        to: ReplyTo,
        infer: Infer,
    ) -> Option<Box<Connection>> {
        connection.reply(to, handler::infer(&self.0, infer));
        Some(connection)
    }

    fn returned(&mut self) -> Option<(usize, Box<Connection>)> {
        None
    }
}
