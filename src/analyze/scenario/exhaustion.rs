//! Beyond capacity: what is it, does the server refuse fast what is too much, keep serving the rest, survive and recover?

use serde::{Deserialize, Serialize};

use super::super::diagnose::{Check, Evidence};
use super::super::stats::{CONFIDENCE, Percentile, median, order_statistic_ranks};
use super::{Findings, between, judged, not_evaluable, stages};
use crate::facts::Round;
use crate::load::time::Nanos;
use crate::plan::{Plan, Server};
use crate::record::{Distribution, Tally};

/// How many requests a server can serve in a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Median of the successful requests per second, over slices of time in which some were refused or failed.
    pub measured_per_s: Option<f64>,
    /// What that lies between with 95 %, slices taken as independent; null with too few.
    pub interval_per_s: Option<[f64; 2]>,
    /// Slices of time it is made from.
    pub slices: u64,
    /// c/S: workers over the mean service time that the server reported; null where either is not known.
    pub of_pool_per_s: Option<f64>,
    /// Refused with 429 or 503.
    pub refused: u64,
    /// Timed out at the client.
    pub timed_out: u64,
    /// Any other end that was not a success.
    pub broken: u64,
    /// 95 of 100 refusals came within this.
    pub refused_p95_ns: Option<Nanos>,
}

const REFUSALS: [u16; 2] = [429, 503];
/// Percent of the best throughput that may be lost where the load is highest.
const LOST_MAX: f64 = 10.0;

pub(super) fn judge(plan: &Plan, rounds: &[Round], tally: &Tally, findings: &mut Findings) {
    let capacity = capacity(plan, rounds, tally);
    let refusals = refusals(tally);
    findings.checks.push(sheds_fast(tally, &refusals));
    findings.checks.push(share(
        "sheds-in-time",
        "% of requests that timed out",
        1.0,
        capacity.timed_out,
        tally.scheduled,
        "too much is to be refused, not left waiting",
    ));
    findings.checks.push(survives(plan, rounds, tally, &capacity));
    findings.checks.push(keeps_serving(findings));
    stages::judge(plan, rounds, findings);
    if capacity.measured_per_s.is_none() {
        findings.notes.push(
            "nothing was refused in any slice of time: the capacity was not reached, or its edge is not shown by this load".to_owned(),
        );
    }
    findings.capacity = Some(capacity);
}

fn refusals(tally: &Tally) -> Distribution {
    let mut refusals = Distribution::default();
    for (_, times) in tally.by_status.iter().filter(|(status, _)| REFUSALS.contains(status)) {
        refusals.merge(times);
    }
    refusals
}

fn capacity(plan: &Plan, rounds: &[Round], tally: &Tally) -> Capacity {
    let ended = |names: &dyn Fn(&str) -> bool| -> u64 {
        tally.outcomes.iter().filter(|(key, _)| names(&key.outcome)).map(|(_, n)| *n).sum()
    };
    let refused = ended(&|name| REFUSALS.iter().any(|status| name == status.to_string()));
    let timed_out = ended(&|name| name == "timeout");
    let mut rates: Vec<f64> = Vec::new();
    for round in rounds {
        let length = round.recorded.slices.interval().as_secs();
        let whole = between(round, Nanos::ZERO, Nanos(round.wall.0));
        let full = whole.filter(|slice| slice.requests > slice.responses.count());
        rates.extend(full.map(|slice| slice.responses.count() as f64 / length));
    }
    rates.sort_by(f64::total_cmp);
    let n = rates.len() as u64;
    let interval = match order_statistic_ranks(Percentile::P50, n, CONFIDENCE) {
        (low @ 1.., Some(high)) => Some([rates[low as usize - 1], rates[high as usize - 1]]),
        _ => None,
    };
    let refusals = refusals(tally);
    let workers = match &plan.target.server {
        Server::Stub(stub) if stub.model == "pool" => Some(stub.workers),
        Server::Stub(stub) if stub.model == "single" => Some(1),
        _ => None,
    };
    let service = tally.server_service.mean().filter(|mean| mean.0 > 0);
    Capacity {
        measured_per_s: median(&rates),
        interval_per_s: interval,
        slices: n,
        of_pool_per_s: workers.zip(service).map(|(c, s)| f64::from(c) / s.as_secs()),
        refused,
        timed_out,
        broken: tally.scheduled - tally.successful - tally.unsent - refused - timed_out,
        refused_p95_ns: refusals.at_rank(Percentile::P95.rank(refusals.count())),
    }
}

/// A refusal that takes as long as an answer saves nobody anything.
fn sheds_fast(tally: &Tally, refusals: &Distribution) -> Check {
    let (name, unit, limit) = ("sheds-fast", "% of the median answer's time, for a refusal at p95", 100.0);
    let at = |times: &Distribution, p: Percentile| times.at_rank(p.rank(times.count()));
    let served = at(&tally.response_ok, Percentile::P50);
    match at(refusals, Percentile::P95).zip(served) {
        None => {
            not_evaluable(name, unit, limit, "nothing was refused with 429 or 503, or nothing was served")
        }
        Some((refused, served)) => {
            let figure = 100.0 * refused.0 as f64 / served.0.max(1) as f64;
            let meaning =
                format!("{} refusals, p95 {refused}; the median answer takes {served}", refusals.count());
            judged(name, Evidence { figure, limit, unit, statistic: None, critical: None, meaning })
        }
    }
}

fn share(name: &str, unit: &'static str, limit: f64, part: u64, whole: u64, why: &str) -> Check {
    let figure = if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 };
    let meaning = format!("{part} of {whole}; {why}");
    judged(name, Evidence { figure, limit, unit, statistic: None, critical: None, meaning })
}

/// The process is still there, and no connection broke.
fn survives(plan: &Plan, rounds: &[Round], tally: &Tally, capacity: &Capacity) -> Check {
    let unit = "% of requests whose connection broke, or with another status";
    let dead = rounds.iter().any(|round| round.server_survived == Some(false));
    let why = match plan.target.server {
        _ if dead => "and the server's process ended",
        Server::External => "of the server's process nothing is known",
        _ => "the server's process is still there",
    };
    let mut check = share("survives", unit, 0.0, capacity.broken, tally.scheduled, why);
    if dead {
        check.outcome = super::super::diagnose::Outcome::Fail;
    }
    check
}

/// The stage with the most users against the best one.
fn keeps_serving(findings: &Findings) -> Check {
    let (name, unit) = ("keeps-serving", "% of the best stage's throughput lost with the most users");
    let rates = || findings.stages.iter().filter_map(|stage| Some((stage, stage.throughput_per_s?)));
    let best = rates().map(|(_, rate)| rate).fold(0.0, f64::max);
    let fullest = rates().max_by_key(|(stage, _)| stage.users_from.min(stage.users_to));
    match fullest {
        Some((stage, rate)) if best > 0.0 => {
            let figure = 100.0 * (1.0 - rate / best);
            let meaning =
                format!("{rate:.1}/s with {} users, {best:.1}/s in the best stage", stage.users_from);
            let limit = LOST_MAX;
            judged(name, Evidence { figure, limit, unit, statistic: None, critical: None, meaning })
        }
        _ => not_evaluable(name, unit, LOST_MAX, "needs stages of users, with answers"),
    }
}
