//! What differs from engine to engine: how it says what ran, kernel stamps, and being forbidden.

use serde_json::{Value, json};

use crate::support::{ENGINES, Scratch, check_report, free_port, has};

/// The account of the first thread's engine.
fn account(report: &Value) -> &Value {
    &report["rounds"][0]["threads"][0]["engine"]
}

#[test]
fn thousands_over_connections_that_last_and_that_do_not() {
    for engine in ENGINES {
        for (flags, connects) in [
            ("-c 64", 64..=64),
            ("-c 16 --keepalive off", 3_000..=3_000),
            ("-c 16 --keepalive 3", 1_000..=1_032),
        ] {
            let scratch = Scratch::new("thousands");
            let flags = format!(
                "run --engine {engine} --stub single --service fixed:20us -n 3000 {flags} --payload-bytes 40000"
            );
            let finished = scratch.hairspring(&flags).run().expect(0);
            let report = scratch.json("results/report.json");
            check_report(&report, &scratch.path("results/requests.csv")).expect_ids(3_000);
            assert_eq!(report["outcomes"], json!({"200": 3_000}), "{finished}");
            let stats = &report["evidence"]["server_stats"][0];
            assert_eq!(stats["statuses"], json!({"200": 3_000}), "{finished}");
            assert!(connects.contains(&report["totals"]["connects"].as_u64().unwrap()), "{finished}");
            let received = report["totals"]["bytes_received"].as_u64().unwrap();
            assert!(received > 3_000 * 40_000, "{received} bytes of body and head");
            assert_eq!(account(&report)["engine"], engine);
            assert!(finished.stdout.contains(&format!("\nengine: {engine} (")), "{finished}");
        }
    }
}

#[test]
fn kernel_stamps_are_there_for_every_request_on_every_engine() {
    for engine in ENGINES {
        for (stamps, columns) in [("rx", &["arrived_ns"][..]), ("rxtx", &["transmitted_ns", "arrived_ns"])] {
            for load in ["-c 8", "-c 8 --rate 2000/s"] {
                let scratch = Scratch::new("stamps");
                let flags = format!(
                    "run --engine {engine} --stamps {stamps} --stub single --service fixed:50us -n 1000 {load}"
                );
                let finished = scratch.hairspring(&flags).run().expect(0);
                let report = scratch.json("results/report.json");
                let rows = check_report(&report, &scratch.path("results/requests.csv"));
                assert_eq!(report["outcomes"], json!({"200": 1_000}), "{finished}");
                for column in columns {
                    let there = rows.rows.iter().filter(|row| row.number(column).is_some()).count();
                    // a stamp may be missing, but that is rare: the kernel drops it for want of memory, or it comes late
                    assert!(there >= 950, "{there} of 1000 have {column}: {finished}");
                }
                let features = account(&report)["features"].as_array().unwrap();
                assert!(features.iter().any(|f| f.as_str().unwrap().contains("stamps")), "{features:?}");
            }
        }
    }
}

#[test]
fn the_issue_of_sends_in_batches_is_bounded_and_said() {
    let scratch = Scratch::new("uncertain");
    let flags = "run --engine uring --stub single --service fixed:20us -n 500 -c 32 --rate 5000/s";
    let finished = scratch.hairspring(flags).run().expect(0);
    let report = scratch.json("results/report.json");
    let uncertainty = account(&report)["issue_uncertainty_max_ns"].as_u64().unwrap();
    assert!(uncertainty > 0, "{finished}");
    assert!(finished.stdout.contains("; a send may have left up to "), "{finished}");
}

#[test]
fn a_forbidden_io_uring_is_an_error_before_any_load() {
    if !has("strace") {
        return;
    }
    for (errno, why) in [
        ("EPERM", "forbidden here"),
        ("ENOSYS", "has no io_uring"),
        ("ENOMEM", "ulimit -l"),
        ("EMFILE", "ulimit -n"),
    ] {
        for target in [format!("http://127.0.0.1:{}/", free_port()), "--stub single".to_owned()] {
            let scratch = Scratch::new("forbidden");
            let flags = format!("run {target} --engine uring -n 10 -c 1");
            let strace = format!("strace -f -o /dev/null -e inject=io_uring_setup:error={errno}");
            let finished = scratch.hairspring(&flags).under(&strace).run().expect(1);
            assert!(finished.stderr.contains(why), "{errno}: {finished}");
            assert!(finished.stderr.contains("--engine epoll"), "what to do: {finished}");
            assert!(finished.stdout.is_empty(), "{finished}");
            assert!(!scratch.path("results/report.json").exists(), "nothing was measured");
        }
    }
}

/// The kernel's answers changed on the way: the engine does without, and says so.
#[test]
fn what_the_kernel_lacks_is_done_without_and_reported() {
    if !has("strace") {
        return;
    }
    let scratch = Scratch::new("lacking");
    // a thread asks first what operations there are, then registers the ring's own descriptor and the buffers
    let strace = "strace -f -o /dev/null -e inject=io_uring_register:error=EINVAL:when=2+";
    let flags = "run --engine uring --stub single -n 200 -c 4";
    let finished = scratch.hairspring(flags).under(strace).run().expect(0);
    let report = scratch.json("results/report.json");
    check_report(&report, &scratch.path("results/requests.csv")).expect_ids(200);
    assert_eq!(report["outcomes"], json!({"200": 200}), "{finished}");
    let missing = account(&report)["missing"].to_string();
    for feature in ["registered ring: ", "buffer ring: ", "multishot receive: "] {
        assert!(missing.contains(feature), "{missing}: {finished}");
    }
    assert!(finished.stdout.contains("\n  not used: "), "{finished}");
}
