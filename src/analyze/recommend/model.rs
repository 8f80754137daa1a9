//! The server as a station of workers or processors behind one queue, and what this very run would be on one of another size.

use std::num::NonZeroU32;

use super::Goal;
use crate::analyze::findings::{Sources, Symptoms};
use crate::analyze::queueing::{Deterministic, Markov, closed_fifo, pathwise};
use crate::analyze::special::t_quantile;
use crate::analyze::stats::Percentile;
use crate::load::time::Nanos;

/// Beyond this nobody is advised to go.
const SERVERS_MAX: u32 = 256;
/// Without a limit of the gate: the mean wait is at most this share of the service time.
const HARDLY_WAITING: f64 = 0.1;
/// Consecutive parts of the predicted run, for its interval.
const PARTS: usize = 10;
/// The beginning of a longer run will do.
const REQUESTS_MAX: usize = 20_000;
/// Service times that vary less (σ/mean) count as constant.
const CONSTANT_BELOW: f64 = 0.1;

/// What there would be more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Workers,
    Processors,
}

impl Unit {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Workers => "workers",
            Self::Processors => "processors",
        }
    }
}

/// A predicted percentile with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Predicted {
    pub(super) value: Nanos,
    pub(super) low: Nanos,
    pub(super) high: Nanos,
}

/// The server, and what it was asked to do.
#[derive(Debug, Clone)]
pub(super) struct Station {
    pub(super) unit: Unit,
    /// How many there are.
    pub(super) now: u32,
    /// When requests came, by round; empty in a closed loop.
    arrivals: Vec<Vec<Nanos>>,
    /// How long each takes, by round.
    services: Vec<Vec<Nanos>>,
    /// Clients of a closed loop.
    clients: Option<NonZeroU32>,
    /// Outside of queue and service.
    beside: Nanos,
    /// How far the model with `now` was off this run, as a share.
    off: f64,
    /// A worker computes, so it needs a processor.
    computes: bool,
}

impl Station {
    /// Requests at work while others waited, and the service times by the server's account.
    pub(super) fn of_workers(sources: Sources<'_>, symptoms: &Symptoms) -> Option<Self> {
        let now = symptoms.concurrency?.at_work?.round() as u32;
        let clients = symptoms.clients.and_then(NonZeroU32::new);
        let rounds = sources.rounds;
        let (arrivals, services) = if clients.is_some() {
            let kept = |round: &crate::facts::Round| {
                let passages = round.recorded.passages.blocks().concat();
                passages.iter().filter_map(|passage| Some(passage.server?.service)).collect()
            };
            (Vec::new(), rounds.iter().map(kept).collect())
        } else {
            let steps = || rounds.iter().map(|round| round.recorded.path.steps());
            (
                steps()
                    .map(|steps| steps.iter().take(REQUESTS_MAX).map(|step| step.intended).collect())
                    .collect(),
                steps()
                    .map(|steps| steps.iter().take(REQUESTS_MAX).map(|step| step.service).collect())
                    .collect(),
            )
        };
        // a worker whose service is mostly on a processor will need one
        let computes =
            symptoms.server.cpu_per_request.zip(symptoms.service).is_some_and(|(cpu, s)| cpu > 0.5 * s);
        Self {
            unit: Unit::Workers,
            now,
            arrivals,
            services,
            clients,
            beside: sources.evidence.median?.beside_the_server(),
            off: symptoms.model?,
            computes,
        }
        .checked()
    }

    /// The processors it may use, and what each request takes of them; a closed loop only, as arrivals are kept with the
    /// server's account alone.
    pub(super) fn of_processors(sources: Sources<'_>, symptoms: &Symptoms) -> Option<Self> {
        let demand = Nanos(symptoms.server.cpu_per_request? as u64);
        let each = sources.tally.response_ok.count().min(10_000) as usize;
        Self {
            unit: Unit::Processors,
            now: symptoms.server.cores?.round() as u32,
            arrivals: Vec::new(),
            services: vec![vec![demand; each]],
            clients: Some(NonZeroU32::new(symptoms.clients?)?),
            beside: Nanos::ZERO,
            off: symptoms.cpu_model?,
            computes: true,
        }
        .checked()
    }

    fn checked(self) -> Option<Self> {
        let requests: usize = self.services.iter().map(Vec::len).sum();
        (self.now > 0 && requests >= 10 * PARTS).then_some(self)
    }

