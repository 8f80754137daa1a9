//! Ranks against the vectors of science.md 1.13 and 1.14, τ against hand-made batches, and the ends that do not exist.

use super::*;
use crate::load::rng::Rng;
use crate::record::{BatchCounter, Batches};

/// Requests in order: a response time in milliseconds, or none for an unsuccessful one.
fn tally(responses: &[Option<u64>]) -> Tally {
    let n = responses.len() as u64;
    let mut batches = BatchCounter::new(Some(n));
    let mut tally = Tally { scheduled: n, elapsed: Nanos::from_secs(10), ..Tally::default() };
    for (seq, response) in (0..).zip(responses) {
        let response = response.map(Nanos::from_millis);
        match response {
            Some(time) => tally.response_ok.record(time),
            None => tally.response_not_ok.record(Nanos::from_secs(30)),
        }
        batches.record(seq, response);
    }
    tally.successful = tally.response_ok.count();
    tally.batches = vec![batches.finish()];
    tally
}

fn shuffled(n: u64) -> Vec<Option<u64>> {
    let mut values: Vec<Option<u64>> = (1..=n).map(Some).collect();
    let mut rng = Rng::new(5);
    for at in (1..values.len()).rev() {
        values.swap(at, (rng.next_u64() % (at as u64 + 1)) as usize);
    }
    values
}

#[test]
fn independent_ranks_are_the_exact_ones() {
    let of = |p: &str, n| ranks(p.parse().unwrap(), n, Spread::INDEPENDENT);
    assert_eq!(of("p50", 100), (40, Some(61)));
    assert_eq!(of("p99", 1_000), (983, Some(997)));
    assert_eq!(of("p99.9", 1_000).1, None);
    assert_eq!(of("p99.9", 100_000), (99_880, Some(99_920)));
    assert_eq!((of("p99", 367).1, of("p99", 368).1), (None, Some(368)));
    assert_eq!((of("p99.99", 36_886).1, of("p99.99", 36_887).1), (None, Some(36_887)));
    assert_eq!(of("p99.9", 1_000_000), (998_938, Some(999_062)));
    // the normal form, ⌊np − z·s⌋ and ⌈np + z·s⌉ + 1, is at most a rank away where n is large
    let s = (1e6 * 0.999 * 0.001_f64).sqrt() * 1.959_964;
    assert_eq!(((999_000.0 - s) as u64, (999_000.0 + s).ceil() as u64 + 1), (998_938, 999_063));
}

#[test]
fn dependent_ranks_are_those_of_fewer_requests() {
    let p99 = Percentile::P99;
    let (low, high) = ranks(p99, 100_000, Spread { tau: 25.0, degrees: 19.0 });
    // n/25 = 4000 requests, t 2.093 for z: about 5·2.093/1.96 times as wide as 100 000 independent ones
    let wide = (high.unwrap() - low) as f64 / (99_062 - 98_938) as f64;
    assert!((5.0..6.0).contains(&wide), "{wide}");
    assert_eq!(ranks(p99, 100_000, Spread { tau: 400.0, degrees: 19.0 }).1, None);
    assert_eq!(ranks(p99, 10, Spread { tau: 40.0, degrees: 19.0 }), (0, None));
    // more is known of τ from more batches
    let width = |degrees| {
        let (low, high) = ranks(p99, 1_000_000, Spread { tau: 2.0, degrees });
        high.unwrap() - low
    };
    assert!(width(5.0) > width(19.0) && width(19.0) > width(1e6));
}

