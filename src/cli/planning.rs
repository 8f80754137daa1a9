//! From flags to the plan: defaults, presets, and what contradicts itself. What only the machine can tell (its
//! processors) is handed in.

use crate::analyze::gate::{Relative, Rule};
use crate::analyze::paired::{Criteria, Sequential};
use crate::analyze::ranking;
use crate::analyze::summary::TABLED;
use crate::load::schedule::{Extent, Load};
use crate::load::time::Nanos;
use crate::plan::{Body, Client, Helpers, Limits, Mix, Monitor, Plan, Probe, Request, Server, Stub, Target};
use crate::preset::{PRESETS, Preset};

use super::values::{
    announces_body, check_method, is_loopback, parse_header, parse_ok, parse_rules, parse_url,
};
use super::variants::Side;
use super::{
    AgainstArgs, CliError, CommonArgs, CompareArgs, CpuList, GateArgs, MonitorInterval, RunArgs, usage,
};

/// The body of requests to the stub, unless another is given.
const STUB_BODY: &str = r#"{"prompt":"How late is late?","max_tokens":64}"#;

/// Shorter slices could not be merged while the load runs without disturbing it.
const INTERVAL_MIN: Nanos = Nanos::from_millis(100);

/// `--max-rounds`, where it is not given.
const UNTIL_ROUNDS: u32 = 24;

impl RunArgs {
    /// The plan, on a machine whose usable processors are `allowed`.
    pub fn plan(&self, allowed: &[usize]) -> Result<Plan, CliError> {
        let preset = self.preset.unwrap_or(PRESETS[0]);
        let common = self.common.filled(preset, self.time_scale)?;
        let rounds = checked_rounds("--rounds", self.rounds.or(self.preset.map(|p| p.rounds)).unwrap_or(1))?;
        let (url, stub) = match (&self.url, &self.stub_model) {
            (Some(url), _) => (Some(parse_url(url)?), None),
            (None, model) => (None, model.clone().or(Some(preset.model.to_owned()))),
        };
        let started = stub.is_some() || self.cmd.is_some();
        self.common.refuse_idle_flags(stub.is_some(), started)?;
        let local = started || url.as_ref().is_some_and(is_loopback);
        let cpus = common.processors(allowed, local)?;
        let server = match (&stub, &self.cmd) {
            (Some(model), _) => Server::Stub(common.stub(model, preset, &cpus.server)),
            (None, Some(command)) => Server::Command {
                command: command.clone(),
                cpus: cpus.server.clone(),
                clean_env: self.clean_env,
                ready_timeout: self.ready_timeout,
            },
            (None, None) => Server::External,
        };
        let target = Target { name: "target".to_owned(), url, server };
        let rules = parse_rules(&common.tool.sla)?;
        let plan = common.plan(target, preset, &cpus, &rules, common.request.digest, rounds)?;
        let scenario = self.preset.map(|preset| preset.scenario(self.time_scale));
        Ok(Plan { scenario, confirm: self.confirm, ..plan })
    }
}

impl CompareArgs {
    /// The plans of baseline and optimized, which differ in their target alone; or of each variant.
    pub fn plans(&self, allowed: &[usize]) -> Result<Vec<Plan>, CliError> {
        let preset = self.preset.unwrap_or(PRESETS[0]);
        let sides = self.sides()?;
        let ranked = !self.variants().is_empty();
        let few = if ranked { ranking::rounds_needed(sides.len()) as u32 } else { 0 };
        let (flag, rounds) = match self.until {
            Some(_) => ("--max-rounds", self.max_rounds.unwrap_or(UNTIL_ROUNDS)),
            None => ("--rounds", self.rounds.unwrap_or(preset.rounds.max(few))),
        };
        let rounds = checked_rounds(flag, rounds)?;
        if self.clean_env && sides.iter().all(|side| side.command.is_none()) {
            return usage("--clean-env is for servers started with --baseline-cmd, --optimized-cmd or --cmd");
        }
        let any_stub = sides.iter().any(|side| side.url.is_none());
        let any_started = sides.iter().any(Side::is_started);
        self.common.refuse_idle_flags(any_stub, any_started)?;
        let local = any_started || sides.iter().filter_map(|side| side.url.as_ref()).any(is_loopback);
        let plan = |side: Side| {
            let name = side.name.clone();
            let plan = self.plan(side, preset, allowed, local, rounds);
            plan.map_err(|error| if ranked { error.of(&name) } else { error })
        };
        sides.into_iter().map(plan).collect()
    }

