//! What is known while a command runs, as OpenMetrics text 1.0: `--metrics-listen`, `--metrics-file`.
//!
//! Names begin with `hairspring_` and end with their base unit; what the monitor calls `server.rss` is
//! `hairspring_server_rss_bytes`. A metric that is not visible now is not there. docs/FORMATS.md lists them.
//! Why no library: docs/decisions/0025-openmetrics.md.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use crate::facts::live::{BOUNDS_NS, Progress, Snapshot};
use crate::facts::system::{Unit, unit};

/// What such a text is, in HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text.
pub fn render(now: &Snapshot) -> String {
    let mut text = Text(String::new());
    text.family("hairspring_build", "info", None, "The program.");
    text.sample("hairspring_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    progress(&mut text, now);
    if let Some(measured) = now.measuring.and_then(|at| now.targets.get(at)) {
        system(&mut text, now, &measured.target);
    }
    text.0.push_str("# EOF\n");
    text.0
}

fn progress(text: &mut Text, now: &Snapshot) {
    text.family("hairspring_measuring", "gauge", None, "1 while a round of the target is measured.");
    for (at, of) in now.targets.iter().enumerate() {
        let measuring = u8::from(now.measuring == Some(at));
        text.sample("hairspring_measuring", &[("target", &of.target)], measuring);
    }
    text.family("hairspring_round", "gauge", None, "The round of the target that was begun last, from 1.");
    for of in &now.targets {
        text.sample("hairspring_round", &[("target", &of.target)], of.rounds);
    }
    text.family("hairspring_rounds_planned", "gauge", None, "Rounds of the target that are planned.");
    for of in &now.targets {
        text.sample("hairspring_rounds_planned", &[("target", &of.target)], of.planned);
    }
    text.family("hairspring_requests", "counter", None, "Measured requests that ended, by slices of time.");
    for of in &now.targets {
        for (outcome, n) in [("successful", of.successful), ("unsuccessful", of.ended - of.successful)] {
            let labels = [("target", of.target.as_str()), ("outcome", outcome)];
            text.sample("hairspring_requests_total", &labels, n);
        }
    }
    let help = "From the intended time to the last byte, of the successful.";
    text.family("hairspring_response_seconds", "histogram", Some("seconds"), help);
    for of in &now.targets {
        responses(text, of);
    }
}

fn responses(text: &mut Text, of: &Progress) {
    let target = ("target", of.target.as_str());
    let mut below = 0;
    for (bound, within) in BOUNDS_NS.iter().zip(of.response_within) {
        below += within;
        let bound = number(*bound as f64 / 1e9);
        text.sample("hairspring_response_seconds_bucket", &[target, ("le", &bound)], below);
    }
    text.sample("hairspring_response_seconds_bucket", &[target, ("le", "+Inf")], of.successful);
    text.sample("hairspring_response_seconds_count", &[target], of.successful);
    text.sample("hairspring_response_seconds_sum", &[target], number(of.response_sum_ns as f64 / 1e9));
}

/// The newest sample of one metric of the monitor, or of all processors.
struct Family<'a> {
    unit: Unit,
    /// By processor, where there is one for each.
    samples: Vec<(Option<&'a str>, f64)>,
}

/// Families in the order of their names, so that each stands in one piece.
fn system(text: &mut Text, now: &Snapshot, target: &str) {
    let mut families: BTreeMap<String, Family<'_>> = BTreeMap::new();
    for (metric, value) in &now.system {
        let Some(unit) = unit(metric) else { continue };
        let (name, cpu) = name(metric);
        let family = families.entry(name + suffix(unit)).or_insert(Family { unit, samples: Vec::new() });
        family.samples.push((cpu, *value));
    }
    for (name, Family { unit, samples }) in families {
        let base = suffix(unit).strip_prefix('_').filter(|_| unit != Unit::PerS);
        text.family(&name, "gauge", base, "By the system monitor; docs/METHOD.md.");
        for (cpu, value) in samples {
            let mut labels = vec![("target", target)];
            labels.extend(cpu.map(|cpu| ("cpu", cpu)));
            text.sample(&name, &labels, number(value * scale(unit)));
        }
    }
}

/// `machine.cpu3.user` is one processor's sample of a family of all.
fn name(metric: &str) -> (String, Option<&str>) {
    let of_one = metric.strip_prefix("machine.cpu").and_then(|rest| rest.split_once('.'));
    match of_one {
        Some((cpu, what)) => (format!("hairspring_machine_cpu_{what}"), Some(cpu)),
        None => (format!("hairspring_{}", metric.replace('.', "_")), None),
    }
}

fn suffix(unit: Unit) -> &'static str {
    match unit {
        Unit::Percent => "_ratio",
        Unit::Bytes => "_bytes",
        Unit::BytesPerS => "_bytes_per_second",
        Unit::Count => "",
        Unit::PerS => "_per_second",
        Unit::Micros => "_seconds",
    }
}

