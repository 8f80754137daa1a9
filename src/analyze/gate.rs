//! The gate: the verdict of SLA rules on what was measured.
//!
//! A rule is `metric op limit`: `p95<=800ms`, `errors < 1%`, `timeouts<=0`, `throughput>=500/s`. Limits and
//! measured figures are integers and compared exactly, so a figure at the limit is decided by the
//! operator and never by rounding. A request that was not successful has no response time that an upper
//! limit could accept: it ranks last, whatever came back and however fast. What this file does not do:
//! measure, choose exit codes, or find out whether a run may be judged. What speaks of the population (percentiles, the
//! mean, shares) is judged by its interval: met where the whole interval meets the limit, not met where none of it does,
//! else inconclusive. What speaks of this run's requests (max, p0, counts, throughput) is judged as it is.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::stats::{Bounds, Percentile, Quantile, ResponseTimes};
use crate::facts::system::SystemFigures;
use crate::load::time::Nanos;

mod level;
mod regression;
mod rule;

pub use level::SystemMetric;
pub use regression::{Relative, regression};
pub use rule::{BadRule, Fault, Limit, Metric, Op, Rule};

/// Requests and the time they took together; a rate without rounding, and rates of rounds add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throughput {
    /// Requests counted.
    pub requests: u64,
    /// The time in which they were counted.
    pub window: Nanos,
}

impl Throughput {
    /// Requests per second; `None` for an empty window.
    pub fn per_s(self) -> Option<f64> {
        (self.window > Nanos::ZERO).then(|| self.requests as f64 / self.window.as_secs())
    }
}

/// What a run measured, as far as rules can ask. It holds scheduled >= successful + timeouts.
#[derive(Clone, Copy)]
pub struct Measured<'a> {
    /// Requests that were scheduled, whatever became of them.
    pub scheduled: u64,
    /// Those with a complete response and an accepted status.
    pub successful: u64,
    /// Those that ended as `timeout`.
    pub timeouts: u64,
    /// What the true share of the unsuccessful lies between.
    pub error_share: (f64, f64),
    /// What the true share of timeouts lies between.
    pub timeout_share: (f64, f64),
    /// The figure that the report calls throughput.
    pub throughput: Throughput,
    /// The mean response time of the successful, to the nanosecond.
    pub mean: Option<Nanos>,
    /// What the true mean lies between; none where the run is too short to tell.
    pub mean_bounds: Option<Bounds>,
    /// The longest response time of the successful.
    pub max: Option<Nanos>,
    /// The percentiles over all scheduled.
    pub responses: &'a dyn ResponseTimes,
    /// What the system monitor saw, by metric; none where it was off.
    pub system: Option<&'a BTreeMap<String, SystemFigures>>,
}

/// The verdict on one rule and on all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlaVerdict {
    /// Every rule holds.
    Met,
    /// At least one rule does not hold.
    NotMet,
    /// None is known to fail, but the run cannot support at least one.
    Inconclusive,
    /// Nothing was judged.
    NotEvaluated,
}

impl SlaVerdict {
    /// Of several runs, each with its verdict: the gravest, in the order of exit codes. None of none.
    pub fn together(verdicts: impl IntoIterator<Item = Self>) -> Option<Self> {
        let gravity = |verdict: &Self| match verdict {
            Self::Met => 0,
            Self::Inconclusive => 1,
            Self::NotMet => 2,
            Self::NotEvaluated => 3,
        };
        verdicts.into_iter().max_by_key(gravity)
    }
}

/// The rules of a plan, which has them as text.
pub fn rules(sla: &[String]) -> Vec<Rule> {
    sla.iter().filter_map(|text| text.parse().ok()).collect()
}

/// The percentiles that these rules ask for.
pub fn percentiles(rules: &[Rule]) -> Vec<super::stats::Percentile> {
    let asked = |rule: &Rule| if let Metric::Percentile(p) = rule.metric() { Some(p) } else { None };
    rules.iter().filter_map(asked).collect()
}

