//! Flags: their syntax and defaults, and the plan that follows from them. No I/O: what the machine and its
//! files say is handed in.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use crate::load::io::Stamps;
use crate::load::schedule::{Extent, Rate};
use crate::load::time::Nanos;
use crate::plan::{EnginePlan, KeepalivePlan, WaitPlan};
use crate::preset::Preset;

mod alerts;
mod capacity;
mod files;
mod metrics;
mod planning;
mod presets;
mod stages;
mod stub;
mod suite;
mod trend;
mod values;
mod variants;

pub use alerts::AlertArgs;
pub use capacity::CapacityArgs;
pub use files::{parse_replay, parse_requests};
pub use metrics::MetricsArgs;
pub use presets::PresetsArgs;
use stages::parse_stages;
pub use stages::{ArrivalsArg, Stages};
pub use stub::StubArgs;
pub use suite::{Measurement, Scenario, Suite, SuiteArgs};
pub use trend::TrendArgs;
pub use values::{CpuList, MonitorInterval};
use values::{
    parse_cpus, parse_extent, parse_keepalive, parse_mix, parse_model, parse_monitor, parse_preset,
    parse_rate, parse_scale, parse_share,
};
pub use variants::Variant;
use variants::{parse_figure, parse_models, parse_variant};

/// What is wrong with the command line.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// argv alone shows it. Exit code 64.
    #[error("{0}")]
    Usage(String),
    /// It is wrong on this machine. Exit code 1.
    #[error("{0}")]
    Machine(String),
}

fn usage<T>(text: impl Into<String>) -> Result<T, CliError> {
    Err(CliError::Usage(text.into()))
}

/// `--stamps`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StampsArg {
    /// Our own alone.
    User,
    /// Arrivals stamped by the kernel.
    Rx,
    /// Arrivals and departures.
    Rxtx,
}

impl From<StampsArg> for Stamps {
    fn from(arg: StampsArg) -> Self {
        match arg {
            StampsArg::User => Self::User,
            StampsArg::Rx => Self::Rx,
            StampsArg::Rxtx => Self::RxTx,
        }
    }
}

/// `--on-inconclusive`: what a pipeline makes of a gate that could not decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnInconclusive {
    /// Exit code 4.
    Say,
    /// Exit code 2.
    Fail,
    /// Exit code 0.
    Pass,
}

/// The load and how it is offered.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct LoadArgs {
    /// Connections over all threads [default: 20; with --stages of users as many as they reach]
    #[arg(short = 'c', long, value_name = "N")]
    pub connections: Option<u32>,
    /// Measured requests over all connections [default: 400 where -d is not given]
    #[arg(short = 'n', long = "count", value_name = "N")]
    pub requests: Option<u64>,
    /// Measure for so long, as in 10s; with -n: whichever ends first
    #[arg(short = 'd', long, value_name = "TIME")]
    pub duration: Option<Nanos>,
    /// Open loop: requests per second at a constant rate, as in 1000/s, whatever the answers do [default: closed loop]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub rate: Option<Rate>,
    /// How requests follow from a rate: evenly, or by chance (a Poisson process, drawn from the seed) [default: constant]
    #[arg(long, value_enum, value_name = "HOW")]
    pub arrivals: Option<ArrivalsArg>,
    /// A load that changes, linear between points in time, until the last of them: a rate (open loop), as in
    /// '0s:100/s,30s:1000/s', or users (closed loop, one connection each), as in '0s:10c,30s:100c'; two points at the same
    /// time are a step. --warmup holds what the first point says
    #[arg(long, value_name = "POINTS", value_parser = parse_stages)]
    pub stages: Option<Stages>,
    /// Open loop: send at recorded offsets from the start, ascending: a CSV with a column offset_ns, offset_ms or offset_s,
    /// or without a header nanoseconds in the first column
    #[arg(long, value_name = "FILE.csv")]
    pub replay: Option<String>,
    /// Closed loop: pause between an answer and the next request of its connection
    #[arg(long, value_name = "TIME")]
    pub think: Option<Nanos>,
    /// Send so many requests, or for so long (as in 2s), before measuring; reported apart
    #[arg(long, value_name = "N|TIME", value_parser = parse_extent)]
    pub warmup: Option<Extent>,
    /// From handing a request to the kernel to the last byte of its answer [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Nanos>,
    /// For opening one connection
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub connect_timeout: Nanos,
    /// After the end of the load: wait so long for outstanding answers [default: the timeout]
    #[arg(long, value_name = "TIME")]
    pub drain: Option<Nanos>,
    /// No request is drawn later than this after the start; bounds a run that has only -n
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub max_time: Nanos,
    /// Requests per connection: on, off, or a number
    #[arg(long, value_name = "on|off|N", default_value = "on", value_parser = parse_keepalive)]
    pub keepalive: KeepalivePlan,
    /// Send a request once more, on a fresh connection, when its keep-alive connection had been closed
    #[arg(long)]
    pub retry_stale: bool,
    /// The seed of everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// What is sent, and what counts as success.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Request")]
