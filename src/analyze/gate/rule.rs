//! The grammar of SLA rules: `metric op limit` as text, as a value, and back.
//!
//! Limits are integers inside (nanoseconds, billionths, requests per 1 000 seconds): what a user writes in
//! decimals is exact or refused. Which metric takes which unit is decided here, once, so that a [`Rule`]
//! that exists makes sense. No verdicts here.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::level::{self, SystemMetric};
use crate::analyze::stats::{BadPercentile, Percentile};
use crate::facts::system::Unit;
use crate::load::time::Nanos;

/// What the metrics of the system monitor begin with.
const SIDES: [&str; 3] = ["machine.", "client.", "server."];

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// A percentile of the response time over all scheduled requests.
    Percentile(Percentile),
    /// The mean response time of the successful requests.
    Mean,
    /// The longest response time; not known unless all requests were successful.
    Max,
    /// Scheduled requests that were not successful.
    Errors,
    /// Scheduled requests that ended as `timeout`.
    Timeouts,
    /// Scheduled requests that were successful.
    Availability,
    /// Requests per second.
    Throughput,
    /// What the system monitor saw.
    System(SystemMetric),
}

/// The comparison that must hold: measured `op` limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

impl Op {
    /// `true` for `<` and `<=`: less is better.
    pub const fn is_upper_limit(self) -> bool {
        matches!(self, Self::Below | Self::AtMost)
    }

    /// Whether a figure that compares to the limit like this meets it.
    pub const fn holds(self, measured_to_limit: Ordering) -> bool {
        match self {
            Self::Below => measured_to_limit.is_lt(),
            Self::AtMost => measured_to_limit.is_le(),
            Self::Above => measured_to_limit.is_gt(),
            Self::AtLeast => measured_to_limit.is_ge(),
        }
    }
}

/// The limit of a rule, exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// A response time, up to 1 000 hours.
    Time(Nanos),
    /// A share of the scheduled requests in billionths (1 % is 10 000 000), up to the whole.
    Share(u64),
    /// A number of requests.
    Count(u64),
    /// Requests per 1 000 seconds (500/s is 500 000), up to 10⁹ per second.
    Rate(u64),
    /// Of the system monitor.
    Level {
        /// Of the unit.
        thousandths: u64,
        /// Its unit.
        unit: Unit,
    },
}

impl Limit {
    /// The limit as a number for reports, and its unit there.
    pub fn figure(self) -> (f64, &'static str) {
        match self {
            Self::Time(time) => (time.as_ms(), "ms"),
            Self::Share(billionths) => (billionths as f64 / 1e7, "%"),
            Self::Count(count) => (count as f64, "requests"),
            Self::Rate(thousandths) => (thousandths as f64 / 1e3, "/s"),
            Self::Level { thousandths, unit } => (thousandths as f64 / 1e3, level::unit_text(unit)),
        }
    }
}

/// Decimal places between the written unit and the integer inside.
const SHARE_DIGITS: usize = 7;
const RATE_DIGITS: usize = 3;
/// Units of time, the longest first.
const TIME_UNITS: [(&str, usize); 4] = [("s", 9), ("ms", 6), ("us", 3), ("ns", 0)];

/// One SLA rule. Parse it with [`str::parse`]; its text is canonical and parses to the same rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    metric: Metric,
    op: Op,
    limit: Limit,
}

impl Rule {
    /// What it is about; a recorder learns here which percentiles will be asked for.
    pub const fn metric(&self) -> Metric {
        self.metric
    }

    /// The comparison.
    pub const fn op(&self) -> Op {
        self.op
    }

    /// The limit.
    pub const fn limit(&self) -> Limit {
        self.limit
    }
}

