//! A rate over time, piecewise linear, and its integral Λ turned around: when is the x-th request due?
//!
//! Everything is exact: Λ is kept in whole units of 5·10^-13 requests (half a milli-request per second times a
//! nanosecond), so that the area under a ramp is an integer, and the answer is the true one rounded down to a
//! nanosecond. Nothing is accumulated along the way. A double only makes the first guess on a ramp; integers correct it.

use serde::{Deserialize, Serialize};

use crate::load::time::Nanos;

/// Units of Λ in one request.
pub(super) const REQUEST: u64 = 2_000_000_000_000;

/// Requests per second, exact: thousandths of a request per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate {
    /// Requests in 1 000 seconds.
    pub milli_per_s: u64,
}

impl Rate {
    /// Offset of arrival `i` from the start: `i · 10^9 / λ`, rounded down; MAX (never) where it is beyond 584 years.
    pub fn offset(self, i: u64) -> Nanos {
        let ns = u128::from(i) * 1_000_000_000_000 / u128::from(self.milli_per_s);
        Nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

/// A point of `--stages`: the rate at an instant. Between two points it is linear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateAt {
    /// After the start of the measurement.
    #[serde(rename = "at_ns")]
    pub at: Nanos,
    /// The rate then; of two points at the same time the second holds from there on.
    #[serde(rename = "rate_milli_per_s")]
    pub rate: Rate,
}

/// The greatest rate of a stage, 10 million per second, and the longest stage, a day: what the integers below can hold.
pub const STAGE_RATE_MAX: Rate = Rate { milli_per_s: 10_000_000_000 };
/// The longest stage.
pub const STAGE_TIME_MAX: Nanos = Nanos::from_secs(24 * 3_600);

/// A stretch in which the rate is linear.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    start: u64,
    length: u64,
    /// Milli-requests per second at its start and at its end.
    from: u64,
    to: u64,
    /// Λ at its start and at its end.
    before: u128,
    after: u128,
}

/// A rate over time.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    /// In order, without gaps in Λ: stretches without requests are left out.
    pieces: Vec<Piece>,
}

/// Where in a curve the last answer was found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    piece: usize,
    /// Of a hold: what the division left over, in units of Λ.
    rest: u64,
}

impl Curve {
    /// The same rate for ever.
    pub(super) fn constant(rate: Rate) -> Self {
        let milli = rate.milli_per_s;
        let after = 2 * u128::from(milli) * u128::from(u64::MAX);
        let piece = Piece { start: 0, length: u64::MAX, from: milli, to: milli, before: 0, after };
        Self { pieces: vec![piece] }
    }

    /// Linear between the points, which are in order of time and within [`STAGE_RATE_MAX`] and [`STAGE_TIME_MAX`].
    pub(super) fn stages(points: &[RateAt]) -> Self {
        let mut pieces = Vec::with_capacity(points.len());
        let mut before = 0;
        for pair in points.windows(2) {
            let (start, length) = (pair[0].at.0, (pair[1].at - pair[0].at).0);
            let (from, to) = (pair[0].rate.milli_per_s, pair[1].rate.milli_per_s);
            assert!(from.max(to) <= STAGE_RATE_MAX.milli_per_s && length <= STAGE_TIME_MAX.0);
            let after = before + u128::from(from + to) * u128::from(length);
            if after > before {
                pieces.push(Piece { start, length, from, to, before, after });
            }
            before = after;
        }
        Self { pieces }
    }

    /// Λ of all of it.
    fn total(&self) -> u128 {
        self.pieces.last().map_or(0, |piece| piece.after)
    }

    /// How many whole requests fall into `[0, window)`: the i with `Λ⁻¹(i) < window`, which is ⌈Λ(window)⌉.
    pub(super) fn count_in(&self, window: Nanos) -> u64 {
        let reached = self.pieces.iter().rev().find(|piece| piece.start < window.0);
        let area = reached.map_or(0, |piece| piece.before + piece.area(window.0 - piece.start));
        u64::try_from(area.div_ceil(REQUEST.into())).unwrap_or(u64::MAX)
    }

