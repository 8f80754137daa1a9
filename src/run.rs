//! I/O: one round against one target. Starts the server if it is ours to start, pins one thread to each
//! processor of the plan, lets them begin together, and gathers what they recorded.
//!
//! Not here: several rounds, comparing, judging, printing, files of results.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::engine::epoll::EpollEngine;
use crate::engine::uring;
use crate::engine::{Clock, Engine, Setup};
use crate::facts::alerts::{Alert, RoundAlerts};
use crate::facts::live::Live;
use crate::facts::{ProbeFacts, Round, ServerFacts, ThreadReport};
use crate::load::driver::{Driver, Keepalive, Settings};
use crate::load::io::Stamps;
use crate::load::request::Requests;
use crate::load::response;
use crate::load::rng::mix;
use crate::load::schedule::{Extent, Load, Offer, Schedule, Shard};
use crate::plan::{EnginePlan, Material, Plan, Probe, Server, WaitPlan};
use crate::record::Path as RequestPath;
use crate::record::{LogPort, Recorded, Recorder, SlicePort, slicing};
use crate::sys::affinity;
use crate::sys::alloc;
use crate::sys::clock::{Monotonic, RunClock};
use crate::sys::helper::Helper;
use crate::sys::host;
use crate::sys::server::{ServerError, ServerProcess};
use crate::sys::signal::StopFlag;
use crate::worker::{self, Wait};

mod beside;
mod scraping;
mod start;
mod target;

use beside::{Beside, monitor, readers, watched};
use start::{StartLine, spawn};
use target::{Running, resolve, start_server, stats};
pub use target::{look_up, stub_args};

/// Why a round could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The server under test.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The name in the URL.
    #[error("cannot resolve `{host}`: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Something answers at the URL before the command was started.
    #[error(
        "something answers at {0} already, before the command of {1} was started: stop it, or leave the command out"
    )]
    Occupied(String, String),
    /// The engine that was asked for.
    #[error(transparent)]
    Engine(io::Error),
    /// Our own threads.
    #[error("{what}: {source}")]
    Instrument {
        /// What failed.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Where a round leaves what is not in its facts.
pub struct Outlets<'a> {
    /// One port for each thread, or none.
    pub logs: Vec<LogPort>,
    /// The file for what a started server prints.
    pub server_output: &'a Path,
    /// What is to be known of it while it is made.
    pub live: Option<&'a Arc<Live>>,
    /// An alert has begun. Called on the monitor's thread, which must not wait.
    pub alert: &'a (dyn Fn(&Alert) + Sync),
}

/// Makes round `index` of `plan`. `material` is what the plan's files hold.
pub fn round(
    plan: &Plan,
    index: u32,
    addresses: &[SocketAddr],
    material: &Material,
    outlets: Outlets<'_>,
    stop: &StopFlag,
) -> Result<Round, RunError> {
    let server_output = outlets.server_output;
    let mut running = start_server(plan, index, addresses, server_output, stop)?;
    let steal_before = host::steal(&plan.client.cpus);
    let live = outlets.live;
    if let Some(live) = live {
        live.begin_round(&plan.target.name, u64::from(plan.rounds));
    }
    let measured = measure(plan, &running, index, material, outlets, stop);
    if let Some(live) = live {
        live.end_round();
    }
    let mut measured = measured?;
    let steal_after = host::steal(&plan.client.cpus);
    measured.steal = steal_before.zip(steal_after).map(|(before, after)| after.saturating_sub(before));
    if let Some(process) = &mut running.process {
        measured.server_survived = Some(process.is_running());
        if matches!(plan.target.server, Server::Stub(_)) {
            measured.server_stats = stats(&running);
        }
    }
    measured.server_ready = running.ready;
    if let Some(process) = running.process {
        let ours = matches!(plan.target.server, Server::Stub(_)) && measured.server_survived == Some(true);
        measured.server_failure = end(process, ours, server_output, stop)?;
    }
    Ok(measured)
}

/// A server that stays for several rounds, which are made with the [`plan`](Self::plan) that it gives.
pub struct Served {
    running: Running,
    server: Server,
    output: PathBuf,
}

impl Served {
    /// Starts the server of `plan`, if it is ours to start, and waits until it answers.
    pub fn start(
        plan: &Plan,
        addresses: &[SocketAddr],
        output: &Path,
        stop: &StopFlag,
    ) -> Result<Self, RunError> {
        let running = start_server(plan, 0, addresses, output, stop)?;
        Ok(Self { running, server: plan.target.server.clone(), output: output.to_owned() })
    }