/// A text that is no SLA rule, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("SLA rule `{text}`: {fault}")]
pub struct BadRule {
    /// The rule as it was given.
    pub text: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with an SLA rule, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing but spaces.
    #[error("it is empty; write metric, comparison and limit, as in p95<=800ms")]
    Empty,
    /// No comparison in it.
    #[error("no comparison; write <, <=, > or >= before the limit, as in p95<=800ms")]
    NoComparison,
    /// A comparison that does not exist here.
    #[error("`{0}` is no comparison; write <, <=, > or >=")]
    Comparison(String),
    /// No such metric.
    #[error(
        "`{0}` is no metric; write p0 to p99.999, mean, max, errors, timeouts, availability, throughput, or a metric of the system monitor"
    )]
    Metric(String),
    /// No such metric of the monitor.
    #[error(
        "`{0}` is no metric of the system monitor; write server.cpu, server.rss, machine.memory, … (docs/METHOD.md has all), and behind it .mean, .p95 or .max if it is to be another figure"
    )]
    SystemMetric(String),
    /// A metric that begins like a percentile.
    #[error(transparent)]
    Percentile(#[from] BadPercentile),
    /// Two comparisons.
    #[error("more than one comparison; give each rule an --sla of its own")]
    Several,
    /// Nothing behind the comparison.
    #[error("the limit is missing; write {0}")]
    NoLimit(&'static str),
    /// Less than zero.
    #[error("a limit cannot be negative; write {0}")]
    Negative(&'static str),
    /// No plain decimal number.
    #[error("`{0}` does not begin with a plain number; write digits, as in 800 or 0.5")]
    Number(String),
    /// A unit of something else, or none.
    #[error("the unit is `{found}`, wrong for this metric; write {instead}")]
    Unit {
        /// What was written, maybe nothing.
        found: String,
        /// Examples that would do.
        instead: &'static str,
    },
    /// More decimals than the figure has.
    #[error(
        "`{0}` is too fine; limits go down to 1ns, 0.0000001%, 0.001/s, and a count is whole (a share needs %)"
    )]
    TooFine(String),
    /// Beyond everything sensible.
    #[error("`{0}` is too large; limits go up to 3600000s, 100%, 1000000000/s")]
    TooLarge(String),
}

/// Spaces are allowed between the parts; one rule a text.
impl FromStr for Rule {
    type Err = BadRule;
    fn from_str(text: &str) -> Result<Self, BadRule> {
        parse_rule(text.trim()).map_err(|fault| BadRule { text: text.to_owned(), fault })
    }
}

fn parse_rule(text: &str) -> Result<Rule, Fault> {
    const SIGNS: [char; 6] = ['<', '>', '=', '!', '≤', '≥'];
    if text.is_empty() {
        return Err(Fault::Empty);
    }
    let (metric, rest) = text.split_at(text.find(SIGNS).ok_or(Fault::NoComparison)?);
    let limit = rest.trim_start_matches(SIGNS);
    let op = &rest[..rest.len() - limit.len()];
    let metric = parse_metric(metric.trim())?;
    let op = match op {
        "<" => Op::Below,
        "<=" => Op::AtMost,
        ">" => Op::Above,
        ">=" => Op::AtLeast,
        other => return Err(Fault::Comparison(other.to_owned())),
    };
    if limit.contains(SIGNS) {
        return Err(Fault::Several);
    }
    let limit = parse_limit(metric, limit.trim())?;
    Ok(Rule { metric, op, limit })
}

fn parse_metric(text: &str) -> Result<Metric, Fault> {
    let digit_follows = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    Ok(match text {
        "mean" => Metric::Mean,
        "max" => Metric::Max,
        "errors" => Metric::Errors,
        "timeouts" => Metric::Timeouts,
        "availability" => Metric::Availability,
        "throughput" => Metric::Throughput,
        _ if SIDES.iter().any(|side| text.starts_with(side)) => Metric::System(SystemMetric::parse(text)?),
        _ if text.strip_prefix(['p', 'P']).is_some_and(digit_follows) => Metric::Percentile(text.parse()?),
        _ => return Err(Fault::Metric(text.to_owned())),
    })
}

