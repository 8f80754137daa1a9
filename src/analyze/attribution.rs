//! Where the time went: the parts of the response time at the median and in the tail, and what the theory
//! of closed networks says beside it.
//!
//! The split is that of the very requests near the median and of those in the tail; percentiles of parts
//! do not add up, so they are never used. The server's parts need its own account (Server-Timing), the
//! network's the kernel's stamps; what no stamp shows is in the residual, never a guess.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::queueing::{closed_response, effective_parallelism};
use super::stats::Percentile;
use super::summary::Figures;
use crate::facts::Round;
use crate::load::schedule::Load;
use crate::load::time::Nanos;
use crate::plan::{Plan, Server};
use crate::record::Tally;

mod split;

pub use split::{Part, Split};

/// What is known beside the response times themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Completed requests whose server gave its share of the time.
    pub server_timing: u64,
    /// Of these, how many queue times began only when the server read the request (no kernel stamp).
    pub queue_from_read: u64,
    /// Answers whose account was longer than the response; they are in no figure here.
    pub server_timing_rejected: u64,
    /// The server's queue time: from the request's last byte in its kernel to the start of work.
    pub queue_ns: Figures,
    /// The server's service time.
    pub service_ns: Figures,
    /// The split of requests between p40 and p60.
    pub median: Option<Split>,
    /// The split of requests at and above p95.
    pub tail: Option<Split>,
    /// The split of requests at and above p50, p95, p99, p99.9.
    #[serde(default)]
    pub anatomy: Vec<TailGroup>,
    /// The closed network beside the measurement.
    pub closed_loop: Option<ClosedLoop>,
    /// The stub's counters after each round.
    pub server_stats: Vec<Value>,
}

/// The requests at and above one percentile of the response times of the successful.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TailGroup {
    /// `p50`, `p99.9`.
    pub from: Percentile,
    /// Their mean parts.
    pub split: Split,
}

/// The closed network with N clients, no think time, and c servers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClosedLoop {
    /// N: connections.
    pub clients: u32,
    /// c: requests the server can work on at once; null where that is not known.
    pub servers: Option<u32>,
    /// S: the mean service time the server reported.
    pub service_mean_ns: Nanos,
    /// R: the measured mean response time.
    pub response_mean_ns: Nanos,
    /// The measured median.
    pub response_p50_ns: Option<Nanos>,
    /// N·S/c (S where N < c).
    pub predicted_ns: Option<Nanos>,
    /// Measured median over prediction, minus one.
    pub p50_residual: Option<f64>,
    /// The mean the model predicts for this run, which begins with an empty queue: N·S/c − (N/n)·(N−c)·S/2c.
    pub predicted_mean_ns: Option<Nanos>,
    /// Measured mean over that prediction, minus one. Holds for any distribution of S, as the median does not.
    pub mean_residual: Option<f64>,
    /// c_eff = N·S/R: how many requests were worked on at once.
    pub effective_parallelism: Option<f64>,
}

/// Gathers the evidence of one target; `tally` is all rounds together.
pub fn evidence(plan: &Plan, rounds: &[Round], tally: &Tally) -> Evidence {
    let ok = &tally.response_ok;
    let between = |from: Percentile, to: Option<Percentile>| {
        let low = ok.at_rank(from.rank(ok.count()))?;
        let high = to.map_or(Some(Nanos::MAX), |to| ok.at_rank(to.rank(ok.count())))?;
        Split::of(&tally.anatomy.between(low, high))
    };
    let percentile = |thousandths| Percentile::from_thousandths(thousandths).expect("below p100");
    Evidence {
        server_timing: tally.server_service.count(),
        queue_from_read: tally.queue_from_read,
        server_timing_rejected: tally.timing_rejected,
        queue_ns: Figures::of(&tally.server_queue),
        service_ns: Figures::of(&tally.server_service),
        median: between(percentile(40_000), Some(percentile(60_000))),
        tail: between(Percentile::P95, None),
        anatomy: [Percentile::P50, Percentile::P95, Percentile::P99, Percentile::P999]
            .into_iter()
            .filter_map(|from| Some(TailGroup { from, split: between(from, None)? }))
            .collect(),
        closed_loop: closed_loop(plan, rounds.len(), tally),
        server_stats: rounds.iter().filter_map(|round| round.server_stats.clone()).collect(),
    }
}

fn closed_loop(plan: &Plan, rounds: usize, tally: &Tally) -> Option<ClosedLoop> {
    if plan.load != (Load::Closed { think: Nanos::ZERO }) {
        return None;
    }
    let clients = NonZeroU32::new(plan.connections)?;
    let service = tally.server_service.mean()?;
    let response = tally.response_ok.mean()?;
    let p50 = tally.response_ok.at_rank(Percentile::P50.rank(tally.response_ok.count()));
    let servers = servers(plan);
    let predicted = servers.map(|c| closed_response(clients, service, c));
    let per_round = tally.response_ok.count() as f64 / rounds.max(1) as f64;
    let predicted_mean = servers.map(|c| mean_from_empty(clients, service, c, per_round));
    Some(ClosedLoop {
        clients: clients.get(),
        servers: servers.map(NonZeroU32::get),
        service_mean_ns: service,
        response_mean_ns: response,
        response_p50_ns: p50,
        predicted_ns: predicted,
        p50_residual: p50.zip(predicted).map(|(p50, r)| p50.0 as f64 / r.0.max(1) as f64 - 1.0),
        predicted_mean_ns: predicted_mean,
        mean_residual: predicted_mean.map(|r| response.0 as f64 / r.0.max(1) as f64 - 1.0),
        effective_parallelism: effective_parallelism(clients, service, response),
    })
}

/// The first N of n requests find a queue that is still filling: they wait (N−c)·S/2c less than the others, on average.
pub(super) fn mean_from_empty(clients: NonZeroU32, service: Nanos, servers: NonZeroU32, n: f64) -> Nanos {
    let (clients_n, c, s) = (f64::from(clients.get()), f64::from(servers.get()), service.0 as f64);
    let steady = closed_response(clients, service, servers).0 as f64;
    let first_wave = (clients_n / n.max(clients_n)) * (clients_n - c).max(0.0) * s / (2.0 * c);
    Nanos((steady - first_wave).round() as u64)
}

/// How many requests our stub works on at once: its threads, and for work that burns processor time no more than it has
/// processors.
pub(super) fn servers(plan: &Plan) -> Option<NonZeroU32> {
    let Server::Stub(stub) = &plan.target.server else { return None };
    let threads = match stub.model.as_str() {
        "single" => 1,
        "threads" => plan.connections,
        _ => stub.workers,
    };
    let limit = if stub.work == "spin" { (stub.cpus.len() as u32).max(1) } else { u32::MAX };
    NonZeroU32::new(threads.min(limit))
}
