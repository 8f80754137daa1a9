//! What the instrument says of itself: engine, clock, loop, and its verdict.

use std::fmt::Write;

use super::{clean, shown};
use crate::analyze::validity::{About, Level, Validity, Verdict};
use crate::load::time::Nanos;
use crate::report::{Lateness, Report, ThreadRow};

/// What ran, by the account of the first thread (all have the same kernel), and the worst of all threads.
pub(super) fn engine(text: &mut String, report: &Report) {
    let all = || report.rounds.iter().flat_map(|round| &round.threads).map(|thread| &thread.engine);
    let Some(first) = all().find(|account| !account.engine.is_empty()) else { return };
    let _ = write!(text, "engine: {} ({})", first.engine, first.features.join(", "));
    let uncertainty = all().map(|account| account.issue_uncertainty_max_ns).max().unwrap_or_default();
    if uncertainty > Nanos::ZERO {
        let _ = write!(text, "; a send may have left up to {uncertainty} after its stamp");
    }
    let overflows: u64 = all().map(|account| account.overflows).sum();
    if overflows > 0 {
        let _ = write!(text, "; completions waited for room {overflows} times");
    }
    text.push('\n');
    if !first.missing.is_empty() {
        let _ = writeln!(text, "  not used: {}", first.missing.join("; "));
    }
}

/// The worst of all threads and rounds, in two lines.
pub(super) fn instrument(text: &mut String, report: &Report) {
    let threads: Vec<&ThreadRow> = report.rounds.iter().flat_map(|round| &round.threads).collect();
    let Some(first) = threads.iter().max_by_key(|t| t.clock.read_ns) else { return };
    let clock = &first.clock;
    let _ = write!(text, "clock: {}", if clock.source.is_empty() { "unknown" } else { &clock.source });
    if let Some(why) = &clock.why_not_tsc {
        let _ = write!(text, " ({})", clean(why));
    }
    if let Some(hz) = clock.frequency_hz {
        let _ = write!(text, " at {:.3} MHz", hz as f64 / 1e6);
    }
    let _ = write!(text, ", {} a read, resolution {}", clock.read_ns, clock.resolution_ns);
    if let Some(worst) = threads.iter().filter_map(|t| t.clock.worst_residual_ns).max() {
        let anchors: u64 = threads.iter().map(|t| t.clock.anchors).sum();
        let off: u64 = threads.iter().map(|t| t.clock.anchors_off).sum();
        let _ = write!(text, ", {anchors} anchors, worst residual {worst}");
        if off > 0 {
            let _ = write!(text, " ({off} beyond 5 us)");
        }
    }
    let share = |t: &&ThreadRow| 100.0 * t.busy_ns.0 as f64 / t.wall_ns.0.max(1) as f64;
    let busiest = threads.iter().map(share).fold(0.0, f64::max);
    let of = |each: fn(&ThreadRow) -> Lateness| {
        let all = threads.iter().map(|t| each(t));
        all.fold((0, Nanos::ZERO), |(n, longest), l| (n + l.count, longest.max(l.longest_ns)))
    };
    let (hiccups, longest) = of(|t| t.hiccups);
    let (sleeps, latest) = of(|t| t.oversleeps);
    let _ = write!(text, "\nloop: busy {busiest:.1} %, hiccups {hiccups} (longest {longest})");
    if sleeps > 0 {
        let _ = write!(text, ", timed sleeps {sleeps} (latest by {latest})");
    }
    if report.arrival_gap_ns.count > 0 {
        let (p99, max) = (shown(report.arrival_gap_ns.p99), shown(report.arrival_gap_ns.max));
        let _ = write!(text, ", gaps off the plan by p99 {p99}, max {max}");
    }
    if let Some(n) = threads.iter().map(|t| t.allocations).sum::<Option<u64>>() {
        let _ = write!(text, ", allocations {n}");
    }
    helpers(text, report);
    text.push('\n');
}

/// What our other threads took of whose processors, all rounds together.
fn helpers(text: &mut String, report: &Report) {
    let all = || report.rounds.iter().flat_map(|round| &round.helpers);
    let (Some(first), Some(taken)) =
        (all().next(), all().map(|helper| helper.times.on_cpu_ns).sum::<Option<u64>>())
    else {
        return;
    };
    let whose = match &report.plan.client.helpers {
        helpers if helpers.spare => "spare",
        _ if first.cpus.iter().any(|cpu| report.plan.client.cpus.contains(cpu)) => "the client's",
        _ => "the server's",
    };
    let _ = write!(text, ", helpers {} of {whose} processors", Nanos(taken));
}

pub(super) fn validity(text: &mut String, name: &str, validity: &Validity) {
    let verdict = match validity.verdict {
        Verdict::Valid => "VALID",
        Verdict::Suspect => "SUSPECT",
        Verdict::Invalid => "INVALID",
    };
    let blind: Vec<&str> =
        validity.checks.iter().filter(|c| c.level == Level::NotEvaluated).map(|c| c.rule.as_str()).collect();
    let blind =
        if blind.is_empty() { String::new() } else { format!(" (not visible: {})", blind.join(", ")) };
    let _ = writeln!(text, "{name}: {verdict}{blind}");
    for finding in &validity.findings {
        let limit = match (finding.level, finding.invalid_above) {
            (Level::Invalid, Some(limit)) => limit,
            _ => finding.suspect_above,
        };
        let whom = if finding.about == About::Instrument { "instrument" } else { "target" };
        let level = if finding.level == Level::Invalid { "INVALID" } else { "SUSPECT" };
        let _ = writeln!(
            text,
            "  {level} {} ({whom}): {:.2} > {limit} {}; {}",
            finding.rule,
            finding.figure.unwrap_or_default(),
            finding.unit,
            finding.meaning
        );
    }
}
