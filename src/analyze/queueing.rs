//! What queueing theory predicts, to hold a measurement against.
//!
//! Open arrivals: [`Markov`] (M/M/c), [`general`] (means for any service times), [`Deterministic`] (M/D/c, its exact
//! distribution). Closed loops: [`closed`] (any service times) and [`population`] (a think time, exponential service).
//! [`pathwise`] is the ideal response of every single request of one run. [`usl`] fits throughput against concurrency.
//!
//! All are plain arithmetic on durations in one unit, chosen by the caller. Which model's assumptions hold is decided in
//! `analyze/theory.rs`, not here. Formulae and test vectors: reference/science.md 2.

pub mod closed;
pub mod deterministic;
pub mod general;
pub mod markov;
pub mod pathwise;
pub mod population;
pub mod usl;

pub use closed::little_residual;
pub use closed::{ClosedNetwork, closed_fifo, closed_loop_residual, closed_response, effective_parallelism};
pub use deterministic::Deterministic;
pub use markov::Markov;

/// The least t ≥ 0 with `exceeds(t)` ≤ `share`, for an `exceeds` that falls from at most 1 to 0: a quantile from a tail
/// probability, to the last bits of t. `scale`: any positive duration of the right order.
fn quantile_of_tail(exceeds: impl Fn(f64) -> f64, share: f64, scale: f64) -> f64 {
    if exceeds(0.0) <= share {
        return 0.0;
    }
    let mut above = scale;
    while exceeds(above) > share {
        above *= 2.0;
    }
    let mut below = 0.0;
    loop {
        let middle = f64::midpoint(below, above);
        if middle <= below || middle >= above || above - below < 1e-13 * above {
            return above;
        }
        if exceeds(middle) > share { below = middle } else { above = middle }
    }
}

#[cfg(test)]
fn assert_close(value: f64, expected: f64, relative: f64) {
    let off = (value - expected).abs();
    assert!(off <= relative * expected.abs(), "{value}, expected {expected}");
}
