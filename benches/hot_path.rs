//! What each step of the hot path costs, one by one: `cargo bench`, or `cargo bench -- record` for some of it.
//!
//! Wall-clock times of a shared machine: for orders of magnitude and for comparing two builds on a quiet one. What gates
//! are built on is counted instead (docs/PERFORMANCE.md).
#![allow(missing_docs)] // divan makes items of its own

use std::hint::black_box;

use divan::Bencher;
use divan::counter::ItemsCount;
use hairspring::engine::Clock;
use hairspring::load::response::{Decoder, Limits};
use hairspring::load::rng::Rng;
use hairspring::load::sample::{Outcome, Sample};
use hairspring::load::schedule::{
    Arrivals, Extent, Load, Offer, Phase, Rate, RateAt, RequestId, Schedule, Shard,
};
use hairspring::load::server_timing::ServerTiming;
use hairspring::load::time::Nanos;
use hairspring::record::{LogChunk, LogPort, OkStatuses, Recorder, slicing};
use hairspring::sys::clock::Monotonic;
use hairspring::worker::{self, Wait};

#[allow(dead_code)]
#[path = "../tests/support/granting.rs"]
mod granting;

use granting::Granting;

fn main() {
    divan::main();
}

/// More than a bench draws.
const REPLAYED: u64 = 4_000_000;
const WHOLE: Shard = Shard { index: 0, of: 1 };

#[divan::bench(sample_size = 1_000)]
fn clock_read(bencher: Bencher<'_, '_>) {
    let clock = Monotonic;
    bencher.bench(|| clock.now());
}

/// ns per arrival. Every kind of open-loop load has its line here.
#[divan::bench(args = ["constant", "poisson", "ramp", "replay"], sample_size = 1_000)]
fn schedule_arrival(bencher: Bencher<'_, '_>, kind: &str) {
    let rate = Rate { milli_per_s: 9_999_991 };
    let point = |at, milli_per_s| RateAt { at, rate: Rate { milli_per_s } };
    let ramp = vec![point(Nanos::ZERO, 1_000_000), point(Nanos::from_secs(3_600), 1_000_000_000)];
    let load = match kind {
        "constant" => Load::Constant { rate },
        "poisson" => Load::Poisson { rate },
        "ramp" => Load::Stages { arrivals: Arrivals::Constant, stages: ramp },
        "replay" => Load::Replay { file: String::new(), rows: REPLAYED, digest: String::new() },
        other => panic!("no load is called {other}"),
    };
    let extent = match kind {
        "ramp" | "replay" => Extent::default(),
        _ => Extent { count: Some(u64::MAX), time: None },
    };
    let mut offer = Offer::new(load, Extent::NONE, extent, 1);
    offer.replay = (kind == "replay").then(|| (0..REPLAYED).map(|i| Nanos(i * 1_000)).collect());
    let mut schedule = Schedule::new(&offer, WHOLE, Nanos::ZERO);
    bencher.bench_local(|| schedule.draw_due(Nanos::MAX));
}

/// Samples of a few milliseconds, all successful, with the server's account.
fn samples() -> Vec<Sample> {
    let mut rng = Rng::new(1);
    let sample = |seq: u64| {
        let intended = Nanos(1_000_000 + seq * 10_000);
        let done = intended + Nanos(500_000 + rng.next_u64() % 4_000_000);
        Sample {
            id: RequestId { phase: Phase::Measure, seq },
            template: 0,
            intended,
            ready: Some(intended),
            issued: Some(intended + Nanos(800)),
            transmitted: None,
            arrived: None,
            read_gap: Nanos::ZERO,
            own_wait: Nanos::ZERO,
            arrival_gap: None,
            first_byte: Some(done),
            done,
            outcome: Outcome::Completed(200),
            bytes_sent: 120,
            bytes_received: 180,
            connection: 0,
            connect: None,
            attempt: 1,
            server: ServerTiming {
                queue: Some(Nanos(20_000)),
                service: Some(Nanos(300_000)),
                ..ServerTiming::default()
            },
            digest: None,
        }
    };
    (0..4_096).map(sample).collect()
}

