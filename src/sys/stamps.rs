//! Kernel timestamps (SO_TIMESTAMPING, software): when bytes arrived in our kernel, and when the last byte of a
//! send left it. Linux Documentation/networking/timestamping.rst.
//!
//! The kernel stamps on CLOCK_REALTIME, the run is on CLOCK_MONOTONIC: [`WallRelation`] turns one into the
//! other. Both clocks are slewed alike, so only a step of the wall clock changes their distance; it is looked
//! for again every millisecond in which stamps come.
//!
//! Not here: whose request a stamp belongs to (engine), what is made of it (load, record).
#![allow(unsafe_code)] // recvmsg with control messages and SO_TIMESTAMPING have no safe wrapper

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::clock::Monotonic;
use crate::engine::Clock;
use crate::load::io::Stamps;
use crate::load::time::Nanos;

/// Control messages of one receive: a stamp, and for the error queue what it is about.
pub const CONTROL_BYTES: usize = 256;
/// How long the kernel may take until it stamps anything: it patches itself when the first socket asks.
const AWAKENING: Duration = Duration::from_millis(500);
/// The relation of the clocks is looked at again after so long.
const RECHECK: Nanos = Nanos::from_millis(1);
/// Less than this is the error of measuring it, not a step.
const STEP: u64 = 2_000;
/// A stamp may seem to lie so much in the future before it is thought wrong.
const AHEAD: Nanos = Nanos::from_micros(2);

/// Asks the kernel for stamps on a TCP socket.
pub fn enable(socket: impl AsFd, stamps: Stamps) -> Result<(), Errno> {
    let flags = match stamps {
        Stamps::User => return Ok(()),
        Stamps::Rx => libc::SOF_TIMESTAMPING_RX_SOFTWARE,
        Stamps::RxTx => {
            // OPT_ID numbers the bytes of the stream; with OPT_ID_TCP from the byte that is next, whatever is unacknowledged.
            libc::SOF_TIMESTAMPING_RX_SOFTWARE
                | libc::SOF_TIMESTAMPING_TX_SOFTWARE
                | libc::SOF_TIMESTAMPING_OPT_ID
                | libc::SOF_TIMESTAMPING_OPT_ID_TCP
                | libc::SOF_TIMESTAMPING_OPT_TSONLY
        }
    } | libc::SOF_TIMESTAMPING_SOFTWARE;
    let size = mem::size_of_val(&flags) as libc::socklen_t;
    // SAFETY: the pointer and the length describe `flags`, which outlives the call; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPING,
            (&raw const flags).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// One read, with the wall-clock stamp of the last of its bytes where the kernel gave one.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Option<Nanos>), Errno> {
    receive_message(socket, buffer, 0, wall_stamp)
}

/// When the last byte of a send left, on the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// Offset of that byte in the stream of the connection, modulo 2^32.
    pub byte: u32,
    /// When, on the wall clock.
    pub wall: Nanos,
}

/// The next entry of the error queue; `AGAIN` when it is empty. `None`: an entry that is no transmit stamp.
pub fn next_departure(socket: BorrowedFd<'_>) -> Result<Option<Departure>, Errno> {
    let (_, departure) = receive_message(socket, &mut [], libc::MSG_ERRQUEUE, departure)?;
    Ok(departure)
}

/// The stamp in the control messages of a received piece.
pub fn wall_stamp(control: &[u8]) -> Option<Nanos> {
    messages(control).find_map(|(level, kind, data)| match (level, kind) {
        (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => software_stamp(data),
        _ => None,
    })
}

/// The transmit stamp in the control messages of an entry of the error queue.
pub fn departure(control: &[u8]) -> Option<Departure> {
    let (mut wall, mut byte) = (None, None);
    for (level, kind, data) in messages(control) {
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => wall = software_stamp(data),
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) => byte = sent_byte(data),
            _ => {}
        }
    }
    Some(Departure { byte: byte?, wall: wall? })
}

