//! Vectors of science.md 1.13 and 1.21 and definitions checked by brute force.

use super::*;

fn percentile(text: &str) -> Percentile {
    text.parse().expect("a percentile")
}

/// P(l ≤ B ≤ u−1): the coverage of the interval, summed from the same masses.
fn coverage(p: Percentile, n: u64, l: u64, u: u64) -> f64 {
    let binomial = Binomial::new(p, n);
    let inside = |k: &u64| (l..u).contains(k);
    let ranks = binomial.first..;
    let masses = ranks.zip(&binomial.mass).filter(|(k, _)| inside(k));
    masses.map(|(_, mass)| mass).sum()
}

#[test]
fn percentiles_parse_exactly_and_print_back() {
    for (text, thousandths) in [
        ("p0", 0),
        ("p0.001", 1),
        ("p5", 5_000),
        ("p50", 50_000),
        ("p95", 95_000),
        ("p99", 99_000),
        ("p99.9", 99_900),
        ("p99.95", 99_950),
        ("p99.05", 99_050),
        ("p99.999", 99_999),
    ] {
        assert_eq!(text.parse(), Ok(Percentile(thousandths)), "{text}");
        assert_eq!(Percentile(thousandths).to_string(), text);
    }
    assert_eq!("P99.90".parse(), Ok(Percentile::P999));
    for thousandths in 0..WHOLE {
        let text = Percentile(thousandths).to_string();
        assert_eq!(text.parse(), Ok(Percentile(thousandths)), "{text}");
    }
}

#[test]
fn wrong_percentiles_are_refused() {
    for text in [
        "", "p", "95", "p100", "p999", "p99.9999", "p-1", "p99.", "p.9", "p9 9", "p99.9.9", "p1e1", "p+5",
        "p٩٩", "q95",
    ] {
        let wrong = text.parse::<Percentile>();
        assert_eq!(wrong, Err(BadPercentile(text.to_owned())));
    }
    assert_eq!(Percentile::from_thousandths(WHOLE), None);
}

#[test]
fn percentiles_are_text_in_json() {
    let json = serde_json::to_string(&Percentile::P999).expect("json");
    assert_eq!(json, "\"p99.9\"");
    assert_eq!(serde_json::from_str::<Percentile>(&json).expect("back"), Percentile::P999);
    assert!(serde_json::from_str::<Percentile>("\"p100\"").is_err());
}

#[test]
fn nearest_rank_of_one_to_a_hundred() {
    // The values are their own ranks. oha gives p99 = 100 and p50 = 51 here.
    for (p, value) in [("p0", 1), ("p1", 1), ("p50", 50), ("p99", 99), ("p99.9", 100)] {
        assert_eq!(percentile(p).rank(100), value, "{p}");
    }
}

#[test]
fn ranks_are_exact_where_floats_are_not() {
    // 0.07 · 100 is 7.000000000000001 in doubles: rank 8 there.
    assert_eq!(percentile("p7").rank(100), 7);
    for (p, n, rank) in [
        ("p95", 20, 19),
        ("p95", 21, 20),
        ("p99.9", 1_000, 999),
        ("p99.9", 1_001, 1_000),
        ("p50", 1, 1),
        ("p0", 7, 1),
        ("p50", 0, 1),
        ("p99.999", 10_000_000, 9_999_900),
        ("p50", u64::MAX, u64::MAX / 2 + 1),
    ] {
        assert_eq!(percentile(p).rank(n), rank, "{p} of {n}");
    }
    for n in 1..500u64 {
        for thousandths in (0..WHOLE).step_by(499) {
            let rank = Percentile(thousandths).rank(n);
            let (t, whole) = (u64::from(thousandths), u64::from(WHOLE));
            assert!(rank * whole >= t * n && (rank == 1 || (rank - 1) * whole < t * n));
        }
    }
}

#[test]
fn everything_not_successful_ranks_last() {
    let successful: Vec<Nanos> = (1..=90).map(Nanos::from_millis).collect();
    let of = |scheduled, p: &str| {
        let responses =
            SortedResponses { successful: &successful, scheduled, censored_at: Nanos::from_secs(30) };
        responses.quantile(percentile(p))
    };
    let censored = Quantile::Censored { at: Nanos::from_secs(30) };
    assert_eq!(of(100, "p50"), Quantile::Value(Nanos::from_millis(50)));
    assert_eq!(of(100, "p90"), Quantile::Value(Nanos::from_millis(90)));
    assert_eq!(of(100, "p90.001"), censored);
    assert_eq!(of(100, "p99"), censored);
    assert_eq!(of(u64::MAX, "p99"), censored);
    assert_eq!(of(0, "p50"), Quantile::Empty);
}

