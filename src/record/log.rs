//! The per-request log on its way to the writer: chunks of samples, packed. A chunk is memory that the loop has not
//! touched for long, so each byte of a row costs; a packed row is a third of a [`Sample`].

use crossbeam_channel::{Receiver, Sender};

use crate::load::sample::{Outcome, Sample};
use crate::load::schedule::{Phase, RequestId};
use crate::load::server_timing::ServerTiming;
use crate::load::time::Nanos;

/// What every answered request has.
#[derive(Debug, Clone, Copy)]
struct Row {
    seq: u64,
    intended: Nanos,
    ready: Nanos,
    issued: Nanos,
    first_byte: Nanos,
    done: Nanos,
    read_gap: Nanos,
    own_wait: Nanos,
    bytes_sent: u64,
    bytes_received: u64,
    outcome: Outcome,
    connection: u32,
    template: u16,
    attempt: u8,
    /// The next of the chunk's extras is its.
    has_extra: bool,
}

/// What a request has only in some runs, or once on a connection.
#[derive(Debug, Clone, Copy)]
struct Extra {
    connect: Nanos,
    transmitted: Nanos,
    arrived: Nanos,
    recv: Nanos,
    queue: Nanos,
    queue_from_read: Nanos,
    service: Nanos,
    digest: Option<u64>,
}

/// No stamp, in 8 bytes instead of 16: nothing is as late as that.
const NONE: Nanos = Nanos::MAX;

fn packed(stamp: Option<Nanos>) -> Nanos {
    stamp.unwrap_or(NONE)
}

fn unpacked(stamp: Nanos) -> Option<Nanos> {
    (stamp != NONE).then_some(stamp)
}

/// Samples on their way to the log, in the order they ended, and the thread they come from.
#[derive(Debug, Default)]
pub struct LogChunk {
    thread: usize,
    rows: Vec<Row>,
    extras: Vec<Extra>,
}

impl LogChunk {
    /// At most so many bytes are taken by one sample.
    pub const SAMPLE_BYTES: usize = size_of::<Row>() + size_of::<Extra>();

    /// With room for so many samples; it never grows.
    pub fn with_capacity(samples: usize) -> Self {
        Self { thread: 0, rows: Vec::with_capacity(samples), extras: Vec::with_capacity(samples) }
    }

    /// Which worker's samples these are.
    pub fn thread(&self) -> usize {
        self.thread
    }

    /// How many samples.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The samples, but for their gap to the one before (`arrival_gap`), which is in no log.
    pub fn samples(&self) -> impl Iterator<Item = Sample> + '_ {
        let mut extras = self.extras.iter();
        self.rows.iter().map(move |row| row.unpack(if row.has_extra { extras.next() } else { None }))
    }

    /// Makes room again.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.extras.clear();
    }

    fn is_full(&self) -> bool {
        self.rows.len() == self.rows.capacity()
    }

    fn push(&mut self, sample: &Sample) {
        let server = &sample.server;
        let has_extra = sample.connect.is_some()
            || sample.digest.is_some()
            || sample.transmitted.is_some()
            || sample.arrived.is_some()
            || *server != ServerTiming::default();
        if has_extra {
            self.extras.push(Extra {
                connect: packed(sample.connect),
                transmitted: packed(sample.transmitted),
                arrived: packed(sample.arrived),
                recv: packed(server.recv),
                queue: packed(server.queue),
                queue_from_read: packed(server.queue_from_read),
                service: packed(server.service),
                digest: sample.digest,
            });
        }
        self.rows.push(Row {
            seq: sample.id.seq,
            intended: sample.intended,
            ready: packed(sample.ready),
            issued: packed(sample.issued),
            first_byte: packed(sample.first_byte),
            done: sample.done,
            read_gap: sample.read_gap,
            own_wait: sample.own_wait,
            bytes_sent: sample.bytes_sent,
            bytes_received: sample.bytes_received,
            outcome: sample.outcome,
            connection: sample.connection,
            template: sample.template,
            attempt: sample.attempt,
            has_extra,
        });
    }
}

impl Row {
    fn unpack(&self, extra: Option<&Extra>) -> Sample {
        let of = |part: fn(&Extra) -> Nanos| extra.and_then(|extra| unpacked(part(extra)));
        Sample {
            // the recorder logs no others
            id: RequestId { phase: Phase::Measure, seq: self.seq },
            template: self.template,
            intended: self.intended,
            ready: unpacked(self.ready),
            issued: unpacked(self.issued),
            transmitted: of(|extra| extra.transmitted),
            arrived: of(|extra| extra.arrived),
            first_byte: unpacked(self.first_byte),
            done: self.done,
            read_gap: self.read_gap,
            own_wait: self.own_wait,
            arrival_gap: None,
            outcome: self.outcome,
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            connection: self.connection,
            connect: of(|extra| extra.connect),
            attempt: self.attempt,
            server: ServerTiming {
                recv: of(|extra| extra.recv),
                queue: of(|extra| extra.queue),
                queue_from_read: of(|extra| extra.queue_from_read),
                service: of(|extra| extra.service),
            },
            digest: extra.and_then(|extra| extra.digest),
        }
    }
}

