//! The per-request log as CSV: one row per measured request that was drawn from the schedule.
//!
//! The first four columns are for people and spreadsheets; the rest are the stamps themselves, in
//! nanoseconds of CLOCK_MONOTONIC. A field that does not exist is empty.

use crate::load::sample::{Outcome, Sample};
use crate::load::schedule::RequestId;
use crate::load::time::Nanos;

/// The header line.
pub const COLUMNS: [&str; 28] = [
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
    "template",
    "own_wait_ns",
];

/// What a row needs beside the sample.
#[derive(Debug, Clone, Copy)]
pub struct RowContext {
    /// The round.
    pub round: u32,
    /// Add it to a stamp to get nanoseconds since the Unix epoch.
    pub wall_offset: Nanos,
}

/// Appends the row of `sample`, line end included. Called for every request, so it formats by hand.
pub fn row(sample: &Sample, thread: usize, context: RowContext, out: &mut Vec<u8>) {
    out.extend_from_slice(sample.id.text(&mut [0; RequestId::TEXT_MAX]));
    let mut row = Row(out);
    row.fixed_point(sample.intended.0 + context.wall_offset.0, 1_000_000, 3);
    row.fixed_point(sample.response().0, 1_000_000, 6);
    match sample.outcome {
        Outcome::Completed(status) => row.number(u64::from(status)),
        _ => row.text("-1"),
    }
    row.number(u64::from(context.round));
    match sample.outcome {
        Outcome::Completed(status) => row.number(u64::from(status)),
        outcome => row.text(&outcome.key()),
    }
    row.text(&sample.outcome.detail().unwrap_or_default());
    row.number(sample.intended.0);
    row.optional(sample.ready);
    row.optional(sample.issued);
    row.optional(sample.first_byte);
    row.number(sample.done.0);
    row.optional(sample.connect);
    row.number(sample.bytes_sent);
    row.number(sample.bytes_received);
    row.number(u64::from(sample.connection));
    row.number(thread as u64);
    row.number(u64::from(sample.attempt));
    let server = &sample.server;
    row.optional(server.recv);
    row.optional(server.queue);
    row.optional(server.queue_from_read);
    row.optional(server.service);
    match sample.digest {
        Some(digest) => row.text(&format!("{digest:016x}")),
        None => row.text(""),
    }
    row.optional(sample.transmitted);
    row.optional(sample.arrived);
    row.number(sample.read_gap.0);
    row.number(u64::from(sample.template));
    row.number(sample.own_wait.0);
    out.push(b'\n');
}

/// A row that has its first field; each further one begins with the comma.
struct Row<'a>(&'a mut Vec<u8>);

impl Row<'_> {
    fn number(&mut self, value: u64) {
        self.0.push(b',');
        self.0.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn optional(&mut self, value: Option<Nanos>) {
        match value {
            Some(ns) => self.number(ns.0),
            None => self.0.push(b','),
        }
    }

    /// `value / unit` with so many decimals, cut off; `unit` is a power of ten with at least as many zeros.
    fn fixed_point(&mut self, value: u64, unit: u64, decimals: u32) {
        self.number(value / unit);
        self.0.push(b'.');
        let rest = value % unit / (unit / 10u64.pow(decimals));
        // the leading 1 keeps the zeros that follow it
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(10u64.pow(decimals) + rest).as_bytes();
        self.0.extend_from_slice(&digits[1..]);
    }

    /// Quoted where it has to be (RFC 4180).
    fn text(&mut self, text: &str) {
        self.0.push(b',');
        if text.contains([',', '"', '\r', '\n']) {
            self.0.push(b'"');
            self.0.extend_from_slice(text.replace('"', "\"\"").as_bytes());
            self.0.push(b'"');
        } else {
            self.0.extend_from_slice(text.as_bytes());
        }
    }
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
            template: 4,
            intended: Nanos(1_000_000),
            ready: Some(Nanos(1_000_000)),
            issued: Some(Nanos(1_000_400)),
            transmitted: None,
            arrived: None,
            read_gap: Nanos::ZERO,
            own_wait: Nanos::ZERO,
            arrival_gap: None,
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
        let mut out = Vec::new();
        let context = RowContext { round: 2, wall_offset: Nanos(1_700_000_000_000_000_000) };
        row(sample, 1, context, &mut out);
        let text = String::from_utf8(out).unwrap();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        assert_eq!(reader.records().next().unwrap().unwrap().len(), COLUMNS.len());
        text.trim_end().to_owned()
    }

    #[test]
    fn a_completed_row() {
        assert_eq!(
            rendered(&sample()),
            "7,1700000000001.000,1.500001,200,2,200,,1000000,1000000,1000400,2000000,2500001,,90,120,3,1,1,,,,,00000000000000ff,,,0,4,0"
        );
    }

    #[test]
    fn a_failed_row_has_status_minus_one_and_no_invented_stamps() {
        let outcome = Outcome::Failed(Failure::LocalResource(24));
        let failed =
            Sample { ready: None, issued: None, first_byte: None, digest: None, outcome, ..sample() };
        assert_eq!(
            rendered(&failed),
            "7,1700000000001.000,1.500001,-1,2,local-resource,Too many open files (os error 24),1000000,,,,2500001,,90,120,3,1,1,,,,,,,,0,4,0"
        );
    }
}
