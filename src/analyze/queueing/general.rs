//! Means that hold for service times of any distribution, given their mean and variability.

use super::markov::Markov;

/// M/G/1, first come first served: W̄ = λE\[S²\]/(2(1 − ρ)) (Pollaczek–Khinchine). `None` at saturation and beyond.
pub fn wait_mean_single(arrival_rate: f64, service_mean: f64, service_square_mean: f64) -> Option<f64> {
    let spare = 1.0 - arrival_rate * service_mean;
    (spare > 0.0).then(|| arrival_rate * service_square_mean / (2.0 * spare))
}

/// The same from the coefficient of variation of the service times.
pub fn wait_mean_single_by_variation(offered: f64, service_mean: f64, variation: f64) -> Option<f64> {
    let square = service_mean * service_mean * (1.0 + variation * variation);
    wait_mean_single(offered / service_mean, service_mean, square)
}

/// M/G/c, first come first served, **approximately**: ½(1 + C²) times the wait of M/M/c (Lee & Longton 1959). Exact for
/// exponential service and for one server.
pub fn wait_mean_pool(servers: u32, offered: f64, service_mean: f64, variation: f64) -> Option<f64> {
    let markov = Markov::new(servers, offered, service_mean)?;
    Some(f64::midpoint(1.0, variation * variation) * markov.wait_mean())
}

/// Processor sharing on c processors, Poisson arrivals: R̄ is that of M/M/c whatever the distribution of the service
/// times (insensitivity; Cohen 1979). S/(1 − ρ) on one.
pub fn response_mean_sharing(processors: u32, offered: f64, service_mean: f64) -> Option<f64> {
    Some(Markov::new(processors, offered, service_mean)?.response_mean())
}

#[cfg(test)]
mod tests {
    use super::super::assert_close;
    use super::*;

    #[test]
    fn variability_makes_everyone_wait() {
        assert_close(wait_mean_single(0.5, 1.0, 2.0).unwrap(), 1.0, 1e-12);
        assert_close(wait_mean_single(0.5, 1.0, 1.0).unwrap(), 0.5, 1e-12);
        // 99 % of 1 ms, 1 % of 101 ms, a request every 4 ms
        let (mean, square) = (0.99 + 1.01, 0.99 + 0.01 * 101.0 * 101.0);
        assert_close(mean, 2.0, 1e-12);
        assert_close(square, 103.0, 1e-12);
        assert_close(wait_mean_single(0.25, mean, square).unwrap(), 25.75, 1e-12);
        let variation = (square / (mean * mean) - 1.0).sqrt();
        assert_close(wait_mean_single_by_variation(0.5, mean, variation).unwrap(), 25.75, 1e-12);
        assert_eq!(wait_mean_single(1.0, 1.0, 1.0), None);
    }

    #[test]
    fn the_pool_approximation_is_exact_where_it_says_so() {
        assert_close(wait_mean_pool(4, 3.2, 1.0, 1.0).unwrap(), 0.745_540_59, 1e-7);
        assert_close(wait_mean_pool(1, 0.8, 1.0, 0.0).unwrap(), 2.0, 1e-12);
        // constant service: half of M/M/c
        assert_close(wait_mean_pool(2, 1.6, 1.0, 0.0).unwrap(), 0.888_889, 1e-6);
        assert_close(wait_mean_pool(4, 3.2, 1.0, 0.0).unwrap(), 0.372_770, 2e-6);
        assert_close(wait_mean_pool(8, 6.4, 1.0, 0.0).unwrap(), 0.143_014, 2e-6);
    }

    #[test]
    fn sharing_one_processor_has_its_textbook_mean() {
        assert_close(response_mean_sharing(1, 0.8, 1.0).unwrap(), 5.0, 1e-12);
        assert_eq!(response_mean_sharing(1, 1.0, 1.0), None);
    }
}
