//! A network: interfaces with their addresses, port tables, settings and counters.
//!
//! There is one for each sandbox. Everything that a socket wants to know of its surroundings it asks
//! here, so that a network of one's own (`CLONE_NEWNET`) is another [`Net`] and nothing else.

use super::addr::Endpoint;
use super::dgram::DgramSocket;
use super::interface::{Interface, Interfaces, LOOPBACK};
use super::multicast::Groups;
use super::port::Ports;
use super::stream::StreamSocket;
use super::stream::time_wait::TimeWait;
use super::table::Connections;
use super::uplink::Uplink;
use super::uplink::egress::Egress;
use super::uplink::names::NameServer;
use super::wire::Wire;
use crate::errno::{Errno, Result};
use crate::kernel::credentials::CAP_NET_RAW;
use crate::kernel::{CurrentTask, Task};
use crate::socket::netlink::notify::Listeners;
use crate::socket::netlink::nsid::Numbers;
use crate::sync::{Mutex, RwLock, rank};
use crate::time::TimerTarget;
use rustc_hash::FxHashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// A network.
pub struct Net {
    /// TCP ports.
    pub tcp: Arc<Ports<StreamSocket>>,
    /// TCP connections.
    pub connections: Arc<Connections<StreamSocket>>,
    /// What is left of TCP connections that are over.
    pub time_wait: Arc<TimeWait>,
    /// UDP ports.
    pub udp: Arc<Ports<DgramSocket>>,
    /// UDP-Lite ports.
    pub udp_lite: Arc<Ports<DgramSocket>>,
    /// ICMP identifiers of echo sockets, and of those for IPv6.
    pub echo: [Arc<Ports<DgramSocket>>; 2],
    /// Multicast groups that sockets are in.
    pub groups: Groups,
    /// Interfaces.
    pub interfaces: RwLock<Interfaces, { rank::LEAF }>,
    /// Settings.
    pub settings: Settings,
    /// Counters of `/proc/net/snmp`.
    pub counters: Counters,
    /// Port ids of netlink sockets, by protocol.
    pub netlink_ports: Mutex<FxHashSet<(i32, u32)>, { rank::LEAF }>,
    /// Who looks at packets.
    pub wire: Wire,
    /// The way to other machines, if there is one.
    pub uplink: OnceLock<Uplink>,
    /// Who may be reached by it, where that is limited here and not by a proxy.
    pub egress: OnceLock<Arc<Egress>>,
    /// A name server of the host's on the loopback interface.
    pub names: OnceLock<NameServer>,
    /// The packet filter.
    pub filter: netstack::filter::Filter,
    /// Tables of iptables, for IPv4 and IPv6.
    pub xtables: [Mutex<crate::socket::xtables::Tables, { rank::LEAF }>; 2],
    /// What nf_tables has loaded.
    pub nftables: Mutex<crate::socket::netlink::nft::model::State, { rank::LEAF }>,
    /// What it calls other networks.
    pub numbers: Numbers,
    /// Who wants to hear of changes.
    pub listeners: Listeners,
    /// Held by who makes a stack or an interface.
    pub building: Mutex<(), { rank::DIRECTORY }>,
    /// The stack was made for interfaces of the guest's.
    pub made_stack: AtomicBool,
    cookies: AtomicU64,
}

/// What `/proc/sys/net/ipv4` can change.
pub struct Settings {
    /// `ip_local_port_range`: first and last, in the low and high half.
    pub port_range: Arc<AtomicU32>,
    /// `ip_unprivileged_port_start`.
    pub unprivileged: AtomicI32,
    /// `ping_group_range`: first and last group that may open echo sockets.
    pub ping_groups: [AtomicU32; 2],
    /// `ip_default_ttl`.
    pub ttl: AtomicI32,
    /// `ip_nonlocal_bind`.
    pub nonlocal_bind: AtomicI32,
    /// `ip_forward`.
    pub forward: AtomicI32,
    /// `tcp_keepalive_time`, `tcp_keepalive_intvl` (seconds) and `tcp_keepalive_probes`.
    pub keepalive: [AtomicI32; 3],
    /// `tcp_fin_timeout`, seconds.
    pub fin_timeout: AtomicI32,
    /// `tcp_syn_retries`.
    pub syn_retries: AtomicI32,
    /// `tcp_max_syn_backlog`.
    pub syn_backlog: AtomicI32,
    /// `tcp_syncookies`.
    pub syncookies: AtomicI32,
    /// `net.core.somaxconn`: the longest backlog of a listener.
    pub somaxconn: AtomicU32,
}

