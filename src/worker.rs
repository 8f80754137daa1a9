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
/// While an answer is awaited, a parked worker looks up this often: so it knows, to as much, how long it was not running.
const HEARTBEAT: Nanos = Nanos::from_millis(2);

/// Runs `driver` on `engine` until the load is over, or the engine fails: what was measured until then is recorded all the
/// same, and what was in flight is unsent. `stops` says how often the user asked to stop.
pub fn run<E: Engine, C: Clock>(
    engine: &mut E,
    clock: &C,
    driver: &mut Driver,
    recorder: &mut Recorder,
    wait: Wait,
    stops: impl Fn() -> usize,
) -> (WorkerCounts, io::Result<()>) {
    let mut stops_seen = 0;
    loop {
        let now = clock.now();
        while stops_seen < stops() {
            stops_seen += 1;
            if stops_seen == 1 { driver.interrupt(now) } else { driver.cut(now) }
        }
        driver.tick(now, &mut |conn, op| engine.submit(conn, op));
        if !driver.is_done() {
            let deadline = wait.until(driver, now);
            let mut events = 0;
            let mut polled = engine.poll(Nanos::ZERO, &mut |conn, event, stamp| {
                events += 1;
                driver.on_event(conn, event, stamp);
            });
            if polled.is_ok() && events == 0 && deadline > now {
                // Only now does it sleep: what is found without sleeping has been waiting for us.
                driver.sleeps(deadline);
                polled = engine.poll(deadline, &mut |conn, event, stamp| driver.on_event(conn, event, stamp));
            }
            if polled.is_err() {
                return (abandon(clock, driver, recorder), polled);
            }
        }
        for sample in driver.finished() {
            recorder.record(&sample);
        }
        if driver.is_done() {
            // a stall in the last turn is one too
            driver.ends(clock.now());
            return (WorkerCounts { driver: driver.counts() }, Ok(()));
        }
    }
}

/// Ends a load whose engine is of no more use.
fn abandon(clock: &impl Clock, driver: &mut Driver, recorder: &mut Recorder) -> WorkerCounts {
    let mut now = clock.now();
    driver.cut(now);
    // A later turn gives up the stamps that samples wait for.
    while !driver.is_done() {
        now = now.saturating_add(Nanos(1));
        driver.tick(now, &mut |_, _| {});
    }
    for sample in driver.finished() {
        recorder.record(&sample);
    }
    driver.ends(clock.now());
    WorkerCounts { driver: driver.counts() }
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
                let longest = if driver.in_flight() > 0 { HEARTBEAT } else { LONGEST_PARK };
                next.saturating_sub(early).min(now.saturating_add(longest))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;
    use crate::load::driver::{Keepalive, Settings};
    use crate::load::io::{ConnId, Event, Op, Stamp};
    use crate::load::request::Template;
    use crate::load::response::Limits;
    use crate::load::schedule::{Extent, Load, Offer, Schedule, Shard};
    use crate::record::{OkStatuses, Tally};

    #[derive(Clone, Default)]
    struct Time(Rc<Cell<u64>>);

    impl Clock for Time {
        fn now(&self) -> Nanos {
            Nanos(self.0.get())
        }
    }

    /// Grants everything at once; the poll that brings the answer returns `late` after the loop had asked for.
    struct Granting {
        time: Time,
        late: Nanos,
        /// Answers that it brings before it fails.
        lasts: u32,
        asked: Vec<(ConnId, Event<'static>)>,
    }

    impl Engine for Granting {
        fn submit(&mut self, conn: ConnId, op: Op<'_>) {
            self.asked.extend(match op {
                Op::Connect(_) => vec![(conn, Event::Connected)],
                Op::Send { tag, .. } => vec![
                    (conn, Event::Sent(tag)),
                    (conn, Event::SentAll(tag)),
                    (conn, Event::Received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")),
                ],
                Op::Close => Vec::new(),
            });
        }

        fn poll(
            &mut self,
            deadline: Nanos,
            sink: &mut impl FnMut(ConnId, Event<'_>, Stamp),
        ) -> io::Result<()> {
            for (conn, event) in self.asked.drain(..) {
                if matches!(event, Event::Received(_)) {
                    let Some(left) = self.lasts.checked_sub(1) else {
                        return Err(io::Error::other("worn out"));
                    };
                    self.lasts = left;
                    self.time.0.set(self.time.now().max(deadline).0 + self.late.0);
                }
                sink(conn, event, Stamp::at(self.time.now()));
            }
            Ok(())
        }
    }

    /// What an engine that lasts for so many answers makes of `n` requests over one connection.
    fn requests(n: u64, late: Nanos, lasts: u32) -> (WorkerCounts, io::Result<()>, Tally) {
        let time = Time::default();
        let load = Load::Closed { think: Nanos::ZERO };
        let settings = Settings {
            load: load.clone(),
            connections: 1,
            keepalive: Keepalive::On,
            requests: Arc::new(Template::new("GET", "/", "test", &[], None).into()),
            stamps: crate::load::io::Stamps::User,
            digest: false,
            retry_stale: false,
            timeout: Nanos::from_secs(1),
            connect_timeout: Nanos::from_secs(1),
            drain: Nanos::from_secs(1),
            time_cap: Nanos::from_secs(3_600),
            limits: Limits::default(),
        };
        let extent = Extent { count: Some(n), time: None };
        let mut driver = Driver::new(settings);
        let offer = Offer::new(load, Extent::NONE, extent, 1);
        driver.start(Schedule::new(&offer, Shard { index: 0, of: 1 }, Nanos::ZERO), Nanos::ZERO);
        let mut recorder = Recorder::new(OkStatuses::new(vec![200..=200]), false, 0, None);
        let mut engine = Granting { time: time.clone(), late, lasts, asked: Vec::new() };
        let (counts, ended) = run(&mut engine, &time, &mut driver, &mut recorder, Wait::Spin, || 0);
        (counts, ended, recorder.finish(counts.driver.undrawn, 0).measured)
    }

    fn counts_of_one_request(late: Nanos) -> WorkerCounts {
        let (counts, ended, _) = requests(1, late, 1);
        ended.unwrap();
        counts
    }

    #[test]
    fn what_was_measured_before_the_engine_failed_is_kept() {
        let (counts, ended, measured) = requests(5, Nanos::from_millis(1), 2);
        assert_eq!(ended.unwrap_err().to_string(), "worn out");
        assert_eq!((measured.scheduled, measured.completed, measured.unsent), (5, 2, 3));
        assert_eq!((counts.driver.offered, counts.driver.undrawn), (3, 2), "one was in flight");
        measured.assert_conserved();
    }

    #[test]
    fn a_stall_counts_even_in_the_turn_that_ends_the_run() {
        let pace = counts_of_one_request(Nanos::from_millis(70)).driver.pace;
        assert_eq!((pace.stalled, pace.longest_stall), (Nanos::from_millis(70), Nanos::from_millis(70)));
        assert_eq!(counts_of_one_request(Nanos::from_millis(1)).driver.pace.stalled, Nanos::ZERO);
    }
}
