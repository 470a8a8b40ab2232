//! One end of a channel: datagrams with at most one descriptor each.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

use super::MAX_MESSAGE;

/// Why a channel cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The other side is gone.
    #[error("the other side closed the channel")]
    Closed,
    /// A host call on the socket failed.
    #[error("socket: {0}")]
    Socket(#[from] Errno),
    /// The other side does not keep to the protocol.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// The descriptor of a message could not be received, or it had several.
    #[error("no room for a descriptor")]
    NoDescriptor,
    /// A message of ours is larger than [`MAX_MESSAGE`].
    #[error("message too large")]
    TooLarge,
}

/// One end of a channel, with the buffer that its datagrams are built and read in.
#[derive(Debug)]
pub struct Transport {
    socket: OwnedFd,
    // Zeroed lazily by the allocator: pages that no message ever reached take no memory.
    buffer: Vec<u8>,
}

/// Makes the two ends of a channel.
pub fn channel_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

impl Transport {
    /// Takes one end of a connected `SOCK_SEQPACKET` socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: vec![0; MAX_MESSAGE] }
    }

    /// The socket, for polling.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends one message, with `fd` if there is one.
    pub fn send<T: Serialize>(
        &mut self,
        message: &T,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), TransportError> {
        let bytes =
            postcard::to_slice(message, &mut self.buffer).map_err(|_| TransportError::TooLarge)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.map(|fd| [fd]);
        if let Some(fds) = &fds
            && !control.push(SendAncillaryMessage::ScmRights(fds))
        {
            return Err(TransportError::TooLarge);
        }
        let slices = [IoSlice::new(bytes)];
        loop {
            match rustix::net::sendmsg(&self.socket, &slices, &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(TransportError::Closed),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for the next message, and the descriptor that came with it.
    ///
    /// Surplus descriptors are closed and make the message malformed.
    pub fn receive<'a, T: Deserialize<'a>>(
        &'a mut self,
    ) -> Result<(T, Option<OwnedFd>), TransportError> {
        // Room for two, so that one too many is seen rather than dropped by the host.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [IoSliceMut::new(&mut self.buffer)];
            match rustix::net::recvmsg(
                &self.socket,
                &mut slices,
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Err(TransportError::Closed),
                Err(error) => return Err(error.into()),
            }
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        if received.bytes == 0 {
            return Err(TransportError::Closed);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(TransportError::Malformed("larger than the limit"));
        }
        if received.flags.contains(ReturnFlags::CTRUNC) || fds.len() > 1 {
            // There is room for one, unless the receiver has too many open.
            return Err(TransportError::NoDescriptor);
        }
        let bytes = self.buffer.get(..received.bytes).unwrap_or_default();
        let (message, rest) = postcard::take_from_bytes(bytes)
            .map_err(|_| TransportError::Malformed("does not decode"))?;
        if !rest.is_empty() {
            return Err(TransportError::Malformed("has bytes left over"));
        }
        Ok((message, fds.pop()))
    }

    /// Closes the channel for both sides, also for a thread that waits on it.
    pub fn shutdown(&self) {
        // Failing means that it is closed already.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }
}
