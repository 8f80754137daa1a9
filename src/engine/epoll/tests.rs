//! The contract of `Engine` on real loopback sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::sys::clock::Monotonic;

const CONN: ConnId = ConnId { index: 0, generation: 1 };

/// What an event was, without its borrowed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Connected,
    Sent(u64),
    SentAll(u64),
    Bytes(usize),
    Closed(CloseReason),
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn engine(addresses: Vec<SocketAddr>, body: Vec<u8>) -> EpollEngine<Monotonic> {
    let setup = Setup { connections: 1, targets: vec![addresses], bodies: vec![body], ..Setup::default() };
    EpollEngine::new(Monotonic, setup).unwrap()
}

fn free_port() -> SocketAddr {
    listener().1
}

/// Polls until `enough` or 5 s are over; the stamps must not go back.
fn poll(engine: &mut EpollEngine<Monotonic>, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
    let (mut seen, mut last) = (Vec::new(), Nanos::ZERO);
    let end = Monotonic.now() + Nanos::from_secs(5);
    while !enough(&seen) && Monotonic.now() < end {
        let deadline = Monotonic.now() + Nanos::from_millis(20);
        let mut sink = |conn: ConnId, event: Event<'_>, stamp: Stamp| {
            assert_eq!(conn, CONN);
            assert!(stamp.at >= last || matches!(event, Event::Sent(_) | Event::SentAll(_)));
            last = stamp.at;
            seen.push(match event {
                Event::Connected => Seen::Connected,
                Event::Sent(tag) => Seen::Sent(tag.0),
                Event::SentAll(tag) => Seen::SentAll(tag.0),
                Event::Received(bytes) => Seen::Bytes(bytes.len()),
                Event::Transmitted(_) => return,
                Event::Closed(reason) => Seen::Closed(reason),
            });
        };
        engine.poll(deadline, &mut sink).unwrap();
    }
    seen
}

fn connected(engine: &mut EpollEngine<Monotonic>, listener: &TcpListener) -> TcpStream {
    engine.submit(CONN, Op::Connect(TargetId(0)));
    assert_eq!(poll(engine, |seen| !seen.is_empty()), [Seen::Connected]);
    listener.accept().unwrap().0
}

#[test]
fn a_request_and_its_answer_come_in_order() {
    let (listener, address) = listener();
    let mut engine = engine(vec![address], b"body".to_vec());
    let mut peer = connected(&mut engine, &listener);
    engine.submit(CONN, Op::Send { tag: Tag(7), head: b"head ", body: Some(BodyId(0)) });
    let mut got = [0; 9];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"head body");
    peer.write_all(b"answer").unwrap();
    let seen = poll(&mut engine, |seen| seen.contains(&Seen::Bytes(6)));
    assert_eq!(seen, [Seen::Sent(7), Seen::SentAll(7), Seen::Bytes(6)]);
    drop(peer);
    assert_eq!(poll(&mut engine, |seen| !seen.is_empty()), [Seen::Closed(CloseReason::Eof)]);
}

#[test]
fn sends_that_the_socket_does_not_take_at_once_are_announced_once_and_arrive_whole() {
    let (listener, address) = listener();
    let body: Vec<u8> = (0..8_000_000u32).map(|i| (i % 251) as u8).collect();
    let mut engine = engine(vec![address], body.clone());
    let mut peer = connected(&mut engine, &listener);
    for tag in [1, 2] {
        engine.submit(CONN, Op::Send { tag: Tag(tag), head: b"h", body: Some(BodyId(0)) });
    }
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; 2 * (8_000_000 + 1)];
        peer.read_exact(&mut got).unwrap();
        (peer, got)
    });
    let seen = poll(&mut engine, |seen| seen.contains(&Seen::SentAll(2)));
    assert_eq!(seen, [Seen::Sent(1), Seen::SentAll(1), Seen::Sent(2), Seen::SentAll(2)]);
    let (_peer, got) = reader.join().unwrap();
    let one = [&b"h"[..], &body].concat();
    assert!(got == [one.clone(), one].concat(), "the bytes are not those that were sent");
}

#[test]
fn a_full_socket_takes_a_later_send_and_announces_it_once() {
    let (listener, address) = listener();
    let mut engine = engine(vec![address], vec![b'x'; 64 << 20]);
    let _peer = connected(&mut engine, &listener);
    engine.submit(CONN, Op::Send { tag: Tag(1), head: b"fills", body: Some(BodyId(0)) });
    // what an engine does when its queue is empty and the socket is full: nothing is written at first
    engine.slots[0].out.clear();
    engine.submit(CONN, Op::Send { tag: Tag(2), head: b"late", body: None });
    assert_eq!(engine.slots[0].out[0].written, 0);
    let mut peer = _peer;
    std::thread::spawn(move || std::io::copy(&mut peer, &mut std::io::sink()));
    let seen = poll(&mut engine, |seen| seen.contains(&Seen::SentAll(2)));
    assert_eq!(seen, [Seen::Sent(1), Seen::Sent(2), Seen::SentAll(2)]);
}

#[test]
fn what_arrived_before_the_end_is_delivered_before_the_end() {
    let (listener, address) = listener();
    let mut engine = engine(vec![address], Vec::new());
    let mut peer = connected(&mut engine, &listener);
    peer.write_all(&[b'x'; 200_000]).unwrap();
    drop(peer);
    let seen = poll(&mut engine, |seen| matches!(seen.last(), Some(Seen::Closed(_))));
    let bytes: usize = seen.iter().map(|s| if let Seen::Bytes(n) = s { *n } else { 0 }).sum();
    assert_eq!((bytes, seen.last()), (200_000, Some(&Seen::Closed(CloseReason::Eof))));
}

#[test]
fn closing_is_reported_once_and_nothing_follows() {
    let (listener, address) = listener();
    let mut engine = engine(vec![address], Vec::new());
    let mut peer = connected(&mut engine, &listener);
    peer.write_all(b"late").unwrap();
    engine.submit(CONN, Op::Close);
    engine.submit(CONN, Op::Close);
    let turns = std::cell::Cell::new(0);
    let a_few = |_: &[Seen]| turns.replace(turns.get() + 1) == 5;
    assert_eq!(poll(&mut engine, a_few), [Seen::Closed(CloseReason::Requested)]);
}

#[test]
fn a_dead_address_gives_way_to_the_next() {
    let (listener, alive) = listener();
    let dead = free_port();
    let mut both = engine(vec![dead, alive], Vec::new());
    let _peer = connected(&mut both, &listener);
    assert_eq!(both.targets[0].first, 1, "the next connect begins with the one that works");

    let mut none = engine(vec![dead], Vec::new());
    none.submit(CONN, Op::Connect(TargetId(0)));
    let seen = poll(&mut none, |seen| !seen.is_empty());
    assert!(matches!(seen[..], [Seen::Closed(CloseReason::Refused(_))]), "{seen:?}");
}

/// Whole milliseconds would be 1 ms or more; the bound leaves room for a busy machine, so it is the least of many.
#[test]
fn waiting_is_finer_than_a_millisecond() {
    let mut engine = engine(vec![free_port()], Vec::new());
    let waited = (0..200).map(|_| {
        let began = Monotonic.now();
        engine.poll(began + Nanos::from_micros(200), &mut |_, _, _| {}).unwrap();
        Monotonic.now() - began
    });
    let least = waited.min().unwrap();
    assert!(least >= Nanos::from_micros(200) && least < Nanos::from_micros(900), "{least}");
}
