//! Lists of the sockets of a network, for `/proc/net` and `sock_diag(7)`.

use super::Net;
use super::addr::{AF_INET, Endpoint, any, mapped};
use super::common::Common;
use super::dgram::DgramSocket;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is told of a socket.
pub struct Listed {
    /// `AF_INET` or `AF_INET6`.
    pub family: i32,
    /// `TCP_*`, also for sockets of other protocols.
    pub state: u8,
    /// Its own address.
    pub local: Endpoint,
    /// The peer's, or zeroes.
    pub peer: Endpoint,
    /// Bytes that wait to be received; of a listener: connections that wait.
    pub received: usize,
    /// Bytes that wait to be sent; of a listener: its backlog.
    pub sent: usize,
    /// Owner, in the sandbox's ids.
    pub uid: u32,
    /// Inode number.
    pub ino: u64,
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// Interface it is bound to.
    pub device: u32,
    /// Datagrams that were dropped.
    pub drops: usize,
}

impl Listed {
    fn new(
        common: &Common,
        state: u8,
        (local, peer): (Option<Endpoint>, Option<Endpoint>),
        (received, sent): (usize, usize),
        drops: usize,
    ) -> Listed {
        let family = common.family();
        let nowhere = Endpoint { ip: any(family), port: 0 };
        Listed {
            family,
            state,
            local: local.unwrap_or(nowhere),
            peer: peer.unwrap_or(nowhere),
            received,
            sent,
            uid: common.options.creator.uid,
            ino: common.options.ino.load(Ordering::Relaxed),
            cookie: common.cookie(),
            device: common.device(),
            drops,
        }
    }
}

/// The TCP sockets, listeners first.
pub fn tcp(net: &Net) -> Vec<Listed> {
    let mut all = net.tcp.all();
    all.extend(net.connections.all());
    all.sort_by_key(Arc::as_ptr);
    all.dedup_by_key(|s| Arc::as_ptr(s));
    let mut out: Vec<Listed> = all
        .iter()
        .map(|s| Listed::new(s.common(), s.state_number(), s.endpoints(), s.queued(), 0))
        .filter(|s| s.state != super::stream::TCP_CLOSE)
        .collect();
    out.extend(net.time_wait.all().into_iter().map(|w| Listed {
        family: w.family,
        state: w.state,
        local: w.tuple.local,
        peer: w.tuple.peer,
        received: 0,
        sent: 0,
        // Nobody owns it any more.
        uid: 0,
        ino: 0,
        cookie: 0,
        device: 0,
        drops: 0,
    }));
    out.sort_by_key(|s| (s.state != super::stream::TCP_LISTEN, s.local.port, s.peer.port));
    out
}

/// The UDP sockets.
pub fn udp(net: &Net) -> Vec<Listed> {
    datagram(&net.udp.all())
}

/// The UDP-Lite sockets.
pub fn udp_lite(net: &Net) -> Vec<Listed> {
    datagram(&net.udp_lite.all())
}

fn datagram(all: &[Arc<DgramSocket>]) -> Vec<Listed> {
    let listed = all.iter().map(|s| {
        let (received, drops) = s.queued();
        let (local, peer) = s.endpoints();
        let state = if peer.is_some() { 1 } else { super::stream::TCP_CLOSE };
        Listed::new(s.common(), state, (local, peer), (received, 0), drops)
    });
    let mut out: Vec<Listed> = listed.collect();
    out.sort_by_key(|s| (s.local.port, s.ino));
    out
}

fn address(family: i32, e: Endpoint) -> String {
    let words = |octets: &[u8]| {
        octets.chunks_exact(4).fold(String::new(), |mut out, word| {
            let n = word.first_chunk().map_or(0, |w| u32::from_ne_bytes(*w));
            let _ = write!(out, "{n:08X}");
            out
        })
    };
    let ip = match e.ip {
        IpAddr::V4(ip) if family == AF_INET => words(&ip.octets()),
        ip => words(&mapped(ip).octets()),
    };
    format!("{ip}:{:04X}", e.port)
}

fn common_part(s: &Listed, show_uid: &dyn Fn(u32) -> u32) -> String {
    let (local, peer) = (address(s.family, s.local), address(s.family, s.peer));
    // A listener's backlog is not shown here.
    let sent = if s.state == super::stream::TCP_LISTEN { 0 } else { s.sent };
    format!(
        "{local} {peer} {:02X} {sent:08X}:{:08X} 00:00000000 00000000 {:5}        0 {}",
        s.state,
        s.received,
        show_uid(s.uid),
        s.ino
    )
}

/// The raw sockets.
pub fn raw(net: &Net) -> Vec<Listed> {
    let all = net.wire.raw_sockets();
    let listed = all.iter().map(|s| {
        let (received, drops) = s.queued();
        let (local, peer) = s.endpoints();
        let state = if peer.is_some() { 1 } else { super::stream::TCP_CLOSE };
        Listed::new(s.common(), state, (Some(local), peer), (received, 0), drops)
    });
    listed.collect()
}

/// The lines of `/proc/net/raw` and `raw6`.
pub fn proc_raw(net: &Net, family: i32, show_uid: &dyn Fn(u32) -> u32) -> String {
    let mut out = String::new();
    for s in raw(net).iter().filter(|s| s.family == family) {
        // The number of a line is the protocol.
        let (at, line) = (s.local.port, common_part(s, show_uid));
        let width = if family == AF_INET { 4 } else { 5 };
        let _ = writeln!(out, "{at:width$}: {line} 2 0000000000000000 {}", s.drops);
    }
    out
}

const QUEUES: &str = "st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";

/// `/proc/net/tcp` and `tcp6`.
pub fn proc_tcp(net: &Net, family: i32, show_uid: &dyn Fn(u32) -> u32) -> String {
    let v4 = family == AF_INET;
    let gap = |n: usize| " ".repeat(if v4 { 0 } else { n });
    let title = format!("  sl  local_address {}rem_address   {}{QUEUES}", gap(24), gap(22));
    let width = if v4 { 149 } else { 0 };
    let mut out = format!("{title:width$}\n");
    for (i, s) in tcp(net).iter().filter(|s| s.family == family).enumerate() {
        let line = format!("{i:4}: {} 1 0000000000000000 100 0 0 10 0", common_part(s, show_uid));
        let _ = writeln!(out, "{line:width$}");
    }
    out
}

/// `/proc/net/udp` and `udp6`, `udplite` and `udplite6`: the sockets of `list`.
pub fn proc_udp(list: &[Listed], family: i32, show_uid: &dyn Fn(u32) -> u32) -> String {
    let v4 = family == AF_INET;
    let gap = |n: usize| " ".repeat(if v4 { 0 } else { n });
    let (sl, rem) = if v4 { ("   sl  ", "rem_address   ") } else { ("  sl  ", "remote_address") };
    let title = format!("{sl}local_address {}{rem}{}{QUEUES} ref pointer drops", gap(24), gap(24));
    let width = if v4 { 127 } else { 0 };
    let mut out = format!("{title:width$}\n");
    for (i, s) in list.iter().filter(|s| s.family == family).enumerate() {
        let line = format!("{i:5}: {} 2 0000000000000000 {}", common_part(s, show_uid), s.drops);
        let _ = writeln!(out, "{line:width$}");
    }
    out
}
