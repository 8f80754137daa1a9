//! The search for capacity: the highest rate at which the SLA is met. A state machine that is told what each probe found,
//! and answers with the next probe.
//!
//! Every rate that is tried gets a sequential test: up to [`LOOKS`] looks at a sample that triples, each look judged by the
//! gate's intervals with a share of the error (Bonferroni), so that looking again cannot make a verdict out of noise. Rates
//! double until one breaks the SLA, then the gap between the highest that meets it and the lowest that breaks it is halved
//! on the logarithm. A rate whose looks are used up stays *open*: it is near the boundary, and the gaps below and
//! above it are narrowed instead. The answer is confirmed by a fresh, longer sample, or stepped down from.
//!
//! Not here: measuring, clocks, and what a probe looked like ([`judge`] has the verdict of its requests). The knee of the
//! curve is in `knee`. docs/METHOD.md says what the outcome means.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::gate::{self, Measured, Rule, SlaReport};
use super::intervals;
use super::stats::{Bounds, CONFIDENCE, Percentile, Quantile, ResponseTimes, requests_for_upper_bound};
use super::summary::{Responses, measured};
use crate::load::schedule::Rate;
use crate::load::time::Nanos;
use crate::record::Tally;

mod knee;

pub use knee::{Knee, knee};

/// Looks at one rate.
pub const LOOKS: u32 = 4;
/// From one look to the next, all requests of the rate together grow so many times.
const GROWTH: u64 = 3;
/// A probe is not shorter than this, however high its rate.
const PROBE_MIN: Nanos = Nanos::from_millis(250);
/// So often in a row the instrument may convict itself at one rate before it is the client that limits.
const DISTURBED_MAX: u32 = 5;
/// Where nothing met the SLA yet, the start is halved so often.
const HALVINGS: u32 = 5;
/// The confirmation may take so much of the budget.
const CONFIRMING: f64 = 0.25;

/// What is searched for, and at what expense.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The first rate.
    pub start: Rate,
    /// The relative gap between neighbouring rates at which the search ends, as 0.05.
    pub precision: f64,
    /// For all probes together, the confirmation included.
    pub budget: Nanos,
    /// Requests of the first look at a rate; see [`requests_of_a_look`].
    pub requests: u64,
    /// Before each probe; else a fifth of its length, within 100 ms and 2 s.
    pub warmup: Option<Nanos>,
}

/// The least sample from which every one of these rules could be judged at the first look, doubled: near saturation requests are
/// dependent.
pub fn requests_of_a_look(rules: &[Rule]) -> u64 {
    let one_sided = f64::midpoint(1.0, look_confidence());
    let shares = rules.iter().filter_map(|rule| match (rule.metric(), rule.limit()) {
        (gate::Metric::Percentile(p), _) => Some(requests_for_upper_bound(p, one_sided)),
        // without one event n requests bound its share by 1 − (error)^(1/n)
        (_, gate::Limit::Share(billionths)) if (1..1_000_000_000).contains(&billionths) => {
            Some(((1.0 - one_sided).ln() / (-(billionths as f64) / 1e9).ln_1p()).ceil() as u64)
        }
        _ => None,
    });
    2 * shares.max().unwrap_or(0).clamp(50, 5_000_000)
}

/// The confidence of one of the [`LOOKS`].
pub fn look_confidence() -> f64 {
    1.0 - (1.0 - CONFIDENCE) / f64::from(LOOKS)
}

/// The verdict of rules on requests, by intervals of this confidence.
pub fn judge(rules: &[Rule], tally: &Tally, confidence: f64) -> SlaReport {
    let responses = Responses(tally);
    let sure = Sure { responses: &responses, confidence };
    let share = |events| intervals::share_of_scheduled(tally, events, confidence);
    let all = measured(tally, &responses);
    let all = Measured {
        error_share: share(tally.scheduled - tally.successful),
        timeout_share: share(all.timeouts),
        mean_bounds: intervals::mean(tally, confidence),
        responses: &sure,
        ..all
    };
    let nothing = "there was no request".to_owned();
    gate::evaluate(rules, &all, if tally.scheduled > 0 { Ok(()) } else { Err(nothing) })
}

