//! What only the inside of this engine shows. The contract is tested for all engines alike, in `engine::tests`.

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

/// Polls until `enough` or 5 s are over.
fn poll(engine: &mut EpollEngine<Monotonic>, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
    let mut seen = Vec::new();
    let end = Monotonic.now() + Nanos::from_secs(5);
    while !enough(&seen) && Monotonic.now() < end {
        let deadline = Monotonic.now() + Nanos::from_millis(20);
        let mut sink = |conn: ConnId, event: Event<'_>, _: Stamp| {
            assert_eq!(conn, CONN);
            seen.push(match event {
                Event::Connected => Seen::Connected,
                Event::Sent(tag) => Seen::Sent(tag.0),
                Event::SentAll(tag) => Seen::SentAll(tag.0),
                other => panic!("{other:?}"),
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
fn the_next_connect_begins_with_the_address_that_works() {
    let (listener, alive) = listener();
    let dead = self::listener().1;
    let mut both = engine(vec![dead, alive], Vec::new());
    let _peer = connected(&mut both, &listener);
    assert_eq!(both.targets[0].first, 1);
}
