//! The CLI's end of the control protocol.

use crate::failure::Failure;
use anyhow::{Context, bail};
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr, bind, connect, listen,
    shutdown, socket, socketpair,
};
use sentry::boot::protocol::{Connection, Reply, Request};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Exit statuses that say that a sandbox failed; below are refusals of single requests.
const FAILED_MIN: u8 = 126;

/// A connection to a sandbox.
pub struct Control {
    connection: Connection,
}

impl Control {
    /// The CLI's end, and the sentry's.
    pub fn pair() -> anyhow::Result<(Control, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
                .context("cannot make the control socket")?;
        Ok((Control { connection: Connection::new(ours) }, theirs))
    }

    /// Connects to the sandbox whose socket is `name` in the directory `dir`.
    pub fn connect(dir: &Path, name: &str) -> anyhow::Result<Control> {
        let socket = new_socket()?;
        with_address(dir, name, |address| connect(socket.as_raw_fd(), address))
            .context("cannot connect to the sandbox: it is ending, or has ended")?;
        Ok(Control { connection: Connection::new(socket) })
    }

    /// Sends a message. A sandbox that has just ended is not told; its end is noticed elsewhere.
    pub fn send(&self, request: &Request) {
        let _ = self.connection.send(request, &[]);
    }

    /// Sends a message with descriptors; it has no answer.
    pub fn tell(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
        self.connection.send(request, fds).context("cannot reach the sandbox: it has ended")
    }

    /// The next message of the sandbox; `None` when it has closed the connection.
    pub fn receive(&self) -> anyhow::Result<Option<Reply>> {
        let received = self.connection.receive().context("cannot understand the sandbox")?;
        Ok(received.map(|(reply, _)| reply))
    }

    /// Waits for an answer; a refusal is an error, and so is the end of the sandbox.
    pub fn answer(&self) -> anyhow::Result<Reply> {
        match self.receive()? {
            Some(Reply::Failed { message, status }) => Err(Failure { message, status }.into()),
            Some(reply) => Ok(reply),
            None => bail!("the sandbox has ended"),
        }
    }

    /// Asks for something and waits for the answer.
    pub fn ask(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> anyhow::Result<Reply> {
        self.tell(request, fds)?;
        self.answer()
    }

    /// Asks nothing more. A sandbox that lives on closes the connection, once it has said what it had to say.
    pub fn hang_up(&self) {
        // It may be closed already.
        let _ = shutdown(self.connection.as_fd().as_raw_fd(), Shutdown::Write);
    }

    /// Why the sandbox failed, once it has ended; `None` when it did not.
    pub fn last_words(&self) -> Option<Failure> {
        // Answers to signals may lie before it.
        while let Ok(Some(reply)) = self.receive() {
            if let Reply::Failed { message, status } = reply
                && status >= FAILED_MIN
            {
                return Some(Failure { message, status });
            }
        }
        None
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

fn new_socket() -> anyhow::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .context("cannot make a socket")
}

/// Calls `run` with the address of a socket in a directory. State directories may have names that are too
/// long for a socket's address; the directory's descriptor has a short one.
fn with_address<T>(
    dir: &Path,
    name: &str,
    run: impl FnOnce(&UnixAddr) -> nix::Result<T>,
) -> anyhow::Result<T> {
    let dir = File::open(dir).with_context(|| format!("cannot open {}", dir.display()))?;
    let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    let address = UnixAddr::new(path.as_str()).context("the socket's name is too long")?;
    Ok(run(&address)?)
}

/// A socket that listens under `name` in the directory `dir`, which only its owner can enter.
pub fn listen_at(dir: &Path, name: &str) -> anyhow::Result<OwnedFd> {
    let socket = new_socket()?;
    with_address(dir, name, |address| bind(socket.as_raw_fd(), address))
        .context("cannot make the control socket")?;
    listen(&socket, Backlog::new(128).context("backlog")?)
        .context("cannot listen on the control socket")?;
    Ok(socket)
}
