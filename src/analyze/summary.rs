//! Figures: the percentiles of what was recorded.
//!
//! Response percentiles are over all scheduled requests; those that were not successful rank last, so
//! that failing fast cannot improve them. The other distributions are over the requests that have the
//! value. Their intervals are made in `intervals`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::gate::{Measured, Throughput};
use super::intervals;
use super::stats::{Bounds, CONFIDENCE, Percentile, Quantile, ResponseTimes};
use crate::load::sample::Failure;
use crate::load::time::Nanos;
use crate::record::{Distribution, Tally, count_of};

/// The figures of one distribution, in nanoseconds. A figure that does not exist is null.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// How many requests the percentiles are over.
    pub count: u64,
    /// How many of them have a value: min, mean and max are over these.
    pub valued: u64,
    /// Exact.
    pub min: Option<Nanos>,
    /// Exact, rounded down.
    pub mean: Option<Nanos>,
    /// Nearest rank, within 0.05 %.
    pub p50: Option<Nanos>,
    /// Nearest rank, within 0.05 %.
    pub p90: Option<Nanos>,
    /// Nearest rank, within 0.05 %.
    pub p95: Option<Nanos>,
    /// Nearest rank, within 0.05 %.
    pub p99: Option<Nanos>,
    /// p99.9. Nearest rank, within 0.05 %.
    pub p999: Option<Nanos>,
    /// Exact.
    pub max: Option<Nanos>,
    /// For each percentile that fell among the unsuccessful: the least it can be.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub censored_at_ns: BTreeMap<String, Nanos>,
    /// Values beyond the histogram's range of one hour; they count in every other figure.
    #[serde(default)]
    pub out_of_range: u64,
}

/// The percentiles that every table has.
pub const TABLED: [(&str, Percentile); 5] = [
    ("p50", Percentile::P50),
    ("p90", Percentile::P90),
    ("p95", Percentile::P95),
    ("p99", Percentile::P99),
    ("p999", Percentile::P999),
];

impl Figures {
    /// Of a distribution in which every request has a value.
    pub fn of(distribution: &Distribution) -> Self {
        let count = distribution.count();
        Self::from_quantiles(distribution, count, |p| match distribution.at_rank(p.rank(count)) {
            Some(value) => Quantile::Value(value),
            None => Quantile::Empty,
        })
    }

    /// Of the response time over all scheduled requests.
    pub fn of_responses(tally: &Tally) -> Self {
        Self::from_quantiles(&tally.response_ok, tally.scheduled, |p| Responses(tally).quantile(p))
    }

    /// The tabled percentile of this name.
    pub fn percentile(&self, name: &str) -> Option<Nanos> {
        match name {
            "p50" => self.p50,
            "p90" => self.p90,
            "p95" => self.p95,
            "p99" => self.p99,
            "p999" => self.p999,
            _ => None,
        }
    }

    fn from_quantiles(values: &Distribution, count: u64, quantile: impl Fn(Percentile) -> Quantile) -> Self {
        let mut censored_at_ns = BTreeMap::new();
        let mut at = |(name, p): (&str, Percentile)| match quantile(p) {
            Quantile::Value(value) => Some(value),
            Quantile::Censored { at } => {
                censored_at_ns.insert(name.to_owned(), at);
                None
            }
            Quantile::Empty => None,
        };
        let [p50, p90, p95, p99, p999] = TABLED.map(&mut at);
        Self {
            count,
            valued: values.count(),
            min: values.min(),
            mean: values.mean(),
            p50,
            p90,
            p95,
            p99,
            p999,
            max: values.max(),
            censored_at_ns,
            out_of_range: values.out_of_range(),
        }
    }
}

/// Response times over all scheduled requests of a tally.
pub struct Responses<'a>(pub &'a Tally);

impl ResponseTimes for Responses<'_> {
    fn quantile(&self, p: Percentile) -> Quantile {
        let scheduled = &self.0.scheduled;
        if *scheduled == 0 {
            return Quantile::Empty;
        }
        self.at_rank(p.rank(*scheduled))
    }

    fn bounds(&self, p: Percentile) -> Bounds {
        intervals::bounds(self.0, p).0
    }
}

