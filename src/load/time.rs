//! Time as the instrument counts it: whole nanoseconds in one newtype.
//!
//! A `Nanos` is either an instant (nanoseconds of CLOCK_MONOTONIC) or a length of time; which one is
//! said by the name of the variable. There is no floating point inside: a double has 53 bits and
//! starts to round after 104 days of nanoseconds. Conversions to milliseconds exist for text only.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Nanoseconds: an instant of CLOCK_MONOTONIC or a length of time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// No time at all; as an instant, before everything.
    pub const ZERO: Self = Self(0);
    /// Later than every instant: "no deadline".
    pub const MAX: Self = Self(u64::MAX);

    /// So many microseconds.
    pub const fn from_micros(us: u64) -> Self {
        Self(us * 1_000)
    }

    /// So many milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }

    /// So many seconds.
    pub const fn from_secs(s: u64) -> Self {
        Self(s * 1_000_000_000)
    }

    /// `self - other`, or zero where `other` is later.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self + other`, or [`Nanos::MAX`] where that overflows (so MAX stays "no deadline").
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Milliseconds, for text and CSV only.
    pub fn as_ms(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Exact text in the longest unit that fits: `800ms`, `2.552s`. What was parsed from a text comes back.
    pub fn exact(self) -> String {
        let (unit_ns, unit) = match self.0 {
            ns if ns < 1_000 => (1, "ns"),
            ns if ns < 1_000_000 => (1_000, "us"),
            ns if ns < 1_000_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        let (whole, rest) = (self.0 / unit_ns, self.0 % unit_ns);
        if rest == 0 {
            return format!("{whole}{unit}");
        }
        let digits = unit_ns.ilog10() as usize;
        format!("{whole}.{}{unit}", format!("{rest:0digits$}").trim_end_matches('0'))
    }

    /// Seconds, for rates and text only.
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl Add for Nanos {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Nanos {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

/// Panics where the result would be negative: an instant order that is broken is a bug, not a zero.
impl Sub for Nanos {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.checked_sub(other.0).expect("time ran backwards"))
    }
}

/// Human text with the unit that fits: `812ns`, `23.4us`, `998.21ms`, `12.5s`.
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            ns if ns < 1_000 => return f.pad(&format!("{ns}ns")),
            ns if ns < 1_000_000 => (ns as f64 / 1e3, "us"),
            ns if ns < 10_000_000_000 => (ns as f64 / 1e6, "ms"),
            ns => (ns as f64 / 1e9, "s"),
        };
        let digits = if value < 100.0 { 2 } else { 1 };
        f.pad(&format!("{value:.digits$}{unit}"))
    }
}

impl fmt::Debug for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ns", self.0)
    }
}

/// What was wrong with a duration text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write a number and a unit, as in 250us, 12.5ms, 30s, 5m, 1h")]
pub struct BadDuration(pub String);

/// Parses `800ms`, `12.5us`, `2s`, `5m`, `1h`, `40ns`; exact decimal arithmetic, at most 1 000 hours.
impl FromStr for Nanos {
    type Err = BadDuration;
    fn from_str(text: &str) -> Result<Self, BadDuration> {
        parse_duration(text.trim()).ok_or_else(|| BadDuration(text.to_owned()))
    }
}

fn parse_duration(text: &str) -> Option<Nanos> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let unit_ns: u128 = match unit.trim() {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || whole.len() > 15 || fraction.len() > 12 {
        return None;
    }
    let scale = 10u128.pow(fraction.len() as u32);
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let ns = digits * unit_ns / scale;
    let limit = 1_000 * 3_600_000_000_000u128;
    (ns <= limit).then_some(Nanos(ns as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_exactly() {
        for (text, ns) in [
            ("800ms", 800_000_000),
            ("127.6ms", 127_600_000),
            ("0s", 0),
            ("1.5us", 1_500),
            ("40ns", 40),
            ("2m", 120_000_000_000),
            ("1h", 3_600_000_000_000),
            ("0.000000001s", 1),
        ] {
            assert_eq!(text.parse(), Ok(Nanos(ns)), "{text}");
        }
    }

    #[test]
    fn wrong_durations_are_refused() {
        for text in ["", "ms", "5", "-5ms", "5 parsecs", "1.2.3s", ".5s", "1e3s", "2000h", "5msx", "∞s"] {
            assert!(text.parse::<Nanos>().is_err(), "{text}");
        }
    }

    #[test]
    fn text_has_the_unit_that_fits() {
        let shown = |ns| Nanos(ns).to_string();
        assert_eq!(shown(812), "812ns");
        assert_eq!(shown(23_400), "23.40us");
        assert_eq!(shown(998_210_000), "998.2ms");
        assert_eq!(shown(12_500_000_000), "12.50s");
    }

    #[test]
    fn exact_text_loses_nothing() {
        for text in ["0ns", "3s", "2.552s", "127.6ms", "999.999999ms", "1.5us", "40ns", "1.000000001s"] {
            assert_eq!(text.parse::<Nanos>().unwrap().exact(), text);
        }
    }

    #[test]
    fn no_deadline_stays_no_deadline() {
        assert_eq!(Nanos::MAX.saturating_add(Nanos(1)), Nanos::MAX);
        assert_eq!(Nanos(3).saturating_sub(Nanos(5)), Nanos::ZERO);
    }
}
