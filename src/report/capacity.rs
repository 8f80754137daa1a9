//! What a search for capacity found: the rate, every probe, and the curve of latency against load.

use serde::{Deserialize, Serialize};

use super::{Tool, evaluable};
use crate::analyze::capacity::{self, Answer, Cause, Knee, Outcome, Probe, Purpose, StoppedBy, per_s};
use crate::analyze::gate::{Rule, SlaReport, SlaVerdict};
use crate::analyze::intervals::{self as certainty, Interval};
use crate::analyze::summary::{Figures, throughput};
use crate::analyze::validity::{self, About, Validity, Verdict};
use crate::facts::{Host, Round};
use crate::load::time::Nanos;
use crate::plan::Plan;
use crate::record::Tally;

/// The version of [`Capacity`].
pub const CAPACITY_SCHEMA: &str = "hairspring.capacity/1";

/// `capacity.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// [`CAPACITY_SCHEMA`].
    pub schema: String,
    /// The program that wrote it.
    pub tool: Tool,
    /// When it was written: milliseconds since the Unix epoch.
    pub created_unix_ms: u64,
    /// The plan of a probe; rate, length, warm-up and seed differ from probe to probe.
    pub plan: Plan,
    /// The machine.
    pub host: Host,
    /// The relative gap of rates at which the search ends.
    pub precision: f64,
    /// For search and confirmation.
    pub budget_ns: Nanos,
    /// What search and confirmation took.
    pub spent_ns: Nanos,
    /// It was interrupted, or could not go on.
    pub partial: bool,
    /// The highest rate that was shown to meet the SLA, and confirmed; null where there is none, or the client was the limit.
    pub capacity_per_s: Option<f64>,
    /// What the true capacity lies between.
    pub interval: Range,
    /// What kept it from being more.
    pub stopped_by: StoppedBy,
    /// The knee of the curve; null with fewer than three points.
    pub knee: Option<Knee>,
    /// Latency against load, ascending by rate; at each rate the requests of all valid probes that are judged together.
    pub curve: Vec<Point>,
    /// Every probe, in order.
    pub probes: Vec<ProbeRow>,
    /// `--sweep`.
    pub sweep: Option<Sweep>,
}

/// Rates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// The highest rate that was shown to meet the SLA; null: none was.
    pub low_per_s: Option<f64>,
    /// The lowest that was shown to break it; null: none was.
    pub high_per_s: Option<f64>,
}

/// One point of the curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// What was offered.
    pub rate_per_s: f64,
    /// What for.
    pub purpose: Purpose,
    /// Probes in it.
    pub probes: usize,
    /// Their requests.
    pub requests: u64,
    /// Of these successful.
    pub successful: u64,
    /// Successful per second.
    pub throughput_per_s: Option<f64>,
    /// done − intended over all scheduled; the unsuccessful rank last.
    pub response_ns: Figures,
    /// What the percentiles lie between with 95 %.
    pub response_intervals: std::collections::BTreeMap<String, Interval>,
    /// The gate, at the confidence of the look.
    pub sla: SlaReport,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeRow {
    /// What for.
    pub purpose: Purpose,
    /// What was offered.
    pub rate_per_s: f64,
    /// From 1: how often this rate was looked at; from the second on it is judged with the looks before.
    pub look: u32,
    /// Measured requests of this probe alone.
    pub requests: u64,
    /// Of these successful.
    pub successful: u64,
    /// Sent before them.
    pub warmup_requests: u64,
    /// Requests that the verdict rests on.
    pub judged_requests: u64,
    /// Of the intervals.
    pub confidence: f64,
    /// The verdict: not evaluated where the instrument convicted itself.
    pub verdict: SlaVerdict,
    /// The figures behind it.
    pub reason: String,
    /// The instrument on itself, in this probe.
    pub validity: Verdict,
    /// The rules that did not pass.
    pub findings: Vec<String>,
    /// All of it: starting the server, warm-up, load, drain.
    pub took_ns: Nanos,
    /// Its seed.
    pub seed: u64,
}

