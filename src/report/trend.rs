//! The history of saved reports: runs that measured the same are put in the order of time, and each figure is searched for
//! changes. Runs that measured something else are histories of their own; what is used in none is said, with the reason.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::{self, Saved};
use super::{Report, Tool, text};
use crate::analyze::paired::Criteria;
use crate::analyze::summary::Figures;
use crate::analyze::trend::{self, ChangePoint, Deviation};
use crate::analyze::validity::Verdict;

/// The version of [`TrendReport`].
pub const TREND_SCHEMA: &str = "hairspring.trend/1";

/// What a plan says about the instrument, the judgement and the sampling of one and the same load; runs that differ in these
/// alone are compared.
const NOT_THE_LOAD: [&str; 10] =
    ["alerts", "client", "digest", "interval_ns", "log", "monitor", "rounds", "seed", "sla", "sla_against"];
/// The same of a server.
const NOT_THE_SERVER: [&str; 2] = ["cpus", "server_log"];

/// Histories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrendReport {
    /// [`TREND_SCHEMA`].
    pub schema: String,
    /// The program that wrote it.
    pub tool: Tool,
    /// Runs in the rolling baseline.
    pub window: u32,
    /// What makes a difference.
    pub criteria: Criteria,
    /// The longest first.
    pub histories: Vec<History>,
    /// What is in no history, or shown in one and not used.
    pub left_out: Vec<LeftOut>,
}

/// Runs that measured the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// `target` of runs, else the name of the side or variant.
    pub name: String,
    /// What was measured.
    pub target: String,
    /// Under which load.
    pub load: String,
    /// On which machine.
    pub machine: String,
    /// In which parts of the plan it differs from the first history of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differs_in: Vec<String>,
    /// In the order of time.
    pub runs: Vec<RunRow>,
    /// By figure, in the order asked for.
    pub trends: Vec<Trend>,
}

/// One run of a history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRow {
    /// The report.
    pub file: String,
    /// When it was written: milliseconds since the Unix epoch.
    pub created_unix_ms: u64,
    /// How far the instrument believed itself.
    pub validity: Verdict,
    /// False of INVALID and partial runs: they are shown, and nothing follows from them.
    pub used: bool,
}

/// One figure over the runs of a history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// p50, p90, p95, p99, p999 or mean, of the response time in nanoseconds; or throughput, per second.
    pub metric: String,
    /// One for each run; null where the run has none (a percentile among the unsuccessful).
    pub values: Vec<Option<f64>>,
    /// `at` is the index of a run.
    pub change_points: Vec<ChangePoint>,
    /// Why change points were not looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// One for each run; null where it is not used, or where too few of the same level are before it.
    pub deviations: Vec<Option<Deviation>>,
}

/// A report that is not used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The file.
    pub file: String,
    /// Why.
    pub why: String,
}

/// What a history needs of a report.
#[derive(Debug, Clone)]
pub struct Observation {
    file: String,
    created_unix_ms: u64,
    name: String,
    target: String,
    load: String,
    machine: String,
    /// What has to be the same.
    plan: Value,
    validity: Verdict,
    partial: bool,
    figures: Figures,
    throughput: Option<f64>,
}

impl Observation {
    /// Of each side of what was saved.
    pub fn of(file: &str, saved: &Saved) -> Vec<Self> {
        saved.reports().into_iter().map(|report| Self::one(file, report)).collect()
    }

    fn one(file: &str, report: &Report) -> Self {
        let host = &report.host;
        let model = host.cpu_model.as_deref().unwrap_or("an unknown processor");
        Self {
            file: file.to_owned(),
            created_unix_ms: report.created_unix_ms,
            name: report.plan.target.name.clone(),
            target: text::target(&report.plan),
            load: report.plan.load_in_words(),
            machine: format!("{model}, {} processors", host.cpus.len()),
            plan: comparable(report),
            validity: report.validity.verdict,
            partial: report.partial,
            figures: report.response_ns.clone(),
            throughput: report.throughput_per_s,
        }
    }

    fn value(&self, metric: &str) -> Option<f64> {
        let value = match metric {
            "throughput" => self.throughput,
            "mean" => self.figures.mean.map(|mean| mean.0 as f64),
            percentile => self.figures.percentile(percentile).map(|value| value.0 as f64),
        };
        // a logarithm is taken
        value.filter(|value| *value > 0.0)
    }

    fn is_used(&self) -> bool {
        !self.partial && self.validity != Verdict::Invalid
    }

    fn goes_with(&self, other: &Self) -> bool {
        self.name == other.name && self.plan == other.plan && self.machine == other.machine
    }
}

