//! A connection: everything that RFC 9293 calls the transmission control block.
//!
//! The fields are grouped by what they are for. The code that works on them is in the sibling modules:
//! `syn_sent` and `input` take in segments, `ack` and `recovery` deal with what was sent, `receive` with
//! what came, `output` sends, `timer` acts when time has passed, `close` ends.

use super::assembler::Assembler;
use super::congestion::Control;
use super::options::TcpOptions;
use super::pieces::Pieces;
use super::rack::Rack;
use super::recovery::Recovery;
use super::rtt::Rtt;
use super::scoreboard::Scoreboard;
use super::{Cx, Seq};
use crate::demux::FourTuple;
use crate::endpoint::Readiness;
use crate::error::Error;
use crate::ip::output::Route;
use crate::stack::Stack;
use crate::time::{Instant, earliest};
use crate::wire::tcp_options::Block;
use std::time::Duration;

/// The states of a connection that has its own block. LISTEN and TIME-WAIT have types of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    SynSent,
    /// By a simultaneous open; a listener's half-open connections are `SynRequest`s.
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    Closed,
}

/// The send side (RFC 9293, section 3.3.1).
#[derive(Debug)]
pub(crate) struct Snd {
    pub una: Seq,
    pub nxt: Seq,
    /// Scaled.
    pub wnd: u32,
    pub wl1: Seq,
    pub wl2: Seq,
    pub max_wnd: u32,
    pub shift: u8,
    /// The peer's MSS option.
    pub peer_mss: u32,
    /// Payload of a full segment on this path, without SACK blocks.
    pub mss: u32,
    /// The sequence number behind urgent data.
    pub up: Option<Seq>,
    /// The end of the last segment that was not full (Minshall's variant of Nagle's algorithm).
    pub small: Seq,
    /// The sequence number of the first byte in `tx`.
    pub base: Seq,
    /// The application closed: a FIN follows the data.
    pub fin: bool,
    pub tx: Pieces,
    pub buffer: usize,
    pub last_sent: Instant,
    /// The highest sequence number ever pushed by the application.
    pub push: Seq,
}

/// The receive side.
#[derive(Debug)]
pub(crate) struct Rcv {
    pub nxt: Seq,
    /// The right edge of the window.
    pub edge: Seq,
    /// The right edge as the peer was told: windows are rounded up to the unit of their scale, and what was
    /// said holds, or the end of a full window would be cut off and sent again.
    pub told: Seq,
    pub shift: u8,
    pub rx: Pieces,
    pub assembler: Assembler,
    pub buffer: usize,
    /// The peer's FIN, once its place is known.
    pub fin: Option<Seq>,
    /// Nothing will be read any more.
    pub shut: bool,
    /// The sequence number of the urgent byte.
    pub urgent: Urgent,
    pub dsack: Option<Block>,
    pub last_segment: Instant,
    pub tune: super::receive::Tuning,
}

/// Urgent data received (RFC 6093: the byte before the pointer, as all implementations have it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgent {
    None,
    /// Announced, not here yet.
    Expected(Seq),
    /// Here, and not read.
    Ready(Seq, u8),
    /// Read; the mark stays until the stream has passed it.
    Taken(Seq),
}

/// Time stamps (RFC 7323).
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    pub on: bool,
    pub offset: u32,
    pub recent: u32,
    pub recent_at: Instant,
    /// `RCV.NXT` of the last segment sent.
    pub last_ack: Seq,
}

/// Explicit congestion notification (RFC 3168).
#[derive(Debug, Default)]
pub(crate) struct EcnState {
    pub on: bool,
    /// Congestion was experienced by what we received: say so until the peer has reacted.
    pub echo: bool,
    /// We reacted: say so with the next data.
    pub cwr: bool,
}

