//! The per-request log as CSV: one row per measured request that was drawn from the schedule.
//!
//! The first four columns are for people and spreadsheets; the rest are the stamps themselves, in
//! nanoseconds of CLOCK_MONOTONIC. A field that does not exist is empty.

use csv::ByteRecord;

use crate::load::sample::{Outcome, Sample};
use crate::load::schedule::RequestId;
use crate::load::time::Nanos;

/// The header line.
pub const COLUMNS: [&str; 26] = [
    "request_id",
    "timestamp_ms",
    "latency_ms",
    "status_code",
    "round",
    "outcome",
    "detail",
    "intended_ns",
    "ready_ns",
    "issued_ns",
    "first_byte_ns",
    "done_ns",
    "connect_ns",
    "bytes_sent",
    "bytes_received",
    "connection",
    "thread",
    "attempt",
    "server_recv_ns",
    "server_queue_ns",
    "server_queue_from_read_ns",
    "server_service_ns",
    "body_digest",
    "transmitted_ns",
    "arrived_ns",
    "read_gap_ns",
];

/// What a row needs beside the sample.
#[derive(Debug, Clone, Copy)]
pub struct RowContext {
    /// The round.
    pub round: u32,
    /// Add it to a stamp to get nanoseconds since the Unix epoch.
    pub wall_offset: Nanos,
}

/// Fills `record` with the row of `sample`.
pub fn row(sample: &Sample, thread: usize, context: RowContext, record: &mut ByteRecord) {
    record.clear();
    let mut id = [0; RequestId::TEXT_MAX];
    record.push_field(sample.id.text(&mut id));
    let epoch_us = (sample.intended.0 + context.wall_offset.0) / 1_000;
    let mut field = |text: String| record.push_field(text.as_bytes());
    field(format!("{}.{:03}", epoch_us / 1_000, epoch_us % 1_000));
    let response = sample.response().0;
    field(format!("{}.{:06}", response / 1_000_000, response % 1_000_000));
    field(match sample.outcome {
        Outcome::Completed(status) => status.to_string(),
        _ => "-1".to_owned(),
    });
    field(context.round.to_string());
    field(sample.outcome.key());
    field(sample.outcome.detail().unwrap_or_default());
    let stamps = [Some(sample.intended), sample.ready, sample.issued, sample.first_byte, Some(sample.done)];
    for stamp in stamps.into_iter().chain([sample.connect]) {
        field(optional(stamp));
    }
    field(sample.bytes_sent.to_string());
    field(sample.bytes_received.to_string());
    field(sample.connection.to_string());
    field(thread.to_string());
    field(sample.attempt.to_string());
    let server = &sample.server;
    for part in [server.recv, server.queue, server.queue_from_read, server.service] {
        field(optional(part));
    }
    field(sample.digest.map(|digest| format!("{digest:016x}")).unwrap_or_default());
    field(optional(sample.transmitted));
    field(optional(sample.arrived));
    field(sample.read_gap.0.to_string());
}

fn optional(value: Option<Nanos>) -> String {
    value.map(|ns| ns.0.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::sample::Failure;
    use crate::load::schedule::Phase;
    use crate::load::server_timing::ServerTiming;

    fn sample() -> Sample {
        Sample {
            id: RequestId { phase: Phase::Measure, seq: 7 },
            intended: Nanos(1_000_000),
            ready: Some(Nanos(1_000_000)),
            issued: Some(Nanos(1_000_400)),
            transmitted: None,
            arrived: None,
            read_gap: Nanos::ZERO,
            first_byte: Some(Nanos(2_000_000)),
            done: Nanos(2_500_001),
            outcome: Outcome::Completed(200),
            bytes_sent: 90,
            bytes_received: 120,
            connection: 3,
            connect: None,
            attempt: 1,
            server: ServerTiming::default(),
            digest: Some(255),
        }
    }

    fn rendered(sample: &Sample) -> String {
        let mut record = ByteRecord::new();
        let context = RowContext { round: 2, wall_offset: Nanos(1_700_000_000_000_000_000) };
        row(sample, 1, context, &mut record);
        assert_eq!(record.len(), COLUMNS.len());
        record.iter().map(|f| String::from_utf8_lossy(f)).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn a_completed_row() {
        assert_eq!(
            rendered(&sample()),
            "7,1700000000001.000,1.500001,200,2,200,,1000000,1000000,1000400,2000000,2500001,,90,120,3,1,1,,,,,00000000000000ff,,,0"
        );
    }

    #[test]
    fn a_failed_row_has_status_minus_one_and_no_invented_stamps() {
        let outcome = Outcome::Failed(Failure::LocalResource(24));
        let failed =
            Sample { ready: None, issued: None, first_byte: None, digest: None, outcome, ..sample() };
        assert_eq!(
            rendered(&failed),
            "7,1700000000001.000,1.500001,-1,2,local-resource,Too many open files (os error 24),1000000,,,,2500001,,90,120,3,1,1,,,,,,,,0"
        );
    }
}
