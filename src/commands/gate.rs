//! `hairspring gate`: judges a saved report; measures nothing.

use std::path::Path;

use hairspring::analyze::gate::SlaVerdict;
use hairspring::cli::GateArgs;
use hairspring::report::json::Saved;
use hairspring::report::text;

use super::{Console, Failure, Judgement, nothing_completed};

/// Why a ranking cannot stand for one earlier run.
const SEVERAL: &str = "it is a ranking of several judged variants; take one from `compare --judge NAME`";

pub(crate) fn execute(args: &GateArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let (rules, relative) = (args.rules()?, args.relative_rules()?);
    let path = args.report.display();
    let unusable =
        |error: &dyn std::fmt::Display| Failure::environment(format!("cannot judge {path}: {error}"));
    let saved = read(&args.report)?;
    let mut verdicts = saved.judge(&rules).map_err(|error| unusable(&error))?;
    if let Some(path) = &args.against {
        let against =
            |error: &dyn std::fmt::Display| unusable(&format!("against {}: {error}", path.display()));
        let baseline = read(path)?;
        let theirs = baseline.judge(&[]).map_err(|error| against(&error))?;
        let [(theirs, _)] = theirs[..] else { return Err(against(&SEVERAL)) };
        for (report, sla) in &mut verdicts {
            *sla = report.judge_against(theirs, &relative, sla.clone()).map_err(|error| against(&error))?;
        }
    }
    console.print(&text::gate(&verdicts, &saved));
    let nothing = saved.reports().iter().any(|report| nothing_completed(report, console));
    let sla = SlaVerdict::together(verdicts.iter().map(|(_, sla)| sla.verdict));
    let judgement = Judgement {
        interrupted: false,
        environment_failed: console.print_failed || nothing,
        asked: true,
        validity: saved.validity(),
        strict: args.strict,
        sla: sla.unwrap_or(SlaVerdict::NotEvaluated),
        outputs_differ: saved.outputs_identical() == Some(false),
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
