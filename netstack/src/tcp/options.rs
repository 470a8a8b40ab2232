//! Options of TCP endpoints, and what they tell about themselves.

use crate::config::{Config, Congestion};
use crate::iface::IfaceId;
use std::time::Duration;

/// Options; see tcp(7), socket(7), ip(7). An accepted connection inherits its listener's.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// `TCP_NODELAY`: no Nagle.
    pub nodelay: bool,
    /// `TCP_CORK`: only full segments, for 200 ms at most.
    pub cork: bool,
    /// `TCP_QUICKACK`: acknowledge at once.
    pub quickack: bool,
    /// `SO_KEEPALIVE`.
    pub keepalive: bool,
    /// `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`.
    pub keep: (Duration, Duration, u8),
    /// `TCP_USER_TIMEOUT`.
    pub user_timeout: Option<Duration>,
    /// `SO_LINGER` with a time of zero: closing resets. (Waiting at close is the caller's part.)
    pub reset_on_close: bool,
    /// `TCP_LINGER2`: how long a closed endpoint waits for the peer's FIN.
    pub fin_timeout: Duration,
    /// `SO_RCVBUF`; `None`: tuned to the connection.
    pub rcvbuf: Option<usize>,
    /// `SO_SNDBUF`; `None`: tuned to the connection.
    pub sndbuf: Option<usize>,
    /// `TCP_MAXSEG`.
    pub max_segment: Option<u16>,
    /// `TCP_CONGESTION`; counts for connections made later.
    pub congestion: Congestion,
    /// `SO_OOBINLINE`.
    pub oob_inline: bool,
    /// `IP_TTL`, `IPV6_UNICAST_HOPS`; `None`: the stack's default.
    pub ttl: Option<u8>,
    /// `IP_TOS`, `IPV6_TCLASS`; the ECN bits are the stack's.
    pub tos: u8,
    /// `IPV6_V6ONLY`.
    pub v6_only: bool,
    /// `SO_REUSEADDR`.
    pub reuse_addr: bool,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `SO_BINDTODEVICE`.
    pub iface: Option<IfaceId>,
    /// `TCP_SYNCNT`.
    pub syn_retries: u8,
}

impl TcpOptions {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            nodelay: false,
            cork: false,
            quickack: false,
            keepalive: false,
            keep: config.tcp.keepalive,
            user_timeout: None,
            reset_on_close: false,
            fin_timeout: config.tcp.fin_timeout,
            rcvbuf: None,
            sndbuf: None,
            max_segment: None,
            congestion: config.tcp.congestion,
            oob_inline: false,
            ttl: None,
            tos: 0,
            v6_only: false,
            reuse_addr: false,
            reuse_port: false,
            iface: None,
            syn_retries: config.tcp.syn_retries,
        }
    }
}

/// The state of an endpoint, by RFC 9293's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum TcpStateName {
    Closed,
    Listen,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

/// What `TCP_INFO` tells. Sizes in bytes unless said otherwise.
#[derive(Clone, Debug)]
pub struct TcpInfo {
    /// The state.
    pub state: TcpStateName,
    /// Time-outs in a row.
    pub backoff: u32,
    /// Peer and we use these: time stamps, SACK, window scaling, ECN.
    pub negotiated: [bool; 4],
    /// Our and the peer's window shift.
    pub shifts: (u8, u8),
    /// Retransmission time-out.
    pub rto: Duration,
    /// Smoothed round trip and its variance.
    pub rtt: (Duration, Duration),
    /// The least round trip seen.
    pub min_rtt: Option<Duration>,
    /// Payload of a full segment.
    pub snd_mss: u32,
    /// The congestion window.
    pub cwnd: u32,
    /// The slow-start threshold; `u32::MAX`: none yet.
    pub ssthresh: u32,
    /// Sent and not acknowledged.
    pub unacked: u32,
    /// Of these, selectively acknowledged.
    pub sacked: u32,
    /// Of these, thought to be lost.
    pub lost: u32,
    /// Segments sent again, in all.
    pub total_retrans: u64,
    /// Bytes acknowledged by the peer, in all.
    pub bytes_acked: u64,
    /// Bytes received in order, in all.
    pub bytes_received: u64,
    /// The peer's window.
    pub snd_wnd: u32,
    /// Our window.
    pub rcv_wnd: u32,
    /// Sizes of our receive and send buffers.
    pub buffers: (usize, usize),
    /// Connections waiting to be accepted, and the limit; of listeners only.
    pub backlog: (usize, usize),
}
