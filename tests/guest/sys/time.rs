//! Clocks.
#![expect(unsafe_code, reason = "asks the C library for the time")]

use super::{Arg, Ret, at, at_mut, sc};
use std::time::{Duration, Instant};

/// Nanoseconds on a clock, by system call.
pub fn clock(id: i32) -> i64 {
    let mut ts = [0i64; 2];
    sc!(SYS_clock_gettime, id, at_mut(&mut ts));
    ts[0] * 1_000_000_000 + ts[1]
}

/// Nanoseconds on a clock, by the C library, which asks the vDSO.
pub fn library_clock(id: i32) -> i64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid place for the result.
    unsafe { libc::clock_gettime(id, &raw mut ts) };
    ts.tv_sec * 1_000_000_000 + ts.tv_nsec
}

/// nanosleep(2), in milliseconds.
pub fn nap(ms: i64) -> Ret {
    sc!(SYS_nanosleep, at(&span(ms)), 0u64)
}

/// A `struct timespec` of some milliseconds.
pub fn span(ms: i64) -> [i64; 2] {
    [ms / 1000, ms % 1000 * 1_000_000]
}

/// A `struct itimerval` with both parts in milliseconds.
pub fn itimerval(value: i64, interval: i64) -> [i64; 4] {
    [interval / 1000, interval % 1000 * 1000, value / 1000, value % 1000 * 1000]
}

/// A `struct itimerspec` with both parts in milliseconds.
pub fn itimerspec(value: i64, interval: i64) -> [i64; 4] {
    [interval / 1000, interval % 1000 * 1_000_000, value / 1000, value % 1000 * 1_000_000]
}

/// setitimer(2).
pub fn setitimer(which: i32, value_ms: i64, interval_ms: i64) -> Ret {
    sc!(SYS_setitimer, which, at(&itimerval(value_ms, interval_ms)), 0u64)
}

/// Runs `f` and says whether it took at least `ms` milliseconds and less than ten seconds more.
pub fn took<T>(ms: u64, f: impl FnOnce() -> T) -> (T, bool) {
    let start = Instant::now();
    let value = f();
    let elapsed = start.elapsed();
    let least = Duration::from_millis(ms);
    (value, elapsed >= least && elapsed < least + Duration::from_secs(10))
}

/// Repeats `f` until it is true, for at most ten seconds; says whether it became true.
pub fn until(mut f: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !f() {
        if start.elapsed() > Duration::from_secs(10) {
            return false;
        }
        sc!(SYS_sched_yield);
    }
    true
}

/// clock_nanosleep(2).
pub fn clock_nanosleep(id: i32, flags: i32, request: impl Arg, remain: impl Arg) -> Ret {
    sc!(SYS_clock_nanosleep, id, flags, request, remain)
}
