//! How requests and connections end, and in which class.

use super::*;

#[test]
fn connects_fail_in_their_own_classes() {
    for (reason, outcome) in [
        (CloseReason::Refused(111), failed(Failure::ConnectRefused)),
        (CloseReason::TimedOut, failed(Failure::ConnectTimeout)),
        (CloseReason::Local(24), failed(Failure::LocalResource(24))),
        (CloseReason::Reset, failed(Failure::Reset)),
    ] {
        let mut world = World::new(settings(CLOSED_LOOP, 1), count(1));
        world.tick(ms(1));
        let conn = world.take(Asked::Connect).unwrap();
        world.event(conn, Event::Closed(reason));
        assert_eq!(world.outcomes(), [outcome]);
        assert_eq!((world.samples[0].ready, world.samples[0].issued), (None, None));
        world.tick(ms(1));
        assert!(world.driver.is_done());
    }
    let mut world = World::new(settings(CLOSED_LOOP, 1), count(1));
    world.tick(ms(1));
    world.tick(ms(501));
    assert_eq!(world.outcomes(), [failed(Failure::ConnectTimeout)]);
    assert!(world.take(Asked::Close).is_some());
}

/// Sends one request (the second on its connection if `reused`), lets `events` happen, and returns its outcome.
fn ending(reused: bool, events: &[Event<'_>]) -> Outcome {
    let mut world = World::new(settings(CLOSED_LOOP, 1), count(2));
    let mut conn = world.settle()[0];
    if reused {
        world.event(conn, Event::Received(OK));
        conn = world.settle()[0];
    }
    for &event in events {
        world.event(conn, event);
    }
    world.samples.last().unwrap().outcome
}

#[test]
fn a_connection_that_ends_gives_its_request_the_right_class() {
    use CloseReason::{Eof, Reset};
    use Event::{Closed, Received};
    let head: Event<'_> = Received(b"HTTP/1.1 200 OK\r\nConte");
    let body: Event<'_> = Received(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok");
    let open: Event<'_> = Received(b"HTTP/1.1 200 OK\r\n\r\nok");
    for (reused, events, outcome) in [
        (false, &[Closed(Eof)][..], failed(Failure::NoResponse)),
        (false, &[Closed(Reset)], failed(Failure::Reset)),
        (true, &[Closed(Eof)], failed(Failure::StaleKeepalive)),
        (true, &[Closed(Reset)], failed(Failure::StaleKeepalive)),
        (true, &[head, Closed(Eof)], failed(Failure::TruncatedHead)),
        (true, &[body, Closed(Eof)], failed(Failure::TruncatedBody)),
        (true, &[head, Closed(Reset)], failed(Failure::Reset)),
        (false, &[open, Closed(Eof)], Outcome::Completed(200)),
        (false, &[open, Closed(Reset)], failed(Failure::Reset)),
        (true, &[Closed(CloseReason::Local(105))], failed(Failure::LocalResource(105))),
    ] {
        assert_eq!(ending(reused, events), outcome, "{reused} {events:?}");
    }
    assert!(matches!(ending(true, &[Received(b"SSH-2.0\r\n")]), Outcome::Failed(Failure::Malformed(_))));
    let glued = [OK, OK].concat();
    assert_eq!(ending(false, &[Received(&glued)]), failed(Failure::Surplus));
    let other = b"HTTP/1.1 200 OK\r\nX-Request-Id: 77\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ending(false, &[Received(other)]), failed(Failure::Mismatch));
}

#[test]
fn a_stale_request_is_retried_once_and_only_if_asked() {
    let mut settings = settings(CLOSED_LOOP, 1);
    settings.retry_stale = true;
    let mut world = World::new(settings, count(2));
    let conn = world.settle()[0];
    world.event(conn, Event::Received(OK));
    let conn = world.settle()[0];
    world.advance(ms(3));
    world.event(conn, Event::Closed(CloseReason::Eof));
    let retry = world.settle()[0];
    assert!(world.heads[2].contains("X-Request-Id: 1\r\nX-Attempt: 2\r\n"), "{}", world.heads[2]);
    world.event(retry, Event::Received(OK));
    let sample = &world.samples[1];
    assert_eq!((sample.attempt, sample.response(), sample.outcome), (2, ms(3), Outcome::Completed(200)));
    assert_eq!(world.driver.counts().retries, 1);
    assert!(world.driver.is_done());
}

#[test]
fn a_connection_carries_as_many_requests_as_it_may() {
    let mut settings = settings(CLOSED_LOOP, 1);
    settings.keepalive = Keepalive::Requests(2);
    let mut world = World::new(settings, count(4));
    for _ in 0..4 {
        let conn = world.settle()[0];
        world.event(conn, Event::Received(OK));
    }
    let closing: Vec<bool> = world.heads.iter().map(|h| h.contains("Connection: close")).collect();
    assert_eq!(closing, [false, true, false, true]);
    assert_eq!(world.driver.counts().connects, 2);
    let fresh: Vec<bool> = world.samples.iter().map(|s| s.connect.is_some()).collect();
    assert_eq!(fresh, [true, false, true, false]);
}

#[test]
fn a_server_that_closes_between_requests_costs_no_request() {
    let mut world = World::new(settings(CLOSED_LOOP, 1), count(2));
    let conn = world.settle()[0];
    world.event(conn, Event::Received(CLOSING));
    let conn = world.settle()[0];
    world.event(conn, Event::Received(OK));
    assert_eq!(world.outcomes(), [Outcome::Completed(200); 2]);

    let mut world = World::new(settings(Load::Closed { think: ms(10) }, 1), count(2));
    let conn = world.settle()[0];
    world.event(conn, Event::Received(OK));
    world.event(conn, Event::Closed(CloseReason::Eof)); // while it thinks
    world.advance(ms(10));
    let conn = world.settle()[0];
    world.event(conn, Event::Received(OK));
    assert_eq!(world.outcomes(), [Outcome::Completed(200); 2]);
}

#[test]
fn a_server_that_closes_whoever_comes_is_not_asked_for_ever() {
    for (reason, failure) in [(CloseReason::Eof, Failure::NoResponse), (CloseReason::Reset, Failure::Reset)] {
        let mut world = World::new(settings(CLOSED_LOOP, 1), count(2));
        for _ in 0..20 {
            world.tick(world.now);
            if let Some(conn) = world.take(Asked::Connect) {
                world.event(conn, Event::Connected);
                world.event(conn, Event::Closed(reason));
            }
        }
        assert_eq!(world.outcomes(), [failed(failure); 2]);
        assert_eq!(world.driver.counts().connects, 6);
        assert!(world.driver.is_done());
    }
}

#[test]
fn bytes_that_nobody_asked_for_close_the_idle_connection_and_are_counted() {
    let mut world = World::new(settings(Load::Closed { think: ms(10) }, 1), count(2));
    let conn = world.settle()[0];
    world.event(conn, Event::Received(OK));
    world.event(conn, Event::Received(OK));
    assert_eq!(world.driver.counts().unsolicited, 1);
    world.advance(ms(10));
    let conn = world.settle()[0];
    assert_eq!(conn.generation, 2);
    world.event(conn, Event::Received(OK));
    assert_eq!(world.outcomes(), [Outcome::Completed(200); 2]);
}

/// Found by simulation, seed 0.
#[test]
fn a_connection_that_has_ended_by_itself_is_not_closed_again() {
    let mut world = World::new(settings(CLOSED_LOOP, 1), count(1));
    let conn = world.settle()[0];
    world.event(conn, Event::Received(CLOSING));
    world.event(conn, Event::Closed(CloseReason::Eof));
    world.tick(ms(2));
    assert_eq!(world.take(Asked::Close), None);
}
