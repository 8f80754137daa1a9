//! The search for capacity on simulated queues whose capacity is known exactly: how often its interval holds the truth, how
//! far below it the answer lies, and how many requests it takes.

use hairspring::analyze::capacity::{
    Answer, Cause, Probe, Purpose, Search, Settings, StoppedBy, judge, per_s, requests_of_a_look,
};
use hairspring::analyze::gate::{Rule, SlaVerdict};
use hairspring::analyze::queueing::Deterministic;
use hairspring::load::rng::{Rng, mix};
use hairspring::load::schedule::Rate;
use hairspring::load::time::Nanos;
use hairspring::record::Tally;

use super::{exponential, long, record};

/// A pool under Poisson arrivals; one server gets 1000 requests a second done.
#[derive(Debug, Clone, Copy)]
struct Pool {
    servers: usize,
    /// Exponential service times; else all 1 ms.
    markov: bool,
}

impl Pool {
    /// Response times in ms at this rate, first come first served (Kiefer and Wolfowitz), after a warm-up.
    fn probe(self, probe: &Probe, seed: u64) -> Tally {
        let mut rng = Rng::new(seed);
        let mut free_at = vec![0.0; self.servers];
        let mut now = 0.0;
        let gap = 1e3 / per_s(probe.rate);
        let mut next = || {
            now += exponential(&mut rng) * gap;
            let (first, _) = free_at
                .iter()
                .enumerate()
                .min_by(|a, b| f64::total_cmp(a.1, b.1))
                .expect("there is a server");
            let service = if self.markov { exponential(&mut rng) } else { 1.0 };
            free_at[first] = f64::max(free_at[first], now) + service;
            free_at[first] - now
        };
        for _ in 0..(probe.warmup.as_ms() / gap) as u64 {
            next();
        }
        record(probe.requests, next)
    }

    /// The highest rate at which the share `above` is slower than the limit: exact.
    fn capacity(self, above: f64, limit_ms: f64) -> f64 {
        if self.markov {
            assert_eq!(self.servers, 1);
            return 1e3 * (1.0 + above.ln() / limit_ms);
        }
        let servers = self.servers as f64;
        let slow = |rho: f64| {
            let queue = Deterministic::new(self.servers as u32, rho * servers, 1.0).expect("it is stable");
            queue.response_quantile(above) > limit_ms
        };
        let (mut below, mut over) = (0.01, 0.999);
        for _ in 0..40 {
            let middle = f64::midpoint(below, over);
            if slow(middle) { over = middle } else { below = middle }
        }
        1e3 * servers * below
    }
}

/// What many searches came to.
#[derive(Debug, Default)]
struct Searches {
    runs: u64,
    found: u64,
    /// The interval holds the truth.
    covered: u64,
    /// The answer is above the truth by more than the precision.
    overstated: u64,
    /// Mean of answer / truth.
    share: f64,
    least_share: f64,
    /// Mean of the interval's upper end / lower end.
    width: f64,
    requests: u64,
}

impl Searches {
    fn of(pool: Pool, rule: &str, above: f64, limit_ms: f64, settings: &Settings, runs: u64) -> Self {
        let rules: [Rule; 1] = [rule.parse().unwrap()];
        let truth = pool.capacity(above, limit_ms);
        let mut all = Self { runs, least_share: f64::INFINITY, ..Self::default() };
        for run in 0..runs {
            let (outcome, requests) = search(pool, &rules, settings, run);
            all.requests += requests / runs;
            let Some(capacity) = outcome.capacity.filter(|_| outcome.stopped_by == StoppedBy::Server) else {
                continue;
            };
            let (low, high) = (per_s(outcome.low.unwrap()), outcome.high.map_or(f64::INFINITY, per_s));
            all.found += 1;
            all.covered += u64::from(low <= truth && truth <= high);
            all.overstated += u64::from(per_s(capacity) > truth * (1.0 + settings.precision));
            all.share += per_s(capacity) / truth;
            all.least_share = all.least_share.min(per_s(capacity) / truth);
            all.width += high / low;
        }
        all
    }

    fn row(&self, name: &str, rule: &str) -> String {
        let found = self.found as f64;
        format!(
            "| {name} | {rule} | {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.2} | {} |",
            self.runs,
            found / self.runs as f64,
            self.covered as f64 / found,
            self.overstated as f64 / found,
            self.share / found,
            self.least_share,
            self.width / found,
            self.requests
        )
    }
}

/// One search, and the requests it took.
fn search(
    pool: Pool,
    rules: &[Rule],
    settings: &Settings,
    run: u64,
) -> (hairspring::analyze::capacity::Outcome, u64) {
    let mut search = Search::new(settings.clone());
    let (mut at_rate, mut current) = (Tally::default(), None);
    let (mut number, mut requests) = (0, 0);
    while let Some(probe) = search.probe() {
        let here: (Rate, Purpose) = (probe.rate, probe.purpose);
        if probe.look == 1 || current != Some(here) {
            (at_rate, current) = (Tally::default(), Some(here));
        }
        at_rate.merge_round(&pool.probe(&probe, mix(mix(0xca9a, run), number)));
        (number, requests) = (number + 1, requests + probe.requests);
        let answer = match judge(rules, &at_rate, probe.confidence).verdict {
            SlaVerdict::Met => Answer::Meets,
            SlaVerdict::NotMet => Answer::Breaks(Cause::Slow),
            SlaVerdict::Inconclusive | SlaVerdict::NotEvaluated => Answer::Open,
        };
        search.tell(answer, probe.lasts());
    }
    (search.outcome(), requests)
}

const HEADER: &str = "| queue | SLA | searches | found | interval holds the truth | above it by more than the precision | mean capacity / truth | least | upper / lower end | requests |\n|---|---|---|---|---|---|---|---|---|---|";

#[test]
fn the_capacity_of_queues_is_found() {
    let markov = Pool { servers: 1, markov: true };
    let fixed = |servers| Pool { servers, markov: false };
    // limits at which the truth is at a utilisation of about .7 to .9
    let cases = [
        ("M/M/1", markov, "p95", 0.05, 10.0),
        ("M/M/1", markov, "p99", 0.01, 20.0),
        ("M/D/1", fixed(1), "p95", 0.05, 5.0),
        ("M/D/4", fixed(4), "p99", 0.01, 3.0),
    ];
    println!("{HEADER}");
    for (name, pool, p, above, limit) in cases {
        if !long() && p == "p99" {
            continue;
        }
        let runs = if long() { 400 } else { 16 };
        let rule = format!("{p}<={limit}ms");
        let settings = Settings {
            start: Rate { milli_per_s: 100_000 },
            precision: 0.05,
            budget: Nanos::from_secs(600),
            requests: requests_of_a_look(&[rule.parse().unwrap()]),
            warmup: None,
        };
        let all = Searches::of(pool, &rule, above, limit, &settings, runs);
        println!("{}", all.row(name, &rule));
        let row = || all.row(name, &rule);
        let slack = 3.0 * (0.1 * 0.9 / all.found as f64).sqrt();
        assert!(all.found as f64 >= 0.9 * runs as f64, "{}", row());
        assert!(all.covered as f64 / all.found as f64 >= 0.90 - slack, "{}", row());
        assert!(all.overstated as f64 / all.found as f64 <= 0.05 + slack, "{}", row());
        let mean = all.share / all.found as f64;
        assert!((0.80..=1.0).contains(&mean), "{}", row());
    }
}