    /// The instant after which Λ exceeds `x`, rounded down; `None` where it never does. `place` remembers where that
    /// was; a later call must not ask for less.
    pub(super) fn instant(&self, x: u128, place: &mut Place) -> Option<Nanos> {
        if x >= self.total() {
            return None;
        }
        while self.pieces[place.piece].after <= x {
            place.piece += 1;
        }
        let piece = &self.pieces[place.piece];
        let area = x - piece.before;
        let within = if piece.from == piece.to {
            let each = 2 * u128::from(piece.from);
            place.rest = (area % each) as u64;
            (area / each) as u64
        } else {
            piece.when(area)
        };
        Some(Nanos(piece.start + within))
    }

    /// As [`Curve::instant`] of `x`, where `last` was the answer to `x - step`: in a hold one short division is enough.
    pub(super) fn next(&self, x: u128, step: u64, last: Nanos, place: &mut Place) -> Option<Nanos> {
        let piece = &self.pieces[place.piece];
        if piece.from != piece.to || x >= piece.after {
            return self.instant(x, place);
        }
        let (each, gathered) = (2 * piece.from, place.rest + step);
        place.rest = gathered % each;
        Some(Nanos(last.0 + gathered / each))
    }
}

impl Piece {
    /// Λ from its start until `t` later, rounded up to a unit.
    fn area(&self, t: u64) -> u128 {
        let t = u128::from(t.min(self.length));
        let (from, to) = (u128::from(self.from), u128::from(self.to));
        if from <= to {
            2 * from * t + ((to - from) * t * t).div_ceil(u128::from(self.length))
        } else {
            2 * from * t - (from - to) * t * t / u128::from(self.length)
        }
    }

    /// The last whole `t` at which no more than `area` has gathered on this ramp.
    fn when(&self, area: u128) -> u64 {
        // Seen from its lower end, so that nothing cancels out where the rate comes near zero.
        let rises = self.from < self.to;
        let (low, high) = if rises { (self.from, self.to) } else { (self.to, self.from) };
        let seen = if rises { area } else { self.after - self.before - area } as f64;
        let (low, slope) = (low as f64, (high - low) as f64 / self.length as f64);
        let guess = (seen / (low + (low * low + slope * seen).sqrt())) as u64;
        let mut t = if rises { guess } else { self.length.saturating_sub(guess) }.min(self.length - 1);
        while t + 1 < self.length && self.gathered_by(t + 1, area) {
            t += 1;
        }
        while t > 0 && !self.gathered_by(t, area) {
            t -= 1;
        }
        t
    }

