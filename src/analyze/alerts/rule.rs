//! The grammar of alert rules. Most are rules of the gate read the other way round: there the condition must hold, here it
//! raises the alert. Two forms are of alerts alone: `p95>+50%` and `capacity>90%`.

use std::fmt;
use std::str::FromStr;

use super::watch::Hold;
use crate::analyze::gate::{BadRule, Metric, Op, Rule};
use crate::analyze::stats::Percentile;
use crate::load::time::Nanos;

/// The rules where none is given.
pub const DEFAULTS: [&str; 5] =
    ["server.cpu>80%", "machine.memory>85%", "errors>10%", "p95>+50%", "capacity>90%"];

/// So long a condition must hold, or not, before an alert begins, or ends: one sample of 100 ms is no news.
const HOLD: Nanos = Nanos::from_millis(300);
/// A rise compares two samples, so that it must be seen in so many slices in a row, however long they are.
const RISE_SLICES: u32 = 3;

/// What raises an alert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AlertRule {
    /// A figure beyond a limit.
    Limit(Rule),
    /// A percentile that rose by more than so many percent, against the run's own start or a baseline.
    Rise {
        /// Which.
        percentile: Percentile,
        /// Above 0.
        percent: f64,
    },
    /// Successful requests per second, in percent of what the server can do by its own service times.
    Capacity {
        /// Of the capacity.
        percent: f64,
    },
}

/// A text that is no alert rule, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAlert {
    /// Neither a rule of the gate.
    #[error(
        "`{}`: {}. An alert is a condition like server.cpu>80%, errors>10%, p95>800ms, p95>+50% (against the run's own \
         start, or --against) or capacity>90%; or `default` or `none`",
        .0.text, .0.fault
    )]
    Rule(BadRule),
    /// A rise or a capacity that is written in another way.
    #[error("`{0}`: write a rise as in p95>+50%, and what is used of the capacity as in capacity>90%")]
    Percent(String),
    /// A metric that only a whole run has.
    #[error("`{0}`: slices of time do not have timeouts apart; write errors>…")]
    Timeouts(String),
    /// `server.cpu.p95`.
    #[error("`{0}`: an alert looks at each sample; leave .mean, .p95 or .max out")]
    Figure(String),
    /// `none` beside others.
    #[error("`none` turns all alerts off, and beside it stands `{0}`: leave one out")]
    NoneBeside(String),
}