    fn plan(
        &self,
        side: Side,
        preset: Preset,
        allowed: &[usize],
        local: bool,
        rounds: u32,
    ) -> Result<Plan, CliError> {
        let Side { name, url, model, command, common } = side;
        let common = common.filled(preset, 1.0)?;
        let cpus = common.processors(allowed, local)?;
        let default_rule = ["p95<=800ms".to_owned()];
        let sla = if common.tool.sla.is_empty() { &default_rule[..] } else { &common.tool.sla };
        let rules = parse_rules(sla)?;
        let server = match (&url, command) {
            (None, _) => Server::Stub(common.stub(&model, preset, &cpus.server)),
            (Some(_), Some(command)) => {
                let (clean_env, ready_timeout) = (self.clean_env, self.ready_timeout);
                Server::Command { command, cpus: cpus.server.clone(), clean_env, ready_timeout }
            }
            (Some(_), None) => Server::External,
        };
        let digest = common.request.digest || !self.ignore_output;
        let plan = common.plan(Target { name, url, server }, preset, &cpus, &rules, digest, rounds)?;
        Ok(Plan { scenario: self.preset.map(|preset| preset.scenario(1.0)), ..plan })
    }

    /// What makes a difference, and with `--until` the rule that adds rounds; `plan` is the first of the
    /// [`plans`](Self::plans).
    pub fn criteria(&self, plan: &Plan) -> (Criteria, Option<Sequential>) {
        let Some(until) = self.until else {
            return (Criteria { min_effect: self.min_effect, ..Criteria::default() }, None);
        };
        let mut figures = tabled(&plan.sla);
        figures.dedup();
        if figures.is_empty() || !self.variants().is_empty() {
            figures = vec![self.figure(plan)];
        }
        let rule = Sequential::new(until, figures, plan.rounds);
        (Criteria { min_effect: self.min_effect, confidence: rule.confidence() }, Some(rule))
    }

    /// The figure that ranks variants.
    pub fn figure(&self, plan: &Plan) -> String {
        let asked = || tabled(&plan.sla).into_iter().next();
        self.rank_by.clone().or_else(asked).unwrap_or_else(|| "p50".to_owned())
    }
}

/// The percentiles of rules that every table has.
fn tabled(sla: &[String]) -> Vec<String> {
    let metrics = sla.iter().filter_map(|text| Some(text.parse::<Rule>().ok()?.metric().to_string()));
    let name = |metric: String| TABLED.iter().find(|(_, p)| p.to_string() == metric).map(|(name, _)| *name);
    metrics.filter_map(name).map(str::to_owned).collect()
}

fn checked_rounds(flag: &str, rounds: u32) -> Result<u32, CliError> {
    if (1..=1_000).contains(&rounds) { Ok(rounds) } else { usage(format!("{flag} {rounds}: from 1 to 1000")) }
}

impl GateArgs {
    /// The rules.
    pub fn rules(&self) -> Result<Vec<Rule>, CliError> {
        parse_rules(&self.sla)
    }
}

impl AgainstArgs {
    /// The rules against the baseline.
    pub fn rules(&self) -> Result<Vec<Relative>, CliError> {
        let parse =
            |text: &String| text.parse().map_err(|error| CliError::Usage(format!("--sla-against: {error}")));
        self.sla_against.iter().map(parse).collect()
    }
}

/// Who runs where.
struct Processors {
    server: Vec<usize>,
    client: Vec<usize>,
    exclusive: bool,
    allowed: Vec<usize>,
}