    fn service_mean(&self) -> f64 {
        let all = self.services.iter().flatten();
        all.clone().map(|service| service.0 as f64).sum::<f64>() / all.count().max(1) as f64
    }

    fn service_variation(&self) -> f64 {
        let mean = self.service_mean();
        let all = self.services.iter().flatten();
        let squares: f64 = all.clone().map(|service| (service.0 as f64 - mean).powi(2)).sum();
        (squares / all.count().max(1) as f64).sqrt() / mean.max(1.0)
    }

    /// The response times of this run on so many.
    fn responses(&self, servers: NonZeroU32) -> Vec<Nanos> {
        let ideal: Vec<Nanos> = match self.clients {
            Some(clients) => self.services.iter().flat_map(|s| closed_fifo(s, clients, servers)).collect(),
            None => {
                let rounds = self.arrivals.iter().zip(&self.services);
                rounds.flat_map(|(arrivals, services)| pathwise::fifo(arrivals, services, servers)).collect()
            }
        };
        ideal.into_iter().map(|time| time + self.beside).collect()
    }

    /// The percentile on so many: of the whole, within t of the means of ten consecutive parts, and what the model was off.
    pub(super) fn predict(&self, servers: NonZeroU32, p: Percentile) -> Predicted {
        let responses = self.responses(servers);
        let of = |times: &[Nanos]| {
            let mut sorted = times.to_vec();
            sorted.sort_unstable();
            sorted[p.rank(sorted.len() as u64) as usize - 1]
        };
        let value = of(&responses);
        let parts: Vec<f64> = responses
            .chunks_exact(responses.len() / PARTS)
            .take(PARTS)
            .map(|part| of(part).0 as f64)
            .collect();
        let n = parts.len() as f64;
        let mean = parts.iter().sum::<f64>() / n;
        let variance = parts.iter().map(|part| (part - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let half = t_quantile(0.975, n - 1.0) * (variance / n).sqrt();
        let value_ns = value.0 as f64;
        let bound = |ns: f64| Nanos(ns.max(0.0) as u64);
        Predicted {
            value,
            low: bound((value_ns - half) * (1.0 - self.off.min(1.0))),
            high: bound((value_ns + half) * (1.0 + self.off)),
        }
    }

    /// The least number, more than there are, with which the goal is met to the end of its interval.
    pub(super) fn enough(&self, goal: Goal) -> Option<(u32, Predicted)> {
        let sizes = (self.now + 1..=SERVERS_MAX).filter_map(NonZeroU32::new);
        for servers in sizes {
            let predicted = self.predict(servers, goal.percentile);
            let met = match goal.limit {
                Some(limit) => predicted.high <= limit,
                None => self.wait_mean(servers) <= HARDLY_WAITING * self.service_mean(),
            };
            if met {
                return Some((servers.get(), predicted));
            }
            // with a server for each client nobody waits, and more bring nothing
            if self.clients.is_some_and(|clients| servers >= clients) || self.wait_mean(servers) < 1.0 {
                return None;
            }
        }
        None
    }

    fn wait_mean(&self, servers: NonZeroU32) -> f64 {
        let responses = self.responses(servers);
        let mean = responses.iter().map(|time| time.0 as f64).sum::<f64>() / responses.len().max(1) as f64;
        mean - self.beside.0 as f64 - self.service_mean()
    }

    pub(super) fn cost(&self, servers: u32) -> String {
        let more = servers.saturating_sub(self.now);
        match (self.unit, self.computes) {
            (Unit::Processors, _) => format!("{more} more processors, and threads that use them"),
            (Unit::Workers, true) => {
                format!("{more} more threads, and as many processors: the work computes")
            }
            (Unit::Workers, false) => {
                format!("{more} more threads; hardly any processor time, as the work waits")
            }
        }
    }

    /// By R = N·S/c: how many may be there so that the mean response time is within the limit, and how many of them wait.
    pub(super) fn safe_concurrency(&self, limit: Nanos) -> Option<(u32, u32)> {
        let room = limit.saturating_sub(self.beside).0 as f64 / self.service_mean().max(1.0);
        let inside = (room * f64::from(self.now)).floor() as u32;
        (inside >= self.now).then(|| (inside, inside - self.now))
    }

    /// The greatest Poisson rate at which the percentile is within the limit, and the utilisation there: M/D/c where the
    /// service hardly varies, else M/M/c, which is on the safe side for service that varies less than exponentially.
    pub(super) fn rate_within(&self, p: Percentile, limit: Nanos) -> Option<(f64, f64)> {
        let (service, above) = (self.service_mean(), p.share_above());
        let limit = limit.saturating_sub(self.beside).0 as f64;
        let constant = self.service_variation() < CONSTANT_BELOW;
        let response = |offered: f64| {
            if constant {
                Deterministic::new(self.now, offered, service).map(|queue| queue.response_quantile(above))
            } else {
                Markov::new(self.now, offered, service).map(|queue| queue.response_quantile(above))
            }
        };
        let within = |offered: f64| response(offered).is_some_and(|time| time <= limit);
        let (mut low, mut high) = (0.01 * f64::from(self.now), 0.999 * f64::from(self.now));
        if !within(low) {
            return None;
        }
        for _ in 0..30 {
            let middle = f64::midpoint(low, high);
            if within(middle) { low = middle } else { high = middle }
        }
        Some((low * 1e9 / service, low / f64::from(self.now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn closed(clients: u32, now: u32) -> Station {
        Station {
            unit: Unit::Workers,
            now,
            arrivals: Vec::new(),
            services: vec![vec![Nanos(50 * MS); 400]],
            clients: NonZeroU32::new(clients),
            beside: Nanos::ZERO,
            off: 0.0,
            computes: false,
        }
    }

    fn goal(limit_ms: Option<u64>) -> Goal {
        Goal { percentile: Percentile::P95, limit: limit_ms.map(Nanos::from_millis) }
    }

    #[test]
    fn the_founding_case_needs_as_many_workers_as_the_limit_says() {
        // 20 clients of 50 ms: N·S/c <= 800 ms from c = 2, 250 ms from 4; with 19, one of twenty waits, and the interval of p95 holds it
        for (limit, workers) in [(800, 2), (250, 4), (50, 20)] {
            let (servers, predicted) = closed(20, 1).enough(goal(Some(limit))).unwrap();
            assert_eq!(servers, workers, "{limit}");
            assert!(predicted.value <= Nanos(limit * MS) && predicted.high >= predicted.value);
        }
        assert_eq!(closed(20, 1).enough(goal(Some(49))), None, "no number makes the work shorter");
        assert_eq!(closed(20, 1).enough(goal(None)).unwrap().0, 19);
    }

    #[test]
    fn limits_follow_from_the_service_time() {
        assert_eq!(closed(20, 2).safe_concurrency(Nanos(200 * MS)), Some((8, 6)));
        assert_eq!(closed(20, 2).safe_concurrency(Nanos(40 * MS)), None);
        let (rate, utilisation) = closed(20, 2).rate_within(Percentile::P95, Nanos(200 * MS)).unwrap();
        assert!((rate - utilisation * 40.0).abs() < 1e-6 && utilisation > 0.5, "{rate} {utilisation}");
        let queue = Deterministic::new(2, 2.0 * utilisation, 50e6).unwrap();
        assert!((queue.response_quantile(0.05) / 200e6 - 1.0).abs() < 0.01);
        assert_eq!(closed(20, 2).rate_within(Percentile::P95, Nanos(49 * MS)), None);
    }

    #[test]
    fn the_interval_is_as_wide_as_the_parts_and_the_model_are_uncertain() {
        let mut station = closed(20, 1);
        let servers = NonZeroU32::new(4).unwrap();
        let sharp = station.predict(servers, Percentile::P95);
        station.off = 0.1;
        let wide = station.predict(servers, Percentile::P95);
        assert_eq!(sharp.value, wide.value);
        assert!(wide.high.0 as f64 >= 1.1 * sharp.value.0 as f64 && wide.low < sharp.low);
    }

    #[test]
    fn an_open_loop_is_served_again_as_it_came() {
        let arrivals: Vec<Nanos> = (0..1_000).map(|i| Nanos(i * 30 * MS)).collect();
        let station = Station {
            arrivals: vec![arrivals],
            services: vec![vec![Nanos(50 * MS); 1_000]],
            clients: None,
            ..closed(1, 1)
        };
        let (servers, predicted) = station.enough(goal(Some(60))).unwrap();
        assert_eq!((servers, predicted.value), (2, Nanos(50 * MS)));
    }
}
