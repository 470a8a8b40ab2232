//! `/proc/PID/net`: the network of a process (`proc_pid_net(5)`).

use super::{Subject, counters};
use crate::errno::Result;
use crate::fs::pseudo::{Node, directory};
use crate::socket::inet::interface::{IFF_UP, Interface};
use crate::socket::inet::{AF_INET, AF_INET6, Net};
use crate::socket::inet::{filter, listing};
use crate::socket::{unix, xtables};
use netstack::filter::conntrack;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a file shows of a network.
type Show = fn(&Net, &Subject) -> String;

const FILES: &[(&str, Show)] = &[
    ("arp", |_, _| ARP.into()),
    ("dev", |net, _| dev(net)),
    ("dev_mcast", |_, _| String::new()),
    ("icmp", |_, _| RAW.into()),
    ("if_inet6", |net, _| if_inet6(net)),
    ("ip6_tables_matches", |_, _| xtables::proc_matches(true)),
    ("ip6_tables_names", |net, _| xtables::proc_names(net, true)),
    ("ip6_tables_targets", |_, _| xtables::proc_targets(true)),
    ("ip_tables_matches", |_, _| xtables::proc_matches(false)),
    ("ip_tables_names", |net, _| xtables::proc_names(net, false)),
    ("ip_tables_targets", |_, _| xtables::proc_targets(false)),
    ("igmp", |net, _| igmp(net)),
    ("igmp6", |net, _| igmp6(net)),
    ("ipv6_route", |net, _| ipv6_route(net)),
    ("netlink", |_, _| NETLINK.into()),
    ("netstat", |net, _| counters::netstat(net)),
    ("nf_conntrack", |net, _| nf_conntrack(net)),
    ("packet", |net, s| packet(net, s)),
    ("protocols", |net, _| protocols(net)),
    ("raw", |net, s| RAW.to_owned() + &listing::proc_raw(net, AF_INET, &|uid| s.show_uid(uid))),
    ("raw6", |net, s| RAW6.to_owned() + &listing::proc_raw(net, AF_INET6, &|uid| s.show_uid(uid))),
    ("route", |net, _| ipv4_route(net)),
    ("snmp", |net, _| counters::snmp(net)),
    ("snmp6", |net, _| counters::snmp6(net)),
    ("sockstat", |net, _| counters::sockstat(net)),
    ("sockstat6", |net, _| counters::sockstat6(net)),
    ("tcp", |net, s| listing::proc_tcp(net, AF_INET, &|uid| s.show_uid(uid))),
    ("tcp6", |net, s| listing::proc_tcp(net, AF_INET6, &|uid| s.show_uid(uid))),
    ("udp", |net, s| listing::proc_udp(&listing::udp(net), AF_INET, &|uid| s.show_uid(uid))),
    ("udp6", |net, s| listing::proc_udp(&listing::udp(net), AF_INET6, &|uid| s.show_uid(uid))),
    ("udplite", |net, s| {
        listing::proc_udp(&listing::udp_lite(net), AF_INET, &|uid| s.show_uid(uid))
    }),
    ("udplite6", |net, s| {
        listing::proc_udp(&listing::udp_lite(net), AF_INET6, &|uid| s.show_uid(uid))
    }),
    ("unix", |_, _| unix::proc_net_unix()),
];

/// The directory.
pub fn directory_of(subject: &Subject) -> Node {
    let node = |show: Show| Node::Text(Arc::new(File { subject: subject.clone(), show }));
    directory(FILES.iter().map(|(name, show)| (*name, node(*show))).collect())
}

struct File {
    subject: Subject,
    show: Show,
}

impl crate::fs::pseudo::Text for File {
    fn read(&self) -> Result<Vec<u8>> {
        let net = Net::of(&*self.subject.task()?);
        Ok((self.show)(&net, &self.subject).into_bytes())
    }
}

fn packet(net: &Net, subject: &Subject) -> String {
    let mut out = String::from("sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n");
    let sockets = net.wire.taps.all();
    out.extend(sockets.iter().map(|s| s.listed(&|uid| subject.show_uid(uid))));
    out
}

