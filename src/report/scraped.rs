//! What the target told of itself (`--scrape`), on the load's time axis.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::system::{Values, digits};
use crate::analyze::scraped::{self, SeriesFigures};
use crate::facts::Round;
use crate::facts::scraped::{Kind, Scraped, ScrapedSeries};
use crate::load::time::Nanos;
use crate::plan::Plan;

/// The target's own metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScrapedReport {
    /// As it was asked for: a URL, or a path at the target.
    pub from: String,
    /// Times it was asked, over all rounds.
    pub attempts: u64,
    /// Of these without metrics for an answer.
    pub failures: u64,
    /// Why, the last time.
    pub failure: Option<String>,
    /// Series of one answer that found no room, at the most.
    pub dropped: u64,
    /// Samples of one answer that are left out on purpose: buckets of histograms, times of creation.
    pub left_out: u64,
    /// Lines of one answer that are no metrics, at the most.
    pub malformed: u64,
    /// Each series over all rounds.
    pub figures: BTreeMap<String, SeriesFigures>,
    /// Each round by itself.
    pub rounds: Vec<ScrapedRound>,
}

/// One round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScrapedRound {
    /// From 0.
    pub round: u32,
    /// When each answer began to arrive, after t0.
    pub at_ns: Vec<Nanos>,
    /// By name.
    pub series: BTreeMap<String, SavedSeries>,
}

/// One series in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedSeries {
    /// As they came; null where there is none.
    pub values: Values,
    /// Of a counter: its increase per second since the value before, in six significant digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_s: Option<Values>,
}

impl ScrapedReport {
    /// Of the rounds of one target; `None` if it was not asked.
    pub(super) fn of(plan: &Plan, rounds: &[Round]) -> Option<Self> {
        let scrape = plan.scrape.as_ref()?;
        let seen = || rounds.iter().filter_map(|round| round.scraped.as_ref());
        let most = |of: fn(&Scraped) -> u64| seen().map(of).max().unwrap_or(0);
        Some(Self {
            from: scrape.from.to_string(),
            attempts: seen().map(|scraped| scraped.attempts).sum(),
            failures: seen().map(|scraped| scraped.failures).sum(),
            failure: seen().filter_map(|scraped| scraped.failure.clone()).next_back(),
            dropped: most(|scraped| scraped.dropped),
            left_out: most(|scraped| scraped.left_out),
            malformed: most(|scraped| scraped.malformed),
            figures: scraped::figures(rounds),
            rounds: rounds.iter().filter_map(|r| Some(round(r.index, r.scraped.as_ref()?))).collect(),
        })
    }
}

fn round(index: u32, scraped: &Scraped) -> ScrapedRound {
    let saved = |series: &ScrapedSeries| {
        let rates = || scraped::rates(&scraped.at, series).into_iter().map(|rate| rate.map(digits)).collect();
        let per_s = (series.kind == Kind::Counter).then(|| Values(rates()));
        (series.name.clone(), SavedSeries { values: Values(series.values.clone()), per_s })
    };
    ScrapedRound {
        round: index,
        at_ns: scraped.at.clone(),
        series: scraped.series.iter().map(saved).collect(),
    }
}
