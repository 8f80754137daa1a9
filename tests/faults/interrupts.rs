//! Servers that die and users who stop a run: nothing hangs, and what was measured is kept.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Running, Scratch, Scripted, Stub, check_report, eventually, exchange, ok};

/// A server whose answers take 5 ms.
fn steady() -> Scripted {
    Scripted::answering(|_| {
        std::thread::sleep(Duration::from_millis(5));
        ok("x")
    })
}

/// Waits until `server` has been asked `n` times.
fn under_way(server: &Scripted, n: usize) {
    assert!(eventually(Duration::from_secs(15), || server.heard().len() >= n), "the load does not begin");
}

/// What must hold for a run that the user stopped; the report.
fn stopped(scratch: &Scratch, running: Running, scheduled: u64) -> Value {
    let finished = running.wait().expect(130);
    let report = scratch.json("results/report.json");
    let rows = check_report(&report, &scratch.path("results/requests.csv"));
    assert_eq!(report["partial"], true, "{finished}");
    assert_eq!(report["sla"]["verdict"], "not_evaluated", "{finished}");
    assert_eq!(report["totals"]["scheduled"], scheduled, "{finished}");
    assert!(report["totals"]["unsent"].as_u64().unwrap() > 0, "{finished}");
    assert!(finished.stdout.contains("scheduled ="), "the report is not printed: {finished}");
    assert_eq!(report["logs"][0]["rows"].as_u64().unwrap(), rows.rows.len() as u64);
    assert_eq!(report["rounds"][0]["interrupted"], true);
    // a partial report is never judged, not later either
    let gate = scratch.hairspring("gate results/report.json --sla p50<=900s").run().expect(3);
    assert!(gate.stdout.contains("partial"), "{gate}");
    report
}

#[test]
fn one_signal_ends_the_load_and_keeps_what_was_measured() {
    for (signal, load) in [(Signal::INT, ""), (Signal::TERM, "--rate 200/s")] {
        let scratch = Scratch::new("signal");
        let server = steady();
        let flags = format!("run {} -n 50000 -c 4 --wait park --sla p95<=10s {load}", server.url("/"));
        let running = scratch.hairspring(&flags).start();
        under_way(&server, 40);
        running.signal(signal);
        let report = stopped(&scratch, running, 50_000);
        assert!(report["totals"]["completed"].as_u64().unwrap() >= 36, "{}", report["totals"]);
        assert_eq!(
            report["totals"]["failed"], 0,
            "what was in flight got its answer: {}",
            report["outcomes"]
        );
    }
}

#[test]
fn a_second_signal_cuts_the_drain() {
    let scratch = Scratch::new("twice");
    let server = Scripted::new(|mut peer| {
        while let Some(heard) = peer.request() {
            if heard.id().parse::<u64>().unwrap() >= 20 {
                peer.hold(); // never answers
                return;
            }
            peer.send(ok("x"));
        }
    });
    let flags = format!("run {} -n 1000 -c 3 --wait park --sla p95<=10s", server.url("/"));
    let running = scratch.hairspring(&flags).start();
    under_way(&server, 23);
    running.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(100));
    running.signal(Signal::INT);
    let report = stopped(&scratch, running, 1_000);
    assert_eq!(report["outcomes"], json!({"200": 20, "unsent": 980}));
    assert_eq!(report["logs"][0]["rows"], 23, "three were in flight and have their rows");
}

#[test]
fn a_signal_while_connecting() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let scratch = Scratch::new("connecting");
    let flags = format!("run http://{addr}/ -n 40 -c 20 --connect-timeout 60s --wait park");
    let running = scratch.hairspring(&flags).deadline(Duration::from_secs(15)).start();
    assert!(eventually(Duration::from_secs(10), || scratch.path("results/plan.json").exists()));
    std::thread::sleep(Duration::from_millis(200));
    running.signal(Signal::INT);
    running.wait().expect(130);
    let report = scratch.json("results/report.json");
    check_report(&report, &scratch.path("results/requests.csv"));
    assert_eq!(report["totals"]["completed"], 0);
}

#[test]
fn a_signal_during_a_comparison() {
    let scratch = Scratch::new("comparison");
    let servers = [steady(), steady()];
    let running = scratch
        .hairspring("compare -n 300 -c 2 --rounds 50 --wait park --sla p95<=10s")
        .args_pair("--baseline-url", &servers[0].url("/"))
        .args_pair("--optimized-url", &servers[1].url("/"))
        .start();
    // into the second round
    let asked = || servers.iter().map(|server| server.heard().len()).sum::<usize>();
    assert!(eventually(Duration::from_secs(20), || asked() > 700), "{}", asked());
    let early = scratch.json("results/comparison.json");
    assert_eq!(early["partial"], true, "the file of the first round says that rounds are missing");
    assert_eq!(early["baseline"]["totals"]["completed"], 300, "a crash now would lose the first round");
    running.signal(Signal::INT);
    let finished = running.wait().expect(130);
    let comparison = scratch.json("results/comparison.json");
    assert_eq!(comparison["partial"], true, "{finished}");
    assert_eq!(comparison["sla"]["verdict"], "not_evaluated");
    assert_eq!(comparison["sla_met"], false);
    let mut total = 0;
    for side in ["baseline", "optimized"] {
        check_report(&comparison[side], &scratch.path(&format!("results/{side}.csv")));
        total += comparison[side]["totals"]["completed"].as_u64().unwrap();
    }
    assert!(total > 690, "{total} requests were kept");
    scratch.hairspring("gate results/comparison.json --sla p50<=900s").run().expect(3);
}

