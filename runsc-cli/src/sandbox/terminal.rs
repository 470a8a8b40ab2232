//! The terminal that runsc was started on.

use anyhow::Context;
use nix::sys::termios::{self, SetArg, Termios};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

/// The terminal in raw mode. Its own line discipline is off: the one in the sandbox does that work, so
/// that Ctrl-C and job control belong to the guest. Restored when dropped.
pub struct Terminal {
    saved: Termios,
}

impl Terminal {
    /// True when runsc has a terminal on all of stdin, stdout and stderr.
    pub fn available() -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal()
    }

    /// Switches the terminal on standard input to raw mode.
    pub fn open() -> anyhow::Result<Self> {
        let saved = termios::tcgetattr(io::stdin())
            .context("cannot read the terminal's settings: is standard input a terminal?")?;
        let mut raw = saved.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)
            .context("cannot switch the terminal to raw mode")?;
        Ok(Self { saved })
    }

    /// Columns and rows of the terminal on standard input.
    pub fn size() -> (u16, u16) {
        Self::size_of(io::stdin().as_fd())
    }

    /// Columns and rows of a terminal; a usual size if it is none.
    pub fn size_of(fd: BorrowedFd<'_>) -> (u16, u16) {
        rustix::termios::tcgetwinsize(fd).map_or((80, 24), |size| (size.ws_col, size.ws_row))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing can be done if the terminal has gone.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.saved);
    }
}
