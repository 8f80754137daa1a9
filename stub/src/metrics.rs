//! What the server counts as OpenMetrics text 1.0, for `/metrics`: the counts of `/stats` under the names that Prometheus
//! expects. Pure.

use std::fmt::Write;

use crate::counts::Counts;

/// What an answer with such a text is.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text; `started` in seconds since the Unix epoch.
pub(crate) fn render(counts: &Counts, started: f64) -> String {
    let mut text = String::new();
    family(&mut text, "stub_requests", "counter", "Answers by status.");
    for (status, n) in &counts.statuses {
        let _ = writeln!(text, "stub_requests_total{{status=\"{status}\"}} {n}");
    }
    let counters = [
        (
            "stub_connections_accepted",
            "Connections accepted, the turned away ones included.",
            counts.accepted,
        ),
        ("stub_connections_turned_away", "Connections over the cap, answered 503.", counts.turned_away),
        ("stub_connections_dropped", "Connections closed without an answer.", counts.dropped),
    ];
    for (name, help, value) in counters {
        family(&mut text, name, "counter", help);
        let _ = writeln!(text, "{name}_total {value}");
    }
    let gauges = [
        ("stub_connections_open", "Connections open now.", Some(counts.open)),
        ("stub_requests_in_flight", "Infer requests in service now.", Some(counts.in_flight)),
        ("stub_queue_requests", "Requests read that wait for a worker now.", counts.queued),
        ("stub_workers", "Threads that do work.", counts.workers),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            family(&mut text, name, "gauge", help);
            let _ = writeln!(text, "{name} {value}");
        }
    }
    family(
        &mut text,
        "process_start_time_seconds",
        "gauge",
        "When the server started, since the Unix epoch.",
    );
    let _ = writeln!(text, "# UNIT process_start_time_seconds seconds");
    let _ = writeln!(text, "process_start_time_seconds {started:.3}\n# EOF");
    text
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {help}");
}
