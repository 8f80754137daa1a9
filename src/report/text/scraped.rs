//! What the target told of itself, in a few lines.

use std::fmt::Write;

use super::clean;
use crate::analyze::scraped::SeriesFigures;
use crate::facts::scraped::Kind;
use crate::report::Report;
use crate::report::scraped::ScrapedReport;

/// Series in the table.
const SHOWN: usize = 12;
/// Of a series' name.
const NAME: usize = 70;

pub(super) fn scraped(text: &mut String, report: &Report) {
    let Some(scraped) = &report.scraped else { return };
    let mut all: Vec<(&String, &SeriesFigures)> = scraped.figures.iter().collect();
    all.sort_by(|(a, left), (b, right)| interest(right).total_cmp(&interest(left)).then(a.cmp(b)));
    all.retain(|(_, figures)| interest(figures) > 0.0);
    text.push('\n');
    if !all.is_empty() {
        table(text, &all);
    }
    told(text, scraped, all.len());
}

/// The first of them.
fn table(text: &mut String, all: &[(&String, &SeriesFigures)]) {
    let _ = writeln!(
        text,
        "{:<10} {:>10} {:>10} {:>10} {:>10}  {:<14}  the target's own (of counters the rates)",
        "first", "last", "mean", "min", "max", "moves with p95"
    );
    for (name, figures) in all.iter().take(SHOWN) {
        let _ = writeln!(text, "{}  {}", row(figures), shortened(name));
    }
    if all.iter().any(|(_, figures)| shown(figures)) {
        let _ = writeln!(
            text,
            "moves with p95: rank correlation over slices of time, where chance would hardly reach it among so many; not a cause"
        );
    }
}

/// How often it was asked, and what is not in the table.
fn told(text: &mut String, scraped: &ScrapedReport, moved: usize) {
    let _ = write!(
        text,
        "scrape: {} answered {} of {} times",
        clean(&scraped.from),
        scraped.attempts - scraped.failures,
        scraped.attempts
    );
    if let Some(failure) = &scraped.failure {
        let _ = write!(text, " ({})", clean(failure));
    }
    let _ = write!(text, "; {} series, {moved} of them moved", scraped.figures.len());
    for (n, what) in [
        (scraped.dropped, "series found no room"),
        (scraped.left_out, "buckets and times of creation are left out"),
        (scraped.malformed, "lines are no metrics"),
    ] {
        if n > 0 {
            let _ = write!(text, "; {n} {what}");
        }
    }
    let _ = writeln!(text, "; all in report.json");
}

fn shown(figures: &SeriesFigures) -> bool {
    figures.moves_with_p95.is_some_and(|moves| moves.is_shown())
}

/// What moves with p95 first, then what moved the most: by its range over the greatest it was.
fn interest(figures: &SeriesFigures) -> f64 {
    let moves = figures.moves_with_p95.filter(|moves| moves.is_shown());
    let (Some(min), Some(max)) = (figures.min, figures.max) else { return 0.0 };
    let greatest = min.abs().max(max.abs());
    let range = if greatest > 0.0 { (max - min) / greatest } else { 0.0 };
    // a range is at most 2
    moves.map_or(range, |moves| 2.0 + moves.rank_correlation.abs())
}

fn row(figures: &SeriesFigures) -> String {
    let value = |value: Option<f64>| value.map_or("-".to_owned(), short);
    let rate = |rate: Option<f64>| match figures.kind {
        Kind::Counter if rate.is_some() => value(rate) + "/s",
        _ => value(rate),
    };
    let moves = figures.moves_with_p95.filter(|moves| moves.is_shown());
    let moves = moves.map_or(String::new(), |moves| format!("{:+.2}", moves.rank_correlation));
    let [first, last] = [figures.first, figures.last].map(short);
    let [mean, min, max] = [figures.mean, figures.min, figures.max].map(rate);
    format!("{first:<10} {last:>10} {mean:>10} {min:>10} {max:>10}  {moves:<14}")
}

fn shortened(name: &str) -> String {
    let name = clean(name);
    match name.char_indices().nth(NAME) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name,
    }
}

/// Four significant digits.
fn short(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e7).contains(&size) {
        return format!("{value:.2e}");
    }
    let before_point = if size >= 1.0 { size.log10().floor() as usize + 1 } else { 1 };
    let text = format!("{value:.*}", 4usize.saturating_sub(before_point));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (12.0, "12"),
            (0.12345, "0.123"),
            (1_234_567.0, "1234567"),
            (12.3456, "12.35"),
            (-3.5, "-3.5"),
            (1.5e9, "1.50e9"),
            (2.5e-5, "2.50e-5"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
