//! The processes of a sandbox: how they are started, watched and ended.
//!
//! ```text
//! runsc ── fork ──► gofer    own namespaces, sees the exports only
//!       └─ fork ──► sentry   own namespaces, empty root, no capabilities; first process of its pid
//!                            namespace, so that its stubs cannot outlive it
//! ```
//! Neither is executed anew: both are forks of this single-threaded process. They die with it
//! (`PR_SET_PDEATHSIG`), and it ends when the sentry does.

mod confine;
mod control;
mod export;
mod gofer;
mod identity;
mod sentry;
mod spawn;
mod supervise;
pub mod terminal;

pub use export::Exports;

use crate::cli::Global;
use ::sentry::boot::ContainerSpec;
use anyhow::Context;
use std::fs::File;
use std::os::fd::OwnedFd;

/// Everything that a sandbox is started from.
pub struct Sandbox {
    /// The container.
    pub spec: ContainerSpec,
    /// Host directories and files that the gofer serves.
    pub exports: Exports,
    /// The debug log, if there is one.
    pub log: Option<OwnedFd>,
    /// Write a line for each system call to the log.
    pub strace: bool,
}

impl Sandbox {
    /// Runs the sandbox to its end, in the foreground; the result is the exit status for the shell.
    pub fn run(self, global: &Global) -> anyhow::Result<u8> {
        supervise::block_signals()?;
        let terminal = self.spec.process.terminal.then(terminal::Terminal::open).transpose()?;
        let (gofer, channels) = gofer::start(self.exports)?;
        let (sentry, control) = sentry::start(sentry::Setup {
            spec: self.spec,
            platform: global.platform,
            channels,
            log: self.log,
            strace: self.strace,
        })
        .context("cannot start the sentry")?;
        supervise::wait(sentry, control, gofer, terminal)
    }
}

/// Opens the debug log that the flags ask for.
pub fn open_log(global: &Global) -> anyhow::Result<Option<OwnedFd>> {
    if let Some(path) = &global.debug_log {
        let file = File::options().create(true).append(true).open(path).with_context(|| {
            format!(
                "cannot open the debug log {}: is its directory there and writable?",
                path.display()
            )
        })?;
        return Ok(Some(file.into()));
    }
    if !global.strace {
        return Ok(None);
    }
    let stderr = std::os::fd::AsFd::as_fd(&std::io::stderr()).try_clone_to_owned();
    Ok(Some(stderr.context("cannot duplicate standard error for the debug log")?))
}
