//! Alerts as plain data: what was raised in a round, what could not be looked at, and what became of the commands that
//! were told.
//!
//! When an alert begins and ends is decided in `analyze::alerts`. An alert is news, not a verdict: gates judge.

use serde::{Deserialize, Serialize};

use crate::load::time::Nanos;

/// The version of [`Event`].
pub const ALERT_SCHEMA: &str = "hairspring.alert/1";

/// A stretch of time in which the condition of one rule held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The rule in canonical text, as in `server.cpu>80%`.
    pub rule: String,
    /// When the condition began to hold, after t0.
    pub start_ns: Nanos,
    /// When it ceased to; null while it holds, so also where it held when the load ended.
    pub end_ns: Option<Nanos>,
    /// The worst value in this time, in `unit`; null where a percentile fell among the requests that were not successful.
    pub value: Option<f64>,
    /// The limit, in `unit`.
    pub limit: f64,
    /// `%`, `ms`, `requests`, `/s`, `B`, `B/s`, `us` or nothing.
    pub unit: String,
    /// What the percentile is compared with, for rules like `p95>+50%`.
    pub against_ns: Option<Nanos>,
    /// It was found while the load ran; else in the slices of time, after it.
    pub live: bool,
    /// The requests that overlap it; null while the load runs.
    pub requests: Option<Overlapping>,
}

/// Those of the kept requests that were under way in the time of an alert.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlapping {
    /// One in so many requests was kept, in blocks; all counts here are of the kept ones.
    pub one_in: u64,
    /// Answered requests that were under way in this time.
    pub answered: u64,
    /// Of these, slower than the p95 of the successful requests of the round.
    pub slow: u64,
    /// Requests that were due in this time and never answered.
    pub unanswered: u64,
    /// The slowest of the slow, the slowest first.
    pub slowest: Vec<SlowRequest>,
}

/// A request that an alert overlaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowRequest {
    /// Its id, as in the log.
    pub id: u64,
    /// When it was due, after t0.
    pub intended_ns: Nanos,
    /// done − intended.
    pub response_ns: Nanos,
}

/// What one kind of looking found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// In the order of time.
    pub alerts: Vec<Alert>,
    /// Alerts beyond those that are kept of each rule.
    pub left_out: u64,
}

/// A rule that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotEvaluated {
    /// The rule.
    pub rule: String,
    /// Why.
    pub why: String,
}

/// What became of the commands of one round.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commands {
    /// Ended with status 0.
    pub succeeded: u64,
    /// Could not be started, ended otherwise, or were killed because they took too long.
    pub failed: u64,
    /// Alerts of which no command was told: too many at once.
    pub untold: u64,
    /// How the first of the failed ended.
    pub failures: Vec<String>,
}

/// The alerts of one round.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundAlerts {
    /// In the order of time.
    pub found: Vec<Alert>,
    /// Alerts beyond those that are kept of each rule.
    pub left_out: u64,
    /// Rules that could not be looked at.
    pub not_evaluated: Vec<NotEvaluated>,
    /// What became of `--on-alert`; null without it.
    pub commands: Option<Commands>,
}

/// What a command is told on its standard input: one line of JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Event<'a> {
    /// [`ALERT_SCHEMA`].
    pub schema: &'static str,
    /// The name of the target.
    pub target: &'a str,
    /// From 0.
    pub round: u32,
    /// The alert. Told while the load runs, it has no end and no requests yet.
    #[serde(flatten)]
    pub alert: &'a Alert,
}
