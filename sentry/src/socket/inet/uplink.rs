//! The way out of the sandbox: what a stack that speaks to other machines does for the sockets here.
//!
//! A network without one has the loopback interface alone, and every other destination is
//! unreachable.

use super::addr::Endpoint;
use super::stream::StreamSocket;
use crate::errno::Result;
use std::net::IpAddr;
use std::sync::Arc;

/// A stack behind the loopback interface.
pub trait Uplink: Send + Sync {
    /// Source address and interface for a destination that is not this machine; `device` is the
    /// interface that was asked for, or 0. `None` without a route.
    fn route(&self, to: IpAddr, device: u32) -> Option<(IpAddr, u32)>;

    /// Begins a TCP connection from `local` to `peer`. The socket stays in its connecting state until
    /// the stack joins it with its own end or refuses.
    fn connect(&self, socket: &Arc<StreamSocket>, local: Endpoint, peer: Endpoint) -> Result<()>;

    /// Sends a UDP datagram.
    fn send(&self, local: Endpoint, peer: Endpoint, data: &[u8]) -> Result<()>;
}
