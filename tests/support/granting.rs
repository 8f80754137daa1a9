//! An engine that grants everything: every request is answered after the same time, and nothing costs any. Time is virtual
//! and jumps to whatever is due next, so a run is as fast as driver, worker and recorder are.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use hairspring::engine::{Clock, Engine};
use hairspring::load::driver::{Driver, Keepalive, Settings};
use hairspring::load::io::{CloseReason, ConnId, Event, Op, Stamp, Stamps};
use hairspring::load::request::Template;
use hairspring::load::response::Limits;
use hairspring::load::schedule::Load;
use hairspring::load::time::Nanos;

/// An answer of ordinary size.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: granting\r\nContent-Length: 2\r\n\r\nok";

/// The hands of its clock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Time(Rc<Cell<Nanos>>);

impl Clock for Time {
    fn now(&self) -> Nanos {
        self.0.get()
    }
}

/// The engine.
pub(crate) struct Granting {
    time: Time,
    latency: Nanos,
    told: VecDeque<(ConnId, Event<'static>, Nanos)>,
    answers: VecDeque<(Nanos, ConnId)>,
}

impl Granting {
    /// Every answer comes `latency` after its request.
    pub(crate) fn new(latency: Nanos) -> Self {
        Self {
            time: Time::default(),
            latency,
            told: VecDeque::with_capacity(1 << 12),
            answers: VecDeque::with_capacity(1 << 12),
        }
    }

    /// Its clock.
    pub(crate) fn time(&self) -> Time {
        self.time.clone()
    }
}

impl Engine for Granting {
    fn submit(&mut self, conn: ConnId, op: Op<'_>) {
        let now = self.time.now();
        match op {
            Op::Connect(_) => self.told.push_back((conn, Event::Connected, now)),
            Op::Send { tag, .. } => {
                self.told.extend([(conn, Event::Sent(tag), now), (conn, Event::SentAll(tag), now)]);
                self.answers.push_back((now + self.latency, conn));
            }
            Op::Close => self.told.push_back((conn, Event::Closed(CloseReason::Requested), now)),
        }
    }

    fn poll(&mut self, deadline: Nanos, sink: &mut impl FnMut(ConnId, Event<'_>, Stamp)) -> io::Result<()> {
        if self.told.is_empty() {
            let next = self.answers.front().map_or(deadline, |answer| answer.0.min(deadline));
            self.time.0.set(next.max(self.time.now()));
        }
        for (conn, event, at) in self.told.drain(..) {
            sink(conn, event, Stamp::at(at));
        }
        let now = self.time.now();
        while let Some(&(_, conn)) = self.answers.front().filter(|answer| answer.0 <= now) {
            self.answers.pop_front();
            sink(conn, Event::Received(ANSWER), Stamp::at(now));
        }
        Ok(())
    }
}

/// A driver for this load, ready to start.
pub(crate) fn driver(load: Load, connections: u32) -> Driver {
    Driver::new(Settings {
        load,
        connections,
        keepalive: Keepalive::On,
        requests: Arc::new(Template::new("GET", "/v1/infer", "127.0.0.1:8080", &[], None).into()),
        stamps: Stamps::User,
        digest: false,
        retry_stale: false,
        timeout: Nanos::from_secs(30),
        connect_timeout: Nanos::from_secs(5),
        drain: Nanos::from_secs(30),
        time_cap: Nanos::MAX,
        limits: Limits::default(),
    })
}
