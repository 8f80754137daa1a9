//! Theory beside measurement: the model whose assumptions hold, what it predicts, and the ideal path of this very run.
//!
//! Three things stand side by side: what was measured; what a closed form says of the long run; and what a server that
//! does nothing but queue and serve would have given to these arrivals with these service times (`queueing::pathwise`),
//! which has no sampling error. Measured less ideal is the implementation's share. No figure here convicts anybody.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::attribution::servers;
use super::queueing::{ClosedNetwork, Deterministic, Markov, general, pathwise, population};
use super::stats::Percentile;
use super::summary::{Figures, TABLED};
use crate::facts::Round;
use crate::load::schedule::{Load, Rate};
use crate::load::time::Nanos;
use crate::plan::{Plan, Server, Stub};
use crate::record::{Step, Tally};

/// Service times that vary less (σ/mean) count as constant.
const CONSTANT_BELOW: f64 = 0.05;
/// Exponential ones have σ/mean within this of 1, and median/mean within it of ln 2.
const EXPONENTIAL_WITHIN: f64 = 0.1;
/// More requests than this share without a service time, and the path is not that of the run.
const MISSING_MAX: f64 = 0.001;

/// Prediction, measurement, ideal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Theory {
    /// How requests arrived.
    pub arrivals: Arrivals,
    /// c: how many the server works on at once.
    pub servers: Option<u32>,
    /// S: mean service time, by the server's own account (the demand, where processors were shared).
    pub service_mean_ns: Option<Nanos>,
    /// Standard deviation over mean.
    pub service_variation: Option<f64>,
    /// ρ = λS/c.
    pub utilisation: Option<f64>,
    /// What was measured: response times of the successful.
    pub measured: Levels,
    /// What the models whose assumptions hold predict.
    pub models: Vec<Prediction>,
    /// The ideal of this run.
    pub pathwise: Option<Pathwise>,
    /// Why something is not here.
    pub not_evaluated: Vec<String>,
}

/// How requests arrive, as far as a model asks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "process")]
pub enum Arrivals {
    /// Each client sends when its answer has come and its think time is over.
    Closed {
        /// N.
        clients: u32,
        /// Z.
        think_ns: Nanos,
    },
    /// At even distances.
    Constant {
        /// λ.
        per_s: f64,
    },
    /// By chance, at a constant rate.
    Poisson {
        /// λ.
        per_s: f64,
    },
    /// Something that no model here is of.
    Other,
}

/// Mean and percentiles of a response time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// Mean.
    pub mean: Option<Nanos>,
    /// Percentile.
    pub p50: Option<Nanos>,
    /// Percentile.
    pub p90: Option<Nanos>,
    /// Percentile.
    pub p95: Option<Nanos>,
    /// Percentile.
    pub p99: Option<Nanos>,
    /// p99.9.
    pub p999: Option<Nanos>,
}

/// In what order requests are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discipline {
    /// First come first served.
    Fifo,
    /// All at once, each with its share of the processors.
    Sharing,
}

/// How far a prediction goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// Given the assumptions.
    Exact,
    /// A known approximation.
    Approximate,
    /// The mean cannot be less.
    LowerBound,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// `M/D/1`, …
    pub model: String,
    /// In what order.
    pub discipline: Discipline,
    /// How good it is.
    pub strength: Strength,
    /// What it says; null where it says nothing.
    pub predicted: Levels,
    /// Measured over predicted, less one, in the order mean, p50, p90, p95, p99, p99.9.
    pub residual: [Option<f64>; 6],
}

/// The ideal path of this run. Times of the requests that the path has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pathwise {
    /// Measured requests in it.
    pub requests: u64,
    /// Requests that the server gave no service time for.
    pub missing: u64,
    /// The path is the beginning of the run only.
    pub cut: bool,
    /// Measured.
    pub measured: Levels,
    /// Ideal, first come first served.
    pub fifo: Levels,
    /// Ideal, with shared processors; where the server can share them.
    pub sharing: Option<Levels>,
    /// Which of the two the measurement is closer to.
    pub closer: Discipline,
    /// The implementation's tail: measured less the closer ideal, level by level as in `residual`, ns.
    pub beyond_ns: [Option<i64>; 6],
    /// The same request by request: its p50, p99 and greatest, ns.
    pub beyond_each_ns: [i64; 3],
}

