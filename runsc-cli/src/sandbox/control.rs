//! The CLI's end of the control socket.

use anyhow::Context;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use sentry::boot::ControlMessage;
use std::os::fd::{AsRawFd, OwnedFd};

/// Tells the sandbox things.
pub struct Control {
    socket: OwnedFd,
}

impl Control {
    /// The CLI's end, and the sentry's.
    pub fn pair() -> anyhow::Result<(Control, OwnedFd)> {
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .context("cannot make the control socket")?;
        Ok((Control { socket }, theirs))
    }

    /// Sends a message. A sandbox that has just ended, or does not read, is not told; its end is
    /// noticed elsewhere.
    pub fn send(&self, message: ControlMessage) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = send(self.socket.as_raw_fd(), &message.encode(), flags);
    }
}
