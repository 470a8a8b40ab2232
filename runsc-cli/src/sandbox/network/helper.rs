//! Processes that have to do with the host's network for a sandbox that was given none.
//!
//! Like the gofer each is a fork of this process, with namespaces of its own but for the network's, an empty root and no
//! capabilities. It ends with its connection to the sentry.

use crate::cli::HostSeccomp;
use crate::log;
use crate::sandbox::spawn::{self, Child};
use crate::sandbox::{confine, identity};
use anyhow::Context;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use platform::host::seccomp::{self, Filter};
use sentry::boot;
use std::os::fd::BorrowedFd;

/// Namespaces of such a process: all but the network's.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// A running one. Ended when dropped.
pub struct Helper {
    child: Child,
    kept: bool,
}

/// Starts one, which runs `body`.
pub fn start(
    what: &'static str,
    attached: bool,
    body: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Helper> {
    let child = spawn::spawn(NAMESPACES, attached, identity::write_maps, move || match body() {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("runsc: the {what}: {e:#}");
            1
        }
    });
    let child = child.with_context(|| format!("cannot start the {what}"))?;
    Ok(Helper { child, kept: false })
}

/// In the new process: gives up everything but the descriptors that `kept` finds in `given`. `prepare` makes of it what
/// the process goes on with; then its host calls are limited by `filter`.
pub fn confine<T, U>(
    attached: bool,
    mode: HostSeccomp,
    filter: &'static Filter,
    given: T,
    kept: impl FnOnce(&T) -> Vec<BorrowedFd<'_>>,
    prepare: impl FnOnce(T) -> anyhow::Result<U>,
) -> anyhow::Result<U> {
    confine::replace_standard_streams(attached)?;
    confine::close_others(kept(&given).into_iter().chain(log::descriptor()))?;
    confine::empty_root()?;
    confine::allow_descriptors();
    confine::drop_privileges(attached)?;
    let mode = match mode {
        HostSeccomp::Enforce => boot::HostSeccomp::Enforce,
        HostSeccomp::Log => boot::HostSeccomp::Log,
    };
    seccomp::limit_arenas(1);
    seccomp::hide_process().context("cannot hide the process")?;
    let prepared = prepare(given)?;
    filter.install(mode, libc::STDERR_FILENO).context("cannot install the filter of host calls")?;
    Ok(prepared)
}

impl Helper {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.child.pid
    }

    /// It outlives this value: its connection to the sentry ends it.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if !self.kept {
            self.child.kill();
            let _ = waitpid(self.child.pid, None);
        }
    }
}
