//! PURE: reports as data, and their forms: JSON, CSV, text, Markdown, JUnit.
//!
//! Every number in a report is either counted exactly or comes from a histogram that stands in the report
//! itself, so that a saved report can be judged again. docs/FORMATS.md describes each field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::analyze::attribution::{self, Evidence};
use crate::analyze::confirm::{self, Confirmation, Trial};
use crate::analyze::diagnose::{self, Diagnosis};
use crate::analyze::findings::{self, Findings, Sources, Symptoms};
use crate::analyze::gate::{self, Measured, Relative, Rule, RuleReport, SlaReport};
use crate::analyze::intervals::{self as certainty, Interval};
use crate::analyze::recommend::{self, Advice, Grounds};
use crate::analyze::scenario;
use crate::analyze::stats::Percentile;
use crate::analyze::summary::{Figures, Responses, measured, throughput};
use crate::analyze::theory::{self, Theory};
use crate::analyze::validity::{self, Check, Level, Validity, Verdict};
use crate::facts::{Host, Round};
use crate::load::time::Nanos;
use crate::plan::Plan;
use crate::record::{Key, RELATIVE_ERROR, Tally};

pub mod capacity;
mod comparison;
pub mod csv;
pub mod hdr;
pub mod intervals;
pub mod json;
mod judged;
pub mod junit;
mod kernel;
pub mod markdown;
mod mix;
pub mod openmetrics;
mod probe;
mod ranking;
mod round;
pub mod scraped;
mod suite;
pub mod system;
pub mod text;
mod trend;

pub use comparison::{Beside, COMPARISON_SCHEMA, Comparison, Design, Noise};
use intervals::Intervals;
use json::{SavedBatch, SavedHistogram};
pub use judged::{Case, CaseOutcome, Judged};
pub use kernel::Kernel;
pub use mix::TemplateRow;
pub use probe::{Beyond, ProbeReport};
pub use ranking::{Contest, RANKING_SCHEMA, RankedVariant, Ranking};
pub use round::{Lateness, RoundReport, ThreadRow};
use scraped::ScrapedReport;
pub use suite::{SUITE_SCHEMA, ScenarioReport, SuiteReport};
use system::SystemReport;
pub use trend::{History, LeftOut, Observation, RunRow, TREND_SCHEMA, Trend, TrendReport};

/// The version of [`Report`].
pub const REPORT_SCHEMA: &str = "hairspring.report/1";

/// One target, all its rounds together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub schema: String,
    /// The program that wrote it.
    pub tool: Tool,
    /// When it was written: milliseconds since the Unix epoch.
    pub created_unix_ms: u64,
    /// The whole plan.
    pub plan: Plan,
    /// The machine.
    pub host: Host,
    /// The run was interrupted, or rounds are missing; gates are not evaluated.
    pub partial: bool,
    /// Counts of requests.
    pub totals: Totals,
    /// By outcome: a status, an error class, or `unsent`.
    pub outcomes: BTreeMap<String, u64>,
    /// More about some outcomes: `malformed: bad-chunk`, `local-resource: Too many open files …`.
    pub outcome_details: BTreeMap<String, u64>,
    /// done − intended over all scheduled; the unsuccessful rank last.
    pub response_ns: Figures,
    /// What the percentiles of `response_ns` lie between with 95 %, by their names.
    #[serde(default)]
    pub response_intervals: BTreeMap<String, Interval>,
    /// done − intended of the successful alone.
    pub response_ok_ns: Figures,
    /// done − intended of the completed, by status.
    pub response_by_status_ns: BTreeMap<String, Figures>,
    /// done − issued of the completed.
    pub service_ns: Figures,
    /// first byte − issued of the completed.
    pub first_byte_ns: Figures,
    /// ready − intended: the target's and the plan's share.
    pub conn_wait_ns: Figures,
    /// issued − max(intended, ready): the instrument's share.
    pub send_lag_ns: Figures,
    /// Open loop: how far a thread's sends were off the plan, one from the next.
    #[serde(default)]
    pub arrival_gap_ns: Figures,
    /// Connect times of connections that carried requests.
    pub connect_ns: Figures,
    /// What the kernel's stamps say; null with `--stamps user`.
    #[serde(default)]
    pub kernel: Option<Kernel>,
    /// What the probe saw beside the load; null without `--probe`.
    #[serde(default)]
    pub probe: Option<ProbeReport>,
    /// Successful requests per second, from the first intended start to the last end.
    pub throughput_per_s: Option<f64>,
    /// The time that is the denominator of the throughput, summed over rounds.
    pub elapsed_ns: Nanos,
    /// The warm-up, which is in no other figure.
    pub warmup: Warmup,
    /// Each request of a mix, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<TemplateRow>,
    /// Where the time went.
    pub evidence: Evidence,
    /// Theory beside measurement.
    #[serde(default)]
    pub theory: Option<Theory>,
    /// Findings about the run.
    #[serde(default)]
    pub diagnosis: Option<Diagnosis>,
    /// Why it is slow.
    #[serde(default)]
    pub findings: Option<Findings>,
    /// Whether an intervention bears it out; absent without `--confirm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Confirmation>,
    /// What to do about it.
    #[serde(default)]
    pub advice: Option<Advice>,
    /// What the preset asks, and the answers; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<scenario::Findings>,
    /// How far the instrument believes itself.
    pub validity: Validity,
    /// The gate.
    pub sla: SlaReport,
    /// Each round by itself.
    pub rounds: Vec<RoundReport>,
    /// The per-request logs.
    pub logs: Vec<LogFile>,
    /// The run in slices of time.
    #[serde(default)]
    pub intervals: Intervals,
    /// What the system monitor saw; null where it was off.
    #[serde(default)]
    pub system: Option<SystemReport>,
    /// What the target told of itself; absent without `--scrape`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scraped: Option<ScrapedReport>,
    /// Percentiles are at most this share of themselves away from what was recorded.
    #[serde(default)]
    pub histogram_error: f64,
    /// The distributions themselves.
    pub histograms: BTreeMap<String, SavedHistogram>,
    /// Response times by contiguous batches of each round: what intervals are made from.
    #[serde(default)]
    pub batches: Vec<Vec<SavedBatch>>,
}

