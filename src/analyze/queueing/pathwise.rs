//! The ideal response of every single request: what a server that does nothing but queue and serve would have given to
//! these very arrivals with these very service times. What was measured beyond it is the implementation's.
//!
//! First come first served by Lindley's recursion (Lindley 1952), for a pool by Kiefer & Wolfowitz's (1955); processor
//! sharing by attained service. Arrivals ascend.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;

use crate::load::time::Nanos;

/// First come first served: each goes to the server that is free first. Result i belongs to arrival i.
pub fn fifo(arrivals: &[Nanos], service: &[Nanos], servers: NonZeroU32) -> Vec<Nanos> {
    let servers = (servers.get() as usize).min(arrivals.len());
    let mut free: BinaryHeap<_> = (0..servers).map(|_| Reverse(Nanos::ZERO)).collect();
    let serve = |(&arrival, &service): (&Nanos, &Nanos)| {
        let mut first = free.peek_mut().expect("as many servers as there were");
        let end = arrival.max(first.0).saturating_add(service);
        first.0 = end;
        end - arrival
    };
    arrivals.iter().zip(service).map(serve).collect()
}

/// Processor sharing: n requests under way progress at the rate min(1, processors/n) each. `demand` is what each needs of
/// a processor of its own.
///
/// All progress alike, so one number, the service attained by a request that was always there, orders the ends.
pub fn sharing(arrivals: &[Nanos], demand: &[Nanos], processors: NonZeroU32) -> Vec<Nanos> {
    let mut path = Sharing {
        processors: f64::from(processors.get()),
        now: 0.0,
        attained: 0.0,
        active: BinaryHeap::new(),
        responses: vec![Nanos::ZERO; arrivals.len().min(demand.len())],
    };
    for (index, (&arrival, &demand)) in arrivals.iter().zip(demand).enumerate() {
        path.advance(arrivals, arrival.0 as f64);
        let end = Attained(path.attained + demand.0 as f64);
        path.active.push(Reverse((end, index)));
    }
    path.advance(arrivals, f64::INFINITY);
    path.responses
}

struct Sharing {
    processors: f64,
    /// ns.
    now: f64,
    /// ns of service that a request has had that was always there.
    attained: f64,
    /// What must be attained for each to end.
    active: BinaryHeap<Reverse<(Attained, usize)>>,
    responses: Vec<Nanos>,
}

impl Sharing {
    /// Lets everything end that does before `until`.
    fn advance(&mut self, arrivals: &[Nanos], until: f64) {
        while let Some(&Reverse((Attained(end), index))) = self.active.peek() {
            let rate = (self.processors / self.active.len() as f64).min(1.0);
            let at = self.now + (end - self.attained) / rate;
            if at > until {
                self.attained += (until - self.now) * rate;
                break;
            }
            (self.now, self.attained) = (at, end);
            self.active.pop();
            self.responses[index] = Nanos((at - arrivals[index].0 as f64).round() as u64);
        }
        if self.active.is_empty() {
            self.attained = 0.0; // small numbers keep their digits
        }
        if until.is_finite() {
            self.now = until;
        }
    }
}

/// Ordered; never NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Attained(f64);

impl Eq for Attained {}

impl PartialOrd for Attained {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Attained {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Deterministic, assert_close, general};
    use super::*;
    use crate::load::rng::Rng;

    fn count(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    fn us<const N: usize>(values: [u64; N]) -> [Nanos; N] {
        values.map(Nanos::from_micros)
    }

    #[test]
    fn by_hand_first_come_first_served() {
        let (arrivals, service) = (us([0, 1, 2, 20]), us([5, 1, 3, 2]));
        assert_eq!(fifo(&arrivals, &service, count(1)), us([5, 5, 7, 2]));
        // the second server takes the second, and the third
        assert_eq!(fifo(&arrivals, &service, count(2)), us([5, 1, 3, 2]));
        assert_eq!(fifo(&arrivals, &service, count(u32::MAX)), service);
        assert!(fifo(&[], &[], count(3)).is_empty());
    }

    #[test]
    fn by_hand_processor_sharing() {
        // 0 has 1 alone, then both have half: 1 (of 1) ends at 3, 0 (2 left, had 1) has 2 more at 3 and ends at 5
        assert_eq!(sharing(&us([0, 1]), &us([4, 1]), count(1)), us([5, 2]));
        assert_eq!(sharing(&us([0, 1]), &us([4, 1]), count(2)), us([4, 1]));
        // three on two processors: each at 2/3
        assert_eq!(sharing(&us([0, 0, 0]), &us([2, 2, 2]), count(2)), us([3, 3, 3]));
        // idle in between
        assert_eq!(sharing(&us([0, 100]), &us([4, 7]), count(1)), us([4, 7]));
        assert!(sharing(&[], &[], count(1)).is_empty());
    }

    fn exponential(rng: &mut Rng) -> f64 {
        let unit = ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -unit.ln()
    }

    /// n arrivals a mean of `gap` ns apart.
    fn poisson(seed: u64, n: usize, gap: f64) -> Vec<Nanos> {
        let (mut rng, mut at) = (Rng::new(seed), 0.0);
        let mut next = || {
            at += gap * exponential(&mut rng);
            Nanos(at as u64)
        };
        (0..n).map(|_| next()).collect()
    }

    fn mean(responses: &[Nanos]) -> f64 {
        responses.iter().map(|r| r.0 as f64).sum::<f64>() / responses.len() as f64
    }

    /// The recursion on random arrivals has the closed form's percentiles; seeds are fixed, tolerances some sampling errors.
    #[test]
    fn the_recursion_agrees_with_the_closed_forms() {
        let (n, service) = (400_000, 1e6);
        for (servers, rho) in [(1u32, 0.8), (2, 0.8), (4, 0.9)] {
            let arrivals = poisson(7, n, service / (rho * f64::from(servers)));
            let mut responses = fifo(&arrivals, &vec![Nanos(1_000_000); n], count(servers));
            let closed = Deterministic::new(servers, rho * f64::from(servers), service).unwrap();
            assert_close(mean(&responses), closed.response_mean(), 0.02);
            responses.sort_unstable();
            for (above, tolerance) in [(0.5, 0.02), (0.1, 0.03), (0.01, 0.05)] {
                let at = responses[((1.0 - above) * n as f64) as usize].0 as f64;
                assert_close(at, closed.response_quantile(above), tolerance);
            }
        }
    }

    #[test]
    fn sharing_is_insensitive_and_queueing_is_not() {
        let (n, service, rho) = (400_000, 1e6, 0.7);
        let arrivals = poisson(11, n, service / rho);
        let mut rng = Rng::new(12);
        let constant = vec![Nanos(1_000_000); n];
        // 90 % of 0.5 ms, 10 % of 5.5 ms: C² = 2.25
        let mut uneven = || if rng.next_u64().is_multiple_of(10) { 5_500_000 } else { 500_000 };
        let uneven: Vec<Nanos> = (0..n).map(|_| Nanos(uneven())).collect();
        let shared = general::response_mean_sharing(1, rho, service).unwrap();
        assert_close(mean(&sharing(&arrivals, &constant, count(1))), shared, 0.03);
        assert_close(mean(&sharing(&arrivals, &uneven, count(1))), shared, 0.05);
        let queued = service + general::wait_mean_single_by_variation(rho, service, 1.5).unwrap();
        assert_close(mean(&fifo(&arrivals, &uneven, count(1))), queued, 0.05);
    }
}
