//! Waits for a sandbox: passes signals on, notices the end of its processes, cleans up.

use super::control::Control;
use super::gofer::Gofer;
use super::spawn::Child;
use super::terminal::Terminal;
use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use sentry::boot::ControlMessage;
use std::os::fd::AsFd;

/// Signals that reach the container's first process when runsc gets them.
const FORWARDED: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGPIPE,
];

/// Blocks the signals that [`wait`] takes, so that none is lost while the sandbox starts. The new
/// processes unblock them for themselves.
pub fn block_signals() -> anyhow::Result<()> {
    signals().thread_block().context("cannot block signals")
}

fn signals() -> SigSet {
    let mut set = SigSet::from_iter(FORWARDED);
    set.add(Signal::SIGWINCH);
    set
}

/// Waits until the sentry has ended; the result is its exit status. Whatever happens, neither the
/// sentry nor the gofer is left.
pub fn wait(
    sentry: Child,
    control: Control,
    gofer: Gofer,
    terminal: Option<Terminal>,
) -> anyhow::Result<u8> {
    let result = pass_signals(&sentry, &control, terminal.is_some());
    if result.is_err() {
        sentry.kill();
    }
    let status = waitpid(sentry.pid, None).context("cannot wait for the sentry");
    drop(gofer);
    drop(terminal);
    result?;
    match status? {
        WaitStatus::Exited(_, code) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        WaitStatus::Signaled(_, signal, _) => {
            bail!("the sentry was killed by {signal}; the sandbox is gone")
        }
        other => bail!("the sentry ended strangely: {other:?}"),
    }
}

/// Passes signals on until the sentry ends.
fn pass_signals(sentry: &Child, control: &Control, terminal: bool) -> anyhow::Result<()> {
    let fd = SignalFd::with_flags(&signals(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("cannot make a signalfd")?;
    loop {
        let mut fds = [
            PollFd::new(sentry.pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(fd.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context("cannot wait for the sandbox"),
        }
        if fds.iter().take(1).any(|fd| fd.any() == Some(true)) {
            return Ok(());
        }
        while let Some(info) = fd.read_signal().context("cannot read the signalfd")? {
            let signal = info.ssi_signo as i32;
            if signal != Signal::SIGWINCH as i32 {
                control.send(ControlMessage::Signal(signal));
            } else if terminal {
                let (columns, rows) = Terminal::size();
                control.send(ControlMessage::WindowSize(columns, rows));
            }
        }
    }
}