impl Arrivals {
    /// Those of a plan. The one place that knows the kinds of load.
    pub fn of(plan: &Plan) -> Self {
        let per_s = |rate: Rate| rate.milli_per_s as f64 / 1e3;
        match plan.load {
            Load::Closed { think } => Self::Closed { clients: plan.connections, think_ns: think },
            Load::Constant { rate } => Self::Constant { per_s: per_s(rate) },
            Load::Poisson { rate } => Self::Poisson { per_s: per_s(rate) },
            Load::Users { .. } | Load::Stages { .. } | Load::Replay { .. } => Self::Other,
        }
    }

    fn per_s(self) -> Option<f64> {
        match self {
            Self::Constant { per_s } | Self::Poisson { per_s } => Some(per_s),
            Self::Closed { .. } | Self::Other => None,
        }
    }
}

impl Levels {
    /// In the order mean, p50, p90, p95, p99, p99.9.
    pub fn array(&self) -> [Option<Nanos>; 6] {
        [self.mean, self.p50, self.p90, self.p95, self.p99, self.p999]
    }

    fn from_array([mean, p50, p90, p95, p99, p999]: [Option<Nanos>; 6]) -> Self {
        Self { mean, p50, p90, p95, p99, p999 }
    }

    fn mean_only(mean: f64) -> Self {
        Self { mean: Some(rounded(mean)), ..Self::default() }
    }

    /// The same time at every level.
    fn constant(time: Nanos) -> Self {
        Self::from_array([Some(time); 6])
    }

    fn of_figures(figures: &Figures) -> Self {
        let Figures { mean, p50, p90, p95, p99, p999, .. } = *figures;
        Self { mean, p50, p90, p95, p99, p999 }
    }

    /// From a mean and the time that a share of the requests exceeds.
    fn of_tail(mean: f64, exceeded_by: impl Fn(f64) -> f64) -> Self {
        let at = |share| Some(rounded(exceeded_by(share)));
        Self::from_array([Some(rounded(mean)), at(0.5), at(0.1), at(0.05), at(0.01), at(0.001)])
    }

    /// Nearest rank, of response times in any order.
    pub fn of_times(mut times: Vec<Nanos>) -> Self {
        times.sort_unstable();
        let n = times.len() as u64;
        let sum: u128 = times.iter().map(|time| u128::from(time.0)).sum();
        let mean = (n > 0).then(|| Nanos((sum / u128::from(n.max(1))) as u64));
        let at = |p: Percentile| times.get(p.rank(n) as usize - 1).copied();
        let [p50, p90, p95, p99, p999] = TABLED.map(|(_, p)| at(p));
        Self { mean, p50, p90, p95, p99, p999 }
    }

    /// Sum of |ln(self/other)| over the percentiles.
    fn distance(&self, other: &Self) -> f64 {
        let logs = self.array().into_iter().zip(other.array()).skip(1).map(|pair| match pair {
            (Some(a), Some(b)) => (a.0.max(1) as f64 / b.0.max(1) as f64).ln().abs(),
            _ => 0.0,
        });
        logs.sum()
    }
}

/// What is known of the server.
#[derive(Debug, Clone, Copy)]
struct Station {
    servers: NonZeroU32,
    /// ns.
    service: f64,
    variation: f64,
    exponential: bool,
    /// Its threads are more than its processors, which they share.
    shares: bool,
}

