//! Why is it slow? Rules that climb a ladder: the client is innocent, what is necessary, what is sufficient.
//!
//! A rule is a row of tests on figures (`rules`), the figures come from one place (`symptoms`), and this file is the ladder.
//! A finding is **shown** where every test holds, **consistent with** what was seen where the necessary ones hold, else
//! **not shown**; where a necessary figure is missing it is **not evaluated**, which is never "fine". Findings are ranked by
//! the share of the excess latency they explain, never by how busy something was. Nothing here says "because": only a
//! change that was predicted and measured again can (`analyze::confirm`, which has the word above **shown**).
//!
//! Not here: advice (`recommend`), words for a terminal (report).

use serde::{Deserialize, Serialize};

mod concurrency;
mod machine;
mod rules;
mod stalls;
mod symptoms;
mod timers;
mod uncertainty;

pub use concurrency::Concurrency;
pub use machine::ServerSide;
pub use stalls::Stalls;
pub use symptoms::{Client, Excess, Refusals, Sources, Symptoms};
pub use timers::{Clusters, Lost};
pub use uncertainty::LeftOut;

use rules::{RULES, Rule};

/// How far a rule got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// A figure that it needs is missing, or the client is not innocent.
    NotEvaluated,
    /// A necessary test fails.
    NotShown,
    /// The necessary tests hold, not all of the sufficient.
    ConsistentWith,
    /// All tests hold.
    Shown,
    /// And a change that was predicted from it was measured (`--confirm`).
    Confirmed,
}

impl Word {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotEvaluated => "not evaluated",
            Self::NotShown => "not shown",
            Self::ConsistentWith => "consistent with",
            Self::Shown => "shown",
            Self::Confirmed => "shown, confirmed by intervention",
        }
    }
}

/// On which step of the ladder a test stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Without it the finding is not shown.
    Necessary,
    /// With all of these too it is.
    Sufficient,
}

/// One figure against its limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// What the figure is.
    pub figure: String,
    /// Null where it could not be seen.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: String,
    /// The test holds from here on: upwards if `at_least`, else downwards.
    pub limit: f64,
    /// See `limit`.
    pub at_least: bool,
    /// On which step.
    pub step: Step,
    /// It holds; null without a value.
    pub holds: Option<bool>,
}

/// What a finding explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// The latency of the requests at and above p95 beyond that of an unloaded server.
    Excess,
    /// The requests that were not successful.
    Unsuccessful,
}

/// What one rule found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable name.
    pub rule: String,
    /// How far it got.
    pub word: Word,
    /// What it is, with its figures; of a rule that got no further than "not shown", what was looked for.
    pub says: String,
    /// The share that it explains, 0 to 1; null where that is not known.
    pub explained: Option<f64>,
    /// What that lies between with 95 %; null where too little was kept to say.
    #[serde(default)]
    pub explained_interval: Option<[f64; 2]>,
    /// The share of what.
    pub of: Of,
    /// The tests in order.
    pub tests: Vec<Test>,
    /// The figure that would disprove it.
    pub disproof: String,
    /// Why it is not shown or not evaluated, where the tests do not say so.
    pub note: Option<String>,
}

/// All rules over one target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// What the latency is measured against; null where nothing was successful.
    pub excess: Option<Excess>,
    /// Shown and consistent with, what explains most first.
    pub findings: Vec<Finding>,
    /// Looked for and not shown.
    pub cleared: Vec<Finding>,
    /// Could not be looked for.
    pub not_evaluated: Vec<Finding>,
    /// In one sentence.
    pub summary: String,
}

/// More than so many that are only consistent with the figures are a guess.
const CONSISTENT_MAX: usize = 2;

/// Lets every rule look at the symptoms.
pub fn find(symptoms: &Symptoms) -> Findings {
    let mut all: Vec<(&Rule, Finding)> = RULES.iter().map(|rule| (rule, judge(rule, symptoms))).collect();
    withdraw(&mut all);
    let mut findings = Findings { excess: symptoms.excess, ..Findings::default() };
    for (_, finding) in all {
        match finding.word {
            Word::NotEvaluated => findings.not_evaluated.push(finding),
            Word::NotShown => findings.cleared.push(finding),
            _ => findings.findings.push(finding),
        }
    }
    findings.findings.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    let mut consistent = 0;
    let (kept, surplus) = std::mem::take(&mut findings.findings).into_iter().partition(|finding| {
        consistent += usize::from(finding.word == Word::ConsistentWith);
        finding.word >= Word::Shown || consistent <= CONSISTENT_MAX
    });
    findings.findings = kept;
    findings.cleared.extend(Vec::into_iter(surplus).map(|mut finding: Finding| {
        finding.word = Word::NotShown;
        finding.note = Some("two others explain more".to_owned());
        finding
    }));
    findings.summarize(symptoms);
    findings
}

