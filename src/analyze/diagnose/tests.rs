//! What the checks find in series made for them.

use super::*;
use crate::load::rng::Rng;

/// A whole run of `blocks` blocks with these gaps (ns, of a random number in (0, 1)) and these response times.
fn passages(
    blocks: u64,
    gap: impl Fn(f64) -> f64,
    late: impl Fn(u64) -> u64,
    response: impl Fn(u64, f64) -> u64,
) -> Vec<Vec<Passage>> {
    let mut rng = Rng::new(9);
    let mut unit = || ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let mut at = 0.0;
    let mut passage = |seq| {
        at += gap(unit());
        let intended = Nanos(at as u64);
        let response = Some(Nanos(response(seq, unit())));
        Passage { seq, intended, issued: intended + Nanos(late(seq)), response, server: None }
    };
    (0..blocks).map(|block| (block * 256..(block + 1) * 256).map(&mut passage).collect()).collect()
}

fn even(blocks: u64, response: impl Fn(u64, f64) -> u64) -> Vec<Vec<Passage>> {
    passages(blocks, |_| 1e6, |_| 0, response)
}

const CONSTANT: Arrivals = Arrivals::Constant { per_s: 1_000.0 };
const POISSON: Arrivals = Arrivals::Poisson { per_s: 1_000.0 };

fn noise(_: u64, unit: f64) -> u64 {
    1_000_000 + (unit * 1e5) as u64
}

#[test]
fn requests_that_leave_as_planned_pass() {
    let exponential = passages(16, |u| -1e6 * u.ln(), |_| 0, noise);
    assert_eq!(departures(POISSON, &exponential).outcome, Outcome::Pass);
    assert_eq!(departures(CONSTANT, &even(16, noise)).outcome, Outcome::Pass);
    assert_eq!(departures(CONSTANT, &exponential).outcome, Outcome::Fail);
    assert_eq!(departures(POISSON, &even(16, noise)).outcome, Outcome::Fail);
    assert_eq!(departures(POISSON, &[]).outcome, Outcome::NotEvaluable);
    let closed = Arrivals::Closed { clients: 3, think_ns: Nanos::ZERO };
    assert_eq!(departures(closed, &exponential).outcome, Outcome::NotEvaluable);
}

#[test]
fn a_plan_that_is_kept_in_bursts_fails() {
    // every other request leaves with its successor
    let bursts = passages(8, |_| 1e6, |seq| if seq % 2 == 0 { 1_000_000 } else { 0 }, noise);
    let check = departures(CONSTANT, &bursts);
    assert_eq!(check.outcome, Outcome::Fail, "{check:?}");
    assert!(check.meaning.contains("50."), "{}", check.meaning);
}

#[test]
fn requests_that_leave_ever_later_are_a_drift() {
    let steady = passages(16, |_| 1e6, |_| 20_000, noise);
    assert_eq!(drift(CONSTANT, &steady).outcome, Outcome::Pass);
    let drifting = passages(16, |_| 1e6, |seq| seq * 100, noise);
    let check = drift(CONSTANT, &drifting);
    assert_eq!(check.outcome, Outcome::Fail);
    // 15 blocks of 256 requests, 100 ns each, of a median of 1.05 ms
    assert!((check.figure.unwrap() - 100.0 * 384_000.0 / 1_050_000.0).abs() < 1.0, "{check:?}");
    assert_eq!(drift(CONSTANT, &steady[..7]).outcome, Outcome::NotEvaluable);
}

#[test]
fn a_queue_makes_requests_dependent() {
    let check = independence(&even(8, noise));
    assert_eq!(check.outcome, Outcome::Pass, "{check:?}");
    let slow_for_a_while =
        |seq: u64, unit: f64| noise(seq, unit) + if (seq / 16).is_multiple_of(2) { 500_000 } else { 0 };
    let check = independence(&even(8, slow_for_a_while));
    assert_eq!(check.outcome, Outcome::Fail);
    assert!(check.figure.unwrap() > 0.4);
    assert_eq!(independence(&even(8, |_, _| 5)).outcome, Outcome::NotEvaluable);
    assert_eq!(independence(&[]).outcome, Outcome::NotEvaluable);
}

/// 4000 requests, of which `slow` takes ten times as long.
fn batched(slow: impl Fn(u64, f64) -> bool) -> Tally {
    let mut rng = Rng::new(3);
    let mut batches = crate::record::BatchCounter::new(Some(4_000));
    let mut tally = Tally { scheduled: 4_000, completed: 4_000, successful: 4_000, ..Tally::default() };
    for seq in 0..4_000 {
        let unit = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let response = Nanos(noise(seq, unit) * if slow(seq, unit) { 10 } else { 1 });
        tally.response_ok.record(response);
        batches.record(seq, Some(response));
    }
    tally.batches = vec![batches.finish()];
    tally
}

#[test]
fn slow_stretches_leave_fewer_effective_requests() {
    let check = worth(&batched(|_, unit| unit > 0.8));
    assert_eq!(check.outcome, Outcome::Pass, "{check:?}");
    let check = worth(&batched(|seq, _| seq / 200 % 5 == 0));
    assert_eq!(check.outcome, Outcome::Fail, "{check:?}");
    assert!(check.figure.unwrap() > 10.0, "{check:?}");
    assert_eq!(worth(&Tally::default()).outcome, Outcome::NotEvaluable);
}

