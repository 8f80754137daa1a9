//! Sockets as the engines need them: TCP_NODELAY, close-on-exec; epoll's do not block, io_uring's must.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// Starts a connect; writability tells when it has ended, [`connect_result`] how.
pub fn start_connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = open(address, Type::STREAM.nonblocking().cloexec())?;
    match socket.connect(&address.into()) {
        Ok(()) => Ok(socket.into()),
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => Ok(socket.into()),
        Err(error) => Err(error),
    }
}

/// A socket that blocks, not yet connected: io_uring takes O_NONBLOCK as "fail rather than wait for it".
pub fn blocking(address: SocketAddr) -> io::Result<OwnedFd> {
    open(address, Type::STREAM.cloexec()).map(OwnedFd::from)
}

fn open(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    // Without it a request written in two pieces waits for the peer's delayed ACK: 40 ms.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// How the connect ended. A connect to a free local port can meet itself (TCP's simultaneous open, RFC 9293 §3.5); nobody
/// listens there, so that counts as refused.
pub fn connect_result(socket: &OwnedFd) -> Result<(), Errno> {
    rustix::net::sockopt::socket_error(socket).unwrap_or_else(Err)?;
    match (rustix::net::getsockname(socket), rustix::net::getpeername(socket)) {
        (Ok(own), Ok(Some(peer))) if own == peer => Err(Errno::CONNREFUSED),
        _ => Ok(()),
    }
}
