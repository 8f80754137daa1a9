//! Samples become series: differences of counters, levels, and a bounded number of rows. Pure.

use std::borrow::Cow;

use crate::facts::system::{NotVisible, Series, Table};
use crate::load::time::Nanos;

/// A longer run has longer rows.
const ROWS_MAX: usize = 1_200;

/// The name of a metric.
pub(super) type Name = Cow<'static, str>;

/// Metrics that are sampled together. Each sample names the same metrics in the same order.
#[derive(Debug)]
pub(super) struct Sheet {
    columns: Vec<Column>,
    rows: Vec<Row>,
    most: usize,
    /// Samples that make a row: 1, doubled as often as the run was too long.
    per_row: u32,
    /// The metric that comes next in the sample that is being taken.
    next: usize,
    /// Since the sample before; none in the first, which has no differences.
    elapsed: Option<f64>,
    last: Option<Nanos>,
}

#[derive(Debug)]
struct Column {
    name: Name,
    before: Option<u64>,
    /// Of the sample that is being taken.
    value: Option<f64>,
    all: Mean,
    max: Option<f64>,
    why_not: Option<&'static str>,
}

/// Several samples, or one.
#[derive(Debug)]
struct Row {
    end: Nanos,
    samples: u32,
    means: Vec<Mean>,
}

/// A mean weighted by time.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    seconds: f64,
}

impl Mean {
    fn add(&mut self, other: Self) {
        self.sum += other.sum;
        self.seconds += other.seconds;
    }

    fn value(self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.sum / self.seconds)
    }
}

impl Sheet {
    pub(super) fn new() -> Self {
        Self {
            columns: Vec::new(),
            rows: Vec::new(),
            most: ROWS_MAX,
            per_row: 1,
            next: 0,
            elapsed: None,
            last: None,
        }
    }

    /// Begins a sample.
    pub(super) fn begin(&mut self, now: Nanos) {
        self.elapsed =
            self.last.map(|last| now.saturating_sub(last).as_secs()).filter(|&elapsed| elapsed > 0.0);
        self.last = Some(now);
        self.next = 0;
    }

    /// Seconds since the sample before.
    pub(super) fn elapsed(&self) -> Option<f64> {
        self.elapsed
    }

    /// What the sample that was taken last has of a metric.
    pub(super) fn value(&self, metric: &str) -> Option<f64> {
        self.columns.iter().find(|column| column.name == metric)?.value
    }

    /// A counter that only grows: its increase per second, times `scale`. One that is read for the first time has none.
    pub(super) fn counter(&mut self, name: impl Into<Name>, now: Option<u64>, scale: f64) {
        let elapsed = self.elapsed;
        let column = self.column(name.into());
        let before = std::mem::replace(&mut column.before, now);
        let increase = now.zip(before).and_then(|(now, before)| now.checked_sub(before));
        column.value = increase.zip(elapsed).map(|(n, elapsed)| n as f64 * scale / elapsed);
    }

    /// A value that is one already.
    pub(super) fn gauge(&mut self, name: impl Into<Name>, now: Option<f64>) {
        let first = self.elapsed.is_none();
        self.column(name.into()).value = now.filter(|_| !first);
    }

    /// Says why the metric that came last has no value.
    pub(super) fn unless(&mut self, why: &'static str) {
        self.columns[self.next - 1].why_not = Some(why);
    }

    fn column(&mut self, name: Name) -> &mut Column {
        if self.next == self.columns.len() {
            let (all, max, why_not) = (Mean::default(), None, None);
            self.columns.push(Column { name: name.clone(), before: None, value: None, all, max, why_not });
        }
        let column = &mut self.columns[self.next];
        assert_eq!(column.name, name, "samples name the same metrics in the same order");
        self.next += 1;
        column
    }

    /// Ends a sample; `end` is after t0.
    pub(super) fn end(&mut self, end: Nanos) {
        let Some(seconds) = self.elapsed else { return };
        let mut means = Vec::with_capacity(self.columns.len());
        for column in &mut self.columns {
            let mean = column.value.map_or(Mean::default(), |value| Mean { sum: value * seconds, seconds });
            column.all.add(mean);
            column.max = column.value.into_iter().chain(column.max).reduce(f64::max);
            means.push(mean);
        }
        match self.rows.last_mut() {
            Some(open) if open.samples < self.per_row => {
                open.means.iter_mut().zip(means).for_each(|(sum, mean)| sum.add(mean));
                (open.end, open.samples) = (end, open.samples + 1);
            }
            _ => self.rows.push(Row { end, samples: 1, means }),
        }
        if self.rows.len() > self.most {
            self.fold();
        }
    }

