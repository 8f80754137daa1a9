//! Comparisons: servers of the user's, answers that differ, the order of rounds.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Scratch, Scripted, check_report, eventually, free_port, has, judged, ok, patched};

/// A comparison of two scripted servers; its comparison.json and how it ended.
fn compared(flags: &str, servers: [&Scripted; 2]) -> (Scratch, crate::support::Finished, Value) {
    let scratch = Scratch::new("compared");
    let finished = scratch
        .hairspring(&format!("compare --wait park --sla mean<=20s {flags}"))
        .args_pair("--baseline-url", &servers[0].url("/"))
        .args_pair("--optimized-url", &servers[1].url("/"))
        .run();
    let comparison = scratch.json("results/comparison.json");
    for side in ["baseline", "optimized"] {
        check_report(&comparison[side], &scratch.path(&format!("results/{side}.csv")));
    }
    (scratch, finished, comparison)
}

/// What makes a saved comparison VALID, however disturbed this machine was.
fn valid() -> [(&'static str, Value); 3] {
    ["/validity", "/baseline/validity/verdict", "/optimized/validity/verdict"].map(|p| (p, json!("valid")))
}

#[test]
fn answers_that_differ_fail_the_comparison() {
    // slow enough that the instrument's own lateness is nothing beside it
    let [a, b] = ["one", "two"].map(|text| {
        Scripted::answering(move |_| {
            std::thread::sleep(Duration::from_millis(15));
            ok(text)
        })
    });
    let (scratch, finished, comparison) = compared("-n 30 -c 3 --rounds 2", [&a, &b]);
    judged(&finished, &comparison["validity"], 2);
    assert_eq!(comparison["outputs_identical"], false);
    assert_eq!(comparison["outputs"]["compared"], 60);
    assert_eq!(comparison["outputs"]["different"], 60);
    assert!(finished.stdout.contains("ANSWERS DIFFER: 60 of 60"), "{finished}");
    let saved = patched(&scratch, "results/comparison.json", "differ.json", &valid());
    let gate = scratch.hairspring(&format!("gate {saved} --sla p50<=20s")).run().expect(2);
    assert!(gate.stdout.to_lowercase().contains("differ"), "it does not say why it fails: {gate}");

    let (scratch, finished, comparison) = compared("-n 60 -c 3 --rounds 1 --ignore-output", [&a, &b]);
    judged(&finished, &comparison["validity"], 0);
    let saved = patched(&scratch, "results/comparison.json", "ignored.json", &valid());
    scratch.hairspring(&format!("gate {saved} --sla mean<=20s")).run().expect(0);
    assert_eq!(comparison["outputs_identical"], Value::Null);
    assert_eq!(comparison["outputs"]["compared"], 0);
}

#[test]
fn a_single_different_answer_is_named() {
    let same = Scripted::answering(|_| ok("same"));
    let once = Scripted::answering(|heard| ok(if heard.id() == "17" { "other" } else { "same" }));
    let (_s, finished, comparison) = compared("-n 30 -c 3 --rounds 1", [&same, &once]);
    judged(&finished, &comparison["validity"], 2);
    let expected = json!({"compared": 30, "different": 1, "missing": 0, "examples": ["0/17"]});
    assert_eq!(comparison["outputs"], expected);
}

#[test]
fn another_status_is_another_answer_and_a_failure_is_missing() {
    let same = Scripted::answering(|_| ok("same"));
    let created = Scripted::answering(|heard| {
        let status = if heard.id() == "4" { 201 } else { 200 };
        crate::support::answer(status, "same")
    });
    let (_s, _, comparison) = compared("-n 20 -c 2 --rounds 1", [&same, &created]);
    assert_eq!(comparison["outputs"]["examples"], json!(["0/4"]));
    let broken = Scripted::answering(|heard| {
        let status = if heard.id() == "4" { 500 } else { 200 };
        crate::support::answer(status, "same")
    });
    let (_s, _, comparison) = compared("-n 20 -c 2 --rounds 1", [&same, &broken]);
    let expected = json!({"compared": 19, "different": 0, "missing": 1, "examples": []});
    assert_eq!(comparison["outputs"], expected);
}

#[test]
fn the_order_of_rounds_is_drawn_from_the_seed() {
    let order = |seed: u32| -> Vec<Vec<String>> {
        let [a, b] = [0, 1].map(|_| Scripted::answering(|_| ok("x")));
        let flags = format!("-n 1 -c 1 --rounds 12 --no-log --seed {seed}");
        let scratch = Scratch::new("order");
        let finished = scratch
            .hairspring(&format!("compare --wait park --sla mean<=20s {flags}"))
            .args_pair("--baseline-url", &a.url("/"))
            .args_pair("--optimized-url", &b.url("/"))
            .run();
        let comparison = scratch.json("results/comparison.json");
        assert_eq!(comparison["seed"], seed);
        assert!(finished.stdout.contains(&format!("seed {seed}")), "the seed is not printed: {finished}");
        for (round, order) in comparison["order"].as_array().unwrap().iter().enumerate() {
            for side in ["baseline", "optimized"] {
                let position = usize::from(order[1] == side);
                assert_eq!(comparison[side]["rounds"][round]["position"], position, "{side}, round {round}");
            }
        }
        serde_json::from_value(comparison["order"].clone()).unwrap()
    };
    let first = order(5);
    assert_eq!(first, order(5), "one seed, one order");
    assert_eq!(first.len(), 12);
    let baseline_first = first.iter().filter(|round| round[0] == "baseline").count();
    assert!((1..12).contains(&baseline_first), "it is always the same side that begins: {first:?}");
    assert!((6..10).any(|seed| order(seed) != first), "five seeds, one order");
}

#[test]
fn rounds_are_kept_apart_and_pooled() {
    let [a, b] = [0, 1].map(|_| Scripted::answering(|_| ok("x")));
    let (scratch, _, comparison) = compared("-n 20 -c 2 --rounds 3", [&a, &b]);
    for side in ["baseline", "optimized"] {
        let report = &comparison[side];
        assert_eq!(report["totals"]["scheduled"], 60);
        assert_eq!(report["response_ns"]["count"], 60);
        let rounds = report["rounds"].as_array().unwrap();
        assert_eq!(rounds.iter().map(|r| r["scheduled"].as_u64().unwrap()).collect::<Vec<_>>(), [20; 3]);
        assert_eq!(report["rounds"][2]["round"], 2);
        assert_eq!(
            report["logs"][0],
            json!({"file": format!("{side}.csv"), "rows": 60, "lost": 0, "error": null})
        );
        let seeds = |side: &str, r: usize| comparison[side]["rounds"][r]["seed"].clone();
        assert_ne!(seeds(side, 0), seeds(side, 1), "each round has a seed of its own");
        assert_eq!(seeds("baseline", 1), seeds("optimized", 1), "the two sides of a round have the same");
    }
    assert!(scratch.path("results/plan.json").is_file());
}

/// True while a process with this text in its command line lives.
fn lives(text: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let cmdline = std::fs::read(Path::new("/proc").join(entry.file_name()).join("cmdline"));
        cmdline.is_ok_and(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " ").contains(text))
    })
}

