//! A scripted TCP peer: the test says which segments come in and which must go out, with relative sequence
//! numbers, in the manner of packetdrill.
//!
//! ```text
//! let mut t = Peer::accepted();            // handshake done, the peer's numbers start at 1, ours at 1
//! t.push("P. 1:101(100) ack 1");           // goes in
//! t.expect(". 1:1(0) ack 101");            // must come out now, and nothing else
//! ```
//! A segment is: flags (`S F R P . U E W`), `from:to(len)`, and any of `ack N`, `win N`, `urg N`, and options
//! in angle brackets: `<mss N, ws N, sackok, ts V E, sack A-B C-D>`. What an expectation leaves out is not
//! checked, except that flags, numbers and the acknowledgement always are.

use super::bench::*;
use crate::tcp::Seq;
use crate::wire::tcp::{Flags, Header, Segment};
use crate::wire::tcp_options::Options;
use crate::wire::{checksum, protocol};
use crate::*;
use std::net::{IpAddr, SocketAddr};

/// Where the peer's numbers start.
const PEER_ISS: u32 = 0xffff_fff0;
/// The peer's port, and the listener's.
pub(crate) const PORTS: (u16, u16) = (40_000, 80);

/// A connection between a stack and the script.
pub(crate) struct Peer {
    pub b: Bench,
    pub socket: Option<TcpSocket>,
    pub listener: Option<TcpSocket>,
    /// Our first sequence number, once it was seen.
    pub iss: Option<u32>,
    pub ports: (u16, u16),
    pub v6: bool,
    /// IP header's type of service for what goes in.
    pub tos: u8,
}

/// A segment as a script writes it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Spec {
    flags: String,
    from: u32,
    to: u32,
    ack: Option<u32>,
    win: Option<u16>,
    urg: Option<u16>,
    mss: Option<u16>,
    ws: Option<u8>,
    sackok: bool,
    ts: Option<(u32, u32)>,
    sack: Vec<(u32, u32)>,
    has_options: bool,
}

fn spec(text: &str) -> Spec {
    let mut out = Spec::default();
    let (main, options) = match text.split_once('<') {
        Some((main, rest)) => (main, rest.trim_end().trim_end_matches('>')),
        None => (text, ""),
    };
    let mut words = main.split_whitespace();
    out.flags = words.next().expect("flags").to_owned();
    let range = words.next().expect("a range");
    let (from, rest) = range.split_once(':').expect("from:to");
    out.from = from.parse().unwrap();
    out.to = rest.split('(').next().unwrap().parse().unwrap();
    while let Some(word) = words.next() {
        let value = words.next().expect("a value");
        match word {
            "ack" => out.ack = Some(value.parse().unwrap()),
            "win" => out.win = Some(value.parse().unwrap()),
            "urg" => out.urg = Some(value.parse().unwrap()),
            other => panic!("what is {other:?}?"),
        }
    }
    out.has_options = text.contains('<');
    for option in options.split(',').filter(|o| !o.trim().is_empty()) {
        let mut words = option.split_whitespace();
        let name = words.next().unwrap();
        let mut number = || words.next().unwrap().parse::<u32>().unwrap();
        match name {
            "mss" => out.mss = Some(number() as u16),
            "ws" => out.ws = Some(number() as u8),
            "sackok" => out.sackok = true,
            "ts" => out.ts = Some((number(), number())),
            "sack" => {
                for pair in words {
                    let (a, b) = pair.split_once('-').unwrap();
                    out.sack.push((a.parse().unwrap(), b.parse().unwrap()));
                }
            }
            other => panic!("what is {other:?}?"),
        }
    }
    out
}

fn flags(text: &str) -> Flags {
    text.chars()
        .map(|c| match c {
            'S' => Flags::SYN,
            'F' => Flags::FIN,
            'R' => Flags::RST,
            'P' => Flags::PSH,
            '.' => Flags::ACK,
            'U' => Flags::URG,
            'E' => Flags::ECE,
            'W' => Flags::CWR,
            other => panic!("what is flag {other:?}?"),
        })
        .fold(Flags::empty(), |a, b| a | b)
}

