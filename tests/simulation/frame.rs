//! What the two ends of the two-stream protocol have in common: frames, and what they call things.

use std::collections::VecDeque;

use hairspring::load::io::{CloseReason, ConnId, Event, Tag};
use hairspring::load::rng::Rng;

/// What frames mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Settings,
    SettingsAck,
    Ping,
    Pong,
    /// A stream is wanted; it is there.
    Open,
    Opened,
    Data,
    /// A stream has ended; the payload says why, if the server did it.
    Closed,
}

pub(super) const KINDS: [Kind; 8] = [
    Kind::Settings,
    Kind::SettingsAck,
    Kind::Ping,
    Kind::Pong,
    Kind::Open,
    Kind::Opened,
    Kind::Data,
    Kind::Closed,
];

/// Stream (its slot below the driver's two), generation of the stream, payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) stream: ConnId,
    pub(super) payload: Vec<u8>,
}

pub(super) const HEAD: usize = 11;
pub(super) const NO_STREAM: ConnId = ConnId { index: u32::MAX, generation: 0 };

impl Frame {
    pub(super) fn new(kind: Kind, stream: ConnId, payload: &[u8]) -> Self {
        Self { kind, stream, payload: payload.to_vec() }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind as u8];
        bytes.extend(self.stream.index.to_be_bytes());
        bytes.extend(self.stream.generation.to_be_bytes());
        bytes.extend((self.payload.len() as u16).to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The frame at the front, once it is whole.
    pub(super) fn take(buffer: &mut VecDeque<u8>) -> Option<Self> {
        if buffer.len() < HEAD {
            return None;
        }
        let number = |from: usize, to: usize| (from..to).fold(0, |n, at| n << 8 | u32::from(buffer[at]));
        let (index, generation, length) = (number(1, 5), number(5, 9), number(9, 11) as usize);
        if buffer.len() < HEAD + length {
            return None;
        }
        let kind = KINDS[usize::from(buffer[0])];
        let payload = buffer.drain(..HEAD + length).skip(HEAD).collect();
        Some(Self { kind, stream: ConnId { index, generation }, payload })
    }
}

pub(super) fn reason_bytes(reason: CloseReason) -> Vec<u8> {
    let (code, errno) = match reason {
        CloseReason::Requested => unreachable!("nobody is told what he asked for"),
        CloseReason::Eof => (0u8, 0),
        CloseReason::Reset => (1, 0),
        CloseReason::TimedOut => (2, 0),
        CloseReason::Refused(errno) => (3, errno),
        CloseReason::Local(errno) => (4, errno),
    };
    [&[code][..], &errno.to_be_bytes()].concat()
}

pub(super) fn reason_of(bytes: &[u8]) -> CloseReason {
    let errno = i32::from_be_bytes(bytes[1..].try_into().unwrap());
    match bytes[0] {
        0 => CloseReason::Eof,
        1 => CloseReason::Reset,
        2 => CloseReason::TimedOut,
        3 => CloseReason::Refused(errno),
        _ => CloseReason::Local(errno),
    }
}

/// Pieces of `bytes`, cut at up to three places.
pub(super) fn cut<'a>(rng: &mut Rng, bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> =
        (0..rng.next_u64() % 4).map(|_| (rng.next_u64() as usize) % (bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

/// Where a stream or a connection below is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Closed,
    Opening,
    Open,
    Closing,
}

/// An event that can be kept: while the engine below polls, nothing can be submitted to it.
pub(super) enum Heard {
    Connected,
    Sent(Tag),
    SentAll(Tag),
    Received(Vec<u8>),
    Closed(CloseReason),
}

impl From<Event<'_>> for Heard {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Connected => Self::Connected,
            Event::Sent(tag) => Self::Sent(tag),
            Event::SentAll(tag) => Self::SentAll(tag),
            Event::Transmitted(_) => panic!("no stamps of the kernel were asked for"),
            Event::Received(bytes) => Self::Received(bytes.to_vec()),
            Event::Closed(reason) => Self::Closed(reason),
        }
    }
}