#[test]
fn a_signal_while_a_server_is_awaited() {
    let scratch = Scratch::new("awaited");
    let port = crate::support::free_port();
    let running = scratch
        .hairspring(
            "compare -n 4 -c 1 --optimized-stub pool --service fixed:0ms --wait park --ready-timeout 60s",
        )
        .args_pair("--baseline-url", &format!("http://127.0.0.1:{port}/"))
        .args_pair("--baseline-cmd", "touch began; exec sleep 60")
        .deadline(Duration::from_secs(8))
        .start();
    assert!(eventually(Duration::from_secs(10), || scratch.path("began").exists()));
    running.signal(Signal::INT);
    running.wait().expect(130);
}

#[test]
fn a_server_killed_in_the_middle() {
    for load in ["", "--rate 400/s"] {
        let scratch = Scratch::new("killed");
        let mut stub = Stub::start(&scratch, "--model pool --service fixed:5ms");
        let addr = stub.addr();
        let flags = format!("run {} --body x -n 1200 -c 4 --wait park --sla p99<=10s {load}", stub.url());
        let running = scratch.hairspring(&flags).start();
        let answered = || -> u64 {
            let stats = exchange(addr, "GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let text = String::from_utf8(stats).unwrap();
            let stats: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
            stats["statuses"]["200"].as_u64().unwrap_or(0)
        };
        assert!(eventually(Duration::from_secs(15), || answered() > 100), "the load does not begin");
        stub.process().signal(Signal::KILL);
        let finished = running.wait();
        let report = scratch.json("results/report.json");
        crate::support::judged(&finished, &report["validity"]["verdict"], 2);
        check_report(&report, &scratch.path("results/requests.csv")).expect_ids(1_200);
        let count = |class: &str| report["outcomes"][class].as_u64().unwrap_or(0);
        assert!(count("200") >= 50, "{}", report["outcomes"]);
        let cut = ["reset", "stale-keepalive", "no-response", "truncated-body", "truncated-head"].map(count);
        // one request a connection was in flight; its next connect may still meet the backlog of a listener that
        // dies a moment later than its connections
        assert!(cut.iter().sum::<u64>() <= 12, "{}", report["outcomes"]);
        assert!(count("stale-keepalive") <= 4, "{}", report["outcomes"]);
        assert_eq!(count("200") + cut.iter().sum::<u64>() + count("connect-refused"), 1_200);
        assert!(count("connect-refused") > 500, "{}", report["outcomes"]);
        assert_eq!(report["partial"], false, "the target died, not the run");
    }
}

/// The process that `parent` started.
fn child_of(parent: u32) -> Option<Pid> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(Path::new("/proc").join(entry.file_name()).join("stat")).ok()?;
        let ppid: u32 = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        (ppid == parent).then(|| Pid::from_raw(pid))?
    })
}

#[test]
fn our_own_server_killed_in_the_middle_is_a_finding() {
    let scratch = Scratch::new("killed-stub");
    let flags = "run --stub single --service fixed:2ms -n 1000 -c 2 --wait park --warmup 1s";
    let mut running = scratch.hairspring(flags).start();
    let pid = running.pid();
    assert!(eventually(Duration::from_secs(10), || child_of(pid).is_some()));
    std::thread::sleep(Duration::from_millis(400));
    assert!(running.is_running());
    kill_process(child_of(pid).unwrap(), Signal::KILL).unwrap();
    let finished = running.wait();
    assert!([0, 1].contains(&finished.code()), "{finished}");
    let report = scratch.json("results/report.json");
    check_report(&report, &scratch.path("results/requests.csv")).expect_ids(1_000);
    let findings = report["validity"]["findings"].as_array().unwrap();
    let died = findings.iter().find(|finding| finding["rule"] == "server-died");
    assert_eq!(died.expect("it went unnoticed")["level"], "suspect", "{finished}");
}

#[test]
fn a_program_that_is_killed_takes_its_server_along() {
    let scratch = Scratch::new("orphan");
    let running = scratch.hairspring("run --stub pool --service fixed:5ms -d 20s -c 2 --wait park").start();
    let pid = running.pid();
    assert!(eventually(Duration::from_secs(10), || child_of(pid).is_some()));
    let stub = child_of(pid).unwrap();
    running.signal(Signal::KILL);
    drop(running);
    let gone = || {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", stub.as_raw_nonzero())).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    assert!(eventually(Duration::from_secs(10), gone), "the stub outlived its parent");
}