/// Of one target; `tally` is all rounds together.
pub fn theory(plan: &Plan, rounds: &[Round], tally: &Tally) -> Theory {
    let arrivals = Arrivals::of(plan);
    let measured = Levels::of_figures(&Figures::of(&tally.response_ok));
    let mut theory = Theory {
        arrivals,
        servers: servers(plan).map(NonZeroU32::get),
        service_mean_ns: tally.server_service.mean(),
        service_variation: None,
        utilisation: None,
        measured,
        models: Vec::new(),
        pathwise: None,
        not_evaluated: Vec::new(),
    };
    let station = match station(plan, tally) {
        Ok(station) => station,
        Err(why) => {
            theory.not_evaluated.push(why.to_owned());
            return theory;
        }
    };
    theory.service_mean_ns = Some(rounded(station.service));
    theory.service_variation = Some(station.variation);
    let offered = arrivals.per_s().map(|rate| rate * station.service / 1e9);
    theory.utilisation = offered.map(|a| a / f64::from(station.servers.get()));
    match predictions(arrivals, &station) {
        Ok(models) => {
            theory.models = models
                .into_iter()
                .map(|(model, discipline, strength, predicted)| {
                    let residual = residual(&theory.measured, &predicted);
                    Prediction { model, discipline, strength, predicted, residual }
                })
                .collect();
        }
        Err(why) => theory.not_evaluated.push(why.to_owned()),
    }
    if plan.client.probe.is_some() {
        theory.not_evaluated.push("the ideal path: what the probe sent stood in the same queue".to_owned());
    } else if !matches!(arrivals, Arrivals::Closed { .. }) {
        match pathwise(rounds, &station) {
            Ok(path) => theory.pathwise = Some(path),
            Err(why) => theory.not_evaluated.push(why),
        }
    }
    theory
}

/// Requests per second that the server can do by its own service times, c/S; or why that is not known.
pub(super) fn capacity_per_s(plan: &Plan, tally: &Tally) -> Result<f64, &'static str> {
    let station = station(plan, tally)?;
    let own_thread = matches!(&plan.target.server, Server::Stub(stub) if stub.model == "threads");
    if own_thread && station.servers.get() == plan.connections {
        return Err("it has a thread for each connection: the load bounds it, not the server");
    }
    Ok(f64::from(station.servers.get()) * 1e9 / station.service)
}

/// The server as a station of servers behind one queue, or why it is none.
fn station(plan: &Plan, tally: &Tally) -> Result<Station, &'static str> {
    let Some(servers) = servers(plan) else {
        return Err("how many requests this server works on at once is not known");
    };
    let Server::Stub(stub) = &plan.target.server else { unreachable!("known of a stub only") };
    if stub.model == "per-core" && stub.workers > 1 {
        return Err("per-core: each loop has a queue of its own, and no model here is of several queues");
    }
    let service = &tally.server_service;
    let (Some(mean), Some(median)) = (service.mean(), service.at_rank(Percentile::P50.rank(service.count())))
    else {
        return Err("the server said nothing of its service times (Server-Timing)");
    };
    let threads = if stub.model == "threads" { plan.connections } else { stub.workers };
    let shares = stub.work == "spin" && stub.model != "single" && threads as usize > stub.cpus.len().max(1);
    if shares {
        // What a shared processor took is no longer what the work needs.
        let demand = fixed_demand(stub).ok_or(
            "threads share processors, and what each request needs of one is known for fixed:… only",
        )?;
        let service = demand.0 as f64;
        return Ok(Station { servers, service, variation: 0.0, exponential: false, shares });
    }
    let mean = mean.0.max(1) as f64;
    let variation = service.histogram().stdev() / mean;
    let median_share = median.0 as f64 / mean;
    let exponential = (variation - 1.0).abs() < EXPONENTIAL_WITHIN
        && (median_share - std::f64::consts::LN_2).abs() < EXPONENTIAL_WITHIN;
    Ok(Station { servers, service: mean, variation, exponential, shares })
}

/// `fixed:2ms` is 2 ms.
fn fixed_demand(stub: &Stub) -> Option<Nanos> {
    stub.service.strip_prefix("fixed:")?.trim().parse().ok().filter(|&demand| demand > Nanos::ZERO)
}