/// ns per sample: histograms and counters; with slices of time; with rows of the log, which are taken off at once.
#[divan::bench(args = ["histograms", "and slices", "and log"], sample_size = 4_096)]
fn record_sample(bencher: Bencher<'_, '_>, what: &str) {
    let (full, taken) = crossbeam_channel::bounded(4);
    let (back, empty) = crossbeam_channel::bounded(4);
    for _ in 0..4 {
        back.send(LogChunk::with_capacity(4_096)).unwrap();
    }
    let log = (what == "and log").then_some(LogPort { full, empty });
    let mut recorder = Recorder::new(OkStatuses::new(vec![200..=399]), false, 0, log);
    let (mut ports, _merger) = slicing(Nanos::from_secs(3_600), 1);
    if what != "histograms" {
        recorder.slice(ports.remove(0), Nanos::ZERO);
    }
    let (samples, mut next) = (samples(), 0);
    bencher.bench_local(|| {
        recorder.record(&samples[next]);
        next = (next + 1) % samples.len();
        if next == 0 {
            for mut chunk in taken.try_iter() {
                chunk.clear();
                let _ = back.try_send(chunk);
            }
        }
    });
}

const SMALL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const NGINX: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Tue, 24 Nov 2026 15:08:51 GMT\r\n\
    Content-Type: text/html\r\nContent-Length: 13\r\nLast-Modified: Tue, 24 Nov 2026 15:00:00 GMT\r\n\
    Connection: keep-alive\r\nETag: \"6564b2d0-d\"\r\nAccept-Ranges: bytes\r\n\r\na small file\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nContent-Type: text/html\r\n\
    Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n\
    1c\r\nGET in pieces, twenty-eight.\r\n10\r\nsixteen in here.\r\n0\r\n\r\n";
const TIMED: &str = "HTTP/1.1 200 OK\r\nX-Request-Id: 4711\r\nServer-Timing: recv;dur=0.012, queue;dur=0.104, \
    service;dur=50.031\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"answer\":\"forty-2\"}";

/// ns per response. A server that repeats itself to the byte, and one whose head changes each time, as dates and ids do, so
/// that nothing can be taken from the answer before.
#[divan::bench(args = KINDS, sample_size = 1_000)]
fn decode_response(bencher: Bencher<'_, '_>, kind: &str) {
    let changing = kind.ends_with("changing");
    let text = match kind.split(' ').next() {
        Some("small") => SMALL,
        Some("nginx") => NGINX,
        Some("chunked") => CHUNKED,
        _ => TIMED,
    };
    let mut answer = text.as_bytes().to_vec();
    // a field of ours whose value may change without a meaning
    let place = answer.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
    answer.splice(place..place, *b"X-Salt: 0\r\n");
    let mut decoder = Decoder::new(Limits::default());
    let mut turn = 0u8;
    bencher.bench_local(|| {
        if changing {
            turn = (turn + 1) % 10;
            answer[place + 8] = b'0' + turn;
        }
        decoder.begin(false, false);
        black_box(decoder.feed(black_box(&answer), b"4711")).unwrap()
    });
}

const KINDS: [&str; 8] = [
    "small",
    "small changing",
    "nginx",
    "nginx changing",
    "chunked",
    "chunked changing",
    "timed",
    "timed changing",
];

const REQUESTS: u64 = 20_000;

/// Per request: a whole turn of the worker's loop divided by what it handles. Driver, decoder and loop over an engine that
/// costs next to nothing, recorder included.
#[divan::bench(args = [1, 64, 1_000])]
fn closed_loop_request(bencher: Bencher<'_, '_>, connections: u32) {
    let load = Load::Closed { think: Nanos::ZERO };
    request(bencher, load, connections, Nanos::ZERO);
}

/// The same in an open loop of 100 000 requests a second with 30 of them under way.
#[divan::bench]
fn open_loop_request(bencher: Bencher<'_, '_>) {
    let load = Load::Constant { rate: Rate { milli_per_s: 100_000_000 } };
    request(bencher, load, 100, Nanos::from_micros(300));
}

fn request(bencher: Bencher<'_, '_>, load: Load, connections: u32, latency: Nanos) {
    let extent = Extent { count: Some(REQUESTS), time: None };
    let prepared = || {
        let mut engine = Granting::new(latency);
        let time = engine.time();
        let mut driver = granting::driver(load.clone(), connections);
        worker::open_connections(&mut engine, &time, &mut driver, || 0).unwrap();
        let offer = Offer::new(load.clone(), Extent::NONE, extent, 1);
        driver.start(Schedule::new(&offer, WHOLE, time.now()), time.now());
        let recorder = Recorder::new(OkStatuses::new(vec![200..=299]), false, 0, None);
        (engine, time, driver, recorder)
    };
    let measured = bencher.counter(ItemsCount::new(REQUESTS)).with_inputs(prepared);
    measured.bench_local_refs(|(engine, time, driver, recorder)| {
        let (counts, ended) = worker::run(engine, time, driver, recorder, Wait::Park, || 0);
        ended.map(|()| counts).unwrap()
    });
}
