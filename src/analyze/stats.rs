//! Percentiles and what a sample can say about them: ranks, intervals of ranks, sample sizes.
//!
//! A percentile is a typed, exact number (thousandths of a percent) and its rank is integer arithmetic:
//! float ranks are the classic bug of latency tools (p99 of 1..100 is 99, not 100). Intervals are the
//! distribution-free ones of order statistics, from the exact binomial at every sample size. They assume
//! independent requests; `intervals` allows for dependence.

use std::fmt;
use std::iter;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::load::time::Nanos;

/// A percentile in thousandths of a percent, p0 to p99.999; p100 is the maximum and has its own name.
/// As text, in reports too: `p50`, `p99.9`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percentile(u32);

/// Thousandths of a percent in the whole.
const WHOLE: u32 = 100_000;

impl Percentile {
    /// The least value.
    pub const P0: Self = Self(0);
    /// The median.
    pub const P50: Self = Self(50_000);
    /// Nine of ten are at or below it.
    pub const P90: Self = Self(90_000);
    /// 19 of 20 are at or below it.
    pub const P95: Self = Self(95_000);
    /// 99 of 100 are at or below it.
    pub const P99: Self = Self(99_000);
    /// 999 of 1000 are at or below it.
    pub const P999: Self = Self(99_900);

    /// From thousandths of a percent, 0 to 99 999 (95 000 is p95); `None` above that.
    pub const fn from_thousandths(thousandths: u32) -> Option<Self> {
        if thousandths < WHOLE { Some(Self(thousandths)) } else { None }
    }

    /// Nearest rank ⌈p·n⌉, 1-based and at least 1: with `n` values in ascending order, which one is this
    /// percentile. Exact for every `n`; for `n` = 0 there is no such value and the answer 1 exceeds `n`.
    pub const fn rank(self, n: u64) -> u64 {
        let rank = (n as u128 * self.0 as u128).div_ceil(WHOLE as u128) as u64;
        if rank == 0 { 1 } else { rank }
    }

    /// The percentile as far from the slow end as this one is from the fast end (p1 for p99); none for p0.
    pub const fn mirrored(self) -> Option<Self> {
        Self::from_thousandths(WHOLE - self.0)
    }

    /// The share of values above it, (0, 1].
    pub fn share_above(self) -> f64 {
        f64::from(WHOLE - self.0) / f64::from(WHOLE)
    }

    /// p/(1−p), from integers, so that 1−p is not the result of a subtraction of floats.
    fn odds(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE - self.0)
    }
}

/// What was no percentile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a percentile: write p0 to p99.999 with at most three decimals, as in p50 or p99.9 \
     (for p100 write max)"
)]
pub struct BadPercentile(pub String);

/// Parses `p95`, `p99.9`, `p0`; a capital P is the same.
impl FromStr for Percentile {
    type Err = BadPercentile;
    fn from_str(text: &str) -> Result<Self, BadPercentile> {
        parse_percentile(text).ok_or_else(|| BadPercentile(text.to_owned()))
    }
}

fn parse_percentile(text: &str) -> Option<Percentile> {
    let number = text.strip_prefix(['p', 'P'])?;
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (number, ""),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let fits = (1..=2).contains(&whole.len()) && fraction.len() <= 3;
    if !fits || !digits(whole) || !digits(fraction) {
        return None;
    }
    let thousandths = format!("{whole}{fraction:0<3}").parse().ok()?;
    Percentile::from_thousandths(thousandths)
}

impl fmt::Display for Percentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 1_000, self.0 % 1_000);
        if fraction == 0 {
            return f.pad(&format!("p{whole}"));
        }
        f.pad(format!("p{whole}.{fraction:03}").trim_end_matches('0'))
    }
}

impl fmt::Debug for Percentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Percentile {
    type Error = BadPercentile;
    fn try_from(text: String) -> Result<Self, BadPercentile> {
        text.parse()
    }
}

impl From<Percentile> for String {
    fn from(percentile: Percentile) -> Self {
        percentile.to_string()
    }
}

/// The value at a rank among all scheduled requests, in which everything not successful ranks last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantile {
    /// The response time of the request at that rank.
    Value(Nanos),
    /// The request at that rank was not successful: its response time is infinite to whoever waited,
    /// and known to be no less than `at`.
    Censored {
        /// The greatest lower bound that was observed.
        at: Nanos,
    },
    /// Nothing was scheduled.
    Empty,
}

/// What the true value lies between, with 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Not below this; 0 where nothing more is known.
    pub low: Nanos,
    /// Not above this; none where the sample gives no upper bound.
    pub high: Option<Nanos>,
    /// Even the lower bound falls among the requests that were not successful: `low` is then the least it can be.
    pub censored: bool,
}

/// The response times of a run, as those who judge them need them.
pub trait ResponseTimes {
    /// The value at the nearest rank of `p` over all scheduled requests.
    fn quantile(&self, p: Percentile) -> Quantile;
    /// What the true percentile lies between.
    fn bounds(&self, p: Percentile) -> Bounds;
}

/// Response times held as they are, in ascending order: exact, and the reference for anything that buckets.
#[derive(Debug, Clone, Copy)]
pub struct SortedResponses<'a> {
    /// Response times of the successful requests, ascending.
    pub successful: &'a [Nanos],
    /// All scheduled requests, the successful among them.
    pub scheduled: u64,
    /// What is known of the others: each took at least this long.
    pub censored_at: Nanos,
}

