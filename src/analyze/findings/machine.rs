//! What the system monitor saw of the server and its machine, by request. What it could not see is `None`.

use super::symptoms::Sources;
use crate::facts::Round;
use crate::facts::system::Side;

/// What the system monitor saw of the server and the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ServerSide {
    /// Of the processors it may use, %.
    pub cpu: Option<f64>,
    /// How many those are.
    pub cores: Option<f64>,
    /// Processor time for each completed request, ns.
    pub cpu_per_request: Option<f64>,
    /// Its threads' waiting for a processor for each completed request, ns.
    pub run_delay_per_request: Option<f64>,
    /// Threads that ran or wanted to, on average.
    pub runnable: Option<f64>,
    /// The busiest thread, and the next, % of a processor.
    pub busiest: Option<f64>,
    /// See there.
    pub next_busiest: Option<f64>,
    /// Processors' worth used by neither client nor server.
    pub others: Option<f64>,
    /// Time in which its cgroup's quota held it up, %.
    pub throttled: Option<f64>,
    /// Connections refused or dropped since its accept queue was full.
    pub overflows: Option<f64>,
    /// The fullest its accept queue was, %.
    pub accept_used: Option<f64>,
    /// How long connections waited to be accepted, ns: the queue's mean length by the rate of connects (Little).
    pub accept_wait: Option<f64>,
    /// Of the time in which a connection had something to send, the share a window or a send buffer held it up; the worse side.
    pub flow_limited: Option<f64>,
    /// The same for each completed request, ns.
    pub flow_wait: Option<f64>,
    /// SYNs that were sent again.
    pub syn_retransmits: Option<f64>,
    /// Other segments that were.
    pub data_retransmits: Option<f64>,
}

impl ServerSide {
    /// Of all rounds.
    pub(super) fn of(sources: Sources<'_>) -> Self {
        let Sources { rounds, tally, system, .. } = sources;
        let Some(figures) = system else { return Self::default() };
        let mean = |name: &str| figures.get(name).map(|figure| figure.mean);
        let seen: Vec<_> = rounds.iter().filter_map(|round| round.system.as_ref()).collect();
        let wall: f64 = seen.iter().map(|system| system.wall.0 as f64).sum();
        let all = tally.completed + rounds.iter().map(|r| r.recorded.warmup.completed).sum::<u64>();
        let per_request = |share: f64| share * wall / all.max(1) as f64;
        let count = |name: &str| mean(name).map(|per_s| per_s * wall / 1e9);
        let connects: u64 = rounds.iter().flat_map(|r| &r.threads).map(|t| t.counts.driver.connects).sum();
        let [busiest, next_busiest] = busiest(rounds);
        let limited = |side: &str| {
            let of = |what: &str| mean(&format!("{side}.{what}"));
            Some((of("rwnd_limited")? + of("sndbuf_limited")?, of("busy")?))
        };
        let worse = ["client", "server"]
            .into_iter()
            .filter_map(limited)
            .filter(|(_, busy)| *busy > 0.0)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let processors = processors(rounds);
        Self {
            cpu: mean("server.cpu"),
            cores: seen.iter().find_map(|system| system.server_cores),
            cpu_per_request: mean("server.cores").map(per_request),
            run_delay_per_request: mean("server.run_delay").map(|percent| per_request(percent / 100.0)),
            runnable: mean("server.cores").zip(mean("server.run_delay")).map(|(on, off)| on + off / 100.0),
            busiest,
            next_busiest,
            others: mean("machine.cpu").zip(mean("server.cores")).map(|(machine, server)| {
                machine * processors / 100.0 - server - mean("client.cores").unwrap_or(0.0)
            }),
            throttled: mean("server.throttled"),
            overflows: count("machine.listen_overflows"),
            accept_used: figures.get("server.accept_queue_used").map(|figure| figure.max),
            accept_wait: mean("server.accept_queue")
                .filter(|_| connects > 0)
                .map(|length| length * wall / connects as f64),
            flow_limited: worse.map(|(limited, busy)| limited / busy),
            flow_wait: worse.map(|(limited, _)| per_request(limited / 100.0)),
            syn_retransmits: count("machine.tcp_syn_retransmits"),
            // the kernel counts SYNs among all segments
            data_retransmits: count("machine.tcp_retransmits")
                .zip(count("machine.tcp_syn_retransmits"))
                .map(|(all, syn)| (all - syn).max(0.0)),
        }
    }
}

/// The two threads of the server that used most of a processor, %, over all rounds.
fn busiest(rounds: &[Round]) -> [Option<f64>; 2] {
    let shares = rounds.iter().filter_map(|round| {
        let system = round.system.as_ref()?;
        let of_server = system.threads.iter().filter(|thread| thread.side == Side::Server);
        let mut shares: Vec<f64> =
            of_server.map(|thread| 100.0 * thread.on_cpu_ns.0 as f64 / system.wall.0.max(1) as f64).collect();
        shares.sort_by(|a, b| b.total_cmp(a));
        Some((*shares.first()?, shares.get(1).copied().unwrap_or(0.0)))
    });
    let shares: Vec<(f64, f64)> = shares.collect();
    let n = shares.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| (n > 0.0).then(|| shares.iter().map(of).sum::<f64>() / n);
    [mean(|pair| pair.0), mean(|pair| pair.1)]
}

/// Processors of the machine, by their series.
fn processors(rounds: &[Round]) -> f64 {
    let names = rounds
        .iter()
        .filter_map(|round| round.system.as_ref())
        .flat_map(|s| &s.tables)
        .flat_map(|t| &t.series);
    let of_one = |metric: &str| {
        let number = metric.strip_prefix("machine.cpu")?.strip_suffix(".user")?;
        number.parse::<u32>().ok()
    };
    let mut numbers: Vec<u32> = names.filter_map(|series| of_one(&series.metric)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.len().max(1) as f64
}