/// The same rates upward and downward on one server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Ascending by rate.
    pub steps: Vec<Step>,
    /// At some rate both ways differ.
    pub hysteresis: bool,
}

/// One rate of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Requests per second.
    pub rate_per_s: f64,
    /// On the way up; null if it was not measured, or was disturbed.
    pub up: Option<Point>,
    /// On the way down.
    pub down: Option<Point>,
    /// The intervals of p50 or of p95 do not meet.
    pub differs: bool,
}

/// What one probe came to.
#[derive(Debug, Clone)]
pub struct Finding {
    /// For the search.
    pub answer: Answer,
    /// At least one complete answer came, in the warm-up or after it.
    pub answered: bool,
    /// For the list.
    pub row: ProbeRow,
    /// For the curve: all looks together. None where the instrument convicted itself.
    pub point: Option<Point>,
}

impl Finding {
    /// Of the last of `rounds`, together with those before it at this rate. `strict`: a suspicion of the instrument
    /// against itself convicts too.
    pub fn of(
        probe: &Probe,
        plan: &Plan,
        host: &Host,
        rounds: &[Round],
        rules: &[Rule],
        strict: bool,
        took: Nanos,
    ) -> Self {
        let last = rounds.last().expect("a probe was measured");
        let alone = pooled(std::slice::from_ref(last));
        let asked = crate::analyze::gate::percentiles(rules);
        let validity = validity::judge(plan, host, std::slice::from_ref(last), &alone, &asked);
        let tally = pooled(rounds);
        let mut sla = capacity::judge(rules, &tally, probe.confidence);
        let disturbed = is_disturbed(&validity, strict);
        if let (true, Err(why)) = (disturbed, evaluable(false, &validity)) {
            sla = SlaReport { verdict: SlaVerdict::NotEvaluated, reason: Some(why), ..sla };
        }
        let answer = match sla.verdict {
            _ if disturbed => Answer::Disturbed,
            SlaVerdict::Met => Answer::Meets,
            SlaVerdict::NotMet => Answer::Breaks(cause(&tally)),
            SlaVerdict::Inconclusive | SlaVerdict::NotEvaluated => Answer::Open,
        };
        let row = ProbeRow {
            purpose: probe.purpose,
            rate_per_s: per_s(probe.rate),
            look: probe.look,
            requests: alone.scheduled,
            successful: alone.successful,
            warmup_requests: last.recorded.warmup.scheduled,
            judged_requests: tally.scheduled,
            confidence: probe.confidence,
            verdict: if disturbed { SlaVerdict::NotEvaluated } else { sla.verdict },
            reason: reason(&sla),
            validity: validity.verdict,
            findings: validity.findings.iter().map(|check| check.rule.clone()).collect(),
            took_ns: took,
            seed: last.seed,
        };
        let point = (!disturbed).then(|| Point {
            rate_per_s: per_s(probe.rate),
            purpose: probe.purpose,
            probes: rounds.len(),
            requests: tally.scheduled,
            successful: tally.successful,
            throughput_per_s: throughput(&tally).per_s(),
            response_ns: Figures::of_responses(&tally),
            response_intervals: certainty::tabled(&tally),
            sla,
        });
        let answered = alone.completed + last.recorded.warmup.completed > 0;
        Self { answer, answered, row, point }
    }
}

/// A curve under construction: a later look at a rate takes the place of the one before.
pub fn add_point(curve: &mut Vec<Point>, point: Point) {
    curve.retain(|known| (known.rate_per_s, known.purpose) != (point.rate_per_s, point.purpose));
    let at = curve.partition_point(|known| known.rate_per_s <= point.rate_per_s);
    curve.insert(at, point);
}

/// All that the file is made of.
#[derive(Debug)]
pub struct Findings {
    /// The plan of a probe.
    pub plan: Plan,
    /// The machine.
    pub host: Host,
    /// Of the search.
    pub precision: f64,
    /// Of the search.
    pub budget: Nanos,
    /// Every probe.
    pub probes: Vec<ProbeRow>,
    /// Ascending by rate.
    pub curve: Vec<Point>,
    /// `--sweep`.
    pub sweep: Option<Sweep>,
}

