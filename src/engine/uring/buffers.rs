//! Receive buffers: a pool shared by all connections, of which the kernel takes one for each piece that arrives; and one
//! that a connection has for itself, where the kernel knows no pool.
//!
//! Both are raw memory, not slices: the kernel writes to them while we hold them, so a reference exists only to what a
//! completion has handed back.
#![allow(unsafe_code)] // memory that is shared with the kernel

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::mem;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::ring::{Completion, Ring};

/// One piece: a whole response of ordinary size.
pub(super) const BUFFER_BYTES: usize = 16 * 1024;
/// Room in front of a stamped piece for its control messages; one stamp takes 64.
pub(super) const CONTROL_BYTES: usize = 128;
/// The one pool of a ring.
pub(super) const GROUP: u16 = 0;
const PAGE: usize = 4096;

/// Zeroed memory of our own that only raw pointers lead to.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    fn zeroed(bytes: usize, align: usize) -> Self {
        let layout =
            Layout::from_size_align(bytes, align).expect("sizes are small and alignments powers of 2");
        assert!(bytes > 0);
        // SAFETY: the layout has a size.
        let start = unsafe { alloc_zeroed(layout) };
        Self { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }

    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.layout.size());
        // SAFETY: the offset lies within the allocation.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and nobody else frees it.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// The pool (io_uring_register_buf_ring.3): a ring of descriptions of free buffers, whose tail is ours to move.
#[derive(Debug)]
pub(super) struct Pool {
    ring: Memory,
    data: Memory,
    count: u16,
    /// Behind the last buffer given to the kernel; published by [`Pool::publish`].
    tail: u16,
    published: u16,
}

impl Pool {
    /// `count` buffers, a power of two, registered with `ring`. The pool has to live until nothing receives any more.
    pub(super) fn register<Q: Completion>(ring: &Ring<Q>, count: u16) -> io::Result<Self> {
        assert!(count.is_power_of_two());
        let bytes = usize::from(count) * mem::size_of::<BufRingEntry>();
        let mut pool = Self {
            ring: Memory::zeroed(bytes, PAGE),
            data: Memory::zeroed(usize::from(count) * BUFFER_BYTES, PAGE),
            count,
            tail: 0,
            published: 0,
        };
        // SAFETY: the memory belongs to the pool, which the engine keeps until everything in flight has ended.
        unsafe { ring.register_buffers(pool.ring.start.as_ptr() as u64, count, GROUP)? };
        for id in 0..count {
            pool.give(id);
        }
        pool.publish();
        Ok(pool)
    }

    /// The `length` bytes of buffer `id`, which a completion has just handed over.
    pub(super) fn bytes(&self, id: u16, length: usize) -> &[u8] {
        assert!(id < self.count && length <= BUFFER_BYTES, "the kernel named a buffer that is none");
        // SAFETY: the range lies within the allocation, which was initialised with zeros; the kernel writes to it only
        // after `give`, which needs the pool mutably, so that no reference of this kind is left.
        unsafe { std::slice::from_raw_parts(self.data.at(usize::from(id) * BUFFER_BYTES), length) }
    }

    /// The kernel may use buffer `id` again, from the next [`Pool::publish`] on.
    pub(super) fn give(&mut self, id: u16) {
        assert!(id < self.count, "the kernel named a buffer that is none");
        let slot = usize::from(self.tail & (self.count - 1));
        let entry = self.ring.at(slot * mem::size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        // SAFETY: the entry lies within the ring, aligned; the kernel reads it only after the tail has moved over it, and of the
        // first entry we leave alone the bytes that are the tail. There are as many entries as buffers: none is overtaken.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.data.at(usize::from(id) * BUFFER_BYTES) as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see what was given.
    pub(super) fn publish(&mut self) {
        if self.published != self.tail {
            // SAFETY: the pointer is that of the first entry of a buffer ring, whose tail is two aligned bytes that the
            // kernel reads as we write them: atomically.
            let tail = unsafe { &*BufRingEntry::tail(self.ring.start.as_ptr().cast()).cast::<AtomicU16>() };
            tail.store(self.tail, Ordering::Release);
            self.published = self.tail;
        }
    }
}

/// A connection's own buffer, with room for control messages.
#[derive(Debug)]
pub(super) struct Inbox {
    data: Memory,
    control: Memory,
    iov: libc::iovec,
    message: libc::msghdr,
}

impl Inbox {
    pub(super) fn new() -> Box<Self> {
        let data = Memory::zeroed(BUFFER_BYTES, PAGE);
        let control = Memory::zeroed(CONTROL_BYTES, mem::align_of::<libc::cmsghdr>());
        let iov = libc::iovec { iov_base: data.start.as_ptr().cast(), iov_len: BUFFER_BYTES };
        Box::new(Self { data, control, iov, message: no_message() })
    }

    /// Where a plain receive writes to.
    pub(super) fn pointer(&mut self) -> *mut u8 {
        self.data.start.as_ptr()
    }

    /// What a receive with control messages needs; valid while the inbox stays where it is.
    pub(super) fn message(&mut self) -> *mut libc::msghdr {
        self.message.msg_iov = &raw mut self.iov;
        self.message.msg_iovlen = 1;
        self.message.msg_control = self.control.start.as_ptr().cast();
        self.message.msg_controllen = CONTROL_BYTES;
        &raw mut self.message
    }

    /// What a receive that has ended brought: its bytes and its control messages.
    pub(super) fn received(&self, length: usize) -> (&[u8], &[u8]) {
        assert!(length <= BUFFER_BYTES);
        let control = self.message.msg_controllen.min(CONTROL_BYTES);
        // SAFETY: both ranges lie within their allocations, which were initialised with zeros; nothing is being received, so
        // the kernel does not write to them.
        unsafe {
            (
                std::slice::from_raw_parts(self.data.at(0), length),
                std::slice::from_raw_parts(self.control.at(0), control),
            )
        }
    }
}

/// A message header that points nowhere.
pub(super) fn no_message() -> libc::msghdr {
    // SAFETY: a msghdr of zeros is a valid one: no name, no buffers, no control messages.
    unsafe { mem::zeroed() }
}
