//! Runs a scenario: the real driver, worker loop and recorder in virtual worlds, one after the other, and gathers what
//! both sides have to say.
//!
//! It can be sabotaged, to prove that the checks notice.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};
use hairspring::analyze::validity::{self, Validity};
use hairspring::engine::contract::Checked;
use hairspring::engine::sim::{Exchange, SimClock, SimEngine, World};
use hairspring::engine::{Clock, Engine};
use hairspring::facts::alerts::RoundAlerts;
use hairspring::facts::{ClockAccount, Host, Round, ServerFacts, ThreadReport, ThreadTimes, WorkerCounts};
use hairspring::load::driver::{Driver, Keepalive, Settings};
use hairspring::load::io::{ConnId, EngineAccount, Event, Op, Stamp};
use hairspring::load::response;
use hairspring::load::sample::Sample;
use hairspring::load::schedule::{Schedule, Shard};
use hairspring::load::time::Nanos;
use hairspring::plan::WaitPlan;
use hairspring::record::{
    Distribution, LogChunk, LogPort, Path, Recorded, Recorder, SliceMerger, SlicePort, slicing,
};
use hairspring::report::csv::{RowBuffer, RowContext};
use hairspring::report::{Inputs, Report, json};
use hairspring::worker::{self, Wait};

use super::scenario::Scenario;

/// A bug, planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    /// The 4th finished request is not recorded.
    LoseSample,
    /// The 4th finished request is recorded twice.
    RepeatSample,
    /// `Sent` is stamped so much too late.
    LateSent(Nanos),
    /// The schedule begins so much too late.
    LateIntended(Nanos),
    /// `Received` is stamped so much too early.
    EarlyReceived(Nanos),
    /// The kernel's stamp of `Transmitted` is so much too late.
    LateTransmitted(Nanos),
    /// The kernel's stamp of `Received` is so much too early.
    EarlyArrived(Nanos),
    /// Transmit stamps get lost on their way from the engine.
    LoseTransmitted,
    /// The answer's stamp is told as that of the request.
    SwapStamps,
}

/// One thread's run, from both sides.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) samples: Vec<Sample>,
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) counts: WorkerCounts,
    /// Connects that the network saw.
    pub(crate) connects: u64,
    pub(crate) ended: Nanos,
    /// How often which fault, and what else is worth knowing, has happened.
    pub(crate) marks: BTreeMap<&'static str, u64>,
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) t0: Nanos,
    pub(crate) parts: Vec<Part>,
    pub(crate) round: Round,
}

impl Account {
    /// All measured requests, of all threads.
    pub(crate) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.parts.iter().flat_map(|part| &part.samples)
    }
}

/// From the moment all threads are ready to t0.
const START_LEAD: Nanos = Nanos::from_millis(2);
/// After the load, for what is still under way between the driver and the world.
const SETTLING_POLLS: usize = 20;
const CHUNKS: usize = 160;
const CHUNK_ROWS: usize = 1_024;

pub(crate) fn run(scenario: &Scenario, sabotage: Sabotage) -> Account {
    run_on(scenario, sabotage, |sim, _, _| Skewed { engine: sim, sabotage }, |_| ())
}

/// What stands between the driver and a simulated world.
pub(crate) trait Stack: Engine {
    /// The world.
    fn sim(&self) -> &SimEngine;
}

/// The same on what `build` makes of each thread's world, its number of connections and its seed; `look` sees it when the
/// load is over.
pub(crate) fn run_on<S: Stack>(
    scenario: &Scenario,
    sabotage: Sabotage,
    build: impl Fn(SimEngine, u32, u64) -> S,
    mut look: impl FnMut(&S),
) -> Account {
    let plan = &scenario.plan;
    let mut threads: Vec<Thread<'_, S>> =
        (0..scenario.worlds.len()).map(|index| Thread::open(scenario, index, &build)).collect();
    let t0 = threads.iter().map(|thread| thread.clock.time()).max().unwrap() + START_LEAD;
    let (mut recorded, mut parts, mut reports) = (Recorded::default(), Vec::new(), Vec::new());
    let (mut ports, merger) = slicing(plan.interval, threads.len());
    let merger = RefCell::new(merger);
    for (index, thread) in threads.drain(..).enumerate() {
        let (mine, part) = thread.run(t0, sabotage, ports.pop().unwrap(), &merger, &mut look);
        recorded.merge(mine);
        let times = ThreadTimes { on_cpu_ns: Some(1), run_delay_ns: Some(2), ..ThreadTimes::default() };
        reports.push(ThreadReport {
            cpu: plan.client.cpus[index],
            counts: part.counts,
            times,
            engine: EngineAccount::default(),
            clock: ClockAccount::default(),
            moved: false,
            failure: None,
            allocations: None,
            send_lag: Distribution::default(),
            arrival_gap: Distribution::default(),
        });
        parts.push(part);
    }
    recorded.slices = merger.into_inner().finish(t0);
    recorded.measured.close_round();
    recorded.path.close();
    recorded.warmup.close_round();
    let ended = parts.iter().map(|part| part.ended).max().unwrap();
    let capped = reports.iter().any(|report| report.counts.driver.capped);
    let round = Round {
        index: 0,
        seed: plan.seed,
        recorded,
        threads: reports,
        probe: None,
        helpers: Vec::new(),
        addresses: Vec::new(),
        server_ready: None,
        server_stats: None,
        wall: ended.saturating_sub(t0),
        steal: None,
        system: None,
        scraped: None,
        interrupted: !scenario.interrupts.is_empty() || capped,
        server_survived: None,
        server_failure: None,
        server_facts: ServerFacts::default(),
        alerts: RoundAlerts::default(),
    };
    Account { t0, parts, round }
}

