#![expect(unsafe_code, reason = "futex")]
//! Sleeping until another thread wakes us.
//!
//! Host calls: `futex`.

use super::Errno;
use std::sync::atomic::{AtomicU32, Ordering};

const EMPTY: u32 = 0;
const NOTIFIED: u32 = 1;
const PARKED: u32 = 2;

/// A place where one thread sleeps until any thread wakes it or a deadline passes.
///
/// A wake-up that comes while nobody sleeps is kept (once) and ends the next sleep at once, so none
/// is ever lost. Only the owning thread parks; any thread unparks.
#[derive(Debug, Default)]
pub struct Parker {
    state: AtomicU32,
}

impl Parker {
    /// A parker without a pending wake-up.
    pub const fn new() -> Self {
        Self { state: AtomicU32::new(EMPTY) }
    }

    /// Sleeps until [`Parker::unpark`], and consumes it. Never returns without one.
    pub fn park(&self) {
        while !self.park_until(u64::MAX) {}
    }

    /// Sleeps until [`Parker::unpark`] (`true`) or until `CLOCK_MONOTONIC` reaches `deadline`
    /// nanoseconds (`false`). A deadline of `u64::MAX` never comes.
    pub fn park_until(&self, deadline: u64) -> bool {
        if self.state.swap(EMPTY, Ordering::Acquire) == NOTIFIED {
            return true;
        }
        let parked =
            self.state.compare_exchange(EMPTY, PARKED, Ordering::Acquire, Ordering::Acquire);
        if parked.is_ok() {
            loop {
                let result = wait(&self.state, PARKED, deadline);
                if self.state.load(Ordering::Acquire) != PARKED {
                    break;
                }
                if result == Err(Errno::ETIMEDOUT) {
                    break;
                }
            }
        }
        // Either notified, or timed out; a notification that came with the timeout counts.
        self.state.swap(EMPTY, Ordering::Acquire) == NOTIFIED
    }

    /// Consumes a pending wake-up without sleeping.
    pub fn try_park(&self) -> bool {
        self.state.compare_exchange(NOTIFIED, EMPTY, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Wakes the thread that sleeps here, or the next one that is about to.
    pub fn unpark(&self) {
        if self.state.swap(NOTIFIED, Ordering::Release) == PARKED {
            wake(&self.state);
        }
    }
}

fn wait(word: &AtomicU32, expected: u32, deadline: u64) -> Result<(), Errno> {
    let time = libc::timespec {
        tv_sec: (deadline / 1_000_000_000) as i64,
        tv_nsec: (deadline % 1_000_000_000) as i64,
    };
    let timeout = if deadline == u64::MAX { std::ptr::null() } else { &raw const time };
    // SAFETY: `word` outlives the call, the timeout is null or valid. FUTEX_WAIT_BITSET takes an
    // absolute CLOCK_MONOTONIC time.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
            expected,
            timeout,
            std::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
    Errno::result(result).map(drop)
}

fn wake(word: &AtomicU32) {
    // SAFETY: `word` is a valid address; waking has no other precondition.
    let _ = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            1,
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::time::Clock;
    use std::sync::Arc;

    #[test]
    fn wake_up_before_sleep_is_kept_once() {
        let parker = Parker::new();
        parker.unpark();
        parker.unpark();
        parker.park();
        assert!(!parker.park_until(Clock::Monotonic.now() + 1_000_000));
        assert!(!parker.try_park());
        parker.unpark();
        assert!(parker.try_park());
    }

    #[test]
    fn deadline_is_kept() {
        let parker = Parker::new();
        let start = Clock::Monotonic.now();
        assert!(!parker.park_until(start + 20_000_000));
        assert!(Clock::Monotonic.now() >= start + 20_000_000);
        assert!(!parker.park_until(0));
    }

    #[test]
    fn no_lost_wake_ups() {
        let (a, b) = (Arc::new(Parker::new()), Arc::new(Parker::new()));
        let (a2, b2) = (a.clone(), b.clone());
        let other = std::thread::spawn(move || {
            for _ in 0..2000 {
                a2.park();
                b2.unpark();
            }
        });
        for _ in 0..2000 {
            a.unpark();
            b.park();
        }
        other.join().unwrap();
    }
}
