//! Suites: all scenarios past one that fails, one report, the gravest exit code; nothing is measured before all is checked.

use std::time::Duration;

use hairspring::report::{SuiteReport, json};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Finished, Scratch, Scripted, eventually, free_port, ok};

const SERVERS: &str = r#"
name = "small"

[outputs]
out = "there"
summary = "summary.md"
junit = "junit.xml"

[defaults]
flags = "--wait park -n 20 -c 2 --no-log"

[servers.quick]
stub = "pool"
flags = "--workers 2 --service fixed:1ms"

[servers.one]
stub = "single"

[servers.two]
stub = "pool"
"#;

/// A suite of these scenarios, run.
fn suite(scratch: &Scratch, scenarios: &str, flags: &str) -> Finished {
    scratch.write("s.toml", format!("{SERVERS}{scenarios}"));
    scratch.hairspring(&format!("suite s.toml {flags}")).deadline(Duration::from_secs(60)).run()
}

fn scenario<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["scenarios"].as_array().unwrap();
    all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// The exit code of a scenario, given how quiet the machine was; a failed environment (1) goes before INVALID (3).
fn expect(scratch: &Scratch, report: &Value, name: &str, code: u64) {
    let one = scenario(report, name);
    let own = scratch.json(&format!("there/{}", one["report"].as_str().unwrap()));
    let invalid = own.pointer("/validity/verdict").unwrap_or(&own["validity"]) == "invalid";
    assert_eq!(one["exit_code"], if invalid && code != 1 { 3 } else { code }, "{one}");
}

#[test]
fn every_scenario_is_run_and_the_gravest_decides() {
    let scratch = Scratch::new("suite");
    let scenarios = format!(
        r#"
[servers.absent]
url = "http://127.0.0.1:{}/"

[variants.few]
server = "quick"
flags = "-c 1"

[[scenario]]
name = "met"
server = "quick"
gates = ["p50<=20s", "errors<90%"]

[[scenario]]
name = "nobody"
server = "absent"

[[scenario]]
name = "missed"
server = "quick"
gates = ["p50<=1us"]

[[scenario]]
name = "plain"
server = "quick"

[[scenario]]
name = "two"
baseline = "one"
optimized = "two"
flags = "--rounds 1 --workers 2 --service fixed:1ms"
gates = ["mean<=20s"]

[[scenario]]
name = "several"
variants = ["few", "quick"]
flags = "--rounds 1"
gates = ["mean<=20s"]
"#,
        free_port()
    );
    let finished = suite(&scratch, &scenarios, "").expect(1);
    let report = scratch.json("there/suite.json");
    assert_eq!(report["schema"], "hairspring.suite/1");
    assert_eq!((&report["partial"], &report["exit_code"]), (&Value::Bool(false), &Value::from(1)));
    for (name, code) in [("met", 0), ("nobody", 1), ("missed", 2), ("plain", 0), ("two", 0), ("several", 0)] {
        expect(&scratch, &report, name, code);
        let page = std::fs::read_to_string(scratch.path(&format!("there/{name}/report.txt"))).unwrap();
        assert!(page.contains("=> ") || ["plain", "nobody"].contains(&name), "{page}");
        assert!(finished.stdout.contains(&format!("{name}: ")), "{finished}");
    }
    assert_eq!(scenario(&report, "two")["report"], "two/comparison.json");
    assert_eq!(scenario(&report, "several")["report"], "several/ranking.json");
    let plain: Vec<&Value> = scenario(&report, "plain")["cases"].as_array().unwrap().iter().collect();
    assert!(plain.iter().any(|case| case["group"] == "figure" && case["name"] == "p95"), "{plain:?}");
    // the table: scenario, metric, measured, target, status
    let row = |start: [&str; 2]| {
        let cells = |line: &str| line.split_whitespace().take(2).eq(start);
        let line = finished.stdout.lines().find(|line| cells(line));
        line.unwrap_or_else(|| panic!("no row {start:?}: {finished}")).to_owned()
    };
    assert!(row(["scenario", "metric"]).ends_with("status"));
    assert!(row(["met", "p50"]).contains("<=20s"));
    assert!(row(["missed", "p50"]).contains("<=1us"));
    assert!(row(["two", "change"]).contains("not slower"));
    // its forms say the same
    let bytes = std::fs::read(scratch.path("there/suite.json")).unwrap();
    let read: SuiteReport = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(json::render(&read), bytes, "it does not come back as it was");
    let junit = std::fs::read_to_string(scratch.path("junit.xml")).unwrap();
    assert_eq!(junit.matches("<testsuite name=").count(), 6, "{junit}");
    let cases: usize = read.scenarios.iter().map(|one| one.cases.len()).sum();
    assert_eq!(junit.matches("<testcase ").count(), cases, "{junit}");
    let summary = std::fs::read_to_string(scratch.path("summary.md")).unwrap();
    assert!(summary.starts_with("## ⚠️ hairspring suite small: "), "{summary}");
    assert!(summary.contains("| missed | p50 |"), "{summary}");
    // again: the earlier folder is kept
    let again = "[[scenario]]\nname = 'met'\nserver = 'quick'\n";
    suite(&scratch, again, "--junit other.xml");
    assert!(["there.1/suite.json", "other.xml"].iter().all(|name| scratch.path(name).exists()));
}

