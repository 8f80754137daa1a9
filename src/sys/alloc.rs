//! Counts the memory allocations of each thread, so that a run can show that its loop makes none. The program installs
//! it as its global allocator; it is the system's, with an addition to a thread's own counter before each call.
#![allow(unsafe_code)] // a global allocator is an unsafe trait

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

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

// SAFETY: every call goes to `System` unchanged, which keeps the contract; the counter touches no memory of the heap.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller keeps the contract of the trait.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add();
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller keeps the contract of the trait.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add();
        // SAFETY: as the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    // SAFETY: the caller keeps the contract of the trait.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add();
        // SAFETY: as the caller's.
        unsafe { System.realloc(pointer, layout, size) }
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
}
