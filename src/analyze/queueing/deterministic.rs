//! M/D/c: Poisson arrivals, one constant service time, c servers, first come first served; the exact distribution.
//!
//! The textbook formula of M/D/1 is an alternating series that f64 cannot sum. Here every term is positive: the numbers
//! in system, seen each D apart, are a Markov chain, which is solved by state reduction (Grassmann, Taksar, Heyman 1985),
//! and the wait follows from them as a mixture over Poisson counts (Franx, "A simple solution for the M/D/c waiting time
//! distribution", Oper. Res. Lett. 29, 2001).

use super::quantile_of_tail;

/// Closer to saturation the chain has too many states, and a run too few requests.
const UTILISATION_MAX: f64 = 0.999;
/// The work to solve the chain grows with c².
const SERVERS_MAX: u32 = 64;
/// Probabilities below it are left out.
const NEGLIGIBLE: f64 = 1e-18;

/// A stable M/D/c queue; its durations are in the unit of its service time D.
#[derive(Debug, Clone, PartialEq)]
pub struct Deterministic {
    servers: usize,
    service: f64,
    /// λD.
    offered: f64,
    /// Share of time with more than so many requests waiting (not being served).
    waiting_above: Vec<f64>,
}

impl Deterministic {
    /// `offered` = λD. `None` above 99.9 % utilisation and above 64 servers, where it is not computed.
    pub fn new(servers: u32, offered: f64, service: f64) -> Option<Self> {
        let utilisation = offered / f64::from(servers);
        let possible = (1..=SERVERS_MAX).contains(&servers) && service > 0.0 && offered > 0.0;
        if !possible || utilisation > UTILISATION_MAX {
            return None;
        }
        let servers = servers as usize;
        let in_system = stationary(servers, offered, utilisation);
        let mut waiting_above = in_system[servers..].to_vec();
        // entry i becomes P(in system > c + i), summed from the smallest
        let mut above = 0.0;
        for share in waiting_above.iter_mut().rev() {
            (*share, above) = (above, above + *share);
        }
        Some(Self { servers, service, offered, waiting_above })
    }

    /// W̄ = `L_q`/λ, by Little's law.
    pub fn wait_mean(&self) -> f64 {
        // P(in system ≥ c + 1) + P(≥ c + 2) + … = L_q
        let queue: f64 = self.waiting_above.iter().rev().sum();
        queue * self.service / self.offered
    }

    /// W̄ + D.
    pub fn response_mean(&self) -> f64 {
        self.wait_mean() + self.service
    }

    /// The wait that a share `above` of the requests exceeds.
    pub fn wait_quantile(&self, above: f64) -> f64 {
        quantile_of_tail(|t| self.wait_exceeds(t), above, self.service)
    }

    /// The response time that a share `above` exceeds: wait and service, the service the same for all.
    pub fn response_quantile(&self, above: f64) -> f64 {
        self.wait_quantile(above) + self.service
    }

    /// P(W > t). With kD the next multiple of D after t and A ~ Poisson(λ(kD − t)): a request waits longer than t unless
    /// at most kc − 1 − A requests waited when it came; by the Poisson arrivals that is the share of time above.
    fn wait_exceeds(&self, t: f64) -> f64 {
        let periods = (t / self.service).floor() + 1.0;
        let arrivals = Poisson::new(self.offered * (periods - t / self.service));
        let slots = periods as usize * self.servers;
        let among = |count: usize| match slots.checked_sub(count + 1) {
            Some(queue) => self.waiting_above.get(queue).copied().unwrap_or(0.0),
            None => 1.0,
        };
        arrivals.mass.iter().enumerate().map(|(count, mass)| mass * among(count)).sum()
    }
}

/// Poisson probabilities of 0, 1, … until they are negligible. By ratios from e^{−mean}; means here are at most 64.
struct Poisson {
    mass: Vec<f64>,
}

impl Poisson {
    fn new(mean: f64) -> Self {
        let mut mass = vec![(-mean).exp()];
        let mut last = mass[0];
        while last > NEGLIGIBLE || (mass.len() as f64) < mean {
            last *= mean / mass.len() as f64;
            mass.push(last);
        }
        Self { mass }
    }
}

/// How many are in system, as shares of time. One period of D after it was i, those in service have gone and the Poisson
/// arrivals have come: j = max(i − c, 0) + A. Cut off where the tail, which decays by τ with ln τ = ρ(τ − 1), is negligible.
fn stationary(servers: usize, offered: f64, utilisation: f64) -> Vec<f64> {
    let arrivals = Poisson::new(offered).mass;
    let states = servers + arrivals.len() + (-NEGLIGIBLE.ln() / decay(utilisation).ln()).ceil() as usize;
    let mut chain = Banded::new(states, servers, arrivals.len());
    for from in 0..states {
        let left = from.saturating_sub(servers);
        for (count, mass) in arrivals.iter().enumerate() {
            *chain.at(from, (left + count).min(states - 1)) += mass;
        }
    }
    chain.stationary()
}

/// The root above 1 of ln τ = ρ(τ − 1), by bisection.
fn decay(utilisation: f64) -> f64 {
    let short = |tau: f64| f64::ln(tau) > utilisation * (tau - 1.0);
    let mut below = 1.0 / utilisation; // where the difference is greatest
    let mut above = 2.0 * below;
    while short(above) {
        above *= 2.0;
    }
    for _ in 0..60 {
        let middle = f64::midpoint(below, above);
        if short(middle) { below = middle } else { above = middle }
    }
    below
}

