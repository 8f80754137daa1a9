//! The threading models. They differ in who calls `Connection::advance` and `handler::infer`, and in nothing else.
//!
//! `single` and `per-core` are the same event loop serving inline, once and N times; `pool` is that loop handing the
//! work to workers; `threads` gives each connection a thread.

mod accept;
mod event_loop;
mod per_core;
mod pool;
mod single;
mod threads;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use mio::net::TcpListener;

use crate::config::Model;
use crate::shared::Shared;
use crate::threading;

/// The running threads of a model, and how to make them look at the stop flag.
pub(crate) struct Running {
    pub(crate) threads: Vec<JoinHandle<()>>,
    pub(crate) wake: Vec<Box<dyn Fn() + Send + Sync>>,
}

impl Running {
    fn new() -> Self {
        Self { threads: Vec::new(), wake: Vec::new() }
    }

    /// Starts one more server thread.
    fn spawn(
        &mut self,
        shared: &Shared,
        name: String,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let prepare = threading::prepare(&shared.plan.server_cpus);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            prepare();
            body();
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

/// Starts the threads of the server's model on its listeners: one, or for `per-core` one per loop.
pub(crate) fn start(
    shared: &Arc<Shared>,
    listeners: Vec<TcpListener>,
    running: &mut Running,
) -> io::Result<()> {
    for (index, listener) in listeners.into_iter().enumerate() {
        match shared.plan.model {
            Model::Single => single::start(shared, listener, running)?,
            Model::Threads => threads::start(shared, listener, running)?,
            Model::Pool => pool::start(shared, listener, running)?,
            Model::PerCore => per_core::start(shared, listener, index, running)?,
        }
    }
    Ok(())
}

impl Default for Running {
    fn default() -> Self {
        Self::new()
    }
}
