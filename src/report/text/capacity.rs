//! The page of a search for capacity: the answer, what it rests on, the curve, the probes.

use std::fmt::Write;

use super::{line, shown, target};
use crate::analyze::capacity::{Purpose, StoppedBy};
use crate::analyze::gate::SlaVerdict;
use crate::analyze::validity::Verdict;
use crate::load::time::Nanos;
use crate::report::capacity::{Capacity, Point, ProbeRow, Sweep};

/// A search for capacity.
pub fn capacity(capacity: &Capacity) -> String {
    let mut text = String::new();
    let partial = if capacity.partial { "  ** PARTIAL **" } else { "" };
    let _ = writeln!(text, "{}{partial}", target(&capacity.plan));
    let _ = writeln!(
        text,
        "the highest rate with {}, to {:.1} %; open loop over at most {} connections, client on processors {:?}, seed {}\n",
        capacity.plan.sla.join(" and "),
        100.0 * capacity.precision,
        capacity.plan.connections,
        capacity.plan.client.cpus,
        capacity.plan.seed
    );
    probes(&mut text, &capacity.probes);
    curve(&mut text, &capacity.curve);
    if let Some(knee) = &capacity.knee {
        let near = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.1}/s"));
        let _ = writeln!(
            text,
            "knee (greatest throughput over mean response): {:.1}/s, neighbours {} and {}",
            knee.rate_per_s,
            near(knee.above_per_s),
            near(knee.below_per_s)
        );
    }
    if let Some(of_sweep) = &capacity.sweep {
        sweep(&mut text, of_sweep);
    }
    answer(&mut text, capacity);
    text
}

fn probes(text: &mut String, rows: &[ProbeRow]) {
    line(text, &["probe", "rate", "look", "requests", "judged", "verdict", "instrument", "took"]);
    for row in rows {
        let verdict = match row.verdict {
            SlaVerdict::Met => "meets",
            SlaVerdict::NotMet => "breaks",
            SlaVerdict::Inconclusive => "open",
            SlaVerdict::NotEvaluated => "-",
        };
        let instrument = match row.validity {
            Verdict::Valid => "VALID",
            Verdict::Suspect => "SUSPECT",
            Verdict::Invalid => "INVALID",
        };
        let (rate, look) = (format!("{:.1}/s", row.rate_per_s), row.look.to_string());
        let (requests, judged) = (row.requests.to_string(), row.judged_requests.to_string());
        let cells = [purpose(row.purpose), &rate, &look, &requests, &judged, verdict, instrument];
        line(text, &[&cells[..], &[&row.took_ns.to_string()]].concat());
        if row.verdict == SlaVerdict::NotEvaluated {
            let _ = writeln!(text, "  {}", row.reason);
        }
    }
    text.push('\n');
}

fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Search => "search",
        Purpose::Confirm => "confirm",
        Purpose::Up => "up",
        Purpose::Down => "down",
    }
}

fn curve(text: &mut String, points: &[Point]) {
    line(text, &["load", "throughput", "p50", "p95", "95 % from", "to", "p99", "95 % from", "to"]);
    for point in points {
        let end = |p: &str| {
            let interval = point.response_intervals.get(p);
            let high = interval.map_or("-".to_owned(), |i| {
                i.high.map_or("unbounded".to_owned(), |high: Nanos| high.to_string())
            });
            (interval.map_or("-".to_owned(), |i| i.low.to_string()), high)
        };
        let ((p95_low, p95_high), (p99_low, p99_high)) = (end("p95"), end("p99"));
        let response = &point.response_ns;
        let value = |p: &str| super::percentile(response, p);
        let label = match point.purpose {
            Purpose::Confirm => format!("{:.1}/s confirmed", point.rate_per_s),
            _ => format!("{:.1}/s", point.rate_per_s),
        };
        let throughput = point.throughput_per_s.map_or("-".to_owned(), |x| format!("{x:.1}/s"));
        let (p50, p95, p99) = (value("p50"), value("p95"), value("p99"));
        line(text, &[&label, &throughput, &p50, &p95, &p95_low, &p95_high, &p99, &p99_low, &p99_high]);
    }
}

fn sweep(text: &mut String, sweep: &Sweep) {
    text.push('\n');
    line(text, &["sweep", "p50 up", "p50 down", "p95 up", "p95 down", "differs"]);
    for step in &sweep.steps {
        let p50 = |point: &Option<Point>| shown(point.as_ref().and_then(|p| p.response_ns.p50));
        let p95 = |point: &Option<Point>| {
            point.as_ref().map_or("-".to_owned(), |point| super::percentile(&point.response_ns, "p95"))
        };
        let rate = format!("{:.1}/s", step.rate_per_s);
        let differs = if step.differs { "yes" } else { "no" };
        let cells = [p50(&step.up), p50(&step.down), p95(&step.up), p95(&step.down)];
        line(text, &[&rate, &cells[0], &cells[1], &cells[2], &cells[3], differs]);
    }
    let _ = writeln!(
        text,
        "hysteresis: {}",
        if sweep.hysteresis { "yes, the way down is not the way up" } else { "none seen" }
    );
}

fn answer(text: &mut String, capacity: &Capacity) {
    let rate = |rate: Option<f64>, none: &str| rate.map_or(none.to_owned(), |rate| format!("{rate:.1}/s"));
    let (low, high) = (rate(capacity.interval.low_per_s, "none"), rate(capacity.interval.high_per_s, "none"));
    let _ = writeln!(
        text,
        "\nhighest rate shown to meet the SLA: {low}; lowest shown to break it: {high} ({} requests in {})",
        capacity.requests(),
        capacity.spent_ns
    );
    let _ = match (capacity.capacity_per_s, capacity.stopped_by) {
        (_, StoppedBy::Client) => writeln!(
            text,
            "capacity: not known: the CLIENT is the limit here, by itself or by what disturbed it; see the findings of the INVALID probes"
        ),
        (Some(found), stopped_by) => {
            writeln!(text, "capacity: {found:.1}/s [{low}, {high}], confirmed; stopped by: {stopped_by}")
        }
        (None, stopped_by) => writeln!(text, "capacity: not known; stopped by: {stopped_by}"),
    };
}