impl CommonArgs {
    fn plan(
        &self,
        target: Target,
        preset: Preset,
        cpus: &Processors,
        rules: &[Rule],
        digest: bool,
        rounds: u32,
    ) -> Result<Plan, CliError> {
        let load = &self.load;
        let offered = load.offered()?;
        let measure = load.extent(&offered, preset);
        let connections = self.connections(&offered, preset, measure)?;
        let timeout = load.timeout.unwrap_or(Nanos::from_millis(preset.timeout_ms));
        for (flag, time) in [("--timeout", timeout), ("--connect-timeout", load.connect_timeout)] {
            if time == Nanos::ZERO {
                return usage(format!("{flag} 0 would fail every request: give a time, as in 30s"));
            }
        }
        if load.duration == Some(Nanos::ZERO) {
            return usage("-d 0 measures nothing: give a time, as in 10s");
        }
        let interval = self.tool.interval.unwrap_or(Nanos::from_secs(1));
        if interval < INTERVAL_MIN {
            return usage(format!("--interval {}: at least {INTERVAL_MIN}", interval.exact()));
        }
        let threads = self.threads(cpus, connections)?;
        let probe = self.probe(cpus, &threads)?;
        let measuring: Vec<usize> = threads.iter().copied().chain(probe.map(|probe| probe.cpu)).collect();
        let is_stub = matches!(target.server, Server::Stub(_));
        Ok(Plan {
            request: self.request(is_stub)?,
            mix: self.request.mix.clone().map(|file| Mix {
                file,
                digest: String::new(),
                requests: Vec::new(),
            }),
            target,
            load: offered,
            connections,
            warmup: load.warmup.unwrap_or(Extent::NONE),
            measure,
            keepalive: load.keepalive,
            limits: Limits {
                timeout,
                connect_timeout: load.connect_timeout,
                drain: load.drain.unwrap_or(timeout),
                time_cap: load.max_time,
            },
            client: Client {
                engine: self.tool.engine,
                stamps: self.tool.stamps.into(),
                probe,
                helpers: Helpers::place(&cpus.allowed, &measuring, &cpus.server),
                monitor: self.monitor()?,
                cpus: threads,
                exclusive: cpus.exclusive,
                wait: self.tool.wait,
            },
            ok: parse_ok(&self.request.ok)?,
            retry_stale: load.retry_stale,
            digest,
            log: !self.tool.no_log,
            interval,
            seed: load.seed,
            rounds,
            sla: rules.iter().map(ToString::to_string).collect(),
            alerts: self.tool.alerts.plan()?,
            confirm: false,
            scrape: self.tool.metrics.scrape()?,
            scenario: None,
        })
    }

    fn connections(&self, load: &Load, preset: Preset, measure: Extent) -> Result<u32, CliError> {
        let asked = match load {
            Load::Users { stages, .. } => stages.iter().map(|point| point.users).max(),
            _ => self.load.connections,
        };
        match (asked, measure.count) {
            (Some(0), _) => usage("-c 0: at least one connection is needed"),
            (_, Some(0)) => usage("-n 0: at least one request is needed"),
            (Some(c), Some(n)) if n < u64::from(c) => usage(format!(
                "-n {n} is less than -c {c}: some connections would have nothing to send; lower -c or raise -n"
            )),
            (Some(c), _) if c > 1_000_000 => usage(format!("-c {c}: at most 1000000")),
            (Some(c), _) => Ok(c),
            (None, Some(n)) => Ok(preset.connections.min(u32::try_from(n).unwrap_or(u32::MAX))),
            (None, None) => Ok(preset.connections),
        }
    }

    fn threads(&self, cpus: &Processors, connections: u32) -> Result<Vec<usize>, CliError> {
        // A probe wants a processor of its own.
        let used = |cpu: &&usize| cpus.client.contains(cpu) || cpus.server.contains(cpu);
        let spare = cpus.allowed.len() - cpus.allowed.iter().filter(used).count();
        let for_probe = usize::from(self.tool.probe.is_some() && spare == 0 && cpus.client.len() > 1);
        let most = (cpus.client.len() - for_probe).min(connections as usize);
        let threads = self.tool.threads.unwrap_or(most);
        match threads {
            0 => usage("--threads 0: at least one thread is needed"),
            t if t > connections as usize => {
                usage(format!("--threads {t} is more than -c {connections}: a thread needs a connection"))
            }
            t if t > cpus.client.len() => Err(CliError::Machine(format!(
                "--threads {t}, but the client has {} processors here: lower it, or name more with --cpus",
                cpus.client.len()
            ))),
            t => Ok(cpus.client[..t].to_vec()),
        }
    }

    /// The server gets the first half of the processors when it runs here, the client the rest.
    fn processors(&self, allowed: &[usize], local: bool) -> Result<Processors, CliError> {
        let half = if allowed.len() > 1 { allowed.len().div_ceil(2) } else { 0 };
        let check = |flag: &str, list: &CpuList| match list.0.iter().find(|cpu| !allowed.contains(cpu)) {
            Some(cpu) => Err(CliError::Machine(format!(
                "{flag}: processor {cpu} is not available here; available are {allowed:?}"
            ))),
            None => Ok(list.0.clone()),
        };
        let client_given = self.tool.cpus.as_ref().map(|list| check("--cpus", list)).transpose()?;
        let server = match &self.server_cpus {
            Some(list) => check("--server-cpus", list)?,
            None if !local => Vec::new(),
            None => {
                let free = |cpu: &&usize| !client_given.as_ref().is_some_and(|given| given.contains(cpu));
                let rest: Vec<usize> = allowed.iter().filter(free).copied().collect();
                match (&client_given, rest.is_empty()) {
                    (Some(_), false) => rest,
                    (None, _) if half > 0 => allowed[..half].to_vec(),
                    _ => allowed.to_vec(),
                }
            }
        };
        let client = client_given.unwrap_or_else(|| {
            let rest: Vec<usize> = allowed.iter().filter(|cpu| !server.contains(cpu)).copied().collect();
            if rest.is_empty() { allowed.to_vec() } else { rest }
        });
        let exclusive = allowed.len() > 1 && !client.iter().any(|cpu| server.contains(cpu));
        Ok(Processors { server, client, exclusive, allowed: allowed.to_vec() })
    }

