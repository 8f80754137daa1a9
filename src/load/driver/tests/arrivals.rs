//! When requests go out, and from when they count.

use super::*;

#[test]
fn a_closed_loop_intends_the_next_request_when_the_answer_came_plus_think() {
    let mut world = World::new(settings(Load::Closed { think: ms(10) }, 1), count(3));
    for _ in 0..3 {
        let conn = world.settle()[0];
        world.advance(ms(7));
        world.event(conn, Event::Received(OK));
        world.advance(ms(10));
    }
    let intended: Vec<Nanos> = world.samples.iter().map(|s| s.intended).collect();
    assert_eq!(intended, [ms(1), ms(18), ms(35)]);
    assert!(world.samples.iter().all(|s| s.response() == ms(7) && s.outcome == Outcome::Completed(200)));
    assert!(world.driver.is_done());
    assert_eq!(world.driver.counts().connects, 1);
}

#[test]
fn an_open_loop_charges_the_wait_for_a_connection_to_the_request() {
    let load = Load::Constant { rate: Rate { milli_per_s: 1_000_000 } };
    let mut world = World::new(settings(load, 1), count(3));
    let conn = world.settle()[0];
    world.advance(ms(100)); // the server hangs; arrivals 1 and 2 are due meanwhile
    world.event(conn, Event::Received(OK));
    for _ in 0..2 {
        let conn = world.settle()[0];
        world.advance(ms(1));
        world.event(conn, Event::Received(OK));
    }
    let [first, second, third] = &world.samples[..] else { panic!("{:?}", world.samples) };
    assert_eq!((first.response(), first.conn_wait()), (ms(100), Some(Nanos::ZERO)));
    assert_eq!((second.intended, second.conn_wait(), second.response()), (ms(2), Some(ms(99)), ms(100)));
    assert_eq!((third.conn_wait(), third.response(), third.service()), (Some(ms(99)), ms(100), Some(ms(1))));
    assert!(
        world.samples.iter().all(|s| s.send_lag() == Some(Nanos::ZERO)),
        "none of it was the instrument's"
    );
    assert!(world.driver.is_done());
}

#[test]
fn lateness_of_our_own_is_send_lag_not_waiting() {
    let load = Load::Constant { rate: Rate { milli_per_s: 1_000_000 } };
    let mut world = World::opened(settings(load, 2), count(2));
    world.settle();
    world.advance(ms(5)); // we slept through arrival 1
    world.settle();
    world.advance(ms(5));
    assert_eq!(world.driver.in_flight(), 2);
    let conn = ConnId { index: 1, generation: 1 };
    world.event(conn, Event::Received(OK));
    assert_eq!(world.samples[0].send_lag(), Some(ms(4)));
    assert_eq!(world.samples[0].conn_wait(), Some(Nanos::ZERO));
}

