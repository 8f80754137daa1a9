//! What the system monitor saw: the figures of each metric over all rounds, and its series, on the load's time axis.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::facts::Round;
use crate::facts::system::{
    ConnectionSeen, NotVisible, System, SystemFigures, Table, ThreadSeen, Unit, unit,
};
use crate::load::time::Nanos;

/// The monitor's part of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemReport {
    /// Each metric that was visible, over all rounds.
    pub figures: BTreeMap<String, SystemFigures>,
    /// Metrics that were visible in no round.
    pub not_visible: Vec<NotVisible>,
    /// What the monitor cost.
    pub cost: Cost,
    /// Each round by itself.
    pub rounds: Vec<SystemRound>,
}

/// What the monitor cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Its thread's time on a processor; null where the kernel does not tell.
    pub cpu_ns: Option<Nanos>,
    /// The time it watched.
    pub wall_ns: Nanos,
    /// `cpu_ns` / `wall_ns` in percent.
    pub percent_of_a_core: Option<f64>,
    /// Samples taken.
    pub samples: u64,
    /// Intervals without a sample, because it would have cost too much.
    pub skipped: u64,
}

/// One round as the monitor saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemRound {
    /// From 0.
    pub round: u32,
    /// The first process of the server; null where it is not known.
    pub server_pid: Option<u32>,
    /// Processors' worth that the server may use; `server.cpu` is 100 % when it uses all of it.
    pub server_cores: Option<f64>,
    /// The series: what was sampled at every interval, and what once a second.
    pub tables: Vec<SavedTable>,
    /// The threads that used most of a processor.
    pub threads: Vec<ThreadSeen>,
    /// Connections to the target, as last seen.
    pub connections: Vec<ConnectionSeen>,
}

/// Series over the same rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedTable {
    /// When each row ends, after t0; it begins where the one before ends.
    pub ends_ns: Vec<Nanos>,
    /// By metric, the mean of each row, in six significant digits.
    pub series: BTreeMap<String, Values>,
}

/// The values of a series; saved on one line.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Values(pub Vec<Option<f64>>);

impl Serialize for Values {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(&self.0).map_err(serde::ser::Error::custom)?;
        RawValue::from_string(text).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl SystemReport {
    /// Of the rounds of one target; `None` if the monitor was off.
    pub(super) fn of(rounds: &[Round]) -> Option<Self> {
        let seen: Vec<(u32, &System)> =
            rounds.iter().filter_map(|round| Some((round.index, round.system.as_ref()?))).collect();
        if seen.is_empty() {
            return None;
        }
        let mut pooled: BTreeMap<&str, Pooled> = BTreeMap::new();
        for table in seen.iter().flat_map(|(_, system)| &system.tables) {
            pool(table, &mut pooled);
        }
        let figures: BTreeMap<String, SystemFigures> = pooled
            .into_iter()
            .filter_map(|(name, pooled)| Some((name.to_owned(), pooled.figures(unit(name)?)?)))
            .collect();
        let mut not_visible: Vec<NotVisible> = Vec::new();
        for hidden in seen.iter().flat_map(|(_, system)| &system.not_visible) {
            if !figures.contains_key(&hidden.metric) && !not_visible.contains(hidden) {
                not_visible.push(hidden.clone());
            }
        }
        Some(Self { figures, not_visible, cost: Cost::of(&seen), rounds: seen.iter().map(round).collect() })
    }
}

impl Cost {
    fn of(seen: &[(u32, &System)]) -> Self {
        let cpu_ns = seen.iter().map(|(_, s)| s.cpu_time.map(|t| t.0)).sum::<Option<u64>>();
        let wall_ns = seen.iter().map(|(_, s)| s.wall.0).sum::<u64>();
        Self {
            cpu_ns: cpu_ns.map(Nanos),
            wall_ns: Nanos(wall_ns),
            percent_of_a_core: cpu_ns
                .filter(|_| wall_ns > 0)
                .map(|ns| digits(100.0 * ns as f64 / wall_ns as f64)),
            samples: seen.iter().map(|(_, s)| s.samples).sum(),
            skipped: seen.iter().map(|(_, s)| s.skipped).sum(),
        }
    }
}

/// One metric over the rounds.
#[derive(Default)]
struct Pooled {
    /// Rows with their length in seconds.
    rows: Vec<(f64, f64)>,
    max: Option<f64>,
}

fn pool<'a>(table: &'a Table, pooled: &mut BTreeMap<&'a str, Pooled>) {
    for series in &table.series {
        let pooled = pooled.entry(&series.metric).or_default();
        let rows = lengths(table).zip(&series.values);
        pooled.rows.extend(rows.filter_map(|(length, value)| Some(((*value)?, length))));
        pooled.max = series.max.into_iter().chain(pooled.max).reduce(f64::max);
    }
}

fn lengths(table: &Table) -> impl Iterator<Item = f64> {
    let begins = std::iter::once(&Nanos::ZERO).chain(&table.ends);
    begins.zip(&table.ends).map(|(begin, end)| end.saturating_sub(*begin).as_secs())
}

impl Pooled {
    fn figures(mut self, unit: Unit) -> Option<SystemFigures> {
        self.rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let seconds: f64 = self.rows.iter().map(|(_, length)| length).sum();
        let mean = self.rows.iter().map(|(value, length)| value * length).sum::<f64>() / seconds;
        let mut below = 0.0;
        let p95 = self.rows.iter().find(|(_, length)| {
            below += length;
            // the last row is reached whatever the sums are rounded to
            below >= 0.95 * seconds
        });
        let p95 = p95.or(self.rows.last())?.0;
        (seconds > 0.0).then(|| SystemFigures {
            unit,
            mean: digits(mean),
            p95: digits(p95),
            max: digits(self.max.unwrap_or(p95)),
        })
    }
}

fn round((index, system): &(u32, &System)) -> SystemRound {
    let saved = |table: &Table| SavedTable {
        ends_ns: table.ends.clone(),
        series: table
            .series
            .iter()
            .map(|series| {
                (series.metric.clone(), Values(series.values.iter().map(|v| v.map(digits)).collect()))
            })
            .collect(),
    };
    SystemRound {
        round: *index,
        server_pid: system.server_pid,
        server_cores: system.server_cores,
        tables: system.tables.iter().map(saved).collect(),
        threads: system.threads.clone(),
        connections: system.connections.clone(),
    }
}

/// Six significant digits: no sample is better, and reports stay short.
pub(super) fn digits(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let places = 5 - value.abs().log10().floor() as i32;
    let scale = 10f64.powi(places.min(15));
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::system::Series;

    #[test]
    fn figures_weigh_rows_by_their_time() {
        // 19 s at 1 and 1 s at 100
        let ends: Vec<Nanos> = vec![Nanos::from_secs(19), Nanos::from_secs(20)];
        let series = Series {
            metric: "server.cpu".to_owned(),
            mean: Some(5.95),
            max: Some(120.0),
            values: vec![Some(1.0), Some(100.0)],
        };
        let table = Table { ends, series: vec![series] };
        let mut pooled = BTreeMap::new();
        pool(&table, &mut pooled);
        let figures = pooled.remove("server.cpu").unwrap().figures(Unit::Percent).unwrap();
        assert_eq!((figures.mean, figures.p95, figures.max), (5.95, 1.0, 120.0));
    }

    #[test]
    fn six_digits_are_kept() {
        for (value, kept) in [(0.0, 0.0), (1.0 / 3.0, 0.333333), (123_456_789.0, 123_457_000.0), (-2.5, -2.5)]
        {
            assert_eq!(digits(value), kept);
        }
    }
}
