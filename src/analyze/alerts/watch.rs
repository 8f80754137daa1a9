//! One condition over time: when an alert begins, when it ends, and what was the worst of it.

use crate::analyze::gate::Op;
use crate::load::time::Nanos;

/// Alerts that are kept of one rule in one round.
const KEPT_MAX: usize = 100;

/// How long a condition must hold before an alert begins, and must not hold before it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold {
    /// Time that was observed.
    pub(super) time: Nanos,
    /// In a row.
    pub(super) observations: u32,
}

/// A time in which the condition held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    pub(super) start: Nanos,
    /// None while it holds.
    pub(super) end: Option<Nanos>,
    /// The value farthest beyond the limit.
    pub(super) worst: f64,
}

/// Watches one figure. It is fed in the order of time.
#[derive(Debug)]
pub(super) struct Watch {
    op: Op,
    limit: f64,
    hold: Hold,
    /// The alert that holds.
    open: Option<Span>,
    /// Observations in a row that speak against what holds now.
    contrary: Option<Contrary>,
    over: Vec<Span>,
    left_out: u64,
    observations: u64,
}

#[derive(Debug, Clone, Copy)]
struct Contrary {
    since: Nanos,
    length: Nanos,
    observations: u32,
    worst: f64,
}

impl Watch {
    pub(super) fn new(op: Op, limit: f64, hold: Hold) -> Self {
        let over = Vec::new();
        Self { op, limit, hold, open: None, contrary: None, over, left_out: 0, observations: 0 }
    }

    /// The figure over the time between `from` and `to`. A time without a figure is left out: it neither begins nor ends
    /// an alert. Returns the alert that begins.
    pub(super) fn observe(&mut self, from: Nanos, to: Nanos, value: Option<f64>) -> Option<Span> {
        let value = value?;
        self.observations += 1;
        let holds = self.op.holds(value.total_cmp(&self.limit));
        if holds && let Some(open) = &mut self.open {
            open.worst = worse(self.op, open.worst, value);
        }
        if holds == self.open.is_some() {
            self.contrary = None;
            return None;
        }
        let before = self.contrary.unwrap_or(Contrary {
            since: from,
            length: Nanos::ZERO,
            observations: 0,
            worst: value,
        });
        let so_far = Contrary {
            length: before.length + to.saturating_sub(from),
            observations: before.observations + 1,
            worst: worse(self.op, before.worst, value),
            ..before
        };
        if so_far.length < self.hold.time || so_far.observations < self.hold.observations {
            self.contrary = Some(so_far);
            return None;
        }
        self.contrary = None;
        match self.open.take() {
            Some(open) => {
                self.keep(Span { end: Some(so_far.since), ..open });
                None
            }
            None => {
                self.open = Some(Span { start: so_far.since, end: None, worst: so_far.worst });
                self.open
            }
        }
    }

    /// There were figures enough for an alert.
    pub(super) fn could_see(&self) -> bool {
        self.observations >= u64::from(self.hold.observations)
    }

    /// The alerts, and how many more there were. One that holds has no end.
    pub(super) fn finish(&mut self) -> (Vec<Span>, u64) {
        if let Some(open) = self.open.take() {
            self.keep(open);
        }
        (std::mem::take(&mut self.over), self.left_out)
    }

    fn keep(&mut self, span: Span) {
        if self.over.len() < KEPT_MAX {
            self.over.push(span);
        } else {
            self.left_out += 1;
        }
    }
}

fn worse(op: Op, a: f64, b: f64) -> f64 {
    // the condition `below` is the worse the less there is
    if op.is_upper_limit() { a.min(b) } else { a.max(b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Hold = Hold { time: Nanos::from_millis(300), observations: 1 };

    /// Begin and end in ms, and the worst.
    type Told = (u64, Option<u64>, f64);

    /// Samples of 100 ms: those at which an alert was told of, and the spans.
    fn watched(op: Op, hold: Hold, values: &[Option<f64>]) -> (Vec<usize>, Vec<Told>) {
        let mut watch = Watch::new(op, 80.0, hold);
        let at = |index: usize| Nanos::from_millis(100 * index as u64);
        let mut told = Vec::new();
        for (index, value) in values.iter().enumerate() {
            if let Some(span) = watch.observe(at(index), at(index + 1), *value) {
                assert_eq!(span.end, None);
                told.push(index);
            }
        }
        let (spans, left_out) = watch.finish();
        assert_eq!(left_out, 0);
        let ms = |time: Nanos| time.0 / 1_000_000;
        (told, spans.into_iter().map(|s| (ms(s.start), s.end.map(ms), s.worst)).collect())
    }

    fn values(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn one_sample_neither_begins_nor_ends_an_alert() {
        let quiet = values(&[99.0, 10.0, 99.0, 99.0, 80.0, 99.0, 99.0]);
        assert_eq!(watched(Op::Above, HOLD, &quiet), (vec![], vec![]), "at the limit is not above it");
        let loud = values(&[10.0, 81.0, 99.0, 82.0, 10.0, 95.0, 10.0, 10.0, 10.0, 10.0]);
        assert_eq!(watched(Op::Above, HOLD, &loud), (vec![3], vec![(100, Some(600), 99.0)]));
    }

    #[test]
    fn what_holds_at_the_end_has_no_end() {
        let rising = values(&[10.0, 81.0, 82.0, 83.0, 99.0, 10.0, 10.0]);
        assert_eq!(watched(Op::Above, HOLD, &rising), (vec![3], vec![(100, None, 99.0)]));
    }

    #[test]
    fn a_time_without_a_figure_says_nothing() {
        let gaps = [Some(99.0), None, Some(99.0), None, None, Some(98.0), None];
        assert_eq!(watched(Op::Above, HOLD, &gaps), (vec![5], vec![(0, None, 99.0)]));
        let mut blind = Watch::new(Op::Above, 80.0, HOLD);
        assert_eq!(blind.observe(Nanos::ZERO, Nanos::from_secs(1), None), None);
        assert!(!blind.could_see());
    }

    #[test]
    fn long_observations_can_be_enough_alone_or_not() {
        for (observations, told) in [(1, 1), (3, 3)] {
            let mut watch = Watch::new(Op::Above, 80.0, Hold { observations, ..HOLD });
            let second = Nanos::from_secs;
            let first = (0..5).find(|&s| watch.observe(second(s), second(s + 1), Some(90.0)).is_some());
            assert_eq!(first, Some(told - 1));
        }
    }

    #[test]
    fn below_the_worst_is_the_least() {
        let slack = values(&[99.0, 79.0, 20.0, 79.5, 99.0, 99.0, 99.0]);
        assert_eq!(watched(Op::Below, HOLD, &slack), (vec![3], vec![(100, Some(400), 20.0)]));
    }

    #[test]
    fn a_condition_that_flutters_for_an_hour_is_kept_bounded() {
        let mut watch = Watch::new(Op::Above, 80.0, HOLD);
        for second in 0..500 {
            let value = if second % 2 == 0 { 90.0 } else { 10.0 };
            watch.observe(Nanos::from_secs(second), Nanos::from_secs(second + 1), Some(value));
        }
        let (spans, left_out) = watch.finish();
        assert_eq!((spans.len(), left_out), (KEPT_MAX, 250 - KEPT_MAX as u64));
    }
}
