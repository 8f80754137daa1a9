//! The contract of `Engine` on real loopback sockets: one suite, every engine, and io_uring without each of the things that
//! an older kernel lacks. `Checked` watches both sides throughout.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::contract::Checked;
use super::epoll::EpollEngine;
use super::uring::{Feature, Features, Narrow, Wanted, Wide};
use super::{Clock, Engine, Setup};
use crate::load::io::{BodyId, CloseReason, ConnId, EngineAccount, Event, Op, Stamp, Stamps, Tag, TargetId};
use crate::load::time::Nanos;
use crate::sys::clock::Monotonic;

mod suite;

/// What an event was, without its borrowed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Connected,
    Sent(u64),
    SentAll(u64),
    Bytes(Vec<u8>),
    Closed(CloseReason),
}

/// An engine under supervision, and what it has told.
struct Subject<E> {
    engine: Checked<E>,
    seen: Vec<(u32, Seen)>,
    /// Kernel stamps of what arrived and of what left, by tag.
    arrived: Vec<Nanos>,
    left: BTreeMap<u64, Nanos>,
    generations: Vec<u32>,
}

impl<E: Engine> Subject<E> {
    fn conn(&self, index: u32) -> ConnId {
        ConnId { index, generation: self.generations[index as usize] }
    }

    fn connect(&mut self, index: u32) {
        self.generations[index as usize] += 1;
        self.engine.submit(self.conn(index), Op::Connect(TargetId(0)));
    }

    fn send(&mut self, index: u32, tag: u64, head: &[u8], body: Option<BodyId>) {
        self.engine.submit(self.conn(index), Op::Send { tag: Tag(tag), head, body });
    }

    fn close(&mut self, index: u32) {
        self.engine.submit(self.conn(index), Op::Close);
    }

    /// Polls until `enough` or 10 s are over; what was seen since the last call.
    fn poll(&mut self, enough: impl Fn(&[(u32, Seen)]) -> bool) -> Vec<(u32, Seen)> {
        let end = Monotonic.now() + Nanos::from_secs(10);
        while !enough(&self.seen) && Monotonic.now() < end {
            self.turn(Monotonic.now() + Nanos::from_millis(20)).unwrap();
        }
        std::mem::take(&mut self.seen)
    }

    /// A few turns, in which nothing need happen.
    fn turns(&mut self, n: u32) -> Vec<(u32, Seen)> {
        for _ in 0..n {
            self.turn(Monotonic.now() + Nanos::from_millis(5)).unwrap();
        }
        std::mem::take(&mut self.seen)
    }

    fn turn(&mut self, deadline: Nanos) -> io::Result<()> {
        let Self { engine, seen, arrived, left, .. } = self;
        engine.poll(deadline, &mut |conn: ConnId, event: Event<'_>, stamp: Stamp| {
            let event = match event {
                Event::Connected => Seen::Connected,
                Event::Sent(tag) => Seen::Sent(tag.0),
                Event::SentAll(tag) => Seen::SentAll(tag.0),
                Event::Received(bytes) => {
                    arrived.extend(stamp.kernel);
                    match seen.last_mut() {
                        // how a stream is cut up is no part of the contract
                        Some((index, Seen::Bytes(more))) if *index == conn.index => {
                            return more.extend_from_slice(bytes);
                        }
                        _ => Seen::Bytes(bytes.to_vec()),
                    }
                }
                Event::Transmitted(tag) => {
                    left.extend(stamp.kernel.map(|at| (tag.0, at)));
                    return;
                }
                Event::Closed(reason) => Seen::Closed(reason),
            };
            seen.push((conn.index, event));
        })
    }

    /// Slot 0, open, and its other end.
    fn connected(&mut self, listener: &TcpListener) -> TcpStream {
        self.connect(0);
        assert_eq!(self.poll(|seen| !seen.is_empty()), [(0, Seen::Connected)]);
        let (peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        peer
    }
}

