//! PURE: from a counter of ticks to nanoseconds, along a line that is laid anew through every anchor.
//!
//! An anchor is what counter and true clock showed at the same moment. Between two anchors the line is
//! extrapolated, never for longer than [`INTERVAL`] nor twice as far as the anchors behind it lie apart: that is what
//! keeps a wrong slope (the oscillator drifts, NTP slews the true clock) from growing into an error. What has been
//! read is never taken back: where an anchor shows that the line was ahead of the truth and somebody has seen it,
//! the line goes at half speed until the truth has caught up.
//!
//! Not here: counters and clocks.

use std::cell::Cell;

/// The longest extrapolation, in nanoseconds of the true clock.
pub(super) const INTERVAL: u64 = 100_000_000;
/// An anchor that finds the line further off than this, after no more than the usual time, is counted.
pub(super) const OFF: u64 = 5_000;
/// Anchors closer to each other than this say nothing about the slope.
const SHORTEST_BASE: u64 = 1_000_000;
/// Fraction bits of the slope. Within an interval, nanoseconds and fraction fit into 64 bits.
const FRACTION: u32 = 32;

/// What counter and true clock showed at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) ticks: u64,
    pub(super) ns: u64,
}

/// What the anchors found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Residuals {
    /// Anchors since the first two.
    pub(super) anchors: u64,
    /// How far the line was off at the worst of them, in nanoseconds; late ones, from which nothing had been read, apart.
    pub(super) worst: u64,
    /// Anchors that found it off by more than [`OFF`].
    pub(super) off: u64,
}

/// The line, for one thread.
#[derive(Debug)]
pub(super) struct Line {
    /// Where it begins.
    from: Cell<Anchor>,
    /// Nanoseconds a tick, with [`FRACTION`] bits of fraction.
    slope: Cell<u64>,
    /// The tick from which on it is no longer believed.
    due: Cell<u64>,
    /// The last reading.
    last: Cell<u64>,
    /// The last anchor that counted for the slope, and that slope.
    base: Cell<Anchor>,
    true_slope: Cell<u64>,
    residuals: Cell<Residuals>,
}

impl Line {
    /// Through two anchors; `None` where no clock could have shown them.
    pub(super) fn through(first: Anchor, second: Anchor) -> Option<Self> {
        let slope = slope(first, second)?;
        let line = Self {
            from: Cell::new(second),
            slope: Cell::new(slope),
            due: Cell::new(0),
            last: Cell::new(second.ns),
            base: Cell::new(second),
            true_slope: Cell::new(slope),
            residuals: Cell::default(),
        };
        line.believe_for(2 * (second.ns - first.ns));
        Some(line)
    }

    /// The time at this tick; `None` when an anchor is due first. Never less than before.
    #[inline]
    pub(super) fn at(&self, ticks: u64) -> Option<u64> {
        if ticks >= self.due.get() {
            return None;
        }
        let from = self.from.get();
        // A counter of another core may lag a little.
        let passed = ticks.saturating_sub(from.ticks);
        Some(self.show(from.ns + ((passed * self.slope.get()) >> FRACTION)))
    }

    /// Lays the line anew, through the truth, and reads it there.
    pub(super) fn lay(&self, truth: Anchor) -> u64 {
        let off = self.judge(truth);
        let base = self.base.get();
        let mut span = truth.ns.saturating_sub(base.ns);
        if off {
            // Something stepped in between: no slope follows from that, it is measured anew from here.
            span = 0;
            self.base.set(truth);
        } else if span >= SHORTEST_BASE
            && let Some(slope) = slope(base, truth)
        {
            self.true_slope.set(slope);
            self.base.set(truth);
        }
        let ahead = self.last.get().saturating_sub(truth.ns);
        self.from.set(Anchor { ticks: truth.ticks, ns: truth.ns + ahead });
        if ahead == 0 {
            self.slope.set(self.true_slope.get());
            self.believe_for((2 * span).max(SHORTEST_BASE));
        } else {
            self.slope.set(self.true_slope.get() / 2);
            self.believe_for(2 * ahead);
        }
        self.show(truth.ns)
    }

