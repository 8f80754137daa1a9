//! What is simulated: a plan and one virtual world for each of its threads. Random ones follow from a seed, swarm style:
//! whole features are on or off, so that runs differ in kind.

use clap::Parser;
use hairspring::cli::RunArgs;
use hairspring::engine::sim::{Costs, Faults, Freeze, Server, Service, Stop, World};
use hairspring::load::io::Stamps;
use hairspring::load::rng::{Rng, mix};
use hairspring::load::schedule::{Arrivals, Extent, Load, Rate, RateAt, UsersAt};
use hairspring::load::time::Nanos;
use hairspring::plan::{KeepalivePlan, Material, Outgoing, Plan, WaitPlan};

#[derive(Parser)]
struct Run {
    #[command(flatten)]
    args: RunArgs,
}

/// A whole simulation. Printed when it fails.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) plan: Plan,
    /// What is sent, and the table of a replay.
    pub(crate) material: Material,
    pub(crate) worlds: Vec<World>,
    /// When the user presses Ctrl-C.
    pub(crate) interrupts: Vec<Nanos>,
}

pub(crate) const START: Nanos = Nanos::from_secs(1);

impl Scenario {
    /// A closed loop of `count` requests in a perfect world: nothing costs anything but the network and the work.
    pub(crate) fn perfect(count: u64, connections: u32, service: Nanos) -> Self {
        let args = ["run", "http://127.0.0.1:8080/v1/infer", "-n", "100", "-c", "10"];
        let mut plan = Run::parse_from(args).args.plan(&[0, 1, 2, 3]).unwrap();
        plan.client.cpus = vec![1];
        plan.client.wait = WaitPlan::Park;
        plan.load = Load::Closed { think: Nanos::ZERO };
        plan.connections = connections;
        plan.warmup = Extent::NONE;
        plan.measure = Extent { count: Some(count), time: None };
        let tiny = Nanos(20);
        let world = World {
            seed: 0,
            start: START,
            latency: Nanos::from_micros(25),
            jitter: Nanos::ZERO,
            costs: Costs { clock: tiny, submit: tiny, event: tiny, poll: tiny },
            server: Server {
                servers: None,
                service: Service::Fixed(service),
                work_seed: 0,
                freeze: None,
                body_max: 0,
            },
            faults: Faults::default(),
            stops: Vec::new(),
        };
        let material = Material { requests: vec![outgoing("GET", None, None, 1)], replay: None };
        Self { plan, material, worlds: vec![world], interrupts: Vec::new() }
    }

    /// The same for an open loop.
    pub(crate) fn open(milli_per_s: u64, time: Nanos, connections: u32, service: Nanos) -> Self {
        let mut scenario = Self::perfect(0, connections, service);
        scenario.plan.load = Load::Constant { rate: Rate { milli_per_s } };
        scenario.plan.measure = Extent { count: None, time: Some(time) };
        scenario
    }

    /// Spreads the load over so many threads, each in a copy of the world.
    pub(crate) fn over(mut self, threads: usize) -> Self {
        self.plan.client.cpus = (1..=threads).collect();
        self.worlds = vec![self.worlds[0].clone(); threads];
        self
    }

    /// The scenario of a seed.
    pub(crate) fn random(seed: u64) -> Self {
        let mut draw = Draw(Rng::new(mix(seed, 1)));
        let threads = draw.between(1, 3);
        let mut scenario = Self::perfect(1, draw.between(threads, 9) as u32, Nanos::ZERO);
        random_plan(&mut scenario.plan, &mut draw);
        random_material(&mut scenario, &mut draw);
        scenario.plan.seed = seed;
        scenario.plan.interval = Nanos::from_millis(5 + seed % 50);
        scenario.plan.client.stamps =
            [Stamps::User, Stamps::Rx, Stamps::RxTx, Stamps::RxTx][seed as usize % 4];
        scenario.worlds[0] = random_world(&mut draw);
        let spins = scenario.plan.client.wait != WaitPlan::Park;
        if spins {
            // a turn costs more, or a spinning client would turn millions of times
            scenario.worlds[0].costs.poll = draw.micros(20, 50);
        }
        scenario = scenario.over(threads as usize);
        for (thread, world) in scenario.worlds.iter_mut().enumerate() {
            world.seed = mix(mix(seed, 2), thread as u64);
        }
        if draw.one_in(5) {
            scenario.interrupts.push(START + draw.micros(0, 200_000));
            if draw.one_in(2) {
                scenario.interrupts.push(scenario.interrupts[0] + draw.micros(0, 20_000));
            }
        }
        scenario
    }
}

