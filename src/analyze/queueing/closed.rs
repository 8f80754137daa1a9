//! What a closed loop must show, whatever the distribution of the service times.
//!
//! N clients, each sending its next request when its answer (and a think time Z) is over, at c servers
//! with mean service time S. The means and bounds here hold for any distribution of S; the small
//! recursion gives every single response where the service times are known. Open arrivals and models
//! that assume a distribution are not here. Source of each formula: reference/science.md 2.5 and 2.6.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;

use crate::load::time::Nanos;

/// A closed queueing network with one station of several servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedNetwork {
    /// N: clients, each with at most one request under way.
    pub clients: NonZeroU32,
    /// c: servers, each with at most one request in service.
    pub servers: NonZeroU32,
    /// S: the mean service time.
    pub service_mean: Nanos,
    /// Z: the mean time from an answer to the next request; zero for a load generator at full speed.
    pub think_mean: Nanos,
}

impl ClosedNetwork {
    /// R ≥ max(S, N·S/c − Z): the mean response time cannot be less in the long run, whatever the
    /// distribution of S (asymptotic bound; Denning & Buzen 1978, Lazowska et al. 1984 ch. 5).
    ///
    /// With Z = 0 this *is* the mean response time: no server is ever idle from N ≥ c on, so X = c/S.
    /// Where c does not divide N it is the mean of two levels, not the median.
    pub fn response_mean_at_least(&self) -> Nanos {
        let saturated = u128::from(self.service_mean.0) * wide(self.clients);
        let saturated = Nanos(divide_rounded(saturated, wide(self.servers)));
        saturated.saturating_sub(self.think_mean).max(self.service_mean)
    }

    /// X ≤ min(c/S, N/(S+Z)) per second; infinite where the divisor is zero.
    pub fn throughput_at_most_per_s(&self) -> f64 {
        let saturated = f64::from(self.servers.get()) / self.service_mean.as_secs();
        let cycle = self.service_mean.as_secs() + self.think_mean.as_secs();
        saturated.min(f64::from(self.clients.get()) / cycle)
    }

    /// N* = c·(S+Z)/S: with more clients than this, requests must queue. At least c; infinite for S = 0
    /// with a think time, c without one.
    pub fn knee_clients(&self) -> f64 {
        let servers = f64::from(self.servers.get());
        if self.think_mean == Nanos::ZERO {
            return servers;
        }
        servers * (1.0 + self.think_mean.as_secs() / self.service_mean.as_secs())
    }
}

/// The mean response time of a closed loop without think time: N·S/c, and S for N < c. It holds for any
/// distribution of service times (see [`ClosedNetwork::response_mean_at_least`]).
pub fn closed_response(clients: NonZeroU32, service_mean: Nanos, servers: NonZeroU32) -> Nanos {
    let network = ClosedNetwork { clients, servers, service_mean, think_mean: Nanos::ZERO };
    network.response_mean_at_least()
}

/// c_eff = N·S/R: how many servers would explain the response time `response` of a closed loop without
/// think time. Compared with the threads there are, it tells how many were effective. Its greatest
/// sensible value is N (nobody waits); `None` for a response of zero.
pub fn effective_parallelism(clients: NonZeroU32, service_mean: Nanos, response: Nanos) -> Option<f64> {
    let busy_ns = wide(clients) * u128::from(service_mean.0);
    (response > Nanos::ZERO).then(|| busy_ns as f64 / response.0 as f64)
}