    /// Ticks in a second of the true clock.
    pub(super) fn frequency(&self) -> u64 {
        ((1_000_000_000u128 << FRACTION) / u128::from(self.true_slope.get())) as u64
    }

    pub(super) fn residuals(&self) -> Residuals {
        self.residuals.get()
    }

    fn show(&self, ns: u64) -> u64 {
        let shown = ns.max(self.last.get());
        self.last.set(shown);
        shown
    }

    /// How far off was what could have been read? True if by more than [`OFF`].
    fn judge(&self, truth: Anchor) -> bool {
        let from = self.from.get();
        let passed = u128::from(truth.ticks.saturating_sub(from.ticks));
        let predicted = from.ns + ((passed * u128::from(self.slope.get())) >> FRACTION) as u64;
        let mut residuals = self.residuals.get();
        residuals.anchors += 1;
        let late = truth.ns.saturating_sub(from.ns) > 2 * INTERVAL;
        let residual = if late { 0 } else { truth.ns.abs_diff(predicted) };
        residuals.worst = residuals.worst.max(residual);
        residuals.off += u64::from(residual > OFF);
        self.residuals.set(residuals);
        residual > OFF
    }

    fn believe_for(&self, ns: u64) {
        let ticks = (u128::from(ns.min(INTERVAL)) << FRACTION) / u128::from(self.true_slope.get());
        self.due.set(self.from.get().ticks.saturating_add(ticks.max(1) as u64));
    }
}

