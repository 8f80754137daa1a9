//! What a run leaves behind, as plain data: the machine, the threads, the round. Filled by sys and run,
//! read by analyze and report; no behaviour beyond sums.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::load::driver::DriverCounts;
use crate::load::io::EngineAccount;
use crate::load::time::Nanos;
use crate::record::{Distribution, Recorded};

pub mod alerts;
pub mod live;
pub mod scraped;
pub mod system;

/// The machine a run was made on. What could not be read is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Kernel release.
    pub kernel: Option<String>,
    /// Processor model.
    pub cpu_model: Option<String>,
    /// Processors this process may use.
    pub cpus: Vec<usize>,
    /// Runs under a hypervisor: other guests can take time away.
    pub virtualized: Option<bool>,
    /// The kernel's clock source; `tsc` is the cheap and precise one.
    pub clocksource: Option<String>,
    /// Frequency governor of the first processor.
    pub governor: Option<String>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Descriptors this process may open.
    pub nofile: Option<u64>,
    /// What one clock read costs.
    pub clock_read_ns: Nanos,
}

/// The clock of one thread: what it was, and how well it kept to CLOCK_MONOTONIC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockAccount {
    /// `tsc` or `vdso`.
    pub source: String,
    /// Why it was not the processor's counter.
    pub why_not_tsc: Option<String>,
    /// What one read costs.
    pub read_ns: Nanos,
    /// The least step that is not zero.
    pub resolution_ns: Nanos,
    /// Ticks a second, by the last anchors; `None` where nothing ticks.
    pub frequency_hz: Option<u64>,
    /// How often it was compared with CLOCK_MONOTONIC.
    pub anchors: u64,
    /// How far off it was at the worst of them.
    pub worst_residual_ns: Option<Nanos>,
    /// Anchors that found it off by more than 5 µs.
    pub anchors_off: u64,
}

/// What the scheduler gave one thread. What the kernel does not tell is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadTimes {
    /// Time on a processor.
    pub on_cpu_ns: Option<u64>,
    /// Time runnable but waiting for a processor.
    pub run_delay_ns: Option<u64>,
    /// Switches that the thread did not ask for.
    pub involuntary_switches: Option<u64>,
    /// Switches because it went to sleep.
    #[serde(default)]
    pub voluntary_switches: Option<u64>,
}

impl ThreadTimes {
    /// What was added since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        let less = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_sub(b?));
        Self {
            on_cpu_ns: less(self.on_cpu_ns, earlier.on_cpu_ns),
            run_delay_ns: less(self.run_delay_ns, earlier.run_delay_ns),
            involuntary_switches: less(self.involuntary_switches, earlier.involuntary_switches),
            voluntary_switches: less(self.voluntary_switches, earlier.voluntary_switches),
        }
    }
}

/// What a worker counts beside its recorder.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkerCounts {
    /// The driver's own counts, and how well the loop kept up.
    pub driver: DriverCounts,
}

/// One thread's account of itself.
#[derive(Debug, Clone)]
pub struct ThreadReport {
    /// Its processor.
    pub cpu: usize,
    /// Its counters.
    pub counts: WorkerCounts,
    /// What the scheduler gave it during the load.
    pub times: ThreadTimes,
    /// What its engine used.
    pub engine: EngineAccount,
    /// Its clock.
    pub clock: ClockAccount,
    /// At its end it was not bound to its processor any more: somebody moved it, or the processor is gone.
    pub moved: bool,
    /// Why its engine failed, if it did: the thread ended then.
    pub failure: Option<String>,
    /// Memory allocations during the load; `None` where nobody counts them.
    pub allocations: Option<u64>,
    /// How late its own sends were.
    pub send_lag: Distribution,
    /// Open loop: how far its sends were off the plan, one from the next.
    pub arrival_gap: Distribution,
}

/// A thread of ours beside the load: what it took, and from which processors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelperReport {
    /// `main`, `slices`, `log`, `monitor`, `scrape` or `metrics`.
    pub name: String,
    /// Where it could run.
    pub cpus: Vec<usize>,
    /// What the scheduler gave it during the load.
    #[serde(flatten)]
    pub times: ThreadTimes,
}

/// What the probe beside the load saw.
#[derive(Debug)]
pub struct ProbeFacts {
    /// Its requests, which are in no other count.
    pub recorded: Recorded,
    /// Its thread's own account.
    pub thread: ThreadReport,
}

/// What a round left behind.
#[derive(Debug)]
pub struct Round {
    /// From 0.
    pub index: u32,
    /// mix(plan.seed, index).
    pub seed: u64,
    /// What was recorded, all threads merged.
    pub recorded: Recorded,
    /// Each thread's own account.
    pub threads: Vec<ThreadReport>,
    /// The probe's, where there was one.
    pub probe: Option<ProbeFacts>,
    /// Our other threads.
    pub helpers: Vec<HelperReport>,
    /// Where the requests went.
    pub addresses: Vec<SocketAddr>,
    /// The stub's line when it was ready.
    pub server_ready: Option<Value>,
    /// The stub's /stats when the load was over.
    pub server_stats: Option<Value>,
    /// From t0 to the end of the drain.
    pub wall: Nanos,
    /// Time the hypervisor took from our processors meanwhile.
    pub steal: Option<Nanos>,
    /// What the system monitor saw; `None` where it was off.
    pub system: Option<system::System>,
    /// What the target told of itself; `None` where it was not asked.
    pub scraped: Option<scraped::Scraped>,
    /// The user stopped it, or the time cap did.
    pub interrupted: bool,
    /// The server was still there when the load was over; `None` where it is not ours.
    pub server_survived: Option<bool>,
    /// What our stub said when it ended with an error: its log is incomplete.
    pub server_failure: Option<String>,
    /// What was seen of it from outside.
    pub server_facts: ServerFacts,
    /// What was raised in it.
    pub alerts: alerts::RoundAlerts,
}

/// What was seen of a server that hairspring started, from outside.
#[derive(Debug, Clone, Default)]
pub struct ServerFacts {
    /// From its start to its readiness; `None` if it is not ours.
    pub startup: Option<Nanos>,
}
