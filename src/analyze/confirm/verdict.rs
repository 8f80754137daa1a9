//! What was measured beside what was predicted.

use serde::{Deserialize, Serialize};

use super::Intervention;
use crate::analyze::paired::Effect;
use crate::analyze::validity::Verdict as Validity;
use crate::load::time::Nanos;

/// A change within this is none.
pub(super) const NOTHING_WITHIN: f64 = 0.1;

/// What follows for the finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As predicted, and not as it would be otherwise.
    Confirmed,
    /// Not as predicted.
    Refuted,
    /// Neither is shown.
    NotDecided,
    /// Nothing was changed.
    NotTested,
}

impl Verdict {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refuted => "refuted",
            Self::NotDecided => "not decided",
            Self::NotTested => "not tested",
        }
    }
}

/// The rounds that were made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The figure as it was, median over rounds.
    pub from_ns: Option<Nanos>,
    /// And with the change.
    pub to_ns: Option<Nanos>,
    /// The change over pairs of rounds; null where no pair has the figure.
    pub effect: Option<Effect>,
    /// Which was measured first, by pair.
    pub order: Vec<Vec<String>>,
    /// The worse of both sides.
    pub validity: Validity,
    /// Not all pairs were made.
    pub partial: bool,
    /// The whole of it, in the folder of results.
    pub file: String,
}

/// The intervention on a run, if there was one, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Confirmation {
    /// What follows.
    pub verdict: Verdict,
    /// Predicted before it was measured; null where nothing is changed.
    pub intervention: Option<Intervention>,
    /// Measured; null where it was not.
    pub trial: Option<Trial>,
    /// Why, with the figures.
    pub says: String,
}

impl Confirmation {
    /// Of the proposal, judged if it was tried.
    pub fn of(proposed: Result<Intervention, String>, trial: Option<&Trial>) -> Self {
        match (proposed, trial) {
            (Err(why), _) => Self { verdict: Verdict::NotTested, intervention: None, trial: None, says: why },
            (Ok(intervention), None) => Self {
                verdict: Verdict::NotTested,
                says: "predicted, and not measured".to_owned(),
                intervention: Some(intervention),
                trial: None,
            },
            (Ok(intervention), Some(trial)) => {
                let (verdict, says) = judge(&intervention, trial);
                Self { verdict, intervention: Some(intervention), trial: Some(trial.clone()), says }
            }
        }
    }

    /// The change, where it is known to be none.
    pub(super) fn brought_nothing(&self) -> Option<f64> {
        let effect = self.trial.as_ref()?.effect.as_ref()?;
        let [low, high] = effect.interval?;
        (low >= -NOTHING_WITHIN && high <= NOTHING_WITHIN).then_some(effect.change)
    }
}

fn judge(intervention: &Intervention, trial: &Trial) -> (Verdict, String) {
    let Intervention { change, figure, expected, expected_interval: [least, most], otherwise, .. } =
        intervention;
    let open = |why: &str| (Verdict::NotDecided, format!("{}: {why}", change.in_words()));
    if trial.partial {
        return open("not all pairs of rounds were made");
    }
    if trial.validity == Validity::Invalid {
        return open("rounds are INVALID: the difference may be the instrument's");
    }
    let Some(effect) = &trial.effect else { return open("no pair of rounds has the figure") };
    let Some([low, high]) = effect.interval else { return open(&effect.reason) };
    let percent = |share: f64| format!("{:+.1} %", 100.0 * share);
    let figures = format!(
        "with {} the {figure} changes by {} ({} to {}), predicted {} ({} to {})",
        change.in_words(),
        percent(effect.change),
        percent(low),
        percent(high),
        percent(*expected),
        percent(*least),
        percent(*most)
    );
    let overlaps = low <= *most && high >= *least;
    let may_be_otherwise = (low..=high).contains(otherwise);
    let falls = expected < otherwise;
    let short_of_it = if falls { low > *most } else { high < *least };
    match (overlaps, may_be_otherwise) {
        (true, false) => (Verdict::Confirmed, figures),
        (true, true) => (Verdict::NotDecided, format!("{figures}; no change is possible too")),
        (false, _) if short_of_it => (Verdict::Refuted, figures),
        (false, _) => (Verdict::NotDecided, format!("{figures}; that is more than the cause explains")),
    }
}
