//! `/proc/PID/net/{snmp,snmp6,netstat,sockstat,sockstat6}`: what a network has counted (RFC 1213).
//!
//! Sockets of one sandbox make no packets, but what they would have made is counted; what other machines take part in, the
//! stack has counted.

use crate::socket::inet::stream::{TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCP_TIME_WAIT};
use crate::socket::inet::{AF_INET, AF_INET6, Net, listing};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// What the stack has counted under that name.
fn stacked(net: &Net) -> impl Fn(&str) -> u64 {
    let stack = net.uplink.get().and_then(|uplink| uplink.stack());
    let all = stack.map(|stack| stack.stats().all()).unwrap_or_default();
    move |wanted: &str| all.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, n)| *n)
}

/// Titles and values of one protocol.
fn table(out: &mut String, name: &str, columns: &[(&str, u64)]) {
    let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    let values: Vec<String> = columns.iter().map(|(_, value)| value.to_string()).collect();
    let _ = writeln!(out, "{name}: {}", titles.join(" "));
    let _ = writeln!(out, "{name}: {}", values.join(" "));
}

/// `sockstat`
pub fn sockstat(net: &Net) -> String {
    let (all, udp, raw) = (listing::tcp(net), listing::udp(net), listing::raw(net));
    let lite = listing::udp_lite(net);
    let (orphans, waiting) =
        (all.iter().filter(|s| s.ino == 0 && s.state != TCP_TIME_WAIT), net.time_wait.len());
    let orphans = orphans.count();
    // What is left of connections is no socket.
    let tcp: Vec<&listing::Listed> = all.iter().filter(|s| s.ino != 0).collect();
    let of = |list: &[listing::Listed]| list.iter().filter(|s| s.family == AF_INET).count();
    let n = tcp.iter().filter(|s| s.family == AF_INET).count();
    let used = tcp.len() + udp.len() + lite.len() + raw.len();
    format!(
        "sockets: used {used}\nTCP: inuse {n} orphan {orphans} tw {waiting} alloc {} mem 0\n\
         UDP: inuse {} mem 0\nUDPLITE: inuse {}\nRAW: inuse {}\nFRAG: inuse 0 memory 0\n",
        tcp.len(),
        of(&udp),
        of(&lite),
        of(&raw)
    )
}

/// `sockstat6`
pub fn sockstat6(net: &Net) -> String {
    let six = |list: Vec<listing::Listed>| {
        list.iter().filter(|s| s.family == AF_INET6 && s.ino != 0).count()
    };
    format!(
        "TCP6: inuse {}\nUDP6: inuse {}\nUDPLITE6: inuse {}\nRAW6: inuse {}\nFRAG6: inuse 0 memory 0\n",
        six(listing::tcp(net)),
        six(listing::udp(net)),
        six(listing::udp_lite(net)),
        six(listing::raw(net))
    )
}

