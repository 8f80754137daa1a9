//! The flags of the stub and the configuration they make: syntax and plausibility, no I/O.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::behavior::Behavior;
use crate::error::Error;
use crate::work::{Service, parse_duration};

/// The flags of the stub server.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "IP:PORT")]
    pub addr: SocketAddr,
    /// Threading in plain words: single (the baseline) or multi (a pool of workers)
    #[arg(long, value_enum, conflicts_with = "model")]
    pub mode: Option<Mode>,
    /// Threading model [default: pool]
    #[arg(long, value_enum)]
    pub model: Option<Model>,
    /// Workers of pool [default: 8] or loops of per-core [default: one per server CPU]; the others have none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Pin all server threads to these CPUs, as in 0,2-3
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    pub server_cpus: Option<Cpus>,
    /// Connections the kernel may hold until they are accepted
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub backlog: u16,
    /// How the service time is spent: sleep waits for it, spin burns it as CPU time
    #[arg(long, value_enum, default_value_t = WorkKind::Sleep)]
    pub work: WorkKind,
    /// Service time: fixed:50ms | normal:50ms,8ms | lognormal:50ms,0.5 (median, sigma) | exp:50ms |
    /// bimodal:1ms,0.99,101ms | peaks:50ms,8ms,0.05,400ms
    #[arg(long, default_value = "fixed:0ms", value_name = "SPEC")]
    pub service: Service,
    /// Seed of service times and payloads, each a function of this seed and X-Request-Id
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub work_seed: u64,
    /// Length of the payload in an answer
    #[arg(long, default_value_t = 256, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(..=16 << 20))]
    pub payload_bytes: u32,
    /// Longest request body; longer ones are answered 413
    #[arg(long, default_value_t = 1 << 20, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(..=1 << 30))]
    pub body_limit: u32,
    /// Requests that may wait for a worker of the pool, above that 503 [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1 << 20))]
    pub queue_limit: Option<u32>,
    /// Infer requests admitted per second (bursts: a tenth of a second's worth), above that 429 [default: no limit]
    #[arg(long, value_name = "R/s", value_parser = parse_rate)]
    pub rate_limit: Option<f64>,
    /// Open connections; further ones are answered 503 and closed
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// From the first byte of a request to the end of its head; later is 408
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = parse_duration)]
    pub header_timeout: u64,
    /// From the end of the head to the end of the body (later is 408), and for a client to take an answer
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = parse_duration)]
    pub body_timeout: u64,
    /// Without a request; then the connection is closed silently
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = parse_duration)]
    pub idle_timeout: u64,
    /// Write a CSV row per infer request: id and CLOCK_MONOTONIC stamps
    #[arg(long, value_name = "FILE")]
    pub server_log: Option<PathBuf>,
    /// How it is slow, or fails.
    #[command(flatten)]
    pub behavior: Behavior,
}

/// Threading in plain words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// One thread: the model `single`.
    Single,
    /// A reactor and a pool of workers: the model `pool`.
    Multi,
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Model {
    /// One thread, one request at a time over all connections
    Single,
    /// A thread per connection
    Threads,
    /// One reactor that reads, N workers that serve
    Pool,
    /// N event loops that each read and serve (SO_REUSEPORT)
    PerCore,
}

impl Model {
    /// The name it has on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Threads => "threads",
            Self::Pool => "pool",
            Self::PerCore => "per-core",
        }
    }
}

/// How a service time is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WorkKind {
    /// Waits without using the CPU, as for a remote accelerator
    Sleep,
    /// Uses that much CPU time, as for inference on this machine
    Spin,
}

impl WorkKind {
    /// The name it has on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sleep => "sleep",
            Self::Spin => "spin",
        }
    }
}

/// A list of CPU numbers, ascending and without repetition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

/// A validated configuration; `Config::default()` is that of no flags, times are in nanoseconds.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on.
    pub addr: SocketAddr,
    /// Threading model.
    pub model: Model,
    /// Workers or loops; 0 = the model's default.
    pub workers: usize,
    /// CPUs of all server threads; empty = wherever the process may run.
    pub server_cpus: Vec<usize>,
    /// Length of the kernel's accept queue.
    pub backlog: u16,
    /// How service times are spent.
    pub work: WorkKind,
    /// Distribution of service times.
    pub service: Service,
    /// Seed of service times and payloads.
    pub work_seed: u64,
    /// Length of payloads.
    pub payload_bytes: usize,
    /// Longest request body.
    pub body_limit: usize,
    /// Requests that may wait for a worker.
    pub queue_limit: Option<usize>,
    /// Infer requests per second.
    pub rate_limit: Option<f64>,
    /// Open connections.
    pub max_connections: usize,
    /// Time for a head.
    pub header_timeout: u64,
    /// Time for a body, and for a client to take an answer.
    pub body_timeout: u64,
    /// Time between requests.
    pub idle_timeout: u64,
    /// Where the server log goes.
    pub server_log: Option<PathBuf>,
    /// How it is slow, or fails.
    pub behavior: Behavior,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            model: Model::Pool,
            workers: 0,
            server_cpus: Vec::new(),
            backlog: 1024,
            work: WorkKind::Sleep,
            service: Service::default(),
            work_seed: 1,
            payload_bytes: 256,
            body_limit: 1 << 20,
            queue_limit: None,
            rate_limit: None,
            max_connections: 10_000,
            header_timeout: 10_000_000_000,
            body_timeout: 30_000_000_000,
            idle_timeout: 60_000_000_000,
            server_log: None,
            behavior: Behavior::default(),
        }
    }
}

