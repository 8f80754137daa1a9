//! Special functions that intervals need: the normal and the t distribution, the beta distribution, and exact bounds of a
//! share. Textbook series and continued fractions, good to about ten digits; no tables.

/// Φ(x): the share of a standard normal distribution below `x`.
pub fn normal_cdf(x: f64) -> f64 {
    // Φ(x) = ½ + φ(x)·(x + x³/3 + x⁵/15 + …) (Marsaglia 2004); beyond 8 it is 0 or 1 in doubles that matter here.
    if x.abs() > 8.0 {
        return if x < 0.0 { 0.0 } else { 1.0 };
    }
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while sum + term != sum {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// ln Γ(x) for x > 0 (Lanczos, g = 7, nine terms).
pub fn ln_gamma(x: f64) -> f64 {
    const C: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        return (std::f64::consts::PI / (std::f64::consts::PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let t = x + 7.5;
    let sum = C[0] + C[1..].iter().zip(1..).map(|(c, i)| c / (x + f64::from(i))).sum::<f64>();
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// The share of a beta(a, b) distribution below `x`, for a, b > 0: the regularised incomplete beta function.
pub fn beta_cdf(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    // The continued fraction converges fast on one side of the mean; the other follows by symmetry.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(x, a, b) / a
    } else {
        1.0 - front * beta_fraction(1.0 - x, b, a) / b
    }
}

/// Lentz's evaluation of the continued fraction of the incomplete beta function (DLMF 8.17.22).
fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let nonzero = |v: f64| if v.abs() < TINY { TINY } else { v };
    let (mut c, mut d) = (1.0, 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0)));
    let mut f = d;
    // Needs about √max(a, b) steps.
    for m in 1..100_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = f;
        for coefficient in [even, odd] {
            d = 1.0 / nonzero(1.0 + coefficient * d);
            c = nonzero(1.0 + coefficient / c);
            f *= c * d;
        }
        if (f - before).abs() <= 1e-15 * f.abs() {
            break;
        }
    }
    f
}

/// The `x` in `range` at which the increasing `f` reaches `target`, by bisection.
fn invert(f: impl Fn(f64) -> f64, target: f64, range: std::ops::Range<f64>) -> f64 {
    let (mut low, mut high) = (range.start, range.end);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if f(middle) < target { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// The value that `share` of a t distribution with `degrees` > 0 of freedom lies below, for a share of at least one half.
pub fn t_quantile(share: f64, degrees: f64) -> f64 {
    let cdf = |t: f64| 1.0 - 0.5 * beta_cdf(degrees / (degrees + t * t), degrees / 2.0, 0.5);
    invert(cdf, share, 0.0..1e4)
}

/// The value that `share` of a standard normal distribution lies below, for a share of at least one half.
pub fn normal_quantile(share: f64) -> f64 {
    invert(normal_cdf, share, 0.0..8.0)
}

/// The exact bounds (Clopper and Pearson) of the share behind `k` of `n` independent trials; each side is wrong with a
/// probability of at most `tail`. `k` and `n` may be fractions, as effective numbers are; 0 ≤ k ≤ n, n > 0.
pub fn share_bounds(k: f64, n: f64, tail: f64) -> (f64, f64) {
    let beta = |target: f64, a: f64, b: f64| invert(|x| beta_cdf(x, a, b), target, 0.0..1.0);
    let low = if k <= 0.0 { 0.0 } else { beta(tail, k, n - k + 1.0) };
    let high = if k >= n { 1.0 } else { beta(1.0 - tail, k + 1.0, n - k) };
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_quantiles() {
        for (t, degrees, share) in [
            (12.706_204_736, 1.0, 0.975),
            (2.570_581_836, 5.0, 0.975),
            (2.093_024_054, 19.0, 0.975),
            (1.697_260_887, 30.0, 0.95),
        ] {
            assert!(
                (t_quantile(share, degrees) - t).abs() < 1e-6,
                "t {share} {degrees}: {}",
                t_quantile(share, degrees)
            );
        }
        assert!((normal_quantile(0.975) - 1.959_963_984_540).abs() < 1e-9);
        assert!((normal_cdf(-1.0) - 0.158_655_253_931_457).abs() < 1e-14);
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-12);
        assert!((ln_gamma(11.0) - 3_628_800_f64.ln()).abs() < 1e-11);
        // I_x(2, 3) is a polynomial
        let x: f64 = 0.3;
        assert!((beta_cdf(x, 2.0, 3.0) - (6.0 * x * x - 8.0 * x.powi(3) + 3.0 * x.powi(4))).abs() < 1e-13);
    }

    /// science.md 1.13: no failure among 299 shows p99 at 95 % one-sided, among 298 it does not.
    #[test]
    fn clopper_pearson_bounds() {
        assert!(share_bounds(0.0, 299.0, 0.05).1 <= 0.01);
        assert!(share_bounds(0.0, 298.0, 0.05).1 > 0.01);
        // Clopper & Pearson 1934: 3 of 10 at 95 % are 0.067 to 0.652
        let (low, high) = share_bounds(3.0, 10.0, 0.025);
        assert!((low - 0.066_74).abs() < 1e-5 && (high - 0.652_45).abs() < 1e-5, "{low} {high}");
        assert_eq!(share_bounds(10.0, 10.0, 0.025).1, 1.0);
        let (low, high) = share_bounds(50_000.0, 1e6, 0.025);
        assert!((low - 0.049_573_6).abs() < 1e-6 && (high - 0.050_428_9).abs() < 1e-6, "{low} {high}");
    }
}
