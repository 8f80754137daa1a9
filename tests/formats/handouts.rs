//! `--summary` and `--junit` in the three commands, and `--against` where it is measured: read by Python's XML parser.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Scratch, Scripted, has, ok, patched, skipped};

/// [suite's attributes, [[classname, name, outcome, message] of each case]], as a CI server would read it.
const READ: &str = "
import sys, json, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
assert root.tag == 'testsuites', root.tag
suite, = root
assert suite.tag == 'testsuite' and root.attrib['tests'] == suite.attrib['tests'], suite.attrib
cases = suite.findall('testcase')
def outcome(case):
    found = [child for child in case if child.tag in ('failure', 'error', 'skipped')]
    assert len(found) <= 1, found
    return [found[0].tag, found[0].attrib['message']] if found else ['passed', '']
rows = [[case.attrib['classname'], case.attrib['name']] + outcome(case) for case in cases]
counted = {tag: sum(row[2] == tag for row in rows) for tag in ('failure', 'error', 'skipped')}
assert int(suite.attrib['tests']) == len(rows), suite.attrib
assert int(suite.attrib['failures']) == counted['failure'] and int(suite.attrib['errors']) == counted['error']
assert int(suite.attrib['skipped']) == counted['skipped'] and float(suite.attrib['time']) >= 0
json.dump([dict(suite.attrib), rows], sys.stdout)
";

/// None where there is no Python.
fn junit(scratch: &Scratch, file: &str) -> Option<Value> {
    if !has("python3") {
        skipped("no python3 to read the JUnit file with");
        return None;
    }
    let output = Command::new("python3").args(["-c", READ]).arg(scratch.path(file)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// What became of the case of this name.
fn outcome<'a>(suite: &'a Value, name: &str) -> &'a str {
    let rows = suite[1].as_array().unwrap();
    let row = rows.iter().find(|row| row[1] == name).unwrap_or_else(|| panic!("no {name} in {suite}"));
    row[2].as_str().unwrap()
}

/// A VALID `saved.json` of 400 requests.
fn saved(scratch: &Scratch, server: &Scripted) {
    scratch.hairspring(&format!("run {} -n 400 -c 4 --wait park", server.url("/"))).run().expect(0);
    let calm = scratch.json("results/report.json")["histograms"]["response_ok"].clone();
    let changes = [("/validity/verdict", json!("valid")), ("/histograms/undisturbed", calm)];
    patched(scratch, "results/report.json", "saved.json", &changes);
}

#[test]
fn each_rule_is_a_case_and_inconclusive_is_what_the_pipeline_says() {
    let (scratch, server) = (Scratch::new("junit"), Scripted::answering(|_| ok("x")));
    saved(&scratch, &server);
    let rules =
        ["--sla", "p50<=30s", "--sla", "max<=1ns", "--sla", "p99.9<=30s", "--sla-against", "p50<=+9900%"];
    for (flags, code, inconclusive) in
        [("", 2, "error"), ("--on-inconclusive fail", 2, "failure"), ("--on-inconclusive pass", 2, "skipped")]
    {
        let command = format!("gate saved.json --against saved.json --summary sum.md --junit j.xml {flags}");
        rules.iter().fold(scratch.hairspring(&command), |c, arg| c.arg(*arg)).run().expect(code);
        let Some(suite) = junit(&scratch, "j.xml") else { return };
        assert_eq!(suite[0]["name"], "hairspring gate");
        assert_eq!(outcome(&suite, "validity of target"), "passed");
        assert_eq!((outcome(&suite, "p50<=30s"), outcome(&suite, "max<=1ns")), ("passed", "failure"));
        assert_eq!(outcome(&suite, "p99.9<=30s"), inconclusive);
        assert_eq!(outcome(&suite, "p50<=+9900%"), "passed"); // against itself
    }
    // three commands, three summaries, one file
    let summary = String::from_utf8(std::fs::read(scratch.path("sum.md")).unwrap()).unwrap();
    assert_eq!(summary.matches("## ❌ hairspring gate: FAIL: the SLA is not met").count(), 3, "{summary}");
    assert!(summary.contains("| p50&lt;=30s | ✅ |") && summary.ends_with("\n\n"), "{summary}");

    patched(&scratch, "saved.json", "invalid.json", &[("/validity/verdict", json!("invalid"))]);
    scratch.hairspring("gate invalid.json --sla p50<=30s --junit j.xml").run().expect(3);
    let suite = junit(&scratch, "j.xml").unwrap();
    assert_eq!((outcome(&suite, "validity of target"), outcome(&suite, "p50<=30s")), ("error", "skipped"));
}

