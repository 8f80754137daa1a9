//! The normal distribution.

/// Φ(x), to about 1e-15: by the series around 0, by the continued fraction in the tails.
pub(super) fn below(x: f64) -> f64 {
    let magnitude = x.abs();
    let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if magnitude < 3.0 {
        let (mut term, mut sum, mut k) = (x, x, 1.0);
        while f64::abs(term) > 1e-18 {
            k += 2.0;
            term *= x * x / k;
            sum += term;
        }
        return 0.5 + density * sum;
    }
    let fraction = (1..=200).rev().fold(0.0, |rest, k| f64::from(k) / (magnitude + rest));
    let tail = density / (magnitude + fraction);
    if x < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        for (x, expected) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (-1.959_963_984_540_054, 0.025),
            (2.999, 0.998_645_663_466_272_9),
            (-3.0, 0.001_349_898_031_630_095),
            (-8.0, 6.220_960_574_271_785e-16),
        ] {
            assert!((below(x) - expected).abs() < 1e-13 * expected.max(1e-3), "{x}: {}", below(x));
        }
    }
}
