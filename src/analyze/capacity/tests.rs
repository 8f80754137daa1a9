//! The search on made-up servers: its probes, its end, and its answer beside the exact one.

use super::*;

fn settings(start: u64, budget_s: u64) -> Settings {
    let start = Rate { milli_per_s: start * 1_000 };
    Settings { start, precision: 0.05, budget: Nanos::from_secs(budget_s), requests: 200, warmup: None }
}

/// Runs the search against what each probe would find; the probes, and the outcome.
fn run(settings: Settings, mut find: impl FnMut(&Probe) -> Answer) -> (Vec<Probe>, Outcome) {
    let mut search = Search::new(settings);
    let mut probes = Vec::new();
    while let Some(probe) = search.probe() {
        assert!(probes.len() < 10_000, "the search does not end");
        probes.push(probe);
        search.tell(find(&probe), probe.lasts());
    }
    (probes, search.outcome())
}

/// Without noise: whatever is above the truth breaks.
fn exact(truth: f64) -> impl Fn(&Probe) -> Answer {
    move |probe| if per_s(probe.rate) <= truth { Answer::Meets } else { Answer::Breaks(Cause::Slow) }
}

#[test]
fn without_noise_the_truth_is_enclosed_as_narrowly_as_asked() {
    for truth in [11.0, 99.9, 100.0, 345.6, 12_345.0, 987_654.0] {
        let (probes, outcome) = run(settings(100, 10_000), exact(truth));
        let (low, high) = (per_s(outcome.low.unwrap()), per_s(outcome.high.unwrap()));
        assert!(low <= truth && truth < high && high / low <= 1.051, "{truth}: {low} {high}");
        assert_eq!((outcome.capacity, outcome.stopped_by), (outcome.low, StoppedBy::Server));
        assert!(probes.len() < 25, "{truth}: {}", probes.len());
        let last = probes.last().unwrap();
        assert_eq!((last.purpose, last.confidence), (Purpose::Confirm, CONFIDENCE));
        assert!(probes[..probes.len() - 1].iter().all(|p| p.purpose == Purpose::Search && p.look == 1));
    }
}

#[test]
fn a_rate_at_the_boundary_gets_all_its_looks_and_is_left_open() {
    let near = |probe: &Probe| match per_s(probe.rate) {
        rate if rate < 330.0 => Answer::Meets,
        rate if rate > 370.0 => Answer::Breaks(Cause::Slow),
        _ => Answer::Open,
    };
    let (probes, outcome) = run(settings(100, 10_000), near);
    let at_boundary: Vec<&Probe> = probes.iter().filter(|p| p.look > 1).collect();
    assert!(!at_boundary.is_empty());
    for probe in &probes {
        let all_before: u64 = probes
            .iter()
            .filter(|p| p.rate == probe.rate && p.look < probe.look && p.purpose == probe.purpose)
            .map(|p| p.requests)
            .sum();
        if probe.look > 1 {
            assert_eq!(all_before + probe.requests, 200 * 3u64.pow(probe.look - 1));
            assert!(probe.look <= LOOKS && (330.0..=370.0).contains(&per_s(probe.rate)));
        }
    }
    let (low, high) = (per_s(outcome.low.unwrap()), per_s(outcome.high.unwrap()));
    assert!((310.0..330.0).contains(&low) && (370.0..395.0).contains(&high), "{low} {high}");
    assert_eq!(outcome.capacity, outcome.low);
}

