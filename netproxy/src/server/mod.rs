//! The proxy itself: one thread that waits for the sentry and for the network.
//!
//! | module | what |
//! |---|---|
//! | here | what it is started with, and its loop |
//! | `rules` | what addresses stand for, and who may reach them; refusals are reported |
//! | `connect` | TCP connections that are being made, and those whose first bytes are looked at |
//! | `questions`, `names` | questions to name servers, in datagrams and over TCP |
//! | `packets` | sockets for datagrams and echo requests |
//! | `publish` | ports of the host that lead into the sandbox |
//! | [`calls`] | its host calls |
//!
//! It is called with everything it does not need given up, and then runs under [`calls::FILTER`].
//! Bounds: a socket of the guest has at most two here; how many there are is limited by the descriptors that
//! this process may have.

pub mod calls;
mod connect;
mod names;
mod packets;
mod publish;
mod questions;
mod rules;
mod udp;

use crate::policy::{Guard, Policy, Refused};
use crate::protocol::{Event, MAX_CONTROL, MAX_MESSAGE, Packet, Protocol, Request, decode, encode};
use connect::Connecting;
use names::Names;
use packets::Associations;
use platform::host::socket as messages;
use publish::Publications;
use rules::{Rules, is_resolver};
use rustix::event::Timespec;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// A port of the host that leads into the sandbox.
#[derive(Debug)]
pub struct Published {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The socket, bound, and for TCP listening; it does not block.
    pub socket: OwnedFd,
    /// Port in the sandbox.
    pub port: u16,
}

/// What a proxy is started with.
#[derive(Debug)]
pub struct Options {
    /// Its end of the socket for requests and events.
    pub control: OwnedFd,
    /// Its end of the socket for packets.
    pub packets: OwnedFd,
    /// The host's name servers, in the order in which they are asked.
    pub name_servers: Vec<SocketAddr>,
    /// Nobody but the name servers is reached.
    pub names_only: bool,
    /// The gateway's address stands for the host's loopback interface.
    pub host_loopback: bool,
    /// Ports that lead into the sandbox.
    pub published: Vec<Published>,
    /// Whom it may reach.
    pub policy: Policy,
    /// Called with what is refused, so often in a second at most.
    pub report: fn(&Refused<'_>),
}

/// Both sockets to the sentry.
#[derive(Debug)]
struct Sentry {
    control: OwnedFd,
    packets: OwnedFd,
    buffer: Vec<u8>,
}

/// What a watched descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Control,
    Packets,
    /// A connection that is being made for the sentry's socket.
    Connecting(u64),
    /// Packets of the sentry's socket, over IPv6 or not.
    Packet(u64, bool),
    /// A published port.
    Published(u64),
    /// A connection that is not given out yet.
    Gated(u64),
    /// Questions to a name server over TCP: the guest's side or the server's.
    Names(u64, bool),
}

/// The sentry's ids are below.
const MAX_ID: u64 = 1 << 59;

impl Token {
    fn pack(self) -> u64 {
        match self {
            Token::Control => 0,
            Token::Packets => 1,
            Token::Connecting(id) => id << 3 | 2,
            Token::Packet(id, v6) => id << 3 | 4 | u64::from(v6),
            Token::Published(index) => index << 3 | 3,
            Token::Gated(id) => id << 3 | 6,
            Token::Names(id, server) => id << 4 | u64::from(server) << 3 | 7,
        }
    }

    fn unpack(data: u64) -> Option<Token> {
        let rest = data >> 3;
        match data & 7 {
            0 => Some(Token::Control),
            1 => Some(Token::Packets),
            2 => Some(Token::Connecting(rest)),
            3 => Some(Token::Published(rest)),
            4 => Some(Token::Packet(rest, false)),
            5 => Some(Token::Packet(rest, true)),
            6 => Some(Token::Gated(rest)),
            7 => Some(Token::Names(rest >> 1, rest & 1 != 0)),
            _ => None,
        }
    }
}

/// The set of watched descriptors.
#[derive(Debug)]
struct Watch(OwnedFd);

impl Watch {
    fn add(
        &self,
        fd: BorrowedFd<'_>,
        token: Token,
        events: epoll::EventFlags,
    ) -> Result<(), Errno> {
        epoll::add(&self.0, fd, epoll::EventData::new_u64(token.pack()), events)
    }

