//! Datagrams and echo requests: for each socket of the guest that sends some, one of the host's for either IP
//! version.
//!
//! What comes in reaches the guest only from those to whom it has sent, as through any translating router.

use super::rules::{Rules, is_resolver};
use super::udp::{self, Received, Returned};
use super::{Sentry, Token, Watch};
use crate::protocol::{Packet, Protocol};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Packets taken from one socket before others have their turn.
const BATCH: usize = 32;
/// Peers of one socket that may answer: the last ones.
const PEERS: usize = 1024;
/// `SO_EE_ORIGIN_LOCAL`
const LOCAL: u8 = 1;

/// The other side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// As the guest sees it.
    pub guest: SocketAddr,
    /// As the host does.
    pub host: SocketAddr,
}

/// A packet of the guest's.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    pub id: u64,
    pub protocol: Protocol,
    pub to: Peer,
    pub ttl: u8,
    pub tos: u8,
    pub data: &'a [u8],
}

impl Outgoing<'_> {
    /// Tells of what the host has said of it at once, like of what the network says later.
    pub(super) fn failed(&self, error: Errno, sentry: &mut Sentry) {
        sentry.pass(&Packet::Error {
            id: self.id,
            peer: self.to.guest,
            errno: error.raw_os_error(),
            origin: (LOCAL, 0, 0),
            offender: None,
            data: self.data,
        });
    }
}

/// A host socket.
#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    protocol: Protocol,
    header: Option<(u8, u8)>,
    /// By the host's name for a peer, the guest's.
    peers: HashMap<SocketAddr, SocketAddr>,
    order: VecDeque<SocketAddr>,
}

/// All host sockets, by the sentry's name for its own and whether they are for IPv6.
#[derive(Debug, Default)]
pub(super) struct Associations(HashMap<(u64, bool), Socket>);

/// Echo sockets have no ports; the host's says 0.
fn key(protocol: Protocol, host: SocketAddr) -> SocketAddr {
    if protocol == Protocol::Echo { (host.ip(), 0).into() } else { host }
}

impl Socket {
    fn send(&mut self, out: &Outgoing<'_>) -> Result<(), Errno> {
        let host = key(out.protocol, out.to.host);
        if self.peers.insert(host, out.to.guest).is_none() {
            self.order.push_back(host);
            if self.order.len() > PEERS
                && let Some(oldest) = self.order.pop_front()
            {
                self.peers.remove(&oldest);
            }
        }
        if self.header != Some((out.ttl, out.tos)) {
            udp::set_header(self.fd.as_fd(), host.is_ipv6(), out.ttl, out.tos)?;
            self.header = Some((out.ttl, out.tos));
        }
        match udp::send(self.fd.as_fd(), out.data, host) {
            // An error of an earlier packet, which is in the queue besides.
            Err(Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::PROTO) => {
                udp::send(self.fd.as_fd(), out.data, host)
            }
            // Lost, as on any network.
            Err(Errno::AGAIN | Errno::NOBUFS) => Ok(()),
            sent => sent,
        }
    }
}

impl Associations {
    /// Sends a packet. What the host says of it at once is the error.
    pub(super) fn send(&mut self, out: &Outgoing<'_>, watch: &Watch) -> Result<(), Errno> {
        let v6 = out.to.host.is_ipv6();
        self.open(out, v6, watch).and_then(|socket| socket.send(out))
    }

    fn open(&mut self, out: &Outgoing<'_>, v6: bool, watch: &Watch) -> Result<&mut Socket, Errno> {
        use std::collections::hash_map::Entry;
        match self.0.entry((out.id, v6)) {
            Entry::Occupied(found) => Ok(found.into_mut()),
            Entry::Vacant(place) => {
                let protocol = out.protocol;
                let fd = udp::open(protocol, v6)?;
                watch.add(fd.as_fd(), Token::Packet(out.id, v6), EventFlags::IN)?;
                let (peers, order) = (HashMap::new(), VecDeque::new());
                Ok(place.insert(Socket { fd, protocol, header: None, peers, order }))
            }
        }
    }

    /// The network has something for a socket.
    pub(super) fn incoming(
        &mut self,
        id: u64,
        v6: bool,
        events: EventFlags,
        sentry: &mut Sentry,
        rules: &mut Rules,
        buffer: &mut [u8],
    ) {
        let Some(socket) = self.0.get(&(id, v6)) else { return };
        if events.contains(EventFlags::ERR) {
            while let Ok(error) = udp::receive_error(socket.fd.as_fd(), buffer) {
                let Returned { len, to, errno, origin, offender } = error;
                let to = to.map(|to| key(socket.protocol, to));
                let Some(peer) = to.and_then(|to| socket.peers.get(&to)) else { continue };
                if is_resolver(*peer)
                    && to.is_some_and(|to| rules.questions.failed(id, to, Instant::now()))
                {
                    continue;
                }
                let data = buffer.get(..len).unwrap_or_default();
                sentry.pass(&Packet::Error { id, peer: *peer, errno, origin, offender, data });
            }
        }
        for _ in 0..BATCH {
            match udp::receive(socket.fd.as_fd(), buffer) {
                Ok(Received { len, from: Some(from), ttl, tos }) => {
                    let Some(peer) = socket.peers.get(&from) else { continue };
                    let data = buffer.get(..len).unwrap_or_default();
                    let protocol = socket.protocol;
                    let peer = *peer;
                    if is_resolver(peer) {
                        rules.questions.answered(id, from, data);
                    }
                    rules.answered(peer, data);
                    sentry.pass(&Packet::Data { id, protocol, port: 0, peer, ttl, tos, data });
                }
                Err(Errno::AGAIN) => return,
                // The error of a packet, which came from the queue of errors.
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// The guest's socket is gone.
    pub(super) fn close(&mut self, id: u64) {
        for v6 in [false, true] {
            // Closing ends the watch: nobody else has the descriptor.
            self.0.remove(&(id, v6));
        }
    }
}
