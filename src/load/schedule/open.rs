//! The open loop: arrivals that no response can move. Each phase is a sequence of offsets of its own from its own start,
//! so that the measured arrivals are the same whatever the warm-up was.
//!
//! Nothing is stored per arrival but the table of a replay, which all threads share.

use std::sync::Arc;

use super::curve::{Curve, Place, REQUEST};
use super::{Arrival, Arrivals, Extent, Load, Offer, Phase, RateAt, RequestId, Shard};
use crate::load::rng::{Rng, mix};
use crate::load::time::Nanos;

/// The streams of gaps: apart from each other and from whatever else the seed feeds.
const GAPS: [u64; 2] = [0x0067_6170_735f_775f, 0x0067_6170_735f_6d5f];

/// One thread's arrivals.
#[derive(Debug, Clone)]
pub(super) struct Open {
    shard: Shard,
    phase: Phase,
    /// What follows the warm-up: the measurement, or a probe.
    main: Phase,
    under_way: Stretch,
    /// What follows the warm-up.
    measure: Option<Box<Stretch>>,
    /// The next arrival, made when its predecessor was drawn.
    next: Option<Arrival>,
    /// Measured arrivals of the plan over all threads, where counting them needs no drawing.
    planned: Option<u64>,
    /// When the measurement begins, and when the load ends if that is known.
    start: Nanos,
    end: Option<Nanos>,
}

impl Open {
    pub(super) fn new(offer: &Offer, shard: Shard, t0: Nanos) -> Self {
        let shape = Shape::of(offer);
        let warm = shape.length(offer.warmup);
        let start = t0.saturating_add(warm);
        let window = [offer.measure.time, offer.load.span()].into_iter().flatten().min();
        let counted = offer.measure.count.map(|n| shape.last(n));
        let counted = counted.or_else(|| matches!(shape, Shape::Table(_)).then(|| shape.last(u64::MAX)));
        // gaps by chance: the last arrival is not known before it is drawn
        let counted = counted.filter(|_| !matches!(shape, Shape::Chance { .. }));
        let stretch = |phase, start, extent: Extent| Stretch {
            offsets: shape.offsets(phase, shard),
            start,
            window: extent.time.unwrap_or(Nanos::MAX),
            quota: extent.count.map_or(u64::MAX, |n| shard.share(n)),
            drawn: 0,
        };
        let warmup = Extent { time: Some(warm), ..offer.warmup };
        let mut open = Self {
            shard,
            phase: Phase::Warmup,
            main: if offer.probe { Phase::Probe } else { Phase::Measure },
            under_way: stretch(Phase::Warmup, t0, warmup),
            measure: Some(Box::new(stretch(Phase::Measure, start, Extent { time: window, ..offer.measure }))),
            next: None,
            planned: shape.planned(offer.measure.count, window),
            start,
            end: [window, counted].into_iter().flatten().min().map(|length| start.saturating_add(length)),
        };
        open.advance();
        open
    }

    pub(super) fn peek(&self) -> Option<Arrival> {
        self.next
    }

    /// The next arrival, if it is due.
    pub(super) fn draw(&mut self, now: Nanos) -> Option<Arrival> {
        let due = self.next.filter(|arrival| arrival.intended <= now)?;
        self.advance();
        Some(due)
    }

    fn advance(&mut self) {
        self.next = self.under_way.next(self.phase, self.shard);
        if self.next.is_none()
            && let Some(measure) = self.measure.take()
        {
            self.phase = self.main;
            self.under_way = *measure;
            self.next = self.under_way.next(self.phase, self.shard);
        }
    }

    pub(super) fn start(&self) -> Nanos {
        self.start
    }

    pub(super) fn end(&self) -> Option<Nanos> {
        self.end
    }

    /// Measured arrivals of this shard that were not drawn. Where gaps are drawn by chance until a time, the rest has to be
    /// drawn to be counted.
    pub(super) fn undrawn(&self) -> u64 {
        let drawn = match self.phase {
            Phase::Warmup => 0,
            _ => self.under_way.drawn - u64::from(self.next.is_some()),
        };
        match self.planned {
            Some(n) => self.shard.share(n) - drawn,
            None => {
                let mut rest = self.clone();
                let all = std::iter::from_fn(|| rest.draw(Nanos::MAX));
                all.filter(|arrival| arrival.id.phase == self.main).count() as u64
            }
        }
    }
}

/// One phase: offsets from its start, until the count or the time is over.
#[derive(Debug, Clone)]
struct Stretch {
    offsets: Offsets,
    start: Nanos,
    window: Nanos,
    quota: u64,
    drawn: u64,
}