/// Every response time of a closed loop without think time: one central queue, first come first served.
///
/// All clients send at time zero, the i-th request in order of arrival takes `service[i]` on the server
/// that is free first, and its client sends again the moment it is answered, until every service time is
/// used. Arrivals at the same instant are taken in order of client number. Result i belongs to request i.
pub fn closed_fifo(service: &[Nanos], clients: NonZeroU32, servers: NonZeroU32) -> Vec<Nanos> {
    let clients = (clients.get() as usize).min(service.len());
    let servers = (servers.get() as usize).min(clients); // a server more than clients is never used
    let mut arrivals: BinaryHeap<_> = (0..clients).map(|i| Reverse((Nanos::ZERO, i))).collect();
    let mut free: BinaryHeap<_> = (0..servers).map(|_| Reverse(Nanos::ZERO)).collect();

    let mut serve = |&time: &Nanos| {
        let Reverse((arrival, client)) = arrivals.pop().expect("as many as clients, put back below");
        let Reverse(idle_since) = free.pop().expect("as many as servers, put back below");
        let end = arrival.max(idle_since).saturating_add(time);
        arrivals.push(Reverse((end, client)));
        free.push(Reverse(end));
        end - arrival
    };
    service.iter().map(&mut serve).collect()
}

/// Little's law as an identity over a drained window, (ΣR − ∫L dt) / ∫L dt: the sum of all response times
/// against the integral of the requests in flight, both in ns, counted by separate code. Zero unless
/// samples were lost (negative) or counted twice (positive); more than 1e-9 either way is a bug
/// (Little 1961; his and Graves' 2008 form for a finite window). Infinite if only the integral is zero.
pub fn little_residual(response_sum_ns: u128, in_flight_integral_ns: u128) -> f64 {
    if response_sum_ns == in_flight_integral_ns {
        return 0.0;
    }
    let integral = in_flight_integral_ns as f64;
    let difference = response_sum_ns.abs_diff(in_flight_integral_ns) as f64;
    let sign = if response_sum_ns > in_flight_integral_ns { 1.0 } else { -1.0 };
    sign * difference / integral
}

/// Little's law around the whole closed loop, 1 − X·(R+Z)/N: the share of the clients' time that was
/// neither response nor think time. Above 0.01 it was lost in the client's own loop (so wrk lost 20 %,
/// wg/wrk#116). Negative beyond rounding: more was under way than there are clients, a bug.
pub fn closed_loop_residual(
    clients: NonZeroU32,
    throughput_per_s: f64,
    response_mean: Nanos,
    think_mean: Nanos,
) -> f64 {
    let cycle = response_mean.as_secs() + think_mean.as_secs();
    1.0 - throughput_per_s * cycle / f64::from(clients.get())
}

fn wide(count: NonZeroU32) -> u128 {
    u128::from(count.get())
}

