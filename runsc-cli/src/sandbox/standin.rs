//! Processes of the host that stand for one of the guest's: whoever manages containers watches them, and ends what
//! they stand for by killing them.

use super::control::Control;
use super::spawn::{self, Child};
use super::{confine, supervise};
use crate::commands::wait::exit_status;
use crate::failure::Failure;
use anyhow::{Context, bail};
use nix::unistd::Pid;
use sentry::boot::protocol::Reply;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Exit status when the sandbox has gone, as that of a process that was killed.
const KILLED: u8 = 137;

/// A process of the guest that a connection owns.
pub struct Owned {
    /// The connection.
    pub control: Control,
    /// The terminal that this process controls on its behalf.
    pub console: Option<OwnedFd>,
    /// Gets the exit status.
    pub exit: Option<OwnedFd>,
}

impl Owned {
    /// Waits for its end and passes signals on meanwhile; the result is its exit status.
    pub fn wait(&self, own_terminal: bool) -> anyhow::Result<u8> {
        let stdin = std::io::stdin();
        let terminal = match &self.console {
            Some(console) => Some(console.as_fd()),
            None => own_terminal.then(|| stdin.as_fd()),
        };
        loop {
            supervise::pass_signals(self.control.as_fd(), &self.control, terminal)?;
            match self.control.receive() {
                Ok(Some(Reply::Exited { status })) => return Ok(exit_status(status)),
                // An answer to a signal that was passed on.
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Ok(KILLED),
            }
        }
    }
}

/// Starts a process that calls `start` and waits for what that has started. Returns once `start` has succeeded;
/// `prepare` runs here before it, with the id of the new process.
pub fn spawn(
    attached: bool,
    prepare: impl FnOnce(Pid) -> anyhow::Result<()>,
    start: impl FnOnce() -> anyhow::Result<Owned>,
) -> anyhow::Result<Child> {
    let (mut ours, theirs) =
        UnixStream::pair().context("cannot make a socket pair for starting a process")?;
    let mut theirs = Some(theirs);
    let child = spawn::spawn(0, attached, prepare, || {
        let started = start().and_then(settle);
        let (news, status) = match &started {
            Ok(_) => (String::new(), 0),
            Err(e) => {
                let status = e.downcast_ref::<Failure>().map_or(crate::EXIT_INTERNAL, |f| f.status);
                (format!("{e:#}"), status)
            }
        };
        if let Some(mut theirs) = theirs.take() {
            // The parent may have been killed; the process goes on all the same.
            let _ = theirs.write_all(&[&[status], news.as_bytes()].concat());
        }
        let Ok(owned) = started else { return 1 };
        // A lock on the container's state, say, is not held for as long as it runs.
        let keep =
            owned.console.iter().chain(&owned.exit).map(AsFd::as_fd).chain([owned.control.as_fd()]);
        if confine::close_others(keep)
            .and_then(|()| confine::replace_standard_streams(false))
            .and_then(|()| confine::become_bystander(attached))
            .is_err()
        {
            return 1;
        }
        let status = owned.wait(false).unwrap_or(1);
        if let Some(file) = owned.exit {
            // Who asks later learns less, if it cannot be written.
            let _ = File::from(file).write_all(status.to_string().as_bytes());
        }
        i32::from(status)
    })?;
    // The new process has a copy of its end of the pair, and so have we, which would keep us waiting.
    drop(theirs);
    let mut news = Vec::new();
    ours.read_to_end(&mut news).context("cannot learn whether the process was started")?;
    match news.split_first() {
        Some((0, _)) => Ok(child),
        Some((status, message)) => {
            let message = String::from_utf8_lossy(message).into_owned();
            let _ = nix::sys::wait::waitpid(child.pid, None);
            Err(Failure { message, status: *status }.into())
        }
        None => bail!("the process that was to start the command has died"),
    }
}

fn settle(owned: Owned) -> anyhow::Result<Owned> {
    supervise::block_signals()?;
    if let Some(console) = &owned.console {
        confine::take_terminal(console.try_clone().context("cannot duplicate the terminal")?)?;
    }
    Ok(owned)
}
