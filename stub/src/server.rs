//! Starting and stopping a server: listeners, time stamps, log, threads.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::clock;
use crate::config::{Config, Model};
use crate::counts::Counts;
use crate::error::Error;
use crate::log::{self, LogThread};
use crate::models::{self, Running};
use crate::shared::Shared;
use crate::sys;
use crate::threading;

/// How long start-up waits for the kernel's first receive stamp.
const STAMPS_WITHIN_NS: u64 = 500_000_000;

/// A running server. Dropping it stops it, too, but tells no errors.
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    running: Running,
    log_thread: Option<LogThread>,
    /// Keeps the kernel stamping, which it does for as long as some socket wants it.
    _stamped_pair: Option<(TcpStream, TcpStream)>,
}

impl Server {
    /// Starts a server; when this returns it accepts connections, and their requests are stamped if at all.
    pub fn start(config: Config) -> Result<Self, Error> {
        let cpus = threading::check_cpus(&config.server_cpus)?;
        let config = config.with_workers_for(cpus);
        let listeners = listen(&config)?;
        let local = listeners.first().map(TcpListener::local_addr);
        let addr = local.unwrap_or_else(|| Err(io::Error::other("no listener")));
        let addr = addr.map_err(|e| Error::environment("cannot tell the bound address", e))?;
        let stamped_pair = stamped_pair();
        let (log, log_thread) = match &config.server_log {
            None => (None, None),
            Some(path) => {
                let opened = log::open(path, threading::prepare(&config.server_cpus));
                let (sender, thread) = opened.map_err(|e| {
                    Error::environment(format!("cannot write the server log {}", path.display()), e)
                })?;
                (Some(sender), Some(thread))
            }
        };
        let mut server = Self {
            addr,
            shared: Arc::new(Shared::new(config, stamped_pair.is_some(), log)),
            running: Running::default(),
            log_thread,
            _stamped_pair: stamped_pair,
        };
        let listeners = listeners.into_iter().map(mio::net::TcpListener::from_std).collect();
        // A start that fails half-way drops `server`, which stops the threads there are.
        models::start(&server.shared, listeners, &mut server.running)
            .map_err(|e| Error::environment("cannot start the server's threads", e))?;
        Ok(server)
    }

    /// The bound address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A snapshot of the counts, as `/stats` gives it.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Stops accepting, finishes the requests that were read (at most 5 s), ends the threads, writes the log to its
    /// end. Returns the final counts; an error if the log could not be written.
    pub fn stop(mut self) -> Result<Counts, Error> {
        self.shut_down()?;
        Ok(self.counts())
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.plan
    }

    fn shut_down(&mut self) -> Result<(), Error> {
        self.shared.stop();
        // The wakers outlive the waking: one dropped too early takes its event with it.
        self.running.wake.iter().for_each(|wake| wake());
        for thread in self.running.threads.drain(..) {
            // One in the middle of a service longer than the drain is left behind; the process ends without it.
            while !thread.is_finished() && clock::now() < self.shared.drained_by() {
                std::thread::sleep(Duration::from_micros(200));
            }
            if thread.is_finished() {
                // A thread that panicked has said so; the others are still to be joined.
                let _ = thread.join();
            }
        }
        if let (Some(log), Some(thread)) = (&self.shared.log, self.log_thread.take()) {
            log.finish();
            let result = thread.join().unwrap_or_else(|_| Err(io::Error::other("its writer panicked")));
            result.map_err(|e| Error::environment("the server log is incomplete", e))?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever wants to know calls `stop`.
        let _ = self.shut_down();
    }
}

/// One listener, or for `per-core` one per loop on the same port.
fn listen(config: &Config) -> Result<Vec<TcpListener>, Error> {
    let fail = |e| Error::environment(format!("cannot listen on {}", config.addr), e);
    if config.model != Model::PerCore {
        return Ok(vec![listener(config, config.addr, config.backlog, false).map_err(fail)?]);
    }
    if config.addr.port() != 0 {
        // SO_REUSEPORT would quietly share the port with another server of this user: find that out first.
        drop(listener(config, config.addr, 1, false).map_err(fail)?);
    }
    let first = listener(config, config.addr, config.backlog, true).map_err(fail)?;
    let addr = first.local_addr().map_err(fail)?;
    let others = (1..config.workers).map(|_| listener(config, addr, config.backlog, true).map_err(fail));
    std::iter::once(Ok(first)).chain(others).collect()
}

fn listener(config: &Config, addr: SocketAddr, backlog: u16, share_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit these.
    if let Some(bytes) = config.behavior.send_buffer {
        socket.set_send_buffer_size(bytes as usize)?;
    }
    if let Some(bytes) = config.behavior.receive_buffer {
        socket.set_recv_buffer_size(bytes as usize)?;
    }
    // And this. A kernel without stamps serves without; `kernel_stamps` tells.
    let _ = sys::enable_rx_stamps(socket.as_fd());
    socket.bind(&addr.into())?;
    socket.listen(i32::from(backlog))?;
    Ok(socket.into())
}

/// A loopback connection whose receiver wants stamps, once they arrive; `None` if they do not come.
///
/// The kernel begins to stamp some 20 ms after the first socket asks for it, and goes on while one does. This pair is
/// kept for the server's life, so that no request can be the one to switch it on.
fn stamped_pair() -> Option<(TcpStream, TcpStream)> {
    let pair = || -> io::Result<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut sender = TcpStream::connect(listener.local_addr()?)?;
        let (receiver, _) = listener.accept()?;
        sys::enable_rx_stamps(receiver.as_fd())?;
        sender.set_nodelay(true)?;
        let deadline = clock::now() + STAMPS_WITHIN_NS;
        while clock::now() < deadline {
            sender.write_all(b"?")?;
            std::thread::sleep(Duration::from_millis(1));
            if let Ok((_, Some(_))) = sys::recv_stamped(receiver.as_fd(), &mut [0; 16]) {
                return Ok((sender, receiver));
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    };
    pair().ok()
}
