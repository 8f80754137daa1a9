//! What the target told of itself (`--scrape`) while a round was made, as plain data.

use serde::{Deserialize, Serialize};

use crate::load::time::Nanos;

/// How a series is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It only grows, but for restarts: its rate means something.
    Counter,
    /// A level, or of no known type.
    Gauge,
}

/// The target's own metrics in one round.
#[derive(Debug, Clone, Default)]
pub struct Scraped {
    /// Times it was asked.
    pub attempts: u64,
    /// Of these without metrics for an answer.
    pub failures: u64,
    /// Why, the last time.
    pub failure: Option<String>,
    /// When each answer began to arrive, after t0; rows of the series.
    pub at: Vec<Nanos>,
    /// In the order in which they were first seen.
    pub series: Vec<ScrapedSeries>,
    /// Series of one answer that found no room, at the most.
    pub dropped: u64,
    /// Samples of one answer that are left out on purpose, at the most: buckets of histograms, times of creation.
    pub left_out: u64,
    /// Lines of one answer that are no metrics, at the most.
    pub malformed: u64,
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct ScrapedSeries {
    /// `name{label="value",…}`, labels in the order of their names, values as the target escaped them.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// A value for each row; none where the answer did not have it, or it was not a finite number.
    pub values: Vec<Option<f64>>,
}
