//! Where the time went: the mean parts of groups of requests, as a table and as bars.

use std::fmt::Write;

use super::line;
use crate::analyze::attribution::{Evidence, Split};
use crate::load::time::Nanos;

/// Cells of a bar.
const BAR: usize = 60;
/// What each part is drawn with, in the order of [`Split::parts`].
const SHADES: [char; 8] = ['╱', '!', '>', '▒', '█', '-', '<', '?'];

/// Groups of one run: around the median, and the tail from four percentiles.
pub(super) fn anatomy(text: &mut String, evidence: &Evidence) {
    let tail = evidence.anatomy.iter().map(|group| (format!("from {}", group.from), &group.split));
    let groups: Vec<(String, &Split)> =
        evidence.median.iter().map(|split| ("p40–p60".to_owned(), split)).chain(tail).collect();
    if groups.is_empty() {
        text.push_str("\nwhere the time went: not evaluated (no request was successful)\n");
        return;
    }
    text.push('\n');
    table(text, &groups);
    // bars of nothing but the residual say nothing
    if groups.iter().any(|(_, split)| cells(split)[..SHADES.len() - 1].iter().any(|&cells| cells > 0)) {
        legend(text, &groups);
        for (name, split) in &groups {
            let _ = writeln!(text, "{name:<18} {} {}", bar(split), split.response_ns);
        }
    }
    unattributed(text, &groups);
}

/// Two targets: their medians and tails.
pub(super) fn side_by_side(text: &mut String, sides: &[(&str, &Evidence)]) {
    let groups: Vec<(String, &Split)> = sides
        .iter()
        .flat_map(|(name, evidence)| {
            let groups = [("p40–p60", &evidence.median), ("from p95", &evidence.tail)];
            groups.map(|(group, split)| (format!("{name} {group}"), split.as_ref()))
        })
        .filter_map(|(name, split)| Some((name, split?)))
        .collect();
    text.push('\n');
    table(text, &groups);
    unattributed(text, &groups);
}

/// Parts that no group has are left out of the table.
fn table(text: &mut String, groups: &[(String, &Split)]) {
    let present = |part: usize| groups.iter().any(|(_, split)| split.parts()[part].1 > Nanos::ZERO);
    let parts: Vec<usize> = (0..SHADES.len()).filter(|&part| present(part)).collect();
    let Some((_, first)) = groups.first() else { return };
    let names = parts.iter().map(|&part| first.parts()[part].0);
    line(text, &["mean parts", "requests", "response"].into_iter().chain(names).collect::<Vec<_>>());
    for (name, split) in groups {
        let times = parts.iter().map(|&part| split.parts()[part].1.to_string());
        let cells: Vec<String> = [name.clone(), split.requests.to_string(), split.response_ns.to_string()]
            .into_iter()
            .chain(times)
            .collect();
        line(text, &cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// What the bars are drawn with, of the parts that take at least one cell of one.
fn legend(text: &mut String, groups: &[(String, &Split)]) {
    let drawn = |part: usize| groups.iter().any(|(_, split)| cells(split)[part] > 0);
    let Some((_, first)) = groups.first() else { return };
    let shades: Vec<String> = (0..SHADES.len())
        .filter(|&part| drawn(part))
        .map(|part| format!("{} {}", SHADES[part], first.parts()[part].0))
        .collect();
    let _ = writeln!(text, "{:<18} {}", "as bars", shades.join("   "));
}

/// How many cells each part takes: together all of them, rounded so that none is off by one or more.
fn cells(split: &Split) -> [usize; 8] {
    let total: u64 = split.parts().iter().map(|(_, time)| time.0).sum();
    let mut before = 0;
    split.parts().map(|(_, time)| {
        let edge = |time: u64| (time as f64 / total.max(1) as f64 * BAR as f64).round() as usize;
        let from = edge(before);
        before += time.0;
        edge(before) - from
    })
}

fn bar(split: &Split) -> String {
    let runs = cells(split).into_iter().zip(SHADES);
    runs.flat_map(|(cells, shade)| std::iter::repeat_n(shade, cells)).collect()
}

/// Says of which groups more than 5 % is in no part, and what would show it.
fn unattributed(text: &mut String, groups: &[(String, &Split)]) {
    let over: Vec<String> = groups
        .iter()
        .filter(|(_, split)| split.unattributed)
        .map(|(name, split)| {
            let share = 100.0 * split.residual_ns.0 as f64 / split.response_ns.0.max(1) as f64;
            format!("{share:.0} % {name}")
        })
        .collect();
    if over.is_empty() {
        return;
    }
    let silent = groups.iter().all(|(_, split)| split.timed == 0);
    let blind = groups.iter().all(|(_, split)| split.transport_ns.is_none());
    let remedy = match (silent, blind) {
        (true, _) => "no Server-Timing in the answers, so the server's part is in it",
        (_, true) => "--stamps rxtx tells the network, the server's writing and the client's wake-up apart",
        _ => "no stamp shows it",
    };
    let _ = writeln!(text, "unattributed: {} ({remedy})", over.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_all_its_cells_and_each_part_its_share() {
        let split = Split {
            response_ns: Nanos(1_000),
            queue_ns: Some(Nanos(500)),
            service_ns: Some(Nanos(333)),
            residual_ns: Nanos(167),
            ..Split::default()
        };
        let drawn = bar(&split);
        assert_eq!(drawn, "▒".repeat(30) + &"█".repeat(20) + &"?".repeat(10));
        assert_eq!(bar(&Split::default()).chars().count(), 0);
    }
}
