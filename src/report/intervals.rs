//! The run in slices of time: how many requests ended in each, and how long they had taken.

use serde::{Deserialize, Serialize};

use crate::analyze::stats::Percentile;
use crate::facts::Round;
use crate::load::time::Nanos;
use crate::record::Interval;

/// The slices of all rounds, one row each; a slice in which nothing ended has none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// The length of a slice, in each round.
    pub interval_ns: Vec<Nanos>,
    /// How often a thread had to go on with a slice that was over: its values count in the earlier slice.
    pub held: u64,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// In order of time.
    pub rows: Vec<Row>,
}

/// One slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Columns", into = "Columns")]
pub struct Row {
    /// From 0.
    pub round: u32,
    /// After t0 of the round.
    pub start: Nanos,
    /// Measured requests that ended in it, however.
    pub requests: u64,
    /// Of these successful.
    pub successful: u64,
    /// The others.
    pub errors: u64,
    /// Response time of the successful.
    pub p50: Option<Nanos>,
    /// Response time of the successful.
    pub p99: Option<Nanos>,
    /// Response time of the successful; exact.
    pub max: Option<Nanos>,
}

const COLUMNS: [&str; 8] =
    ["round", "start_ns", "requests", "successful", "errors", "p50_ns", "p99_ns", "max_ns"];

/// A row as it is saved.
type Columns = (u32, Nanos, u64, u64, u64, Option<Nanos>, Option<Nanos>, Option<Nanos>);

impl From<Row> for Columns {
    fn from(r: Row) -> Self {
        (r.round, r.start, r.requests, r.successful, r.errors, r.p50, r.p99, r.max)
    }
}

impl From<Columns> for Row {
    fn from((round, start, requests, successful, errors, p50, p99, max): Columns) -> Self {
        Self { round, start, requests, successful, errors, p50, p99, max }
    }
}

impl Intervals {
    /// Of the rounds of one target.
    pub(super) fn of(rounds: &[Round]) -> Self {
        let rows = |round: &Round| {
            let index = round.index;
            round.recorded.slices.iter().map(move |interval| row(index, &interval)).collect::<Vec<_>>()
        };
        Self {
            interval_ns: rounds.iter().map(|round| round.recorded.slices.interval()).collect(),
            held: rounds.iter().map(|round| round.recorded.slices_held).sum(),
            columns: COLUMNS.map(str::to_owned).to_vec(),
            rows: rounds.iter().flat_map(rows).collect(),
        }
    }
}

fn row(round: u32, interval: &Interval) -> Row {
    let Interval { start, requests, responses } = interval;
    let successful = responses.count();
    let at = |p: Percentile| responses.at_rank(p.rank(successful));
    Row {
        round,
        start: *start,
        requests: *requests,
        successful,
        errors: requests - successful,
        p50: at(Percentile::P50),
        p99: at(Percentile::P99),
        max: responses.max(),
    }
}
