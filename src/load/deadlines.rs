//! Deadlines that are all the same distance away: the timeouts of requests, the timeouts of connects.
//!
//! Because the distance is constant, insertion order is expiry order, and a doubly linked list through
//! the connection slots does insert, remove and earliest in O(1) without allocating. No timer wheel.

use super::time::Nanos;

const NONE: u32 = u32::MAX;

/// At most one deadline per connection slot.
#[derive(Debug)]
pub(super) struct Deadlines {
    links: Vec<Link>,
    head: u32,
    tail: u32,
}

#[derive(Debug, Clone)]
struct Link {
    at: Nanos,
    prev: u32,
    next: u32,
    listed: bool,
}

impl Deadlines {
    /// For the slots `0..slots`.
    pub(super) fn new(slots: u32) -> Self {
        let link = Link { at: Nanos::ZERO, prev: NONE, next: NONE, listed: false };
        Self { links: vec![link; slots as usize], head: NONE, tail: NONE }
    }

    /// Sets the deadline of `slot`, which must be the latest of all so far and must not be set already.
    pub(super) fn push(&mut self, slot: u32, at: Nanos) {
        assert!(!self.links[slot as usize].listed, "slot {slot} has a deadline already");
        debug_assert!(self.tail == NONE || self.links[self.tail as usize].at <= at);
        self.links[slot as usize] = Link { at, prev: self.tail, next: NONE, listed: true };
        match self.tail {
            NONE => self.head = slot,
            tail => self.links[tail as usize].next = slot,
        }
        self.tail = slot;
    }

    /// Drops the deadline of `slot`, if it has one.
    pub(super) fn remove(&mut self, slot: u32) {
        let Link { prev, next, listed, .. } = self.links[slot as usize].clone();
        if !listed {
            return;
        }
        match prev {
            NONE => self.head = next,
            prev => self.links[prev as usize].next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => self.links[next as usize].prev = prev,
        }
        self.links[slot as usize].listed = false;
    }

    /// The earliest deadline.
    pub(super) fn earliest(&self) -> Option<Nanos> {
        (self.head != NONE).then(|| self.links[self.head as usize].at)
    }

    /// Removes and returns a slot whose deadline is at or before `now`.
    pub(super) fn pop_expired(&mut self, now: Nanos) -> Option<u32> {
        let slot = self.head;
        if self.earliest()? > now {
            return None;
        }
        self.remove(slot);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rng::Rng;

    /// Against the obvious model: a sorted vector.
    #[test]
    fn behaves_like_a_sorted_list() {
        let mut rng = Rng::new(7);
        let mut list = Deadlines::new(8);
        let mut model: Vec<(Nanos, u32)> = Vec::new();
        for step in 0..20_000u64 {
            let slot = (rng.next_u64() % 8) as u32;
            match rng.next_u64() % 3 {
                0 if !model.iter().any(|&(_, s)| s == slot) => {
                    list.push(slot, Nanos(step));
                    model.push((Nanos(step), slot));
                }
                1 => {
                    list.remove(slot);
                    model.retain(|&(_, s)| s != slot);
                }
                _ => {
                    let now = Nanos(step.saturating_sub(3));
                    let expected = model.first().filter(|(at, _)| *at <= now).map(|&(_, s)| s);
                    assert_eq!(list.pop_expired(now), expected);
                    if expected.is_some() {
                        model.remove(0);
                    }
                }
            }
            assert_eq!(list.earliest(), model.first().map(|&(at, _)| at));
        }
    }
}
