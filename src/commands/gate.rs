//! `hairspring gate`: judges a saved report; measures nothing.

use hairspring::analyze::gate::SlaVerdict;
use hairspring::cli::GateArgs;
use hairspring::report::text;

use super::against::{Against, read};
use super::handouts::Handouts;
use super::{Console, Failure, Judgement, Measured, nothing_completed};

pub(crate) fn execute(args: &GateArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let rules = args.rules()?;
    let against = Against::read(&args.against)?;
    let saved = read(&args.report)?;
    let path = args.report.display();
    let verdicts = saved.judge(&rules);
    let mut verdicts =
        verdicts.map_err(|error| Failure::environment(format!("cannot judge {path}: {error}")))?;
    if let Some(against) = &against {
        verdicts = against.judge(&saved, verdicts)?;
    }
    let handouts = Handouts::open(&args.handouts)?;
    console.print(&text::gate(&verdicts, &saved));
    let nothing = saved.reports().iter().any(|report| nothing_completed(report, console));
    let sla = SlaVerdict::together(verdicts.iter().map(|sla| sla.verdict));
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
    Ok(handouts.conclude_by("gate", Measured { saved, judgement }, &verdicts, console))
}
