//! The whole load path in virtual worlds: random plans, random faults, by seed. HAIRSPRING_SEEDS=N runs so many seeds
//! (200; with HAIRSPRING_LONG 10 000), from HAIRSPRING_SEED on (0). A failure prints its seed and the whole scenario; repeat it with
//! `HAIRSPRING_SEED=s HAIRSPRING_SEEDS=1 cargo test --test all simulation::seeds`.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use hairspring::engine::contract::Checked;
use hairspring::engine::sim::{Faults, SimEngine};
use hairspring::load::io::Stamps;
use hairspring::load::rng::mix;
use hairspring::load::sample::Outcome;
use hairspring::load::time::Nanos;

#[path = "simulation/check.rs"]
mod check;
#[path = "simulation/demux.rs"]
mod demux;
#[path = "simulation/frame.rs"]
mod frame;
#[path = "simulation/mux.rs"]
mod mux;
#[path = "simulation/scenario.rs"]
mod scenario;
#[path = "simulation/stage.rs"]
mod stage;
#[path = "simulation/theory.rs"]
mod theory;
#[path = "simulation/truth.rs"]
mod truth;
#[path = "simulation/verdict.rs"]
mod verdict;

use demux::Demux;
use mux::{Mux, Seen};
use scenario::Scenario;
use stage::{Account, Sabotage};

use crate::support::long;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

fn seed_count() -> u64 {
    number("HAIRSPRING_SEEDS", if long() { 50 * SEEDS } else { SEEDS })
}

/// Runs and checks; the message of the panic if something does not hold.
fn trial(scenario: &Scenario, sabotage: Sabotage) -> Result<Account, String> {
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        let account = stage::run(scenario, sabotage);
        check::check(scenario, &account);
        account
    }));
    attempt.map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => {
            panic.downcast::<&str>().map_or_else(|_| "a panic".to_owned(), |text| (*text).to_owned())
        }
    })
}

#[test]
fn seeds() {
    let first = number("HAIRSPRING_SEED", 0);
    let count = seed_count();
    let mut happened = BTreeMap::new();
    for seed in first..first + count {
        let scenario = Scenario::random(seed);
        match trial(&scenario, Sabotage::None) {
            Err(why) => panic!("seed {seed}: {why}\n{scenario:?}"),
            Ok(account) => count_up(&mut happened, &account),
        }
    }
    if count >= SEEDS {
        let named = Faults::NAMES.iter().chain(&HAPPENINGS);
        let absent: Vec<_> = named.filter(|name| !happened.contains_key(**name)).collect();
        assert!(
            absent.is_empty(),
            "{count} seeds, and these never happened: {absent:?}; these did: {happened:?}"
        );
    }
}

/// So many seeds show everything that can happen.
const SEEDS: u64 = 200;
/// What happens beside the faults of a world.
const HAPPENINGS: [&str; 17] = [
    "reordered",
    "stamped",
    "unstamped",
    "warmup",
    "retry",
    "unsent",
    "undrawn",
    "capped",
    "connect-refused",
    "connect-timeout",
    "reset",
    "no-response",
    "stale-keepalive",
    "truncated-head",
    "truncated-body",
    "malformed",
    "timeout",
];

fn count_up(happened: &mut BTreeMap<String, u64>, account: &Account) {
    let mut add = |what: &str, n: u64| {
        if n > 0 {
            *happened.entry(what.to_owned()).or_default() += n;
        }
    };
    for part in &account.parts {
        part.marks.iter().for_each(|(what, n)| add(what, *n));
        add("undrawn", part.counts.driver.undrawn);
        add("capped", u64::from(part.counts.driver.capped));
        add("retry", part.counts.driver.retries);
        let late = part.marks.contains_key("stamp_late");
        for sample in &part.samples {
            add(&sample.outcome.key(), 1);
            let completed = matches!(sample.outcome, Outcome::Completed(_));
            add("stamped", u64::from(sample.transmitted.is_some() && late));
            add("unstamped", u64::from(completed && sample.transmitted.is_none() && late));
        }
    }
    add("warmup", account.round.recorded.warmup.scheduled);
}

#[test]
fn the_same_seed_is_the_same_report_and_the_same_log() {
    for seed in 1_000..1_006 {
        let scenario = Scenario::random(seed);
        let [one, two] = [(), ()].map(|()| stage::written(&scenario, stage::run(&scenario, Sabotage::None)));
        assert!(one == two, "seed {seed} differs from itself:\n{scenario:?}");
    }
}

impl stage::Stack for Mux<Checked<Demux>> {
    fn sim(&self) -> &SimEngine {
        self.below().inner().world()
    }
}