type Predicted = (String, Discipline, Strength, Levels);

fn predictions(arrivals: Arrivals, station: &Station) -> Result<Vec<Predicted>, &'static str> {
    let offered = arrivals.per_s().map(|rate| rate * station.service / 1e9);
    if offered.is_some_and(|a| a >= f64::from(station.servers.get())) {
        return Err(
            "more is offered than the servers can do: the queue grows without end, and no model has a steady state",
        );
    }
    match (arrivals, offered) {
        (Arrivals::Closed { clients, think_ns }, _) => closed(clients, think_ns, station),
        (Arrivals::Poisson { .. }, Some(offered)) => Ok(poisson(offered, station)
            .ok_or("too close to saturation, or too many servers, for a closed form")?),
        // at most c are there at once, so each has a server, or a processor, of its own
        (Arrivals::Constant { .. }, _) if station.variation < CONSTANT_BELOW => {
            let model = format!("D/D/{}", station.servers);
            Ok(vec![(model, Discipline::Fifo, Strength::Exact, Levels::constant(rounded(station.service)))])
        }
        (Arrivals::Constant { .. }, _) => {
            Err("even arrivals and service times that vary: no closed form; see the ideal path")
        }
        _ => Err("no closed form for these arrivals; see the ideal path"),
    }
}

fn poisson(offered: f64, station: &Station) -> Option<Vec<Predicted>> {
    let Station { servers, service, variation, exponential, shares } = *station;
    let c = servers.get();
    let mut models = Vec::new();
    if variation < CONSTANT_BELOW {
        let queue = Deterministic::new(c, offered, service)?;
        let levels = Levels::of_tail(queue.response_mean(), |above| queue.response_quantile(above));
        models.push((format!("M/D/{c}"), Discipline::Fifo, Strength::Exact, levels));
    } else if exponential {
        let queue = Markov::new(c, offered, service)?;
        let levels = Levels::of_tail(queue.response_mean(), |above| queue.response_quantile(above));
        models.push((format!("M/M/{c}"), Discipline::Fifo, Strength::Exact, levels));
    } else {
        let strength = if c == 1 { Strength::Exact } else { Strength::Approximate };
        let wait = general::wait_mean_pool(c, offered, service, variation)?;
        models.push((format!("M/G/{c}"), Discipline::Fifo, strength, Levels::mean_only(service + wait)));
    }
    if shares {
        let mean = general::response_mean_sharing(c, offered, service)?;
        models.push((format!("M/G/{c}-PS"), Discipline::Sharing, Strength::Exact, Levels::mean_only(mean)));
    }
    Some(models)
}

fn closed(clients: u32, think: Nanos, station: &Station) -> Result<Vec<Predicted>, &'static str> {
    let clients = NonZeroU32::new(clients).ok_or("no clients")?;
    let Station { servers, service, variation, exponential, shares } = *station;
    let network = ClosedNetwork { clients, servers, service_mean: rounded(service), think_mean: think };
    let bound = network.response_mean_at_least();
    if think == Nanos::ZERO {
        // Every server is busy always, in whatever order: the mean is exact for any service times.
        let even = variation < CONSTANT_BELOW
            && !shares
            && (clients.get() <= servers.get() || clients.get().is_multiple_of(servers.get()));
        let levels = if even { Levels::constant(bound) } else { Levels::mean_only(bound.0 as f64) };
        let discipline = if shares { Discipline::Sharing } else { Discipline::Fifo };
        return Ok(vec![("N·S/c".to_owned(), discipline, Strength::Exact, levels)]);
    }
    let found = exponential
        .then(|| population::machine_repair(servers.get(), clients.get(), service, think.0 as f64));
    if let Some(found) = found.flatten() {
        let model = format!("M/M/{servers}//{clients}");
        return Ok(vec![(model, Discipline::Fifo, Strength::Exact, Levels::mean_only(found.response_mean))]);
    }
    let levels = Levels { mean: Some(bound), ..Levels::default() };
    Ok(vec![("max(S, N·S/c − Z)".to_owned(), Discipline::Fifo, Strength::LowerBound, levels)])
}