#[test]
fn tau_is_the_variance_between_batches_beside_that_of_independence() {
    let parts = |events: [f64; 4]| vec![events.map(|events| Share { events, of: 100.0 }).to_vec()];
    // shares .1 .3 .1 .3: variance 4/3·.01, against .2·.8/100 = .0016
    let spread_of = spread(&parts([10.0, 30.0, 10.0, 30.0]));
    assert!((spread_of.tau - 4.0 / 3.0 * 0.01 / 0.0016).abs() < 1e-9);
    assert_eq!(spread_of.degrees, 3.0);
    // more even than independent requests would be: no credit for it
    assert_eq!(spread(&parts([20.0; 4])).tau, 1.0);
    assert_eq!(spread(&parts([0.0; 4])), Spread::INDEPENDENT);
    assert_eq!(spread(&[]), Spread::INDEPENDENT);
}

#[test]
fn from_six_rounds_on_their_variation_counts() {
    let round = |events: f64| vec![Share { events, of: 100.0 }; 20];
    // within a round nothing varies beyond chance; between rounds it does
    let rounds = [10.0, 14.0, 11.0, 13.0, 10.0, 14.0].map(round);
    let five = spread(&rounds[..5]);
    let six = spread(&rounds);
    assert_eq!((five.degrees, six.degrees), (99.0, 5.0));
    assert!(six.tau > 4.0 * five.tau, "{six:?} {five:?}");
}

#[test]
fn a_burst_widens_what_the_same_requests_in_random_order_do_not() {
    let mixed = shuffled(2_000);
    let mut sorted = mixed.clone();
    sorted.sort_unstable();
    let (mixed, burst) =
        (interval(&tally(&mixed), Percentile::P95), interval(&tally(&sorted), Percentile::P95));
    assert!(mixed.tau.unwrap() < 2.0 && !mixed.unbounded && mixed.sufficient);
    // all hundred slow requests are one event
    assert!(burst.tau.unwrap() > 50.0 && burst.unbounded && !burst.sufficient, "{burst:?}");
    assert_eq!(burst.high, None);
    assert!(burst.low < mixed.low);
}

#[test]
fn the_ends_lie_at_the_edges_of_buckets_and_within_the_extremes() {
    let equal = interval(&tally(&[Some(800); 400]), Percentile::P95);
    assert_eq!((equal.low, equal.high), (Nanos::from_millis(800), Some(Nanos::from_millis(800))));
    assert_eq!(equal.needed, None);
    let values = tally(&shuffled(1_000));
    let i = interval(&values, Percentile::P50);
    // ranks 469 to 532 or wider
    assert!(i.low <= Nanos::from_millis(469) && i.high >= Some(Nanos::from_millis(532)), "{i:?}");
}

#[test]
fn unsuccessful_requests_leave_no_upper_bound_and_maybe_no_value() {
    // 4 % at random among 1000: p90 has bounds, p95 a value but no upper bound, p99 a lower bound alone
    let mut responses = shuffled(1_000);
    responses.iter_mut().step_by(25).for_each(|response| *response = None);
    let tally = tally(&responses);
    let at = |p: Percentile| interval(&tally, p);
    assert!(at(Percentile::P90).high.is_some());
    assert!(at(Percentile::P95).unbounded);
    let (p99, _) = bounds(&tally, Percentile::P99);
    assert!(p99.censored && p99.high.is_none());
    assert_eq!(p99.low, Nanos::from_secs(30), "p99 >= 30 s is a legal answer");
    assert_eq!(at(Percentile::P99).needed, None, "more requests would not help");
}

#[test]
fn requests_that_were_never_drawn_are_events_of_their_own() {
    let mut cut = tally(&shuffled(1_000));
    let whole = interval(&cut, Percentile::P50);
    cut.scheduled = 1_200;
    let cut = interval(&cut, Percentile::P50);
    assert!(cut.tau > whole.tau && cut.n_eff < whole.n_eff);
}

