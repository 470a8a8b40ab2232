//! `/proc/PID/net`: the network of a process (`proc_pid_net(5)`).

use super::Subject;
use crate::errno::Result;
use crate::fs::pseudo::{Node, directory};
use crate::socket::inet::interface::{IFF_UP, Interface};
use crate::socket::inet::{AF_INET, AF_INET6, Net};
use crate::socket::inet::{filter, listing};
use crate::socket::{unix, xtables};
use netstack::filter::conntrack;
use std::fmt::Write;
use std::net::IpAddr;
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
    ("igmp", |_, _| "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n".into()),
    ("ipv6_route", |net, _| ipv6_route(net)),
    ("netlink", |_, _| NETLINK.into()),
    ("netstat", |net, _| netstat(net)),
    ("nf_conntrack", |net, _| nf_conntrack(net)),
    ("packet", |_, _| "sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n".into()),
    ("protocols", |net, _| protocols(net)),
    ("raw", |net, s| RAW.to_owned() + &listing::proc_raw(net, AF_INET, &|uid| s.show_uid(uid))),
    ("raw6", |net, s| RAW6.to_owned() + &listing::proc_raw(net, AF_INET6, &|uid| s.show_uid(uid))),
    ("route", |net, _| ipv4_route(net)),
    ("snmp", |net, _| snmp(net)),
    ("snmp6", |_, _| String::new()),
    ("sockstat", |net, _| sockstat(net)),
    ("sockstat6", |net, _| sockstat6(net)),
    ("tcp", |net, s| listing::proc_tcp(net, AF_INET, &|uid| s.show_uid(uid))),
    ("tcp6", |net, s| listing::proc_tcp(net, AF_INET6, &|uid| s.show_uid(uid))),
    ("udp", |net, s| listing::proc_udp(net, AF_INET, &|uid| s.show_uid(uid))),
    ("udp6", |net, s| listing::proc_udp(net, AF_INET6, &|uid| s.show_uid(uid))),
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
        ("UDPv6", listing::udp(net).iter().filter(|s| s.family == AF_INET6).count()),
        ("TCPv6", listing::tcp(net).iter().filter(|s| s.family == AF_INET6).count()),
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

fn sockstat(net: &Net) -> String {
    let (tcp, udp) = (listing::tcp(net), listing::udp(net));
    let of = |list: &[listing::Listed], family| list.iter().filter(|s| s.family == family).count();
    let used = tcp.len() + udp.len();
    let n = of(&tcp, AF_INET);
    format!(
        "sockets: used {used}\nTCP: inuse {n} orphan 0 tw 0 alloc {} mem 0\nUDP: inuse {} mem 0\n\
         UDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n",
        tcp.len(),
        of(&udp, AF_INET)
    )
}

fn sockstat6(net: &Net) -> String {
    let six = |list: Vec<listing::Listed>| list.iter().filter(|s| s.family == AF_INET6).count();
    format!(
        "TCP6: inuse {}\nUDP6: inuse {}\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n",
        six(listing::tcp(net)),
        six(listing::udp(net))
    )
}

/// Titles and values of one protocol (RFC 1213).
fn table(out: &mut String, name: &str, columns: &[(&str, u64)]) {
    let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    let values: Vec<String> = columns.iter().map(|(_, value)| value.to_string()).collect();
    let _ = writeln!(out, "{name}: {}", titles.join(" "));
    let _ = writeln!(out, "{name}: {}", values.join(" "));
}

fn snmp(net: &Net) -> String {
    let c = &net.counters;
    let (packets, echoes) = (value(&c.lo_packets), value(&c.icmp_echoes));
    let forwarding = if net.settings.forward.load(Ordering::Relaxed) != 0 { 1 } else { 2 };
    let ttl = net.settings.ttl.load(Ordering::Relaxed).max(0) as u64;
    let unreachable = value(&c.icmp_unreachable);
    let tcp = listing::tcp(net);
    let established = tcp.iter().filter(|s| matches!(s.state, 1 | 8)).count() as u64;
    let mut out = String::new();
    table(
        &mut out,
        "Ip",
        &[
            ("Forwarding", forwarding),
            ("DefaultTTL", ttl),
            ("InReceives", packets),
            ("InHdrErrors", 0),
            ("InAddrErrors", 0),
            ("ForwDatagrams", 0),
            ("InUnknownProtos", 0),
            ("InDiscards", 0),
            ("InDelivers", packets),
            ("OutRequests", packets),
            ("OutDiscards", 0),
            ("OutNoRoutes", 0),
            ("ReasmTimeout", 0),
            ("ReasmReqds", 0),
            ("ReasmOKs", 0),
            ("ReasmFails", 0),
            ("FragOKs", 0),
            ("FragFails", 0),
            ("FragCreates", 0),
            ("OutTransmits", packets),
        ],
    );
    table(
        &mut out,
        "Icmp",
        &[
            ("InMsgs", echoes * 2 + unreachable),
            ("InErrors", 0),
            ("InCsumErrors", 0),
            ("InDestUnreachs", unreachable),
            ("InEchos", echoes),
            ("InEchoReps", echoes),
            ("OutMsgs", echoes * 2 + unreachable),
            ("OutErrors", 0),
            ("OutDestUnreachs", unreachable),
            ("OutEchos", echoes),
            ("OutEchoReps", echoes),
        ],
    );
    table(
        &mut out,
        "Tcp",
        &[
            ("RtoAlgorithm", 1),
            ("RtoMin", 200),
            ("RtoMax", 120_000),
            ("MaxConn", u64::MAX),
            ("ActiveOpens", value(&c.tcp_active_opens)),
            ("PassiveOpens", value(&c.tcp_passive_opens)),
            ("AttemptFails", value(&c.tcp_attempt_fails)),
            ("EstabResets", value(&c.tcp_estab_resets)),
            ("CurrEstab", established),
            ("InSegs", value(&c.tcp_segments)),
            ("OutSegs", value(&c.tcp_segments)),
            ("RetransSegs", 0),
            ("InErrs", 0),
            ("OutRsts", value(&c.tcp_resets)),
            ("InCsumErrors", 0),
        ],
    );
    out = out.replace(&u64::MAX.to_string(), "-1");
    table(
        &mut out,
        "Udp",
        &[
            ("InDatagrams", value(&c.udp_in)),
            ("NoPorts", value(&c.udp_no_ports)),
            ("InErrors", value(&c.udp_buffer_errors)),
            ("OutDatagrams", value(&c.udp_out)),
            ("RcvbufErrors", value(&c.udp_buffer_errors)),
            ("SndbufErrors", 0),
            ("InCsumErrors", 0),
            ("IgnoredMulti", 0),
            ("MemErrors", 0),
        ],
    );
    out
}

fn netstat(net: &Net) -> String {
    let overflows = value(&net.counters.listen_overflows);
    let (packets, bytes) = (value(&net.counters.lo_packets), value(&net.counters.lo_bytes));
    let mut out = String::new();
    table(&mut out, "TcpExt", &[("ListenOverflows", overflows), ("ListenDrops", overflows)]);
    table(
        &mut out,
        "IpExt",
        &[("InNoRoutes", 0), ("InOctets", bytes), ("OutOctets", bytes), ("InNoECTPkts", packets)],
    );
    out
}