/// The rules that these texts choose: those of [`DEFAULTS`] for no text and for `default`, none for `none`. Each once.
pub fn chosen(texts: &[String]) -> Result<Vec<AlertRule>, BadAlert> {
    if let [only] = texts
        && only.trim() == "none"
    {
        return Ok(Vec::new());
    }
    let mut rules: Vec<AlertRule> = Vec::new();
    let nothing_said = ["default".to_owned()];
    for text in if texts.is_empty() { &nothing_said[..] } else { texts } {
        let more: Vec<AlertRule> = match text.trim() {
            "none" => {
                let other = texts.iter().find(|other| other.trim() != "none").unwrap_or(text);
                return Err(BadAlert::NoneBeside(other.clone()));
            }
            "default" => DEFAULTS.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
            rule => vec![rule.parse()?],
        };
        for rule in more {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    Ok(rules)
}

impl AlertRule {
    /// Its limit as a number for reports, and the unit.
    pub(super) fn limit(&self) -> (f64, &'static str) {
        match self {
            Self::Limit(rule) => rule.limit().figure(),
            Self::Rise { percent, .. } | Self::Capacity { percent } => (*percent, "%"),
        }
    }

    /// The condition is: figure `op` limit.
    pub(super) fn op(&self) -> Op {
        match self {
            Self::Limit(rule) => rule.op(),
            Self::Rise { .. } | Self::Capacity { .. } => Op::Above,
        }
    }

    pub(super) fn hold(&self) -> Hold {
        let observations = if matches!(self, Self::Rise { .. }) { RISE_SLICES } else { 1 };
        Hold { time: HOLD, observations }
    }

    /// The metric of the system monitor that it is about.
    pub(super) fn sampled(&self) -> Option<&'static str> {
        match self {
            Self::Limit(rule) => match rule.metric() {
                Metric::System(metric) => Some(metric.name()),
                _ => None,
            },
            _ => None,
        }
    }

    /// The percentile whose rise it watches.
    pub(super) fn rise_of(&self) -> Option<Percentile> {
        if let Self::Rise { percentile, .. } = self { Some(*percentile) } else { None }
    }
}

impl FromStr for AlertRule {
    type Err = BadAlert;
    fn from_str(text: &str) -> Result<Self, BadAlert> {
        let text = text.trim();
        let wrong = || BadAlert::Percent(text.to_owned());
        let above = text.split_once('>').map(|(metric, limit)| (metric.trim(), limit.trim()));
        match above {
            Some(("capacity", limit)) => {
                return Ok(Self::Capacity { percent: percent(limit).ok_or_else(wrong)? });
            }
            Some((metric, limit)) if limit.starts_with(['+', '-']) => {
                let percent = limit.strip_prefix('+').and_then(percent).ok_or_else(wrong)?;
                let percentile = metric.parse().map_err(|_| wrong())?;
                return Ok(Self::Rise { percentile, percent });
            }
            _ => {}
        }
        let rule: Rule = text.parse().map_err(BadAlert::Rule)?;
        match rule.metric() {
            Metric::Timeouts => Err(BadAlert::Timeouts(text.to_owned())),
            Metric::System(metric) if metric.names_a_figure() => Err(BadAlert::Figure(text.to_owned())),
            _ => Ok(Self::Limit(rule)),
        }
    }
}

/// `90%` as 90; above 0, and no more than a hundredfold.
fn percent(text: &str) -> Option<f64> {
    let number = text.trim().strip_suffix('%')?.trim_end();
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    number.parse().ok().filter(|&percent: &f64| plain && percent > 0.0 && percent <= 10_000.0)
}

impl fmt::Display for AlertRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(rule) => rule.fmt(f),
            Self::Rise { percentile, percent } => f.pad(&format!("{percentile}>+{percent}%")),
            Self::Capacity { percent } => f.pad(&format!("capacity>{percent}%")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(rules: &[&str]) -> Vec<String> {
        rules.iter().map(|&rule| rule.to_owned()).collect()
    }

    fn named(rules: &[&str]) -> Vec<String> {
        chosen(&texts(rules)).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_are_read_and_written() {
        for (text, canonical) in [
            (" server.cpu > 80% ", "server.cpu>80%"),
            ("server.rss>=1536MiB", "server.rss>=1536MiB"),
            ("availability<99%", "availability<99%"),
            ("errors>5", "errors>5"),
            ("p99>0.8s", "p99>800ms"),
            ("throughput<100/s", "throughput<100/s"),
            ("p95 > +50%", "p95>+50%"),
            ("p99.9>+12.5%", "p99.9>+12.5%"),
            ("capacity > 90 %", "capacity>90%"),
        ] {
            let rule: AlertRule = text.parse().unwrap();
            assert_eq!(rule.to_string(), canonical);
            assert_eq!(canonical.parse::<AlertRule>().unwrap(), rule);
        }
        for (text, says) in [
            ("nonsense", "no comparison"),
            ("nonsense>5%", "`nonsense` is no metric"),
            ("server.cpi>5%", "no metric of the system monitor"),
            ("server.cpu.p95>5%", "leave .mean, .p95 or .max out"),
            ("server.cpu>80", "percent, as in 70%"),
            ("timeouts>1%", "write errors"),
            ("p95>-5%", "p95>+50%"),
            ("p95>+0%", "p95>+50%"),
            ("mean>+50%", "p95>+50%"),
            ("p95>+50", "p95>+50%"),
            ("capacity>500/s", "capacity>90%"),
            ("capacity>=90%", "capacity>90%"),
            ("capacity<90%", "`capacity` is no metric"),
            ("", "empty"),
        ] {
            let error = text.parse::<AlertRule>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn none_and_default_are_no_rules_but_choices() {
        assert_eq!(named(&[]), DEFAULTS);
        assert_eq!(named(&["none"]), [""; 0]);
        assert_eq!(named(&["server.cpu>50%"]), ["server.cpu>50%"]);
        assert_eq!(
            named(&["server.cpu>50%", "default", "errors > 10%"])[..2],
            ["server.cpu>50%", "server.cpu>80%"]
        );
        assert_eq!(named(&["server.cpu>50%", "default", "errors > 10%"]).len(), 6, "each once");
        let error = chosen(&texts(&["none", "errors>1%"])).unwrap_err().to_string();
        assert!(error.contains("errors>1%"), "{error}");
        // what a plan holds is canonical, and reads as the same rules
        let canonical = named(&[]);
        assert_eq!(chosen(&canonical).unwrap(), chosen(&[]).unwrap());
    }
}
