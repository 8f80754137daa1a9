//! The rings shared with the kernel: setting them up with as much as it offers, submitting, waiting, reaping.
//!
//! System calls are made here rather than through the crate's `Submitter`, because that one forgets the registered
//! descriptor of the ring with each borrow.
#![allow(unsafe_code)] // io_uring_enter and io_uring_register; entries that point to memory

use std::io;
use std::os::fd::AsRawFd;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, cqueue, opcode, squeue};
use rustix::io::Errno;

use super::feature::{Feature, Features, Inventory};
use crate::load::time::Nanos;
use crate::sys::clock;

/// `IORING_REGISTER_RING_FDS`, `IORING_UNREGISTER_RING_FDS`.
const REGISTER_RING: libc::c_uint = 20;
const UNREGISTER_RING: libc::c_uint = 21;
/// Operations without which there is no engine.
const NEEDED: [(u8, &str); 5] = [
    (opcode::Connect::CODE, "connect"),
    (opcode::Send::CODE, "send"),
    (opcode::SendMsg::CODE, "sendmsg"),
    (opcode::Recv::CODE, "recv"),
    (opcode::AsyncCancel::CODE, "cancel"),
];

/// A completion: 16 bytes, or 32 where it can carry a transmit stamp.
pub trait Completion: cqueue::EntryMarker {
    /// True where it has room for a stamp.
    const WIDE: bool;
    /// What the system call would have returned; an errno is negative.
    fn result(&self) -> i32;
    /// `IORING_CQE_F_*`.
    fn flags(&self) -> u32;
    /// The wall-clock stamp of a wide one.
    fn wall(&self) -> Option<Nanos>;
}

impl Completion for cqueue::Entry {
    const WIDE: bool = false;

    fn result(&self) -> i32 {
        Self::result(self)
    }

    fn flags(&self) -> u32 {
        Self::flags(self)
    }

    fn wall(&self) -> Option<Nanos> {
        None
    }
}

impl Completion for cqueue::Entry32 {
    const WIDE: bool = true;

    fn result(&self) -> i32 {
        Self::result(self)
    }

    fn flags(&self) -> u32 {
        Self::flags(self)
    }

    fn wall(&self) -> Option<Nanos> {
        let [seconds, nanos] = *self.big_cqe();
        Some(Nanos(seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?))
    }
}

/// One thread's rings.
pub(super) struct Ring<Q: Completion> {
    ring: IoUring<squeue::Entry, Q>,
    /// Its index in the thread's registered descriptors.
    registered: Option<u32>,
    /// What of [`Feature`] is in use.
    pub(super) inventory: Inventory,
    /// Times completions had to wait because their queue was full.
    pub(super) overflows: u64,
}

