//! The scripted server of a virtual world, and its journal: the ground truth that a client's account is held against.
//!
//! It reads just enough HTTP to know where a request ends and what its id is, and shares no code with the decoder or
//! the driver. It knows no network: it says when its kernel puts what on the wire.

use std::collections::BTreeMap;

use super::answer::{Ending, Question, compose};
use super::dice::Dice;
use super::world::{Faults, Server, World};
use crate::load::io::ConnId;
use crate::load::rng::mix;
use crate::load::time::Nanos;

/// One request that the server took, and what it did about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// On which connection.
    pub conn: ConnId,
    /// X-Request-Id.
    pub id: String,
    /// X-Attempt, or 1.
    pub attempt: u8,
    /// When the client handed its first byte to its kernel.
    pub handed: Nanos,
    /// When the client handed its last byte to its kernel; the last that came, if the server answers early.
    pub handed_last: Nanos,
    /// When its last byte arrived at the server (its head, if the server answers early).
    pub arrived: Nanos,
    /// The server did not wait for the whole of it.
    pub early: bool,
    /// When the work on it began.
    pub started: Nanos,
    /// When the work on it ended.
    pub ended: Nanos,
    /// What the server answered; 0 if it was not even HTTP.
    pub status: u16,
    /// A whole and right answer was put on the wire.
    pub sound: bool,
    /// Nothing was wrong with this answer, nor with anything on this connection before: the client has no excuse.
    pub clean: bool,
    /// Bytes that do not belong to the answer travelled together with its last ones.
    pub surplus: bool,
    /// When the first byte of the final head had arrived in the client's kernel.
    pub begun: Option<Nanos>,
    /// When a sound answer had arrived whole in the client's kernel.
    pub readable: Option<Nanos>,
    /// It was whole only with the end of the connection, behind its last byte.
    pub by_close: bool,
    /// The client sent more on this connection though the answer had said that it ends.
    pub ignored_close: bool,
}

/// Something the server's kernel does at an instant.
#[derive(Debug)]
pub(super) struct Act {
    pub(super) at: Nanos,
    pub(super) wire: Wire,
    /// What this means for the answers of exchanges.
    pub(super) marks: Vec<Mark>,
}

/// A place in the answer of the exchange of this number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mark {
    Begun(usize),
    Whole(usize),
}

#[derive(Debug)]
pub(super) enum Wire {
    Bytes(Vec<u8>),
    Fin,
    Rst,
    /// Ask [`Peer::while_idle`] whether it still applies.
    IfIdle {
        served: u32,
        then: Box<Self>,
    },
}

pub(super) struct Peer {
    server: Server,
    faults: Faults,
    dice: Dice,
    links: BTreeMap<(u32, u32), Link>,
    /// When each of a limited number of servers is free.
    free_at: Vec<Nanos>,
    exchanges: Vec<Exchange>,
}

/// The server's end of a connection.
#[derive(Debug, Default)]
struct Link {
    buffer: Vec<u8>,
    /// When the client handed over the first byte in the buffer.
    handed: Nanos,
    /// The rest of a request that was answered early.
    unread: usize,
    served: u32,
    dirty: bool,
    /// The exchange whose answer said that the connection ends.
    last: Option<usize>,
    /// When the last piece of the last answer is on the wire: the next one comes behind it.
    written: Nanos,
    closed_at: Option<Nanos>,
}

/// The part of a request that matters here.
struct Request {
    id: String,
    attempt: u8,
    closing: bool,
    head: usize,
    body: usize,
}

/// An idle connection is troubled this much after its answer, at most.
const IDLE_MAX: Nanos = Nanos::from_millis(20);

impl Peer {
    pub(super) fn new(world: &World) -> Self {
        Self {
            server: world.server.clone(),
            faults: world.faults,
            dice: Dice::new(mix(world.seed, 2)),
            links: BTreeMap::new(),
            free_at: vec![Nanos::ZERO; world.server.servers.unwrap_or(0) as usize],
            exchanges: Vec::new(),
        }
    }

