//! What only the inside of this engine shows. The contract is tested for all engines alike, in `engine::tests`.

use std::net::{TcpListener, TcpStream};

use io_uring::opcode;

use super::*;
use crate::load::io::TargetId;
use crate::sys::clock::Monotonic;

const CONN: ConnId = ConnId { index: 0, generation: 1 };

fn connected() -> (Narrow<Monotonic>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let targets = vec![vec![listener.local_addr().unwrap()]];
    let mut engine = Narrow::new(Monotonic, Setup { connections: 1, targets, ..Setup::default() }).unwrap();
    engine.submit(CONN, Op::Connect(TargetId(0)));
    assert_eq!(told(&mut engine), ["Connected"]);
    (engine, listener.accept().unwrap().0)
}

/// What one turn tells.
fn told(engine: &mut Narrow<Monotonic>) -> Vec<String> {
    let mut told = Vec::new();
    let deadline = Monotonic.now() + Nanos::from_millis(100);
    engine.poll(deadline, &mut |_, event, _| told.push(format!("{event:?}"))).unwrap();
    told
}

/// A completion of this kind and generation, of an operation that nobody is waiting for.
fn complete(engine: &mut Narrow<Monotonic>, generation: u32, kind: Kind) {
    let late = ConnId { generation, ..CONN };
    engine.behind.push(opcode::Nop::new().build().user_data(user_data(late, kind)));
}

#[test]
fn completions_of_another_life_and_of_nobody_are_dropped() {
    let (mut engine, _peer) = connected();
    for kind in [Kind::Connect, Kind::Receive, Kind::Send, Kind::Stamps, Kind::Cancel] {
        for generation in [0, 2, u32::MAX] {
            complete(&mut engine, generation, kind);
        }
    }
    complete(&mut engine, 1, Kind::Send); // of this life, but there is no send
    engine.behind.push(opcode::Nop::new().build().user_data(u64::MAX));
    assert_eq!(told(&mut engine), [""; 0]);
    assert!(engine.slots[0].in_kernel.has(Kind::Receive), "the receive is still armed");
    engine.submit(CONN, Op::Close);
    assert_eq!(told(&mut engine), ["Closed(Requested)"]);
}

/// Warm, a request needs nothing new.
#[test]
fn a_send_takes_its_memory_from_the_one_before() {
    let (mut engine, _peer) = connected();
    for tag in 0..5 {
        engine.submit(CONN, Op::Send { tag: Tag(tag), head: b"GET / HTTP/1.1\r\n\r\n", body: None });
        assert!(engine.spare.is_empty());
        assert_eq!(told(&mut engine), [format!("Sent(Tag({tag}))"), format!("SentAll(Tag({tag}))")]);
        assert_eq!(engine.spare.len(), 1);
    }
}

#[test]
fn sends_that_go_in_small_batches_go_eight_at_a_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let targets = vec![vec![listener.local_addr().unwrap()]];
    let setup = Setup { connections: 20, targets, small_batches: true, ..Setup::default() };
    let mut engine = Narrow::new(Monotonic, setup).unwrap();
    let conn = |index| ConnId { index, generation: 1 };
    (0..20).for_each(|index| engine.submit(conn(index), Op::Connect(TargetId(0))));
    let mut connected = 0;
    while connected < 20 {
        connected += told(&mut engine).len();
    }
    for index in 0..20 {
        engine.submit(conn(index), Op::Send { tag: Tag(1), head: b"x", body: None });
    }
    let mut stamps = Vec::new();
    let mut sink = |_: ConnId, event: Event<'_>, stamp: Stamp| {
        if matches!(event, Event::Sent(_)) {
            stamps.push(stamp.at);
        }
    };
    engine.poll(Nanos::ZERO, &mut sink).unwrap();
    let mut batches: Vec<usize> = stamps.chunk_by(|a, b| a == b).map(<[Nanos]>::len).collect();
    batches.sort_unstable();
    assert_eq!(batches, [4, 8, 8]);
    assert!(stamps.is_sorted());
}