/// The driver, the worker and the recorder over a protocol of two streams on a connection that answers pings and shakes
/// hands: every check that holds over plain connections holds there, and the contract holds on three levels.
#[test]
fn a_protocol_of_two_streams_fits_between_driver_and_engine() {
    let first = number("HAIRSPRING_SEED", 0);
    let (mut seen, mut handshakes, mut pinged) = (Seen::default(), 0, 0);
    let count = seed_count().min(10 * SEEDS);
    for seed in first..first + count {
        let mut scenario = Scenario::random(seed);
        scenario.plan.client.stamps = Stamps::User;
        for world in &mut scenario.worlds {
            // reads end anywhere, whatever the world below does
            world.faults.short_read = world.faults.short_read.max(1);
        }
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            let bodies = scenario.material.bodies();
            let build = |sim: SimEngine, connections: u32, seed| {
                let clock = sim.clock();
                let far = Checked::new(Demux::new(sim, connections, mix(seed, 8)), connections.div_ceil(2));
                Mux::new(far, clock, connections, bodies.clone(), mix(seed, 9))
            };
            let account = stage::run_on(&scenario, Sabotage::None, build, |mux| {
                seen.unrequested += mux.seen.unrequested;
                seen.pongs += mux.seen.pongs;
                seen.cuts += mux.seen.cuts;
                seen.interleaved += mux.seen.interleaved;
                seen.closed_below += mux.seen.closed_below;
                let far = mux.below().inner();
                (handshakes, pinged) = (handshakes + far.acknowledged, pinged + far.pinged);
            });
            check::check(&scenario, &account);
        }));
        if let Err(panic) = attempt {
            eprintln!("two streams, seed {seed}\n{scenario:?}");
            resume_unwind(panic);
        }
    }
    let each =
        [seen.unrequested, seen.pongs, seen.cuts, seen.interleaved, seen.closed_below, handshakes, pinged];
    assert!(
        count < SEEDS || each.iter().all(|n| *n > 100),
        "{seen:?}, {handshakes} handshakes, {pinged} pings"
    );
}

/// A harness that cannot fail proves nothing.
#[test]
fn planted_bugs_are_caught() {
    let ns = Nanos(1);
    for sabotage in [
        Sabotage::LoseSample,
        Sabotage::RepeatSample,
        Sabotage::LateSent(Nanos(100)),
        Sabotage::LateSent(Nanos::from_secs(1)),
        Sabotage::LateIntended(ns),
        Sabotage::EarlyReceived(Nanos::from_millis(1)),
        Sabotage::LateTransmitted(ns),
        Sabotage::EarlyArrived(ns),
        Sabotage::LoseTransmitted,
        Sabotage::SwapStamps,
    ] {
        for mut scenario in [
            Scenario::perfect(20, 2, Nanos::from_millis(2)),
            Scenario::open(100_000, Nanos::from_millis(200), 2, Nanos::from_millis(2)).over(2),
        ] {
            scenario.plan.client.stamps = Stamps::RxTx;
            if let Err(why) = trial(&scenario, Sabotage::None) {
                panic!("without the bug all should be well: {why}");
            }
            assert!(trial(&scenario, sabotage).is_err(), "{sabotage:?} went unnoticed");
        }
    }
}

/// Ctrl-C twice while every worker sleeps and no answer will come: both are seen at the next wake-up. `check` has the times.
#[test]
fn a_second_interrupt_is_not_seen_later_than_the_first() {
    let mut scenario = Scenario::perfect(10, 2, Nanos::from_secs(60));
    scenario.plan.limits.drain = Nanos::from_secs(1);
    scenario.interrupts = [50, 60].map(|ms| scenario::START + Nanos::from_millis(ms)).to_vec();
    check::check(&scenario, &stage::run(&scenario, Sabotage::None));
}

/// A server that ends or spoils every connection before the first request can be sent: the run ends, every request fails.
#[test]
fn a_server_that_takes_no_request_does_not_hold_the_run() {
    let none = Faults::default();
    for faults in [
        Faults { hung_up: 1_000, ..none },
        Faults { reset_up: 1_000, ..none },
        Faults { greeting: 1_000, ..none },
    ] {
        for mut scenario in [
            Scenario::perfect(50, 3, Nanos::ZERO),
            Scenario::open(1_000_000, Nanos::from_millis(50), 3, Nanos::ZERO),
        ] {
            scenario.worlds[0].faults = faults;
            scenario.worlds[0].latency = Nanos::ZERO;
            scenario.plan.limits.time_cap = Nanos::from_millis(100);
            scenario.plan.limits.drain = Nanos::ZERO;
            let account = stage::run(&scenario, Sabotage::None);
            check::check(&scenario, &account);
            let tally = &account.round.recorded.measured;
            assert_eq!((tally.scheduled, tally.failed), (50, 50), "{faults:?}");
        }
    }
}
