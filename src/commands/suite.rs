//! `hairspring suite`: every scenario of a file, one after another and past those that fail, and one report of them all.
//!
//! All that can be refused is refused before the first load: syntax and contradictions of every scenario, the files they name,
//! the flags of their servers. What was run so far is in suite.json at any time.

use std::fmt::Write;

use hairspring::cli::{Measurement, Scenario, SuiteArgs};
use hairspring::engine::Clock;
use hairspring::load::time::Nanos;
use hairspring::output::OutDir;
use hairspring::plan::Plan;
use hairspring::report::{ScenarioReport, SuiteReport, json, junit, markdown, text};
use hairspring::sys::clock;
use hairspring::sys::signal::StopFlag;

use super::compare::Experiment;
use super::handouts::{Form, Handouts};
use super::run::Single;
use super::{Console, Failure, Measured, unix_ms, write_failed};

pub(crate) fn execute(args: &SuiteArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let file = args.file.display();
    let text = std::fs::read_to_string(&args.file)
        .map_err(|error| Failure::environment(format!("cannot read {file}: {error}")))?;
    let suite = args.suite(&text).map_err(|errors| together(errors.into_iter().map(Failure::from)))?;
    let ready = ready(suite.scenarios)?;
    if args.check {
        console.print(&checked(&ready));
        return Ok(0);
    }
    let stop = StopFlag::install().map_err(Failure::environment)?;
    let plans: Vec<Vec<&Plan>> = ready.iter().map(|(_, ready)| ready.plans()).collect();
    let dir = OutDir::create(&suite.out, &json::render(&plans))?;
    let handouts = Handouts::open(&suite.handouts)?;
    let mut report = SuiteReport::new(&suite.name, file.to_string(), unix_ms());
    let (mut codes, mut unwritten, all) = (Vec::new(), false, ready.len());
    for (at, (scenario, ready)) in ready.into_iter().enumerate() {
        console.progress(&format!("scenario {} of {all}: {}", at + 1, scenario.name));
        let outcome = measured(&scenario, ready, &dir, &stop, console);
        codes.extend(outcome.exit_code);
        report.scenarios.push(outcome);
        unwritten |= write_failed(&dir, "suite.json", &json::render(&report), console);
    }
    let interrupted = stop.count() > 0;
    codes.extend(interrupted.then_some(Failure::INTERRUPTED));
    let mut conclude = |unwritten: bool| {
        let unwritten = unwritten.then_some(Failure::ENVIRONMENT);
        report.conclude(
            Failure::gravest(codes.iter().copied().chain(unwritten)),
            interrupted,
            unwritten.is_some(),
        );
        report.clone()
    };
    unwritten |= write_failed(&dir, "suite.json", &json::render(&conclude(unwritten)), console);
    unwritten |= handouts.write(console, |form, failed| {
        let report = conclude(unwritten | failed);
        match form {
            Form::Junit => junit::suite(&report),
            Form::Markdown => markdown::suite(&report),
        }
    });
    console.print(&text::suite(&conclude(unwritten)));
    let report = conclude(unwritten | console.print_failed);
    console.progress(&format!("files: {}", dir.path().display()));
    console.print(&format!("=> {} (exit code {})\n", report.words, report.exit_code));
    Ok(report.exit_code)
}

/// A scenario that nothing speaks against, before its load.
enum Ready {
    Run(Box<Single>),
    Compare(Box<Experiment>),
}

impl Ready {
    fn new(command: &Measurement) -> Result<Self, Failure> {
        Ok(match command {
            Measurement::Run(args) => Self::Run(Box::new(Single::new(args)?)),
            Measurement::Compare(args) => Self::Compare(Box::new(Experiment::new(args)?)),
        })
    }

    fn plans(&self) -> Vec<&Plan> {
        match self {
            Self::Run(run) => vec![run.plan()],
            Self::Compare(experiment) => experiment.plans(),
        }
    }

    fn measure(self, dir: &OutDir, stop: &StopFlag, console: &mut Console<'_>) -> Result<Measured, Failure> {
        match self {
            Self::Run(run) => run.measure(dir, stop, console),
            Self::Compare(experiment) => experiment.measure(dir, stop, console),
        }
    }
}

/// All scenarios, or all that speaks against them.
fn ready(scenarios: Vec<Scenario>) -> Result<Vec<(Scenario, Ready)>, Failure> {
    let (mut all, mut failures) = (Vec::new(), Vec::new());
    for scenario in scenarios {
        match Ready::new(&scenario.command) {
            Ok(ready) => all.push((scenario, ready)),
            Err(Failure { code, message }) => {
                failures.push(Failure { code, message: format!("{}: {message}", scenario.place) });
            }
        }
    }
    if failures.is_empty() { Ok(all) } else { Err(together(failures)) }
}

/// Several failures as one: all that they say, with the gravest code.
fn together(failures: impl IntoIterator<Item = Failure>) -> Failure {
    let failures: Vec<Failure> = failures.into_iter().collect();
    let code = Failure::gravest(failures.iter().map(|failure| failure.code));
    let said: Vec<String> = failures.into_iter().map(|failure| failure.message).collect();
    Failure { code, message: said.join("\nhairspring: ") }
}

/// `--check`: what would be run.
fn checked(ready: &[(Scenario, Ready)]) -> String {
    let mut text = String::new();
    for (scenario, ready) in ready {
        let plans = ready.plans();
        let names: Vec<&str> = plans.iter().map(|plan| plan.target.name.as_str()).collect();
        let (command, load) = (scenario.command.name(), plans[0].load_in_words());
        let _ = writeln!(text, "{}: {command} {}: {load}", scenario.name, names.join(", "));
    }
    text
}

/// Runs one scenario in a folder of its own; its page is `report.txt` there.
fn measured(
    scenario: &Scenario,
    ready: Ready,
    dir: &OutDir,
    stop: &StopFlag,
    console: &mut Console<'_>,
) -> ScenarioReport {
    let entry = ScenarioReport::not_run(&scenario.name, scenario.command.name(), &scenario.argv);
    if stop.count() > 0 {
        return entry;
    }
    let began = clock::Monotonic.now();
    let elapsed = || -> Nanos { clock::Monotonic.now().saturating_sub(began) };
    let own = match OutDir::create(&dir.file(&scenario.name), &json::render(&ready.plans())) {
        Ok(own) => own,
        Err(error) => return entry.failed(Failure::ENVIRONMENT, &error.to_string(), elapsed()),
    };
    let mut page = Vec::new();
    let mut inner = Console {
        out: &mut page,
        err: &mut *console.err,
        interactive: console.interactive,
        print_failed: false,
    };
    let measured = ready.measure(&own, stop, &mut inner).map(|mut measured| {
        // A suite is a judgement, with or without rules.
        measured.judgement.asked |= measured.judgement.convicted();
        measured
    });
    if let Ok(measured) = &measured {
        measured.judgement.conclude(&mut inner);
    }
    let page_missing = write_failed(&own, "report.txt", &page, console);
    match measured {
        Ok(mut measured) => {
            measured.judgement.environment_failed |= page_missing;
            entry.judged(&measured.judged(scenario.command.name(), &measured.saved.verdicts()), elapsed())
        }
        Err(Failure { code, message }) => {
            console.warn(&format!("{}: {message}", scenario.name));
            entry.failed(code, &message, elapsed())
        }
    }
}
