//! Texts of reports against golden files, from made-up samples: no sockets, no clock. `HAIRSPRING_UPDATE_GOLDEN=1` writes
//! the files anew; review the difference.

use std::path::Path;

use clap::Parser;
use hairspring::analyze::alerts::{self, Baseline};
use hairspring::analyze::compare::Outputs;
use hairspring::analyze::gate::{Rule, SlaVerdict};
use hairspring::analyze::paired::Difference;
use hairspring::analyze::validity::Verdict;
use hairspring::cli::{CompareArgs, RunArgs};
use hairspring::facts::alerts::{Alert, Commands, Overlapping, RoundAlerts, SlowRequest};
use hairspring::facts::{
    ClockAccount, HelperReport, Host, Round, ServerFacts, ThreadReport, ThreadTimes, WorkerCounts,
};
use hairspring::load::io::EngineAccount;
use hairspring::load::response::Malformed;
use hairspring::load::rng::Rng;
use hairspring::load::sample::{Failure, Outcome, Sample};
use hairspring::load::schedule::{Phase, RequestId};
use hairspring::load::server_timing::ServerTiming;
use hairspring::load::time::Nanos;
use hairspring::plan::Plan;
use hairspring::record::{Distribution, Recorded, Recorder};
use hairspring::report::{Beside, Comparison, Contest, Design, Inputs, LogFile, Ranking, Report, json, text};

mod judged;

#[derive(Parser)]
struct Compare {
    #[command(flatten)]
    args: CompareArgs,
}

#[derive(Parser)]
struct Run {
    #[command(flatten)]
    args: RunArgs,
}

#[test]
fn a_comparison_is_shown_like_this() {
    let args = Compare::parse_from(["compare", "-n", "200", "-c", "10", "--rounds", "2"]).args;
    let [baseline, optimized] = &args.plans(&[0, 1]).unwrap()[..] else { panic!("two sides") };
    let slow = [round(baseline, 0, Nanos::from_millis(450)), round(baseline, 1, Nanos::from_millis(470))];
    let fast = [round(optimized, 0, Nanos::from_millis(12)), round(optimized, 1, Nanos::from_millis(11))];
    let mut outputs = Outputs::default();
    for (r, (b, o)) in slow.iter().zip(&fast).enumerate() {
        outputs.add(r as u32, &b.recorded.digests, &o.recorded.digests);
    }
    let order = [["baseline", "optimized"], ["optimized", "baseline"]]
        .map(|o| o.map(str::to_owned).to_vec())
        .to_vec();
    let comparison = Comparison::new(
        report(baseline, &slow, Vec::new()),
        report(optimized, &fast, Vec::new()),
        Design { order, beside: vec![Beside { outputs, ..Beside::default() }], ..Design::default() },
    );
    assert_golden("comparison.txt", &text::comparison(&comparison));
    judged::assert_forms(&comparison);
    round_trip(&comparison);
}

#[test]
fn a_ranking_is_shown_like_this() {
    let flags = ["--stub", "all", "-n", "200", "-c", "10", "--judge", "pool", "--judge", "per-core"];
    let args = Compare::parse_from([&["compare"][..], &flags].concat()).args;
    let plans = args.plans(&[0, 1]).unwrap();
    assert_eq!(plans[0].rounds, 8);
    let queues = [450, 3, 12, 12].map(Nanos::from_millis);
    let rounds: Vec<Vec<Round>> = plans
        .iter()
        .zip(queues)
        .map(|(plan, queue)| {
            (0..8).map(|r| round(plan, r, queue + Nanos::from_millis((r % 2).into()))).collect()
        })
        .collect();
    let beside = |other: &Vec<Round>| {
        let mut outputs = Outputs::default();
        for (r, (a, b)) in rounds[0].iter().zip(other).enumerate() {
            outputs.add(r as u32, &a.recorded.digests, &b.recorded.digests);
        }
        Beside { outputs, ..Beside::default() }
    };
    let names: Vec<String> = plans.iter().map(|plan| plan.target.name.clone()).collect();
    let (beside, order) = (rounds[1..].iter().map(beside).collect(), vec![names; 8]);
    let reports = plans.iter().zip(&rounds).map(|(plan, rounds)| report(plan, rounds, Vec::new())).collect();
    let contest = Contest {
        figure: args.figure(&plans[0]),
        judged: args.judged(),
        flags: args.variants().into_iter().map(|variant| variant.flags).collect(),
    };
    let reports: Vec<Report> = reports;
    let design = || Design { order: order.clone(), ..Design::default() };
    let mut distrusted = reports.clone();
    distrusted[1].validity.verdict = Verdict::Invalid;
    let beside_each_other = distrusted[..2].to_vec();
    let ranking = Ranking::new(reports, &contest, Design { beside, ..design() });
    assert_golden("ranking.txt", &text::ranking(&ranking));
    // the figures are as far apart as before, but they may be the instrument's
    let refused = Ranking::new(distrusted, &contest, design());
    let verdicts = |ranking: &Ranking| {
        let effects = ranking.pairs.iter().flat_map(|pair| pair.effects.values());
        effects.map(|one| one.effect.verdict).filter(|&verdict| verdict != Difference::Inconclusive).count()
    };
    assert!(verdicts(&ranking) > 0 && verdicts(&refused) == 0, "{:?}", refused.pairs);
    let [first, second]: [Report; 2] = beside_each_other.try_into().unwrap();
    let refused = Comparison::new(first, second, design());
    assert!(refused.effects.values().all(|effect| effect.verdict == Difference::Inconclusive));
    assert!(refused.effects.values().any(|effect| effect.interval.is_some_and(|[_, high]| high < -0.02)));
    round_trip(&ranking);
    // judged again it comes out the same, and by a rule that only the one that is not judged misses it is met
    let judge = |rule: &str| {
        let rules = [rule.parse().unwrap()];
        let judged = ranking.judge(&rules).unwrap();
        let names = ranking.judged().map(|variant| variant.name.clone());
        names.zip(judged).collect::<Vec<_>>()
    };
    let again = judge("p95<=800ms");
    assert_eq!(again.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["pool", "per-core"]);
    assert_eq!(again[0].1, ranking.variant("pool").unwrap().sla);
    assert!(judge("p95<=200ms").iter().all(|(_, sla)| sla.verdict == SlaVerdict::Met));
    assert!(judge("p95<=2ms").iter().all(|(_, sla)| sla.verdict == SlaVerdict::NotMet));
}

