//! Alerts: when something went beyond a limit for a while, how far, and which requests were under way meanwhile.
//!
//! Rules on the system monitor's metrics are watched while the load runs ([`LiveWatch`]), a sample at a time; rules on
//! responses are looked at in the slices of time when the round is over ([`of_round`]), so that the hot loop does nothing
//! for them. An alert begins when its condition has held for 300 ms, and is over when it has not held for as long. It is
//! news, not a verdict: gates decide exit codes.

use std::collections::BTreeMap;

use super::stats::{Percentile, Quantile, ResponseTimes};
use super::theory;
use crate::facts::Round;
use crate::facts::alerts::{Alert, Found, NotEvaluated, RoundAlerts};
use crate::load::time::Nanos;
use crate::plan::Plan;

mod requests;
mod rule;
mod slices;
mod watch;

use requests::Kept;
pub use rule::{AlertRule, BadAlert, DEFAULTS, chosen};
use watch::{Span, Watch};

/// The rules of a plan, which has them as text.
pub fn rules(plan: &Plan) -> Vec<AlertRule> {
    plan.alerts.rules.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Rules on the monitor's metrics, while the load runs.
#[derive(Debug)]
pub struct LiveWatch {
    watched: Vec<(&'static str, Watched)>,
}

impl LiveWatch {
    /// Of those of `rules` that are about the monitor's metrics.
    pub fn new(rules: &[AlertRule]) -> Self {
        let sampled = |rule: &AlertRule| Some((rule.sampled()?, Watched::new(*rule, None)));
        Self { watched: rules.iter().filter_map(sampled).collect() }
    }

    /// One sample over the time between two times after t0; `value` says what it has of a metric. Returns the alerts that
    /// begin, which is nearly always none.
    pub fn observe(&mut self, from: Nanos, to: Nanos, value: impl Fn(&str) -> Option<f64>) -> Vec<Alert> {
        let mut begun = Vec::new();
        for (metric, one) in &mut self.watched {
            if let Some(span) = one.watch.observe(from, to, value(metric)) {
                begun.push(one.alert(span, true));
            }
        }
        begun
    }

    /// All that there were.
    pub fn finish(self) -> Found {
        let mut found = Found::default();
        self.watched.into_iter().for_each(|(_, one)| one.finish(true, &mut found));
        found
    }
}

/// What the percentiles of an earlier run were. Without one a run is compared with its own start.
#[derive(Debug, Clone, Default)]
pub struct Baseline(BTreeMap<Percentile, Option<Nanos>>);

impl Baseline {
    /// What `rules` ask for of `earlier`.
    pub fn of(rules: &[AlertRule], earlier: &dyn ResponseTimes) -> Self {
        let value = |p| match earlier.quantile(p) {
            Quantile::Value(value) => Some(value),
            Quantile::Censored { .. } | Quantile::Empty => None,
        };
        Self(rules.iter().filter_map(AlertRule::rise_of).map(|p| (p, value(p))).collect())
    }

    fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    fn figure(&self, percentile: Percentile) -> Option<Option<Nanos>> {
        self.0.get(&percentile).copied()
    }
}

/// The alerts of a round that is over: those that were found while it ran, and those of its slices of time.
pub fn of_round(plan: &Plan, round: &Round, baseline: &Baseline) -> RoundAlerts {
    let rules = rules(plan);
    if rules.is_empty() {
        return RoundAlerts::default();
    }
    let kept = Kept::of(round);
    let live = round.system.as_ref().map(|system| system.alerts.clone()).unwrap_or_default();
    let capacity = theory::capacity_per_s(plan, &round.recorded.measured);
    let slices = &round.recorded.slices;
    let each = slices::each(slices.iter(), slices.interval(), kept.due());
    let (sliced, unclear) = slices::look(&rules, baseline, each, capacity);
    let mut found = [live.alerts, sliced.alerts].concat();
    found.sort_by_key(|alert| alert.start_ns);
    for alert in &mut found {
        alert.requests = Some(kept.under_way(alert.start_ns, alert.end_ns));
    }
    RoundAlerts {
        found,
        left_out: live.left_out + sliced.left_out,
        not_evaluated: rules.iter().filter_map(|rule| unseen(rule, round)).chain(unclear).collect(),
        commands: None,
    }
}

/// A rule about what the monitor did not see.
fn unseen(rule: &AlertRule, round: &Round) -> Option<NotEvaluated> {
    let metric = rule.sampled()?;
    let why = match &round.system {
        None => "the system monitor was off".to_owned(),
        Some(system) => system.not_visible.iter().find(|hidden| hidden.metric == metric)?.why.clone(),
    };
    Some(NotEvaluated { rule: rule.to_string(), why })
}

/// One rule and what has been seen of it.
#[derive(Debug)]
struct Watched {
    rule: AlertRule,
    watch: Watch,
    /// What a rise is measured against.
    against: Option<Nanos>,
}

impl Watched {
    fn new(rule: AlertRule, against: Option<Nanos>) -> Self {
        let (limit, _) = rule.limit();
        Self { rule, watch: Watch::new(rule.op(), limit, rule.hold()), against }
    }

    fn alert(&self, span: Span, live: bool) -> Alert {
        let (limit, unit) = self.rule.limit();
        Alert {
            rule: self.rule.to_string(),
            start_ns: span.start,
            end_ns: span.end,
            value: Some(span.worst).filter(|worst| worst.is_finite()),
            limit,
            unit: unit.to_owned(),
            against_ns: self.against,
            live,
            requests: None,
        }
    }

    fn finish(mut self, live: bool, found: &mut Found) {
        let (spans, left_out) = self.watch.finish();
        found.alerts.extend(spans.into_iter().map(|span| self.alert(span, live)));
        found.left_out += left_out;
    }
}