#[test]
fn idle_connections_are_taken_first_in_first_out_and_closed_ones_last() {
    let load = Load::Constant { rate: Rate { milli_per_s: 1_000_000 } };
    let mut world = World::opened(settings(load, 3), count(30));
    let mut used = Vec::new();
    for _ in 0..6 {
        for conn in world.settle() {
            used.push(conn.index);
            world.event(conn, Event::Received(OK));
        }
        world.advance(ms(1));
    }
    assert_eq!(used[..6], [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_timeout_counts_from_issued_and_the_connection_is_given_up() {
    let mut world = World::new(settings(CLOSED_LOOP, 1), count(2));
    world.settle();
    assert_eq!(world.driver.next_deadline(), ms(1_001));
    world.advance(ms(1_000));
    assert_eq!(world.outcomes(), [failed(Failure::Timeout)]);
    assert_eq!(world.samples[0].response(), ms(1_000));
    let conn = world.settle()[0];
    assert_eq!(conn.generation, 2, "the late answer must not meet the next request");
    world.event(ConnId { generation: 1, ..conn }, Event::Received(OK));
    assert_eq!(world.samples.len(), 1);
    world.event(conn, Event::Received(OK));
    assert!(world.driver.is_done());
}

#[test]
fn an_answer_that_waits_while_we_are_stopped_is_no_timeout() {
    let mut world = World::new(settings(CLOSED_LOOP, 1), count(1));
    let conn = world.settle()[0];
    world.turn(ms(5_000)); // we were stopped for 5 s; this is the first turn since, and it polls only now
    assert!(world.samples.is_empty());
    world.event(conn, Event::Received(OK));
    assert_eq!(world.outcomes(), [Outcome::Completed(200)]);
}

#[test]
fn a_connect_that_we_begin_late_is_our_lateness() {
    let mut settings = settings(Load::Constant { rate: Rate { milli_per_s: 1_000_000 } }, 1);
    settings.keepalive = Keepalive::Requests(1);
    let mut world = World::new(settings, count(1));
    world.tick(ms(41)); // due at 1 ms; we slept for 40 ms
    let conn = world.take(Asked::Connect).unwrap();
    world.tick(ms(44));
    world.event(conn, Event::Connected); // the connect took 3 ms
    let conn = world.settle()[0];
    world.event(conn, Event::Received(OK));
    let sample = &world.samples[0];
    assert_eq!((sample.send_lag(), sample.conn_wait()), (Some(ms(40)), Some(ms(3))));
    assert_eq!((sample.response(), sample.connect), (ms(43), Some(ms(3))));
}

#[test]
fn the_first_byte_is_that_of_the_final_response() {
    let mut world = World::new(settings(CLOSED_LOOP, 1), count(1));
    let conn = world.settle()[0];
    world.advance(ms(5));
    world.event(conn, Event::Received(b"HTTP/1.1 103 Early Hints\r\n\r"));
    world.advance(ms(5));
    world.event(conn, Event::Received(b"\nHTTP/1.1 200 OK\r\nContent-Len"));
    world.advance(ms(5));
    world.event(conn, Event::Received(b"gth: 0\r\n\r\n"));
    let sample = &world.samples[0];
    assert_eq!((sample.first_byte, sample.done), (Some(ms(11)), ms(16)));
}

/// Two users, then one, then two: who is not wanted ends its request, rests, and begins again when it is wanted.
#[test]
fn a_user_that_is_not_wanted_rests_until_it_is() {
    let stages = [(0, 2), (10, 2), (10, 1), (20, 1), (20, 2), (30, 2)];
    let stages = stages.map(|(at, users)| UsersAt { at: ms(at), users }).to_vec();
    let load = Load::Users { think: Nanos::ZERO, stages };
    let mut world = World::opened(settings(load, 2), Extent::default());
    let t0 = world.now;
    let conns = world.settle();
    assert_eq!(conns.len(), 2);
    world.advance(ms(12));
    conns.iter().for_each(|&conn| world.event(conn, Event::Received(OK)));
    assert_eq!(world.settle(), [conns[0]], "user 1 is no longer wanted");
    world.event(conns[0], Event::Received(OK));
    assert_eq!(world.settle(), [conns[0]]);
    assert!(world.driver.next_deadline() <= t0 + ms(20), "its return is a deadline");
    world.advance(ms(8));
    assert_eq!(world.settle(), [conns[1]], "user 1 is wanted again");
    world.advance(ms(11));
    conns.iter().for_each(|&conn| world.event(conn, Event::Received(OK)));
    assert_eq!(world.settle(), [], "the stages are over");
    assert!(world.driver.is_done());
    let mut intended: Vec<(u32, Nanos)> =
        world.samples.iter().map(|s| (s.connection, s.intended - t0)).collect();
    intended.sort_unstable();
    let after = |conn: ConnId| {
        if conn == conns[0] { [ms(0), ms(12), ms(12)].to_vec() } else { [ms(0), ms(20)].to_vec() }
    };
    let mut expected: Vec<(u32, Nanos)> =
        conns.iter().flat_map(|&conn| after(conn).into_iter().map(move |at| (conn.index, at))).collect();
    expected.sort_unstable();
    assert_eq!(intended, expected);
}
