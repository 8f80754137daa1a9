//! Chance, from one seed; and what came of it, by name, so that a test can see that every fault really happened.

use std::collections::BTreeMap;

use crate::load::rng::Rng;
use crate::load::time::Nanos;

/// A seeded source of decisions.
#[derive(Debug, Clone)]
pub(super) struct Dice {
    rng: Rng,
    marks: BTreeMap<&'static str, u64>,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), marks: BTreeMap::new() }
    }

    /// Something worth knowing of has happened.
    pub(super) fn mark(&mut self, what: &'static str) {
        *self.marks.entry(what).or_default() += 1;
    }

    /// How often what has happened.
    pub(super) fn marks(&self) -> &BTreeMap<&'static str, u64> {
        &self.marks
    }

    /// The fault of this name strikes `per_mille` times out of 1000.
    pub(super) fn strikes(&mut self, fault: &'static str, per_mille: u16) -> bool {
        let strikes = self.chance(per_mille);
        if strikes {
            self.mark(fault);
        }
        strikes
    }

    /// True `per_mille` times out of 1000.
    pub(super) fn chance(&mut self, per_mille: u16) -> bool {
        // No draw where nothing can happen: a world without a fault does not change when the fault is invented.
        per_mille > 0 && self.below(1_000) < u64::from(per_mille)
    }

    /// `0..n`; the bias is below n/2^64.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.rng.next_u64() % n
    }

    /// `0..=most`.
    pub(super) fn up_to(&mut self, most: Nanos) -> Nanos {
        if most == Nanos::ZERO { most } else { Nanos(self.below(most.0 + 1)) }
    }

    /// In (0, 1].
    pub(super) fn unit(&mut self) -> f64 {
        ((self.rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Any order, each equally likely.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}
