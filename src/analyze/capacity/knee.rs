//! The knee of a latency curve: where more load begins to cost more than it brings.

use serde::{Deserialize, Serialize};

/// The knee: the measured rate with the greatest *power*, throughput over mean response time (Giessler et al. 1978; Kleinrock,
/// "Power and deterministic rules of thumb for probabilistic problems in computer communications", ICC 1979). Of an
/// M/M/1 it is at half the service rate, of an M/D/1 at 2 − √2 of it. It needs no scaling of the axes and no threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    /// Requests per second.
    pub rate_per_s: f64,
    /// The measured rates next to it: the true knee is between them, as far as the curve has one peak. Null at an end of the curve.
    pub above_per_s: Option<f64>,
    /// The next higher one.
    pub below_per_s: Option<f64>,
}

/// Of points (rate per second, successful per second, mean response in seconds), ascending by rate. None with fewer than three.
pub fn knee(points: &[(f64, f64, f64)]) -> Option<Knee> {
    let power = |&(_, throughput, mean): &(f64, f64, f64)| throughput / mean;
    let best = (0..points.len()).max_by(|&a, &b| power(&points[a]).total_cmp(&power(&points[b])))?;
    let rate = |at: usize| points.get(at).map(|point| point.0);
    (points.len() >= 3).then(|| Knee {
        rate_per_s: points[best].0,
        above_per_s: best.checked_sub(1).and_then(rate),
        below_per_s: rate(best + 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Response times of a queue with utilisation ρ: power is greatest where theory says.
    #[test]
    fn the_knee_is_where_the_power_of_a_queue_peaks() {
        let curve = |response: fn(f64) -> f64| -> Vec<(f64, f64, f64)> {
            (1..100).map(|percent| f64::from(percent) / 100.0).map(|rho| (rho, rho, response(rho))).collect()
        };
        let markov = knee(&curve(|rho| 1.0 / (1.0 - rho))).unwrap();
        assert_eq!(
            (markov.rate_per_s, markov.above_per_s, markov.below_per_s),
            (0.5, Some(0.49), Some(0.51))
        );
        let deterministic = knee(&curve(|rho| 1.0 + rho / (2.0 * (1.0 - rho)))).unwrap();
        assert_eq!(deterministic.rate_per_s, 0.59); // 2 − √2 = .586
    }

    #[test]
    fn a_curve_without_a_bend_has_its_knee_at_its_end_and_two_points_have_none() {
        let flat = [(1.0, 1.0, 2.0), (2.0, 2.0, 2.0), (3.0, 3.0, 2.0)];
        let knee_of = knee(&flat).unwrap();
        assert_eq!((knee_of.rate_per_s, knee_of.below_per_s), (3.0, None));
        assert_eq!(knee(&flat[..2]), None);
    }
}
