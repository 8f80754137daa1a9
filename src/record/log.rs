//! The per-request log on its way to the writer: chunks of samples, packed into words. A chunk is memory that the loop has
//! not touched for long, so each byte of a row costs, and what fits into the chunks need not be written beside the load.

use crossbeam_channel::{Receiver, Sender};

use crate::load::sample::{Outcome, Sample};
use crate::load::schedule::{Phase, RequestId};
use crate::load::server_timing::ServerTiming;
use crate::load::time::Nanos;

/// Words of an answered request whose times and sizes are below 2^32 and of which there is nothing else to say.
const SHORT: usize = 7;
/// Words of any other; the first one says which it is.
const LONG: usize = 20;
/// The first word of a long one. A short one begins with its id, and so is less.
const MARK: u64 = u64::MAX;
/// Ids and statuses share a word in a short one.
const SEQ_BITS: u32 = 48;

/// No stamp, in one word: nothing is as late as that.
const NONE: u64 = Nanos::MAX.0;

/// Samples on their way to the log, in the order they ended, and the thread they come from.
#[derive(Debug, Default)]
pub struct LogChunk {
    thread: usize,
    samples: usize,
    words: Vec<u64>,
    /// Of the long ones, in their order.
    outcomes: Vec<Outcome>,
}

impl LogChunk {
    /// At most so many bytes are taken by one sample.
    pub const SAMPLE_BYTES: usize = LONG * size_of::<u64>() + size_of::<Outcome>();

    /// With room for so many samples, and for three times as many short ones; it never grows.
    pub fn with_capacity(samples: usize) -> Self {
        let (words, outcomes) = (Vec::with_capacity(samples * LONG), Vec::with_capacity(samples));
        Self { thread: 0, samples: 0, words, outcomes }
    }

    /// Which worker's samples these are.
    pub fn thread(&self) -> usize {
        self.thread
    }

    /// How many samples.
    pub fn len(&self) -> usize {
        self.samples
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// The samples, but for their gap to the one before (`arrival_gap`), which is in no log.
    pub fn samples(&self) -> impl Iterator<Item = Sample> + '_ {
        let (mut words, mut outcomes) = (&self.words[..], self.outcomes.iter());
        std::iter::from_fn(move || {
            if *words.first()? == MARK {
                let (long, rest) = words.split_first_chunk::<LONG>()?;
                words = rest;
                return outcomes.next().map(|outcome| from_long(long, *outcome));
            }
            let (short, rest) = words.split_first_chunk::<SHORT>()?;
            words = rest;
            Some(from_short(short))
        })
    }

    /// Makes room again.
    pub fn clear(&mut self) {
        self.words.clear();
        self.outcomes.clear();
        self.samples = 0;
    }

    /// True if there may be no room for another.
    fn is_full(&self) -> bool {
        self.words.len() + LONG > self.words.capacity()
    }

    fn push(&mut self, sample: &Sample) {
        self.samples += 1;
        match to_short(sample) {
            Some(words) => self.words.extend_from_slice(&words),
            None => {
                self.words.extend_from_slice(&to_long(sample));
                self.outcomes.push(sample.outcome);
            }
        }
    }
}

/// Two values in one word, or `None` where one needs more than half.
fn pair(low: u64, high: u64) -> Option<u64> {
    (low >> 32 == 0 && high >> 32 == 0).then_some(low | high << 32)
}

fn unpair(word: u64) -> (u64, u64) {
    (word & u64::from(u32::MAX), word >> 32)
}

/// Far beyond 2^32 where `later` is not later.
fn since(earlier: Nanos, later: Nanos) -> u64 {
    later.0.wrapping_sub(earlier.0)
}

fn to_short(sample: &Sample) -> Option<[u64; SHORT]> {
    let Outcome::Completed(status) = sample.outcome else { return None };
    let (ready, issued, first_byte) = (sample.ready?, sample.issued?, sample.first_byte?);
    let plain = sample.connect.is_none()
        && sample.digest.is_none()
        && sample.transmitted.is_none()
        && sample.arrived.is_none()
        && sample.server == ServerTiming::default();
    if !plain || sample.id.seq >> SEQ_BITS != 0 || status == u16::MAX {
        return None;
    }
    let (template, attempt) = (u64::from(sample.template), u64::from(sample.attempt));
    Some([
        sample.id.seq | u64::from(status) << SEQ_BITS,
        sample.intended.0,
        pair(since(sample.intended, ready), since(ready, issued))?,
        pair(since(issued, first_byte), since(first_byte, sample.done))?,
        pair(sample.read_gap.0, sample.own_wait.0)?,
        pair(sample.bytes_sent, sample.bytes_received)?,
        u64::from(sample.connection) | template << 32 | attempt << 48,
    ])
}

