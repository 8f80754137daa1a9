//! The response times of one group of requests in parts that add up.

use serde::{Deserialize, Serialize};

use crate::load::time::Nanos;
use crate::record::Parts;

/// More than this share of a response time in no part is called unattributed.
const UNATTRIBUTED_ABOVE: f64 = 0.05;

/// Mean parts of the response times of one group of requests, in nanoseconds. They add up to `response_ns` but for the
/// rounding down of each. A part that no stamp shows is null, and what it took is in `residual_ns`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Requests in the group.
    pub requests: u64,
    /// Of these, with the server's own account (Server-Timing).
    #[serde(default)]
    pub timed: u64,
    /// Their mean response time.
    pub response_ns: Nanos,
    /// Waiting for a connection, connecting included.
    pub conn_wait_ns: Nanos,
    /// The instrument's lateness.
    pub send_lag_ns: Nanos,
    /// From our system call to the network device (`--stamps rxtx`).
    #[serde(default)]
    pub send_path_ns: Option<Nanos>,
    /// In the server's queue.
    pub queue_ns: Option<Nanos>,
    /// In the server's handler.
    pub service_ns: Option<Nanos>,
    /// From kernel to kernel both ways, and the server's writing (`--stamps rxtx`).
    pub transport_ns: Option<Nanos>,
    /// From the answer's arrival in our kernel until we had read it (`--stamps rx`, `rxtx`).
    #[serde(default)]
    pub wake_up_ns: Option<Nanos>,
    /// In none of the parts.
    #[serde(default)]
    pub residual_ns: Nanos,
    /// The residual is more than 5 % of the response time.
    #[serde(default)]
    pub unattributed: bool,
}

/// One part of a [`Split`] with its name in tables.
pub type Part = (&'static str, Nanos);

impl Split {
    pub(super) fn of(parts: &Parts) -> Option<Self> {
        let n = u128::from(parts.count);
        if n == 0 {
            return None;
        }
        let mean = |sum: u128| Nanos((sum / n) as u64);
        let seen = |requests: u64, sum: u128| (requests > 0).then(|| mean(sum));
        let residual = parts.residual();
        Some(Self {
            requests: parts.count,
            timed: parts.timed,
            response_ns: mean(parts.response),
            conn_wait_ns: mean(parts.conn_wait),
            send_lag_ns: mean(parts.send_lag),
            send_path_ns: seen(parts.departed, parts.send_path),
            queue_ns: seen(parts.timed, parts.queue),
            service_ns: seen(parts.timed, parts.service),
            transport_ns: seen(parts.timed.min(parts.departed), parts.transport),
            wake_up_ns: seen(parts.arrived, parts.wake_up),
            residual_ns: mean(residual),
            unattributed: residual as f64 > UNATTRIBUTED_ABOVE * parts.response as f64,
        })
    }

    /// In the order a request goes through them; those that are not seen take no time. The last is the residual.
    pub fn parts(&self) -> [Part; 8] {
        let known = Option::unwrap_or_default;
        [
            ("conn wait", self.conn_wait_ns),
            ("send lag", self.send_lag_ns),
            ("send path", known(self.send_path_ns)),
            ("queue", known(self.queue_ns)),
            ("service", known(self.service_ns)),
            ("transport", known(self.transport_ns)),
            ("wake-up", known(self.wake_up_ns)),
            ("residual", self.residual_ns),
        ]
    }

    /// What is neither the server's queue, its service, the wait for a connection nor our lateness: both network paths, the
    /// server's writing, the client's wake-up, and what is not attributed.
    pub fn beside_the_server(&self) -> Nanos {
        let known = Option::unwrap_or_default;
        known(self.send_path_ns) + known(self.transport_ns) + known(self.wake_up_ns) + self.residual_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        Parts {
            count: 2,
            timed: 2,
            departed: 2,
            arrived: 2,
            response: 2_000,
            conn_wait: 100,
            send_lag: 20,
            send_path: 40,
            queue: 1_000,
            service: 600,
            transport: 100,
            wake_up: 60,
        }
    }

    #[test]
    fn parts_and_residual_make_the_response() {
        let split = Split::of(&parts()).unwrap();
        let sum: u64 = split.parts().iter().map(|(_, time)| time.0).sum();
        assert_eq!((sum, split.response_ns.0, split.residual_ns.0), (1_000, 1_000, 40));
        assert!(!split.unattributed, "4 %");
        assert_eq!(split.beside_the_server(), Nanos(20 + 50 + 30 + 40));
    }

    #[test]
    fn what_is_not_seen_is_residual_and_not_zero() {
        let blind = Parts { departed: 0, arrived: 0, send_path: 0, wake_up: 0, transport: 0, ..parts() };
        let split = Split::of(&blind).unwrap();
        assert_eq!((split.send_path_ns, split.transport_ns, split.wake_up_ns), (None, None, None));
        assert_eq!(split.residual_ns, Nanos(140));
        assert!(split.unattributed, "14 %");
        let silent = Parts { timed: 0, queue: 0, service: 0, ..blind };
        let split = Split::of(&silent).unwrap();
        assert_eq!((split.queue_ns, split.service_ns, split.residual_ns), (None, None, Nanos(940)));
        assert_eq!(Split::of(&Parts::default()), None);
    }
}