#[test]
fn servers_of_the_user_are_started_awaited_and_stopped_as_a_group() {
    if !has("python3") {
        return;
    }
    let scratch = Scratch::new("commands");
    scratch.write("www/file", "the same for both\n");
    let ports = [free_port(), free_port()];
    // a child of the shell's child: the whole group has to go
    let command = |port: u16| {
        format!("(python3 -m http.server {port} --bind 127.0.0.1 --directory www & wait) ; exit 0")
    };
    let [baseline, optimized] = ports.map(|port| format!("http://127.0.0.1:{port}/file"));
    let finished = scratch
        .hairspring("compare -n 20 -c 2 --rounds 2 --wait park --sla mean<=20s --ready-timeout 20s")
        .args_pair("--baseline-url", &baseline)
        .args_pair("--optimized-url", &optimized)
        .args_pair("--baseline-cmd", &command(ports[0]))
        .args_pair("--optimized-cmd", &command(ports[1]))
        .deadline(Duration::from_secs(60))
        .run();
    let comparison = scratch.json("results/comparison.json");
    judged(&finished, &comparison["validity"], 0);
    assert_eq!(comparison["outputs_identical"], true);
    for (side, port) in ["baseline", "optimized"].into_iter().zip(ports) {
        assert_eq!(comparison[side]["outcomes"], json!({"200": 40}));
        assert_eq!(comparison[side]["plan"]["target"]["server"]["kind"], "command");
        let gone = eventually(Duration::from_secs(5), || !lives(&format!("http.server {port}")));
        assert!(gone, "the {side}'s server still runs");
        let said = std::fs::read_to_string(scratch.path(&format!("results/{side}.server.txt"))).unwrap();
        let requests = said.lines().filter(|line| line.contains("GET /file")).count();
        assert!(requests >= 40, "its output is not kept: {said}");
    }
}

#[test]
fn a_command_whose_own_children_ignore_the_signal_is_killed() {
    if !has("python3") {
        return;
    }
    let scratch = Scratch::new("stubborn");
    scratch.write("www/file", "x");
    let port = free_port();
    // sleep does not serve; it is the stubborn rest of the group
    let marker = 600_000 + u32::from(port);
    let command = format!(
        "(trap '' TERM; exec sleep {marker}) & exec python3 -m http.server {port} --bind 127.0.0.1 --directory www"
    );
    let finished = scratch
        .hairspring(
            "compare -n 4 -c 1 --rounds 1 --service fixed:0ms --ignore-output --wait park --sla mean<=20s",
        )
        .args_pair("--baseline-url", &format!("http://127.0.0.1:{port}/file"))
        .args_pair("--baseline-cmd", &command)
        .deadline(Duration::from_secs(40))
        .run();
    judged(&finished, &scratch.json("results/comparison.json")["validity"], 0);
    let gone = eventually(Duration::from_secs(5), || !lives(&format!("sleep {marker}")));
    assert!(gone, "a process of the group outlived the run");
}

