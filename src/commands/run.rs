//! `hairspring run`: one target, in one round or several.

use hairspring::analyze::confirm::{Intervention, Trial};
use hairspring::analyze::gate;
use hairspring::cli::{OnInconclusive, RunArgs};
use hairspring::output::{OutDir, Outlets};
use hairspring::plan::Plan;
use hairspring::report::json::{self, Saved};
use hairspring::report::{Inputs, Report, text};
use hairspring::sys::signal::StopFlag;
use hairspring::sys::{affinity, host};

use super::against::Against;
use super::confirm;
use super::handouts::Handouts;
use super::{
    Console, Failure, Judgement, Measured, Series, environment_failed, metrics, unix_ms, write_failed,
};

pub(crate) fn execute(args: &RunArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let tool = &args.common.tool;
    let single = Single::new(args)?;
    let stop = StopFlag::install().map_err(Failure::environment)?;
    let dir = OutDir::create(&tool.out, &json::render(single.plan()))?;
    let handouts = Handouts::open(&tool.handouts)?;
    let measured = single.measure(&dir, &stop, console)?;
    Ok(handouts.conclude("run", measured, console))
}

/// A run that nothing speaks against, before its load.
pub(crate) struct Single {
    series: Series,
    against: Option<Against>,
    strict: bool,
    on_inconclusive: OnInconclusive,
    metrics: Outlets,
}

impl Single {
    /// Refuses what can be refused before a load.
    pub(crate) fn new(args: &RunArgs) -> Result<Self, Failure> {
        let plan = args.plan(&affinity::allowed())?;
        let tool = &args.common.tool;
        let against = Against::read(&tool.against)?.map(Against::refuse_unreliable).transpose()?;
        let mut series = Series::all(vec![plan])?.pop().expect("one for the plan");
        if let Some(against) = &against {
            series.baseline = against.for_alerts(&series.plan)?;
        }
        let metrics = metrics::asked(tool);
        Ok(Self { series, against, strict: tool.strict, on_inconclusive: tool.on_inconclusive, metrics })
    }

    /// What it will do.
    pub(crate) fn plan(&self) -> &Plan {
        &self.series.plan
    }

    /// Measures, writes the files, prints the page.
    pub(crate) fn measure(
        self,
        dir: &OutDir,
        stop: &StopFlag,
        console: &mut Console<'_>,
    ) -> Result<Measured, Failure> {
        let Self { mut series, against, strict, on_inconclusive, metrics } = self;
        let publisher = metrics::publish(metrics, std::slice::from_mut(&mut series), console)?;
        let host = host::read();
        console.progress(&format!("measuring: {}", series.plan.load_in_words()));
        for round in 0..series.plan.rounds {
            if round > 0 {
                console.progress(&format!("round {} of {}", round + 1, series.plan.rounds));
            }
            series.measure(dir, 0, stop)?;
            if stop.count() > 0 {
                break;
            }
        }
        let rules = gate::rules(&series.plan.sla);
        let created_unix_ms = unix_ms();
        let report = |trial: Option<&Trial>| -> Result<Saved, Failure> {
            let report = Report::new(Inputs {
                plan: &series.plan,
                host: &host,
                rounds: &series.rounds,
                positions: &series.positions,
                rules: &rules,
                logs: series.logs(),
                created_unix_ms,
                complete: series.rounds.len() == series.plan.rounds as usize,
                trial,
            });
            let mut saved = Saved::Report(Box::new(report));
            if let Some(against) = &against {
                let verdicts = against.judge(&saved, saved.verdicts())?;
                saved.adopt(verdicts);
            }
            Ok(saved)
        };
        let mut saved = report(None)?;
        let mut failed = metrics::end(publisher, console);
        failed |= write_failed(dir, saved.file(), &json::render(&saved), console);
        // The prediction is in the file before it is tested.
        if let (Some(intervention), 0) = (proposed(&saved), stop.count()) {
            match confirm::trial(&series, &intervention, dir, stop, console) {
                Ok(trial) => saved = report(Some(&trial))?,
                Err(failure) => {
                    console.warn(&format!("--confirm: {}", failure.message));
                    failed = true;
                }
            }
            failed |= write_failed(dir, saved.file(), &json::render(&saved), console);
        }
        failed |= series.export(dir, console);
        console.print(&text::saved(&saved));
        for report in saved.reports() {
            failed |= environment_failed(report, &series, console) | console.print_failed;
        }
        console.progress(&format!("report: {}", dir.file(saved.file()).display()));
        let judgement = Judgement {
            interrupted: stop.count() > 0,
            environment_failed: failed,
            asked: saved.verdicts().iter().any(|sla| !sla.rules.is_empty()) || strict,
            validity: saved.validity(),
            strict,
            sla: saved.sla_verdict(),
            outputs_differ: false,
            on_inconclusive,
        };
        Ok(Measured { saved, judgement })
    }
}

/// What is to be changed, with `--confirm`.
fn proposed(saved: &Saved) -> Option<Intervention> {
    saved.reports().into_iter().find_map(|report| report.confirmation.as_ref()?.intervention.clone())
}
