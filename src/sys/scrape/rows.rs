//! Answers become rows of series: a bounded number of both. Pure.

use std::collections::HashMap;

use super::parse;
use crate::facts::scraped::{Kind, Scraped, ScrapedSeries};
use crate::load::time::Nanos;

/// More series than these are counted, not kept.
const SERIES: usize = 200;
/// A longer run keeps every second row, then every fourth, …, and always the first and the last.
const ROWS: usize = 1_200;

/// What was scraped so far.
#[derive(Debug)]
pub(super) struct Rows {
    series: Vec<(String, Kind)>,
    by_name: HashMap<String, usize>,
    rows: Vec<Row>,
    /// Rows so far, those that are not kept included.
    taken: usize,
    /// Of so many rows one is kept.
    every: usize,
    most_rows: usize,
    /// The counts, at the most of one answer.
    told: Scraped,
}

#[derive(Debug)]
struct Row {
    number: usize,
    at: Nanos,
    values: Vec<Option<f64>>,
}

impl Rows {
    pub(super) fn new() -> Self {
        Self {
            series: Vec::new(),
            by_name: HashMap::new(),
            rows: Vec::new(),
            taken: 0,
            every: 1,
            most_rows: ROWS,
            told: Scraped::default(),
        }
    }

    /// An attempt that brought nothing.
    pub(super) fn failed(&mut self, why: String) {
        self.told.attempts += 1;
        self.told.failures += 1;
        self.told.failure = Some(why);
    }

    /// An answer that came at `at` after t0.
    pub(super) fn add(&mut self, at: Nanos, text: &[u8]) {
        let mut values = vec![None; self.series.len()];
        let mut dropped = 0;
        let passed = parse::samples(text, |name, kind, value| match self.column(name, kind) {
            None => dropped += 1,
            Some(column) => {
                values.resize(values.len().max(column + 1), None);
                // of a series that is there twice, the first
                values[column] = values[column].or(Some(value).filter(|value| value.is_finite()));
            }
        });
        if values.iter().all(Option::is_none) {
            let why = match passed.malformed {
                0 => "the answer has no metrics".to_owned(),
                n => format!("the answer is no metrics: {n} lines of it are no samples"),
            };
            return self.failed(why);
        }
        let told = &mut self.told;
        told.attempts += 1;
        told.dropped = told.dropped.max(dropped);
        told.left_out = told.left_out.max(passed.left_out);
        told.malformed = told.malformed.max(passed.malformed);
        self.push(at, values);
    }

    /// The place of a series; none if there is no room for it.
    fn column(&mut self, name: &str, kind: Kind) -> Option<usize> {
        if let Some(&column) = self.by_name.get(name) {
            return Some(column);
        }
        if self.series.len() == SERIES {
            return None;
        }
        self.by_name.insert(name.to_owned(), self.series.len());
        self.series.push((name.to_owned(), kind));
        Some(self.series.len() - 1)
    }

    fn push(&mut self, at: Nanos, values: Vec<Option<f64>>) {
        // the newest is always kept, until there is a newer one
        if self.rows.last().is_some_and(|last| !last.number.is_multiple_of(self.every)) {
            self.rows.pop();
        }
        self.rows.push(Row { number: self.taken, at, values });
        self.taken += 1;
        if self.rows.len() > self.most_rows {
            self.every *= 2;
            let (every, newest) = (self.every, self.taken - 1);
            self.rows.retain(|row| row.number.is_multiple_of(every) || row.number == newest);
        }
    }

    pub(super) fn finish(self) -> Scraped {
        let column = |at: usize| self.rows.iter().map(|row| row.values.get(at).copied().flatten()).collect();
        let series = self.series.iter().enumerate();
        Scraped {
            at: self.rows.iter().map(|row| row.at).collect(),
            series: series
                .map(|(at, (name, kind))| ScrapedSeries {
                    name: name.clone(),
                    kind: *kind,
                    values: column(at),
                })
                .collect(),
            ..self.told
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = Nanos::from_secs(1);

    #[test]
    fn a_series_that_comes_later_or_goes_has_no_value_where_it_is_not() {
        let mut rows = Rows::new();
        rows.add(Nanos::ZERO, b"a 1\nb_total 5\n");
        rows.failed("refused".to_owned());
        rows.add(SECOND, b"a NaN\nc{x=\"y\"} 3\na 7\nc 4 4 4\n");
        rows.add(SECOND + SECOND, b"<html>\n");
        let seen = rows.finish();
        assert_eq!(seen.at, [Nanos::ZERO, SECOND]);
        assert_eq!((seen.attempts, seen.failures, seen.malformed), (4, 2, 1));
        assert!(seen.failure.unwrap().contains("1 lines of it"));
        let told: Vec<_> = seen.series.iter().map(|s| (s.name.as_str(), s.kind, &s.values[..])).collect();
        let expected = [
            ("a", Kind::Gauge, &[Some(1.0), Some(7.0)][..]),
            ("b_total", Kind::Counter, &[Some(5.0), None]),
            ("c{x=\"y\"}", Kind::Gauge, &[None, Some(3.0)]),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn series_without_room_are_counted() {
        let text: String = (0..SERIES + 7).map(|n| format!("m{{n=\"{n}\"}} {n}\n")).collect();
        let mut rows = Rows::new();
        rows.add(Nanos::ZERO, text.as_bytes());
        // those that have room keep it, wherever they stand
        rows.add(SECOND, format!("new 1\n{text}").as_bytes());
        let seen = rows.finish();
        assert_eq!((seen.series.len(), seen.dropped), (SERIES, 8));
        assert_eq!(seen.series[SERIES - 1].values, [Some(199.0), Some(199.0)]);
    }

    #[test]
    fn a_long_run_keeps_fewer_rows_and_its_ends() {
        let mut rows = Rows::new();
        rows.most_rows = 8;
        for second in 0..30 {
            rows.add(Nanos::from_secs(second), format!("m_total {second}\n").as_bytes());
        }
        let seen = rows.finish();
        assert_eq!(seen.at, [0, 8, 16, 24, 29].map(Nanos::from_secs));
        assert_eq!(seen.series[0].values.last(), Some(&Some(29.0)));
    }
}