    fn change(
        &self,
        fd: BorrowedFd<'_>,
        token: Token,
        events: epoll::EventFlags,
    ) -> Result<(), Errno> {
        epoll::modify(&self.0, fd, epoll::EventData::new_u64(token.pack()), events)
    }

    fn remove(&self, fd: BorrowedFd<'_>) {
        // It was added; there is nothing to be done otherwise.
        let _ = epoll::delete(&self.0, fd);
    }
}

/// A proxy.
#[derive(Debug)]
pub struct Server {
    sentry: Sentry,
    watch: Watch,
    rules: Rules,
    connecting: Connecting,
    associations: Associations,
    publications: Publications,
    names: Names,
}

impl Sentry {
    /// Tells of an event. Waits for the sentry to read when it does not keep up.
    fn tell(&self, event: &Event, fd: Option<BorrowedFd<'_>>) {
        let mut buffer = [0; 128];
        let Some(bytes) = encode(event, &mut buffer) else { return };
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        // When it is gone the loop ends by itself.
        let _ = messages::send(self.control.as_fd(), bytes, &fds);
    }

    /// Passes a packet on, or drops it when the sentry does not keep up.
    fn pass(&mut self, packet: &Packet<'_>) {
        let Some(bytes) = encode(packet, &mut self.buffer) else { return };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = rustix::net::send(&self.packets, bytes, flags);
    }
}

/// Time to `due` in whole milliseconds, as `epoll_wait(2)` takes it.
fn milliseconds(due: Instant) -> Timespec {
    let left = due.saturating_duration_since(Instant::now()).as_millis() as i64 + 1;
    Timespec { tv_sec: left / 1000, tv_nsec: left % 1000 * 1_000_000 }
}

impl Server {
    /// A proxy that has not begun.
    pub fn new(options: Options) -> Result<Self, Errno> {
        let watch = Watch(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let Options {
            control,
            packets,
            name_servers,
            names_only,
            host_loopback,
            published,
            policy,
            report,
        } = options;
        watch.add(control.as_fd(), Token::Control, epoll::EventFlags::IN)?;
        watch.add(packets.as_fd(), Token::Packets, epoll::EventFlags::IN)?;
        let publications = Publications::new(published, &watch)?;
        Ok(Self {
            sentry: Sentry { control, packets, buffer: vec![0; MAX_MESSAGE] },
            watch,
            names: Names::default(),
            rules: Rules::new(name_servers, names_only, host_loopback, Guard::new(policy, report)),
            connecting: Connecting::default(),
            associations: Associations::default(),
            publications,
        })
    }

    /// Serves until the sentry is gone or breaks the protocol.
    pub fn run(mut self) {
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let mut events = [const { MaybeUninit::uninit() }; 64];
            let due = self.rules.questions.next();
            let timeout = due.map(milliseconds);
            let ready = match epoll::wait(&self.watch.0, &mut events, timeout.as_ref()) {
                Ok((ready, _)) => ready,
                Err(Errno::INTR) => continue,
                Err(_) => return,
            };
            for event in ready {
                let goes_on = match Token::unpack(event.data.u64()) {
                    Some(Token::Control) => self.request(),
                    Some(Token::Packets) => self.outgoing(&mut buffer),
                    Some(Token::Connecting(id)) => {
                        let names = &mut self.names;
                        self.connecting.ended(id, &self.watch, &self.sentry, names);
                        true
                    }
                    Some(Token::Gated(id)) => {
                        // The other side speaks first, or has gone: that is no TLS.
                        self.connecting.release(id, &self.watch, &self.sentry);
                        true
                    }
                    Some(Token::Packet(id, v6)) => {
                        let flags = event.flags;
                        let (sentry, rules) = (&mut self.sentry, &mut self.rules);
                        let associations = &mut self.associations;
                        associations.incoming(id, v6, flags, sentry, rules, &mut buffer);
                        true
                    }
                    Some(Token::Published(index)) => {
                        self.publications.ready(index, &mut self.sentry, &mut buffer);
                        true
                    }
                    Some(Token::Names(id, _)) => {
                        self.names.ready(id, event.flags, &self.watch, &mut self.rules);
                        true
                    }
                    None => true,
                };
                if !goes_on {
                    return;
                }
            }
            let now = Instant::now();
            if self.rules.questions.next().is_some_and(|due| due <= now) {
                let associations = &mut self.associations;
                // A server that cannot be asked is as silent as one that does not answer.
                self.rules.questions.repeat(now, |out| {
                    let _ = associations.send(out, &self.watch);
                });
            }
        }
    }

