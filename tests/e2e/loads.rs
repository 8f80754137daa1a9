//! Loads that change, come by chance, are replayed, or are mixed, on real sockets: what arrived is what the plan says.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use xxhash_rust::xxh64::xxh64;

use crate::support::{Heard, Rows, Scratch, Scripted, check_report, ok};

/// Runs with these flags; every request succeeds. The report and its rows.
fn measured(scratch: &Scratch, flags: &str, stages: &str) -> (Value, Rows) {
    let command = scratch.hairspring(&format!("run --wait park {flags}"));
    let command = if stages.is_empty() { command } else { command.args_pair("--stages", stages) };
    let finished = command.run().expect(0);
    let report = scratch.json("results/report.json");
    let rows = check_report(&report, &scratch.path("results/requests.csv"));
    assert_eq!(report["totals"]["successful"], report["totals"]["scheduled"], "{finished}");
    let round = &report["rounds"][0];
    assert_eq!(round["offered"].as_u64().unwrap() as usize, rows.rows.len());
    let hash = round["schedule_hash"].as_str().unwrap();
    assert!(hash.len() == 16 && u64::from_str_radix(hash, 16).is_ok_and(|hash| hash != 0), "{hash}");
    (report, rows)
}

fn intended(rows: &Rows) -> Vec<u64> {
    let mut by_id: Vec<(u64, u64)> =
        rows.rows.iter().map(|row| (row.ns("request_id"), row.ns("intended_ns"))).collect();
    by_id.sort_unstable();
    by_id.into_iter().map(|(_, at)| at).collect()
}

fn offsets(rows: &Rows) -> Vec<u64> {
    let all = intended(rows);
    all.iter().map(|at| at - all[0]).collect()
}

fn hash(report: &Value) -> &str {
    report["rounds"][0]["schedule_hash"].as_str().unwrap()
}

const STUB: &str = "--stub pool --workers 3 --service fixed:1ms -c 8";

#[test]
fn stages_of_rate_offer_what_they_say() {
    let scratch = Scratch::new("stages");
    // 0 to 400/s in 200 ms: 40 requests; then 50/s for 200 ms: 10
    let stages = "0s:0/s,200ms:400/s,200ms:50/s,400ms:50/s";
    let (report, rows) = measured(&scratch, STUB, stages);
    rows.expect_ids(50);
    let offsets = offsets(&rows);
    for (i, &at) in offsets.iter().enumerate() {
        // 1000 t² = i on the ramp; the step is at 200 ms
        let expected = if i < 40 { (i as f64 / 1_000.0).sqrt() * 1e9 } else { 2e8 + (i - 40) as f64 * 2e7 };
        assert!((at as f64 - expected).abs() <= 1.0, "{i} at {at}, not {expected}");
    }
    let load = &report["plan"]["load"];
    assert_eq!((&load["model"], &load["arrivals"]), (&json!("stages"), &json!("constant")));
    assert_eq!(load["stages"][1], json!({"at_ns": 200_000_000, "rate_milli_per_s": 400_000}));
    assert_eq!(report["plan"]["measure"], json!({"count": null, "time_ns": 400_000_000}));

    // the same again: another run, a warm-up (which needs a start above 0), by chance
    let (again, _) = measured(&scratch, STUB, stages);
    assert_eq!(hash(&again), hash(&report));
    let chance = "0s:200/s,200ms:600/s";
    let poisson = format!("{STUB} --arrivals poisson");
    let (first, rows) = measured(&scratch, &poisson, chance);
    let (warmed, warmed_rows) = measured(&scratch, &format!("{poisson} --warmup 100ms"), chance);
    assert!(warmed["warmup"]["scheduled"].as_u64().unwrap() > 0);
    let from_start =
        |rows: &Rows| intended(rows).windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>();
    assert_eq!((hash(&first), from_start(&rows)), (hash(&warmed), from_start(&warmed_rows)));
    let (other, _) = measured(&scratch, &format!("{poisson} --seed 2"), chance);
    assert_ne!(hash(&first), hash(&other));
    if std::thread::available_parallelism().unwrap().get() < 2 {
        crate::support::skipped("one processor cannot carry two client threads");
        return;
    }
    let (two, _) = measured(&scratch, &format!("{poisson} --threads 2 --cpus 0-1"), chance);
    assert_eq!(hash(&first), hash(&two), "the schedule depends on the threads");
}

