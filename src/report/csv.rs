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

/// The longest row: 30 fields of at most 20 digits, and a detail of at most [`TEXT_MAX`] twice as long quoted.
const ROW_MAX: usize = 30 * 21 + 2 * TEXT_MAX + 2;
/// Longer details are cut.
const TEXT_MAX: usize = 200;

/// Where rows are made, one after the other. A row is filled from its end: so digits come in the order in which they are
/// found, and each byte is written once. Called for every request.
pub struct RowBuffer {
    bytes: [u8; ROW_MAX],
    /// The row begins here.
    at: usize,
    /// The digits of stamps before their last eight, as they were last.
    high: u64,
    high_text: [u8; 8],
    high_digits: usize,
}

const EIGHT_DIGITS: u64 = 100_000_000;
/// The digits of 0 to 99.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

impl Default for RowBuffer {
    fn default() -> Self {
        Self { bytes: [0; ROW_MAX], at: ROW_MAX, high: 0, high_text: [0; 8], high_digits: 0 }
    }
}

/// The row of `sample`, line end included.
pub fn row<'a>(sample: &Sample, thread: usize, context: RowContext, buffer: &'a mut RowBuffer) -> &'a [u8] {
    let row = buffer;
    row.at = ROW_MAX;
    row.expect(sample.intended.0);
    row.byte(b'\n');
    row.digits(sample.own_wait.0);
    row.number(u64::from(sample.template));
    row.number(sample.read_gap.0);
    row.optional(sample.arrived);
    row.optional(sample.transmitted);
    row.text(&sample.digest.map(|digest| format!("{digest:016x}")).unwrap_or_default());
    let server = &sample.server;
    for part in [server.service, server.queue_from_read, server.queue, server.recv] {
        row.optional(part);
    }
    row.number(u64::from(sample.attempt));
    row.number(thread as u64);
    row.number(u64::from(sample.connection));
    row.number(sample.bytes_received);
    row.number(sample.bytes_sent);
    row.optional(sample.connect);
    row.number(sample.done.0);
    for stamp in [sample.first_byte, sample.issued, sample.ready] {
        row.optional(stamp);
    }
    row.number(sample.intended.0);
    row.text(&sample.outcome.detail().unwrap_or_default());
    match sample.outcome {
        Outcome::Completed(status) => row.number(u64::from(status)),
        outcome => row.text(&outcome.key()),
    }
    row.number(u64::from(context.round));
    match sample.outcome {
        Outcome::Completed(status) => row.number(u64::from(status)),
        _ => row.text("-1"),
    }
    row.fixed_point(sample.response().0, 6);
    row.fixed_point((sample.intended.0 + context.wall_offset.0) / 1_000, 3);
    row.byte(b',');
    row.bytes_of(sample.id.text(&mut [0; RequestId::TEXT_MAX]));
    &row.bytes[row.at..]
}

/// Each puts a field in front of what is there; all but the last of a row with the comma behind it.
impl RowBuffer {
    fn byte(&mut self, byte: u8) {
        self.at -= 1;
        self.bytes[self.at] = byte;
    }

    fn bytes_of(&mut self, text: &[u8]) {
        self.at -= text.len();
        self.bytes[self.at..self.at + text.len()].copy_from_slice(text);
    }

    fn digits(&mut self, mut value: u64) {
        while value >= EIGHT_DIGITS {
            let (high, low) = (value / EIGHT_DIGITS, value % EIGHT_DIGITS);
            self.eight(low as u32);
            if high == self.high {
                // The stamps of a row, and of the rows around it, begin alike.
                self.at -= self.high_digits;
                self.bytes[self.at..][..self.high_digits]
                    .copy_from_slice(&self.high_text[..self.high_digits]);
                return;
            }
            value = high;
        }
        self.few(value as u32);
    }

    /// Remembers what stamps around now begin with.
    fn expect(&mut self, stamp: u64) {
        let high = stamp / EIGHT_DIGITS;
        if high != self.high && (1..EIGHT_DIGITS).contains(&high) {
            let end = self.at;
            self.few(high as u32);
            self.high_digits = end - self.at;
            self.high_text[..self.high_digits].copy_from_slice(&self.bytes[self.at..end]);
            self.high = high;
            self.at = end;
        }
    }

