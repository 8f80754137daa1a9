//! The grammar: what parses, what is refused and how it says so, and that texts come back.

use super::*;

fn rule(text: &str) -> Rule {
    text.parse().unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn fault(text: &str) -> Fault {
    match text.parse::<Rule>() {
        Ok(rule) => panic!("{text} is {rule:?}"),
        Err(wrong) => {
            assert_eq!(wrong.text, text);
            wrong.fault
        }
    }
}

#[test]
fn limits_are_exact() {
    for (text, limit) in [
        ("p95<=800ms", Limit::Time(Nanos::from_millis(800))),
        ("p99.999<0.000001ms", Limit::Time(Nanos(1))),
        ("mean<127.6ms", Limit::Time(Nanos(127_600_000))),
        ("max<=1.5s", Limit::Time(Nanos(1_500_000_000))),
        ("p0>=12.5us", Limit::Time(Nanos(12_500))),
        ("p50<40ns", Limit::Time(Nanos(40))),
        ("p50<3600000s", Limit::Time(Nanos::from_secs(3_600_000))),
        ("errors<1%", Limit::Share(10_000_000)),
        ("errors<0.0000001%", Limit::Share(1)),
        ("errors<=100%", Limit::Share(1_000_000_000)),
        ("timeouts<=0", Limit::Count(0)),
        ("errors<18446744073709551615", Limit::Count(u64::MAX)),
        ("throughput>=500/s", Limit::Rate(500_000)),
        ("throughput>0.001/s", Limit::Rate(1)),
        ("p95<1.000000000000000000000ns", Limit::Time(Nanos(1))),
    ] {
        assert_eq!(rule(text).limit(), limit, "{text}");
    }
}

#[test]
fn rules_print_and_parse_back() {
    for (text, canonical) in [
        ("p95<=800ms", "p95<=800ms"),
        ("  P95 <=  800 ms ", "p95<=800ms"),
        ("p99.90<1000ms", "p99.9<1s"),
        ("p99<2552ms", "p99<2.552s"),
        ("max>0.5ms", "max>500us"),
        ("mean>=0s", "mean>=0ns"),
        ("mean<12.5µs", "mean<12.5us"),
        ("mean<12.5μs", "mean<12.5us"),
        ("errors<1%", "errors<1%"),
        ("errors < 0.050 %", "errors<0.05%"),
        ("errors<=000%", "errors<=0%"),
        ("timeouts<=0", "timeouts<=0"),
        ("throughput>=500 /s", "throughput>=500/s"),
        ("throughput<0.25/s", "throughput<0.25/s"),
    ] {
        let parsed = rule(text);
        assert_eq!(parsed.to_string(), canonical);
        assert_eq!(rule(canonical), parsed);
        let json = serde_json::to_string(&parsed).expect("json");
        assert_eq!(json, format!("\"{canonical}\""));
        assert_eq!(serde_json::from_str::<Rule>(&json).expect("back"), parsed);
    }
}

#[test]
fn every_operator_is_read() {
    for (text, op) in
        [("max<1s", Op::Below), ("max<=1s", Op::AtMost), ("max>1s", Op::Above), ("max>=1s", Op::AtLeast)]
    {
        assert_eq!(rule(text).op(), op);
    }
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(fault(""), Fault::Empty);
    assert_eq!(fault("  "), Fault::Empty);
    assert_eq!(fault("p95 800ms"), Fault::NoComparison);
    for sign in ["=<", "=>", "==", "=", "<>", "!=", "≤", "<<", "<=="] {
        let text = format!("p95{sign}800ms");
        assert_eq!(fault(&text), Fault::Comparison(sign.to_owned()));
    }
    for metric in ["", "p", "latency", "95", "Mean", "average", "p(95)"] {
        let text = format!("{metric}<=800ms");
        assert_eq!(fault(&text), Fault::Metric(metric.to_owned()));
    }
    for p in ["p100", "p999", "p99.9999", "p95x"] {
        let text = format!("{p}<=800ms");
        assert_eq!(fault(&text), Fault::Percentile(BadPercentile(p.to_owned())));
    }
    assert_eq!(fault("p95<=800ms,errors<1%"), Fault::Several);
    assert_eq!(fault("p95<= <800ms"), Fault::Several);
    assert!(matches!(fault("p95<="), Fault::NoLimit(_)));
    assert!(matches!(fault("p95<=-5ms"), Fault::Negative(_)));
    assert!(matches!(fault("errors<=-1"), Fault::Negative(_)));
    for number in ["ms", ".5s", "5.s", "1.2.3s", "+5ms", "NaN", "inf s", "..s", "abc"] {
        let text = format!("p95<={number}");
        assert!(matches!(fault(&text), Fault::Number(_)), "{text}: {:?}", fault(&text));
    }
}

#[test]
fn units_belong_to_their_metrics() {
    for text in [
        "p95<=800",
        "p95<=1%",
        "p95<=5/s",
        "p95<=5m",
        "p95<=5MS",
        "p95<=1e3ms",
        "max<5h",
        "mean<=800,5ms",
        "errors<1ms",
        "errors<1/s",
        "timeouts<1s",
        "throughput>=500",
        "throughput>=500rps",
        "throughput>1ms",
        "errors<1%%",
        "p95<=1 0ms",
    ] {
        assert!(matches!(fault(text), Fault::Unit { .. }), "{text}: {:?}", fault(text));
    }
}

#[test]
fn nothing_is_rounded_and_nothing_wraps() {
    for text in ["p95<0.5ns", "p95<0.0000001ms", "errors<1.5", "errors<0.00000001%", "throughput>0.0001/s"] {
        assert!(matches!(fault(text), Fault::TooFine(_)), "{text}: {:?}", fault(text));
    }
    let huge = format!("p95<{}ms", "9".repeat(400));
    for text in [
        "p95<3600000.000000001s",
        "errors<100.0000001%",
        "errors<18446744073709551616",
        "throughput>1000000001/s",
        &huge,
    ] {
        assert!(matches!(fault(text), Fault::TooLarge(_)), "{text}: {:?}", fault(text));
    }
}

#[test]
fn messages_say_what_to_write() {
    let message = |text: &str| text.parse::<Rule>().expect_err("wrong").to_string();
    for (text, part) in [
        ("p95=<800ms", "write <, <=, > or >="),
        ("p100<=1s", "for p100 write max"),
        ("p95<=800", "write a time, as in 250us, 800ms or 1.5s"),
        ("throughput>=500", "write a rate, as in 500/s"),
        ("errors<=0.01", "a share needs %"),
        ("errors<=-1%", "write a share or a count"),
    ] {
        let message = message(text);
        assert!(message.contains(part) && message.contains(text), "{message}");
    }
}

/// xorshift64*: a seeded stream of its own, so that a failure names its case.
fn below(state: &mut u64, bound: usize) -> usize {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
}

#[test]
fn any_text_parses_or_is_refused_and_what_parses_returns() {
    const METRICS: [&str; 9] =
        ["p95", "p99.99", "P0", "mean", "max", "errors", "timeouts", "throughput", "p100"];
    const OPS: [&str; 6] = ["<", "<=", ">", ">=", " <= ", "=<"];
    const UNITS: [&str; 9] = ["ns", "us", "ms", "s", "%", "/s", "", " ms", "µs"];
    const NOISE: [&str; 16] = ["", "", "0", "9", ".", "-", " ", "<", "=", "%", "s", "p", "µ", "−", "é", "\0"];
    let mut state = 0x0051_A0FF_1CE5_u64;
    let mut parsed = 0;
    for _ in 0..60_000 {
        let digits = 1 + below(&mut state, 9) as u32;
        let number = below(&mut state, 10usize.pow(digits));
        let fraction = ["", ".5", ".25", ".000001", "."][below(&mut state, 5)];
        let mut text = String::new();
        for part in [METRICS[below(&mut state, 9)], OPS[below(&mut state, 6)]] {
            text += part;
        }
        text += &format!("{number}{fraction}{}", UNITS[below(&mut state, 9)]);
        let noise = NOISE[below(&mut state, 16)];
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        text.insert_str(places[below(&mut state, places.len())], noise);

        if let Ok(rule) = text.parse::<Rule>() {
            parsed += 1;
            assert_eq!(rule.to_string().parse(), Ok(rule), "{text}");
        }
    }
    assert!(parsed > 2_000, "only {parsed} rules parsed");
}
