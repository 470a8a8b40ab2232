//! What all endpoints have in common: identity, readiness, wakers.

use crate::error::Error;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;

/// Names an endpoint for as long as the stack lives; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub(crate) u64);

impl EndpointId {
    /// The number, for listings.
    pub fn get(self) -> u64 {
        self.0
    }
}

bitflags::bitflags! {
    /// What an endpoint is ready for; the meanings are those of poll(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Readiness: u32 {
        /// Something to receive or to accept, or the end of the stream.
        const IN = 1;
        /// Urgent data.
        const PRI = 2;
        /// Room to send.
        const OUT = 4;
        /// An error is pending.
        const ERR = 8;
        /// Both directions are closed.
        const HUP = 16;
        /// The peer has closed its direction.
        const RDHUP = 32;
    }
}

/// Told when an endpoint may have become ready. Called with no lock of the stack held, so it may call back
/// into the endpoint; should be quick, because the thread that delivers packets runs it.
pub trait Waker: Send + Sync {
    /// The endpoint may now be ready for `events`.
    fn wake(&self, events: Readiness);
}

/// The waker of an endpoint, if one is registered.
#[derive(Default)]
pub(crate) struct WakerCell(Mutex<Option<Arc<dyn Waker>>>);

impl WakerCell {
    /// Replaces the waker.
    pub(crate) fn set(&self, waker: Option<Arc<dyn Waker>>) {
        *self.0.lock() = waker;
    }

    /// Calls the waker, unless there is nothing to tell.
    pub(crate) fn wake(&self, events: Readiness) {
        if events.is_empty() {
            return;
        }
        let waker = self.0.lock().clone();
        if let Some(waker) = waker {
            waker.wake(events);
        }
    }
}

impl std::fmt::Debug for WakerCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WakerCell")
    }
}

/// An error that an ICMP message reports about a packet of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// What it means to a socket.
    pub error: Error,
    /// The message's type.
    pub kind: u8,
    /// The message's code.
    pub code: u8,
    /// From ICMPv6.
    pub v6: bool,
    /// The packet was certainly refused, not only delayed or misrouted: a connection attempt ends.
    pub fatal: bool,
    /// The path's MTU, when the message is about that.
    pub mtu: Option<u32>,
    /// Who says so: a router, the destination, or an own address.
    pub from: IpAddr,
}

/// Which half of a connection to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// No more receiving.
    Read,
    /// No more sending.
    Write,
    /// Neither.
    Both,
}

/// The address family of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6; also IPv4 through mapped addresses unless the endpoint is limited to IPv6.
    V6,
}