#[test]
fn a_confirmation_that_fails_is_stepped_down_from() {
    for again in [Answer::Open, Answer::Breaks(Cause::Slow)] {
        let mut confirmations = 0;
        let (probes, outcome) = run(settings(100, 10_000), |probe| {
            confirmations += u32::from(probe.purpose == Purpose::Confirm);
            if probe.purpose == Purpose::Confirm && confirmations <= 2 { again } else { exact(300.0)(probe) }
        });
        let confirmed: Vec<f64> =
            probes.iter().filter(|p| p.purpose == Purpose::Confirm).map(|p| per_s(p.rate)).collect();
        assert_eq!(confirmed.len(), 3);
        let ratio = |at: usize| confirmed[at] / confirmed[at + 1];
        assert!((1.0..=1.051).contains(&ratio(0)) && (1.0..=1.051).contains(&ratio(1)), "{confirmed:?}");
        assert_eq!(per_s(outcome.capacity.unwrap()), confirmed[2]);
        let high = per_s(outcome.high.unwrap());
        assert!(if again == Answer::Open { high > 300.0 } else { high == confirmed[1] }, "{high}");
    }
}

#[test]
fn the_client_gets_five_tries_and_then_there_is_no_capacity() {
    let (probes, outcome) = run(settings(100, 10_000), |probe| {
        if per_s(probe.rate) > 1_000.0 { Answer::Disturbed } else { Answer::Meets }
    });
    assert_eq!((outcome.capacity, outcome.stopped_by), (None, StoppedBy::Client));
    assert_eq!((outcome.low.map(per_s), outcome.high), (Some(800.0), None));
    assert_eq!(probes.iter().filter(|p| per_s(p.rate) > 1_000.0).count(), 5);
    // a passing disturbance costs nothing but its probes
    let mut tries = 0;
    let (_, outcome) = run(settings(100, 10_000), |probe| {
        tries += 1;
        if tries % 3 == 0 { exact(345.0)(probe) } else { Answer::Disturbed }
    });
    assert_eq!(outcome.stopped_by, StoppedBy::Server);
    assert!(outcome.capacity.is_some());
}

#[test]
fn the_budget_is_kept_and_what_was_found_is_confirmed() {
    for budget in [3, 5, 10, 20, 40] {
        let (probes, outcome) = run(settings(100, budget), exact(345.0));
        let spent: u64 = probes.iter().map(|p| p.lasts().0).sum();
        assert!(spent <= Nanos::from_secs(budget).0, "{budget}: {}", Nanos(spent));
        assert!(outcome.capacity.is_none_or(|c| per_s(c) <= 345.0));
        assert_eq!(outcome.stopped_by == StoppedBy::Budget, budget < 10, "{budget}: {outcome:?}");
        assert_eq!(outcome.capacity.is_some(), budget >= 5, "{budget}: {outcome:?}");
    }
}

#[test]
fn where_nothing_meets_the_sla_there_is_no_capacity() {
    let (probes, outcome) = run(settings(100, 10_000), exact(0.0));
    assert_eq!((outcome.capacity, outcome.low, outcome.stopped_by), (None, None, StoppedBy::Server));
    assert_eq!(outcome.high.map(per_s), Some(100.0 / 32.0));
    assert_eq!(probes.len(), 6);
}

#[test]
fn what_broke_it_is_told() {
    let (_, outcome) = run(settings(100, 10_000), |probe| {
        if per_s(probe.rate) < 500.0 { Answer::Meets } else { Answer::Breaks(Cause::Errors) }
    });
    assert_eq!(outcome.stopped_by, StoppedBy::Errors);
    let mut search = Search::new(settings(100, 10_000));
    search.probe();
    assert_eq!((search.outcome().stopped_by, search.outcome().low), (StoppedBy::Interrupt, None));
}

#[test]
fn a_look_has_the_requests_that_its_rules_need() {
    let needs = |rules: &[&str]| {
        requests_of_a_look(&rules.iter().map(|rule| rule.parse().unwrap()).collect::<Vec<Rule>>())
    };
    // ln(.00625)/ln p, doubled
    assert_eq!(needs(&["p95<=50ms"]), 2 * 99);
    assert_eq!(needs(&["p99<=50ms", "p50<=1ms"]), 2 * 505);
    assert_eq!(needs(&["errors<1%"]), 2 * 505);
    assert_eq!(needs(&["mean<=1ms", "errors<=0"]), 100);
}