/// The program that wrote a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// `hairspring`.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Tool {
    fn this() -> Self {
        Self { name: "hairspring".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// Counts of measured requests. scheduled = completed + failed + unsent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// The plan had them for this run.
    pub scheduled: u64,
    /// A complete response arrived, whatever its status.
    pub completed: u64,
    /// Ended in an error class.
    pub failed: u64,
    /// The run ended first.
    pub unsent: u64,
    /// Completed with an accepted status.
    pub successful: u64,
    /// Sent a second time.
    pub retries: u64,
    /// Connections opened.
    pub connects: u64,
    /// Times bytes arrived that nobody had asked for, on an idle connection.
    pub unsolicited: u64,
    /// Bytes of requests.
    pub bytes_sent: u64,
    /// Bytes of responses.
    pub bytes_received: u64,
}

/// The warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Warmup {
    /// Requests.
    pub scheduled: u64,
    /// Of these successful.
    pub successful: u64,
    /// done − intended of the successful.
    pub response_ok_ns: Figures,
}

/// A per-request log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    /// File name in the output folder.
    pub file: String,
    /// Rows written.
    pub rows: u64,
    /// Rows that are not in it: no room on their way, or the file could not be written. Histograms have them all.
    pub lost: u64,
    /// Why it could not be written.
    pub error: Option<String>,
}

/// All that a report is made of.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The machine.
    pub host: &'a Host,
    /// The rounds and the position each had.
    pub rounds: &'a [Round],
    /// Position of each round among the variants.
    pub positions: &'a [u32],
    /// The gate's rules.
    pub rules: &'a [Rule],
    /// The logs so far.
    pub logs: Vec<LogFile>,
    /// Milliseconds since the Unix epoch.
    pub created_unix_ms: u64,
    /// Every round that was planned has been made.
    pub complete: bool,
    /// `--confirm`: the intervention, once it was measured.
    pub trial: Option<&'a Trial>,
}

