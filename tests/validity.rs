//! Each rule at each of its levels, from made-up runs.

use clap::Parser;
use hairspring::analyze::stats::Percentile;
use hairspring::analyze::validity::{Level, Validity, Verdict, judge};
use hairspring::cli::RunArgs;
use hairspring::facts::alerts::RoundAlerts;
use hairspring::facts::{
    ClockAccount, HelperReport, Host, Round, ServerFacts, ThreadReport, ThreadTimes, WorkerCounts,
};
use hairspring::load::driver::{DriverCounts, PaceCounts};
use hairspring::load::io::{EngineAccount, Stamps};
use hairspring::load::sample::{Failure, Outcome};
use hairspring::load::schedule::Load;
use hairspring::load::time::Nanos;
use hairspring::plan::{Plan, WaitPlan};
use hairspring::record::{Distribution, Key, Recorded, Tally};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: RunArgs,
}

/// 100 requests a second, spinning.
fn plan() -> Plan {
    let args = ["run", "http://127.0.0.1:8080/", "--rate", "100/s", "-d", "10s", "--wait", "spin"];
    Cli::parse_from(args).args.plan(&[0, 1, 2, 3]).unwrap()
}

const fn us(us: u64) -> Nanos {
    Nanos::from_micros(us)
}

const fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

fn thread() -> ThreadReport {
    let pace = PaceCounts { wall: ms(10_000), busy: ms(1_000), ..PaceCounts::default() };
    let driver = DriverCounts { pace, ..DriverCounts::default() };
    ThreadReport {
        cpu: 0,
        counts: WorkerCounts { driver },
        times: ThreadTimes {
            on_cpu_ns: Some(0),
            run_delay_ns: Some(0),
            involuntary_switches: Some(0),
            voluntary_switches: Some(1_000),
        },
        engine: EngineAccount::default(),
        clock: ClockAccount { worst_residual_ns: Some(Nanos(30)), ..ClockAccount::default() },
        moved: false,
        failure: None,
        allocations: Some(0),
        send_lag: Distribution::default(),
        arrival_gap: Distribution::default(),
    }
}

/// One thread, 10 s, 1000 answers of 1 ms.
struct Run {
    plan: Plan,
    host: Host,
    round: Round,
    tally: Tally,
}

fn run() -> Run {
    let mut tally = Tally::default();
    (tally.scheduled, tally.completed, tally.successful) = (1_000, 1_000, 1_000);
    for _ in 0..1_000 {
        tally.response_ok.record(ms(1));
        tally.undisturbed.record(ms(1));
        tally.send_lag.record(Nanos(500));
        tally.conn_wait.record(Nanos::ZERO);
    }
    Run {
        plan: plan(),
        host: Host {
            kernel: None,
            cpu_model: None,
            cpus: vec![0],
            virtualized: None,
            clocksource: None,
            governor: None,
            memory_bytes: None,
            nofile: None,
            clock_read_ns: Nanos(25),
        },
        round: Round {
            index: 0,
            seed: 1,
            recorded: Recorded::default(),
            threads: vec![thread()],
            addresses: Vec::new(),
            server_ready: None,
            server_stats: None,
            wall: ms(10_000),
            steal: Some(Nanos::ZERO),
            system: None,
            scraped: None,
            interrupted: false,
            server_survived: Some(true),
            server_failure: None,
            server_facts: ServerFacts::default(),
            alerts: RoundAlerts::default(),
            probe: None,
            helpers: vec![HelperReport {
                name: "slices".to_owned(),
                cpus: vec![0],
                times: ThreadTimes { on_cpu_ns: Some(0), ..ThreadTimes::default() },
            }],
        },
        tally,
    }
}

impl Run {
    fn validity(&self, asked: &[Percentile]) -> Validity {
        judge(&self.plan, &self.host, std::slice::from_ref(&self.round), &self.tally, asked)
    }

    fn thread(&mut self) -> &mut ThreadReport {
        &mut self.round.threads[0]
    }

    fn pace(&mut self) -> &mut PaceCounts {
        &mut self.round.threads[0].counts.driver.pace
    }
}

