//! Our histograms, read by the Python port of HdrHistogram: the base64 in reports, the interval log, the percentile
//! distribution.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Scratch, Scripted, answer, ok, python_with};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/read_histograms.py");

fn read_by_python(python: &str, scratch: &Scratch, report: &str, stem: &str) -> Value {
    let results = scratch.path("results");
    let output = Command::new(python).arg(SCRIPT).arg(results).args([report, stem]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Answers that take from nothing to 20 ms; every 50th is refused.
fn server() -> Scripted {
    Scripted::answering(|heard| {
        let id: u64 = heard.id().trim_start_matches('w').parse().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(id * id % 20_011));
        if id % 50 == 49 { answer(503, "busy") } else { ok("x") }
    })
}

/// The upper edge of the bucket of a rank, from buckets with the count up to each.
fn edge(buckets: &Value, rank: u64) -> u64 {
    let reaches = |bucket: &&Value| bucket[1].as_u64().unwrap() >= rank;
    buckets.as_array().unwrap().iter().find(reaches).unwrap()[0].as_u64().unwrap()
}

/// Ours is the middle of the bucket whose upper edge theirs is.
fn assert_same_bucket(ours: &Value, edge: u64, what: &str) {
    let ours = ours.as_u64().unwrap_or_else(|| panic!("{what}: {ours}"));
    let apart = (edge as f64 - ours as f64) / ours as f64;
    assert!((-0.0005..0.001).contains(&apart), "{what}: {ours} and {edge}");
}

fn agree(side: &Value, theirs: &Value, scratch: &Scratch, stem: &str) {
    for (name, saved) in side["histograms"].as_object().unwrap() {
        let count = saved["count"].as_u64().unwrap() - saved["out_of_range"].as_u64().unwrap();
        assert_eq!(theirs["histograms"][name]["count"], count, "{name}");
    }
    let responses = &theirs["histograms"]["response_ok"];
    let n = responses["count"].as_u64().unwrap();
    for (p, share) in [("p50", 500), ("p90", 900), ("p95", 950), ("p99", 990)] {
        let edge = edge(&responses["buckets"], (n * share).div_ceil(1_000));
        assert_same_bucket(&side["response_ok_ns"][p], edge, p);
    }
    // the slices: of each, what the report says; together, the whole
    let mut mine: Vec<&Value> = side["intervals"]["rows"].as_array().unwrap().iter().collect();
    mine.retain(|row| row[3] != 0);
    let slices = theirs["slices"].as_array().unwrap();
    assert_eq!(slices.len(), mine.len());
    let mut before = 0.0;
    for (slice, row) in slices.iter().zip(&mine) {
        assert_eq!(slice["count"], row[3], "{row}");
        let n = row[3].as_u64().unwrap();
        assert_same_bucket(&row[5], edge(&slice["buckets"], n.div_ceil(2)), "p50 of a slice");
        assert_same_bucket(&row[6], edge(&slice["buckets"], (n * 99).div_ceil(100)), "p99 of a slice");
        let (start, end) = (slice["start_ms"].as_f64().unwrap(), slice["end_ms"].as_f64().unwrap());
        assert!((end - start - 200.0).abs() < 0.5 && start >= before - 0.5, "{start} to {end}");
        before = end;
    }
    assert_eq!(theirs["total"]["buckets"], responses["buckets"], "the slices are not the whole");
    let created = side["created_unix_ms"].as_f64().unwrap() / 1e3;
    let started = theirs["start_s"].as_f64().unwrap();
    assert!(started < created && created - started < 60.0, "started {started}, written {created}");
    distribution(theirs, &fs::read_to_string(scratch.path(&format!("results/{stem}.hgrm"))).unwrap());
}

/// Their table has other steps (the port does not round halvings down as HdrHistogram does), so each of our rows is held
/// against their buckets; head and foot are compared as they are.
fn distribution(theirs: &Value, ours: &str) {
    let responses = &theirs["histograms"]["response_ok"];
    let n = responses["count"].as_u64().unwrap();
    let foreign = theirs["distribution"].as_str().unwrap();
    let (head, foot) = (
        |text: &str| text.lines().next().unwrap().to_owned(),
        |text: &str| -> Vec<String> {
            text.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect()
        },
    );
    assert_eq!(head(ours), head(foreign));
    let (mut mine, mut their) = (foot(ours), foot(foreign));
    // they forget to scale the deviation
    let ms = |key: &str| responses[key].as_f64().unwrap() / 1e6;
    let mean = format!("#[Mean    = {:12.3}, StdDeviation   = {:12.3}]", ms("mean"), ms("deviation"));
    assert_eq!((mine.remove(0), their.len()), (mean, 3));
    // they count in thousandths of a request
    their[1] = their[1].replace(&format!("{n}.000]"), &format!("{n}]")).split(',').next().unwrap().to_owned();
    assert!(mine[0].starts_with(&their[1]) && mine[0].ends_with(&format!("{n:12}]")), "{mine:?} {their:?}");
    assert_eq!(mine[1], their[2]);
    let up_to: BTreeMap<String, u64> = responses["buckets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| (format!("{:.3}", b[0].as_f64().unwrap() / 1e6), b[1].as_u64().unwrap()))
        .collect();
    let mut expected = 0.0;
    let rows: Vec<Vec<&str>> = ours
        .lines()
        .skip(2)
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect())
        .collect();
    for (at, row) in rows.iter().enumerate() {
        let (quantile, total): (f64, u64) = (row[1].parse().unwrap(), row[2].parse().unwrap());
        assert!(up_to.get(row[0]).is_some_and(|&most| total <= most), "{row:?}");
        assert!(total as f64 >= quantile * n as f64 - 1e-6, "{row:?}");
        if at + 1 == rows.len() {
            assert_eq!((row.len(), quantile, total), (3, 1.0, n));
        } else {
            assert!((quantile - expected).abs() < 1e-9, "step {at}: {quantile}, not {expected}");
            assert_eq!(row[3], format!("{:.2}", 1.0 / (1.0 - quantile)));
            // five steps to each half of the rest
            expected += 0.5f64.powi((1.0 / (1.0 - expected - 1e-12)).log2() as i32 + 1) / 5.0;
        }
    }
}

#[test]
fn a_report_its_log_and_its_table_are_read_by_another_implementation() {
    let Some(python) = python_with("hdrh") else { return };
    let scratch = Scratch::new("hdrh");
    let server = server();
    let flags = format!("run {} -n 900 -c 6 --interval 200ms --wait park", server.url("/"));
    scratch.hairspring(&flags).run().expect(0);
    let report = scratch.json("results/report.json");
    assert_eq!(report["histogram_error"], json!(0.0005));
    assert!(report["intervals"]["rows"].as_array().unwrap().len() >= 4, "{}", report["intervals"]);
    agree(&report, &read_by_python(&python, &scratch, "report.json", "response"), &scratch, "response");
}

#[test]
fn both_sides_of_a_comparison_are_read_by_another_implementation() {
    let Some(python) = python_with("hdrh") else { return };
    let scratch = Scratch::new("hdrh-compare");
    let flags = "compare --service exp:2ms --workers 3 -n 300 -c 4 --rounds 2 --interval 200ms --wait park";
    let finished = scratch.hairspring(flags).run();
    assert!([0, 3].contains(&finished.code()), "{finished}");
    let comparison = scratch.json("results/comparison.json");
    for side in ["baseline", "optimized"] {
        let theirs = read_by_python(&python, &scratch, "comparison.json", side);
        agree(&comparison[side], &theirs, &scratch, side);
        let rounds = comparison[side]["intervals"]["rows"].as_array().unwrap();
        assert!(rounds.iter().any(|row| row[0] == 0) && rounds.iter().any(|row| row[0] == 1));
    }
}
