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

/// The mean response time on another size over that on the present one, with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::analyze) struct Ratio {
    pub(in crate::analyze) value: f64,
    pub(in crate::analyze) low: f64,
    pub(in crate::analyze) high: f64,
}

/// The server, and what it was asked to do.
#[derive(Debug, Clone)]
pub(in crate::analyze) struct Station {
    pub(super) unit: Unit,
    /// How many there are.
    pub(in crate::analyze) now: u32,
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
    pub(in crate::analyze) computes: bool,
}

impl Station {
    /// Requests at work while others waited, and the service times by the server's account.
    pub(in crate::analyze) fn of_workers(sources: Sources<'_>, symptoms: &Symptoms) -> Option<Self> {
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
    pub(in crate::analyze) fn of_processors(sources: Sources<'_>, symptoms: &Symptoms) -> Option<Self> {
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
        self.responses_of(servers, None)
    }

    /// The same where a closed loop ends after the first so many requests of a round.
    fn responses_of(&self, servers: NonZeroU32, first: Option<usize>) -> Vec<Nanos> {
        let of_round = |services: &Vec<Nanos>, clients| {
            let n = first.map_or(services.len(), |first| first.min(services.len()));
            closed_fifo(&services[..n], clients, servers)
        };
        let ideal: Vec<Nanos> = match self.clients {
            Some(clients) => self.services.iter().flat_map(|s| of_round(s, clients)).collect(),
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
        let half = half_width(&responses, |part| of(part).0 as f64);
        let value_ns = value.0 as f64;
        let bound = |ns: f64| Nanos(ns.max(0.0) as u64);
        Predicted {
            value,
            low: bound((value_ns - half) * (1.0 - self.off.min(1.0))),
            high: bound((value_ns + half) * (1.0 + self.off)),
        }
    }

    /// The mean response time on so many over that on as many as there are, of rounds with these numbers of requests: both
    /// known as far as ten consecutive parts of each agree, and the model no better than it was off this run or `at_least`.
    pub(in crate::analyze) fn ratio(
        &self,
        servers: NonZeroU32,
        first: [Option<usize>; 2],
        at_least: f64,
    ) -> Ratio {
        let now = NonZeroU32::new(self.now).expect("checked when it was made");
        let [(now, now_off), (then, then_off)] =
            [(now, first[0]), (servers, first[1])].map(|(servers, first)| {
                let responses = self.responses_of(servers, first);
                let value = mean_of(&responses).max(1.0);
                // the first wave of a closed loop is a ramp, not spread
                let wave = self.clients.map_or(0, |n| n.get() as usize).min(responses.len());
                (value, half_width(&responses[wave..], mean_of) / value)
            });
        let (value, spread) = (then / now, now_off.hypot(then_off));
        let off = self.off.max(at_least);
        Ratio {
            value,
            low: (value * (1.0 - spread) * (1.0 - off.min(1.0))).max(0.0),
            high: value * (1.0 + spread) * (1.0 + off),
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
        mean_of(&self.responses(servers)) - self.beside.0 as f64 - self.service_mean()
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

    /// The mean response time with so many inside: N·S/c, as well as S is known and the model held.
    pub(super) fn mean_with(&self, inside: u32) -> Predicted {
        let all: Vec<Nanos> = self.services.iter().flatten().copied().collect();
        let share = f64::from(inside) / f64::from(self.now);
        let (service, half) = (mean_of(&all), half_width(&all, mean_of));
        let beside = self.beside.0 as f64;
        let at = |service: f64, off: f64| Nanos(((service * share + beside) * off).max(0.0) as u64);
        Predicted {
            value: at(service, 1.0),
            low: at(service - half, 1.0 - self.off.min(1.0)),
            high: at(service + half, 1.0 + self.off),
        }
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

fn mean_of(times: &[Nanos]) -> f64 {
    times.iter().map(|time| time.0 as f64).sum::<f64>() / times.len().max(1) as f64
}

/// t·s/√n of a figure over ten consecutive parts; with fewer requests than parts there are none, and nothing is known.
fn half_width(responses: &[Nanos], figure: impl Fn(&[Nanos]) -> f64) -> f64 {
    let length = responses.len() / PARTS;
    if length == 0 {
        return f64::INFINITY;
    }
    let parts: Vec<f64> = responses.chunks_exact(length).take(PARTS).map(figure).collect();
    let n = parts.len() as f64;
    let mean = parts.iter().sum::<f64>() / n;
    let variance = parts.iter().map(|part| (part - mean).powi(2)).sum::<f64>() / (n - 1.0);
    t_quantile(0.975, n - 1.0) * (variance / n).sqrt()
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
    fn twice_the_workers_halve_the_mean_of_a_round_as_long_as_it_is() {
        let two = NonZeroU32::new(2).unwrap();
        let steady = closed(8, 1).ratio(two, [None, None], 0.1);
        assert!((steady.value - 0.5).abs() < 0.01, "{steady:?}");
        assert!(
            (steady.low - 0.9 * steady.value).abs() < 0.01 && (steady.high - 1.1 * steady.value).abs() < 0.01
        );
        // 20 requests are a ramp of 8 and 12 that wait for 7, so a mean of (36 + 96)/20 services; 40: (2·(1+…+4) + 32·4)/40
        let short = closed(8, 1).ratio(two, [Some(20), Some(40)], 0.1);
        assert!((short.value - (20.0 + 128.0) / 40.0 / (132.0 / 20.0)).abs() < 1e-3, "{short:?}");
        assert!(closed(8, 1).ratio(two, [Some(5), Some(9)], 0.1).high.is_infinite(), "too few to say");
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
