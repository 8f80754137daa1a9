//! The other end is a program we did not write: servers (nginx, Apache, HAProxy, lighttpd, Python, Node) and clients (curl,
//! wrk, h2load, ab, Python, Node). Every request is accounted for on both sides. And the files are read by a library we did not write.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Nginx, Python, Scratch, Stub, check_report, exchange, has};

#[path = "foreign/clients.rs"]
mod clients;
#[path = "foreign/histograms.rs"]
mod histograms;
#[path = "foreign/openmetrics.rs"]
mod openmetrics;
#[path = "foreign/servers.rs"]
mod servers;

/// The ids that a run of `n` with `warmup` sends.
fn ids(n: u64, warmup: u64) -> BTreeSet<String> {
    (0..n).map(|id| id.to_string()).chain((0..warmup).map(|id| format!("w{id}"))).collect()
}

#[test]
fn nginx_and_its_access_log() {
    let scratch = Scratch::new("nginx");
    let Some(nginx) = Nginx::start(&scratch) else { return };
    let addr = nginx.url("/").trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let probe = exchange(addr, "GET /chunked HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let probe = String::from_utf8(probe).unwrap().to_ascii_lowercase();
    assert!(probe.contains("transfer-encoding: chunked"), "the test of chunked answers has none: {probe}");
    let mut logged = [("/file", 0), ("/chunked", 1), ("/missing", 0)];
    for (path, keepalive, flags) in [
        ("/file", "on", ""),
        ("/file", "off", ""),
        ("/chunked", "on", ""),
        ("/chunked", "7", "--rate 4000/s"),
        ("/missing", "on", ""),
    ] {
        let n = if keepalive == "on" { 2_000 } else { 500 };
        let flags = format!(
            "run {} -n {n} -c 8 --warmup 16 --keepalive {keepalive} --wait park {flags}",
            nginx.url(path)
        );
        let finished = scratch.hairspring(&flags).run().expect(0);
        let report = scratch.json("results/report.json");
        let rows = check_report(&report, &scratch.path("results/requests.csv"));
        rows.expect_ids(n);
        let status = if path == "/missing" { "404" } else { "200" };
        assert_eq!(report["outcomes"], json!({status: n}), "{finished}");
        let before = logged.iter_mut().find(|(p, _)| *p == path).unwrap();
        let expected = before.1 + n as usize + 16;
        let all = nginx.log(path, expected);
        assert_eq!(all.len(), expected, "nginx served another number of requests: {finished}");
        let lines = &all[before.1..];
        before.1 = expected;
        let seen: BTreeSet<String> = lines.iter().map(|fields| fields[0].clone()).collect();
        assert_eq!(seen, ids(n, 16), "nginx saw other ids");
        assert!(lines.iter().all(|fields| fields[1] == status), "nginx answered otherwise than we read");
        let connections = lines.iter().map(|fields| &fields[2]).collect::<BTreeSet<_>>().len() as u64;
        assert_eq!(report["totals"]["connects"], connections, "connections: {finished}");
        let most = lines.iter().map(|fields| fields[3].parse::<u64>().unwrap()).max().unwrap();
        match keepalive {
            "on" => assert_eq!(connections, 8),
            "off" => assert_eq!((connections, most), (n + 16, 1)),
            _ => assert_eq!(most, 7, "a connection carried more than it was allowed"),
        }
    }
}

#[test]
fn python_and_its_access_log() {
    for (protocol, keepalive) in [("HTTP/1.0", "on"), ("HTTP/1.1", "on"), ("HTTP/1.1", "off")] {
        let scratch = Scratch::new("python");
        let Some(python) = Python::start(&scratch, protocol) else { return };
        let flags = format!("run {} -n 300 -c 4 --keepalive {keepalive} --wait park", python.url("/file"));
        let finished = scratch.hairspring(&flags).run().expect(0);
        let report = scratch.json("results/report.json");
        check_report(&report, &scratch.path("results/requests.csv")).expect_ids(300);
        assert_eq!(report["outcomes"], json!({"200": 300}), "{protocol}, keep-alive {keepalive}: {finished}");
        let lines = python.log("/file", 300);
        assert_eq!(lines.len(), 300, "Python served another number of requests");
        assert!(lines.iter().all(|line| line.contains(" 200 ")));
        let connects = report["totals"]["connects"].as_u64().unwrap();
        match (protocol, keepalive) {
            ("HTTP/1.1", "on") => assert_eq!(connects, 4, "{finished}"),
            _ => assert!(connects >= 300, "{connects} connections without keep-alive"),
        }
    }
}

/// What curl says to this URL with these flags.
fn curl(flags: &[&str], url: &str) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--include", "--noproxy", "*"])
        .args(flags)
        .arg(url)
        .output()
        .unwrap();
    assert!(output.status.success(), "curl {flags:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn curl_against_every_model_of_the_stub() {
    if !has("curl") {
        return;
    }
    let scratch = Scratch::new("curl");
    scratch.write("body.json", "{\"prompt\":\"from curl\"}");
    let file = format!("@{}", scratch.path("body.json").display());
    scratch.write("large", "z".repeat(300_000));
    let large = format!("@{}", scratch.path("large").display());
    let mut answers = BTreeSet::new();
    for model in ["single", "threads", "pool", "per-core"] {
        let stub = Stub::start(&scratch, &format!("--model {model} --work-seed 5 --service fixed:2ms"));
        let (url, root) = (stub.url(), format!("http://{}", stub.addr()));
        let asked = curl(&["-H", "X-Request-Id: 42", "--data-binary", &file], &url);
        let (head, body) = asked.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{model}: {asked}");
        assert!(head.to_ascii_lowercase().contains("x-request-id: 42"), "{model}: {head}");
        assert!(head.contains("Server-Timing: ") && head.contains("service;dur="), "{model}: {head}");
        let answer: Value = serde_json::from_str(body).unwrap();
        assert_eq!(answer["id"], "42");
        answers.insert(body.to_owned());
        // the body's framing is not part of its content
        let chunked = curl(
            &["-H", "X-Request-Id: 42", "-H", "Transfer-Encoding: chunked", "--data-binary", &file],
            &url,
        );
        answers.insert(chunked.split_once("\r\n\r\n").unwrap().1.to_owned());
        let awaited =
            curl(&["-H", "X-Request-Id: 42", "-H", "Expect: 100-continue", "--data-binary", &file], &url);
        assert!(awaited.starts_with("HTTP/1.1 100 "), "{model}: {awaited}");
        answers.insert(awaited.rsplit_once("\r\n\r\n").unwrap().1.to_owned());
        let old = curl(&["--http1.0", "-H", "X-Request-Id: 42", "--data-binary", &file], &url);
        answers.insert(old.split_once("\r\n\r\n").unwrap().1.to_owned());
        assert!(curl(&["--data-binary", &large], &url).contains(" 200 "), "{model}");

        for (flags, path, status) in [
            (&["-G"][..], "/health/live", "200"),
            (&["-G"], "/health/ready", "200"),
            (&["-G"], "/health/startup", "200"),
            (&["--head"], "/health/live", "200"),
            (&["-G"], "/nowhere", "404"),
            (&["-G"], "/v1/infer", "405"),
            (&["-X", "BREW", "-d", "x"], "/v1/infer", "501"),
            (&["-H", "X-Request-Id: a b", "-d", "x"], "/v1/infer", "400"),
        ] {
            let answer = curl(flags, &format!("{root}{path}"));
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{model}, {flags:?} {path}: {answer}"
            );
        }
        // two requests, one connection
        let out = scratch.path("out");
        let twice = Command::new("curl")
            .args(["--silent", "--max-time", "20", "-w", "%{http_code} %{num_connects}\n", "-o"])
            .arg(&out)
            .args([format!("{root}/health/live"), "-o".to_owned()])
            .arg(&out)
            .arg(format!("{root}/stats"))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&twice.stdout), "200 1\n200 0\n", "{model}: keep-alive");
        let stats: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
        assert_eq!(stats["model"], model);
        assert!(stats["statuses"]["200"].as_u64().unwrap() >= 9, "{stats}");
    }
    assert_eq!(answers.len(), 1, "one request, one answer: {answers:?}");
}

#[test]
fn a_stub_that_is_asked_to_stop_finishes_what_it_began() {
    if !has("curl") {
        return;
    }
    let scratch = Scratch::new("drain");
    let mut stub = Stub::start(&scratch, "--model pool --service fixed:700ms");
    let url = stub.url();
    let asked = std::thread::spawn(move || curl(&["-d", "x"], &url));
    let addr = stub.addr();
    let in_flight = || {
        let stats = exchange(addr, "GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        String::from_utf8(stats).unwrap().contains("\"in_flight\":1")
    };
    assert!(crate::support::eventually(Duration::from_secs(10), in_flight), "the request did not arrive");
    stub.process().signal(rustix::process::Signal::TERM);
    assert!(asked.join().unwrap().starts_with("HTTP/1.1 200 "));
    let ended = crate::support::eventually(Duration::from_secs(10), || !stub.process().is_running());
    assert!(ended, "it did not end");
}
