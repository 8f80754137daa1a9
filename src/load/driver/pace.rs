//! How well the loop that turns the driver keeps up: when it had nothing to do, when it came late, what it was busy for.
//!
//! It sees the times of the ticks and how much was done in each turn, nothing else. From that follow the loop's own
//! account ([`PaceCounts`]) and, for an arrival that found no free connection, how much of its wait is our doing.

use crate::load::time::Nanos;

/// A turn of a loop that polls without sleep and finds nothing takes less than a microsecond; one that takes longer than
/// this was interrupted.
pub const HICCUP: Nanos = Nanos::from_micros(10);
/// A turn that handles a full batch of answers takes less.
pub const STALL: Nanos = Nanos::from_millis(5);
/// One event or operation takes less: a send over loopback, in which the kernel also does the receiver's part, is the most.
const EACH: u64 = 5_000;
/// A loop that is busy for more of the time than this is what holds the load up.
const SATURATED_PERCENT: u128 = 95;
/// Up to 2^40 ns: 18 minutes.
const POWERS: usize = 40;

/// Durations of one kind, in buckets that double.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gaps {
    /// How many.
    pub count: u64,
    /// All together.
    pub total: Nanos,
    /// The longest.
    pub longest: Nanos,
    /// `below[i]`: those that are less than 2^i ns, and not less than half of it.
    below: [u64; POWERS],
}

impl Default for Gaps {
    fn default() -> Self {
        Self { count: 0, total: Nanos::ZERO, longest: Nanos::ZERO, below: [0; POWERS] }
    }
}

impl Gaps {
    /// Counts one.
    pub fn add(&mut self, gap: Nanos) {
        self.count += 1;
        self.total += gap;
        self.longest = self.longest.max(gap);
        self.below[(64 - gap.0.leading_zeros() as usize).min(POWERS - 1)] += 1;
    }

    /// 99 of 100 were shorter than this: the edge of a bucket, at most twice the percentile.
    pub fn p99_below(&self) -> Option<Nanos> {
        let rank = (self.count * 99).div_ceil(100);
        let mut seen = 0;
        let power = self.below.iter().position(|n| {
            seen += n;
            rank > 0 && seen >= rank
        })?;
        Some(Nanos(1 << power).min(Nanos(self.longest.0 + 1)))
    }
}

/// The account of a thread's loop, from the start of the load to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PaceCounts {
    /// Turns of the loop.
    pub turns: u64,
    /// Turns in which something was done.
    pub useful_turns: u64,
    /// From the first turn to the end of the last.
    pub wall: Nanos,
    /// Time in turns that did something, without the sleep in them.
    pub busy: Nanos,
    /// Turns that found nothing to do, did not sleep, and yet took longer than [`HICCUP`].
    pub hiccups: Gaps,
    /// How late timed sleeps ended.
    pub oversleeps: Gaps,
    /// Time lost in stalls: turns that came more than [`STALL`] later than the loop had asked for.
    pub stalled: Nanos,
    /// The longest of them.
    pub longest_stall: Nanos,
}

/// A sleep in the turn under way.
#[derive(Debug, Clone, Copy)]
struct Sleep {
    until: Nanos,
    /// The stamp of the first event it brought.
    woke: Option<Nanos>,
}

/// Watches one loop.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The last tick, once the load has begun.
    last: Option<Nanos>,
    /// Events and operations since.
    done: u64,
    sleep: Option<Sleep>,
    /// The last time at which it is known that there was nothing to do.
    idle_at: Nanos,
    /// Lost in the turn before the last, if the last had to make up for it.
    suspected: Nanos,
    /// When an arrival last found a free connection with none waiting before it; lost, and busy in all, since and until then.
    free_at: Nanos,
    lost: Nanos,
    busy_then: Nanos,
    counts: PaceCounts,
}

impl Pace {
    /// The load begins: nothing before counts.
    pub(super) fn begin(&mut self, t0: Nanos) {
        *self = Self { idle_at: t0, free_at: t0, ..Self::default() };
    }