    /// `plan`, against this server as one that runs already.
    pub fn plan(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        plan.target.url = Some(self.running.url.clone());
        plan.target.server = Server::External;
        plan
    }

    /// Stops it; what it ended with, if that was a failure.
    pub fn stop(self, stop: &StopFlag) -> Result<Option<String>, RunError> {
        let Some(mut process) = self.running.process else { return Ok(None) };
        let ours = matches!(self.server, Server::Stub(_)) && process.is_running();
        end(process, ours, &self.output, stop)
    }
}

/// Stops a process; what it ended with, if it was `ours` and that was a failure.
fn end(
    process: ServerProcess,
    ours: bool,
    output: &Path,
    stop: &StopFlag,
) -> Result<Option<String>, RunError> {
    let hurried = stop.count() >= 2;
    let ended = process.stop(|| stop.count() >= 2);
    let status = ended.map_err(|source| RunError::Instrument { what: "cannot stop the server", source })?;
    let failed = ours && !status.success() && !hurried;
    Ok(failed.then(|| format!("the stub ended with {status}; see {}", output.display())))
}

fn measure(
    plan: &Plan,
    running: &Running,
    index: u32,
    material: &Material,
    outlets: Outlets<'_>,
    stop: &StopFlag,
) -> Result<Round, RunError> {
    let Outlets { logs, live, alert, .. } = outlets;
    let threads = plan.client.cpus.len();
    let seed = mix(plan.seed, u64::from(index));
    let requests = Arc::new(material.table(&running.url, seed));
    let probe_plan = plan.client.probe.map(|probe| plan_of_probe(plan, probe));
    let watched = plan.client.monitor.map(|monitor| watched(plan, running, monitor, live));
    let scraper = scraping::scraper(plan, running)?;
    let beside_the_load = [probe_plan.is_some(), watched.is_some(), scraper.is_some()];
    let everybody = threads + beside_the_load.iter().filter(|there| **there).count();
    let start = &StartLine::of(everybody);
    let job = |plan, thread, until| {
        let requests = Arc::clone(&requests);
        Job { plan, running, thread, material, requests, seed, stop, until }
    };
    let mut logs = logs.into_iter();
    let (mut slices, merger) = slicing(plan.interval, threads);
    let load_over = &AtomicBool::new(false);
    let beside = Beside::new(merger, live);
    let readers_before = live.map(|live| live.readers());
    let gathered = std::thread::scope(|scope| {
        let begin = || {
            let watch =
                |watched| spawn(scope, "monitor", move || monitor(plan, watched, start, load_over, alert));
            let monitoring = watched.as_ref().map(watch).transpose()?;
            let ask =
                |scraper| spawn(scope, "scrape", move || scraping::scraping(plan, scraper, start, load_over));
            let scraping = scraper.as_ref().map(ask).transpose()?;
            let merging = spawn(scope, "slices", move || beside.until(load_over, plan))?;
            let worker = |thread| {
                let ports = Ports { log: logs.next(), slices: slices.pop() };
                let job = job(plan, thread, None);
                spawn(scope, format!("worker-{thread}"), move || job.run(ports, start))
            };
            let workers = (0..threads).map(worker).collect::<io::Result<Vec<_>>>()?;
            let probe = |plan| {
                let job = job(plan, 0, Some(load_over));
                spawn(scope, "probe", move || job.run(Ports { log: None, slices: None }, start))
            };
            let probing = probe_plan.as_ref().map(probe).transpose()?;
            io::Result::Ok((monitoring, scraping, merging, workers, probing))
        };
        let (monitoring, scraping, merging, workers, probing) = begin().inspect_err(|_| {
            // Those that were started do not wait for the one that was not.
            start.abandon();
            load_over.store(true, Ordering::Release);
        })?;
        let main = Helper::begin("main", &plan.client.helpers.cpus);
        // All are joined before one of their panics goes on: the merging thread must end too.
        let joined: Vec<_> = workers.into_iter().map(|handle| handle.join()).collect();
        load_over.store(true, Ordering::Release);
        merging.thread().unpark();
        let main = main.end();
        monitoring.iter().for_each(|monitoring| monitoring.thread().unpark());
        scraping.iter().for_each(|scraping| scraping.thread().unpark());
        let (system, watching) = monitoring.map(|monitoring| unwound(monitoring.join())).unzip();
        let (scraped, asking) = scraping.map(|scraping| unwound(scraping.join())).unzip();
        let (beside, merging) = unwound(merging.join());
        let probed = probing.map(|probing| unwound(probing.join()));
        let results: Vec<_> = joined.into_iter().map(unwound).collect();
        let helpers: Vec<_> = [main, merging].into_iter().chain(watching).chain(asking).collect();
        io::Result::Ok((results, probed, beside, system.flatten(), scraped.flatten(), helpers))
    });
    let (results, probed, beside, system, scraped, mut helpers) = gathered
        .map_err(|source| RunError::Instrument { what: "a client thread cannot be started", source })?;
    let ended = Monotonic.now();
    helpers.extend(live.zip(readers_before).map(|(live, before)| readers(plan, live, before)));
    let t0 = start.t0();
    let mut recorded = Recorded::default();
    let mut reports = Vec::with_capacity(threads);
    for result in results {
        let (part, report) =
            result.map_err(|source| RunError::Instrument { what: "a client thread failed", source })?;
        recorded.merge(part);
        reports.push(report);
    }
    let probe =
        probed.transpose().map_err(|source| RunError::Instrument { what: "the probe failed", source })?;
    recorded.slices = beside.merger.finish(t0);
    recorded.measured.close_round();
    recorded.path.close();
    recorded.warmup.close_round();
    let cut_short = |report: &ThreadReport| report.counts.driver.capped || report.failure.is_some();
    let cut_short = reports.iter().any(cut_short);
    Ok(Round {
        index,
        seed,
        recorded,
        threads: reports,
        probe: probe.map(|(recorded, thread)| ProbeFacts { recorded, thread }),
        helpers,
        addresses: running.addresses.clone(),
        server_ready: None,
        server_stats: None,
        wall: ended.saturating_sub(t0),
        steal: None,
        system,
        scraped,
        interrupted: stop.count() > 0 || cut_short,
        server_survived: None,
        server_failure: None,
        server_facts: ServerFacts { startup: running.startup },
        alerts: RoundAlerts::default(),
    })
}