impl Stretch {
    fn next(&mut self, phase: Phase, shard: Shard) -> Option<Arrival> {
        if self.drawn == self.quota {
            return None;
        }
        let Some(offset) = self.offsets.next().filter(|&offset| offset < self.window) else {
            self.quota = self.drawn;
            return None;
        };
        let id = RequestId { phase, seq: shard.index + self.drawn * shard.of };
        self.drawn += 1;
        Some(Arrival { id, intended: self.start.saturating_add(offset) })
    }
}

/// What the offsets of both phases are made of.
enum Shape {
    Even { curve: Curve, warm: Curve },
    Chance { curve: Curve, warm: Curve, seed: u64 },
    Table(Arc<[Nanos]>),
}

impl Shape {
    fn of(offer: &Offer) -> Self {
        let (curve, arrivals, first) = match &offer.load {
            Load::Constant { rate } => (Curve::constant(*rate), Arrivals::Constant, *rate),
            Load::Poisson { rate } => (Curve::constant(*rate), Arrivals::Poisson, *rate),
            Load::Stages { arrivals, stages } => (Curve::stages(stages), *arrivals, first_rate(stages)),
            Load::Replay { .. } => {
                return Self::Table(offer.replay.clone().expect("a replay has its table"));
            }
            Load::Closed { .. } | Load::Users { .. } => unreachable!("an answer decides there"),
        };
        let warm = Curve::constant(first);
        match arrivals {
            Arrivals::Constant => Self::Even { curve, warm },
            Arrivals::Poisson => Self::Chance { curve, warm, seed: offer.seed },
        }
    }

    fn offsets(&self, phase: Phase, shard: Shard) -> Offsets {
        let pick = |curve: &Curve, warm: &Curve| match phase {
            Phase::Warmup => warm.clone(),
            Phase::Measure | Phase::Probe => curve.clone(),
        };
        match self {
            Self::Even { curve, warm } => {
                let [step, then] = [shard.index, shard.of].map(|arrivals| arrivals * REQUEST);
                Offsets::Even { walk: Walk::along(pick(curve, warm)), step, then }
            }
            Self::Chance { curve, warm, seed } => {
                let rng = Rng::new(mix(*seed, GAPS[usize::from(phase == Phase::Measure)]));
                let (gaps, then) = (shard.index + 1, shard.of);
                Offsets::Chance { walk: Walk::along(pick(curve, warm)), rng, gaps, then }
            }
            Self::Table(table) => {
                let (next, of) = (shard.index as usize, shard.of as usize);
                Offsets::Table { table: Arc::clone(table), next, of }
            }
        }
    }

    /// How long a warm-up is. One by count is known only where arrivals are even and the rate is one.
    fn length(&self, extent: Extent) -> Nanos {
        let counted = match (extent.count, self) {
            (Some(0), _) => Some(Nanos::ZERO),
            (Some(n), Self::Even { warm, .. }) => Some(reached(warm, n)),
            (Some(_), _) => panic!("the plan gives such a warm-up a time"),
            (None, _) => None,
        };
        [counted, extent.time].into_iter().flatten().min().unwrap_or(Nanos::ZERO)
    }

    /// The end of the first `n` arrivals: when the next would follow (even), when the last is due (table).
    fn last(&self, n: u64) -> Nanos {
        match self {
            Self::Even { curve, .. } | Self::Chance { curve, .. } => reached(curve, n),
            Self::Table(table) => {
                let rows = usize::try_from(n).unwrap_or(usize::MAX).min(table.len());
                table[..rows].last().copied().unwrap_or_default()
            }
        }
    }

    fn planned(&self, count: Option<u64>, window: Option<Nanos>) -> Option<u64> {
        let within = match (self, window) {
            (Self::Chance { .. }, Some(_)) => return None,
            (Self::Even { curve, .. }, Some(window)) => Some(curve.count_in(window)),
            (Self::Table(table), window) => {
                let window = window.unwrap_or(Nanos::MAX);
                Some(table.partition_point(|&offset| offset < window) as u64)
            }
            (_, None) => None,
        };
        [count, within].into_iter().flatten().min()
    }
}

/// When Λ is `n`.
fn reached(curve: &Curve, n: u64) -> Nanos {
    curve.instant(u128::from(n) * u128::from(REQUEST), &mut Place::default()).unwrap_or(Nanos::MAX)
}

fn first_rate(stages: &[RateAt]) -> super::Rate {
    let first = stages.iter().take_while(|point| point.at == Nanos::ZERO).last();
    first.expect("stages begin at 0").rate
}

