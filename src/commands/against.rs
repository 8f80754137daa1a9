//! `--against`: the earlier report and the rules about the change since. Read before any load.

use std::path::{Path, PathBuf};

use hairspring::analyze::alerts::{self, Baseline};
use hairspring::analyze::gate::{Relative, SlaReport};
use hairspring::analyze::summary::Responses;
use hairspring::cli::AgainstArgs;
use hairspring::plan::Plan;
use hairspring::report::Report;
use hairspring::report::json::Saved;

use super::Failure;

/// Why a ranking cannot stand for one earlier run.
const SEVERAL: &str = "it is a ranking of several judged variants; take one from `compare --judge NAME`";

/// An earlier report, and the rules against it.
pub(crate) struct Against {
    path: PathBuf,
    baseline: Saved,
    rules: Vec<Relative>,
}

impl Against {
    /// None where it was not asked for. Refuses a file that is no report, or whose figures contradict each other.
    pub(crate) fn read(args: &AgainstArgs) -> Result<Option<Self>, Failure> {
        let rules = args.rules()?;
        let Some(path) = args.against.clone() else { return Ok(None) };
        let against = Self { baseline: read(&path)?, path, rules };
        against.judged_side()?.tally().map_err(|error| against.unusable(&error))?;
        Ok(Some(against))
    }

    /// Before a load: refuses a baseline against which nothing could be judged, with the exit code that judging would have.
    pub(crate) fn refuse_unreliable(self) -> Result<Self, Failure> {
        let serves = self.judged_side()?.serves_as_baseline(&self.rules);
        match serves.map_err(|error| self.unusable(&error))? {
            Ok(()) => Ok(self),
            Err(why) => Err(Failure { code: Failure::INVALID, ..self.unusable(&why) }),
        }
    }

    /// The verdicts of its gates, each with those on the change since the baseline.
    pub(crate) fn judge(&self, saved: &Saved, verdicts: Vec<SlaReport>) -> Result<Vec<SlaReport>, Failure> {
        let judged = saved.judge_against(self.judged_side()?, &self.rules, verdicts);
        judged.map_err(|error| self.unusable(&error))
    }

    /// What alerts of `plan` on a rise compare with.
    pub(crate) fn for_alerts(&self, plan: &Plan) -> Result<Baseline, Failure> {
        let tally = self.judged_side()?.tally().map_err(|error| self.unusable(&error))?;
        Ok(Baseline::of(&alerts::rules(plan), &Responses(&tally)))
    }

    /// The report that was judged then.
    fn judged_side(&self) -> Result<&Report, Failure> {
        match self.baseline.judged()[..] {
            [report] => Ok(report),
            _ => Err(self.unusable(&SEVERAL)),
        }
    }

    fn unusable(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::environment(format!("cannot judge against {}: {why}", self.path.display()))
    }
}

/// What was saved.
pub(super) fn read(path: &Path) -> Result<Saved, Failure> {
    let unusable = |error: &dyn std::fmt::Display| {
        Failure::environment(format!("cannot judge {}: {error}", path.display()))
    };
    let bytes = std::fs::read(path).map_err(|error| unusable(&error))?;
    Saved::parse(&bytes).map_err(|error| unusable(&error))
}