impl Report {
    /// Puts the rounds of one target together and judges them.
    pub fn new(inputs: Inputs<'_>) -> Self {
        let Inputs { plan, host, rounds, positions, rules, logs, created_unix_ms, complete, trial } = inputs;
        let (mut tally, mut warmup) = (Tally::default(), Tally::default());
        for round in rounds {
            tally.merge_round(&round.recorded.measured);
            warmup.merge_round(&round.recorded.warmup);
        }
        tally.assert_conserved();
        let partial = !complete || rounds.iter().any(|round| round.interrupted);
        let validity = validity::judge(plan, host, rounds, &tally, &gate::percentiles(rules));
        let responses = Responses(&tally);
        let system = SystemReport::of(rounds);
        let figures = system.as_ref().map(|system| &system.figures);
        let measured = Measured { system: figures, ..measured(&tally, &responses) };
        let sla = gate::evaluate(rules, &measured, evaluable(partial, &validity));
        let evidence = attribution::evidence(plan, rounds, &tally);
        let theory = theory::theory(plan, rounds, &tally);
        let sources = Sources {
            plan,
            rounds,
            tally: &tally,
            evidence: &evidence,
            validity: &validity,
            system: figures,
        };
        let symptoms = Symptoms::of(sources);
        let mut findings = findings::find(&symptoms);
        let grounds = confirm::Grounds { sources, symptoms: &symptoms, allowed: &host.cpus, partial };
        let confirmation = confirm::confirm(&mut findings, grounds, trial);
        let advice = recommend::advise(Grounds {
            sources,
            symptoms: &symptoms,
            findings: &findings,
            theory: &theory,
            rules,
            sla: &sla,
            partial,
        });
        let per_driver = |f: fn(&crate::load::driver::DriverCounts) -> u64| -> u64 {
            rounds.iter().flat_map(|r| &r.threads).map(|t| f(&t.counts.driver)).sum()
        };
        Self {
            schema: REPORT_SCHEMA.to_owned(),
            tool: Tool::this(),
            created_unix_ms,
            plan: plan.clone(),
            host: host.clone(),
            partial,
            totals: totals(&tally, per_driver(|d| d.connects), per_driver(|d| d.unsolicited)),
            outcomes: by_outcome(&tally),
            outcome_details: details(&tally),
            response_ns: Figures::of_responses(&tally),
            response_intervals: certainty::tabled(&tally),
            response_ok_ns: Figures::of(&tally.response_ok),
            response_by_status_ns: tally
                .by_status
                .iter()
                .map(|(status, d)| (status.to_string(), Figures::of(d)))
                .collect(),
            service_ns: Figures::of(&tally.service),
            first_byte_ns: Figures::of(&tally.first_byte),
            conn_wait_ns: Figures::of(&tally.conn_wait),
            send_lag_ns: Figures::of(&tally.send_lag),
            arrival_gap_ns: Figures::of(&tally.arrival_gap),
            connect_ns: Figures::of(&tally.connect),
            kernel: Kernel::of(&tally, rounds),
            probe: ProbeReport::of(plan, rounds, &tally),
            throughput_per_s: throughput(&tally).per_s(),
            elapsed_ns: tally.elapsed,
            warmup: Warmup {
                scheduled: warmup.scheduled,
                successful: warmup.successful,
                response_ok_ns: Figures::of(&warmup.response_ok),
            },
            templates: mix::templates(plan, &tally),
            evidence,
            theory: Some(theory),
            findings: Some(findings),
            confirmation,
            advice: Some(advice),
            diagnosis: Some(diagnose::diagnose(plan, rounds)),
            scenario: scenario::findings(plan, rounds, &tally, validity.verdict),
            validity,
            sla,
            rounds: rounds
                .iter()
                .zip(positions)
                .map(|(round, &position)| RoundReport::of(round, position))
                .collect(),
            logs,
            intervals: Intervals::of(rounds),
            system,
            scraped: ScrapedReport::of(plan, rounds),
            histogram_error: RELATIVE_ERROR,
            histograms: json::save(&tally),
            batches: json::save_batches(&tally.batches),
        }
    }

    /// What the gate needs, back from a saved report.
    pub fn tally(&self) -> Result<Tally, json::BadReport> {
        let mut tally = Tally {
            scheduled: self.totals.scheduled,
            completed: self.totals.completed,
            failed: self.totals.failed,
            unsent: self.totals.unsent,
            successful: self.totals.successful,
            elapsed: self.elapsed_ns,
            ..Tally::default()
        };
        tally.response_ok = json::restore(&self.histograms, "response_ok")?;
        tally.response_not_ok = json::restore(&self.histograms, "response_not_ok")?;
        if self.histograms.contains_key("undisturbed") {
            tally.undisturbed = json::restore(&self.histograms, "undisturbed")?;
        }
        tally.batches = json::restore_batches(&self.batches)?;
        for (outcome, n) in &self.outcomes {
            tally.outcomes.insert(Key { outcome: outcome.clone(), detail: None }, *n);
        }
        let among = |kind: fn(&str) -> bool| {
            let each = self.outcomes.iter().filter(|(key, _)| kind(key));
            each.map(|(_, n)| *n).try_fold(0, u64::checked_add)
        };
        let is_status = |key: &str| key.parse::<u16>().is_ok();
        let is_class = |key: &str| key != "unsent" && key.parse::<u16>().is_err();
        let ended = tally.completed.checked_add(tally.failed).and_then(|sum| sum.checked_add(tally.unsent));
        let counted = ended == Some(tally.scheduled)
            && (among(is_status), among(is_class), among(|key| key == "unsent"))
                == (Some(tally.completed), Some(tally.failed), Some(tally.unsent))
            && tally.successful <= tally.completed
            && tally.response_ok.count() == tally.successful
            && [0, tally.successful].contains(&tally.undisturbed.count())
            && tally.response_not_ok.count() <= tally.scheduled - tally.successful
            && json::batches_fit(&tally);
        if !counted {
            return Err(json::BadReport::Inconsistent);
        }
        Ok(tally)
    }

