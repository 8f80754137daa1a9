//! `hairspring capacity`: probes at rates that the search chooses, and what they came to.

use std::time::Instant;

use hairspring::analyze::capacity::{Outcome, Probe, Purpose, Search, Settings, StoppedBy, per_s};
use hairspring::analyze::gate::{self, Rule};
use hairspring::cli::{CapacityArgs, OnInconclusive};
use hairspring::load::rng::mix;
use hairspring::load::schedule::{Extent, Load, Rate};
use hairspring::load::time::Nanos;
use hairspring::output::OutDir;
use hairspring::plan::{Plan, Server};
use hairspring::report::capacity::{Capacity, Finding, Findings, Point, Sweep, add_point};
use hairspring::report::{json, text};
use hairspring::run::Served;
use hairspring::sys::signal::StopFlag;
use hairspring::sys::{affinity, host};

use super::{Console, Failure, Series, unix_ms, write_failed};

/// Seeds of the probes are drawn from a stream of their own.
const PROBE_STREAM: u64 = 0x0070_726f_6265;
/// The rates of a sweep, as shares of the highest that met the SLA.
const SWEEP: [f64; 7] = [0.25, 0.5, 0.7, 0.85, 1.0, 1.15, 1.3];
/// Requests of a step of a sweep, in those of a first look.
const SWEEP_LOOKS: u64 = 3;

pub(crate) fn execute(args: &CapacityArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let (plan, settings) = args.plan(&affinity::allowed())?;
    let template = Series::all(vec![plan])?.pop().expect("one for the plan").plan;
    let stop = StopFlag::install().map_err(Failure::environment)?;
    let dir = OutDir::create(&args.common.tool.out, &json::render(&template))?;
    let mut study = Study {
        rules: gate::rules(&template.sla),
        strict: args.common.tool.strict,
        findings: Findings {
            host: host::read(),
            precision: settings.precision,
            budget: settings.budget,
            probes: Vec::new(),
            curve: Vec::new(),
            sweep: None,
            plan: template,
        },
        series: None,
        failures: Vec::new(),
        dir,
        stop,
    };
    let mut search = Search::new(settings.clone());
    let searched = study.search(&mut search, console);
    let outcome = search.outcome();
    let swept = match (&searched, outcome.low) {
        (Ok(()), Some(rate)) if args.sweep && study.may_sweep(outcome) => {
            study.sweep(rate, &settings, console)
        }
        _ => Ok(()),
    };
    study.conclude(outcome, searched.and(swept), args.common.tool.on_inconclusive, console)
}

/// The probes so far, and what they are made with.
struct Study {
    rules: Vec<Rule>,
    strict: bool,
    findings: Findings,
    /// The rate under test, with its looks.
    series: Option<(Rate, Purpose, Series)>,
    failures: Vec<String>,
    dir: OutDir,
    stop: StopFlag,
}

impl Study {
    fn search(&mut self, search: &mut Search, console: &mut Console<'_>) -> Result<(), Failure> {
        while let Some(probe) = search.probe() {
            let plan = self.findings.plan.clone();
            let Some((finding, took)) = self.measure(&plan, probe, console)? else { return Ok(()) };
            if self.findings.probes.len() == 1 && !finding.answered {
                return Err(Failure::environment(
                    "no request of the first probe completed; is the server there?",
                ));
            }
            search.tell(finding.answer, took);
            if let Some(point) = finding.point {
                add_point(&mut self.findings.curve, point);
            }
        }
        Ok(())
    }

    /// One probe of `plan`; none when the user stopped it.
    fn measure(
        &mut self,
        plan: &Plan,
        probe: Probe,
        console: &mut Console<'_>,
    ) -> Result<Option<(Finding, Nanos)>, Failure> {
        let number = self.findings.probes.len() as u64;
        console.progress(&format!(
            "probe {}: {:.1}/s, {} requests",
            number + 1,
            per_s(probe.rate),
            probe.requests
        ));
        let began = Instant::now();
        let (_, _, series) = match self.series.take() {
            Some(same) if probe.look > 1 && (same.0, same.1) == (probe.rate, probe.purpose) => {
                self.series.insert(same)
            }
            _ => {
                let plan = plan_of(plan, &probe, number);
                let series = Series::all(vec![plan])?.pop().expect("one for the plan");
                self.series.insert((probe.rate, probe.purpose, series))
            }
        };
        series.plan.measure = Extent { count: Some(probe.requests), time: Some(probe.cut()) };
        series.plan.warmup = Extent { count: None, time: Some(probe.warmup) };
        series.measure(&self.dir, 0, &self.stop)?;
        self.failures.append(&mut series.failures);
        if self.stop.count() > 0 {
            return Ok(None);
        }
        let took = Nanos(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let (host, strict) = (&self.findings.host, self.strict);
        let finding = Finding::of(&probe, &series.plan, host, &series.rounds, &self.rules, strict, took);
        if finding.point.is_none() {
            series.rounds.pop();
            series.positions.pop();
        }
        self.findings.probes.push(finding.row.clone());
        Ok(Some((finding, took)))
    }

    /// A client that is the limit, and a server that failed, have nothing to be swept.
    fn may_sweep(&self, outcome: Outcome) -> bool {
        self.stop.count() == 0 && outcome.stopped_by != StoppedBy::Client && self.failures.is_empty()
    }

    /// Rates around `rate`, upward and downward, on one server.
    fn sweep(&mut self, rate: Rate, settings: &Settings, console: &mut Console<'_>) -> Result<(), Failure> {
        let template = self.findings.plan.clone();
        let series = Series::all(vec![template.clone()])?.pop().expect("one for the plan");
        let output = self.dir.file("sweep.server.txt");
        let served = Served::start(&template, &series.addresses, &output, &self.stop)?;
        let plan = served.plan(&template);
        let rates = SWEEP.map(|share| Rate { milli_per_s: (rate.milli_per_s as f64 * share) as u64 + 1 });
        let ways = [(Purpose::Up, rates.to_vec()), (Purpose::Down, rates.into_iter().rev().collect())];
        let mut points: [Vec<Point>; 2] = Default::default();
        let mut measured = Ok(());
        'ways: for ((purpose, rates), points) in ways.into_iter().zip(&mut points) {
            for rate in rates {
                let requests = SWEEP_LOOKS * settings.requests.max((per_s(rate) / 4.0) as u64);
                let probe = Probe::alone(rate, requests, settings.warmup, purpose);
                match self.measure(&plan, probe, console) {
                    Ok(Some((finding, _))) => points.extend(finding.point),
                    Ok(None) => break 'ways,
                    Err(failure) => {
                        measured = Err(failure);
                        break 'ways;
                    }
                }
            }
        }
        self.findings.sweep = Some(Sweep::of(&points[0], &points[1]));
        self.failures.extend(served.stop(&self.stop)?);
        measured
    }