/// What became of one rule, as reports hold it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleReport {
    /// The rule in canonical text.
    pub rule: String,
    /// Its metric.
    pub metric: String,
    /// The measured figure in `unit`; none where there is no such figure (a percentile that falls among
    /// the requests that were not successful).
    pub measured: Option<f64>,
    /// The limit in `unit`.
    pub limit: f64,
    /// `ms`, `%`, `requests` or `/s`; of the monitor's metrics `%`, `B`, `B/s`, `/s`, `us` or nothing.
    pub unit: String,
    /// The verdict on this rule.
    pub verdict: SlaVerdict,
    /// Why, in a few words.
    pub reason: String,
}

/// What the gate found, as reports hold it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlaReport {
    /// The verdict on all rules together.
    pub verdict: SlaVerdict,
    /// One entry a rule, in the order given.
    pub rules: Vec<RuleReport>,
    /// Why nothing was judged.
    pub reason: Option<String>,
}

/// Judges what was measured by the rules. Nothing is judged if the run is not `evaluable` (INVALID or
/// partial; the error says why) or if there is no rule; then every rule says `not_evaluated`.
pub fn evaluate(rules: &[Rule], measured: &Measured<'_>, evaluable: Result<(), String>) -> SlaReport {
    let refusal = match evaluable {
        Err(why) => Some(why),
        Ok(()) if rules.is_empty() => Some("no SLA rule was given".to_owned()),
        Ok(()) => None,
    };
    let judged = |rule: &Rule| match &refusal {
        Some(why) => report(rule, None, SlaVerdict::NotEvaluated, why.clone()),
        None => judge(rule, measured),
    };
    SlaReport::of(rules.iter().map(judged).collect(), refusal)
}

impl SlaReport {
    fn of(rules: Vec<RuleReport>, refusal: Option<String>) -> Self {
        let any = |verdict| rules.iter().any(|rule| rule.verdict == verdict);
        let verdict = if refusal.is_some() {
            SlaVerdict::NotEvaluated
        } else if any(SlaVerdict::NotMet) {
            SlaVerdict::NotMet
        } else if any(SlaVerdict::Inconclusive) {
            SlaVerdict::Inconclusive
        } else {
            SlaVerdict::Met
        };
        Self { verdict, rules, reason: refusal }
    }

    /// With more rules that were judged elsewhere; none of them counts if that run is not `evaluable`.
    pub fn joined(self, mut more: Vec<RuleReport>, evaluable: Result<(), String>) -> Self {
        if more.is_empty() {
            return self;
        }
        if let Err(why) = &evaluable {
            for rule in &mut more {
                (rule.verdict, rule.measured, rule.reason) = (SlaVerdict::NotEvaluated, None, why.clone());
            }
        }
        // Without rules of its own, `self` was not refused but empty.
        let refusal = evaluable.err().or(self.reason.filter(|_| !self.rules.is_empty()));
        Self::of(self.rules.into_iter().chain(more).collect(), refusal)
    }
}

