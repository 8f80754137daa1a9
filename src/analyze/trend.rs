//! A figure over a history of runs: where its level changed, and how far each run is from those before it.
//!
//! The unit is the run, the values are logarithms, so a change is a share. **Change points** by binary segmentation (Scott and
//! Knott, Biometrics 30, 1974): of each stretch the split with the greatest standardised Mann–Whitney statistic (Pettitt, Applied
//! Statistics 28, 1979) is tested by permuting the stretch (as E-divisive does: Matteson and James, JASA 109, 2014); where it is
//! significant, both sides are searched in turn. A stretch has its share of the error by its length, so the stretches of one
//! depth have no more than the whole together. What permuting assumes is that runs without a change are exchangeable: a slow
//! drift shows as several changes. The **size** of a change is Hodges and Lehmann's shift with the interval of the inverted
//! Mann–Whitney test; it is of the best split, so it is rather too large than too small.
//!
//! **Against the rolling baseline**, the runs before a run since the last change: the interval is the one in which the next run of a normal sample is expected (t with the
//! baseline's own spread), moved to the change. Not here: which runs belong together, and which may be used.

use serde::{Deserialize, Serialize};

use super::paired::{Criteria, Difference};
use super::special::{normal_quantile, t_quantile};
use super::stats::median;
use crate::load::rng::Rng;

/// No stretch between changes is shorter.
const STRETCH_MIN: usize = 3;
/// Fewer runs than these cannot show a change: of 2·4!·4!/8! = 1/35 is below 5 %, 2·3!·4!/7! is not.
pub const RUNS_MIN: usize = 8;
/// Fewer runs are no baseline.
pub const BASELINE_MIN: usize = 4;
/// Of each test; its least p-value is one in so many and one.
const PERMUTATIONS: u32 = 4_999;
/// Results are a function of the values.
const SEED: u64 = 0x0074_7265_6e64;
/// Up to so many values the Mann–Whitney distribution is exact (its counts are whole in a double); beyond, it is normal.
const EXACT: usize = 50;

/// From this run on the level is another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangePoint {
    /// The first value of the new level, from 0.
    pub at: usize,
    /// Of the permutation test.
    pub p_value: f64,
    /// Later/earlier, less 1, between the stretches on both sides of it.
    pub change: f64,
    /// What that lies between; null with too few runs on both sides.
    pub interval: Option<[f64; 2]>,
}

/// One run beside the runs before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deviation {
    /// Runs in the baseline.
    pub runs: u32,
    /// This run over the baseline's geometric mean, less 1.
    pub change: f64,
    /// What that lies between. If it includes 0, such a run was to be expected.
    pub interval: [f64; 2],
    /// What follows.
    pub verdict: Difference,
}

/// Where the level of `logs` changed, in their order.
pub fn change_points(logs: &[f64], confidence: f64) -> Vec<ChangePoint> {
    let mut found = Vec::new();
    let mut open = vec![(0, logs.len())];
    while let Some((from, to)) = open.pop() {
        let error = (1.0 - confidence) * (to - from) as f64 / logs.len() as f64;
        if let Some((split, p_value)) = split(&logs[from..to], error) {
            found.push((from + split, p_value));
            open.extend([(from, from + split), (from + split, to)]);
        }
    }
    found.sort_by_key(|(at, _)| *at);
    let ends: Vec<usize> =
        [0].into_iter().chain(found.iter().map(|(at, _)| *at)).chain([logs.len()]).collect();
    let sized = ends.windows(3).zip(found).map(|(ends, (at, p_value))| {
        let (change, interval) = shift(&logs[ends[0]..at], &logs[at..ends[2]], confidence);
        ChangePoint { at, p_value, change, interval }
    });
    sized.collect()
}

/// Each value beside the mean of the up to `window` before it that are of the same level: since the last of `changes` before
/// it. None where these are too few. `up_is_slower`: true of times, false of throughput.
pub fn deviations(
    logs: &[f64],
    changes: &[ChangePoint],
    window: usize,
    criteria: Criteria,
    up_is_slower: bool,
) -> Vec<Option<Deviation>> {
    let one = |(at, value): (usize, &f64)| {
        let level = changes.iter().map(|change| change.at).rfind(|change| *change < at).unwrap_or(0);
        let baseline = &logs[level.max(at.saturating_sub(window))..at];
        let runs = baseline.len();
        if runs < BASELINE_MIN {
            return None;
        }
        let mean = baseline.iter().sum::<f64>() / runs as f64;
        let squares: f64 = baseline.iter().map(|x| (x - mean).powi(2)).sum();
        let spread = (squares / (runs - 1) as f64 * (1.0 + 1.0 / runs as f64)).sqrt();
        let share = 1.0 - (1.0 - criteria.confidence) / 2.0;
        let reach = t_quantile(share, (runs - 1) as f64) * spread;
        let change = value - mean;
        let interval = [change - reach, change + reach].map(f64::exp_m1);
        let verdict = verdict(change.exp_m1(), interval, criteria.min_effect, up_is_slower);
        Some(Deviation { runs: runs as u32, change: change.exp_m1(), interval, verdict })
    };
    logs.iter().enumerate().map(one).collect()
}