fn subject<E: Engine>(make: impl Fn(Setup) -> io::Result<E>, setup: Setup) -> Subject<E> {
    let connections = setup.connections;
    Subject {
        engine: Checked::new(make(setup).unwrap(), connections),
        seen: Vec::new(),
        arrived: Vec::new(),
        left: BTreeMap::new(),
        generations: vec![0; connections as usize],
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn to(addresses: &[SocketAddr]) -> Setup {
    Setup { connections: 1, targets: vec![addresses.to_vec()], bodies: vec![Vec::new()], ..Setup::default() }
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i % 251) as u8).collect()
}

/// All bytes that were received, one after the other.
fn bytes(seen: &[(u32, Seen)]) -> Vec<u8> {
    seen.iter().flat_map(|(_, s)| if let Seen::Bytes(b) = s { &b[..] } else { &[] }).copied().collect()
}

fn received(seen: &[(u32, Seen)]) -> usize {
    seen.iter().map(|(_, s)| if let Seen::Bytes(b) = s { b.len() } else { 0 }).sum()
}

fn closed(seen: &[(u32, Seen)]) -> bool {
    matches!(seen.last(), Some((_, Seen::Closed(_))))
}

/// The whole contract, for the engine that `$make` makes of a `Setup`.
macro_rules! contract {
    ($name:ident, $make:expr) => {
        contract!($name, $make, a_request_and_its_answer sends_larger_than_the_socket what_arrived_before_the_end closing
            closing_reaches_the_peer a_reset the_end_under_a_send dead_addresses many_at_once waiting_is_fine
            dropped_in_the_midst);
    };
    ($name:ident, $make:expr, $($test:ident)*) => {
        mod $name {
            use super::*;
            $(
                #[test]
                fn $test() {
                    suite::$test($make);
                }
            )*
        }
    };
}

fn uring(setup: Setup) -> io::Result<Narrow<Monotonic>> {
    Narrow::new(Monotonic, setup)
}

/// Without `features`; the account must say so.
fn without(features: &[Feature], setup: Setup) -> io::Result<Narrow<Monotonic>> {
    let all = features.iter().fold(Features::ALL, |all, feature| all.without(*feature));
    let engine = Narrow::with(Monotonic, setup, Wanted { features: all, ..Wanted::default() })?;
    let account = engine.account();
    for feature in features {
        assert!(!account.features.contains(&feature.name().to_owned()), "{account:?}");
        let named = account.missing.iter().any(|missing| missing.starts_with(feature.name()));
        // a fallback that was not needed and stamps that were not asked for are not missing
        let optional = matches!(feature, Feature::CoopTaskrun | Feature::StampCompletions);
        assert!(named || optional, "{feature:?}: {account:?}");
    }
    Ok(engine)
}

contract!(epoll, |setup| EpollEngine::new(Monotonic, setup));
contract!(uring_with_all, uring);
contract!(uring_in_small_batches, |setup| uring(Setup { small_batches: true, ..setup }));
contract!(uring_with_wide_completions, |setup| Wide::new(Monotonic, setup));
contract!(uring_without_deferred_task_work, |setup| without(&[Feature::DeferTaskrun], setup));
contract!(uring_without_task_work_of_any_kind, |setup| {
    without(&[Feature::DeferTaskrun, Feature::CoopTaskrun, Feature::SingleIssuer], setup)
});
contract!(uring_that_stops_at_errors, |setup| without(&[Feature::SubmitAll, Feature::NoSqArray], setup));
contract!(uring_by_descriptor_and_relative_time, |setup| {
    without(&[Feature::RegisteredRing, Feature::AbsoluteTimeouts, Feature::NoIowait], setup)
});
contract!(uring_with_single_receives, |setup| without(&[Feature::MultishotReceive], setup));
contract!(uring_with_own_buffers, |setup| without(&[Feature::BufferRing], setup));
contract!(uring_of_the_oldest_kind, |setup| without(&Feature::ALL, setup));
contract!(uring_of_tiny_queues, |setup| {
    Narrow::with(Monotonic, setup, Wanted { entries: 4, completions: 4, buffers: 2, features: Features::ALL })
});
contract!(uring_of_tiny_queues_without_deferred_work, |setup| {
    let features = Features::ALL.without(Feature::DeferTaskrun);
    Narrow::with(Monotonic, setup, Wanted { entries: 4, completions: 4, buffers: 2, features })
});
contract!(uring_with_arrival_stamps, |setup| uring(Setup { stamps: Stamps::Rx, ..setup }));
contract!(uring_with_both_stamps, |setup| {
    Wide::new(Monotonic, Setup { stamps: Stamps::RxTx, small_batches: true, ..setup })
});
contract!(uring_with_stamps_of_the_oldest_kind, |setup| without(
    &Feature::ALL,
    Setup { stamps: Stamps::RxTx, ..setup }
));