#[test]
fn exact_ranks_of_the_published_vectors() {
    for (p, n, l, u) in [
        ("p50", 100, 40, Some(61)),
        ("p90", 100, 84, Some(96)),
        ("p99", 100, 97, None),
        ("p50", 1_000, 469, Some(532)),
        ("p90", 1_000, 881, Some(919)),
        ("p99", 1_000, 983, Some(997)),
        ("p99.9", 1_000, 997, None),
        ("p99", 10_000, 9_880, Some(9_920)),
        ("p99.9", 10_000, 9_983, Some(9_997)),
        ("p99.99", 10_000, 9_997, None),
        ("p99", 100_000, 98_938, Some(99_062)),
        ("p99.9", 100_000, 99_880, Some(99_920)),
        ("p99.9", 1_000_000, 998_938, Some(999_062)),
        ("p99.99", 1_000_000, 999_880, Some(999_920)),
    ] {
        let ranks = order_statistic_ranks(percentile(p), n, CONFIDENCE);
        assert_eq!(ranks, (l, u), "{p} of {n}");
    }
}

#[test]
fn exact_ranks_of_large_samples_and_of_other_confidences() {
    // Computed with 40-digit arithmetic (mpmath) for this test.
    for (p, n, confidence, l, u) in [
        ("p50", 400, 0.95, 180, 221),
        ("p95", 400, 0.95, 371, 389),
        ("p99", 400, 0.95, 392, 400),
        ("p50", 400, 0.90, 184, 217),
        ("p99", 1_000, 0.90, 985, 996),
        ("p99.999", 1_000_000, 0.95, 999_983, 999_997),
        ("p50", 10_000_000, 0.95, 4_996_901, 5_003_100),
        ("p99", 10_000_000, 0.95, 9_899_383, 9_900_617),
        ("p99.9", 10_000_000, 0.90, 9_989_835, 9_990_165),
        ("p99.999", 10_000_000, 0.95, 9_999_880, 9_999_920),
    ] {
        let ranks = order_statistic_ranks(percentile(p), n, confidence);
        assert_eq!(ranks, (l, Some(u)), "{p} of {n} at {confidence}");
    }
}

#[test]
fn coverages_of_the_published_vectors() {
    for (p, n, l, u, expected) in [
        ("p50", 100, 40, 61, 0.96480),
        ("p90", 100, 84, 96, 0.95569),
        ("p90", 1_000, 881, 919, 0.95491),
        ("p99", 1_000, 983, 997, 0.97609),
        ("p99", 10_000, 9_880, 9_920, 0.95575),
        ("p99.9", 10_000, 9_983, 9_997, 0.97546),
        ("p99", 100_000, 98_938, 99_062, 0.95123),
        ("p99.9", 100_000, 99_880, 99_920, 0.95479),
        ("p99.9", 1_000_000, 998_938, 999_062, 0.95021),
        // PSU STAT 415, 19.2: 26 escape times.
        ("p75", 26, 16, 24, 0.934_078),
        ("p75", 26, 16, 25, 0.954_460),
        ("p75", 26, 15, 24, 0.958_694),
        // benchstat's median of six, and go-moremath's quantiles of four (science.md 1.11).
        ("p50", 6, 1, 6, 0.968_75),
        ("p50", 4, 2, 3, 0.375),
        ("p25", 4, 1, 2, 0.421_875),
    ] {
        let found = coverage(percentile(p), n, l, u);
        let digits = if n <= 26 { 5e-7 } else { 5.1e-6 };
        assert!((found - expected).abs() < digits, "{p} of {n}: {found}");
    }
    // The sign test's intervals of a median over rounds, in percent (science.md 1.16).
    for (n, l, u, percent) in
        [(8, 2, 7, 92.97), (10, 2, 9, 97.85), (12, 3, 10, 96.14), (15, 4, 12, 96.48), (20, 6, 15, 95.86)]
    {
        let found = 100.0 * coverage(Percentile::P50, n, l, u);
        assert!((found - percent).abs() < 0.0051, "{n}: {found}");
    }
    let ten_million = coverage(percentile("p99"), 10_000_000, 9_899_383, 9_900_617);
    assert!((ten_million - 0.950_115_85).abs() < 5e-9, "{ten_million}");
}

