//! Time: CLOCK_MONOTONIC nanoseconds, waiting until a moment or burning CPU time, and bringing the kernel's
//! CLOCK_REALTIME stamps onto the monotonic clock.
//!
//! Waiting is precise to microseconds because it sleeps only until shortly before the moment and spins the rest. With a
//! timer slack of 1 ns the usual wake-up takes 25 µs, but on a busy virtual machine one in ten took longer than 60. So
//! each thread spins as long as covers nineteen in twenty of its own wake-ups: threads that share a processor get in each
//! other's way as little as may be.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use rustix::thread::{clock_nanosleep_absolute, set_current_timer_slack};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// How `sleep_until` waits, for the ready line.
pub(crate) const SLEEP_METHOD: &str = "timer slack 1 ns, absolute clock_nanosleep until 10 to 120 us before the end, by how late the thread woke before, then spin";

/// Burning CPU: how `burn` counts, for the ready line.
pub(crate) const SPIN_METHOD: &str =
    "burns the service time as CPU time of its thread (CLOCK_THREAD_CPUTIME_ID)";

/// The part of a wait that is spun, at most and at first, and at least.
const SPIN_MAX_NS: u64 = 120_000;
const SPIN_MIN_NS: u64 = 10_000;

/// How much longer it is spun after a wake-up that came too late, and how much shorter after one that did not: in balance
/// where one in twenty is too late.
const SPIN_UP_NS: u64 = 19_000;
const SPIN_DOWN_NS: u64 = 1_000;

thread_local! {
    /// The part of this thread's next wait that is spun.
    static SPIN_NS: Cell<u64> = const { Cell::new(SPIN_MAX_NS) };
}

/// How old the REALTIME to MONOTONIC offset may become before it is measured again.
const OFFSET_MAX_AGE_NS: u64 = 500_000_000;

/// CLOCK_MONOTONIC now, in nanoseconds.
pub(crate) fn now() -> u64 {
    nanos(clock_gettime(ClockId::Monotonic)) as u64
}

/// Lets timers of the calling thread fire when they are due instead of up to 50 µs later.
pub(crate) fn sharpen_timers() {
    // It can only fail on kernels without the call; the spin of `sleep_until` then still bounds the error.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
}

/// Waits until `deadline`: sleeps, then spins the last 10 to 120 µs.
pub(crate) fn sleep_until(deadline: u64) {
    let spin = SPIN_NS.get();
    let sleep_end = deadline.saturating_sub(spin);
    let mut woken = now();
    if woken < sleep_end {
        // A signal may end a sleep early: ask again until the time has come.
        while woken < sleep_end {
            let _ = clock_nanosleep_absolute(ClockId::Monotonic, &timespec(sleep_end));
            woken = now();
        }
        SPIN_NS.set(next_spin(spin, woken > deadline));
    }
    while now() < deadline {
        std::hint::spin_loop();
    }
}

fn next_spin(spin: u64, late: bool) -> u64 {
    let next = if late { spin + SPIN_UP_NS } else { spin - SPIN_DOWN_NS };
    next.clamp(SPIN_MIN_NS, SPIN_MAX_NS)
}

/// CPU time the calling thread has used, in nanoseconds.
pub(crate) fn cpu_time() -> u64 {
    nanos(clock_gettime(ClockId::ThreadCPUTime)) as u64
}

/// Burns CPU until the calling thread has used CPU time up to `until`. On a crowded machine this takes longer than
/// on an idle one, as computing does.
pub(crate) fn burn_until(until: u64) {
    while cpu_time() < until {
        for _ in 0..32 {
            std::hint::spin_loop();
        }
    }
}

/// Converts kernel stamps (CLOCK_REALTIME) to CLOCK_MONOTONIC. Both clocks are disciplined alike, so only a step of
/// the wall clock changes the offset: it is measured again twice a second and whenever a stamp lies in the future.
#[derive(Debug)]
pub(crate) struct StampClock {
    offset: AtomicI64,
    measured_at: AtomicU64,
}

impl StampClock {
    pub(crate) fn new() -> Self {
        let clock = Self { offset: AtomicI64::new(0), measured_at: AtomicU64::new(0) };
        clock.measure();
        clock
    }

    /// The monotonic time of a kernel stamp that was read at `read`; `None` if the two cannot be reconciled.
    pub(crate) fn to_monotonic(&self, realtime: i64, read: u64) -> Option<u64> {
        if read.saturating_sub(self.measured_at.load(Ordering::Acquire)) > OFFSET_MAX_AGE_NS {
            self.measure();
        }
        self.convert(realtime, read).or_else(|| {
            self.measure();
            self.convert(realtime, read)
        })
    }

    /// A stamp cannot be later than the read that returned it; half a microsecond is the error of the offset.
    fn convert(&self, realtime: i64, read: u64) -> Option<u64> {
        let stamp = u64::try_from(realtime - self.offset.load(Ordering::Acquire)).ok()?;
        (stamp <= read + 500).then_some(stamp.min(read))
    }

    /// REALTIME − MONOTONIC, read in a bracket; of a few brackets the narrowest counts.
    fn measure(&self) {
        let (_, offset) = (0..5)
            .map(|_| {
                let before = nanos(clock_gettime(ClockId::Monotonic));
                let real = nanos(clock_gettime(ClockId::Realtime));
                let after = nanos(clock_gettime(ClockId::Monotonic));
                (after - before, real - (before + after) / 2)
            })
            .min()
            .unwrap_or((0, 0));
        self.offset.store(offset, Ordering::Release);
        self.measured_at.store(now(), Ordering::Release);
    }
}

fn nanos(t: Timespec) -> i64 {
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

/// A span or moment in nanoseconds as the kernel wants it.
pub(crate) fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as _ }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_never_ends_early() {
        for wait in [0, 1_000, 200_000, 2_000_000] {
            let deadline = now() + wait;
            sleep_until(deadline);
            assert!(now() >= deadline);
        }
    }

    #[test]
    fn spinning_covers_nineteen_wake_ups_in_twenty() {
        // Wake-ups that are late by 0 to 79 µs, all as often: one in twenty takes longer than 76.
        let mut spin = SPIN_MAX_NS;
        let (mut late, mut spun) = (0, 0);
        for i in 0..40_000_u64 {
            let lateness = i * 37 % 80 * 1_000;
            late += u64::from(lateness > spin);
            spin = next_spin(spin, lateness > spin);
            spun += spin;
        }
        assert!((1_500..2_500).contains(&late), "{late} of 40 000");
        assert!((65_000..95_000).contains(&(spun / 40_000)), "{}", spun / 40_000);
        assert_eq!(next_spin(SPIN_MIN_NS, false), SPIN_MIN_NS);
        assert_eq!(next_spin(SPIN_MAX_NS, true), SPIN_MAX_NS);
    }

    #[test]
    fn burning_uses_the_cpu_time_asked_for() {
        let before = cpu_time();
        burn_until(before + 2_000_000);
        assert!(cpu_time() - before >= 2_000_000);
    }

    #[test]
    fn stamps_convert_to_the_monotonic_clock() {
        let clock = StampClock::new();
        let before = now();
        let real = nanos(clock_gettime(ClockId::Realtime));
        let read = now();
        let stamp = clock.to_monotonic(real, read).expect("a stamp of the past");
        assert!(stamp + 1_000 >= before && stamp <= read);
        assert_eq!(clock.to_monotonic(real + 1_000_000_000, read), None, "a stamp of the future");
    }
}