pub struct RequestArgs {
    /// Method [default: GET, with a body POST]
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub method: Option<String>,
    /// A header field, as in 'Accept: application/json'; can be repeated
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    pub headers: Vec<String>,
    /// The body, as text
    #[arg(long, value_name = "TEXT", conflicts_with = "body_file")]
    pub body: Option<String>,
    /// The body, from a file
    #[arg(long, value_name = "FILE")]
    pub body_file: Option<String>,
    /// A mix to draw each request from, by seed and id: one JSON object a line, {"method", "path", "headers", "body",
    /// "weight"}, all optional; fields of -H are in each that does not set them itself
    #[arg(long = "requests", value_name = "FILE.jsonl", value_parser = parse_mix)]
    pub mix: Option<String>,
    /// Take a digest (xxh64) of each response body; compare does so by itself
    #[arg(long)]
    pub digest: bool,
    /// Statuses that count as success, as in 2xx,304
    #[arg(long, value_name = "LIST", default_value = "2xx,3xx")]
    pub ok: String,
}

/// The instrument's own resources, and what it leaves behind.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Instrument and output")]
pub struct ToolArgs {
    /// Client threads, each pinned to one processor [default: one on each processor not given to the server]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Processors of the client, as in 1,3-5
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    pub cpus: Option<CpuList>,
    /// How client threads wait
    #[arg(long, value_enum, default_value_t = WaitPlan::Auto)]
    pub wait: WaitPlan,
    /// I/O engine; auto is the one that was measured to disturb less: epoll
    #[arg(long, value_enum, default_value_t = EnginePlan::Auto)]
    pub engine: EnginePlan,
    /// Stamps of the kernel beside our own: rx, when an answer arrived; rxtx, also when a request left. They split a latency
    /// into send path, kernel to kernel, and our own wake-up, and cost about a microsecond a request
    #[arg(long, value_enum, default_value_t = StampsArg::User)]
    pub stamps: StampsArg,
    /// Beside the load, measure on one connection of its own, from a thread of its own that spins, at this low rate
    #[arg(long, value_name = "RATE", num_args = 0..=1, require_equals = true, default_missing_value = "100/s", value_parser = parse_rate)]
    pub probe: Option<Rate>,
    /// Processor of the probe [default: one that neither server nor load uses]
    #[arg(long, value_name = "CPU", requires = "probe")]
    pub probe_cpu: Option<usize>,
    /// Sample machine, client and server so often, from 10ms, or off
    #[arg(long, value_name = "TIME|off", default_value = "100ms", value_parser = parse_monitor)]
    pub monitor_interval: MonitorInterval,
    /// The process of a server that runs already, for the monitor; its children are watched too
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pub server_pid: Option<u32>,
    /// Live figures.
    #[command(flatten)]
    pub metrics: MetricsArgs,
    /// A rule for the gate, as in 'p95<=800ms', 'errors<1%', 'throughput>=500/s'; p0 to p99.999, mean, max, errors,
    /// timeouts, availability, throughput, or what the monitor saw, as in 'server.cpu<70%', 'server.rss<=500MiB'; can be
    /// repeated [default of compare: 'p95<=800ms'; of run: none]
    #[arg(long, value_name = "RULE")]
    pub sla: Vec<String>,
    /// Rules against an earlier run.
    #[command(flatten)]
    pub against: AgainstArgs,
    /// What is told beside the gate.
    #[command(flatten)]
    pub alerts: AlertArgs,
    /// What an inconclusive gate means: nothing is decided (exit code 4), or fail (2), or pass (0)
    #[arg(long, value_enum, default_value_t = OnInconclusive::Say, hide_default_value = true)]
    pub on_inconclusive: OnInconclusive,
    /// A run that is SUSPECT fails like one that is INVALID
    #[arg(long)]
    pub strict: bool,
    /// Files for CI servers.
    #[command(flatten)]
    pub handouts: HandoutArgs,
    /// Folder of the results; an earlier one is renamed to DIR.1, DIR.2, …
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub out: PathBuf,
    /// Leave out the per-request CSV
    #[arg(long)]
    pub no_log: bool,
    /// Length of the slices in time of the .hlog and of `intervals` in the report, from 100ms; a run of more than 3600 slices
    /// has longer ones [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub interval: Option<Nanos>,
}

