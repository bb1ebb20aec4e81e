//! How much memory the running test holds: a scenario runs on one thread, so bytes are counted for each.

#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    // At the end of a thread nobody counts any more.
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: everything is left to the allocator of the system; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(place, layout) }
    }
}

/// Bytes that this thread has asked for and not given back.
pub(crate) fn held() -> isize {
    HELD.with(Cell::get)
}

/// What the value of `make` holds, apart from its own size.
pub(crate) fn held_by<T>(make: impl FnOnce() -> T) -> (T, isize) {
    let before = held();
    let value = make();
    (value, held() - before)
}

#[test]
fn what_is_held_is_counted() {
    let (vec, bytes) = held_by(|| Vec::<u8>::with_capacity(1000));
    assert_eq!(bytes, 1000);
    let ((), bytes) = held_by(|| drop(vec));
    assert_eq!(bytes, -1000);
}