/// The level of `rule` once the run is changed; `None` where it does not apply. All other rules stay content.
fn level(rule: &str, change: impl FnOnce(&mut Run)) -> Option<Level> {
    let mut run = run();
    change(&mut run);
    let validity = run.validity(&[]);
    let others: Vec<&str> =
        validity.findings.iter().map(|f| f.rule.as_str()).filter(|name| *name != rule).collect();
    assert_eq!(others, [""; 0], "beside {rule}");
    validity.checks.iter().find(|check| check.rule == rule).map(|check| check.level)
}

#[test]
fn a_quiet_run_is_valid() {
    let validity = run().validity(&[]);
    assert_eq!((validity.verdict, validity.findings.len()), (Verdict::Valid, 0));
    assert!(validity.checks.len() >= 20 && validity.checks.iter().all(|check| check.level == Level::Ok));
}

#[test]
fn shares_of_the_run_convict_only_when_they_are_most_of_it() {
    for (percent, expected) in
        [(1, Level::Ok), (2, Level::Suspect), (20, Level::Suspect), (21, Level::Invalid)]
    {
        let time = ms(100 * percent);
        assert_eq!(level("stalls", |run| run.pace().stalled = time), Some(expected), "{percent} %");
        let delay = level("run-delay", |run| run.thread().times.run_delay_ns = Some(time.0));
        assert_eq!(delay, Some(expected), "{percent} %");
        let expected = if percent == 1 { Level::Suspect } else { expected };
        assert_eq!(level("steal", |run| run.round.steal = Some(time)), Some(expected), "{percent} %");
    }
    assert_eq!(level("steal", |run| run.round.steal = None), Some(Level::NotEvaluated));
    assert_eq!(
        level("run-delay", |run| run.thread().times = ThreadTimes::default()),
        Some(Level::NotEvaluated)
    );
}

#[test]
fn a_parked_client_is_judged_by_what_its_wake_ups_cost() {
    let parked = |delay: Nanos, stamps| {
        level("wake-delay", |run| {
            run.plan.client.wait = WaitPlan::Park;
            run.plan.client.stamps = stamps;
            run.thread().times.run_delay_ns = Some(delay.0 * 1_000); // 1000 switches
        })
    };
    assert_eq!(parked(us(10), Stamps::User), Some(Level::Ok));
    assert_eq!(parked(us(30), Stamps::User), Some(Level::Suspect));
    assert_eq!(parked(us(60), Stamps::User), Some(Level::Invalid));
    assert_eq!(parked(us(60), Stamps::Rx), None, "each wake-up is known by itself");
    assert_eq!(level("wake-delay", |run| run.plan.client.wait = WaitPlan::Spin), None);
    let stalled = level("wake-delay", |run| {
        run.plan.client.wait = WaitPlan::Park;
        run.thread().times.run_delay_ns = Some(ms(90).0);
        run.pace().stalled = ms(85); // seen, and in the disturbance of those it hit
    });
    assert_eq!(stalled, Some(Level::Ok));
}

#[test]
fn helpers_on_processors_that_are_needed_are_judged_by_their_share() {
    let helpers = |taken: Option<Nanos>, spare: bool| {
        level("helpers", |run| {
            run.plan.client.helpers.spare = spare;
            let times = ThreadTimes { on_cpu_ns: taken.map(|ns| ns.0), ..ThreadTimes::default() };
            run.round.helpers = vec![HelperReport { name: "log".to_owned(), cpus: vec![0], times }];
        })
    };
    assert_eq!(helpers(Some(ms(100)), false), Some(Level::Ok));
    assert_eq!(helpers(Some(ms(101)), false), Some(Level::Suspect));
    assert_eq!(helpers(Some(ms(2_001)), false), Some(Level::Invalid));
    assert_eq!(helpers(None, false), Some(Level::NotEvaluated));
    assert_eq!(helpers(Some(ms(2_001)), true), None, "nobody else needs it");
}

/// 1000 answers, of which so many took `late` longer because of us.
fn disturbed(run: &mut Run, many: u64, late: Nanos) {
    run.tally.response_ok = Distribution::default();
    for i in 0..1_000 {
        run.tally.response_ok.record(ms(1) + if i < many { late } else { Nanos::ZERO });
    }
}

