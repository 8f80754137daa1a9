//! The ideal path of a real run, worked out again from its log.

use crate::support::{Row, Scratch, check_report};

/// Two servers, first come first served, by hand: the one that is free first takes the next.
fn ideal(requests: &[(u64, u64)]) -> Vec<u64> {
    let mut free = [0, 0];
    let mut serve = |&(intended, service): &(u64, u64)| {
        let first = usize::from(free[1] < free[0]);
        free[first] = intended.max(free[first]) + service;
        free[first] - intended
    };
    requests.iter().map(&mut serve).collect()
}

#[test]
fn the_ideal_path_is_what_the_log_says() {
    let scratch = Scratch::new("theory");
    let flags = "run --stub pool --workers 2 --service fixed:2ms --rate 800/s --arrivals poisson -n 600 -c 100 --wait park";
    scratch.hairspring(flags).run().expect(0);
    let report = scratch.json("results/report.json");
    let rows = check_report(&report, &scratch.path("results/requests.csv"));
    let request = |row: &Row| (row.ns("intended_ns"), row.ns("server_service_ns"), row.ns("done_ns"));
    let mut requests: Vec<_> = rows.rows.iter().map(request).collect();
    requests.sort_unstable();
    let served: Vec<(u64, u64)> =
        requests.iter().map(|&(intended, service, _)| (intended, service)).collect();
    let path = &report["theory"]["pathwise"];
    assert_eq!((&path["requests"], &path["missing"]), (&600.into(), &0.into()), "{}", report["theory"]);
    let measured = requests.iter().map(|&(intended, _, done)| done - intended).collect();
    for (name, mut times) in [("fifo", ideal(&served)), ("measured", measured)] {
        times.sort_unstable();
        for (level, rank) in [("p50", 300), ("p90", 540), ("p95", 570), ("p99", 594), ("p999", 600)] {
            assert_eq!(path[name][level], times[rank - 1], "{name} {level}");
        }
        let mean = times.iter().sum::<u64>() / 600;
        assert_eq!(path[name]["mean"], mean, "{name}");
    }
    let difference =
        |level: &str| path["measured"][level].as_i64().unwrap() - path["fifo"][level].as_i64().unwrap();
    let expected = ["mean", "p50", "p90", "p95", "p99", "p999"].map(difference);
    assert_eq!(path["beyond_ns"], serde_json::json!(expected));
    assert_eq!(report["theory"]["arrivals"]["process"], "poisson");
    let checks = report["diagnosis"]["checks"].as_array().unwrap();
    let names: Vec<&str> = checks.iter().map(|check| check["check"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 11, "none can be switched off: {names:?}");
}
