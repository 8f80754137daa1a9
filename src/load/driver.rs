//! The brain of a thread: who sends what when. A state machine without clock, sockets or threads.
//!
//! [`Driver::tick`] takes the time and submits operations; [`Driver::on_event`] takes what the engine
//! reports and never submits. Finished requests come out of [`Driver::finished`]. Every drawn arrival
//! ends in exactly one [`Sample`].
//!
//! Not here: how bytes travel (engine), what a response means (response), what is counted (recorder).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::connection::{Connection, InFlight, State};
use super::deadlines::Deadlines;
use super::io::{ConnId, Event, Op, Stamp, Tag, TargetId};
use super::sample::{Failure, Outcome, Sample};
use super::schedule::{Arrival, Phase, RequestId, Schedule};
use super::time::Nanos;

mod events;
mod occupancy;
mod pace;
mod settings;

use occupancy::Occupancy;
use pace::Pace;

pub use pace::{Gaps, HICCUP, PaceCounts, STALL};
pub use settings::{DriverCounts, Keepalive, Settings};

/// After an interrupt, requests in flight get this long (or `drain`, if that is shorter).
const INTERRUPT_DRAIN: Nanos = Nanos::from_secs(2);
/// Connects under way at once while the pool is filled, so that a backlog of ordinary size holds them.
const OPENING_MAX: u32 = 64;
const TARGET: TargetId = TargetId(0);
/// Connects that one stamp of `connect_began` stands for.
const CONNECTS_PER_TICK: u32 = 16;
/// So many connections may end under a request before it could be sent.
const BEREAVED_MAX: u8 = 3;

/// One thread's load.
pub struct Driver {
    settings: Settings,
    think: Option<Nanos>,
    schedule: Option<Schedule>,
    t0: Nanos,
    /// The times of the last tick and of the one before: what a poll brings came in since its predecessor.
    last_tick: Nanos,
    tick_before: Nanos,
    pace: Pace,
    occupancy: Occupancy,
    /// Open loop: how long after its intended time the last request was issued.
    last_lateness: Option<Nanos>,
    connections: Vec<Connection>,
    /// Open connections without a request, first in first out. An entry may have gone stale; it is checked when taken.
    idle_open: VecDeque<(u32, u32)>,
    /// Slots without a socket and without a request.
    idle_closed: VecDeque<u32>,
    /// Closed loop: whose turn is when. The think time is constant, so this is in order.
    turns: VecDeque<(Nanos, u32)>,
    /// Stages of users: those that are not wanted now, by when they will be.
    resting: BinaryHeap<Reverse<(Nanos, u32)>>,
    to_open: u32,
    opening: u32,
    to_connect: VecDeque<u32>,
    to_close: VecDeque<u32>,
    to_send: VecDeque<u32>,
    request_deadlines: Deadlines,
    connect_deadlines: Deadlines,
    in_flight: u32,
    cut_at: Option<Nanos>,
    head: Vec<u8>,
    finished: Vec<Sample>,
    /// Ended, but without their transmit stamp; they wait for it until the end of the next turn.
    unstamped: Vec<Unstamped>,
    counts: DriverCounts,
}

impl Driver {
    /// A driver at rest. Call [`Driver::open_all`] or [`Driver::start`] next.
    pub fn new(settings: Settings) -> Self {
        let n = settings.connections;
        assert!(n > 0, "a driver without connections can do nothing");
        let queue = || VecDeque::with_capacity(n as usize);
        Self {
            think: settings.load.think(),
            schedule: None,
            t0: Nanos::ZERO,
            last_tick: Nanos::ZERO,
            tick_before: Nanos::ZERO,
            pace: Pace::default(),
            occupancy: Occupancy::default(),
            last_lateness: None,
            connections: (0..n).map(|_| Connection::new(settings.limits)).collect(),
            idle_open: VecDeque::with_capacity(2 * n as usize),
            idle_closed: (0..n).collect(),
            turns: VecDeque::with_capacity(n as usize),
            resting: BinaryHeap::with_capacity(n as usize),
            to_open: 0,
            opening: 0,
            to_connect: queue(),
            to_close: queue(),
            to_send: queue(),
            request_deadlines: Deadlines::new(n),
            connect_deadlines: Deadlines::new(n),
            in_flight: 0,
            cut_at: None,
            head: Vec::with_capacity(1024),
            finished: Vec::with_capacity(n as usize),
            unstamped: Vec::with_capacity(n as usize),
            counts: DriverCounts::default(),
            settings,
        }
    }

