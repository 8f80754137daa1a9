//! TCP sockets as the kernel tells of them by netlink: sock_diag(7). The queue of a listening socket, and TCP_INFO of
//! connections, without touching the sockets themselves. Requests and answers are made and read here, pure; one function
//! talks to the kernel.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with, sockopt,
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x01 | 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const INET_DIAG_REQ_BYTECODE: u16 = 1;
const INET_DIAG_INFO: u16 = 2;
const BYTECODE_JUMP: u8 = 1;
const BYTECODE_SOURCE_PORT: u8 = 11;
const BYTECODE_DESTINATION_PORT: u8 = 12;
const ESTABLISHED: u32 = 1 << 1;
const LISTEN: u32 = 1 << 10;
const NETLINK_HEAD: usize = 16;
/// `struct inet_diag_msg`
const MESSAGE: usize = 72;

/// Which sockets are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Listening at this port.
    Listening(u16),
    /// Connected to this port, or from it: the server's ends.
    Connected(u16),
}

/// One socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) peer_port: u16,
    /// Listening: connections that nobody has accepted yet. Else bytes unread.
    pub(super) receive_queue: u32,
    /// Listening: the most that may wait. Else bytes not acknowledged.
    pub(super) send_queue: u32,
    pub(super) info: Option<Info>,
}

/// What is used of TCP_INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) rtt_us: u32,
    pub(super) rttvar_us: u32,
    pub(super) min_rtt_us: u32,
    pub(super) retransmits: u32,
    pub(super) busy_us: u64,
    pub(super) rwnd_limited_us: u64,
    pub(super) sndbuf_limited_us: u64,
}

/// Address families.
pub(super) const BOTH_FAMILIES: &[u8] = &[libc::AF_INET as u8, libc::AF_INET6 as u8];

/// Asks the kernel. For connections it looks through its whole table of them, about a millisecond a family.
pub(super) fn sockets(ask: Ask, families: &[u8]) -> io::Result<Vec<Socket>> {
    const PATIENCE: Duration = Duration::from_millis(200);
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    let mut found = Vec::new();
    let mut block = vec![0; 32 << 10];
    for &family in families {
        send(&socket, &request(ask, family), SendFlags::empty())?;
        loop {
            let (length, _) = recv(&socket, &mut block[..], RecvFlags::empty())?;
            if read(&block[..length], &mut found)? {
                break;
            }
        }
    }
    if let Ask::Listening(port) = ask {
        found.retain(|socket| socket.port == port);
    }
    Ok(found)
}

