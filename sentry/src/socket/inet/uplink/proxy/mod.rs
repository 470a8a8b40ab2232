//! `--network=user`: no interface at all, but a process outside that makes ordinary sockets of the host
//! ([`netproxy`]).
//!
//! The guest sees an interface with an address, a gateway and a name server. Its TCP connections to other
//! machines are [`stream`]s on descriptors that the proxy has connected; datagrams go through the proxy, see
//! [`crate::socket::inet::dgram::proxied`]. Of what happens three threads tell the sockets: one takes the
//! proxy's events, one its packets, one watches the descriptors.
//!
//! Locks: all of them leaves; none is held during a host call that could wait.

pub mod stream;

use super::super::Net;
use super::super::addr::Endpoint;
use super::super::dgram::DgramSocket;
use super::super::interface::{Address, IFF_RUNNING, IFF_UP, Interface};
use super::egress::program;
use crate::errno::{Errno, Result};
use crate::io::from_host;
use crate::socket::inet::stream::StreamSocket;
use crate::sync::{Mutex, rank};
use crate::wait::EventMask;
use netproxy::Client;
use netproxy::address::{GATEWAY_V4, GATEWAY_V6, GUEST_V4, GUEST_V6};
use netproxy::protocol::{Event, Packet, Protocol, Request};
use netstack::{Cidr, IfaceId, RouteEntry};
use platform::host::thread;
use platform::host::watch::Watch;
use rustc_hash::FxHashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use stream::ProxiedStream;

/// The interface's number, after the loopback interface.
const DEVICE: u32 = 2;
/// Largest packet, in bytes: nothing is cut, and programs size their buffers by it.
const MTU: u32 = 65_520;
/// Stack of each thread, in bytes.
const STACK: usize = 256 << 10;

type Table<T> = Mutex<FxHashMap<u64, T>, { rank::LEAF }>;

/// What a sandbox with `--network=user` is given.
#[derive(Debug)]
pub struct UserNetwork {
    /// The sentry's end of the socket for requests and events.
    pub control: OwnedFd,
    /// The sentry's end of the socket for packets.
    pub packets: OwnedFd,
    /// The host reaches others over IPv6.
    pub v6: bool,
}

/// The way out through a proxy.
pub struct Proxy {
    client: Client,
    v6: bool,
    net: Weak<Net>,
    next: AtomicU64,
    gone: AtomicBool,
    streams: Table<Weak<ProxiedStream>>,
    datagrams: Table<Weak<DgramSocket>>,
    questions: Table<SyncSender<i32>>,
    watch: Watch,
}

/// As the proxy writes it.
pub fn socket_addr(at: Endpoint) -> SocketAddr {
    SocketAddr::new(at.ip, at.port)
}

/// As sockets here write it.
fn endpoint(at: SocketAddr) -> Endpoint {
    Endpoint::new(at.ip(), at.port())
}

impl Proxy {
    /// Gives `net` its interface, and starts to listen to the proxy.
    pub fn start(net: &Arc<Net>, given: UserNetwork) -> Result<Arc<Proxy>> {
        let v6 = given.v6;
        let mut addresses = vec![Address::new(GUEST_V4.0.into(), GUEST_V4.1)];
        if v6 {
            addresses.push(Address::new(GUEST_V6.0.into(), GUEST_V6.1));
        }
        net.interfaces.write().push(Interface {
            index: DEVICE,
            name: b"eth0".to_vec(),
            flags: IFF_UP | IFF_RUNNING | super::IFF_ETHERNET,
            mtu: MTU,
            kind: super::ARPHRD_ETHER,
            // Locally administered, with the address in it.
            mac: [0x52, 0x55, 0x0a, 0x00, 0x02, 0x64],
            addresses,
            ..Interface::default()
        });
        Self::serve(net, given)
    }

    /// Starts to listen to the proxy.
    pub fn serve(net: &Arc<Net>, given: UserNetwork) -> Result<Arc<Proxy>> {
        let UserNetwork { control, packets, v6 } = given;
        let proxy = Arc::new(Proxy {
            client: Client::new(control, packets),
            v6,
            net: Arc::downgrade(net),
            next: AtomicU64::new(1),
            gone: AtomicBool::new(false),
            streams: Table::default(),
            datagrams: Table::default(),
            questions: Table::default(),
            watch: Watch::new().map_err(from_host)?,
        });
        let threads: [(&str, fn(&Proxy)); 3] = [
            ("net-events", Proxy::take_events),
            ("net-packets", Proxy::take_packets),
            ("net-watch", Proxy::watch_sockets),
        ];
        for (name, body) in threads {
            let proxy = proxy.clone();
            thread::spawn(name, STACK, move || body(&proxy)).map_err(from_host)?;
        }
        Ok(proxy)
    }

