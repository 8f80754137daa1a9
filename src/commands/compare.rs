//! `hairspring compare`: baseline and optimized, or several variants, in rounds, in random order, on fresh servers.

use hairspring::analyze::compare::PairedRound;
use hairspring::analyze::gate;
use hairspring::analyze::paired::{Criteria, Sequential};
use hairspring::cli::{CompareArgs, OnInconclusive};
use hairspring::facts::Host;
use hairspring::load::rng::{Rng, mix};
use hairspring::output::{OutDir, Outlets};
use hairspring::plan::Plan;
use hairspring::report::json::{self, Saved};
use hairspring::report::{Beside, Comparison, Contest, Design, Inputs, Ranking, Report, text};
use hairspring::sys::signal::StopFlag;
use hairspring::sys::{affinity, host};

use super::against::Against;
use super::handouts::Handouts;
use super::{
    Console, Failure, Judgement, Measured, Series, environment_failed, metrics, unix_ms, write_failed,
};

/// The order of rounds is drawn from a stream of its own.
const ORDER_STREAM: u64 = 0x006f_7264_6572;

pub(crate) fn execute(args: &CompareArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let tool = &args.common.tool;
    let experiment = Experiment::new(args)?;
    let stop = StopFlag::install().map_err(Failure::environment)?;
    let dir = OutDir::create(&tool.out, &json::render(&experiment.plans()))?;
    let handouts = Handouts::open(&tool.handouts)?;
    let measured = experiment.measure(&dir, &stop, console)?;
    Ok(handouts.conclude("compare", measured, console))
}

/// A comparison that nothing speaks against.
pub(crate) struct Experiment {
    /// Baseline and optimized, or the variants.
    sides: Vec<Series>,
    /// `--aa`: the last of `sides` is the first once more.
    aa: bool,
    order: Vec<Vec<String>>,
    /// Of each side but the first.
    beside: Vec<Beside>,
    host: Host,
    ignore_output: bool,
    criteria: Criteria,
    sequential: Option<Sequential>,
    /// Variants are ranked; baseline and optimized are not.
    contest: Option<Contest>,
    against: Option<Against>,
    strict: bool,
    on_inconclusive: OnInconclusive,
    metrics: Outlets,
}

impl Experiment {
    /// Refuses what can be refused before a load.
    pub(crate) fn new(args: &CompareArgs) -> Result<Self, Failure> {
        let tool = &args.common.tool;
        let against = Against::read(&tool.against)?.map(Against::refuse_unreliable).transpose()?;
        let mut plans = args.plans(&affinity::allowed())?;
        let (criteria, sequential) = args.criteria(&plans[0]);
        let variants = args.variants();
        let contest = (!variants.is_empty()).then(|| Contest {
            figure: args.figure(&plans[0]),
            judged: args.judged(),
            flags: variants.into_iter().map(|variant| variant.flags).collect(),
        });
        let beside = vec![Beside::default(); plans.len() - 1];
        if args.aa {
            let mut again = plans[0].clone();
            again.target.name += "-again";
            plans.push(again);
        }
        let mut sides = Series::all(plans)?;
        for side in sides.iter_mut().filter(|side| is_judged(&side.plan.target.name, contest.as_ref())) {
            if let Some(against) = &against {
                side.baseline = against.for_alerts(&side.plan)?;
            }
        }
        Ok(Self {
            sides,
            aa: args.aa,
            order: Vec::new(),
            beside,
            host: host::read(),
            ignore_output: args.ignore_output,
            criteria,
            sequential,
            contest,
            against,
            strict: tool.strict,
            on_inconclusive: tool.on_inconclusive,
            metrics: metrics::asked(tool),
        })
    }

    /// Two plans and nothing to judge: the plan of a run, and what an intervention makes of it.
    pub(super) fn between(as_it_was: Plan, changed: Plan) -> Result<Self, Failure> {
        Ok(Self {
            sides: Series::all(vec![as_it_was, changed])?,
            aa: false,
            order: Vec::new(),
            beside: vec![Beside::default()],
            host: host::read(),
            ignore_output: true,
            criteria: Criteria::default(),
            sequential: None,
            contest: None,
            against: None,
            strict: false,
            on_inconclusive: OnInconclusive::Say,
            metrics: Outlets::default(),
        })
    }

    /// What it will do, of each side.
    pub(crate) fn plans(&self) -> Vec<&Plan> {
        self.sides.iter().map(|side| &side.plan).collect()
    }