/// Measured over predicted, less one.
fn residual(measured: &Levels, predicted: &Levels) -> [Option<f64>; 6] {
    let (measured, predicted) = (measured.array(), predicted.array());
    std::array::from_fn(|i| Some(measured[i]?.0 as f64 / predicted[i]?.0.max(1) as f64 - 1.0))
}

/// The ideal of every measured request, round by round, then all rounds together.
fn pathwise(rounds: &[Round], station: &Station) -> Result<Pathwise, String> {
    let (mut measured, mut fifo, mut sharing) = (Vec::new(), Vec::new(), Vec::new());
    let (mut missing, mut cut) = (0, false);
    for round in rounds {
        let path = &round.recorded.path;
        missing += path.missing();
        cut |= path.is_cut();
        let first = round.recorded.measured.first_intended.unwrap_or(Nanos::MAX);
        let warmup = path.steps().partition_point(|step| step.intended < first);
        measured.extend(path.steps()[warmup..].iter().map(|step| step.response));
        let ideal = ideal(path.steps(), station, pathwise::fifo);
        fifo.extend_from_slice(&ideal[warmup..]);
        if station.shares {
            let ideal = self::ideal(path.steps(), station, pathwise::sharing);
            sharing.extend_from_slice(&ideal[warmup..]);
        }
    }
    if measured.is_empty() {
        return Err("the ideal path: the server said nothing of its service times".to_owned());
    }
    if missing as f64 > MISSING_MAX * (measured.len() as u64 + missing) as f64 {
        return Err(format!(
            "the ideal path: {missing} requests have no service time, which is more than 0.1 %"
        ));
    }
    let levels = |times: &[Nanos]| Levels::of_times(times.to_vec());
    let (fifo_levels, measured_levels) = (levels(&fifo), levels(&measured));
    let sharing_levels = station.shares.then(|| levels(&sharing));
    let shared = sharing_levels
        .as_ref()
        .is_some_and(|shared| measured_levels.distance(shared) < measured_levels.distance(&fifo_levels));
    let (closer, ideal, ideal_levels) = match &sharing_levels {
        Some(levels) if shared => (Discipline::Sharing, &sharing, levels),
        _ => (Discipline::Fifo, &fifo, &fifo_levels),
    };
    let mut each: Vec<i64> = measured.iter().zip(ideal).map(|(m, i)| m.0 as i64 - i.0 as i64).collect();
    each.sort_unstable();
    let n = each.len() as u64;
    let at = |p: Percentile| each[p.rank(n) as usize - 1];
    let (m, i) = (measured_levels.array(), ideal_levels.array());
    Ok(Pathwise {
        requests: n,
        missing,
        cut,
        beyond_ns: std::array::from_fn(|level| Some(m[level]?.0 as i64 - i[level]?.0 as i64)),
        beyond_each_ns: [at(Percentile::P50), at(Percentile::P99), each[each.len() - 1]],
        closer,
        measured: measured_levels,
        fifo: fifo_levels,
        sharing: sharing_levels,
    })
}

/// Warm-up included: the first measured request finds its queue.
fn ideal(
    steps: &[Step],
    station: &Station,
    serve: fn(&[Nanos], &[Nanos], NonZeroU32) -> Vec<Nanos>,
) -> Vec<Nanos> {
    let arrivals: Vec<Nanos> = steps.iter().map(|step| step.intended).collect();
    let demand = rounded(station.service);
    let service: Vec<Nanos> =
        steps.iter().map(|step| if station.shares { demand } else { step.service }).collect();
    serve(&arrivals, &service, station.servers)
}

fn rounded(ns: f64) -> Nanos {
    Nanos(ns.round() as u64)
}

#[cfg(test)]
mod tests;
