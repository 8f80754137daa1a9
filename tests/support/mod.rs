//! The harness: a scratch folder, the program in it, servers for it to talk to, and its files read back.

mod daemons;
pub(crate) mod granting;
mod network;
mod program;
mod results;
mod scratch;
mod scripted;
mod servers;

pub(crate) use daemons::{Daemon, Kind, python_with};
pub(crate) use network::Network;
pub(crate) use program::{Finished, Hairspring, Running};
pub(crate) use results::{Row, Rows, check_report, judged, patched};
pub(crate) use scratch::Scratch;
pub(crate) use scripted::{Heard, Peer, Scripted, answer, ok};
pub(crate) use servers::{Nginx, Python, Stub, exchange, free_port, has, skipped};

use std::time::{Duration, Instant};

/// The engines that run on real sockets, as `--engine` calls them.
pub(crate) const ENGINES: [&str; 2] = ["epoll", "uring"];

/// True where the long forms of tests are wanted: HAIRSPRING_LONG is set, as `./run_tests --long` does.
pub(crate) fn long() -> bool {
    std::env::var_os("HAIRSPRING_LONG").is_some()
}

/// Asks `done` until it is true; false if it never was within `patience`.
pub(crate) fn eventually(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if done() {
            return true;
        }
        if began.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
