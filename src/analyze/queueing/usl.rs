//! The Universal Scalability Law, X(N) = λN/(1 + σ(N − 1) + κN(N − 1)) (Gunther 1993), fitted to measurements.
//!
//! σ is contention, κ coherency: what each further client costs the others. A fit without its interval is not a result,
//! and beyond twice the largest N that was observed it is not extrapolated.

use crate::load::rng::Rng;

/// Fewer points than this do not determine three parameters and their spread.
pub const POINTS_MIN: usize = 6;
const ITERATIONS_MAX: usize = 500;

/// A fitted law.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usl {
    /// σ ≥ 0.
    pub contention: f64,
    /// κ ≥ 0.
    pub coherency: f64,
    /// λ: throughput of one client.
    pub single: f64,
    /// R²: the share of the variance of X that the law explains.
    pub explained: f64,
    /// The largest N of the measurements.
    pub observed_to: f64,
}

/// A fitted value and the bounds that nineteen of twenty resamplings lie between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// The 2.5 % quantile.
    pub low: f64,
    /// The 97.5 % quantile.
    pub high: f64,
}

/// Intervals of a fit, at 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Intervals {
    /// Of σ.
    pub contention: Bounds,
    /// Of κ.
    pub coherency: Bounds,
    /// Of λ.
    pub single: Bounds,
}

impl Usl {
    /// The law that has these parameters, fitted to nothing.
    pub fn new(contention: f64, coherency: f64, single: f64) -> Self {
        Self { contention, coherency, single, explained: 1.0, observed_to: f64::INFINITY }
    }

    /// Least squares on X over (N, X), by Levenberg–Marquardt from (0.1, 0.01, max X/N). `None` for fewer than
    /// [`POINTS_MIN`] points or three different N, and for points that are not positive numbers.
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let sound = |&(n, x): &(f64, f64)| n >= 1.0 && x > 0.0 && n.is_finite() && x.is_finite();
        let mut levels: Vec<f64> = points.iter().map(|point| point.0).collect();
        levels.sort_by(f64::total_cmp);
        levels.dedup();
        if points.len() < POINTS_MIN || levels.len() < 3 || !points.iter().all(sound) {
            return None;
        }
        let single = points.iter().map(|(n, x)| x / n).fold(0.0, f64::max);
        let [contention, coherency, single] = levenberg_marquardt(points, [0.1, 0.01, single]);
        let mut law =
            Self { observed_to: levels[levels.len() - 1], ..Self::new(contention, coherency, single) };
        let mean = points.iter().map(|point| point.1).sum::<f64>() / points.len() as f64;
        let total: f64 = points.iter().map(|point| (point.1 - mean).powi(2)).sum();
        law.explained = if total > 0.0 { 1.0 - squares(points, law.parameters()) / total } else { 1.0 };
        Some(law)
    }

    /// Intervals by refitting `resamples` resamplings of the points (each its own run, so runs are what is drawn).
    pub fn intervals(points: &[(f64, f64)], resamples: usize, rng: &mut Rng) -> Option<Intervals> {
        let mut fits = Vec::with_capacity(resamples);
        // A resampling with too few different N has no fit; so many in a row are none at all.
        for _ in 0..resamples.saturating_mul(10) {
            let mut draw = || points[(rng.next_u64() % points.len() as u64) as usize];
            let sample: Vec<_> = points.iter().map(|_| draw()).collect();
            fits.extend(Self::fit(&sample).map(Self::parameters));
            if fits.len() == resamples {
                break;
            }
        }
        if fits.len() < resamples || resamples < 40 {
            return None;
        }
        let bounds = |which: usize| {
            let mut values: Vec<f64> = fits.iter().map(|fit| fit[which]).collect();
            values.sort_by(f64::total_cmp);
            let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
            Bounds { low: at(0.025), high: at(0.975) }
        };
        Some(Intervals { contention: bounds(0), coherency: bounds(1), single: bounds(2) })
    }

    fn parameters(self) -> [f64; 3] {
        [self.contention, self.coherency, self.single]
    }

    /// X(N); `None` beyond twice the largest N observed.
    pub fn throughput(&self, clients: f64) -> Option<f64> {
        (clients <= 2.0 * self.observed_to).then(|| model(clients, self.parameters()))
    }

    /// R(N) = N/X(N), with the same limit.
    pub fn response(&self, clients: f64) -> Option<f64> {
        Some(clients / self.throughput(clients)?)
    }

    /// ⌊√((1 − σ)/κ)⌋: the most useful N; `None` where more always help (κ = 0).
    pub fn clients_at_most(&self) -> Option<f64> {
        let square = (1.0 - self.contention).max(0.0) / self.coherency;
        square.is_finite().then(|| square.sqrt().floor().max(1.0))
    }

    /// X at [`Usl::clients_at_most`].
    pub fn throughput_at_most(&self) -> Option<f64> {
        self.throughput(self.clients_at_most()?)
    }

    /// The throughput at which the mean response is `response` = N/X: κN² + (σ − κ)N + 1 − σ − λR = 0, solved for N in
    /// the form that also holds for κ = 0. (As published in places, with σ and κ interchanged, it holds only for σ = κ.)
    pub fn throughput_at_response(&self, response: f64) -> f64 {
        let linear = self.contention - self.coherency;
        let constant = 1.0 - self.contention - self.single * response;
        let root = (linear * linear - 4.0 * self.coherency * constant).sqrt();
        -2.0 * constant / ((linear + root) * response)
    }

    /// The response at a throughput where only contention matters: (σ − 1)/(σX − λ).
    pub fn response_at_throughput(&self, throughput: f64) -> f64 {
        (self.contention - 1.0) / (self.contention * throughput - self.single)
    }
}