    /// Fills the pool before the load starts. A connect that fails here is no request's failure; the slot connects
    /// again when a request needs it.
    pub fn open_all(&mut self) {
        self.to_open = self.settings.connections;
    }

    /// True when every connect of [`Driver::open_all`] has ended one way or the other.
    pub fn is_opened(&self) -> bool {
        self.to_open == 0 && self.opening == 0
    }

    /// The load begins: t0 is the schedule's.
    pub fn start(&mut self, schedule: Schedule, t0: Nanos) {
        self.t0 = t0;
        self.pace.begin(t0);
        for index in 0..self.settings.connections {
            match schedule.turn(index, t0) {
                Some(turn) if turn > t0 => self.resting.push(Reverse((turn, index))),
                Some(turn) => self.turns.push_back((turn, index)),
                None => {}
            }
        }
        self.schedule = Some(schedule);
    }

    /// Everything that is due at `now` is decided and submitted.
    pub fn tick(&mut self, now: Nanos, submit: &mut impl FnMut(ConnId, Op<'_>)) {
        // A deadline has passed only if what came before it has been taken in: an answer that waits in a socket while we
        // are stopped is late by our fault. So it is measured by the time at which the last poll began.
        let polled_at = std::mem::replace(&mut self.last_tick, now);
        self.tick_before = polled_at;
        self.pace.turn(now);
        self.release_unstamped(polled_at);
        self.expire(polled_at, now);
        if self.schedule.is_some() {
            self.enforce_ends(now);
            self.draw(now);
        }
        self.flush(now, submit);
        debug_assert_eq!(
            self.in_flight as usize,
            self.connections.iter().filter(|c| c.request.is_some()).count()
        );
    }

    /// The poll that follows may sleep until `deadline`: what it then brings may have come at any time before.
    pub fn sleeps(&mut self, deadline: Nanos) {
        self.pace.sleeps(deadline);
    }

    /// The turn under way was the last; nothing follows but [`Driver::counts`].
    pub fn ends(&mut self, now: Nanos) {
        self.pace.turn(now);
    }

    /// Takes in one event of the engine.
    pub fn on_event(&mut self, conn: ConnId, event: Event<'_>, stamp: Stamp) {
        let index = conn.index;
        if self.connections[index as usize].generation != conn.generation {
            return;
        }
        self.pace.event(stamp.at);
        match event {
            Event::Connected => self.on_connected(index, stamp.at),
            Event::Sent(_) => self.on_sent(index, stamp.at),
            Event::SentAll(_) => {
                if let Some(request) = &mut self.connections[index as usize].request {
                    request.sent_all = true;
                }
            }
            Event::Transmitted(tag) => self.on_transmitted(conn, tag, stamp.kernel),
            Event::Received(bytes) => self.on_received(index, bytes, stamp),
            Event::Closed(reason) => self.on_closed(index, reason, stamp.at),
        }
    }

    /// The requests that ended since this was last emptied.
    pub fn finished(&mut self) -> std::vec::Drain<'_, Sample> {
        self.finished.drain(..)
    }

    /// The next instant at which [`Driver::tick`] has something to do without an event; MAX if there is none.
    pub fn next_deadline(&mut self) -> Nanos {
        if !self.to_connect.is_empty() || !self.unstamped.is_empty() {
            return Nanos::ZERO;
        }
        let mut next = self.request_deadlines.earliest().unwrap_or(Nanos::MAX);
        next = next.min(self.connect_deadlines.earliest().unwrap_or(Nanos::MAX));
        next = next.min(self.next_end().unwrap_or(Nanos::MAX));
        if let Some((turn, _)) = self.next_turn() {
            next = next.min(turn);
        }
        if self.has_free_connection()
            && let Some(due) = self.schedule.as_ref().and_then(Schedule::next_due)
        {
            next = next.min(due);
        }
        next
    }

    /// Requests that have a connection or wait for their connect.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// True when the load is over and every drawn request has ended.
    pub fn is_done(&self) -> bool {
        let exhausted = match self.think {
            Some(_) => self.turns.is_empty() && self.resting.is_empty(),
            None => self.schedule.as_ref().is_some_and(|s| s.next_due().is_none()),
        };
        self.schedule.is_some() && exhausted && self.in_flight == 0 && self.unstamped.is_empty()
    }

    /// No further arrivals; what is in flight gets a short drain.
    pub fn interrupt(&mut self, now: Nanos) {
        self.stop_drawing(now);
        let drain = self.settings.drain.min(INTERRUPT_DRAIN);
        self.cut_at = Some(self.cut_at.unwrap_or(Nanos::MAX).min(now.saturating_add(drain)));
    }

