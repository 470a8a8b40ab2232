//! Waits for a sandbox: passes signals on, notices the end of its processes, cleans up.

use super::Running;
use super::control::Control;
use super::terminal::Terminal;
use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use sentry::boot::protocol::{Request, Target};
use std::os::fd::{AsFd, BorrowedFd};

/// Signals that reach the container's first process when runsc gets them.
const FORWARDED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
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
pub fn wait(running: Running, terminal: Option<Terminal>) -> anyhow::Result<u8> {
    let Running { sentry, control, gofer, proxy, takeover } = running;
    let stdin = std::io::stdin();
    let shown = terminal.as_ref().map(|_| stdin.as_fd());
    let result = pass_signals(sentry.pidfd.as_fd(), &control, shown);
    if result.is_err() {
        sentry.kill();
    }
    let status = waitpid(sentry.pid, None).context("cannot wait for the sentry");
    drop(gofer);
    drop(proxy);
    drop(takeover);
    drop(terminal);
    result?;
    control.hang_up();
    if let Some(failure) = control.last_words() {
        return Err(failure.into());
    }
    match status? {
        WaitStatus::Exited(_, code) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        WaitStatus::Signaled(_, signal, _) => {
            bail!("the sentry was killed by {signal}; the sandbox is gone")
        }
        other => bail!("the sentry ended strangely: {other:?}"),
    }
}

/// Waits for one of the signals of [`block_signals`], or until `end` is readable.
pub fn wait_for_signal(end: BorrowedFd<'_>) -> anyhow::Result<()> {
    let fd = SignalFd::with_flags(&signals(), SfdFlags::SFD_CLOEXEC)
        .context("cannot make a signalfd")?;
    let mut fds = [PollFd::new(end, PollFlags::POLLIN), PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context("cannot wait for the sandbox"),
        }
    }
}

/// Passes signals on to the process that `control` owns, and the size of its `terminal`, until `end` is
/// readable.
pub fn pass_signals(
    end: BorrowedFd<'_>,
    control: &Control,
    terminal: Option<BorrowedFd<'_>>,
) -> anyhow::Result<()> {
    let fd = SignalFd::with_flags(&signals(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("cannot make a signalfd")?;
    loop {
        let mut fds =
            [PollFd::new(end, PollFlags::POLLIN), PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context("cannot wait for the sandbox"),
        }
        if fds.iter().take(1).any(|fd| fd.any() == Some(true)) {
            return Ok(());
        }
        while let Some(info) = fd.read_signal().context("cannot read the signalfd")? {
            let number = info.ssi_signo as i32;
            if number != Signal::SIGWINCH as i32 {
                control.send(&Request::Signal { to: Target::Own, number });
            } else if let Some(terminal) = terminal {
                let (columns, rows) = Terminal::size_of(terminal);
                control.send(&Request::Resize { columns, rows });
            }
        }
    }
}
