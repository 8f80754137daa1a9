//! One connection: its state, the request it carries, and what a closing means for that request.
//!
//! It makes no decisions about when to send or reconnect; that is the driver's.

use super::io::CloseReason;
use super::response::{Decoder, End, Limits};
use super::sample::{Failure, Outcome, Sample};
use super::schedule::Arrival;
use super::time::Nanos;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No socket.
    Closed,
    /// `Connect` is submitted or about to be.
    Connecting,
    /// Usable.
    Open,
    /// `Close` is submitted or about to be; its `Closed(Requested)` is awaited.
    Closing,
}

/// A request on its way through a connection.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) arrival: Arrival,
    pub(super) template: u16,
    pub(super) attempt: u8,
    pub(super) ready: Option<Nanos>,
    /// Handed to the engine. Until then the request can move to a new connection unharmed.
    pub(super) submitted: bool,
    pub(super) issued: Option<Nanos>,
    pub(super) transmitted: Option<Nanos>,
    pub(super) arrived: Option<Nanos>,
    pub(super) first_byte: Option<Nanos>,
    pub(super) read_gap: Nanos,
    /// At most so much of its wait for a connection was our doing.
    pub(super) own_wait: Nanos,
    pub(super) arrival_gap: Option<Nanos>,
    pub(super) sent_all: bool,
    pub(super) bytes: u64,
    /// Set when this request is the first on its connection.
    pub(super) connect: Option<Nanos>,
    /// Connections that ended before the request could be submitted to them.
    pub(super) bereaved: u8,
}

impl InFlight {
    pub(super) fn new(arrival: Arrival, template: u16) -> Self {
        Self {
            arrival,
            template,
            attempt: 1,
            ready: None,
            submitted: false,
            issued: None,
            transmitted: None,
            arrived: None,
            first_byte: None,
            read_gap: Nanos::ZERO,
            own_wait: Nanos::ZERO,
            arrival_gap: None,
            sent_all: false,
            bytes: 0,
            connect: None,
            bereaved: 0,
        }
    }
}

/// A connection slot of a thread.
pub(super) struct Connection {
    pub(super) generation: u32,
    pub(super) state: State,
    pub(super) request: Option<InFlight>,
    pub(super) decoder: Decoder,
    /// Since when it could carry (or connect for) a request; for a fresh one, when it could have, had we begun its connect
    /// in time.
    pub(super) available: Nanos,
    pub(super) connect_began: Nanos,
    pub(super) connect_took: Nanos,
    /// How long after it was wanted the connect began: the instrument's share of the wait.
    pub(super) connect_late: Nanos,
    /// Requests handed to the engine in this generation.
    pub(super) carried: u32,
}

impl Connection {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            generation: 0,
            state: State::Closed,
            request: None,
            decoder: Decoder::new(limits),
            available: Nanos::ZERO,
            connect_began: Nanos::ZERO,
            connect_took: Nanos::ZERO,
            connect_late: Nanos::ZERO,
            carried: 0,
        }
    }

    /// What the end of the open connection makes of the submitted request on it.
    pub(super) fn outcome_of_close(&mut self, reason: CloseReason) -> Outcome {
        let reused = self.carried > 1;
        let before_any_byte = |fresh: Failure| if reused { Failure::StaleKeepalive } else { fresh };
        let silent = self.decoder.awaiting_first_byte() && self.decoder.response().informational == 0;
        Outcome::Failed(match reason {
            CloseReason::Local(errno) => Failure::LocalResource(errno),
            CloseReason::TimedOut => Failure::Timeout,
            CloseReason::Eof => match self.decoder.eof() {
                End::Complete => return Outcome::Completed(self.decoder.response().status),
                End::Nothing => before_any_byte(Failure::NoResponse),
                End::TruncatedHead => Failure::TruncatedHead,
                End::TruncatedBody => Failure::TruncatedBody,
            },
            _ if silent => before_any_byte(Failure::Reset),
            _ => Failure::Reset,
        })
    }

    /// What became of the request `done` with. The connection is free of it afterwards.
    pub(super) fn conclude(&mut self, index: u32, outcome: Outcome, done: Nanos, digest: bool) -> Sample {
        let request = self.request.take().expect("a request is concluded once");
        let answer = self.decoder.response();
        let answered = request.first_byte.is_some();
        let completed = matches!(outcome, Outcome::Completed(_));
        let conn_wait = request.ready.map_or(Nanos::ZERO, |ready| ready - request.arrival.intended);
        Sample {
            id: request.arrival.id,
            template: request.template,
            intended: request.arrival.intended,
            ready: request.ready,
            issued: request.issued,
            transmitted: request.transmitted,
            arrived: request.arrived.filter(|_| completed),
            first_byte: request.first_byte,
            done,
            read_gap: request.read_gap,
            own_wait: request.own_wait.min(conn_wait),
            arrival_gap: request.arrival_gap,
            outcome,
            bytes_sent: if request.sent_all { request.bytes } else { 0 },
            bytes_received: if answered { answer.total_bytes } else { 0 },
            connection: index,
            connect: request.connect,
            attempt: request.attempt,
            server: if completed { answer.timing } else { Default::default() },
            digest: answer.digest.filter(|_| digest && completed),
        }
    }
}

/// What it means for a request that no connection lives long enough to take it.
pub(super) fn outcome_of_bereavement(reason: CloseReason) -> Outcome {
    match reason {
        CloseReason::Eof => Outcome::Failed(Failure::NoResponse),
        other => outcome_of_connect(other),
    }
}

/// What a failed connect means for the request that waited for it.
pub(super) fn outcome_of_connect(reason: CloseReason) -> Outcome {
    Outcome::Failed(match reason {
        CloseReason::Local(errno) => Failure::LocalResource(errno),
        CloseReason::TimedOut => Failure::ConnectTimeout,
        CloseReason::Reset | CloseReason::Eof => Failure::Reset,
        CloseReason::Refused(_) | CloseReason::Requested => Failure::ConnectRefused,
    })
}