/// Response times with intervals of another confidence.
struct Sure<'a> {
    responses: &'a Responses<'a>,
    confidence: f64,
}

impl ResponseTimes for Sure<'_> {
    fn quantile(&self, p: Percentile) -> Quantile {
        self.responses.quantile(p)
    }

    fn bounds(&self, p: Percentile) -> Bounds {
        intervals::bounds_at(self.responses.0, p, self.confidence).0
    }
}

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To learn whether a rate meets the SLA.
    Search,
    /// To see the answer again.
    Confirm,
    /// Of a sweep, with rising rates.
    Up,
    /// Of a sweep, with falling rates.
    Down,
}

/// One stretch of load to be measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probe {
    /// Its rate.
    pub rate: Rate,
    /// Its measured requests.
    pub requests: u64,
    /// Load before them.
    pub warmup: Nanos,
    /// What it is for.
    pub purpose: Purpose,
    /// From 1. From the second on it is judged together with the ones before at this rate.
    pub look: u32,
    /// Of the intervals it is judged by.
    pub confidence: f64,
}

impl Probe {
    /// A stretch of `requests` at `rate` that is judged by itself.
    pub fn alone(rate: Rate, requests: u64, warmup: Option<Nanos>, purpose: Purpose) -> Self {
        let length = time_of(requests, rate);
        let fifth = Nanos(length.0 / 5).clamp(Nanos::from_millis(100), Nanos::from_secs(2));
        Self { rate, requests, warmup: warmup.unwrap_or(fifth), purpose, look: 1, confidence: CONFIDENCE }
    }

    /// When what was not sent yet is given up (and the drain begins), from the start of the measurement: an overload must not
    /// last as long as the target takes to work it off. Chance arrivals take longer than this once in millions of probes.
    pub fn cut(&self) -> Nanos {
        let time = time_of(self.requests, self.rate);
        Nanos(time.0 + time.0 / 2)
    }

    /// How long its load lasts.
    pub fn lasts(&self) -> Nanos {
        self.warmup.saturating_add(time_of(self.requests, self.rate))
    }
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The SLA is met.
    Meets,
    /// It is not: because of the times, or because requests failed.
    Breaks(Cause),
    /// Neither is shown.
    Open,
    /// The instrument convicted itself: the probe says nothing about the target.
    Disturbed,
}

/// Why a rate broke the SLA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Requests took too long.
    Slow,
    /// Requests failed.
    Errors,
}

/// What kept the rate from being higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoppedBy {
    /// Higher rates break the SLA by their times.
    Server,
    /// The instrument could not offer more: nothing is said about the server.
    Client,
    /// Higher rates break it because requests fail.
    Errors,
    /// There was no time to go on.
    Budget,
    /// The user.
    Interrupt,
}

impl fmt::Display for StoppedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Errors => "errors",
            Self::Budget => "budget",
            Self::Interrupt => "interrupt",
        })
    }
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The highest rate that was shown to meet the SLA, and confirmed.
    pub capacity: Option<Rate>,
    /// What it lies between: the highest rate that was shown to meet the SLA, the lowest that was shown to break it.
    pub low: Option<Rate>,
    /// None where no rate broke it.
    pub high: Option<Rate>,
    /// Why the search ended.
    pub stopped_by: StoppedBy,
}

/// The search. Ask for a [`probe`](Self::probe), measure it, [`tell`](Self::tell); until there is none.
#[derive(Debug, Clone)]
pub struct Search {
    settings: Settings,
    used: Nanos,
    /// Rates that were shown to meet the SLA, ascending.
    met: Vec<Rate>,
    /// The lowest that was shown to break it.
    breaks: Option<(Rate, Cause)>,
    /// The lowest and the highest rate between them whose looks are used up.
    open: Option<(Rate, Rate)>,
    /// The rate under test, and its looks so far.
    current: Option<(Rate, u32)>,
    /// Disturbed probes in a row.
    disturbed: u32,
    /// The rate that is to be seen again.
    candidate: Option<Rate>,
    confirmed: bool,
    stopped: Option<StoppedBy>,
}

