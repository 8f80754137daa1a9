//! Is the verdict right? In a virtual world the truth is known: the same world in which nobody stops the client. So each
//! seed is run twice, and the verdict on the disturbed run is held against how far its p50, p95 and p99 really are off. Negative
//! controls: what only the server does never makes a run INVALID.

use hairspring::analyze::stats::Percentile;
use hairspring::analyze::validity::{Level, Validity, Verdict};
use hairspring::engine::sim::{Freeze, Service, Stop};
use hairspring::load::rng::{Rng, mix};
use hairspring::load::schedule::Load;
use hairspring::load::time::Nanos;
use hairspring::plan::WaitPlan;

use super::check::check;
use super::scenario::{START, Scenario};
use super::stage::{self, Sabotage};

const fn us(us: u64) -> Nanos {
    Nanos::from_micros(us)
}

const fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

/// The percentiles that convict, over all scheduled, and the verdict.
fn run(scenario: &Scenario) -> ([Nanos; 3], Validity) {
    let account = stage::run(scenario, Sabotage::None);
    check(scenario, &account);
    let tally = &account.round.recorded.measured;
    let at = |p: Percentile| tally.response_ok.at_rank(p.rank(tally.scheduled));
    let convicting = [Percentile::P50, Percentile::P95, Percentile::P99];
    (convicting.map(|p| at(p).expect("every request is answered")), stage::judge(scenario, &account))
}

fn why(validity: &Validity) -> String {
    let each = validity.findings.iter().map(|f| format!("{:?} {} {:.2}", f.level, f.rule, f.figure.unwrap()));
    each.collect::<Vec<_>>().join("; ")
}

/// A load on a quiet server, by seed: open or closed, with a wide or a narrow pool.
fn quiet(seed: u64) -> Scenario {
    let mut rng = Rng::new(mix(seed, 7));
    let mut pick = |n: usize| (rng.next_u64() % n as u64) as usize;
    // a client that spins turns so often that only light loads are cheap to simulate
    let spins = pick(4) == 0;
    let rate = [100, 300, 60, 1_000][pick(if spins { 2 } else { 4 })];
    let mean = [us(200), us(1_000), us(5_000), us(20_000)][if spins { 0 } else { pick(4) }];
    // so many are in flight on average; a narrow pool has little to spare
    let busy = (rate as u64 * mean.0).div_ceil(1_000_000_000);
    let connections = [busy * 4 + 8, busy * 20 + 300][pick(2)] as u32;
    let mut scenario = Scenario::open(rate as u64 * 1_000, ms(4_000), connections, mean);
    if mean > us(500) && pick(2) == 0 {
        scenario.plan.load = Load::Closed { think: ms(3 * pick(3) as u64) };
        scenario.plan.connections = 1 + pick(6) as u32;
    }
    let world = &mut scenario.worlds[0];
    world.seed = seed;
    world.jitter = us(20);
    world.server.work_seed = seed;
    world.server.service = match pick(3) {
        0 => Service::Fixed(mean),
        1 => Service::Exponential { mean },
        _ => Service::Bimodal { fast: mean, slow: Nanos(mean.0 * 10), slow_per_mille: 30 },
    };
    if spins {
        scenario.plan.client.wait = WaitPlan::Auto;
        scenario.plan.client.exclusive = true;
        world.costs.poll = us(1);
    }
    scenario
}

/// The client is stopped 1 to 8 times for 2 to 300 ms.
fn stops(seed: u64) -> Vec<Stop> {
    let mut rng = Rng::new(mix(seed, 8));
    let mut between = |least: u64, most: u64| least + rng.next_u64() % (most - least + 1);
    let most = [20, 100, 300][between(0, 2) as usize];
    let many = if between(0, 1) == 0 { between(1, 2) } else { between(3, 8) };
    let mut at: Vec<u64> = (0..many).map(|_| between(10_000, 3_900_000)).collect();
    at.sort_unstable();
    at.into_iter().map(|at| Stop { at: START + us(at), length: us(between(2_000, most * 1_000)) }).collect()
}

#[test]
fn a_stopped_client_convicts_itself_exactly_when_its_percentiles_are_off() {
    let (mut off, mut near, mut between, mut wrong) = (0, 0, 0, Vec::new());
    for seed in 0..super::number("HAIRSPRING_VERDICTS", 64) {
        let mut scenario = quiet(seed);
        let (truth, undisturbed) = run(&scenario);
        assert_ne!(undisturbed.verdict, Verdict::Invalid, "seed {seed}, quiet: {}", why(&undisturbed));
        scenario.worlds[0].stops = stops(seed);
        let (measured, validity) = run(&scenario);
        let errors = [0, 1, 2].map(|i| 100.0 * measured[i].0.abs_diff(truth[i].0) as f64 / truth[i].0 as f64);
        let error = errors.into_iter().fold(0.0, f64::max);
        let invalid = validity.verdict == Verdict::Invalid;
        match error {
            e if e > 5.0 => off += 1,
            e if e < 1.0 => near += 1,
            _ => between += 1,
        }
        if (error > 5.0 && !invalid) || (error < 1.0 && invalid) {
            wrong.push(format!(
                "seed {seed}: off by {errors:.2?} %: {}\n  {:?}, {} connections, {:?}, {:?}",
                why(&validity),
                scenario.plan.load,
                scenario.plan.connections,
                scenario.plan.client.wait,
                scenario.worlds[0].stops
            ));
        }
    }
    assert!(wrong.is_empty(), "{off} off, {near} not, {between} between; wrong:\n{}", wrong.join("\n"));
    assert!(off >= 15 && near >= 15, "a matrix needs both: {off} off, {near} not, {between} between");
}

