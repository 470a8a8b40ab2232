//! Forks a process into new namespaces.
#![expect(unsafe_code, reason = "clone3(2) and the state of a forked child are not in nix")]

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// A process of the sandbox.
pub struct Child {
    /// Its id.
    pub pid: Pid,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
}

impl Child {
    /// Ends it.
    pub fn kill(&self) {
        // It can have ended by itself; that is what we want anyway.
        let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
    }
}

/// Forks a child into the namespaces of `flags` (`CLONE_NEW*`) and runs `body` there, after `prepare`
/// has run here with the child's id. `body` returns the exit status.
///
/// The child dies with this process if it is `attached`. It has an empty signal mask and ignores terminal signals.
pub fn spawn(
    flags: i32,
    attached: bool,
    prepare: impl FnOnce(Pid) -> anyhow::Result<()>,
    body: impl FnOnce() -> i32,
) -> anyhow::Result<Child> {
    let (mut ours, mut theirs) =
        UnixStream::pair().context("cannot make a socket pair for starting a process")?;
    let mut pidfd: i32 = -1;
    let mut args = libc::clone_args {
        flags: flags as u64 | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        // SAFETY: all-zero is a valid value of this plain structure: every feature unused.
        ..unsafe { std::mem::zeroed() }
    };
    // SAFETY: `args` is a valid clone_args of the given size, and lives through the call. Without
    // CLONE_VM the child has its own copy of memory; runsc has one thread at this point, so that no
    // lock is held in the copy by a thread that does not exist there.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match Errno::result(result) {
        Err(e) => Err(e).with_context(|| match e {
            Errno::EPERM | Errno::ENOSPC | Errno::EINVAL => {
                "this host refuses new namespaces; allow user namespaces \
                 (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone) or run runsc as root"
                    .to_string()
            }
            _ => "clone3".to_string(),
        }),
        Ok(0) => {
            drop(ours);
            let mut go = [0];
            if theirs.read_exact(&mut go).is_err() {
                exit(1);
            }
            drop(theirs);
            settle(attached);
            exit(body());
        }
        Ok(pid) => {
            drop(theirs);
            // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that
            // nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let child = Child { pid: Pid::from_raw(pid as i32), pidfd };
            let started = prepare(child.pid)
                .and_then(|()| ours.write_all(&[1]).context("the new process ended at once"));
            if let Err(e) = started {
                child.kill();
                let _ = nix::sys::wait::waitpid(child.pid, None);
                return Err(e);
            }
            Ok(child)
        }
    }
}

/// What every child does first.
fn settle(attached: bool) {
    // SAFETY: plain prctl and setsid calls without pointers; they affect this process only.
    unsafe {
        if attached {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        libc::setsid();
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// Ends a forked child without running the parent's exit handlers.
fn exit(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}