impl Findings {
    /// Says again what follows, and puts what comes first in front.
    pub(super) fn summarize(&mut self, symptoms: &Symptoms) {
        self.findings.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
        self.summary = summary(self, symptoms);
    }
}

/// A finding about the client first, as nothing else holds then; what is shown before what is not; then by the share.
fn rank(finding: &Finding) -> f64 {
    let first = if finding.rule == rules::CLIENT { 100.0 } else { 0.0 };
    let shown = if finding.word >= Word::Shown { 10.0 } else { 0.0 };
    first + shown + finding.explained.unwrap_or(0.0)
}

fn judge(rule: &Rule, symptoms: &Symptoms) -> Finding {
    let tests = (rule.tests)(symptoms);
    let mut finding = Finding {
        rule: rule.name.to_owned(),
        word: climb(&tests),
        says: rule.looked_for.to_owned(),
        explained: share_of(rule, symptoms),
        explained_interval: uncertainty::of_share(rule, symptoms),
        of: rule.of,
        tests,
        disproof: String::new(),
        note: None,
    };
    let suspected = finding.word >= Word::ConsistentWith;
    if suspected && rule.needs_innocent_client && symptoms.client.is_guilty() {
        finding.word = Word::NotEvaluated;
        finding.note = Some("the client is not innocent".to_owned());
    } else if suspected {
        finding.says = (rule.says)(symptoms);
        finding.disproof = (rule.disproof)(symptoms);
    }
    finding
}

fn share_of(rule: &Rule, symptoms: &Symptoms) -> Option<f64> {
    (rule.explains)(symptoms).map(|share| share.clamp(0.0, 1.0))
}

/// Missing figures of a necessary test leave the rule not evaluated, unless another of them fails.
fn climb(tests: &[Test]) -> Word {
    let of = |step| tests.iter().filter(move |test| test.step == step);
    if of(Step::Necessary).any(|test| test.holds == Some(false)) {
        return Word::NotShown;
    }
    if of(Step::Necessary).any(|test| test.holds.is_none()) {
        return Word::NotEvaluated;
    }
    let sufficient = of(Step::Sufficient).all(|test| test.holds == Some(true));
    if sufficient { Word::Shown } else { Word::ConsistentWith }
}

/// A rule that only sees what a shown one brings about is withdrawn.
fn withdraw(all: &mut [(&Rule, Finding)]) {
    let shown: Vec<&str> =
        all.iter().filter(|(_, f)| f.word == Word::Shown).map(|(rule, _)| rule.name).collect();
    for (rule, finding) in all {
        let cause = rule.follows_from.iter().find(|cause| shown.contains(cause));
        if let (Some(cause), true) = (cause, finding.word >= Word::ConsistentWith) {
            finding.word = Word::NotShown;
            finding.note = Some(format!("it follows from {cause}, which is shown"));
        }
    }
}

fn summary(findings: &Findings, symptoms: &Symptoms) -> String {
    let excess = symptoms.excess.filter(Excess::is_slow);
    match (findings.findings.first(), excess) {
        (Some(first), _) => match first.word {
            Word::Shown | Word::Confirmed => first.says.clone(),
            _ => format!("nothing is shown; most is consistent with this: {}", first.says),
        },
        (None, Some(excess)) => {
            let (part, share) = excess.largest();
            format!(
                "no single bottleneck is shown: requests at and above p95 take {} beyond an unloaded {}, {:.0} % of it in {part}",
                excess.excess_ns,
                excess.unloaded_ns,
                100.0 * share
            )
        }
        (None, None) if symptoms.excess.is_some() => {
            "nothing to explain: requests at and above p95 take little longer than on an unloaded server"
                .to_owned()
        }
        (None, None) => "not evaluated: no request was successful".to_owned(),
    }
}

#[cfg(test)]
mod tests;