/// `snmp`
pub fn snmp(net: &Net) -> String {
    let (c, stack) = (&net.counters, stacked(net));
    let [lo_v6, _] = &c.lo_v6;
    let (packets, echoes) = (value(&c.lo_packets) - value(lo_v6), value(&c.icmp_echoes));
    let forwarding = if net.settings.forward.load(Ordering::Relaxed) != 0 { 1 } else { 2 };
    let ttl = net.settings.ttl.load(Ordering::Relaxed).max(0) as u64;
    let unreachable = value(&c.icmp_unreachable);
    let tcp = listing::tcp(net);
    let current = |s: &&listing::Listed| matches!(s.state, TCP_ESTABLISHED | TCP_CLOSE_WAIT);
    let established = tcp.iter().filter(current).count() as u64;
    let mut out = String::new();
    let columns = [
        ("Forwarding", forwarding),
        ("DefaultTTL", ttl),
        ("InReceives", packets + stack("ip_in_receives")),
        ("InHdrErrors", stack("ip_in_hdr_errors")),
        ("InAddrErrors", stack("ip_in_addr_errors")),
        ("ForwDatagrams", 0),
        ("InUnknownProtos", stack("ip_in_unknown_protos")),
        ("InDiscards", stack("link_in_discards")),
        ("InDelivers", packets + stack("ip_in_delivers")),
        ("OutRequests", packets + stack("ip_out_requests")),
        ("OutDiscards", stack("ip_out_discards")),
        ("OutNoRoutes", stack("ip_out_no_routes")),
        ("ReasmTimeout", 0),
        ("ReasmReqds", stack("ip_reasm_reqds")),
        ("ReasmOKs", stack("ip_reasm_oks")),
        ("ReasmFails", stack("ip_reasm_fails")),
        ("FragOKs", stack("ip_frag_oks")),
        ("FragFails", stack("ip_frag_fails")),
        ("FragCreates", 0),
        ("OutTransmits", packets + stack("ip_out_requests")),
    ];
    table(&mut out, "Ip", &columns);
    let columns = [
        ("InMsgs", echoes * 2 + unreachable + stack("icmp_in_msgs")),
        ("InErrors", stack("icmp_in_errors")),
        ("InCsumErrors", 0),
        ("InDestUnreachs", unreachable),
        ("InEchos", echoes),
        ("InEchoReps", echoes),
        ("OutMsgs", echoes * 2 + unreachable + stack("icmp_out_msgs")),
        ("OutErrors", 0),
        ("OutRateLimitGlobal", stack("icmp_out_rate_limited")),
        ("OutDestUnreachs", unreachable),
        ("OutEchos", echoes),
        ("OutEchoReps", echoes),
    ];
    table(&mut out, "Icmp", &columns);
    let columns = [
        ("RtoAlgorithm", 1),
        ("RtoMin", 200),
        ("RtoMax", 120_000),
        ("MaxConn", u64::MAX),
        ("ActiveOpens", value(&c.tcp_active_opens)),
        ("PassiveOpens", value(&c.tcp_passive_opens)),
        ("AttemptFails", value(&c.tcp_attempt_fails) + stack("tcp_attempt_fails")),
        ("EstabResets", value(&c.tcp_estab_resets) + stack("tcp_estab_resets")),
        ("CurrEstab", established),
        ("InSegs", value(&c.tcp_segments) + stack("tcp_in_segs")),
        ("OutSegs", value(&c.tcp_segments) + stack("tcp_out_segs")),
        ("RetransSegs", stack("tcp_retrans_segs")),
        ("InErrs", stack("tcp_in_errs")),
        ("OutRsts", value(&c.tcp_resets) + stack("tcp_out_rsts")),
        ("InCsumErrors", stack("tcp_in_csum_errors")),
    ];
    table(&mut out, "Tcp", &columns);
    out = out.replace(&u64::MAX.to_string(), "-1");
    table(&mut out, "Udp", &datagrams(net, false));
    table(&mut out, "UdpLite", &lite_datagrams(net, false));
    out
}