/// `struct scm_timestamping`: three timespecs, of which the first is the software stamp.
fn software_stamp(data: &[u8]) -> Option<Nanos> {
    let number = |at: usize| Some(i64::from_ne_bytes(data.get(at..at + 8)?.try_into().ok()?));
    let (seconds, nanos) = (number(0)?, number(8)?);
    (seconds > 0).then(|| Nanos(seconds as u64 * 1_000_000_000 + nanos as u64))
}

/// `struct sock_extended_err`, of a transmit stamp of kind SND: errno u32, origin u8, type u8, code u8, pad u8,
/// info u32 (which point of the way), data u32 (which byte).
fn sent_byte(data: &[u8]) -> Option<u32> {
    const SND: u32 = 0;
    let word = |at: usize| Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?));
    let is_stamp = *data.get(4)? == libc::SO_EE_ORIGIN_TIMESTAMPING && word(8)? == SND;
    is_stamp.then(|| word(12)).flatten()
}

/// The control messages of a buffer as (level, type, data).
fn messages(control: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    const HEADER: usize = mem::size_of::<libc::cmsghdr>();
    const WORD: usize = mem::size_of::<usize>();
    let mut rest = control;
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER)?;
        let length = usize::from_ne_bytes(header[..WORD].try_into().ok()?);
        let level = i32::from_ne_bytes(header[WORD..WORD + 4].try_into().ok()?);
        let kind = i32::from_ne_bytes(header[WORD + 4..WORD + 8].try_into().ok()?);
        let data = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(WORD)..).unwrap_or_default();
        Some((level, kind, data))
    })
}

/// Control messages must be aligned as their header is.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL_BYTES]);