/// Packets and errors, as far as there are any without packets.
#[derive(Default)]
#[expect(missing_docs, reason = "the names are those of RFC 1213")]
pub struct Counters {
    pub tcp_active_opens: AtomicU64,
    pub tcp_passive_opens: AtomicU64,
    pub tcp_attempt_fails: AtomicU64,
    pub tcp_estab_resets: AtomicU64,
    pub tcp_segments: AtomicU64,
    pub tcp_resets: AtomicU64,
    pub listen_overflows: AtomicU64,
    /// Of IPv4 and of IPv6.
    pub udp: [UdpCounters; 2],
    /// The same of UDP-Lite.
    pub udp_lite: [UdpCounters; 2],
    pub icmp_echoes: AtomicU64,
    pub icmp_unreachable: AtomicU64,
    /// Bytes that went over the loopback interface.
    pub lo_bytes: AtomicU64,
    /// Packets that went over the loopback interface.
    pub lo_packets: AtomicU64,
    /// How many of them were IPv6's, and their bytes.
    pub lo_v6: [AtomicU64; 2],
}

/// Datagrams.
#[derive(Default)]
#[expect(missing_docs, reason = "the names are those of RFC 1213")]
pub struct UdpCounters {
    pub received: AtomicU64,
    pub sent: AtomicU64,
    pub no_ports: AtomicU64,
    pub buffer_errors: AtomicU64,
    /// UDP-Lite: less of them was covered by the checksum than the receiver wanted.
    pub uncovered: AtomicU64,
}

impl Counters {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// The counters of datagrams over IPv6 (`true`) or IPv4.
    pub fn udp(&self, v6: bool) -> &UdpCounters {
        let [v4, six] = &self.udp;
        if v6 { six } else { v4 }
    }

    /// Those of UDP-Lite.
    pub fn udp_lite(&self, v6: bool) -> &UdpCounters {
        let [v4, six] = &self.udp_lite;
        if v6 { six } else { v4 }
    }

    /// Notes a packet with `bytes` of data on the loopback interface.
    pub fn packet(&self, bytes: usize, v6: bool) {
        Self::add(&self.lo_packets, 1);
        Self::add(&self.lo_bytes, bytes);
        if v6 {
            let [packets, octets] = &self.lo_v6;
            Self::add(packets, 1);
            Self::add(octets, bytes);
        }
    }

    /// Notes a segment of TCP with `bytes` of data on the loopback interface.
    pub fn segment(&self, bytes: usize, v6: bool) {
        Self::add(&self.tcp_segments, 1);
        self.packet(bytes, v6);
    }
}

/// How a destination is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The address to send from.
    pub source: IpAddr,
    /// Index of the interface.
    pub device: u32,
    /// It is this machine, or a group that this machine can be in.
    pub local: bool,
}

impl Drop for Net {
    fn drop(&mut self) {
        super::links::network_gone(self);
    }
}

impl Net {
    /// A network with a loopback interface and nothing else. `up`: the interface has its addresses.
    pub fn new(up: bool) -> Arc<Net> {
        let range = Arc::new(AtomicU32::new(32768 | 60999 << 16));
        let number = AtomicI32::new;
        Arc::new(Net {
            tcp: Ports::new(true, range.clone()),
            connections: Connections::new(),
            time_wait: TimeWait::new(),
            udp: Ports::new(false, range.clone()),
            udp_lite: Ports::new(false, range.clone()),
            echo: [0; 2].map(|_| Ports::new(false, Arc::new(AtomicU32::new(1 | 65535 << 16)))),
            groups: Groups::default(),
            interfaces: RwLock::new(Interfaces::with_loopback(up)),
            settings: Settings {
                port_range: range,
                unprivileged: number(1024),
                ping_groups: [AtomicU32::new(0), AtomicU32::new(i32::MAX as u32)],
                ttl: number(64),
                nonlocal_bind: number(0),
                forward: number(0),
                keepalive: [number(7200), number(75), number(9)],
                fin_timeout: number(60),
                syn_retries: number(6),
                syn_backlog: number(1024),
                syncookies: number(1),
                somaxconn: AtomicU32::new(4096),
            },
            counters: Counters::default(),
            netlink_ports: Mutex::default(),
            wire: Wire::default(),
            uplink: OnceLock::new(),
            egress: OnceLock::new(),
            names: OnceLock::new(),
            filter: netstack::filter::Filter::default(),
            xtables: Default::default(),
            nftables: Mutex::default(),
            numbers: Numbers::default(),
            listeners: Listeners::default(),
            building: Mutex::default(),
            made_stack: AtomicBool::new(false),
            cookies: AtomicU64::new(1),
        })
    }

    /// The network of a task.
    pub fn of(task: &Task) -> Arc<Net> {
        task.namespaces().net.net().clone()
    }