    /// The probe takes a processor that neither server nor load uses; without one it shares the load's last, and sleeps.
    fn probe(&self, cpus: &Processors, threads: &[usize]) -> Result<Option<Probe>, CliError> {
        let Some(rate) = self.tool.probe else { return Ok(None) };
        let own = cpus.client.iter().find(|cpu| !threads.contains(cpu));
        let used = |cpu: &usize| threads.contains(cpu) || (cpus.server.contains(cpu) && own != Some(cpu));
        let spare = own.or(cpus.allowed.iter().find(|cpu| !used(cpu))).or(threads.last()).copied();
        let cpu = self.tool.probe_cpu.or(spare).unwrap_or_default();
        if !cpus.allowed.contains(&cpu) {
            return Err(CliError::Machine(format!(
                "--probe-cpu: processor {cpu} is not available here; available are {:?}",
                cpus.allowed
            )));
        }
        Ok(Some(Probe { rate, cpu, shared: used(&cpu) }))
    }

    fn monitor(&self) -> Result<Option<Monitor>, CliError> {
        let server_pid = self.tool.server_pid;
        match self.tool.monitor_interval {
            MonitorInterval::Off if server_pid.is_some() => usage(
                "--server-pid names what the monitor watches, and --monitor-interval is off: leave one out",
            ),
            MonitorInterval::Off => Ok(None),
            MonitorInterval::Every(interval) => Ok(Some(Monitor { interval, server_pid })),
        }
    }

    fn stub(&self, model: &str, preset: Preset, cpus: &[usize]) -> Stub {
        let args = &self.stub;
        Stub {
            model: model.to_owned(),
            workers: args.workers.unwrap_or(preset.workers),
            service: args.service.clone().unwrap_or_else(|| preset.service.to_owned()),
            work: args.work.clone().unwrap_or_else(|| preset.work.to_owned()),
            work_seed: args.work_seed.unwrap_or(self.load.seed),
            cpus: cpus.to_vec(),
            server_log: args.server_log.clone(),
            extra: args.extra_with(preset),
        }
    }

    fn request(&self, is_stub: bool) -> Result<Request, CliError> {
        let args = &self.request;
        let given = args.method.is_some() || args.body.is_some() || args.body_file.is_some();
        if args.mix.is_some() && given {
            return usage(
                "each line of --requests has its own method and body: leave out -X, --body and --body-file",
            );
        }
        let body = match (&args.body, &args.body_file) {
            (Some(text), _) => Some(Body::Text { text: text.clone() }),
            (None, Some(path)) => Some(Body::File { path: path.clone() }),
            (None, None)
                if is_stub && args.mix.is_none() && args.method.as_deref().is_none_or(|m| m == "POST") =>
            {
                Some(Body::Text { text: STUB_BODY.to_owned() })
            }
            (None, None) => None,
        };
        let default = if body.is_none() { "GET" } else { "POST" };
        let method = args.method.clone().unwrap_or_else(|| default.to_owned());
        check_method(&method).or_else(|why| usage(format!("-X {why}")))?;
        let empty = if announces_body(&method) { Body::Text { text: String::new() } } else { Body::None };
        let body = body.unwrap_or(empty);
        let headers = args.headers.iter().map(|field| parse_header(field)).collect::<Result<_, _>>()?;
        Ok(Request { method, headers, body })
    }

    /// Flags that do nothing, because nothing is a stub, or nothing is started.
    pub(super) fn refuse_idle_flags(&self, stub: bool, started: bool) -> Result<(), CliError> {
        if self.stub.is_used() && !stub {
            return usage(
                "--workers, --service, --work and the other flags of the stub do nothing for a server at a URL: leave \
                 them out, or measure the stub with --stub MODEL",
            );
        }
        if self.server_cpus.is_some() && !started {
            return usage(
                "--server-cpus pins a server that hairspring starts; this one runs already (use taskset)",
            );
        }
        if self.tool.server_pid.is_some() && started {
            return usage(
                "--server-pid is for a server that runs already; one that hairspring starts, it knows",
            );
        }
        if self.stub.workers == Some(0) {
            return usage("--workers 0: at least one worker is needed");
        }
        Ok(())
    }
}
