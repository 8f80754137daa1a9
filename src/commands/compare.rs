//! `hairspring compare`: baseline and optimized in rounds, in random order, on fresh servers.

use hairspring::analyze::compare::Outputs;
use hairspring::analyze::gate::Rule;
use hairspring::cli::CompareArgs;
use hairspring::facts::Host;
use hairspring::load::rng::{Rng, mix};
use hairspring::output::OutDir;
use hairspring::report::{Comparison, Inputs, Report, json, text};
use hairspring::sys::signal::StopFlag;
use hairspring::sys::{affinity, host};

use super::{Console, Failure, Judgement, Series, environment_failed, unix_ms, write_failed};

/// The order of rounds is drawn from a stream of its own.
const ORDER_STREAM: u64 = 0x006f_7264_6572;

pub(crate) fn execute(args: &CompareArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let plans = args.plans(&affinity::allowed())?;
    let mut experiment = Experiment {
        sides: Series::all(plans)?,
        order: Vec::new(),
        outputs: Outputs::default(),
        host: host::read(),
        ignore_output: args.ignore_output,
    };
    let stop = StopFlag::install().map_err(Failure::environment)?;
    let dir = OutDir::create(
        &args.common.tool.out,
        &json::render(&experiment.sides.each_ref().map(|side| &side.plan)),
    )?;
    let rounds = experiment.sides[0].plan.rounds;
    let (mut last, mut unwritten) = (None, false);
    for round in 0..rounds {
        let began = experiment.round(round, &dir, &stop, console);
        // What was measured so far is in the files, whatever became of this round.
        let whole = experiment.sides.iter().all(|side| side.rounds.len() as u32 == rounds);
        let complete = whole && stop.count() == 0;
        let comparison = experiment.report(complete);
        unwritten = write_failed(&dir, "comparison.json", &json::render(&comparison), console);
        for side in &experiment.sides {
            unwritten |= side.export(&dir, console);
        }
        last = Some(comparison);
        if let Err(failure) = began {
            if experiment.sides.iter().any(|side| !side.rounds.is_empty()) {
                console.print(&text::comparison(last.as_ref().expect("just made")));
            }
            return Err(failure);
        }
        if stop.count() > 0 {
            break;
        }
    }
    let comparison = last.expect("there is at least one round");
    console.print(&text::comparison(&comparison));
    console.progress(&format!("files: {}", dir.path().display()));
    let reports = [&comparison.baseline, &comparison.optimized];
    let mut failed = unwritten | console.print_failed;
    for (report, series) in reports.into_iter().zip(&experiment.sides) {
        failed |= environment_failed(report, series, console);
    }
    let judgement = Judgement {
        interrupted: stop.count() > 0,
        environment_failed: failed,
        asked: true,
        validity: comparison.validity,
        strict: args.common.tool.strict,
        sla: comparison.sla.verdict,
        outputs_differ: comparison.outputs_identical == Some(false),
        on_inconclusive: args.common.tool.on_inconclusive,
    };
    Ok(judgement.conclude(console))
}

struct Experiment {
    sides: [Series; 2],
    order: Vec<[String; 2]>,
    outputs: Outputs,
    host: Host,
    ignore_output: bool,
}

impl Experiment {
    /// Measures both sides once, in an order drawn from the seed.
    fn round(
        &mut self,
        round: u32,
        dir: &OutDir,
        stop: &StopFlag,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        let plan = &self.sides[0].plan;
        let rounds = plan.rounds;
        let first = (Rng::new(mix(plan.seed ^ ORDER_STREAM, u64::from(round))).next_u64() & 1) as usize;
        let order = [first, 1 - first];
        self.order.push(order.map(|side| self.sides[side].plan.target.name.clone()));
        for (position, side) in order.into_iter().enumerate() {
            let series = &mut self.sides[side];
            console.progress(&format!("round {} of {rounds}: {}", round + 1, series.plan.target.name));
            series.measure(dir, position as u32, stop)?;
            if stop.count() > 0 {
                return Ok(());
            }
        }
        let [baseline, optimized] = &self.sides;
        let digests =
            |side: &Series| side.rounds.last().map(|r| r.recorded.digests.clone()).unwrap_or_default();
        if !self.ignore_output {
            self.outputs.add(round, &digests(baseline), &digests(optimized));
        }
        Ok(())
    }

    fn report(&self, complete: bool) -> Comparison {
        let [baseline, optimized] = &self.sides;
        let created_unix_ms = unix_ms();
        let report = |series: &Series| {
            let rules: Vec<Rule> = series.plan.sla.iter().filter_map(|text| text.parse().ok()).collect();
            Report::new(Inputs {
                plan: &series.plan,
                host: &self.host,
                rounds: &series.rounds,
                positions: &series.positions,
                rules: &rules,
                logs: series.logs(),
                created_unix_ms,
                complete,
            })
        };
        Comparison::new(
            report(baseline),
            report(optimized),
            self.order.clone(),
            self.outputs.clone(),
            self.ignore_output,
        )
    }
}
