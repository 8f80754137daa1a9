//! The program's files, read back without its own code.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{Finished, Scratch};

/// A row of a per-request CSV by column name.
#[derive(Debug, Clone)]
pub(crate) struct Row(BTreeMap<String, String>);

impl Row {
    /// A field as text.
    pub(crate) fn text(&self, column: &str) -> &str {
        self.0.get(column).unwrap_or_else(|| panic!("no column {column}"))
    }

    /// A field as a number; `None` where it is empty.
    pub(crate) fn number(&self, column: &str) -> Option<u64> {
        let text = self.text(column);
        (!text.is_empty()).then(|| text.parse().unwrap_or_else(|_| panic!("{column}: {text}")))
    }

    /// A field that must be a number.
    pub(crate) fn ns(&self, column: &str) -> u64 {
        self.number(column).unwrap_or_else(|| panic!("{column} is empty in {self:?}"))
    }
}

/// A per-request CSV.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The columns' names in order.
    pub(crate) header: Vec<String>,
    /// The rows in order.
    pub(crate) rows: Vec<Row>,
}

impl Rows {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Self {
        let mut reader = csv::Reader::from_path(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let rows = reader
            .records()
            .map(|record| {
                let record = record.unwrap();
                Row(header.iter().cloned().zip(record.iter().map(str::to_owned)).collect())
            })
            .collect();
        Self { header, rows }
    }

    /// How many rows have each outcome.
    pub(crate) fn outcomes(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for row in &self.rows {
            *counts.entry(row.text("outcome").to_owned()).or_default() += 1;
        }
        counts
    }

    /// Fails unless each of the ids 0..n is there exactly once.
    pub(crate) fn expect_ids(&self, n: u64) {
        let mut ids: Vec<u64> = self.rows.iter().map(|row| row.ns("request_id")).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..n).collect::<Vec<_>>());
    }
}

/// What holds for every report and its log, whatever happened. Returns the rows.
pub(crate) fn check_report(report: &Value, csv: &Path) -> Rows {
    let total = |name: &str| report["totals"][name].as_u64().unwrap_or_else(|| panic!("totals.{name}"));
    let scheduled = total("scheduled");
    assert_eq!(scheduled, total("completed") + total("failed") + total("unsent"), "{}", report["totals"]);
    let outcomes: BTreeMap<String, u64> = serde_json::from_value(report["outcomes"].clone()).unwrap();
    assert_eq!(outcomes.values().sum::<u64>(), scheduled, "{outcomes:?}");
    let statuses = |(key, n): (&String, &u64)| key.parse::<u16>().is_ok().then_some(*n);
    assert_eq!(outcomes.iter().filter_map(statuses).sum::<u64>(), total("completed"), "{outcomes:?}");
    assert_eq!(outcomes.get("unsent").copied().unwrap_or(0), total("unsent"));
    let rows = Rows::read(csv);
    let mut drawn = rows.outcomes();
    // requests that were never drawn have no row: they can only be among the unsent
    let undrawn = scheduled - rows.rows.len() as u64;
    if undrawn > 0 {
        *drawn.entry("unsent".to_owned()).or_default() += undrawn;
    }
    assert_eq!(drawn, outcomes, "the log tells another story than the report");
    rows
}

/// Fails unless the exit code is `code`; on a machine so disturbed that the instrument convicted itself, 3.
pub(crate) fn judged(finished: &Finished, validity: &Value, code: i32) {
    let code = if validity == "invalid" { 3 } else { code };
    assert_eq!(finished.code(), code, "validity: {validity}\n{finished}");
}

/// A copy of a saved report with some values replaced (by JSON pointer), so that a judgement does not hang on how
/// quiet the machine was.
pub(crate) fn patched(scratch: &Scratch, from: &str, to: &str, changes: &[(&str, Value)]) -> String {
    let mut report = scratch.json(from);
    for (pointer, value) in changes {
        let place = report.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is not in {from}"));
        *place = value.clone();
    }
    scratch.write(to, serde_json::to_vec(&report).unwrap());
    to.to_owned()
}