    /// The run ends here: what is in flight becomes unsent.
    pub fn cut(&mut self, now: Nanos) {
        self.stop_drawing(now);
        for index in 0..self.settings.connections {
            if self.connections[index as usize].request.is_some() {
                self.conclude(index, Outcome::Unsent, now);
                if self.connections[index as usize].state == State::Open {
                    self.close(index); // its answer may still come
                }
            }
        }
    }

    /// What was counted beside the samples.
    pub fn counts(&self) -> DriverCounts {
        DriverCounts {
            undrawn: self.schedule.as_ref().map_or(0, Schedule::undrawn),
            in_flight_area: self.occupancy.area(),
            pace: self.pace.counts(),
            ..self.counts
        }
    }

    fn stop_drawing(&mut self, now: Nanos) {
        if let Some(schedule) = &mut self.schedule {
            if let Some(due) = schedule.next_due().filter(|&due| due < now) {
                let own = self.pace.own_wait(due, now);
                self.counts.held_up |= own.0 > (now - due).0 / 2;
            }
            schedule.stop();
        }
        self.turns.clear();
        self.resting.clear();
    }

    // ---- time

    fn expire(&mut self, polled_at: Nanos, now: Nanos) {
        while let Some(index) = self.request_deadlines.pop_expired(polled_at) {
            self.conclude(index, Outcome::Failed(Failure::Timeout), now);
            self.close(index);
        }
        while let Some(index) = self.connect_deadlines.pop_expired(polled_at) {
            self.connect_ended(index);
            if self.connections[index as usize].request.is_some() {
                self.conclude(index, Outcome::Failed(Failure::ConnectTimeout), now);
            }
            self.close(index);
        }
    }

    fn enforce_ends(&mut self, now: Nanos) {
        let cap = self.t0.saturating_add(self.settings.time_cap);
        if now >= cap && !self.counts.capped {
            self.counts.capped = true;
            self.interrupt(now);
        }
        if self.cut_at.is_none()
            && let Some(end) = self.schedule.as_ref().and_then(Schedule::end)
            && now >= end
        {
            self.cut_at = Some(end.saturating_add(self.settings.drain));
        }
        if self.cut_at.is_some_and(|at| now >= at) {
            self.cut(now);
        }
    }

    /// When [`Driver::enforce_ends`] has something to do next.
    fn next_end(&self) -> Option<Nanos> {
        let schedule = self.schedule.as_ref()?;
        let cap = (!self.counts.capped).then(|| self.t0.saturating_add(self.settings.time_cap));
        let end = self.cut_at.or_else(|| schedule.end());
        [cap, end].into_iter().flatten().min()
    }

    fn draw(&mut self, now: Nanos) {
        if self.think.is_some() {
            while let Some((intended, index)) = self.next_turn().filter(|turn| turn.0 <= now) {
                self.take_turn();
                if let Some(arrival) = self.schedule().draw_closed(intended) {
                    self.assign(index, arrival, Nanos::ZERO);
                }
            }
            return;
        }
        while let Some(index) = self.free_connection() {
            let Some(arrival) = self.schedule().draw_due(now) else {
                self.give_back(index);
                self.pace.caught_up(now);
                return;
            };
            let own_wait = self.pace.own_wait(arrival.intended, now);
            self.assign(index, arrival, own_wait);
        }
    }

    fn schedule(&mut self) -> &mut Schedule {
        self.schedule.as_mut().expect("only asked once the load has begun")
    }

    // ---- turns (closed loop)

    fn next_turn(&self) -> Option<(Nanos, u32)> {
        let waking = self.resting.peek().map(|&Reverse(turn)| turn);
        [self.turns.front().copied(), waking].into_iter().flatten().min()
    }

    /// Removes what [`Driver::next_turn`] said.
    fn take_turn(&mut self) {
        let next = self.next_turn();
        if self.turns.front().copied() == next {
            self.turns.pop_front();
        } else {
            self.resting.pop();
        }
    }

    /// A request given to a slot leaves at once if the slot is open; a closed slot connects first; one that is connecting
    /// or closing goes on by itself when that is over.
    fn assign(&mut self, index: u32, arrival: Arrival, own_wait: Nanos) {
        let template = self.settings.requests.draw(arrival.id);
        if arrival.id.phase == Phase::Measure {
            let fingerprint = self.schedule().fingerprint(arrival, template);
            self.counts.offered += 1;
            self.counts.schedule_hash = self.counts.schedule_hash.wrapping_add(fingerprint);
        }
        self.in_flight += 1;
        let c = &mut self.connections[index as usize];
        assert!(c.request.is_none(), "a connection carries one request at a time");
        c.request = Some(InFlight { own_wait, ..InFlight::new(arrival, template) });
        match c.state {
            State::Open => self.to_send.push_back(index),
            State::Closed => self.to_connect.push_back(index),
            State::Connecting | State::Closing => {}
        }
    }