/// Rules against an earlier run.
#[derive(Debug, Clone, Args)]
pub struct AgainstArgs {
    /// An earlier report.json or comparison.json (its optimized side), for --sla-against
    #[arg(long, value_name = "BASELINE.json", requires = "sla_against")]
    pub against: Option<PathBuf>,
    /// The greatest change since the baseline, as in 'p99<=+5%' (at most 5 % slower) or 'mean<=-10%'; can be repeated
    #[arg(long, value_name = "RULE", requires = "against", allow_hyphen_values = true)]
    pub sla_against: Vec<String>,
}

/// The verdict in the files that CI servers show.
#[derive(Debug, Clone, Default, Args)]
pub struct HandoutArgs {
    /// Append a summary in Markdown to this file, as in "$GITHUB_STEP_SUMMARY"
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
    /// Write the verdicts as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

/// Flags that both measuring commands have.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    /// The load.
    #[command(flatten)]
    pub load: LoadArgs,
    /// The request.
    #[command(flatten)]
    pub request: RequestArgs,
    /// The stub.
    #[command(flatten)]
    pub stub: StubArgs,
    /// Processors of a server that hairspring starts, as in 0,2-3 [default: the first half]
    #[arg(long, value_name = "LIST", value_parser = parse_cpus, help_heading = "Stub server")]
    pub server_cpus: Option<CpuList>,
    /// Threads, judgement, files.
    #[command(flatten)]
    pub tool: ToolArgs,
}

/// `hairspring run`
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("what").required(true).multiple(true).args(["url", "stub_model", "preset"])))]
pub struct RunArgs {
    /// What to measure, as in http://127.0.0.1:8080/v1/infer
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// Measure the stub with this threading model instead: single, threads, pool, per-core
    #[arg(long = "stub", value_name = "MODEL", value_parser = parse_model, conflicts_with = "url")]
    pub stub_model: Option<String>,
    /// Start the server at the URL with this command in each round (sh -c), wait until it answers, stop it
    #[arg(long, value_name = "CMD", requires = "url")]
    pub cmd: Option<String>,
    /// Start it with nothing but PATH in its environment
    #[arg(long, requires = "cmd")]
    pub clean_env: bool,
    /// How long a started server may take until its URL answers
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub ready_timeout: Nanos,
    /// A scenario: a named set of defaults, which other flags win over, and what is judged under it; `hairspring presets` lists
    /// them. Without a URL it is the stub that is measured
    #[arg(long, value_name = "NAME", value_parser = parse_preset)]
    pub preset: Option<Preset>,
    /// Multiply the durations and numbers of requests of the preset by this, above 0 and at most 1, for a trial
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, requires = "preset", value_parser = parse_scale)]
    pub time_scale: f64,
    /// Rounds, each with a fresh server where it is ours; their requests are judged together [default: the preset's, or 1]
    #[arg(long, value_name = "N")]
    pub rounds: Option<u32>,
    /// Then test the cause found: predict what a change of it brings, and measure that in six pairs of short rounds
    #[arg(long)]
    pub confirm: bool,
    /// All else.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What variants measure.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "More than two")]
pub struct TargetArgs {
    /// What variants measure that name nothing of their own
    #[arg(value_name = "URL", conflicts_with = "stub_model")]
    pub url: Option<String>,
    /// The same, the stub with this threading model; or all: each of the four models is a variant
    #[arg(long = "stub", value_name = "MODEL|all", value_parser = parse_models)]
    pub stub_model: Option<String>,
    /// Start the server at the URL with this command in each round (sh -c), wait until it answers, stop it
    #[arg(long, value_name = "CMD", conflicts_with = "stub_model")]
    pub cmd: Option<String>,
}