/// `struct nlmsghdr`, `struct inet_diag_req_v2`, and for connections a filter that the kernel applies.
fn request(ask: Ask, family: u8) -> Vec<u8> {
    let (states, filter, extensions) = match ask {
        Ask::Listening(_) => (LISTEN, None, 0),
        Ask::Connected(port) => (ESTABLISHED, Some(port), 1 << (INET_DIAG_INFO - 1)),
    };
    let mut message = vec![0; NETLINK_HEAD];
    message.extend([family, libc::IPPROTO_TCP as u8, extensions, 0]);
    message.extend(states.to_ne_bytes());
    message.extend([0; 48]);
    if let Some(port) = filter {
        message.extend(24u16.to_ne_bytes());
        message.extend(INET_DIAG_REQ_BYTECODE.to_ne_bytes());
        message.extend(bytecode(port));
    }
    let length = message.len() as u32;
    message[0..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    message
}

/// `struct inet_diag_bc_op`: source port or destination port. An operation has a code and how many bytes to go on where it
/// holds and where not; a port stands behind it. The end of the code accepts, 4 bytes beyond it rejects; where an operation
/// does not hold it may only go to what can be reached by those that do, hence the jump.
fn bytecode(port: u16) -> [u8; 20] {
    let [low, high] = port.to_ne_bytes();
    let [a, b] = 12u16.to_ne_bytes();
    let compare = |code| [code, 8, a, b, 0, 0, low, high];
    let mut code = [0; 20];
    code[..8].copy_from_slice(&compare(BYTECODE_SOURCE_PORT));
    // a jump always goes on as if it did not hold
    code[8..12].copy_from_slice(&[BYTECODE_JUMP, 4, a, b]);
    code[12..].copy_from_slice(&compare(BYTECODE_DESTINATION_PORT));
    code
}

/// Reads one datagram; true at the end of the answer.
fn read(mut block: &[u8], found: &mut Vec<Socket>) -> io::Result<bool> {
    while block.len() >= NETLINK_HEAD {
        let length = u32_at(block, 0).unwrap_or_default() as usize;
        let Some(message) = block.get(NETLINK_HEAD..length) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match u16_at(block, 4).unwrap_or_default() {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = u32_at(message, 0).unwrap_or_default() as i32;
                return Err(io::Error::from_raw_os_error(-code));
            }
            SOCK_DIAG_BY_FAMILY => found.extend(socket(message)),
            _ => {}
        }
        block = block.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn socket(message: &[u8]) -> Option<Socket> {
    let port = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let address = match i32::from(*message.first()?) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(message.get(8..12)?).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(message.get(8..24)?).ok()?)),
    };
    Some(Socket {
        address,
        port: port(4)?,
        peer_port: port(6)?,
        receive_queue: u32_at(message, 56)?,
        send_queue: u32_at(message, 60)?,
        info: attribute(message.get(MESSAGE..)?, INET_DIAG_INFO).and_then(info),
    })
}

/// The content of an attribute of this kind.
fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let content = attributes.get(4..length)?;
        if u16_at(attributes, 2)? == kind {
            return Some(content);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// `struct tcp_info`; the last three are there since Linux 4.10.
fn info(bytes: &[u8]) -> Option<Info> {
    let u64_at = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    Some(Info {
        rtt_us: u32_at(bytes, 68)?,
        rttvar_us: u32_at(bytes, 72)?,
        retransmits: u32_at(bytes, 100)?,
        min_rtt_us: u32_at(bytes, 148)?,
        busy_us: u64_at(168)?,
        rwnd_limited_us: u64_at(176)?,
        sndbuf_limited_us: u64_at(184)?,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// What the kernel says of sockets whose state is known.
    #[test]
    fn queues_and_connections_are_those_that_there_are() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let port = address.port();
        let listening = || sockets(Ask::Listening(port), BOTH_FAMILIES).unwrap();
        let [one] = &listening()[..] else { panic!("{:?}", listening()) };
        assert_eq!((one.address, one.receive_queue), (address.ip(), 3), "nobody has accepted them");
        assert!(one.send_queue > 3, "its backlog: {one:?}");
        let (mut server, peer) = listener.accept().unwrap();
        assert_eq!(listening()[0].receive_queue, 2);
        clients[0].write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        let connected = sockets(Ask::Connected(port), &BOTH_FAMILIES[..1]).unwrap();
        assert!(connected.iter().all(|socket| socket.port == port || socket.peer_port == port));
        assert_eq!(connected.iter().filter(|socket| socket.peer_port == port).count(), 3);
        let first = connected.iter().find(|socket| socket.port == peer.port()).unwrap();
        assert!(first.info.unwrap().rtt_us > 0, "{first:?}");
        assert!(connected.iter().any(|socket| socket.peer_port == peer.port()), "the other end");
    }

    #[test]
    fn an_answer_that_is_cut_is_no_socket() {
        let mut found = Vec::new();
        let done = [16, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(read(&done, &mut found).unwrap());
        let cut = [200, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 10];
        assert!(read(&cut, &mut found).is_err());
        let refused = [20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xea, 0xff, 0xff, 0xff];
        assert_eq!(read(&refused, &mut found).unwrap_err().raw_os_error(), Some(22));
        assert!(socket(&[2; 71]).is_none() && found.is_empty());
        assert_eq!(attribute(&[3, 0, 2, 0], 2), None);
    }
}
