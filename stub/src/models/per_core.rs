//! `per-core`: N event loops that each read and serve, on listeners that share a port (SO_REUSEPORT).
//!
//! The kernel deals connections to the loops by a hash, so few connections may be dealt unevenly.

use std::io;
use std::sync::Arc;

use mio::net::TcpListener;

use super::Running;
use super::single::start_loop;
use crate::shared::Shared;

pub(super) fn start(
    shared: &Arc<Shared>,
    listener: TcpListener,
    index: usize,
    running: &mut Running,
) -> io::Result<()> {
    start_loop(shared, listener, format!("stub-core-{index}"), running)
}