impl Capacity {
    /// Puts it together.
    pub fn new(findings: &Findings, outcome: Outcome, partial: bool, created_unix_ms: u64) -> Self {
        let Findings { plan, host, precision, budget, probes, curve, sweep } = findings;
        let of_search = |row: &&ProbeRow| matches!(row.purpose, Purpose::Search | Purpose::Confirm);
        let power = |point: &Point| {
            Some((point.rate_per_s, point.throughput_per_s?, point.response_ns.mean?.as_secs()))
        };
        let steps = sweep.iter().flat_map(|sweep| &sweep.steps).filter_map(|step| step.up.as_ref());
        let mut all: Vec<_> = curve.iter().chain(steps).filter_map(power).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all.dedup_by(|a, b| a.0 == b.0);
        Self {
            schema: CAPACITY_SCHEMA.to_owned(),
            tool: Tool::this(),
            created_unix_ms,
            plan: plan.clone(),
            host: host.clone(),
            precision: *precision,
            budget_ns: *budget,
            spent_ns: Nanos(probes.iter().filter(of_search).map(|row| row.took_ns.0).sum()),
            partial,
            capacity_per_s: outcome.capacity.map(per_s),
            interval: Range { low_per_s: outcome.low.map(per_s), high_per_s: outcome.high.map(per_s) },
            stopped_by: outcome.stopped_by,
            knee: capacity::knee(&all),
            curve: curve.clone(),
            probes: probes.clone(),
            sweep: sweep.clone(),
        }
    }

    /// Measured requests of all probes.
    pub fn requests(&self) -> u64 {
        self.probes.iter().map(|row| row.requests).sum()
    }
}

impl Sweep {
    /// From the points of both ways.
    pub fn of(up: &[Point], down: &[Point]) -> Self {
        let mut rates: Vec<f64> = up.iter().chain(down).map(|point| point.rate_per_s).collect();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        let at = |points: &[Point], rate: f64| points.iter().find(|point| point.rate_per_s == rate).cloned();
        let step = |rate: f64| {
            let (up, down) = (at(up, rate), at(down, rate));
            let differs = up.as_ref().zip(down.as_ref()).is_some_and(|(up, down)| apart(up, down));
            Step { rate_per_s: rate, up, down, differs }
        };
        let steps: Vec<Step> = rates.into_iter().map(step).collect();
        Self { hysteresis: steps.iter().any(|step| step.differs), steps }
    }
}

/// The intervals of p50 or p95 do not meet.
fn apart(a: &Point, b: &Point) -> bool {
    let beyond = |a: &Interval, b: &Interval| a.high.is_some_and(|high| high < b.low);
    ["p50", "p95"].iter().any(|p| {
        let pair = a.response_intervals.get(*p).zip(b.response_intervals.get(*p));
        pair.is_some_and(|(a, b)| beyond(a, b) || beyond(b, a))
    })
}

fn pooled(rounds: &[Round]) -> Tally {
    let mut tally = Tally::default();
    rounds.iter().for_each(|round| tally.merge_round(&round.recorded.measured));
    tally.assert_conserved();
    tally
}

fn is_disturbed(validity: &Validity, strict: bool) -> bool {
    let suspected = || validity.findings.iter().any(|check| check.about == About::Instrument);
    validity.verdict == Verdict::Invalid || (strict && suspected())
}

/// A server that is too slow answers late; one that fails answers with errors. Requests that were never sent are due to slowness.
fn cause(tally: &Tally) -> Cause {
    let erroneous = tally.scheduled - tally.successful - tally.unsent;
    if erroneous * 100 > tally.scheduled { Cause::Errors } else { Cause::Slow }
}

fn reason(sla: &SlaReport) -> String {
    match &sla.reason {
        Some(why) => why.clone(),
        None => sla.rules.iter().map(|rule| rule.reason.clone()).collect::<Vec<_>>().join("; "),
    }
}