fn random_plan(plan: &mut Plan, draw: &mut Draw) {
    let rate = Rate { milli_per_s: draw.between(50_000, 5_000_000) };
    plan.load = match draw.between(0, 11) {
        0 => Load::Closed { think: Nanos::ZERO },
        1 | 2 => Load::Closed { think: draw.micros(1, 20_000) },
        3 => Load::Users { think: Nanos::ZERO, stages: random_users(draw, plan.connections) },
        4 => Load::Users { think: draw.micros(1, 20_000), stages: random_users(draw, plan.connections) },
        5 => Load::Replay { file: "replay.csv".to_owned(), rows: 0, digest: String::new() },
        6 | 7 => Load::Poisson { rate },
        8 => Load::Stages { arrivals: Arrivals::Constant, stages: random_rates(draw) },
        9 => Load::Stages { arrivals: Arrivals::Poisson, stages: random_rates(draw) },
        _ => Load::Constant { rate },
    };
    let counts_warmup = matches!(plan.load, Load::Closed { .. } | Load::Constant { .. });
    plan.warmup = match draw.between(0, 3) {
        0 if counts_warmup => Extent { count: Some(draw.between(1, 30)), time: None },
        1 => Extent { count: None, time: Some(draw.micros(1_000, 50_000)) },
        _ => Extent::NONE,
    };
    let count = Some(draw.between(1, 200));
    let time = Some(draw.micros(10_000, 300_000));
    plan.measure = match draw.between(0, 4) {
        0 | 1 => Extent { count, time: None },
        2 | 3 => Extent { count: None, time },
        _ => Extent { count, time },
    };
    if let Some(span) = plan.load.span() {
        plan.measure = Extent { count: None, time: Some(span) };
    }
    if draw.one_in(2) {
        plan.keepalive = KeepalivePlan::Requests(draw.between(1, 5) as u32);
    }
    plan.retry_stale = draw.one_in(2);
    plan.digest = draw.one_in(3);
    plan.limits.timeout = draw.micros(10_000, 300_000);
    plan.limits.connect_timeout = draw.micros(5_000, 100_000);
    plan.limits.drain = draw.micros(0, 200_000);
    plan.limits.time_cap = if draw.one_in(8) { draw.micros(5_000, 200_000) } else { Nanos::from_secs(5) };
    plan.client.wait =
        [WaitPlan::Park, WaitPlan::Park, WaitPlan::Auto, WaitPlan::Spin][draw.between(0, 3) as usize];
}

/// Three to six points within a third of a second: ramps, holds, steps, and now and then nothing at all.
fn random_points(draw: &mut Draw) -> Vec<Nanos> {
    let mut at = Nanos::ZERO;
    let mut points = vec![at];
    for nth in 0..draw.between(2, 5) {
        let step = nth % 2 == 1 && draw.one_in(3);
        at += if step { Nanos::ZERO } else { draw.micros(1_000, 80_000) };
        points.push(at);
    }
    points.push(at + draw.micros(1_000, 80_000));
    points
}

fn random_rates(draw: &mut Draw) -> Vec<RateAt> {
    let rate = |draw: &mut Draw| if draw.one_in(4) { 0 } else { draw.between(1_000, 4_000_000) };
    let point = |at, milli_per_s| RateAt { at, rate: Rate { milli_per_s } };
    let points = random_points(draw);
    points.into_iter().map(|at| point(at, rate(draw))).collect()
}

