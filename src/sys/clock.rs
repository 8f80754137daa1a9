//! CLOCK_MONOTONIC through the vDSO, and the one use of the wall clock: a label.

use rustix::time::{ClockId, clock_gettime};

use crate::engine::Clock;
use crate::load::time::Nanos;

/// CLOCK_MONOTONIC. About 25 ns a read where the vDSO serves it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Monotonic;

impl Clock for Monotonic {
    fn now(&self) -> Nanos {
        read(ClockId::Monotonic)
    }
}

/// Nanoseconds from CLOCK_MONOTONIC's origin to the Unix epoch's, now: turns stamps into dates. Only for labels in
/// reports: the wall clock may step, so no duration is taken from it.
pub fn wall_offset() -> Nanos {
    // Between two reads of the one clock lies the read of the other.
    let before = Monotonic.now();
    let wall = wall();
    let after = Monotonic.now();
    wall.saturating_sub(Nanos(before.0 / 2 + after.0 / 2))
}

/// The wall clock, for relating the kernel's stamps to the clock of the run.
pub(super) fn wall() -> Nanos {
    read(ClockId::Realtime)
}

/// What one read of the clock costs: the least of several batches, so that an interruption does not count.
pub fn read_cost() -> Nanos {
    const READS: u64 = 1_000;
    let batch = || {
        let began = Monotonic.now();
        for _ in 0..READS {
            std::hint::black_box(Monotonic.now());
        }
        (Monotonic.now() - began).0 / READS
    };
    Nanos((0..5).map(|_| batch()).min().unwrap_or(0))
}

fn read(id: ClockId) -> Nanos {
    let t = clock_gettime(id);
    Nanos(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back_and_costs_little() {
        let mut last = Monotonic.now();
        for _ in 0..10_000 {
            let now = Monotonic.now();
            assert!(now >= last);
            last = now;
        }
        assert!(read_cost() < Nanos::from_micros(100), "{}", read_cost());
    }
}
