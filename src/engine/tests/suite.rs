//! What every engine has to do, one function a promise.

use super::*;

pub(super) fn a_request_and_its_answer<E: Engine>(make: impl Fn(Setup) -> io::Result<E>) {
    let (listener, address) = listener();
    let mut subject = subject(make, Setup { bodies: vec![b"body".to_vec()], ..to(&[address]) });
    let mut peer = subject.connected(&listener);
    for tag in 1..=50 {
        subject.send(0, tag, b"head ", Some(BodyId(0)));
        let mut got = [0; 9];
        // an engine may hand over in `submit` or in `poll`
        let mut seen = subject.poll(|seen| seen.contains(&(0, Seen::Sent(tag))));
        peer.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"head body");
        peer.write_all(b"answer").unwrap();
        seen.extend(subject.poll(|seen| received(seen) == 6));
        let answer = Seen::Bytes(b"answer".to_vec());
        assert_eq!(seen, [(0, Seen::Sent(tag)), (0, Seen::SentAll(tag)), (0, answer)]);
    }
    drop(peer);
    assert_eq!(subject.poll(|seen| !seen.is_empty()), [(0, Seen::Closed(CloseReason::Eof))]);
}

pub(super) fn sends_larger_than_the_socket<E: Engine>(make: impl Fn(Setup) -> io::Result<E>) {
    let (listener, address) = listener();
    let body = pattern(8_000_000);
    let mut subject = subject(make, Setup { bodies: vec![body.clone()], ..to(&[address]) });
    let mut peer = subject.connected(&listener);
    for tag in [1, 2] {
        subject.send(0, tag, b"h", Some(BodyId(0)));
    }
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50)); // the socket fills up first
        let mut got = vec![0; 2 * (8_000_000 + 1)];
        peer.read_exact(&mut got).unwrap();
        (peer, got)
    });
    let seen = subject.poll(|seen| seen.contains(&(0, Seen::SentAll(2))));
    assert_eq!(seen, [Seen::Sent(1), Seen::SentAll(1), Seen::Sent(2), Seen::SentAll(2)].map(|s| (0, s)));
    let (_peer, got) = reader.join().unwrap();
    let one = [&b"h"[..], &body].concat();
    assert!(got == [one.clone(), one].concat(), "the bytes are not those that were sent");
}

pub(super) fn what_arrived_before_the_end<E: Engine>(make: impl Fn(Setup) -> io::Result<E>) {
    let (listener, address) = listener();
    for size in [1, 200_000, 3_000_000] {
        let mut subject = subject(&make, to(&[address]));
        let mut peer = subject.connected(&listener);
        let sent = pattern(size);
        let writer = std::thread::spawn(move || peer.write_all(&sent).unwrap());
        let seen = subject.poll(closed);
        writer.join().unwrap();
        assert_eq!(seen.last(), Some(&(0, Seen::Closed(CloseReason::Eof))));
        assert!(bytes(&seen) == pattern(size), "{} of {size} bytes, or in another order", bytes(&seen).len());
    }
}

pub(super) fn closing<E: Engine>(make: impl Fn(Setup) -> io::Result<E>) {
    let (listener, address) = listener();
    let mut subject = subject(make, Setup { bodies: vec![vec![1; 32 << 20]], ..to(&[address]) });
    let requested = [(0, Seen::Closed(CloseReason::Requested))];
    // with bytes on the way in
    let mut peer = subject.connected(&listener);
    peer.write_all(b"late").unwrap();
    subject.close(0);
    assert_eq!(subject.turns(5), requested);
    // the slot can be used again; at once after a send, nothing but the end is told
    let mut peer = subject.connected(&listener);
    peer.write_all(b"x").unwrap();
    assert_eq!(bytes(&subject.poll(|seen| !seen.is_empty())), b"x");
    subject.send(0, 1, b"never announced", None);
    subject.close(0);
    assert_eq!(subject.turns(5), requested);
    // in the midst of a send that the socket does not take
    let peer = subject.connected(&listener);
    subject.send(0, 2, b"", Some(BodyId(0)));
    assert_eq!(subject.turns(5), [(0, Seen::Sent(2))]);
    subject.close(0);
    assert_eq!(subject.turns(5), requested);
    drop(peer);
    // while connecting
    subject.connect(0);
    subject.close(0);
    assert_eq!(subject.turns(5), requested);
    assert_eq!(subject.turns(2), []);
}

/// The peer must see the end at once, not when the slot is used again.
pub(super) fn closing_reaches_the_peer<E: Engine>(make: impl Fn(Setup) -> io::Result<E>) {
    let (listener, address) = listener();
    let mut subject = subject(make, to(&[address]));
    let mut peer = subject.connected(&listener);
    subject.close(0);
    subject.turns(2);
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
}

pub(super) fn a_reset<E: Engine>(make: impl Fn(Setup) -> io::Result<E>) {
    let (listener, address) = listener();
    let mut subject = subject(make, Setup { bodies: vec![vec![1; 32 << 20]], ..to(&[address]) });
    let reset = |peer: TcpStream| {
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
    };
    let peer = subject.connected(&listener);
    reset(peer);
    assert_eq!(subject.poll(closed), [(0, Seen::Closed(CloseReason::Reset))]);
    // under a send that is stuck
    let peer = subject.connected(&listener);
    subject.send(0, 1, b"", Some(BodyId(0)));
    assert_eq!(subject.turns(5), [(0, Seen::Sent(1))]);
    reset(peer);
    assert_eq!(subject.poll(closed), [(0, Seen::Closed(CloseReason::Reset))]);
    // behind an answer, which is delivered
    let mut peer = subject.connected(&listener);
    peer.write_all(b"answer").unwrap();
    assert_eq!(subject.poll(|seen| received(seen) == 6).len(), 1);
    reset(peer);
    assert_eq!(subject.poll(closed), [(0, Seen::Closed(CloseReason::Reset))]);
    // and then a send
    let peer = subject.connected(&listener);
    reset(peer);
    subject.send(0, 2, b"too late", None);
    let seen = subject.poll(closed);
    assert_eq!(seen.last(), Some(&(0, Seen::Closed(CloseReason::Reset))), "{seen:?}");
}

