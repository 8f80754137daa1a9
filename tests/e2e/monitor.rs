//! The system monitor against servers whose behaviour is known.

use serde_json::Value;

use crate::support::Scratch;

fn figure(report: &Value, metric: &str, figure: &str) -> f64 {
    let value = report["system"]["figures"][metric][figure].as_f64();
    value.unwrap_or_else(|| panic!("{metric}: {}", report["system"]))
}

/// The processor time of the stub's work is known: so many requests, each so long.
#[test]
fn work_that_burns_a_processor_is_seen_and_work_that_sleeps_is_not() {
    for (work, expected) in [("spin", 1.0), ("sleep", 0.0)] {
        let scratch = Scratch::new("monitor");
        let flags =
            format!("run --stub pool --workers 2 --service fixed:10ms --work {work} -c 4 -d 2s --wait park");
        let finished = scratch.hairspring(&flags).run().expect(0);
        let report = scratch.json("results/report.json");
        let system = &report["system"];
        let wall = system["cost"]["wall_ns"].as_f64().unwrap();
        // the stub spins by the wall clock: of the time it was asked for, it had at most all of a processor
        let completed = report["totals"]["completed"].as_f64().unwrap();
        let cores = figure(&report, "server.cores", "mean");
        let demanded = expected * completed * 1e7 / wall;
        assert!(cores <= demanded + 0.25, "{cores} of {demanded}: {finished}");
        let threads = &system["rounds"][0]["threads"];
        let server = |t: &&Value| t["side"] == "server";
        let run_delay: f64 = threads
            .as_array()
            .unwrap()
            .iter()
            .filter(server)
            .map(|t| t["run_delay_ns"].as_f64().unwrap())
            .sum();
        let cpu: f64 =
            threads.as_array().unwrap().iter().filter(server).map(|t| t["on_cpu_ns"].as_f64().unwrap()).sum();
        if work == "spin" {
            // on its one processor it is running or waiting to: two workers that never sleep
            assert!((cpu + run_delay) / wall > 1.2, "{cpu} + {run_delay} of {wall}: {finished}");
            assert!(cores > 0.05 && figure(&report, "server.cpu", "max") > 20.0, "{cores}: {finished}");
        } else {
            assert!(cores < 0.25, "{cores}: {finished}");
        }
        assert_eq!(figure(&report, "server.threads", "max"), 4.0, "main, reactor, two workers");
        assert!(figure(&report, "server.rss", "max") > 1e6);
        assert!(figure(&report, "client.fds", "max") >= 4.0, "its connections");
        assert!(finished.stdout.contains("own cost"), "{finished}");
        let rounds = &system["rounds"][0];
        for table in rounds["tables"].as_array().unwrap() {
            let ends: Vec<u64> =
                table["ends_ns"].as_array().unwrap().iter().map(|e| e.as_u64().unwrap()).collect();
            assert!(ends.is_sorted() && *ends.last().unwrap() >= 2_000_000_000, "{ends:?}");
            for (metric, values) in table["series"].as_object().unwrap() {
                assert_eq!(values.as_array().unwrap().len(), ends.len(), "{metric}");
            }
        }
    }
}

#[test]
fn a_server_that_runs_already_is_watched_where_it_is_named() {
    let servers = Scratch::new("named");
    let server = servers.hairspring("stub --addr 127.0.0.1:0 --model single --service fixed:1ms").start();
    let ready = || serde_json::from_str::<Value>(server.stdout().lines().next()?).ok();
    let ready = (0..2_000)
        .find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            ready()
        })
        .expect("a stub is ready");
    let url = format!("http://{}/v1/infer", ready["addr"].as_str().unwrap());
    let scratch = Scratch::new("named-client");
    let run = |more: &str, out: &str| {
        let flags = format!("run {url} -X POST -c 2 -n 200 --out {out} {more}");
        let finished = scratch.hairspring(&flags).run();
        (scratch.json(&format!("{out}/report.json")), finished)
    };
    let (known, finished) = run(&format!("--server-pid {} --sla server.rss<1GiB", server.pid()), "known");
    assert!(figure(&known, "server.cpu", "mean") > 0.0, "{finished}");
    assert_eq!(known["system"]["rounds"][0]["server_pid"], server.pid());
    assert_eq!(known["sla"]["rules"][0]["rule"], "server.rss<1GiB");
    // not named, it is not visible, which is not zero, and decides no rule
    let (unknown, finished) = run("--sla server.cpu<70%", "unknown");
    assert!(unknown["system"]["figures"]["server.cpu"].is_null());
    let hidden = unknown["system"]["not_visible"].as_array().unwrap();
    assert!(
        hidden
            .iter()
            .any(|h| h["metric"] == "server.cpu" && h["why"].as_str().unwrap().contains("--server-pid"))
    );
    assert!(finished.stdout.contains("not visible: server.cpu"), "{finished}");
    assert_ne!(unknown["sla"]["rules"][0]["verdict"], "met");
    // what the kernel tells of sockets needs no process
    assert!(figure(&unknown, "server.accept_queue", "max") >= 0.0);
    let (off, _) = run("--monitor-interval off", "off");
    assert!(off["system"].is_null() && off["plan"]["client"]["monitor"].is_null());
}

#[test]
fn flags_of_the_monitor_that_make_no_sense_are_refused() {
    let scratch = Scratch::new("monitor-flags");
    for (flags, says) in [
        ("--stub single --server-pid 1", "one that hairspring starts"),
        ("http://127.0.0.1:9/ --server-pid 1 --monitor-interval off", "leave one out"),
        ("http://127.0.0.1:9/ --server-pid 0", "server-pid"),
        ("http://127.0.0.1:9/ --monitor-interval 1ms", "from 10ms on"),
        ("http://127.0.0.1:9/ --sla server.cpi<7%", "no metric of the system monitor"),
    ] {
        let finished = scratch.hairspring(&format!("run {flags}")).run().expect(64);
        assert!(finished.stderr.contains(says), "{flags}: {finished}");
    }
}
