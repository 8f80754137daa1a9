//! `hairspring compare`: baseline and optimized in rounds, in random order, on fresh servers.

use hairspring::analyze::compare::{Outputs, PairedRound};
use hairspring::analyze::gate::{Rule, SlaVerdict};
use hairspring::analyze::paired::{Criteria, Sequential};
use hairspring::cli::CompareArgs;
use hairspring::facts::Host;
use hairspring::load::rng::{Rng, mix};
use hairspring::output::OutDir;
use hairspring::report::{Comparison, Design, Inputs, Report, Subject, json, text};
use hairspring::sys::signal::StopFlag;
use hairspring::sys::{affinity, host};

use super::against::Against;
use super::handouts::Handouts;
use super::{Console, Failure, Judgement, Series, environment_failed, unix_ms, write_failed};

/// The order of rounds is drawn from a stream of its own.
const ORDER_STREAM: u64 = 0x006f_7264_6572;

pub(crate) fn execute(args: &CompareArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let plans = args.plans(&affinity::allowed())?;
    let (criteria, sequential) = args.criteria(&plans[0]);
    let mut plans = plans.to_vec();
    if args.aa {
        let mut again = plans[0].clone();
        "baseline-again".clone_into(&mut again.target.name);
        plans.push(again);
    }
    let tool = &args.common.tool;
    let against = Against::read(&tool.against)?.map(Against::refuse_unreliable).transpose()?;
    let mut experiment = Experiment {
        sides: Series::all(plans)?,
        order: Vec::new(),
        outputs: Outputs::default(),
        paired: Vec::new(),
        host: host::read(),
        ignore_output: args.ignore_output,
        criteria,
        sequential,
        against,
    };
    let stop = StopFlag::install().map_err(Failure::environment)?;
    let dir = OutDir::create(
        &tool.out,
        &json::render(&experiment.sides.iter().map(|side| &side.plan).collect::<Vec<_>>()),
    )?;
    let handouts = Handouts::open(&tool.handouts)?;
    let rounds = experiment.sides[0].plan.rounds;
    let (mut last, mut unwritten) = (None, false);
    for round in 0..rounds {
        let began = experiment.round(round, &dir, &stop, console);
        // What was measured so far is in the files, whatever became of this round.
        let mut comparison = experiment.report(rounds, stop.count() > 0)?;
        let enough = experiment.enough(&comparison);
        if enough {
            comparison = experiment.report(round + 1, stop.count() > 0)?;
        }
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
        if stop.count() > 0 || enough {
            break;
        }
    }
    let comparison = last.expect("there is at least one round");
    console.print(&text::comparison(&comparison));
    console.progress(&format!("files: {}", dir.path().display()));
    let again = comparison.noise.as_ref().map(|noise| noise.again.as_ref());
    let reports = [&comparison.baseline, &comparison.optimized].into_iter().chain(again);
    let mut failed = unwritten | console.print_failed;
    for (report, series) in reports.zip(&experiment.sides) {
        failed |= environment_failed(report, series, console);
    }
    let judgement = Judgement {
        interrupted: stop.count() > 0,
        environment_failed: failed,
        asked: true,
        validity: comparison.validity,
        strict: tool.strict,
        sla: comparison.sla.verdict,
        outputs_differ: comparison.outputs_identical == Some(false),
        on_inconclusive: tool.on_inconclusive,
    };
    Ok(handouts.conclude("compare", Subject::Comparison(&comparison), &comparison.sla, judgement, console))
}

struct Experiment {
    /// Baseline, optimized, and with `--aa` the baseline again.
    sides: Vec<Series>,
    order: Vec<Vec<String>>,
    outputs: Outputs,
    paired: Vec<PairedRound>,
    host: Host,
    ignore_output: bool,
    criteria: Criteria,
    sequential: Option<Sequential>,
    against: Option<Against>,
}

impl Experiment {
    /// Measures every side once, in an order drawn from the seed.
    fn round(
        &mut self,
        round: u32,
        dir: &OutDir,
        stop: &StopFlag,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        let plan = &self.sides[0].plan;
        let rounds = plan.rounds;
        let order = shuffled(self.sides.len(), mix(plan.seed ^ ORDER_STREAM, u64::from(round)));
        self.order.push(order.iter().map(|&side| self.sides[side].plan.target.name.clone()).collect());
        for (position, side) in order.into_iter().enumerate() {
            let series = &mut self.sides[side];
            let most = if self.sequential.is_some() { "at most " } else { "" };
            console.progress(&format!("round {} of {most}{rounds}: {}", round + 1, series.plan.target.name));
            series.measure(dir, position as u32, stop)?;
            if stop.count() > 0 {
                return Ok(());
            }
        }
        let digests =
            |side: &Series| side.rounds.last().map(|r| r.recorded.digests.clone()).unwrap_or_default();
        if !self.ignore_output {
            let [baseline, optimized] = [0, 1].map(|side| digests(&self.sides[side]));
            self.outputs.add(round, &baseline, &optimized);
            self.paired.extend(PairedRound::of(&baseline, &optimized));
        }
        Ok(())
    }

    /// With `--until`: the intervals are narrow, or there have been rounds enough.
    fn enough(&self, comparison: &Comparison) -> bool {
        let rounds = self.order.len() as u32;
        self.sequential.as_ref().is_some_and(|rule| rule.stop(rounds, &comparison.effects))
    }

    /// Of what there is; partial if that is less than `rounds` on any side.
    fn report(&self, rounds: u32, interrupted: bool) -> Result<Comparison, Failure> {
        let complete = !interrupted && self.sides.iter().all(|side| side.rounds.len() as u32 == rounds);
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
        let design = Design {
            order: self.order.clone(),
            outputs: self.outputs.clone(),
            ignore_output: self.ignore_output,
            criteria: self.criteria,
            paired: self.paired.clone(),
            again: self.sides.get(2).map(report),
            sequential: self.sequential.clone(),
        };
        let mut comparison = Comparison::new(report(&self.sides[0]), report(&self.sides[1]), design);
        if let Some(against) = &self.against {
            comparison.sla = against.judge(Subject::Comparison(&comparison), comparison.sla.clone())?;
            comparison.sla_met = comparison.sla.verdict == SlaVerdict::Met;
        }
        Ok(comparison)
    }
}

/// The numbers below `n` in random order (Fisher and Yates).
fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut rng = Rng::new(seed);
    for at in (1..n).rev() {
        order.swap(at, (rng.next_u64() % (at as u64 + 1)) as usize);
    }
    order
}
