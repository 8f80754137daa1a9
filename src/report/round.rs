//! One round by itself, and each client thread in it.

use serde::{Deserialize, Serialize};

use crate::analyze::summary::{Figures, throughput};
use crate::facts::alerts::RoundAlerts;
use crate::facts::{ClockAccount, HelperReport, Round, ThreadReport, ThreadTimes};
use crate::load::driver::Gaps;
use crate::load::io::EngineAccount;
use crate::load::time::Nanos;

/// One round by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundReport {
    /// From 0.
    pub round: u32,
    /// mix(plan.seed, round).
    pub seed: u64,
    /// Which of the variants of its round it was, from 0.
    pub position: u32,
    /// Cut short.
    pub interrupted: bool,
    /// From the start of the load to the end of its drain.
    pub wall_ns: Nanos,
    /// Measured requests that were drawn from the schedule.
    #[serde(default)]
    pub offered: u64,
    /// A hash of what was drawn, 16 hex digits: ids, requests of a mix, and, in an open loop, when they were due.
    #[serde(default)]
    pub schedule_hash: String,
    /// Requests scheduled.
    pub scheduled: u64,
    /// Of these successful.
    pub successful: u64,
    /// done − intended over all scheduled.
    pub response_ns: Figures,
    /// Mean service time the server reported.
    pub server_service_mean_ns: Option<Nanos>,
    /// Successful requests per second.
    pub throughput_per_s: Option<f64>,
    /// Where requests went.
    pub addresses: Vec<String>,
    /// The server's line when it was ready.
    pub server: Option<serde_json::Value>,
    /// From the start of a server of ours to its readiness.
    #[serde(default)]
    pub startup_ns: Option<Nanos>,
    /// Time the hypervisor took from the client's processors.
    pub steal_ns: Option<Nanos>,
    /// Each client thread.
    pub threads: Vec<ThreadRow>,
    /// Our other threads.
    #[serde(default)]
    pub helpers: Vec<HelperReport>,
    /// What went beyond the limits of the plan's alerts.
    #[serde(default)]
    pub alerts: RoundAlerts,
}

/// One client thread in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadRow {
    /// Its processor.
    pub cpu: usize,
    /// Turns of its loop, and those in which something happened.
    pub turns: u64,
    /// Turns in which something happened.
    pub useful_turns: u64,
    /// Time lost in turns that came more than 5 ms later than asked for.
    pub stalled_ns: Nanos,
    /// The longest of them.
    pub longest_stall_ns: Nanos,
    /// The scheduler's account.
    #[serde(flatten)]
    pub times: ThreadTimes,
    /// What its engine used of the kernel, and what it could not have.
    #[serde(default)]
    pub engine: EngineAccount,
    /// From the first turn of the load to the end of the last.
    pub wall_ns: Nanos,
    /// In turns that did something, without the sleep in them.
    pub busy_ns: Nanos,
    /// Turns that found nothing to do, did not sleep, and took more than 10 µs.
    pub hiccups: Lateness,
    /// How late timed sleeps ended.
    pub oversleeps: Lateness,
    /// issued − max(intended, ready) of its requests.
    pub send_lag_ns: Figures,
    /// Open loop: how far its sends were off the plan, one from the next.
    pub arrival_gap_ns: Figures,
    /// Memory allocations during the load.
    pub allocations: Option<u64>,
    /// Its clock.
    pub clock: ClockAccount,
}

/// Durations that should be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lateness {
    /// How many.
    pub count: u64,
    /// All together.
    pub total_ns: Nanos,
    /// The longest.
    pub longest_ns: Nanos,
    /// 99 of 100 were shorter than this: an upper bound, at most twice the percentile.
    pub p99_below_ns: Option<Nanos>,
}

impl From<&Gaps> for Lateness {
    fn from(gaps: &Gaps) -> Self {
        Self {
            count: gaps.count,
            total_ns: gaps.total,
            longest_ns: gaps.longest,
            p99_below_ns: gaps.p99_below(),
        }
    }
}

impl RoundReport {
    pub(super) fn of(round: &Round, position: u32) -> Self {
        let tally = &round.recorded.measured;
        let drivers = || round.threads.iter().map(|t| &t.counts.driver);
        let hash = drivers().fold(0u64, |sum, driver| sum.wrapping_add(driver.schedule_hash));
        Self {
            round: round.index,
            seed: round.seed,
            position,
            interrupted: round.interrupted,
            wall_ns: round.wall,
            offered: drivers().map(|driver| driver.offered).sum(),
            schedule_hash: format!("{hash:016x}"),
            scheduled: tally.scheduled,
            successful: tally.successful,
            response_ns: Figures::of_responses(tally),
            server_service_mean_ns: tally.server_service.mean(),
            throughput_per_s: throughput(tally).per_s(),
            addresses: round.addresses.iter().map(ToString::to_string).collect(),
            server: round.server_ready.clone(),
            startup_ns: round.server_facts.startup,
            steal_ns: round.steal,
            threads: round.threads.iter().map(ThreadRow::of).collect(),
            helpers: round.helpers.clone(),
            alerts: round.alerts.clone(),
        }
    }
}

impl ThreadRow {
    fn of(thread: &ThreadReport) -> Self {
        let pace = &thread.counts.driver.pace;
        Self {
            cpu: thread.cpu,
            turns: pace.turns,
            useful_turns: pace.useful_turns,
            stalled_ns: pace.stalled,
            longest_stall_ns: pace.longest_stall,
            times: thread.times,
            wall_ns: pace.wall,
            busy_ns: pace.busy,
            hiccups: (&pace.hiccups).into(),
            oversleeps: (&pace.oversleeps).into(),
            send_lag_ns: Figures::of(&thread.send_lag),
            arrival_gap_ns: Figures::of(&thread.arrival_gap),
            allocations: thread.allocations,
            clock: thread.clock.clone(),
            engine: thread.engine.clone(),
        }
    }
}
