//! Counts the memory allocations of each thread, so that a run can show that its loop makes none. The program installs
//! it as its global allocator; it is the system's, with an addition to a thread's own counter before each call.
//!
//! Where the system refuses (`ulimit -v`) while a load runs, a reserve is given up, so that what was measured can still be
//! reported. Before, the process ends with exit code 1 and a reason, as documented; an allocator's abort would say less.
#![allow(unsafe_code)] // a global allocator is an unsafe trait

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Addresses kept for when there are no others, enough for a report; they are never touched, so no memory is behind them.
/// Larger than what glibc may keep for itself when it is freed (32 MiB).
const RESERVE: Layout = match Layout::from_size_align(48 << 20, 16) {
    Ok(layout) => layout,
    Err(_) => panic!("a power of two"),
};
static RESERVED: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
const SHORT: &[u8] =
    b"hairspring: there is no more memory (ulimit -v?): the run goes on with the reserve for its report\n";
const GONE: &[u8] = b"hairspring: out of memory: raise the limit (ulimit -v), or use fewer connections, --no-log, --monitor-interval off\n";

thread_local! {
    // Constant and without a destructor, so that the counter itself needs no memory and outlives everything.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting.
#[derive(Debug, Default)]
pub struct Counting;

/// How often the calling thread has asked for memory so far; `None` where nobody counts: every thread has asked before it
/// can call this.
pub fn count() -> Option<u64> {
    let count = COUNT.get();
    (count > 0).then_some(count)
}

fn add() {
    COUNT.set(COUNT.get().wrapping_add(1));
}

/// Sets the reserve aside, for the load that begins; false if there is no room for it.
pub fn keep_reserve() -> bool {
    if RESERVED.load(Ordering::Acquire).is_null() {
        // SAFETY: the layout is not empty.
        RESERVED.store(unsafe { System.alloc(RESERVE) }, Ordering::Release);
    }
    !RESERVED.load(Ordering::Acquire).is_null()
}

/// What `ask` gets from the system, if need be with the reserve given up; never null.
#[inline]
fn insist(ask: impl Fn() -> *mut u8) -> *mut u8 {
    let pointer = ask();
    if pointer.is_null() { insist_slowly(ask) } else { pointer }
}

#[cold]
fn insist_slowly(ask: impl Fn() -> *mut u8) -> *mut u8 {
    let reserve = RESERVED.swap(std::ptr::null_mut(), Ordering::AcqRel);
    if !reserve.is_null() {
        // SAFETY: it was allocated with this layout, and whoever swapped it out is the only one who has it.
        unsafe { System.dealloc(reserve, RESERVE) };
        say(SHORT);
    }
    // Another thread may have freed the reserve just now.
    let pointer = ask();
    if pointer.is_null() {
        say(GONE);
        // SAFETY: ends the process without running anything that could ask for memory.
        unsafe { libc::_exit(1) }
    }
    pointer
}

/// Where there is no memory for more than a system call.
fn say(text: &[u8]) {
    // SAFETY: the pointer and the length are those of a slice.
    let _ = unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

// SAFETY: every call goes to `System` unchanged, which keeps the contract; what is added touches no memory of the heap.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller keeps the contract of the trait.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add();
        // SAFETY: as the caller's.
        insist(|| unsafe { System.alloc(layout) })
    }

    // SAFETY: the caller keeps the contract of the trait.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add();
        // SAFETY: as the caller's.
        insist(|| unsafe { System.alloc_zeroed(layout) })
    }

    // SAFETY: the caller keeps the contract of the trait.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add();
        // SAFETY: as the caller's.
        insist(|| unsafe { System.realloc(pointer, layout, size) })
    }

    // SAFETY: the caller keeps the contract of the trait.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_memory_is_counted_on_its_own_thread() {
        std::thread::spawn(|| {
            assert_eq!(count(), None, "the tests have another allocator, and nobody counts there");
            let layout = Layout::from_size_align(64, 8).unwrap();
            // SAFETY: the layout is not empty, and what was allocated with it is freed with it.
            unsafe {
                let one = Counting.alloc(layout);
                let two = Counting.realloc(one, layout, 128);
                let grown = Layout::from_size_align(128, 8).unwrap();
                let three = Counting.alloc_zeroed(layout);
                assert_eq!((count(), *three), (Some(3), 0));
                Counting.dealloc(two, grown);
                Counting.dealloc(three, layout);
            }
            assert_eq!(count(), Some(3));
            std::thread::spawn(|| assert_eq!(count(), None)).join().unwrap();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_was_refused_is_asked_for_again_with_the_reserve_given_up() {
        assert!(keep_reserve() && keep_reserve());
        let refusals = Cell::new(0);
        let pointer = insist(|| {
            refusals.set(refusals.get() + 1);
            if refusals.get() == 1 { std::ptr::null_mut() } else { std::ptr::dangling_mut() }
        });
        assert_eq!((pointer, refusals.get()), (std::ptr::dangling_mut(), 2));
    }
}
