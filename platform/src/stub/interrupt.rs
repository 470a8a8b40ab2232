#![expect(unsafe_code, reason = "tgkill(2)")]
//! Interrupting guest code from another thread.
//!
//! Host calls: `tgkill`.

use crate::Interrupter;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Sent to a stub's thread to make it stop. What else arrives means the same.
pub const SIGNAL: i32 = libc::SIGUSR1;

const IDLE: u32 = 0;
/// Guest code runs, or is about to.
const RUNNING: u32 = 1;
/// An interrupt has not been reported yet.
const PENDING: u32 = 2;

/// What a context and its interrupters share.
#[derive(Debug)]
pub struct InterruptState {
    state: AtomicU32,
    /// How often guest code has stopped.
    turns: AtomicU32,
    /// The stub's process and thread, until the context is dropped: ids are reused.
    target: Mutex<Option<(i32, i32)>>,
}

impl InterruptState {
    /// For a context that runs in thread `tid` of stub `pid`.
    pub fn new(pid: i32, tid: i32) -> Self {
        let target = Mutex::new(Some((pid, tid)));
        Self { state: AtomicU32::new(IDLE), turns: AtomicU32::new(0), target }
    }

    /// Announces that guest code is about to run; `false` when there is an interrupt to report
    /// instead.
    pub fn enter(&self) -> bool {
        match self.state.compare_exchange(IDLE, RUNNING, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(_) => {
                self.state.store(IDLE, Ordering::Release);
                false
            }
        }
    }

    /// Guest code has stopped, because of a signal or not. An interrupt that came with another event
    /// stays pending.
    pub fn leave(&self, by_signal: bool) {
        // Only the context's thread counts.
        self.turns.store(self.turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if by_signal {
            self.state.store(IDLE, Ordering::Release);
        } else {
            self.state.fetch_and(!RUNNING, Ordering::AcqRel);
        }
    }

    /// Whether an interrupt is to be reported.
    pub fn is_pending(&self) -> bool {
        self.state.load(Ordering::Acquire) & PENDING != 0
    }

    /// Whether guest code that has been interrupted still runs.
    pub fn is_unheeded(&self) -> bool {
        self.state.load(Ordering::Acquire) == RUNNING | PENDING
    }

    /// How often guest code has stopped; wraps around.
    pub fn turns(&self) -> u32 {
        self.turns.load(Ordering::Relaxed)
    }

    /// A signal was seen (and dropped) while guest code was not running.
    pub fn note(&self) {
        self.state.fetch_or(PENDING, Ordering::AcqRel);
    }

    /// Another thread of the stub runs the guest from now on, or (`None`) nobody does.
    pub fn retarget(&self, target: Option<(i32, i32)>) {
        *self.target.lock() = target;
    }
}

impl Interrupter for InterruptState {
    fn interrupt(&self) {
        // Only the first interrupt of a running guest needs a signal.
        if self.state.fetch_or(PENDING, Ordering::AcqRel) == RUNNING
            && let Some((pid, tid)) = *self.target.lock()
        {
            tgkill(pid, tid, SIGNAL);
        }
    }
}

/// Sends a signal to one thread of a stub.
pub fn tgkill(pid: i32, tid: i32, signal: i32) {
    // SAFETY: plain values. Failure means that the thread is gone.
    let _ = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) };
}
