//! Where a series settles: MSER (White 1997), on means of five (MSER-5, Spratt 1998).

/// What MSER found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mser {
    /// How many points of the series belong to the warm-up.
    pub(super) cut: usize,
    /// The objective is least at the last place that was looked at: no steady state was found.
    pub(super) unsettled: bool,
    /// The objective for each cut d of batches, d = 0 ..= m/2.
    pub(super) objective: Vec<f64>,
}

/// Cuts d* = argmin over 0 ≤ d ≤ m/2 of Σ over i > d of (`z_i` − mean)²/(m − d)², z the m means of `batch` points: the cut
/// that leaves the mean of the rest most certain. `None` for fewer than four batches.
pub(super) fn mser(series: &[f64], batch: usize) -> Option<Mser> {
    let means: Vec<f64> = series.chunks_exact(batch).map(|b| b.iter().sum::<f64>() / batch as f64).collect();
    let m = means.len();
    if m < 4 {
        return None;
    }
    let objective: Vec<f64> = (0..=m / 2)
        .map(|d| {
            let rest = &means[d..];
            let mean = rest.iter().sum::<f64>() / rest.len() as f64;
            let squares: f64 = rest.iter().map(|z| (z - mean).powi(2)).sum();
            squares / (rest.len() as f64).powi(2)
        })
        .collect();
    let (best, _) = objective.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1))?;
    Some(Mser { cut: best * batch, unsettled: best == m / 2, objective })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_series_settles_after_five() {
        let series = [10, 8, 6, 5, 4, 3, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2].map(f64::from);
        let found = mser(&series, 1).unwrap();
        assert_eq!((found.cut, found.unsettled), (5, false));
        let table = [
            0.222_375, 0.125_091, 0.064_643, 0.038_266, 0.022_461, 0.016_593, 0.017_857, 0.019_117,
            0.020_833, 0.022_539, 0.025,
        ];
        assert_eq!(found.objective.len(), table.len());
        for (value, expected) in found.objective.iter().zip(table) {
            assert!((value - expected).abs() < 5.1e-7, "{value}, expected {expected}");
        }
        assert!((found.objective[5] - 0.016_592_6).abs() < 5e-8);
    }

    #[test]
    fn a_level_series_has_no_warm_up_and_a_falling_one_no_steady_state() {
        let level: Vec<f64> = (0..100).map(|i| f64::from(i % 7)).collect();
        let found = mser(&level, 5).unwrap();
        assert!(found.cut <= 5 && !found.unsettled, "{found:?}");
        let falling: Vec<f64> = (0..100).map(|i| f64::from(100 - i)).collect();
        assert!(mser(&falling, 5).unwrap().unsettled);
        // four batches, the first of them high
        let early: Vec<f64> = (0..20).map(|i| if i < 5 { 9.0 } else { f64::from(i % 2) }).collect();
        assert_eq!(mser(&early, 5).unwrap().cut, 5);
        assert_eq!(mser(&level[..19], 5), None);
    }
}
