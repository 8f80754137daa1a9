//! Real servers under load: what the report says was answered is what the server's own log says, id by id, on both
//! engines and in every framing. 2 000 requests each; 100 000 with `HAIRSPRING_LONG=1`.

use std::time::Duration;

use serde_json::json;

use super::ids;
use crate::support::{Daemon, ENGINES, Kind, Scratch, check_report, exchange};

/// Requests of one run.
fn extent() -> u64 {
    if std::env::var_os("HAIRSPRING_LONG").is_some() { 100_000 } else { 2_000 }
}

/// Fails unless the server answers this path in the framing that its name promises.
fn framed_as_promised(daemon: &Daemon, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = exchange(daemon.authority().parse().unwrap(), &request);
    let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    let (head, _) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {answer}"));
    let says = |field: &str| head.contains(&format!("\r\n{field}:"));
    let framing = (says("content-length"), says("transfer-encoding"));
    let promised = match path {
        "/file" => (true, false),
        "/chunked" => (false, true),
        _ => (false, false),
    };
    assert_eq!(framing, promised, "{path}: {head}");
}

/// Every request that was sent is in the server's log once, and every answer that was read is one of them.
fn accounted(kind: Kind) {
    const WARMUP: u64 = 16;
    let scratch = Scratch::new("servers");
    let Some(daemon) = Daemon::start(&scratch, kind) else { return };
    for &path in daemon.paths {
        framed_as_promised(&daemon, path);
        let mut logged = 0;
        for engine in ENGINES {
            // A port for each connection, and TIME_WAIT: closing answers cannot be a hundred thousand.
            let n = if path == "/closing" { extent().min(10_000) } else { extent() };
            let url = format!("http://{}{path}", daemon.authority());
            let flags = format!(
                "run {url} -n {n} -c 8 --warmup {WARMUP} --engine {engine} --wait park --out {engine}"
            );
            let finished = scratch.hairspring(&flags).deadline(Duration::from_secs(600)).run().expect(0);
            let what = format!("{kind:?} {path} {engine}: {finished}");
            let report = scratch.json(&format!("{engine}/report.json"));
            check_report(&report, &scratch.path(&format!("{engine}/requests.csv"))).expect_ids(n);
            assert_eq!(report["outcomes"], json!({"200": n}), "{what}");
            let expected = logged + (n + WARMUP) as usize;
            let log = daemon.ids(path, "200", expected);
            assert_eq!(log.len(), expected, "the server served another number of requests: {what}");
            let mut seen = log[logged..].to_vec();
            seen.sort_unstable();
            let all: Vec<String> = ids(n, WARMUP).into_iter().collect();
            assert!(seen == all, "the server saw other ids: {what}");
            logged = expected;
            std::fs::remove_dir_all(scratch.path(engine)).unwrap();
        }
    }
}

#[test]
fn nginx() {
    accounted(Kind::Nginx);
}

#[test]
fn apache() {
    accounted(Kind::Apache);
}

#[test]
fn haproxy() {
    accounted(Kind::Haproxy);
}

#[test]
fn lighttpd() {
    accounted(Kind::Lighttpd);
}

#[test]
fn pythons_http_server() {
    accounted(Kind::HttpServer);
}

#[test]
fn uvicorn() {
    accounted(Kind::Uvicorn);
}

#[test]
fn node() {
    accounted(Kind::Node);
}
