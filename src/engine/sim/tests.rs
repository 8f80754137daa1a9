//! The virtual network by itself, without a driver.

use super::*;
use crate::engine::contract::Checked;
use crate::load::io::TargetId;

const CONN: ConnId = ConnId { index: 0, generation: 1 };
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nX-Request-Id: 5\r\n\r\n";

fn world(faults: Faults) -> World {
    let zero = Nanos::ZERO;
    World {
        seed: 1,
        start: Nanos::from_secs(1),
        latency: Nanos::from_micros(50),
        jitter: zero,
        costs: Costs { clock: zero, submit: zero, event: zero, poll: zero },
        server: Server {
            servers: None,
            service: Service::Fixed(Nanos::from_millis(1)),
            work_seed: 0,
            freeze: None,
            body_max: 0,
        },
        faults,
        stops: Vec::new(),
    }
}

/// What one request brings, in words, with the microseconds since the start.
fn story(world: World) -> Vec<String> {
    let start = world.start;
    let mut engine = Checked::new(SimEngine::new(world, 1, Vec::new()), 1);
    let mut told = Vec::new();
    engine.submit(CONN, Op::Connect(TargetId(0)));
    for turn in 1..20 {
        let mut connected = false;
        let mut sink = |_, event: Event<'_>, stamp: Stamp| {
            connected |= event == Event::Connected;
            let word = match event {
                Event::Received(bytes) => format!("{} bytes", bytes.len()),
                event => format!("{event:?}"),
            };
            told.push(format!("{} {word}", (stamp.at - start).0 / 1_000));
        };
        engine.poll(start + Nanos::from_millis(turn), &mut sink).unwrap();
        if connected {
            engine.submit(CONN, Op::Send { tag: Tag(5), head: REQUEST, body: None });
        }
    }
    told
}

#[test]
fn a_request_takes_two_ways_and_the_service_time() {
    let told = story(world(Faults::default()));
    assert_eq!(told, ["100 Connected", "100 Sent(Tag(5))", "100 SentAll(Tag(5))", "1200 112 bytes"]);
}

#[test]
fn every_fault_of_a_connect_has_its_event() {
    let told = |faults| story(world(faults));
    assert_eq!(told(Faults { refused: 1_000, ..Faults::default() }), ["100 Closed(Refused(111))"]);
    assert_eq!(told(Faults { handshake_reset: 1_000, ..Faults::default() }), ["100 Closed(Reset)"]);
    assert_eq!(told(Faults { local: 1_000, ..Faults::default() }), ["0 Closed(Local(24))"]);
    assert_eq!(told(Faults { unanswered: 1_000, ..Faults::default() }), [""; 0]);
}

#[test]
fn faults_end_a_connection_as_they_should() {
    let last = |faults| story(world(faults)).pop().unwrap();
    assert!(last(Faults { fin: 1_000, ..Faults::default() }).ends_with("Closed(Eof)"));
    assert!(last(Faults { reset: 1_000, ..Faults::default() }).ends_with("Closed(Reset)"));
    assert!(last(Faults { until_close: 1_000, ..Faults::default() }).ends_with("Closed(Eof)"));
    assert!(last(Faults { hung_up: 1_000, ..Faults::default() }).ends_with("Closed(Eof)"));
    assert!(last(Faults { idle_fin: 1_000, ..Faults::default() }).ends_with("Closed(Eof)"));
    assert!(last(Faults { unsolicited: 1_000, ..Faults::default() }).ends_with(" 10 bytes"));
}

#[test]
fn the_same_world_twice_is_the_same_story() {
    for seed in 0..50 {
        let world =
            World { seed, faults: Faults::swarm(seed), jitter: Nanos(9_999), ..world(Faults::default()) };
        assert_eq!(story(world.clone()), story(world));
    }
}
