//! Arrivals: which request is due when, as a pure function of the plan.
//!
//! Open loop: arrival i is due at t0 + i/λ, in wide integers, never accumulated; no response can move
//! it. Closed loop: a connection's next request is due when its previous answer came, plus the think
//! time; the schedule only says which id comes next and when the phases end.
//!
//! Nothing is stored per arrival. A due arrival that finds no free connection simply stays undrawn;
//! it keeps its intended time, however late it is drawn.

use serde::{Deserialize, Serialize};

use super::time::Nanos;

/// Part of the run that a request belongs to, decided by its intended time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Sent before the measurement to warm caches and connections; reported apart.
    Warmup,
    /// Counted.
    Measure,
}

/// The id of a request: `0..n` when measured, `w0…` in the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    /// Warm-up or measured.
    pub phase: Phase,
    /// Counts from 0 in each phase.
    pub seq: u64,
}

impl RequestId {
    /// Longest text of an id: `w` and the 20 digits of u64::MAX.
    pub const TEXT_MAX: usize = 21;

    /// Writes the id's text, as it goes into `X-Request-Id`, into `buffer`.
    pub fn text(self, buffer: &mut [u8; Self::TEXT_MAX]) -> &[u8] {
        let mut at = buffer.len();
        let mut rest = self.seq;
        loop {
            at -= 1;
            buffer[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if self.phase == Phase::Warmup {
            at -= 1;
            buffer[at] = b'w';
        }
        &buffer[at..]
    }
}

/// One request that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Which request.
    pub id: RequestId,
    /// When it is due: latency counts from here.
    pub intended: Nanos,
}

/// Requests per second, exact: thousandths of a request per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate {
    /// Requests in 1 000 seconds.
    pub milli_per_s: u64,
}

impl Rate {
    /// Offset of arrival `i` from t0: `i · 10^9 / λ`, rounded down; MAX (never) where it is beyond 584 years.
    pub fn offset(self, i: u64) -> Nanos {
        let ns = u128::from(i) * 1_000_000_000_000 / u128::from(self.milli_per_s);
        Nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// How many arrivals fall into `[0, window)`.
    pub fn count_in(self, window: Nanos) -> u64 {
        let product = u128::from(window.0) * u128::from(self.milli_per_s);
        u64::try_from(product.div_ceil(1_000_000_000_000)).unwrap_or(u64::MAX)
    }
}

/// How load is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "model")]
pub enum Load {
    /// A connection sends its next request when the previous answer has come and `think_ns` is over.
    Closed {
        /// Pause between an answer and the next request of that connection.
        #[serde(rename = "think_ns")]
        think: Nanos,
    },
    /// Arrivals at a constant rate, whatever the responses do.
    Constant {
        /// The rate over all threads.
        #[serde(rename = "rate_milli_per_s")]
        rate: Rate,
    },
}

/// How long a phase lasts: up to a count of requests, up to a time, or whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Extent {
    /// At most so many requests over all threads.
    pub count: Option<u64>,
    /// Only requests whose intended time lies within this long of the phase's start.
    #[serde(rename = "time_ns")]
    pub time: Option<Nanos>,
}

impl Extent {
    /// A phase without requests.
    pub const NONE: Self = Self { count: Some(0), time: None };

    /// The number of arrivals at `rate` in this extent; `None` if it has no end.
    fn arrivals(self, rate: Rate) -> Option<u64> {
        let timed = self.time.map(|t| rate.count_in(t));
        match (self.count, timed) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// One thread's part of the work: it owns every seq with `seq ≡ index (mod of)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// This thread.
    pub index: u64,
    /// All threads.
    pub of: u64,
}

impl Shard {
    /// How many of the seqs `0..n` are this shard's.
    pub fn share(self, n: u64) -> u64 {
        n.saturating_sub(self.index).div_ceil(self.of)
    }
}

/// The arrivals of one thread, in order.
#[derive(Debug, Clone)]
pub struct Schedule {
    load: Load,
    warmup: Extent,
    measure: Extent,
    shard: Shard,
    t0: Nanos,
    phase: Phase,
    /// How many arrivals of this phase this shard has drawn.
    drawn: u64,
    /// Closed loop: when the measured phase began, once it is known.
    measure_start: Option<Nanos>,
    /// Open loop: how many arrivals each phase has, and when the last is over. Divisions, so made once.
    open: Open,
    stopped: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Open {
    warmup: u64,
    measure: Option<u64>,
    end: Option<Nanos>,
}

impl Schedule {
    /// The arrivals of `shard` when the run starts at `t0`.
    pub fn new(load: Load, warmup: Extent, measure: Extent, shard: Shard, t0: Nanos) -> Self {
        let measure_start = match (load, warmup.time, warmup.count) {
            (Load::Closed { .. }, Some(time), None) => Some(t0.saturating_add(time)),
            _ => None,
        };
        Self {
            load,
            warmup,
            measure,
            shard,
            t0,
            phase: Phase::Warmup,
            drawn: 0,
            measure_start,
            open: match load {
                Load::Constant { rate } => Open::new(rate, warmup, measure, t0),
                Load::Closed { .. } => Open::default(),
            },
            stopped: false,
        }
    }

