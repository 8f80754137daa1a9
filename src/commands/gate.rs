//! `hairspring gate`: judges a saved report; measures nothing.

use std::path::Path;

use hairspring::cli::GateArgs;
use hairspring::report::json::Saved;
use hairspring::report::{Report, text};

use super::{Console, Failure, Judgement, nothing_completed};

pub(crate) fn execute(args: &GateArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let (rules, relative) = (args.rules()?, args.relative_rules()?);
    let path = args.report.display();
    let unusable =
        |error: &dyn std::fmt::Display| Failure::environment(format!("cannot judge {path}: {error}"));
    let saved = read(&args.report)?;
    let (sla, validity, outputs, reports) = match &saved {
        Saved::Report(report) => (report.judge(&rules), report.validity.verdict, None, vec![report.as_ref()]),
        Saved::Comparison(c) => {
            (c.judge(&rules), c.validity, c.outputs_identical, vec![&c.baseline, &c.optimized])
        }
    };
    let mut sla = sla.map_err(|error| unusable(&error))?;
    if let Some(path) = &args.against {
        let baseline = read(path)?;
        let judged = judged_side(&saved).judge_against(judged_side(&baseline), &relative, sla);
        sla = judged.map_err(|error| unusable(&format!("against {}: {error}", path.display())))?;
    }
    console.print(&text::gate(&sla, &saved));
    let nothing = reports.iter().any(|report| nothing_completed(report, console));
    let judgement = Judgement {
        interrupted: false,
        environment_failed: console.print_failed || nothing,
        asked: true,
        validity,
        strict: args.strict,
        sla: sla.verdict,
        outputs_differ: outputs == Some(false),
        on_inconclusive: args.on_inconclusive,
    };
    Ok(judgement.conclude(console))
}

fn read(path: &Path) -> Result<Saved, Failure> {
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
