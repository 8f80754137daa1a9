//! PURE: what the recorded figures mean. No sockets, files, threads or clocks; numbers in, findings out.

pub mod alerts;
pub mod attribution;
pub mod capacity;
pub mod compare;
pub mod confirm;
pub mod diagnose;
pub mod findings;
pub mod gate;
pub mod intervals;
pub mod paired;
pub mod queueing;
pub mod ranking;
pub mod recommend;
pub mod scenario;
pub mod scraped;
pub mod special;
pub mod stats;
pub mod summary;
pub mod theory;
pub mod trend;
pub mod validity;
