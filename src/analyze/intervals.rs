//! Intervals that allow for dependence: how far the percentiles of what was sampled are known.
//!
//! Under load neighbouring requests share their queue, so n requests say less than n independent ones would. How much less
//! is measured: τ is the variance of the share above the percentile, between contiguous batches (or between rounds), relative
//! to what independence would give. The interval is the distribution-free one of order statistics for n/τ requests, widened
//! for τ being an estimate, and never narrower than the independent one. Where the sample cannot support an upper bound
//! there is none. docs/STATISTICS.md has the derivation and the measured coverage. No histograms here but the tally's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::special::{normal_cdf, normal_quantile, share_bounds, t_quantile};
use super::stats::{Bounds, CONFIDENCE, Percentile, Quantile, ResponseTimes, order_statistic_ranks};
use super::summary::{Responses, TABLED};
use crate::load::time::Nanos;
use crate::record::{Batch, Tally};

/// Intervals are made of at most so many batches a round; more are merged by neighbours, so that each is long.
const BATCHES_MAX: usize = crate::record::BATCHES;
/// From so many rounds on, the variation between rounds is a level of its own. Fewer say too little about it.
pub const ROUNDS_MIN: usize = 6;
/// Effective requests beyond a percentile below which it is marked insufficient.
const BEYOND_MIN: f64 = 10.0;
/// The relative half width that [`Interval::needed`] aims at.
pub const PRECISION: f64 = 0.05;

/// A percentile's interval, as reports hold it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The true percentile is not below this.
    pub low: Nanos,
    /// Nor above this; null where the sample gives no upper bound.
    pub high: Option<Nanos>,
    /// There is no upper bound.
    pub unbounded: bool,
    /// How many requests are worth one independent request; null where no batches were kept.
    pub tau: Option<f64>,
    /// Requests over τ.
    pub n_eff: f64,
    /// At least ten effective requests lie beyond the percentile. Only a mark.
    pub sufficient: bool,
    /// About so many requests would make it ±5 %; null where it is that narrow, or where more would not help.
    pub needed: Option<u64>,
    /// How long these take at the rate of this run.
    pub needed_ns: Option<Nanos>,
}

/// Events among the requests of one batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Requests with the event.
    pub events: f64,
    /// Requests.
    pub of: f64,
}

/// How much a sample is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Variance of the share, relative to independent requests. 1 at least.
    pub tau: f64,
    /// Batches (or rounds) less one, that τ was estimated from; infinite where it was not.
    pub degrees: f64,
}

impl Spread {
    /// Of independent requests.
    pub const INDEPENDENT: Self = Self { tau: 1.0, degrees: f64::INFINITY };

    /// The half width in standard errors of independent requests: what one interval is wider than another by.
    fn width(self) -> f64 {
        let share = two_sided(CONFIDENCE);
        if self.tau > 1.0 { self.quantile(share) * self.tau.sqrt() } else { normal_quantile(share) }
    }

    fn quantile(self, share: f64) -> f64 {
        t_quantile(share, self.degrees)
    }
}

/// The share below the upper bound of a two-sided interval.
fn two_sided(confidence: f64) -> f64 {
    0.5 + confidence / 2.0
}

/// The spread of a share over the batches of each round: between neighbouring batches, and between rounds where there are
/// enough of them; the wider counts.
pub fn spread(rounds: &[Vec<Share>]) -> Spread {
    let batches: Vec<Share> = rounds.iter().flatten().copied().collect();
    let mut candidates = vec![between(&batches)];
    if rounds.len() >= ROUNDS_MIN {
        let whole = |round: &Vec<Share>| Share {
            events: round.iter().map(|share| share.events).sum(),
            of: round.iter().map(|share| share.of).sum(),
        };
        candidates.push(between(&rounds.iter().map(whole).collect::<Vec<_>>()));
    }
    let known = candidates.into_iter().flatten();
    known.max_by(|a, b| a.width().total_cmp(&b.width())).unwrap_or(Spread::INDEPENDENT)
}

/// τ of parts of about the same size: K/(K−1)·Σ(eₖ − ê·nₖ)² against n·ê(1−ê). None where nothing varies.
fn between(parts: &[Share]) -> Option<Spread> {
    let (count, requests) = (parts.len() as f64, parts.iter().map(|part| part.of).sum::<f64>());
    let share = parts.iter().map(|part| part.events).sum::<f64>() / requests;
    if parts.len() < 2 || !(share > 0.0 && share < 1.0) {
        return None;
    }
    let squares: f64 = parts.iter().map(|part| (part.events - share * part.of).powi(2)).sum();
    let tau = count / (count - 1.0) * squares / (requests * share * (1.0 - share));
    Some(Spread { tau: tau.max(1.0), degrees: count - 1.0 })
}

