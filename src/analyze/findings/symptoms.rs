//! All figures that the rules look at, from what a run left behind. What could not be seen is `None`, never zero.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::concurrency::Concurrency;
use super::machine::ServerSide;
use super::stalls::{self, Heard, Stalls};
use super::timers::Lost;
use super::uncertainty::{self, LeftOut};
use crate::analyze::attribution::{self, Evidence, Split};
use crate::analyze::queueing::{closed_response, pathwise};
use crate::analyze::stats::Percentile;
use crate::analyze::validity::{Check, Validity};
use crate::facts::Round;
use crate::facts::system::SystemFigures;
use crate::load::schedule::Load;
use crate::load::time::Nanos;
use crate::plan::Plan;
use crate::record::{Distribution, Passage, Tally};

/// Where the figures come from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// What was asked for.
    pub plan: &'a Plan,
    /// What each round left behind.
    pub rounds: &'a [Round],
    /// All rounds together.
    pub tally: &'a Tally,
    /// Where the time went.
    pub evidence: &'a Evidence,
    /// What the instrument says of itself.
    pub validity: &'a Validity,
    /// What the system monitor saw; `None` where it was off.
    pub system: Option<&'a BTreeMap<String, SystemFigures>>,
}

/// The latency of the slow requests against an unloaded server, in mean parts over those at and above p95.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Excess {
    /// The shortest service time and the shortest time beside it that were seen; with all of its processors in use, no
    /// more than a request takes of them.
    pub unloaded_ns: Nanos,
    /// Mean response time of the requests at and above p95.
    pub response_ns: Nanos,
    /// Its difference to the unloaded.
    pub excess_ns: Nanos,
    /// Of the excess: in the server's queue; null where the server gives no account.
    pub queue_ns: Option<Nanos>,
    /// Of the excess: service beyond the shortest.
    pub service_ns: Option<Nanos>,
    /// Of the excess: waiting for a connection.
    pub conn_wait_ns: Nanos,
    /// Of the excess: all else beyond the shortest.
    pub beside_ns: Nanos,
}

impl Excess {
    /// A quarter more than unloaded, and more than the network's noise.
    pub fn is_slow(&self) -> bool {
        self.excess_ns.0 * 4 >= self.unloaded_ns.0 && self.excess_ns >= Nanos::from_micros(100)
    }

    /// The share of the excess that a time is.
    pub fn share(&self, time: Nanos) -> f64 {
        time.0 as f64 / self.excess_ns.0.max(1) as f64
    }

    /// Waiting for the server: for a connection, and in its queue.
    pub fn waiting(&self) -> Nanos {
        self.queue_ns.unwrap_or_default() + self.conn_wait_ns
    }

    /// The part that takes most of it, and its share.
    pub fn largest(&self) -> (&'static str, f64) {
        let known = Option::unwrap_or_default;
        let parts = [
            ("the server's queue", known(self.queue_ns)),
            ("longer service", known(self.service_ns)),
            ("waiting for a connection", self.conn_wait_ns),
            ("the network, the server's reading and writing, or the client", self.beside_ns),
        ];
        let (name, time) = parts.into_iter().max_by_key(|part| part.1).expect("there are four");
        (name, self.share(time))
    }
}

/// Charges against ourselves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Client {
    /// The heaviest: which check of the validity, its figure, its unit, and the limit from which it is guilty.
    pub charge: Option<(String, f64, String, f64)>,
}

impl Client {
    /// From here on nothing is said about the server.
    pub fn is_guilty(&self) -> bool {
        self.weight().is_some_and(|weight| weight >= 1.0)
    }

    /// The figure over its limit.
    pub fn weight(&self) -> Option<f64> {
        self.charge.as_ref().map(|(_, figure, _, limit)| figure / limit)
    }
}

/// Answers that refuse.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Refusals {
    /// Share of the scheduled that got 429.
    pub too_many: f64,
    /// Share of the scheduled that got 503.
    pub unavailable: f64,
    /// Share of the scheduled that were not successful.
    pub unsuccessful: f64,
    /// How many those are.
    pub requests: u64,
    /// Median response of the 429s over that of the successful.
    pub too_many_speed: Option<f64>,
    /// The same for 503.
    pub unavailable_speed: Option<f64>,
}

