//! What the system monitor saw while a round was made, as plain data, and what its metrics are called.
//!
//! A metric that could not be read has no value and stands in [`System::not_visible`]; it is never zero.

use serde::{Deserialize, Serialize};

use super::alerts::Found;
use crate::load::time::Nanos;

/// The unit of a metric, and with it how a rule writes its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// 100 is the whole of it.
    Percent,
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerS,
    /// A number of something.
    Count,
    /// Events per second.
    PerS,
    /// Microseconds.
    Micros,
}

/// One metric of the monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// `whose.what`.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// A level at the moment of the sample (rules and alerts take the greatest), not a mean over the time since the one
    /// before (rules take the mean).
    pub level: bool,
}

const fn rate(name: &'static str, unit: Unit) -> Metric {
    Metric { name, unit, level: false }
}

const fn level(name: &'static str, unit: Unit) -> Metric {
    Metric { name, unit, level: true }
}

/// Every metric that rules and alerts can name; docs/METHOD.md says what each means. Beside them the series have
/// `machine.cpuN.…` for each processor.
pub const METRICS: &[Metric] = {
    use Unit::{Bytes, BytesPerS, Count, Micros, PerS, Percent};
    &[
        rate("machine.cpu", Percent),
        rate("machine.user", Percent),
        rate("machine.system", Percent),
        rate("machine.irq", Percent),
        rate("machine.softirq", Percent),
        rate("machine.steal", Percent),
        rate("machine.iowait", Percent),
        level("machine.run_queue", Count),
        rate("machine.switches", PerS),
        level("machine.memory", Percent),
        rate("machine.psi_cpu", Percent),
        rate("machine.psi_memory", Percent),
        rate("machine.psi_io", Percent),
        rate("machine.disk_read", BytesPerS),
        rate("machine.disk_written", BytesPerS),
        rate("machine.net_received", BytesPerS),
        rate("machine.net_sent", BytesPerS),
        rate("machine.loopback", BytesPerS),
        rate("machine.listen_overflows", PerS),
        rate("machine.listen_drops", PerS),
        rate("machine.tcp_retransmits", PerS),
        rate("machine.tcp_syn_retransmits", PerS),
        rate("machine.softnet_dropped", PerS),
        rate("machine.softnet_squeezed", PerS),
        rate("client.cpu", Percent),
        rate("client.cores", Count),
        rate("client.run_delay", Percent),
        rate("client.busiest_thread", Percent),
        level("client.threads", Count),
        level("client.processes", Count),
        rate("client.voluntary_switches", PerS),
        rate("client.involuntary_switches", PerS),
        level("client.rss", Bytes),
        rate("client.faults", PerS),
        rate("client.major_faults", PerS),
        level("client.fds", Count),
        level("client.fds_used", Percent),
        rate("client.disk_read", BytesPerS),
        rate("client.disk_written", BytesPerS),
        rate("client.throttled", Percent),
        rate("client.throttles", PerS),
        level("client.connections", Count),
        level("client.rtt", Micros),
        rate("client.retransmits", PerS),
        rate("client.busy", Percent),
        rate("client.rwnd_limited", Percent),
        rate("client.sndbuf_limited", Percent),
        rate("server.cpu", Percent),
        rate("server.cores", Count),
        rate("server.run_delay", Percent),
        rate("server.busiest_thread", Percent),
        level("server.threads", Count),
        level("server.processes", Count),
        rate("server.voluntary_switches", PerS),
        rate("server.involuntary_switches", PerS),
        level("server.rss", Bytes),
        rate("server.faults", PerS),
        rate("server.major_faults", PerS),
        level("server.fds", Count),
        level("server.fds_used", Percent),
        rate("server.disk_read", BytesPerS),
        rate("server.disk_written", BytesPerS),
        rate("server.throttled", Percent),
        rate("server.throttles", PerS),
        level("server.accept_queue", Count),
        level("server.accept_queue_used", Percent),
        level("server.connections", Count),
        level("server.rtt", Micros),
        rate("server.retransmits", PerS),
        rate("server.busy", Percent),
        rate("server.rwnd_limited", Percent),
        rate("server.sndbuf_limited", Percent),
    ]
};