    /// Source address and interface for a destination; `device` is the interface that was asked for, or 0.
    /// `ENETUNREACH`.
    pub fn route(&self, to: IpAddr, device: u32) -> Result<(IpAddr, u32)> {
        if (device != 0 && device != DEVICE) || to.is_multicast() {
            return Err(Errno::ENETUNREACH);
        }
        match to {
            IpAddr::V4(_) => Ok((GUEST_V4.0.into(), DEVICE)),
            IpAddr::V6(_) if self.v6 => Ok((GUEST_V6.0.into(), DEVICE)),
            IpAddr::V6(_) => Err(Errno::ENETUNREACH),
        }
    }

    /// The routes over the gateway.
    pub fn routes(&self) -> Vec<RouteEntry> {
        let v4 = (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(GATEWAY_V4));
        let v6 = (IpAddr::from(Ipv6Addr::UNSPECIFIED), IpAddr::from(GATEWAY_V6));
        let all = [Some(v4), self.v6.then_some(v6)];
        let route = |(to, via)| {
            let iface = IfaceId(DEVICE);
            let dst = Cidr::new(to, 0)?;
            Some(RouteEntry { dst, via: Some(via), iface, source: None, metric: 0, mtu: None })
        };
        all.into_iter().flatten().filter_map(route).collect()
    }

    /// A name for a socket, which no other gets.
    pub fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn ask(&self, request: &Request) -> Result<()> {
        self.client.request(request).map_err(|_| Errno::ENETDOWN)
    }

    /// Has a connection made for `stream`, which is told how that ended.
    fn connect(&self, stream: &Arc<ProxiedStream>, to: Endpoint) -> Result<()> {
        let id = stream.id();
        self.streams.lock().insert(id, Arc::downgrade(stream));
        let request = Request::Connect { id, to: socket_addr(to), program: program() };
        let asked = self.ask(&request);
        // The thread that tells of the end looks after it has said that there is one.
        if asked.is_err() || self.gone.load(Ordering::SeqCst) {
            self.streams.lock().remove(&id);
            return Err(Errno::ENETDOWN);
        }
        Ok(())
    }

    /// Tells `stream` of changes of its descriptor.
    fn watch(&self, stream: &Arc<ProxiedStream>, fd: BorrowedFd<'_>) -> Result<()> {
        let id = stream.id();
        self.streams.lock().insert(id, Arc::downgrade(stream));
        self.watch.add(fd, id).map_err(from_host)
    }

    /// A stream is gone; `known`: the proxy has something of it.
    fn forget_stream(&self, id: u64, known: bool) {
        self.streams.lock().remove(&id);
        if known {
            // Without a proxy there is nothing to give up.
            let _ = self.ask(&Request::Close { id });
        }
    }

    /// Packets for `id` go to `socket`.
    pub fn enter_datagrams(&self, id: u64, socket: &Weak<DgramSocket>) {
        self.datagrams.lock().insert(id, socket.clone());
    }

    /// A datagram socket is gone.
    pub fn forget_datagrams(&self, id: u64) {
        self.datagrams.lock().remove(&id);
        // Without a proxy there is nothing to close.
        let _ = self.ask(&Request::Close { id });
    }

    /// Asks whether packets may go from `port` to `to`, and waits for the answer.
    pub fn check(&self, protocol: Protocol, port: u16, to: Endpoint) -> Result<()> {
        let (sender, answer) = sync_channel(1);
        let id = self.next_id();
        self.questions.lock().insert(id, sender);
        let request =
            Request::Check { id, protocol, port, to: socket_addr(to), program: program() };
        let asked = self.ask(&request);
        if asked.is_err() || self.gone.load(Ordering::SeqCst) {
            self.questions.lock().remove(&id);
            return Err(Errno::ENETDOWN);
        }
        match answer.recv() {
            Ok(0) => Ok(()),
            Ok(errno) => Err(Errno::from_raw(errno)),
            Err(_) => Err(Errno::ENETDOWN),
        }
    }