fn series(level: impl Fn(usize) -> f64, n: usize) -> Series {
    let mut rng = Rng::new(4);
    let mut noise = || (rng.next_u64() % 1_000) as f64 * 20.0;
    let means: Vec<f64> = (0..n).map(|i| level(i) + noise()).collect();
    let starts = (0..n as u64).map(Nanos::from_secs).collect();
    Series { starts, p90s: means.iter().map(|mean| 2.0 * mean).collect(), means }
}

#[test]
fn a_level_run_passes_all_and_a_changing_one_does_not() {
    for check in stationarity(&series(|_| 1e6, 120)) {
        assert_eq!(check.outcome, Outcome::Pass, "{check:?}");
    }
    let outcomes =
        |series: &Series| stationarity(series).into_iter().map(|check| check.outcome).collect::<Vec<_>>();
    let step = outcomes(&series(|i| if i < 60 { 1e6 } else { 1.2e6 }, 120));
    assert_eq!((step[0], step[1], step[3]), (Outcome::Fail, Outcome::Fail, Outcome::Fail), "{step:?}");
    let trend = outcomes(&series(|i| 1e6 + 3_000.0 * i as f64, 120));
    assert_eq!((trend[0], trend[1], trend[3]), (Outcome::Fail, Outcome::Fail, Outcome::Fail), "{trend:?}");
    assert!(outcomes(&series(|_| 1e6, 49)).iter().all(|&outcome| outcome == Outcome::NotEvaluable));
}

/// Significant, but a change of one in a thousand is nobody's concern.
#[test]
fn a_small_change_is_no_finding() {
    let small =
        Series { means: series(|i| 1e8 + if i < 60 { 0.0 } else { 1e5 }, 120).means, ..Series::default() };
    let check = &stationarity(&small)[0];
    assert!(check.statistic.unwrap() > HALVES_CRITICAL, "{check:?}");
    assert_eq!(check.outcome, Outcome::Pass);
}

#[test]
fn a_wandering_level_is_a_unit_root() {
    let mut rng = Rng::new(2);
    let mut level = 1e6;
    let mut wander = || {
        level += (rng.next_u64() % 1_000) as f64 * 100.0 - 50_000.0;
        level
    };
    let means: Vec<f64> = (0..200).map(|_| wander()).collect();
    let check = &stationarity(&Series { means, ..Series::default() })[2];
    assert_eq!(check.outcome, Outcome::Fail, "{check:?}");
}

#[test]
fn a_slow_beginning_is_told_apart() {
    let slices = Slices::default();
    let (check, cold) = warmup(&series(|i| if i < 12 { 3e6 } else { 1e6 }, 100), &slices);
    assert_eq!(check.outcome, Outcome::Fail, "{check:?}");
    assert_eq!(cold.unwrap().until_ns, Nanos::from_secs(15)); // whole batches of five
    let (check, cold) = warmup(&series(|_| 1e6, 100), &slices);
    assert_eq!((check.outcome, cold), (Outcome::Pass, None));
    let (check, cold) = warmup(&series(|i| 1e6 * (100 - i) as f64, 100), &slices);
    assert_eq!((check.outcome, cold), (Outcome::Fail, None));
    assert!(check.meaning.contains("no steady state"), "{check:?}");
    assert_eq!(warmup(&series(|_| 1e6, 39), &slices).0.outcome, Outcome::NotEvaluable);
}

#[test]
fn of_several_rounds_the_worst_is_told() {
    let check = |outcome, figure| Check { outcome, figure: Some(figure), ..not_evaluable("x", "%", 5.0, "") };
    let mut kept = Vec::new();
    for (outcome, figure) in [
        (Outcome::NotEvaluable, 9.0),
        (Outcome::Pass, 1.0),
        (Outcome::Fail, -7.0),
        (Outcome::Fail, 6.0),
        (Outcome::Pass, 50.0),
    ] {
        worse_of(&mut kept, vec![check(outcome, figure)]);
    }
    assert_eq!((kept[0].outcome, kept[0].figure), (Outcome::Fail, Some(-7.0)));
}

#[test]
fn a_slow_thread_is_found_by_its_connections() {
    let mut rng = Rng::new(8);
    let mut connections = Vec::new();
    for thread in 0..3 {
        for _ in 0..4 {
            let mut moments = Moments { thread, ..Moments::default() };
            (0..200).for_each(|_| {
                moments.add(1_000.0 + (rng.next_u64() % 500) as f64 + if thread == 1 { 400.0 } else { 0.0 });
            });
            connections.push(moments);
        }
    }
    let [threads, each] = homogeneity(&connections);
    assert_eq!((threads.outcome, each.outcome), (Outcome::Fail, Outcome::Fail), "{threads:?}");
    let [threads, each] = homogeneity(&connections[..4]);
    assert_eq!((threads.outcome, each.outcome), (Outcome::NotEvaluable, Outcome::Pass), "{each:?}");
}