/// The unit of a metric, those of single processors included.
pub fn unit(name: &str) -> Option<Unit> {
    match METRICS.iter().find(|metric| metric.name == name) {
        Some(metric) => Some(metric.unit),
        None => name.starts_with("machine.cpu").then_some(Unit::Percent),
    }
}

/// One metric over the whole load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SystemFigures {
    /// Its unit.
    pub unit: Unit,
    /// Weighted by time; exact.
    pub mean: f64,
    /// So much or less in 95 % of the time, by the rows of the series.
    pub p95: f64,
    /// The greatest of all samples.
    pub max: f64,
}

/// What the monitor saw in one round.
#[derive(Debug, Clone, Default)]
pub struct System {
    /// Series that were sampled together: at every interval; and, what costs more, once a second.
    pub tables: Vec<Table>,
    /// The threads that used most of a processor, of client and server.
    pub threads: Vec<ThreadSeen>,
    /// The connections of this machine to the target, as last seen; at most 64 of each side.
    pub connections: Vec<ConnectionSeen>,
    /// Metrics without any value, and why.
    pub not_visible: Vec<NotVisible>,
    /// The first process of the server.
    pub server_pid: Option<u32>,
    /// Processors' worth that the server may use: its mask, or its cgroup's quota if that is less.
    pub server_cores: Option<f64>,
    /// Samples taken, and intervals that went by without one because it would have cost too much.
    pub samples: u64,
    /// See `samples`.
    pub skipped: u64,
    /// What the monitor's own thread used of a processor from the first sample to the last.
    pub cpu_time: Option<Nanos>,
    /// From the first sample to the last.
    pub wall: Nanos,
    /// The alerts of rules about its metrics.
    pub alerts: Found,
}

/// Series over the same rows of time.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// When each row ends, after t0. It begins where the one before ends, the first at t0.
    pub ends: Vec<Nanos>,
    /// The series.
    pub series: Vec<Series>,
}

/// One metric over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name, as in [`METRICS`], or `machine.cpuN.…`.
    pub metric: String,
    /// Over the whole load, weighted by time; exact.
    pub mean: Option<f64>,
    /// The greatest of all samples, also of those that were folded into one row.
    pub max: Option<f64>,
    /// The mean of each row.
    pub values: Vec<Option<f64>>,
}

/// Whose a thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Ours.
    Client,
    /// The target's.
    Server,
}

/// What one thread used during the load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadSeen {
    /// Whose.
    pub side: Side,
    /// Its process.
    pub pid: u32,
    /// Its id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// On a processor.
    pub on_cpu_ns: Nanos,
    /// Runnable, waiting for a processor.
    pub run_delay_ns: Nanos,
    /// It went to sleep.
    pub voluntary_switches: Option<u64>,
    /// It was taken from its processor.
    pub involuntary_switches: Option<u64>,
}

/// One connection, as the kernel saw it (`TCP_INFO`) in the last reading that found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionSeen {
    /// Whose end it is.
    pub side: Side,
    /// The client's port.
    pub client_port: u16,
    /// Smoothed round trip.
    pub rtt_us: u32,
    /// Its mean deviation.
    pub rttvar_us: u32,
    /// The least of them.
    pub min_rtt_us: u32,
    /// Segments sent again since it was opened.
    pub retransmits: u32,
    /// With something to send, since it was opened.
    pub busy_us: u64,
    /// Of this, held up by the receive window of the peer.
    pub rwnd_limited_us: u64,
    /// Of this, held up by our own send buffer.
    pub sndbuf_limited_us: u64,
}

/// A metric that this machine does not show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotVisible {
    /// Its name.
    pub metric: String,
    /// Why.
    pub why: String,
}