    /// True if no more than `area` has gathered by `t`: `2·from·t + (to − from)·t²/length <= area`, in integers.
    fn gathered_by(&self, t: u64, area: u128) -> bool {
        let (t, length) = (i128::from(t), i128::from(self.length));
        let (from, to) = (i128::from(self.from), i128::from(self.to));
        t * (2 * from * length + (to - from) * t) <= area as i128 * length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rng::Rng;

    fn at(ms: u64, per_s: u64) -> RateAt {
        RateAt { at: Nanos::from_millis(ms), rate: Rate { milli_per_s: per_s * 1_000 } }
    }

    fn instants(curve: &Curve, step: u64) -> Vec<u64> {
        let mut place = Place::default();
        (0..).map_while(|i| curve.instant(i * u128::from(step), &mut place)).map(|t| t.0).collect()
    }

    #[test]
    fn a_constant_rate_is_never_accumulated() {
        // 3 requests per second: thirds of a second do not drift over a day
        let rate = Rate { milli_per_s: 3_000 };
        assert_eq!(rate.offset(3 * 86_400), Nanos::from_secs(86_400));
        assert_eq!(rate.offset(1), Nanos(333_333_333));
        // 0.1 per second, and a rate whose product passes 64 bits
        assert_eq!(Rate { milli_per_s: 100 }.offset(7), Nanos::from_secs(70));
        assert_eq!(Rate { milli_per_s: 1_000_000_000 }.offset(1 << 40), Nanos((1 << 40) * 1_000));
        assert_eq!(Rate { milli_per_s: 1_000 }.offset(u64::MAX), Nanos::MAX);
    }

    /// From 0 to 100/s in 10 s and down again, to a hold at 20/s: i requests have come when t = √(i/5), and so on.
    #[test]
    fn ramps_have_their_closed_form() {
        let curve =
            Curve::stages(&[at(0, 0), at(10_000, 100), at(20_000, 0), at(20_000, 20), at(25_000, 20)]);
        let found = instants(&curve, REQUEST);
        assert_eq!(found.len(), 500 + 500 + 100);
        assert_eq!(found[0], 0);
        assert_eq!(found[5], 1_000_000_000, "5 t² = 5");
        assert_eq!(found[20], 2_000_000_000);
        assert_eq!(found[1], 447_213_595, "√(1/5) s = 447.213595…ms");
        assert_eq!(found[500], 10_000_000_000, "the top");
        assert_eq!(found[995], 19_000_000_000, "5 (20 − t)² = 5");
        assert_eq!(found[1_000], 20_000_000_000, "the step");
        assert_eq!(found[1_001], 20_050_000_000);
        assert_eq!(*found.last().unwrap(), 24_950_000_000);
    }

    /// Each answer is the true one rounded down: the count says so, for random curves and windows.
    #[test]
    fn instants_are_exact_monotone_and_counted() {
        let mut rng = Rng::new(3);
        for _ in 0..300 {
            let mut pick = |n: u64| rng.next_u64() % n;
            let (mut t, mut points) = (0, Vec::new());
            for _ in 0..2 + pick(6) {
                points.push(RateAt { at: Nanos(t), rate: Rate { milli_per_s: pick(3) * pick(1_000_000) } });
                t += if pick(4) == 0 { 0 } else { 1 + pick(3_000_000_000) };
            }
            let curve = Curve::stages(&points);
            let end = points.last().unwrap().at;
            let found = instants(&curve, REQUEST);
            assert!(found.is_sorted() && found.iter().all(|&t| t < end.0));
            assert_eq!(found.len() as u64, curve.count_in(end), "{points:?}");
            assert_eq!(found.len() as u128, curve.total().div_ceil(REQUEST.into()), "{points:?}");
            let window = Nanos(pick(end.0 + 1));
            let within = found.iter().filter(|&&t| t < window.0).count() as u64;
            assert_eq!(curve.count_in(window), within, "{window:?} {points:?}");
        }
    }

    #[test]
    fn a_day_of_ten_million_per_second_neither_overflows_nor_drifts() {
        let day = STAGE_TIME_MAX;
        let points = [(0, 0), (day.0, STAGE_RATE_MAX.milli_per_s)]
            .map(|(at, milli_per_s)| RateAt { at: Nanos(at), rate: Rate { milli_per_s } });
        let up = Curve::stages(&points);
        let all = up.count_in(day);
        assert_eq!(all, 5_000_000 * 86_400);
        let when =
            |curve: &Curve, i: u64| curve.instant(u128::from(i) * u128::from(REQUEST), &mut Place::default());
        assert_eq!(when(&up, all / 4), Some(Nanos(day.0 / 2)), "a quarter by half time");
        assert_eq!(when(&up, all), None);
        let down = Curve::stages(&[RateAt { at: Nanos::ZERO, ..points[1] }, RateAt { at: day, ..points[0] }]);
        assert_eq!(when(&down, all / 4 * 3), Some(Nanos(day.0 / 2)), "three quarters by half time");
        // the last request of the ramp down: one short of the end, √(2·1/slope) before it
        let before_end = day.0 - when(&down, all - 1).unwrap().0;
        assert!((before_end as f64 - 131_453_414.0).abs() < 2.0, "{before_end}");
    }

    #[test]
    fn a_hold_goes_on_from_the_last_instant_as_from_the_first() {
        let curve = Curve::stages(&[at(0, 7), at(3_000, 7), at(4_000, 900), at(9_000, 900), at(9_001, 0)]);
        for of in 1..5 {
            let step = of * REQUEST;
            let mut place = Place::default();
            let mut last = curve.instant(0, &mut place).unwrap();
            for (i, &expected) in instants(&curve, step).iter().enumerate().skip(1) {
                last = curve.next(i as u128 * u128::from(step), step, last, &mut place).unwrap();
                assert_eq!(last.0, expected, "{i} of {of}");
            }
        }
    }
}
