//! The per-request log as CSV: one row per measured request that was drawn from the schedule.
//!
//! The first four columns are for people and spreadsheets; the rest are the stamps themselves, in
//! nanoseconds of CLOCK_MONOTONIC. A field that does not exist is empty.

use crate::load::sample::{Outcome, Sample};
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

/// The longest row: 30 fields of at most 20 digits, and a detail of at most [`TEXT_MAX`] twice as long quoted; what is put
/// down is rounded up to registers.
const ROW_MAX: usize = 30 * 21 + 2 * TEXT_MAX + 2 + MEMO_MAX;
/// Longer details are cut.
const TEXT_MAX: usize = 200;
/// What a buffer holds: few system calls, and little enough to stay in the processor's cache.
const BUFFER_BYTES: usize = 256 << 10;

/// Rows, one behind the other, to be written at once. Called for every request.
pub struct RowBuffer {
    bytes: Box<[u8]>,
    /// The rows end here.
    end: usize,
    memory: Memory,
}

/// What a row, or its next stamp, most often has in common with the one before.
#[derive(Default)]
struct Memory {
    outcome: Memo,
    stamp: Memo,
    /// What stamps begin with, before their last eight digits; on the wall clock, too.
    stem: Memo,
    wall_stem: Memo,
    bytes_sent: Memo,
    bytes_received: Memo,
}

/// The text of the last value.
#[derive(Default)]
struct Memo {
    value: Option<u64>,
    text: [u8; MEMO_MAX],
    len: usize,
}

/// 20 digits and the comma, in whole registers.
const MEMO_MAX: usize = 32;

impl Default for RowBuffer {
    fn default() -> Self {
        Self { bytes: vec![0; BUFFER_BYTES].into(), end: 0, memory: Memory::default() }
    }
}

impl RowBuffer {
    /// Adds the row of a measured request, line end included; call it only while there is room.
    pub fn push(&mut self, sample: &Sample, thread: usize, context: RowContext) {
        let room = self.bytes[self.end..].first_chunk_mut().expect("a buffer is emptied when it is full");
        let mut line = Line { bytes: room, end: 0 };
        line.fill(sample, thread, context, &mut self.memory);
        self.end += line.end;
    }

    /// True if there is no room for another row.
    pub fn is_full(&self) -> bool {
        self.bytes.len() - self.end < ROW_MAX
    }

    /// All rows so far.
    pub fn rows(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// Makes room again.
    pub fn clear(&mut self) {
        self.end = 0;
    }
}

/// A row that is being made, and how far it is.
struct Line<'a> {
    bytes: &'a mut [u8; ROW_MAX],
    end: usize,
}

const EIGHT_DIGITS: u64 = 100_000_000;
const ZEROS: u64 = u64::from_le_bytes(*b"00000000");