#[test]
fn a_full_completion_queue_is_counted_and_costs_nothing() {
    let (listener, address) = listener();
    let wanted = Wanted { entries: 4, completions: 4, ..Wanted::default() };
    let setup = Setup { connections: 30, ..to(&[address]) };
    let mut subject = subject(|setup| Narrow::with(Monotonic, setup, wanted), setup);
    (0..30).for_each(|index| subject.connect(index));
    let seen = subject.poll(|seen| seen.len() == 30);
    assert!(seen.iter().all(|(_, s)| *s == Seen::Connected), "{seen:?}");
    let peers: Vec<_> = (0..30).map(|_| listener.accept().unwrap().0).collect();
    for mut peer in peers {
        peer.write_all(b"at once").unwrap();
    }
    let seen = subject.poll(|seen| seen.iter().filter(|(_, s)| matches!(s, Seen::Closed(_))).count() == 30);
    assert_eq!(bytes(&seen).len(), 30 * 7);
    assert!(subject.engine.account().overflows > 0);
}

/// Both ways of taking transmit stamps: each send has one, between its own stamp and the arrival of its answer.
#[test]
fn kernel_stamps_lie_between_the_stamps_of_user_space() {
    fn exchange<E: Engine>(make: impl Fn(Setup) -> io::Result<E>) {
        let (listener, address) = listener();
        let setup = Setup { stamps: Stamps::RxTx, bodies: vec![pattern(300_000)], ..to(&[address]) };
        let mut subject = subject(make, setup);
        let mut peer = subject.connected(&listener);
        let slack = Nanos::from_micros(5); // of relating two clocks
        for tag in 0..20 {
            let body = (tag % 4 == 3).then_some(BodyId(0));
            let mut got = vec![0; 4 + body.map_or(0, |_| 300_000)];
            let began = Monotonic.now();
            subject.send(0, tag, b"head", body);
            let mut reader = peer.try_clone().unwrap();
            let reader = std::thread::spawn(move || reader.read_exact(&mut got).unwrap());
            subject.poll(|seen| seen.contains(&(0, Seen::SentAll(tag))));
            reader.join().unwrap();
            peer.write_all(b"ok").unwrap();
            subject.poll(|seen| received(seen) == 2);
            let ended = Monotonic.now();
            subject.turns(1);
            let left = *subject.left.get(&tag).unwrap_or_else(|| panic!("send {tag} has no stamp"));
            let arrived = *subject.arrived.last().unwrap();
            let order = [began, left + slack, arrived + slack + slack, ended + slack + slack + slack];
            assert!(order.is_sorted(), "{order:?}");
        }
        assert_eq!((subject.arrived.len(), subject.left.len()), (20, 20));
        assert_eq!(subject.engine.account().stamps_discarded, 0);
    }
    exchange(|setup| {
        let engine = Wide::new(Monotonic, setup)?;
        let EngineAccount { features, missing, .. } = engine.account();
        let name = Feature::StampCompletions.name();
        let told = features.iter().chain(&missing).any(|text| text.starts_with(name));
        assert!(told, "used or missing, with the reason: {features:?}, {missing:?}");
        Ok(engine)
    });
    exchange(uring);
}

#[test]
fn without_multishot_receive_there_are_arrival_stamps_only_and_the_account_says_so() {
    let (_, address) = listener();
    let setup = Setup { stamps: Stamps::RxTx, ..to(&[address]) };
    let account = without(&[Feature::MultishotReceive], setup).unwrap().account();
    assert!(account.features.contains(&"receive stamps".to_owned()), "{account:?}");
    let missing = format!("{}: they need multishot receive", Feature::StampCompletions.name());
    assert!(account.missing.iter().any(|why| why.starts_with(&missing)), "{account:?}");
}