    // ---- free connections (open loop)

    fn has_free_connection(&mut self) -> bool {
        self.skip_stale_idle();
        !self.idle_open.is_empty() || !self.idle_closed.is_empty()
    }

    /// Takes the connection that has been idle longest; a closed one only if none is open.
    fn free_connection(&mut self) -> Option<u32> {
        self.skip_stale_idle();
        match self.idle_open.pop_front() {
            Some((index, _)) => Some(index),
            None => self.idle_closed.pop_front(),
        }
    }

    fn give_back(&mut self, index: u32) {
        let c = &self.connections[index as usize];
        match c.state {
            State::Open => self.idle_open.push_front((index, c.generation)),
            _ => self.idle_closed.push_front(index),
        }
    }

    fn skip_stale_idle(&mut self) {
        while let Some(&(index, generation)) = self.idle_open.front() {
            let c = &self.connections[index as usize];
            if c.generation == generation && c.state == State::Open && c.request.is_none() {
                return;
            }
            self.idle_open.pop_front();
        }
    }

    // ---- operations

    fn flush(&mut self, now: Nanos, submit: &mut impl FnMut(ConnId, Op<'_>)) {
        while let Some(index) = self.to_close.pop_front() {
            // The peer may have closed it since, in the same batch of events.
            if self.connections[index as usize].state == State::Closing {
                self.pace.operation();
                submit(self.id(index), Op::Close);
            }
        }
        while self.to_open > 0 && self.opening < OPENING_MAX {
            self.to_open -= 1;
            let index = self.idle_closed.pop_front().expect("every slot is opened once");
            self.opening += 1;
            self.connections[index as usize].state = State::Connecting;
            self.to_connect.push_back(index);
        }
        for _ in 0..CONNECTS_PER_TICK {
            let Some(index) = self.to_connect.pop_front() else { break };
            let c = &mut self.connections[index as usize];
            c.state = State::Connecting;
            c.generation += 1;
            c.carried = 0;
            // Late connects are our lateness, though the connect itself is the target's time.
            let due = c.request.as_ref().map_or(now, |request| request.arrival.intended.max(c.available));
            c.connect_late = now.saturating_sub(due);
            c.connect_began = now;
            self.counts.connects += 1;
            self.pace.operation();
            self.connect_deadlines.push(index, now.saturating_add(self.settings.connect_timeout));
            submit(self.id(index), Op::Connect(TARGET));
        }
        while let Some(index) = self.to_send.pop_front() {
            self.send(index, submit);
        }
    }

    fn send(&mut self, index: u32, submit: &mut impl FnMut(ConnId, Op<'_>)) {
        let conn = self.id(index);
        let c = &mut self.connections[index as usize];
        // The connection may have died between being chosen and now; then the request has moved on already.
        let Some(request) = c.request.as_mut().filter(|r| c.state == State::Open && !r.submitted) else {
            return;
        };
        c.carried += 1;
        let last = self.settings.keepalive == Keepalive::Requests(c.carried);
        let id = request.arrival.id;
        let template = self.settings.requests.get(request.template);
        template.render(id, request.attempt, last, &mut self.head);
        let body = template.body();
        request.submitted = true;
        request.ready = Some(request.arrival.intended.max(c.available));
        request.connect = (c.carried == 1).then_some(c.connect_took);
        request.bytes = self.head.len() as u64 + body.map_or(0, |(_, length)| length);
        c.decoder.begin(template.is_head(), self.settings.digest);
        self.pace.operation();
        submit(conn, Op::Send { tag: tag_of(id), head: &self.head, body: body.map(|(id, _)| id) });
    }

    fn id(&self, index: u32) -> ConnId {
        ConnId { index, generation: self.connections[index as usize].generation }
    }

    fn close(&mut self, index: u32) {
        self.connections[index as usize].state = State::Closing;
        self.to_close.push_back(index);
    }
}

/// A sample that waits for its transmit stamp.
struct Unstamped {
    conn: ConnId,
    since: Nanos,
    sample: Sample,
}

/// Unlike for every two requests that follow each other on a connection.
fn tag_of(id: RequestId) -> Tag {
    Tag(id.seq << 1 | u64::from(id.phase == Phase::Measure))
}

#[cfg(test)]
mod tests;