fn model(n: f64, [contention, coherency, single]: [f64; 3]) -> f64 {
    single * n / (1.0 + contention * (n - 1.0) + coherency * n * (n - 1.0))
}

fn squares(points: &[(f64, f64)], parameters: [f64; 3]) -> f64 {
    points.iter().map(|&(n, x)| (x - model(n, parameters)).powi(2)).sum()
}

/// Steps between Newton's and steepest descent, σ and κ kept from falling below 0. λ is scaled by its start, so that the
/// three are of similar size.
fn levenberg_marquardt(points: &[(f64, f64)], start: [f64; 3]) -> [f64; 3] {
    let (mut at, mut damping) = (start, 1e-3);
    let mut error = squares(points, at);
    for _ in 0..ITERATIONS_MAX {
        let (normal, gradient) = normal_equations(points, at);
        let mut damped = normal;
        for (i, row) in damped.iter_mut().enumerate() {
            row[i] *= 1.0 + damping;
        }
        let Some(step) = solve(damped, gradient) else { break };
        let next = [(at[0] + step[0]).max(0.0), (at[1] + step[1]).max(0.0), at[2] + step[2]];
        let next_error = squares(points, next);
        if next_error < error {
            let gain = (error - next_error) / error.max(f64::MIN_POSITIVE);
            (at, error, damping) = (next, next_error, (damping * 0.3).max(1e-12));
            if gain < 1e-14 {
                break;
            }
        } else {
            damping *= 4.0;
            if damping > 1e12 {
                break;
            }
        }
    }
    at
}

/// JᵀJ and Jᵀ·residual.
fn normal_equations(points: &[(f64, f64)], at: [f64; 3]) -> ([[f64; 3]; 3], [f64; 3]) {
    let (mut normal, mut gradient) = ([[0.0; 3]; 3], [0.0; 3]);
    for &(n, x) in points {
        let predicted = model(n, at);
        let fall = predicted * predicted / (at[2] * n);
        let slopes = [-fall * (n - 1.0), -fall * n * (n - 1.0), predicted / at[2]];
        for i in 0..3 {
            gradient[i] += slopes[i] * (x - predicted);
            for j in 0..3 {
                normal[i][j] += slopes[i] * slopes[j];
            }
        }
    }
    (normal, gradient)
}

