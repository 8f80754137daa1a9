//! `hairspring gate`: judges a saved report; measures nothing.

use hairspring::cli::GateArgs;
use hairspring::report::json::Saved;
use hairspring::report::{Subject, text};

use super::against::{Against, read};
use super::handouts::Handouts;
use super::{Console, Failure, Judgement, nothing_completed};

pub(crate) fn execute(args: &GateArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let rules = args.rules()?;
    let against = Against::read(&args.against)?;
    let saved = read(&args.report)?;
    let (sla, validity, outputs, reports, subject) = match &saved {
        Saved::Report(report) => {
            let subject = Subject::Report(report);
            (report.judge(&rules), report.validity.verdict, None, vec![report.as_ref()], subject)
        }
        Saved::Comparison(c) => {
            let (sides, subject) = (vec![&c.baseline, &c.optimized], Subject::Comparison(c));
            (c.judge(&rules), c.validity, c.outputs_identical, sides, subject)
        }
    };
    let path = args.report.display();
    let mut sla = sla.map_err(|error| Failure::environment(format!("cannot judge {path}: {error}")))?;
    if let Some(against) = &against {
        sla = against.judge(subject, sla)?;
    }
    let handouts = Handouts::open(&args.handouts)?;
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
    Ok(handouts.conclude("gate", subject, &sla, judgement, console))
}