impl Peer {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            b: Bench::with(config, ETHERNET),
            socket: None,
            listener: None,
            iss: None,
            ports: PORTS,
            v6: false,
            tos: 0,
        }
    }

    /// A stack with a listener.
    pub(crate) fn listening(config: Config, backlog: usize) -> Self {
        let mut t = Self::new(config);
        let l = t.b.stack.tcp(Family::V4).unwrap();
        l.bind((OURS, PORTS.1).into()).unwrap();
        l.listen(backlog).unwrap();
        t.listener = Some(l);
        t
    }

    /// A connection that the stack has accepted; SACK, no time stamps, the peer's MSS is 1000 and its window
    /// 65535, not scaled.
    pub(crate) fn accepted() -> Self {
        Self::accepted_with(Config::default(), "S 0:0(0) win 65535 <mss 1000, sackok>")
    }

    /// As [`accepted`](Self::accepted) with another SYN.
    pub(crate) fn accepted_with(config: Config, syn: &str) -> Self {
        let mut t = Self::listening(config, 10);
        t.handshake(syn);
        t
    }

    /// Completes a handshake with the listener.
    pub(crate) fn handshake(&mut self, syn: &str) {
        self.b.frames();
        self.push(syn);
        let synack = self.take();
        self.iss = Some(synack.header.seq.0);
        let ts = synack.header.options.timestamps;
        let reply = match ts {
            Some((value, _)) => format!(". 1:1(0) ack 1 win {} <ts 101 {value}>", self.window(syn)),
            None => format!(". 1:1(0) ack 1 win {}", self.window(syn)),
        };
        self.push(&reply);
        self.socket = Some(self.listener.as_ref().unwrap().accept().expect("accepted").0);
        self.b.frames();
    }

    fn window(&self, syn: &str) -> u16 {
        spec(syn).win.unwrap_or(65535)
    }

    /// The stack connects; returns after its SYN was sent. The SYN is left to be expected.
    pub(crate) fn connecting(config: Config) -> Self {
        let mut t = Self::new(config);
        let s = t.b.stack.tcp(Family::V4).unwrap();
        assert_eq!(s.connect((PEER, PORTS.0).into()), Err(Error::InProgress));
        t.ports = (PORTS.0, s.local_addr().port());
        t.socket = Some(s);
        t
    }

    /// A connection that the stack has opened.
    pub(crate) fn connected(config: Config, synack: &str) -> Self {
        let mut t = Self::connecting(config);
        let syn = t.take();
        t.iss = Some(syn.header.seq.0);
        t.push(synack);
        t.b.frames();
        t
    }

    pub(crate) fn s(&self) -> &TcpSocket {
        self.socket.as_ref().expect("a connection")
    }

    pub(crate) fn local(&self) -> SocketAddr {
        (OURS, self.ports.1).into()
    }

    fn ends(&self) -> (IpAddr, IpAddr) {
        if self.v6 { (PEER6.into(), OURS6.into()) } else { (PEER.into(), OURS.into()) }
    }

    /// The bytes of a segment.
    pub(crate) fn bytes(&self, text: &str) -> Vec<u8> {
        let s = spec(text);
        let iss = self.iss.unwrap_or(0);
        let mut options = Options {
            mss: s.mss,
            window_shift: s.ws,
            sack_permitted: s.sackok,
            timestamps: s.ts,
            ..Options::default()
        };
        for (a, b) in &s.sack {
            options.push_sack((Seq(iss) + *a, Seq(iss) + *b));
        }
        let header = Header {
            src_port: self.ports.0,
            dst_port: self.ports.1,
            seq: Seq(PEER_ISS) + s.from,
            ack: s.ack.map_or(Seq(0), |ack| Seq(iss) + ack),
            flags: flags(&s.flags),
            window: s.win.unwrap_or(65535),
            urgent: s.urg.unwrap_or(0),
            options,
        };
        let mut bytes = vec![0; header.len()];
        header.emit(&mut bytes);
        // Each byte of the stream is its sequence number's low part.
        let len = s.to.wrapping_sub(s.from);
        bytes.extend((0..len).map(|n| s.from.wrapping_add(n) as u8));
        let (src, dst) = self.ends();
        let sum = checksum::transport(src, dst, protocol::TCP, &bytes);
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// A segment comes in.
    pub(crate) fn push(&self, text: &str) {
        let bytes = self.bytes(text);
        if self.v6 {
            self.b.input(&frame6(&header6(protocol::TCP), &bytes));
        } else {
            let header = wire::ipv4::Header { tos: self.tos, ..header4(protocol::TCP) };
            self.b.input(&frame4(&header, &[], &bytes));
        }
    }

    /// The segments that were sent, as a script writes them.
    pub(crate) fn sent(&mut self) -> Vec<String> {
        let packets = self.b.packets();
        packets.iter().map(|p| self.text(&p.payload)).collect()
    }

    fn text(&mut self, bytes: &[u8]) -> String {
        let s = Segment::parse(bytes).expect("a segment");
        let (peer, ours) = self.ends();
        assert!(checksum::verify(ours, peer, protocol::TCP, bytes), "checksum");
        if s.has(Flags::SYN) && self.iss.is_none() {
            self.iss = Some(s.header.seq.0);
        }
        let iss = self.iss.unwrap_or(0);
        let mut f = String::new();
        for (flag, c) in [
            (Flags::SYN, 'S'),
            (Flags::FIN, 'F'),
            (Flags::RST, 'R'),
            (Flags::PSH, 'P'),
            (Flags::ACK, '.'),
            (Flags::URG, 'U'),
            (Flags::ECE, 'E'),
            (Flags::CWR, 'W'),
        ] {
            if s.has(flag) {
                f.push(c);
            }
        }
        let from = s.header.seq.0.wrapping_sub(iss);
        let len = s.payload.len() as u32;
        let mut out = format!("{f} {from}:{}({len})", from.wrapping_add(len));
        if s.has(Flags::ACK) {
            out += &format!(" ack {}", s.header.ack.0.wrapping_sub(PEER_ISS));
        }
        if s.has(Flags::URG) {
            out += &format!(" urg {}", s.header.urgent);
        }
        if !s.header.options.sack().is_empty() {
            let rel = |s: Seq| s.0.wrapping_sub(PEER_ISS);
            let blocks: Vec<_> = s
                .header
                .options
                .sack()
                .iter()
                .map(|(a, b)| format!("{}-{}", rel(*a), rel(*b)))
                .collect();
            out += &format!(" <sack {}>", blocks.join(" "));
        }
        out
    }

    /// Exactly these segments were sent. Windows and time stamps are not compared.
    #[track_caller]
    pub(crate) fn expect(&mut self, want: &[&str]) {
        let sent = self.sent();
        assert_eq!(sent, want);
    }

    /// The single segment that was sent, decoded.
    #[track_caller]
    pub(crate) fn take(&mut self) -> Taken {
        let packets = self.b.packets();
        assert_eq!(
            packets.len(),
            1,
            "{:?}",
            packets.iter().map(|p| self.text(&p.payload)).collect::<Vec<_>>()
        );
        let text = self.text(&packets[0].payload);
        let s = Segment::parse(&packets[0].payload).unwrap();
        Taken { header: s.header, text, tos: packets[0].tos }
    }

    /// Writes `n` bytes on the socket.
    #[track_caller]
    pub(crate) fn write(&self, n: usize) {
        assert_eq!(self.s().send(&vec![b'x'; n]), Ok(n));
    }

    /// Reads up to `n` bytes.
    pub(crate) fn read(&self, n: usize) -> Result<usize> {
        let mut buf = vec![0; n];
        self.s().recv(&mut buf)
    }

    pub(crate) fn wait(&self, ms: u64) {
        self.b.advance(ms);
    }

    pub(crate) fn state(&self) -> TcpStateName {
        self.s().state()
    }
}

/// A segment that was sent.
pub(crate) struct Taken {
    pub header: Header,
    pub text: String,
    pub tos: u8,
}
