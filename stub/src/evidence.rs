//! The stamps of a request and how an answer states them.
//!
//! All times are CLOCK_MONOTONIC nanoseconds. Nothing is measured here: `connection.rs` and `handler.rs` stamp, this
//! file says what the differences mean.

/// When a request arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Its last byte arrived in the kernel; `None` where the kernel gave no stamp.
    pub(crate) received: Option<u64>,
    /// The reader got that byte from the socket.
    pub(crate) read: u64,
}

/// One infer request, for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) arrival: Arrival,
    /// `None` for requests that were refused.
    pub(crate) started: Option<u64>,
    pub(crate) ended: Option<u64>,
    /// `None` when the answer could not be written.
    pub(crate) written: Option<u64>,
    pub(crate) status: u16,
}

impl Record {
    /// The value of `Server-Timing`. `queue` includes `recv`, unless service
    /// began before the read (`Begun::due`). Without a kernel stamp the waiting time is only known
    /// from the read on, and its name says so. A refused request has neither queue nor service.
    pub(crate) fn server_timing(&self) -> Option<String> {
        let Arrival { received, read } = self.arrival;
        let mut metrics = Vec::with_capacity(3);
        if let Some(received) = received {
            metrics.push(metric("recv", received, read));
        }
        if let (Some(started), Some(ended)) = (self.started, self.ended) {
            metrics.push(match received {
                Some(received) => metric("queue", received, started),
                None => metric("queue-from-read", read, started),
            });
            metrics.push(metric("service", started, ended));
        }
        (!metrics.is_empty()).then(|| metrics.join(", "))
    }
}

/// A span in milliseconds with six decimals: nanoseconds, exactly.
fn metric(name: &str, from: u64, to: u64) -> String {
    let ns = to.saturating_sub(from);
    format!("{name};dur={}.{:06}", ns / 1_000_000, ns % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_timing_names_what_it_measured() {
        let mut record = Record {
            arrival: Arrival { received: Some(1_000), read: 3_500 },
            started: Some(2_001_000),
            ended: Some(52_001_001),
            ..Record::default()
        };
        assert_eq!(
            record.server_timing().as_deref(),
            Some("recv;dur=0.002500, queue;dur=2.000000, service;dur=50.000001")
        );
        record.arrival.received = None;
        assert_eq!(
            record.server_timing().as_deref(),
            Some("queue-from-read;dur=1.997500, service;dur=50.000001")
        );
        record.started = None;
        assert_eq!(record.server_timing(), None);
        record.arrival.received = Some(1_000);
        assert_eq!(record.server_timing().as_deref(), Some("recv;dur=0.002500"));
    }
}
