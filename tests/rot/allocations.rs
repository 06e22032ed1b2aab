//! The largest piece of memory that a thread has asked for, and how often it
//! has asked.
//!
//! A length that is believed before it is checked shows as a demand for
//! memory, mostly one that the system grants without a word. So the allocator
//! of the tests is the system's one, and notes for each thread the largest
//! request since it was last asked. It counts the requests as well, for those who
//! promise to make none.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    static REQUESTS: Cell<u64> = const { Cell::new(0) };
}

/// Runs something; returns the largest request of this thread meanwhile.
pub fn largest_request<T>(run: impl FnOnce() -> T) -> (T, usize) {
    LARGEST.set(0);
    let result = run();
    (result, LARGEST.get())
}

/// Runs something; returns how many requests this thread made meanwhile.
pub fn requests<T>(run: impl FnOnce() -> T) -> (u64, T) {
    let before = REQUESTS.get();
    let result = run();
    (REQUESTS.get() - before, result)
}

/// The system's allocator, watched.
struct Watched;

fn note(size: usize) {
    // A thread that ends may still free and ask; nobody asks what for.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
    let _ = REQUESTS.try_with(|requests| requests.set(requests.get() + 1));
}

// SAFETY: everything is passed on to the system's allocator as it is; noting a
// number neither allocates nor unwinds.
unsafe impl GlobalAlloc for Watched {
    /// # Safety
    ///
    /// The caller keeps the contract of `GlobalAlloc`, which is `System`'s.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    /// # Safety
    ///
    /// As above.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    /// # Safety
    ///
    /// As above.
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, size) }
    }

    /// # Safety
    ///
    /// As above.
    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static WATCHED: Watched = Watched;

#[test]
fn the_largest_request_of_a_thread_is_noted() {
    let (bytes, largest) = largest_request(|| vec![1_u8; 1 << 20].len());
    assert_eq!((bytes, largest), (1 << 20, 1 << 20));
    let (_, largest) = largest_request(|| std::thread::spawn(|| vec![1_u8; 1 << 20]).join());
    assert!(largest < 1 << 20, "another thread's request is not this one's");
}
