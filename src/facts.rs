//! What a run leaves behind, as plain data: the machine, the threads, the round. Filled by sys and run,
//! read by analyze and report; no behaviour beyond sums.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::load::driver::DriverCounts;
use crate::load::io::EngineAccount;
use crate::load::time::Nanos;
use crate::record::Recorded;

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

/// What the scheduler gave one thread. What the kernel does not tell is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadTimes {
    /// Time on a processor.
    pub on_cpu_ns: Option<u64>,
    /// Time runnable but waiting for a processor.
    pub run_delay_ns: Option<u64>,
    /// Switches that the thread did not ask for.
    pub involuntary_switches: Option<u64>,
}

impl ThreadTimes {
    /// What was added since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        let less = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_sub(b?));
        Self {
            on_cpu_ns: less(self.on_cpu_ns, earlier.on_cpu_ns),
            run_delay_ns: less(self.run_delay_ns, earlier.run_delay_ns),
            involuntary_switches: less(self.involuntary_switches, earlier.involuntary_switches),
        }
    }
}

/// What a worker counts beside its recorder.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkerCounts {
    /// The driver's own counts.
    pub driver: DriverCounts,
    /// Turns of the loop.
    pub turns: u64,
    /// Turns in which something happened.
    pub useful_turns: u64,
    /// Time lost in stalls: turns that came more than 5 ms later than the loop had asked for.
    pub stalled: Nanos,
    /// The longest of them.
    pub longest_stall: Nanos,
}

/// A turn that handles a full batch of answers takes less.
const STALL: Nanos = Nanos::from_millis(5);

impl WorkerCounts {
    /// A turn came this much later than asked for.
    pub fn add_stall(&mut self, late: Nanos) {
        if late > STALL {
            self.stalled += late;
            self.longest_stall = self.longest_stall.max(late);
        }
    }
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
    /// The user stopped it, or the time cap did.
    pub interrupted: bool,
    /// The server was still there when the load was over; `None` where it is not ours.
    pub server_survived: Option<bool>,
    /// What our stub said when it ended with an error: its log is incomplete.
    pub server_failure: Option<String>,
}