/// Acknowledgements to be sent.
#[derive(Debug, Default)]
pub(crate) struct AckState {
    pub now: bool,
    /// Bytes since the last acknowledgement.
    pub pending: u32,
    /// Immediate acknowledgements left (at the start of a connection and after trouble).
    pub quick: u8,
    /// The application answers: acknowledgements can ride on its data.
    pub interactive: bool,
    pub last_out_of_window: Option<Instant>,
}

/// Deadlines.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    pub rto: Option<Instant>,
    pub tlp: Option<Instant>,
    pub reorder: Option<Instant>,
    pub delack: Option<Instant>,
    pub persist: Option<Instant>,
    pub keepalive: Option<Instant>,
    pub fin_wait: Option<Instant>,
    pub cork: Option<Instant>,
}

/// A connection.
pub(crate) struct Conn {
    pub tuple: FourTuple,
    pub state: State,
    pub options: TcpOptions,
    pub snd: Snd,
    pub rcv: Rcv,
    pub board: Scoreboard,
    pub rtt: Rtt,
    pub cc: Control,
    pub cwnd_limited: bool,
    pub rack: Rack,
    pub recovery: Recovery,
    pub sack_on: bool,
    pub scaling_on: bool,
    pub stamps: Stamps,
    pub ecn: EcnState,
    pub ack: AckState,
    pub at: Deadlines,
    pub route: Option<(Route, Instant)>,
    /// The error for the application.
    pub error: Option<Error>,
    /// An error that ends the connection only if it does not answer in the end.
    pub soft_error: Option<Error>,
    /// No socket holds the connection any more.
    pub detached: bool,
    /// When what is outstanding or probed for was first sent without an answer.
    pub unanswered_since: Option<Instant>,
    pub probes: u8,
    pub total_retrans: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub delivered: u64,
}

/// What a new connection starts from.
pub(crate) struct Start {
    pub tuple: FourTuple,
    pub state: State,
    pub options: TcpOptions,
    pub iss: Seq,
    pub ts_offset: u32,
}

impl Conn {
    pub(crate) fn new(stack: &Stack, start: Start, now: Instant) -> Self {
        let Start { tuple, state, options, iss, ts_offset } = start;
        let config = &stack.config.tcp;
        let mss = default_mss(tuple.remote.is_ipv4());
        let snd = Snd {
            una: iss,
            nxt: iss,
            wnd: 0,
            wl1: Seq(0),
            wl2: Seq(0),
            max_wnd: 0,
            shift: 0,
            peer_mss: mss,
            mss,
            up: None,
            small: iss,
            base: iss + 1,
            fin: false,
            tx: Pieces::new(stack.budget.clone()),
            buffer: options.sndbuf.unwrap_or(config.wmem.0),
            last_sent: now,
            push: iss,
        };
        let rcv = Rcv {
            nxt: Seq(0),
            edge: Seq(0),
            told: Seq(0),
            shift: 0,
            rx: Pieces::new(stack.budget.clone()),
            assembler: Assembler::default(),
            buffer: options.rcvbuf.unwrap_or(config.rmem.0),
            fin: None,
            shut: false,
            urgent: Urgent::None,
            dsack: None,
            last_segment: now,
            tune: super::receive::Tuning::default(),
        };
        Self {
            tuple,
            state,
            cc: Control::new(options.congestion, mss),
            options,
            snd,
            rcv,
            board: Scoreboard::default(),
            rtt: Rtt::default(),
            cwnd_limited: false,
            rack: Rack::default(),
            recovery: Recovery::default(),
            sack_on: false,
            scaling_on: false,
            stamps: Stamps { offset: ts_offset, ..Stamps::default() },
            ecn: EcnState::default(),
            ack: AckState { quick: 16, ..AckState::default() },
            at: Deadlines::default(),
            route: None,
            error: None,
            soft_error: None,
            detached: false,
            unanswered_since: None,
            probes: 0,
            total_retrans: 0,
            bytes_acked: 0,
            bytes_received: 0,
            delivered: 0,
        }
    }