/// The offsets of one shard, in order.
#[derive(Debug, Clone)]
enum Offsets {
    /// Arrival i where Λ is i: a step to the first one, the same steps from then on.
    Even { walk: Walk, step: u64, then: u64 },
    /// Arrival i where Λ is the sum of i + 1 exponential gaps of mean 1: a Poisson process of that rate. A shard draws the
    /// gaps of the others too.
    Chance { walk: Walk, rng: Rng, gaps: u64, then: u64 },
    /// Arrival i at the i-th offset of the table.
    Table { table: Arc<[Nanos]>, next: usize, of: usize },
}

impl Offsets {
    fn next(&mut self) -> Option<Nanos> {
        match self {
            Self::Even { walk, step, then } => {
                let step = std::mem::replace(step, *then);
                walk.go(step)
            }
            Self::Chance { walk, rng, gaps, then } => {
                let gaps = std::mem::replace(gaps, *then);
                let step = (0..gaps).map(|_| exponential(rng)).sum();
                walk.go(step)
            }
            Self::Table { table, next, of } => {
                let offset = table.get(*next).copied();
                *next += *of;
                offset
            }
        }
    }
}

/// A way along a curve in steps of Λ.
#[derive(Debug, Clone)]
struct Walk {
    curve: Curve,
    place: Place,
    /// Λ so far; a sum of integers, so nothing drifts.
    x: u128,
    last: Option<Nanos>,
}

impl Walk {
    fn along(curve: Curve) -> Self {
        Self { curve, place: Place::default(), x: 0, last: None }
    }

    fn go(&mut self, step: u64) -> Option<Nanos> {
        self.x += u128::from(step);
        self.last = Some(match self.last {
            None => self.curve.instant(self.x, &mut self.place)?,
            Some(last) => self.curve.next(self.x, step, last, &mut self.place)?,
        });
        self.last
    }
}

/// A gap of mean 1 request, exponentially distributed, rounded to a unit of Λ: −ln U with U in (0, 1]. The logarithm is
/// libm's, in Rust alone, so that the schedule is the same on every machine.
fn exponential(rng: &mut Rng) -> u64 {
    let u = ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    (-libm::log(u) * REQUEST as f64 + 0.5) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anderson–Darling for an exponential distribution of unknown mean (D'Agostino & Stephens 1986), A* = A²(1 + 0.6/n).
    fn anderson_darling(gaps: &[f64]) -> (f64, f64) {
        let mut sorted = gaps.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / n;
        let sum: f64 = (0..sorted.len())
            .map(|i| {
                let (low, high) = (sorted[i] / mean, sorted[sorted.len() - 1 - i] / mean);
                (2 * i + 1) as f64 * ((-(-low).exp_m1()).ln() - high)
            })
            .sum();
        let a2 = -n - sum / n;
        (a2, a2 * (1.0 + 0.6 / n))
    }

    #[test]
    fn the_test_itself_has_its_published_values() {
        let near = |(a2, star): (f64, f64), expected: (f64, f64)| {
            assert!((a2 - expected.0).abs() < 1e-6 && (star - expected.1).abs() < 1e-6, "{a2} {star}");
        };
        let integers: Vec<f64> = (1..=10).map(f64::from).collect();
        near(anderson_darling(&integers), (0.8762044, 0.9287766));
        near(anderson_darling(&[0.2, 0.5, 0.8, 1.1, 1.7, 2.3, 3.1, 4.4, 6.0, 9.9]), (0.1007783, 0.1068249));
    }

    #[test]
    fn gaps_are_exponential_with_mean_one() {
        let mut rng = Rng::new(mix(1, GAPS[1]));
        let n = 200_000;
        let gaps: Vec<f64> = (0..n).map(|_| exponential(&mut rng) as f64 / REQUEST as f64).collect();
        let mean = gaps.iter().sum::<f64>() / f64::from(n);
        assert!((mean - 1.0).abs() < 4.0 / f64::from(n).sqrt(), "{mean} is more than 4 σ from 1");
        // 40 samples of 2000 at the 1 % level: none to four may fail
        let rejected = gaps.chunks(2_000).take(40).filter(|part| anderson_darling(part).1 > 1.959).count();
        assert!(rejected <= 4, "{rejected} of 40");
        // regular gaps are told apart, so the test can fail
        let regular: Vec<f64> = (0..2_000).map(|i| 1.0 + f64::from(i % 7) * 0.1).collect();
        assert!(anderson_darling(&regular).1 > 100.0);
    }

    /// Fixed for ever: a schedule must not change with the compiler or the machine. The values are −ln U of SplitMix64's
    /// first numbers in decimal arithmetic of 40 digits, rounded.
    #[test]
    fn gaps_are_the_same_everywhere() {
        let mut rng = Rng::new(1_234_567);
        let found = [(); 4].map(|()| exponential(&mut rng));
        assert_eq!(found, [2_099_189_774_801, 3_501_494_991_861, 1_261_444_392_503, 2_780_543_260_902]);
    }
}
