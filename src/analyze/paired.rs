//! A against B over rounds: the effect, what it lies between, and a verdict that needs both significance and size.
//!
//! The unit is the round: requests of one round share its luck, and tests on pooled requests call 39 % of identical pairs
//! different (science.md 1.16). Each round gives one log ratio; the effect is their Hodges–Lehmann median, its interval the
//! inverted signed-rank test, exact for up to 100 rounds. Beside it stands the p-value of the sign-flip test on their sum.
//! Not here: how rounds are made, and which figure is compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::special::{normal_cdf, normal_quantile};
use super::stats::median;

/// Rounds up to which the signed-rank distribution is exact; beyond, it is normal to all purposes.
const EXACT_RANKS: usize = 100;
/// Rounds up to which every assignment of signs is tried; beyond, their sum is normal.
const EXACT_FLIPS: usize = 12;

/// What one can say about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// Significantly faster, by the least effect or more.
    Faster,
    /// Significantly slower, by the least effect or more.
    Slower,
    /// The whole interval is within the least effect.
    Same,
    /// Neither is shown.
    Inconclusive,
}

impl Difference {
    /// As reports show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Same => "same",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// The effect on one figure. Shares: −0.1 is 10 % less than the baseline, so faster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Hodges–Lehmann median over rounds of optimized/baseline, less 1.
    pub change: f64,
    /// Its interval; null with too few rounds.
    pub interval: Option<[f64; 2]>,
    /// How sure the interval is.
    pub confidence: f64,
    /// Two-sided, of the sign-flip test.
    pub p_value: f64,
    /// Rounds with the figure on both sides.
    pub rounds: u32,
    /// What follows.
    pub verdict: Difference,
    /// Why it is not more than that.
    pub reason: String,
}

impl Effect {
    /// Nothing follows from it, whatever its figures: a side was INVALID.
    pub fn refuse(&mut self) {
        if self.verdict == Difference::Inconclusive {
            return;
        }
        self.verdict = Difference::Inconclusive;
        "a side is INVALID: the difference may be the instrument's".clone_into(&mut self.reason);
    }
}

/// What makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Criteria {
    /// The least change that counts, as a share.
    pub min_effect: f64,
    /// Of the intervals.
    pub confidence: f64,
}

impl Default for Criteria {
    fn default() -> Self {
        Self { min_effect: 0.02, confidence: super::stats::CONFIDENCE }
    }
}

/// The effect behind the log ratios of rounds; none of none. `noise`: the greatest change that A against A leaves possible,
/// if that was measured; nothing up to it counts as different.
pub fn effect(log_ratios: &[f64], criteria: Criteria, noise: Option<f64>) -> Option<Effect> {
    let walsh = walsh_averages(log_ratios);
    let change = median(&walsh)?.exp_m1();
    let interval = walsh_rank(log_ratios.len(), criteria.confidence)
        .map(|rank| [walsh[rank - 1].exp_m1(), walsh[walsh.len() - rank].exp_m1()]);
    let (verdict, reason) = verdict(change, interval, log_ratios.len(), criteria, noise);
    Some(Effect {
        change,
        interval,
        confidence: criteria.confidence,
        p_value: sign_flip(log_ratios),
        rounds: log_ratios.len() as u32,
        verdict,
        reason,
    })
}

/// The two-sided p-value of the signed-rank test, which the interval inverts: at most 1 − confidence exactly where the
/// interval excludes no change. 1 of none.
pub fn signed_rank(log_ratios: &[f64]) -> f64 {
    let walsh = walsh_averages(log_ratios);
    let (up, down) =
        (walsh.iter().filter(|w| **w >= 0.0).count(), walsh.iter().filter(|w| **w <= 0.0).count());
    (2.0 * ranks_up_to(log_ratios.len(), up.min(down))).min(1.0)
}

