//! `hairspring gate`: judges a saved report; measures nothing.

use hairspring::cli::GateArgs;
use hairspring::report::json::Saved;
use hairspring::report::text;

use super::{Console, Failure, Judgement, nothing_completed};

pub(crate) fn execute(args: &GateArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let rules = args.rules()?;
    let path = args.report.display();
    let unusable =
        |error: &dyn std::fmt::Display| Failure::environment(format!("cannot judge {path}: {error}"));
    let bytes = std::fs::read(&args.report).map_err(|error| unusable(&error))?;
    let saved = Saved::parse(&bytes).map_err(|error| unusable(&error))?;
    let (sla, validity, outputs, reports) = match &saved {
        Saved::Report(report) => (report.judge(&rules), report.validity.verdict, None, vec![report.as_ref()]),
        Saved::Comparison(c) => {
            (c.judge(&rules), c.validity, c.outputs_identical, vec![&c.baseline, &c.optimized])
        }
    };
    let sla = sla.map_err(|error| unusable(&error))?;
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
    };
    Ok(judgement.conclude(console))
}