/// Transition probabilities that reach at most `down` states down and `up` states up.
struct Banded {
    states: usize,
    down: usize,
    up: usize,
    cells: Vec<f64>,
}

impl Banded {
    fn new(states: usize, down: usize, up: usize) -> Self {
        Self { states, down, up, cells: vec![0.0; states * (down + up + 1)] }
    }

    fn at(&mut self, from: usize, to: usize) -> &mut f64 {
        &mut self.cells[from * (self.down + self.up + 1) + to + self.down - from]
    }

    /// The stationary distribution: states are taken out from the last on, their traffic redistributed; only additions,
    /// multiplications and divisions of positive numbers, so nothing cancels.
    fn stationary(mut self) -> Vec<f64> {
        for last in (1..self.states).rev() {
            let (low, first) = (last.saturating_sub(self.down), last.saturating_sub(self.up));
            let leaving: f64 = (low..last).map(|to| *self.at(last, to)).sum();
            for from in first..last {
                *self.at(from, last) /= leaving;
                let share = *self.at(from, last);
                if share > 0.0 {
                    for to in low..last {
                        let through = share * *self.at(last, to);
                        *self.at(from, to) += through;
                    }
                }
            }
        }
        let mut shares = vec![1.0];
        for state in 1..self.states {
            let first = state.saturating_sub(self.up);
            let share = (first..state).map(|from| shares[from] * *self.at(from, state)).sum();
            shares.push(share);
        }
        let total: f64 = shares.iter().rev().sum();
        shares.iter_mut().for_each(|share| *share /= total);
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::super::assert_close;
    use super::*;

    /// (ρ; mean, p50, p90, p99, p99.9), computed with 60 digits.
    #[test]
    fn one_server_has_the_exact_percentiles() {
        for (rho, mean, percentiles) in [
            (0.5, 1.5, [1.0, 2.515_745, 4.336_256, 6.168_385]),
            (0.7, 2.166_667, [1.729_751, 4.077_087, 7.485_499, 10.894_354]),
            (0.8, 3.0, [2.275_940, 6.011_511, 11.355_887, 16.700_268]),
            (0.9, 5.5, [4.013_048, 11.782_505, 22.898_237, 34.013_970]),
        ] {
            let queue = Deterministic::new(1, rho, 1.0).unwrap();
            assert_close(queue.response_mean(), mean, 2e-7);
            for (above, expected) in [0.5, 0.1, 0.01, 0.001].into_iter().zip(percentiles) {
                assert_close(queue.response_quantile(above), expected, 3e-7);
            }
        }
    }

    #[test]
    fn a_pool_has_the_exact_mean_wait() {
        for (servers, rho, wait) in [
            (2, 0.8, 0.903_283_88),
            (4, 0.8, 0.386_094_93),
            (8, 0.8, 0.151_953_80),
            (2, 0.5, 0.176_741_06),
            (4, 0.5, 0.049_651_74),
            (4, 0.9, 0.999_965_89),
            (1, 0.8, 2.0),
        ] {
            let queue = Deterministic::new(servers, rho * f64::from(servers), 1.0).unwrap();
            assert_close(queue.wait_mean(), wait, 1e-7);
        }
    }

    /// Cosmetatos: W̄ ≈ ½·W̄(M/M/c)·[1 + (1−ρ)(c−1)(√(4+5c) − 2)/(16ρc)]; close, and another way to the same figure.
    #[test]
    fn the_quick_formula_agrees() {
        for (servers, expected) in [(2, 0.900_984), (4, 0.385_434), (8, 0.152_073)] {
            let (c, rho) = (f64::from(servers), 0.8);
            let markov = super::super::Markov::new(servers, rho * c, 1.0).unwrap();
            let factor = 1.0 + (1.0 - rho) * (c - 1.0) * ((4.0 + 5.0 * c).sqrt() - 2.0) / (16.0 * rho * c);
            let quick = 0.5 * markov.wait_mean() * factor;
            assert_close(quick, expected, 2e-6);
            let exact = Deterministic::new(servers, rho * c, 1.0).unwrap().wait_mean();
            assert_close(quick, exact, 3e-3);
        }
    }

    /// The mean is the integral of the tail: two roads from the chain, the queue lengths and Franx's mixture.
    #[test]
    fn the_wait_distribution_has_the_wait_mean() {
        for (servers, rho) in [(1, 0.8), (2, 0.8), (4, 0.9), (3, 0.3)] {
            let queue = Deterministic::new(servers, rho * f64::from(servers), 1.0).unwrap();
            let step = 1.0 / 256.0;
            let integral: f64 =
                (0..256 * 60).map(|i| queue.wait_exceeds((f64::from(i) + 0.5) * step) * step).sum();
            assert_close(integral, queue.wait_mean(), 1e-4);
        }
    }

    #[test]
    fn far_tails_and_loads_near_saturation_are_sound() {
        let queue = Deterministic::new(1, 0.99, 1.0).unwrap();
        assert_close(queue.wait_mean(), 0.99 / 0.02, 1e-9);
        let queue = Deterministic::new(1, 0.8, 1.0).unwrap();
        // per service time the tail falls by e^{−λ(τ−1)}: two percentiles a decade apart, ever further out
        let rate = 0.8 * (decay(0.8) - 1.0);
        for above in [1e-4, 1e-6, 1e-9] {
            let step = queue.wait_quantile(above / 10.0) - queue.wait_quantile(above);
            assert_close(step, 10.0_f64.ln() / rate, 1e-4);
        }
        assert!(Deterministic::new(1, 1.0, 1.0).is_none());
        assert!(Deterministic::new(65, 1.0, 1.0).is_none());
    }
}
