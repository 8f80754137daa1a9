//! What went beyond the limits of alerts: a line a rule.

use std::fmt::Write;

use super::clean;
use crate::facts::alerts::{Alert, Commands};
use crate::load::time::Nanos;
use crate::report::{Report, RoundReport};

/// The page's part; `name` is of the side, where there are several.
pub(super) fn alerts(text: &mut String, name: &str, report: &Report) {
    let rules = &report.plan.alerts.rules;
    if rules.is_empty() || report.rounds.is_empty() {
        return;
    }
    let of = if name.is_empty() { String::new() } else { format!(" of {}", clean(name)) };
    let hidden = not_evaluated(&report.rounds);
    let raised: Vec<String> = rules.iter().filter_map(|rule| raised(rule, &report.rounds)).collect();
    let is_blind = |rule: &&String| {
        let hidden = |round: &RoundReport| round.alerts.not_evaluated.iter().any(|not| not.rule == **rule);
        report.rounds.iter().all(hidden)
    };
    let blind = rules.iter().filter(is_blind).count();
    let among = match (rules.len(), blind) {
        (all, 0) => format!("{all} rule{}", if all == 1 { "" } else { "s" }),
        (all, _) => format!("{} of {all} rules (the others were not evaluated)", all - blind),
    };
    let _ = match raised.is_empty() {
        true if blind == rules.len() => writeln!(text, "alerts{of}: no rule could be evaluated"),
        true => writeln!(text, "alerts{of}: none among {among}"),
        false => writeln!(text, "alerts{of} among {among}; no exit code depends on them:"),
    };
    for line in raised {
        let _ = writeln!(text, "  {line}");
    }
    let left_out: u64 = report.rounds.iter().map(|round| round.alerts.left_out).sum();
    if left_out > 0 {
        let _ = writeln!(text, "  and {left_out} more, too many to keep");
    }
    for (why, rules) in by_reason(&hidden).into_iter().filter(|_| name.is_empty()) {
        let _ = writeln!(text, "  not evaluated: {} ({})", rules.join(", "), clean(why));
    }
    commands(text, &report.rounds);
}

/// `server.cpu>80% × 2, errors>10% × 1`; none where nothing was raised.
pub(in crate::report) fn in_short(report: &Report) -> Option<String> {
    let count = |rule: &String| of_rule(rule, &report.rounds).count();
    let counted = report.plan.alerts.rules.iter().map(|rule| (rule, count(rule)));
    let each: Vec<String> =
        counted.filter(|(_, n)| *n > 0).map(|(rule, n)| format!("{rule} × {n}")).collect();
    (!each.is_empty()).then(|| each.join(", "))
}

fn of_rule<'a>(
    rule: &'a str,
    rounds: &'a [RoundReport],
) -> impl Iterator<Item = (&'a RoundReport, &'a Alert)> {
    let each = rounds.iter().flat_map(|round| round.alerts.found.iter().map(move |alert| (round, alert)));
    each.filter(move |(_, alert)| alert.rule == rule)
}

/// One rule over all rounds; none where it raised nothing.
fn raised(rule: &str, rounds: &[RoundReport]) -> Option<String> {
    let (first_round, first) = of_rule(rule, rounds).next()?;
    let length = |(round, alert): (&RoundReport, &Alert)| {
        alert.end_ns.unwrap_or(round.wall_ns).saturating_sub(alert.start_ns)
    };
    let times = of_rule(rule, rounds).count();
    let total = of_rule(rule, rounds).map(length).fold(Nanos::ZERO, |sum, length| sum + length);
    let round = if rounds.len() > 1 { format!(" of round {}", first_round.round + 1) } else { String::new() };
    let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
    let mut line = format!("{rule}: {times}, {total} in all, first at {}{round}", first.start_ns);
    let far = |alert: &Alert| alert.value.map_or(f64::INFINITY, |value| (value - alert.limit).abs());
    let farthest = of_rule(rule, rounds).max_by(|(_, a), (_, b)| far(a).total_cmp(&far(b)))?.1;
    let _ = match (farthest.value, farthest.against_ns) {
        (None, _) => write!(line, ", the percentile fell among the unsuccessful"),
        (Some(value), Some(against)) => write!(line, ", up to {value:+.1} % on {against}"),
        (Some(value), None) => write!(line, ", at worst {}", shown(value, &farthest.unit)),
    };
    let requests = || of_rule(rule, rounds).filter_map(|(_, alert)| alert.requests.as_ref());
    let slow: u64 = requests().map(|requests| requests.slow).sum();
    let slowest = requests().filter_map(|r| r.slowest.first()).max_by_key(|slow| slow.response_ns);
    if let Some(slowest) = slowest {
        let one_in = requests().map(|requests| requests.one_in).max().unwrap_or(1);
        let kept = if one_in > 1 { format!(" of one in {one_in} that are kept") } else { String::new() };
        let _ = write!(
            line,
            "; under way: {slow} slow requests{kept}, the slowest {} ({})",
            slowest.id, slowest.response_ns
        );
    }
    Some(line)
}

fn shown(value: f64, unit: &str) -> String {
    match unit {
        "B" | "B/s" => format!("{:.1} Mi{unit}", value / f64::from(1 << 20)),
        "/s" => format!("{value:.1}/s"),
        _ => format!("{value:.1} {unit}").trim_end().to_owned(),
    }
}

/// Each rule and reason once.
fn not_evaluated(rounds: &[RoundReport]) -> Vec<(&str, &str)> {
    let mut each: Vec<(&str, &str)> = Vec::new();
    for hidden in rounds.iter().flat_map(|round| &round.alerts.not_evaluated) {
        let hidden = (hidden.rule.as_str(), hidden.why.as_str());
        if !each.contains(&hidden) {
            each.push(hidden);
        }
    }
    each
}

/// The rules that one reason holds for, together.
fn by_reason<'a>(hidden: &[(&'a str, &'a str)]) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for &(rule, why) in hidden {
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, rules)) => rules.push(rule),
            None => reasons.push((why, vec![rule])),
        }
    }
    reasons
}

fn commands(text: &mut String, rounds: &[RoundReport]) {
    let commands: Vec<&Commands> = rounds.iter().filter_map(|round| round.alerts.commands.as_ref()).collect();
    let sum = |of: fn(&Commands) -> u64| commands.iter().map(|one| of(one)).sum::<u64>();
    let (failed, untold) = (sum(|one| one.failed), sum(|one| one.untold));
    if failed > 0 {
        let how = commands.iter().flat_map(|one| &one.failures).next().map_or("", String::as_str);
        let told = failed + sum(|one| one.succeeded);
        let _ = writeln!(text, "  --on-alert: {failed} of {told} commands failed; the first {}", clean(how));
    }
    if untold > 0 {
        let _ =
            writeln!(text, "  --on-alert: of {untold} alerts no command was told, too many ran or waited");
    }
}
