//! Host processes, named so that a recycled process id is not taken for them.

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// A process id and when the process was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its id, in the namespace of whoever wrote this.
    pub pid: i32,
    /// Start time in the clock ticks of `/proc/PID/stat`.
    pub started: u64,
}

/// Longest wait for a killed process to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// State letter and start time of a process.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // It is the 22nd field; two are gone, and the iterator is past the third.
    Some((state, fields.nth(18)?.parse().ok()?))
}

impl ProcessId {
    /// The process that has this id now.
    pub fn of(pid: i32) -> anyhow::Result<Self> {
        let (_, started) = stat(pid).with_context(|| format!("cannot read /proc/{pid}/stat"))?;
        Ok(Self { pid, started })
    }

    /// True while it runs; a zombie does not.
    pub fn is_alive(self) -> bool {
        matches!(stat(self.pid), Some((state, started)) if started == self.started && !"ZX".contains(state))
    }

    /// A descriptor of it; `None` when it has gone.
    fn open(self) -> Option<OwnedFd> {
        let fd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Looked at after the descriptor is there, which keeps the id from being recycled unnoticed.
        matches!(stat(self.pid), Some((_, started)) if started == self.started).then_some(fd)
    }

    /// Sends it a signal. That it has gone is an error.
    pub fn signal(self, number: i32) -> anyhow::Result<()> {
        let signal = Signal::from_named_raw(number)
            .with_context(|| format!("signal {number} has no name, and is sent to no sandbox"))?;
        let fd = self.open().with_context(|| format!("process {} has ended", self.pid))?;
        pidfd_send_signal(&fd, signal)
            .with_context(|| format!("cannot send a signal to process {}", self.pid))
    }

    /// Kills it and waits until it has ended. A process that has gone is no error.
    pub fn kill(self) -> anyhow::Result<()> {
        let Some(fd) = self.open() else { return Ok(()) };
        match pidfd_send_signal(&fd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => return Err(e).with_context(|| format!("cannot kill process {}", self.pid)),
        }
        wait(&fd).with_context(|| format!("process {} does not end", self.pid))?;
        // Ours to reap if we started it.
        let _ = nix::sys::wait::waitpid(
            nix::unistd::Pid::from_raw(self.pid),
            Some(nix::sys::wait::WaitPidFlag::WNOHANG),
        );
        Ok(())
    }
}

fn wait(fd: &OwnedFd) -> anyhow::Result<()> {
    let end = Instant::now() + END_TIMEOUT;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => anyhow::bail!("timed out after {} s", END_TIMEOUT.as_secs()),
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ProcessId;

    #[test]
    fn identity_and_end() {
        let me = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(me.is_alive());
        assert!(!ProcessId { started: me.started + 1, ..me }.is_alive());
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let id = ProcessId::of(child.id() as i32).unwrap();
        assert!(id.is_alive());
        // Another process under that id is left alone.
        ProcessId { started: id.started + 1, ..id }.kill().unwrap();
        assert!(id.is_alive());
        assert!(id.signal(0).is_err());
        id.signal(libc::SIGCONT).unwrap();
        id.kill().unwrap();
        assert!(!id.is_alive());
        assert!(id.signal(libc::SIGCONT).is_err());
        id.kill().unwrap();
        // Reaped by `kill`, unless it was not quite gone.
        let _ = child.wait();
    }
}
