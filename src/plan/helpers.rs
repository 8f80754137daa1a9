//! Where the threads beside the load run, and how often the one that looks around does.

use serde::{Deserialize, Serialize};

use crate::load::time::Nanos;

/// The processors of the threads beside the load, which merge and write.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Helpers {
    /// Never those of the client's threads, if there are others.
    pub cpus: Vec<usize>,
    /// Neither client nor server use them, as far as the plan knows.
    pub spare: bool,
}

/// The system monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    /// Between samples.
    #[serde(rename = "interval_ns")]
    pub interval: Nanos,
    /// The server's first process, where the user named it.
    pub server_pid: Option<u32>,
}

impl Helpers {
    /// From the processors that are allowed, those of the client's threads and those of the server. See
    /// docs/decisions/0014-helpers.md.
    pub fn place(allowed: &[usize], client: &[usize], server: &[usize]) -> Self {
        let without = |busy: &[&[usize]]| -> Vec<usize> {
            let free = |cpu: &usize| !busy.iter().any(|cpus| cpus.contains(cpu));
            allowed.iter().copied().filter(free).collect()
        };
        let spare = without(&[client, server]);
        if !spare.is_empty() {
            return Self { cpus: spare, spare: true };
        }
        let beside_the_server = without(&[client]);
        let cpus = if beside_the_server.is_empty() { allowed.to_vec() } else { beside_the_server };
        Self { cpus, spare: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_keep_off_the_client_and_then_off_the_server() {
        for (allowed, client, server, cpus, spare) in [
            (&[0, 1, 2, 3][..], &[2][..], &[0, 1][..], &[3][..], true),
            (&[0, 1, 2, 3], &[2, 3], &[], &[0, 1], true),
            (&[0, 1], &[1], &[0], &[0], false),
            (&[0, 1, 2, 3], &[3], &[0, 1, 2], &[0, 1, 2], false),
            (&[0, 1], &[0, 1], &[0, 1], &[0, 1], false),
            (&[5], &[5], &[], &[5], false),
        ] {
            let placed = Helpers::place(allowed, client, server);
            assert_eq!((&placed.cpus[..], placed.spare), (cpus, spare), "{allowed:?} {client:?} {server:?}");
        }
    }
}