/// Everything the rules look at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Symptoms {
    /// Charges against the client.
    pub client: Client,
    /// What there is to explain.
    pub excess: Option<Excess>,
    /// Clients of a closed loop without think time.
    pub clients: Option<u32>,
    /// Completed requests per second of load.
    pub throughput: Option<f64>,
    /// Mean response of the successful, ns.
    pub response: Option<f64>,
    /// Mean service time, by the server's account, ns.
    pub service: Option<f64>,
    /// The typical service time over the shortest.
    pub service_growth: Option<f64>,
    /// The longest queue time, ns.
    pub queue_max: Option<f64>,
    /// Requests at work while others wait.
    pub concurrency: Option<Concurrency>,
    /// The queueing model with that many servers: |measured/predicted − 1| of the mean time in queue and service.
    pub model: Option<f64>,
    /// The closed loop of one or more processors, by the processor time of a request: |measured/predicted − 1|.
    pub cpu_model: Option<f64>,
    /// What there is to explain without each stretch of the run in turn; empty where too little was kept.
    pub left_out: Vec<LeftOut>,
    /// Stalls; `None` where too little was kept.
    pub stalls: Option<Stalls>,
    /// The machine's side.
    pub server: ServerSide,
    /// Refused requests.
    pub refusals: Refusals,
    /// Connects by completed request.
    pub fresh: Option<f64>,
    /// Mean wait for a connection as a share of the mean response.
    pub connect_share: Option<f64>,
    /// Share of requests that took 36–46 ms beside the server's account, of all and of those beyond 20 ms.
    pub ack_delayed: Option<(f64, f64)>,
    /// Times at which TCP sends again what was lost.
    pub lost: Option<Lost>,
}

impl Symptoms {
    /// Gathers them.
    pub fn of(sources: Sources<'_>) -> Self {
        let Sources { plan, rounds, tally, evidence, validity, .. } = sources;
        let kept: Vec<Vec<Passage>> =
            rounds.iter().map(|round| round.recorded.passages.blocks().concat()).collect();
        let server = ServerSide::of(sources);
        let concurrency = Concurrency::of(&kept);
        let shortest = Shortest::of(&kept, &server);
        let completed = tally.completed + rounds.iter().map(|r| r.recorded.warmup.completed).sum::<u64>();
        let connects: u64 = rounds.iter().flat_map(|r| &r.threads).map(|t| t.counts.driver.connects).sum();
        let clients = (plan.load == (Load::Closed { think: Nanos::ZERO })).then_some(plan.connections);
        let mean = |d: &Distribution| d.mean().map(|mean| mean.0 as f64);
        let response = mean(&tally.response_ok);
        Self {
            client: charges(&validity.checks),
            excess: evidence.tail.as_ref().and_then(|tail| excess(tail, &shortest)),
            clients,
            throughput: (tally.elapsed > Nanos::ZERO)
                .then(|| tally.completed as f64 / tally.elapsed.as_secs()),
            response,
            service: mean(&tally.server_service),
            service_growth: shortest.service.and_then(|least| {
                let median = at(&tally.server_service, Percentile::P50)?;
                Some(median.0 as f64 / least.max(1.0))
            }),
            queue_max: tally.server_queue.max().map(|max| max.0 as f64),
            model: concurrency.and_then(|seen| model(sources, seen.at_work?)),
            concurrency,
            cpu_model: cpu_model(clients, response, &server),
            left_out: left_out(rounds, &kept, tally, &shortest),
            stalls: stalls(rounds, &kept, tally),
            server,
            refusals: refusals(tally),
            fresh: (completed > 0).then(|| connects as f64 / completed as f64),
            connect_share: mean(&tally.conn_wait)
                .zip(response)
                .map(|(wait, response)| wait / response.max(1.0)),
            ack_delayed: ack_delayed(&kept, &shortest),
            lost: Lost::of(tally),
        }
    }
}

fn at(distribution: &Distribution, p: Percentile) -> Option<Nanos> {
    distribution.at_rank(p.rank(distribution.count()))
}

/// Checks of the validity that can slow the load or its figures down, and from where on the client is guilty of it where
/// the check itself does not convict.
const CHARGES: [(&str, Option<f64>); 11] = [
    ("disturbance-p50", None),
    ("disturbance-p95", None),
    ("disturbance-p99", None),
    ("stalls", None),
    ("run-delay", None),
    ("wake-delay", None),
    ("steal", None),
    ("local-resource", None),
    ("own-backlog", None),
    ("busy", Some(95.0)),
    ("loop-loss", Some(5.0)),
];

