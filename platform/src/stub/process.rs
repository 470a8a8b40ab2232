#![expect(unsafe_code, reason = "waits for and ends stub processes")]
//! A stub as a host process.
//!
//! Host calls: `wait4`, `kill`.

use crate::host::Errno;
use std::sync::atomic::{AtomicBool, Ordering};

/// Owns a stub process: dropping it ends the process and waits until it is gone.
#[derive(Debug)]
pub struct StubProcess {
    pid: i32,
    /// Its end has been reported to us, so that the host may give its id to somebody else.
    reaped: AtomicBool,
}

impl StubProcess {
    /// Takes over a child of the sentry.
    pub fn new(pid: i32) -> Self {
        Self { pid, reaped: AtomicBool::new(false) }
    }

    /// Host process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether its end has been reported.
    pub fn is_reaped(&self) -> bool {
        self.reaped.load(Ordering::Acquire)
    }

    /// Waits until something happens to one of its threads; returns the status as `waitpid(2)`.
    ///
    /// Nobody else may wait for that thread, or [`StubProcess::kill`], at the same time.
    pub fn wait(&self, tid: i32) -> Result<i32, Errno> {
        let mut status = 0;
        loop {
            // SAFETY: `status` is valid for the result.
            let result = unsafe { libc::waitpid(tid, &mut status, libc::__WALL) };
            match Errno::result(result) {
                Err(Errno::EINTR) => {}
                result => {
                    let gone = result.is_err() || !libc::WIFSTOPPED(status);
                    if gone && tid == self.pid {
                        self.reaped.store(true, Ordering::Release);
                    }
                    return result.map(|_| status);
                }
            }
        }
    }

    /// Sends `SIGKILL`, unless its end has been reported.
    pub fn kill(&self) {
        if !self.is_reaped() {
            // SAFETY: sends a signal to our own child.
            let _ = unsafe { libc::kill(self.pid, libc::SIGKILL) };
        }
    }

    /// Ends it and waits until it is gone. No thread of it may be traced any more.
    pub fn end(&self) {
        self.kill();
        while !self.is_reaped() {
            let _ = self.wait(self.pid);
        }
    }
}

impl Drop for StubProcess {
    fn drop(&mut self) {
        self.end();
    }
}
