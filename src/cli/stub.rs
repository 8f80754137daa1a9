//! Flags of the stub server, as `run` and `compare` take them.

use clap::Args;

/// The stub, named as in `hairspring stub`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Stub server")]
pub struct StubArgs {
    /// Worker threads of pool, event loops of per-core [default: 8]
    #[arg(long, value_name = "N")]
    pub workers: Option<u32>,
    /// Service time: fixed:50ms, normal:50ms,8ms, lognormal:50ms,0.5, exp:50ms, bimodal:1ms,0.99,101ms,
    /// peaks:50ms,8ms,0.05,400ms [default: normal:50ms,8ms]
    #[arg(long, value_name = "DIST")]
    pub service: Option<String>,
    /// Spend the service time by sleeping or by burning processor time [default: sleep]
    #[arg(long, value_name = "sleep|spin", value_parser = ["sleep", "spin"])]
    pub work: Option<String>,
    /// The seed of the service times
    #[arg(long, value_name = "N")]
    pub work_seed: Option<u64>,
    /// The stub's own log of stamps, one row per request
    #[arg(long, value_name = "FILE")]
    pub server_log: Option<String>,
    /// Requests that may wait for a worker of pool; more get 503
    #[arg(long, value_name = "N")]
    pub queue_limit: Option<u32>,
    /// Requests per second that are admitted; more get 429
    #[arg(long, value_name = "RATE")]
    pub rate_limit: Option<String>,
    /// Size of the payload in an answer
    #[arg(long, value_name = "BYTES")]
    pub payload_bytes: Option<u32>,
    /// Length of the accept queue
    #[arg(long, value_name = "N")]
    pub backlog: Option<u32>,
    /// Further flags of `hairspring stub`, as in '--stall 2s,200ms --lock 0.2'
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub stub_flags: Option<String>,
}

impl StubArgs {
    pub(super) fn is_used(&self) -> bool {
        self.workers.is_some()
            || self.service.is_some()
            || self.work.is_some()
            || self.work_seed.is_some()
            || self.server_log.is_some()
            || !self.extra().is_empty()
    }

    pub(super) fn extra(&self) -> Vec<String> {
        let number = |name: &str, value: Option<u32>| value.map(|v| [format!("--{name}"), v.to_string()]);
        let rate = self.rate_limit.as_ref().map(|rate| ["--rate-limit".to_owned(), rate.clone()]);
        [
            number("queue-limit", self.queue_limit),
            rate,
            number("payload-bytes", self.payload_bytes),
            number("backlog", self.backlog),
        ]
        .into_iter()
        .flatten()
        .flatten()
        .chain(self.stub_flags.iter().flat_map(|flags| flags.split_whitespace().map(str::to_owned)))
        .collect()
    }
}