impl Responses<'_> {
    /// The value at `rank` (from 1) among all scheduled requests.
    pub(super) fn at_rank(&self, rank: u64) -> Quantile {
        let Tally { scheduled, response_ok, response_not_ok, .. } = self.0;
        if let Some(value) = response_ok.at_rank(rank) {
            return Quantile::Value(value);
        }
        // Among the unsuccessful: at least as long as the slowest success, and at least as long as this one of them
        // had been wanted when it ended. Requests that were never drawn have waited for an unknown time: 0.
        let undrawn = scheduled - response_ok.count() - response_not_ok.count();
        let behind = rank.saturating_sub(response_ok.count()).saturating_sub(undrawn);
        let waited = response_not_ok.at_rank(behind).unwrap_or(Nanos::ZERO);
        Quantile::Censored { at: waited.max(response_ok.max().unwrap_or(Nanos::ZERO)) }
    }
}

/// Successful requests and the time from the first intended start to the last end.
pub fn throughput(tally: &Tally) -> Throughput {
    Throughput { requests: tally.successful, window: tally.elapsed }
}

/// What the gate asks.
pub fn measured<'a>(tally: &Tally, responses: &'a Responses<'a>) -> Measured<'a> {
    let timeouts = count_of(tally, Failure::Timeout);
    let share = |count| match tally.scheduled {
        0 => (0.0, 1.0),
        _ => intervals::share_of_scheduled(tally, count, CONFIDENCE),
    };
    Measured {
        scheduled: tally.scheduled,
        successful: tally.successful,
        timeouts,
        error_share: share(tally.scheduled - tally.successful),
        timeout_share: share(timeouts),
        throughput: throughput(tally),
        mean: tally.response_ok.mean(),
        mean_bounds: intervals::mean(tally, CONFIDENCE),
        max: tally.response_ok.max(),
        responses,
        system: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(ok_ms: &[u64], not_ok_ms: &[u64], undrawn: u64) -> Tally {
        let mut tally = Tally::default();
        ok_ms.iter().for_each(|&ms| tally.response_ok.record(Nanos::from_millis(ms)));
        not_ok_ms.iter().for_each(|&ms| tally.response_not_ok.record(Nanos::from_millis(ms)));
        tally.scheduled = (ok_ms.len() + not_ok_ms.len()) as u64 + undrawn;
        tally
    }

    fn near(value: Option<Nanos>, ms: u64) -> bool {
        value.is_some_and(|v| (v.as_ms() / ms as f64 - 1.0).abs() <= 0.0005)
    }

    #[test]
    fn fast_failures_rank_at_the_slow_end() {
        // 90 answers in 100 ms, ten 503s in 1 ms: ten of a hundred users got nothing
        let figures = Figures::of_responses(&tally(&[100; 90], &[1; 10], 0));
        assert!(near(figures.p50, 100) && near(figures.p90, 100));
        assert_eq!(figures.p95, None);
        assert_eq!(figures.censored_at_ns["p95"], Nanos::from_millis(100));
        assert_eq!((figures.count, figures.valued), (100, 90));
    }

    #[test]
    fn a_timeout_bounds_the_percentile_that_falls_on_it() {
        let figures = Figures::of_responses(&tally(&[10; 98], &[1_000, 1_000], 0));
        assert_eq!(figures.censored_at_ns["p99"], Nanos::from_millis(1_000));
        assert!(near(figures.p95, 10));
    }

    #[test]
    fn requests_that_were_never_drawn_bound_nothing_by_themselves() {
        let figures = Figures::of_responses(&tally(&[10; 50], &[1_000; 10], 40));
        // ranks 51..=90 have waited for an unknown time, ranks 91..=100 for a second
        assert_eq!(figures.censored_at_ns["p90"], Nanos::from_millis(10));
        assert_eq!(figures.censored_at_ns["p95"], Nanos::from_millis(1_000));
    }

    #[test]
    fn nothing_scheduled_has_no_figures() {
        let figures = Figures::of_responses(&Tally::default());
        assert_eq!(figures, Figures::default());
    }
}