/// Half up; more than a u64 becomes its maximum.
fn divide_rounded(dividend: u128, divisor: u128) -> u64 {
    u64::try_from((dividend + divisor / 2) / divisor).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::stats::{Percentile, Quantile, ResponseTimes, SortedResponses};

    const S: Nanos = Nanos::from_micros(127_600);

    fn count(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).expect("not zero")
    }

    fn network(clients: u32, servers: u32, service_ms: u64, think_ms: u64) -> ClosedNetwork {
        ClosedNetwork {
            clients: count(clients),
            servers: count(servers),
            service_mean: Nanos::from_millis(service_ms),
            think_mean: Nanos::from_millis(think_ms),
        }
    }

    /// The founding case: 400 requests of 127.6 ms from 20 clients.
    fn founding(servers: u32) -> Vec<Nanos> {
        closed_fifo(&[S; 400], count(20), count(servers))
    }

    fn quantile(responses: &[Nanos], p: Percentile) -> Nanos {
        let mut sorted = responses.to_vec();
        sorted.sort();
        let responses =
            SortedResponses { successful: &sorted, scheduled: sorted.len() as u64, censored_at: Nanos::MAX };
        match responses.quantile(p) {
            Quantile::Value(value) => value,
            other => panic!("{other:?}"),
        }
    }

    fn mean_ms(responses: &[Nanos]) -> f64 {
        responses.iter().map(|r| r.as_ms()).sum::<f64>() / responses.len() as f64
    }

    #[test]
    fn founding_case_on_one_server() {
        let responses = founding(1);
        let twenty = Nanos::from_millis(2_552);
        assert_eq!(responses.iter().min(), Some(&S));
        assert_eq!(responses.iter().max(), Some(&twenty));
        for p in [Percentile::P50, Percentile::P95, Percentile::P99] {
            assert_eq!(quantile(&responses, p), twenty, "{p}");
        }
        assert!((mean_ms(&responses) - 2_491.39).abs() < 1e-9);
        assert!((mean_ms(&responses) / twenty.as_ms() - 0.97625).abs() < 1e-9);
        assert_eq!(closed_response(count(20), S, count(1)), twenty);

        // The last answer: with one server, request i is sent when request i − 20 is answered.
        let mut ends: Vec<Nanos> = Vec::new();
        for (i, &response) in responses.iter().enumerate() {
            let sent = if i < 20 { Nanos::ZERO } else { ends[i - 20] };
            ends.push(sent + response);
        }
        assert_eq!(ends.last(), Some(&Nanos::from_millis(51_040)));
    }

    #[test]
    fn the_first_wave_is_a_ramp() {
        for (i, response) in founding(1).into_iter().take(20).enumerate() {
            assert_eq!(response, Nanos(S.0 * (i as u64 + 1)));
        }
    }

    #[test]
    fn neighbours_of_the_founding_case() {
        for (servers, p50_us, p95_us) in [
            (4, 638_000, 638_000),
            (5, 510_400, 510_400),
            (8, 255_200, 382_800),
            (20, 127_600, 127_600),
            (64, 127_600, 127_600),
        ] {
            let responses = founding(servers);
            let shown = [Percentile::P50, Percentile::P95].map(|p| quantile(&responses, p));
            let expected = [p50_us, p95_us].map(Nanos::from_micros);
            assert_eq!(shown, expected, "c={servers}");
        }
        // Where c divides N the level of every wave after the first is the predicted mean.
        for (servers, us) in [(4, 638_000), (5, 510_400), (20, 127_600), (64, 127_600)] {
            let predicted = closed_response(count(20), S, count(servers));
            assert_eq!(predicted, Nanos::from_micros(us), "c={servers}");
        }
    }

    #[test]
    fn where_servers_do_not_divide_clients_the_prediction_is_the_mean() {
        let long = closed_fifo(&vec![S; 100_000], count(20), count(8));
        let predicted = closed_response(count(20), S, count(8));
        assert_eq!(predicted, Nanos::from_millis(319));
        assert!((mean_ms(&long) / predicted.as_ms() - 1.0).abs() < 1e-3);
    }

    #[test]
    fn the_mean_holds_for_uneven_service_times() {
        // 90 % of 10 ms, 10 % of 110 ms, in a scrambled order: S = 20 ms.
        let uneven = |i: u64| if i * 7_919 % 10 == 3 { 110 } else { 10 };
        let service: Vec<_> = (0..100_000).map(|i| Nanos::from_millis(uneven(i))).collect();
        for servers in [1, 3, 4] {
            let measured = mean_ms(&closed_fifo(&service, count(20), count(servers)));
            let predicted = closed_response(count(20), Nanos::from_millis(20), count(servers));
            let ratio = measured / predicted.as_ms();
            assert!((ratio - 1.0).abs() < 2e-3, "c={servers}: {ratio}");
        }
    }

    #[test]
    fn given_service_times_go_in_order_of_arrival() {
        // Two clients, one server: 0 waits for nobody, 1 for 0's 3 ms, then 0 again for 1's 1 ms, …
        let service = [3, 1, 2, 5].map(Nanos::from_millis);
        let responses = closed_fifo(&service, count(2), count(1));
        assert_eq!(responses, [3, 4, 3, 7].map(Nanos::from_millis));
        // Two servers: client 1 is back first and takes the third request.
        let responses = closed_fifo(&service, count(2), count(2));
        assert_eq!(responses, service);
    }

    #[test]
    fn small_and_empty_loops() {
        assert!(closed_fifo(&[], count(20), count(1)).is_empty());
        let one = closed_fifo(&[S], count(20), count(u32::MAX));
        assert_eq!(one, [S]);
        assert_eq!(closed_response(count(5), Nanos(1), count(3)), Nanos(2)); // 1.67
        assert_eq!(closed_response(count(u32::MAX), Nanos::MAX, count(1)), Nanos::MAX);
    }

    #[test]
    fn effective_parallelism_of_the_founding_case() {
        let c_eff =
            |service, response_ms| effective_parallelism(count(20), service, Nanos::from_millis(response_ms));
        assert!((c_eff(S, 578).expect("a response") - 4.415).abs() < 5e-4);
        let with_130 = c_eff(Nanos::from_millis(130), 578).expect("a response");
        assert!((with_130 - 4.50).abs() < 5e-3);
        assert_eq!(c_eff(S, 2_552), Some(1.0));
        assert_eq!(c_eff(S, 0), None);
    }

    #[test]
    fn asymptotic_bounds_with_think_time() {
        // Exact answers of 2.5 (MVA; M/M/4//20 birth-death) lie inside the bounds, close far from the knee.
        for (network, bounds, exact) in [
            (network(20, 1, 1_000, 19_000), (1.0, 1.0), (4.088_328_03, 0.866_238_56)),
            (network(1, 1, 500, 1_000), (0.5, 2.0 / 3.0), (0.5, 2.0 / 3.0)),
            (network(3, 1, 500, 1_000), (0.5, 2.0), (0.9, 30.0 / 19.0)),
            (network(10, 1, 500, 1_000), (4.0, 2.0), (4.000_190_96, 1.999_923_62)),
            (network(20, 1, 500, 1_000), (9.0, 2.0), (9.0, 2.0)),
            (network(20, 4, 500, 1_000), (1.5, 8.0), (1.502_533_34, 7.991_901_51)),
            (network(20, 4, 1_000, 9_000), (1.0, 2.0), (1.052_975_25, 1.989_460_78)),
        ] {
            let response = network.response_mean_at_least().as_secs();
            let throughput = network.throughput_at_most_per_s();
            assert_eq!(response, bounds.0, "{network:?}");
            assert!((throughput - bounds.1).abs() < 1e-12, "{network:?}");
            assert!(exact.0 >= response && exact.1 <= throughput + 1e-12, "{network:?}");
        }
        assert_eq!(network(20, 1, 1_000, 19_000).knee_clients(), 20.0);
        assert_eq!(network(20, 4, 500, 1_000).knee_clients(), 12.0);
    }

    #[test]
    fn degenerate_networks_have_their_limits() {
        assert_eq!(network(5, 2, 0, 0).knee_clients(), 2.0);
        assert_eq!(network(5, 2, 0, 10).knee_clients(), f64::INFINITY);
        assert_eq!(network(5, 2, 0, 0).throughput_at_most_per_s(), f64::INFINITY);
        assert_eq!(network(1, 4, 50, 0).response_mean_at_least(), Nanos::from_millis(50));
    }

    #[test]
    fn littles_law_is_an_identity_of_the_recursion() {
        // One server never idles until the last wave, so requests in flight are N, then N−1, … 0.
        let responses = founding(1);
        let sum: u128 = responses.iter().map(|r| u128::from(r.0)).sum();
        let drained: u128 = (1..20).sum::<u128>() * u128::from(S.0);
        let integral = 20 * u128::from(S.0) * 381 + drained;
        assert_eq!(little_residual(sum, integral), 0.0);
        let lost = little_residual(sum - u128::from(responses[200].0), integral);
        assert!(lost < -1e-9, "{lost}");
        assert!(little_residual(sum + u128::from(responses[0].0), integral) > 1e-9);
        assert_eq!(little_residual(0, 0), 0.0);
    }

    #[test]
    fn time_lost_in_the_client_shows() {
        let residual =
            |per_s| closed_loop_residual(count(20), per_s, Nanos::from_millis(80), Nanos::from_millis(20));
        assert!(residual(200.0).abs() < 1e-12);
        assert!((residual(160.0) - 0.2).abs() < 1e-12);
        assert!(residual(210.0) < 0.0);
    }
}
