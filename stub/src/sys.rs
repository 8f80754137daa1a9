//! The two system calls no safe wrapper offers: asking a socket for kernel receive time stamps, and reading from it
//! together with the stamp.
//!
//! All `unsafe` of the crate is here. Nothing else is: no policy, no clock conversion (see `clock.rs`).

#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Asks the kernel to stamp every segment this socket receives (software stamps, CLOCK_REALTIME). Sockets accepted
/// from a listener inherit the setting.
pub(crate) fn enable_rx_stamps(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags: libc::c_uint = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
    // SAFETY: the descriptor is borrowed, hence open; the option value is a live c_uint and its exact size is given.
    let rc = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPING,
            (&raw const flags).cast(),
            mem::size_of_val(&flags) as libc::socklen_t,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Room for one SCM_TIMESTAMPING message (16 bytes of header, three timespecs), aligned as `cmsghdr` wants it.
#[repr(C, align(8))]
struct Control([u8; 128]);

/// Reads once without blocking. Returns the count of bytes (0 = end of stream) and the CLOCK_REALTIME nanoseconds at
/// which the last segment read had arrived in the kernel, if the kernel says so.
pub(crate) fn recv_stamped(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<(usize, Option<i64>)> {
    let mut control = Control([0; 128]);
    let mut iov = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: msghdr is a plain C struct for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: the descriptor is open; iov and control point to live buffers whose exact lengths are given, and both
    // outlive the call.
    let n = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    if n < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((n as usize, software_stamp(&message)))
}

/// Finds the software stamp (the first of the three timespecs) among the control messages.
fn software_stamp(message: &libc::msghdr) -> Option<i64> {
    // SAFETY: recvmsg filled msg_control and set msg_controllen to what it wrote; the CMSG macros stay within it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: a non-null header from CMSG_FIRSTHDR or CMSG_NXTHDR points to a whole cmsghdr in the buffer.
        let cmsg = unsafe { &*header };
        if cmsg.cmsg_level == libc::SOL_SOCKET && cmsg.cmsg_type == libc::SCM_TIMESTAMPING {
            // SAFETY: the payload of SCM_TIMESTAMPING is three timespecs; the first is read without assuming alignment.
            let stamp: libc::timespec =
                unsafe { libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned() };
            let ns = stamp.tv_sec * 1_000_000_000 + stamp.tv_nsec;
            return (ns != 0).then_some(ns);
        }
        // SAFETY: header is the current control message of this very msghdr.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}