/// `hairspring compare`
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// What the variants measure.
    #[command(flatten)]
    pub target: TargetArgs,
    /// One of several that are compared, as in 'off: --keepalive off': its flags are those of run, and win over those given
    /// for all; can be repeated
    #[arg(long, value_name = "NAME: FLAGS", value_parser = parse_variant, help_heading = "More than two")]
    pub variant: Vec<Variant>,
    /// Variants that the gate judges; can be repeated [default: every one]
    #[arg(long, value_name = "NAME", help_heading = "More than two")]
    pub judge: Vec<String>,
    /// The figure that ranks variants: p50, p90, p95, p99, p99.9, mean [default: the first percentile of --sla]
    #[arg(long, value_name = "FIGURE", value_parser = parse_figure, help_heading = "More than two")]
    pub rank_by: Option<String>,
    /// Threading model of the stub as baseline: single, threads, pool, per-core [default: single]
    #[arg(long, value_name = "MODEL", value_parser = parse_model, conflicts_with = "baseline_url")]
    pub baseline_stub: Option<String>,
    /// Threading model of the stub as optimized [default: pool]
    #[arg(long, value_name = "MODEL", value_parser = parse_model, conflicts_with = "optimized_url")]
    pub optimized_stub: Option<String>,
    /// Measure this as baseline
    #[arg(long, value_name = "URL")]
    pub baseline_url: Option<String>,
    /// Measure this as optimized
    #[arg(long, value_name = "URL")]
    pub optimized_url: Option<String>,
    /// Start the baseline with this command (sh -c), wait until its URL answers, stop it after each round
    #[arg(long, value_name = "CMD", requires = "baseline_url")]
    pub baseline_cmd: Option<String>,
    /// The same for the optimized
    #[arg(long, value_name = "CMD", requires = "optimized_url")]
    pub optimized_cmd: Option<String>,
    /// Start these commands with nothing but PATH in their environment
    #[arg(long)]
    pub clean_env: bool,
    /// How long a started server may take until its URL answers
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub ready_timeout: Nanos,
    /// Rounds; each measures all, in random order, on fresh servers [default: 3; of variants as many as all pairs need]
    #[arg(long, value_name = "N")]
    pub rounds: Option<u32>,
    /// The least change that counts as faster or slower, as in 2% or 0.5%
    #[arg(long, value_name = "SHARE%", default_value = "2%", value_parser = parse_share)]
    pub min_effect: f64,
    /// Measure the baseline (or the first variant) twice in each round; what A against A leaves possible is never called a difference
    #[arg(long)]
    pub aa: bool,
    /// Add rounds until the change of the percentiles in --sla is known to ± this, as in 3%; looks are planned and share the
    /// error
    #[arg(long, value_name = "SHARE%", value_parser = parse_share, conflicts_with = "rounds")]
    pub until: Option<f64>,
    /// At most so many rounds with --until [default: 24]
    #[arg(long, value_name = "N", requires = "until")]
    pub max_rounds: Option<u32>,
    /// A named set of defaults, which other flags win over: quick (400 requests, 20 connections, normal:50ms,8ms, 8 workers; the
    /// default), founding (fixed:127.6ms, 4 workers), or another of `hairspring presets`
    #[arg(long, value_name = "NAME", value_parser = parse_preset)]
    pub preset: Option<Preset>,
    /// Do not compare the answers: for services that stamp them with times or random values
    #[arg(long)]
    pub ignore_output: bool,
    /// All else.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `hairspring gate`
#[derive(Debug, Clone, Args)]
pub struct GateArgs {
    /// A report.json, comparison.json or ranking.json; of a comparison, the optimized side is judged, of a ranking, what
    /// was judged then
    #[arg(value_name = "REPORT.json")]
    pub report: PathBuf,
    /// A rule, as in 'p95<=800ms', 'errors<1%', 'throughput>=500/s'; can be repeated
    #[arg(long, value_name = "RULE", required_unless_present = "sla_against")]
    pub sla: Vec<String>,
    /// Rules against an earlier run.
    #[command(flatten)]
    pub against: AgainstArgs,
    /// What an inconclusive gate means: nothing is decided (exit code 4), or fail (2), or pass (0)
    #[arg(long, value_enum, default_value_t = OnInconclusive::Say, hide_default_value = true)]
    pub on_inconclusive: OnInconclusive,
    /// A run that is SUSPECT fails like one that is INVALID
    #[arg(long)]
    pub strict: bool,
    /// Files for CI servers.
    #[command(flatten)]
    pub handouts: HandoutArgs,
}