    /// Open loop: when this thread's next arrival is due; `None` when there is no more, and always in closed loop.
    pub fn next_due(&mut self) -> Option<Nanos> {
        let Load::Constant { rate } = self.load else { return None };
        self.peek_open(rate).map(|arrival| arrival.intended)
    }

    /// Open loop: draws the next arrival if it is due at `now`.
    pub fn draw_due(&mut self, now: Nanos) -> Option<Arrival> {
        let Load::Constant { rate } = self.load else { return None };
        let arrival = self.peek_open(rate).filter(|arrival| arrival.intended <= now)?;
        self.drawn += 1;
        Some(arrival)
    }

    /// Closed loop: draws the next id for a connection whose turn is at `intended`; `None` when the load is over.
    pub fn draw_closed(&mut self, intended: Nanos) -> Option<Arrival> {
        if self.stopped {
            return None;
        }
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
        let arrival = Arrival { id: self.id(), intended };
        self.drawn += 1;
        Some(arrival)
    }

    /// Closed loop: false once no later turn of any connection can draw a request, or not one as late as `intended`.
    pub fn wants(&self, intended: Nanos) -> bool {
        let counted = self.phase == Phase::Measure && self.quota_drawn(self.measure.count);
        !self.stopped && !counted && self.end().is_none_or(|end| intended < end)
    }

    /// No further arrivals: the run was interrupted.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// When the load ends by the clock, where that is known: the drain starts then.
    pub fn end(&self) -> Option<Nanos> {
        match self.load {
            Load::Closed { .. } => Some(self.measure_start?.saturating_add(self.measure.time?)),
            Load::Constant { .. } => self.open.end,
        }
    }

    /// Measured requests the whole plan has for this thread but never drew; 0 where the plan names no number.
    pub fn undrawn(&self) -> u64 {
        let planned = match self.load {
            Load::Closed { .. } if self.measure.time.is_some() => None,
            Load::Closed { .. } => self.measure.count,
            Load::Constant { .. } => self.open.measure,
        };
        let drawn = if self.phase == Phase::Measure { self.drawn } else { 0 };
        planned.map_or(0, |n| self.shard.share(n) - drawn)
    }

    fn peek_open(&mut self, rate: Rate) -> Option<Arrival> {
        if self.stopped {
            return None;
        }
        let warm = self.open.warmup;
        if self.phase == Phase::Warmup && self.quota_drawn(Some(warm)) {
            self.phase = Phase::Measure;
            self.drawn = 0;
        }
        if self.phase == Phase::Measure && self.quota_drawn(self.open.measure) {
            return None;
        }
        let id = self.id();
        let i = if id.phase == Phase::Warmup { id.seq } else { warm + id.seq };
        Some(Arrival { id, intended: self.t0.saturating_add(rate.offset(i)) })
    }

    fn in_warmup(&self, intended: Nanos) -> bool {
        let in_time = self.warmup.time.is_none_or(|time| intended < self.t0.saturating_add(time));
        in_time && !self.quota_drawn(self.warmup.count)
    }

    fn quota_drawn(&self, count: Option<u64>) -> bool {
        count.is_some_and(|n| self.drawn >= self.shard.share(n))
    }

