//! The driver without sockets: a scripted engine that keeps the contract of `Engine`, and virtual time.

use std::sync::Arc;

use super::*;
use crate::load::io::CloseReason;
use crate::load::request::Template;
use crate::load::response::Limits;
use crate::load::rng::Rng;
use crate::load::schedule::{Extent, Load, Offer, Phase, Rate, Shard, UsersAt};

mod accounting;
mod arrivals;
mod endings;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CLOSING: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
const CLOSED_LOOP: Load = Load::Closed { think: Nanos::ZERO };

fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

fn count(n: u64) -> Extent {
    Extent { count: Some(n), time: None }
}

fn settings(load: Load, connections: u32) -> Settings {
    Settings {
        load,
        connections,
        keepalive: Keepalive::On,
        requests: Arc::new(Template::new("GET", "/", "test", &[], None).into()),
        stamps: crate::load::io::Stamps::User,
        digest: false,
        retry_stale: false,
        timeout: ms(1_000),
        connect_timeout: ms(500),
        drain: ms(1_000),
        time_cap: Nanos::from_secs(3_600),
        limits: Limits::default(),
    }
}

/// What the engine was asked for and has not yet answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Connect,
    Send,
    Close,
}

/// A driver, its virtual time, and the operations it submitted.
struct World {
    driver: Driver,
    now: Nanos,
    asked: Vec<(ConnId, Asked)>,
    heads: Vec<String>,
    samples: Vec<Sample>,
}

impl World {
    fn new(settings: Settings, measure: Extent) -> Self {
        Self::with_warmup(settings, Extent::NONE, measure)
    }

    fn with_warmup(settings: Settings, warmup: Extent, measure: Extent) -> Self {
        let mut world = Self::resting(settings);
        world.start(warmup, measure);
        world
    }

    /// With its pool filled before the load starts.
    fn opened(settings: Settings, measure: Extent) -> Self {
        let mut world = Self::resting(settings);
        world.driver.open_all();
        world.settle();
        assert!(world.driver.is_opened());
        world.start(Extent::NONE, measure);
        world
    }

    fn resting(settings: Settings) -> Self {
        let driver = Driver::new(settings);
        Self { driver, now: ms(1), asked: Vec::new(), heads: Vec::new(), samples: Vec::new() }
    }

    fn start(&mut self, warmup: Extent, measure: Extent) {
        let offer = Offer::new(self.driver.settings.load.clone(), warmup, measure, 1);
        let whole = Shard { index: 0, of: 1 };
        self.driver.start(Schedule::new(&offer, whole, self.now), self.now);
    }

    /// Advances to `now` and lets the driver decide, twice: between the two, the engine had nothing to report.
    fn tick(&mut self, now: Nanos) {
        self.turn(now);
        self.turn(now);
    }

    fn turn(&mut self, now: Nanos) {
        self.now = now;
        let (asked, heads) = (&mut self.asked, &mut self.heads);
        self.driver.tick(now, &mut |conn, op| {
            asked.push((
                conn,
                match op {
                    Op::Connect(_) => Asked::Connect,
                    Op::Send { head, .. } => {
                        heads.push(String::from_utf8(head.to_vec()).unwrap());
                        Asked::Send
                    }
                    Op::Close => Asked::Close,
                },
            ));
        });
        self.samples.extend(self.driver.finished());
    }

    fn event(&mut self, conn: ConnId, event: Event<'_>) {
        self.driver.on_event(conn, event, Stamp::at(self.now));
        self.samples.extend(self.driver.finished());
    }

    /// Takes the oldest unanswered operation of this kind.
    fn take(&mut self, kind: Asked) -> Option<ConnId> {
        let at = self.asked.iter().position(|&(_, asked)| asked == kind)?;
        Some(self.asked.remove(at).0)
    }

    /// Answers every open operation: connects succeed, sends are taken, closes close. Returns who has a request out.
    fn settle(&mut self) -> Vec<ConnId> {
        let mut waiting = Vec::new();
        for _ in 0..10 {
            self.tick(self.now);
            while let Some(conn) = self.take(Asked::Close) {
                self.event(conn, Event::Closed(CloseReason::Requested));
            }
            while let Some(conn) = self.take(Asked::Connect) {
                self.event(conn, Event::Connected);
            }
            while let Some(conn) = self.take(Asked::Send) {
                self.event(conn, Event::Sent(Tag(0)));
                self.event(conn, Event::SentAll(Tag(0)));
                waiting.push(conn);
            }
        }
        waiting
    }

    fn advance(&mut self, by: Nanos) {
        self.tick(self.now + by);
    }

    fn outcomes(&self) -> Vec<Outcome> {
        self.samples.iter().map(|s| s.outcome).collect()
    }
}

fn failed(failure: Failure) -> Outcome {
    Outcome::Failed(failure)
}
