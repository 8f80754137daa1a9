//! Arrivals: which request is due when, as a pure function of the plan.
//!
//! Open loop (`open`): arrival i is due where the integral of the rate (`curve`) reaches i, or the sum of i + 1 random gaps,
//! or at a recorded offset; in wide integers, without drift; no response can move it. Closed loop (`closed`): a
//! connection's next request is due when its previous answer came, plus the think time; the schedule only says which id
//! comes next, when the phases end, and which `users` are wanted.
//!
//! Nothing is stored per arrival but a replay's table. A due arrival that finds no free connection simply stays undrawn;
//! it keeps its intended time, however late it is drawn.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rng::mix;
use super::time::Nanos;

mod closed;
mod curve;
mod open;
mod users;

use closed::Closed;
pub use curve::{Rate, RateAt, STAGE_RATE_MAX, STAGE_TIME_MAX};
use open::Open;
pub use users::UsersAt;

/// Part of the run that a request belongs to, decided by its intended time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Sent before the measurement to warm caches and connections; reported apart.
    Warmup,
    /// Counted.
    Measure,
    /// Sent by the probe beside the load, which counts them apart.
    Probe,
}

/// The id of a request: `0..n` when measured, `w0…` in the warm-up, `p0…` from the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    /// Warm-up or measured.
    pub phase: Phase,
    /// Counts from 0 in each phase.
    pub seq: u64,
}

impl RequestId {
    /// Longest text of an id: a letter and the 20 digits of u64::MAX.
    pub const TEXT_MAX: usize = 21;

    /// Writes the id's text, as it goes into `X-Request-Id`, into `buffer`.
    pub fn text(self, buffer: &mut [u8; Self::TEXT_MAX]) -> &[u8] {
        let mut at = buffer.len();
        let mut rest = self.seq;
        loop {
            at -= 1;
            buffer[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let letter = match self.phase {
            Phase::Warmup => Some(b'w'),
            Phase::Measure => None,
            Phase::Probe => Some(b'p'),
        };
        if let Some(letter) = letter {
            at -= 1;
            buffer[at] = letter;
        }
        &buffer[at..]
    }
}

/// One request that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Which request.
    pub id: RequestId,
    /// When it is due: latency counts from here.
    pub intended: Nanos,
}

/// How load is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "model")]
pub enum Load {
    /// A connection sends its next request when the previous answer has come and `think_ns` is over.
    Closed {
        /// Pause between an answer and the next request of that connection.
        #[serde(rename = "think_ns")]
        think: Nanos,
    },
    /// The same with a number of users that changes: user k is there at t if and only if users(t) > k.
    Users {
        /// Pause between an answer and the next request of that user.
        #[serde(rename = "think_ns")]
        think: Nanos,
        /// At least two points, the first at 0.
        stages: Vec<UsersAt>,
    },
    /// Arrivals at a constant rate, whatever the responses do.
    Constant {
        /// The rate over all threads.
        #[serde(rename = "rate_milli_per_s")]
        rate: Rate,
    },
    /// A Poisson process of constant rate.
    Poisson {
        /// The rate over all threads.
        #[serde(rename = "rate_milli_per_s")]
        rate: Rate,
    },
    /// Arrivals at a rate that changes.
    Stages {
        /// Even, or by chance.
        arrivals: Arrivals,
        /// At least two points, the first at 0, within [`STAGE_RATE_MAX`] and [`STAGE_TIME_MAX`].
        stages: Vec<RateAt>,
    },
    /// Arrivals at recorded offsets.
    Replay {
        /// The file they stand in.
        file: String,
        /// How many they are; 0 until the file was read.
        rows: u64,
        /// xxh64 of the file, 16 hex digits; empty until it was read.
        digest: String,
    },
}

impl Load {
    /// In a closed loop, the pause between an answer and the next request; `None` in an open loop.
    pub fn think(&self) -> Option<Nanos> {
        match self {
            Self::Closed { think } | Self::Users { think, .. } => Some(*think),
            _ => None,
        }
    }

    /// How long the stages last, where there are any.
    pub fn span(&self) -> Option<Nanos> {
        match self {
            Self::Users { stages, .. } => stages.last().map(|point| point.at),
            Self::Stages { stages, .. } => stages.last().map(|point| point.at),
            _ => None,
        }
    }
}

/// How arrivals follow from a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Evenly: arrival i when the integral of the rate reaches i.
    #[default]
    Constant,
    /// By chance: a Poisson process, its gaps drawn from the seed.
    Poisson,
}

/// All that the arrivals of a run follow from.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The load.
    pub load: Load,
    /// Before the measurement. Only [`Load::Closed`] and [`Load::Constant`] can count it; for others it has a time.
    pub warmup: Extent,
    /// The measurement.
    pub measure: Extent,
    /// The seed of whatever is drawn by chance.
    pub seed: u64,
    /// The offsets of a replay, ascending.
    pub replay: Option<Arc<[Nanos]>>,
    /// Open loop: the arrivals are the probe's, whose ids are its own.
    pub probe: bool,
}

