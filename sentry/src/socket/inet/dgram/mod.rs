//! UDP sockets (`udp(7)`), UDP-Lite sockets (`udplite(7)`) and ICMP echo sockets (`icmp(7)`).
//!
//! * [`DgramSocket`]: the socket. `setup`: binding and connecting. `send` and `receive`: messages.
//! * [`remote`]: messages to and from other machines. [`proxied`]: those that go through a proxy.
//! * [`lite`]: what UDP-Lite has besides.
//! * [`errors`]: what became of messages that found nobody. `echo`: answers to pings.

pub(in crate::socket::inet) mod echo;
pub mod errors;
mod filtered;
mod limited;
mod lite;
mod named;
pub mod proxied;
mod receive;
pub mod remote;
pub(in crate::socket::inet) mod send;
mod setup;
mod socket;

use super::Net;
use super::addr::Endpoint;
use super::common::Common;
use super::inbox::Inbox;
use super::port::{Claim, Ports};
use crate::socket::Options;
use crate::socket::options::DEFAULT_BUFFER;
use crate::sync::{Mutex, rank};
use lite::Coverage;
use proxied::Proxied;
use remote::Remote;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock, Weak};

/// What a datagram socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// UDP-Lite, within the sandbox.
    UdpLite,
    /// Echo requests and replies of ICMP or ICMPv6.
    Echo,
}

/// A datagram socket.
pub struct DgramSocket {
    this: Weak<DgramSocket>,
    protocol: Protocol,
    common: Common,
    inbox: Inbox,
    sndbuf: AtomicUsize,
    /// `UDP_CORK`
    cork: AtomicBool,
    /// `UDP_SEGMENT`, bytes; 0 for off.
    segment: AtomicUsize,
    /// `UDP_GRO`
    coalesce: AtomicBool,
    coverage: Coverage,
    setup: Mutex<Setup, { rank::INODE }>,
    /// The peer of `setup`, for those who deliver and must not wait for that lock.
    hears_only: Mutex<Option<Endpoint>, { rank::LEAF }>,
    /// The endpoint with which other machines speak, once there is one.
    remote: Mutex<Option<Arc<Remote>>, { rank::LEAF }>,
    /// What stands for it at the name server of the host's, once it has asked that something.
    names: OnceLock<Proxied>,
}

#[derive(Default)]
struct Setup {
    claim: Option<Arc<Claim<DgramSocket>>>,
    local: Option<Endpoint>,
    peer: Option<Endpoint>,
    chose_port: bool,
    chose_ip: bool,
    /// A datagram under construction (`MSG_MORE`).
    corked: Option<(Endpoint, Vec<u8>)>,
}

impl DgramSocket {
    /// A socket of `family` that is bound to nothing.
    pub fn new(
        family: i32,
        protocol: Protocol,
        net: &Arc<Net>,
        options: Options,
    ) -> Arc<DgramSocket> {
        Arc::new_cyclic(|this| DgramSocket {
            this: this.clone(),
            protocol,
            common: Common::new(family, net, options),
            inbox: Inbox::default(),
            sndbuf: AtomicUsize::new(DEFAULT_BUFFER),
            cork: AtomicBool::new(false),
            segment: AtomicUsize::new(0),
            coalesce: AtomicBool::new(false),
            coverage: Coverage::default(),
            setup: Mutex::default(),
            hears_only: Mutex::default(),
            remote: Mutex::default(),
            names: OnceLock::new(),
        })
    }

    /// What all Internet sockets have.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// The table its port or identifier is in.
    fn ports(&self) -> &Arc<Ports<DgramSocket>> {
        let [v4, v6] = &self.common.net.echo;
        match self.protocol {
            Protocol::Udp => &self.common.net.udp,
            Protocol::UdpLite => &self.common.net.udp_lite,
            Protocol::Echo if self.common.family() == super::AF_INET => v4,
            Protocol::Echo => v6,
        }
    }

    /// Its own address and the peer's, as far as there are any.
    pub fn endpoints(&self) -> (Option<Endpoint>, Option<Endpoint>) {
        let setup = self.setup.lock();
        (setup.local, setup.peer)
    }

    /// Bytes that wait to be received, as they are charged, and datagrams that were dropped.
    pub fn queued(&self) -> (usize, usize) {
        self.inbox.queued()
    }

    fn bound_ip(&self) -> IpAddr {
        let local = self.setup.lock().local;
        local.map_or(super::addr::any(self.common.family()), |l| l.ip)
    }
}
