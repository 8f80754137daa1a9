//! Times that lie where TCP sends again what was lost: connects at the timers of a SYN, answers at those of data. From the
//! full histograms of the run, so nothing more is counted for it while the load runs.
//!
//! A SYN is sent again after 1 s, then each second for the first few (Linux 6.5 on, `tcp_syn_linear_timeouts` 4), or after 2 and
//! 4 s more (RFC 6298, doubling): connects then take about 1, 2, 3, 4, 5 or 7 s. Data is sent again 200 ms (Linux'
//! least) after it was sent, then after 400, 800, … more: answers come 0.2, 0.6, 1.4, 3 or 6.2 s later than a typical one.

use crate::analyze::special::beta_cdf;
use crate::analyze::stats::Percentile;
use crate::load::time::Nanos;
use crate::record::{Distribution, Tally};

/// s.
const SYN: [f64; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 7.0];
/// s.
const DATA: [f64; 5] = [0.2, 0.6, 1.4, 3.0, 6.2];
/// A timer that long may run out so much later: the kernel's wheel is coarse, and the answer takes its time.
const SYN_WITHIN: f64 = 0.1;
const DATA_WITHIN: f64 = 0.15;
/// What takes this share of the first timer is late.
const LATE: f64 = 0.9;

/// What was lost, by the times it took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Lost {
    /// Connects; `None` where there were none.
    pub connects: Option<Clusters>,
    /// done − issued of the completed, beyond a typical one.
    pub responses: Option<Clusters>,
    /// Time of the connects at timers for each completed request, ns.
    pub connect_ns: f64,
}

/// How times lie about the timers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Clusters {
    /// All.
    pub all: u64,
    /// As late as the first timer, or later.
    pub late: u64,
    /// Of these, within a window after a timer.
    pub at_timers: u64,
    /// The chance of as many or more, if they lay anywhere.
    pub chance: f64,
    /// The sum of those at timers, ns.
    pub sum_ns: f64,
}

impl Lost {
    /// Of all rounds.
    pub(super) fn of(tally: &Tally) -> Option<Self> {
        let typical = tally.service.at_rank(Percentile::P50.rank(tally.service.count()))?;
        let connects = Clusters::of(&tally.connect, Nanos::ZERO, &SYN, SYN_WITHIN);
        Some(Self {
            connects,
            responses: Clusters::of(&tally.service, typical, &DATA, DATA_WITHIN),
            connect_ns: connects.map_or(0.0, |seen| seen.sum_ns / tally.completed.max(1) as f64),
        })
    }
}

impl Clusters {
    /// Of times beyond `typical`.
    fn of(times: &Distribution, typical: Nanos, timers: &[f64], within: f64) -> Option<Self> {
        let from = LATE * timers[0];
        let mut seen = Self { all: times.count(), ..Self::default() };
        let mut to = 2.0 * timers[0];
        for step in times.histogram().iter_recorded() {
            let beyond = Nanos(step.value_iterated_to()).saturating_sub(typical).as_secs();
            let n = step.count_since_last_iteration();
            if beyond < from {
                continue;
            }
            seen.late += n;
            to = to.max(beyond);
            if timers.iter().any(|timer| (*timer..(1.0 + within) * timer).contains(&beyond)) {
                seen.at_timers += n;
                seen.sum_ns += n as f64 * beyond * 1e9;
            }
        }
        let windows: f64 = timers.iter().map(|t| ((1.0 + within) * t).min(to) - t.min(to)).sum();
        seen.chance = at_least_by_chance(seen.at_timers, seen.late, windows / (to - from));
        (seen.all > 0).then_some(seen)
    }

    /// At timers, of all.
    pub fn share(&self) -> f64 {
        self.at_timers as f64 / self.all.max(1) as f64
    }

    /// At timers, of the late.
    pub fn of_late(&self) -> f64 {
        self.at_timers as f64 / self.late.max(1) as f64
    }
}

/// P(K ≥ k) of a binomial: the regularised incomplete beta I_p(k, n − k + 1).
fn at_least_by_chance(k: u64, n: u64, p: f64) -> f64 {
    if k == 0 { 1.0 } else { beta_cdf(p, k as f64, (n - k) as f64 + 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(connect_ms: &[u64], service_ms: &[u64]) -> Tally {
        let mut tally = Tally { completed: service_ms.len() as u64, ..Tally::default() };
        connect_ms.iter().for_each(|ms| tally.connect.record(Nanos::from_millis(*ms)));
        service_ms.iter().for_each(|ms| tally.service.record(Nanos::from_millis(*ms)));
        tally
    }

    #[test]
    fn lost_syns_show_in_the_connects() {
        let mut connects = vec![1; 95];
        connects.extend([1_004, 1_012, 1_030, 2_040, 3_020]);
        let lost = Lost::of(&tally(&connects, &[10; 100])).unwrap();
        let seen = lost.connects.unwrap();
        assert_eq!((seen.all, seen.late, seen.at_timers), (100, 5, 5));
        assert!(seen.share() == 0.05 && seen.of_late() == 1.0 && seen.chance < 0.01, "{seen:?}");
        assert!((lost.connect_ns / 81.06e6 - 1.0).abs() < 1e-3, "{lost:?}");
        assert_eq!(lost.responses.unwrap().late, 0);
    }

    #[test]
    fn lost_data_shows_in_the_answers_whatever_a_typical_one_takes() {
        let mut answers = vec![300; 95];
        answers.extend([503, 506, 511, 904, 1_740]);
        let seen = Lost::of(&tally(&[], &answers)).unwrap();
        assert_eq!(seen.connects, None, "nothing was connected");
        let seen = seen.responses.unwrap();
        assert_eq!((seen.late, seen.at_timers), (5, 5));
        assert!(seen.chance < 0.01, "{seen:?}");
    }

    #[test]
    fn late_by_chance_is_no_cluster() {
        let answers: Vec<u64> = (0..1_000).map(|i| if i % 20 == 0 { 200 + 2 * i } else { 10 }).collect();
        let seen = Lost::of(&tally(&[], &answers)).unwrap().responses.unwrap();
        assert!(seen.late == 50 && seen.of_late() < 0.4 && seen.chance > 0.01, "{seen:?}");
        assert_eq!(Lost::of(&Tally::default()), None);
    }

    /// 10 coins: 8 heads or more are (45 + 10 + 1)/1024.
    #[test]
    fn chance_is_binomial() {
        assert!((at_least_by_chance(8, 10, 0.5) - 56.0 / 1024.0).abs() < 1e-9);
        assert_eq!(at_least_by_chance(0, 10, 0.5), 1.0);
    }
}