fn charges(checks: &[Check]) -> Client {
    let charge = |check: &Check| {
        let (_, limit) = CHARGES.iter().find(|(rule, _)| check.rule == *rule)?;
        let limit = limit.or(check.invalid_above)?;
        Some((check.rule.clone(), check.figure?, check.unit.clone(), limit))
    };
    let heaviest = checks.iter().filter_map(charge).max_by(|a, b| (a.1 / a.3).total_cmp(&(b.1 / b.3)));
    Client { charge: heaviest }
}

/// The shortest times seen, ns.
pub(super) struct Shortest {
    pub(super) service: Option<f64>,
    pub(super) beside: f64,
}

impl Shortest {
    /// Where all processors of the server are in use, service times are stretched by it; what a request takes of a
    /// processor is not.
    fn of(kept: &[Vec<Passage>], server: &ServerSide) -> Self {
        let all = || kept.iter().flatten();
        let least = |values: &mut dyn Iterator<Item = f64>| values.reduce(f64::min);
        let saturated = server.cpu.is_some_and(|cpu| cpu >= 90.0) || server.busiest >= Some(90.0);
        let demand = server.cpu_per_request.filter(|_| saturated).unwrap_or(f64::INFINITY);
        let service = least(&mut all().filter_map(|p| Some(p.server?.service.0 as f64)));
        let beside = least(&mut all().filter_map(beside)).unwrap_or(0.0);
        // what holds every request back is in the shortest too
        let held_back = server.flow_wait.filter(|_| server.flow_limited >= Some(FLOW_LIMITED)).unwrap_or(0.0);
        let beside = (beside - held_back).max(0.0);
        match service {
            Some(service) => Self { service: Some(service.min(demand)), beside },
            None => Self { service: None, beside: beside.min(demand) },
        }
    }
}

/// Bytes are held back for so much of the time in which there is something to send.
pub(super) const FLOW_LIMITED: f64 = 0.1;

/// done − issued without the server's account.
fn beside(passage: &Passage) -> Option<f64> {
    let sent = passage.issued.saturating_sub(passage.intended);
    let whole = passage.response?.saturating_sub(sent);
    let server = passage.server.map_or(Nanos::ZERO, |server| server.queue + server.service);
    Some(whole.saturating_sub(server).0 as f64)
}

fn excess(tail: &Split, shortest: &Shortest) -> Option<Excess> {
    let timed = tail.timed == tail.requests;
    let service_least = shortest.service.filter(|_| timed).unwrap_or(0.0);
    let unloaded = Nanos((service_least + shortest.beside) as u64);
    let beyond = |time: Nanos, least: f64| Nanos((time.0 as f64 - least).max(0.0) as u64);
    Some(Excess {
        unloaded_ns: unloaded,
        response_ns: tail.response_ns,
        excess_ns: tail.response_ns.saturating_sub(unloaded),
        queue_ns: tail.queue_ns.filter(|_| timed),
        service_ns: tail.service_ns.filter(|_| timed).map(|service| beyond(service, service_least)),
        conn_wait_ns: tail.conn_wait_ns,
        beside_ns: beyond(
            tail.beside_the_server()
                + if timed {
                    Nanos::ZERO
                } else {
                    tail.queue_ns.unwrap_or_default() + tail.service_ns.unwrap_or_default()
                },
            shortest.beside,
        ),
    })
}

fn stalls(rounds: &[Round], kept: &[Vec<Passage>], tally: &Tally) -> Option<Stalls> {
    let typical = at(&tally.service, Percentile::P50)?;
    let slow = at(&tally.response_ok, Percentile::P95)?;
    Some(Stalls::of(&heard(rounds, kept), typical, slow))
}

fn heard<'a>(rounds: &'a [Round], kept: &'a [Vec<Passage>]) -> Vec<Heard<'a>> {
    let rounds = rounds.iter().zip(kept);
    rounds.map(|(round, passages)| Heard { silences: round.recorded.silences.kept(), passages }).collect()
}

