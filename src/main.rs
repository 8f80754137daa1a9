//! The program: parse, dispatch, exit code. The only place that prints.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use hairspring::cli::{CapacityArgs, CompareArgs, GateArgs, PresetsArgs, RunArgs, SuiteArgs, TrendArgs};

mod commands;

use commands::{Console, Failure};

/// Counts what each thread asks for: a worker's loop should ask for nothing.
#[global_allocator]
static ALLOCATOR: hairspring::sys::alloc::Counting = hairspring::sys::alloc::Counting;

/// A precision instrument for HTTP latency.
#[derive(Debug, Parser)]
#[command(name = "hairspring", version, max_term_width = 120, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 gates met; 1 the environment failed (file, port, server, log, no request completed); 2 SLA not met, or \
the answers differ; 3 INVALID where a gate, comparison or suite was asked; 4 inconclusive; 64 bad usage; 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure one target: a URL, or the stub
    #[command(
        after_help = "Examples:\n  hairspring run http://127.0.0.1:8080/ -c 20 -n 400 --sla 'p95<=800ms'\n  \
        hairspring run http://127.0.0.1:8080/ --rate 1000/s -d 10s --warmup 2s\n  \
        hairspring run http://127.0.0.1:8080/ --stages '0s:100/s,30s:1000/s' --arrivals poisson\n  \
        hairspring run --stub pool --workers 4 --service exp:2ms\n  \
        hairspring run --preset spike --time-scale 0.1"
    )]
    Run(Box<RunArgs>),
    /// Measure baseline against optimized, or several variants: by default the stub with one thread against the stub with a pool
    #[command(after_help = "Examples:\n  hairspring compare\n  hairspring compare --preset founding\n  \
        hairspring compare --baseline-url http://127.0.0.1:8001/v1 --optimized-url http://127.0.0.1:8002/v1 \
        --body '{\"prompt\":\"x\"}' --rounds 5\n  hairspring compare --baseline-url http://127.0.0.1:8001/ \
        --baseline-cmd 'python3 app.py --port 8001' --optimized-stub threads --ignore-output\n  \
        hairspring compare --stub all --rank-by p99\n  hairspring compare http://127.0.0.1:8001/ \
        --variant 'on: --keepalive on' --variant 'off: --keepalive off' --variant 'few: -c 4'\n\nOf two, the SLA of the \
        optimized side decides; of variants that of every one, unless --judge names some.")]
    Compare(Box<CompareArgs>),
    /// Search the highest rate at which an SLA is met
    #[command(
        after_help = "Examples:\n  hairspring capacity http://127.0.0.1:8080/ --sla 'p99<=50ms' --sla 'errors<1%'\n  \
        hairspring capacity --stub pool --workers 4 --service exp:2ms --sla 'p95<=10ms' --budget 1m --sweep"
    )]
    Capacity(Box<CapacityArgs>),
    /// Judge a saved report by SLA rules, without measuring
    #[command(
        after_help = "Example:\n  hairspring gate results/comparison.json --sla 'p95<=800ms' --sla 'errors<1%'"
    )]
    Gate(GateArgs),
    /// List the scenario presets of `run`; with a name, the plan it stands for, as JSON
    #[command(after_help = "Examples:\n  hairspring presets\n  hairspring presets exhaustion\n  \
        hairspring run --preset exhaustion --time-scale 0.1")]
    Presets(PresetsArgs),
    /// Run every scenario of a file, and report on them together
    #[command(after_help = "Examples:\n  hairspring suite nightly.toml --check\n  \
        hairspring suite nightly.toml --junit hairspring.xml --summary \"$GITHUB_STEP_SUMMARY\"")]
    Suite(SuiteArgs),
    /// The history of saved reports: where a figure changed, and the newest run beside those before it
    #[command(after_help = "Examples:\n  hairspring trend history/\n  \
        hairspring trend results*/report.json --metric p99 --window 20 --json trend.json")]
    Trend(TrendArgs),
    /// Run the stub server: one handler, four threading models, identical work
    #[command(after_help = "Example:\n  hairspring stub --model pool --workers 8 --service normal:50ms,8ms \
        --addr 127.0.0.1:8080")]
    Stub(Box<hairspring_stub::Args>),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Failure::USAGE } else { 0 });
        }
    };
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let interactive = err.is_terminal();
    let mut console = Console { out: &mut out, err: &mut err, interactive, print_failed: false };
    let result = match cli.command {
        Command::Run(args) => commands::run::execute(&args, &mut console),
        Command::Compare(args) => commands::compare::execute(&args, &mut console),
        Command::Capacity(args) => commands::capacity::execute(&args, &mut console),
        Command::Gate(args) => commands::gate::execute(&args, &mut console),
        Command::Presets(args) => commands::presets::execute(&args, &mut console),
        Command::Suite(args) => commands::suite::execute(&args, &mut console),
        Command::Trend(args) => commands::trend::execute(&args, &mut console),
        Command::Stub(args) => commands::stub(*args, &mut console),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(Failure { code, message }) => {
            let _ = writeln!(std::io::stderr(), "hairspring: {message}");
            ExitCode::from(code)
        }
    }
}