/// The log's preallocated chunks: full ones go to the writer, empty ones come back.
#[derive(Debug)]
pub struct LogPort {
    /// To the writer.
    pub full: Sender<LogChunk>,
    /// From the writer.
    pub empty: Receiver<LogChunk>,
}

/// A thread's side.
#[derive(Debug)]
pub(super) struct Log {
    port: LogPort,
    thread: usize,
    chunk: LogChunk,
    lost: u64,
}

impl Log {
    /// With the first empty chunk taken from the port.
    pub(super) fn new(port: LogPort, thread: usize) -> Self {
        let chunk = port.empty.try_recv().unwrap_or_default();
        Self { port, thread, chunk, lost: 0 }
    }

    pub(super) fn push(&mut self, sample: &Sample) {
        if self.chunk.is_full() && !self.hand_over() {
            self.lost += 1;
            return;
        }
        self.chunk.push(sample);
    }

    /// One hand-over per full chunk, never blocking: false where the writer is that far behind.
    fn hand_over(&mut self) -> bool {
        let Ok(empty) = self.port.empty.try_recv() else { return false };
        let full = std::mem::replace(&mut self.chunk, empty);
        self.port.full.try_send(LogChunk { thread: self.thread, ..full }).is_ok()
    }

    /// Hands over the last chunk; returns how many samples had no room.
    pub(super) fn finish(self) -> u64 {
        let Self { port, thread, chunk, lost } = self;
        let rows = chunk.len() as u64;
        let sent = port.full.send(LogChunk { thread, ..chunk }).is_ok();
        lost + if sent { 0 } else { rows }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::super::{OkStatuses, Recorder};
    use super::*;
    use crate::load::sample::Failure;

    #[test]
    fn a_row_is_a_line_and_a_half_of_the_cache() {
        assert_eq!(size_of::<Row>(), 96);
    }

    #[test]
    fn samples_come_back_as_they_were() {
        let plain = Sample { digest: None, ..sample(0, Nanos(50), Outcome::Completed(200)) };
        let failed = Outcome::Failed(Failure::LocalResource(24));
        let bare = Sample { ready: None, issued: None, outcome: failed, ..plain };
        let timing = ServerTiming { queue_from_read: Some(Nanos::ZERO), ..ServerTiming::default() };
        let other =
            ServerTiming { service: Some(Nanos(7)), recv: Some(Nanos(1)), queue: Some(Nanos(2)), ..timing };
        let samples = [
            plain.clone(),
            Sample { connect: Some(Nanos(3)), ..plain },
            Sample { digest: Some(u64::MAX), first_byte: Some(Nanos(1_020)), ..plain },
            Sample { own_wait: Nanos(5), read_gap: Nanos(6), bytes_received: u64::MAX, ..bare },
            Sample { server: timing, ..plain },
            Sample { server: other, attempt: 2, template: 9, connection: 8, ..plain },
            Sample { arrived: Some(Nanos(4)), ..plain },
            Sample { transmitted: Some(Nanos(4)), bytes_sent: 11, ..plain },
        ];
        let mut chunk = LogChunk::with_capacity(samples.len());
        for _ in 0..2 {
            samples.iter().for_each(|sample| chunk.push(sample));
            assert!(chunk.is_full());
            assert_eq!(chunk.samples().collect::<Vec<_>>(), samples);
            chunk.clear();
            assert!(chunk.is_empty());
        }
    }

    #[test]
    fn a_writer_that_is_behind_loses_rows_of_the_log_and_nothing_else() {
        let (full_sender, full) = crossbeam_channel::bounded(4);
        let (empty_sender, empty) = crossbeam_channel::bounded(4);
        for _ in 0..2 {
            empty_sender.send(LogChunk::with_capacity(10)).unwrap();
        }
        let port = LogPort { full: full_sender, empty };
        let mut recorder = Recorder::new(OkStatuses::new(vec![200..=200]), false, 3, Some(port));
        for seq in 0..35 {
            recorder.record(&sample(seq, Nanos(50), Outcome::Completed(200)));
        }
        let recorded = recorder.finish(0, 0);
        let rows: Vec<(usize, usize)> = full.try_iter().map(|chunk| (chunk.thread(), chunk.len())).collect();
        assert_eq!((rows, recorded.log_lost, recorded.measured.scheduled), (vec![(3, 10), (3, 10)], 15, 35));
    }
}
