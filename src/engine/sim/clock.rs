//! Virtual time. It moves only when the client waits or pays for something it does; never by itself, never back.

use std::cell::Cell;
use std::rc::Rc;

use crate::engine::Clock;
use crate::load::time::Nanos;

/// The client does not run for a while, as under SIGSTOP or on a processor taken away; the network goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// When it begins.
    pub at: Nanos,
    /// How long it lasts.
    pub length: Nanos,
}

/// The client's view of virtual time. Clones are hands of the same clock.
#[derive(Debug, Clone)]
pub struct SimClock(Rc<Hands>);

#[derive(Debug)]
struct Hands {
    now: Cell<Nanos>,
    read_cost: Nanos,
    /// In order.
    stops: Vec<Stop>,
    stops_over: Cell<usize>,
}

impl SimClock {
    /// A clock at `start` of which every reading costs `read_cost`. `stops` are in order of time.
    pub fn new(start: Nanos, read_cost: Nanos, stops: Vec<Stop>) -> Self {
        assert!(stops.is_sorted_by_key(|stop| stop.at), "stops are given in order");
        Self(Rc::new(Hands { now: Cell::new(start), read_cost, stops, stops_over: Cell::new(0) }))
    }

    /// The time, as an observer outside the world sees it: looking costs nothing.
    pub fn time(&self) -> Nanos {
        self.0.now.get()
    }

    /// The client works for so long.
    pub(super) fn spend(&self, cost: Nanos) {
        self.wait_until(self.time() + cost);
    }

    /// The client sleeps. It may be woken late, by a stop; time that has passed already does not come back.
    pub(super) fn wait_until(&self, at: Nanos) {
        let hands = &*self.0;
        let mut now = hands.now.get().max(at);
        while let Some(stop) = hands.stops.get(hands.stops_over.get()).filter(|stop| stop.at <= now) {
            now = now.max(stop.at + stop.length);
            hands.stops_over.set(hands.stops_over.get() + 1);
        }
        hands.now.set(now);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Nanos {
        self.spend(self.0.read_cost);
        self.time()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_and_waiting_move_it_and_a_stop_makes_it_jump() {
        let stop = Stop { at: Nanos(100), length: Nanos(50) };
        let clock = SimClock::new(Nanos(10), Nanos(1), vec![stop]);
        assert_eq!((clock.time(), clock.now(), clock.time()), (Nanos(10), Nanos(11), Nanos(11)));
        clock.wait_until(Nanos(5));
        assert_eq!(clock.time(), Nanos(11));
        let same = clock.clone();
        same.wait_until(Nanos(99));
        assert_eq!(clock.now(), Nanos(150), "stopped while it read the clock");
        assert_eq!(same.time(), Nanos(150));
        clock.spend(Nanos(7));
        assert_eq!(clock.time(), Nanos(157));
    }
}