/// Counters of UDP-Lite over IPv6 (`true`) or IPv4.
fn lite_datagrams(net: &Net, v6: bool) -> [(&'static str, u64); 9] {
    let c = net.counters.udp_lite(v6);
    let dropped = value(&c.buffer_errors);
    [
        ("InDatagrams", value(&c.received)),
        ("NoPorts", value(&c.no_ports)),
        ("InErrors", dropped + value(&c.uncovered)),
        ("OutDatagrams", value(&c.sent)),
        ("RcvbufErrors", dropped),
        ("SndbufErrors", 0),
        ("InCsumErrors", 0),
        ("IgnoredMulti", 0),
        ("MemErrors", 0),
    ]
}

/// Counters of UDP over IPv6 (`true`) or IPv4.
fn datagrams(net: &Net, v6: bool) -> [(&'static str, u64); 9] {
    let c = net.counters.udp(v6);
    // The stack does not tell the families apart.
    let stack = stacked(net);
    let damaged = if v6 { 0 } else { stack("udp_in_csum_errors") };
    let dropped = value(&c.buffer_errors) + if v6 { 0 } else { stack("udp_rcvbuf_errors") };
    [
        ("InDatagrams", value(&c.received)),
        ("NoPorts", value(&c.no_ports)),
        ("InErrors", dropped + damaged),
        ("OutDatagrams", value(&c.sent)),
        ("RcvbufErrors", dropped),
        ("SndbufErrors", 0),
        ("InCsumErrors", damaged),
        ("IgnoredMulti", 0),
        ("MemErrors", 0),
    ]
}

/// `snmp6`
pub fn snmp6(net: &Net) -> String {
    let c = &net.counters;
    let [packets, octets] = &c.lo_v6;
    let (packets, octets) = (value(packets), value(octets));
    let ip = [
        ("InReceives", packets),
        ("InHdrErrors", 0),
        ("InNoRoutes", 0),
        ("InAddrErrors", 0),
        ("InDiscards", 0),
        ("InDelivers", packets),
        ("OutForwDatagrams", 0),
        ("OutRequests", packets),
        ("OutDiscards", 0),
        ("OutNoRoutes", 0),
        ("InOctets", octets),
        ("OutOctets", octets),
        ("InNoECTPkts", packets),
        ("OutTransmits", packets),
    ];
    let mut out = String::new();
    for (title, n) in ip {
        let _ = writeln!(out, "{:<32}\t{n}", format!("Ip6{title}"));
    }
    for (title, n) in datagrams(net, true) {
        let _ = writeln!(out, "{:<32}\t{n}", format!("Udp6{title}"));
    }
    // Those have one counter less.
    for (title, n) in lite_datagrams(net, true).into_iter().filter(|(t, _)| *t != "IgnoredMulti") {
        let _ = writeln!(out, "{:<32}\t{n}", format!("UdpLite6{title}"));
    }
    out
}

/// `netstat`
pub fn netstat(net: &Net) -> String {
    let (c, stack, waits) = (&net.counters, stacked(net), &net.time_wait);
    let overflows = value(&c.listen_overflows) + stack("tcp_listen_overflows");
    let (packets, bytes) = (value(&c.lo_packets), value(&c.lo_bytes));
    let mut out = String::new();
    let columns = [
        ("SyncookiesSent", stack("tcp_syncookies_sent")),
        ("SyncookiesRecv", stack("tcp_syncookies_recv")),
        ("SyncookiesFailed", stack("tcp_syncookies_failed")),
        ("TW", value(&waits.finished)),
        ("TWRecycled", value(&waits.recycled) + stack("tcp_tw_recycled")),
        ("TWKilled", 0),
        ("PAWSEstab", stack("tcp_paws_estab")),
        ("ListenOverflows", overflows),
        ("ListenDrops", value(&c.listen_overflows) + stack("tcp_listen_drops")),
        ("TCPTimeouts", stack("tcp_timeouts")),
        ("TCPLossProbes", stack("tcp_loss_probes")),
        ("TCPSackRecovery", stack("tcp_fast_recoveries")),
        ("TCPDSACKOldSent", stack("tcp_dsack_sent")),
        ("TCPDSACKRecv", stack("tcp_dsack_recv")),
        ("TCPAbortOnClose", stack("tcp_abort_on_close")),
        ("TCPAbortOnTimeout", stack("tcp_abort_on_timeout")),
        ("TCPRcvQDrop", stack("tcp_rcv_q_drop")),
        ("TCPOFOQueue", stack("tcp_ofo_queue")),
        ("TCPChallengeACK", stack("tcp_challenge_ack")),
        ("TCPKeepAlive", stack("tcp_keepalive")),
        ("TCPTimeWaitOverflow", value(&waits.overflowed) + stack("tcp_time_wait_overflow")),
    ];
    table(&mut out, "TcpExt", &columns);
    let columns =
        [("InNoRoutes", 0), ("InOctets", bytes), ("OutOctets", bytes), ("InNoECTPkts", packets)];
    table(&mut out, "IpExt", &columns);
    out
}
