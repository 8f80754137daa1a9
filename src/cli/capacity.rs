//! `hairspring capacity`: its flags, and the plan that every probe is made from.

use clap::{ArgGroup, Args};

use super::values::{parse_model, parse_rate, parse_rules, parse_share};
use super::{AlertArgs, ArrivalsArg, CliError, CommonArgs, RunArgs, usage};
use crate::analyze::capacity::{self, Settings};
use crate::analyze::gate::{Limit, Metric, Rule};
use crate::load::schedule::Rate;
use crate::load::time::Nanos;
use crate::plan::Plan;

/// Connections, unless `-c` says otherwise: so many that they are not what limits an ordinary server.
const CONNECTIONS: u32 = 200;
/// Where the start is not given: the first probe takes this share of the budget.
const START_SHARE: f64 = 1.0 / 30.0;
/// The least time that is waited for late answers.
const PATIENCE_MIN: Nanos = Nanos::from_secs(1);

/// `hairspring capacity`
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("whose").required(true).args(["url", "stub_model"])))]
pub struct CapacityArgs {
    /// Whose capacity, as in http://127.0.0.1:8080/v1/infer
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// Search the capacity of the stub with this threading model instead: single, threads, pool, per-core
    #[arg(long = "stub", value_name = "MODEL", value_parser = parse_model)]
    pub stub_model: Option<String>,
    /// For search and confirmation together; a probe that has begun is ended
    #[arg(long, value_name = "TIME", default_value = "2m")]
    pub budget: Nanos,
    /// Search until the rates that meet and that break the SLA are so near each other, as in 5%
    #[arg(long, value_name = "SHARE%", default_value = "5%", value_parser = parse_share)]
    pub precision: f64,
    /// The first rate; it doubles until the SLA is broken [default: what the requests of the first probe need for a thirtieth
    /// of the budget]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub start: Option<Rate>,
    /// Afterwards, the same rates upward and then downward on one server: does the way down differ?
    #[arg(long)]
    pub sweep: bool,
    /// All else.
    #[command(flatten)]
    pub common: CommonArgs,
}

impl CapacityArgs {
    /// The plan of a probe at the start rate, and what to search for.
    pub fn plan(&self, allowed: &[usize]) -> Result<(Plan, Settings), CliError> {
        let rules = self.rules()?;
        self.refuse_what_is_chosen_here()?;
        if self.budget < Nanos::from_secs(1) {
            return usage(format!("--budget {}: at least 1s", self.budget.exact()));
        }
        let requests = capacity::requests_of_a_look(&rules);
        let start = self.start.unwrap_or_else(|| {
            let per_s = (requests as f64 / (self.budget.as_secs() * START_SHARE)).ceil().max(1.0);
            Rate { milli_per_s: per_s as u64 * 1_000 }
        });
        let mut common = self.common.clone();
        common.load.rate = Some(start);
        common.load.arrivals.get_or_insert(ArrivalsArg::Poisson);
        common.load.connections.get_or_insert(CONNECTIONS);
        common.load.drain = common.load.drain.or(patience(&rules));
        common.tool.no_log = true;
        common.tool.alerts = AlertArgs::none();
        let (url, stub_model) = (self.url.clone(), self.stub_model.clone());
        let run = RunArgs {
            url,
            stub_model,
            // --cmd is of no use here: a probe finds its server running
            cmd: None,
            clean_env: false,
            ready_timeout: Nanos::ZERO,
            common,
            preset: None,
            confirm: false,
            rounds: None,
            time_scale: 1.0,
        };
        let settings = Settings {
            start,
            precision: self.precision,
            budget: self.budget,
            requests,
            warmup: self.common.load.warmup.and_then(|warmup| warmup.time),
        };
        Ok((run.plan(allowed)?, settings))
    }

    /// The SLA: limits from above, which more load can break.
    fn rules(&self) -> Result<Vec<Rule>, CliError> {
        let rules = parse_rules(&self.common.tool.sla)?;
        if rules.is_empty() {
            return usage(
                "capacity is the highest rate that meets an SLA: give one, as in --sla 'p99<=50ms'",
            );
        }
        let odd =
            rules.iter().find(|rule| rule.metric() == Metric::Throughput || !rule.op().is_upper_limit());
        match odd {
            Some(rule) => usage(format!(
                "--sla {rule}: capacity needs limits from above, which more load can break, as in 'p99<=50ms'"
            )),
            None => Ok(rules),
        }
    }

    fn refuse_what_is_chosen_here(&self) -> Result<(), CliError> {
        let load = &self.common.load;
        let metrics = self.common.tool.metrics.given();
        let given = [
            ("--rate", load.rate.is_some()),
            ("--stages", load.stages.is_some()),
            ("--replay", load.replay.is_some()),
            ("--think", load.think.is_some()),
            ("-n", load.requests.is_some()),
            ("-d", load.duration.is_some()),
            ("--server-log", self.common.stub.server_log.is_some()),
            ("--against", self.common.tool.against.against.is_some()),
            ("--alert", self.common.tool.alerts.is_given()),
            ("--summary", self.common.tool.handouts.summary.is_some()),
            ("--junit", self.common.tool.handouts.junit.is_some()),
            (metrics.unwrap_or_default(), metrics.is_some()),
            ("--warmup with a number of requests", load.warmup.is_some_and(|warmup| warmup.time.is_none())),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((flag, _)) if metrics == Some(*flag) => {
                usage(format!("{flag}: capacity does not know it; use it with run"))
            }
            Some((flag @ ("--against" | "--alert" | "--summary" | "--junit"), _)) => {
                usage(format!("{flag}: capacity does not know it; capacity.json has what it found"))
            }
            Some((flag, _)) => usage(format!(
                "{flag}: capacity chooses rates and lengths of its probes itself; see --start, --budget and --precision"
            )),
            None => Ok(()),
        }
    }
}

/// An answer that comes twice as late as the SLA allows is too late, however late it is. None where no rule limits a time.
fn patience(rules: &[Rule]) -> Option<Nanos> {
    let limits = rules.iter().filter_map(|rule| match rule.limit() {
        Limit::Time(limit) => Some(limit.saturating_add(limit).max(PATIENCE_MIN)),
        _ => None,
    });
    limits.max()
}