#[test]
fn nothing_is_measured_before_everything_is_checked() {
    let server = Scripted::answering(|_| ok("x"));
    let scratch = Scratch::new("unmeasured");
    let fine = format!(
        "[servers.real]\nurl = \"{}\"\n[[scenario]]\nname = \"fine\"\nserver = \"real\"\n",
        server.url("/")
    );
    let line = SERVERS.lines().count() + fine.lines().count() + 2;
    for (scenario, code, says) in [
        ("server = \"real\"\nflags = \"-n 3 -c 9\"", 64, "-n 3 is less than -c 9"),
        ("server = \"real\"\nflags = \"--rate 5/s --think 1s\"", 64, "--think"),
        ("server = \"quick\"\nflags = \"--service wrong\"", 64, "wrong"),
        ("server = \"quick\"\nflags = \"--help\"", 64, "--help"),
        ("server = \"real\"\nflags = \"--body-file absent.txt\"", 1, "absent.txt"),
        ("server = \"real\"\nflags = \"--against old.json --sla-against 'p50<=+5%'\"", 1, "old.json"),
    ] {
        let scenarios = format!("{fine}[[scenario]]\nname = \"wrong\"\n{scenario}\n");
        let finished = suite(&scratch, &scenarios, "").expect(code);
        let place = format!("s.toml:{line}: wrong: ");
        assert!(
            finished.stderr.contains(&place) && finished.stderr.contains(says),
            "{place}{says}: {finished}"
        );
    }
    // both faults are said, and the graver one decides
    let both = format!(
        "{fine}[[scenario]]\nname = \"a\"\nserver = \"real\"\nflags = \"--body-file absent.txt\"\n\
         [[scenario]]\nname = \"b\"\nserver = \"real\"\nflags = \"-c 0\"\n"
    );
    let finished = suite(&scratch, &both, "").expect(64);
    assert!(finished.stderr.contains("absent.txt") && finished.stderr.contains("-c 0"), "{finished}");
    let unknown = suite(&scratch, "[[scenario]]\nname = 'x'\nserver = 'quick'\nspeed = 1\n", "").expect(64);
    let line = SERVERS.lines().count() + 4;
    assert!(unknown.stderr.contains(&format!("s.toml:{line}: unknown field `speed`")), "{unknown}");
    scratch.hairspring("suite nowhere.toml").run().expect(1);
    let checked = suite(&scratch, &fine, "--check").expect(0);
    assert!(checked.stdout.contains("fine: run target: closed loop, 20 requests"), "{checked}");
    assert_eq!(scratch.entries(), ["s.toml"], "something was written");
    assert_eq!(server.heard().len(), 0, "something was sent");
}

#[test]
fn a_signal_keeps_what_was_run() {
    let server = Scripted::answering(|_| {
        std::thread::sleep(Duration::from_millis(5));
        ok("x")
    });
    let scratch = Scratch::new("stopped-suite");
    let url = server.url("/");
    scratch.write(
        "s.toml",
        format!(
            "[defaults]\nflags = '--wait park -c 2'\n[servers.a]\nurl = '{url}'\n\
             [[scenario]]\nname = 'first'\nserver = 'a'\nflags = '-n 4'\n\
             [[scenario]]\nname = 'long'\nserver = 'a'\nflags = '-n 50000'\ngates = ['p50<=20s']\n\
             [[scenario]]\nname = 'never'\nserver = 'a'\n"
        ),
    );
    let running = scratch.hairspring("suite s.toml").start();
    assert!(eventually(Duration::from_secs(15), || server.heard().len() >= 40), "the load does not begin");
    running.signal(Signal::INT);
    let finished = running.wait().expect(130);
    let report = scratch.json("results/suite.json");
    assert_eq!((&report["partial"], &report["exit_code"]), (&Value::Bool(true), &Value::from(130)));
    assert_eq!(scenario(&report, "long")["exit_code"], 130);
    assert_eq!(scratch.json("results/long/report.json")["partial"], true);
    assert_eq!(scenario(&report, "never")["exit_code"], Value::Null);
    assert!(finished.stdout.contains("PARTIAL") && finished.stdout.contains("never: not run"), "{finished}");
    assert!(!scratch.path("results/never").exists());
}

#[test]
fn the_example_of_the_documentation_is_right() {
    let scratch = Scratch::new("example");
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/suite.toml");
    let checked = scratch.hairspring(&format!("suite {example} --check")).run().expect(0);
    assert!(checked.stdout.lines().count() >= 4, "{checked}");
}

#[test]
fn a_run_starts_a_server_of_the_users() {
    let scratch = Scratch::new("started");
    let port = free_port();
    let program = env!("CARGO_BIN_EXE_hairspring");
    let finished = scratch
        .hairspring(&format!("run http://127.0.0.1:{port}/v1/infer -X POST --body x -n 20 -c 2 --wait park"))
        .args_pair(
            "--cmd",
            &format!("exec {program} stub --model pool --service fixed:1ms --addr 127.0.0.1:{port}"),
        )
        .run()
        .expect(0);
    let report = scratch.json("results/report.json");
    assert_eq!(report["plan"]["target"]["server"]["kind"], "command", "{finished}");
    assert_eq!(report["totals"]["successful"], 20, "{finished}");
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "the server was left behind");
}