impl ResponseTimes for SortedResponses<'_> {
    fn quantile(&self, p: Percentile) -> Quantile {
        if self.scheduled == 0 {
            return Quantile::Empty;
        }
        let index = p.rank(self.scheduled) - 1;
        let value = usize::try_from(index).ok().and_then(|i| self.successful.get(i));
        match value {
            Some(&value) => Quantile::Value(value),
            None => Quantile::Censored { at: self.censored_at },
        }
    }

    /// Of independent requests: nothing is known of their order.
    fn bounds(&self, p: Percentile) -> Bounds {
        let (low, high) = order_statistic_ranks(p, self.scheduled, CONFIDENCE);
        let at = |rank: u64| self.successful.get(usize::try_from(rank.checked_sub(1)?).ok()?).copied();
        let censored = low > self.successful.len() as u64;
        let low = if low == 0 { Nanos::ZERO } else { at(low).unwrap_or(self.censored_at) };
        Bounds { low, high: high.and_then(at), censored }
    }
}

/// The usual two-sided confidence of an interval in a report.
pub const CONFIDENCE: f64 = 0.95;

/// The 1-based ranks (l, u) of the order statistics that enclose the percentile `p` of what was sampled
/// with at least `confidence` (two-sided, [0.5, 1)), given `n` independent values.
///
/// With B ~ Bin(n, p): l = max{l : P(B ≤ l−1) ≤ α/2}, u = min{u : P(B ≥ u) ≤ α/2}, exact at every n
/// (Hahn & Meeker, *Statistical Intervals*; Le Boudec, *Performance Evaluation*; science.md 1.13). l = 0:
/// the sample gives no lower bound. u = `None`: the upper bound is +∞, never the maximum. Time and memory
/// grow with √n; n = 10⁷ takes a quarter of a megabyte.
///
/// # Panics
/// If `confidence` is outside its range.
pub fn order_statistic_ranks(p: Percentile, n: u64, confidence: f64) -> (u64, Option<u64>) {
    assert!((0.5..1.0).contains(&confidence), "confidence {confidence}");
    let tail = (1.0 - confidence) / 2.0;
    let binomial = Binomial::new(p, n);
    let lower = binomial.first + outside(binomial.mass.iter(), tail);
    let end = binomial.first + binomial.mass.len() as u64;
    let upper = end - outside(binomial.mass.iter().rev(), tail);
    (lower, (upper <= n).then_some(upper))
}

/// How many of the outermost values together have a probability of at most `tail`; the sum starts with
/// the smallest terms, so nothing cancels and little is rounded.
fn outside<'a>(inwards: impl Iterator<Item = &'a f64>, tail: f64) -> u64 {
    let cumulated = inwards.scan(0.0, |sum, mass| {
        *sum += mass;
        Some(*sum)
    });
    cumulated.take_while(|sum| *sum <= tail).count() as u64
}

/// Bin(n, p) where it is not negligible: `mass[i]` = P(B = first + i).
struct Binomial {
    first: u64,
    mass: Vec<f64>,
}

/// Where the walk away from the mode ends, relative to the mode (9.6 standard deviations for large n).
/// The terms shrink ever faster from there, so what is left out is less than 1e-19 of the whole.
const NEGLIGIBLE: f64 = 1e-20;

impl Binomial {
    /// By the ratio of neighbours, P(k+1)/P(k) = (n−k)/(k+1) · p/(1−p), from the mode outwards, then
    /// normalised: no factorials, no log-gamma, relative error about √n·1e-16·few.
    fn new(p: Percentile, n: u64) -> Self {
        let odds = p.odds();
        let mode = ((u128::from(n) + 1) * u128::from(p.0) / u128::from(WHOLE)) as u64;
        let below =
            walk(mode, |k, weight| (k > 0).then(|| (k - 1, weight * k as f64 / ((n - k + 1) as f64 * odds))));
        let above =
            walk(mode, |k, weight| (k < n).then(|| (k + 1, weight * (n - k) as f64 * odds / (k + 1) as f64)));

        let first = mode - below.len() as u64;
        let mut mass: Vec<f64> = below.into_iter().rev().collect();
        mass.push(1.0);
        mass.extend(above);
        let total: f64 = mass.iter().sum();
        mass.iter_mut().for_each(|weight| *weight /= total);
        Self { first, mass }
    }
}

/// The weights of the neighbours of `mode` in one direction, relative to it, until they are negligible.
fn walk(mode: u64, step: impl Fn(u64, f64) -> Option<(u64, f64)>) -> Vec<f64> {
    let neighbours = iter::successors(step(mode, 1.0), |&(k, weight)| step(k, weight));
    let weights = neighbours.map(|(_, weight)| weight);
    weights.take_while(|weight| *weight > NEGLIGIBLE).collect()
}

/// The fewest independent requests from which a finite upper bound of the percentile can follow: the
/// smallest n ≥ 1 with pⁿ ≤ 1 − confidence (one-sided, (0, 1)). With fewer, not even a sample without one
/// request over the limit shows that the percentile is within it. p95 59, p99 299, p99.9 2 995.
///
/// # Panics
/// If `confidence_one_sided` is outside its range.
pub fn requests_for_upper_bound(p: Percentile, confidence_one_sided: f64) -> u64 {
    let in_range = confidence_one_sided > 0.0 && confidence_one_sided < 1.0;
    assert!(in_range, "confidence {confidence_one_sided}");
    let ln_p = (-p.share_above()).ln_1p(); // -inf for p0: then n is 1
    let n = (1.0 - confidence_one_sided).ln() / ln_p;
    let rounding = 1.0 - 1e-12; // so that pⁿ = 1 − confidence is not missed by the last bit
    ((n * rounding).ceil() as u64).max(1)
}

/// The middle value, or the mean of the middle two; `None` of none. For the figures of a few rounds.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests;