fn random_users(draw: &mut Draw, most: u32) -> Vec<UsersAt> {
    let points = random_points(draw);
    points.into_iter().map(|at| UsersAt { at, users: draw.between(0, u64::from(most)) as u32 }).collect()
}

fn outgoing(method: &str, target: Option<&str>, body: Option<usize>, weight: u64) -> Outgoing {
    Outgoing {
        method: method.to_owned(),
        target: target.map(str::to_owned),
        fields: Vec::new(),
        body: body.map(|length| vec![b'x'; length]),
        weight,
    }
}

fn random_material(scenario: &mut Scenario, draw: &mut Draw) {
    let random = |draw: &mut Draw| {
        let body = if draw.one_in(3) { Some(draw.between(0, 2_000) as usize) } else { None };
        let target = ["/a", "/somewhere/else?x=1"][draw.between(0, 1) as usize];
        outgoing(if body.is_some() { "POST" } else { "GET" }, Some(target), body, draw.between(1, 1_000))
    };
    let templates = if draw.one_in(3) { draw.between(2, 5) } else { 1 };
    scenario.material.requests = (0..templates).map(|_| random(draw)).collect();
    if let Load::Replay { rows, .. } = &mut scenario.plan.load {
        let within = draw.micros(1_000, 300_000).0;
        let mut offsets: Vec<Nanos> =
            (0..draw.between(1, 200)).map(|_| Nanos(draw.between(0, within))).collect();
        offsets.sort_unstable();
        *rows = offsets.len() as u64;
        scenario.material.replay = Some(offsets.into());
        if draw.one_in(2) {
            scenario.plan.measure = Extent::default();
        }
    }
}

fn random_world(draw: &mut Draw) -> World {
    let mut world = Scenario::perfect(0, 1, Nanos::ZERO).worlds.remove(0);
    world.latency = draw.micros(1, 500);
    world.jitter = if draw.one_in(2) { draw.micros(1, 1_000) } else { Nanos::ZERO };
    world.costs = Costs {
        clock: Nanos(draw.between(15, 50)),
        submit: Nanos(draw.between(300, 5_000)),
        event: Nanos(draw.between(300, 5_000)),
        poll: Nanos(draw.between(200, 2_000)),
    };
    world.server.servers = if draw.one_in(2) { Some(draw.between(1, 4) as u32) } else { None };
    world.server.service = match draw.between(0, 2) {
        0 => Service::Fixed(draw.micros(0, 5_000)),
        1 => Service::Exponential { mean: draw.micros(10, 5_000) },
        _ => Service::Bimodal {
            fast: draw.micros(0, 1_000),
            slow: draw.micros(1_000, 50_000),
            slow_per_mille: draw.between(1, 100) as u16,
        },
    };
    world.server.work_seed = draw.between(0, 1 << 40);
    world.server.body_max = draw.between(0, 300) as usize;
    if draw.one_in(3) {
        let every = draw.micros(20_000, 200_000);
        let length = Nanos(draw.between(1, every.0 / 2));
        world.server.freeze = Some(Freeze { first: START + draw.micros(0, 50_000), every, length });
    }
    if !draw.one_in(5) {
        world.faults = Faults::swarm(draw.between(0, 1 << 40));
    }
    if draw.one_in(5) {
        let mut at = START;
        for _ in 0..draw.between(1, 3) {
            at += draw.micros(0, 150_000);
            world.stops.push(Stop { at, length: draw.micros(100, 100_000) });
        }
    }
    world
}

struct Draw(Rng);

impl Draw {
    /// Both ends included.
    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.0.next_u64() % (most - least + 1)
    }

    fn micros(&mut self, least: u64, most: u64) -> Nanos {
        Nanos(self.between(least * 1_000, most * 1_000))
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.between(1, n) == 1
    }
}
