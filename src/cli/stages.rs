//! Which load the flags ask for: the syntax of `--stages`, and what contradicts itself.

use crate::load::schedule::{Arrivals, Extent, Load, Rate, RateAt, STAGE_RATE_MAX, STAGE_TIME_MAX, UsersAt};
use crate::load::time::Nanos;
use crate::preset::Preset;

use super::values::parse_rate;
use super::{CliError, LoadArgs, usage};

/// `--arrivals`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ArrivalsArg {
    /// Evenly.
    Constant,
    /// By chance: a Poisson process.
    Poisson,
}

impl From<ArrivalsArg> for Arrivals {
    fn from(arg: ArrivalsArg) -> Self {
        match arg {
            ArrivalsArg::Constant => Self::Constant,
            ArrivalsArg::Poisson => Self::Poisson,
        }
    }
}

/// `--stages`: points between which the rate, or the number of users, is linear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stages {
    /// Of an open loop.
    Rate(Vec<RateAt>),
    /// Of a closed loop.
    Users(Vec<UsersAt>),
}

/// Points that one could ever need.
const POINTS_MAX: usize = 10_000;
const SYNTAX: &str = "write points in time, as in '0s:100/s,30s:1000/s' (rate) or '0s:10c,30s:100c' (users)";

pub(super) fn parse_stages(text: &str) -> Result<Stages, String> {
    let (mut rates, mut users) = (Vec::new(), Vec::new());
    let mut times: Vec<Nanos> = Vec::new();
    for point in text.split(',').map(str::trim) {
        let (at, value) = point.split_once(':').ok_or_else(|| format!("`{point}`: {SYNTAX}"))?;
        let at: Nanos = at.parse().map_err(|error| format!("`{point}`: {error}"))?;
        match value.trim().strip_suffix('c') {
            Some(number) => {
                let users_then =
                    number.parse().map_err(|_| format!("`{point}`: a number of users is written 10c"));
                users.push(UsersAt { at, users: users_then? });
            }
            None if value.trim().ends_with("/s") => {
                rates.push(RateAt { at, rate: stage_rate(point, value)? });
            }
            None => return Err(format!("`{point}` has no unit: {SYNTAX}")),
        }
        times.push(at);
    }
    if !rates.is_empty() && !users.is_empty() {
        return Err(
            "rates (/s) and users (c) cannot be mixed: an open loop has a rate, a closed loop has users"
                .to_owned(),
        );
    }
    check_times(&times)?;
    let idle =
        rates.iter().all(|point| point.rate.milli_per_s == 0) && users.iter().all(|point| point.users == 0);
    if idle {
        return Err("stages of nothing but zeros send nothing".to_owned());
    }
    Ok(if users.is_empty() { Stages::Rate(rates) } else { Stages::Users(users) })
}

fn stage_rate(point: &str, value: &str) -> Result<Rate, String> {
    let digits = value.trim().trim_end_matches("/s").trim();
    let zero = !digits.is_empty() && digits.bytes().all(|b| b == b'0' || b == b'.');
    let rate = if zero { Rate { milli_per_s: 0 } } else { parse_rate(value)? };
    if rate.milli_per_s > STAGE_RATE_MAX.milli_per_s {
        return Err(format!("`{point}`: in stages at most {}/s", STAGE_RATE_MAX.milli_per_s / 1_000));
    }
    Ok(rate)
}

fn check_times(times: &[Nanos]) -> Result<(), String> {
    if times.len() < 2 || times.len() > POINTS_MAX {
        return Err(format!(
            "{} points: from 2 to {POINTS_MAX}, the last says when the load ends",
            times.len()
        ));
    }
    if times[0] != Nanos::ZERO {
        return Err(format!("the first point is at {}: begin at 0s", times[0].exact()));
    }
    if times.last() == Some(&Nanos::ZERO) {
        return Err("all points are at 0s: the last says when the load ends".to_owned());
    }
    for pair in times.windows(2) {
        if pair[1] < pair[0] {
            let (late, early) = (pair[0].exact(), pair[1].exact());
            return Err(format!("{early} comes after {late}: write points in the order of time"));
        }
        if pair[1] - pair[0] > STAGE_TIME_MAX {
            return Err("from one point to the next at most 24h".to_owned());
        }
    }
    match times.windows(3).find(|three| three[0] == three[2]) {
        Some(three) => Err(format!("three points at {}: two are a step", three[0].exact())),
        None => Ok(()),
    }
}

