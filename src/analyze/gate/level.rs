//! Rules about what the system monitor saw: `server.cpu<70%`, `server.rss<=500MiB`, `server.run_delay.p95<20%`. Which
//! metrics there are, and in which units: `facts::system`.

use std::collections::BTreeMap;
use std::fmt;

use super::rule::{Fault, Limit, decimal, scaled};
use super::{Measured, Reading};
use crate::facts::system::{self, METRICS, SystemFigures, Unit};

/// Decimal places that a limit has.
const DIGITS: usize = 3;
/// A limit is at most so many thousandths.
const MOST: u64 = 1_000_000_000_000_000_000;
/// Units of bytes, the largest first.
const BYTES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A metric of the monitor and which figure of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SystemMetric {
    /// Its place in [`METRICS`].
    at: usize,
    figure: Figure,
    /// The figure was written.
    named: bool,
}

/// A figure of a metric over the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Figure {
    Mean,
    P95,
    Max,
}

const FIGURES: [(&str, Figure); 3] = [("mean", Figure::Mean), ("p95", Figure::P95), ("max", Figure::Max)];

impl SystemMetric {
    /// From `server.cpu` or `server.cpu.p95`. Without a figure, what is a level is judged by its greatest value, and what is a
    /// rate or a share of time by its mean.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let figure = text
            .rsplit_once('.')
            .and_then(|(name, figure)| Some((name, FIGURES.iter().find(|(known, _)| *known == figure)?.1)));
        let name = figure.map_or(text, |(name, _)| name);
        let at = METRICS.iter().position(|metric| metric.name == name);
        let at = at.ok_or_else(|| Fault::SystemMetric(text.to_owned()))?;
        let default = if METRICS[at].level { Figure::Max } else { Figure::Mean };
        let named = figure.is_some();
        Ok(Self { at, figure: figure.map_or(default, |(_, figure)| figure), named })
    }

    /// As in `server.cpu`.
    pub fn name(self) -> &'static str {
        self.metric().name
    }

    /// It says which figure over the run is meant, as in `server.cpu.p95`.
    pub const fn names_a_figure(self) -> bool {
        self.named
    }

    fn metric(self) -> &'static system::Metric {
        &METRICS[self.at]
    }

    /// What a limit of it looks like.
    pub(super) fn instead(self) -> &'static str {
        match self.metric().unit {
            Unit::Percent => "percent, as in 70%",
            Unit::Bytes => "bytes, as in 500MiB (B, KiB, MiB, GiB)",
            Unit::BytesPerS => "bytes per second, as in 10MiB/s",
            Unit::Count => "a number, as in 100",
            Unit::PerS => "a rate, as in 500/s",
            Unit::Micros => "microseconds, as in 250us",
        }
    }

    /// The limit of a number and its unit.
    pub(super) fn limit(self, number: &str, unit: &str) -> Result<Limit, Fault> {
        let wrong = || Fault::Unit { found: unit.to_owned(), instead: self.instead() };
        let kind = self.metric().unit;
        let plain = match kind {
            Unit::Percent => "%",
            Unit::Count => "",
            Unit::PerS => "/s",
            Unit::Micros => "us",
            Unit::Bytes | Unit::BytesPerS => {
                let bytes = if kind == Unit::Bytes { Some(unit) } else { unit.strip_suffix("/s") };
                let size = bytes.and_then(|bytes| BYTES.iter().find(|(name, _)| *name == bytes));
                let (_, size) = size.ok_or_else(wrong)?;
                let thousandths = scaled(number, DIGITS, MOST / size)? * size;
                return Ok(Limit::Level { thousandths, unit: kind });
            }
        };
        if unit != plain {
            return Err(wrong());
        }
        Ok(Limit::Level { thousandths: scaled(number, DIGITS, MOST)?, unit: kind })
    }
}

impl fmt::Display for SystemMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric().name)?;
        let figure = FIGURES.iter().find(|(_, figure)| self.named && *figure == self.figure);
        figure.map_or(Ok(()), |(name, _)| write!(f, ".{name}"))
    }
}

/// A limit as it is written.
pub(super) fn limit_text(thousandths: u64, unit: Unit) -> String {
    let per_s = if matches!(unit, Unit::BytesPerS | Unit::PerS) { "/s" } else { "" };
    match unit {
        Unit::Bytes | Unit::BytesPerS => {
            let fits = |size: u64| thousandths > 0 && thousandths.is_multiple_of(size * 1_000);
            let (name, size) = BYTES.into_iter().find(|(_, size)| fits(*size)).unwrap_or(("B", 1));
            format!("{}{name}{per_s}", decimal(thousandths / size, DIGITS))
        }
        Unit::Percent => format!("{}%", decimal(thousandths, DIGITS)),
        Unit::Micros => format!("{}us", decimal(thousandths, DIGITS)),
        Unit::Count | Unit::PerS => format!("{}{per_s}", decimal(thousandths, DIGITS)),
    }
}