fn left_out(rounds: &[Round], kept: &[Vec<Passage>], tally: &Tally, shortest: &Shortest) -> Vec<LeftOut> {
    let Some(typical) = at(&tally.service, Percentile::P50) else { return Vec::new() };
    let Some(slow) = at(&tally.response_ok, Percentile::P95) else { return Vec::new() };
    let stalled = stalls::stalled(&heard(rounds, kept), typical, slow);
    uncertainty::leave_out(kept, &stalled, slow, shortest)
}

fn refusals(tally: &Tally) -> Refusals {
    let scheduled = tally.scheduled.max(1) as f64;
    let count = |status: &str| {
        let of = tally.outcomes.iter().filter(|(key, _)| key.outcome == status);
        of.map(|(_, n)| *n).sum::<u64>() as f64 / scheduled
    };
    let speed = |status: u16| {
        let refused = at(tally.by_status.get(&status)?, Percentile::P50)?;
        let served = at(&tally.response_ok, Percentile::P50)?;
        Some(refused.0 as f64 / served.0.max(1) as f64)
    };
    Refusals {
        too_many: count("429"),
        unavailable: count("503"),
        unsuccessful: (tally.scheduled - tally.successful) as f64 / scheduled,
        requests: tally.scheduled - tally.successful,
        too_many_speed: speed(429),
        unavailable_speed: speed(503),
    }
}

/// The mean time in queue and service that `servers` servers would have given, against the measured.
fn model(sources: Sources<'_>, at_work: f64) -> Option<f64> {
    let Sources { plan, rounds, tally, .. } = sources;
    let servers = NonZeroU32::new(at_work.round() as u32)?;
    let (queue, service) = (tally.server_queue.mean()?, tally.server_service.mean()?);
    let off = |measured: f64, predicted: f64| (measured / predicted.max(1.0) - 1.0).abs();
    if plan.load == (Load::Closed { think: Nanos::ZERO }) {
        let clients = NonZeroU32::new(plan.connections)?;
        let requests = tally.response_ok.count() as f64 / rounds.len().max(1) as f64;
        let empty = attribution::mean_from_empty(clients, service, servers, requests);
        let steady = closed_response(clients, service, servers);
        let measured = (queue + service).0 as f64;
        // a warm-up fills the queue before the first request that counts
        return Some(off(measured, empty.0 as f64).min(off(measured, steady.0 as f64)));
    }
    let (mut measured, mut ideal, mut n) = (0.0, 0.0, 0.0);
    for round in rounds {
        let steps = round.recorded.path.steps();
        let arrivals: Vec<Nanos> = steps.iter().map(|step| step.intended).collect();
        let services: Vec<Nanos> = steps.iter().map(|step| step.service).collect();
        measured += steps.iter().map(|step| step.response.0 as f64).sum::<f64>();
        ideal += pathwise::fifo(&arrivals, &services, servers).iter().map(|r| r.0 as f64).sum::<f64>();
        n += steps.len() as f64;
    }
    let missing: u64 = rounds.iter().map(|round| round.recorded.path.missing()).sum();
    let beside = sources.evidence.median.map_or(0.0, |split| split.beside_the_server().0 as f64);
    (n > 0.0 && (missing as f64) < 0.01 * n).then(|| off(measured / n - beside, ideal / n))
}

/// R = N·D/c: all processors in use always, D of them taken by each request.
fn cpu_model(clients: Option<u32>, response: Option<f64>, server: &ServerSide) -> Option<f64> {
    let predicted = f64::from(clients?) * server.cpu_per_request? / server.cores?;
    Some((response? / predicted.max(1.0) - 1.0).abs())
}

/// A receiver that delays its acknowledgement keeps a sender with Nagle's algorithm waiting for 40 ms.
fn ack_delayed(kept: &[Vec<Passage>], shortest: &Shortest) -> Option<(f64, f64)> {
    const WINDOW: std::ops::Range<f64> = 36e6..46e6;
    const LATE: f64 = 20e6;
    let least = if WINDOW.contains(&shortest.beside) { 0.0 } else { shortest.beside };
    let beyond: Vec<f64> =
        kept.iter().flatten().filter_map(|passage| Some(beside(passage)? - least)).collect();
    let share = |n: usize, of: usize| n as f64 / of.max(1) as f64;
    let late = beyond.iter().filter(|time| **time >= LATE).count();
    let within = beyond.iter().filter(|time| WINDOW.contains(*time)).count();
    (!beyond.is_empty()).then(|| (share(within, beyond.len()), share(within, late)))
}