impl LoadArgs {
    /// The load, if the flags agree.
    pub(super) fn offered(&self) -> Result<Load, CliError> {
        let asked = [
            ("--rate", self.rate.is_some()),
            ("--stages", self.stages.is_some()),
            ("--replay", self.replay.is_some()),
        ];
        let asked: Vec<&str> = asked.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect();
        if let [one, other, ..] = asked[..] {
            return usage(format!("{one} and {other} each say when requests are due: give one of them"));
        }
        let arrivals = self.arrivals.map_or(Arrivals::Constant, Into::into);
        let think = self.think.unwrap_or(Nanos::ZERO);
        let load = match (&self.rate, &self.stages, &self.replay) {
            (Some(rate), ..) if arrivals == Arrivals::Poisson => Load::Poisson { rate: *rate },
            (Some(rate), ..) => Load::Constant { rate: *rate },
            (_, Some(Stages::Rate(stages)), _) => Load::Stages { arrivals, stages: stages.clone() },
            (_, Some(Stages::Users(stages)), _) => Load::Users { think, stages: stages.clone() },
            (.., Some(file)) => Load::Replay { file: file.clone(), rows: 0, digest: String::new() },
            _ => Load::Closed { think },
        };
        let paced = matches!(load, Load::Constant { .. } | Load::Poisson { .. } | Load::Stages { .. });
        if self.arrivals.is_some() && !paced {
            return usage(
                "--arrivals says how requests follow from a rate: give --rate, or --stages of rates",
            );
        }
        if self.think.is_some() && load.think().is_none() {
            return usage(format!(
                "--think belongs to the closed loop and {} to the open loop: give one of them",
                asked.first().unwrap_or(&"--rate")
            ));
        }
        self.refuse_beside_stages(&load)?;
        self.check_warmup(&load)?;
        Ok(load)
    }

    fn refuse_beside_stages(&self, load: &Load) -> Result<(), CliError> {
        let Some(span) = load.span() else { return Ok(()) };
        if self.duration.is_some() || self.requests.is_some() {
            return usage("--stages say by themselves how long and how much: leave out -d and -n");
        }
        if self.connections.is_some() && matches!(load, Load::Users { .. }) {
            return usage("each user of --stages is one connection: leave out -c");
        }
        let whole = span.saturating_add(self.warmup.and_then(|warmup| warmup.time).unwrap_or_default());
        if whole > self.max_time {
            return usage(format!(
                "--stages need {}, but --max-time ends the run after {}: raise it",
                whole.exact(),
                self.max_time.exact()
            ));
        }
        Ok(())
    }

    fn check_warmup(&self, load: &Load) -> Result<(), CliError> {
        let Some(warmup) = self.warmup else { return Ok(()) };
        let by_count = matches!(load, Load::Closed { .. } | Load::Constant { .. });
        if warmup.count.is_some_and(|n| n > 0) && !by_count {
            return usage("with --arrivals poisson, --stages and --replay, --warmup is a time, as in 2s");
        }
        let starts_at_zero = match load {
            Load::Stages { stages, .. } => stages
                .iter()
                .take_while(|point| point.at == Nanos::ZERO)
                .last()
                .is_some_and(|p| p.rate.milli_per_s == 0),
            Load::Users { stages, .. } => {
                stages.iter().take_while(|point| point.at == Nanos::ZERO).last().is_some_and(|p| p.users == 0)
            }
            _ => false,
        };
        if starts_at_zero && warmup.time.is_some() {
            return usage(
                "--warmup holds what --stages begin with, and that is 0: leave --warmup out, or begin higher",
            );
        }
        Ok(())
    }

    /// How long the measurement is.
    pub(super) fn extent(&self, load: &Load, preset: Preset) -> Extent {
        let open_default = || match load {
            Load::Closed { .. } => Extent { count: Some(preset.requests(1.0)), time: None },
            Load::Replay { .. } => Extent::default(),
            _ => Extent { count: None, time: Some(Nanos::from_secs(10)) },
        };
        match (self.requests, self.duration) {
            _ if load.span().is_some() => Extent { count: None, time: load.span() },
            (None, None) => open_default(),
            (count, time) => Extent { count, time },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_points_of_rate_or_of_users() {
        let rate = |ms, milli_per_s| RateAt { at: Nanos::from_millis(ms), rate: Rate { milli_per_s } };
        assert_eq!(
            parse_stages("0s:0/s, 1.5s:0.5/s,1500ms:20/s,1m:0.000/s"),
            Ok(Stages::Rate(vec![rate(0, 0), rate(1_500, 500), rate(1_500, 20_000), rate(60_000, 0)]))
        );
        let users = |s, users| UsersAt { at: Nanos::from_secs(s), users };
        assert_eq!(parse_stages("0s:10c,30s:100c"), Ok(Stages::Users(vec![users(0, 10), users(30, 100)])));
    }

    #[test]
    fn stages_that_make_no_sense_say_why() {
        for (text, says) in [
            ("", "write points"),
            ("0s:1/s", "from 2 to"),
            ("0s:1/s,2s:3c", "cannot be mixed"),
            ("0s:1/s,2s:3", "no unit"),
            ("0s:1/s,2:3/s", "duration"),
            ("0s:1/s,2s", "write points"),
            ("1s:1/s,2s:3/s", "begin at 0s"),
            ("0s:1/s,2s:3/s,1s:1/s", "order of time"),
            ("0s:1/s,0s:3/s", "when the load ends"),
            ("0s:1/s,2s:1/s,2s:2/s,2s:3/s,3s:1/s", "three points"),
            ("0s:0/s,2s:0/s", "send nothing"),
            ("0s:0c,2s:0c", "send nothing"),
            ("0s:1/s,2s:20000000/s", "at most 10000000/s"),
            ("0s:-1c,2s:2c", "written 10c"),
            ("0s:1.5c,2s:2c", "written 10c"),
            ("0s:1/s,25h:2/s", "24h"),
        ] {
            let error = parse_stages(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