/// The 1-based ranks among `n` values that enclose the percentile with 95 %; see [`order_statistic_ranks`].
pub fn ranks(p: Percentile, n: u64, spread: Spread) -> (u64, Option<u64>) {
    ranks_at(p, n, spread, CONFIDENCE)
}

fn ranks_at(p: Percentile, n: u64, spread: Spread, confidence: f64) -> (u64, Option<u64>) {
    if spread.tau <= 1.0 {
        return order_statistic_ranks(p, n, confidence);
    }
    let effective = (n as f64 / spread.tau).floor() as u64;
    if effective == 0 {
        return (0, None);
    }
    // The t quantile makes up for τ being estimated; as a confidence, the exact binomial can take it.
    let confidence = (2.0 * normal_cdf(spread.quantile(two_sided(confidence))) - 1.0).min(0.999_999);
    let (low, high) = order_statistic_ranks(p, effective, confidence);
    // Each effective request stands for a block of n/effective; the outer ends of the blocks count.
    let block = n as f64 / effective as f64;
    let low = if low == 0 { 0 } else { ((low - 1) as f64 * block).floor() as u64 + 1 };
    (low, high.map(|high| ((high as f64 * block).ceil() as u64).min(n)))
}

/// Neighbours of one round merged until there are at most [`BATCHES_MAX`].
fn coarse(mut shares: Vec<Share>) -> Vec<Share> {
    while shares.len() > BATCHES_MAX {
        let both = |pair: &[Share]| Share {
            events: pair.iter().map(|share| share.events).sum(),
            of: pair.iter().map(|share| share.of).sum(),
        };
        shares = shares.chunks(2).map(both).collect();
    }
    shares
}

/// The shares of an event in each batch of a tally. Requests that were never drawn follow as batches of their own, in
/// which everything is an event.
fn shares(tally: &Tally, events: impl Fn(&Batch) -> u64) -> Vec<Vec<Share>> {
    let mut rounds: Vec<Vec<Share>> = Vec::new();
    for round in &tally.batches {
        let share = |batch: &Batch| Share { events: events(batch) as f64, of: batch.requests as f64 };
        rounds.push(coarse(round.as_slice().iter().map(share).collect()));
    }
    let drawn: f64 = rounds.iter().flatten().map(|share| share.of).sum();
    let undrawn = tally.scheduled as f64 - drawn;
    if drawn > 0.0 && undrawn > 0.0 {
        let size = drawn / rounds.iter().flatten().count() as f64;
        let many = (undrawn / size).ceil();
        let each = Share { events: undrawn / many, of: undrawn / many };
        rounds.last_mut().expect("something was drawn").extend(vec![each; (many as usize).min(1_000)]);
    }
    rounds
}

/// The spread of the share of requests that are slower than the percentile, or not successful.
fn spread_above(tally: &Tally, quantile: Quantile) -> Spread {
    let at = match quantile {
        Quantile::Value(value) => value,
        // Among the unsuccessful: the share of these.
        Quantile::Censored { .. } => Nanos::MAX,
        Quantile::Empty => return Spread::INDEPENDENT,
    };
    // Buckets are counted whole: from above and from below the percentile's own. The more dependent of both counts.
    let above = spread(&shares(tally, |batch| batch.requests - batch.around(at).1));
    let from = spread(&shares(tally, |batch| batch.requests - batch.around(at).0));
    if above.width() >= from.width() { above } else { from }
}

/// The bounds of a percentile of the response time over all scheduled requests, and what they were made from.
pub fn bounds(tally: &Tally, p: Percentile) -> (Bounds, Spread) {
    bounds_at(tally, p, CONFIDENCE)
}

/// [`bounds`] with another confidence, in (0, 1).
pub fn bounds_at(tally: &Tally, p: Percentile, confidence: f64) -> (Bounds, Spread) {
    let quantile = Responses(tally).quantile(p);
    let spread = spread_above(tally, quantile);
    let (low, high) = ranks_at(p, tally.scheduled, spread, confidence);
    let edge = |rank: u64| tally.response_ok.edges_at_rank(rank);
    let censored = low > tally.response_ok.count();
    let low = match (edge(low), low, Responses(tally).at_rank(low)) {
        (Some((edge, _)), ..) => edge,
        (None, 1.., Quantile::Censored { at }) => at,
        _ => Nanos::ZERO,
    };
    (Bounds { low, high: high.and_then(edge).map(|(_, edge)| edge), censored }, spread)
}

/// The interval of a percentile.
pub fn interval(tally: &Tally, p: Percentile) -> Interval {
    let (Bounds { low, high, .. }, spread) = bounds(tally, p);
    let n_eff = tally.scheduled as f64 / spread.tau;
    let needed = match Responses(tally).quantile(p) {
        Quantile::Value(value) if !narrow(low, high, value) => needed(tally, p, value, spread.tau),
        _ => None,
    };
    let needed_ns = needed
        .filter(|_| tally.scheduled > 0)
        .map(|needed| Nanos((tally.elapsed.0 as f64 * needed as f64 / tally.scheduled as f64) as u64));
    Interval {
        low,
        high,
        unbounded: high.is_none(),
        tau: (!tally.batches.is_empty()).then_some(spread.tau),
        n_eff,
        sufficient: n_eff * p.share_above() >= BEYOND_MIN,
        needed,
        needed_ns,
    }
}

