//! Terminals that somebody else holds: `--console-socket`.

use anyhow::Context;
use nix::pty::{OpenptyResult, openpty};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Makes a terminal of the host and gives its master to whoever listens at `socket`. The result is the slave,
/// in raw mode, because the line discipline is the sandbox's own.
pub fn send_master(socket: &Path, size: (u16, u16)) -> anyhow::Result<OwnedFd> {
    let what = || format!("cannot pass a terminal to the console socket {}", socket.display());
    let size = nix::pty::Winsize { ws_col: size.0, ws_row: size.1, ws_xpixel: 0, ws_ypixel: 0 };
    let size = (size.ws_col > 0 && size.ws_row > 0).then_some(size);
    let OpenptyResult { master, slave } = openpty(size.as_ref(), None).with_context(what)?;
    let mut raw = tcgetattr(&slave).with_context(what)?;
    cfmakeraw(&mut raw);
    tcsetattr(&slave, SetArg::TCSANOW, &raw).with_context(what)?;
    let stream = UnixStream::connect(socket).with_context(what)?;
    let fds = [master.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    // The name of the terminal, as runc sends it.
    let name = [IoSlice::new(b"/dev/ptmx")];
    sendmsg::<()>(stream.as_raw_fd(), &name, &rights, MsgFlags::empty(), None)
        .with_context(what)?;
    Ok(slave)
}
