//! Did requests leave as the plan says? Gaps against the exponential distribution, or against their constant.

/// Anderson–Darling against the exponential distribution with the mean of the sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct AndersonDarling {
    /// A².
    pub(super) raw: f64,
    /// A*: A²(1 + 0.6/n), whose critical values hold for every n (Stephens, in D'Agostino & Stephens 1986).
    pub(super) adjusted: f64,
}

/// Critical for A* at 10, 5 and 1 %.
pub(super) const ANDERSON_DARLING_CRITICAL: [f64; 3] = [1.062, 1.321, 1.959];

/// A² = −n − (1/n)·Σ(2i − 1)[ln(1 − e^{−yᵢ/ȳ}) − `y_{n+1−i}`/ȳ], gaps in any order and unit. `None` of fewer than two, and
/// infinite with a gap of zero, which no exponential has.
pub(super) fn anderson_darling(gaps: &[f64]) -> Option<AndersonDarling> {
    let (sorted, mean) = sorted(gaps)?;
    let n = sorted.len() as f64;
    let term = |i: usize| {
        let (low, high) = (sorted[i] / mean, sorted[sorted.len() - 1 - i] / mean);
        (2.0 * i as f64 + 1.0) * ((-(-low).exp_m1()).ln() - high)
    };
    let raw = -n - (0..sorted.len()).map(term).sum::<f64>() / n;
    Some(AndersonDarling { raw, adjusted: raw * (1.0 + 0.6 / n) })
}

/// Kolmogorov–Smirnov's max |F̂ − F| against the same: how far off the gaps are, whatever their number.
pub(super) fn distance_from_exponential(gaps: &[f64]) -> Option<f64> {
    let (sorted, mean) = sorted(gaps)?;
    let n = sorted.len() as f64;
    let off = |(i, gap): (usize, &f64)| {
        let expected = -(-gap / mean).exp_m1();
        (expected - i as f64 / n).max((i + 1) as f64 / n - expected)
    };
    Some(sorted.iter().enumerate().map(off).fold(0.0, f64::max))
}

fn sorted(gaps: &[f64]) -> Option<(Vec<f64>, f64)> {
    let mut sorted = gaps.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
    (sorted.len() > 1 && mean > 0.0).then_some((sorted, mean))
}

/// Gaps that should all be the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Evenness {
    /// Standard deviation over the gap that was asked for.
    pub(super) variation: f64,
    /// p99.9 of |gap − asked|, in the unit of the gaps.
    pub off_p999: f64,
    /// Share of the gaps below a tenth of it: sends that catch up.
    pub(super) bursts: f64,
}

/// `None` without gaps.
pub(super) fn evenness(gaps: &[f64], asked: f64) -> Option<Evenness> {
    let n = gaps.len() as f64;
    let mut off: Vec<f64> = gaps.iter().map(|gap| (gap - asked).abs()).collect();
    off.sort_by(f64::total_cmp);
    let rank = (gaps.len() * 999).div_ceil(1_000);
    let squares: f64 = off.iter().map(|off| off * off).sum();
    let bursts = gaps.iter().filter(|&&gap| gap < asked / 10.0).count() as f64;
    Some(Evenness {
        off_p999: *off.get(rank.checked_sub(1)?)?,
        variation: (squares / n).sqrt() / asked,
        bursts: bursts / n,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rng::Rng;

    #[test]
    fn the_published_samples() {
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        let other = [0.2, 0.5, 0.8, 1.1, 1.7, 2.3, 3.1, 4.4, 6.0, 9.9];
        for (sample, raw, adjusted) in
            [(&ten[..], 0.876_204_4, 0.928_776_6), (&other[..], 0.100_778_3, 0.106_824_9)]
        {
            let found = anderson_darling(sample).unwrap();
            assert!((found.raw - raw).abs() < 5e-8, "{found:?}");
            assert!((found.adjusted - adjusted).abs() < 5e-8, "{found:?}");
        }
    }

    /// The critical values have the size they say: of 2000 exponential samples of 50.
    #[test]
    fn the_critical_values_have_their_size() {
        let mut rng = Rng::new(3);
        let mut gap = || -(((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64).ln();
        let statistics: Vec<f64> = (0..2_000)
            .map(|_| anderson_darling(&(0..50).map(|_| gap()).collect::<Vec<_>>()).unwrap().adjusted)
            .collect();
        for (critical, size) in ANDERSON_DARLING_CRITICAL.into_iter().zip([0.10, 0.05, 0.01]) {
            let beyond = statistics.iter().filter(|&&a| a > critical).count() as f64 / 2_000.0;
            let error = (size * (1.0 - size) / 2_000.0_f64).sqrt();
            assert!((beyond - size).abs() < 4.0 * error + 0.1 * size, "{beyond} beyond {critical}");
        }
    }

    #[test]
    fn even_gaps_are_not_exponential_and_exponential_ones_not_even() {
        let even = vec![1.0; 500];
        assert!(anderson_darling(&even).unwrap().adjusted > 100.0);
        assert!(distance_from_exponential(&even).unwrap() > 0.6);
        let found = evenness(&even, 1.0).unwrap();
        assert_eq!((found.variation, found.off_p999, found.bursts), (0.0, 0.0, 0.0));
        let mut bursty = even;
        bursty[7] = 0.05;
        bursty[8] = 1.95;
        let found = evenness(&bursty, 1.0).unwrap();
        assert_eq!(found.bursts, 0.002);
        assert!((found.off_p999 - 0.95).abs() < 1e-12 && found.variation > 0.05);
        assert_eq!(evenness(&[], 1.0), None);
        assert_eq!(anderson_darling(&[1.0]), None);
    }
}