fn receive_message<T>(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: i32,
    read: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<(usize, Option<T>), Errno> {
    let mut control = Control([MaybeUninit::uninit(); CONTROL_BYTES]);
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a msghdr of zeros is a valid one: no name, no buffers.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES;
    // SAFETY: `message` points to `iov`, that to `buffer`, and to `control`, with their true lengths; all outlive the call.
    let n = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    if n < 0 {
        return Err(last_errno());
    }
    // SAFETY: the kernel has written the first `msg_controllen` bytes, at most as many as there are.
    let said = unsafe {
        std::slice::from_raw_parts(control.0.as_ptr().cast::<u8>(), message.msg_controllen.min(CONTROL_BYTES))
    };
    Ok((n as usize, read(said)))
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// What has to be added to CLOCK_MONOTONIC to get the wall clock, and whether that still holds.
#[derive(Debug)]
pub struct WallRelation {
    ahead: i64,
    checked: Nanos,
    steps: u64,
    discarded: u64,
}

impl WallRelation {
    /// Measured now.
    pub fn measure() -> Self {
        Self { ahead: wall_ahead(), checked: Monotonic.now(), steps: 0, discarded: 0 }
    }

    /// A kernel stamp on the monotonic clock; `now` is a time behind it. `None` where the wall clock was stepped
    /// meanwhile, so that nobody can say.
    pub fn monotonic(&mut self, wall: Nanos, now: Nanos) -> Option<Nanos> {
        let stepped = now > self.checked.saturating_add(RECHECK) && self.recheck(now);
        let converted = u64::try_from(wall.0 as i64 - self.ahead).ok().map(Nanos);
        let fits = converted.filter(|&at| !stepped && at <= now.saturating_add(AHEAD));
        if fits.is_none() {
            self.discarded += 1;
            self.recheck(now);
        }
        fits
    }

    /// Times the wall clock was stepped.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Stamps that could not be related.
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// True if the wall clock was stepped since it was last looked at.
    fn recheck(&mut self, now: Nanos) -> bool {
        let ahead = wall_ahead();
        self.checked = now;
        let stepped = ahead.abs_diff(self.ahead) > STEP;
        if stepped {
            self.steps += 1;
            self.ahead = ahead;
        }
        stepped
    }
}

/// Of a few readings the one between the closest pair of readings of the other clock.
fn wall_ahead() -> i64 {
    let reading = || {
        let before = Monotonic.now();
        let wall = super::clock::wall();
        let after = Monotonic.now();
        (after - before, wall.0 as i64 - (before.0 + (after - before).0 / 2) as i64)
    };
    (0..4).map(|_| reading()).min().map_or(0, |(_, ahead)| ahead)
}

/// Holds stamping switched on in the kernel, so that the first request finds it so.
#[derive(Debug)]
pub struct Awake {
    _socket: UdpSocket,
}

impl Awake {
    /// Waits until the kernel stamps what arrives.
    pub fn wait() -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        enable(&socket, Stamps::Rx)?;
        socket.connect(socket.local_addr()?)?;
        let began = Instant::now();
        while began.elapsed() < AWAKENING {
            socket.send(&[1])?;
            socket.set_read_timeout(Some(AWAKENING))?;
            if let (1, Some(_)) = receive(socket.as_fd(), &mut [0; 1])? {
                return Ok(Self { _socket: socket });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(io::Error::other("the kernel does not stamp what arrives (SO_TIMESTAMPING): use --stamps user"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn bytes_are_stamped_where_they_leave_and_where_they_arrive() {
        let _awake = Awake::wait().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.set_nonblocking(true).unwrap();
        enable(&client, Stamps::RxTx).unwrap();
        let mut relation = WallRelation::measure();
        let mut offset = 0;
        for length in [1usize, 100, 3_000] {
            let issued = Monotonic.now();
            client.write_all(&vec![7; length]).unwrap();
            offset += length as u32;
            server.read_exact(&mut vec![0; length]).unwrap();
            server.write_all(b"ok").unwrap();
            let mut buffer = [0; 16];
            let departure = next_departure(client.as_fd()).unwrap().expect("the send was stamped");
            assert_eq!(departure.byte, offset - 1, "the stamp is that of the last byte");
            assert_eq!(next_departure(client.as_fd()), Err(Errno::AGAIN));
            let (n, arrived) = receive(client.as_fd(), &mut buffer).unwrap();
            let done = Monotonic.now();
            assert_eq!(n, 2);
            let left = relation.monotonic(departure.wall, done).unwrap();
            let arrived = relation.monotonic(arrived.expect("the answer was stamped"), done).unwrap();
            let slack = Nanos(STEP);
            assert!(issued <= left + slack && left <= arrived + slack && arrived <= done + slack);
        }
        assert_eq!((relation.steps(), relation.discarded()), (0, 0));
    }

    #[test]
    fn a_step_of_the_wall_clock_is_noticed_and_its_stamps_are_not_used() {
        for step in [-3_600_000_000_000, -50_000, 50_000, 3_600_000_000_000] {
            let mut relation = WallRelation::measure();
            let wall = |at: Nanos, relation: &WallRelation| Nanos((at.0 as i64 + relation.ahead) as u64);
            let now = Monotonic.now();
            assert_eq!(relation.monotonic(wall(now, &relation), now), Some(now));
            relation.ahead += step; // as if it had been measured before a step
            let later = now + Nanos::from_millis(2);
            assert_eq!(relation.monotonic(Nanos((later.0 as i64 + relation.ahead) as u64), later), None);
            assert_eq!((relation.steps(), relation.discarded()), (1, 1), "{step}");
        }
    }

    #[test]
    fn what_is_no_stamp_is_none() {
        assert_eq!(wall_stamp(&[]), None);
        assert_eq!(wall_stamp(&[0xff; 64]), None);
        assert_eq!(departure(&[0; 64]), None);
        let mut cut = 40usize.to_ne_bytes().to_vec();
        cut.extend(libc::SOL_SOCKET.to_ne_bytes());
        cut.extend(libc::SCM_TIMESTAMPING.to_ne_bytes());
        cut.extend([1; 8]);
        assert_eq!(wall_stamp(&cut), None, "shorter than it says");
    }
}