    /// How often what has happened here.
    pub(super) fn marks(&self) -> &BTreeMap<&'static str, u64> {
        self.dice.marks()
    }

    pub(super) fn exchanges(&self) -> &[Exchange] {
        &self.exchanges
    }

    /// The network knows when the bytes of an answer arrive.
    pub(super) fn arrives(&mut self, mark: Mark, at: Nanos) {
        match mark {
            Mark::Begun(exchange) => self.exchanges[exchange].begun = Some(at),
            Mark::Whole(exchange) => self.exchanges[exchange].readable = Some(at),
        }
    }

    /// A connection is there. Some servers do not wait for a request.
    pub(super) fn accept(&mut self, conn: ConnId, now: Nanos) -> Vec<Act> {
        let (faults, link) = (&self.faults, self.links.entry(key(conn)).or_default());
        let mut acts = Vec::new();
        for (fault, rate, wire) in [
            ("greeting", faults.greeting, Wire::Bytes(b"220 ready\r\n".to_vec())),
            ("hung_up", faults.hung_up, Wire::Fin),
            ("reset_up", faults.reset_up, Wire::Rst),
        ] {
            if link.closed_at.is_none() && self.dice.strikes(fault, rate) {
                link.dirty = true;
                link.closed_at = (!matches!(wire, Wire::Bytes(_))).then_some(now);
                acts.push(Act { at: now, wire, marks: Vec::new() });
            }
        }
        acts
    }

    pub(super) fn hang_up(&mut self, conn: ConnId) {
        self.links.remove(&key(conn));
    }

    /// Bytes have arrived that the client handed over at `handed`.
    pub(super) fn on_bytes(&mut self, conn: ConnId, bytes: &[u8], handed: Nanos, now: Nanos) -> Vec<Act> {
        let mut acts = Vec::new();
        let Some(link) = self.links.get_mut(&key(conn)) else { return acts };
        if let Some(exchange) = link.last.filter(|_| link.unread == 0) {
            self.exchanges[exchange].ignored_close = true;
        }
        if link.closed_at.is_some_and(|at| at <= now) {
            acts.push(Act { at: now, wire: Wire::Rst, marks: Vec::new() });
            return acts;
        }
        let swallowed = link.unread.min(bytes.len());
        link.unread -= swallowed;
        if link.buffer.is_empty() {
            link.handed = handed;
        }
        link.buffer.extend_from_slice(&bytes[swallowed..]);
        while let Some(request) = self.take_request(conn) {
            self.serve(conn, &request, handed, now, &mut acts);
        }
        acts
    }

    /// True if the connection has been idle since its request number `served`; it is troubled now.
    pub(super) fn while_idle(&mut self, conn: ConnId, served: u32, wire: &Wire, now: Nanos) -> bool {
        let Some(link) = self.links.get_mut(&key(conn)) else { return false };
        let idle = link.served == served && link.buffer.is_empty() && link.closed_at.is_none();
        if idle {
            self.dice.mark(match wire {
                Wire::Bytes(_) => "unsolicited",
                Wire::Fin => "idle_fin",
                _ => "idle_reset",
            });
            link.closed_at = (!matches!(wire, Wire::Bytes(_))).then_some(now);
        }
        idle
    }

    /// Takes a whole request out of the buffer, or one without its whole body if it is answered early.
    fn take_request(&mut self, conn: ConnId) -> Option<Request> {
        let link = self.links.get_mut(&key(conn))?;
        let request = parse(&link.buffer)?;
        let length = request.head + request.body;
        let there = length.min(link.buffer.len());
        if there < length && !self.dice.strikes("early", self.faults.early) {
            return None;
        }
        link.buffer.drain(..there);
        link.unread = length - there;
        Some(request)
    }

    fn serve(
        &mut self,
        conn: ConnId,
        request: &Request,
        handed_last: Nanos,
        now: Nanos,
        acts: &mut Vec<Act>,
    ) {
        let service = self.server.service.time(self.server.work_seed, request.id.as_bytes());
        let (started, ended) = self.work(now, service);
        let question = Question {
            id: &request.id,
            closing: request.closing,
            queue: started - now,
            service: ended - started,
            body_max: self.server.body_max,
        };
        let answer = compose(&question, &self.faults, &mut self.dice);
        let number = self.exchanges.len();
        let link = self.links.get_mut(&key(conn)).expect("the request came from it");
        let mut at = ended.max(link.written);
        let pieces = answer.pieces.len();
        for (index, (gap, bytes)) in answer.pieces.into_iter().enumerate() {
            at += gap;
            let begun = (answer.begins_with == Some(index)).then_some(Mark::Begun(number));
            let whole = (answer.whole_with == Some(index)).then_some(Mark::Whole(number));
            let marks = begun.into_iter().chain(whole).collect();
            acts.push(Act { at, wire: Wire::Bytes(bytes), marks });
        }
        link.written = at;
        let early = link.unread > 0;
        let clean = answer.clean && !link.dirty && !(early && answer.ending != Ending::Open);
        self.exchanges.push(Exchange {
            conn,
            id: request.id.clone(),
            attempt: request.attempt,
            handed: link.handed,
            handed_last,
            arrived: now,
            early,
            started,
            ended,
            status: answer.status,
            sound: answer.whole_with.is_some(),
            clean,
            surplus: answer.surplus,
            begun: None,
            readable: None,
            by_close: answer.whole_with == Some(pieces),
            ignored_close: false,
        });
        link.last = (answer.last && answer.whole_with.is_some()).then_some(number);
        link.served += 1;
        link.dirty |= !answer.clean;
        let wire = match answer.ending {
            Ending::Open => return self.trouble_when_idle(conn, at, acts),
            Ending::Silence => return,
            Ending::Fin => Wire::Fin,
            Ending::Rst => Wire::Rst,
        };
        link.closed_at = Some(at);
        let whole = (answer.whole_with == Some(pieces)).then_some(Mark::Whole(number));
        acts.push(Act { at, wire, marks: whole.into_iter().collect() });
    }

    /// When work that arrives now begins and ends.
    fn work(&mut self, now: Nanos, service: Nanos) -> (Nanos, Nanos) {
        let mut endless = Nanos::ZERO;
        let free_at = self.free_at.iter_mut().min().unwrap_or(&mut endless);
        let at = now.max(*free_at);
        let (started, ended) = match self.server.freeze {
            Some(freeze) => freeze.work(at, service),
            None => (at, at + service),
        };
        *free_at = ended;
        (started, ended)
    }

    fn trouble_when_idle(&mut self, conn: ConnId, after: Nanos, acts: &mut Vec<Act>) {
        let link = self.links.get_mut(&key(conn)).expect("it was just served");
        for (rate, wire) in [
            (self.faults.idle_fin, Wire::Fin),
            (self.faults.idle_reset, Wire::Rst),
            (self.faults.unsolicited, Wire::Bytes(b"HTTP/1.1 2".to_vec())),
        ] {
            if self.dice.chance(rate) {
                link.dirty = true;
                // A client that reads late meets it together with the answer.
                self.exchanges.last_mut().expect("it was just served").clean = false;
                let at = after + self.dice.up_to(IDLE_MAX);
                let wire = Wire::IfIdle { served: link.served, then: Box::new(wire) };
                acts.push(Act { at, wire, marks: Vec::new() });
            }
        }
    }
}

fn key(conn: ConnId) -> (u32, u32) {
    (conn.index, conn.generation)
}

/// The head at the start of `bytes`, once it is there.
fn parse(bytes: &[u8]) -> Option<Request> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..end]).expect("the instrument sends text");
    let field = |name: &str| text.split("\r\n").find_map(|line| line.strip_prefix(name));
    let number = |name, default| field(name).map_or(default, |value| value.parse().expect("a number"));
    Some(Request {
        id: field("X-Request-Id: ").expect("every request has an id").to_owned(),
        attempt: number("X-Attempt: ", 1) as u8,
        closing: field("Connection: ") == Some("close"),
        head: end + 4,
        body: number("Content-Length: ", 0),
    })
}
