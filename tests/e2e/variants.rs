//! Comparisons of more than two: what varies, what is ranked, who is judged.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Finished, Scratch, Scripted, answer, check_report, judged, ok, patched};

/// A comparison of `variants` and its ranking.json.
fn ranked(flags: &str, variants: &[String]) -> (Scratch, Finished, Value) {
    let scratch = Scratch::new("ranked");
    let command = scratch.hairspring(&format!("compare --wait park {flags}"));
    let command = variants.iter().fold(command, |command, variant| command.args_pair("--variant", variant));
    let finished = command.deadline(Duration::from_secs(60)).run();
    let ranking = scratch.json("results/ranking.json");
    assert_eq!(ranking["schema"], "hairspring.ranking/1");
    for variant in ranking["variants"].as_array().unwrap() {
        let name = variant["name"].as_str().unwrap();
        check_report(&variant["report"], &scratch.path(&format!("results/{name}.csv")));
        assert_eq!(variant["report"]["plan"]["target"]["name"], name);
    }
    (scratch, finished, ranking)
}

fn names(ranking: &Value, list: &str, key: &str) -> Vec<String> {
    let names = ranking[list].as_array().unwrap().iter();
    names.map(|row| row[key].as_str().unwrap().to_owned()).collect()
}

#[test]
fn all_models_of_the_stub_are_ranked() {
    let flags = "--stub all --service fixed:5ms --workers 4 -n 16 -c 4 --sla mean<=10s --rank-by p50";
    let (_scratch, finished, ranking) = ranked(flags, &[]);
    judged(&finished, &ranking["validity"], 0);
    assert_eq!(names(&ranking, "variants", "name"), ["single", "threads", "pool", "per-core"]);
    assert_eq!((&ranking["figure"], &ranking["partial"]), (&json!("p50"), &json!(false)));
    assert_eq!(
        (&ranking["outputs_identical"], &ranking["variants"][3]["outputs"]["compared"]),
        (&json!(true), &json!(128))
    );
    // eight rounds, as six pairs need, each with every model, not always in the same order
    let order: Vec<Vec<String>> = serde_json::from_value(ranking["order"].clone()).unwrap();
    let sorted = |round: &Vec<String>| {
        let mut round = round.clone();
        round.sort_unstable();
        round
    };
    assert_eq!(
        order.iter().map(sorted).collect::<Vec<_>>(),
        vec![["per-core", "pool", "single", "threads"]; 8]
    );
    assert!(order.iter().any(|round| *round != order[0]), "{order:?}");
    for (r, round) in order.iter().enumerate() {
        for variant in ranking["variants"].as_array().unwrap() {
            let position = round.iter().position(|name| variant["name"] == *name).unwrap();
            assert_eq!(variant["report"]["rounds"][r]["position"], position);
        }
    }
    let pairs = ranking["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 6);
    // ranks are what the pairs say
    let mut ahead: BTreeMap<&str, u64> = BTreeMap::new();
    for pair in pairs {
        let effect = &pair["effects"]["p50"];
        let number = |field: &str| effect[field].as_f64().unwrap();
        assert_eq!(effect["rounds"], 8);
        assert!(
            number("p_holm") >= number("p_signed_rank") && number("p_signed_rank") >= 2.0 / 256.0,
            "{effect}"
        );
        assert!((0.95..1.0 - 0.05 / 6.0 + 1e-9).contains(&number("confidence")), "{effect}");
        match effect["verdict"].as_str().unwrap() {
            "faster" => *ahead.entry(pair["a"].as_str().unwrap()).or_default() += 1,
            "slower" => *ahead.entry(pair["b"].as_str().unwrap()).or_default() += 1,
            _ => {}
        }
    }
    let standings = ranking["ranking"].as_array().unwrap();
    for standing in standings {
        let name = standing["variant"].as_str().unwrap();
        assert_eq!(standing["rank"], 1 + ahead.get(name).copied().unwrap_or_default(), "{standing}");
    }
    // four requests of 5 ms take one thread 20 ms, on any machine, and it is never the fastest
    let single =
        ranking["ranking"].as_array().unwrap().iter().find(|row| row["variant"] == "single").unwrap();
    assert!(single["figure_ns"].as_u64().unwrap() >= 19_900_000, "{single}");
    assert_ne!(standings[0]["variant"], "single", "{standings:?}");
    for says in ["by p50", "pool against single", "above theory", "validity of per-core", "by Holm"] {
        assert!(finished.stdout.contains(says), "no `{says}`: {finished}");
    }
}

#[test]
fn variants_differ_by_what_they_say() {
    let variants = ["on:", "off: --keepalive off", "one: -c 1 --engine epoll --stamps rx"].map(str::to_owned);
    let flags =
        "--stub threads --service fixed:1ms -n 12 -c 3 --rounds 2 --sla mean<=10s --aa --ignore-output";
    let (scratch, finished, ranking) = ranked(flags, &variants);
    judged(&finished, &ranking["validity"], 0);
    let report = |at: usize| &ranking["variants"][at]["report"];
    let connects: Vec<&Value> = (0..3).map(|at| &report(at)["totals"]["connects"]).collect();
    assert_eq!(connects, [&json!(6), &json!(24), &json!(2)]);
    assert_eq!((&report(2)["plan"]["client"]["stamps"], &report(0)["kernel"]), (&json!("rx"), &Value::Null));
    assert!(report(2)["kernel"].is_object());
    // the same requests for all, and the first once more
    for round in 0..2 {
        let seeds: Vec<&Value> = (0..3).map(|at| &report(at)["rounds"][round]["seed"]).collect();
        assert!(seeds.iter().all(|seed| *seed == seeds[0]), "{seeds:?}");
    }
    for round in ranking["order"].as_array().unwrap() {
        let mut round: Vec<&str> =
            round.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        round.sort_unstable();
        assert_eq!(round, ["off", "on", "on-again", "one"]);
    }
    check_report(&ranking["noise"]["again"], &scratch.path("results/on-again.csv"));
    assert_eq!(
        (&ranking["outputs_identical"], &ranking["variants"][1]["outputs"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(names(&ranking, "variants", "flags")[1], "--keepalive off");
    // two rounds tell nothing apart, and nobody is ranked ahead
    assert!(
        ranking["ranking"].as_array().unwrap().iter().all(|row| row["rank"] == 1 && row["groups"] == "a")
    );
    assert!(finished.stdout.contains("needs at least 7 rounds, there are 2"), "{finished}");
    assert!(finished.stdout.contains("(--keepalive off)"), "{finished}");
}

#[test]
fn every_variant_is_judged_unless_some_are_named() {
    let good = Scripted::answering(|_| ok("x"));
    let bad = Scripted::answering(|_| answer(500, "x"));
    let variants = [format!("good: {}", good.url("/")), format!("bad: {}", bad.url("/"))];
    let flags = "-n 8 -c 1 --rounds 1 --sla errors<=0%";
    for (judge, verdict, code) in
        [("", "not_met", 2), ("--judge bad", "not_met", 2), ("--judge good", "met", 0)]
    {
        let (scratch, finished, ranking) = ranked(&format!("{flags} {judge}"), &variants);
        judged(&finished, &ranking["validity"], code);
        let valid = [
            ("/validity", json!("valid")),
            ("/variants/0/report/validity/verdict", json!("valid")),
            ("/variants/1/report/validity/verdict", json!("valid")),
        ];
        if ranking["validity"] != "invalid" {
            assert_eq!(ranking["sla_verdict"], verdict);
            let sla = |at: usize| ranking["variants"][at]["sla"]["verdict"].clone();
            assert_eq!((sla(0), sla(1)), (json!("met"), json!("not_met")));
        }
        // a gate on what was saved judges the same variants, here by the same rule
        let file = patched(&scratch, "results/ranking.json", "saved.json", &valid);
        let gate = scratch.hairspring(&format!("gate {file} --sla errors<=0%")).run().expect(code);
        assert_eq!(gate.stdout.contains("SLA of bad"), judge != "--judge good", "{gate}");
        let against = format!("gate {file} --against {file} --sla-against mean<=+99%");
        let against = scratch.hairspring(&against).run();
        assert_eq!(against.code() == 1, judge.is_empty(), "{against}");
        assert_eq!(against.stderr.contains("a ranking of several"), judge.is_empty(), "{against}");
    }
}

#[test]
fn an_answer_that_differs_from_the_first_variants_fails_all() {
    let [a, b, c] = ["x", "x", "y"].map(|text| Scripted::answering(move |_| ok(text)));
    let variants =
        [("a", &a), ("b", &b), ("c", &c)].map(|(name, server)| format!("{name}: {}", server.url("/")));
    let (_scratch, finished, ranking) = ranked("-n 4 -c 1 --rounds 2 --sla mean<=20s --judge a", &variants);
    judged(&finished, &ranking["validity"], 2);
    let identical: Vec<&Value> = (0..3).map(|at| &ranking["variants"][at]["outputs_identical"]).collect();
    assert_eq!(identical, [&Value::Null, &json!(true), &json!(false)]);
    assert_eq!(
        (&ranking["outputs_identical"], &ranking["variants"][2]["outputs"]["different"]),
        (&json!(false), &json!(8))
    );
    assert!(finished.stdout.contains("b against a: answers identical"), "{finished}");
    assert!(finished.stdout.contains("c against a: ANSWERS DIFFER: 8 of 8"), "{finished}");
}

#[test]
fn rounds_are_added_until_every_pair_is_known_or_the_cap_is_reached() {
    let server = Scripted::answering(|_| ok("x"));
    let variants = ["a: -c 1".to_owned(), format!("b: {} -c 2", server.url("/"))];
    let flags = format!("{} -n 4 --until 0.001% --max-rounds 9 --sla p90<=20s --no-log", server.url("/"));
    let scratch = Scratch::new("until");
    let command = scratch.hairspring(&format!("compare --wait park {flags}"));
    let finished =
        variants.iter().fold(command, |command, variant| command.args_pair("--variant", variant)).run();
    let ranking = scratch.json("results/ranking.json");
    judged(&finished, &ranking["validity"], 0);
    assert_eq!(ranking["order"].as_array().unwrap().len(), 9);
    assert_eq!(ranking["sequential"], json!({"until": 1e-5, "figures": ["p90"], "looks": [8, 9]}));
    assert_eq!((&ranking["criteria"]["confidence"], &ranking["partial"]), (&json!(0.975), &json!(false)));
}