    /// Judges the report by other rules than it was made with.
    pub fn judge(&self, rules: &[Rule]) -> Result<SlaReport, json::BadReport> {
        let tally = self.tally()?;
        let responses = Responses(&tally);
        let evaluable = self.evaluable(&tally, &gate::percentiles(rules));
        let system = self.system.as_ref().map(|system| &system.figures);
        Ok(gate::evaluate(rules, &Measured { system, ..measured(&tally, &responses) }, evaluable))
    }

    /// Whether rules on these percentiles may be judged.
    fn evaluable(&self, tally: &Tally, asked: &[Percentile]) -> Result<(), String> {
        evaluable(self.partial, &self.validity)?;
        // What was judged then stands; other percentiles may be asked for now.
        let mut checks = validity::disturbances(tally, asked);
        checks.retain(|check| !self.validity.has_judged(&check.rule));
        undisturbed(&checks)
    }

    /// Judges the report against an earlier one, which has to be as reliable; these verdicts join those in `sla`.
    pub fn judge_against(
        &self,
        baseline: &Self,
        rules: &[Relative],
        sla: SlaReport,
    ) -> Result<SlaReport, json::BadReport> {
        let (judged, evaluable) = self.regressions(baseline, rules)?;
        Ok(sla.joined(judged, evaluable))
    }

    /// The verdicts against an earlier report, and whether both may be judged.
    pub(super) fn regressions(
        &self,
        baseline: &Self,
        rules: &[Relative],
    ) -> Result<(Vec<RuleReport>, Result<(), String>), json::BadReport> {
        let (ours, theirs) = (self.tally()?, baseline.tally()?);
        let asked: Vec<Percentile> = rules.iter().filter_map(Relative::percentile).collect();
        let mine = self.evaluable(&ours, &asked).map_err(|why| format!("this side: {why}"));
        let its = baseline.evaluable(&theirs, &asked).map_err(|why| format!("the baseline: {why}"));
        let (responses, their_responses) = (Responses(&ours), Responses(&theirs));
        let (ours, theirs) = (measured(&ours, &responses), measured(&theirs, &their_responses));
        let judged = rules.iter().map(|rule| gate::regression(rule, &ours, &theirs)).collect();
        Ok((judged, mine.and(its)))
    }

    /// Whether rules against this report as a baseline can be judged at all; if not, why.
    pub fn serves_as_baseline(&self, rules: &[Relative]) -> Result<Result<(), String>, json::BadReport> {
        let asked: Vec<Percentile> = rules.iter().filter_map(Relative::percentile).collect();
        Ok(self.evaluable(&self.tally()?, &asked))
    }
}

fn evaluable(partial: bool, validity: &Validity) -> Result<(), String> {
    if partial {
        return Err("the run is partial".to_owned());
    }
    if validity.verdict == Verdict::Invalid {
        undisturbed(&validity.findings)?;
        return Err("the run is INVALID".to_owned());
    }
    Ok(())
}

/// Fails where a check convicts.
fn undisturbed(checks: &[Check]) -> Result<(), String> {
    let convicting = checks.iter().filter(|check| check.level == Level::Invalid);
    let rules: Vec<&str> = convicting.map(|check| check.rule.as_str()).collect();
    if rules.is_empty() { Ok(()) } else { Err(format!("the run is INVALID ({})", rules.join(", "))) }
}

fn totals(tally: &Tally, connects: u64, unsolicited: u64) -> Totals {
    Totals {
        scheduled: tally.scheduled,
        completed: tally.completed,
        failed: tally.failed,
        unsent: tally.unsent,
        successful: tally.successful,
        retries: tally.retries,
        connects,
        unsolicited,
        bytes_sent: tally.bytes_sent,
        bytes_received: tally.bytes_received,
    }
}

fn by_outcome(tally: &Tally) -> BTreeMap<String, u64> {
    let mut outcomes = BTreeMap::new();
    for (key, n) in &tally.outcomes {
        *outcomes.entry(key.outcome.clone()).or_default() += n;
    }
    outcomes
}

fn details(tally: &Tally) -> BTreeMap<String, u64> {
    let detailed = tally.outcomes.iter().filter_map(|(key, n)| Some((key, key.detail.as_ref()?, *n)));
    detailed.map(|(key, detail, n)| (format!("{}: {detail}", key.outcome), n)).collect()
}