    fn id(&self) -> RequestId {
        RequestId { phase: self.phase, seq: self.shard.index + self.drawn * self.shard.of }
    }
}

impl Open {
    fn new(rate: Rate, warmup: Extent, measure: Extent, t0: Nanos) -> Self {
        let warmup = warmup.arrivals(rate).unwrap_or(0);
        let measure = measure.arrivals(rate);
        let end = measure.map(|n| t0.saturating_add(rate.offset(warmup.saturating_add(n))));
        Self { warmup, measure, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Shard = Shard { index: 0, of: 1 };
    const T0: Nanos = Nanos(1_000_000);

    fn count(n: u64) -> Extent {
        Extent { count: Some(n), time: None }
    }

    fn time(ms: u64) -> Extent {
        Extent { count: None, time: Some(Nanos::from_millis(ms)) }
    }

    fn constant(milli_per_s: u64) -> Load {
        Load::Constant { rate: Rate { milli_per_s } }
    }

    fn all_open(mut schedule: Schedule) -> Vec<Arrival> {
        std::iter::from_fn(|| schedule.draw_due(Nanos::MAX)).collect()
    }

    #[test]
    fn a_constant_rate_is_never_accumulated() {
        // 3 requests per second: thirds of a second do not drift over a day
        let rate = Rate { milli_per_s: 3_000 };
        assert_eq!(rate.offset(3 * 86_400), Nanos::from_secs(86_400));
        assert_eq!(rate.offset(1), Nanos(333_333_333));
        // 0.1 per second, and a rate whose product passes 64 bits
        assert_eq!(Rate { milli_per_s: 100 }.offset(7), Nanos::from_secs(70));
        assert_eq!(Rate { milli_per_s: 1_000_000_000 }.offset(1 << 40), Nanos((1 << 40) * 1_000));
        assert_eq!(Rate { milli_per_s: 1_000 }.offset(u64::MAX), Nanos::MAX);
    }

    #[test]
    fn the_count_offered_is_what_the_rate_says() {
        for (milli_per_s, ms) in
            [(1_000_000, 10_000), (333_333, 7_777), (1, 1_500), (997_000, 1), (7, 999_999)]
        {
            let arrivals = all_open(Schedule::new(constant(milli_per_s), Extent::NONE, time(ms), WHOLE, T0));
            let end = T0 + Nanos::from_millis(ms);
            assert!(arrivals.iter().all(|a| a.intended < end), "{milli_per_s} {ms}");
            let next = T0 + Rate { milli_per_s }.offset(arrivals.len() as u64);
            assert!(next >= end, "one more would have fitted: {milli_per_s} {ms}");
        }
    }

    #[test]
    fn shards_partition_the_same_arrivals() {
        let whole = all_open(Schedule::new(constant(123_456), count(17), count(101), WHOLE, T0));
        for of in 1..6 {
            let mut parts: Vec<Arrival> = (0..of)
                .flat_map(|index| {
                    all_open(Schedule::new(constant(123_456), count(17), count(101), Shard { index, of }, T0))
                })
                .collect();
            parts.sort_by_key(|a| (a.intended, a.id.seq));
            assert_eq!(parts, whole, "{of} threads");
        }
    }

    #[test]
    fn the_warm_up_has_ids_of_its_own_and_comes_first() {
        let arrivals = all_open(Schedule::new(constant(1_000_000), time(3), count(4), WHOLE, Nanos::ZERO));
        let texts: Vec<String> = arrivals
            .iter()
            .map(|a| String::from_utf8(a.id.text(&mut [0; RequestId::TEXT_MAX]).to_vec()).unwrap())
            .collect();
        assert_eq!(texts, ["w0", "w1", "w2", "0", "1", "2", "3"]);
        assert_eq!(arrivals[3].intended, Nanos::from_millis(3));
    }

    #[test]
    fn an_arrival_is_not_drawn_before_its_time_and_keeps_it_when_late() {
        let mut schedule = Schedule::new(constant(1_000_000), Extent::NONE, count(3), WHOLE, T0);
        assert_eq!(schedule.next_due(), Some(T0));
        assert!(schedule.draw_due(T0.saturating_sub(Nanos(1))).is_none());
        let late = T0 + Nanos::from_secs(5);
        let intended: Vec<Nanos> =
            std::iter::from_fn(|| schedule.draw_due(late)).map(|a| a.intended).collect();
        assert_eq!(intended, [T0, T0 + Nanos::from_millis(1), T0 + Nanos::from_millis(2)]);
    }

    #[test]
    fn a_closed_loop_ends_by_count_or_by_time() {
        let load = Load::Closed { think: Nanos::ZERO };
        let mut by_count = Schedule::new(load, count(2), count(3), WHOLE, T0);
        let ids: Vec<_> =
            std::iter::from_fn(|| by_count.draw_closed(T0)).map(|a| (a.id.phase, a.id.seq)).collect();
        use Phase::{Measure, Warmup};
        assert_eq!(ids, [(Warmup, 0), (Warmup, 1), (Measure, 0), (Measure, 1), (Measure, 2)]);

        let mut by_time = Schedule::new(load, time(10), time(20), WHOLE, Nanos::ZERO);
        let phase_at = |s: &mut Schedule, ms| s.draw_closed(Nanos::from_millis(ms)).map(|a| a.id.phase);
        assert_eq!(phase_at(&mut by_time, 9), Some(Warmup));
        assert_eq!(phase_at(&mut by_time, 10), Some(Measure));
        assert_eq!(phase_at(&mut by_time, 29), Some(Measure));
        assert_eq!(phase_at(&mut by_time, 30), None);
        assert_eq!(by_time.undrawn(), 0);
    }

    /// Found by simulation, seed 551: the drain's cut made what the count still allowed into unsent requests.
    #[test]
    fn a_closed_loop_whose_time_was_over_first_has_left_nothing_out() {
        let extent = Extent { count: Some(100), time: Some(Nanos::from_millis(10)) };
        let load = Load::Closed { think: Nanos::ZERO };
        let mut schedule = Schedule::new(load, Extent::NONE, extent, WHOLE, Nanos::ZERO);
        assert!(schedule.draw_closed(Nanos::ZERO).is_some());
        assert_eq!(schedule.draw_closed(Nanos::from_millis(10)), None);
        schedule.stop();
        assert_eq!(schedule.undrawn(), 0);
    }

    #[test]
    fn a_stopped_schedule_knows_what_it_never_offered() {
        let mut schedule = Schedule::new(constant(1_000_000), count(5), count(100), WHOLE, Nanos::ZERO);
        for _ in 0..15 {
            schedule.draw_due(Nanos::MAX).unwrap();
        }
        schedule.stop();
        assert_eq!(schedule.draw_due(Nanos::MAX), None);
        assert_eq!(schedule.undrawn(), 90);
    }
}