    /// Takes one request. False at the end.
    fn request(&mut self) -> bool {
        let mut buffer = [0; MAX_CONTROL];
        let Ok((n, _)) = messages::receive(self.sentry.control.as_fd(), &mut buffer) else {
            return false;
        };
        let Some(request) = buffer.get(..n).and_then(decode::<Request>) else { return false };
        match request {
            Request::Connect { id, .. }
            | Request::Check { id, .. }
            | Request::First { id, .. }
            | Request::Close { id }
                if id >= MAX_ID =>
            {
                return false;
            }
            Request::Connect { id, to, program } => {
                match self.rules.admit(Protocol::Tcp, to, program) {
                    Ok(admitted) => {
                        let names = &mut self.names;
                        self.connecting.begin(id, admitted, &self.watch, &self.sentry, names);
                    }
                    Err(errno) => self.sentry.tell(&Event::Failed { id, errno }, None),
                }
            }
            Request::Check { id, protocol, port, to, program } => {
                let answers = protocol == Protocol::Udp && self.publications.knows(port, to);
                let refusal = || self.rules.admit(protocol, to, program).err();
                // A closed port is told of only when something is sent to it.
                let errno = if answers { None } else { refusal() };
                let errno = errno.filter(|errno| *errno != libc::ECONNREFUSED).unwrap_or(0);
                self.sentry.tell(&Event::Checked { id, errno }, None);
            }
            Request::First { id, data } => {
                self.connecting.first(id, &data, &self.watch, &self.sentry, &mut self.rules);
            }
            Request::Close { id } => {
                self.connecting.give_up(id, &self.watch);
                self.associations.close(id);
                self.rules.questions.close(id);
            }
        }
        true
    }

    /// Takes what packets the sentry has sent, up to a number. False at the end.
    fn outgoing(&mut self, buffer: &mut [u8]) -> bool {
        /// Packets before others have their turn.
        const BATCH: usize = 32;
        for _ in 0..BATCH {
            let n = match rustix::net::recv(&self.sentry.packets, &mut *buffer, RecvFlags::DONTWAIT)
            {
                Ok((0, _)) => return false,
                Ok((n, _)) => n,
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => continue,
                Err(_) => return false,
            };
            let bytes = buffer.get(..n).unwrap_or_default();
            let Some(Packet::Data { id, protocol, port, peer, ttl, tos, data }) = decode(bytes)
            else {
                return false;
            };
            if id >= MAX_ID || protocol == Protocol::Tcp {
                return false;
            }
            if protocol == Protocol::Udp && self.publications.answer(port, peer, data) {
                continue;
            }
            if let Some(refusal) = self.rules.question(protocol, peer, data) {
                let data = &refusal[..];
                self.sentry.pass(&Packet::Data { id, protocol, port, peer, ttl, tos, data });
                continue;
            }
            // The program has been asked about and told: this is not reported again.
            let host = match self.rules.host(protocol, peer) {
                Ok(host) => host,
                Err(errno) => {
                    // "Port unreachable", of ICMP.
                    let (origin, offender) = ((2, 3, 3), Some(peer.ip()));
                    self.sentry.pass(&Packet::Error { id, peer, errno, origin, offender, data });
                    continue;
                }
            };
            let to = packets::Peer { guest: peer, host };
            let mut out = packets::Outgoing { id, protocol, to, ttl, tos, data };
            if protocol == Protocol::Udp && is_resolver(peer) {
                self.rules.questions.ask(&mut out, Instant::now());
            }
            if let Err(error) = self.associations.send(&out, &self.watch) {
                let now = Instant::now();
                let asked = is_resolver(peer) && self.rules.questions.failed(id, out.to.host, now);
                if !asked {
                    out.failed(error, &mut self.sentry);
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
