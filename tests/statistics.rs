//! What the intervals, the gate and the comparison promise, checked by simulation: coverage, wrong verdicts, false alarms,
//! power. Short in the tests; `HAIRSPRING_LONG=1` makes the tables of docs/STATISTICS.md and prints them with `--nocapture`.
//! Seeds are fixed, so a figure is the same each time.

#![allow(clippy::print_stdout)] // the tables

use hairspring::analyze::stats::Percentile;
use hairspring::load::rng::Rng;
use hairspring::load::time::Nanos;
use hairspring::record::{BatchCounter, Tally};

use crate::support::long;

mod capacity;
mod coverage;
mod experiments;
mod verdicts;

/// In the long form: this row of a table is wanted. `HAIRSPRING_LONG` can be a part of a row's name, as in `ρ = 0.8 p99`.
fn wanted(row: &str) -> bool {
    std::env::var("HAIRSPRING_LONG").is_ok_and(|text| text == "1" || row.contains(&text))
}

fn p(text: &str) -> Percentile {
    text.parse().unwrap()
}

/// Uniform in (0, 1).
fn uniform(rng: &mut Rng) -> f64 {
    ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

fn exponential(rng: &mut Rng) -> f64 {
    -uniform(rng).ln()
}

fn normal(rng: &mut Rng) -> f64 {
    (2.0 * exponential(rng)).sqrt() * (std::f64::consts::TAU * uniform(rng)).cos()
}

/// A source of response times in milliseconds with a known distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Source {
    /// Mean 1.
    Exponential,
    /// Median 1, σ = 1.
    Lognormal,
    /// α = 2, from 1.
    Pareto,
    /// M/M/1 with a mean service time of 1, started in equilibrium: response times are exponential with mean 1/(1−ρ),
    /// and as dependent as a queue makes them (Lindley's recursion).
    Queue { rho: f64 },
}

impl Source {
    /// The true percentile in milliseconds; `above` is the share above it.
    fn percentile(self, above: f64) -> f64 {
        match self {
            Self::Exponential => -above.ln(),
            Self::Lognormal => hairspring::analyze::special::normal_quantile(1.0 - above).exp(),
            Self::Pareto => above.powf(-0.5),
            Self::Queue { rho } => -above.ln() / (1.0 - rho),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Queue { rho } => format!("M/M/1 ρ = {rho}"),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    /// The response times of `n` requests.
    fn stream(self, rng: &mut Rng) -> impl FnMut() -> f64 {
        let mut response = match self {
            Self::Queue { rho } => exponential(rng) / (1.0 - rho),
            _ => 0.0,
        };
        move || {
            match self {
                Self::Exponential => return exponential(rng),
                Self::Lognormal => return normal(rng).exp(),
                Self::Pareto => return uniform(rng).powf(-0.5),
                Self::Queue { rho } => {
                    response = (response - exponential(rng) / rho).max(0.0) + exponential(rng);
                }
            }
            response
        }
    }

    /// A run of `n` requests, recorded as the recorder does.
    fn run(self, n: u64, seed: u64) -> Tally {
        let mut rng = Rng::new(seed);
        record(n, self.stream(&mut rng))
    }
}

/// `n` successful requests with these response times in milliseconds.
fn record(n: u64, mut response_ms: impl FnMut() -> f64) -> Tally {
    let mut batches = BatchCounter::new(Some(n));
    let mut tally = Tally::default();
    (tally.scheduled, tally.completed, tally.successful) = (n, n, n);
    for seq in 0..n {
        let response = Nanos((response_ms() * 1e6) as u64);
        tally.response_ok.record(response);
        batches.record(seq, Some(response));
    }
    tally.batches = vec![batches.finish()];
    tally.elapsed = Nanos::from_secs(1);
    tally
}
