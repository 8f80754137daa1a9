//! The kernel's stamps in a report.

use serde::{Deserialize, Serialize};

use crate::analyze::summary::Figures;
use crate::facts::Round;
use crate::load::io::Stamps;
use crate::record::Tally;

/// Latencies split by the kernel's stamps. Completed requests that have all stamps that were asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// `rx` or `rxtx`.
    pub stamps: Stamps,
    /// transmitted − issued: the client's send path (`rxtx`).
    pub send_path_ns: Figures,
    /// arrived − transmitted: from kernel to kernel, the wire and the server (`rxtx`).
    pub remote_ns: Figures,
    /// done − arrived: the client's wake-up and read.
    pub wake_up_ns: Figures,
    /// Completed requests without the stamp of their departure.
    pub missing_departures: u64,
    /// Completed requests without the stamp of their arrival.
    pub missing_arrivals: u64,
    /// Stamps thrown away because the wall clock was stepped.
    pub discarded: u64,
}

impl Kernel {
    pub(super) fn of(tally: &Tally, rounds: &[Round]) -> Option<Self> {
        let (stamps, split) = tally.kernel.as_ref()?;
        Some(Self {
            stamps: *stamps,
            send_path_ns: Figures::of(&split.send_path),
            remote_ns: Figures::of(&split.remote),
            wake_up_ns: Figures::of(&split.wake_up),
            missing_departures: split.missing_departures,
            missing_arrivals: split.missing_arrivals,
            discarded: rounds.iter().flat_map(|r| &r.threads).map(|t| t.engine.stamps_discarded).sum(),
        })
    }
}
