//! What the driver makes of each event: requests go on, end, move to another connection, or are sent again. Nothing is
//! submitted here; what has to be done is put into the driver's queues for its next tick.

use std::cmp::Reverse;

use super::{BEREAVED_MAX, Driver, Keepalive, Unstamped, tag_of};
use crate::load::connection::{Connection, InFlight, State, outcome_of_bereavement, outcome_of_connect};
use crate::load::io::{CloseReason, ConnId, Stamp, Stamps, Tag};
use crate::load::response::Progress;
use crate::load::sample::{Failure, Outcome};
use crate::load::schedule::{Phase, RequestId};
use crate::load::time::Nanos;

impl Driver {
    pub(super) fn on_connected(&mut self, index: u32, at: Nanos) {
        self.connect_ended(index);
        let c = &mut self.connections[index as usize];
        if c.state != State::Connecting {
            return; // its Close is on the way
        }
        c.state = State::Open;
        c.connect_took = at - c.connect_began;
        c.available = at - c.connect_late;
        if c.request.is_some() {
            self.to_send.push_back(index);
        } else if self.think.is_none() {
            self.idle_open.push_back((index, c.generation));
        }
    }

    pub(super) fn on_sent(&mut self, index: u32, at: Nanos) {
        if let Some(request) = &mut self.connections[index as usize].request {
            if request.issued.is_none() {
                self.occupancy.enter(at);
            }
            request.issued = Some(at);
            if self.think.is_none() && request.attempt == 1 {
                let lateness = at.saturating_sub(request.arrival.intended);
                let before = self.last_lateness.replace(lateness);
                request.arrival_gap = before.map(|before| Nanos(lateness.0.abs_diff(before.0)));
            }
            self.request_deadlines.push(index, at.saturating_add(self.settings.timeout));
        }
    }

    pub(super) fn on_transmitted(&mut self, conn: ConnId, tag: Tag, left: Option<Nanos>) {
        let late = |u: &Unstamped| u.conn == conn && tag_of(u.sample.id) == tag;
        if let Some(at) = self.unstamped.iter().position(late) {
            let mut sample = self.unstamped.swap_remove(at).sample;
            sample.transmitted = left;
            self.finished.push(sample);
        } else if let Some(request) = &mut self.connections[conn.index as usize].request
            && tag_of(request.arrival.id) == tag
        {
            request.transmitted = left;
        }
    }

    /// Those that have waited since before the last poll have waited long enough.
    pub(super) fn release_unstamped(&mut self, polled_at: Nanos) {
        while let Some(at) = self.unstamped.iter().position(|u| u.since < polled_at) {
            self.finished.push(self.unstamped.swap_remove(at).sample);
        }
    }

    pub(super) fn on_received(&mut self, index: u32, bytes: &[u8], stamp: Stamp) {
        let at = stamp.at;
        let since = self.pace.slept_until().unwrap_or(self.tick_before);
        let c = &mut self.connections[index as usize];
        if c.state != State::Open {
            return; // late bytes of a connection that is being closed
        }
        let Some(request) = c.request.as_mut().filter(|r| r.submitted) else {
            self.counts.unsolicited += 1;
            self.close(index);
            self.bereave(index, Outcome::Failed(Failure::Surplus), at);
            return;
        };
        request.arrived = stamp.kernel;
        request.read_gap = at.saturating_sub(since.max(request.issued.unwrap_or_default()));
        let mut buffer = [0; RequestId::TEXT_MAX];
        let progress = c.decoder.feed(bytes, request.arrival.id.text(&mut buffer));
        if c.decoder.first_byte_in_last_feed() {
            request.first_byte = Some(at);
        }
        let outcome = match progress {
            Ok(Progress::Partial) => return,
            Ok(Progress::Complete { used }) if used < bytes.len() => Outcome::Failed(Failure::Surplus),
            Ok(Progress::Complete { .. }) if c.decoder.response().id_mismatch => {
                Outcome::Failed(Failure::Mismatch)
            }
            Ok(Progress::Complete { .. }) => Outcome::Completed(c.decoder.response().status),
            Err(reason) => Outcome::Failed(Failure::Malformed(reason)),
        };
        let last = self.settings.keepalive == Keepalive::Requests(c.carried);
        let reusable = matches!(outcome, Outcome::Completed(_))
            && c.decoder.response().keep_alive
            && request.sent_all
            && !last;
        if reusable {
            c.available = at;
            if self.think.is_none() {
                self.idle_open.push_back((index, c.generation));
            }
            self.conclude(index, outcome, at);
        } else {
            self.conclude(index, outcome, at);
            self.close(index);
        }
    }