/// A thread that has filled its pool.
struct Thread<'a, S> {
    scenario: &'a Scenario,
    shard: Shard,
    clock: SimClock,
    engine: Checked<S>,
    driver: Driver,
    recorder: Recorder,
    log: Receiver<LogChunk>,
}

impl<'a, S: Stack> Thread<'a, S> {
    fn open(scenario: &'a Scenario, index: usize, build: impl Fn(SimEngine, u32, u64) -> S) -> Self {
        let (plan, world) = (&scenario.plan, &scenario.worlds[index]);
        let shard = Shard { index: index as u64, of: scenario.worlds.len() as u64 };
        let settings = settings(scenario, shard);
        let connections = settings.connections;
        let sim = SimEngine::new(World::clone(world), connections, scenario.material.bodies())
            .with_stamps(plan.client.stamps);
        let clock = sim.clock();
        let mut engine = Checked::new(build(sim, connections, world.seed), connections);
        let reuses = settings.keepalive != Keepalive::Requests(1);
        let mut driver = Driver::new(settings);
        if reuses {
            let stops = || pressed(scenario, clock.time());
            worker::open_connections(&mut engine, &clock, &mut driver, stops).unwrap();
        }
        let (port, log) = log_port();
        let recorder = Recorder::new(plan.ok_statuses(), plan.digest, index, Some(port))
            .with_stamps(plan.client.stamps)
            .with_mix(scenario.material.requests.len());
        Self { scenario, shard, clock, engine, driver, recorder, log }
    }

    fn run(
        mut self,
        t0: Nanos,
        sabotage: Sabotage,
        slices: SlicePort,
        merger: &RefCell<SliceMerger>,
        look: &mut impl FnMut(&S),
    ) -> (Recorded, Part) {
        let plan = &self.scenario.plan;
        self.recorder.slice(slices, t0);
        self.recorder.follow(Path::for_thread(self.scenario.worlds.len(), 0));
        let start = if let Sabotage::LateIntended(by) = sabotage { t0 + by } else { t0 };
        let offer = self.scenario.material.offer(plan, plan.seed);
        self.driver.start(Schedule::new(&offer, self.shard, start), start);
        let wait = match plan.client.wait {
            WaitPlan::Spin => Wait::Spin,
            WaitPlan::Auto => Wait::Auto,
            WaitPlan::Park => Wait::Park,
        };
        let (clock, scenario) = (self.clock.clone(), self.scenario);
        let latest = t0 + plan.limits.time_cap + Nanos::from_secs(20);
        let stops = || {
            assert!(clock.time() < latest, "the run does not end");
            merger.borrow_mut().merge();
            pressed(scenario, clock.time())
        };
        let (engine, driver, recorder) = (&mut self.engine, &mut self.driver, &mut self.recorder);
        let counts = match sabotage {
            Sabotage::LoseSample => careless(engine, &clock, driver, |sample, nth| {
                if nth != 3 {
                    recorder.record(&sample);
                }
            }),
            Sabotage::RepeatSample => careless(engine, &clock, driver, |sample, nth| {
                for _ in 0..=u32::from(nth == 3) {
                    recorder.record(&sample);
                }
            }),
            _ => {
                let (counts, ended) = worker::run(engine, &clock, driver, recorder, wait, stops);
                ended.map(|()| counts)
            }
        }
        .unwrap();
        let recorded = self.recorder.finish(counts.driver.undrawn, counts.driver.retries);
        let ended = self.clock.time();
        for _ in 0..SETTLING_POLLS {
            self.engine.poll(Nanos::ZERO, &mut |_, _, _| ()).unwrap();
        }
        look(self.engine.inner());
        let sim = self.engine.inner().sim();
        let part = Part {
            samples: self.log.try_iter().flat_map(|chunk| chunk.samples().collect::<Vec<_>>()).collect(),
            exchanges: sim.exchanges().to_vec(),
            counts,
            connects: sim.connects(),
            ended,
            marks: sim.marks(),
        };
        (recorded, part)
    }
}

