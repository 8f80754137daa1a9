//! Our OpenMetrics text in the official parser's eyes, over curl; and a Python server's metrics in ours.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Scratch, Stub, eventually, has, python_with};

const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/read_openmetrics.py");
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/metrics_server.py");

/// Families and samples, as `prometheus_client` reads them; it refuses what the standard forbids.
fn read_by_python(python: &str, text: &str, scratch: &Scratch) -> Value {
    let path = scratch.write("text.prom", text);
    let output = Command::new(python).arg(READER).arg(path).output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn curl(url: &str) -> String {
    let output = Command::new("curl").args(["-sS", "--fail", "--max-time", "10", url]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_served_and_written_is_what_the_standard_says() {
    let Some(python) = python_with("prometheus_client.openmetrics.parser") else { return };
    if !has("curl") {
        return;
    }
    let scratch = Scratch::new("openmetrics");
    let mut running = scratch
        .hairspring("run --stub pool --workers 2 --service fixed:3ms -c 4 -d 1500ms --interval 200ms --wait park --metrics-listen 0 --metrics-file m.prom")
        .start();
    let url = || {
        let said = running.stderr();
        let rest = said.split_once("metrics at ")?.1;
        rest.lines().next().map(str::to_owned)
    };
    assert!(eventually(Duration::from_secs(10), || url().is_some()), "{}", running.stderr());
    let url = url().unwrap();
    let mut live = String::new();
    let complete = eventually(Duration::from_secs(10), || {
        std::thread::sleep(Duration::from_millis(100));
        live = curl(&url);
        live.contains("hairspring_server_cores{") && !live.contains("outcome=\"successful\"} 0\n")
    });
    assert!(complete && running.is_running(), "{live}");
    let seen = read_by_python(&python, &live, &scratch);
    assert_eq!(seen["hairspring_requests"]["type"], "counter");
    assert_eq!(seen["hairspring_response_seconds"]["type"], "histogram");
    assert_eq!(seen["hairspring_server_rss_bytes"]["unit"], "bytes");
    assert!(seen["hairspring_machine_cpu_user_ratio"]["samples"][0][1]["cpu"].is_string(), "{seen}");
    running.wait().expect(0);
    let last = read_by_python(&python, &fs::read_to_string(scratch.path("m.prom")).unwrap(), &scratch);
    let successful = &scratch.json("results/report.json")["totals"]["successful"];
    assert_eq!(last["hairspring_requests"]["samples"][0][2], successful.as_f64().unwrap());
}

#[test]
fn what_the_stub_tells_is_what_the_standard_says() {
    let Some(python) = python_with("prometheus_client.openmetrics.parser") else { return };
    if !has("curl") {
        return;
    }
    let scratch = Scratch::new("openmetrics-stub");
    let stub = Stub::start(&scratch, "--model pool --addr 127.0.0.1:0");
    curl(&format!("http://{}/health/live", stub.addr()));
    let seen = read_by_python(&python, &curl(&format!("http://{}/metrics", stub.addr())), &scratch);
    assert_eq!(
        seen["stub_requests"]["samples"][0],
        serde_json::json!(["stub_requests_total", {"status": "200"}, 1])
    );
    assert_eq!(seen["process_start_time_seconds"]["unit"], "seconds");
}

/// Its own client library writes, we read: every kind of metric, in both formats.
#[test]
fn a_python_server_that_tells_of_itself() {
    let Some(python) = python_with("prometheus_client") else { return };
    let scratch = Scratch::new("python-metrics");
    for format in ["openmetrics", "text"] {
        let port = crate::support::free_port();
        let flags = format!(
            "run http://127.0.0.1:{port}/work -c 3 -n 300 --rate 300/s --wait park --scrape /metrics --scrape-interval 200ms --out {format}"
        );
        let command = format!("exec {python} {SERVER} {port} {format}");
        let finished = scratch.hairspring(&flags).args_pair("--cmd", &command).run().expect(0);
        let report = scratch.json(&format!("{format}/report.json"));
        let scraped = &report["scraped"];
        assert!(scraped["failure"].is_null(), "{scraped}: {finished}");
        assert_eq!(scraped["malformed"], 0, "{scraped}");
        assert!(scraped["left_out"].as_u64().unwrap() >= 15, "the buckets of a histogram: {scraped}");
        let figures = &scraped["figures"];
        // one more answered that the URL was up
        let requests = &figures["work_requests_total{path=\"a\\\"b\\\\c\"}"];
        assert_eq!(requests["kind"], "counter", "{figures}");
        assert!((300.0..=302.0).contains(&requests["last"].as_f64().unwrap()), "{requests}");
        assert!(
            (300.0..=302.0).contains(&figures["work_seconds_count"]["last"].as_f64().unwrap()),
            "{figures}"
        );
        assert_eq!(figures["work_level"]["kind"], "gauge");
        assert_eq!(figures["work_level"]["max"], 0.25);
    }
}