#[test]
fn stages_of_users_have_so_many_connections_busy() {
    let scratch = Scratch::new("users");
    let server = "--stub pool --workers 8 --service fixed:1ms --think 1ms --warmup 20ms";
    // 2 users, up to 6 in 100 ms, a hold, 1 at once, and back to 3
    let points = [(0, 2), (50, 2), (150, 6), (200, 6), (200, 1), (300, 1), (300, 3), (350, 3)];
    let stages: Vec<String> = points.iter().map(|(at, users)| format!("{at}ms:{users}c")).collect();
    let (report, rows) = measured(&scratch, server, &stages.join(","));
    assert_eq!(report["plan"]["connections"], 6);
    assert_eq!(report["plan"]["load"]["model"], "users");
    assert_eq!(report["totals"]["connects"], 6);
    // user 0 is always there; its first measured turn is as good as the start of the measurement, to one answer
    let start = rows.rows.iter().map(|row| row.ns("intended_ns")).min().unwrap();
    let returns = |user: &str| -> Vec<u64> {
        let own = rows.rows.iter().filter(|row| row.text("connection") == user);
        own.map(|row| row.ns("intended_ns")).collect()
    };
    let ms = |at: u64| at * 1_000_000;
    // user 5 alone needs more than 5: from 125 ms to 200 ms; when exactly is the schedule's, not an answer's
    let five = returns("5");
    let first = *five.iter().min().unwrap();
    assert!(!five.is_empty() && five.iter().all(|at| *at < first + ms(75)), "{five:?}");
    // users 1 and 2 are not wanted from 200 ms to 300 ms, and both return at the same instant, 175 ms after user 5 came
    for user in ["1", "2"] {
        let returned = returns(user).into_iter().filter(|at| *at >= first + ms(75)).min();
        assert_eq!(
            returned,
            Some(first + ms(175) - 1),
            "user {user}: users(t) > 5 is a nanosecond after 125 ms"
        );
    }
    assert!(start + ms(125) + ms(10) > first, "user 5 came too late");
    assert!(rows.rows.iter().all(|row| row.ns("intended_ns") < first + ms(225)));
}

#[test]
fn a_replay_sends_at_its_offsets_and_no_more() {
    let scratch = Scratch::new("replay");
    let gaps: Vec<u64> = (0..60u64).map(|i| i * i * 70_000).collect();
    let text: String =
        gaps.iter().map(|ns| format!("x,{}.{:06}\n", ns / 1_000_000, ns % 1_000_000)).collect();
    let file = format!("name,offset_ms\n{text}");
    scratch.write("replay.csv", &file);
    let (report, rows) = measured(&scratch, &format!("{STUB} --replay replay.csv"), "");
    rows.expect_ids(60);
    assert_eq!(offsets(&rows), gaps);
    let digest = format!("{:016x}", xxh64(file.as_bytes(), 0));
    let expected = json!({"model": "replay", "file": "replay.csv", "rows": 60, "digest": digest});
    assert_eq!(report["plan"]["load"], expected);
    let (_, rows) = measured(&scratch, &format!("{STUB} --replay replay.csv -n 20"), "");
    assert_eq!(offsets(&rows), gaps[..20]);
    let (report, rows) =
        measured(&scratch, &format!("{STUB} --replay replay.csv -d 100ms --warmup 50ms"), "");
    let within = |ms: u64| gaps.iter().filter(|ns| **ns < ms * 1_000_000).count() as u64;
    assert_eq!(rows.rows.len() as u64, within(100));
    assert_eq!(report["warmup"]["scheduled"], within(50));
}