    pub(super) fn on_closed(&mut self, index: u32, reason: CloseReason, at: Nanos) {
        self.connect_ended(index);
        let c = &mut self.connections[index as usize];
        let was = std::mem::replace(&mut c.state, State::Closed);
        c.available = at;
        match (&c.request, was) {
            (None, _) => {}
            (Some(_), State::Connecting) => self.conclude(index, outcome_of_connect(reason), at),
            (Some(request), State::Open) if request.submitted => {
                let outcome = c.outcome_of_close(reason);
                let stale = outcome == Outcome::Failed(Failure::StaleKeepalive);
                if stale && self.settings.retry_stale && request_attempt(c) == 1 {
                    self.retry(index);
                } else {
                    // a close-delimited response may echo the wrong id too
                    let mismatch =
                        matches!(outcome, Outcome::Completed(_)) && c.decoder.response().id_mismatch;
                    let outcome = if mismatch { Outcome::Failed(Failure::Mismatch) } else { outcome };
                    self.conclude(index, outcome, at);
                }
            }
            (Some(_), State::Open) => self.bereave(index, outcome_of_bereavement(reason), at),
            (Some(_), _) => {} // given to this slot while it was closing: it connects again
        }
        if self.connections[index as usize].request.is_some() {
            self.to_connect.push_back(index);
        } else if self.think.is_none() {
            self.idle_closed.push_back(index);
        }
    }

    /// The connection ended between being chosen and the send. The request is unharmed and connects again, but not for
    /// ever: a server that closes whoever comes would keep it from ending.
    fn bereave(&mut self, index: u32, outcome: Outcome, at: Nanos) {
        let Some(request) = &mut self.connections[index as usize].request else { return };
        request.bereaved += 1;
        if request.bereaved == BEREAVED_MAX {
            self.conclude(index, outcome, at);
        }
    }

    fn retry(&mut self, index: u32) {
        self.request_deadlines.remove(index);
        let request = self.connections[index as usize].request.as_mut().expect("the caller saw it");
        self.counts.retries += u64::from(request.arrival.id.phase == Phase::Measure);
        if let Some(issued) = request.issued {
            self.occupancy.leave(issued); // as if it had never been sent: its stay begins with the retry
        }
        *request = InFlight {
            attempt: request.attempt + 1,
            own_wait: request.own_wait,
            arrival_gap: request.arrival_gap,
            ..InFlight::new(request.arrival, request.template)
        };
    }

    pub(super) fn connect_ended(&mut self, index: u32) {
        if self.connections[index as usize].state == State::Connecting {
            self.connect_deadlines.remove(index);
            self.opening = self.opening.saturating_sub(u32::from(self.schedule.is_none()));
        }
    }

    pub(super) fn conclude(&mut self, index: u32, outcome: Outcome, done: Nanos) {
        self.request_deadlines.remove(index);
        self.in_flight -= 1;
        let sample = self.connections[index as usize].conclude(index, outcome, done, self.settings.digest);
        sample.assert_ordered();
        if sample.issued.is_some() {
            self.occupancy.leave(done);
        }
        let completed = matches!(outcome, Outcome::Completed(_));
        if self.settings.stamps == Stamps::RxTx && completed && sample.transmitted.is_none() {
            self.unstamped.push(Unstamped { conn: self.id(index), since: self.last_tick, sample });
        } else {
            self.finished.push(sample);
        }
        if let Some(think) = self.think
            && let Some(schedule) = &self.schedule
        {
            let free = done.saturating_add(think);
            match schedule.turn(index, free) {
                Some(turn) if turn > free => self.resting.push(Reverse((turn, index))),
                Some(turn) => self.turns.push_back((turn, index)),
                None => {}
            }
        }
    }
}

fn request_attempt(c: &Connection) -> u8 {
    c.request.as_ref().map_or(0, |r| r.attempt)
}