    /// A turn begins, and the one before is over.
    pub(super) fn turn(&mut self, now: Nanos) {
        let (done, sleep) = (std::mem::take(&mut self.done), self.sleep.take());
        let Some(last) = self.last.replace(now) else { return };
        if done > 0 {
            // What was late in the turn before did matter: there was something to do after it.
            self.lost += self.suspected;
            self.counts.useful_turns += 1;
        }
        self.counts.turns += 1;
        let gap = now.saturating_sub(last);
        self.counts.wall += gap;
        let late = match sleep {
            Some(sleep) => self.slept(sleep, now, done),
            None if done == 0 => {
                self.idle_at = last;
                if gap > HICCUP {
                    self.counts.hiccups.add(gap);
                }
                gap
            }
            None => {
                self.counts.busy += gap;
                Nanos(gap.0.saturating_sub(EACH * done))
            }
        };
        self.suspected = if late > HICCUP { late } else { Nanos::ZERO };
        self.stall(now.saturating_sub(sleep.map_or(last, |sleep| sleep.until.max(last))));
    }

    /// How late the sleep ended and what was done after it.
    fn slept(&mut self, sleep: Sleep, now: Nanos, done: u64) -> Nanos {
        let woke = sleep.woke.unwrap_or(now);
        self.idle_at = woke.min(sleep.until);
        let oversleep = woke.saturating_sub(sleep.until);
        if woke >= sleep.until {
            self.counts.oversleeps.add(oversleep);
        }
        let awake = now.saturating_sub(woke);
        self.counts.busy += awake;
        oversleep + Nanos(awake.0.saturating_sub(EACH * done))
    }

    fn stall(&mut self, late: Nanos) {
        if late > STALL {
            self.counts.stalled += late;
            self.counts.longest_stall = self.counts.longest_stall.max(late);
        }
    }

    /// The turn sleeps, until then at most.
    pub(super) fn sleeps(&mut self, until: Nanos) {
        self.sleep = Some(Sleep { until, woke: None });
    }

    /// An event came in.
    pub(super) fn event(&mut self, at: Nanos) {
        self.done += 1;
        if let Some(sleep) = &mut self.sleep {
            sleep.woke.get_or_insert(at);
        }
    }

    /// An operation was submitted.
    pub(super) fn operation(&mut self) {
        self.done += 1;
    }

    /// No arrival waits for a connection: what was lost before delays nobody any more.
    pub(super) fn caught_up(&mut self, now: Nanos) {
        self.free_at = now;
        self.lost = Nanos::ZERO;
        self.busy_then = self.counts.busy;
    }

    /// Since when what a poll brings now may have lain unread, if the turn sleeps: it slept until then.
    pub(super) fn slept_until(&self) -> Option<Nanos> {
        self.sleep.map(|sleep| sleep.woke.map_or(sleep.until, |woke| woke.min(sleep.until)))
    }

    /// An arrival that was due at `intended` has not been drawn until now: at most how much of that is our doing? What the
    /// loop lost since arrivals began to wait, and the time since it last came to a turn without work; all of it where
    /// the loop was busy nearly all the time.
    pub(super) fn own_wait(&self, intended: Nanos, now: Nanos) -> Nanos {
        let waited = now.saturating_sub(intended);
        let backlog = now.saturating_sub(self.free_at);
        let busy = self.counts.busy.saturating_sub(self.busy_then);
        if u128::from(busy.0) * 100 > u128::from(backlog.0) * SATURATED_PERCENT {
            return waited;
        }
        let unbroken = now.saturating_sub(self.idle_at.max(intended));
        unbroken.saturating_add(self.lost).min(waited)
    }

    pub(super) fn counts(&self) -> PaceCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(us: u64) -> Nanos {
        Nanos::from_micros(us)
    }

    /// A loop whose first turn begins at 1 ms.
    fn begun() -> Pace {
        let mut pace = Pace::default();
        pace.turn(us(3)); // the pool is filled
        pace.begin(us(1_000));
        pace.turn(us(1_000));
        pace
    }

    #[test]
    fn idle_turns_are_not_busy_and_the_long_ones_are_hiccups() {
        let mut pace = begun();
        for at in [1_001, 1_002, 1_052] {
            pace.turn(us(at));
        }
        pace.event(us(1_053));
        pace.operation();
        pace.turn(us(1_060));
        let counts = pace.counts();
        assert_eq!((counts.turns, counts.useful_turns), (4, 1));
        assert_eq!((counts.wall, counts.busy), (us(60), us(8)));
        assert_eq!((counts.hiccups.count, counts.hiccups.longest), (1, us(50)));
        assert_eq!(counts.stalled, Nanos::ZERO);
    }

