//! M/M/c: Poisson arrivals, exponential service times, c servers, first come first served. c = 1 is M/M/1.
//!
//! On constant service times it overstates the wait by about two; see [`Deterministic`](super::Deterministic).

use super::quantile_of_tail;

/// Erlang's B: the share of arrivals that find all `servers` busy where nobody waits; `offered` = λS. By the recursion
/// `B_k` = a·B/(k + a·B), which never sees a factorial.
pub fn erlang_b(servers: u32, offered: f64) -> f64 {
    (1..=servers).fold(1.0, |b, k| offered * b / (f64::from(k) + offered * b))
}

/// Erlang's C: the share of arrivals that must wait. 1 from saturation on.
pub fn erlang_c(servers: u32, offered: f64) -> f64 {
    let utilisation = offered / f64::from(servers);
    if utilisation >= 1.0 {
        return 1.0;
    }
    let blocked = erlang_b(servers, offered);
    blocked / (1.0 - utilisation * (1.0 - blocked))
}

/// A stable M/M/c queue. Durations are in the unit of its service time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Markov {
    /// S: the mean service time.
    service: f64,
    /// C: the share that waits.
    waiting: f64,
    /// (c − a)/S: the rate at which the wait of those who wait decays.
    decay: f64,
}

impl Markov {
    /// `offered` = λS < `servers`; `None` at saturation and beyond, where no wait is long enough.
    pub fn new(servers: u32, offered: f64, service: f64) -> Option<Self> {
        let spare = f64::from(servers) - offered;
        let stable = offered >= 0.0 && spare > 0.0 && service > 0.0;
        stable.then(|| Self { service, waiting: erlang_c(servers, offered), decay: spare / service })
    }

    /// The share of requests that wait.
    pub fn wait_probability(&self) -> f64 {
        self.waiting
    }

    /// W̄ = C·S/(c − a).
    pub fn wait_mean(&self) -> f64 {
        self.waiting / self.decay
    }

    /// The wait that a share `above` of the requests exceeds: max(0, ln(C/above)·S/(c − a)).
    pub fn wait_quantile(&self, above: f64) -> f64 {
        ((self.waiting / above).ln() / self.decay).max(0.0)
    }

    /// W̄ + S. Of processor sharing with c processors too, whatever the distribution of the service times.
    pub fn response_mean(&self) -> f64 {
        self.wait_mean() + self.service
    }

    /// The response time that a share `above` exceeds.
    pub fn response_quantile(&self, above: f64) -> f64 {
        quantile_of_tail(|t| self.response_exceeds(t), above, self.response_mean())
    }

    /// P(R > t) = (1 − C)·e^{−μt} + C·P(wait of the waiting + S > t): the sum of two independent exponentials of rates θ
    /// and μ, θ·e^{−μt} − μ·e^{−θt} over θ − μ, written so that equal rates are no special case.
    fn response_exceeds(&self, t: f64) -> f64 {
        let (mu, theta) = (1.0 / self.service, self.decay);
        let alone = (-mu * t).exp();
        let gap = theta - mu;
        let slower =
            if gap.abs() * t < 1e-9 { mu * t * alone } else { mu * alone * -(-gap * t).exp_m1() / gap };
        (1.0 - self.waiting) * alone + self.waiting * (alone + slower)
    }
}

#[cfg(test)]
mod tests {
    use super::super::assert_close;
    use super::*;

    #[test]
    fn one_server_has_its_textbook_percentiles() {
        let queue = Markov::new(1, 0.8, 1.0).unwrap();
        assert_close(queue.wait_mean(), 4.0, 1e-12);
        assert_close(queue.response_mean(), 5.0, 1e-12);
        for (above, expected) in [(0.5, 3.465_736), (0.01, 23.025_851), (0.001, 34.538_776)] {
            assert_close(queue.response_quantile(above), expected, 1e-7);
        }
    }

    /// (c, a) → C, W̄/S, p99 of W/S where the note has it.
    #[test]
    fn several_servers_wait_as_erlang_says() {
        for (servers, offered, waiting, mean, p99) in [
            (1, 0.8, 0.8, 4.0, Some(21.910_133)),
            (2, 1.5, 0.642_857_14, 1.285_714_29, Some(8.326_675)),
            (3, 2.0, 4.0 / 9.0, 0.444_444_44, Some(3.794_240)),
            (2, 1.6, 0.711_111_11, 1.777_777_78, Some(10.660_609)),
            (4, 3.2, 0.596_432_47, 0.745_540_59, Some(5.110_476)),
            (8, 6.4, 0.457_644_93, 0.286_028_08, Some(2.389_693)),
            (10, 6.0, 0.101_299_24, 0.025_324_81, None),
            (16, 12.8, 0.304_883_91, 0.095_276_22, None),
        ] {
            let queue = Markov::new(servers, offered, 1.0).unwrap();
            assert_close(queue.wait_probability(), waiting, 1e-7);
            assert_close(queue.wait_mean(), mean, 2e-7);
            if let Some(p99) = p99 {
                assert_close(queue.wait_quantile(0.01), p99, 1e-6);
            }
        }
        // 120 an hour of 3 minutes at 10 agents: "about 0.10"
        assert_close(erlang_c(10, 120.0 * 3.0 / 60.0), 0.10, 0.02);
    }

    #[test]
    fn many_servers_do_not_overflow_and_saturation_has_no_wait() {
        assert!(erlang_c(10_000, 9_900.0).is_finite());
        assert!(Markov::new(4, 4.0, 1.0).is_none());
        assert_eq!(erlang_c(4, 5.0), 1.0);
    }

    /// The mean of a distribution is the integral of its tail; c − a = 1 is where the two rates are equal.
    #[test]
    fn the_response_distribution_has_the_response_mean() {
        for (servers, offered) in [(1, 0.5), (2, 1.0), (2, 1.000_000_001), (3, 2.0), (4, 3.6)] {
            let queue = Markov::new(servers, offered, 1.0).unwrap();
            let step = 1e-3;
            let integral: f64 =
                (0..200_000).map(|i| queue.response_exceeds((f64::from(i) + 0.5) * step) * step).sum();
            assert_close(integral, queue.response_mean(), 1e-6);
        }
    }
}
