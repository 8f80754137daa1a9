//! `run --confirm`: the rounds that test an intervention, made and analysed as a comparison of the plan with the changed plan.

use std::io;

use hairspring::analyze::confirm::{Intervention, Trial, rounds_of};
use hairspring::load::time::Nanos;
use hairspring::output::OutDir;
use hairspring::plan::Plan;
use hairspring::report::json::{self, Saved};
use hairspring::sys::signal::StopFlag;

use super::compare::Experiment;
use super::{Console, Failure};

/// Its folder in the folder of results.
const FOLDER: &str = "confirm";

/// Measures the plan as it was against the changed one, in pairs of short rounds; `wall` is how long a round of the run took.
pub(super) fn trial(
    plan: &Plan,
    intervention: &Intervention,
    wall: Nanos,
    dir: &OutDir,
    stop: &StopFlag,
    console: &mut Console<'_>,
) -> Result<Trial, Failure> {
    let mut as_it_was = rounds_of(plan, wall);
    let mut changed = intervention.change.apply(&as_it_was);
    "as-it-was".clone_into(&mut as_it_was.target.name);
    "changed".clone_into(&mut changed.target.name);
    let experiment = Experiment::between(as_it_was, changed)?;
    let folder = OutDir::create(&dir.file(FOLDER), &json::render(&experiment.plans()))?;
    // its page is not asked for; its files are there
    let mut quiet = Console {
        out: &mut io::sink(),
        err: console.err,
        interactive: console.interactive,
        print_failed: false,
    };
    let measured = experiment.measure(&folder, stop, &mut quiet)?;
    let file = format!("{FOLDER}/{}", measured.saved.file());
    let Saved::Comparison(comparison) = measured.saved else {
        unreachable!("two sides without a contest are a comparison")
    };
    let figure = &intervention.figure;
    let change = comparison.improvement.get(figure);
    Ok(Trial {
        from_ns: change.map(|change| change.baseline_ns),
        to_ns: change.map(|change| change.optimized_ns),
        effect: comparison.effects.get(figure).cloned(),
        order: comparison.order,
        validity: comparison.validity,
        partial: comparison.partial,
        file,
    })
}
