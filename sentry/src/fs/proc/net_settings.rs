//! `/proc/sys/net/ipv4` and `ipv6`: settings of the network (`ip(7)`, `tcp(7)`).
//!
//! What can be written acts on the network of whoever writes; everything else is read-only.

use super::starting;
use super::sysctl::Constant;
use crate::errno::{Errno, Result};
use crate::fs::pseudo::{Node, Rights, Text, directory, text};
use crate::kernel::credentials::CAP_NET_ADMIN;
use crate::socket::inet::Net;
use crate::socket::inet::net::Settings;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// A setting with one number, and its bounds.
struct Number {
    place: fn(&Settings) -> &AtomicI32,
    min: i32,
    max: i32,
}

fn network() -> Result<Arc<Net>> {
    Ok(starting::namespaces()?.net.net().clone())
}

fn may_write() -> Result<()> {
    if starting::is_starting() {
        return Ok(());
    }
    let task = crate::kernel::current().ok_or(Errno::EPERM)?;
    if Net::capable(&task, CAP_NET_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
}

/// The numbers in what was written.
pub(super) fn numbers(data: &[u8]) -> Result<Vec<i64>> {
    let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    text.trim_matches(['\0', '\n', ' '])
        .split_ascii_whitespace()
        .map(|n| n.parse().map_err(|_| Errno::EINVAL))
        .collect()
}

impl Text for Number {
    fn read(&self) -> Result<Vec<u8>> {
        let value = (self.place)(&network()?.settings).load(Ordering::Relaxed);
        Ok(format!("{value}\n").into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        may_write()?;
        let [n] = numbers(data)?[..] else { return Err(Errno::EINVAL) };
        let n = i32::try_from(n).map_err(|_| Errno::EINVAL)?;
        if !(self.min..=self.max).contains(&n) {
            return Err(Errno::EINVAL);
        }
        (self.place)(&network()?.settings).store(n, Ordering::Relaxed);
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}

/// `ip_local_port_range`
struct PortRange;

impl Text for PortRange {
    fn read(&self) -> Result<Vec<u8>> {
        let range = network()?.settings.port_range.load(Ordering::Relaxed);
        Ok(format!("{}\t{}\n", range & 0xffff, range >> 16).into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        may_write()?;
        let [low, high] = numbers(data)?[..] else { return Err(Errno::EINVAL) };
        if low < 1 || high > 65535 || low > high {
            return Err(Errno::EINVAL);
        }
        let range = low as u32 | (high as u32) << 16;
        network()?.settings.port_range.store(range, Ordering::Relaxed);
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}

/// `ping_group_range`
struct PingGroups;

impl Text for PingGroups {
    fn read(&self) -> Result<Vec<u8>> {
        let net = network()?;
        let [low, high] = net.settings.ping_groups.each_ref().map(|g| g.load(Ordering::Relaxed));
        Ok(format!("{low}\t{high}\n").into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        may_write()?;
        let values = numbers(data)?;
        let [low, high] = values[..] else { return Err(Errno::EINVAL) };
        let id = |n: i64| u32::try_from(n).map_err(|_| Errno::EINVAL);
        // A range that ends before it begins is written as "1 0": nobody.
        let (low, high) = if high < low { (1, 0) } else { (id(low)?, id(high)?) };
        let net = network()?;
        for (place, value) in net.settings.ping_groups.iter().zip([low, high]) {
            place.store(value, Ordering::Relaxed);
        }
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}

/// `net.core.somaxconn`
struct Somaxconn;

impl Text for Somaxconn {
    fn read(&self) -> Result<Vec<u8>> {
        Ok(format!("{}\n", network()?.settings.somaxconn.load(Ordering::Relaxed)).into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        may_write()?;
        let [n] = numbers(data)?[..] else { return Err(Errno::EINVAL) };
        let n = u32::try_from(n).map_err(|_| Errno::EINVAL)?;
        network()?.settings.somaxconn.store(n.min(i32::MAX as u32), Ordering::Relaxed);
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}

fn number(place: fn(&Settings) -> &AtomicI32, min: i32, max: i32) -> Node {
    text(Number { place, min, max })
}

/// `/proc/sys/net/core/somaxconn`.
pub fn somaxconn() -> Node {
    text(Somaxconn)
}

/// `tcp_max_tw_buckets`
struct MaxTimeWait;

impl Text for MaxTimeWait {
    fn read(&self) -> Result<Vec<u8>> {
        Ok(format!("{}\n", network()?.time_wait.max.load(Ordering::Relaxed)).into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        may_write()?;
        let [n] = numbers(data)?[..] else { return Err(Errno::EINVAL) };
        let n = i32::try_from(n).map_err(|_| Errno::EINVAL)?;
        network()?.time_wait.set_max(n);
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}

/// `nf_conntrack_max`
struct ConntrackMax;

impl Text for ConntrackMax {
    fn read(&self) -> Result<Vec<u8>> {
        Ok(format!("{}\n", network()?.filter.conntrack.max()).into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        may_write()?;
        let [n] = numbers(data)?[..] else { return Err(Errno::EINVAL) };
        let n = u32::try_from(n).map_err(|_| Errno::EINVAL)?;
        // The table is the sandbox's memory: it may become smaller, or as large as it was at first.
        network()?.filter.conntrack.set_max(n.min(netstack::filter::conntrack::DEFAULT_MAX));
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}

/// `nf_conntrack_count`
struct ConntrackCount;

impl Text for ConntrackCount {
    fn read(&self) -> Result<Vec<u8>> {
        Ok(format!("{}\n", network()?.filter.conntrack.count()).into_bytes())
    }
}

/// `/proc/sys/net/netfilter`.
pub fn netfilter() -> Node {
    directory(vec![
        ("nf_conntrack_count", text(ConntrackCount)),
        ("nf_conntrack_max", text(ConntrackMax)),
    ])
}

/// `/proc/sys/net/ipv4`.
pub fn ipv4() -> Node {
    fn keepalive(s: &Settings, i: usize) -> &AtomicI32 {
        s.keepalive.get(i).unwrap_or(&s.ttl)
    }
    let fixed = |value| text(Constant(value));
    directory(vec![
        ("icmp_echo_ignore_all", fixed("0\n")),
        ("icmp_echo_ignore_broadcasts", fixed("1\n")),
        ("igmp_max_memberships", fixed("20\n")),
        ("ip_default_ttl", number(|s| &s.ttl, 1, 255)),
        ("ip_forward", number(|s| &s.forward, 0, 1)),
        ("ip_local_port_range", text(PortRange)),
        ("ip_local_reserved_ports", fixed("\n")),
        ("ip_nonlocal_bind", number(|s| &s.nonlocal_bind, 0, 1)),
        ("ip_unprivileged_port_start", number(|s| &s.unprivileged, 0, 65535)),
        ("ping_group_range", text(PingGroups)),
        ("tcp_allowed_congestion_control", fixed("reno cubic\n")),
        ("tcp_available_congestion_control", fixed("reno cubic\n")),
        ("tcp_congestion_control", fixed("cubic\n")),
        ("tcp_ecn", fixed("2\n")),
        ("tcp_fastopen", fixed("0\n")),
        ("tcp_fin_timeout", number(|s| &s.fin_timeout, 1, i32::MAX)),
        ("tcp_keepalive_intvl", number(|s| keepalive(s, 1), 1, 32767)),
        ("tcp_keepalive_probes", number(|s| keepalive(s, 2), 1, 127)),
        ("tcp_keepalive_time", number(|s| keepalive(s, 0), 1, 32767)),
        ("tcp_max_syn_backlog", number(|s| &s.syn_backlog, 1, i32::MAX)),
        ("tcp_max_tw_buckets", text(MaxTimeWait)),
        ("tcp_mem", fixed("287901\t383868\t575802\n")),
        ("tcp_moderate_rcvbuf", fixed("1\n")),
        ("tcp_rmem", fixed("4096\t131072\t6291456\n")),
        ("tcp_sack", fixed("1\n")),
        ("tcp_syn_retries", number(|s| &s.syn_retries, 1, 127)),
        ("tcp_syncookies", number(|s| &s.syncookies, 0, 2)),
        ("tcp_timestamps", fixed("1\n")),
        ("tcp_tw_reuse", fixed("2\n")),
        ("tcp_window_scaling", fixed("1\n")),
        ("tcp_wmem", fixed("4096\t16384\t4194304\n")),
        ("udp_mem", fixed("575802\t767737\t1151604\n")),
        ("udp_rmem_min", fixed("4096\n")),
        ("udp_wmem_min", fixed("4096\n")),
    ])
}

/// `/proc/sys/net/ipv6`.
pub fn ipv6() -> Node {
    let conf = || {
        directory(vec![
            ("accept_ra", text(Constant("0\n"))),
            ("disable_ipv6", text(Constant("0\n"))),
            ("forwarding", text(Constant("0\n"))),
        ])
    };
    directory(vec![
        ("bindv6only", text(Constant("0\n"))),
        ("conf", directory(vec![("all", conf()), ("default", conf()), ("lo", conf())])),
    ])
}