fn from_short(words: &[u64; SHORT]) -> Sample {
    let [id, intended, sent, answered, own, bytes, rest] = *words;
    let intended = Nanos(intended);
    let ((wait, lag), (service, reading)) = (unpair(sent), unpair(answered));
    let ready = intended + Nanos(wait);
    let issued = ready + Nanos(lag);
    let first_byte = issued + Nanos(service);
    let ((read_gap, own_wait), (bytes_sent, bytes_received)) = (unpair(own), unpair(bytes));
    Sample {
        id: measured(id & ((1 << SEQ_BITS) - 1)),
        template: (rest >> 32) as u16,
        intended,
        ready: Some(ready),
        issued: Some(issued),
        transmitted: None,
        arrived: None,
        first_byte: Some(first_byte),
        done: first_byte + Nanos(reading),
        read_gap: Nanos(read_gap),
        own_wait: Nanos(own_wait),
        arrival_gap: None,
        outcome: Outcome::Completed((id >> SEQ_BITS) as u16),
        bytes_sent,
        bytes_received,
        connection: rest as u32,
        connect: None,
        attempt: (rest >> 48) as u8,
        server: ServerTiming::default(),
        digest: None,
    }
}

fn to_long(sample: &Sample) -> [u64; LONG] {
    let stamp = |stamp: Option<Nanos>| stamp.map_or(NONE, |stamp| stamp.0);
    let server = &sample.server;
    let (template, attempt) = (u64::from(sample.template), u64::from(sample.attempt));
    let digested = u64::from(sample.digest.is_some());
    [
        MARK,
        sample.id.seq,
        sample.intended.0,
        stamp(sample.ready),
        stamp(sample.issued),
        stamp(sample.transmitted),
        stamp(sample.arrived),
        stamp(sample.first_byte),
        sample.done.0,
        sample.read_gap.0,
        sample.own_wait.0,
        sample.bytes_sent,
        sample.bytes_received,
        u64::from(sample.connection) | template << 32 | attempt << 48 | digested << 56,
        stamp(sample.connect),
        stamp(server.recv),
        stamp(server.queue),
        stamp(server.queue_from_read),
        stamp(server.service),
        sample.digest.unwrap_or_default(),
    ]
}

fn from_long(words: &[u64; LONG], outcome: Outcome) -> Sample {
    let stamp = |at: usize| (words[at] != NONE).then_some(Nanos(words[at]));
    let rest = words[13];
    Sample {
        id: measured(words[1]),
        template: (rest >> 32) as u16,
        intended: Nanos(words[2]),
        ready: stamp(3),
        issued: stamp(4),
        transmitted: stamp(5),
        arrived: stamp(6),
        first_byte: stamp(7),
        done: Nanos(words[8]),
        read_gap: Nanos(words[9]),
        own_wait: Nanos(words[10]),
        arrival_gap: None,
        outcome,
        bytes_sent: words[11],
        bytes_received: words[12],
        connection: rest as u32,
        connect: stamp(14),
        attempt: (rest >> 48) as u8,
        server: ServerTiming {
            recv: stamp(15),
            queue: stamp(16),
            queue_from_read: stamp(17),
            service: stamp(18),
        },
        digest: (rest >> 56 != 0).then_some(words[19]),
    }
}

/// The recorder logs no others.
fn measured(seq: u64) -> RequestId {
    RequestId { phase: Phase::Measure, seq }
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
    fn an_ordinary_sample_is_short() {
        let answered = Sample {
            digest: None,
            first_byte: Some(Nanos(1_020)),
            ..sample((1 << SEQ_BITS) - 1, Nanos(u64::from(u32::MAX)), Outcome::Completed(200))
        };
        assert!(to_short(&answered).is_some());
        let later = Sample { done: Nanos(5_000_000_000), ..answered };
        assert_eq!(to_short(&Sample { id: measured(1 << SEQ_BITS), ..answered }), None);
        assert_eq!(to_short(&later), None);
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
            Sample {
                first_byte: Some(Nanos(1_030)),
                connection: u32::MAX,
                own_wait: Nanos(3),
                attempt: 2,
                ..plain
            },
            Sample { first_byte: Some(Nanos(1_030)), bytes_received: 1 << 32, template: u16::MAX, ..plain },
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
            assert_eq!(chunk.len(), samples.len());
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