fn parse_limit(metric: Metric, text: &str) -> Result<Limit, Fault> {
    let instead = match metric {
        Metric::Percentile(_) | Metric::Mean | Metric::Max => "a time, as in 250us, 800ms or 1.5s",
        Metric::Errors | Metric::Timeouts => "a share or a count, as in 0.5% or 3",
        Metric::Availability => "a share, as in 99.9%",
        Metric::Throughput => "a rate, as in 500/s",
        Metric::System(metric) => metric.instead(),
    };
    if text.is_empty() {
        return Err(Fault::NoLimit(instead));
    }
    if text.starts_with(['-', '−']) {
        return Err(Fault::Negative(instead));
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = match unit.trim() {
        "µs" | "μs" => "us",
        unit => unit,
    };
    let time_unit = TIME_UNITS.iter().find(|(name, _)| *name == unit);
    match (metric, time_unit, unit) {
        (Metric::Percentile(_) | Metric::Mean | Metric::Max, Some(&(_, digits)), _) => {
            scaled(number, digits, 3_600_000_000_000_000).map(|ns| Limit::Time(Nanos(ns)))
        }
        (Metric::Errors | Metric::Timeouts | Metric::Availability, _, "%") => {
            scaled(number, SHARE_DIGITS, 1_000_000_000).map(Limit::Share)
        }
        (Metric::Errors | Metric::Timeouts, _, "") => scaled(number, 0, u64::MAX).map(Limit::Count),
        (Metric::Throughput, _, "/s") => scaled(number, RATE_DIGITS, 1_000_000_000_000).map(Limit::Rate),
        (Metric::System(metric), _, unit) if !number.is_empty() => metric.limit(number, unit),
        _ if number.is_empty() => Err(Fault::Number(text.to_owned())),
        _ => Err(Fault::Unit { found: unit.to_owned(), instead }),
    }
}

/// `number`·10^`digits` as an exact integer of at most `limit`.
pub(super) fn scaled(number: &str, digits: usize, limit: u64) -> Result<u64, Fault> {
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(Fault::Number(number.to_owned())),
        None => (number, ""),
    };
    if whole.is_empty() || fraction.contains('.') {
        return Err(Fault::Number(number.to_owned()));
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > digits {
        return Err(Fault::TooFine(number.to_owned()));
    }
    let value = format!("{whole}{fraction:0<digits$}").parse().ok();
    let value = value.filter(|value| *value <= limit);
    value.ok_or_else(|| Fault::TooLarge(number.to_owned()))
}

/// `value`/10^`digits`, exact, without needless zeros.
pub(super) fn decimal(value: u64, digits: usize) -> String {
    let text = format!("{value:0>width$}", width = digits + 1);
    let (whole, fraction) = text.split_at(text.len() - digits);
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percentile(p) => p.fmt(f),
            Self::Mean => f.pad("mean"),
            Self::Max => f.pad("max"),
            Self::Errors => f.pad("errors"),
            Self::Timeouts => f.pad("timeouts"),
            Self::Availability => f.pad("availability"),
            Self::Throughput => f.pad("throughput"),
            Self::System(metric) => metric.fmt(f),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::AtLeast => ">=",
        })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match *self {
            Self::Time(time) => time.exact(),
            Self::Share(billionths) => format!("{}%", decimal(billionths, SHARE_DIGITS)),
            Self::Count(count) => count.to_string(),
            Self::Rate(thousandths) => format!("{}/s", decimal(thousandths, RATE_DIGITS)),
            Self::Level { thousandths, unit } => level::limit_text(thousandths, unit),
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}{}{}", self.metric, self.op, self.limit))
    }
}

impl TryFrom<String> for Rule {
    type Error = BadRule;
    fn try_from(text: String) -> Result<Self, BadRule> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests;
