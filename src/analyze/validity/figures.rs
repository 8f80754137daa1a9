//! The figure of each rule, from what a run left behind.

use crate::analyze::stats::Percentile;
use crate::facts::{Host, Round, ThreadReport};
use crate::load::io::Stamps;
use crate::load::sample::Failure;
use crate::load::time::Nanos;
use crate::plan::{Plan, WaitPlan};
use crate::record::{Distribution, Tally, count_of};

/// A turn that finds an answer, and the read that brings it, take up to so much even undisturbed.
const READING: Nanos = Nanos::from_micros(5);

/// What the rules look at.
pub(super) struct Evidence<'a> {
    pub(super) plan: &'a Plan,
    pub(super) host: &'a Host,
    pub(super) rounds: &'a [Round],
    /// All rounds together.
    pub(super) tally: &'a Tally,
}

/// What can be said of a figure.
pub(super) enum Seen {
    /// Its value.
    Is(f64),
    /// It could not be had on this machine, or in this run.
    Hidden,
    /// It makes no sense for this run.
    Moot,
}

impl Evidence<'_> {
    fn threads(&self) -> impl Iterator<Item = &ThreadReport> {
        self.rounds.iter().flat_map(|round| &round.threads)
    }

    /// In % of the time of all threads.
    fn share_of_run(&self, ns: Option<u64>) -> Seen {
        let run: u64 = self.rounds.iter().map(|round| round.wall.0 * round.threads.len() as u64).sum();
        match ns {
            Some(ns) if run > 0 => percent(ns as f64, run as f64),
            _ => Seen::Hidden,
        }
    }

    fn share_of_scheduled(&self, n: u64) -> Seen {
        percent(n as f64, self.tally.scheduled.max(1) as f64)
    }

    /// In % of the median response time of the successful.
    fn share_of_median(&self, time: Option<Nanos>) -> Seen {
        let median = at(&self.tally.response_ok, Percentile::P50);
        match time.zip(median) {
            Some((time, median)) => percent(time.0 as f64, median.0.max(1) as f64),
            None => Seen::Hidden,
        }
    }

    fn is_closed(&self) -> bool {
        self.plan.load.think().is_some()
    }
}

fn percent(part: f64, whole: f64) -> Seen {
    Seen::Is(100.0 * part / whole)
}

fn at(distribution: &Distribution, p: Percentile) -> Option<Nanos> {
    distribution.at_rank(p.rank(distribution.count()))
}

/// How much longer the percentile is than without the instrument's part, both over all scheduled.
fn shift(tally: &Tally, p: Percentile) -> Option<(Nanos, Nanos)> {
    let rank = p.rank(tally.scheduled);
    let (response, without) = tally.response_ok.at_rank(rank).zip(tally.undisturbed.at_rank(rank))?;
    Some((response.saturating_sub(without), response))
}

/// Every client pays for being told of an answer and reading it: less than this is not worth a conviction.
pub(super) fn is_beyond_reading(tally: &Tally, p: Percentile) -> bool {
    shift(tally, p).is_some_and(|(shift, _)| shift > READING)
}

/// The response percentile against the same percentile without the instrument's part, both over all scheduled. Hidden where
/// the percentile falls among the unsuccessful: it has no value then.
pub(super) fn disturbance(tally: &Tally, p: Percentile) -> Seen {
    match shift(tally, p) {
        Some((shift, response)) => percent(shift.0 as f64, response.0.max(1) as f64),
        None => Seen::Hidden,
    }
}

pub(super) fn stalls(e: &Evidence<'_>) -> Seen {
    e.share_of_run(Some(e.threads().map(|t| t.counts.driver.pace.stalled.0).sum()))
}

pub(super) fn run_delay(e: &Evidence<'_>) -> Seen {
    e.share_of_run(e.threads().map(|t| t.times.run_delay_ns).sum())
}

/// What our other threads took from processors that are not theirs alone: of the client or of the server, as there are no
/// others.
pub(super) fn helpers(e: &Evidence<'_>) -> Seen {
    if e.plan.client.helpers.spare {
        return Seen::Moot;
    }
    let all = || e.rounds.iter().flat_map(|round| &round.helpers);
    let wall: u64 = e.rounds.iter().map(|round| round.wall.0).sum();
    match all().map(|helper| helper.times.on_cpu_ns).sum::<Option<u64>>() {
        Some(taken) if wall > 0 && all().next().is_some() => percent(taken as f64, wall as f64),
        _ => Seen::Hidden,
    }
}

/// A parked worker that an answer wakes cannot tell how long it waited for its processor, unless the kernel stamped the
/// answer. The mean of such a wait is what the median is moved by. Long ones it does see (it looks up every 2 ms), so
/// they are left out here.
pub(super) fn wake_delay(e: &Evidence<'_>) -> Seen {
    let client = &e.plan.client;
    let parked = client.wait == WaitPlan::Park || (client.wait == WaitPlan::Auto && !client.exclusive);
    if !parked || client.stamps != Stamps::User {
        return Seen::Moot;
    }
    let unseen: Option<u64> =
        e.threads().map(|t| Some(t.times.run_delay_ns?.saturating_sub(t.counts.driver.pace.stalled.0))).sum();
    let switches: Option<u64> =
        e.threads().map(|t| Some(t.times.voluntary_switches? + t.times.involuntary_switches?)).sum();
    e.share_of_median(unseen.zip(switches).map(|(delay, n)| Nanos(delay / n.max(1))))
}