#[test]
fn run_and_compare_are_judged_against_a_baseline_too() {
    let (scratch, server) = (Scratch::new("against"), Scripted::answering(|_| ok("x")));
    saved(&scratch, &server);
    let url = server.url("/");
    for command in [
        format!("run {url} -n 400 -c 4 --wait park"),
        format!(
            "compare --baseline-url {url} --optimized-url {url} -n 400 -c 4 --wait park --rounds 1 --ignore-output"
        ),
    ] {
        let flags = "--against saved.json --sla-against p50<=+9900% --summary s.md --junit j.xml";
        let finished = scratch.hairspring(&format!("{command} {flags}")).run();
        let file = if command.starts_with("run") { "results/report.json" } else { "results/comparison.json" };
        let report = scratch.json(file);
        let rules = report["sla"]["rules"].as_array().unwrap();
        let rule = rules.last().unwrap();
        assert_eq!(rule["rule"], "p50<=+9900%", "{finished}");
        let judged = rule["verdict"] != "not_evaluated";
        assert_eq!(finished.code(), if judged { 0 } else { 3 }, "{finished}");
        if judged {
            assert_eq!(rule["verdict"], "met", "{finished}");
        }
        let Some(suite) = junit(&scratch, "j.xml") else { return };
        assert_eq!(outcome(&suite, "p50<=+9900%"), if judged { "passed" } else { "skipped" });
        if file.contains("comparison") {
            // one round says nothing about a difference
            assert_eq!(outcome(&suite, "p99: optimized is not slower"), "skipped");
            assert_eq!(outcome(&suite, "answers are identical"), "skipped");
        }
    }
}

#[test]
fn what_cannot_be_read_or_written_is_refused_before_any_load() {
    let (scratch, server) = (Scratch::new("refused"), Scripted::answering(|_| ok("x")));
    saved(&scratch, &server);
    let before = server.heard().len();
    scratch.write("text.json", "no report");
    patched(&scratch, "saved.json", "wrong.json", &[("/totals/completed", json!(1))]);
    patched(&scratch, "saved.json", "partial.json", &[("/partial", json!(true))]);
    let url = server.url("/");
    for measure in [format!("run {url}"), format!("compare --baseline-url {url} --optimized-url {url}")] {
        for (flags, code, says) in [
            ("--against none.json --sla-against p50<=+5%", 1, "none.json"),
            ("--against text.json --sla-against p50<=+5%", 1, "cannot judge text.json"),
            ("--against wrong.json --sla-against p50<=+5%", 1, "cannot judge against wrong.json"),
            ("--against partial.json --sla-against p50<=+5%", 3, "partial.json: the run is partial"),
            ("--against saved.json --sla-against p50<=5%", 64, "no rule against a baseline"),
            ("--against saved.json", 64, "--sla-against"),
            ("--sla-against p50<=+5%", 64, "--against"),
            ("--summary none/s.md", 1, "cannot write --summary none/s.md"),
            ("--junit none/j.xml", 1, "cannot write --junit none/j.xml"),
        ] {
            let finished = scratch.hairspring(&format!("{measure} {flags}")).run().expect(code);
            assert!(finished.stderr.contains(says), "{flags}: {finished}");
        }
    }
    assert_eq!(server.heard().len(), before, "a refused command sent load");
}

/// A disk that is full after the load.
#[test]
fn a_file_that_could_not_be_written_is_loud() {
    let (scratch, server) = (Scratch::new("full"), Scripted::answering(|_| ok("x")));
    saved(&scratch, &server);
    for flag in ["--summary", "--junit"] {
        let finished =
            scratch.hairspring(&format!("gate saved.json --sla p50<=30s {flag} /dev/full")).run().expect(1);
        assert!(finished.stderr.contains("cannot write /dev/full: No space left"), "{finished}");
        assert!(finished.stdout.contains("FAIL: the environment failed (exit code 1)"), "{finished}");
    }
}
