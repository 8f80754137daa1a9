//! The closed loop: a connection's next request is due when its previous answer came, plus the think time. The schedule
//! says which id comes next, when the phases end, and which users are wanted when.

use super::users::Users;
use super::{Arrival, Extent, Load, Offer, Phase, RequestId, Shard};
use crate::load::time::Nanos;

/// One thread's ids and turns.
#[derive(Debug, Clone)]
pub(super) struct Closed {
    users: Option<Users>,
    warmup: Extent,
    measure: Extent,
    shard: Shard,
    t0: Nanos,
    phase: Phase,
    /// How many arrivals of this phase this shard has drawn.
    drawn: u64,
    /// When the measured phase began, once it is known.
    measure_start: Option<Nanos>,
}

impl Closed {
    pub(super) fn new(offer: &Offer, shard: Shard, t0: Nanos) -> Self {
        let measure_start = match (offer.warmup.time, offer.warmup.count) {
            (Some(time), None) => Some(t0.saturating_add(time)),
            (None, Some(0)) => Some(t0),
            _ => None,
        };
        let users = match &offer.load {
            Load::Users { stages, .. } => Some(Users::new(stages)),
            _ => None,
        };
        assert!(users.is_none() || measure_start.is_some(), "the plan gives such a warm-up a time");
        let time = [offer.measure.time, offer.load.span()].into_iter().flatten().min();
        Self {
            users,
            warmup: offer.warmup,
            measure: Extent { time, ..offer.measure },
            shard,
            t0,
            phase: Phase::Warmup,
            drawn: 0,
            measure_start,
        }
    }

    /// Draws the next id for a connection whose turn is at `intended`; `None` when the load is over.
    pub(super) fn draw(&mut self, intended: Nanos) -> Option<Arrival> {
        if self.phase == Phase::Warmup && !self.in_warmup(intended) {
            self.phase = Phase::Measure;
            self.drawn = 0;
        }
        if self.phase == Phase::Measure {
            let start = *self.measure_start.get_or_insert(intended);
            let over = self.measure.time.is_some_and(|time| intended >= start.saturating_add(time));
            if over || self.quota_drawn(self.measure.count) {
                return None;
            }
        }
        let seq = self.shard.index + self.drawn * self.shard.of;
        self.drawn += 1;
        Some(Arrival { id: RequestId { phase: self.phase, seq }, intended })
    }

    /// When the user of connection `slot` has its next turn, at `at` or later; `None` if that is never.
    pub(super) fn turn(&self, slot: u32, at: Nanos) -> Option<Nanos> {
        let counted = self.phase == Phase::Measure && self.quota_drawn(self.measure.count);
        let at = match &self.users {
            None => at,
            Some(users) => self.wanted(users, self.shard.index + u64::from(slot) * self.shard.of, at)?,
        };
        (!counted && self.end().is_none_or(|end| at < end)).then_some(at)
    }

    /// In the warm-up the users of the start are there.
    fn wanted(&self, users: &Users, k: u64, at: Nanos) -> Option<Nanos> {
        let start = self.measure_start.expect("known for stages");
        if at < start && k < users.at_start() {
            return Some(at);
        }
        Some(start.saturating_add(users.wanted(k, at.saturating_sub(start))?))
    }

    pub(super) fn end(&self) -> Option<Nanos> {
        Some(self.measure_start?.saturating_add(self.measure.time?))
    }

    /// Measured requests of this shard that were not drawn, where the plan names a number.
    pub(super) fn undrawn(&self) -> u64 {
        let planned = if self.measure.time.is_some() { None } else { self.measure.count };
        let drawn = if self.phase == Phase::Measure { self.drawn } else { 0 };
        planned.map_or(0, |n| self.shard.share(n) - drawn)
    }

    fn in_warmup(&self, intended: Nanos) -> bool {
        let in_time = self.warmup.time.is_none_or(|time| intended < self.t0.saturating_add(time));
        in_time && !self.quota_drawn(self.warmup.count)
    }

    fn quota_drawn(&self, count: Option<u64>) -> bool {
        count.is_some_and(|n| self.drawn >= self.shard.share(n))
    }
}