/// The verdict on what the server alone does. The client's threads have spare time, so nothing convicts.
fn not_convicted(what: &str, scenario: &Scenario) -> Validity {
    let account = stage::run(scenario, Sabotage::None);
    check(scenario, &account);
    let validity = stage::judge(scenario, &account);
    assert_ne!(validity.verdict, Verdict::Invalid, "{what}: {}", why(&validity));
    validity
}

fn finds(validity: &Validity, rule: &str) -> bool {
    validity.findings.iter().any(|finding| finding.rule == rule)
}

#[test]
fn what_the_server_does_never_convicts_the_client() {
    for wait in [WaitPlan::Park, WaitPlan::Auto] {
        let world = |rate: u64, connections, service| {
            let mut scenario = Scenario::open(rate * 1_000, ms(2_000), connections, service);
            scenario.plan.client.wait = wait;
            scenario.plan.client.exclusive = true;
            scenario.worlds[0].costs.poll = us(3);
            scenario
        };
        let freeze = Some(Freeze { first: START + ms(300), every: ms(701), length: ms(200) });
        for connections in [400, 10] {
            let mut frozen = world(1_000, connections, us(300));
            frozen.worlds[0].server.freeze = freeze;
            let validity = not_convicted("frozen for 200 ms", &frozen);
            assert_eq!(finds(&validity, "pool-bound"), connections == 10);
        }
        let mut overloaded = world(3_000, 64, us(1_000));
        overloaded.worlds[0].server.servers = Some(1);
        assert!(finds(&not_convicted("3 times its capacity", &overloaded), "pool-bound"));
        overloaded.plan.limits.drain = ms(100);
        let validity = not_convicted("3 times its capacity, and then cut off", &overloaded);
        assert!(finds(&validity, "not-offered") && !finds(&validity, "own-backlog"));
        not_convicted("one connection, 2000/s", &world(2_000, 1, us(1_000)));
        let mut slow = world(200, 8, us(500));
        slow.plan.keepalive = hairspring::plan::KeepalivePlan::Requests(1);
        slow.worlds[0].faults.slow_accept = 1_000;
        assert!(finds(&not_convicted("slow accept", &slow), "pool-bound"));
        let mut closed = world(1, 4, us(1_500));
        closed.plan.load = Load::Closed { think: Nanos::ZERO };
        closed.worlds[0].server.servers = Some(1);
        not_convicted("a closed loop on a busy server", &closed);
    }
}

/// Each request costs this client 40 µs, and it is asked for ten times the rate that leaves; the server answers at once.
#[test]
fn a_rate_beyond_the_client_convicts_it_with_a_wide_and_with_a_narrow_pool() {
    for (connections, drain) in [(20_000, ms(10_000)), (64, ms(10_000)), (64, ms(50))] {
        let mut scenario = Scenario::open(250_000_000, ms(40), connections, Nanos::ZERO);
        scenario.plan.limits.drain = drain;
        scenario.worlds[0].costs.submit = us(20);
        scenario.worlds[0].costs.event = us(20);
        let account = stage::run(&scenario, Sabotage::None);
        let validity = stage::judge(&scenario, &account);
        let what = format!("{connections} connections: {}", why(&validity));
        assert_eq!(validity.verdict, Verdict::Invalid, "{what}");
        let rule = if drain < ms(1_000) { "own-backlog" } else { "disturbance-p99" };
        let convicts = |f: &hairspring::analyze::validity::Check| f.rule == rule && f.level == Level::Invalid;
        assert!(validity.findings.iter().any(convicts), "{what}");
        assert!(finds(&validity, "busy"), "{what}");
    }
}

/// In a closed loop at full speed the client is the bottleneck: that does not pass in silence.
#[test]
fn a_saturated_client_is_a_finding() {
    let mut scenario = Scenario::perfect(5_000, 64, us(100));
    scenario.worlds[0].costs.submit = us(10);
    scenario.worlds[0].costs.event = us(5);
    let account = stage::run(&scenario, Sabotage::None);
    let validity = stage::judge(&scenario, &account);
    assert_eq!(
        validity.verdict,
        Verdict::Invalid,
        "most of each answer is the queue in the client: {}",
        why(&validity)
    );
    assert!(finds(&validity, "busy") && finds(&validity, "loop-loss"), "{}", why(&validity));
}

/// The recorder's sum against the driver's integral: one lost or doubled sample of thousands is seen.
#[test]
fn littles_law_convicts_a_recorder_that_loses_or_doubles_a_sample() {
    for (sabotage, convicted) in
        [(Sabotage::None, false), (Sabotage::LoseSample, true), (Sabotage::RepeatSample, true)]
    {
        let mut scenario = Scenario::open(1_000_000, ms(3_000), 40, us(300)).over(2);
        scenario.plan.limits.drain = ms(10_000);
        let account = stage::run(&scenario, sabotage);
        let validity = stage::judge(&scenario, &account);
        let check = validity.checks.iter().find(|check| check.rule == "littles-law").unwrap();
        assert_eq!(check.level == Level::Invalid, convicted, "{sabotage:?}: {check:?}");
        assert!(convicted || check.figure == Some(0.0), "exactly the same: {check:?}");
    }
}
