//! What the system monitor saw, in a few lines.

use std::fmt::Write;

use super::clean;
use crate::facts::system::Unit;
use crate::report::Report;
use crate::report::system::SystemReport;

/// Metrics in the table, where they were visible.
const SHOWN: [&str; 15] = [
    "machine.cpu",
    "machine.steal",
    "machine.memory",
    "machine.psi_cpu",
    "client.cpu",
    "client.run_delay",
    "server.cpu",
    "server.cores",
    "server.busiest_thread",
    "server.run_delay",
    "server.voluntary_switches",
    "server.rss",
    "server.fds",
    "server.throttled",
    "server.accept_queue",
];

/// Metrics that are only worth a line where they are not zero.
const TROUBLE: [&str; 7] = [
    "machine.listen_overflows",
    "machine.tcp_retransmits",
    "machine.softnet_dropped",
    "server.major_faults",
    "client.throttled",
    "server.rwnd_limited",
    "server.sndbuf_limited",
];

/// Of the metrics that are not visible for one reason.
const NAMED: usize = 4;

pub(super) fn system(text: &mut String, report: &Report) {
    let Some(system) = &report.system else { return };
    let _ = writeln!(text, "\n{:<28} {:>11} {:>11} {:>11}", "system", "mean", "p95", "max");
    let quiet = |name: &&&str| system.figures.get(**name).is_some_and(|figures| figures.max > 0.0);
    for name in SHOWN.iter().chain(TROUBLE.iter().filter(quiet)) {
        if let Some(figures) = system.figures.get(*name) {
            let [mean, p95, max] =
                [figures.mean, figures.p95, figures.max].map(|value| shown(value, figures.unit));
            let _ = writeln!(text, "{name:<28} {mean:>11} {p95:>11} {max:>11}");
        }
    }
    hidden(text, system);
    let cost = &system.cost;
    let share =
        cost.percent_of_a_core.map_or("not visible".to_owned(), |share| format!("{share:.2} % of a core"));
    let skipped = match cost.skipped {
        0 => String::new(),
        n => format!(", {n} left out to cost less"),
    };
    let _ = writeln!(text, "monitor: {} samples{skipped}, own cost {share}", cost.samples);
}

/// By reason, so that a server that is not known is one line and not thirty.
fn hidden(text: &mut String, system: &SystemReport) {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for hidden in &system.not_visible {
        match reasons.iter_mut().find(|(why, _)| *why == hidden.why) {
            Some((_, metrics)) => metrics.push(&hidden.metric),
            None => reasons.push((&hidden.why, vec![&hidden.metric])),
        }
    }
    for (why, metrics) in reasons {
        let more = metrics.len().saturating_sub(NAMED);
        let names = metrics[..metrics.len() - more].join(", ");
        let more = if more > 0 { format!(" and {more} more, in report.json") } else { String::new() };
        let _ = writeln!(text, "not visible: {}{more} ({why})", clean(&names));
    }
}

fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Percent => format!("{value:.1} %"),
        Unit::Bytes => bytes(value),
        Unit::BytesPerS => format!("{}/s", bytes(value)),
        Unit::Count => format!("{value:.2}"),
        Unit::PerS => format!("{value:.1}/s"),
        Unit::Micros => format!("{value:.0} us"),
    }
}

fn bytes(value: f64) -> String {
    let units = [("GiB", 3), ("MiB", 2), ("KiB", 1)];
    let found = units.iter().find(|(_, power)| value >= 1024f64.powi(*power));
    found.map_or(format!("{value:.0} B"), |(unit, power)| {
        format!("{:.1} {unit}", value / 1024f64.powi(*power))
    })
}