#[test]
fn a_troubled_run_is_shown_like_this() {
    let url = "http://127.0.0.1:8080/v1/infer";
    let rules =
        ["--sla", "p50<=800ms", "--sla", "p95<=800ms", "--sla", "errors<1%", "--sla", "throughput>1/s"];
    let args = Run::parse_from([&["run", url, "-n", "200", "-c", "10"][..], &rules].concat()).args;
    let plan = args.plan(&[0, 1, 2, 3]).unwrap();
    let mut recorder = Recorder::new(plan.ok_statuses(), false, 0, None);
    for seq in 0..185 {
        let outcome = match seq % 37 {
            0 => Outcome::Failed(Failure::Timeout),
            1 => Outcome::Completed(503),
            2 => Outcome::Failed(Failure::Malformed(Malformed::BadChunk)),
            3 => Outcome::Failed(Failure::LocalResource(24)),
            _ => Outcome::Completed(200),
        };
        recorder.record(&sample(seq, Nanos::from_millis(20 + seq), Nanos::ZERO, outcome));
    }
    let mut recorded = recorder.finish(15, 2);
    recorded.measured.close_round();
    let mut troubled = round_of(0, recorded);
    troubled.steal = Some(Nanos::from_millis(900));
    troubled.alerts =
        RoundAlerts { found: raised(), ..alerts::of_round(&plan, &troubled, &Baseline::default()) };
    let raised = |rule: &str| troubled.alerts.found.iter().any(|alert| alert.rule == rule);
    let unseen: Vec<_> =
        troubled.alerts.not_evaluated.iter().filter(|not| !raised(&not.rule)).cloned().collect();
    troubled.alerts.not_evaluated = unseen;
    let failures = vec!["ended with exit status: 1".to_owned()];
    troubled.alerts.commands = Some(Commands { succeeded: 2, failed: 1, untold: 0, failures });
    let lost = LogFile {
        file: "requests.csv".to_owned(),
        rows: 180,
        lost: 5,
        error: Some("No space left on device (os error 28)".to_owned()),
    };
    let report = report(&plan, &[troubled], vec![lost]);
    assert_golden("run.txt", &text::run(&report));
    round_trip(&report);
}

/// One rule twice, one with a percentile that has no value, one rise.
fn raised() -> Vec<Alert> {
    let slow =
        |id, ms| SlowRequest { id, intended_ns: Nanos::from_secs(2), response_ns: Nanos::from_millis(ms) };
    let alert = |rule: &str, start, end: Option<u64>, value, slowest: Vec<SlowRequest>| Alert {
        rule: rule.to_owned(),
        start_ns: Nanos::from_millis(start),
        end_ns: end.map(Nanos::from_millis),
        value,
        limit: if rule.contains('+') { 50.0 } else { 10.0 },
        unit: "%".to_owned(),
        against_ns: rule.contains('+').then_some(Nanos::from_millis(40)),
        live: false,
        requests: Some(Overlapping {
            one_in: 2,
            answered: 20,
            slow: slowest.len() as u64,
            unanswered: 1,
            slowest,
        }),
    };
    vec![
        alert("errors>10%", 1_000, Some(3_000), Some(12.5), vec![slow(17, 190)]),
        alert("errors>10%", 8_000, None, Some(60.0), vec![slow(181, 201), slow(160, 199)]),
        alert("p95>+50%", 5_000, Some(9_000), None, vec![]),
    ]
}

/// What is written is read back equal.
fn round_trip<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let back: T = serde_json::from_slice(&json::render(value)).unwrap();
    assert_eq!(&back, value);
}

