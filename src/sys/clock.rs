//! The clocks: CLOCK_MONOTONIC through the vDSO, which is the truth; the run's own, which reads the processor's counter
//! and follows the truth; and the wall clock, for labels.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use self::line::Line;
use crate::engine::Clock;
use crate::facts::ClockAccount;
use crate::load::time::Nanos;

mod line;
mod tsc;

/// CLOCK_MONOTONIC. About 25 ns a read where the vDSO serves it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Monotonic;

impl Clock for Monotonic {
    fn now(&self) -> Nanos {
        read(ClockId::Monotonic)
    }
}

/// What the calling thread has used of a processor.
pub fn own_cpu() -> Nanos {
    read(ClockId::ThreadCPUTime)
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

/// True in a time namespace, whose CLOCK_MONOTONIC is not the machine's. System calls translate; what the kernel reads from
/// memory that it shares with us, it takes for the machine's.
pub fn is_shifted() -> bool {
    std::fs::read_to_string("/proc/self/timens_offsets").is_ok_and(|text| shifts_monotonic(&text))
}

/// Lines of `clock seconds nanoseconds`, time_namespaces(7).
fn shifts_monotonic(offsets: &str) -> bool {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    offsets.lines().map(words).any(|words| {
        words.first().is_some_and(|clock| clock == "monotonic") && words[1..].iter().any(|n| n != "0")
    })
}

/// The wall clock, for relating the kernel's stamps to the clock of the run.
pub(super) fn wall() -> Nanos {
    read(ClockId::Realtime)
}

/// What one read of CLOCK_MONOTONIC costs.
pub fn read_cost() -> Nanos {
    cost_of(&Monotonic)
}

/// The clock of one thread of a run. CLOCK_MONOTONIC, but read from the processor's time stamp counter where that can be
/// trusted: a third of the cost. An anchor in CLOCK_MONOTONIC at least every 100 ms of reading keeps it there. Where it
/// cannot be trusted, the vDSO's clock itself.
#[derive(Debug)]
pub struct RunClock {
    counter: Result<Line, String>,
    read_ns: Nanos,
    resolution: Nanos,
}

impl RunClock {
    /// How far the first two anchors lie apart.
    const FIRST_BASE: Duration = Duration::from_millis(2);

    /// The best clock of this machine. Takes a few milliseconds; belongs to the thread that will read it.
    pub fn new() -> Self {
        Self::on(tsc::usable().and_then(|()| {
            let first = tsc::anchor(truth);
            std::thread::sleep(Self::FIRST_BASE);
            Line::through(first, tsc::anchor(truth))
                .ok_or_else(|| "the time stamp counter stands still".to_owned())
        }))
    }

    fn on(counter: Result<Line, String>) -> Self {
        let mut clock = Self { counter, read_ns: Nanos::ZERO, resolution: Nanos::ZERO };
        clock.read_ns = cost_of(&clock);
        clock.resolution = resolution_of(&clock);
        clock
    }

    /// What it was and how well it kept to the truth.
    pub fn account(&self) -> ClockAccount {
        let line = self.counter.as_ref().ok();
        let residuals = line.map(Line::residuals).unwrap_or_default();
        ClockAccount {
            source: if line.is_some() { "tsc" } else { "vdso" }.to_owned(),
            why_not_tsc: self.counter.as_ref().err().cloned(),
            read_ns: self.read_ns,
            resolution_ns: self.resolution,
            frequency_hz: line.map(Line::frequency),
            anchors: residuals.anchors,
            worst_residual_ns: line.map(|_| Nanos(residuals.worst)),
            anchors_off: residuals.off,
        }
    }

    #[cold]
    fn anchor(line: &Line) -> Nanos {
        Nanos(line.lay(tsc::anchor(truth)))
    }
}

impl Default for RunClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RunClock {
    #[inline]
    fn now(&self) -> Nanos {
        match &self.counter {
            Ok(line) => line.at(tsc::ticks()).map_or_else(|| Self::anchor(line), Nanos),
            Err(_) => Monotonic.now(),
        }
    }
}

fn truth() -> u64 {
    Monotonic.now().0
}

/// What one read costs: the least of several batches, so that an interruption does not count.
fn cost_of(clock: &impl Clock) -> Nanos {
    const READS: u64 = 1_000;
    let batch = || {
        let began = clock.now();
        for _ in 0..READS {
            std::hint::black_box(clock.now());
        }
        (clock.now() - began).0 / READS
    };
    Nanos((0..5).map(|_| batch()).min().unwrap_or(0))
}

/// The least step that is not zero among some thousand readings; of a clock so coarse that they show none, the first step
/// that more readings show.
fn resolution_of(clock: &impl Clock) -> Nanos {
    const READINGS: usize = 2_000;
    /// A second and more at 25 ns a reading: a clock that shows no step for so long is none.
    const AT_MOST: usize = 50_000_000;
    let mut last = clock.now();
    let mut step = || {
        let now = clock.now();
        now - std::mem::replace(&mut last, now)
    };
    let least = (0..READINGS).map(|_| step()).filter(|&step| step > Nanos::ZERO).min();
    least.or_else(|| (READINGS..AT_MOST).map(|_| step()).find(|&step| step > Nanos::ZERO)).unwrap_or_default()
}

fn read(id: ClockId) -> Nanos {
    let t = clock_gettime(id);
    Nanos(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_namespace_is_told_by_its_offsets() {
        assert!(!shifts_monotonic("monotonic           0         0\nboottime            5         0\n"));
        assert!(shifts_monotonic("monotonic       36000         0\nboottime            0         0\n"));
        assert!(shifts_monotonic("monotonic           0         7\n"));
        assert!(!shifts_monotonic(""));
    }

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

    /// Reads for so long; every reading lies between two of CLOCK_MONOTONIC, which an interruption may take apart.
    fn follows_the_truth(clock: &RunClock, millis: u64) {
        let end = Monotonic.now() + Nanos::from_millis(millis);
        let (mut last, mut far) = (Nanos::ZERO, Nanos::ZERO);
        loop {
            let before = Monotonic.now();
            let mut now = clock.now();
            let after = Monotonic.now();
            far = far.max(before.saturating_sub(now)).max(now.saturating_sub(after));
            for _ in 0..50 {
                assert!(now >= last, "back by {}", last.saturating_sub(now));
                last = now;
                now = clock.now();
            }
            if after >= end {
                break;
            }
        }
        // A few hundred ns; the rest is for a machine that is disturbed while it takes an anchor.
        assert!(far < Nanos::from_micros(100), "off by {far}: {:?}", clock.account());
    }

    #[test]
    fn the_run_clock_follows_the_truth_and_does_not_go_back() {
        let clock = RunClock::new();
        follows_the_truth(&clock, 700);
        std::thread::sleep(Duration::from_millis(350));
        follows_the_truth(&clock, 50);
        let account = clock.account();
        assert!(account.resolution_ns > Nanos::ZERO && account.resolution_ns < Nanos::from_micros(100));
        match account.why_not_tsc {
            None => {
                assert_eq!(account.source, "tsc");
                assert!(account.anchors >= 7, "one at least every 100 ms: {account:?}");
                assert!(account.frequency_hz.is_some_and(|hz| hz > 1_000_000), "{account:?}");
            }
            Some(why) => assert!(account.source == "vdso" && !why.is_empty()),
        }
    }

    #[test]
    fn the_step_of_a_coarse_clock_is_found() {
        const JIFFY: u64 = 4_000_000;
        struct Coarse;
        impl Clock for Coarse {
            fn now(&self) -> Nanos {
                Nanos(Monotonic.now().0 / JIFFY * JIFFY)
            }
        }
        let step = resolution_of(&Coarse).0; // more than one, where we were not running
        assert!(step >= JIFFY && step.is_multiple_of(JIFFY), "{step}");
    }

    #[test]
    fn where_the_counter_is_no_clock_the_vdso_is_and_says_why() {
        let clock = RunClock::on(Err("it is a test".to_owned()));
        follows_the_truth(&clock, 20);
        let account = clock.account();
        assert_eq!((account.source.as_str(), account.anchors), ("vdso", 0));
        assert_eq!(account.why_not_tsc.as_deref(), Some("it is a test"));
        assert_eq!((account.frequency_hz, account.worst_residual_ns), (None, None));
    }
}
