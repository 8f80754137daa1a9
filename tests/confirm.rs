//! `run --confirm`: the plans of its rounds, and, on stubs whose trouble is known, what it predicts, measures and says. Which
//! verdict follows from which figures is tested with `analyze::confirm`.

use std::time::Duration;

use clap::Parser;
use hairspring::analyze::confirm::{Change, PAIRS, rounds_of};
use hairspring::cli::RunArgs;
use hairspring::load::time::Nanos;
use hairspring::plan::{KeepalivePlan, Plan, Server, Stub as StubPlan};
use serde_json::Value;

use crate::support::{Finished, Scratch, Stub, check_report, skipped};

#[derive(Parser)]
struct Run {
    #[command(flatten)]
    args: RunArgs,
}

/// On four processors.
fn plan(flags: &str) -> Plan {
    Run::parse_from(["run"].into_iter().chain(flags.split(' '))).args.plan(&[0, 1, 2, 3]).unwrap()
}

fn stub_of(plan: &Plan) -> &StubPlan {
    let Server::Stub(stub) = &plan.target.server else { panic!("not a stub") };
    stub
}

#[test]
fn the_rounds_of_a_trial_are_short_and_bounded() {
    let plan = plan("--stub single -c 8 -d 20s --warmup 30s --sla p95<=1s --confirm --digest --on-alert cat");
    assert!(plan.confirm && !plan.alerts.rules.is_empty() && plan.alerts.command.is_some());
    let round = rounds_of(&plan, Nanos::from_secs(20));
    let five = Some(Nanos::from_secs(5));
    assert_eq!((round.measure.time, round.warmup.time), (five, five));
    assert_eq!((round.rounds, round.log, round.digest, round.confirm), (PAIRS, false, false, false));
    assert_eq!((round.seed, round.connections, round.sla.len()), (plan.seed, 8, 0));
    assert!(round.alerts.rules.is_empty() && round.alerts.command.is_none(), "the change is our doing");
    let within = |wall| rounds_of(&plan, wall).measure.time;
    assert_eq!(within(Nanos::from_millis(10)), Some(Nanos::from_secs(1)));
    assert_eq!(within(Nanos::from_secs(3_600)), Some(Nanos::from_secs(10)));
    let counted = rounds_of(&self::plan("--stub single -c 8 -n 400"), Nanos::from_secs(4));
    assert_eq!((counted.measure.count, counted.measure.time), (Some(400), Some(Nanos::from_secs(1))));
}

#[test]
fn each_change_is_in_the_plan() {
    let before = plan("--stub single -c 8 --keepalive off --backlog 4 --stub-flags=--queue-limit=5");
    let workers = Change::Workers { from: 1, to: 2, cpus: vec![0, 1] }.apply(&before);
    let stub = stub_of(&workers);
    assert_eq!((stub.model.as_str(), stub.workers, &stub.cpus), ("pool", 2, &vec![0, 1]));
    let longer = Change::Backlog { from: 4, to: 64 }.apply(&before);
    assert_eq!(stub_of(&longer).extra, ["--queue-limit=5", "--backlog", "64"]);
    let more = Change::QueueLimit { from: 5, to: 10 }.apply(&before);
    assert_eq!(stub_of(&more).extra, ["--backlog", "4", "--queue-limit", "10"]);
    assert_eq!(Change::Keepalive { from: 1 }.apply(&before).keepalive, KeepalivePlan::On);
    let fewer = Change::Connections { from: 8, to: 1 }.apply(&before);
    assert_eq!((fewer.connections, fewer.client.cpus.len()), (1, 1), "a thread needs a connection");
    let wider = Change::Processors { from: vec![0, 1], to: vec![0, 1, 2] }.apply(&before);
    assert_eq!(stub_of(&wider).cpus, [0, 1, 2]);
}

/// A run with `--confirm`, and its report.
fn confirmed(scratch: &Scratch, flags: &str) -> (Finished, Value) {
    let command = scratch.hairspring(&format!("run --wait park --confirm {flags}"));
    let finished = command.deadline(Duration::from_secs(120)).run().expect(0);
    let report = scratch.json("results/report.json");
    check_report(&report, &scratch.path("results/requests.csv"));
    (finished, report)
}

/// False, and said, where the machine was so disturbed that nothing could be decided.
fn decided(report: &Value) -> bool {
    let confirmation = &report["confirmation"];
    let invalid =
        report["validity"]["verdict"] == "invalid" || confirmation["trial"]["validity"] == "invalid";
    if invalid {
        skipped("this machine is too disturbed for a trial: a side is INVALID");
    }
    !invalid
}

