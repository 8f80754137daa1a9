//! What a driver is told, and what it counts.

use std::sync::Arc;

use super::pace::PaceCounts;
use crate::load::io::Stamps;
use crate::load::request::Requests;
use crate::load::response::Limits;
use crate::load::schedule::Load;
use crate::load::time::Nanos;

/// How many requests a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keepalive {
    /// As many as the server lets it.
    On,
    /// At most so many; the last asks the server to close. 1 is `--keepalive off`.
    Requests(u32),
}

/// What a driver needs to know of the plan.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Closed or open loop.
    pub load: Load,
    /// Connection slots of this thread.
    pub connections: u32,
    /// Requests per connection.
    pub keepalive: Keepalive,
    /// What is sent.
    pub requests: Arc<Requests>,
    /// Which stamps the engine was asked for: a sample waits one turn for a missing transmit stamp.
    pub stamps: Stamps,
    /// Compute a digest of each response body.
    pub digest: bool,
    /// Send a request again, once and on a fresh connection, when its keep-alive connection was stale.
    pub retry_stale: bool,
    /// From `issued` to the last byte.
    pub timeout: Nanos,
    /// For one connect.
    pub connect_timeout: Nanos,
    /// After the end of the load: how long outstanding requests are waited for.
    pub drain: Nanos,
    /// No arrival is drawn later than this after t0, whatever the plan says.
    pub time_cap: Nanos,
    /// Caps on what a response may cost.
    pub limits: Limits,
}

/// What the driver counts beside the samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriverCounts {
    /// Connects begun, those of the warm-up and of filling the pool included.
    pub connects: u64,
    /// Measured requests sent a second time (`--retry-stale`).
    pub retries: u64,
    /// Times bytes arrived on a connection that had asked for nothing.
    pub unsolicited: u64,
    /// Measured requests of the plan that were never due or never found a connection.
    pub undrawn: u64,
    /// Measured requests that were drawn from the schedule.
    pub offered: u64,
    /// The sum of their fingerprints.
    pub schedule_hash: u64,
    /// When drawing ended, arrivals were waiting, and for most of that time because of our own loop.
    pub held_up: bool,
    /// The time cap ended the load.
    pub capped: bool,
    /// Requests in flight, integrated over time: requests · ns, those of the warm-up included. By Little's law the sum of
    /// all done − issued, but added up without looking at a single request.
    pub in_flight_area: i128,
    /// How well the loop kept up.
    pub pace: PaceCounts,
}