fn verdict(
    change: f64,
    interval: Option<[f64; 2]>,
    rounds: usize,
    criteria: Criteria,
    noise: Option<f64>,
) -> (Difference, String) {
    let Some([low, high]) = interval else {
        let needed = rounds_needed(criteria.confidence);
        return (Difference::Inconclusive, format!("needs at least {needed} rounds, there are {rounds}"));
    };
    let margin = criteria.min_effect;
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    if -margin <= low && high <= margin {
        return (Difference::Same, format!("the interval is within ±{}", percent(margin)));
    }
    if low <= 0.0 && high >= 0.0 {
        return (Difference::Inconclusive, "the interval includes no change".to_owned());
    }
    if change.abs() < margin {
        let reason = format!("the effect is below the least that counts, {}", percent(margin));
        return (Difference::Inconclusive, reason);
    }
    if let Some(noise) = noise.filter(|noise| change.abs() <= *noise) {
        let reason = format!("the effect is within the noise floor of A against A, {}", percent(noise));
        return (Difference::Inconclusive, reason);
    }
    let verdict = if change < 0.0 { Difference::Faster } else { Difference::Slower };
    (verdict, format!("the interval excludes no change, and the effect is at least {}", percent(margin)))
}

/// The greatest change, up or down, in the interval of A against A; none where there are too few rounds.
pub fn noise_floor(aa: &Effect) -> Option<f64> {
    aa.interval.map(|[low, high]| low.abs().max(high.abs()))
}

/// The fewest rounds that can show anything: 2·2⁻ⁿ must not exceed the error. 6 at 95 %, 8 at 99 %.
pub fn rounds_needed(confidence: f64) -> usize {
    (1..).find(|&n| walsh_rank(n, confidence).is_some()).expect("some number of rounds is enough")
}

/// Means of all pairs, each value with itself too, ascending.
fn walsh_averages(values: &[f64]) -> Vec<f64> {
    let pairs = (0..values.len()).flat_map(|i| (0..=i).map(move |j| (i, j)));
    let mut averages: Vec<f64> = pairs.map(|(i, j)| f64::midpoint(values[i], values[j])).collect();
    averages.sort_by(f64::total_cmp);
    averages
}