/// What is known of a rule's figure.
enum Reading {
    /// A figure of this run in the unit of the report, how it compares to the limit, and both in words.
    Figure { value: f64, to_limit: Ordering, text: String },
    /// An interval of what stands behind the run: how its ends compare to the limit. `value` is none where the figure
    /// falls among the unsuccessful, `high` where there is no upper end.
    Interval { value: Option<f64>, low: Ordering, high: Option<Ordering>, text: String },
    /// Beyond every upper limit. Against a lower limit only the bound counts, if there is one.
    Censored { bound_to_limit: Option<Ordering>, text: String },
    /// No figure at all.
    Unknown(&'static str),
}

fn judge(rule: &Rule, measured: &Measured<'_>) -> RuleReport {
    use SlaVerdict::{Inconclusive, Met, NotMet};
    let op = rule.op();
    match read(rule, measured) {
        Reading::Unknown(why) => report(rule, None, Inconclusive, why.to_owned()),
        Reading::Figure { value, to_limit, text } if op.holds(to_limit) => {
            report(rule, Some(value), Met, text)
        }
        Reading::Figure { value, text, .. } => {
            report(rule, Some(value), NotMet, format!("{text}, not {op}{}", rule.limit()))
        }
        Reading::Interval { value, low, high, text } => report(rule, value, within(op, low, high), text),
        Reading::Censored { text, .. } if op.is_upper_limit() => report(rule, None, NotMet, text),
        Reading::Censored { bound_to_limit, text } => match bound_to_limit {
            Some(bound) if op.holds(bound) => report(rule, None, Met, text),
            _ => report(rule, None, Inconclusive, text),
        },
    }
}

/// The verdict of an interval: all of it meets the limit, none of it does, or neither. A missing upper end is +∞.
fn within(op: Op, low: Ordering, high: Option<Ordering>) -> SlaVerdict {
    let high = high.unwrap_or(Ordering::Greater);
    let (best, worst) = if op.is_upper_limit() { (low, high) } else { (high, low) };
    match (op.holds(worst), op.holds(best)) {
        (true, _) => SlaVerdict::Met,
        (false, true) => SlaVerdict::Inconclusive,
        (false, false) => SlaVerdict::NotMet,
    }
}

fn read(rule: &Rule, measured: &Measured<'_>) -> Reading {
    if measured.scheduled == 0 {
        return Reading::Unknown("nothing was scheduled");
    }
    match rule.limit() {
        Limit::Time(limit) => read_time(rule.metric(), limit, measured),
        Limit::Share(billionths) => {
            let (count, text) = read_count(rule.metric(), measured);
            let value = count as f64 * 100.0 / measured.scheduled as f64;
            // That something never happens, no sample can show: none of it, or all, is said of this run.
            if billionths == 0 || billionths == 1_000_000_000 {
                let scheduled = u128::from(measured.scheduled);
                let to_limit = (u128::from(count) * 1_000_000_000).cmp(&(u128::from(billionths) * scheduled));
                return Reading::Figure { value, to_limit, text };
            }
            let (low, high) = match rule.metric() {
                Metric::Timeouts => measured.timeout_share,
                Metric::Availability => (1.0 - measured.error_share.1, 1.0 - measured.error_share.0),
                _ => measured.error_share,
            };
            let to_limit = |share: f64| (share * 1e9).total_cmp(&(billionths as f64));
            Reading::Interval {
                value: Some(value),
                low: to_limit(low),
                high: Some(to_limit(high)),
                text: format!("{text}, {:.3} % to {:.3} %", 100.0 * low, 100.0 * high),
            }
        }
        Limit::Count(limit) => {
            let (count, text) = read_count(rule.metric(), measured);
            Reading::Figure { value: count as f64, to_limit: count.cmp(&limit), text }
        }
        Limit::Rate(thousandths) => read_rate(thousandths, measured.throughput),
        Limit::Level { thousandths, .. } => match rule.metric() {
            Metric::System(metric) => level::read(metric, thousandths, measured),
            _ => unreachable!("only the monitor's metrics have levels"),
        },
    }
}

const NO_TIMES: &str = "no response time was recorded";

fn read_time(metric: Metric, limit: Nanos, measured: &Measured<'_>) -> Reading {
    let unsuccessful = measured.scheduled.saturating_sub(measured.successful);
    let of_all = format!("{unsuccessful} of {}", measured.scheduled);
    let figure = |time: Nanos| Reading::Figure {
        value: time.as_ms(),
        to_limit: time.cmp(&limit),
        text: format!("{metric} is {}", beside(time, limit)),
    };
    let censored = |at: Option<Nanos>, what: String| {
        let at = at.filter(|at| *at > Nanos::ZERO);
        let bound = at.map(|at| format!("; it is at least {}", beside(at, limit)));
        Reading::Censored {
            bound_to_limit: at.map(|at| at.cmp(&limit)),
            text: what + &bound.unwrap_or_default(),
        }
    };
    let known = |time: Option<Nanos>| time.map_or(Reading::Unknown(NO_TIMES), figure);
    let among = format!("falls among the requests that were not successful ({of_all})");
    match metric {
        Metric::Percentile(p) => match measured.responses.quantile(p) {
            Quantile::Value(time) if p == Percentile::P0 => figure(time),
            Quantile::Value(time) => {
                interval(metric, limit, Some(time), measured.responses.bounds(p), String::new())
            }
            // The figure is among the unsuccessful, but the true percentile may not be.
            Quantile::Censored { at } if p != Percentile::P0 && !measured.responses.bounds(p).censored => {
                let at_least = format!("{p} {among}, at least {}", beside(at, limit));
                interval(metric, limit, None, measured.responses.bounds(p), at_least)
            }
            Quantile::Censored { at } => censored(Some(at), format!("{p} {among}")),
            Quantile::Empty => Reading::Unknown(NO_TIMES),
        },
        Metric::Mean if measured.successful == 0 => censored(None, "no request was successful".to_owned()),
        Metric::Mean => match (measured.mean, measured.mean_bounds) {
            (Some(mean), Some(bounds)) => interval(metric, limit, Some(mean), bounds, String::new()),
            (Some(_), None) => Reading::Unknown("the mean of so few requests has no interval"),
            (None, _) => Reading::Unknown(NO_TIMES),
        },
        _ if unsuccessful > 0 => censored(measured.max, format!("max {among}")),
        _ => known(measured.max),
    }
}

/// An interval of a time; `text` says more than the value where there is none.
fn interval(metric: Metric, limit: Nanos, value: Option<Nanos>, bounds: Bounds, text: String) -> Reading {
    let Bounds { low, high, .. } = bounds;
    let value_text = value.map_or(text, |value| format!("{metric} is {}", beside(value, limit)));
    let high_text = high.map_or("no upper bound".to_owned(), |high| beside(high, limit));
    Reading::Interval {
        value: value.map(Nanos::as_ms),
        low: low.cmp(&limit),
        high: high.map(|high| high.cmp(&limit)),
        text: format!("{value_text} [{}, {high_text}]", beside(low, limit)),
    }
}

/// A time in as many digits as tell it from the limit.
fn beside(time: Nanos, limit: Nanos) -> String {
    let short = time.to_string();
    if time.0.abs_diff(limit.0) > limit.0 / 100 { short } else { time.exact() }
}

fn read_count(metric: Metric, measured: &Measured<'_>) -> (u64, String) {
    let count = match metric {
        Metric::Availability => {
            let text = format!("{} of {} requests were successful", measured.successful, measured.scheduled);
            return (measured.successful, text);
        }
        Metric::Timeouts => measured.timeouts,
        _ => measured.scheduled.saturating_sub(measured.successful),
    };
    let text = format!("{metric} are {count} of {} requests", measured.scheduled);
    (count, text)
}

fn read_rate(limit_thousandths: u64, throughput: Throughput) -> Reading {
    let Some(value) = throughput.per_s() else {
        return Reading::Unknown("the time in which requests were counted is empty");
    };
    let Throughput { requests, window } = throughput;
    // requests / window against limit / 1000 s, with both divisors brought to the other side.
    let measured = u128::from(requests) * 1_000 * 1_000_000_000;
    let limit = u128::from(limit_thousandths) * u128::from(window.0);
    Reading::Figure {
        value,
        to_limit: measured.cmp(&limit),
        text: format!("throughput is {requests} requests in {}", window.exact()),
    }
}

fn report(rule: &Rule, measured: Option<f64>, verdict: SlaVerdict, reason: String) -> RuleReport {
    let (limit, unit) = rule.limit().figure();
    RuleReport {
        rule: rule.to_string(),
        metric: rule.metric().to_string(),
        measured,
        limit,
        unit: unit.to_owned(),
        verdict,
        reason,
    }
}

#[cfg(test)]
mod tests;