/// P(B ≤ k) for k = 0..=n by repeated Bernoulli trials: slow, and nothing shared with the walk.
fn brute_force_cumulated(p: f64, n: usize) -> Vec<f64> {
    let mut mass = vec![0.0; n + 1];
    mass[0] = 1.0;
    for _ in 0..n {
        for k in (0..=n).rev() {
            let hit = if k > 0 { mass[k - 1] * p } else { 0.0 };
            mass[k] = mass[k] * (1.0 - p) + hit;
        }
    }
    let mut sum = 0.0;
    let cumulate = |mass: &f64| {
        sum += mass;
        sum
    };
    mass.iter().map(cumulate).collect()
}

#[test]
fn ranks_follow_their_definition_at_every_small_n() {
    for text in ["p0", "p0.001", "p10", "p50", "p75", "p90", "p95", "p99", "p99.999"] {
        let p = percentile(text);
        for n in 0..=120u64 {
            let at_most = brute_force_cumulated(f64::from(p.0) / 1e5, n as usize);
            let below = |k: u64| if k == 0 { 0.0 } else { at_most[k as usize - 1] };
            let l = (0..=n).rev().find(|&l| below(l) <= 0.025).expect("0");
            let u = (1..=n).find(|&u| 1.0 - below(u) <= 0.025);
            let ranks = order_statistic_ranks(p, n, CONFIDENCE);
            assert_eq!(ranks, (l, u), "{p} of {n}");
        }
    }
}

#[test]
fn intervals_enclose_the_nearest_rank_and_shrink_with_n() {
    for thousandths in (1_000..WHOLE).step_by(3_331).chain([99_900, 99_990]) {
        let p = Percentile(thousandths);
        let mut relative = f64::INFINITY;
        for n in [10u64, 100, 1_000, 10_000, 100_000, 1_000_000] {
            let (l, u) = order_statistic_ranks(p, n, CONFIDENCE);
            assert!(l <= p.rank(n) && u.is_none_or(|u| p.rank(n) <= u), "{p} of {n}");
            let width = u.map_or(f64::INFINITY, |u| (u - l) as f64 / n as f64);
            assert!(width <= relative, "{p} of {n}");
            relative = width;
        }
        assert!(relative < 2e-3, "{p}");
    }
}

#[test]
fn a_finite_upper_bound_needs_so_many_requests() {
    for (p, one_sided, two_sided) in [
        ("p0", 1, 1),
        ("p50", 5, 6),
        ("p90", 29, 36),
        ("p95", 59, 72),
        ("p99", 299, 368),
        ("p99.9", 2_995, 3_688),
        ("p99.99", 29_956, 36_887),
        ("p99.999", 299_572, 368_887),
    ] {
        let p = percentile(p);
        assert_eq!(requests_for_upper_bound(p, 0.95), one_sided, "{p}");
        assert_eq!(requests_for_upper_bound(p, 0.975), two_sided, "{p}");
        // The intervals turn finite at exactly these n: two-sided 90 % has 5 % above.
        for (confidence, n) in [(0.95, two_sided), (0.90, one_sided)] {
            assert!(order_statistic_ranks(p, n, confidence).1.is_some(), "{p} of {n}");
            assert_eq!(order_statistic_ranks(p, n - 1, confidence).1, None, "{p} of {n}");
        }
    }
    // Where pⁿ is the bound itself, n is enough.
    assert_eq!(requests_for_upper_bound(percentile("p10"), 0.99), 2);
    assert_eq!(requests_for_upper_bound(percentile("p50"), 0.75), 2);
}

#[test]
#[should_panic(expected = "confidence")]
fn a_confidence_in_percent_is_a_bug() {
    order_statistic_ranks(Percentile::P50, 100, 95.0);
}

#[test]
fn median_of_a_few_rounds() {
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[3.5]), Some(3.5));
    assert_eq!(median(&[9.0, 1.0, 4.0]), Some(4.0));
    assert_eq!(median(&[9.0, 1.0, 4.0, 2.0]), Some(3.0));
    assert_eq!(median(&[f64::MAX, f64::MAX]), Some(f64::MAX));
}

#[test]
fn the_mirror_of_a_percentile() {
    assert_eq!(percentile("p99.9").mirrored(), Some(percentile("p0.1")));
    assert_eq!(Percentile::P50.mirrored(), Some(Percentile::P50));
    assert_eq!(percentile("p0").mirrored(), None);
}