fn verdict(change: f64, [low, high]: [f64; 2], margin: f64, up_is_slower: bool) -> Difference {
    if -margin <= low && high <= margin {
        Difference::Same
    } else if (low <= 0.0 && high >= 0.0) || change.abs() < margin {
        Difference::Inconclusive
    } else if (change > 0.0) == up_is_slower {
        Difference::Slower
    } else {
        Difference::Faster
    }
}

/// The best split of a stretch and its p-value, if that is not above `error`.
fn split(values: &[f64], error: f64) -> Option<(usize, f64)> {
    if values.len() < 2 * STRETCH_MIN {
        return None;
    }
    let mut ranks = midranks(values);
    let (at, observed) = greatest(&ranks);
    let all = f64::from(PERMUTATIONS + 1);
    let mut rng = Rng::new(SEED);
    let mut as_great = 1_u32;
    for _ in 0..PERMUTATIONS {
        rng.shuffle(&mut ranks);
        as_great += u32::from(greatest(&ranks).1 >= observed * (1.0 - 1e-12));
        if f64::from(as_great) / all > error {
            return None;
        }
    }
    Some((at, f64::from(as_great) / all))
}

/// The split with the greatest |U − mean|/sd, and that. Ties shrink every sd alike, which no comparison sees.
fn greatest(ranks: &[f64]) -> (usize, f64) {
    let n = ranks.len() as f64;
    let (mut best, mut sum) = ((0, f64::NEG_INFINITY), 0.0);
    for (before, rank) in ranks.iter().enumerate() {
        let splits = before >= STRETCH_MIN && ranks.len() - before >= STRETCH_MIN;
        let k = before as f64;
        let off = (sum - k * (n + 1.0) / 2.0).abs() / (k * (n - k) * (n + 1.0) / 12.0).sqrt();
        if splits && off > best.1 {
            best = (before, off);
        }
        sum += rank;
    }
    best
}

/// Ranks from 1; equals share the mean of theirs.
fn midranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        below as f64 + (equal as f64 + 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

/// Hodges and Lehmann's shift from `before` to `after` as a share, and its interval.
fn shift(before: &[f64], after: &[f64], confidence: f64) -> (f64, Option<[f64; 2]>) {
    let mut differences: Vec<f64> = after.iter().flat_map(|a| before.iter().map(move |b| a - b)).collect();
    differences.sort_by(f64::total_cmp);
    let middle = median(&differences).expect("no stretch is empty");
    let interval = mann_whitney_rank(before.len(), after.len(), confidence)
        .map(|rank| [differences[rank - 1], differences[differences.len() - rank]].map(f64::exp_m1));
    (middle.exp_m1(), interval)
}

/// Which difference from either end is the end of the interval: the greatest c ≥ 1 with P(U ≤ c−1) ≤ α/2.
fn mann_whitney_rank(m: usize, n: usize, confidence: f64) -> Option<usize> {
    let tail = (1.0 - confidence) / 2.0;
    let rank = if m + n <= EXACT {
        let counts = mann_whitney_counts(m, n);
        let all: f64 = counts.iter().sum();
        let mut sum = 0.0;
        let cumulated = counts.into_iter().map(|count| {
            sum += count / all;
            sum
        });
        cumulated.take_while(|sum| *sum <= tail * (1.0 + 1e-12)).count()
    } else {
        let (m, n) = (m as f64, n as f64);
        let sd = (m * n * (m + n + 1.0) / 12.0).sqrt();
        (m * n / 2.0 - normal_quantile(1.0 - tail) * sd).floor().max(0.0) as usize
    };
    (rank >= 1).then_some(rank)
}

/// In how many orders of m and n values U is 0, 1, …: the coefficients of the Gaussian binomial Π (1 − x^(n+i))/(1 − xⁱ).
fn mann_whitney_counts(m: usize, n: usize) -> Vec<f64> {
    let mut counts = vec![0.0; m * n + 1];
    counts[0] = 1.0;
    for i in 1..=m {
        for u in (n + i..counts.len()).rev() {
            counts[u] -= counts[u - n - i];
        }
        for u in i..counts.len() {
            counts[u] += counts[u - i];
        }
    }
    counts
}

#[cfg(test)]
mod tests;
