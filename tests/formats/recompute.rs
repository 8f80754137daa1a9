//! The second implementation: every figure of a report from the rows of its CSV, by sorting.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::Value;

use crate::support::{Row, Rows};

/// The tabled percentiles as thousandths.
const TABLED: [(&str, u64); 5] = [("p50", 500), ("p90", 900), ("p95", 950), ("p99", 990), ("p999", 999)];

/// Nearest rank: the least rank that has at least this share of `n` at or below it.
fn rank(thousandths: u64, n: u64) -> u64 {
    (thousandths * n).div_ceil(1_000).max(1)
}

fn number(value: &Value) -> Option<u64> {
    assert!(value.is_null() || value.is_u64(), "{value}");
    value.as_u64()
}

/// Within 0.05 %.
fn near(reported: Option<u64>, exact: u64) -> bool {
    reported.is_some_and(|r| r.abs_diff(exact) as f64 <= exact as f64 * 0.0005 + 1.0)
}

fn is_ok(row: &Row) -> bool {
    row.text("outcome").parse::<u16>().is_ok_and(|status| (200..400).contains(&status))
}

fn is_completed(row: &Row) -> bool {
    row.text("outcome").parse::<u16>().is_ok()
}

fn response(row: &Row) -> u64 {
    row.ns("done_ns") - row.ns("intended_ns")
}

/// Checks figures over `count` requests of which `values` have a value; `others` are those of the requests that rank
/// behind.
fn figures(name: &str, reported: &Value, mut values: Vec<u64>, mut others: Vec<u64>, count: u64) {
    values.sort_unstable();
    others.sort_unstable();
    assert_eq!(number(&reported["count"]), Some(count), "{name}.count");
    assert_eq!(number(&reported["valued"]), Some(values.len() as u64), "{name}.valued");
    assert_eq!(number(&reported["min"]), values.first().copied(), "{name}.min");
    assert_eq!(number(&reported["max"]), values.last().copied(), "{name}.max");
    let mean = values.iter().map(|v| u128::from(*v)).sum::<u128>().checked_div(values.len() as u128);
    match (number(&reported["mean"]), mean) {
        (Some(reported), Some(mean)) => {
            assert!(u128::from(reported).abs_diff(mean) <= 1, "{name}.mean: {reported}");
        }
        (reported, mean) => assert!(reported.is_none() && mean.is_none(), "{name}.mean"),
    }
    for (p, thousandths) in TABLED {
        if count == 0 {
            assert_eq!(number(&reported[p]), None, "{name}.{p} of nothing");
            continue;
        }
        let rank = rank(thousandths, count) as usize;
        let (figure, censored) = (number(&reported[p]), &reported["censored_at_ns"][p]);
        if let Some(exact) = values.get(rank - 1) {
            assert!(near(figure, *exact), "{name}.{p}: {figure:?}, by sorting {exact}");
            assert!(censored.is_null(), "{name}.{p} has a value and is censored");
        } else {
            assert_eq!(figure, None, "{name}.{p} falls among the unsuccessful");
            // those that were never drawn have waited for an unknown time; then come the others by their time
            let undrawn = count as usize - values.len() - others.len();
            let waited = (rank - values.len()).checked_sub(undrawn + 1).map_or(0, |at| others[at]);
            let least = waited.max(values.last().copied().unwrap_or(0));
            assert!(
                near(number(censored), least),
                "{name}.{p} is censored at {censored}, by sorting {least}"
            );
        }
    }
}

fn difference(rows: &[&Row], from: &str, to: &str) -> Vec<u64> {
    rows.iter().filter_map(|row| row.number(to)?.checked_sub(row.number(from)?)).collect()
}

fn column(rows: &[&Row], name: &str) -> Vec<u64> {
    rows.iter().filter_map(|row| row.number(name)).collect()
}

/// The saved histogram of this name, decoded by the crate that defines the format, against the values themselves.
fn histogram(report: &Value, name: &str, values: &[u64]) {
    let saved = &report["histograms"][name];
    assert_eq!(saved["encoding"], "hdr-v2-deflate-base64");
    let bytes = base64::engine::general_purpose::STANDARD.decode(saved["data"].as_str().unwrap()).unwrap();
    let decoded: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
    let mut own = Histogram::<u64>::new_with_bounds(1, 3_600_000_000_000, 3).unwrap();
    for value in values {
        own.record(*value).unwrap();
    }
    assert_eq!(decoded.len(), values.len() as u64, "{name}");
    assert_eq!(decoded, own, "histogram {name} is not that of the rows");
    assert_eq!(number(&saved["count"]), Some(values.len() as u64), "{name}");
    assert_eq!(number(&saved["sum_ns"]), Some(values.iter().sum()), "{name}");
    assert_eq!(number(&saved["min_ns"]), values.iter().min().copied(), "{name}");
    assert_eq!(number(&saved["max_ns"]), values.iter().max().copied(), "{name}");
}