impl<Q: Completion> Ring<Q> {
    /// Rings with room for so many entries and completions, and with what of `wanted` this kernel has.
    pub(super) fn open(entries: u32, completions: u32, wanted: Features) -> io::Result<Self> {
        let mut inventory = Inventory::default();
        let mut flags = wanted;
        if !flags.has(Feature::SingleIssuer) {
            flags = flags.without(Feature::DeferTaskrun);
        }
        let ring = loop {
            match build(entries, completions, flags) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    // The kernel does not say which flag it does not know: the youngest goes first.
                    let youngest = SETUP_YOUNGEST_FIRST.into_iter().find(|&feature| flags.has(feature));
                    let Some(youngest) = youngest else { return Err(unavailable(&error)) };
                    flags = flags.without(youngest);
                    inventory.lacks(youngest, "this kernel does not know it");
                }
                Err(error) => return Err(unavailable(&error)),
                Ok(ring) => break ring,
            }
        };
        if flags.has(Feature::DeferTaskrun) {
            flags = flags.without(Feature::CoopTaskrun); // only its fallback
        }
        let mut ring = Self { ring, registered: None, inventory, overflows: 0 };
        for feature in SETUP_YOUNGEST_FIRST {
            ring.settle(feature, wanted, flags.has(feature), "not asked for");
        }
        ring.check_operations()?;
        if wanted.has(Feature::RegisteredRing) {
            ring.register_ring();
        } else {
            ring.inventory.lacks(Feature::RegisteredRing, "not asked for");
        }
        let no_iowait = ring.ring.params().is_feature_no_iowait();
        ring.settle(Feature::NoIowait, wanted, no_iowait, "this kernel does not know it");
        // The kernel takes them for times of the machine's clock (seen with 6.18): such a wait would not end.
        let shifted = clock::is_shifted();
        let absolute = wanted.has(Feature::AbsoluteTimeouts) && !shifted && ring.knows_absolute_timeouts()?;
        let why = if shifted { "of another time namespace" } else { "this kernel does not know them" };
        ring.settle(Feature::AbsoluteTimeouts, wanted, absolute, why);
        Ok(ring)
    }

    fn settle(&mut self, feature: Feature, wanted: Features, has: bool, why: &str) {
        let fallback = feature == Feature::CoopTaskrun && self.inventory.has(Feature::DeferTaskrun);
        match (wanted.has(feature), has) {
            _ if fallback => {}
            (true, true) => self.inventory.gained(feature),
            (true, false) => self.inventory.lacks(feature, why),
            (false, _) => self.inventory.lacks(feature, "not asked for"),
        }
    }

    fn check_operations(&self) -> io::Result<()> {
        let mut probe = Probe::new();
        self.ring.submitter().register_probe(&mut probe).map_err(|error| unavailable(&error))?;
        let lacking: Vec<&str> =
            NEEDED.into_iter().filter(|(code, _)| !probe.is_supported(*code)).map(|(_, name)| name).collect();
        if !lacking.is_empty() || !self.ring.params().is_feature_ext_arg() {
            let what =
                if lacking.is_empty() { "waits with a timeout".to_owned() } else { lacking.join(", ") };
            return Err(io::Error::other(format!(
                "this kernel's io_uring is too old, it has no {what} (Linux 5.11 has): use --engine epoll"
            )));
        }
        Ok(())
    }

    /// A wait for the origin of the clock ends at once where it is understood as a time.
    fn knows_absolute_timeouts(&mut self) -> io::Result<bool> {
        let (past, flags) = (Timespec::new().nsec(1), EnterFlags::GETEVENTS | EnterFlags::EXT_ARG);
        match self.call(0, 1, flags | EnterFlags::ABS_TIMER, Some(&SubmitArgs::new().timespec(&past))) {
            Err(Errno::TIME) | Ok(_) => Ok(true),
            Err(Errno::INVAL) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn register_ring(&mut self) {
        let mut update = RingUpdate { offset: u32::MAX, unused: 0, descriptor: self.ring.as_raw_fd() as u64 };
        match self.register(REGISTER_RING, &mut update) {
            Ok(()) => {
                self.registered = Some(update.offset);
                self.inventory.gained(Feature::RegisteredRing);
            }
            Err(errno) => self.inventory.lacks(Feature::RegisteredRing, errno.to_string()),
        }
    }

    fn register(&self, what: libc::c_uint, update: &mut RingUpdate) -> Result<(), Errno> {
        let descriptor = self.ring.as_raw_fd();
        // SAFETY: both operations take a pointer to one `io_uring_rsrc_update`, which outlives the call.
        let result = unsafe {
            libc::syscall(libc::SYS_io_uring_register, descriptor, what, std::ptr::from_mut(update), 1)
        };
        if result < 0 { Err(last_errno()) } else { Ok(()) }
    }

    /// True if no further entry fits before a [`Ring::submit`].
    pub(super) fn is_full(&mut self) -> bool {
        self.ring.submission().is_full()
    }

    /// Puts an entry into the submission queue, which must not be full.
    ///
    /// # Safety
    /// What the entry points to must live until its last completion has been reaped.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller vouches for what the entry points to.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("the caller looked for room");
    }

    /// Hands what is queued to the kernel. Completions are not waited for.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() {
            return Ok(());
        }
        self.enter(0, EnterFlags::empty(), None)
    }

    /// Hands what is queued to the kernel and lets it finish what it can; enters only if there is something to do.
    pub(super) fn reap(&mut self) -> io::Result<()> {
        let queue = self.ring.submission();
        let (idle, overflown) = (queue.is_empty() && !queue.taskrun(), queue.cq_overflow());
        drop(queue);
        self.overflows += u64::from(overflown);
        if idle && !overflown {
            return Ok(());
        }
        self.enter(0, EnterFlags::GETEVENTS, None)
    }

    /// The same, and waits for a completion until `deadline`; `now` is what the clock says.
    pub(super) fn wait(&mut self, deadline: Nanos, now: Nanos) -> io::Result<()> {
        let mut flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        let mut until = deadline;
        if self.inventory.has(Feature::AbsoluteTimeouts) {
            flags |= EnterFlags::ABS_TIMER;
        } else {
            until = deadline.saturating_sub(now);
        }
        if self.inventory.has(Feature::NoIowait) {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let time = Timespec::new().sec(until.0 / 1_000_000_000).nsec((until.0 % 1_000_000_000) as u32);
        self.overflows += u64::from(self.ring.submission().cq_overflow());
        self.enter(1, flags, Some(&SubmitArgs::new().timespec(&time)))
    }

    /// Moves all completions to `batch`.
    pub(super) fn take(&mut self, batch: &mut Vec<Q>) -> io::Result<()> {
        let completions = self.ring.completion();
        if completions.overflow() > 0 {
            return Err(io::Error::other("the kernel lost completions of io_uring: use --engine epoll"));
        }
        batch.extend(completions);
        Ok(())
    }

    fn enter(
        &mut self,
        at_least: u32,
        flags: EnterFlags,
        args: Option<&SubmitArgs<'_, '_>>,
    ) -> io::Result<()> {
        loop {
            let queued = self.ring.submission().len();
            match self.call(queued as u32, at_least, flags, args) {
                // A submission that failed stopped the rest; its completion says so.
                Ok(taken) if taken > 0 && taken < queued => {}
                // The time is over; a signal; the completion queue is full: reaping comes next.
                Ok(_) | Err(Errno::TIME | Errno::INTR | Errno::BUSY) => return Ok(()),
                // The kernel has no memory for more operations now (io_uring_enter(2): "try again"). What is queued stays
                // queued for the next enter; where the caller needs room at once, it is asked until it has.
                Err(Errno::AGAIN) if !self.is_full() => return Ok(()),
                Err(Errno::AGAIN) => std::thread::yield_now(),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn call(
        &self,
        submit: u32,
        at_least: u32,
        flags: EnterFlags,
        args: Option<&SubmitArgs<'_, '_>>,
    ) -> Result<usize, Errno> {
        let (descriptor, flags) = match self.registered {
            Some(index) => (index as libc::c_int, flags | EnterFlags::REGISTERED_RING),
            None => (self.ring.as_raw_fd(), flags),
        };
        let (pointer, size) = match args {
            Some(args) => (std::ptr::from_ref(args).cast::<libc::c_void>(), size_of_val(args)),
            None => (std::ptr::null(), 0),
        };
        // SAFETY: the argument is null or points to an `io_uring_getevents_arg` with its true length (EXT_ARG is then set),
        // and what the entries point to was vouched for in `push`.
        let result = unsafe {
            libc::syscall(libc::SYS_io_uring_enter, descriptor, submit, at_least, flags.bits(), pointer, size)
        };
        if result < 0 { Err(last_errno()) } else { Ok(result as usize) }
    }

    /// Lets receives of `group` choose among the buffers in the ring at `address`.
    ///
    /// # Safety
    /// The ring and its buffers must live until [`Ring::unregister_buffers`], or until nothing is in flight any more.
    pub(super) unsafe fn register_buffers(&self, address: u64, buffers: u16, group: u16) -> io::Result<()> {
        let submitter = self.ring.submitter();
        // SAFETY: the caller vouches for the memory.
        unsafe { submitter.register_buf_ring_with_flags(address, buffers, group, 0) }
    }

    /// Takes the buffers back.
    pub(super) fn unregister_buffers(&self, group: u16) {
        let _ = self.ring.submitter().unregister_buf_ring(group); // the ring closes next, which does it too
    }
}

impl<Q: Completion> Drop for Ring<Q> {
    fn drop(&mut self) {
        // The registered descriptor would keep the ring, and with it the kernel's grip on our memory, until the thread ends.
        if let Some(offset) = self.registered.take() {
            let _ = self.register(UNREGISTER_RING, &mut RingUpdate { offset, unused: 0, descriptor: 0 });
        }
    }
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingUpdate {
    offset: u32,
    unused: u32,
    descriptor: u64,
}

/// What is asked for with a flag at setup, the youngest first.
const SETUP_YOUNGEST_FIRST: [Feature; 5] = [
    Feature::NoSqArray,
    Feature::DeferTaskrun,
    Feature::SingleIssuer,
    Feature::CoopTaskrun,
    Feature::SubmitAll,
];

fn build<Q: Completion>(
    entries: u32,
    completions: u32,
    flags: Features,
) -> io::Result<IoUring<squeue::Entry, Q>> {
    let mut builder = IoUring::<squeue::Entry, Q>::builder();
    builder.setup_cqsize(completions);
    if flags.has(Feature::NoSqArray) {
        builder.setup_no_sqarray();
    }
    if flags.has(Feature::SingleIssuer) {
        builder.setup_single_issuer();
    }
    // The flag that says in shared memory whether an enter would find anything: a turn without work needs no system call.
    if flags.has(Feature::DeferTaskrun) {
        builder.setup_defer_taskrun().setup_taskrun_flag();
    } else if flags.has(Feature::CoopTaskrun) {
        builder.setup_coop_taskrun().setup_taskrun_flag();
    }
    if flags.has(Feature::SubmitAll) {
        builder.setup_submit_all();
    }
    builder.build(entries)
}

/// Why there is no ring, and what to do.
fn unavailable(error: &io::Error) -> io::Error {
    let why = match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring, or a seccomp filter hides it".to_owned(),
        Some(libc::EPERM | libc::EACCES) => {
            "it is forbidden here, by the sysctl kernel.io_uring_disabled or a seccomp filter (containers have one)"
                .to_owned()
        }
        Some(libc::ENOMEM) => {
            "it may not lock the memory it needs: raise `ulimit -l` (RLIMIT_MEMLOCK)".to_owned()
        }
        Some(libc::EMFILE | libc::ENFILE) => "no descriptor is left: raise `ulimit -n`".to_owned(),
        Some(libc::EINVAL) => "this kernel's io_uring is too old".to_owned(),
        _ => "io_uring_setup failed".to_owned(),
    };
    io::Error::new(error.kind(), format!("io_uring cannot be used: {why} ({error}); or use --engine epoll"))
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
