//! Smoke fuzzing of everything that reads what others wrote, and the round trip of every file: seeded, on stable, bounded
//! in count. `fuzz/` has the same readers as cargo-fuzz targets, to be run by hand for as long as one likes.
//!
//! A reader must not panic, whatever it is given, and what it has accepted must read the same once it is written again.
//! Mutants of a corpus by the seeded generator that we have; proptest would add a dependency and makes no mutants.
//! 3 000 inputs a reader; 300 000 with `HAIRSPRING_LONG=1`. A failure prints its input.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use hairspring::analyze::gate::Rule;
use hairspring::cli::{RunArgs, parse_replay, parse_requests};
use hairspring::load::response::{Decoder, Limits, Malformed, Progress, Response};
use hairspring::load::rng::Rng;
use hairspring::load::server_timing::ServerTiming;
use hairspring::load::time::Nanos;
use hairspring::plan::{Plan, Url};
use hairspring::report::{Comparison, Report, json};
use hairspring::sys::scrape::parse;

use crate::support::{Scratch, Scripted, ok};

fn inputs() -> u64 {
    if std::env::var_os("HAIRSPRING_LONG").is_some() { 300_000 } else { 3_000 }
}

/// `corpus` as it is, then mutants of it, one by one, to `reader`.
fn smoke(corpus: &[Vec<u8>], alphabet: &[u8], count: u64, mut reader: impl FnMut(&[u8])) {
    let mut rng = Rng::new(0x5eed);
    let mut below = |n: usize| (rng.next_u64() % n.max(1) as u64) as usize;
    let mut feed = |input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| reader(input))) {
            eprintln!("the input was: {}", input.escape_ascii());
            resume_unwind(panic);
        }
    };
    corpus.iter().for_each(|input| feed(input));
    for _ in 0..count {
        let mut input = corpus[below(corpus.len())].clone();
        for _ in 0..=below(4) {
            let at = below(input.len() + 1);
            match below(6) {
                0 if at < input.len() => drop(input.remove(at)),
                1 => input.insert(at, alphabet[below(alphabet.len())]),
                2 => input.truncate(at),
                3 if at < input.len() => input[at] = alphabet[below(alphabet.len())],
                4 if at < input.len() => input[at] = below(256) as u8,
                // a piece of another one
                _ => {
                    let other = &corpus[below(corpus.len())];
                    let from = below(other.len() + 1);
                    let piece = other[from..(from + below(40)).min(other.len())].to_vec();
                    input.splice(at..at, piece);
                }
            }
        }
        feed(&input);
    }
}

fn texts(corpus: &[&str]) -> Vec<Vec<u8>> {
    corpus.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// What a decoder makes of one answer in pieces of `size`.
fn decoded(decoder: &mut Decoder, bytes: &[u8], size: usize) -> (Result<usize, Malformed>, Response) {
    decoder.begin(bytes.len() % 4 == 3, true);
    let mut used = 0;
    for piece in bytes.chunks(size.max(1)) {
        match decoder.feed(piece, b"7") {
            Ok(Progress::Partial) => used += piece.len(),
            Ok(Progress::Complete { used: last }) => {
                used += last;
                break;
            }
            Err(reason) => return (Err(reason), Response::default()),
        }
    }
    decoder.eof();
    (Ok(used), decoder.response().clone())
}

#[test]
fn answers() {
    let corpus: Vec<Vec<u8>> = crate::conformance::wires().filter(|wire| wire.len() < 4_000).collect();
    let (mut whole, mut cut) = (Decoder::new(Limits::default()), Decoder::new(Limits::default()));
    smoke(&corpus, b"\r\n\r\n\t :;,=\"\\0159afAF-+_\0\x7f\x80", inputs(), |input| {
        let expected = decoded(&mut whole, input, input.len());
        assert!(expected.1.body_bytes <= input.len() as u64);
        for size in [1, 2, 7] {
            assert_eq!(decoded(&mut cut, input, size), expected, "in pieces of {size}");
        }
    });
}

#[test]
fn server_timings() {
    let corpus = texts(&[
        "queue;dur=1.5, service;dur=3",
        "recv;dur=0.000001;desc=\"a, b\"",
        "queue;desc=x;dur=12345678901234567890.5",
        "cache, db;dur=\"53\" , app;dur=47.2",
    ]);
    smoke(&corpus, b";,=\".0159 durquesvic\\\t", inputs(), |input| {
        let mut timing = ServerTiming::default();
        timing.append(input);
        timing.append(input);
    });
}

#[test]
fn metrics_read_the_same_once_they_are_written() {
    let corpus = texts(&[
        "# TYPE a counter\n# HELP a A \\\\ b\na_total{b=\"c\",d=\"e\\\"f\\\\\"} 17 # {t=\"x\"} 0.5 1\na_created 1.5e9\n# EOF\n",
        "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 5\nh_count 5\nh_sum -0.5\n",
        "m 1 1395066363000\nn{} +Inf\n o\t{ x = \"y\" , } NaN \r\n\n",
    ]);
    let read = |text: &[u8]| {
        let mut all = Vec::new();
        let passed = parse::samples(text, |series, _, value| all.push((series.to_owned(), value.to_bits())));
        (all, passed)
    };
    let mut accepted = 0;
    smoke(&corpus, b"# {}=\",\\\n\t 0159.eE+-aINFT_:", inputs(), |input| {
        let (all, passed) = read(input);
        let lines = input.split(|&b| b == b'\n').count() as u64;
        assert!(all.len() as u64 + passed.left_out + passed.malformed <= lines);
        accepted += all.len();
        // what is told is a sample itself, of the same series
        for (series, bits) in all {
            assert!(!series.contains('\n'), "{series}");
            let again = read(format!("{series} {}", f64::from_bits(bits)).as_bytes()).0;
            let nan = f64::from_bits(bits).is_nan();
            assert!(
                again.len() == 1 && again[0].0 == series && (nan || again[0].1 == bits),
                "{series}: {again:?}"
            );
        }
    });
    assert!(accepted > 1_000, "hardly any was a sample: {accepted}");
}

#[test]
fn rules_read_the_same_once_they_are_written() {
    let corpus = texts(&[
        "p95<=800ms",
        "p99.9 < 1.5s",
        "mean<=200us",
        "max<1m",
        "errors<1%",
        "timeouts<=0",
        "throughput>=100/s",
        "errors<0.0001%",
    ]);
    let mut accepted = 0;
    smoke(&corpus, b"<>=.%/smunp0123456789 ", inputs(), |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        if let Ok(rule) = text.parse::<Rule>() {
            accepted += 1;
            assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule), "{rule}");
        }
    });
    assert!(accepted > 100, "hardly any was a rule: {accepted}");
}

