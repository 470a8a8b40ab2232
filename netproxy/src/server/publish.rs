//! Ports of the host that lead into the sandbox.

use super::udp::{self, Received};
use super::{Published, Sentry, Token, Watch};
use crate::address::seen_from_guest;
use crate::protocol::{Event, Packet, Protocol};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// Connections or packets taken before others have their turn.
const BATCH: usize = 32;
/// Peers of a published UDP port that can be answered: the last ones.
const PEERS: usize = 4096;

/// A published port, and for UDP those who have sent to it: by the guest's name for them, the host's.
#[derive(Debug)]
struct Publication {
    published: Published,
    peers: HashMap<SocketAddr, SocketAddr>,
    order: VecDeque<SocketAddr>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Publications(Vec<Publication>);

impl Publications {
    /// Watches them.
    pub(super) fn new(list: Vec<Published>, watch: &Watch) -> Result<Self, Errno> {
        let mut all = Vec::with_capacity(list.len());
        for (index, published) in list.into_iter().enumerate() {
            let token = Token::Published(index as u64);
            watch.add(published.socket.as_fd(), token, EventFlags::IN)?;
            all.push(Publication { published, peers: HashMap::new(), order: VecDeque::new() });
        }
        Ok(Self(all))
    }

    /// Somebody has come.
    pub(super) fn ready(&mut self, index: u64, sentry: &mut Sentry, buffer: &mut [u8]) {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let Some(publication) = self.0.get_mut(index) else { return };
        for _ in 0..BATCH {
            let goes_on = match publication.published.protocol {
                Protocol::Tcp => publication.accept(sentry),
                _ => publication.receive(sentry, buffer),
            };
            if !goes_on {
                return;
            }
        }
    }

    /// The published UDP port that leads to `port` and that `peer` has sent to, with the host's name for it.
    fn heard(&self, port: u16, peer: SocketAddr) -> Option<(&Publication, SocketAddr)> {
        let leads =
            |p: &&Publication| p.published.protocol == Protocol::Udp && p.published.port == port;
        self.0.iter().filter(leads).find_map(|p| Some((p, *p.peers.get(&peer)?)))
    }

    /// True for those who may be answered from a published UDP port.
    pub(super) fn knows(&self, port: u16, peer: SocketAddr) -> bool {
        self.heard(port, peer).is_some()
    }

    /// Sends from a published UDP port to somebody who has sent to it. False when it is none of these.
    pub(super) fn answer(&self, port: u16, peer: SocketAddr, data: &[u8]) -> bool {
        let Some((publication, host)) = self.heard(port, peer) else { return false };
        // As on any network it may be lost.
        let _ = udp::send(publication.published.socket.as_fd(), data, host);
        true
    }
}

impl Publication {
    fn accept(&self, sentry: &Sentry) -> bool {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match acceptfrom_with(&self.published.socket, flags) {
            Ok((connection, Some(peer))) => {
                if let Ok(peer) = SocketAddr::try_from(peer) {
                    let from = seen_from_guest(peer);
                    let event = Event::Incoming { port: self.published.port, from };
                    sentry.tell(&event, Some(connection.as_fd()));
                }
                true
            }
            Ok(_) | Err(Errno::INTR | Errno::CONNABORTED) => true,
            Err(_) => false,
        }
    }

    fn receive(&mut self, sentry: &mut Sentry, buffer: &mut [u8]) -> bool {
        match udp::receive(self.published.socket.as_fd(), buffer) {
            Ok(Received { len, from: Some(host), ttl, tos }) => {
                let peer = seen_from_guest(host);
                if self.peers.insert(peer, host).is_none() {
                    self.order.push_back(peer);
                    if self.order.len() > PEERS
                        && let Some(oldest) = self.order.pop_front()
                    {
                        self.peers.remove(&oldest);
                    }
                }
                let port = self.published.port;
                let data = buffer.get(..len).unwrap_or_default();
                let protocol = Protocol::Udp;
                sentry.pass(&Packet::Data { id: 0, protocol, port, peer, ttl, tos, data });
                true
            }
            Ok(_) | Err(Errno::INTR) => true,
            Err(_) => false,
        }
    }
}