impl Config {
    /// Threads that do the work, as far as their number is fixed.
    pub(crate) fn worker_count(&self) -> Option<usize> {
        (self.model != Model::Threads).then_some(self.workers)
    }

    /// Fills in the model's default number of workers, `cpus` being those the server may use.
    pub(crate) fn with_workers_for(mut self, cpus: usize) -> Self {
        self.workers = match (self.model, self.workers) {
            (Model::Single | Model::Threads, _) => 1,
            (Model::Pool, 0) => 8,
            (Model::PerCore, 0) => cpus.max(1),
            (_, workers) => workers,
        };
        self
    }

    /// What the user should know about this configuration.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.addr.ip().is_loopback() {
            warnings.push(format!(
                "{} is not a loopback address: other machines can reach this server",
                self.addr.ip()
            ));
        }
        if self.queue_limit.is_some() && self.model != Model::Pool {
            warnings.push(format!(
                "--queue-limit has no effect with the model {}: its requests wait unread in their sockets",
                self.model.name()
            ));
        }
        warnings
    }
}

impl TryFrom<Args> for Config {
    type Error = Error;

    fn try_from(args: Args) -> Result<Self, Error> {
        let model = match (args.mode, args.model) {
            (None, None) | (Some(Mode::Multi), None) => Model::Pool,
            (Some(Mode::Single), None) => Model::Single,
            (None, Some(model)) => model,
            (Some(_), Some(_)) => {
                return Err(Error::Usage("use either --mode or --model".to_owned()));
            }
        };
        Ok(Self {
            addr: args.addr,
            model,
            workers: args.workers.map_or(0, usize::from),
            server_cpus: args.server_cpus.unwrap_or_default().0,
            backlog: args.backlog,
            work: args.work,
            service: args.service,
            work_seed: args.work_seed,
            payload_bytes: args.payload_bytes as usize,
            body_limit: args.body_limit as usize,
            queue_limit: args.queue_limit.map(|n| n as usize),
            rate_limit: args.rate_limit,
            max_connections: args.max_connections as usize,
            header_timeout: args.header_timeout,
            body_timeout: args.body_timeout,
            idle_timeout: args.idle_timeout,
            server_log: args.server_log,
            behavior: args.behavior,
        })
    }
}

/// The most CPUs a `CpuSet` can name.
const MAX_CPU: usize = rustix::thread::CpuSet::MAX_CPU;

fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let hint =
        || format!("\"{text}\" is no list of CPUs; use numbers and ranges below {MAX_CPU}, as in 0,2-3");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |s: &str| s.trim().parse::<usize>().ok().filter(|cpu| *cpu < MAX_CPU);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => cpus.extend(first..=last),
            _ => return Err(hint()),
        }
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(Cpus(cpus))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(rate) if (1e-3..=1e9).contains(&rate) => Ok(rate),
        _ => Err(format!("\"{text}\" is no rate; use requests per second from 0.001 to 1e9, as in 100/s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_and_rates_are_checked() {
        assert_eq!(parse_cpus("3,0-1,1"), Ok(Cpus(vec![0, 1, 3])));
        for bad in ["", "a", "1-", "2-1", "1024", "0-1024", "-1", "0,,1"] {
            assert!(parse_cpus(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_rate("100/s"), Ok(100.0));
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        for bad in ["0", "-1", "inf", "nan", "x", "100/m"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_defaults_of_the_flags_are_those_of_the_configuration() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: Args,
        }
        let cli = <Cli as clap::Parser>::try_parse_from(["stub"]).expect("defaults");
        let config = Config::try_from(cli.args).expect("configuration");
        assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    }

    #[test]
    fn warnings_name_what_has_no_effect_or_is_open_to_others() {
        assert!(Config::default().warnings().is_empty());
        let config = Config {
            addr: SocketAddr::from(([0, 0, 0, 0], 0)),
            model: Model::Threads,
            queue_limit: Some(1),
            ..Config::default()
        };
        let warnings = config.warnings().join("\n");
        assert!(
            warnings.contains("0.0.0.0 is not a loopback")
                && warnings.contains("--queue-limit has no effect")
        );
    }

    #[test]
    fn each_model_has_its_number_of_workers() {
        let workers =
            |model, workers| Config { model, workers, ..Config::default() }.with_workers_for(2).workers;
        assert_eq!((workers(Model::Pool, 0), workers(Model::Pool, 3)), (8, 3));
        assert_eq!((workers(Model::PerCore, 0), workers(Model::PerCore, 3)), (2, 3));
        assert_eq!((workers(Model::Single, 5), workers(Model::Threads, 5)), (1, 1));
    }
}