/// First intended to last done, summed over rounds.
fn elapsed(rows: &[Row]) -> u64 {
    let mut spans: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for row in rows {
        let span = spans.entry(row.text("round")).or_insert((u64::MAX, 0));
        *span = (span.0.min(row.ns("intended_ns")), span.1.max(row.ns("done_ns")));
    }
    spans.values().map(|(from, to)| to - from).sum()
}

/// Fails unless every figure of the report follows from the rows.
pub(super) fn recompute(report: &Value, rows: &Rows) {
    let all: Vec<&Row> = rows.rows.iter().collect();
    let ok: Vec<&Row> = all.iter().copied().filter(|row| is_ok(row)).collect();
    let not_ok: Vec<&Row> = all.iter().copied().filter(|row| !is_ok(row)).collect();
    let completed: Vec<&Row> = all.iter().copied().filter(|row| is_completed(row)).collect();
    let total = |name: &str| report["totals"][name].as_u64().unwrap();
    let scheduled = total("scheduled");
    assert_eq!(total("completed"), completed.len() as u64);
    assert_eq!(total("successful"), ok.len() as u64);
    assert_eq!(total("bytes_sent"), column(&all, "bytes_sent").iter().sum::<u64>());
    assert_eq!(total("bytes_received"), column(&all, "bytes_received").iter().sum::<u64>());
    assert_eq!(total("retries"), all.iter().filter(|row| row.text("attempt") == "2").count() as u64);

    let responses = |rows: &[&Row]| rows.iter().map(|row| response(row)).collect::<Vec<u64>>();
    figures("response", &report["response_ns"], responses(&ok), responses(&not_ok), scheduled);
    let plain = |name: &str, reported: &Value, values: Vec<u64>| {
        let count = values.len() as u64;
        figures(name, reported, values, Vec::new(), count);
    };
    plain("response_ok", &report["response_ok_ns"], responses(&ok));
    let statuses: BTreeSet<&str> = completed.iter().map(|row| row.text("outcome")).collect();
    let reported: BTreeSet<&str> =
        report["response_by_status_ns"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(statuses, reported);
    for status in statuses {
        let of_status: Vec<&Row> = all.iter().copied().filter(|row| row.text("outcome") == status).collect();
        plain(status, &report["response_by_status_ns"][status], responses(&of_status));
    }
    plain("service", &report["service_ns"], difference(&completed, "issued_ns", "done_ns"));
    plain("first_byte", &report["first_byte_ns"], difference(&completed, "issued_ns", "first_byte_ns"));
    plain("conn_wait", &report["conn_wait_ns"], difference(&all, "intended_ns", "ready_ns"));
    plain("send_lag", &report["send_lag_ns"], difference(&all, "ready_ns", "issued_ns"));
    plain("connect", &report["connect_ns"], column(&all, "connect_ns"));
    // a server that claims more time than its whole answer took is not believed
    let claimed =
        |row: &Row| row.number("server_service_ns").unwrap_or(0) + row.number("server_queue_ns").unwrap_or(0);
    let fits = |row: &&Row| claimed(row) <= row.ns("done_ns") - row.ns("issued_ns");
    let believed: Vec<&Row> = completed.iter().copied().filter(fits).collect();
    let rejected = (completed.len() - believed.len()) as u64;
    assert_eq!(number(&report["evidence"]["server_timing_rejected"]), Some(rejected));
    plain("evidence.service", &report["evidence"]["service_ns"], column(&believed, "server_service_ns"));
    plain("evidence.queue", &report["evidence"]["queue_ns"], column(&believed, "server_queue_ns"));

    histogram(report, "response_ok", &responses(&ok));
    histogram(report, "response_not_ok", &responses(&not_ok));
    histogram(report, "service", &difference(&completed, "issued_ns", "done_ns"));
    histogram(report, "first_byte", &difference(&completed, "issued_ns", "first_byte_ns"));
    histogram(report, "conn_wait", &difference(&all, "intended_ns", "ready_ns"));
    histogram(report, "send_lag", &difference(&all, "ready_ns", "issued_ns"));
    histogram(report, "undisturbed", &ok.iter().map(|row| undisturbed(row)).collect::<Vec<u64>>());
    histogram(report, "connect", &column(&all, "connect_ns"));
    histogram(report, "server_service", &column(&believed, "server_service_ns"));
    histogram(report, "server_queue", &column(&believed, "server_queue_ns"));

    assert_eq!(number(&report["elapsed_ns"]), Some(elapsed(&rows.rows)));
    let throughput = ok.len() as f64 * 1e9 / elapsed(&rows.rows) as f64;
    let reported = report["throughput_per_s"].as_f64().unwrap();
    assert!((reported / throughput - 1.0).abs() < 1e-9, "throughput {reported}, by the rows {throughput}");
    for part in ["median", "tail"] {
        split(&report["evidence"][part], &ok, part);
    }
}

/// The response time without what the client may have added.
fn undisturbed(row: &Row) -> u64 {
    let unread = match row.number("arrived_ns") {
        Some(arrived) => row.ns("done_ns").saturating_sub(arrived),
        None => row.ns("read_gap_ns"),
    };
    let lag = row.ns("issued_ns") - row.ns("ready_ns");
    response(row).saturating_sub(row.ns("own_wait_ns") + lag + unread)
}

/// The parts of a split add up, and its requests are among those that succeeded.
fn split(split: &Value, ok: &[&Row], name: &str) {
    if split.is_null() {
        assert!(ok.is_empty(), "{name} is missing");
        return;
    }
    let timed = ok.iter().filter(|row| row.number("server_service_ns").is_some()).count() as u64;
    assert!(number(&split["timed"]).unwrap() <= timed, "{name}");
    assert_eq!(split["service_ns"].is_null(), timed == 0, "{name}");
    let part = |field: &str| split[field].as_u64().unwrap_or_else(|| panic!("{name}.{field}"));
    let seen = |field: &str| if split[field].is_null() { 0 } else { part(field) };
    let parts = [
        "conn_wait_ns",
        "send_lag_ns",
        "send_path_ns",
        "queue_ns",
        "service_ns",
        "transport_ns",
        "wake_up_ns",
        "residual_ns",
    ]
    .map(seen);
    let sum: u64 = parts.iter().sum();
    // each mean is rounded down
    let least = part("response_ns");
    assert!(sum <= least && sum >= least.saturating_sub(8), "{name}: {parts:?} do not make {least}");
    let requests = part("requests");
    assert!(requests > 0 && requests <= ok.len() as u64, "{name}: {requests} of {}", ok.len());
    if name == "tail" {
        assert!(requests >= ok.len() as u64 / 20, "the tail from p95 holds a twentieth at least: {requests}");
    }
}

/// Figures of each round from its rows; checks those of the report.
pub(super) fn rounds(report: &Value, rows: &Rows) -> Vec<BTreeMap<String, u64>> {
    let mut all = Vec::new();
    for round in report["rounds"].as_array().unwrap() {
        let index = round["round"].as_u64().unwrap().to_string();
        let own: Vec<&Row> = rows.rows.iter().filter(|row| row.text("round") == index).collect();
        let ok: Vec<u64> = own.iter().filter(|row| is_ok(row)).map(|row| response(row)).collect();
        let not_ok: Vec<u64> = own.iter().filter(|row| !is_ok(row)).map(|row| response(row)).collect();
        assert_eq!(number(&round["scheduled"]), Some(own.len() as u64));
        assert_eq!(number(&round["successful"]), Some(ok.len() as u64));
        figures(&format!("round {index}"), &round["response_ns"], ok.clone(), not_ok, own.len() as u64);
        let service = column(&own, "server_service_ns");
        let mean = service.iter().sum::<u64>() / service.len() as u64;
        assert!(number(&round["server_service_mean_ns"]).unwrap().abs_diff(mean) <= 1);
        let reported = |name: &str| (name.to_owned(), number(&round["response_ns"][name]).unwrap());
        all.push(["p50", "p90", "p95", "p99", "p999", "mean", "max"].map(reported).into());
    }
    all
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
}

/// The improvement is the median over rounds of what changed in each.
pub(super) fn improvement(
    comparison: &Value,
    baseline: &[BTreeMap<String, u64>],
    optimized: &[BTreeMap<String, u64>],
) {
    for name in ["p50", "p90", "p95", "p99", "p999", "mean", "max"] {
        let reported = &comparison["improvement"][name];
        let pairs: Vec<(f64, f64)> =
            baseline.iter().zip(optimized).map(|(b, o)| (b[name] as f64, o[name] as f64)).collect();
        let over = |f: fn(&(f64, f64)) -> f64| median(pairs.iter().map(f).collect());
        let close = |field: &str, exact: f64, within: f64| {
            let value = reported[field].as_f64().unwrap_or_else(|| panic!("improvement.{name}.{field}"));
            assert!(
                (value - exact).abs() <= within,
                "improvement.{name}.{field} is {value}, by the rounds {exact}"
            );
        };
        close("absolute_ns", over(|(b, o)| b - o), 1.0);
        close("relative", over(|(b, o)| (b - o) / b), 1e-9);
        close("baseline_ns", over(|(b, _)| *b), 1.0);
        close("optimized_ns", over(|(_, o)| *o), 1.0);
        let relative: Vec<f64> = pairs.iter().map(|(b, o)| (b - o) / b).collect();
        for (at, exact) in [
            relative.iter().copied().fold(f64::MAX, f64::min),
            relative.iter().copied().fold(f64::MIN, f64::max),
        ]
        .into_iter()
        .enumerate()
        {
            let value = reported["relative_range"][at].as_f64().unwrap();
            assert!((value - exact).abs() < 1e-9, "improvement.{name}.relative_range: {value}, {exact}");
        }
        assert_eq!(number(&reported["rounds"]), Some(pairs.len() as u64));
    }
}