/// To the base unit.
fn scale(unit: Unit) -> f64 {
    match unit {
        Unit::Percent => 0.01,
        Unit::Micros => 1e-6,
        Unit::Bytes | Unit::BytesPerS | Unit::Count | Unit::PerS => 1.0,
    }
}

/// Nine significant digits, without those that say nothing.
fn number(value: f64) -> String {
    let rounded: f64 = format!("{value:.8e}").parse().unwrap_or(value);
    rounded.to_string()
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, unit: Option<&str>, help: &str) {
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
        if let Some(unit) = unit {
            let _ = writeln!(self.0, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.0, "# HELP {name} {help}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{value}\"", if at == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn a_snapshot_is_written_with_base_units_and_in_one_piece_a_family() {
        let mut of = Progress { target: "a\"b\\\n".to_owned(), rounds: 2, planned: 3, ..Progress::default() };
        (of.ended, of.successful, of.response_sum_ns) = (10, 8, 1_500_000_000);
        (of.response_within[0], of.response_within[4]) = (5, 2);
        let seen = |name: &'static str, value| (Cow::Borrowed(name), value);
        let system = vec![
            seen("machine.cpu", 12.5),
            seen("machine.cpu0.user", 20.0),
            seen("server.rtt", 55.0),
            seen("machine.cpu1.user", 0.1),
            seen("server.rss", 4096.0),
            seen("server.fds", 7.0),
            seen("machine.switches", 1234.5),
        ];
        let now = Snapshot { targets: vec![of], measuring: Some(0), system };
        let text = render(&now);
        let target = "target=\"a\\\"b\\\\\\n\"";
        for line in [
            format!("hairspring_measuring{{{target}}} 1"),
            format!("hairspring_round{{{target}}} 2"),
            format!("hairspring_requests_total{{{target},outcome=\"successful\"}} 8"),
            format!("hairspring_requests_total{{{target},outcome=\"unsuccessful\"}} 2"),
            format!("hairspring_response_seconds_bucket{{{target},le=\"0.00005\"}} 5"),
            format!("hairspring_response_seconds_bucket{{{target},le=\"0.001\"}} 7"),
            format!("hairspring_response_seconds_bucket{{{target},le=\"+Inf\"}} 8"),
            format!("hairspring_response_seconds_sum{{{target}}} 1.5"),
            format!("hairspring_machine_cpu_ratio{{{target}}} 0.125"),
            format!("hairspring_machine_cpu_user_ratio{{{target},cpu=\"1\"}} 0.001"),
            format!("hairspring_server_rtt_seconds{{{target}}} 0.000055"),
            format!("hairspring_server_rss_bytes{{{target}}} 4096"),
            format!("hairspring_server_fds{{{target}}} 7"),
            format!("hairspring_machine_switches_per_second{{{target}}} 1234.5"),
            "# UNIT hairspring_server_rtt_seconds seconds".to_owned(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("# TYPE hairspring_machine_cpu_user_ratio ").count(), 1);
        assert!(text.ends_with("\n# EOF\n"));
        let idle = render(&Snapshot { measuring: None, ..now });
        assert!(idle.contains("} 0\n") && !idle.contains("hairspring_server_rss"), "{idle}");
    }
}