    /// What the newest sample has, by name.
    pub(super) fn newest(&self) -> impl Iterator<Item = (Name, f64)> {
        self.columns.iter().filter_map(|column| Some((column.name.clone(), column.value?)))
    }

    /// Two rows become one.
    fn fold(&mut self) {
        self.per_row *= 2;
        let mut rows: Vec<Row> = Vec::with_capacity(self.rows.len() / 2 + 1);
        for row in self.rows.drain(..) {
            match rows.last_mut() {
                Some(open) if open.samples + row.samples <= self.per_row => {
                    open.means.iter_mut().zip(row.means).for_each(|(sum, mean)| sum.add(mean));
                    (open.end, open.samples) = (row.end, open.samples + row.samples);
                }
                _ => rows.push(row),
            }
        }
        self.rows = rows;
    }

    /// The series that have values, and the metrics that have none.
    pub(super) fn finish(self) -> (Table, Vec<NotVisible>) {
        let (mut series, mut not_visible) = (Vec::new(), Vec::new());
        for (at, column) in self.columns.into_iter().enumerate() {
            let metric = column.name.into_owned();
            if column.max.is_none() {
                let why = column.why_not.unwrap_or("the kernel does not tell").to_owned();
                not_visible.push(NotVisible { metric, why });
                continue;
            }
            let values = self.rows.iter().map(|row| row.means[at].value()).collect();
            series.push(Series { metric, mean: column.all.value(), max: column.max, values });
        }
        (Table { ends: self.rows.iter().map(|row| row.end).collect(), series }, not_visible)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One sample a second of a counter, a level and something that cannot be seen.
    fn sampled(counter: impl Fn(u64) -> Option<u64>, seconds: u64, most: usize) -> (Table, Vec<NotVisible>) {
        let mut sheet = Sheet::new();
        sheet.most = most;
        let t0 = Nanos::from_secs(1_000);
        for second in 0..=seconds {
            sheet.begin(t0 + Nanos::from_secs(second));
            sheet.counter("counter", counter(second), 2.0);
            sheet.gauge("level", Some(second as f64));
            sheet.gauge("hidden", None);
            sheet.unless("nobody shows it");
            sheet.end(Nanos::from_secs(second));
        }
        sheet.finish()
    }

    #[test]
    fn counters_are_rates_and_levels_are_themselves() {
        let (table, hidden) = sampled(|second| Some(100 + 5 * second), 3, 100);
        assert_eq!(table.ends, [1, 2, 3].map(Nanos::from_secs));
        let [counter, level] = &table.series[..] else { panic!("{table:?}") };
        assert_eq!((counter.mean, counter.max), (Some(10.0), Some(10.0)));
        assert_eq!((level.mean, level.max), (Some(2.0), Some(3.0)));
        assert_eq!(level.values, [1.0, 2.0, 3.0].map(Some));
        let [hidden] = &hidden[..] else { panic!("{hidden:?}") };
        assert_eq!((hidden.metric.as_str(), hidden.why.as_str()), ("hidden", "nobody shows it"));
    }

    #[test]
    fn a_value_that_is_missing_is_not_zero() {
        let (table, _) = sampled(|second| (second != 2).then_some(10 * second), 4, 100);
        // the second row has no end, the third no begin
        assert_eq!(table.series[0].values, [Some(20.0), None, None, Some(20.0)]);
        assert_eq!(table.series[0].mean, Some(20.0));
        // a counter that went back was set anew
        let (table, _) = sampled(|second| Some(if second < 2 { 100 } else { second }), 3, 100);
        assert_eq!(table.series[0].values, [Some(0.0), None, Some(2.0)]);
    }

    #[test]
    fn a_long_run_has_longer_rows_and_loses_nothing() {
        let seconds = 1_003;
        let (table, _) = sampled(|second| Some(second * second), seconds, 8);
        assert!(table.ends.len() <= 8 && table.ends.len() >= 4, "{:?}", table.ends);
        assert_eq!(table.ends.last(), Some(&Nanos::from_secs(seconds)));
        let counter = &table.series[0];
        assert_eq!(counter.max, Some(2.0 * (2.0 * seconds as f64 - 1.0)), "of a single second");
        assert!((counter.mean.unwrap() - 2.0 * seconds as f64).abs() < 1e-9);
        let mut before = 0;
        for (end, value) in table.ends.iter().zip(&counter.values) {
            let end = end.0 / 1_000_000_000;
            // (e² − b²)·2 / (e − b)
            assert!((value.unwrap() - 2.0 * (end + before) as f64).abs() < 1e-9, "{end}: {value:?}");
            before = end;
        }
    }
}
