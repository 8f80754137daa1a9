//! Alerts of real runs, and the commands that are told of them.

use serde_json::Value;

use crate::support::{Rows, Scratch};

fn list<'a>(report: &'a Value, pointer: &str) -> &'a Vec<Value> {
    let found = report.pointer(pointer).and_then(Value::as_array);
    found.unwrap_or_else(|| panic!("{pointer}: {}", report["rounds"][0]["alerts"]))
}

fn read(scratch: &Scratch, name: &str) -> String {
    std::fs::read_to_string(scratch.path(name)).unwrap()
}

#[test]
fn a_busy_server_is_told_of_while_the_load_runs() {
    let scratch = Scratch::new("alert-cpu");
    // far below what it uses, so that a machine shared with others makes no difference
    let finished = scratch
        .hairspring("run --stub pool --workers 2 --service fixed:10ms --work spin -c 4 -d 2s --wait park")
        .args_pair("--alert", "server.cpu>1%")
        .args_pair("--on-alert", "cat >> told.jsonl; echo heard")
        .run()
        .expect(0);
    let report = scratch.json("results/report.json");
    let found = list(&report, "/rounds/0/alerts/found");
    let told = read(&scratch, "told.jsonl");
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(!found.is_empty() && told.len() == found.len(), "{told:?}: {finished}");
    for (event, alert) in told.iter().zip(found) {
        assert_eq!(event["schema"], "hairspring.alert/1");
        assert_eq!((&event["target"], &event["round"]), (&"target".into(), &0.into()));
        for same in ["rule", "start_ns", "limit", "unit", "live"] {
            assert_eq!(event[same], alert[same], "{same}");
        }
        assert_eq!((&alert["rule"], &alert["live"]), (&"server.cpu>1%".into(), &true.into()));
        assert!(event["value"].as_f64().unwrap() > 1.0 && event["value"].as_f64() <= alert["value"].as_f64());
        // it was not over when it was told
        assert!(event["end_ns"].is_null() && event["requests"].is_null(), "{event}");
        assert!(alert["requests"]["answered"].as_u64().unwrap() > 0, "{alert}");
    }
    let commands = &report["rounds"][0]["alerts"]["commands"];
    assert_eq!((&commands["succeeded"], &commands["failed"]), (&found.len().into(), &0.into()));
    assert_eq!(read(&scratch, "results/target.alerts.txt").lines().count(), found.len());
    assert!(finished.stdout.contains("alerts among 1 rule; no exit code"), "{finished}");
    let helpers = list(&report, "/rounds/0/helpers");
    assert!(helpers.iter().any(|helper| helper["name"] == "alerts"), "{helpers:?}");
}

#[test]
fn refused_requests_are_told_of_after_the_round_and_a_command_that_fails_is_a_finding() {
    let scratch = Scratch::new("alert-errors");
    let finished = scratch
        .hairspring(
            "run --stub pool --workers 2 --service fixed:2ms --rate-limit 5 --rate 400/s -d 2s --interval 200ms --wait park",
        )
        .args_pair("--alert", "errors>10%")
        .args_pair("--alert", "throughput<100000000/s")
        .args_pair("--alert", "machine.memory>99.999%")
        .args_pair("--alert", "client.rss>1000GiB")
        .args_pair("--on-alert", "exit 3")
        .run()
        .expect(0);
    let report = scratch.json("results/report.json");
    let alerts = list(&report, "/rounds/0/alerts/found");
    let errors: Vec<&Value> = alerts.iter().filter(|alert| alert["rule"] == "errors>10%").collect();
    assert!(!errors.is_empty(), "{finished}");
    let rows = Rows::read(&scratch.path("results/requests.csv"));
    let t0 = rows.rows.iter().map(|row| row.ns("intended_ns")).min().unwrap();
    for alert in alerts {
        assert_eq!(alert["live"], false);
        for slow in alert["requests"]["slowest"].as_array().unwrap() {
            let row =
                rows.rows.iter().find(|row| row.ns("request_id") == slow["id"]).expect("an id of the log");
            assert_eq!(row.ns("done_ns") - row.ns("intended_ns"), slow["response_ns"]);
            // without a warm-up the first request of a closed loop is due at t0
            assert_eq!(row.ns("intended_ns") - t0, slow["intended_ns"]);
        }
    }
    assert!(errors.iter().all(|alert| alert["value"].as_f64().unwrap() > 10.0));
    let commands = &report["rounds"][0]["alerts"]["commands"];
    assert_eq!((&commands["failed"], &commands["succeeded"]), (&alerts.len().into(), &0.into()));
    assert!(commands["failures"][0].as_str().unwrap().contains("exit status: 3"), "{commands}");
    assert!(finished.stdout.contains("commands failed; the first ended with exit status: 3"), "{finished}");
}

#[test]
fn alerts_can_be_off_and_what_cannot_be_seen_is_said() {
    let scratch = Scratch::new("alert-off");
    let run = |more: &str| {
        let flags = format!("run --stub pool --service fixed:1ms -c 4 -n 40 --monitor-interval off {more}");
        let finished = scratch.hairspring(&flags).run().expect(0);
        (scratch.json("results/report.json"), finished)
    };
    let (off, finished) = run("--alert none");
    assert!(list(&off, "/plan/alerts/rules").is_empty() && !finished.stdout.contains("alert"), "{finished}");
    let (default, finished) = run("");
    assert_eq!(list(&default, "/plan/alerts/rules").len(), 5);
    let hidden = list(&default, "/rounds/0/alerts/not_evaluated");
    let why =
        |rule: &str| hidden.iter().find(|h| h["rule"] == rule).map_or("", |h| h["why"].as_str().unwrap());
    assert_eq!(why("server.cpu>80%"), "the system monitor was off");
    assert!(
        why("p95>+50%").contains("three")
            && finished.stdout.contains("not evaluated: server.cpu>80%, machine.memory>85% (the")
    );
}

#[test]
fn an_alert_that_makes_no_sense_is_refused_before_any_load() {
    let scratch = Scratch::new("alert-usage");
    for (flags, says) in [
        (["--alert", "nonsense"].as_slice(), "no comparison"),
        (&["--alert", "server.cpi>80%"], "no metric of the system monitor"),
        (&["--alert", "none", "--alert", "errors>1%"], "leave one out"),
        (&["--alert", "none", "--on-alert", "true"], "leave one out"),
        (&["--on-alert", " "], "write a command"),
    ] {
        for command in ["run --stub single", "compare"] {
            let asked = flags.iter().fold(scratch.hairspring(command), |asked, flag| asked.arg(*flag));
            let finished = asked.run().expect(64);
            assert!(finished.stderr.contains(says), "{flags:?}: {finished}");
            assert!(!scratch.path("results").exists());
        }
    }
    let finished =
        scratch.hairspring("capacity --stub single --sla p99<=1s --alert errors>1%").run().expect(64);
    assert!(finished.stderr.contains("capacity does not know it"), "{finished}");
}