/// The digits of a value below 10^8, the first one lowest: halves of four, of two, of one, each step all at once.
fn eight(value: u32) -> u64 {
    let fours = u64::from(value / 10_000) | (u64::from(value % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((twos - tens * 10) << 8)
}

/// Fields have the comma behind them.
impl Line<'_> {
    fn fill(&mut self, sample: &Sample, thread: usize, context: RowContext, memory: &mut Memory) {
        self.number(sample.id.seq);
        let wall_us = (sample.intended.0 + context.wall_offset.0) / 1_000;
        self.long(wall_us / 1_000, &mut memory.wall_stem);
        self.fraction((wall_us % 1_000) as u32, 3);
        let response = sample.response().0;
        self.digits(response / 1_000_000);
        self.fraction((response % 1_000_000) as u32, 6);
        self.outcome(sample.outcome, context.round, &mut memory.outcome);
        let mut stamp = |line: &mut Self, stamp: Option<Nanos>| match stamp {
            Some(Nanos(ns)) => line.remembered(ns, &mut memory.stamp, |line| {
                line.long(ns, &mut memory.stem);
                line.byte(b',');
            }),
            None => line.byte(b','),
        };
        stamp(self, Some(sample.intended));
        stamp(self, sample.ready);
        stamp(self, sample.issued);
        stamp(self, sample.first_byte);
        stamp(self, Some(sample.done));
        self.optional(sample.connect);
        self.remembered(sample.bytes_sent, &mut memory.bytes_sent, |line| line.number(sample.bytes_sent));
        self.remembered(sample.bytes_received, &mut memory.bytes_received, |line| {
            line.number(sample.bytes_received);
        });
        self.number(u64::from(sample.connection));
        self.number(thread as u64);
        self.number(u64::from(sample.attempt));
        let server = &sample.server;
        for part in [server.recv, server.queue, server.queue_from_read, server.service] {
            self.optional(part);
        }
        match sample.digest {
            Some(digest) => self.text(&format!("{digest:016x}")),
            None => self.byte(b','),
        }
        self.optional(sample.transmitted);
        self.optional(sample.arrived);
        self.number(sample.read_gap.0);
        self.number(u64::from(sample.template));
        self.digits(sample.own_wait.0);
        self.byte(b'\n');
    }

    /// status_code, round, outcome, detail
    fn outcome(&mut self, outcome: Outcome, round: u32, memo: &mut Memo) {
        if let Outcome::Completed(status) = outcome {
            let both = u64::from(status) | u64::from(round) << 16;
            return self.remembered(both, memo, |line| {
                line.number(u64::from(status));
                line.number(u64::from(round));
                line.number(u64::from(status));
                line.byte(b',');
            });
        }
        self.text("-1");
        self.number(u64::from(round));
        self.text(&outcome.key());
        self.text(&outcome.detail().unwrap_or_default());
    }

    /// What `put` puts down for `value`, at most [`MEMO_MAX`] bytes; from memory, where it was the same the last time.
    #[inline(always)]
    fn remembered(&mut self, value: u64, memo: &mut Memo, put: impl FnOnce(&mut Self)) {
        if memo.value == Some(value) {
            self.bytes[self.end..self.end + MEMO_MAX].copy_from_slice(&memo.text);
            self.end += memo.len;
            return;
        }
        let from = self.end;
        put(self);
        memo.value = Some(value);
        memo.text.copy_from_slice(&self.bytes[from..from + MEMO_MAX]);
        memo.len = self.end - from;
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.end] = byte;
        self.end += 1;
    }

    /// The first `count` of eight bytes, the first one lowest.
    fn put(&mut self, eight: u64, count: usize) {
        self.bytes[self.end..self.end + 8].copy_from_slice(&eight.to_le_bytes());
        self.end += count;
    }

    fn digits(&mut self, value: u64) {
        if value < 10 {
            self.byte(b'0' + value as u8);
        } else if value < EIGHT_DIGITS {
            self.few(value as u32);
        } else {
            self.digits(value / EIGHT_DIGITS);
            self.last_eight(value);
        }
    }

    /// A value whose digits before the last eight change rarely.
    fn long(&mut self, value: u64, stem: &mut Memo) {
        if value < EIGHT_DIGITS {
            return self.digits(value);
        }
        let high = value / EIGHT_DIGITS;
        self.remembered(high, stem, |line| line.digits(high));
        self.last_eight(value);
    }

    /// With leading zeros.
    fn last_eight(&mut self, value: u64) {
        self.put(eight((value % EIGHT_DIGITS) as u32) | ZEROS, 8);
    }

    /// Above 0 and below 10^8, without leading zeros.
    fn few(&mut self, value: u32) {
        let digits = eight(value);
        let zeros = digits.trailing_zeros() / 8;
        self.put((digits | ZEROS) >> (8 * zeros), 8 - zeros as usize);
    }

    fn number(&mut self, value: u64) {
        self.digits(value);
        self.byte(b',');
    }

    fn optional(&mut self, value: Option<Nanos>) {
        match value {
            Some(ns) => self.number(ns.0),
            None => self.byte(b','),
        }
    }

    /// The point and so many decimals.
    fn fraction(&mut self, value: u32, decimals: usize) {
        self.byte(b'.');
        self.put((eight(value) | ZEROS) >> (8 * (8 - decimals)), decimals);
        self.byte(b',');
    }

    /// Quoted where it has to be (RFC 4180).
    fn text(&mut self, text: &str) {
        let text = &text.as_bytes()[..text.len().min(TEXT_MAX)];
        let quoted = text.iter().any(|byte| b",\"\r\n".contains(byte));
        if quoted {
            self.byte(b'"');
        }
        for &byte in text {
            self.byte(byte);
            if byte == b'"' {
                self.byte(b'"');
            }
        }
        if quoted {
            self.byte(b'"');
        }
        self.byte(b',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::sample::Failure;
    use crate::load::schedule::{Phase, RequestId};
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
        buffer.push(sample, 1, context);
        let text = String::from_utf8(buffer.rows().to_vec()).unwrap();
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
            id: RequestId { phase: Phase::Measure, seq: u64::MAX },
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
        assert!(rendered(&longest).starts_with("18446744073709551615,"));
    }

    fn line(fill: impl FnOnce(&mut Line<'_>)) -> String {
        let mut bytes = [b'#'; ROW_MAX];
        let mut line = Line { bytes: &mut bytes, end: 0 };
        fill(&mut line);
        let end = line.end;
        String::from_utf8(bytes[..end].to_vec()).unwrap()
    }

    #[test]
    fn numbers_are_written_as_they_are_everywhere() {
        let mut rng = crate::load::rng::Rng::new(5);
        let edges = (0..20).flat_map(|n| [10u64.pow(n) - 1, 10u64.pow(n), 10u64.pow(n) + 1]);
        let random = (0..20_000).map(|round| rng.next_u64() >> (round % 64));
        for value in edges.chain([u64::MAX]).chain(random.collect::<Vec<_>>()) {
            assert_eq!(line(|line| line.digits(value)), value.to_string());
            let part = (value % 1_000_000) as u32;
            assert_eq!(line(|line| line.fraction(part, 6)), format!(".{part:06},"));
            let mut stem = Memo::default();
            let twice = line(|line| (0..2).for_each(|_| line.long(value, &mut stem)));
            assert_eq!(twice, format!("{value}{value}"));
        }
    }

    /// What is remembered of one row is not told of another.
    #[test]
    fn rows_that_follow_each_other_are_as_they_are_alone() {
        let context = RowContext { round: 2, wall_offset: Nanos(1_700_000_000_000_000_000) };
        let mut rng = crate::load::rng::Rng::new(9);
        let mut draw = |among: u64| rng.next_u64() % among;
        let mut buffer = RowBuffer::default();
        let mut alone = String::new();
        for seq in 0..400 {
            let intended = Nanos(1_000_000 + draw(3) * 99_999_999 + draw(2) * 10_000_000_000_000_000);
            let done = intended + Nanos(draw(2) * 150_000_000);
            let outcome =
                [Outcome::Completed(200), Outcome::Completed(503), Outcome::Unsent][draw(3) as usize];
            let sample = Sample {
                id: RequestId { phase: Phase::Measure, seq },
                intended,
                ready: Some(intended),
                issued: (draw(2) == 0).then_some(intended),
                first_byte: (draw(2) == 0).then_some(done),
                done,
                outcome,
                bytes_sent: draw(2),
                bytes_received: draw(2) * 7_000_000_000,
                ..sample()
            };
            buffer.push(&sample, 1, context);
            alone += &format!("{}\n", rendered(&sample));
        }
        assert_eq!(String::from_utf8(buffer.rows().to_vec()).unwrap(), alone);
    }

    #[test]
    fn a_full_buffer_says_so_in_time() {
        let context = RowContext { round: 0, wall_offset: Nanos::ZERO };
        let mut buffer = RowBuffer::default();
        for _ in 0..2 {
            let mut rows = 0;
            while !buffer.is_full() {
                buffer.push(&sample(), 1, context);
                rows += 1;
            }
            assert_eq!(buffer.rows().iter().filter(|&&byte| byte == b'\n').count(), rows);
            assert!(rows > 1_000);
            buffer.clear();
        }
    }

    #[test]
    fn text_is_quoted_and_cut() {
        let quoted = |text: &str| line(|line| line.text(text));
        assert_eq!(quoted("plain"), "plain,");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\",");
        assert_eq!(quoted(&"\"".repeat(1_000)).len(), 2 * TEXT_MAX + 3);
    }
}