impl Search {
    /// Nothing is known yet.
    pub fn new(settings: Settings) -> Self {
        let current = Some((settings.start, 0));
        Self {
            settings,
            used: Nanos::ZERO,
            met: Vec::new(),
            breaks: None,
            open: None,
            current,
            disturbed: 0,
            candidate: None,
            confirmed: false,
            stopped: None,
        }
    }

    /// What to measure next; none when the search is over.
    pub fn probe(&mut self) -> Option<Probe> {
        while self.candidate.is_none() && self.stopped != Some(StoppedBy::Client) {
            let Some((rate, looks)) = self.current.or_else(|| Some((self.choose()?, 0))) else {
                self.stopped.get_or_insert(self.cause());
                break;
            };
            let probe = self.look(rate, looks + 1);
            if looks < LOOKS && self.is_affordable(&probe) {
                self.current = Some((rate, looks));
                return Some(probe);
            }
            self.current = None;
            if looks == 0 {
                self.stopped = Some(StoppedBy::Budget);
                break;
            }
            self.leave_open(rate);
        }
        self.confirmation()
    }

    /// What the last probe found, and how long all of it took.
    pub fn tell(&mut self, answer: Answer, took: Nanos) {
        self.used = self.used.saturating_add(took);
        if answer == Answer::Disturbed {
            self.disturbed += 1;
            if self.disturbed == DISTURBED_MAX {
                self.stopped = Some(StoppedBy::Client);
            }
            return;
        }
        self.disturbed = 0;
        if let Some(candidate) = self.candidate {
            return self.tell_confirmation(candidate, answer);
        }
        let (rate, looks) = self.current.take().expect("a probe was asked for");
        match answer {
            Answer::Meets => {
                self.met.push(rate);
                // more load was met, so less is
                self.open = self.open.filter(|(low, _)| *low > rate);
            }
            Answer::Breaks(cause) => self.break_at(rate, cause),
            Answer::Open | Answer::Disturbed => self.current = Some((rate, looks + 1)),
        }
    }

    /// What is known so far.
    pub fn outcome(&self) -> Outcome {
        let stopped_by = match self.stopped {
            Some(StoppedBy::Server | StoppedBy::Errors) if !self.confirmed && self.candidate.is_some() => {
                StoppedBy::Budget
            }
            Some(stopped_by) => stopped_by,
            None => StoppedBy::Interrupt,
        };
        Outcome {
            capacity: self.candidate.filter(|_| self.confirmed),
            low: self.meets(),
            high: self.breaks.map(|(rate, _)| rate),
            stopped_by,
        }
    }

    /// The next rate to test: none where the gaps are as narrow as was asked for, or no rate meets the SLA.
    fn choose(&self) -> Option<Rate> {
        let Some(meets) = self.meets() else {
            let lowest = self.open.map(|(low, _)| low).or(self.breaks.map(|(rate, _)| rate))?;
            let floor = self.settings.start.milli_per_s >> HALVINGS;
            return (lowest.milli_per_s / 2 >= floor.max(1)).then(|| scaled(lowest, 0.5));
        };
        let Some((breaks, _)) = self.breaks else {
            return Some(scaled(self.open.map_or(meets, |(_, high)| high), 2.0));
        };
        let (from, to) = self.open.unwrap_or((breaks, breaks));
        let gaps = [(meets, from), (to, breaks)];
        let wide = gaps.into_iter().find(|&(low, high)| ratio(high, low) > 1.0 + self.settings.precision);
        wide.map(|(low, high)| scaled(low, ratio(high, low).sqrt()))
    }

    fn look(&self, rate: Rate, look: u32) -> Probe {
        let first = self.requests_of_first(rate);
        let all = |looks: u32| if looks == 0 { 0 } else { first * GROWTH.pow(looks - 1) };
        let requests = all(look) - all(look - 1);
        let alone = Probe::alone(rate, requests, self.settings.warmup, Purpose::Search);
        Probe { look, confidence: look_confidence(), ..alone }
    }