fn narrow(low: Nanos, high: Option<Nanos>, value: Nanos) -> bool {
    high.is_some_and(|high| (high - low).0 as f64 <= 2.0 * PRECISION * value.0 as f64)
}

/// The intervals of the tabled percentiles, by the names that the figures have.
pub fn tabled(tally: &Tally) -> BTreeMap<String, Interval> {
    if tally.scheduled == 0 {
        return BTreeMap::new();
    }
    TABLED.iter().map(|(name, p)| ((*name).to_owned(), interval(tally, *p))).collect()
}

/// About how many requests make the interval ±5 %: n = τ·z²·p(1−p)/(f(q)·q·r)², with the density f(q) from the slope of
/// the distribution over ±2 standard errors; and enough for an upper bound at all.
fn needed(tally: &Tally, p: Percentile, value: Nanos, tau: f64) -> Option<u64> {
    let (n, above) = (tally.scheduled as f64, p.share_above());
    let variance = tau * (1.0 - above) * above;
    let reach = (2.0 * (variance * n).sqrt()).ceil() as u64;
    let rank = p.rank(tally.scheduled);
    let last = tally.response_ok.count();
    let (from, to) = (rank.saturating_sub(reach).max(1), (rank + reach).min(last));
    let at = |rank: u64| Some(tally.response_ok.at_rank(rank)?.0 as f64);
    let (low, high) = (at(from)?, at(to)?);
    let z = normal_quantile(two_sided(CONFIDENCE));
    let density = (to - from) as f64 / n / (high - low).max(1.0);
    let wanted = variance * (z / (density * value.0 as f64 * PRECISION)).powi(2);
    let finite = tau * ((1.0 - CONFIDENCE) / 2.0).ln() / (-above).ln_1p();
    let wanted = wanted.max(finite);
    // Two digits are more than it is good for.
    let unit = 10_f64.powf((wanted.log10().floor() - 1.0).max(0.0));
    (wanted.is_finite() && wanted < 1e15).then(|| ((wanted / unit).ceil() * unit) as u64)
}

/// Exact bounds of the share of requests with an event, `events` of all scheduled, spread over batches like the
/// unsuccessful are.
pub fn share_of_scheduled(tally: &Tally, events: u64, confidence: f64) -> (f64, f64) {
    let tau = error_tau(tally);
    let (k, n) = (events as f64 / tau, tally.scheduled as f64 / tau);
    share_bounds(k, n, (1.0 - confidence) / 2.0)
}

/// τ of the unsuccessful; errors come in bursts.
pub fn error_tau(tally: &Tally) -> f64 {
    spread(&shares(tally, |batch| batch.requests - batch.successful())).tau
}

/// The interval of the mean response time of the successful, by batch means; none with fewer than two batches.
pub fn mean(tally: &Tally, confidence: f64) -> Option<Bounds> {
    let mean = tally.response_ok.sum() as f64 / tally.response_ok.count() as f64;
    let of_round = |round: &crate::record::Batches| {
        let sums = round.as_slice().iter();
        coarse(sums.map(|b| Share { events: b.sum_ns as f64, of: b.successful() as f64 }).collect())
    };
    let rounds: Vec<Vec<Share>> = tally.batches.iter().map(of_round).collect();
    let half = |parts: &[Share]| {
        let parts: Vec<Share> = parts.iter().filter(|part| part.of > 0.0).copied().collect();
        let (count, values) = (parts.len() as f64, parts.iter().map(|part| part.of).sum::<f64>());
        let squares: f64 = parts.iter().map(|part| (part.events - mean * part.of).powi(2)).sum();
        (parts.len() >= 2).then(|| {
            t_quantile(two_sided(confidence), count - 1.0) * (count / (count - 1.0) * squares).sqrt() / values
        })
    };
    let batches: Vec<Share> = rounds.iter().flatten().copied().collect();
    let whole = rounds.iter().map(|round| Share {
        events: round.iter().map(|part| part.events).sum(),
        of: round.iter().map(|part| part.of).sum(),
    });
    let between = if rounds.len() >= ROUNDS_MIN { half(&whole.collect::<Vec<_>>()) } else { None };
    let half = half(&batches)?.max(between.unwrap_or(0.0));
    let (low, high) = ((mean - half).max(0.0) as u64, (mean + half).ceil() as u64);
    Some(Bounds { low: Nanos(low), high: Some(Nanos(high)), censored: false })
}

#[cfg(test)]
mod tests;
