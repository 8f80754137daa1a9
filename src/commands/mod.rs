//! The commands: each turns its arguments into a plan, runs it, writes its files and decides the exit code.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use hairspring::analyze::alerts::{self, Baseline};
use hairspring::analyze::gate::SlaVerdict;
use hairspring::analyze::validity::Verdict;
use hairspring::cli::{CliError, OnInconclusive};
use hairspring::facts::Round;
use hairspring::facts::live::Live;
use hairspring::output::{AlertHook, AlertPort, AlertSource, LogWriter, OutDir, OutputError};
use hairspring::plan::{Material, Plan, Server};
use hairspring::record::Distribution;
use hairspring::report::csv::RowContext;
use hairspring::report::hdr;
use hairspring::report::json::Saved;
use hairspring::report::{LogFile, Report};
use hairspring::run::{self as measuring, Outlets, RunError};
use hairspring::sys::clock;
use hairspring::sys::server::ServerError;
use hairspring::sys::signal::StopFlag;

mod against;
pub(crate) mod capacity;
pub(crate) mod compare;
mod confirm;
pub(crate) mod gate;
mod handouts;
mod material;
mod metrics;
pub(crate) mod presets;
pub(crate) mod run;
pub(crate) mod suite;
pub(crate) mod trend;

/// Why a command ends without a judgement.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) const ENVIRONMENT: u8 = 1;
    pub(crate) const NOT_MET: u8 = 2;
    pub(crate) const INVALID: u8 = 3;
    pub(crate) const INCONCLUSIVE: u8 = 4;
    pub(crate) const USAGE: u8 = 64;
    pub(crate) const INTERRUPTED: u8 = 130;

    pub(crate) fn environment(message: impl ToString) -> Self {
        Self { code: Self::ENVIRONMENT, message: message.to_string() }
    }

    /// The exit code that wins over the others; 0 of none.
    pub(crate) fn gravest(codes: impl IntoIterator<Item = u8>) -> u8 {
        const ASCENDING: [u8; 6] = [
            Failure::INCONCLUSIVE,
            Failure::NOT_MET,
            Failure::INVALID,
            Failure::ENVIRONMENT,
            Failure::USAGE,
            Failure::INTERRUPTED,
        ];
        let gravity = |code: &u8| ASCENDING.iter().position(|known| known == code);
        codes.into_iter().max_by_key(gravity).unwrap_or(0)
    }
}

impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        let code = if matches!(error, CliError::Usage(_)) { Self::USAGE } else { Self::ENVIRONMENT };
        Self { code, message: error.to_string() }
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        Self::environment(error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let code = match &error {
            RunError::Server(ServerError::Cancelled { .. }) => Self::INTERRUPTED,
            _ => Self::ENVIRONMENT,
        };
        Self { code, message: error.to_string() }
    }
}

/// Where a command speaks.
pub(crate) struct Console<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) err: &'a mut dyn Write,
    /// Standard error is a terminal: somebody is waiting and wants to know.
    pub(crate) interactive: bool,
    /// Standard output did not take a result.
    pub(crate) print_failed: bool,
}

impl Console<'_> {
    /// The result. A reader that went away is no failure; anything else that keeps it from being written is.
    pub(crate) fn print(&mut self, text: &str) {
        if let Err(error) = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush())
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            self.warn(&format!("cannot write to standard output: {error}"));
            self.print_failed = true;
        }
    }

    pub(crate) fn warn(&mut self, text: &str) {
        let _ = writeln!(self.err, "hairspring: {text}");
    }

    pub(crate) fn progress(&mut self, text: &str) {
        if self.interactive {
            let _ = writeln!(self.err, "{text}");
        }
    }
}

/// One target over the rounds of a command.
pub(crate) struct Series {
    pub(crate) plan: Plan,
    pub(crate) rounds: Vec<Round>,
    pub(crate) positions: Vec<u32>,
    addresses: Vec<SocketAddr>,
    material: Material,
    log: LogFile,
    failures: Vec<String>,
    /// What its alerts compare with; none: its own start.
    pub(crate) baseline: Baseline,
    /// Who is told while it is measured.
    live: Option<Arc<Live>>,
}

impl Series {
    /// One for each of `plans`: reads what they name, and lets the stub check its flags: the last refusals before anything
    /// is written.
    pub(crate) fn all(plans: Vec<Plan>) -> Result<Vec<Self>, Failure> {
        material::read(plans)?.into_iter().map(|(plan, material)| Self::new(plan, material)).collect()
    }

