//! What the instrument does beside measuring: the kernel's stamps, and the probe.

use crate::support::{Scratch, check_report};

/// Every request has its stamps, in order, and the split adds up.
#[test]
fn kernel_stamps_lie_between_ours() {
    for (stamps, departures) in [("rx", false), ("rxtx", true)] {
        for load in ["--rate 500/s", "", "--keepalive off"] {
            let scratch = Scratch::new("stamps");
            let flags = format!(
                "run --stub pool --workers 3 --service fixed:1ms --stamps {stamps} {load} -n 60 -c 4 --wait park"
            );
            let finished = scratch.hairspring(&flags).run().expect(0);
            let report = scratch.json("results/report.json");
            let rows = check_report(&report, &scratch.path("results/requests.csv"));
            let kernel = &report["kernel"];
            assert_eq!((&kernel["stamps"], &kernel["discarded"]), (&stamps.into(), &0.into()), "{finished}");
            assert_eq!((&kernel["missing_arrivals"], &kernel["missing_departures"]), (&0.into(), &0.into()));
            assert_eq!(kernel["wake_up_ns"]["count"], 60);
            assert_eq!(kernel["remote_ns"]["count"], if departures { 60 } else { 0 });
            // two clocks, related by measuring
            const SLACK_NS: u64 = 5_000;
            for row in &rows.rows {
                let [issued, arrived, done] = ["issued_ns", "arrived_ns", "done_ns"].map(|name| row.ns(name));
                let left = row.number("transmitted_ns");
                assert_eq!(left.is_some(), departures, "{row:?}");
                let left = left.unwrap_or(issued);
                assert!(issued <= left + SLACK_NS && arrived <= done + SLACK_NS, "{row:?}");
                assert!(arrived >= left + 1_000_000 - SLACK_NS, "a service of 1 ms took less: {row:?}");
            }
        }
    }
}

#[test]
fn the_probe_measures_beside_the_load_and_is_in_none_of_its_figures() {
    let scratch = Scratch::new("probe");
    let flags = "run --stub threads --service fixed:1ms --probe=200/s --rate 400/s -d 500ms -c 8 --wait park";
    let finished = scratch.hairspring(flags).run().expect(0);
    let report = scratch.json("results/report.json");
    check_report(&report, &scratch.path("results/requests.csv")).expect_ids(200);
    let probe = &report["probe"];
    let requests = probe["requests"].as_u64().unwrap();
    assert!(requests > 10, "{requests}: {finished}");
    assert_eq!(probe["successful"], requests);
    assert!(probe["service_ns"]["min"].as_u64().unwrap() >= 1_000_000);
    // the server has seen both
    let seen = &report["evidence"]["server_stats"][0]["statuses"]["200"];
    assert_eq!(seen.as_u64().unwrap(), 200 + requests);
}

/// Main, merger and log writer keep off the processor of the load, if there is another, and say what they took.
#[test]
fn helpers_run_beside_the_load() {
    let scratch = Scratch::new("helpers");
    let flags = "run --stub threads --service fixed:1ms --rate 400/s -d 500ms -c 8 --threads 1 --wait park --interval 100ms";
    let finished = scratch.hairspring(flags).run().expect(0);
    let report = scratch.json("results/report.json");
    let helpers = report["rounds"][0]["helpers"].as_array().unwrap();
    let names: Vec<&str> = helpers.iter().map(|helper| helper["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["main", "slices", "monitor", "log"]);
    let (client, allowed) = (&report["plan"]["client"], report["host"]["cpus"].as_array().unwrap());
    for helper in helpers {
        assert_eq!(helper["cpus"], client["helpers"]["cpus"]);
        assert!(helper["on_cpu_ns"].as_u64().is_none_or(|ns| ns < 500_000_000), "{helper}");
    }
    let own = client["cpus"][0].as_u64().unwrap();
    let theirs = client["helpers"]["cpus"].as_array().unwrap();
    assert!(allowed.len() == 1 || theirs.iter().all(|cpu| cpu.as_u64() != Some(own)), "{client}");
    assert!(finished.to_string().contains("helpers "), "{finished}");
}
