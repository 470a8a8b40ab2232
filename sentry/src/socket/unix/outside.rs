//! Local sockets of which the other side is a program outside the sandbox (`--host-uds`): the gofer has connected or bound a
//! socket of the host's and donated it, and data goes between guest memory and that socket.
//!
//! Files and credentials do not pass: sending files is refused, and those that come are dropped by the host.

use crate::errno::{Errno, Result};
use crate::fs::host::watch::Watched;
use crate::io::{Sink, Source, from_host};
use crate::socket::inet::uplink::proxy;
use crate::socket::{Kind, RecvMsg, SendMsg, flags};
use crate::wait::{EventMask, WaitQueue};
use platform::host::{hostnet, inet, tty};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// The longest message; the host's own limit is about that.
const LONGEST: usize = 256 << 10;

/// A donated socket.
pub struct Outside {
    fd: OwnedFd,
    kind: Kind,
    /// The `struct sockaddr_un` that it was connected to.
    peer: Vec<u8>,
    _watched: Watched,
}

impl Outside {
    /// Wraps a socket; `queue` is told of what happens to it.
    pub fn new(
        fd: OwnedFd,
        kind: Kind,
        peer: &[u8],
        queue: &Arc<WaitQueue>,
    ) -> Result<Arc<Outside>> {
        let watched = Watched::new(fd.as_fd(), queue)?;
        Ok(Arc::new(Outside { fd, kind, peer: peer.to_vec(), _watched: watched }))
    }

    /// Whom it is connected to.
    pub fn peer(&self) -> Vec<u8> {
        self.peer.clone()
    }

    /// A connection that waits. `EAGAIN` when there is none.
    pub fn accept(&self) -> Result<OwnedFd> {
        hostnet::accept(self.fd.as_fd()).map(|(fd, _)| fd).map_err(from_host)
    }

    /// `send(2)`, without waiting.
    pub fn send(&self, src: &mut dyn Source, msg: &SendMsg) -> Result<usize> {
        if msg.flags & flags::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if msg.rights.is_some() || msg.explicit_creds {
            return Err(Errno::EINVAL);
        }
        let len = src.remaining();
        if self.kind != Kind::Stream {
            if len > LONGEST {
                return Err(Errno::EMSGSIZE);
            }
            let mut data = vec![0; len];
            let taken = if len == 0 { 0 } else { src.take(&mut data)? };
            if taken < len {
                return Err(Errno::EFAULT);
            }
            return hostnet::send(self.fd.as_fd(), &data, None, &[], 0)
                .map_err(from_host)
                .inspect_err(|_| src.rewind(taken));
        }
        let mut done = 0;
        while src.remaining() > 0 {
            let max = src.remaining();
            match src.write_host(self.fd.as_fd(), None, max) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// `recv(2)`, without waiting.
    pub fn receive(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        if msg.flags & flags::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if msg.flags & flags::ERRQUEUE != 0 {
            return Err(Errno::EAGAIN);
        }
        let wanted = msg.flags & (flags::PEEK | flags::TRUNC);
        let room = dst.remaining();
        if self.kind == Kind::Stream && wanted == 0 {
            return if room == 0 { Ok(0) } else { dst.read_host(self.fd.as_fd(), None, room) };
        }
        let mut buffer = vec![0; room.min(LONGEST)];
        let received = hostnet::receive_data(self.fd.as_fd(), &mut buffer, wanted as i32);
        let (len, told) = received.map_err(from_host)?;
        msg.out_flags |= told as u32 & (flags::TRUNC | flags::CTRUNC);
        let data = buffer.get(..len.min(buffer.len())).unwrap_or_default();
        let put = if data.is_empty() { 0 } else { dst.put(data)? };
        Ok(if wanted & flags::TRUNC != 0 { len } else { put })
    }

    /// `shutdown(2)`; `how` is 0, 1 or 2.
    pub fn shutdown(&self, how: i32) -> Result<()> {
        inet::shutdown(self.fd.as_fd(), how).map_err(from_host)
    }

    /// What it is ready for.
    pub fn poll(&self) -> EventMask {
        proxy::poll(&self.fd)
    }

    /// Bytes that can be received.
    pub fn available(&self) -> Result<usize> {
        tty::bytes_available(self.fd.as_fd()).map_err(from_host)
    }
}
