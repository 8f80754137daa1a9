//! The probe in a report: one connection that measured beside the load, and what the load's own connections saw beyond it.

use serde::{Deserialize, Serialize};

use crate::analyze::stats::Percentile;
use crate::analyze::summary::{Figures, TABLED};
use crate::facts::Round;
use crate::load::time::Nanos;
use crate::plan::{Plan, Probe};
use crate::record::{Distribution, Tally};

/// What the probe saw, all rounds together. Its requests are in no other figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Its rate and its processor.
    pub plan: Probe,
    /// Requests it sent.
    pub requests: u64,
    /// Of these successful.
    pub successful: u64,
    /// done − intended over all of them.
    pub response_ns: Figures,
    /// done − issued of the completed.
    pub service_ns: Figures,
    /// Its own lateness.
    pub send_lag_ns: Figures,
    /// Service time of the load's requests less that of the probe's at the same percentile, where both have enough: what
    /// the client's own queue adds, if the server treats all connections alike.
    pub bulk_beyond_probe_ns: Vec<Beyond>,
}

/// The difference at one percentile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beyond {
    /// `p50`, …
    pub percentile: String,
    /// Positive: the load's requests took longer.
    pub difference_ns: i64,
}

impl ProbeReport {
    pub(super) fn of(plan: &Plan, rounds: &[Round], bulk: &Tally) -> Option<Self> {
        let plan = plan.client.probe?;
        let mut tally = Tally::default();
        for probe in rounds.iter().filter_map(|round| round.probe.as_ref()) {
            tally.merge_round(&probe.recorded.measured);
        }
        Some(Self {
            plan,
            requests: tally.scheduled,
            successful: tally.successful,
            response_ns: Figures::of_responses(&tally),
            service_ns: Figures::of(&tally.service),
            send_lag_ns: Figures::of(&tally.send_lag),
            bulk_beyond_probe_ns: beyond(&bulk.service, &tally.service),
        })
    }
}

/// A percentile of which fewer than ten of the probe's requests lie beyond says nothing.
fn beyond(bulk: &Distribution, probe: &Distribution) -> Vec<Beyond> {
    let at = |d: &Distribution, p: Percentile| d.at_rank(p.rank(d.count()));
    TABLED
        .iter()
        .filter(|(_, p)| p.rank(probe.count()) + 10 <= probe.count())
        .filter_map(|&(name, p)| {
            let (Nanos(theirs), Nanos(own)) = at(bulk, p).zip(at(probe, p))?;
            Some(Beyond { percentile: name.to_owned(), difference_ns: theirs as i64 - own as i64 })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_percentiles_that_the_probe_can_show_are_compared() {
        let of = |n: u64, ns: u64| {
            let mut d = Distribution::default();
            (0..n).for_each(|_| d.record(Nanos(ns)));
            d
        };
        let seen = beyond(&of(100_000, 1_500), &of(250, 1_000));
        let names: Vec<&str> = seen.iter().map(|b| b.percentile.as_str()).collect();
        assert_eq!(names, ["p50", "p90", "p95"]);
        assert!(seen.iter().all(|b| b.difference_ns == 500));
        assert_eq!(beyond(&of(10, 1), &Distribution::default()), []);
    }
}