    /// The time stamp to send.
    pub(crate) fn ts_now(&self, now: Instant) -> u32 {
        (now.millis() as u32).wrapping_add(self.stamps.offset)
    }

    /// The sequence number behind the last byte that the application wrote.
    pub(crate) fn data_end(&self) -> Seq {
        self.snd.base + self.snd.tx.len() as u32
    }

    /// Bytes written and not sent.
    pub(crate) fn unsent(&self) -> u32 {
        self.data_end().since(self.snd.nxt)
    }

    /// The FIN has been sent.
    pub(crate) fn fin_sent(&self) -> bool {
        self.snd.fin && self.snd.nxt.after(self.data_end())
    }

    /// Both sides know the sequence numbers of the other.
    pub(crate) fn is_synchronized(&self) -> bool {
        !matches!(self.state, State::SynSent | State::SynReceived | State::Closed)
    }

    /// The way to the peer, looked up once a second.
    pub(crate) fn route(&mut self, cx: &Cx<'_>) -> Result<Route, Error> {
        const KEEP: Duration = Duration::from_secs(1);
        if let Some((route, at)) = &self.route
            && cx.now.since(*at) < KEEP
        {
            return Ok(route.clone());
        }
        let src = Some(self.tuple.local.ip());
        let zone = match self.tuple.remote {
            std::net::SocketAddr::V6(a) => cx.stack.zone(a.scope_id()),
            std::net::SocketAddr::V4(_) => None,
        };
        let iface = self.options.iface.or(zone);
        let route = cx.stack.find_route(self.tuple.remote.ip(), src, iface)?;
        self.route = Some((route.clone(), cx.now));
        self.update_mss(route.mtu);
        Ok(route)
    }

    /// Fits the segment size to the path.
    pub(crate) fn update_mss(&mut self, mtu: usize) {
        let headers = if self.tuple.remote.is_ipv4() { 40 } else { 60 };
        let path = (mtu.saturating_sub(headers) as u32).max(48);
        let own = self.options.max_segment.map_or(u32::MAX, u32::from);
        let stamps = if self.stamps.on { 12 } else { 0 };
        self.snd.mss = self.snd.peer_mss.min(path).min(own).max(48) - stamps;
    }

    /// What the application would be told by poll(2).
    pub(crate) fn readiness(&self) -> Readiness {
        let mut r = Readiness::empty();
        if matches!(self.state, State::SynSent | State::SynReceived) {
            return r;
        }
        let ended = self.rcv.shut || self.at_end() || self.state == State::Closed;
        r.set(Readiness::IN, self.readable() > 0 || ended || self.error.is_some());
        r.set(Readiness::RDHUP, ended);
        r.set(Readiness::PRI, matches!(self.rcv.urgent, Urgent::Ready(..)));
        let writable = self.snd.fin || self.state == State::Closed || self.writable();
        r.set(Readiness::OUT, writable);
        r.set(Readiness::ERR, self.error.is_some());
        r.set(Readiness::HUP, self.state == State::Closed || (self.snd.fin && ended));
        r
    }

    /// A third of the send buffer is free.
    pub(crate) fn writable(&self) -> bool {
        let free = self.snd.buffer.saturating_sub(self.snd.tx.len());
        free * 3 >= self.snd.buffer
    }

    /// The peer's FIN has been reached by the reader.
    pub(crate) fn at_end(&self) -> bool {
        self.rcv.rx.len() == 0 && self.rcv.fin.is_some_and(|fin| self.rcv.nxt.after(fin))
    }

    /// The earliest deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let a = &self.at;
        [a.rto, a.tlp, a.reorder, a.delack, a.persist, a.keepalive, a.fin_wait, a.cork]
            .into_iter()
            .fold(None, earliest)
    }
}

/// The MSS of a peer that does not say (RFC 9293, section 3.7.1).
pub(crate) fn default_mss(v4: bool) -> u32 {
    if v4 { 536 } else { 1220 }
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conn")
            .field("tuple", &self.tuple)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
