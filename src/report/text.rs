//! Reports as text for a terminal: what one has to know in five seconds comes first.

use std::fmt::Write;

mod alerts;
mod anatomy;
mod capacity;
mod comparison;
mod findings;
mod instrument;
mod models;
mod ranking;
mod scenario;
mod scraped;
mod suite;
mod system;
mod trend;

pub(super) use alerts::in_short as alerts_in_short;
pub use capacity::capacity;
pub(super) use comparison::Answers;
pub use comparison::comparison;
use instrument::{engine, instrument, validity};

pub use ranking::ranking;
pub use suite::suite;
pub use trend::trend;

use super::json::Saved;
use super::{Beyond, LogFile, Report};
use crate::analyze::attribution::ClosedLoop;
use crate::analyze::gate::{SlaReport, SlaVerdict};
use crate::analyze::intervals::Interval;
use crate::analyze::summary::{Figures, TABLED};
use crate::load::io::Stamps;
use crate::load::time::Nanos;
use crate::plan::{Plan, Server};

/// A plain run.
pub fn run(report: &Report) -> String {
    let mut text = String::new();
    heading(&mut text, report);
    line(&mut text, &[" ", "p50", "p90", "p95", "p99", "p99.9", "mean", "max"]);
    figures(&mut text, "response", &report.response_ns);
    intervals(&mut text, report);
    if report.totals.successful < report.totals.scheduled {
        figures(&mut text, "  successful", &report.response_ok_ns);
        if report.response_by_status_ns.len() > 1 {
            for (status, by_status) in &report.response_by_status_ns {
                figures(&mut text, &format!("  status {status}"), by_status);
            }
        }
    }
    figures(&mut text, "service", &report.service_ns);
    figures(&mut text, "send lag", &report.send_lag_ns);
    if report.conn_wait_ns.max.is_some_and(|max| max > Nanos::ZERO) {
        figures(&mut text, "conn wait", &report.conn_wait_ns);
    }
    kernel(&mut text, report);
    probe(&mut text, report);
    let within = 100.0 * report.histogram_error;
    let _ = writeln!(text, "percentiles within {within} % (histograms), mean and max exact");
    needed(&mut text, report);
    text.push('\n');
    let _ = writeln!(text, "{}", counts(report));
    if report.warmup.scheduled > 0 {
        let warm = &report.warmup;
        let p50 = shown(warm.response_ok_ns.p50);
        let _ = writeln!(
            text,
            "warm-up (not counted): {} requests, {} successful, p50 {p50}",
            warm.scheduled, warm.successful
        );
    }
    mix(&mut text, report);
    scenario::scenario(&mut text, report.scenario.as_ref());
    evidence(&mut text, report);
    findings::findings(&mut text, report.findings.as_ref());
    findings::confirmation(&mut text, report.confirmation.as_ref());
    findings::advice(&mut text, report.advice.as_ref());
    models::theory(&mut text, report.theory.as_ref());
    models::diagnosis(&mut text, report.diagnosis.as_ref());
    system::system(&mut text, report);
    alerts::alerts(&mut text, "", report);
    scraped::scraped(&mut text, report);
    instrument(&mut text, report);
    validity(&mut text, "validity", &report.validity);
    sla(&mut text, "SLA", &report.sla);
    logs(&mut text, &report.logs);
    text
}

/// The page of what was measured.
pub fn saved(saved: &Saved) -> String {
    match saved {
        Saved::Report(report) => run(report),
        Saved::Comparison(measured) => comparison(measured),
        Saved::Ranking(measured) => ranking(measured),
    }
}

/// The verdicts of rules on what was saved.
pub fn gate(verdicts: &[SlaReport], saved: &Saved) -> String {
    let mut text = String::new();
    match saved {
        Saved::Report(_) => {}
        Saved::Comparison(comparison) => {
            let _ = writeln!(text, "{}", Answers(&comparison.outputs, comparison.outputs_identical));
        }
        Saved::Ranking(ranking) => {
            for variant in &ranking.variants {
                if let Some(outputs) = &variant.outputs {
                    let answers = Answers(outputs, variant.outputs_identical);
                    let _ = writeln!(text, "{}: {answers}", variant.name);
                }
            }
        }
    }
    for report in saved.reports() {
        validity(&mut text, &format!("validity of {}", report.plan.target.name), &report.validity);
    }
    for (report, sla_report) in saved.judged().into_iter().zip(verdicts) {
        sla(&mut text, &pooled(&report.plan.target.name, report), sla_report);
    }
    text
}

/// Gates judge the requests of all rounds together.
fn pooled(name: &str, report: &Report) -> String {
    format!("SLA of {name} ({} requests)", report.totals.scheduled)
}

fn heading(text: &mut String, report: &Report) {
    let partial = if report.partial { "  ** PARTIAL: interrupted **" } else { "" };
    let _ = writeln!(text, "{}{}{partial}", target(&report.plan), resolved(report));
    let client = &report.plan.client;
    let _ = writeln!(
        text,
        "{}; {} on processors {:?}, seed {}",
        report.plan.load_in_words(),
        client.engine.name(),
        client.cpus,
        report.plan.seed
    );
    engine(text, report);
    text.push('\n');
}