#[test]
fn urls_and_times_read_the_same_once_they_are_written() {
    let corpus = texts(&["http://127.0.0.1:8080/a?b=c", "http://[::1]:80/", "HTTP://host", "http://a?q#f"]);
    smoke(&corpus, b":/?#[]@%.0aZ ", inputs(), |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        if let Ok(url) = text.parse::<Url>() {
            assert_eq!(url.to_string().parse::<Url>(), Ok(url));
        }
    });
    let corpus = texts(&["1ns", "1.5us", "20ms", "0.000000001s", "3m", "1h", "18446744073709551615ns"]);
    smoke(&corpus, b".0159nsumh ", inputs(), |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        if let Ok(time) = text.parse::<Nanos>() {
            assert_eq!(time.exact().parse::<Nanos>(), Ok(time), "{text}");
        }
    });
}

#[test]
fn stages() {
    use clap::Args;
    let corpus = texts(&["0s:100/s,30s:1000/s", "0s:10c,30s:100c", "0s:1/s,1ms:0.5/s,1h:2/s"]);
    let command = RunArgs::augment_args(clap::Command::new("run"));
    let count = inputs().min(20_000);
    smoke(&corpus, b":,/sc.0159mh -", count, |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let args = ["run", "http://127.0.0.1/", &format!("--stages={text}")];
        let _ = command.clone().try_get_matches_from(args);
    });
}

#[test]
fn requests_read_the_same_once_they_are_written() {
    let corpus = texts(&[
        r#"{"path": "/a?x=1", "weight": 2.5}"#,
        r#"{"method": "PUT", "headers": {"B": "2", "A": "1"}, "body": {"z": 1, "a": [1.0, "x"]}}"#,
        "{\"body\": \"text\\u00e9\\n\", \"headers\": [[\"Accept\", \"x\"], [\"A\", \"3\"], [\"A\", \"4\"]]}\n{}\n",
        r#"{"method": "HEAD", "body": null, "weight": 1e-6}"#,
    ]);
    let mut accepted = 0;
    smoke(&corpus, b"{}[]\":,.0159eE-+\\ntrue/AB\r\n ", inputs(), |input| {
        let Ok(requests) = parse_requests(input, &[]) else { return };
        accepted += 1;
        let line = |r: &hairspring::plan::Outgoing| {
            let Ok(body) = r.body.clone().map(String::from_utf8).transpose() else {
                panic!("a body of text")
            };
            serde_json::json!({
                "method": r.method, "path": r.target, "headers": r.fields, "body": body,
                "weight": r.weight as f64 / 1e6,
            })
            .to_string()
        };
        let written: Vec<String> = requests.iter().map(line).collect();
        let again = parse_requests(written.join("\n").as_bytes(), &[]).expect("it was accepted before");
        assert!(again == requests, "{written:?}");
        for request in &requests {
            let head = format!("{} {:?} {:?}", request.method, request.target, request.fields);
            assert!(!head.chars().any(|c| c.is_control() && c != '\t'), "a control character: {head}");
        }
    });
    assert!(accepted > 100, "hardly any was a file of requests: {accepted}");
}