impl Offer {
    /// One that has no replay.
    pub fn new(load: Load, warmup: Extent, measure: Extent, seed: u64) -> Self {
        Self { load, warmup, measure, seed, replay: None, probe: false }
    }

    /// How many requests are measured over all threads, if that is known beforehand.
    pub fn expected(&self) -> Option<u64> {
        match (&self.load, self.measure.time) {
            (_, None) => self.measure.count,
            (Load::Constant { rate }, Some(time)) => {
                let timed = u128::from(rate.milli_per_s) * u128::from(time.0);
                let timed = u64::try_from(timed.div_ceil(1_000_000_000_000)).unwrap_or(u64::MAX);
                Some(self.measure.count.map_or(timed, |count| count.min(timed)))
            }
            (_, Some(_)) => None,
        }
    }
}

/// How long a phase lasts: up to a count of requests, up to a time, or whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Extent {
    /// At most so many requests over all threads.
    pub count: Option<u64>,
    /// Only requests whose intended time lies within this long of the phase's start.
    #[serde(rename = "time_ns")]
    pub time: Option<Nanos>,
}

impl Extent {
    /// A phase without requests.
    pub const NONE: Self = Self { count: Some(0), time: None };
}

/// One thread's part of the work: it owns every seq with `seq ≡ index (mod of)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// This thread.
    pub index: u64,
    /// All threads.
    pub of: u64,
}

impl Shard {
    /// How many of the seqs `0..n` are this shard's.
    pub fn share(self, n: u64) -> u64 {
        n.saturating_sub(self.index).div_ceil(self.of)
    }
}

/// The arrivals of one thread, in order.
#[derive(Debug, Clone)]
pub struct Schedule {
    kind: Kind,
    stopped: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Open(Open),
    Closed(Closed),
}

impl Schedule {
    /// The arrivals of `shard` when the run starts at `t0`.
    pub fn new(offer: &Offer, shard: Shard, t0: Nanos) -> Self {
        let kind = match offer.load.think() {
            Some(_) => Kind::Closed(Closed::new(offer, shard, t0)),
            None => Kind::Open(Open::new(offer, shard, t0)),
        };
        Self { kind, stopped: false }
    }

    /// Open loop: when this thread's next arrival is due; `None` when there is no more, and always in closed loop.
    pub fn next_due(&self) -> Option<Nanos> {
        match &self.kind {
            Kind::Open(open) if !self.stopped => open.peek().map(|arrival| arrival.intended),
            _ => None,
        }
    }

    /// Open loop: draws the next arrival if it is due at `now`.
    pub fn draw_due(&mut self, now: Nanos) -> Option<Arrival> {
        match &mut self.kind {
            Kind::Open(open) if !self.stopped => open.draw(now),
            _ => None,
        }
    }

    /// Closed loop: draws the next id for a connection whose turn is at `intended`; `None` when the load is over.
    pub fn draw_closed(&mut self, intended: Nanos) -> Option<Arrival> {
        match &mut self.kind {
            Kind::Closed(closed) if !self.stopped => closed.draw(intended),
            _ => None,
        }
    }

    /// Closed loop: when the user of connection `slot` has its next turn, at `at` or, if it is not wanted then, later;
    /// `None` if it can never draw a request again.
    pub fn turn(&self, slot: u32, at: Nanos) -> Option<Nanos> {
        match &self.kind {
            Kind::Closed(closed) if !self.stopped => closed.turn(slot, at),
            _ => None,
        }
    }

    /// No further arrivals: the run was interrupted.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// When the load ends by the clock, where that is known: the drain starts then.
    pub fn end(&self) -> Option<Nanos> {
        match &self.kind {
            Kind::Open(open) => open.end(),
            Kind::Closed(closed) => closed.end(),
        }
    }

    /// Measured requests the whole plan has for this thread but never drew; 0 where the plan names no number.
    pub fn undrawn(&self) -> u64 {
        match &self.kind {
            Kind::Open(open) => open.undrawn(),
            Kind::Closed(closed) => closed.undrawn(),
        }
    }

    /// One arrival's part of the schedule's hash, in which the parts are added up, so that it does not depend on threads:
    /// its number, what is sent, and, in an open loop, when it is due after the start of the measurement.
    pub fn fingerprint(&self, arrival: Arrival, template: u16) -> u64 {
        let due = match &self.kind {
            Kind::Open(open) => arrival.intended.0 - open.start().0,
            Kind::Closed(_) => 0,
        };
        mix(arrival.id.seq ^ u64::from(template) << 48, due)
    }
}

#[cfg(test)]
mod tests;
