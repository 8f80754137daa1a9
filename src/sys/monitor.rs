//! The system monitor: what machine, client and server did while the load ran, read from /proc, cgroups and sock_diag on a
//! thread of its own.
//!
//! It opens nothing for longer than a read, and leaves samples out rather than cost more than [`SHARE`] of one processor. What cannot be read is reported as not visible, never as zero.
//! Not here: what the figures mean (analyze), how they are shown (report).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::clock::{Monotonic, own_cpu};
use super::helper::rest;
use crate::engine::Clock;
use crate::facts::live::Live;
use crate::facts::system::{METRICS, NotVisible, Side, System};
use crate::load::time::Nanos;

mod connections;
mod diag;
mod machine;
mod parse;
mod processes;
mod table;

use connections::Connections;
use diag::{Ask, BOTH_FAMILIES, Socket};
use machine::Machine;
use processes::Processes;
use table::Sheet;

/// The most that the monitor uses of one processor, in the long run.
pub const SHARE: f64 = 0.004;
/// As if it had been idle for so long before the first sample: short runs are sampled too.
const CREDIT: Nanos = Nanos::from_secs(1);
/// What costs more is read so often; at the begin more often, so that short runs have it too.
const SLOW: Nanos = Nanos::from_secs(1);

/// What is to be watched.
#[derive(Debug, Clone)]
pub struct Watched {
    /// How often.
    pub interval: Nanos,
    /// The server's first process, if it is known.
    pub server: Option<u32>,
    /// How many processors the server is pinned to, if it is.
    pub server_cores: Option<usize>,
    /// Where the target listens.
    pub addresses: Vec<SocketAddr>,
    /// How many processors the load is pinned to.
    pub client_cores: usize,
    /// Where each sample is told of.
    pub live: Option<Arc<Live>>,
}

/// One sample as it was taken: the metrics that were read together, over a stretch of time.
#[derive(Debug)]
pub struct Sampled<'a> {
    /// After t0.
    pub from: Nanos,
    /// After t0.
    pub to: Nanos,
    sheet: &'a Sheet,
}

impl<'a> Sampled<'a> {
    /// The sample that was taken last; none of the first, which has no differences.
    fn of(sheet: &'a Sheet, to: Nanos) -> Option<Self> {
        let elapsed = Nanos((sheet.elapsed()? * 1e9) as u64);
        Some(Self { from: to.saturating_sub(elapsed), to, sheet })
    }

    /// What was read of a metric; none if it was not read now, or is not visible.
    pub fn value(&self, metric: &str) -> Option<f64> {
        self.sheet.value(metric)
    }
}

/// Ready to sample. Belongs to the thread that made it.
#[derive(Debug)]
pub struct Monitor {
    interval: Nanos,
    machine: Machine,
    client: Processes,
    server: Option<Processes>,
    server_pid: Option<u32>,
    /// The target's, if it is on this machine.
    listener: Option<SocketAddr>,
    connections: Connections,
    fast: Sheet,
    slow: Sheet,
    live: Option<Arc<Live>>,
}

impl Monitor {
    /// Looks around.
    pub fn new(watched: &Watched) -> Self {
        let local = watched.addresses.iter().find(|address| is_local(address.ip())).copied();
        let port = watched.addresses.first().map(SocketAddr::port);
        Self {
            interval: watched.interval,
            machine: Machine::new(),
            client: Processes::new(Side::Client, std::process::id(), Some(watched.client_cores)),
            server: watched.server.map(|pid| Processes::new(Side::Server, pid, watched.server_cores)),
            server_pid: watched.server,
            listener: local,
            connections: Connections::new(port, families(watched.addresses.first(), local), local.is_some()),
            fast: Sheet::new(),
            slow: Sheet::new(),
            live: watched.live.clone(),
        }
    }