    /// Writes and prints what there is, whatever ended it.
    fn conclude(
        self,
        mut outcome: Outcome,
        ended: Result<(), Failure>,
        on_inconclusive: OnInconclusive,
        console: &mut Console<'_>,
    ) -> Result<u8, Failure> {
        let interrupted = self.stop.count() > 0;
        if interrupted && outcome.capacity.is_none() {
            outcome.stopped_by = StoppedBy::Interrupt;
        }
        let capacity = Capacity::new(&self.findings, outcome, interrupted || ended.is_err(), unix_ms());
        let unwritten = write_failed(&self.dir, "capacity.json", &json::render(&capacity), console);
        if !self.findings.probes.is_empty() {
            console.print(&text::capacity(&capacity));
        }
        self.failures.iter().for_each(|failure| console.warn(failure));
        ended?;
        let failed = unwritten || console.print_failed || !self.failures.is_empty();
        let code = exit_code(&outcome, interrupted, failed, on_inconclusive);
        console.print(&format!("=> {} (exit code {code})\n", in_words(code)));
        Ok(code)
    }
}

/// The plan of one probe; its seeds are its own.
fn plan_of(plan: &Plan, probe: &Probe, number: u64) -> Plan {
    let mut plan = plan.clone();
    plan.load = match plan.load {
        Load::Constant { .. } => Load::Constant { rate: probe.rate },
        _ => Load::Poisson { rate: probe.rate },
    };
    plan.seed = mix(plan.seed ^ PROBE_STREAM, number);
    if let Server::Stub(stub) = &mut plan.target.server {
        stub.work_seed = mix(stub.work_seed ^ PROBE_STREAM, number);
    }
    plan
}

/// Precedence: 130 > 1 > 3 > 2 > 4 > 0.
fn exit_code(outcome: &Outcome, interrupted: bool, failed: bool, on_inconclusive: OnInconclusive) -> u8 {
    match (outcome.stopped_by, outcome.capacity) {
        _ if interrupted => Failure::INTERRUPTED,
        _ if failed => Failure::ENVIRONMENT,
        (StoppedBy::Client, _) => Failure::INVALID,
        (StoppedBy::Server | StoppedBy::Errors, Some(_)) => 0,
        (StoppedBy::Server | StoppedBy::Errors, None) if outcome.high.is_some() => Failure::NOT_MET,
        _ => match on_inconclusive {
            OnInconclusive::Say => Failure::INCONCLUSIVE,
            OnInconclusive::Fail => Failure::NOT_MET,
            OnInconclusive::Pass => 0,
        },
    }
}

fn in_words(code: u8) -> &'static str {
    match code {
        0 => "FOUND",
        Failure::ENVIRONMENT => "FAIL: the environment failed",
        Failure::NOT_MET => "FAIL: no rate was shown to meet the SLA",
        Failure::INVALID => "NO CAPACITY: the client is the limit",
        Failure::INCONCLUSIVE => "INCONCLUSIVE: the budget ended before it was found and confirmed",
        _ => "NO VERDICT: interrupted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_has_its_cause() {
        let rate = Some(Rate { milli_per_s: 1_000 });
        let found = Outcome { capacity: rate, low: rate, high: rate, stopped_by: StoppedBy::Server };
        let by = |stopped_by| Outcome { capacity: None, stopped_by, ..found };
        let say = OnInconclusive::Say;
        for (outcome, code) in [
            (found, 0),
            (Outcome { stopped_by: StoppedBy::Errors, ..found }, 0),
            (by(StoppedBy::Server), 2),
            (Outcome { high: None, ..by(StoppedBy::Server) }, 4),
            (by(StoppedBy::Client), 3),
            (by(StoppedBy::Budget), 4),
            (Outcome { stopped_by: StoppedBy::Budget, ..found }, 4),
        ] {
            assert_eq!(exit_code(&outcome, false, false, say), code, "{outcome:?}");
            assert_eq!(exit_code(&outcome, true, true, say), 130);
            assert_eq!(exit_code(&outcome, false, true, say), 1);
        }
        assert_eq!(exit_code(&by(StoppedBy::Budget), false, false, OnInconclusive::Fail), 2);
        assert_eq!(exit_code(&by(StoppedBy::Budget), false, false, OnInconclusive::Pass), 0);
    }
}
