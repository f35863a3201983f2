//! Stops a thread that takes too long, as far as that can be done from outside: its next allocation never returns. So a
//! value that doubles with each step neither fills the memory nor keeps a core busy after its time is over.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Halting = Halting;

thread_local! {
    static HALT: Cell<*const AtomicBool> = const { Cell::new(null()) };
}

/// Runs `work`, which stops for good at its first allocation after `halt` became true. It must hold no lock that others
/// wait for.
pub fn haltable<T>(halt: &AtomicBool, work: impl FnOnce() -> T) -> T {
    // Also when `work` panics: the pointer must not outlive the flag.
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            HALT.set(null());
        }
    }
    HALT.set(halt);
    let _reset = Reset;
    work()
}

struct Halting;

impl Halting {
    fn check() {
        let halt = HALT.get();
        // SAFETY: `haltable` borrows the flag for as long as the pointer is set.
        while !halt.is_null() && unsafe { (*halt).load(Ordering::Relaxed) } {
            sleep(Duration::from_secs(3600));
        }
    }
}

// SAFETY: everything is the system's allocator; `check` does not allocate.
unsafe impl GlobalAlloc for Halting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check();
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::check();
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::check();
        unsafe { System.realloc(memory, layout, size) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}
