//! The sentry's side.
//!
//! Any thread sends; one thread takes the events, and one the packets, both at once.

use crate::protocol::{Event, MAX_MESSAGE, Packet, Request, decode, encode};
use platform::host::{Errno, io, socket};
use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};

/// Most bytes of an event.
const MAX_EVENT: usize = 512;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection to the proxy.
#[derive(Debug)]
pub struct Client {
    control: OwnedFd,
    packets: OwnedFd,
}

impl Client {
    /// Takes the sentry's ends of both sockets.
    pub fn new(control: OwnedFd, packets: OwnedFd) -> Self {
        Self { control, packets }
    }

    /// Sends a request. It may wait for the proxy to read, which never waits for the sentry to ask.
    pub fn request(&self, request: &Request) -> Result<(), Errno> {
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(MAX_MESSAGE, 0);
            let bytes = encode(request, buffer).ok_or(Errno::EMSGSIZE)?;
            socket::send(self.control.as_fd(), bytes, &[]).map(drop)
        })
    }

    /// Waits for the next event. `None`: the proxy is gone, or does not keep to the protocol.
    pub fn event(&self) -> Option<(Event, Option<OwnedFd>)> {
        let mut buffer = [0; MAX_EVENT];
        let (n, mut fds) = socket::receive(self.control.as_fd(), &mut buffer).ok()?;
        let event = decode(buffer.get(..n)?)?;
        Some((event, fds.pop()))
    }

    /// Sends a packet, as [`Client::request`].
    pub fn send(&self, packet: &Packet<'_>) -> Result<(), Errno> {
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(MAX_MESSAGE, 0);
            let bytes = encode(packet, buffer).ok_or(Errno::EMSGSIZE)?;
            loop {
                match io::write(self.packets.as_fd(), bytes, None) {
                    Err(Errno::EINTR) => {}
                    result => return result.map(drop),
                }
            }
        })
    }

    /// Waits for the next packet, and gives it to `take`. False: the proxy is gone.
    pub fn packet(&self, buffer: &mut Vec<u8>, take: impl FnOnce(Packet<'_>)) -> bool {
        buffer.resize(MAX_MESSAGE, 0);
        let n = loop {
            match io::read(self.packets.as_fd(), buffer, None) {
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => return false,
                Ok(n) => break n,
            }
        };
        match decode(buffer.get(..n).unwrap_or_default()) {
            Some(packet) => take(packet),
            None => return false,
        }
        true
    }
}