/// What the name in the URL stood for: it is looked up once, before the load.
fn resolved(report: &Report) -> String {
    let (Some(url), Some(round)) = (&report.plan.target.url, report.rounds.first()) else {
        return String::new();
    };
    let literal = [format!("{}:{}", url.host, url.port), format!("[{}]:{}", url.host, url.port)];
    let is_name =
        !round.addresses.is_empty() && !round.addresses.iter().any(|address| literal.contains(address));
    if is_name { format!(" ({})", round.addresses.join(", ")) } else { String::new() }
}

pub(super) fn target(plan: &Plan) -> String {
    let url = plan.target.url.as_ref().map(ToString::to_string).unwrap_or_default();
    let what = match &plan.mix {
        Some(mix) => format!("a mix of {} requests to", mix.requests.len()),
        None => plan.request.method.clone(),
    };
    match &plan.target.server {
        Server::External => format!("{what} {url}"),
        Server::Command { command, cpus, .. } => {
            format!("{what} {url}, served by `{}` on processors {cpus:?}", clean(command))
        }
        Server::Stub(stub) => {
            let workers = match stub.model.as_str() {
                "single" | "threads" => String::new(),
                _ => format!(" of {} workers", stub.workers),
            };
            let cpus = &stub.cpus;
            format!(
                "{}stub {}{workers}, {} {} on processors {cpus:?}",
                if plan.mix.is_some() { format!("{what} ") } else { String::new() },
                stub.model,
                stub.work,
                clean(&stub.service)
            )
        }
    }
}

fn line(text: &mut String, cells: &[&str]) {
    let mut row = String::new();
    for (at, cell) in cells.iter().enumerate() {
        let _ = if at == 0 { write!(row, "{cell:<18}") } else { write!(row, " {cell:>11}") };
    }
    let _ = writeln!(text, "{}", row.trim_end());
}

fn figures(text: &mut String, name: &str, figures: &Figures) {
    let mut cells = vec![name.to_owned()];
    cells.extend(TABLED.iter().map(|(p, _)| percentile(figures, p)));
    cells.extend([shown(figures.mean), shown(figures.max)]);
    line(text, &cells.iter().map(String::as_str).collect::<Vec<_>>());
}

