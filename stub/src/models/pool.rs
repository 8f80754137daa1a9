//! `pool`, the optimized default: one reactor reads and parses, N workers serve and write.
//!
//! A request travels together with its connection, so whoever has it owns it and nothing is locked; while it is away
//! the reactor only remembers what the kernel reports. One request per connection is out at a time: answers stay in
//! order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use mio::Waker;
use mio::net::TcpListener;

use super::Running;
use super::accept::Acceptor;
use super::event_loop::{Dispatch, EventLoop};
use crate::answer::ReplyTo;
use crate::clock;
use crate::connection::Connection;
use crate::handler::{self, Infer};
use crate::shared::Shared;

pub(super) fn start(shared: &Arc<Shared>, listener: TcpListener, running: &mut Running) -> io::Result<()> {
    let acceptor = Acceptor::new(listener, Arc::clone(shared));
    let plan = &shared.plan;
    // Room for all that the queue admits: without a limit, one request of every connection.
    let (jobs, incoming) = bounded(plan.workers + plan.queue_limit.unwrap_or(plan.max_connections + 1024));
    let (done, returned) = unbounded();
    let mut return_path = None;
    let (event_loop, waker) = EventLoop::new(Arc::clone(shared), acceptor, |waker| {
        let reactor_knows = Arc::new(AtomicBool::new(false));
        return_path = Some(ReturnPath { done, reactor_knows: Arc::clone(&reactor_knows), waker });
        Ok(Pool { shared: Arc::clone(shared), jobs, returned, reactor_knows })
    })?;
    for index in 0..plan.workers {
        let Some(path) = return_path.clone() else {
            break;
        };
        let (shared_here, incoming) = (Arc::clone(shared), incoming.clone());
        running
            .spawn(shared, format!("stub-worker-{index}"), move || work(&shared_here, &incoming, &path))?;
    }
    running.spawn(shared, "stub-reactor".to_owned(), || event_loop.run())?;
    running.wake.push(Box::new(move || {
        let _ = waker.wake();
    }));
    Ok(())
}

/// A request on its way to a worker.
struct Job {
    slot: usize,
    connection: Box<Connection>,
    to: ReplyTo,
    infer: Infer,
}

/// A worker's way to give a connection back.
#[derive(Clone)]
struct ReturnPath {
    done: Sender<(usize, Box<Connection>)>,
    /// The reactor has been woken and has not looked yet: another wake-up would be wasted.
    reactor_knows: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

/// A worker: serves until the reactor is gone.
fn work(shared: &Shared, incoming: &Receiver<Job>, path: &ReturnPath) {
    for Job { slot, mut connection, to, infer } in incoming {
        if clock::now() >= shared.drained_by() {
            // The time to drain is over: what is still queued is closed unanswered.
            continue;
        }
        let answer = handler::infer(shared, infer);
        // Before the answer is out: the client's next request must not find this one still counted.
        shared.queue.leave();
        connection.reply(to, answer);
        if path.done.send((slot, connection)).is_ok() && !path.reactor_knows.swap(true, Ordering::AcqRel) {
            // Failing to wake leaves the connection until the reactor's next event.
            let _ = path.waker.wake();
        }
    }
}

/// The reactor's end.
struct Pool {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    returned: Receiver<(usize, Box<Connection>)>,
    reactor_knows: Arc<AtomicBool>,
}

impl Dispatch for Pool {
    const TURNS: usize = 64;

    fn submit(
        &mut self,
        slot: usize,
        connection: Box<Connection>,
        to: ReplyTo,
        infer: Infer,
    ) -> Option<Box<Connection>> {
        if !self.shared.queue.enter() {
            return Some(refuse(connection, to, infer));
        }
        let job = Job { slot, connection, to, infer };
        // The queue admits no more than the channel holds; if it did, the request would be refused like any other.
        self.jobs.try_send(job).err().map(|error| {
            self.shared.queue.leave();
            let Job { connection, to, infer, .. } = error.into_inner();
            refuse(connection, to, infer)
        })
    }

    fn returned(&mut self) -> Option<(usize, Box<Connection>)> {
        self.returned.try_recv().ok().or_else(|| {
            // Admit to having looked, then look again: what came in between must not wait for a wake-up.
            self.reactor_knows.store(false, Ordering::Release);
            self.returned.try_recv().ok()
        })
    }
}

fn refuse(mut connection: Box<Connection>, to: ReplyTo, infer: Infer) -> Box<Connection> {
    connection.reply(to, handler::queue_full(infer));
    connection
}