    fn new(plan: Plan, material: Material) -> Result<Self, Failure> {
        if let Server::Stub(stub) = &plan.target.server {
            check_stub_flags(&measuring::stub_args(stub, &plan.target.name, 0))?;
        }
        let file =
            format!("{}.csv", if plan.target.name == "target" { "requests" } else { &plan.target.name });
        Ok(Self {
            addresses: measuring::look_up(&plan)?,
            failures: Vec::new(),
            baseline: Baseline::default(),
            live: None,
            log: LogFile { file, rows: 0, lost: 0, error: None },
            plan,
            rounds: Vec::new(),
            positions: Vec::new(),
            material,
        })
    }

    /// Measures one more round. Its rows are in the log afterwards, also when it failed.
    pub(crate) fn measure(&mut self, dir: &OutDir, position: u32, stop: &StopFlag) -> Result<(), Failure> {
        let index = self.rounds.len() as u32;
        let context = RowContext { round: index, wall_offset: clock::wall_offset() };
        let threads = self.plan.client.cpus.len();
        let (writer, ports) = match self.plan.log {
            true => {
                let rows = self.plan.measure.count;
                let beside = &self.plan.client.helpers.cpus;
                let (writer, ports) = LogWriter::start(dir, &self.log.file, context, threads, rows, beside)
                    .map_err(|error| {
                    Failure::environment(format!("the log's thread cannot be started: {error}"))
                })?;
                (Some(writer), ports)
            }
            false => (None, Vec::new()),
        };
        let output = dir.file(&format!("{}.server.txt", self.plan.target.name));
        let hook = self.hook(dir, index);
        let alert = |alert: &_| hook.iter().for_each(|(_, port)| port.tell(alert));
        let live = self.live.as_ref();
        let outlets = Outlets { logs: ports, server_output: &output, live, alert: &alert };
        let mut result = measuring::round(&self.plan, index, &self.addresses, &self.material, outlets, stop);
        if let Some(writer) = writer {
            let (outcome, helper) = writer.finish();
            self.log.rows += outcome.rows;
            self.log.lost += outcome.lost;
            self.log.error = self.log.error.take().or(outcome.error);
            if let Ok(round) = &mut result {
                round.helpers.push(helper);
            }
        }
        self.raise(result.as_mut().ok(), hook, stop);
        let round = result?;
        self.failures.extend(round.server_failure.clone());
        self.failures.extend(round.threads.iter().filter_map(|thread| {
            let failure = thread.failure.as_ref()?;
            Some(format!(
                "the engine of the client thread on processor {} failed ({failure}): what it had measured until then is in the report; try the other --engine",
                thread.cpu
            ))
        }));
        self.log.lost += round.recorded.log_lost;
        self.rounds.push(round);
        self.positions.push(position);
        Ok(())
    }

    /// Who runs `--on-alert` in a round.
    fn hook(&self, dir: &OutDir, round: u32) -> Option<(AlertHook, AlertPort)> {
        let command = self.plan.alerts.command.as_ref()?;
        let source = AlertSource { target: self.plan.target.name.clone(), round };
        Some(AlertHook::start(command, source, dir, &self.plan.client.helpers.cpus))
    }

    /// The alerts of a round that is over; those who were told have ended then.
    fn raise(&self, mut round: Option<&mut Round>, hook: Option<(AlertHook, AlertPort)>, stop: &StopFlag) {
        if let Some(round) = &mut round {
            round.alerts = alerts::of_round(&self.plan, round, &self.baseline);
        }
        let Some((hook, port)) = hook else { return };
        let found = round.iter().flat_map(|round| &round.alerts.found);
        found.filter(|alert| !alert.live).for_each(|alert| port.tell(alert));
        let (commands, helper) = hook.finish(port, || stop.count() >= 2);
        if let Some(round) = round {
            round.alerts.commands = Some(commands);
            round.helpers.push(helper);
        }
    }

    /// Writes the distribution of response times in HdrHistogram's formats. True if a file could not be written.
    pub(crate) fn export(&self, dir: &OutDir, console: &mut Console<'_>) -> bool {
        let name = &self.plan.target.name;
        let stem = if name == "target" { "response" } else { name };
        let mut responses = Distribution::default();
        self.rounds.iter().for_each(|round| responses.merge(&round.recorded.measured.response_ok));
        let log = hdr::interval_log(&self.rounds, clock::wall_offset());
        let files = [("hlog", log), ("hgrm", hdr::percentiles(&responses))];
        let failed = files.map(|(kind, bytes)| write_failed(dir, &format!("{stem}.{kind}"), &bytes, console));
        failed.contains(&true)
    }

