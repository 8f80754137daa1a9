//! Does a series stay where it is? Unit root (ADF), level stationarity (KPSS), trend (Mann–Kendall), halves (Welch).
//!
//! ADF alone is weak against shifts and trends, and its null is the opposite of KPSS's; so all are asked.

use super::normal;

/// A test of the augmented Dickey–Fuller kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Adf {
    /// The t statistic of the level.
    pub(super) statistic: f64,
    /// Of the null, a unit root (MacKinnon 1994's response surface).
    pub(super) p_value: f64,
    /// Lagged differences in the regression.
    pub(super) lags: usize,
}

/// What the regression allows for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allow {
    /// A constant.
    Constant,
    /// And a linear trend.
    Trend,
}

/// With so many lagged differences. `None` if the series is too short or does not vary.
pub(super) fn adf(series: &[f64], lags: usize, allow: Allow) -> Option<Adf> {
    let fit = adf_regression(series, lags, lags, allow)?;
    Some(Adf { statistic: fit.t, p_value: mackinnon_p(fit.t, allow), lags })
}

/// With the number of lags, up to ⌊12(n/100)^¼⌋, that has the least AIC on equal samples.
pub(super) fn adf_by_aic(series: &[f64], allow: Allow) -> Option<Adf> {
    let most = lags_max(series.len()).min((series.len() / 2).saturating_sub(3));
    let fits = (0..=most).filter_map(|lags| Some((lags, adf_regression(series, lags, most, allow)?.aic)));
    let (lags, _) = fits.min_by(|a, b| a.1.total_cmp(&b.1))?;
    adf(series, lags, allow)
}

/// ⌊12(n/100)^¼⌋ (Schwert 1989).
pub(super) fn lags_max(n: usize) -> usize {
    (12.0 * (n as f64 / 100.0).powf(0.25)).floor() as usize
}

struct Regression {
    /// Of the lagged level.
    t: f64,
    aic: f64,
}

/// Δy on y₋₁, `lags` lagged Δy, and the allowance; beginning as late as `start` lags would make it.
fn adf_regression(series: &[f64], lags: usize, start: usize, allow: Allow) -> Option<Regression> {
    let deltas: Vec<f64> = series.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let rows = deltas.len().checked_sub(start)?;
    let mut columns: Vec<Vec<f64>> = vec![vec![1.0; rows]];
    if allow == Allow::Trend {
        columns.push((1..=rows).map(|i| i as f64).collect());
    }
    columns.extend((1..=lags).map(|lag| deltas[start - lag..deltas.len() - lag].to_vec()));
    // last, so that its coefficient follows from what is left of it alone
    columns.push(series[start..series.len() - 1].to_vec());
    let parameters = columns.len();
    if rows <= parameters {
        return None;
    }
    let mut target = deltas[start..].to_vec();
    let (mut coefficient, mut length) = (0.0, 0.0);
    orthogonalise(&mut columns)?;
    for column in &columns {
        length = dot(column, column);
        coefficient = dot(column, &target) / length;
        for (value, part) in target.iter_mut().zip(column) {
            *value -= coefficient * part;
        }
    }
    let (n, squares) = (rows as f64, dot(&target, &target));
    let variance = squares / (n - parameters as f64);
    if variance <= 0.0 {
        return None;
    }
    let likelihood = -n / 2.0 * ((2.0 * std::f64::consts::PI * squares / n).ln() + 1.0);
    Some(Regression {
        t: coefficient / (variance / length).sqrt(),
        aic: 2.0 * parameters as f64 - 2.0 * likelihood,
    })
}

