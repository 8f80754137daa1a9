//! The vocabulary between the driver and an engine: connections, operations, events, stamps.
//!
//! The shape is completion-like: the driver submits operations, the engine reports what happened.
//! Receiving is not an operation; a connected socket always reads. `Send` without a request and the
//! tags exist so that TLS and HTTP/2 can sit between driver and engine later.

use serde::{Deserialize, Serialize};

use super::time::Nanos;

/// One connection slot and which life of it: each `Connect` on a slot is a new generation, so that a
/// late event of a closed socket can never be taken for one of its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// The slot, `0..connections` of this thread.
    pub index: u32,
    /// Counts the connects of the slot, from 1.
    pub generation: u32,
}

/// Which of the targets given to the engine at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetId(pub u32);

/// Which of the bodies registered with the engine at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyId(pub u32);

/// The driver's own name for a send; comes back in `Sent` and `SentAll`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub u64);

/// What the driver asks of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    /// Open the connection. Ends in `Connected` or `Closed`.
    Connect(TargetId),
    /// Write `head`, then the registered `body`. `head` is copied before submit returns if it has to be kept.
    Send {
        /// Comes back in `Sent` and `SentAll`.
        tag: Tag,
        /// The request line and header section.
        head: &'a [u8],
        /// The registered body that follows the head, if any.
        body: Option<BodyId>,
    },
    /// Close at once. Exactly one `Closed(Requested)` follows, and nothing else of this generation.
    Close,
}

/// What an engine reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// The connection is open.
    Connected,
    /// Stamped immediately before the first byte of the send was handed to the kernel. Precedes any
    /// `Received` that the send can cause.
    Sent(Tag),
    /// The kernel has taken the last byte of the send.
    SentAll(Tag),
    /// The kernel handed the last byte of the send to the network device; when, is in [`Stamp::kernel`]. Only where
    /// [`Stamps::RxTx`] was asked for, and not reliably: a stamp can be missing.
    Transmitted(Tag),
    /// Bytes arrived; stamped at the return of the read that brought them.
    Received(&'a [u8]),
    /// The connection is gone; nothing of this generation follows.
    Closed(CloseReason),
}

/// Why a connection ended. Errno values are kept for the report's texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The driver asked for it.
    Requested,
    /// The peer sent FIN.
    Eof,
    /// The peer sent RST, or a write met a closed connection (ECONNRESET, EPIPE).
    Reset,
    /// Nobody listens, or no route leads there (ECONNREFUSED, EHOSTUNREACH, ENETUNREACH …).
    Refused(i32),
    /// The kernel gave up on the handshake or on retransmissions (ETIMEDOUT).
    TimedOut,
    /// A resource of this machine ran out: descriptors, ports, memory (EMFILE, EADDRNOTAVAIL, ENOBUFS …).
    Local(i32),
}

/// When an event happened, on the clock of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// CLOCK_MONOTONIC, user space.
    pub at: Nanos,
    /// CLOCK_MONOTONIC, from the kernel's own stamp: of `Received`, when the last of these bytes arrived; of
    /// `Transmitted`, when they left.
    pub kernel: Option<Nanos>,
}

impl Stamp {
    /// A stamp of user space alone.
    pub const fn at(at: Nanos) -> Self {
        Self { at, kernel: None }
    }
}

/// Which stamps the kernel is asked for (SO_TIMESTAMPING, software).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stamps {
    /// None: user space's own.
    #[default]
    User,
    /// When bytes arrived.
    Rx,
    /// When bytes arrived, and when the last of a send left.
    RxTx,
}

/// What an engine says of itself when the run is over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EngineAccount {
    /// `epoll` or `uring`.
    pub engine: String,
    /// What it used of what the kernel offers, by name.
    pub features: Vec<String>,
    /// What it would have used, and why it did not: `multishot receive: not supported by this kernel`.
    pub missing: Vec<String>,
    /// Kernel stamps that were thrown away because the wall clock, which they are on, was stepped.
    pub stamps_discarded: u64,
    /// Completion queue overflows (io_uring).
    pub overflows: u64,
    /// The longest time between the stamp of a send and the kernel's return from taking it, where many are taken at once
    /// (io_uring): so much later than stamped may a send have left.
    #[serde(default)]
    pub issue_uncertainty_max_ns: Nanos,
}