/// The plan without what may differ.
fn comparable(report: &Report) -> Value {
    let mut plan = serde_json::to_value(&report.plan).expect("a plan has string keys");
    for (path, keys) in [("", &NOT_THE_LOAD[..]), ("/target/server", &NOT_THE_SERVER)] {
        if let Some(object) = plan.pointer_mut(path).and_then(Value::as_object_mut) {
            keys.iter().for_each(|key| drop(object.remove(*key)));
        }
    }
    plan
}

impl TrendReport {
    /// Puts observations into histories and searches each for changes in `metrics`.
    pub fn new(
        mut observations: Vec<Observation>,
        mut left_out: Vec<LeftOut>,
        metrics: &[String],
        window: u32,
        criteria: Criteria,
    ) -> Self {
        observations.sort_by(|a, b| (a.created_unix_ms, &a.file).cmp(&(b.created_unix_ms, &b.file)));
        let mut groups: Vec<Vec<Observation>> = Vec::new();
        for one in observations {
            let Some(group) = groups.iter_mut().find(|group| group[0].goes_with(&one)) else {
                groups.push(vec![one]);
                continue;
            };
            match group.iter().find(|other| other.created_unix_ms == one.created_unix_ms) {
                Some(other) => {
                    left_out.push(LeftOut { why: format!("the same run as {}", other.file), file: one.file });
                }
                None => group.push(one),
            }
        }
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        let mut firsts: BTreeMap<&str, &Observation> = BTreeMap::new();
        let mut histories = Vec::with_capacity(groups.len());
        for group in &groups {
            let first = *firsts.entry(&group[0].name).or_insert(&group[0]);
            left_out.extend(group.iter().filter_map(unused));
            histories.push(History::new(group, first, metrics, window, criteria));
        }
        let tool = Tool::this();
        Self { schema: TREND_SCHEMA.to_owned(), tool, window, criteria, histories, left_out }
    }

    /// As a file.
    pub fn to_json(&self) -> Vec<u8> {
        json::render(self)
    }
}

fn unused(run: &Observation) -> Option<LeftOut> {
    let why = match run.validity {
        _ if run.partial => "partial",
        Verdict::Invalid => "INVALID",
        _ => return None,
    };
    Some(LeftOut { file: run.file.clone(), why: format!("shown and not used: {} is {why}", run.name) })
}

impl History {
    fn new(
        runs: &[Observation],
        first: &Observation,
        metrics: &[String],
        window: u32,
        criteria: Criteria,
    ) -> Self {
        let one = &runs[0];
        let row = |run: &Observation| RunRow {
            file: run.file.clone(),
            created_unix_ms: run.created_unix_ms,
            validity: run.validity,
            used: run.is_used(),
        };
        Self {
            name: one.name.clone(),
            target: one.target.clone(),
            load: one.load.clone(),
            machine: one.machine.clone(),
            differs_in: differences(one, first),
            runs: runs.iter().map(row).collect(),
            trends: metrics.iter().map(|metric| Trend::new(runs, metric, window, criteria)).collect(),
        }
    }
}

/// The parts of the plan that are not the same.
fn differences(one: &Observation, other: &Observation) -> Vec<String> {
    let machine = (one.machine != other.machine).then(|| "machine".to_owned());
    let (Some(a), Some(b)) = (one.plan.as_object(), other.plan.as_object()) else { return Vec::new() };
    let mut parts: Vec<String> =
        a.keys().chain(b.keys()).filter(|key| a.get(*key) != b.get(*key)).cloned().collect();
    parts.extend(machine);
    parts.sort();
    parts.dedup();
    parts
}

impl Trend {
    fn new(runs: &[Observation], metric: &str, window: u32, criteria: Criteria) -> Self {
        let values: Vec<Option<f64>> = runs.iter().map(|run| run.value(metric)).collect();
        let used: Vec<(usize, f64)> = runs
            .iter()
            .zip(&values)
            .enumerate()
            .filter_map(|(at, (run, value))| Some((at, value.filter(|_| run.is_used())?.ln())))
            .collect();
        let logs: Vec<f64> = used.iter().map(|(_, log)| *log).collect();
        let mut change_points = trend::change_points(&logs, criteria.confidence);
        let mut deviations = vec![None; runs.len()];
        let up_is_slower = metric != "throughput";
        let found = trend::deviations(&logs, &change_points, window as usize, criteria, up_is_slower);
        for ((at, _), deviation) in used.iter().zip(found) {
            deviations[*at] = deviation;
        }
        // of the values that are used, of all runs
        change_points.iter_mut().for_each(|point| point.at = used[point.at].0);
        let few = logs.len() < trend::RUNS_MIN;
        let reason = few.then(|| format!("needs {} runs, there are {}", trend::RUNS_MIN, logs.len()));
        Self { metric: metric.to_owned(), values, change_points, reason, deviations }
    }
}