/// The same requests from one connection, at a constant low rate, without sleeping where nobody else is in need of the
/// processor.
fn plan_of_probe(plan: &Plan, probe: Probe) -> Plan {
    let mut of_probe = plan.clone();
    of_probe.load = Load::Constant { rate: probe.rate };
    of_probe.connections = 1;
    of_probe.warmup = Extent::NONE;
    of_probe.measure = Extent { count: None, time: Some(plan.limits.time_cap) };
    of_probe.client.cpus = vec![probe.cpu];
    of_probe.client.wait = if probe.shared { WaitPlan::Park } else { WaitPlan::Spin };
    of_probe
}

/// What the ideal server will be fed with, for one thread of an open loop. Our stub says how long it worked on each
/// request, so there the memory is made ready; whether another server does is seen when it answers.
fn path(plan: &Plan) -> Option<RequestPath> {
    // what a probe sends stands in the server's queue too, and would not be in the path
    let (open, threads) =
        (plan.load.think().is_none() && plan.client.probe.is_none(), plan.client.cpus.len());
    let stub = matches!(plan.target.server, Server::Stub(_));
    let expected = if stub { plan.expected_requests().unwrap_or(0).div_ceil(threads as u64) } else { 0 };
    open.then(|| RequestPath::for_thread(threads, expected))
}

/// A panic in a thread goes on in this one.
fn unwound<T>(joined: std::thread::Result<T>) -> T {
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Where a thread puts what it records, beside its histograms.
struct Ports {
    log: Option<LogPort>,
    slices: Option<SlicePort>,
}

/// One thread's part.
struct Job<'a> {
    plan: &'a Plan,
    running: &'a Running,
    thread: usize,
    material: &'a Material,
    requests: Arc<Requests>,
    /// The round's.
    seed: u64,
    stop: &'a StopFlag,
    /// The probe goes on until the load is over.
    until: Option<&'a AtomicBool>,
}