const ARP: &str =
    "IP address       HW type     Flags       HW address            Mask     Device\n";
const NETLINK: &str =
    "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n";
const RAW: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  \
                   timeout inode ref pointer drops\n";
const RAW6: &str = "  sl  local_address                         remote_address                        st \
                    tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
const ROUTE: &str =
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
const DEV: &str = "Inter-|   Receive                                                |  Transmit\n \
     face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo \
     colls carrier compressed\n";

fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn name_of(interface: &Interface) -> String {
    String::from_utf8_lossy(&interface.name).into_owned()
}

fn nf_conntrack(net: &Net) -> String {
    let now = filter::now();
    let all = net.filter.conntrack.all(now);
    all.iter().map(|entry| conntrack::line(entry, now) + "\n").collect()
}

fn dev(net: &Net) -> String {
    let mut out = DEV.to_string();
    let (bytes, packets) = (value(&net.counters.lo_bytes), value(&net.counters.lo_packets));
    for i in net.interfaces.read().iter() {
        let (bytes, packets) = if i.is_loopback() { (bytes, packets) } else { (0, 0) };
        let _ = writeln!(
            out,
            "{:>6}: {bytes:7} {packets:7}    0    0    0     0          0         0 {bytes:8} \
             {packets:7}    0    0    0     0       0          0",
            name_of(i)
        );
    }
    out
}

fn if_inet6(net: &Net) -> String {
    let mut out = String::new();
    for i in net.interfaces.read().iter() {
        for a in &i.addresses {
            let IpAddr::V6(ip) = a.ip else { continue };
            let scope = if ip.is_loopback() {
                0x10
            } else if ip.is_unicast_link_local() {
                0x20
            } else {
                0
            };
            let octets: String = ip.octets().iter().map(|b| format!("{b:02x}")).collect();
            let _ = writeln!(
                out,
                "{octets} {:02x} {:02x} {scope:02x} 80 {:>8}",
                i.index,
                a.prefix,
                name_of(i)
            );
        }
    }
    out
}

/// The main table: routes that were given, and networks on a link.
fn ipv4_route(net: &Net) -> String {
    // `RTF_UP`, `RTF_GATEWAY`
    const UP: u32 = 1;
    const GATEWAY: u32 = 2;
    let interfaces = net.interfaces.read();
    let mut out = format!("{ROUTE:127}\n");
    let mut line = |device: u32, to: u32, via: Option<u32>, metric: u32, mask: u32| {
        let Some(interface) = interfaces.get(device) else { return };
        let flags = UP | if via.is_some() { GATEWAY } else { 0 };
        let [to, via, mask] = [to, via.unwrap_or(0), mask].map(u32::swap_bytes);
        let text = format!(
            "{}\t{to:08X}\t{via:08X}\t{flags:04X}\t0\t0\t{metric}\t{mask:08X}\t0\t0\t0",
            String::from_utf8_lossy(&interface.name)
        );
        let _ = writeln!(out, "{text:127}");
    };
    let mask = |prefix: u8| u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    let v4 = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => Some(u32::from(ip)),
        IpAddr::V6(_) => None,
    };
    let given = net.uplink.get().map(|uplink| uplink.given_routes(&interfaces));
    for route in given.unwrap_or_default() {
        let Some(to) = v4(route.dst.addr()) else { continue };
        let mask = mask(route.dst.prefix_len());
        line(route.iface.0, to & mask, route.via.and_then(v4), route.metric, mask);
    }
    for i in interfaces.iter().filter(|i| i.flags & IFF_UP != 0 && !i.is_loopback()) {
        for a in &i.addresses {
            if let Some(ip) = v4(a.ip) {
                line(i.index, ip & a.mask(), None, 0, a.mask());
            }
        }
    }
    out
}

