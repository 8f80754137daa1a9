//! `hairspring run`: one target, one round.

use hairspring::analyze::gate::Rule;
use hairspring::cli::RunArgs;
use hairspring::output::OutDir;
use hairspring::report::{Inputs, Report, Subject, json, text};
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
    series.measure(&dir, 0, &stop)?;
    let rules: Vec<Rule> = series.plan.sla.iter().filter_map(|text| text.parse().ok()).collect();
    let mut report = Report::new(Inputs {
        plan: &series.plan,
        host: &host,
        rounds: &series.rounds,
        positions: &series.positions,
        rules: &rules,
        logs: series.logs(),
        created_unix_ms: unix_ms(),
        complete: stop.count() == 0,
    });
    if let Some(against) = &against {
        report.sla = against.judge(Subject::Report(&report), report.sla.clone())?;
    }
    let mut failed = write_failed(&dir, "report.json", &json::render(&report), console);
    failed |= series.export(&dir, console);
    console.print(&text::run(&report));
    failed |= environment_failed(&report, &series, console) | console.print_failed;
    console.progress(&format!("report: {}", dir.file("report.json").display()));
    let judgement = Judgement {
        interrupted: stop.count() > 0,
        environment_failed: failed,
        asked: !report.sla.rules.is_empty() || tool.strict,
        validity: report.validity.verdict,
        strict: tool.strict,
        sla: report.sla.verdict,
        outputs_differ: false,
        on_inconclusive: tool.on_inconclusive,
    };
    Ok(handouts.conclude("run", Subject::Report(&report), &report.sla, judgement, console))
}