    pub(crate) fn logs(&self) -> Vec<LogFile> {
        if self.plan.log { vec![self.log.clone()] } else { Vec::new() }
    }
}

/// Writes a file of results. One that cannot be written is no reason to end: results are still printed. True, and said,
/// if it was not written.
pub(crate) fn write_failed(dir: &OutDir, name: &str, bytes: &[u8], console: &mut Console<'_>) -> bool {
    dir.write(name, bytes).inspect_err(|error| console.warn(&error.to_string())).is_err()
}

/// What a command measured or read, and what it makes of it.
pub(crate) struct Measured {
    pub(crate) saved: Saved,
    pub(crate) judgement: Judgement,
}

/// What decides an exit code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judgement {
    pub(crate) interrupted: bool,
    /// A file is missing, a log is incomplete, or nothing completed.
    pub(crate) environment_failed: bool,
    /// A gate or a comparison was asked for.
    pub(crate) asked: bool,
    pub(crate) validity: Verdict,
    pub(crate) strict: bool,
    pub(crate) sla: SlaVerdict,
    pub(crate) outputs_differ: bool,
    pub(crate) on_inconclusive: OnInconclusive,
}

impl Judgement {
    /// The exit code, said in a last line where a judgement was asked for.
    pub(crate) fn conclude(self, console: &mut Console<'_>) -> u8 {
        let code = self.exit_code();
        if code == Failure::INVALID && self.strict && self.validity == Verdict::Suspect {
            console.warn("the run is SUSPECT, and --strict lets only VALID runs pass");
        }
        if self.asked {
            console.print(&format!("=> {} (exit code {code})\n", self.words(code)));
        }
        code
    }

    fn words(self, code: u8) -> &'static str {
        let open = self.sla == SlaVerdict::Inconclusive;
        match code {
            0 if !self.asked => "measured; no rule was asked for",
            0 if open => {
                "PASS: the SLA is neither shown to be met nor to be missed, and --on-inconclusive pass"
            }
            Failure::NOT_MET if open && !self.outputs_differ => {
                "FAIL: the SLA is neither shown to be met nor to be missed, and --on-inconclusive fail"
            }
            0 => "PASS: the SLA is met",
            Failure::ENVIRONMENT => "FAIL: the environment failed",
            Failure::NOT_MET if self.outputs_differ => "FAIL: the answers differ",
            Failure::NOT_MET => "FAIL: the SLA is not met",
            Failure::INVALID => "NO VERDICT: the run cannot be relied on",
            Failure::INCONCLUSIVE => "NO VERDICT: the requests are too few to tell",
            _ => "NO VERDICT: interrupted",
        }
    }

    /// The instrument does not believe itself.
    pub(crate) fn convicted(self) -> bool {
        self.validity == Verdict::Invalid || (self.strict && self.validity == Verdict::Suspect)
    }

    /// Precedence: 130 > 1 > 3 > 2 > 4 > 0.
    fn exit_code(self) -> u8 {
        if self.interrupted {
            return Failure::INTERRUPTED;
        }
        if self.environment_failed {
            return Failure::ENVIRONMENT;
        }
        if !self.asked {
            return 0;
        }
        match self.sla {
            _ if self.convicted() => Failure::INVALID,
            _ if self.outputs_differ => Failure::NOT_MET,
            SlaVerdict::NotMet => Failure::NOT_MET,
            SlaVerdict::Inconclusive => match self.on_inconclusive {
                OnInconclusive::Say => Failure::INCONCLUSIVE,
                OnInconclusive::Fail => Failure::NOT_MET,
                OnInconclusive::Pass => 0,
            },
            SlaVerdict::Met => 0,
            // a partial run: there is nothing that one could rely on
            SlaVerdict::NotEvaluated => Failure::INVALID,
        }
    }
}

/// True, with the reason on standard error, where a report shows that the environment failed.
pub(crate) fn environment_failed(report: &Report, series: &Series, console: &mut Console<'_>) -> bool {
    for failure in &series.failures {
        console.warn(failure);
    }
    let mut failed = nothing_completed(report, console) || !series.failures.is_empty();
    for log in &report.logs {
        if log.lost > 0 || log.error.is_some() {
            let why = log.error.as_deref().unwrap_or("the writer could not keep up");
            console.warn(&format!("{} rows are missing in {}: {why}", log.lost, log.file));
            failed = true;
        }
    }
    failed
}