fn word<'a>(report: &'a Value, list: &str, rule: &str) -> Option<&'a str> {
    let list = report["findings"][list].as_array().unwrap();
    list.iter().find(|finding| finding["rule"] == rule)?["word"].as_str()
}

#[test]
fn a_single_thread_is_confirmed_by_a_second_worker() {
    let scratch = Scratch::new("confirm-single");
    // slow enough that the instrument's own lateness is little beside it
    let (finished, report) = confirmed(&scratch, "--stub single --service fixed:20ms -c 8 -d 4s");
    if !decided(&report) {
        return;
    }
    let confirmation = &report["confirmation"];
    let intervention = &confirmation["intervention"];
    assert_eq!(
        (&intervention["rule"], &intervention["change"]["knob"]),
        (&"single-thread".into(), &"workers".into())
    );
    let expected = intervention["expected"].as_f64().unwrap();
    // half of the time, but for the first wave, which is a greater part of the slower rounds
    assert!((-0.51..-0.45).contains(&expected), "{intervention}");
    assert_eq!(confirmation["verdict"], "confirmed", "{finished}");
    assert_eq!(confirmation["trial"]["order"].as_array().unwrap().len(), PAIRS as usize);
    assert_eq!(word(&report, "findings", "single-thread"), Some("confirmed"), "{finished}");
    assert!(finished.stdout.contains("SHOWN, CONFIRMED BY INTERVENTION single-thread"), "{finished}");
    assert!(
        finished.stdout.contains("confirmation of single-thread: CONFIRMED, with 2 workers"),
        "{finished}"
    );
    // the rounds are a comparison like any other
    let file = confirmation["trial"]["file"].as_str().unwrap();
    let comparison = scratch.json(&format!("results/{file}"));
    let [before, after] = ["baseline", "optimized"].map(|side| &comparison[side]["plan"]["target"]["server"]);
    assert_eq!(
        (&before["model"], &after["model"], &after["workers"]),
        (&"single".into(), &"pool".into(), &2.into())
    );
    let effect = &comparison["effects"]["mean"];
    assert_eq!(&confirmation["trial"]["effect"], effect);
}

/// Four workers spend 12 of 40 ms under one lock: it is full, and more of them bring nothing.
#[test]
fn a_pool_behind_a_global_lock_is_refuted() {
    let scratch = Scratch::new("confirm-lock");
    let flags = "--stub pool --workers 4 --service fixed:40ms -c 16 -d 4s --stub-flags=--lock=0.3";
    let (finished, report) = confirmed(&scratch, flags);
    if !decided(&report) {
        return;
    }
    let confirmation = &report["confirmation"];
    assert_eq!(confirmation["intervention"]["rule"], "pool", "{finished}");
    assert_eq!(confirmation["verdict"], "refuted", "{finished}");
    assert_eq!(word(&report, "cleared", "pool"), Some("not_shown"), "{finished}");
    assert_eq!(word(&report, "findings", "lock"), Some("consistent_with"), "{finished}");
    let effect = confirmation["trial"]["effect"]["change"].as_f64().unwrap();
    assert!(effect.abs() < 0.1, "more workers brought {effect}");
}

#[test]
fn without_a_knob_or_a_cause_nothing_is_changed() {
    for (flags, why) in [
        ("--stub pool --workers 8 --service fixed:40ms -c 4 -d 1s", "no cause is shown"),
        ("--stub threads --service fixed:20ms --rate-limit 20/s --rate 40/s -c 16 -d 2s", "no knob"),
    ] {
        let scratch = Scratch::new("confirm-nothing");
        let (finished, report) = confirmed(&scratch, flags);
        if report["validity"]["verdict"] == "invalid" {
            skipped("this machine is too disturbed: the run is INVALID");
            continue;
        }
        assert_eq!(report["confirmation"]["verdict"], "not_tested");
        assert_eq!(report["confirmation"]["intervention"], Value::Null);
        let says = report["confirmation"]["says"].as_str().unwrap();
        assert!(says.contains(why), "{says}\n{finished}");
        assert!(finished.stdout.contains("confirmation: nothing was changed: "), "{finished}");
        assert!(!scratch.path("results/confirm").exists());
    }
}

/// Its workers are not ours, but its connections are.
#[test]
fn a_server_that_runs_already_keeps_its_threads() {
    let scratch = Scratch::new("confirm-url");
    let stub = Stub::start(&scratch, "--model single --service fixed:20ms");
    let (finished, report) = confirmed(&scratch, &format!("-X POST {} -c 8 -d 2s", stub.url()));
    if report["validity"]["verdict"] == "invalid" {
        skipped("this machine is too disturbed: the run is INVALID");
        return;
    }
    let says = report["confirmation"]["says"].as_str().unwrap();
    assert!(says.contains("the threads are the server's own"), "{says}\n{finished}");
}
