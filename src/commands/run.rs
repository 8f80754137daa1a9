//! `hairspring run`: one target, in one round or several.

use hairspring::analyze::gate::Rule;
use hairspring::cli::RunArgs;
use hairspring::output::OutDir;
use hairspring::report::{Inputs, Report, json, text};
use hairspring::sys::signal::StopFlag;
use hairspring::sys::{affinity, host};

use super::{Console, Failure, Judgement, Series, environment_failed, unix_ms, write_failed};

pub(crate) fn execute(args: &RunArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let plan = args.plan(&affinity::allowed())?;
    let mut series = Series::all(vec![plan])?.pop().expect("one for the plan");
    let stop = StopFlag::install().map_err(Failure::environment)?;
    let dir = OutDir::create(&args.common.tool.out, &json::render(&series.plan))?;
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
    let rules: Vec<Rule> = series.plan.sla.iter().filter_map(|text| text.parse().ok()).collect();
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
    let mut failed = write_failed(&dir, "report.json", &json::render(&report), console);
    failed |= series.export(&dir, console);
    console.print(&text::run(&report));
    failed |= environment_failed(&report, &series, console) | console.print_failed;
    console.progress(&format!("report: {}", dir.file("report.json").display()));
    let judgement = Judgement {
        interrupted: stop.count() > 0,
        environment_failed: failed,
        asked: !rules.is_empty() || args.common.tool.strict,
        validity: report.validity.verdict,
        strict: args.common.tool.strict,
        sla: report.sla.verdict,
        outputs_differ: false,
        on_inconclusive: args.common.tool.on_inconclusive,
    };
    Ok(judgement.conclude(console))
}