    fn requests_of_first(&self, rate: Rate) -> u64 {
        let least = (per_s(rate) * PROBE_MIN.as_secs()).ceil() as u64;
        self.settings.requests.max(least)
    }

    /// The confirmation keeps its part of the budget, and no second look takes more than half of what is left.
    fn is_affordable(&self, probe: &Probe) -> bool {
        let reserved = self.meets().map_or(Nanos::ZERO, |rate| self.confirming_probe(rate, None).lasts());
        let left = self.settings.budget.saturating_sub(self.used).saturating_sub(reserved);
        probe.lasts() <= if probe.look == 1 { left } else { Nanos(left.0 / 2) }
    }

    /// The highest rate that was shown to meet the SLA.
    fn meets(&self) -> Option<Rate> {
        self.met.last().copied()
    }

    fn break_at(&mut self, rate: Rate, cause: Cause) {
        self.breaks = Some((rate, cause));
        // less load broke it, so more does
        self.open = self.open.filter(|(_, high)| *high < rate);
    }

    fn leave_open(&mut self, rate: Rate) {
        let (low, high) = self.open.unwrap_or((rate, rate));
        self.open = Some((low.min(rate), high.max(rate)));
    }

    /// As long as all looks at a rate together, but within its part of the budget and what is left of it.
    fn confirming_probe(&self, rate: Rate, left: Option<Nanos>) -> Probe {
        let first = self.requests_of_first(rate);
        let part = Nanos((self.settings.budget.0 as f64 * CONFIRMING) as u64);
        let time = left.map_or(part, |left| left.min(part));
        let within = (time.as_secs() / 1.2 * per_s(rate)) as u64;
        let requests = within.min(first * GROWTH.pow(LOOKS - 1)).max(first);
        Probe::alone(rate, requests, self.settings.warmup, Purpose::Confirm)
    }

    fn confirmation(&mut self) -> Option<Probe> {
        if self.confirmed || self.stopped == Some(StoppedBy::Client) {
            return None;
        }
        let rate = self.candidate.or(self.meets())?;
        self.candidate = Some(rate);
        let left = self.settings.budget.saturating_sub(self.used);
        let probe = self.confirming_probe(rate, Some(left));
        if probe.lasts() > left {
            self.stopped = Some(StoppedBy::Budget);
            return None;
        }
        Some(probe)
    }

    /// A rate that is not seen to meet the SLA again is stepped down from, but not below the next that had met it.
    fn tell_confirmation(&mut self, rate: Rate, answer: Answer) {
        if self.meets() == Some(rate) {
            self.met.pop();
        }
        match answer {
            Answer::Meets => {
                self.confirmed = true;
                return self.met.push(rate);
            }
            Answer::Breaks(cause) => self.break_at(rate, cause),
            Answer::Open | Answer::Disturbed => self.leave_open(rate),
        }
        let step = scaled(rate, 1.0 / (1.0 + self.settings.precision));
        self.candidate = Some(self.meets().map_or(step, |meets| meets.max(step)));
    }

    fn cause(&self) -> StoppedBy {
        match self.breaks {
            Some((_, Cause::Errors)) => StoppedBy::Errors,
            _ => StoppedBy::Server,
        }
    }
}

/// Requests per second.
pub fn per_s(rate: Rate) -> f64 {
    rate.milli_per_s as f64 / 1e3
}

fn ratio(high: Rate, low: Rate) -> f64 {
    high.milli_per_s as f64 / low.milli_per_s as f64
}

fn scaled(rate: Rate, by: f64) -> Rate {
    Rate { milli_per_s: ((rate.milli_per_s as f64 * by).round() as u64).max(1) }
}

fn time_of(requests: u64, rate: Rate) -> Nanos {
    Nanos((requests as f64 / per_s(rate) * 1e9) as u64)
}

#[cfg(test)]
mod tests;
