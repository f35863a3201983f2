//! Stops a thread that takes too long or too much memory, as far as that can be done from outside: its next allocation
//! never returns. So a value that doubles with each step neither fills the memory nor keeps a core busy after its time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::sleep;
use std::time::Duration;

use crate::guard::guarded;

#[global_allocator]
static ALLOCATOR: Halting = Halting;

thread_local! {
    static HALT: Cell<*const AtomicBool> = const { Cell::new(null()) };
    /// Bytes that the thread may still allocate.
    static BUDGET: Cell<isize> = const { Cell::new(0) };
}

pub enum Failure {
    Text(String),
    /// The time is over, and a thread waits for ever with all its memory.
    Stuck,
}

pub struct Limits {
    pub stack: usize,
    /// Bytes on the heap.
    pub memory: usize,
    pub patience: Duration,
}

/// Runs `work` on a thread of its own, within the limits. Its error becomes "[area] what: error".
pub fn on_large_stack<T: Send + 'static>(
    area: &'static str,
    what: &str,
    limits: &Limits,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Failure> {
    let (name, memory) = (what.to_owned(), limits.memory);
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let halt = Arc::new(AtomicBool::new(false));
    let halted = halt.clone();
    let run = move || {
        let work = || haltable(&halted, memory, work);
        let answer = guarded(area, &name, || work().map_err(|e| format!("[{area}] {name}: {e}")));
        let _ = sender.send(answer);
    };
    let thread = std::thread::Builder::new().stack_size(limits.stack).spawn(run);
    thread.map_err(|e| Failure::Text(format!("[{area}] {what}: no thread: {e}")))?;
    match receiver.recv_timeout(limits.patience) {
        Ok(answer) => answer.map_err(Failure::Text),
        Err(RecvTimeoutError::Timeout) => {
            halt.store(true, Ordering::Relaxed);
            Err(Failure::Stuck)
        }
        Err(_) => Err(Failure::Text(format!("[{area}] {what}: the library failed inside"))),
    }
}

/// Runs `work`, which stops for good at its first allocation after `halt` became true or that is beyond the memory. It
/// must hold no lock that others wait for.
fn haltable<T>(halt: &AtomicBool, memory: usize, work: impl FnOnce() -> T) -> T {
    // Also when `work` panics: the pointer must not outlive the flag.
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            HALT.set(null());
        }
    }
    BUDGET.set(memory.min(isize::MAX as usize) as isize);
    HALT.set(halt);
    let _reset = Reset;
    work()
}

struct Halting;

impl Halting {
    fn check(more: usize) {
        let halt = HALT.get();
        if halt.is_null() {
            return;
        }
        BUDGET.set(BUDGET.get().saturating_sub_unsigned(more));
        // SAFETY: `haltable` borrows the flag for as long as the pointer is set.
        while BUDGET.get() < 0 || unsafe { (*halt).load(Ordering::Relaxed) } {
            sleep(Duration::from_secs(3600));
        }
    }

    fn give_back(less: usize) {
        if !HALT.get().is_null() {
            BUDGET.set(BUDGET.get().saturating_add_unsigned(less));
        }
    }
}

// SAFETY: everything is the system's allocator; the rest does not allocate.
unsafe impl GlobalAlloc for Halting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::check(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::check(size);
        Self::give_back(layout.size());
        unsafe { System.realloc(memory, layout, size) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        Self::give_back(layout.size());
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_within_its_limits() {
        let limits = Limits { stack: 1 << 20, memory: 1 << 20, patience: Duration::from_millis(300) };
        let run = |count: usize, size: usize| {
            let work = move || Ok((0..count).map(|i| vec![i as u8; size].len()).sum::<usize>());
            on_large_stack("a", "b", &limits, work)
        };
        assert!(matches!(run(100, 100_000), Ok(10_000_000)), "what is freed is there again");
        assert!(matches!(run(1, 2 << 20), Err(Failure::Stuck)));
        let keep = on_large_stack("a", "b", &limits, || Ok((0..100).map(|_| vec![0u8; 100_000]).collect::<Vec<_>>()));
        assert!(matches!(keep, Err(Failure::Stuck)));
        let failing = on_large_stack::<()>("a", "b", &limits, || Err("c".into()));
        assert!(matches!(failing, Err(Failure::Text(text)) if text == "[a] b: c"));
    }
}
