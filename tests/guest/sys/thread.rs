//! Threads below the C library: clone with any flags, futexes, thread-local bases.
#![expect(unsafe_code, reason = "clone with a stack of its own")]

use super::{Arg, Ret, at, mem, sc};
use libc::c_void;

/// The flags every thread of a process is cloned with.
pub const THREAD: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM;

/// What a cloned task runs: plain system calls only, because it shares the C library's
/// thread-local data with its creator.
pub type Entry = extern "C" fn(*mut c_void) -> i32;

/// clone(2) on a fresh stack, with the parent-tid word at `ptid` and the child-tid word at `ctid`.
pub fn spawn(flags: i32, entry: Entry, arg: u64, ptid: u64, ctid: u64) -> Ret {
    const STACK: u64 = 16;
    let stack = mem::anon(STACK) + STACK * mem::PAGE;
    // SAFETY: the stack is fresh and stays mapped; `entry` is a plain function; the tid words belong
    // to the case.
    let ret = unsafe {
        libc::clone(
            entry,
            stack as *mut c_void,
            flags,
            arg as *mut c_void,
            ptid as *mut i32,
            std::ptr::null_mut::<c_void>(),
            ctid as *mut i32,
        )
    };
    // SAFETY: reads this thread's own errno.
    if ret < 0 { Ret(-i64::from(unsafe { *libc::__errno_location() })) } else { Ret(ret.into()) }
}

/// futex(2).
pub fn futex(word: u64, op: i32, val: u32, timeout: impl Arg, word2: u64, val3: u32) -> Ret {
    sc!(SYS_futex, word, op, val, timeout, word2, val3)
}
/// `FUTEX_WAIT` with a timeout in milliseconds, without one when negative.
pub fn futex_wait(word: u64, val: u32, timeout_ms: i64) -> Ret {
    let span = super::time::span(timeout_ms);
    futex(word, libc::FUTEX_WAIT, val, if timeout_ms < 0 { 0 } else { at(&span) }, 0, 0)
}
/// `FUTEX_WAKE`.
pub fn futex_wake(word: u64, count: u32) -> Ret {
    futex(word, libc::FUTEX_WAKE, count, 0u64, 0, 0)
}
/// Wakes until `count` waiters have been woken; false after ten seconds.
pub fn wake_all(word: u64, count: i64) -> bool {
    let mut woken = 0;
    super::time::until(|| {
        woken += futex_wake(word, 1).0.max(0);
        woken >= count
    })
}
/// Waits until a word no longer has this value, sleeping on it.
pub fn await_change(word: u64, old: u32) {
    while mem::word(word).load(std::sync::atomic::Ordering::SeqCst) == old {
        futex_wait(word, old, 1000);
    }
}
/// Stores a value and wakes everyone who waits for it.
pub fn publish(word: u64, value: u32) {
    mem::word(word).store(value, std::sync::atomic::Ordering::SeqCst);
    futex_wake(word, i32::MAX as u32);
}
