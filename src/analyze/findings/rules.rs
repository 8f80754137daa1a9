//! The rules, one row each. Thresholds: reference science 3.4, calibrated on the labelled scenarios (docs/ACCURACY.md).

use super::symptoms::Symptoms;
use super::{Of, Step, Test};
use crate::load::time::Nanos;

mod capacity;
mod network;
mod standing;

/// The rule whose finding takes the word from all others.
pub(super) const CLIENT: &str = "client-bound";

/// One rule.
pub(super) struct Rule {
    pub(super) name: &'static str,
    /// What it would mean.
    pub(super) looked_for: &'static str,
    /// It says nothing where the client is guilty; false of what is counted, not timed.
    pub(super) needs_innocent_client: bool,
    pub(super) of: Of,
    /// Rules that, when shown, bring about what this one sees.
    pub(super) follows_from: &'static [&'static str],
    pub(super) tests: fn(&Symptoms) -> Vec<Test>,
    /// Share of the excess, or of the unsuccessful.
    pub(super) explains: fn(&Symptoms) -> Option<f64>,
    /// With its figures.
    pub(super) says: fn(&Symptoms) -> String,
    /// The figure that would disprove it.
    pub(super) disproof: fn(&Symptoms) -> String,
}

/// All of them; the order is that of the lists "not shown" and "not evaluated".
pub(super) const RULES: [Rule; 16] = [
    CLIENT_BOUND,
    capacity::CPU_BOUND,
    capacity::SINGLE_THREAD,
    capacity::POOL,
    capacity::LOCK,
    standing::THROTTLED,
    standing::NEIGHBOUR,
    standing::STALLS,
    network::ACCEPT_BOUND,
    network::SHED,
    network::RATE_LIMITED,
    network::FLOW_CONTROL,
    network::CHURN,
    network::DELAYED_ACK,
    network::RTO,
    network::DATA_RTO,
];

const CLIENT_BOUND: Rule = Rule {
    name: CLIENT,
    looked_for: "the client is too slow or too disturbed for this load",
    needs_innocent_client: false,
    of: Of::Excess,
    follows_from: &[],
    tests: |s| {
        vec![at_least(Step::Necessary, "the heaviest charge over its limit", s.client.weight(), "times", 1.0)]
    },
    explains: |_| None,
    says: |s| {
        let charge = s.client.charge.as_ref().map_or(String::new(), |(rule, figure, unit, limit)| {
            format!(": {rule} is {figure:.1} {unit}, with a limit of {limit}")
        });
        format!("the client is the bottleneck, so nothing is said about the server{charge}")
    },
    disproof: |_| {
        "with more client processors, fewer connections or a lower rate, the latencies stay the same"
            .to_owned()
    },
};

fn test(step: Step, figure: &str, value: Option<f64>, unit: &str, limit: f64, at_least: bool) -> Test {
    let holds = value.map(|value| if at_least { value >= limit } else { value <= limit });
    Test { figure: figure.to_owned(), value, unit: unit.to_owned(), limit, at_least, step, holds }
}

fn at_least(step: Step, figure: &str, value: Option<f64>, unit: &str, limit: f64) -> Test {
    test(step, figure, value, unit, limit, true)
}

fn at_most(step: Step, figure: &str, value: Option<f64>, unit: &str, limit: f64) -> Test {
    test(step, figure, value, unit, limit, false)
}

/// There is something to explain.
fn slow(s: &Symptoms) -> Test {
    let over = s.excess.map(|excess| {
        let ratio = excess.excess_ns.0 as f64 / excess.unloaded_ns.0.max(1) as f64;
        if excess.is_slow() { ratio } else { ratio.min(0.24) }
    });
    at_least(Step::Necessary, "excess over unloaded", over, "times", 0.25)
}

fn explained(step: Step, share: Option<f64>, limit: f64) -> Test {
    at_least(
        step,
        "explained share of the excess",
        share.map(|share| 100.0 * share.min(1.0)),
        "%",
        100.0 * limit,
    )
}

/// The share of the excess that so many ns are.
fn share(s: &Symptoms, ns: Option<f64>) -> Option<f64> {
    Some(s.excess?.share(Nanos(ns?.max(0.0) as u64)))
}

/// Waiting for the server as a share of the excess; `None` without the server's account.
fn waiting(s: &Symptoms) -> Option<f64> {
    let excess = s.excess?;
    excess.queue_ns?;
    Some(excess.share(excess.waiting()))
}

/// Waiting and stretched service; without the server's account everything beside the shortest response.
fn waiting_and_service(s: &Symptoms) -> Option<f64> {
    let excess = s.excess?;
    let beyond = excess.service_ns.unwrap_or(excess.beside_ns);
    Some(excess.share(excess.waiting() + beyond))
}

fn beside(s: &Symptoms) -> Option<f64> {
    Some(s.excess?.share(s.excess?.beside_ns))
}

fn conn_wait(s: &Symptoms) -> Option<f64> {
    Some(s.excess?.share(s.excess?.conn_wait_ns))
}

fn model(value: Option<f64>) -> Test {
    at_most(Step::Sufficient, "measured off the queueing model", value.map(|off| 100.0 * off), "%", 10.0)
}

/// A figure in a sentence.
fn shown(value: Option<f64>, unit: &str) -> String {
    value.map_or("?".to_owned(), |value| {
        let digits = if value.abs() >= 100.0 { 0 } else { 1 };
        format!("{value:.digits$}{unit}")
    })
}

fn time(ns: Option<f64>) -> String {
    ns.map_or("?".to_owned(), |ns| Nanos(ns.max(0.0) as u64).to_string())
}
