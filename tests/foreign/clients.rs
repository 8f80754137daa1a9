//! Load generators and clients we did not write against every model of the stub: what they counted is what the stub
//! counted, and nothing failed.

use std::process::Command;

use serde_json::Value;

use crate::support::{Scratch, Stub, exchange, has, python_with};

const MODELS: [&str; 4] = ["single", "threads", "pool", "per-core"];
const REQUESTS: u64 = 1_000;

/// What a program prints; it must succeed.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {text}");
    text
}

/// The number beside `label`: the word behind it if it ends in a colon, else the word before it.
fn number(text: &str, label: &str) -> u64 {
    let found = text.lines().find_map(|line| {
        let (before, behind) = line.split_once(label)?;
        let word = if label.ends_with(':') {
            behind.split_whitespace().next()
        } else {
            before.split_whitespace().last()
        };
        word?.parse().ok()
    });
    found.unwrap_or_else(|| panic!("no {label:?} in {text}"))
}

/// How many requests the stub has answered with 200, this question not included.
fn answered(stub: &Stub) -> u64 {
    let stats = exchange(stub.addr(), "GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let stats = String::from_utf8(stats).unwrap();
    let stats: Value = serde_json::from_str(stats.split_once("\r\n\r\n").unwrap().1).unwrap();
    let statuses = stats["statuses"].as_object().unwrap();
    assert!(statuses.keys().all(|status| status == "200"), "{stats}");
    stats["statuses"]["200"].as_u64().unwrap_or(0)
}

/// Runs a client against every model; `counted` is what it says it got, `slack` what may be under way at its end.
fn agree(slack: u64, counted: impl Fn(&Scratch, &Stub) -> u64) {
    let scratch = Scratch::new("clients");
    for model in MODELS {
        let stub = Stub::start(&scratch, &format!("--model {model}"));
        let theirs = counted(&scratch, &stub);
        let ours = answered(&stub);
        assert!((theirs..=theirs + slack).contains(&ours), "{model}: they {theirs}, the stub {ours}");
        assert!(theirs > 0, "{model}");
    }
}

#[test]
fn apache_bench() {
    if !has_quiet("ab", "-V") {
        return;
    }
    agree(0, |scratch, stub| {
        let body = scratch.write("body", "{\"prompt\":\"x\"}").display().to_string();
        let n = REQUESTS.to_string();
        let args = ["-n", &n, "-c", "8", "-p", &body, "-T", "application/json", "-s", "20"];
        // HTTP/1.0, with keep-alive and without
        ["-k", "-q"]
            .map(|more| {
                let text = said("ab", &[&[more, "-q"][..], &args, &[&stub.url()]].concat());
                assert_eq!(number(&text, "Failed requests:"), 0, "{text}");
                assert!(!text.contains("Non-2xx"), "{text}");
                number(&text, "Complete requests:")
            })
            .iter()
            .sum()
    });
}

#[test]
fn h2load() {
    if !has("h2load") {
        return;
    }
    agree(0, |scratch, stub| {
        let body = scratch.write("body", "{\"prompt\":\"x\"}").display().to_string();
        let text =
            said("h2load", &["--h1", "-n", &REQUESTS.to_string(), "-c", "8", "-d", &body, &stub.url()]);
        assert_eq!(number(&text, "failed,"), 0, "{text}");
        number(&text, "succeeded,")
    });
}

#[test]
fn wrk() {
    const CONNECTIONS: u64 = 16;
    if !has_quiet("wrk", "-v") {
        return;
    }
    agree(CONNECTIONS, |scratch, stub| {
        let script = "wrk.method = 'POST'\nwrk.body = '{}'\nwrk.headers['X-Request-Id'] = 'w'\n";
        let script = scratch.write("post.lua", script).display().to_string();
        let text = said("wrk", &["-t1", "-c16", "-d1s", "-s", &script, &stub.url()]);
        assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
        number(&text, "requests in")
    });
}

#[test]
fn httpx_and_aiohttp() {
    let Some(python) = python_with("httpx, aiohttp") else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/clients.py");
    agree(0, |_, stub| {
        let counts: Value = serde_json::from_str(&said(&python, &[script, &stub.url(), "100"])).unwrap();
        assert_eq!(counts, serde_json::json!({"httpx": 200, "aiohttp": 200}));
        400
    });
}

#[test]
fn node() {
    if !has("node") {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/client.js");
    agree(0, |_, stub| {
        let text = said("node", &[script, &stub.url(), "500"]);
        assert_eq!(text.trim(), "1000");
        1_000
    });
}

/// `has`, for programs that end with an error when asked for their version.
fn has_quiet(program: &str, flag: &str) -> bool {
    let there = Command::new(program).arg(flag).output().is_ok();
    if !there {
        crate::support::skipped(&format!("{program} is not installed here"));
    }
    there
}