/// Which Walsh average from either end is the end of the interval: the greatest c ≥ 1 with P(T ≤ c−1) ≤ α/2, where T is the
/// signed-rank statistic of `n` values.
fn walsh_rank(n: usize, confidence: f64) -> Option<usize> {
    let tail = (1.0 - confidence) / 2.0;
    let rank = if n <= EXACT_RANKS {
        let mut sum = 0.0;
        let cumulated = signed_ranks(n).into_iter().map(move |share| {
            sum += share;
            sum
        });
        cumulated.take_while(|sum| *sum <= tail * (1.0 + 1e-12)).count()
    } else {
        let n = n as f64;
        let (mean, sd) = (n * (n + 1.0) / 4.0, (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt());
        (mean - normal_quantile(1.0 - tail) * sd).floor() as usize
    };
    (rank >= 1).then_some(rank)
}

/// P(T ≤ k), where T is the signed-rank statistic of `n` values.
fn ranks_up_to(n: usize, k: usize) -> f64 {
    if n <= EXACT_RANKS {
        return signed_ranks(n).iter().take(k + 1).sum();
    }
    let n = n as f64;
    let (mean, sd) = (n * (n + 1.0) / 4.0, (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt());
    normal_cdf((k as f64 + 1.0 - mean) / sd)
}

/// P(T = k) for k = 0, 1, …: each rank counts or not, with even chances.
fn signed_ranks(n: usize) -> Vec<f64> {
    let mut shares = vec![0.0; n * (n + 1) / 2 + 1];
    shares[0] = 1.0;
    for rank in 1..=n {
        for k in (0..=rank * (rank + 1) / 2).rev() {
            let with = if k >= rank { shares[k - rank] } else { 0.0 };
            shares[k] = f64::midpoint(shares[k], with);
        }
    }
    shares
}

/// The share of assignments of signs whose sum is as far from zero as the observed one.
fn sign_flip(values: &[f64]) -> f64 {
    let observed = values.iter().sum::<f64>().abs() * (1.0 - 1e-12);
    let sum = |signs: u64| -> f64 {
        values.iter().enumerate().map(|(i, v)| if signs >> i & 1 == 0 { *v } else { -v }).sum()
    };
    if values.len() <= EXACT_FLIPS {
        let all = 1_u64 << values.len();
        let extreme = (0..all).filter(|&signs| sum(signs).abs() >= observed).count();
        return extreme as f64 / all as f64;
    }
    normal_sign_flip(values, observed)
}

/// The same where Σ ±d is normal: its mean is 0 and its variance Σ d².
fn normal_sign_flip(values: &[f64], observed: f64) -> f64 {
    let sd = values.iter().map(|v| v * v).sum::<f64>().sqrt();
    if sd > 0.0 { 2.0 * normal_cdf(-observed / sd) } else { 1.0 }
}

/// The rule by which a comparison adds rounds until its intervals are narrow. It looks after 8 rounds, then each time there
/// are half as many again, and at the cap; each look has its share of the error (Bonferroni), so that looking often does not
/// find what is not there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sequential {
    /// The half width that is asked for, as a share.
    pub until: f64,
    /// The figures it is asked of.
    pub figures: Vec<String>,
    /// Rounds after which it is looked at, ascending; the last is the cap.
    pub looks: Vec<u32>,
}

impl Sequential {
    /// Up to `cap` rounds.
    pub fn new(until: f64, figures: Vec<String>, cap: u32) -> Self {
        let grown = |rounds: &u32| Some(rounds + rounds / 2);
        let mut looks: Vec<u32> = std::iter::successors(Some(8), grown).take_while(|r| *r < cap).collect();
        looks.push(cap);
        Self { until, figures, looks }
    }

    /// What every interval has to be made with.
    pub fn confidence(&self) -> f64 {
        1.0 - (1.0 - super::stats::CONFIDENCE) / self.looks.len() as f64
    }

    /// Whether to stop after `rounds`: at the cap, or at a look when each figure's effect is known to ± `until`.
    pub fn stop(&self, rounds: u32, effects: &BTreeMap<String, Effect>) -> bool {
        let narrow = |figure: &String| {
            let interval = effects.get(figure).and_then(|effect| effect.interval);
            interval.is_some_and(|[low, high]| (high.ln_1p() - low.ln_1p()) / 2.0 <= self.until)
        };
        let cap = self.looks.last().copied().unwrap_or(0);
        rounds >= cap || (self.looks.contains(&rounds) && self.figures.iter().all(narrow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Effect {
        effect(values, Criteria::default(), None).unwrap()
    }

    /// benchstat's vectors (science.md 1.11): the ends are the extremes at n = 6; n = 5 has none; 8 at 99 %.
    #[test]
    fn the_least_number_of_rounds() {
        assert_eq!((rounds_needed(0.95), rounds_needed(0.99)), (6, 8));
        assert_eq!(walsh_rank(5, 0.95), None);
        let six = of(&[-0.1, 0.02, 0.03, 0.04, 0.05, 0.06]);
        let [low, high] = six.interval.unwrap();
        assert!((low.ln_1p() + 0.1).abs() < 1e-12 && (high.ln_1p() - 0.06).abs() < 1e-12);
        let five = of(&[0.5; 5]);
        assert_eq!((five.verdict, five.interval), (Difference::Inconclusive, None));
        assert_eq!(five.reason, "needs at least 6 rounds, there are 5");
    }

    /// R: qsignrank(.025, n) is 1, 9, 26, 53, 82 for n = 6, 10, 15, 20, 24; the interval's end is the Walsh average of that
    /// rank (Hollander & Wolfe, table A.4).
    #[test]
    fn signed_rank_quantiles() {
        for (n, rank) in [(6, 1), (10, 9), (15, 26), (20, 53), (24, 82)] {
            assert_eq!(walsh_rank(n, 0.95), Some(rank), "{n}");
        }
        assert_eq!(signed_ranks(3), [1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0].map(|x| x / 8.0));
        // the normal form takes over without a step
        let exact = walsh_rank(EXACT_RANKS, 0.95).unwrap();
        let beyond = walsh_rank(EXACT_RANKS + 1, 0.95).unwrap();
        assert!((20..90).contains(&(beyond - exact)), "{exact} {beyond}");
    }

    /// R: wilcox.test(c(.1, .2, -.3, .4, .5, .6))$p.value is .15625; six of one sign: .03125.
    #[test]
    fn the_signed_rank_test_is_what_the_interval_inverts() {
        assert!((signed_rank(&[0.1, 0.2, -0.3, 0.4, 0.5, 0.6]) - 0.15625).abs() < 1e-12);
        assert_eq!(signed_rank(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), 2.0 / 64.0);
        assert_eq!((signed_rank(&[]), signed_rank(&[0.0; 8])), (1.0, 1.0));
        for n in [6, 12, 30, 100, 101, 140] {
            for shift in 0..40 {
                let values: Vec<f64> = (0..n)
                    .map(|i| f64::from(i * 37 % n) / f64::from(n) - 0.5 + f64::from(shift) * 0.02)
                    .collect();
                let [low, high] = of(&values).interval.unwrap();
                assert_eq!(signed_rank(&values) <= 0.05, low > 0.0 || high < 0.0, "{n} {shift}");
            }
        }
    }

    #[test]
    fn the_sign_flip_test_counts_assignments() {
        assert_eq!(sign_flip(&[1.0, 2.0, 3.0]), 2.0 / 8.0);
        assert_eq!(sign_flip(&[1.0, 2.0, -3.0]), 1.0);
        assert_eq!(sign_flip(&[0.2; 6]), 2.0 / 64.0);
        // the normal form says nearly the same of as few values as it is ever asked about
        for shift in [0.0, 0.1, 0.2, 0.3] {
            let values: Vec<f64> = (0..12).map(|i| (f64::from(i) * 0.37).fract() - 0.5 + shift).collect();
            let (exact, normal) =
                (sign_flip(&values), normal_sign_flip(&values, values.iter().sum::<f64>().abs()));
            assert!((exact - normal).abs() < 0.03, "{exact} {normal}");
        }
        let many: Vec<f64> = (0..30).map(|i| f64::from(i % 5) - 1.0).collect();
        assert!(sign_flip(&many) < 0.01);
        assert!(sign_flip(&(0..30).map(|i| f64::from(i % 2) - 0.5).collect::<Vec<_>>()) > 0.9);
    }

    #[test]
    fn a_verdict_needs_significance_and_size() {
        let with = |center: f64, spread: f64| {
            let values: Vec<f64> = (0..10).map(|i| center + spread * (f64::from(i) - 4.5) / 4.5).collect();
            of(&values)
        };
        assert_eq!(with(-0.10, 0.03).verdict, Difference::Faster);
        assert_eq!(with(0.10, 0.03).verdict, Difference::Slower);
        assert_eq!(with(0.0, 0.01).verdict, Difference::Same);
        // significant, but no one would notice
        let small = with(0.015, 0.012);
        assert!(small.interval.unwrap()[0] > 0.0);
        assert_eq!(small.verdict, Difference::Inconclusive);
        assert!(small.reason.contains("below the least"), "{}", small.reason);
        assert_eq!(with(0.05, 0.3).reason, "the interval includes no change");
        assert_eq!(effect(&[], Criteria::default(), None), None);
    }

    #[test]
    fn nothing_within_the_noise_floor_is_different() {
        let values = [0.04, 0.05, 0.06, 0.05, 0.04, 0.06];
        let aa = of(&[0.07, -0.03, 0.01, 0.02, -0.06, 0.0]);
        let noise = noise_floor(&aa);
        assert!(noise.is_some_and(|noise| noise > 0.07));
        assert_eq!(of(&values).verdict, Difference::Slower);
        let refused = effect(&values, Criteria::default(), noise).unwrap();
        assert_eq!(refused.verdict, Difference::Inconclusive);
        assert!(refused.reason.contains("noise floor"), "{}", refused.reason);
        assert_eq!(effect(&values, Criteria::default(), Some(0.03)).unwrap().verdict, Difference::Slower);
    }

    #[test]
    fn looks_share_the_error() {
        let rule = Sequential::new(0.03, vec!["p50".to_owned(), "p95".to_owned()], 24);
        assert_eq!(rule.looks, [8, 12, 18, 24]);
        assert!((rule.confidence() - 0.9875).abs() < 1e-12);
        assert_eq!(Sequential::new(0.03, Vec::new(), 5).looks, [5]);
        let narrow = of(&[0.1, 0.101, 0.102, 0.1, 0.101, 0.102, 0.1, 0.1]);
        let wide = of(&[0.1, 0.3, -0.2, 0.1, 0.2, 0.3, 0.1, 0.0]);
        let effects = |p95: &Effect| {
            [("p50", &narrow), ("p95", p95)].map(|(name, effect)| (name.to_owned(), effect.clone())).into()
        };
        assert!(rule.stop(8, &effects(&narrow)) && !rule.stop(9, &effects(&narrow)));
        assert!(!rule.stop(8, &effects(&wide)) && rule.stop(24, &effects(&wide)));
        assert!(!rule.stop(8, &BTreeMap::new()));
    }
}