/// Three equations, by elimination with pivots.
fn solve(mut rows: [[f64; 3]; 3], mut right: [f64; 3]) -> Option<[f64; 3]> {
    for column in 0..3 {
        let pivot = (column..3).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))?;
        rows.swap(column, pivot);
        right.swap(column, pivot);
        if rows[column][column].abs() < f64::MIN_POSITIVE {
            return None;
        }
        for row in column + 1..3 {
            let factor = rows[row][column] / rows[column][column];
            let pivots = rows[column];
            for (value, pivot) in rows[row].iter_mut().zip(pivots).skip(column) {
                *value -= factor * pivot;
            }
            right[row] -= factor * right[column];
        }
    }
    let mut found = [0.0; 3];
    for row in (0..3).rev() {
        let known: f64 = (row + 1..3).map(|k| rows[row][k] * found[k]).sum();
        found[row] = (right[row] - known) / rows[row][row];
    }
    found.iter().all(|value| value.is_finite()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::super::assert_close;
    use super::*;

    /// Throughput at N = 1…32: the measurements of codahale/usl's model_test.go.
    const MEASURED: [f64; 32] = [
        955.16, 1878.91, 2688.01, 3548.68, 4315.54, 5130.43, 5931.37, 6531.08, 7219.8, 7867.61, 8278.71,
        8646.7, 9047.84, 9426.55, 9645.37, 9897.24, 10097.6, 10240.5, 10532.39, 10798.52, 11151.43, 11518.63,
        11806.0, 12089.37, 12075.41, 12177.29, 12211.41, 12158.93, 12155.27, 12118.04, 12140.4, 12074.39,
    ];

    fn points() -> Vec<(f64, f64)> {
        MEASURED.iter().zip(1..).map(|(&x, n)| (f64::from(n), x)).collect()
    }

    #[test]
    fn the_fit_of_the_published_measurements() {
        let law = Usl::fit(&points()).unwrap();
        assert_close(law.contention, 0.026_715_91, 1e-5);
        assert_close(law.coherency, 7.690_945e-4, 1e-5);
        assert_close(law.single, 995.648_6, 1e-5);
        assert_eq!(law.clients_at_most(), Some(35.0));
        assert_close(law.throughput_at_most().unwrap(), 12_341.745_4, 1e-5);
        assert_close(law.response(1.0).unwrap(), 0.001_004_37, 1e-5);
        assert_close(law.response(20.0).unwrap(), 0.001_807_72, 1e-5);
        assert_close(law.throughput(20.0).unwrap(), 11_063.633_1, 1e-5);
        assert!(law.explained > 0.99, "{law:?}");
        assert_eq!(law.throughput(65.0), None, "not beyond twice what was observed");
    }

    #[test]
    fn throughput_and_response_follow_from_each_other() {
        let law = Usl::new(0.06, 0.06, 40.0);
        assert_close(law.throughput_at_response(0.03), 69.388_866_65, 1e-9);
        assert_close(law.response_at_throughput(400.0), 0.058_75, 1e-9);
        let law = Usl::new(0.02, 0.001, 100.0);
        let response = law.response(12.0).unwrap();
        assert_close(law.throughput_at_response(response), law.throughput(12.0).unwrap(), 1e-9);
    }

    #[test]
    fn parameters_do_not_fall_below_zero() {
        let linear: Vec<_> = (1..=10).map(|n| (f64::from(n), 50.0 * f64::from(n))).collect();
        let law = Usl::fit(&linear).unwrap();
        assert!(law.contention < 1e-6 && law.coherency < 1e-6, "{law:?}");
        assert_close(law.single, 50.0, 1e-6);
        // better than linear: at the bound
        let super_linear: Vec<_> = (1..=10).map(|n| (f64::from(n), f64::from(n).powf(1.2))).collect();
        let law = Usl::fit(&super_linear).unwrap();
        assert!(law.contention >= 0.0 && law.coherency >= 0.0, "{law:?}");
    }

    /// Noise of 2 % on a known law: of 40 intervals of σ most hold it, and no interval is a point.
    #[test]
    fn the_intervals_hold_the_truth() {
        let truth = Usl::new(0.05, 0.001, 100.0);
        let mut held = 0;
        for seed in 0..40 {
            let mut rng = Rng::new(seed);
            let mut unit = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            let mut noisy = |n: f64| {
                let noise: f64 = (0..12).map(|_| unit()).sum::<f64>() - 6.0;
                (n, truth.throughput(n).unwrap() * (1.0 + 0.02 * noise))
            };
            let points: Vec<_> =
                (0..5).flat_map(|_| [1.0, 2.0, 4.0, 8.0, 16.0, 24.0, 32.0]).map(&mut noisy).collect();
            let found = Usl::intervals(&points, 100, &mut Rng::new(seed + 1_000)).unwrap().contention;
            assert!(found.low < found.high);
            held += u32::from(found.low <= truth.contention && truth.contention <= found.high);
        }
        assert!(held >= 32, "{held} of 40 intervals of nominal 95 %");
    }

    #[test]
    fn too_little_is_no_fit() {
        assert_eq!(Usl::fit(&points()[..5]), None);
        assert_eq!(Usl::fit(&[(1.0, 5.0); 10]), None);
        let mut bad = points();
        bad[3].1 = f64::NAN;
        assert_eq!(Usl::fit(&bad), None);
    }
}
