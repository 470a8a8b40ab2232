//! Unix sockets in exports that lead to the host's: connections to them, and names for the sandbox's own.

use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::open::{Answer, descriptor_name};
use super::resolve::fd_errno;
use super::{Result, Server};
use crate::protocol::{At, FileKind, Owner, Reach, Reply};

/// Connections that wait to be accepted: what Linux bounds every socket to by default (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

impl Server {
    /// Connects to a Unix socket and donates the connection.
    pub(super) fn connect(&self, at: &At<'_>, kind: i32) -> Result<Answer<'static>> {
        let found = self.find(at)?;
        let reach = self.export_of(&found.node)?.reach;
        if found.attr.kind() != FileKind::Socket || !reach.contains(Reach::CONNECT) {
            return Err(Errno::CONNREFUSED);
        }
        let socket = socket(kind)?;
        // The working directory of a gofer is /proc/self/fd: this names the very socket that was
        // found, however long its path.
        let address = SocketAddrUnix::new(descriptor_name(found.fd()?).as_str())?;
        rustix::net::connect(&socket, &address)?;
        Ok((Reply::Done, Some(socket)))
    }

    /// Binds a socket for connections to a new name, and donates it. It listens from the start: the sentry may not make
    /// it do so.
    pub(super) fn bind(
        &self,
        at: &At<'_>,
        kind: i32,
        mode: u32,
        owner: Option<Owner>,
    ) -> Result<Answer<'static>> {
        let parent = self.find_parent(at)?;
        if !self.export_of(&parent.node)?.reach.contains(Reach::BIND) {
            return Err(Errno::PERM);
        }
        if kind == libc::SOCK_DGRAM {
            return Err(Errno::PROTOTYPE);
        }
        let socket = socket(kind)?;
        let dir = parent.fd()?;
        // Beneath the very directory that was found; bind(2) follows no link at the end of a path.
        let mut name = descriptor_name(dir).into_bytes();
        name.push(b'/');
        name.extend_from_slice(parent.name);
        rustix::net::bind(&socket, &SocketAddrUnix::new(name)?)?;
        let finish = || {
            rustix::net::listen(&socket, BACKLOG)?;
            self.finish_socket(&parent, mode, owner)
        };
        let found = finish().inspect_err(|_| {
            // Best effort: the first error is the answer.
            let _ = rustix::fs::unlinkat(dir, parent.name, AtFlags::empty());
        })?;
        Ok((Self::describe(&found), Some(socket)))
    }
}

fn socket(kind: i32) -> Result<OwnedFd> {
    let kind = match kind {
        libc::SOCK_STREAM => SocketType::STREAM,
        libc::SOCK_DGRAM => SocketType::DGRAM,
        libc::SOCK_SEQPACKET => SocketType::SEQPACKET,
        _ => return Err(Errno::PROTOTYPE),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).map_err(fd_errno)
}