#[test]
fn a_sample_says_how_large_it_would_have_to_be() {
    // exponential: science.md 1.14 computes 7173 for p99 at ±5 %, and 0.05·√(7173/n) for another n
    let mut rng = Rng::new(11);
    let mut next = || ((rng.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    let (mut many, n) = (Tally::default(), 3_000_u64);
    let mut batches = BatchCounter::new(Some(n));
    for seq in 0..n {
        let response = Nanos((-next().ln() * 1e8) as u64);
        many.response_ok.record(response);
        batches.record(seq, Some(response));
    }
    (many.scheduled, many.successful, many.elapsed) = (n, n, Nanos::from_secs(30));
    many.batches = vec![batches.finish()];
    let i = interval(&many, Percentile::P99);
    let needed = i.needed.expect("3000 are not enough") as f64 / i.tau.unwrap();
    assert!((3_500.0..14_000.0).contains(&needed), "{i:?}");
    assert_eq!(i.needed_ns.unwrap().0 / 10_000_000, i.needed.unwrap(), "at 100 requests a second");
}

/// science.md 1.14 at ±5 %, of samples that are their distribution's own quantiles. Within 8 %: the slope is read from a
/// histogram, and the answer has two digits.
#[test]
fn the_sizes_that_the_published_distributions_need() {
    let exponential = |above: f64| -above.ln();
    let pareto = |above: f64| above.powf(-0.5);
    for (p, of_exponential, of_pareto) in
        [("p99", 7_173.0, 38_031.0), ("p99.9", 32_170.0, 383_762.0), ("p99.99", 181_118.0, 3_841_075.0)]
    {
        let p: Percentile = p.parse().unwrap();
        let n = (200.0 / p.share_above()).round() as u64;
        let sources: [(&dyn Fn(f64) -> f64, f64); 2] = [(&exponential, of_exponential), (&pareto, of_pareto)];
        for (quantile, wanted) in sources {
            let mut sample = Tally { scheduled: n, successful: n, ..Tally::default() };
            for rank in 1..=n {
                let above = ((n - rank) as f64 + 0.5) / n as f64;
                sample.response_ok.record(Nanos((1e8 * quantile(above)) as u64));
            }
            let value = sample.response_ok.at_rank(p.rank(n)).unwrap();
            let found = needed(&sample, p, value, 1.0).unwrap() as f64;
            assert!((found / wanted - 1.0).abs() < 0.08, "{p}: {found}, of {wanted}");
        }
    }
}

#[test]
fn errors_in_a_burst_are_worth_less_than_errors_at_random() {
    let mut spread_out = vec![Some(5); 1_000];
    spread_out.iter_mut().step_by(50).for_each(|response| *response = None);
    let mut burst = vec![Some(5); 1_000];
    burst[500..520].fill(None);
    let (_, random) = share_of_scheduled(&tally(&spread_out), 20, CONFIDENCE);
    let (low, clustered) = share_of_scheduled(&tally(&burst), 20, CONFIDENCE);
    assert!(random < 0.035 && clustered > 0.1, "{random} {clustered}");
    assert!(low < 0.01);
    assert_eq!(share_of_scheduled(&tally(&vec![Some(5); 299]), 0, CONFIDENCE).0, 0.0);
}

#[test]
fn the_mean_has_the_t_interval_of_its_batches() {
    let mut tally = tally(&[Some(10); 40]);
    let batch =
        |sum_ms: u64| crate::record::Batch { requests: 1, sum_ns: sum_ms * 1_000_000, counts: vec![(9, 1)] };
    tally.response_ok = crate::record::Distribution::default();
    [10, 12, 14, 16].into_iter().for_each(|ms| tally.response_ok.record(Nanos::from_millis(ms)));
    tally.batches = vec![Batches::restore([10, 12, 14, 16].map(batch).to_vec())];
    // mean 13, s 2.582, t(3) 3.1824: ± 4.1084
    let Bounds { low, high, .. } = mean(&tally, CONFIDENCE).unwrap();
    assert!(
        low.0.abs_diff(8_891_600) < 1_000 && high.unwrap().0.abs_diff(17_108_400) < 1_000,
        "{low} {high:?}"
    );
    tally.batches = vec![Batches::restore(vec![batch(52)])];
    assert_eq!(mean(&tally, CONFIDENCE), None);
}