    /// Measures round by round, writes the files, prints the page.
    pub(crate) fn measure(
        mut self,
        dir: &OutDir,
        stop: &StopFlag,
        console: &mut Console<'_>,
    ) -> Result<Measured, Failure> {
        let publisher = metrics::publish(std::mem::take(&mut self.metrics), &mut self.sides, console)?;
        let rounds = self.sides[0].plan.rounds;
        let (mut last, mut unwritten) = (None, false);
        for round in 0..rounds {
            let began = self.round(round, dir, stop, console);
            // What was measured so far is in the files, whatever became of this round.
            let mut result = self.report(rounds, stop.count() > 0)?;
            let enough = self.enough(&result);
            if enough {
                result = self.report(round + 1, stop.count() > 0)?;
            }
            unwritten = write_failed(dir, result.file(), &json::render(&result), console);
            for side in &self.sides {
                unwritten |= side.export(dir, console);
            }
            last = Some(result);
            if let Err(failure) = began {
                if self.sides.iter().any(|side| !side.rounds.is_empty()) {
                    console.print(&text::saved(last.as_ref().expect("just made")));
                }
                return Err(failure);
            }
            if stop.count() > 0 || enough {
                break;
            }
        }
        let result = last.expect("there is at least one round");
        console.print(&text::saved(&result));
        console.progress(&format!("files: {}", dir.path().display()));
        let mut failed = metrics::end(publisher, console) | unwritten | console.print_failed;
        let again = result.noise().map(|noise| noise.again.as_ref());
        for (report, series) in result.reports().into_iter().chain(again).zip(&self.sides) {
            failed |= environment_failed(report, series, console);
        }
        let judgement = Judgement {
            interrupted: stop.count() > 0,
            environment_failed: failed,
            asked: true,
            validity: result.validity(),
            strict: self.strict,
            sla: result.sla_verdict(),
            outputs_differ: result.outputs_identical() == Some(false),
            on_inconclusive: self.on_inconclusive,
        };
        Ok(Measured { saved: result, judgement })
    }

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
            let first = digests(&self.sides[0]);
            for (beside, side) in self.beside.iter_mut().zip(&self.sides[1..]) {
                let other = digests(side);
                beside.outputs.add(round, &first, &other);
                beside.paired.extend(PairedRound::of(&first, &other));
            }
        }
        Ok(())
    }

    /// With `--until`: the intervals are narrow, or there have been rounds enough.
    fn enough(&self, result: &Saved) -> bool {
        let rounds = self.order.len() as u32;
        self.sequential.as_ref().is_some_and(|rule| match result {
            Saved::Report(_) => true,
            Saved::Comparison(comparison) => rule.stop(rounds, &comparison.effects),
            Saved::Ranking(ranking) => ranking.pairs.iter().all(|pair| {
                let effects = pair.effects.iter();
                let effects = effects.map(|(figure, one)| (figure.clone(), one.effect.clone()));
                rule.stop(rounds, &effects.collect())
            }),
        })
    }

    /// Of what there is; partial if that is less than `rounds` on any side.
    fn report(&self, rounds: u32, interrupted: bool) -> Result<Saved, Failure> {
        let complete = !interrupted && self.sides.iter().all(|side| side.rounds.len() as u32 == rounds);
        let created_unix_ms = unix_ms();
        let report = |series: &Series| {
            Report::new(Inputs {
                plan: &series.plan,
                host: &self.host,
                rounds: &series.rounds,
                positions: &series.positions,
                rules: &gate::rules(&series.plan.sla),
                logs: series.logs(),
                created_unix_ms,
                complete,
                trial: None,
            })
        };
        let mut reports: Vec<Report> = self.sides.iter().map(report).collect();
        let again = if self.aa { reports.pop() } else { None };
        let design = Design {
            order: self.order.clone(),
            beside: self.beside.clone(),
            ignore_output: self.ignore_output,
            criteria: self.criteria,
            again,
            sequential: self.sequential.clone(),
        };
        let mut result = match &self.contest {
            Some(contest) => Saved::Ranking(Box::new(Ranking::new(reports, contest, design))),
            None => {
                let [baseline, optimized] = reports.try_into().expect("there are two sides");
                Saved::Comparison(Box::new(Comparison::new(baseline, optimized, design)))
            }
        };
        if let Some(against) = &self.against {
            let verdicts = against.judge(&result, result.verdicts())?;
            result.adopt(verdicts);
        }
        Ok(result)
    }
}

/// Whether the gate judges this side.
fn is_judged(name: &str, contest: Option<&Contest>) -> bool {
    contest.map_or(name == "optimized", |contest| contest.judged.iter().any(|judged| judged == name))
}

/// The numbers below `n` in random order.
fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    Rng::new(seed).shuffle(&mut order);
    order
}