/// The ends of the intervals, under their percentiles. `?` marks what is insufficient, and takes nothing away.
fn intervals(text: &mut String, report: &Report) {
    if report.response_intervals.is_empty() {
        return;
    }
    let row = |label: &str, end: fn(&Interval) -> String| {
        let cell = |(name, _): &(&str, _)| report.response_intervals.get(*name).map_or("-".to_owned(), end);
        std::iter::once(label.to_owned()).chain(TABLED.iter().map(cell)).collect::<Vec<_>>()
    };
    let low = row("  95 % from", |i| i.low.to_string());
    let high = row("  to", |i| {
        let mark = if i.sufficient { "" } else { "?" };
        i.high.map_or("unbounded".to_owned(), |high| high.to_string()) + mark
    });
    for cells in [low, high] {
        line(text, &cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// What the wide intervals would need, and what the mark means.
fn needed(text: &mut String, report: &Report) {
    let wide = TABLED.iter().filter_map(|(name, p)| {
        let interval = report.response_intervals.get(*name)?;
        let time = interval.needed_ns.map(|time| format!(" ({time} at this rate)")).unwrap_or_default();
        let tau = interval.tau.map(|tau| format!(", τ {tau:.1}")).unwrap_or_default();
        Some(format!("{p} about {} requests{time}{tau}", interval.needed?))
    });
    let wide: Vec<String> = wide.collect();
    if !wide.is_empty() {
        let _ = writeln!(text, "for ±5 % are needed: {}", wide.join("; "));
    }
    if report.response_intervals.values().any(|interval| !interval.sufficient) {
        let _ = writeln!(text, "?: fewer than ten effective requests lie beyond this percentile");
    }
}

/// A percentile that falls among the unsuccessful is shown as the least it can be.
pub(super) fn percentile(figures: &Figures, name: &str) -> String {
    match (figures.percentile(name), figures.censored_at_ns.get(name)) {
        (Some(value), _) => value.to_string(),
        (None, Some(at)) => format!(">={at}"),
        (None, None) => "-".to_owned(),
    }
}

fn shown(value: Option<Nanos>) -> String {
    value.map_or("-".to_owned(), |v| v.to_string())
}

/// The probe beside the load.
fn probe(text: &mut String, report: &Report) {
    let Some(probe) = &report.probe else { return };
    figures(text, "probe's response", &probe.response_ns);
    figures(text, "probe's service", &probe.service_ns);
    let signed = |b: &Beyond| {
        let sign = if b.difference_ns < 0 { "-" } else { "+" };
        format!("{} {sign}{}", b.percentile, Nanos(b.difference_ns.unsigned_abs()))
    };
    let each: Vec<String> = probe.bulk_beyond_probe_ns.iter().map(signed).collect();
    let shared = if probe.plan.shared { ", which it shares, so it sleeps" } else { "" };
    let _ = writeln!(
        text,
        "  {} requests of the probe on processor {}{shared}; service time of the load beyond the probe's: {}",
        probe.requests,
        probe.plan.cpu,
        if each.is_empty() { "too few to say".to_owned() } else { each.join(", ") }
    );
}

/// The split by the kernel's stamps.
fn kernel(text: &mut String, report: &Report) {
    let Some(kernel) = &report.kernel else { return };
    if kernel.stamps == Stamps::RxTx {
        figures(text, "  send path", &kernel.send_path_ns);
        figures(text, "  kernel to kernel", &kernel.remote_ns);
    }
    figures(text, "  client wake-up", &kernel.wake_up_ns);
    let missing = kernel.missing_arrivals + kernel.missing_departures;
    if missing + kernel.discarded > 0 {
        let _ = writeln!(
            text,
            "  {missing} of {} completed requests lack a kernel stamp and are not in this split ({} stamps discarded)",
            report.totals.completed, kernel.discarded
        );
    }
}

fn counts(report: &Report) -> String {
    let t = &report.totals;
    let mut text = format!(
        "{} scheduled = {} completed + {} failed + {} unsent; {} successful",
        t.scheduled, t.completed, t.failed, t.unsent, t.successful
    );
    if let Some(rate) = report.throughput_per_s {
        let _ = write!(text, ", {rate:.1}/s");
    }
    if t.successful < t.scheduled || report.outcomes.len() > 1 {
        let each: Vec<String> = report.outcomes.iter().map(|(key, n)| format!("{key} × {n}")).collect();
        let _ = write!(text, "\noutcomes: {}", each.join(", "));
    }
    for (detail, n) in &report.outcome_details {
        let _ = write!(text, "\n  {} × {n}", clean(detail));
    }
    if t.retries + t.unsolicited > 0 {
        let _ = write!(text, "\nretries {}, unsolicited bytes {} times", t.retries, t.unsolicited);
    }
    text
}

/// The requests of a mix, the first of many.
fn mix(text: &mut String, report: &Report) {
    const SHOWN: usize = 16;
    if report.templates.is_empty() {
        return;
    }
    text.push('\n');
    line(text, &["of the mix", "requests", "successful", "p50", "p95", "p99"]);
    for row in report.templates.iter().take(SHOWN) {
        let name = clean(&format!("{} {}", row.method, row.path.as_deref().unwrap_or("(URL)")));
        let (requests, successful) = (row.requests.to_string(), row.successful.to_string());
        let figure = |f: fn(&Figures) -> Option<Nanos>| shown(row.response_ok_ns.as_ref().and_then(f));
        line(
            text,
            &[&name, &requests, &successful, &figure(|f| f.p50), &figure(|f| f.p95), &figure(|f| f.p99)],
        );
    }
    if report.templates.len() > SHOWN {
        let _ = writeln!(text, "… and {} more, in report.json", report.templates.len() - SHOWN);
    }
}

fn evidence(text: &mut String, report: &Report) {
    anatomy::anatomy(text, &report.evidence);
    closed_loop(text, "", report.evidence.closed_loop.as_ref());
}

fn closed_loop(text: &mut String, name: &str, closed: Option<&ClosedLoop>) {
    let Some(c) = closed else { return };
    let name = if name.is_empty() { String::new() } else { format!("{name}: ") };
    let _ = write!(text, "{name}N = {} connections, S = {}", c.clients, c.service_mean_ns);
    if let (Some(servers), Some(predicted), Some(residual)) = (c.servers, c.predicted_ns, c.p50_residual) {
        let _ = write!(
            text,
            ", c = {servers}: predicted R = {predicted}, measured p50 of all requests {} ({:+.2} %)",
            shown(c.response_p50_ns),
            100.0 * residual
        );
    }
    if let Some(effective) = c.effective_parallelism {
        let _ = write!(text, "; c_eff = N·S/R = {effective:.2}");
    }
    text.push('\n');
}

fn sla(text: &mut String, name: &str, sla: &SlaReport) {
    if sla.rules.is_empty() {
        return;
    }
    let word = |verdict| match verdict {
        SlaVerdict::Met => "MET",
        SlaVerdict::NotMet => "NOT MET",
        SlaVerdict::Inconclusive => "INCONCLUSIVE",
        SlaVerdict::NotEvaluated => "NOT EVALUATED",
    };
    let _ = writeln!(text, "{name}: {}", word(sla.verdict));
    for rule in &sla.rules {
        let _ = writeln!(text, "  {}: {} ({})", rule.rule, word(rule.verdict), rule.reason);
    }
}

fn logs(text: &mut String, logs: &[LogFile]) {
    for log in logs.iter().filter(|log| log.lost > 0 || log.error.is_some()) {
        let why = log.error.as_deref().unwrap_or("the writer could not keep up");
        let _ = writeln!(
            text,
            "LOG INCOMPLETE: {} rows are not in {} ({why}); the figures above have them all",
            log.lost, log.file
        );
    }
}

/// Text from outside must not steer the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