#[test]
fn replays_read_the_same_once_they_are_written() {
    let corpus = texts(&[
        "0\n5\n5\n1000000000\n",
        "offset_ms\n0.5\n2\n",
        "name, offset_s ,x\na,0,1\nb,1.000000001,2",
        "\"a,b\",\"offset_ms\"\n\"x, y\",\"3\"\nz,4",
    ]);
    let mut accepted = 0;
    smoke(&corpus, b"0159.,\"\r\n -ofset_m", inputs(), |input| {
        let Ok(offsets) = parse_replay(input) else { return };
        accepted += 1;
        let nanos: String = offsets.iter().map(|offset| format!("{}\n", offset.0)).collect();
        assert_eq!(parse_replay(nanos.as_bytes()).as_ref(), Ok(&offsets));
        let seconds: String = offsets
            .iter()
            .map(|offset| format!("x,{}.{:09}\n", offset.0 / 1_000_000_000, offset.0 % 1_000_000_000))
            .collect();
        assert_eq!(parse_replay(format!("id,offset_s\n{seconds}").as_bytes()).as_ref(), Ok(&offsets));
    });
    assert!(accepted > 100, "hardly any was a replay: {accepted}");
}

/// A value of a report is changed, somewhere: what it says then may be refused, or judged, but not crash the reader.
fn changed(value: &mut serde_json::Value, below: &mut impl FnMut(usize) -> usize) {
    use serde_json::{Value, json};
    match value {
        Value::Object(map) if !map.is_empty() && below(8) > 0 => {
            let key = map.keys().nth(below(map.len())).expect("in range").clone();
            changed(&mut map[&key], below);
        }
        Value::Array(list) if !list.is_empty() && below(8) > 0 => {
            let at = below(list.len());
            changed(&mut list[at], below);
        }
        Value::String(text) if below(2) > 0 => {
            let at = below(text.chars().count() + 1);
            *text = text
                .chars()
                .take(at)
                .chain(['A', '\u{202e}', '=', '\u{1b}'][below(4)..].iter().copied())
                .collect();
        }
        other => {
            *other = match below(9) {
                0 => json!(null),
                1 => json!(u64::MAX),
                2 => json!(-1),
                3 => json!(0),
                4 => json!(1.5e300),
                5 => json!(""),
                6 => json!([]),
                7 => json!({}),
                _ => json!(below(1_000_000)),
            }
        }
    }
}

#[test]
fn reports_plans_and_comparisons_read_the_same_once_they_are_written() {
    let scratch = Scratch::new("reports");
    let server = Scripted::answering(|_| ok("x"));
    scratch.hairspring(&format!("run {} -n 60 -c 2 --warmup 4 --wait park", server.url("/"))).run().expect(0);
    let flags = "compare --baseline-stub single --optimized-stub pool --workers 2 -n 40 -c 2 --service fixed:200us \
                 --warmup 2 --rounds 2 --wait park --out compared";
    scratch.hairspring(flags).run();

    let bytes = |name: &str| fs::read(scratch.path(name)).unwrap();
    let report: Report = serde_json::from_slice(&bytes("results/report.json")).unwrap();
    assert_eq!(json::render(&report), bytes("results/report.json"));
    let plan: Plan = serde_json::from_slice(&bytes("results/plan.json")).unwrap();
    assert_eq!(json::render(&plan), bytes("results/plan.json"));
    let comparison: Comparison = serde_json::from_slice(&bytes("compared/comparison.json")).unwrap();
    assert_eq!(json::render(&comparison), bytes("compared/comparison.json"));

    let rules: Vec<Rule> =
        ["p95<=800ms", "errors<1%", "throughput>=1/s", "max<1s"].map(|rule| rule.parse().unwrap()).into();
    let original = serde_json::to_value(&report).unwrap();
    let mut rng = Rng::new(11);
    let mut below = |n: usize| (rng.next_u64() % n.max(1) as u64) as usize;
    let mut read = 0;
    for _ in 0..inputs().min(20_000) / 5 {
        let mut value = original.clone();
        (0..=below(3)).for_each(|_| changed(&mut value, &mut below));
        let written = value.to_string();
        let Ok(report) = serde_json::from_str::<Report>(&written) else { continue };
        read += 1;
        let again: Report = serde_json::from_slice(&json::render(&report)).unwrap();
        assert_eq!(again, report);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| report.judge(&rules).map(drop))) {
            eprintln!("the report was: {written}");
            resume_unwind(panic);
        }
    }
    assert!(read > 50, "hardly any was a report: {read}");
    let corpus = [json::render(&report)];
    smoke(&corpus, b"{}[]\":,.0159eE-+\\nul", inputs().min(3_000) / 10, |input| {
        let _ = serde_json::from_slice::<Report>(input).map(|report| report.judge(&rules).map(drop));
    });
}