    /// Sends a packet.
    pub fn send(&self, packet: &Packet<'_>) -> Result<()> {
        self.client.send(packet).map_err(|e| match e {
            platform::host::Errno::EMSGSIZE => Errno::EMSGSIZE,
            _ => Errno::ENETDOWN,
        })
    }

    fn stream(&self, id: u64) -> Option<Arc<ProxiedStream>> {
        self.streams.lock().get(&id).and_then(Weak::upgrade)
    }

    /// Takes the proxy's events, to its end.
    fn take_events(&self) {
        while let Some((event, fd)) = self.client.event() {
            match event {
                Event::Connected { id, sent } => {
                    let (Some(stream), Some(fd)) = (self.stream(id), fd) else { continue };
                    stream.connected(fd, sent);
                }
                Event::Gated { id } => {
                    if let Some(stream) = self.stream(id) {
                        stream.gated();
                    }
                }
                Event::More { id } => {
                    if let Some(stream) = self.stream(id) {
                        stream.more();
                    }
                }
                Event::Failed { id, errno } => {
                    if let Some(stream) = self.stream(id) {
                        stream.failed(Errno::from_raw(errno));
                    }
                }
                Event::Checked { id, errno } => {
                    let asker = self.questions.lock().remove(&id);
                    // Nobody waits for it when the task has ended.
                    let _ = asker.map(|asker| asker.send(errno));
                }
                Event::Incoming { port, from } => {
                    let (Some(fd), Some(net)) = (fd, self.net.upgrade()) else { continue };
                    StreamSocket::deliver(&net, port, endpoint(from), fd);
                }
            }
        }
        self.gone.store(true, Ordering::SeqCst);
        eprintln!(
            "runsc: the network proxy has died; the sandbox reaches nobody through it any more"
        );
        self.questions.lock().clear();
        let streams: Vec<_> = self.streams.lock().values().filter_map(Weak::upgrade).collect();
        for stream in streams {
            stream.failed(Errno::ENETDOWN);
        }
    }

    /// Takes packets, to the proxy's end.
    fn take_packets(&self) {
        let mut buffer = Vec::new();
        while self.client.packet(&mut buffer, |packet| self.packet(packet)) {}
    }

    fn packet(&self, packet: Packet<'_>) {
        let socket = |id| self.datagrams.lock().get(&id).and_then(Weak::upgrade);
        match packet {
            Packet::Data { id: 0, port, peer, .. } => {
                let Some(net) = self.net.upgrade() else { return };
                let from = endpoint(peer);
                let to = Endpoint { ip: own_address(from.ip), port };
                if let Some(socket) = net.udp.find(to, from, DEVICE, |_| true) {
                    socket.take_packet(&packet);
                }
            }
            Packet::Data { id, .. } | Packet::Error { id, .. } => {
                if let Some(socket) = socket(id) {
                    socket.take_packet(&packet);
                }
            }
        }
    }

    /// Tells streams of what happens on their descriptors.
    fn watch_sockets(&self) {
        loop {
            let waited = self.watch.wait(|id, events| {
                if let Some(stream) = self.stream(id) {
                    stream.changed(events_of(events));
                }
            });
            match waited {
                Ok(()) | Err(platform::host::Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// The guest's own address for talking to `peer`.
pub fn own_address(peer: IpAddr) -> IpAddr {
    if peer.is_ipv4() { GUEST_V4.0.into() } else { GUEST_V6.0.into() }
}

/// The interface of such a network.
pub fn device() -> u32 {
    DEVICE
}

/// Events of `poll(2)` on the host.
pub fn events_of(bits: u32) -> EventMask {
    let mut events = EventMask::from_bits_truncate(bits);
    if events.contains(EventMask::IN) {
        events |= EventMask::READABLE;
    }
    if events.contains(EventMask::OUT) {
        events |= EventMask::WRITABLE;
    }
    events
}

/// What `fd` has now.
pub fn poll(fd: &OwnedFd) -> EventMask {
    let wanted = libc::POLLIN | libc::POLLOUT | libc::POLLPRI | libc::POLLRDHUP;
    let found = platform::host::poll::poll_now(fd.as_fd(), wanted);
    events_of(u32::from(found.unwrap_or(libc::POLLERR) as u16))
}