#[test]
fn the_stub_pair_is_compared_with_its_theory() {
    let scratch = Scratch::new("founding");
    let finished = scratch
        .hairspring(
            "compare --service fixed:5ms --workers 4 -n 40 -c 4 --rounds 1 --wait park --sla mean<=10s",
        )
        .run();
    let comparison = scratch.json("results/comparison.json");
    judged(&finished, &comparison["validity"], 0);
    let side = |name: &str| &comparison[name]["evidence"]["closed_loop"];
    assert_eq!((&side("baseline")["servers"], &side("optimized")["servers"]), (&json!(1), &json!(4)));
    for name in ["baseline", "optimized"] {
        let loop_ = side(name);
        let number = |field: &str| loop_[field].as_u64().unwrap();
        let (s, c) = (number("service_mean_ns"), number("servers"));
        assert!(number("predicted_ns").abs_diff(4 * s / c) <= 1, "{loop_}");
        assert!(s >= 5_000_000);
        let expected = 4.0 * s as f64 / number("response_mean_ns") as f64;
        assert!((loop_["effective_parallelism"].as_f64().unwrap() - expected).abs() < 1e-6, "{loop_}");
    }
    // one thread cannot answer faster than its queue: a bound from below holds on any machine
    let p50 = comparison["baseline"]["response_ns"]["p50"].as_u64().unwrap();
    assert!(p50 >= 19_900_000, "four requests of 5 ms on one thread took {p50} ns");
    assert!(finished.stdout.contains("queueing in the server"), "{finished}");
}

#[test]
fn rounds_enough_give_a_verdict_and_the_baseline_is_measured_against_itself() {
    let server = |ms| {
        Scripted::answering(move |_| {
            std::thread::sleep(Duration::from_millis(ms));
            ok("x")
        })
    };
    let (slow, quick) = (server(12), server(3));
    let (scratch, finished, comparison) = compared("-n 12 -c 3 --rounds 6 --aa", [&slow, &quick]);
    let effect = &comparison["effects"]["p50"];
    let change = effect["change"].as_f64().unwrap();
    let [low, high] = [0, 1].map(|end| effect["interval"][end].as_f64().unwrap());
    assert!(low <= change && change <= high, "{effect}");
    // six rounds: the ends of the interval are the extremes of their ratios
    let p50 = |side: &str, r: usize| comparison[side]["rounds"][r]["response_ns"]["p50"].as_f64().unwrap();
    let ratios = (0..6).map(|r| p50("optimized", r) / p50("baseline", r) - 1.0);
    let (least, most) = ratios.fold((f64::MAX, f64::MIN), |(low, high), r| (low.min(r), high.max(r)));
    assert!((low - least).abs() < 1e-9 && (high - most).abs() < 1e-9, "{least} {most}: {effect}");
    assert_eq!(effect["rounds"], 6);
    assert!((2.0 / 64.0..=1.0).contains(&effect["p_value"].as_f64().unwrap()), "{effect}");
    assert_eq!(comparison["paired_requests"]["requests"], 72);
    assert_eq!(comparison["paired_requests"]["effect"]["rounds"], 6);
    // A against A in every round; what it leaves possible is refused, what is beyond it is not
    let noise = &comparison["noise"]["effects"]["p50"];
    let floor =
        [0, 1].map(|end| noise["interval"][end].as_f64().unwrap().abs()).into_iter().fold(0.0, f64::max);
    // of a side that the machine disturbed nothing is said
    let different = high < 0.0 && change.abs() > floor && comparison["validity"] != "invalid";
    assert_eq!(effect["verdict"] == "faster", different, "floor {floor}: {effect}");
    assert!(finished.stdout.contains("A against A p50"), "{finished}");
    for order in comparison["order"].as_array().unwrap() {
        let mut order: Vec<&str> = order.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        order.sort_unstable();
        assert_eq!(order, ["baseline", "baseline-again", "optimized"]);
    }
    check_report(&comparison["noise"]["again"], &scratch.path("results/baseline-again.csv"));
}

#[test]
fn rounds_are_added_until_the_change_is_known_or_the_cap_is_reached() {
    let [a, b] = [0, 1].map(|_| Scripted::answering(|_| ok("x")));
    // 99 % wide is reached at the first look, wherever the machine stands; a thousandth of a percent never is
    let (_, _, comparison) = compared("-n 4 -c 1 --until 99% --max-rounds 12 --sla p50<=20s", [&a, &b]);
    let rounds = comparison["order"].as_array().unwrap().len();
    assert!([8, 12].contains(&rounds), "{rounds}");
    assert_eq!(comparison["sequential"], json!({"until": 0.99, "figures": ["p50"], "looks": [8, 12]}));
    assert_eq!(comparison["criteria"]["confidence"], 0.975);
    assert_eq!(comparison["partial"], false);
    let (_, _, comparison) = compared("-n 4 -c 1 --until 0.001% --max-rounds 9", [&a, &b]);
    assert_eq!(comparison["order"].as_array().unwrap().len(), 9);
    assert_eq!(comparison["partial"], false);
}
