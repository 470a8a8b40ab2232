//! Limits and defaults of a stack: Linux's sysctls by their names, with Linux's values.

use std::time::Duration;

/// See the module. Sizes are in bytes.
#[derive(Clone, Debug)]
pub struct Config {
    /// All endpoint buffers together.
    pub memory_limit: usize,
    /// Endpoints of all kinds together.
    pub max_endpoints: usize,
    /// `ip_local_port_range`: ports for endpoints that do not choose one.
    pub local_ports: (u16, u16),
    /// `ip_default_ttl`.
    pub ttl: u8,
    /// `ipfrag_high_thresh`: memory for fragments, of each IP version.
    pub fragment_memory: usize,
    /// `icmp_msgs_per_sec`: errors and replies sent each second; a burst of 50 more.
    pub icmp_per_second: u32,
    /// Resets sent each second for segments of no connection; a burst of 1000 more.
    pub resets_per_second: u32,
    /// TCP's settings.
    pub tcp: TcpConfig,
    /// `rmem_default` of datagram endpoints.
    pub datagram_rcvbuf: usize,
    /// `wmem_default` of datagram endpoints.
    pub datagram_sndbuf: usize,
}

/// TCP's part of [`Config`].
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// `tcp_rmem`: initial and largest receive buffer.
    pub rmem: (usize, usize),
    /// `tcp_wmem`: initial and largest send buffer.
    pub wmem: (usize, usize),
    /// `tcp_max_syn_backlog`: connections in SYN-RECEIVED at one listener.
    pub max_syn_backlog: usize,
    /// `somaxconn`: the largest accept backlog.
    pub max_backlog: usize,
    /// `tcp_syncookies`.
    pub syn_cookies: bool,
    /// `tcp_sack`.
    pub sack: bool,
    /// `tcp_timestamps`.
    pub timestamps: bool,
    /// `tcp_window_scaling`.
    pub window_scaling: bool,
    /// `tcp_ecn`.
    pub ecn: Ecn,
    /// `tcp_congestion_control`.
    pub congestion: Congestion,
    /// `tcp_syn_retries`.
    pub syn_retries: u8,
    /// `tcp_synack_retries`.
    pub synack_retries: u8,
    /// `tcp_retries2`, as the number of time-outs after which an established connection is given up.
    pub retries2: u8,
    /// `tcp_orphan_retries`: the same for connections that nobody holds any more.
    pub orphan_retries: u8,
    /// `tcp_fin_timeout`.
    pub fin_timeout: Duration,
    /// `tcp_keepalive_time`, `_intvl`, `_probes`.
    pub keepalive: (Duration, Duration, u8),
    /// `tcp_max_tw_buckets`.
    pub max_time_wait: usize,
    /// `tcp_max_orphans`.
    pub max_orphans: usize,
    /// `tcp_invalid_ratelimit`: between two ACKs that unacceptable segments provoke.
    pub invalid_ratelimit: Duration,
    /// `tcp_slow_start_after_idle`.
    pub slow_start_after_idle: bool,
    /// Challenge ACKs in one second, of the whole stack (RFC 5961, section 7).
    pub challenge_acks: u32,
}

/// Explicit congestion notification (RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecn {
    /// Never.
    Off,
    /// When the peer asks.
    Passive,
    /// Asked for in every connection.
    Active,
}

/// The congestion control of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// RFC 5681.
    Reno,
    /// RFC 9438.
    Cubic,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory_limit: 256 << 20,
            max_endpoints: 1 << 20,
            local_ports: (32768, 60999),
            ttl: 64,
            fragment_memory: 4 << 20,
            icmp_per_second: 1000,
            resets_per_second: 10_000,
            tcp: TcpConfig::default(),
            datagram_rcvbuf: 212_992,
            datagram_sndbuf: 212_992,
        }
    }
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            rmem: (131_072, 6 << 20),
            wmem: (87_380, 4 << 20),
            max_syn_backlog: 1024,
            max_backlog: 4096,
            syn_cookies: true,
            sack: true,
            timestamps: true,
            window_scaling: true,
            ecn: Ecn::Passive,
            congestion: Congestion::Cubic,
            syn_retries: 6,
            synack_retries: 5,
            retries2: 15,
            orphan_retries: 8,
            fin_timeout: Duration::from_secs(60),
            keepalive: (Duration::from_secs(7200), Duration::from_secs(75), 9),
            max_time_wait: 65_536,
            max_orphans: 65_536,
            invalid_ratelimit: Duration::from_millis(500),
            slow_start_after_idle: true,
            challenge_acks: 1000,
        }
    }
}
