//! Does it get slower, or does the server take more memory or descriptors, with time? A trend counts where it is both significant and large enough.

use serde::{Deserialize, Serialize};

use super::super::diagnose::stationarity::{mann_kendall, theil_sen, theil_sen_interval};
use super::super::diagnose::{Check, Evidence};
use super::super::stats::{Percentile, median};
use super::{Findings, judged, not_evaluable};
use crate::facts::Round;
use crate::load::time::Nanos;

/// A figure over the time of one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// `p50`, `p99`, `throughput`, `memory`, `descriptors`.
    pub figure: String,
    /// Of the figure: `ns`, `/s`, `bytes`, or none.
    pub unit: String,
    /// The round.
    pub round: u32,
    /// Stretches of time whose medians were looked at.
    pub points: u32,
    /// Their median.
    pub level: f64,
    /// Theil–Sen: how much it grows in an hour, at this pace.
    pub per_hour: f64,
    /// What that lies between with 95 % (Sen).
    pub interval: Option<[f64; 2]>,
    /// Mann–Kendall's z.
    pub statistic: f64,
    /// The growth from the first point to the last, as a share of the level.
    pub growth: f64,
}

/// Neighbouring slices depend on each other, so that many stretches at most are made of them.
const POINTS_MAX: usize = 60;
const POINTS_MIN: usize = 10;
/// Normal, two-sided 1 %.
const CRITICAL: f64 = 2.576;
/// In percent of the level, over the run.
const GROWTH_MAX: f64 = 5.0;
/// A server that has begun to serve takes memory and descriptors that it keeps: the first quarter is no leak.
const SETTLING: f64 = 0.25;

const SERIES: [(&str, &str, &str); 3] =
    [("latency-drift", "p50", "ns"), ("tail-drift", "p99", "ns"), ("throughput-drift", "throughput", "/s")];

/// What the monitor saw of the server: check, metric, figure, unit.
const HELD: [(&str, &str, &str, &str); 2] = [
    ("memory-growth", "server.rss", "memory", "bytes"),
    ("descriptor-growth", "server.fds", "descriptors", ""),
];

pub(super) fn judge(rounds: &[Round], findings: &mut Findings) {
    for round in rounds {
        let slices: Vec<_> = round.recorded.slices.iter().collect();
        // The last slice is cut short by the end of the run.
        let slices = &slices[..slices.len().saturating_sub(1)];
        let length = round.recorded.slices.interval().as_secs();
        for (at, (check, figure, unit)) in SERIES.into_iter().enumerate() {
            let value = |slice: &crate::record::Interval| {
                let responses = &slice.responses;
                let ranked =
                    |p: Percentile| responses.at_rank(p.rank(responses.count())).map(|ns| ns.0 as f64);
                match at {
                    0 => ranked(Percentile::P50),
                    1 => ranked(Percentile::P99),
                    _ => Some(responses.count() as f64 / length),
                }
            };
            let series = slices.iter().filter_map(|slice| Some((slice.start, value(slice)?))).collect();
            add(findings, round.index, check, (figure, unit), series);
        }
        for (check, metric, figure, unit) in HELD {
            match held(round, metric) {
                Ok(series) => add(findings, round.index, check, (figure, unit), series),
                Err(why) => findings.checks.push(not_evaluable(check, PERCENT, GROWTH_MAX, why)),
            }
        }
    }
}

/// What the server held once it had settled, by time; or why that was not seen.
fn held(round: &Round, metric: &str) -> Result<Vec<(Nanos, f64)>, String> {
    let system = round.system.as_ref().ok_or("the monitor was off")?;
    let table = system.tables.iter().find_map(|table| {
        let series = table.series.iter().find(|series| series.metric == metric)?;
        Some(table.ends.iter().copied().zip(&series.values))
    });
    let Some(rows) = table else {
        let hidden = system.not_visible.iter().find(|hidden| hidden.metric == metric);
        return Err(hidden.map_or("the monitor did not see it".to_owned(), |hidden| hidden.why.clone()));
    };
    let settled = Nanos((SETTLING * round.wall.0 as f64) as u64);
    Ok(rows.filter(|(at, _)| *at >= settled).filter_map(|(at, value)| Some((at, (*value)?))).collect())
}

const PERCENT: &str = "% of the level, over the run";