/// True, and said, where a report has requests but not one answer.
pub(crate) fn nothing_completed(report: &Report, console: &mut Console<'_>) -> bool {
    if report.totals.completed > 0 || report.totals.scheduled == 0 {
        return false;
    }
    let outcomes: Vec<String> = report.outcomes.iter().map(|(key, n)| format!("{key} × {n}")).collect();
    let absent = report.outcomes.keys().any(|key| key.starts_with("connect-"));
    let hint = if absent { "; is the server there?" } else { "" };
    console.warn(&format!(
        "{}: no request completed ({}){hint}",
        report.plan.target.name,
        outcomes.join(", ")
    ));
    true
}

/// `hairspring stub`
pub(crate) fn stub(args: hairspring_stub::Args, console: &mut Console<'_>) -> Result<u8, Failure> {
    match hairspring_stub::run(args, console.out, console.err) {
        Ok(()) => Ok(0),
        Err(error) => Err(Failure { code: error.exit_code(), message: error.to_string() }),
    }
}

#[derive(clap::Parser)]
struct StubCli {
    #[command(flatten)]
    args: hairspring_stub::Args,
}

/// The stub knows its own flags best, and is asked before it is started.
fn check_stub_flags(argv: &[String]) -> Result<(), Failure> {
    let refused = |message: String| Failure { code: Failure::USAGE, message };
    let cli = <StubCli as clap::Parser>::try_parse_from(argv).map_err(|error| refused(error.to_string()))?;
    match hairspring_stub::Config::try_from(cli.args) {
        Err(error) if error.exit_code() == Failure::USAGE => Err(refused(error.to_string())),
        _ => Ok(()),
    }
}

pub(crate) fn unix_ms() -> u64 {
    use hairspring::engine::Clock;
    (clock::Monotonic.now().0 + clock::wall_offset().0) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Judgement = Judgement {
        interrupted: false,
        environment_failed: false,
        asked: true,
        validity: Verdict::Valid,
        strict: false,
        sla: SlaVerdict::Met,
        outputs_differ: false,
        on_inconclusive: OnInconclusive::Say,
    };

    #[test]
    fn every_exit_code_has_its_cause() {
        use SlaVerdict::{Inconclusive, NotEvaluated, NotMet};
        use Verdict::{Invalid, Suspect};
        for (judgement, code) in [
            (FINE, 0),
            (Judgement { environment_failed: true, ..FINE }, 1),
            (Judgement { sla: NotMet, ..FINE }, 2),
            (Judgement { outputs_differ: true, ..FINE }, 2),
            (Judgement { validity: Invalid, sla: NotEvaluated, ..FINE }, 3),
            (Judgement { validity: Suspect, ..FINE }, 0),
            (Judgement { validity: Suspect, strict: true, ..FINE }, 3),
            (Judgement { sla: NotEvaluated, ..FINE }, 3),
            (Judgement { sla: Inconclusive, ..FINE }, 4),
            (Judgement { sla: Inconclusive, on_inconclusive: OnInconclusive::Fail, ..FINE }, 2),
            (Judgement { sla: Inconclusive, on_inconclusive: OnInconclusive::Pass, ..FINE }, 0),
            (Judgement { sla: NotMet, on_inconclusive: OnInconclusive::Pass, ..FINE }, 2),
            (Judgement { interrupted: true, ..FINE }, 130),
            (Judgement { asked: false, validity: Invalid, sla: NotEvaluated, ..FINE }, 0),
        ] {
            assert_eq!(judgement.exit_code(), code, "{judgement:?}");
        }
    }

    #[test]
    fn the_gravest_scenario_decides() {
        let codes = [130, 64, 1, 3, 2, 4, 0];
        for (at, code) in codes.into_iter().enumerate() {
            assert_eq!(Failure::gravest(codes[at..].iter().rev().copied()), code);
        }
        assert_eq!(Failure::gravest([]), 0);
    }

    #[test]
    fn the_graver_cause_wins() {
        let all = Judgement {
            interrupted: true,
            environment_failed: true,
            validity: Verdict::Invalid,
            sla: SlaVerdict::NotMet,
            outputs_differ: true,
            ..FINE
        };
        assert_eq!(all.exit_code(), 130);
        assert_eq!(Judgement { interrupted: false, ..all }.exit_code(), 1);
        assert_eq!(Judgement { interrupted: false, environment_failed: false, ..all }.exit_code(), 3);
        let differ = Judgement { sla: SlaVerdict::Inconclusive, outputs_differ: true, ..FINE };
        assert_eq!(differ.exit_code(), 2);
    }
}