/// The worker's loop, but what becomes of a finished request is the caller's business.
fn careless<E: Engine>(
    engine: &mut E,
    clock: &SimClock,
    driver: &mut Driver,
    mut record: impl FnMut(Sample, usize),
) -> io::Result<WorkerCounts> {
    let mut nth = 0;
    loop {
        let now = clock.now();
        driver.tick(now, &mut |conn, op| engine.submit(conn, op));
        if !driver.is_done() {
            let deadline = driver.next_deadline();
            engine.poll(deadline, &mut |conn, event, stamp| driver.on_event(conn, event, stamp))?;
        }
        for sample in driver.finished() {
            record(sample, nth);
            nth += 1;
        }
        if driver.is_done() {
            return Ok(WorkerCounts { driver: driver.counts() });
        }
    }
}

/// An engine whose stamps are wrong if it is sabotaged.
struct Skewed<E> {
    engine: E,
    sabotage: Sabotage,
}

impl Stack for Skewed<SimEngine> {
    fn sim(&self) -> &SimEngine {
        &self.engine
    }
}

impl<E: Engine> Engine for Skewed<E> {
    fn submit(&mut self, conn: ConnId, op: Op<'_>) {
        self.engine.submit(conn, op);
    }

    fn poll(&mut self, deadline: Nanos, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) -> io::Result<()> {
        let sabotage = self.sabotage;
        self.engine.poll(deadline, &mut |conn, event, stamp| {
            let Stamp { mut at, mut kernel } = stamp;
            match (sabotage, event) {
                (Sabotage::LateSent(by), Event::Sent(_)) => at += by,
                (Sabotage::EarlyReceived(by), Event::Received(_)) => at = at - by,
                (Sabotage::LateTransmitted(by), Event::Transmitted(_)) => kernel = kernel.map(|k| k + by),
                (Sabotage::EarlyArrived(by), Event::Received(_)) => kernel = kernel.map(|k| k - by),
                (Sabotage::LoseTransmitted, Event::Transmitted(_)) => return,
                (Sabotage::SwapStamps, Event::Transmitted(_)) => kernel = Some(at),
                _ => {}
            }
            sink(conn, event, Stamp { at, kernel });
        })
    }
}

fn pressed(scenario: &Scenario, now: Nanos) -> usize {
    scenario.interrupts.iter().filter(|&&at| at <= now).count()
}

fn log_port() -> (LogPort, Receiver<LogChunk>) {
    let ((full, log), (spare, empty)) = (unbounded(), unbounded());
    for _ in 0..CHUNKS {
        spare.send(LogChunk::with_capacity(CHUNK_ROWS)).unwrap();
    }
    (LogPort { full, empty }, log)
}

/// As run.rs makes them.
fn settings(scenario: &Scenario, shard: Shard) -> Settings {
    let plan = &scenario.plan;
    let requests = scenario.material.table(plan.target.url.as_ref().unwrap(), plan.seed);
    Settings {
        load: plan.load.clone(),
        connections: shard.share(u64::from(plan.connections)) as u32,
        keepalive: plan.keepalive.into(),
        requests: Arc::new(requests),
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

/// The report of a run and the rows of its log, as they would be written.
pub(crate) fn written(scenario: &Scenario, account: Account) -> (Vec<u8>, Vec<u8>) {
    let (mut rows, mut buffer) = (Vec::new(), RowBuffer::default());
    for (thread, part) in account.parts.iter().enumerate() {
        for sample in &part.samples {
            let context = RowContext { round: 0, wall_offset: Nanos::ZERO };
            buffer.push(sample, thread, context);
            rows.extend_from_slice(buffer.rows());
            buffer.clear();
        }
    }
    (json::render(&report(scenario, account)), rows)
}

/// The verdict on a run, without the cost of a whole report.
pub(crate) fn judge(scenario: &Scenario, account: &Account) -> Validity {
    let round = std::slice::from_ref(&account.round);
    validity::judge(&scenario.plan, &host(), round, &account.round.recorded.measured, &[])
}

fn host() -> Host {
    Host {
        kernel: None,
        cpu_model: None,
        cpus: vec![0, 1],
        virtualized: Some(false),
        clocksource: None,
        governor: None,
        memory_bytes: None,
        nofile: None,
        clock_read_ns: Nanos(25),
    }
}

fn report(scenario: &Scenario, account: Account) -> Report {
    Report::new(Inputs {
        plan: &scenario.plan,
        host: &host(),
        rounds: &[account.round],
        positions: &[0],
        rules: &[],
        logs: Vec::new(),
        created_unix_ms: 1_700_000_000_000,
        complete: true,
        trial: None,
    })
}
