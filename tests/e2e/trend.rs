//! Histories: a real report, copied with other times, is a history whose changes are known.

use serde_json::{Value, json};

use crate::support::{Scratch, patched};

/// Writes run number `day` of a history: `p50` nanoseconds, and whatever else is changed.
fn run(scratch: &Scratch, day: u64, p50: u64, changes: &[(&str, Value)]) -> String {
    let mut all = vec![
        ("/created_unix_ms", json!(1_780_000_000_000 + day * 86_400_000)),
        ("/validity/verdict", json!("valid")),
        ("/response_ns/p50", json!(p50)),
    ];
    all.extend_from_slice(changes);
    patched(scratch, "results/report.json", &format!("history/{day:03}/report.json"), &all)
}

/// 24 runs, 30 % slower from the 15th on; the real report is not among them.
fn history() -> Scratch {
    let scratch = Scratch::new("trend");
    scratch.hairspring("run --stub pool --service fixed:1ms -n 40 -c 4 --wait park").run().expect(0);
    for day in 0..24 {
        let level = if day < 14 { 10_000_000 } else { 13_000_000 };
        run(&scratch, day, level + day % 3 * 50_000, &[]);
    }
    scratch
}

#[test]
fn a_planted_change_is_found() {
    let scratch = history();
    let finished =
        scratch.hairspring("trend history --metric p50 --metric p99 --json trend.json").run().expect(0);
    let report = scratch.json("trend.json");
    assert_eq!(report["schema"], "hairspring.trend/1");
    let [history] = &report["histories"].as_array().unwrap()[..] else { panic!("{finished}") };
    assert_eq!(history["runs"].as_array().unwrap().len(), 24);
    let p50 = &history["trends"][0];
    let [point] = &p50["change_points"].as_array().unwrap()[..] else { panic!("{p50}") };
    assert_eq!(point["at"], 14);
    assert!((0.28..0.32).contains(&point["change"].as_f64().unwrap()), "{point}");
    assert!(point["interval"][0].as_f64().unwrap() > 0.28, "{point}");
    let verdicts: Vec<&Value> = p50["deviations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one.get("verdict").unwrap_or(&Value::Null))
        .collect();
    assert_eq!((verdicts[3], verdicts[13], verdicts[14]), (&Value::Null, &json!("same"), &json!("slower")));
    assert_eq!((verdicts[15], verdicts[23]), (&Value::Null, &json!("same")), "of the new level: {p50}");
    // p99 is the same in all
    assert_eq!(history["trends"][1]["change_points"], json!([]));
    for said in ["changed by +29.", "2026-06-11", "history/014/report.json", "▁", "█", "changes: none shown"]
    {
        assert!(finished.stdout.contains(said), "{said}: {finished}");
    }
    assert_eq!(scratch.entries(), ["history", "results", "trend.json"]);
}

#[test]
fn what_is_not_comparable_is_told_apart_and_said() {
    let scratch = history();
    run(&scratch, 30, 900_000_000, &[("/validity/verdict", json!("invalid"))]);
    run(&scratch, 31, 900_000_000, &[("/partial", json!(true))]);
    run(&scratch, 32, 900_000_000, &[("/plan/connections", json!(99))]);
    run(&scratch, 33, 900_000_000, &[("/host/cpu_model", json!("Abacus 1"))]);
    // other seeds and processors of the client are the same measurement
    run(&scratch, 34, 13_000_000, &[("/plan/seed", json!(77)), ("/plan/client/wait", json!("spin"))]);
    run(&scratch, 35, 13_000_000, &[("/response_ns/p50", Value::Null)]);
    scratch.write("history/a/copy.json", std::fs::read(scratch.path("history/003/report.json")).unwrap());
    scratch.write("history/other.json", "{\"schema\": \"x/1\"}");
    scratch.write("history/damaged.json", "{\"schema\": ");
    let finished = scratch.hairspring("trend history --metric p50 --json trend.json").run().expect(0);
    let report = scratch.json("trend.json");
    let histories = report["histories"].as_array().unwrap();
    let sizes: Vec<usize> = histories.iter().map(|one| one["runs"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [28, 1, 1], "{finished}");
    assert_eq!(histories[1]["differs_in"], json!(["connections"]));
    assert_eq!(histories[2]["differs_in"], json!(["machine"]));
    let points = histories[0]["trends"][0]["change_points"].as_array().unwrap();
    assert!(points.len() == 1 && points[0]["at"] == 14, "what is not used moved it: {points:?}");
    let left: Vec<(&str, &str)> = report["left_out"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["file"].as_str().unwrap(), one["why"].as_str().unwrap()))
        .collect();
    for (file, why) in [
        ("history/030/report.json", "INVALID"),
        ("history/031/report.json", "partial"),
        ("history/a/copy.json", "the same run as"),
        ("history/damaged.json", "not a report"),
    ] {
        let found = left.iter().any(|(f, w)| (*f == file || why.starts_with("the same")) && w.contains(why));
        assert!(found, "{file}: {why} is not in {left:?}");
        assert!(finished.stdout.contains(why), "{why}: {finished}");
    }
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(finished.stdout.contains("2 of them not used (·)"), "{finished}");
}

#[test]
fn few_runs_and_no_runs_are_said() {
    let scratch = Scratch::new("few");
    scratch.hairspring("trend .").run().expect(1);
    scratch.hairspring("trend nowhere").run().expect(1);
    scratch.hairspring("trend").run().expect(64);
    scratch.hairspring("trend . --metric p42").run().expect(64);
    scratch.hairspring("trend . --window 3").run().expect(64);
    scratch.write("x.json", "{}");
    let none = scratch.hairspring("trend x.json").run().expect(1);
    assert!(none.stderr.contains("x.json"), "{none}");
    let flags = "compare --rounds 1 --service fixed:1ms -n 40 -c 4 --wait park --sla mean<=20s";
    scratch.hairspring(flags).run();
    let finished = scratch.hairspring("trend results --json t.json").run().expect(0);
    for said in ["baseline: stub single", "optimized: stub pool", "throughput"] {
        assert!(finished.stdout.contains(said), "{said}: {finished}");
    }
    let valid = scratch.json("results/comparison.json")["baseline"]["validity"]["verdict"] != "invalid";
    let few = if valid { "needs 8 runs, there are 1" } else { "no run that is used" };
    assert!(finished.stdout.contains(few), "{finished}");
    scratch.hairspring("trend results --json no/such/t.json").run().expect(1);
}
