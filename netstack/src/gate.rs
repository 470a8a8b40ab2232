//! Who may begin a connection with a listener: asked of whoever uses the stack.

use crate::iface::IfaceId;
use std::net::SocketAddr;

/// What becomes of a segment that may begin a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is for who listens at this port.
    Pass(u16),
    /// Nobody hears of it.
    Drop,
    /// It is answered with a reset.
    Reset,
    /// It is answered with an ICMP message of this type and code.
    Unreachable(u8, u8),
}

/// Decides about segments that belong to no connection. Called without locks.
pub trait Gate: Send + Sync {
    /// A segment has come by `iface`; `syn`: it asks for a new connection, and is no answer to anything.
    fn admit(&self, syn: bool, from: SocketAddr, to: SocketAddr, iface: IfaceId) -> Admission;
}