pub(super) fn the_end_under_a_send<E: Engine>(make: impl Fn(Setup) -> io::Result<E>) {
    let (listener, address) = listener();
    let mut subject = subject(make, Setup { bodies: vec![vec![1; 32 << 20]], ..to(&[address]) });
    let mut peer = subject.connected(&listener);
    subject.send(0, 1, b"", Some(BodyId(0)));
    assert_eq!(subject.turns(5), [(0, Seen::Sent(1))]);
    peer.write_all(b"too large").unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let seen = subject.poll(closed);
    assert_eq!(bytes(&seen), b"too large");
    assert_eq!(seen.last(), Some(&(0, Seen::Closed(CloseReason::Eof))));
}

pub(super) fn dead_addresses<E: Engine>(make: impl Fn(Setup) -> io::Result<E>) {
    let (listening, alive) = listener();
    let dead = listener().1;
    let mut both = subject(&make, to(&[dead, alive]));
    let _peer = both.connected(&listening);
    let mut none = subject(&make, to(&[dead, dead]));
    for _ in 0..3 {
        none.connect(0);
        let seen = none.poll(|seen| !seen.is_empty());
        assert!(matches!(seen[..], [(0, Seen::Closed(CloseReason::Refused(_)))]), "{seen:?}");
    }
}

/// What `echo` does with one connection: answers of `size` bytes to requests of 8, until the end.
fn echo(mut peer: TcpStream, size: usize) {
    let (mut request, answer) = ([0; 8], pattern(size));
    loop {
        match peer.read_exact(&mut request) {
            Ok(()) => peer.write_all(&answer).unwrap(),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Many connections answer at once, more than there are buffers or room for completions where those are few; each byte
/// arrives, in order, and every connection is used again and again.
pub(super) fn many_at_once<E: Engine>(make: impl Fn(Setup) -> io::Result<E>) {
    const CONNECTIONS: u32 = 40;
    const SIZE: usize = 50_000;
    let (listener, address) = listener();
    let mut subject = subject(make, Setup { connections: CONNECTIONS, ..to(&[address]) });
    std::thread::scope(|scope| {
        for _ in 0..2 {
            for index in 0..CONNECTIONS {
                subject.connect(index);
            }
            let seen = subject.poll(|seen| seen.len() == CONNECTIONS as usize);
            assert!(seen.iter().all(|(_, s)| *s == Seen::Connected), "{seen:?}");
            for _ in 0..CONNECTIONS {
                let (peer, _) = listener.accept().unwrap();
                peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                scope.spawn(move || echo(peer, SIZE));
            }
            for round in 0..3 {
                for index in 0..CONNECTIONS {
                    subject.send(index, round, b"8 bytes.", None);
                }
                std::thread::sleep(Duration::from_millis(20)); // let answers pile up
                let all = CONNECTIONS as usize * SIZE;
                let mut seen = subject.poll(|seen| received(seen) == all);
                for index in 0..CONNECTIONS {
                    let of_one: Vec<_> = seen.extract_if(.., |(of, _)| *of == index).collect();
                    assert_eq!(of_one[..2], [(index, Seen::Sent(round)), (index, Seen::SentAll(round))]);
                    assert!(bytes(&of_one) == pattern(SIZE), "connection {index}, round {round}");
                }
            }
            for index in 0..CONNECTIONS {
                subject.close(index);
            }
            let seen = subject.poll(|seen| seen.len() == CONNECTIONS as usize);
            assert!(seen.iter().all(|(_, s)| *s == Seen::Closed(CloseReason::Requested)), "{seen:?}");
        }
    });
}

/// Whole milliseconds would be 1 ms or more; the bound leaves room for a busy machine, so it is the least of many.
pub(super) fn waiting_is_fine<E: Engine>(make: impl Fn(Setup) -> io::Result<E>) {
    let (_, address) = listener();
    let mut engine = make(to(&[address])).unwrap();
    let waited = (0..200).map(|_| {
        let began = Monotonic.now();
        engine.poll(began + Nanos::from_micros(200), &mut |_, _, _| {}).unwrap();
        Monotonic.now() - began
    });
    let least = waited.min().unwrap();
    assert!(least >= Nanos::from_micros(200) && least < Nanos::from_micros(900), "{least}");
}

/// Dropped with everything under way: the kernel must not write to what has been freed (valgrind and the allocator's own
/// checks see it), and the peers see the end.
pub(super) fn dropped_in_the_midst<E: Engine>(make: impl Fn(Setup) -> io::Result<E>) {
    let (listener, address) = listener();
    let mut subject = subject(make, Setup { bodies: vec![vec![1; 32 << 20]], ..to(&[address]) });
    let mut peer = subject.connected(&listener);
    subject.send(0, 1, b"", Some(BodyId(0)));
    subject.turns(3);
    peer.write_all(&pattern(100_000)).unwrap();
    drop(subject);
    let mut rest = Vec::new();
    let ended = peer.read_to_end(&mut rest);
    let reset = |error: io::Error| assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    ended.map_or_else(reset, |_| assert!(rest.len() < 32 << 20));
}
