//! TCP connections that are being made.

use super::{Sentry, Token, Watch};
use crate::protocol::Event;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

/// Them, by the sentry's name for the socket.
#[derive(Debug, Default)]
pub(super) struct Connecting(HashMap<u64, OwnedFd>);

impl Connecting {
    /// Begins to connect.
    pub(super) fn begin(&mut self, id: u64, to: SocketAddr, watch: &Watch, sentry: &Sentry) {
        match start(to) {
            Ok((socket, true)) => sentry.tell(&Event::Connected { id }, Some(socket.as_fd())),
            Ok((socket, false)) => {
                let events = EventFlags::OUT;
                match watch.add(socket.as_fd(), Token::Connecting(id), events) {
                    // One of the same name is not the sentry's doing any more.
                    Ok(()) => drop(self.0.insert(id, socket)),
                    Err(e) => fail(sentry, id, e),
                }
            }
            Err(e) => fail(sentry, id, e),
        }
    }

    /// The host has news of an attempt.
    pub(super) fn ended(&mut self, id: u64, watch: &Watch, sentry: &Sentry) {
        let Some(socket) = self.0.remove(&id) else { return };
        // It lives on in the sentry, and would be watched here.
        watch.remove(socket.as_fd());
        match sockopt::socket_error(&socket).and_then(|state| state) {
            Ok(()) => sentry.tell(&Event::Connected { id }, Some(socket.as_fd())),
            Err(e) => fail(sentry, id, e),
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn give_up(&mut self, id: u64, watch: &Watch) {
        if let Some(socket) = self.0.remove(&id) {
            watch.remove(socket.as_fd());
        }
    }
}

fn fail(sentry: &Sentry, id: u64, error: Errno) {
    let errno = match error {
        // The limit is this process's, of which the guest knows nothing.
        Errno::MFILE | Errno::NFILE => Errno::NOBUFS,
        error => error,
    };
    sentry.tell(&Event::Failed { id, errno: errno.raw_os_error() }, None);
}

/// A socket that connects, and whether it has connected already.
fn start(to: SocketAddr) -> Result<(OwnedFd, bool), Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS) => Ok((socket, false)),
        Err(e) => Err(e),
    }
}
