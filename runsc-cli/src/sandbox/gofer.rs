//! Starts the gofer.

use super::export::Exports;
use crate::cli::{Global, HostSeccomp};
use anyhow::Context;
use gofer::process::{Options, spawn};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use sentry::boot;
use std::os::fd::{AsFd, OwnedFd};

/// A running gofer. Ended when dropped.
pub struct Gofer {
    pid: Pid,
    kept: bool,
}

/// Starts the gofer of these exports; also returns the sentry's ends of its channels.
pub fn start(
    exports: Exports,
    attached: bool,
    global: &Global,
) -> anyhow::Result<(Gofer, Vec<OwnedFd>)> {
    let filter_mode = match global.host_seccomp {
        HostSeccomp::Enforce => boot::HostSeccomp::Enforce,
        HostSeccomp::Log => boot::HostSeccomp::Log,
    };
    // Only where somebody waits for the sandbox anyway may it keep standard error.
    let stderr = if attached { std::io::stderr().as_fd().try_clone_to_owned().ok() } else { None };
    let (mut exports, users) = exports.into_parts();
    exports.iter_mut().for_each(|export| export.reach = global.reach());
    let options =
        Options { die_with_starter: attached, filter_mode, stderr, users, ..Options::new(exports) };
    let gofer = spawn(options).context("cannot start the gofer")?;
    let pid = Pid::from_raw(gofer.pid.as_raw_nonzero().get());
    Ok((Gofer { pid, kept: false }, gofer.channels))
}

impl Gofer {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// It outlives this value: its channels end it.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Gofer {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // It may have ended already, because its channels were closed.
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}