    /// Below 10^8, without leading zeros.
    fn few(&mut self, mut value: u32) {
        while value >= 100 {
            self.at -= 2;
            self.bytes[self.at..self.at + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
            value /= 100;
        }
        if value >= 10 {
            self.at -= 2;
            self.bytes[self.at..self.at + 2].copy_from_slice(&PAIRS[value as usize]);
        } else {
            self.byte(b'0' + value as u8);
        }
    }

    /// Eight digits, zeros and all.
    fn eight(&mut self, value: u32) {
        let (left, right) = (value / 10_000, value % 10_000);
        let [a, b, c, d] =
            [left / 100, left % 100, right / 100, right % 100].map(|pair| PAIRS[pair as usize]);
        self.at -= 8;
        self.bytes[self.at..self.at + 8].copy_from_slice(&[a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1]]);
    }

    fn number(&mut self, value: u64) {
        self.byte(b',');
        self.digits(value);
    }

    fn optional(&mut self, value: Option<Nanos>) {
        match value {
            Some(ns) => self.number(ns.0),
            None => self.byte(b','),
        }
    }

    /// `value` over ten to the `decimals`.
    fn fixed_point(&mut self, value: u64, decimals: u32) {
        self.byte(b',');
        let unit = 10u64.pow(decimals);
        let end = self.at;
        self.digits(value % unit);
        while end - self.at < decimals as usize {
            self.byte(b'0');
        }
        self.byte(b'.');
        self.digits(value / unit);
    }

    /// Quoted where it has to be (RFC 4180).
    fn text(&mut self, text: &str) {
        self.byte(b',');
        let text = &text.as_bytes()[..text.len().min(TEXT_MAX)];
        if text.iter().any(|byte| b",\"\r\n".contains(byte)) {
            self.byte(b'"');
            for &byte in text.iter().rev() {
                self.byte(byte);
                if byte == b'"' {
                    self.byte(b'"');
                }
            }
            self.byte(b'"');
        } else {
            self.bytes_of(text);
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
        let context = RowContext { round: 2, wall_offset: Nanos(1_700_000_000_000_000_000) };
        let mut buffer = RowBuffer::default();
        let text = String::from_utf8(row(sample, 1, context, &mut buffer).to_vec()).unwrap();
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

    #[test]
    fn the_longest_row_fits_and_is_read_back() {
        let large = Nanos(u64::MAX / 2);
        let most = Some(large);
        let server = ServerTiming { recv: most, queue: most, queue_from_read: most, service: most };
        let longest = Sample {
            id: RequestId { phase: Phase::Warmup, seq: u64::MAX },
            intended: Nanos::ZERO,
            ready: most,
            issued: most,
            transmitted: most,
            arrived: most,
            first_byte: most,
            done: large,
            read_gap: large,
            own_wait: large,
            connect: most,
            bytes_sent: u64::MAX,
            bytes_received: u64::MAX,
            connection: u32::MAX,
            template: u16::MAX,
            digest: Some(u64::MAX),
            outcome: Outcome::Failed(Failure::LocalResource(i32::MAX)),
            server,
            ..sample()
        };
        assert!(rendered(&longest).starts_with("w18446744073709551615,"));
    }

    #[test]
    fn numbers_are_written_as_they_are_everywhere() {
        let mut rng = crate::load::rng::Rng::new(5);
        let mut buffer = RowBuffer::default();
        for round in 0..20_000 {
            let value = rng.next_u64() >> (round % 64);
            buffer.at = ROW_MAX;
            if round % 3 == 0 {
                buffer.expect(value ^ (rng.next_u64() & 0xff_ffff));
            }
            buffer.digits(value);
            assert_eq!(&buffer.bytes[buffer.at..], value.to_string().as_bytes());
        }
    }

    #[test]
    fn text_is_quoted_and_cut() {
        let quoted = |text: &str| {
            let mut buffer = RowBuffer::default();
            buffer.text(text);
            String::from_utf8(buffer.bytes[buffer.at..].to_vec()).unwrap()
        };
        assert_eq!(quoted("plain"), "plain,");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\",");
        assert_eq!(quoted(&"\"".repeat(1_000)).len(), 2 * TEXT_MAX + 3);
    }
}
