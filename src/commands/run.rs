//! `hairspring run`: one target, in one round or several.

use hairspring::analyze::gate;
use hairspring::cli::RunArgs;
use hairspring::output::OutDir;
use hairspring::report::json::{self, Saved};
use hairspring::report::{Inputs, Report, text};
use hairspring::sys::signal::StopFlag;
use hairspring::sys::{affinity, host};

use super::against::Against;
use super::handouts::Handouts;
use super::{Console, Failure, Judgement, Series, environment_failed, unix_ms, write_failed};

pub(crate) fn execute(args: &RunArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let plan = args.plan(&affinity::allowed())?;
    let tool = &args.common.tool;
    let against = Against::read(&tool.against)?.map(Against::refuse_unreliable).transpose()?;
    let mut series = Series::all(vec![plan])?.pop().expect("one for the plan");
    let stop = StopFlag::install().map_err(Failure::environment)?;
    let dir = OutDir::create(&tool.out, &json::render(&series.plan))?;
    let handouts = Handouts::open(&tool.handouts)?;
    let host = host::read();
    console.progress(&format!("measuring: {}", series.plan.load_in_words()));
    for round in 0..series.plan.rounds {
        if round > 0 {
            console.progress(&format!("round {} of {}", round + 1, series.plan.rounds));
        }
        series.measure(&dir, 0, &stop)?;
        if stop.count() > 0 {
            break;
        }
    }
    let rules = gate::rules(&series.plan.sla);
    let report = Report::new(Inputs {
        plan: &series.plan,
        host: &host,
        rounds: &series.rounds,
        positions: &series.positions,
        rules: &rules,
        logs: series.logs(),
        created_unix_ms: unix_ms(),
        complete: series.rounds.len() == series.plan.rounds as usize,
    });
    let mut saved = Saved::Report(Box::new(report));
    if let Some(against) = &against {
        let verdicts = against.judge(&saved, saved.verdicts())?;
        saved.adopt(verdicts);
    }
    let mut failed = write_failed(&dir, saved.file(), &json::render(&saved), console);
    failed |= series.export(&dir, console);
    console.print(&text::saved(&saved));
    for report in saved.reports() {
        failed |= environment_failed(report, &series, console) | console.print_failed;
    }
    let verdicts = saved.verdicts();
    console.progress(&format!("report: {}", dir.file(saved.file()).display()));
    let judgement = Judgement {
        interrupted: stop.count() > 0,
        environment_failed: failed,
        asked: verdicts.iter().any(|sla| !sla.rules.is_empty()) || tool.strict,
        validity: saved.validity(),
        strict: tool.strict,
        sla: saved.sla_verdict(),
        outputs_differ: false,
        on_inconclusive: tool.on_inconclusive,
    };
    Ok(handouts.conclude("run", &saved, &verdicts, judgement, console))
}
