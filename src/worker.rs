//! The one hot loop: time, decisions, I/O, samples. Generic over engine and clock, so that it runs unchanged in a
//! simulator.

use std::io;

use crate::engine::{Clock, Engine};
use crate::facts::WorkerCounts;
use crate::load::driver::Driver;
use crate::load::time::Nanos;
use crate::record::Recorder;

/// How the loop waits when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Polls without pause: no wake-up delay, a whole core.
    Spin,
    /// Sleeps in the kernel until something happens or is due.
    Park,
    /// Spins while anything is in flight or due within 150 µs, else parks until then.
    Auto,
}

/// A sleep may end this late (timer slack, wake-up); the rest of the way is spun.
const NEAR: Nanos = Nanos::from_micros(150);
/// The stop flag is looked at this often even when nothing happens.
const LONGEST_PARK: Nanos = Nanos::from_millis(100);

/// Runs `driver` on `engine` until the load is over. `stops` says how often the user asked to stop.
pub fn run<E: Engine, C: Clock>(
    engine: &mut E,
    clock: &C,
    driver: &mut Driver,
    recorder: &mut Recorder,
    wait: Wait,
    stops: impl Fn() -> usize,
) -> io::Result<WorkerCounts> {
    let mut counts = WorkerCounts::default();
    let mut stops_seen = 0;
    let mut awaited = Nanos::MAX;
    loop {
        let now = clock.now();
        counts.add_stall(now.saturating_sub(awaited));
        while stops_seen < stops() {
            stops_seen += 1;
            if stops_seen == 1 { driver.interrupt(now) } else { driver.cut(now) }
        }
        driver.tick(now, &mut |conn, op| engine.submit(conn, op));
        let mut events = 0;
        if !driver.is_done() {
            let deadline = wait.until(driver, now);
            awaited = deadline.max(now);
            engine.poll(deadline, &mut |conn, event, stamp| {
                events += 1;
                driver.on_event(conn, event, stamp);
            })?;
        }
        for sample in driver.finished() {
            recorder.record(&sample);
        }
        counts.turns += 1;
        counts.useful_turns += u64::from(events > 0);
        if driver.is_done() {
            counts.driver = driver.counts();
            return Ok(counts);
        }
    }
}

/// Fills the connection pool before the load starts.
pub fn open_connections<E: Engine, C: Clock>(
    engine: &mut E,
    clock: &C,
    driver: &mut Driver,
    stops: impl Fn() -> usize,
) -> io::Result<()> {
    driver.open_all();
    while !driver.is_opened() && stops() == 0 {
        let now = clock.now();
        driver.tick(now, &mut |conn, op| engine.submit(conn, op));
        let deadline = driver.next_deadline().min(now.saturating_add(LONGEST_PARK));
        engine.poll(deadline, &mut |conn, event, stamp| driver.on_event(conn, event, stamp))?;
    }
    Ok(())
}

impl Wait {
    /// Until when a poll may block. ZERO: not at all.
    fn until(self, driver: &mut Driver, now: Nanos) -> Nanos {
        match self {
            Self::Spin => Nanos::ZERO,
            Self::Auto if driver.in_flight() > 0 => Nanos::ZERO,
            Self::Auto | Self::Park => {
                let next = driver.next_deadline();
                let early = if self == Self::Auto { NEAR } else { Nanos::ZERO };
                if next <= now.saturating_add(early) {
                    return Nanos::ZERO;
                }
                next.saturating_sub(early).min(now.saturating_add(LONGEST_PARK))
            }
        }
    }
}