fn report(plan: &Plan, rounds: &[Round], logs: Vec<LogFile>) -> Report {
    let rules: Vec<Rule> = plan.sla.iter().map(|rule| rule.parse().unwrap()).collect();
    Report::new(Inputs {
        plan,
        host: &host(),
        rounds,
        positions: &vec![0; rounds.len()],
        rules: &rules,
        logs,
        created_unix_ms: 1_700_000_000_000,
        complete: true,
        trial: None,
    })
}

/// 200 requests that waited about `queue` and were served for about 50 ms.
fn round(plan: &Plan, index: u32, queue: Nanos) -> Round {
    let mut recorder = Recorder::new(plan.ok_statuses(), plan.digest, 0, None);
    let mut rng = Rng::new(u64::from(index));
    for seq in 0..200 {
        let service = Nanos(45_000_000 + rng.next_u64() % 10_000_000);
        recorder.record(&sample(seq, service, queue, Outcome::Completed(200)));
    }
    let mut recorded = recorder.finish(0, 0);
    recorded.measured.close_round();
    let mut round = round_of(index, recorded);
    round.alerts = alerts::of_round(plan, &round, &Baseline::default());
    round
}

/// Little's law holds of its one thread, which was busy for a tenth of the 10 s.
fn counts(recorded: &Recorded) -> WorkerCounts {
    let mut counts = WorkerCounts::default();
    counts.driver.in_flight_area = recorded.measured.in_flight_time as i128;
    counts.driver.pace.wall = Nanos::from_secs(10);
    counts.driver.pace.busy = Nanos::from_secs(1);
    counts.driver.pace.hiccups.add(Nanos::from_micros(63));
    counts
}

fn clock() -> ClockAccount {
    ClockAccount {
        source: "tsc".to_owned(),
        why_not_tsc: None,
        read_ns: Nanos(9),
        resolution_ns: Nanos(8),
        frequency_hz: Some(2_596_124_000),
        anchors: 101,
        worst_residual_ns: Some(Nanos(31)),
        anchors_off: 0,
    }
}

fn round_of(index: u32, recorded: Recorded) -> Round {
    Round {
        index,
        seed: u64::from(index),
        threads: vec![ThreadReport {
            cpu: 1,
            counts: counts(&recorded),
            times: ThreadTimes { on_cpu_ns: Some(1), run_delay_ns: Some(2), ..ThreadTimes::default() },
            engine: EngineAccount {
                engine: "uring".to_owned(),
                features: ["submit all", "multishot receive"].map(str::to_owned).into(),
                missing: vec!["waits not booked as iowait: this kernel does not know it".to_owned()],
                overflows: 3,
                issue_uncertainty_max_ns: Nanos::from_micros(12),
                ..EngineAccount::default()
            },
            clock: clock(),
            moved: false,
            failure: None,
            allocations: Some(0),
            send_lag: Distribution::default(),
            arrival_gap: Distribution::default(),
        }],
        probe: None,
        helpers: vec![HelperReport {
            name: "slices".to_owned(),
            cpus: vec![0],
            times: ThreadTimes { on_cpu_ns: Some(1_500_000), ..ThreadTimes::default() },
        }],
        recorded,
        addresses: Vec::new(),
        server_ready: None,
        server_stats: None,
        wall: Nanos::from_secs(10),
        steal: None,
        system: None,
        scraped: None,
        interrupted: false,
        server_survived: Some(true),
        server_failure: None,
        server_facts: ServerFacts::default(),
        alerts: RoundAlerts::default(),
    }
}

fn sample(seq: u64, service: Nanos, queue: Nanos, outcome: Outcome) -> Sample {
    let intended = Nanos(1_000_000_000 + seq * 50_000_000);
    let issued = intended + Nanos(15_000);
    let done = issued + queue + service + Nanos(60_000);
    let timed = queue > Nanos::ZERO;
    Sample {
        id: RequestId { phase: Phase::Measure, seq },
        template: 0,
        intended,
        ready: Some(intended),
        issued: Some(issued),
        transmitted: None,
        arrived: None,
        read_gap: Nanos::ZERO,
        own_wait: Nanos::ZERO,
        arrival_gap: None,
        first_byte: Some(done),
        done,
        outcome,
        bytes_sent: 100,
        bytes_received: 500,
        connection: (seq % 10) as u32,
        connect: None,
        attempt: 1,
        server: if timed {
            ServerTiming { queue: Some(queue), service: Some(service), ..ServerTiming::default() }
        } else {
            ServerTiming::default()
        },
        digest: Some(seq),
    }
}

fn host() -> Host {
    Host {
        kernel: Some("6.1.0".to_owned()),
        cpu_model: None,
        cpus: vec![0, 1],
        virtualized: Some(false),
        clocksource: None,
        governor: None,
        memory_bytes: None,
        nofile: Some(1_024),
        clock_read_ns: Nanos(25),
    }
}

fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("HAIRSPRING_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{name} differs; it is now:\n{text}\nHAIRSPRING_UPDATE_GOLDEN=1 accepts it");
}