#[test]
fn a_percentile_that_we_moved_convicts_by_how_far() {
    for (late, expected) in
        [(us(9), Level::Ok), (us(20), Level::Suspect), (us(40), Level::Invalid), (ms(200), Level::Invalid)]
    {
        let mut run = run();
        disturbed(&mut run, 20, late);
        let validity = run.validity(&[]);
        let of = |name: &str| validity.checks.iter().find(|c| c.rule == name).unwrap().level;
        assert_eq!(of("disturbance-p99"), expected, "{late}");
        assert_eq!((of("disturbance-p50"), of("disturbance-p95")), (Level::Ok, Level::Ok));
    }
}

#[test]
fn p999_convicts_only_where_it_is_asked_for() {
    let mut run = run();
    disturbed(&mut run, 5, ms(200));
    assert_eq!(run.validity(&[]).verdict, Verdict::Suspect);
    assert_eq!(run.validity(&[Percentile::P90]).verdict, Verdict::Suspect);
    let asked = run.validity(&[Percentile::P999]);
    assert_eq!((asked.verdict, asked.findings[0].rule.as_str()), (Verdict::Invalid, "disturbance-p99.9"));
    let rare: Percentile = "p99.5".parse().unwrap();
    disturbed(&mut run, 6, ms(200));
    assert_eq!(run.validity(&[rare]).findings[0].rule, "disturbance-p99.5");
}

#[test]
fn the_price_of_reading_at_all_does_not_convict() {
    let mut run = run();
    run.tally.response_ok = Distribution::default();
    run.tally.undisturbed = Distribution::default();
    for _ in 0..1_000 {
        run.tally.response_ok.record(us(20));
        run.tally.undisturbed.record(us(18)); // 10 %
    }
    let validity = run.validity(&[]);
    assert_eq!(validity.verdict, Verdict::Suspect);
    assert!(validity.findings[0].figure.is_some_and(|x| x > 9.0));
}

#[test]
fn a_percentile_among_the_unsuccessful_cannot_be_judged() {
    let mut run = run();
    run.tally.scheduled = 1_030;
    run.tally.failed = 30;
    (0..30).for_each(|_| run.tally.response_not_ok.record(ms(1)));
    let validity = run.validity(&[]);
    let of = |name: &str| validity.checks.iter().find(|c| c.rule == name).unwrap().level;
    assert_eq!((of("disturbance-p95"), of("disturbance-p99")), (Level::Ok, Level::NotEvaluated));
}

#[test]
fn what_the_client_did_with_its_time() {
    assert_eq!(level("busy", |run| run.pace().busy = ms(9_400)), Some(Level::Ok));
    assert_eq!(level("busy", |run| run.pace().busy = ms(9_600)), Some(Level::Suspect));
    for (lag, expected) in [(us(9), Level::Ok), (us(30), Level::Suspect), (us(300), Level::Suspect)] {
        let found = level("loop-loss", |run| {
            run.plan.load = Load::Closed { think: Nanos::ZERO };
            run.tally.send_lag = Distribution::default();
            (0..1_000).for_each(|_| run.tally.send_lag.record(lag));
        });
        assert_eq!(found, Some(expected), "{lag} of 1 ms");
    }
    assert_eq!(level("loop-loss", |_| {}), None, "an open loop's lateness is in its percentiles");
    assert_eq!(level("allocations", |run| run.thread().allocations = Some(100)), Some(Level::Ok));
    assert_eq!(level("allocations", |run| run.thread().allocations = Some(101)), Some(Level::Suspect));
    assert_eq!(level("allocations", |run| run.thread().allocations = None), Some(Level::NotEvaluated));
    for (ours, expected) in [(0, Level::Ok), (1, Level::Suspect), (2, Level::Invalid)] {
        let found = level("local-resource", |run| {
            let outcome = Outcome::Failed(Failure::LocalResource(24));
            run.tally.outcomes.insert(Key { outcome: outcome.key(), detail: None }, ours);
        });
        assert_eq!(found, Some(expected), "{ours} of 1000");
    }
}

