//! `run --confirm`: the rounds that test an intervention, made and analysed as a comparison of the plan with the changed plan.

use std::io;

use hairspring::analyze::confirm::{Intervention, Trial, rounds_of};
use hairspring::load::time::Nanos;
use hairspring::output::OutDir;
use hairspring::report::json::{self, Saved};
use hairspring::sys::signal::StopFlag;

use super::compare::Experiment;
use super::{Console, Failure, Series};

/// Its folder in the folder of results.
const FOLDER: &str = "confirm";

/// Measures the plan of what was run as it was against the changed one, in pairs of short rounds.
pub(super) fn trial(
    run: &Series,
    intervention: &Intervention,
    dir: &OutDir,
    stop: &StopFlag,
    console: &mut Console<'_>,
) -> Result<Trial, Failure> {
    console.progress(&format!("confirming {}: {}", intervention.rule, intervention.change.in_words()));
    let wall = run.rounds.first().map_or(Nanos::ZERO, |round| round.wall);
    let mut as_it_was = rounds_of(&run.plan, wall);
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
