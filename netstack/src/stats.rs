//! Counters, named as in `/proc/net/snmp` and `/proc/net/netstat`.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn inc(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters of a stack.
        #[derive(Debug, Default)]
        pub struct Stats { $($(#[$doc])* pub $name: Counter),* }

        impl Stats {
            /// Every counter with its name.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get())),*]
            }
        }
    };
}

counters! {
    /// IP packets received.
    ip_in_receives,
    /// Packets with malformed headers or options.
    ip_in_hdr_errors,
    /// Packets for other hosts.
    ip_in_addr_errors,
    /// Packets for protocols without a receiver.
    ip_in_unknown_protos,
    /// Packets delivered to a protocol.
    ip_in_delivers,
    /// Packets sent.
    ip_out_requests,
    /// Packets not sent: a queue was full.
    ip_out_discards,
    /// Packets not sent: no route.
    ip_out_no_routes,
    /// Fragments received.
    ip_reasm_reqds,
    /// Packets put together.
    ip_reasm_oks,
    /// Packets given up: time, memory, overlap.
    ip_reasm_fails,
    /// Packets sent as fragments.
    ip_frag_oks,
    /// Packets that were too large and could not be cut.
    ip_frag_fails,
    /// Frames that were too short, not for us, or of unknown types.
    link_in_discards,
    /// ICMP messages received.
    icmp_in_msgs,
    /// ICMP messages with a bad checksum or malformed.
    icmp_in_errors,
    /// ICMP messages sent.
    icmp_out_msgs,
    /// ICMP errors not sent because of the rate limit.
    icmp_out_rate_limited,
    /// Datagrams delivered.
    udp_in_datagrams,
    /// Datagrams to ports without a receiver.
    udp_no_ports,
    /// Malformed datagrams.
    udp_in_errors,
    /// Datagrams dropped at a full receive buffer.
    udp_rcvbuf_errors,
    /// Datagrams sent.
    udp_out_datagrams,
    /// Datagrams with a wrong checksum.
    udp_in_csum_errors,
    /// Connections opened from here.
    tcp_active_opens,
    /// Connections accepted from outside.
    tcp_passive_opens,
    /// Connection attempts that failed.
    tcp_attempt_fails,
    /// Established connections that were reset.
    tcp_estab_resets,
    /// Segments received.
    tcp_in_segs,
    /// Segments sent.
    tcp_out_segs,
    /// Segments sent again.
    tcp_retrans_segs,
    /// Malformed segments.
    tcp_in_errs,
    /// Segments with a wrong checksum.
    tcp_in_csum_errors,
    /// Resets sent.
    tcp_out_rsts,
    /// SYN cookies sent.
    tcp_syncookies_sent,
    /// Valid SYN cookies received.
    tcp_syncookies_recv,
    /// Invalid SYN cookies received.
    tcp_syncookies_failed,
    /// Connections not accepted because the accept queue was full.
    tcp_listen_overflows,
    /// SYNs dropped at a listener.
    tcp_listen_drops,
    /// Segments dropped by PAWS.
    tcp_paws_estab,
    /// Challenge ACKs sent.
    tcp_challenge_ack,
    /// Retransmission time-outs.
    tcp_timeouts,
    /// Tail-loss probes sent.
    tcp_loss_probes,
    /// Recoveries entered by fast retransmit.
    tcp_fast_recoveries,
    /// Recoveries that turned out spurious.
    tcp_undos,
    /// Duplicate SACKs received.
    tcp_dsack_recv,
    /// Duplicate SACKs sent.
    tcp_dsack_sent,
    /// Segments dropped because there was no memory for them.
    tcp_rcv_q_drop,
    /// Segments kept out of order.
    tcp_ofo_queue,
    /// Connections in TIME-WAIT that were replaced by new ones.
    tcp_tw_recycled,
    /// Records of TIME-WAIT that did not fit the table.
    tcp_time_wait_overflow,
    /// Connections ended because the peer did not answer.
    tcp_abort_on_timeout,
    /// Connections ended with data unread or a zero linger time.
    tcp_abort_on_close,
    /// Keep-alive probes sent.
    tcp_keepalive,
}
