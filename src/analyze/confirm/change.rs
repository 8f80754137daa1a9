//! What can be changed, and the plans of the rounds that show what it brings.

use serde::{Deserialize, Serialize};

use crate::load::schedule::Extent;
use crate::load::time::Nanos;
use crate::plan::{Alerts, KeepalivePlan, Plan, Server, Stub};

/// Rounds of each side: the fewest of which an interval with 95 % can be made.
pub const PAIRS: u32 = 6;
/// A round takes a quarter of the run's, but not less than this …
const ROUND_MIN: Nanos = Nanos::from_secs(1);
/// … and not more.
const ROUND_MAX: Nanos = Nanos::from_secs(10);
/// And answers that are outstanding at its end are waited for so long at most.
const DRAIN_MAX: Nanos = Nanos::from_secs(10);

/// One knob turned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "knob")]
pub enum Change {
    /// Worker threads of the stub; `single` becomes a pool.
    Workers {
        /// As it was.
        from: u32,
        /// As it is tried.
        to: u32,
        /// The processors they then have.
        cpus: Vec<usize>,
    },
    /// Processors of a server that hairspring starts.
    Processors {
        /// As it was.
        from: Vec<usize>,
        /// As it is tried.
        to: Vec<usize>,
    },
    /// Length of the stub's accept queue.
    Backlog {
        /// As it was.
        from: u32,
        /// As it is tried.
        to: u32,
    },
    /// Requests that may wait in the stub.
    QueueLimit {
        /// As it was.
        from: u32,
        /// As it is tried.
        to: u32,
    },
    /// Connections of the load.
    Connections {
        /// As it was.
        from: u32,
        /// As it is tried.
        to: u32,
    },
    /// Connections that carried so many requests carry all.
    Keepalive {
        /// As it was.
        from: u32,
    },
}

impl Change {
    /// As people read it: `2 workers instead of 1`.
    pub fn in_words(&self) -> String {
        let plural = |n: usize| if n == 1 { "processor" } else { "processors" };
        match self {
            Self::Workers { from, to, .. } => format!("{to} workers instead of {from}"),
            Self::Processors { from, to } => {
                format!("{} {} instead of {}", to.len(), plural(to.len()), from.len())
            }
            Self::Backlog { from, to } => format!("a backlog of {to} instead of {from}"),
            Self::QueueLimit { from, to } => format!("a queue limit of {to} instead of {from}"),
            Self::Connections { from, to } => format!("{to} connections instead of {from}"),
            Self::Keepalive { from } => {
                format!("connections kept alive instead of {from} request(s) on each")
            }
        }
    }

    /// `plan` with it.
    pub fn apply(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        match self {
            Self::Connections { to, .. } => {
                plan.connections = *to;
                // a thread needs a connection
                plan.client.cpus.truncate((*to as usize).max(1));
            }
            Self::Keepalive { .. } => plan.keepalive = KeepalivePlan::On,
            Self::Processors { to, .. } => match &mut plan.target.server {
                Server::Stub(Stub { cpus, .. }) | Server::Command { cpus, .. } => cpus.clone_from(to),
                Server::External => {}
            },
            Self::Workers { .. } | Self::Backlog { .. } | Self::QueueLimit { .. } => {
                if let Server::Stub(stub) = &mut plan.target.server {
                    self.apply_to_stub(stub);
                }
            }
        }
        plan
    }

    fn apply_to_stub(&self, stub: &mut Stub) {
        match self {
            Self::Workers { to, cpus, .. } => {
                if stub.model == "single" {
                    "pool".clone_into(&mut stub.model);
                }
                stub.workers = *to;
                stub.cpus.clone_from(cpus);
            }
            Self::Backlog { to, .. } => set_flag(stub, "--backlog", *to),
            Self::QueueLimit { to, .. } => set_flag(stub, "--queue-limit", *to),
            _ => {}
        }
    }
}

/// The plan of the rounds that test it, as it was: the same load and seed, for a shorter time, and nothing beside the
/// measurement. `wall` is how long a round of the run took.
pub fn rounds_of(plan: &Plan, wall: Nanos) -> Plan {
    let mut plan = plan.clone();
    let time = Nanos(wall.0 / 4).clamp(ROUND_MIN, ROUND_MAX);
    let shorter =
        |extent: Extent| Extent { time: Some(extent.time.unwrap_or(Nanos::MAX).min(time)), ..extent };
    plan.measure = shorter(plan.measure);
    if plan.warmup != Extent::NONE {
        plan.warmup = shorter(plan.warmup);
    }
    plan.limits.drain = plan.limits.drain.min(DRAIN_MAX);
    plan.rounds = PAIRS;
    (plan.log, plan.digest, plan.confirm) = (false, false, false);
    plan.sla = Vec::new();
    // who is told of the target is not told of what we make of it
    plan.alerts = Alerts::default();
    (plan.scenario, plan.scrape) = (None, None);
    if let Server::Stub(stub) = &mut plan.target.server {
        stub.server_log = None;
    }
    plan
}

/// The number behind a flag of the stub, as `--flag 3` or `--flag=3`.
pub(super) fn flag_of(stub: &Stub, name: &str) -> Option<u32> {
    let mut flags = stub.extra.iter();
    while let Some(flag) = flags.next() {
        if flag == name {
            return flags.next()?.parse().ok();
        }
        if let Some(value) = flag.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
            return value.parse().ok();
        }
    }
    None
}

fn set_flag(stub: &mut Stub, name: &str, value: u32) {
    let mut kept = Vec::with_capacity(stub.extra.len() + 2);
    let mut flags = std::mem::take(&mut stub.extra).into_iter();
    while let Some(flag) = flags.next() {
        if flag == name {
            flags.next();
        } else if !flag.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')) {
            kept.push(flag);
        }
    }
    kept.extend([name.to_owned(), value.to_string()]);
    stub.extra = kept;
}
