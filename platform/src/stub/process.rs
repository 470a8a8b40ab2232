#![expect(unsafe_code, reason = "waits for and ends stub processes")]
//! A stub as a host process.

use crate::host::Errno;

/// Owns a stub process: dropping it ends the process and waits until it is gone.
#[derive(Debug)]
pub struct StubProcess {
    pid: i32,
}

impl StubProcess {
    /// Takes over a child of the sentry.
    pub fn new(pid: i32) -> Self {
        Self { pid }
    }

    /// Host process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends `SIGKILL`. The process cannot have been reaped: only `drop` does that.
    pub fn kill(&self) {
        // SAFETY: sends a signal to our own child.
        let _ = unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }
}

impl Drop for StubProcess {
    fn drop(&mut self) {
        self.kill();
        // Every thread of it is untraced by now, or traced by somebody who is about to notice.
        while matches!(wait(self.pid), Ok(status) if libc::WIFSTOPPED(status)) {}
    }
}

/// `waitpid(2)` for one child or tracee of any kind; returns its status.
pub fn wait(tid: i32) -> Result<i32, Errno> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is valid for the result.
        let result = unsafe { libc::waitpid(tid, &mut status, libc::__WALL) };
        match Errno::result(result) {
            Err(Errno::EINTR) => {}
            result => return result.map(|_| status),
        }
    }
}