/// Nanoseconds a tick.
fn slope(first: Anchor, second: Anchor) -> Option<u64> {
    let ticks = second.ticks.checked_sub(first.ticks)?;
    let ns = second.ns.checked_sub(first.ns)?;
    let slope = (u128::from(ns) << FRACTION).checked_div(u128::from(ticks))?;
    u64::try_from(slope).ok().filter(|&slope| slope > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rng::Rng;

    const MS: u64 = 1_000_000;

    /// A made-up oscillator: the true time passes, and it ticks at a rate that may change.
    struct Oscillator {
        ns: u64,
        ticks: f64,
        ghz: f64,
        /// The anchor's true time may be wrong by up to so much.
        jitter: u64,
        rng: Rng,
    }

    impl Oscillator {
        fn new(ghz: f64, jitter: u64) -> Self {
            Self { ns: 5_000_000_000, ticks: 7e12, ghz, jitter, rng: Rng::new(1) }
        }

        fn pass(&mut self, ns: u64) {
            self.ns += ns;
            self.ticks += ns as f64 * self.ghz;
        }

        fn anchor(&mut self) -> Anchor {
            let off = self.rng.next_u64() % (2 * self.jitter + 1);
            Anchor { ticks: self.ticks as u64, ns: self.ns + off - self.jitter }
        }

        fn line(&mut self) -> Line {
            let first = self.anchor();
            self.pass(2 * MS);
            Line::through(first, self.anchor()).unwrap()
        }

        /// Reads as the clock does, and says how far off the reading is.
        fn error(&mut self, line: &Line) -> u64 {
            let read = line.at(self.ticks as u64).unwrap_or_else(|| {
                let truth = self.anchor();
                line.lay(truth)
            });
            read.abs_diff(self.ns)
        }

        /// The worst error of a second of readings, one every 10 µs or so.
        fn worst_of_a_second(&mut self, line: &Line) -> u64 {
            let end = self.ns + 1_000 * MS;
            let mut worst = 0;
            while self.ns < end {
                let step = 5_000 + self.rng.next_u64() % 10_000;
                self.pass(step);
                worst = worst.max(self.error(line));
            }
            worst
        }
    }

    #[test]
    fn a_steady_oscillator_is_followed_to_the_error_of_its_anchors() {
        for (ghz, jitter) in [(2.596_124, 0), (2.596_124, 20), (0.024, 50), (5.1, 200)] {
            let mut oscillator = Oscillator::new(ghz, jitter);
            let line = oscillator.line();
            let worst = oscillator.worst_of_a_second(&line);
            // extrapolated twice as far as the anchors lie apart, both ends wrong: 5 times the jitter; and a tick
            let bound = 5 * jitter + (1.0 / ghz) as u64 + 2;
            assert!(worst <= bound, "{ghz} GHz, jitter {jitter}: {worst} > {bound}");
            let frequency = line.frequency() as f64 / 1e9;
            assert!((frequency / ghz - 1.0).abs() < 1e-5, "{frequency}");
            assert!(line.residuals().anchors >= 10 && line.residuals().off == 0, "{:?}", line.residuals());
        }
    }

    /// 100 ppm away from what was measured at first would be 1 ms off after 10 s with a slope fixed at start.
    #[test]
    fn drift_and_a_sudden_change_of_slope_stay_within_one_interval() {
        let mut oscillator = Oscillator::new(2.6, 20);
        let line = oscillator.line();
        for _ in 0..10 {
            oscillator.ghz *= 1.0 + 10e-6; // 100 ppm in ten seconds
            let worst = oscillator.worst_of_a_second(&line);
            assert!(worst <= 1_000 + 100, "10 ppm for 100 ms is 1 µs: {worst}");
        }
        oscillator.worst_of_a_second(&line);
        assert_eq!(line.residuals().off, 0);
        oscillator.ghz *= 1.0 + 500e-6; // the most that NTP slews
        let worst = oscillator.worst_of_a_second(&line);
        assert!((OFF..50_000 + 200).contains(&worst), "500 ppm for at most 100 ms is 50 µs: {worst}");
        assert_eq!(line.residuals().off, 1, "it is seen at the next anchor");
        assert!(oscillator.worst_of_a_second(&line) <= 102, "and over with it");
    }

    #[test]
    fn after_a_long_pause_the_first_reading_is_the_truth() {
        let mut oscillator = Oscillator::new(2.6, 20);
        let line = oscillator.line();
        oscillator.worst_of_a_second(&line);
        for drift in [1e-4, -1e-4] {
            oscillator.ghz *= 1.0 + drift;
            oscillator.pass(10_000 * MS);
            assert!(oscillator.error(&line) <= 20, "late by 10 s");
            assert!(oscillator.worst_of_a_second(&line) <= 102);
        }
        let Residuals { worst, off, .. } = line.residuals();
        assert!(worst <= 102 && off == 0, "nobody has read what the line would have been: {worst}");
    }

    /// The counter jumps ahead between two anchors: what was read is not taken back, and the error is slewed away.
    #[test]
    fn a_step_is_seen_counted_and_never_makes_time_go_back() {
        for step in [20_000.0, -20_000.0, 1e9] {
            let mut oscillator = Oscillator::new(2.6, 20);
            let line = oscillator.line();
            oscillator.worst_of_a_second(&line);
            oscillator.ticks += step * oscillator.ghz;
            let mut last = 0;
            for _ in 0..400_000 {
                oscillator.pass(1_000);
                let _ = oscillator.error(&line);
                let read = line.last.get();
                assert!(read >= last, "{step}: back by {} ns", last - read);
                last = read;
            }
            let error = oscillator.error(&line);
            assert!(error <= 102, "{step}: still off by {error}");
            assert!(step > 1e6 || line.residuals().off >= 1, "{step}: {:?}", line.residuals());
        }
    }

    #[test]
    fn what_no_clock_shows_is_no_line() {
        let at = |ticks, ns| Anchor { ticks, ns };
        assert!(Line::through(at(5, 5), at(5, 9)).is_none());
        assert!(Line::through(at(5, 5), at(9, 4)).is_none());
        assert!(Line::through(at(9, 5), at(5, 9)).is_none());
        assert!(Line::through(at(5, 5), at(9, 5)).is_none(), "time must pass");
        assert!(Line::through(at(5, 5), at(9, 9)).is_some());
    }
}