    /// Samples from now until the load is over; `t0` is the load's. Whoever sets `over` unparks this thread. `told` is told of
    /// each sample, and delays the next one.
    pub fn watch(mut self, t0: Nanos, over: &AtomicBool, mut told: impl FnMut(&Sampled<'_>)) -> System {
        let mut seen = System { server_pid: self.server_pid, ..System::default() };
        // what differences are taken from; t0 is about to come
        self.sample_fast(t0);
        self.sample_slow(t0);
        let (began, cpu_before) = (Monotonic.now(), own_cpu());
        let (mut due, mut slow_due) = (began + self.interval, Nanos::ZERO);
        loop {
            let last = rest(due, over);
            let since = Monotonic.now().saturating_sub(began);
            let to = self.sample_fast(t0);
            Sampled::of(&self.fast, to).iter().for_each(&mut told);
            if last || since >= slow_due {
                let before = own_cpu();
                let to = self.sample_slow(t0);
                Sampled::of(&self.slow, to).iter().for_each(&mut told);
                // half of what may be used is for the others
                let pause = Nanos((2.0 * own_cpu().saturating_sub(before).0 as f64 / SHARE) as u64);
                slow_due = since + since.min(SLOW).max(pause);
            }
            if let Some(live) = &self.live {
                live.sampled(self.fast.newest().chain(self.slow.newest()));
            }
            seen.samples += 1;
            seen.wall = Monotonic.now().saturating_sub(began);
            seen.cpu_time = Some(own_cpu().saturating_sub(cpu_before));
            if last {
                break;
            }
            // a sample that does not end in time, or would cost too much, leaves intervals out
            let (done, earliest) = (since.0 / self.interval.0, affordable(seen.cpu_time).max(seen.wall));
            let next = earliest.0 / self.interval.0 + 1;
            seen.skipped += next - done - 1;
            due = began + Nanos(next.saturating_mul(self.interval.0));
        }
        self.finish(seen)
    }

    /// Returns when it was taken, after t0.
    fn sample_fast(&mut self, t0: Nanos) -> Nanos {
        let now = Monotonic.now();
        self.fast.begin(now);
        self.machine.fast(&mut self.fast);
        self.client.fast(&mut self.fast);
        if let Some(server) = &mut self.server {
            server.fast(&mut self.fast);
        }
        let queue = self.listener.and_then(accept_queue);
        self.fast.gauge("server.accept_queue", queue.map(|(waiting, _)| f64::from(waiting)));
        self.fast.unless(self.why_no_queue());
        let used = queue.map(|(waiting, most)| 100.0 * f64::from(waiting) / f64::from(most.max(1)));
        self.fast.gauge("server.accept_queue_used", used);
        self.fast.unless(self.why_no_queue());
        self.fast.end(now.saturating_sub(t0));
        now.saturating_sub(t0)
    }

    /// Returns when it was taken, after t0.
    fn sample_slow(&mut self, t0: Nanos) -> Nanos {
        let now = Monotonic.now();
        self.slow.begin(now);
        self.machine.slow(&mut self.slow);
        self.client.slow(&mut self.slow);
        if let Some(server) = &mut self.server {
            server.slow(&mut self.slow);
        }
        self.connections.slow(&mut self.slow);
        self.slow.end(now.saturating_sub(t0));
        now.saturating_sub(t0)
    }

    fn why_no_queue(&self) -> &'static str {
        match self.listener {
            Some(_) => "no socket of this network namespace listens at the target's address",
            None => "the target is on another machine",
        }
    }

    fn finish(self, mut seen: System) -> System {
        for sheet in [self.fast, self.slow] {
            let (table, not_visible) = sheet.finish();
            seen.tables.push(table);
            seen.not_visible.extend(not_visible);
        }
        seen.threads = self.client.into_threads();
        if self.server.is_none() {
            let told = |seen: &System, name: &str| {
                seen.not_visible.iter().any(|hidden| hidden.metric == name)
                    || seen.tables.iter().flat_map(|table| &table.series).any(|series| series.metric == name)
            };
            let why = "the server's process is not known: name it with --server-pid";
            for metric in METRICS.iter().filter(|metric| metric.name.starts_with("server.")) {
                if !told(&seen, metric.name) {
                    seen.not_visible.push(NotVisible { metric: metric.name.to_owned(), why: why.to_owned() });
                }
            }
        }
        if let Some(server) = self.server {
            seen.server_cores = server.cores();
            seen.threads.extend(server.into_threads());
        }
        seen.connections = self.connections.last_seen();
        seen
    }
}

/// When a monitor that has used so much may sample again, after its begin.
fn affordable(used: Option<Nanos>) -> Nanos {
    let used = used.unwrap_or_default();
    Nanos((used.0 as f64 / SHARE) as u64).saturating_sub(CREDIT)
}

/// Connections that wait to be accepted, and how many may: of the fullest socket that listens at this address.
fn accept_queue(address: SocketAddr) -> Option<(u32, u32)> {
    let at = |socket: &Socket| socket.address == address.ip() || socket.address.is_unspecified();
    let listening = diag::sockets(Ask::Listening(address.port()), BOTH_FAMILIES).ok()?;
    let queues = listening.iter().filter(|socket| at(socket)).map(|s| (s.receive_queue, s.send_queue));
    queues.max()
}

/// The families of connections to an address: a server that listens at `[::]` may have IPv6 ends of IPv4 connections.
fn families(address: Option<&SocketAddr>, local: Option<SocketAddr>) -> Vec<u8> {
    let listening = local.and_then(|at| diag::sockets(Ask::Listening(at.port()), &BOTH_FAMILIES[1..]).ok());
    match address {
        Some(address) if address.is_ipv6() => BOTH_FAMILIES[1..].to_vec(),
        Some(_) if listening.is_none_or(|sockets| sockets.is_empty()) => BOTH_FAMILIES[..1].to_vec(),
        _ => BOTH_FAMILIES.to_vec(),
    }
}

/// True for addresses of this machine: only these can be bound to.
fn is_local(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_too_much_is_done_less_often() {
        assert_eq!(affordable(None), Nanos::ZERO);
        assert_eq!(affordable(Some(Nanos::from_millis(4))), Nanos::ZERO, "the credit");
        assert_eq!(affordable(Some(Nanos::from_millis(40))), Nanos::from_secs(9));
    }

    #[test]
    fn our_addresses_are_local() {
        assert!(is_local("127.0.0.1".parse().unwrap()) && is_local("127.3.2.1".parse().unwrap()));
        // TEST-NET-1, RFC 5737
        assert!(!is_local("192.0.2.1".parse().unwrap()));
    }
}
