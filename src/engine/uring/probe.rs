//! Whether the kernel does what no flag tells: tried on sockets of our own, before there are connections.

use std::io::{self, Write};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use io_uring::{cqueue, opcode, squeue, types};
use rustix::io::Errno;

use super::Wanted;
use super::buffers::{GROUP, Pool};
use super::feature::{Feature, Features};
use super::receive::TX_TIMESTAMP;
use super::ring::{Completion, Ring};
use crate::engine::Clock;
use crate::load::io::Stamps;
use crate::load::time::Nanos;
use crate::sys::clock::Monotonic;

/// Nobody's.
const PROBE: u64 = u64::MAX;
const CANCEL: u64 = u64::MAX - 1;
/// What is tried answers at once, or not at all.
const PATIENCE: Nanos = Nanos::from_millis(200);

/// An error that says why io_uring cannot be used here and what to do, before anything depends on it.
pub fn available() -> io::Result<()> {
    Ring::<cqueue::Entry>::open(4, 8, Features::ALL).map(drop)
}

/// True if completions can carry transmit stamps.
pub fn has_wide_completions() -> bool {
    Ring::<cqueue::Entry32>::open(4, 8, Features::ALL).is_ok()
}

/// The pool, if the kernel knows pools; and whether one receive can serve a connection for life, in the form that will be
/// used: with control messages as `stamped` says, or without.
pub(super) fn receiving<Q: Completion>(
    ring: &mut Ring<Q>,
    wanted: Wanted,
    stamped: Option<&libc::msghdr>,
) -> io::Result<Option<Pool>> {
    let no_pool = |ring: &mut Ring<Q>, why: &str| {
        ring.inventory.lacks(Feature::BufferRing, why);
        ring.inventory.lacks(Feature::MultishotReceive, "it needs the buffer ring");
        Ok(None)
    };
    if !wanted.features.has(Feature::BufferRing) {
        return no_pool(ring, "not asked for");
    }
    let mut pool = match Pool::register(ring, wanted.buffers) {
        Ok(pool) => pool,
        Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
            return no_pool(ring, "it may not lock the memory (raise `ulimit -l`)");
        }
        Err(error) => return no_pool(ring, &error.to_string()),
    };
    let why = if wanted.features.has(Feature::MultishotReceive) {
        try_multishot(ring, &mut pool, stamped)?
    } else {
        Some("not asked for".to_owned())
    };
    match why {
        None => ring.inventory.gained(Feature::MultishotReceive),
        Some(why) => {
            ring.inventory.lacks(Feature::MultishotReceive, why);
            if stamped.is_some() {
                // A single receive with control messages is made into the connection's own buffer.
                ring.unregister_buffers(GROUP);
                ring.inventory.lacks(Feature::BufferRing, "stamped receives need multishot receive for it");
                return Ok(None);
            }
        }
    }
    ring.inventory.gained(Feature::BufferRing);
    Ok(Some(pool))
}

/// Receives a byte and the end of the stream; why that does not work.
fn try_multishot<Q: Completion>(
    ring: &mut Ring<Q>,
    pool: &mut Pool,
    stamped: Option<&libc::msghdr>,
) -> io::Result<Option<String>> {
    let (ours, mut theirs) = UnixStream::pair()?;
    let fd = types::Fd(ours.as_raw_fd());
    theirs.write_all(b"!")?;
    let entry = match stamped {
        Some(message) => opcode::RecvMsgMulti::new(fd, message, GROUP).build(),
        None => opcode::RecvMulti::new(fd, GROUP).build(),
    };
    push(ring, &entry.user_data(PROBE));
    let first = completions(ring, |c| c.user_data() == PROBE)?;
    drop(theirs); // ends the receive, if it is one that goes on
    let mut all = first;
    if all.last().is_some_and(|c| cqueue::more(c.flags())) {
        all.extend(completions(ring, |c| c.user_data() == PROBE && !cqueue::more(c.flags()))?);
    }
    for id in all.iter().filter_map(|c| cqueue::buffer_select(c.flags())) {
        pool.give(id);
    }
    pool.publish();
    Ok(match all.first() {
        None => Some("it did not answer when tried".to_owned()),
        Some(c) if c.result() < 0 => Some(Errno::from_raw_os_error(-c.result()).to_string()),
        Some(c) if !cqueue::more(c.flags()) => Some("it ended after one piece".to_owned()),
        Some(_) => None,
    })
}

/// What stamps there are where all were asked for: transmit stamps come as completions, or are read from the error queues.
pub(super) fn departures<Q: Completion>(ring: &mut Ring<Q>, wanted: Wanted) -> io::Result<Stamps> {
    if !ring.inventory.has(Feature::MultishotReceive) {
        // io_uring tries an operation again whenever the error queue holds something; a single receive would spin there.
        let why = "they need multishot receive; there are none";
        ring.inventory.lacks(Feature::StampCompletions, why);
        return Ok(Stamps::Rx);
    }
    match try_stamp_completions(ring, wanted)? {
        None => ring.inventory.gained(Feature::StampCompletions),
        Some(why) => ring
            .inventory
            .lacks(Feature::StampCompletions, format!("{why}; the error queues are read instead")),
    }
    Ok(Stamps::RxTx)
}

/// A wait for stamps can be begun, and cancelled; why not.
fn try_stamp_completions<Q: Completion>(ring: &mut Ring<Q>, wanted: Wanted) -> io::Result<Option<String>> {
    if !wanted.features.has(Feature::StampCompletions) {
        return Ok(Some("not asked for".to_owned()));
    }
    if !Q::WIDE {
        return Ok(Some("completions have no room for them".to_owned()));
    }
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let wait = opcode::UringCmd16::new(types::Fd(socket.as_raw_fd()), TX_TIMESTAMP).build();
    push(ring, &wait.user_data(PROBE));
    push(ring, &opcode::AsyncCancel::new(PROBE).build().user_data(CANCEL));
    let all = completions(ring, |c| c.user_data() == PROBE)?;
    let ended = all.iter().find(|c| c.user_data() == PROBE);
    Ok(match ended.map(|c| Errno::from_raw_os_error(-c.result())) {
        Some(Errno::CANCELED) => None,
        Some(errno) => Some(errno.to_string()),
        None => Some("it did not answer when tried".to_owned()),
    })
}

/// Completions until one is as asked for, or patience is over.
fn completions<Q: Completion>(ring: &mut Ring<Q>, last: impl Fn(&Q) -> bool) -> io::Result<Vec<Q>> {
    let (mut all, end) = (Vec::new(), Monotonic.now() + PATIENCE);
    while !all.iter().any(&last) {
        let now = Monotonic.now();
        if now >= end {
            break;
        }
        ring.wait(end, now)?;
        ring.take(&mut all)?;
    }
    Ok(all)
}

fn push<Q: Completion>(ring: &mut Ring<Q>, entry: &squeue::Entry) {
    // SAFETY: what is tried points into the pool and to the message of stamped receives, which both live as long as the engine.
    #[allow(unsafe_code)]
    unsafe {
        ring.push(entry);
    }
}