impl Job<'_> {
    /// The one choice of an engine; from here on everything is monomorphic.
    fn run(self, ports: Ports, start: &StartLine) -> io::Result<(Recorded, ThreadReport)> {
        let setup = self.pin();
        let clock = &RunClock::new();
        match self.plan.client.engine {
            EnginePlan::Auto | EnginePlan::Epoll => {
                let engine = setup.and_then(|setup| EpollEngine::new(clock, setup));
                self.drive(engine, clock, ports, start)
            }
            EnginePlan::Uring if self.plan.client.stamps == Stamps::RxTx && uring::has_wide_completions() => {
                let engine = setup.and_then(|setup| uring::Wide::new(clock, setup));
                self.drive(engine, clock, ports, start)
            }
            EnginePlan::Uring => {
                let engine = setup.and_then(|setup| uring::Narrow::new(clock, setup));
                self.drive(engine, clock, ports, start)
            }
        }
    }

    fn drive<E: Engine>(
        self,
        engine: io::Result<E>,
        clock: &RunClock,
        ports: Ports,
        start: &StartLine,
    ) -> io::Result<(Recorded, ThreadReport)> {
        let prepared = engine.and_then(|engine| self.prepare(engine, clock));
        let offer = Offer { probe: self.until.is_some(), ..self.material.offer(self.plan, self.seed) };
        let mut recorder = Recorder::new(self.plan.ok_statuses(), self.plan.digest, self.thread, ports.log)
            .with_connections(self.settings().connections)
            .with_stamps(self.plan.client.stamps)
            .with_mix(self.requests.count())
            .expecting(offer.expected());
        let t0 = start.wait(prepared.is_ok());
        let (mut engine, mut driver) = prepared?;
        let Some(t0) = t0 else {
            return Err(io::Error::other(
                "another could not start, or there is too little memory for a report",
            ));
        };
        if let Some(slices) = ports.slices {
            recorder.slice(slices, t0);
        }
        if let Some(path) = path(self.plan) {
            recorder.follow(path);
        }
        let schedule = Schedule::new(&offer, self.shard(), t0);
        let before = host::thread_times();
        driver.start(schedule, t0);
        let wait = match self.plan.client.wait {
            WaitPlan::Spin => Wait::Spin,
            WaitPlan::Auto if self.plan.client.exclusive => Wait::Auto,
            WaitPlan::Auto | WaitPlan::Park => Wait::Park,
        };
        let over = || self.until.is_some_and(|over| over.load(Ordering::Acquire));
        let stops = || self.stop.count().max(usize::from(over()));
        let allocated = alloc::count();
        let (counts, ended) = worker::run(&mut engine, clock, &mut driver, &mut recorder, wait, stops);
        let allocations = allocated.zip(alloc::count()).map(|(before, after)| after - before);
        let times = host::thread_times().since(before);
        // A probe ends with the load: what it did not come to was never asked for.
        let undrawn = if self.until.is_none() { counts.driver.undrawn } else { 0 };
        let recorded = recorder.finish(undrawn, counts.driver.retries);
        let report = ThreadReport {
            cpu: self.plan.client.cpus[self.thread],
            counts,
            times,
            engine: engine.account(),
            clock: clock.account(),
            moved: affinity::allowed() != [self.plan.client.cpus[self.thread]],
            failure: ended.err().map(|error| error.to_string()),
            allocations,
            send_lag: recorded.measured.send_lag.clone(),
            arrival_gap: recorded.measured.arrival_gap.clone(),
        };
        Ok((recorded, report))
    }

    /// On its processor, what the engine will need.
    fn pin(&self) -> io::Result<Setup> {
        affinity::pin_current(self.plan.client.cpus[self.thread]).map_err(io::Error::other)?;
        affinity::sharpen_timers();
        let open = self.plan.load.think().is_none();
        Ok(Setup {
            connections: self.settings().connections,
            targets: vec![self.running.addresses.clone()],
            bodies: self.material.bodies(),
            stamps: self.plan.client.stamps,
            small_batches: open || self.plan.client.stamps != Stamps::User,
        })
    }

    /// The driver, with its pool filled.
    fn prepare<E: Engine>(&self, mut engine: E, clock: &impl Clock) -> io::Result<(E, Driver)> {
        let settings = self.settings();
        let reuses = settings.keepalive != Keepalive::Requests(1);
        let mut driver = Driver::new(settings);
        if reuses {
            worker::open_connections(&mut engine, clock, &mut driver, || self.stop.count())?;
        }
        Ok((engine, driver))
    }

    fn shard(&self) -> Shard {
        Shard { index: self.thread as u64, of: self.plan.client.cpus.len() as u64 }
    }

    fn settings(&self) -> Settings {
        let plan = self.plan;
        Settings {
            load: plan.load.clone(),
            connections: self.shard().share(u64::from(plan.connections)) as u32,
            keepalive: plan.keepalive.into(),
            requests: Arc::clone(&self.requests),
            stamps: plan.client.stamps,
            digest: plan.digest,
            retry_stale: plan.retry_stale,
            timeout: plan.limits.timeout,
            connect_timeout: plan.limits.connect_timeout,
            drain: plan.limits.drain,
            time_cap: plan.limits.time_cap,
            limits: response::Limits::default(),
        }
    }
}
