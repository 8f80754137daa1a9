//! `--against`: the earlier report and the rules about the change since. Read before any load.

use std::path::{Path, PathBuf};

use hairspring::analyze::gate::{Relative, SlaReport};
use hairspring::cli::AgainstArgs;
use hairspring::report::json::Saved;
use hairspring::report::{Report, Subject};

use super::Failure;

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
        judged_side(&against.baseline).tally().map_err(|error| against.unusable(&error))?;
        Ok(Some(against))
    }

    /// Before a load: refuses a baseline against which nothing could be judged, with the exit code that judging would have.
    pub(crate) fn refuse_unreliable(self) -> Result<Self, Failure> {
        let serves = judged_side(&self.baseline).serves_as_baseline(&self.rules);
        match serves.map_err(|error| self.unusable(&error))? {
            Ok(()) => Ok(self),
            Err(why) => Err(Failure { code: Failure::INVALID, ..self.unusable(&why) }),
        }
    }

    /// The verdicts in `sla`, and those on the change since the baseline.
    pub(crate) fn judge(&self, subject: Subject<'_>, sla: SlaReport) -> Result<SlaReport, Failure> {
        let baseline = judged_side(&self.baseline);
        let judged = match subject {
            Subject::Report(report) => report.judge_against(baseline, &self.rules, sla),
            Subject::Comparison(comparison) => comparison.judge_against(baseline, &self.rules, sla),
        };
        judged.map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::environment(format!("cannot judge against {}: {why}", self.path.display()))
    }
}

/// A saved report or comparison.
pub(super) fn read(path: &Path) -> Result<Saved, Failure> {
    let unusable = |error: &dyn std::fmt::Display| {
        Failure::environment(format!("cannot judge {}: {error}", path.display()))
    };
    let bytes = std::fs::read(path).map_err(|error| unusable(&error))?;
    Saved::parse(&bytes).map_err(|error| unusable(&error))
}

/// The report itself; of a comparison, its optimized side.
fn judged_side(saved: &Saved) -> &Report {
    match saved {
        Saved::Report(report) => report,
        Saved::Comparison(comparison) => &comparison.optimized,
    }
}
