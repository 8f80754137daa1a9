//! I/O: thin, checked access to what the operating system offers. All `unsafe` of the project outside the
//! io_uring engine lives here, each block with its SAFETY line.

pub mod affinity;
pub mod alloc;
pub mod clock;
pub mod helper;
pub mod host;
pub mod monitor;
pub mod scrape;
pub mod server;
pub mod signal;
pub mod socket;
pub mod stamps;
