//! What the kernel's stamps say: every latency split at the points where the request left and its answer arrived.

use super::Distribution;
use crate::load::io::Stamps;
use crate::load::sample::Sample;

/// The parts of `done - issued`, of completed requests that have all the stamps that were asked for.
#[derive(Debug, Clone, Default)]
pub struct KernelSplit {
    /// `transmitted - issued`: our system call and the kernel's way out (`rxtx` only).
    pub send_path: Distribution,
    /// `arrived - transmitted`: the wire and the server (`rxtx` only).
    pub remote: Distribution,
    /// `done - arrived`: the client's wake-up, its queue of answers, and its read.
    pub wake_up: Distribution,
    /// Completed requests without a stamp of their departure; they are in no distribution.
    pub missing_departures: u64,
    /// Completed requests without a stamp of their arrival; they are in no distribution.
    pub missing_arrivals: u64,
}

impl KernelSplit {
    pub(super) fn record(&mut self, sample: &Sample, stamps: Stamps) {
        let Some(wake_up) = sample.wake_up() else {
            self.missing_arrivals += 1;
            return;
        };
        if stamps == Stamps::RxTx {
            let (Some(send_path), Some(remote)) = (sample.send_path(), sample.remote()) else {
                self.missing_departures += 1;
                return;
            };
            self.send_path.record(send_path);
            self.remote.record(remote);
        }
        self.wake_up.record(wake_up);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.send_path.merge(&other.send_path);
        self.remote.merge(&other.remote);
        self.wake_up.merge(&other.wake_up);
        self.missing_departures += other.missing_departures;
        self.missing_arrivals += other.missing_arrivals;
    }
}