/// Gram–Schmidt, modified and done twice: each column less its part in those before it. `None` where one is nothing else.
fn orthogonalise(columns: &mut [Vec<f64>]) -> Option<()> {
    for at in 0..columns.len() {
        let (before, rest) = columns.split_at_mut(at);
        let column = &mut rest[0];
        let whole = dot(column, column);
        for _ in 0..2 {
            for other in &*before {
                let share = dot(other, column) / dot(other, other);
                for (value, part) in column.iter_mut().zip(other) {
                    *value -= share * part;
                }
            }
        }
        if dot(column, column) <= 1e-20 * whole {
            return None;
        }
    }
    Some(())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// MacKinnon, "Approximate asymptotic distribution functions for unit-root and cointegration tests", J. Bus. Econ. Stat. 12
/// (1994): Φ of a polynomial in the statistic, one for small and one for large p.
fn mackinnon_p(t: f64, allow: Allow) -> f64 {
    let (least, turn, most, small, large): (f64, f64, f64, [f64; 3], [f64; 4]) = match allow {
        Allow::Constant => {
            (-18.83, -1.61, 2.74, [2.165_9, 1.441_2, 0.038_269], [1.733_9, 0.932_02, -0.127_45, -0.010_368])
        }
        Allow::Trend => {
            (-16.18, -2.89, 0.7, [3.251_2, 1.604_7, 0.049_588], [2.526_1, 0.616_54, -0.379_56, -0.060_285])
        }
    };
    if t < least {
        return 0.0;
    }
    if t > most {
        return 1.0;
    }
    let polynomial: &[f64] = if t <= turn { &small } else { &large };
    normal::below(polynomial.iter().rev().fold(0.0, |sum, coefficient| sum * t + coefficient))
}

/// Kwiatkowski, Phillips, Schmidt, Shin (1992), for a level: Σ S²/(n²·s²), S the sums of deviations, s² their long-run
/// variance by Bartlett's window over `lags`. The null is stationarity; critical 5 % .463, 1 % .739. `None` of a constant.
pub(super) fn kpss(series: &[f64], lags: usize) -> Option<f64> {
    let n = series.len() as f64;
    let mean = series.iter().sum::<f64>() / n;
    let off: Vec<f64> = series.iter().map(|value| value - mean).collect();
    let covariance = |lag: usize| off.iter().zip(&off[lag.min(off.len())..]).map(|(a, b)| a * b).sum::<f64>();
    let weighted = |lag: usize| 2.0 * (1.0 - lag as f64 / (lags as f64 + 1.0)) * covariance(lag);
    let long_run = (covariance(0) + (1..=lags).map(weighted).sum::<f64>()) / n;
    let sums = off.iter().scan(0.0, |sum, value| {
        *sum += value;
        Some(*sum * *sum)
    });
    (long_run > 0.0).then(|| sums.sum::<f64>() / (n * n * long_run))
}

/// Critical for [`kpss`] at 1 %.
pub(super) const KPSS_CRITICAL: f64 = 0.739;

/// Mann–Kendall: z of the number of pairs that rise less those that fall, ties allowed for. `None` of a constant.
pub(in crate::analyze) fn mann_kendall(series: &[f64]) -> Option<f64> {
    let n = series.len() as f64;
    let sign = |a: f64, b: f64| f64::from(i8::from(b > a) - i8::from(b < a));
    let rises: f64 = (0..series.len())
        .flat_map(|i| series[i + 1..].iter().map(move |&later| sign(series[i], later)))
        .sum();
    let mut sorted = series.to_vec();
    sorted.sort_by(f64::total_cmp);
    let spread = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let ties: f64 = sorted.chunk_by(|a, b| a == b).map(|tied| spread(tied.len() as f64)).sum();
    let variance = (spread(n) - ties) / 18.0;
    (variance > 0.0).then(|| (rises - rises.signum() * f64::from(u8::from(rises != 0.0))) / variance.sqrt())
}

/// Theil–Sen: the median slope over all pairs of (x, y). `None` of fewer than two x.
pub(in crate::analyze) fn theil_sen(points: &[(f64, f64)]) -> Option<f64> {
    crate::analyze::stats::median(&slopes(points))
}

/// The 95 % interval of [`theil_sen`] (Sen 1968): as many slopes on both sides as the number of rises less falls varies by,
/// were there no slope. `None` where there are too few points for it.
pub(in crate::analyze) fn theil_sen_interval(points: &[(f64, f64)]) -> Option<[f64; 2]> {
    let (n, mut slopes) = (points.len() as f64, slopes(points));
    slopes.sort_by(f64::total_cmp);
    let spread = 1.96 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let pairs = slopes.len() as f64;
    let (low, high) = (((pairs - spread) / 2.0).floor(), ((pairs + spread) / 2.0).ceil());
    (low >= 1.0 && high < pairs).then(|| [slopes[low as usize - 1], slopes[high as usize]])
}

fn slopes(points: &[(f64, f64)]) -> Vec<f64> {
    let pairs = (0..points.len()).flat_map(|i| points[i + 1..].iter().map(move |&later| (points[i], later)));
    pairs.filter(|(a, b)| a.0 != b.0).map(|(a, b)| (b.1 - a.1) / (b.0 - a.0)).collect()
}

/// Welch's t of the second half against the first, each cut into `batches` means, so that neighbours may depend on each
/// other. `None` for less than two points a batch, or where nothing varies.
pub(super) fn halves(series: &[f64], batches: usize) -> Option<f64> {
    let size = series.len() / (2 * batches);
    if size < 2 {
        return None;
    }
    let (first, second) = (&series[..batches * size], &series[series.len() - batches * size..]);
    let [first, second] = [first, second].map(|half| {
        let means: Vec<f64> = half.chunks_exact(size).map(|b| b.iter().sum::<f64>() / size as f64).collect();
        let mean = means.iter().sum::<f64>() / batches as f64;
        let squares: f64 = means.iter().map(|value| (value - mean).powi(2)).sum();
        (mean, squares / (batches as f64 - 1.0) / batches as f64)
    });
    let error = (first.1 + second.1).sqrt();
    (error > 0.0).then(|| (second.0 - first.0) / error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rng::Rng;

    /// Real gross domestic product of the USA by quarter, 1959 to 2009 (Bureau of Economic Analysis; in the public domain).
    const REAL_GDP: [f64; 203] = [
        2710.349, 2778.801, 2775.488, 2785.204, 2847.699, 2834.390, 2839.022, 2802.616, 2819.264, 2872.005,
        2918.419, 2977.830, 3031.241, 3064.709, 3093.047, 3100.563, 3141.087, 3180.447, 3240.332, 3264.967,
        3338.246, 3376.587, 3422.469, 3431.957, 3516.251, 3563.960, 3636.285, 3724.014, 3815.423, 3828.124,
        3853.301, 3884.520, 3918.740, 3919.556, 3950.826, 3980.970, 4063.013, 4131.998, 4160.267, 4178.293,
        4244.100, 4256.460, 4283.378, 4263.261, 4256.573, 4264.289, 4302.259, 4256.637, 4374.016, 4398.829,
        4433.943, 4446.264, 4525.769, 4633.101, 4677.503, 4754.546, 4876.166, 4932.571, 4906.252, 4953.050,
        4909.617, 4922.188, 4873.520, 4854.340, 4795.295, 4831.942, 4913.328, 4977.511, 5090.663, 5128.947,
        5154.072, 5191.499, 5251.762, 5356.131, 5451.921, 5450.793, 5469.405, 5684.569, 5740.300, 5816.222,
        5825.949, 5831.418, 5873.335, 5889.495, 5908.467, 5787.373, 5776.617, 5883.460, 6005.717, 5957.795,
        6030.184, 5955.062, 5857.333, 5889.074, 5866.370, 5871.001, 5944.020, 6077.619, 6197.468, 6325.574,
        6448.264, 6559.594, 6623.343, 6677.264, 6740.275, 6797.344, 6903.523, 6955.918, 7022.757, 7050.969,
        7118.950, 7153.359, 7193.019, 7269.510, 7332.558, 7458.022, 7496.600, 7592.881, 7632.082, 7733.991,
        7806.603, 7865.016, 7927.393, 7944.697, 8027.693, 8059.598, 8059.476, 7988.864, 7950.164, 8003.822,
        8037.538, 8069.046, 8157.616, 8244.294, 8329.361, 8417.016, 8432.485, 8486.435, 8531.108, 8643.769,
        8727.919, 8847.303, 8904.289, 9003.180, 9025.267, 9044.668, 9120.684, 9184.275, 9247.188, 9407.052,
        9488.879, 9592.458, 9666.235, 9809.551, 9932.672, 10008.874, 10103.425, 10194.277, 10328.787,
        10507.575, 10601.179, 10684.049, 10819.914, 11014.254, 11043.044, 11258.454, 11267.867, 11334.544,
        11297.171, 11371.251, 11340.075, 11380.128, 11477.868, 11538.770, 11596.430, 11598.824, 11645.819,
        11738.706, 11935.461, 12042.817, 12127.623, 12213.818, 12303.533, 12410.282, 12534.113, 12587.535,
        12683.153, 12748.699, 12915.938, 12962.462, 12965.916, 13060.679, 13099.901, 13203.977, 13321.109,
        13391.249, 13366.865, 13415.266, 13324.600, 13141.920, 12925.410, 12901.504, 12990.341,
    ];

    fn assert_near(value: f64, expected: f64, within: f64) {
        assert!((value - expected).abs() < within, "{value}, expected {expected}");
    }

    /// x = φ·x + e, e by the sum of twelve uniforms.
    fn walk(seed: u64, phi: f64) -> Vec<f64> {
        let (mut rng, mut x) = (Rng::new(seed), 0.0);
        let mut unit = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut next = || {
            x = phi * x + (0..12).map(|_| unit()).sum::<f64>() - 6.0;
            x
        };
        (0..200).map(|_| next()).collect()
    }

    #[test]
    fn the_unit_root_test_of_the_published_series() {
        let found = adf(&REAL_GDP, 4, Allow::Constant).unwrap();
        assert_near(found.statistic, 0.975_053_19, 3e-6);
        assert_near(found.p_value, 0.993_995_63, 1e-7);
        let found = adf(&REAL_GDP, 4, Allow::Trend).unwrap();
        assert_near(found.statistic, -1.856_637_4, 3e-6);
        assert_near(found.p_value, 0.676_829_68, 2e-6);
    }

    /// Made by statsmodels 0.15 from the same series.
    #[test]
    fn another_implementation_says_the_same() {
        for (seed, phi, statistic, p_value, lags, level) in [
            (1, 0.5, -8.548_134_870_178, 9.381_058e-14, 0, 0.326_449_483_5),
            (2, 1.0, -1.672_402_096_978, 0.445_384_886_4, 4, 0.287_391_261_9),
            (3, 0.9, -2.449_431_073_438, 0.128_267_900_5, 0, 0.124_848_512_3),
        ] {
            let series = walk(seed, phi);
            let found = adf_by_aic(&series, Allow::Constant).unwrap();
            assert_near(found.statistic, statistic, 1e-9);
            assert_near(found.p_value, p_value, 1e-8);
            assert_eq!(found.lags, lags);
            assert_near(kpss(&series, 14).unwrap(), level, 1e-9);
        }
        assert_eq!(lags_max(200), 14);
        assert_near(kpss(&REAL_GDP, 14).unwrap(), 1.417_286_172_4, 1e-9);
    }

    #[test]
    fn trends_and_steps_are_seen() {
        assert_near(mann_kendall(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap(), 9.0 / (50.0_f64 / 3.0).sqrt(), 1e-12);
        // one tie: 20·… less 18 for the pair
        let tied = mann_kendall(&[1.0, 2.0, 2.0, 3.0]).unwrap();
        assert_near(tied, 4.0 / ((4.0 * 3.0 * 13.0 - 18.0) / 18.0_f64).sqrt(), 1e-12);
        assert_eq!(mann_kendall(&[2.0; 9]), None);
        let line: Vec<(f64, f64)> =
            (0..30).map(|i| (f64::from(i), 3.0 * f64::from(i) + if i == 7 { 500.0 } else { 0.0 })).collect();
        assert_near(theil_sen(&line).unwrap(), 3.0, 1e-12);
        // 435 slopes, 1.96·√(30·29·65/18) = 109.9 apart: from the 162nd to the 274th
        assert_near(theil_sen_interval(&line).unwrap()[0], 3.0, 1e-12);
        assert_eq!(theil_sen_interval(&line[..3]), None);

        let mut rng = Rng::new(5);
        let mut noise = || (rng.next_u64() % 1_000) as f64 / 100.0;
        let level: Vec<f64> = (0..100).map(|_| 100.0 + noise()).collect();
        let step: Vec<f64> = (0..100).map(|i| if i < 50 { 100.0 } else { 110.0 } + noise()).collect();
        assert!(mann_kendall(&level).unwrap().abs() < 2.6 && halves(&level, 10).unwrap().abs() < 2.9);
        assert!(mann_kendall(&step).unwrap() > 5.0 && halves(&step, 10).unwrap() > 5.0);
        assert!(kpss(&level, 4).unwrap() < KPSS_CRITICAL && kpss(&step, 4).unwrap() > KPSS_CRITICAL);
        assert!(adf_by_aic(&level, Allow::Constant).unwrap().p_value < 0.01);
    }

    #[test]
    fn what_cannot_be_tested_is_none() {
        assert_eq!(adf(&[1.0, 2.0, 1.0], 4, Allow::Constant), None);
        assert_eq!(adf(&[5.0; 60], 2, Allow::Constant), None);
        assert_eq!(kpss(&[5.0; 60], 4), None);
        assert_eq!(halves(&[1.0; 30], 10), None);
    }
}