    /// True if a task has a capability over its network. Nobody may make packets of his own where an egress policy
    /// is to be kept.
    pub fn capable(task: &Task, cap: u32) -> bool {
        if cap == CAP_NET_RAW && task.namespaces().net.net().egress.get().is_some() {
            return false;
        }
        task.creds().has_in(task.namespaces().net.user_ns(), cap)
    }

    /// Calls `target` in so many nanoseconds. Only tasks may ask for that.
    pub fn after(&self, nanos: u64, target: Weak<dyn TimerTarget>) {
        if let Some(task) = crate::kernel::current() {
            let kernel = task.kernel();
            kernel.timers.set(kernel.time.monotonic().saturating_add(nanos), target, 0);
        }
    }

    /// A number that no other socket gets (`SO_COOKIE`).
    pub fn next_cookie(&self) -> u64 {
        self.cookies.fetch_add(1, Ordering::Relaxed)
    }

    /// True for addresses of this machine.
    pub fn is_local(&self, ip: IpAddr) -> bool {
        self.interfaces.read().owner_of(ip).is_some()
    }

    /// True for addresses that a socket may be bound to: those of this machine, groups, broadcasts.
    pub fn may_bind(&self, ip: IpAddr) -> bool {
        ip.is_unspecified()
            || ip.is_multicast()
            || self.is_local(ip)
            || self.is_broadcast(ip)
            || self.settings.nonlocal_bind.load(Ordering::Relaxed) != 0
    }

    /// True for broadcast addresses.
    pub fn is_broadcast(&self, ip: IpAddr) -> bool {
        let IpAddr::V4(ip) = ip else { return false };
        ip == Ipv4Addr::BROADCAST || self.interfaces.read().broadcast_of(ip).is_some()
    }

    /// How to reach `to`. `device` is the interface that was asked for, or 0. `ENETUNREACH`.
    pub fn route(&self, to: IpAddr, device: u32) -> Result<Route> {
        let interfaces = self.interfaces.read();
        let owner = match to {
            IpAddr::V4(ip) if !ip.is_loopback() => {
                interfaces.owner_of(to).or_else(|| interfaces.broadcast_of(ip))
            }
            _ => interfaces.owner_of(to),
        };
        if let Some(owner) = owner {
            // Its own addresses a machine reaches through the loopback interface.
            let device = if owner.is_loopback() { owner.index } else { LOOPBACK };
            let source = match to {
                _ if interfaces.is_exactly(to) => to,
                _ => owner.source_for(to).ok_or(Errno::ENETUNREACH)?,
            };
            return Ok(Route { source, device, local: true });
        }
        if to.is_multicast() && device != 0 {
            let via = interfaces.get(device).ok_or(Errno::ENODEV)?;
            // Linux has no route to IPv6 groups over the loopback interface.
            if via.is_loopback() && to.is_ipv6() {
                return Err(Errno::ENETUNREACH);
            }
            let source = via.source_for(to).ok_or(Errno::ENETUNREACH)?;
            let local = via.is_loopback() || self.uplink.get().is_none();
            return Ok(Route { source, device, local });
        }
        drop(interfaces);
        let uplink = self.uplink.get().ok_or(Errno::ENETUNREACH)?;
        let (source, device) = uplink.route(self, to, device)?;
        Ok(Route { source, device, local: false })
    }

    /// The name server of the host's, if `to` is its address.
    pub fn name_server(&self, to: Endpoint) -> Option<&NameServer> {
        self.names.get().filter(|names| names.address() == to)
    }

    /// The index of a named interface.
    pub fn device_named(&self, name: &[u8]) -> Option<u32> {
        self.interfaces.read().named(name).map(|i| i.index)
    }

    /// What `f` makes of an interface.
    pub fn with_device<T>(&self, index: u32, f: impl FnOnce(&Interface) -> T) -> Option<T> {
        self.interfaces.read().get(index).map(f)
    }

    /// True if a task may bind to a port (`ip_unprivileged_port_start`).
    pub fn may_use_port(&self, t: &CurrentTask, port: u16) -> bool {
        port == 0
            || i32::from(port) >= self.settings.unprivileged.load(Ordering::Relaxed)
            || Net::capable(t, crate::kernel::credentials::CAP_NET_BIND_SERVICE)
    }

    /// The address from which a socket bound to `bound` reaches `to`, and over which interface.
    pub fn source(&self, bound: IpAddr, to: Endpoint, device: u32) -> Result<(IpAddr, Route)> {
        let route = self.route(to.ip, device)?;
        Ok((if bound.is_unspecified() { route.source } else { bound }, route))
    }
}