#[test]
fn a_coarse_clock_and_a_thread_that_was_moved_convict() {
    let resolution = |step| level("clock-resolution", |run| run.thread().clock.resolution_ns = step);
    assert_eq!(resolution(us(9)), Some(Level::Ok), "of a median of 1 ms");
    assert_eq!(resolution(us(11)), Some(Level::Suspect));
    assert_eq!(resolution(ms(4)), Some(Level::Invalid), "jiffies");
    assert_eq!(level("moved", |run| run.thread().moved = true), Some(Level::Invalid));
}

#[test]
fn the_clock_that_ran_is_judged() {
    assert_eq!(level("clock-cost", |run| run.thread().clock.read_ns = Nanos(251)), Some(Level::Suspect));
    let unused = level("clock-cost", |run| {
        run.host.clock_read_ns = Nanos(900);
        run.thread().clock.read_ns = Nanos(9);
    });
    assert_eq!(unused, Some(Level::Ok));
    assert_eq!(
        level("clock-error", |run| run.thread().clock.worst_residual_ns = Some(us(9))),
        Some(Level::Ok)
    );
    assert_eq!(
        level("clock-error", |run| run.thread().clock.worst_residual_ns = Some(us(11))),
        Some(Level::Suspect)
    );
    assert_eq!(
        level("clock-error", |run| run.thread().clock.worst_residual_ns = None),
        None,
        "the vDSO's own"
    );
}

#[test]
fn a_sample_too_few_or_too_many_convicts() {
    let flight = |area: i128, sum: u128| {
        level("littles-law", |run| {
            run.thread().counts.driver.in_flight_area = area;
            run.round.recorded.measured.in_flight_time = sum - 7;
            run.round.recorded.warmup.in_flight_time = 7;
        })
    };
    assert_eq!(flight(2_000_000_000_000, 2_000_000_000_000), Some(Level::Ok));
    assert_eq!(flight(2_000_000_000_000, 1_999_999_997_000), Some(Level::Invalid));
    assert_eq!(flight(2_000_000_000_000, 2_000_001_000_000), Some(Level::Invalid));
    assert_eq!(flight(0, 1_000), Some(Level::Invalid));
    assert_eq!(level("conservation", |run| run.tally.completed = 999), Some(Level::Invalid));
}

#[test]
fn requests_that_were_never_sent_are_whose_loop_was_busy() {
    let left = |ours: bool, rule: &str| {
        let mut run = run();
        run.tally.scheduled += 500;
        run.tally.unsent += 500;
        run.round.threads[0].counts.driver.undrawn = 500;
        run.round.threads[0].counts.driver.held_up = ours;
        run.validity(&[]).checks.into_iter().find(|check| check.rule == rule).unwrap().level
    };
    assert_eq!((left(true, "own-backlog"), left(true, "not-offered")), (Level::Invalid, Level::Ok));
    assert_eq!((left(false, "own-backlog"), left(false, "not-offered")), (Level::Ok, Level::Suspect));
    let stopped_by_the_user = level("not-offered", |run| {
        run.round.interrupted = true;
        run.tally.unsent += 1;
        run.tally.scheduled += 1;
    });
    assert_eq!(stopped_by_the_user, None);
}

#[test]
fn findings_about_the_target() {
    let bound = |wait| {
        level("pool-bound", |run| {
            run.tally.conn_wait = Distribution::default();
            (0..1_000).for_each(|_| run.tally.conn_wait.record(wait));
        })
    };
    assert_eq!((bound(us(49)), bound(us(900))), (Some(Level::Ok), Some(Level::Suspect)));
    assert_eq!(level("pool-bound", |run| run.plan.load = Load::Closed { think: Nanos::ZERO }), None);
    assert_eq!(level("server-timing", |run| run.tally.timing_rejected = 1), Some(Level::Suspect));
    assert_eq!(level("server-died", |run| run.round.server_survived = Some(false)), Some(Level::Suspect));
    let beyond = |run: &mut Run| {
        run.tally.response_not_ok.record(Nanos::from_secs(4_000));
        (run.tally.scheduled, run.tally.failed) = (1_001, 1);
    };
    assert_eq!(level("out-of-range", beyond), Some(Level::Suspect));
}