pub(super) fn steal(e: &Evidence<'_>) -> Seen {
    e.share_of_run(e.rounds.iter().map(|round| round.steal.map(|ns| ns.0)).sum())
}

/// The busiest thread's.
pub(super) fn busy(e: &Evidence<'_>) -> Seen {
    let shares = e.threads().map(|t| {
        let pace = &t.counts.driver.pace;
        100.0 * pace.busy.0 as f64 / pace.wall.0.max(1) as f64
    });
    shares.reduce(f64::max).map_or(Seen::Hidden, Seen::Is)
}

/// Little's law for a closed loop: N = X·(R + Z) while every connection has its turn. With R counted from *issued*, what is
/// missing on the right is the time in which a connection's turn had come and our loop had not.
pub(super) fn loop_loss(e: &Evidence<'_>) -> Seen {
    let Some(think) = e.plan.load.think() else { return Seen::Moot };
    let Tally { response_ok, response_not_ok, send_lag, .. } = e.tally;
    let turns = u128::from(response_ok.count() + response_not_ok.count());
    let whole = response_ok.sum() + response_not_ok.sum() + turns * u128::from(think.0);
    percent(send_lag.sum() as f64, whole.max(1) as f64)
}

pub(super) fn allocations(e: &Evidence<'_>) -> Seen {
    match e.threads().map(|t| t.allocations).sum::<Option<u64>>() {
        Some(n) => e.share_of_scheduled(n),
        None => Seen::Hidden,
    }
}

pub(super) fn local_resource(e: &Evidence<'_>) -> Seen {
    e.share_of_scheduled(count_of(e.tally, Failure::LocalResource(0)))
}

/// Of the clock that ran, on the thread where it was dearest.
pub(super) fn clock_cost(e: &Evidence<'_>) -> Seen {
    let ran = e.threads().map(|t| t.clock.read_ns).max();
    Seen::Is(ran.unwrap_or(e.host.clock_read_ns).0 as f64)
}

pub(super) fn clock_error(e: &Evidence<'_>) -> Seen {
    match e.threads().filter_map(|t| t.clock.worst_residual_ns).max() {
        Some(worst) => e.share_of_median(Some(worst)),
        None => Seen::Moot, // it is CLOCK_MONOTONIC itself
    }
}

/// Of the thread whose clock had the greatest least step.
pub(super) fn clock_resolution(e: &Evidence<'_>) -> Seen {
    e.share_of_median(e.threads().map(|t| t.clock.resolution_ns).max())
}

pub(super) fn moved(e: &Evidence<'_>) -> Seen {
    Seen::Is(e.threads().filter(|t| t.moved).count() as f64)
}

/// The driver's area under the curve of requests in flight against the recorder's sum of done − issued; the worst round's.
pub(super) fn littles_law(e: &Evidence<'_>) -> Seen {
    let residual = |round: &Round| {
        let area: i128 = round.threads.iter().map(|t| t.counts.driver.in_flight_area).sum();
        let sum = round.recorded.measured.in_flight_time + round.recorded.warmup.in_flight_time;
        let apart = (area - sum as i128).unsigned_abs();
        1e9 * apart as f64 / area.unsigned_abs().max(sum).max(1) as f64
    };
    e.rounds.iter().map(residual).reduce(f64::max).map_or(Seen::Hidden, Seen::Is)
}

/// Asserted where it arises, too; here so that a reader finds it listed.
pub(super) fn conservation(e: &Evidence<'_>) -> Seen {
    let Tally { scheduled, completed, failed, unsent, .. } = *e.tally;
    Seen::Is(scheduled.abs_diff(completed + failed + unsent) as f64)
}

pub(super) fn out_of_range(e: &Evidence<'_>) -> Seen {
    Seen::Is((e.tally.response_ok.out_of_range() + e.tally.response_not_ok.out_of_range()) as f64)
}

pub(super) fn pool_bound(e: &Evidence<'_>) -> Seen {
    if e.is_closed() {
        return Seen::Moot;
    }
    let mut responses = e.tally.response_ok.clone();
    responses.merge(&e.tally.response_not_ok);
    match at(&e.tally.conn_wait, Percentile::P99).zip(at(&responses, Percentile::P99)) {
        Some((wait, response)) => percent(wait.0 as f64, response.0.max(1) as f64),
        None => Seen::Hidden,
    }
}

/// What the user stopped, the target need not have taken; nor what our own loop did not come to.
pub(super) fn not_offered(e: &Evidence<'_>) -> Seen {
    let drawn = e.tally.response_ok.count() + e.tally.response_not_ok.count();
    let left = e.tally.scheduled - drawn;
    match e.rounds.iter().any(|round| round.interrupted) {
        true => Seen::Moot,
        false => e.share_of_scheduled(left.saturating_sub(undrawn_by_us(e))),
    }
}

/// Requests that no thread came to, because its loop was busy or stopped for most of the time they waited.
pub(super) fn own_backlog(e: &Evidence<'_>) -> Seen {
    if e.is_closed() { Seen::Moot } else { e.share_of_scheduled(undrawn_by_us(e)) }
}

fn undrawn_by_us(e: &Evidence<'_>) -> u64 {
    e.threads().map(|t| &t.counts.driver).filter(|driver| driver.held_up).map(|driver| driver.undrawn).sum()
}

pub(super) fn server_timing(e: &Evidence<'_>) -> Seen {
    Seen::Is(e.tally.timing_rejected as f64)
}

pub(super) fn server_died(e: &Evidence<'_>) -> Seen {
    Seen::Is(e.rounds.iter().filter(|round| round.server_survived == Some(false)).count() as f64)
}
