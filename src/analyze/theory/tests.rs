//! Which model is chosen, and its units.

use super::*;

fn station(servers: u32, service_ms: u64, variation: f64) -> Station {
    Station {
        servers: NonZeroU32::new(servers).unwrap(),
        service: service_ms as f64 * 1e6,
        variation,
        exponential: variation == 1.0,
        shares: false,
    }
}

fn names(arrivals: Arrivals, station: &Station) -> Vec<(String, Strength)> {
    let models = predictions(arrivals, station).unwrap();
    models.into_iter().map(|(name, _, strength, _)| (name, strength)).collect()
}

fn one(name: &str, strength: Strength) -> Vec<(String, Strength)> {
    vec![(name.to_owned(), strength)]
}

#[test]
fn the_model_is_the_one_whose_assumptions_hold() {
    let poisson = Arrivals::Poisson { per_s: 400.0 };
    assert_eq!(names(poisson, &station(1, 2, 0.0)), one("M/D/1", Strength::Exact));
    assert_eq!(names(poisson, &station(4, 2, 0.01)), one("M/D/4", Strength::Exact));
    assert_eq!(names(poisson, &station(2, 2, 1.0)), one("M/M/2", Strength::Exact));
    assert_eq!(names(poisson, &station(1, 2, 0.5)), one("M/G/1", Strength::Exact));
    assert_eq!(names(poisson, &station(3, 2, 0.5)), one("M/G/3", Strength::Approximate));
    let shares = Station { shares: true, ..station(1, 2, 0.0) };
    let both = [("M/D/1", Strength::Exact), ("M/G/1-PS", Strength::Exact)];
    assert_eq!(names(poisson, &shares), both.map(|(name, strength)| (name.to_owned(), strength)));
    let constant = Arrivals::Constant { per_s: 400.0 };
    assert_eq!(names(constant, &station(1, 2, 0.0)), one("D/D/1", Strength::Exact));
    assert!(predictions(constant, &station(1, 2, 0.5)).is_err());
    assert!(predictions(constant, &station(1, 3, 0.0)).unwrap_err().contains("more is offered"));
    assert!(predictions(Arrivals::Other, &station(1, 2, 0.0)).is_err());
}

#[test]
fn a_prediction_is_in_nanoseconds() {
    let models = predictions(Arrivals::Poisson { per_s: 400.0 }, &station(1, 2, 0.0)).unwrap();
    // ρ = .8, D = 2 ms
    let expected = [6.0, 4.551_880, 12.023_022, f64::NAN, 22.711_774, 33.400_536];
    for (level, ms) in models[0].3.array().into_iter().zip(expected) {
        let off = (level.unwrap().as_ms() - ms).abs();
        assert!(off < 1e-5 || ms.is_nan(), "{level:?}, expected {ms}");
    }
}

#[test]
fn closed_loops() {
    let closed = |clients, think_ms| Arrivals::Closed { clients, think_ns: Nanos::from_millis(think_ms) };
    let models = predictions(closed(20, 0), &station(4, 100, 0.0)).unwrap();
    assert_eq!(models[0].3, Levels::constant(Nanos::from_millis(500)));
    // eight do not divide twenty: the mean alone
    let models = predictions(closed(20, 0), &station(8, 100, 0.0)).unwrap();
    assert_eq!(models[0].3, Levels { mean: Some(Nanos::from_millis(250)), ..Levels::default() });
    let models = predictions(closed(20, 1_000), &station(4, 500, 1.0)).unwrap();
    assert_eq!((models[0].0.as_str(), models[0].2), ("M/M/4//20", Strength::Exact));
    assert!((models[0].3.mean.unwrap().as_secs() - 1.502_533_34).abs() < 1e-8);
    let models = predictions(closed(20, 1_000), &station(4, 500, 0.0)).unwrap();
    assert_eq!((models[0].2, models[0].3.mean), (Strength::LowerBound, Some(Nanos::from_millis(1_500))));
}

#[test]
fn levels_are_nearest_ranks() {
    let times: Vec<Nanos> = (1..=1_000).rev().map(Nanos).collect();
    let levels = Levels::of_times(times);
    let expected = [500, 500, 900, 950, 990, 999];
    assert_eq!(levels.array().map(|level| level.unwrap().0), expected);
    assert_eq!(Levels::of_times(Vec::new()), Levels::default());
}

#[test]
fn the_distance_tells_which_ideal_is_closer() {
    let level = |ms| Levels::constant(Nanos::from_millis(ms));
    assert!(level(10).distance(&level(11)) < level(10).distance(&level(20)));
    assert_eq!(level(10).distance(&level(10)), 0.0);
}