const MIX: &str = r#"
{"path": "/a?x=1", "weight": 3, "headers": {"Accept": "text/a", "X-Kind": "a"}}
{"method": "PUT", "path": "/b", "headers": [["X-Kind", "b"], ["X-More", "1"]], "body": {"k": [1, 2.50, "ü"]}}
{"method": "HEAD", "path": "/c", "weight": 0.5}
"#;

/// What a request of the mix must look like when it arrives.
fn looks_like(heard: &Heard, template: u64) {
    let own =
        (heard.line(), heard.field("Accept"), heard.field("X-Kind"), heard.field("X-More"), &heard.body[..]);
    let expected: (&str, Option<&str>, Option<&str>, Option<&str>, &[u8]) = match template {
        0 => ("GET /a?x=1 HTTP/1.1", Some("text/a"), Some("a"), None, b""),
        1 => ("PUT /b HTTP/1.1", Some("*/*"), Some("b"), Some("1"), r#"{"k": [1, 2.50, "ü"]}"#.as_bytes()),
        _ => ("HEAD /c HTTP/1.1", Some("*/*"), None, None, b""),
    };
    assert_eq!(own, expected, "{heard:?}");
    assert_eq!(heard.field("Content-Length").is_some(), template == 1, "{heard:?}");
}

/// A body only where the method lets it be one.
fn by_method(heard: &Heard) -> Vec<u8> {
    let answer = ok("an answer");
    let head_only = answer.len() - "an answer".len();
    if heard.line().starts_with("HEAD ") { answer[..head_only].to_vec() } else { answer }
}

#[test]
fn each_request_of_a_mix_arrives_as_drawn() {
    let mut drawn: Vec<BTreeMap<String, u64>> = Vec::new();
    for flags in ["-n 300 -c 4 --warmup 40", "-n 300 -c 9 --warmup 40 --keepalive 3 --rate 3000/s"] {
        let scratch = Scratch::new("mix");
        scratch.write("mix.jsonl", MIX);
        let server = Scripted::answering(by_method);
        let flags = format!("run {} --requests mix.jsonl {flags} --wait park -H", server.url("/unused"));
        scratch.hairspring(&flags).arg("Accept: */*").run().expect(0);
        let report = scratch.json("results/report.json");
        let rows = check_report(&report, &scratch.path("results/requests.csv"));
        rows.expect_ids(300);
        let templates: BTreeMap<String, u64> =
            rows.rows.iter().map(|row| (row.text("request_id").to_owned(), row.ns("template"))).collect();
        let mut counts = [0u64; 3];
        let mut kinds = BTreeMap::new();
        for heard in server.heard() {
            let template = templates.get(heard.id()).copied();
            // a warm-up request is in no row: its line says which it is
            let template = template.unwrap_or_else(|| {
                ["GET", "PUT", "HEAD"].iter().position(|m| heard.line().starts_with(m)).unwrap() as u64
            });
            looks_like(&heard, template);
            kinds.insert(heard.id().to_owned(), template);
            counts[template as usize] += u64::from(!heard.id().starts_with('w'));
        }
        assert_eq!(kinds.len(), 340);
        drawn.push(kinds);
        for (row, count) in report["templates"].as_array().unwrap().iter().zip(counts) {
            assert_eq!((&row["requests"], &row["successful"]), (&json!(count), &json!(count)));
            assert_eq!(row["response_ok_ns"]["count"], count);
        }
        assert_eq!(report["templates"][1]["method"], "PUT");
        // of 300 by 3 : 1 : ½, 4 standard deviations
        for (count, (mean, four_sigma)) in counts.iter().zip([(200, 33), (67, 29), (33, 22)]) {
            assert!(count.abs_diff(mean) < four_sigma, "{counts:?}");
        }
        assert_eq!(report["plan"]["mix"]["digest"], format!("{:016x}", xxh64(MIX.as_bytes(), 0)));
        assert_eq!(
            report["plan"]["mix"]["requests"][2],
            json!({"method": "HEAD", "path": "/c", "weight": 0.5, "body_bytes": 0})
        );
    }
    assert_eq!(drawn[0], drawn[1], "what an id sends depends on its id alone");
}