/// The unit as reports name it.
pub(super) fn unit_text(unit: Unit) -> &'static str {
    match unit {
        Unit::Percent => "%",
        Unit::Bytes => "B",
        Unit::BytesPerS => "B/s",
        Unit::Count => "",
        Unit::PerS => "/s",
        Unit::Micros => "us",
    }
}

/// What the monitor saw of it. What it did not see decides nothing.
pub(super) fn read(metric: SystemMetric, thousandths: u64, measured: &Measured<'_>) -> Reading {
    let figures: Option<&BTreeMap<String, SystemFigures>> = measured.system;
    let Some(figures) = figures else { return Reading::Unknown("the system monitor was off") };
    let Some(found) = figures.get(metric.metric().name) else {
        return Reading::Unknown("it was not visible to the system monitor; the report says why");
    };
    let (name, value) = match metric.figure {
        Figure::Mean => ("mean", found.mean),
        Figure::P95 => ("p95", found.p95),
        Figure::Max => ("max", found.max),
    };
    Reading::Figure {
        value,
        to_limit: (value * 1e3).total_cmp(&(thousandths as f64)),
        text: format!("{name} of {} is {value:.2}{}", metric.metric().name, unit_text(found.unit)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Rule, SlaVerdict, evaluate};
    use super::*;
    use crate::analyze::summary::{Responses, measured};
    use crate::record::Tally;

    #[test]
    fn rules_about_the_system_are_read_and_written() {
        for (text, canonical) in [
            ("server.cpu < 70 %", "server.cpu<70%"),
            ("server.cpu.p95<=70.5%", "server.cpu.p95<=70.5%"),
            ("server.rss<=500MiB", "server.rss<=500MiB"),
            ("server.rss<=1.5KiB", "server.rss<=1536B"),
            ("server.rss<1024MiB", "server.rss<1GiB"),
            ("machine.disk_written<=10MiB/s", "machine.disk_written<=10MiB/s"),
            ("server.fds.max<100", "server.fds.max<100"),
            ("machine.listen_drops<=0/s", "machine.listen_drops<=0/s"),
            ("client.rtt<250us", "client.rtt<250us"),
            ("server.rss>=0B", "server.rss>=0B"),
        ] {
            let rule: Rule = text.parse().unwrap();
            assert_eq!(rule.to_string(), canonical);
            assert_eq!(canonical.parse::<Rule>().unwrap(), rule);
        }
        for (text, says) in [
            ("server.cpi<70%", "no metric of the system monitor"),
            ("server.cpu.p42<70%", "no metric of the system monitor"),
            ("server.cpu<70", "percent, as in 70%"),
            ("server.rss<=5MB", "500MiB"),
            ("machine.disk_read<5MiB", "10MiB/s"),
            ("server.cpu<0.0001%", "too fine"),
            ("server.rss<9999999999GiB", "too large"),
        ] {
            let error = text.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn what_was_not_visible_decides_nothing() {
        let seen = SystemFigures { unit: Unit::Percent, mean: 70.0, p95: 90.0, max: 99.0 };
        let rss = SystemFigures { unit: Unit::Bytes, mean: 1e6, p95: 2e6, max: 3e6 };
        let figures = BTreeMap::from([("server.cpu".to_owned(), seen), ("server.rss".to_owned(), rss)]);
        let verdict = |text: &str, system| {
            let (rules, tally) = ([text.parse::<Rule>().unwrap()], Tally::default());
            let responses = Responses(&tally);
            let measured = Measured { system, scheduled: 1, ..measured(&tally, &responses) };
            evaluate(&rules, &measured, Ok(())).verdict
        };
        use SlaVerdict::{Inconclusive, Met, NotMet};
        for (rule, wanted) in [
            ("server.cpu<=70%", Met),
            ("server.cpu<70%", NotMet),
            ("server.cpu.p95<=90%", Met),
            ("server.cpu.max<99%", NotMet),
            ("server.rss<2MiB", NotMet),
            ("server.rss.mean<2MiB", Met),
            ("server.throttled<1%", Inconclusive),
        ] {
            assert_eq!(verdict(rule, Some(&figures)), wanted, "{rule}");
        }
        assert_eq!(verdict("server.cpu<70%", None), Inconclusive);
    }
}
