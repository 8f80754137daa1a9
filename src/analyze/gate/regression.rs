//! The gate against an earlier run: `p99<=+5%` reads "p99 is at most 5 % above the baseline's".
//!
//! The ratio of two runs is known less well than either run. Its interval is made from the intervals of both by the method
//! of variance estimates recovery (Zou & Donner, Statistics in Medicine 27, 2008) on the logarithm, so it inherits their
//! allowance for dependence. It cannot know what differs between two occasions of measuring on one machine; that is what
//! `compare` is for.

use std::fmt;
use std::str::FromStr;

use super::{Metric, RuleReport, SlaVerdict};
use crate::analyze::stats::{Bounds, Percentile, Quantile};
use crate::load::time::Nanos;

use super::Measured;

/// A rule about the change since a baseline, as in `p99<=+5%`. Percentiles and the mean; an upper limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Relative {
    metric: Metric,
    /// The greatest change that is accepted, in percent; negative asks for an improvement.
    percent: f64,
}

impl Relative {
    /// The percentile it is about, if it is about one.
    pub fn percentile(&self) -> Option<Percentile> {
        match self.metric {
            Metric::Percentile(p) => Some(p),
            _ => None,
        }
    }
}

/// A text that is no such rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no rule against a baseline: write a percentile or mean and the greatest change, as in p99<=+5% (at most 5 % \
     slower) or mean<=-10% (at least 10 % faster)"
)]
pub struct BadRelative(String);

impl FromStr for Relative {
    type Err = BadRelative;
    fn from_str(text: &str) -> Result<Self, BadRelative> {
        parse(text).ok_or_else(|| BadRelative(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Relative> {
    let (metric, limit) = text.trim().split_once("<=")?;
    let metric = match metric.trim() {
        "mean" => Metric::Mean,
        percentile => Metric::Percentile(percentile.parse::<Percentile>().ok()?),
    };
    let limit = limit.trim().strip_suffix('%')?.trim_end();
    let digits = limit.strip_prefix(['+', '-'])?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let percent: f64 = limit.parse().ok()?;
    (plain && percent > -100.0 && percent <= 10_000.0).then_some(Relative { metric, percent })
}

impl fmt::Display for Relative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}<={:+}%", self.metric, self.percent))
    }
}

/// A figure of one side and its bounds.
fn read(metric: Metric, measured: &Measured<'_>) -> Option<(Nanos, Bounds)> {
    match metric {
        Metric::Percentile(p) => match measured.responses.quantile(p) {
            Quantile::Value(value) => Some((value, measured.responses.bounds(p))),
            _ => None,
        },
        _ => Some((measured.mean?, measured.mean_bounds?)),
    }
}

/// The change of `ours` against `baseline` in percent, and what it lies between; an end that is not known is infinite.
fn change(ours: (Nanos, Bounds), baseline: (Nanos, Bounds)) -> (f64, f64, f64) {
    let ln = |time: Nanos| (time.0 as f64).ln();
    let ends = |(value, bounds): (Nanos, Bounds)| {
        let below = ln(value) - ln(bounds.low);
        let above = bounds.high.map_or(f64::INFINITY, |high| ln(high) - ln(value));
        (below, above)
    };
    let difference = ln(ours.0) - ln(baseline.0);
    let ((below, above), (base_below, base_above)) = (ends(ours), ends(baseline));
    let percent = |log: f64| 100.0 * log.exp_m1();
    (
        percent(difference),
        percent(difference - below.hypot(base_above)),
        percent(difference + above.hypot(base_below)),
    )
}

/// Judges what was measured by its change since `baseline`: met where the whole interval of the change meets the limit,
/// not met where none of it does, else inconclusive.
pub fn regression(rule: &Relative, measured: &Measured<'_>, baseline: &Measured<'_>) -> RuleReport {
    let metric = rule.metric;
    let (verdict, value, reason) = match (read(metric, measured), read(metric, baseline)) {
        (_, None) => (SlaVerdict::Inconclusive, None, format!("the baseline has no {metric}")),
        (None, _) => {
            let reason = format!("{metric} falls among the requests that were not successful");
            (SlaVerdict::NotMet, None, reason)
        }
        (Some(ours), Some(base)) if ours.0 == Nanos::ZERO || base.0 == Nanos::ZERO => {
            (SlaVerdict::Inconclusive, None, format!("{metric} is 0, which has no ratio"))
        }
        (Some(ours), Some(base)) => {
            let (value, low, high) = change(ours, base);
            let verdict = match () {
                () if high <= rule.percent => SlaVerdict::Met,
                () if low > rule.percent => SlaVerdict::NotMet,
                () => SlaVerdict::Inconclusive,
            };
            let high = if high.is_finite() { format!("{high:+.1} %") } else { "no upper bound".to_owned() };
            let reason =
                format!("{metric} {} against {}: {value:+.1} % [{low:+.1} %, {high}]", ours.0, base.0);
            (verdict, Some(value), reason)
        }
    };
    RuleReport {
        rule: rule.to_string(),
        metric: metric.to_string(),
        measured: value,
        limit: rule.percent,
        unit: "%".to_owned(),
        verdict,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(ours: [u64; 3], baseline: [u64; 3]) -> (f64, f64, f64) {
        let side = |[low, value, high]: [u64; 3]| {
            let high = (high > 0).then_some(Nanos(high));
            (Nanos(value), Bounds { low: Nanos(low), high, censored: false })
        };
        change(side(ours), side(baseline))
    }

    #[test]
    fn rules_against_a_baseline_are_read_and_written() {
        for (text, canonical) in
            [("p99<=+5%", "p99<=+5%"), (" mean <= -10 % ", "mean<=-10%"), ("p99.9<=+0.5%", "p99.9<=+0.5%")]
        {
            assert_eq!(text.parse::<Relative>().unwrap().to_string(), canonical);
        }
        for text in [
            "p99<=5%",
            "p99<+5%",
            "p99>=+5%",
            "max<=+5%",
            "p99<=+5ms",
            "p99<=+%",
            "p99<=-100%",
            "<=+5%",
            "p99<=+e5%",
        ] {
            let error = text.parse::<Relative>().unwrap_err().to_string();
            assert!(error.contains("p99<=+5%"), "{text}: {error}");
        }
    }

    #[test]
    fn the_interval_of_a_ratio_recovers_the_variances_of_both_sides() {
        // one side exactly known: the other's interval, divided
        let (value, low, high) = sides([90, 100, 120], [100, 100, 100]);
        assert!((value.abs() < 1e-9) && (low + 10.0).abs() < 1e-9 && (high - 20.0).abs() < 1e-9);
        // both equally: √2 times the width, on the logarithm
        let (_, low, high) = sides([100_000, 110_000, 121_000], [100_000, 110_000, 121_000]);
        let wanted = 1.1_f64.powf(2_f64.sqrt());
        assert!(
            (1.0 + high / 100.0 - wanted).abs() < 1e-9 && (1.0 + low / 100.0 - 1.0 / wanted).abs() < 1e-9
        );
        // no upper bound on a side leaves the change open on one side only
        assert_eq!(sides([90, 100, 0], [100, 100, 100]).2, f64::INFINITY);
        let (_, low, high) = sides([90, 100, 120], [90, 100, 0]);
        assert!(low == -100.0 && high.is_finite());
    }
}