    #[test]
    fn a_sleep_is_neither_busy_nor_a_hiccup_and_its_lateness_is_counted() {
        let mut pace = begun();
        pace.sleeps(us(2_000));
        pace.event(us(1_500)); // woken before
        assert_eq!(pace.slept_until(), Some(us(1_500)));
        pace.event(us(1_504));
        pace.turn(us(1_510));
        assert_eq!((pace.counts().busy, pace.counts().oversleeps.count), (us(10), 0));
        pace.sleeps(us(2_000));
        assert_eq!(pace.slept_until(), Some(us(2_000)));
        pace.turn(us(2_030));
        let counts = pace.counts();
        assert_eq!((counts.busy, counts.oversleeps.longest, counts.hiccups.count), (us(10), us(30), 0));
        pace.sleeps(us(3_000));
        pace.event(us(9_000)); // stopped meanwhile
        assert_eq!(pace.slept_until(), Some(us(3_000)));
        pace.turn(us(9_010));
        assert_eq!((pace.counts().stalled, pace.counts().longest_stall), (us(6_010), us(6_010)));
    }

    #[test]
    fn a_wait_is_ours_as_far_as_we_were_stopped_or_never_idle() {
        // idle all the time: the pool is bound by the server
        let mut pace = begun();
        pace.turn(us(1_001));
        pace.turn(us(1_002));
        assert_eq!(pace.own_wait(us(0), us(1_002)), us(1));
        // stopped for 30 ms while there was nothing to do, and then there was: ours, also for what is drawn later
        pace.turn(us(31_002));
        pace.event(us(31_003));
        pace.turn(us(31_004));
        pace.turn(us(31_005)); // idle again
        pace.turn(us(31_006));
        assert_eq!(pace.own_wait(us(2_000), us(31_006)), us(29_006), "never more than it waited");
        assert_eq!(pace.own_wait(us(0), us(31_006)), us(30_001));
        pace.caught_up(us(31_006));
        assert_eq!(pace.own_wait(us(0), us(31_006)), us(1));
        // stopped, but there was nothing to do afterwards either: nobody waited for us
        pace.turn(us(61_006));
        pace.turn(us(61_007));
        pace.turn(us(61_008));
        assert_eq!(pace.own_wait(us(0), us(61_008)), us(1));
        // busy without a pause for 10 ms
        for at in (61_100..=71_100).step_by(100) {
            (0..30).for_each(|_| pace.operation());
            pace.turn(us(at));
        }
        assert_eq!(pace.own_wait(us(0), us(71_100)), us(10_093));
        assert_eq!(pace.own_wait(us(71_000), us(71_100)), us(100));
        // and so for long that the idle turns in between do not count
        pace.caught_up(us(71_100));
        for at in (71_200..=91_100).step_by(100) {
            (0..30).for_each(|_| pace.operation());
            pace.turn(us(at));
        }
        pace.turn(us(91_101));
        pace.turn(us(91_102));
        assert_eq!(pace.own_wait(us(70_000), us(91_102)), us(21_102));
    }

    #[test]
    fn a_stop_in_a_busy_turn_shows_against_what_the_turn_had_to_do() {
        let mut pace = begun();
        for at in 1_001..3_000 {
            pace.turn(us(at));
        }
        pace.event(us(3_000));
        pace.turn(us(11_000));
        pace.event(us(11_001));
        pace.turn(us(11_010));
        pace.turn(us(11_011));
        pace.turn(us(11_012));
        assert_eq!(pace.own_wait(us(1_000), us(11_012)), us(8_001 - 5 + 1));
    }

    #[test]
    fn the_buckets_bound_the_percentile() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.p99_below(), None);
        (0..99).for_each(|_| gaps.add(Nanos(1_000)));
        gaps.add(us(500));
        assert_eq!((gaps.p99_below(), gaps.total), (Some(Nanos(1_024)), us(599)));
        gaps.add(us(500));
        assert_eq!(gaps.p99_below(), Some(Nanos(500_001)));
        gaps.add(Nanos::MAX.saturating_sub(Nanos::from_secs(1)));
        assert_eq!(gaps.count, 102);
    }
}
