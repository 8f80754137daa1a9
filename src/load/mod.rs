//! PURE: everything that decides what is sent when, and what came back. No sockets, no clocks.

mod connection;
mod deadlines;
pub mod driver;
pub mod io;
pub mod request;
pub mod response;
pub mod rng;
pub mod sample;
pub mod schedule;
pub mod server_timing;
pub mod time;