fn add(findings: &mut Findings, round: u32, check: &str, of: (&str, &str), series: Vec<(Nanos, f64)>) {
    let (trend, mut check) = follow(round, check, of, &series);
    check.round = round;
    findings.trends.extend(trend);
    findings.checks.push(check);
}

fn follow(
    round: u32,
    check: &str,
    (figure, unit): (&str, &str),
    series: &[(Nanos, f64)],
) -> (Option<Trend>, Check) {
    let points: Vec<(f64, f64)> = series
        .chunks(series.len().div_ceil(POINTS_MAX).max(1))
        .filter_map(|chunk| {
            let values: Vec<f64> = chunk.iter().map(|(_, value)| *value).collect();
            Some((chunk[chunk.len() / 2].0.as_secs() / 3_600.0, median(&values)?))
        })
        .collect();
    if points.len() < POINTS_MIN {
        let why = format!("{} stretches of time, of {POINTS_MIN} needed", points.len());
        return (None, not_evaluable(check, PERCENT, GROWTH_MAX, why));
    }
    let values: Vec<f64> = points.iter().map(|point| point.1).collect();
    let level = median(&values).unwrap_or_default();
    let per_hour = theil_sen(&points).unwrap_or_default();
    // A figure that does not vary has no trend.
    let statistic = mann_kendall(&values).unwrap_or_default();
    let hours = points[points.len() - 1].0 - points[0].0;
    let growth = if level > 0.0 { per_hour * hours / level } else { 0.0 };
    let trend = Trend {
        figure: figure.to_owned(),
        unit: unit.to_owned(),
        round,
        points: points.len() as u32,
        level,
        per_hour,
        interval: theil_sen_interval(&points),
        statistic,
        growth,
    };
    let meaning = format!(
        "{figure} changes by {:+.2} % over the run ({})",
        100.0 * growth,
        match trend.interval {
            Some([low, high]) if level > 0.0 => format!(
                "{:+.2} to {:+.2} % with 95 %",
                100.0 * low * hours / level,
                100.0 * high * hours / level
            ),
            _ => "no interval".to_owned(),
        }
    );
    let evidence = Evidence {
        // Only for the worse: more throughput or less memory is no complaint.
        figure: 100.0 * (if figure == "throughput" { -growth } else { growth }).max(0.0) + 0.0,
        limit: GROWTH_MAX,
        unit: PERCENT,
        statistic: Some(statistic),
        critical: Some(CRITICAL),
        meaning,
    };
    (Some(trend), judged(check, evidence))
}

#[cfg(test)]
mod tests {
    use super::super::super::diagnose::Outcome;
    use super::*;

    fn outcome(figure: &str, value: impl Fn(u64) -> f64) -> (Outcome, f64) {
        let series: Vec<_> = (0..240).map(|s| (Nanos::from_secs(s), value(s))).collect();
        let (trend, check) = follow(0, "x", (figure, "ns"), &series);
        (check.outcome, trend.unwrap().growth)
    }

    /// Within ±2, as the low bits of a product.
    fn noise(s: u64) -> f64 {
        (s.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 24) * 4.0 - 2.0
    }

    #[test]
    fn a_trend_counts_where_it_is_large_and_for_the_worse() {
        let (level, growth) = outcome("p50", |s| 100.0 + noise(s));
        assert!(level == Outcome::Pass && growth.abs() < 0.01, "{growth}");
        let (drifts, growth) = outcome("p50", |s| 100.0 + noise(s) + s as f64 / 12.0);
        assert!(drifts == Outcome::Fail && (growth - 0.18).abs() < 0.02, "20 of 110: {growth}");
        let (small, growth) = outcome("p50", |s| 100.0 + noise(s) / 10.0 + s as f64 / 120.0);
        assert!(small == Outcome::Pass && (growth - 0.02).abs() < 0.005, "significant, but small: {growth}");
        assert_eq!(outcome("throughput", |s| 100.0 + s as f64).0, Outcome::Pass);
        assert_eq!(outcome("throughput", |s| 400.0 - s as f64).0, Outcome::Fail);
        assert_eq!(outcome("memory", |_| 5e6), (Outcome::Pass, 0.0), "constant");
    }

    #[test]
    fn too_little_is_not_judged() {
        let series: Vec<_> = (0..9).map(|s| (Nanos::from_secs(s), s as f64)).collect();
        assert_eq!(follow(0, "x", ("p50", "ns"), &series).1.outcome, Outcome::NotEvaluable);
    }
}