/// Loopback routes: what is sent to a machine's own addresses.
fn ipv6_route(net: &Net) -> String {
    let mut out = String::new();
    let none = "0".repeat(32);
    for i in net.interfaces.read().iter().filter(|i| i.flags & IFF_UP != 0) {
        for a in &i.addresses {
            let IpAddr::V6(ip) = a.ip else { continue };
            let octets: String = ip.octets().iter().map(|b| format!("{b:02x}")).collect();
            for (metric, flags) in [(256, 1), (0, 0x8020_0001u32)] {
                let _ = writeln!(
                    out,
                    "{octets} 80 {none} 00 {none} {metric:08x} 00000001 00000000 {flags:08x} {:>8}",
                    name_of(i)
                );
            }
        }
    }
    out
}

fn protocols(net: &Net) -> String {
    let counts = [
        ("UDPLITEv6", listing::udp_lite(net).iter().filter(|s| s.family == AF_INET6).count()),
        ("UDPv6", listing::udp(net).iter().filter(|s| s.family == AF_INET6).count()),
        ("TCPv6", listing::tcp(net).iter().filter(|s| s.family == AF_INET6).count()),
        ("UDP-Lite", listing::udp_lite(net).iter().filter(|s| s.family == AF_INET).count()),
        ("UDP", listing::udp(net).iter().filter(|s| s.family == AF_INET).count()),
        ("TCP", listing::tcp(net).iter().filter(|s| s.family == AF_INET).count()),
    ];
    let mut out = String::from(
        "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re bi br ha uh gp em\n",
    );
    for (name, count) in counts {
        let _ = writeln!(
            out,
            "{name:<9} 1024 {count:6}      0   no       0   no   kernel      y  y  y  y  y  y  y  y  y  y  y  y  y  n  y  y  y  n"
        );
    }
    out
}

/// Groups by interface; every interface is in "all hosts" of itself.
fn igmp(net: &Net) -> String {
    let mut out = String::from("Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n");
    let all = net.groups.all();
    for i in net.interfaces.read().iter().filter(|i| i.flags & IFF_UP != 0) {
        let of = |(group, users): &((IpAddr, u32), usize)| match group {
            (IpAddr::V4(ip), device) if *device == i.index => Some((*ip, *users)),
            _ => None,
        };
        let mut groups: Vec<_> = all.iter().filter_map(of).collect();
        groups.push((Ipv4Addr::new(224, 0, 0, 1), 1));
        let _ = writeln!(out, "{}\t{:<10}: {:5}      V3", i.index, name_of(i), groups.len());
        for (ip, users) in groups {
            let word = u32::from_ne_bytes(ip.octets());
            let _ = writeln!(out, "\t\t\t\t{word:08X} {users:5} 0:00000000\t\t0");
        }
    }
    out
}

fn igmp6(net: &Net) -> String {
    /// `MAF_LOADED` and `MAF_NOREPORT`
    const FLAGS: [u32; 2] = [4, 8];
    let mut out = String::new();
    let all = net.groups.all();
    let [loaded, silent] = FLAGS;
    for i in net.interfaces.read().iter().filter(|i| i.flags & IFF_UP != 0) {
        let of = |(group, users): &((IpAddr, u32), usize)| match group {
            (IpAddr::V6(ip), device) if *device == i.index => Some((*ip, *users)),
            _ => None,
        };
        let own = ["ff02::1", "ff01::1"].map(|ip| ip.parse().unwrap_or(Ipv6Addr::UNSPECIFIED));
        let groups = all.iter().filter_map(of).chain(own.into_iter().map(|ip| (ip, 1)));
        for (ip, users) in groups {
            let hex = format!("{:032x}", u128::from(ip));
            let scope = ip.octets().get(1).map_or(0, |b| b & 15);
            let flags = match scope {
                0 | 1 => silent,
                _ if own.contains(&ip) => loaded | silent,
                _ => loaded,
            };
            let _ =
                writeln!(out, "{:<4} {:<15} {hex} {users:5} {flags:08X} 0", i.index, name_of(i));
        }
    }
    out
}
