//! A packet as rules see it: its bytes from the IP header on, and what is known besides.

use super::Hook;
use super::conntrack::Tracked;
use crate::wire::protocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most bytes of data that a packet made from a flow carries: what rules may look at.
const MOST_DATA: usize = 256;

/// Of a SYN: segment size, selective acknowledgements, time stamps, window scale.
const SYN_OPTIONS: [u8; 20] = [2, 4, 0xff, 0xd7, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7];
/// Of other segments: time stamps.
const OPTIONS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0];

/// A device, as rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub index: u32,
    /// Its name, filled with NULs.
    pub name: [u8; 16],
    /// `ARPHRD_*`
    pub kind: u16,
}

impl Device {
    /// A device with a name that is cut to fit.
    pub fn new(index: u32, name: &[u8], kind: u16) -> Device {
        let mut padded = [0; 16];
        for (to, from) in padded.iter_mut().zip(name.iter().take(15)) {
            *to = *from;
        }
        Device { index, name: padded, kind }
    }
}

/// The ends of a packet, and what the header of its protocol says.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Source; for echo messages the port is the identifier.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
    /// TCP, UDP, ICMP or ICMPv6.
    pub protocol: u8,
    /// Flags of TCP; type and code of ICMP in the high and low half.
    pub detail: u16,
}

/// See the module.
#[derive(Clone)]
pub struct Packet {
    bytes: Vec<u8>,
    v6: bool,
    protocol: u8,
    transport: usize,
    fragment: bool,
    /// The hook it is at.
    pub hook: Hook,
    /// By which device it came.
    pub input: Option<Device>,
    /// By which device it leaves.
    pub output: Option<Device>,
    /// The mark that rules give it.
    pub mark: u32,
    /// User and group that sent it.
    pub owner: Option<(u32, u32)>,
    /// Its connection.
    pub connection: Option<Tracked>,
    /// Rules want no connection for it.
    pub untracked: bool,
    /// Nanoseconds of a monotonic clock.
    pub now: u64,
    /// It has been rewritten.
    pub changed: bool,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Where the transport header of an IPv6 packet is, which one, and whether it is a later fragment.
fn transport6(bytes: &[u8]) -> Option<(u8, usize, bool)> {
    let mut next = *bytes.get(6)?;
    let mut at = 40;
    // More headers than this no sender uses.
    for _ in 0..8 {
        match next {
            protocol::HOP_BY_HOP | 43 | 60 => {
                next = *bytes.get(at)?;
                at += (usize::from(*bytes.get(at + 1)?) + 1) * 8;
            }
            protocol::FRAGMENT => {
                let later = word(bytes, at + 2)? & !7 != 0;
                next = *bytes.get(at)?;
                at += 8;
                if later {
                    return Some((next, at, true));
                }
            }
            _ => return Some((next, at, false)),
        }
    }
    None
}

impl Packet {
    /// Takes a packet apart. `None` if its headers are not whole.
    pub fn parse(bytes: Vec<u8>, now: u64) -> Option<Packet> {
        let v6 = match bytes.first()? >> 4 {
            4 => false,
            6 => true,
            _ => return None,
        };
        let (protocol, transport, fragment) = if v6 {
            bytes.get(39)?;
            transport6(&bytes)?
        } else {
            bytes.get(19)?;
            let header = usize::from(bytes.first()? & 15) * 4;
            (*bytes.get(9)?, header.max(20), word(&bytes, 6)? & 0x1fff != 0)
        };
        Some(Packet {
            bytes,
            v6,
            protocol,
            transport,
            fragment,
            hook: Hook::Output,
            input: None,
            output: None,
            mark: 0,
            owner: None,
            connection: None,
            untracked: false,
            now,
            changed: false,
        })
    }

    /// The packet that carries `data` between two ends. `None` if they are of different families.
    pub fn build(ends: &Ends, ttl: u8, tos: u8, data: &[u8], now: u64) -> Option<Packet> {
        // The options that Linux's TCP sends: rules may ask for them, and counters count them.
        let options: &[u8] = match (ends.protocol, ends.detail) {
            (protocol::TCP, flags) if flags & 2 != 0 => &SYN_OPTIONS,
            (protocol::TCP, flags) if flags & 4 == 0 => &OPTIONS,
            _ => &[],
        };
        let header = options.len() + if ends.protocol == protocol::TCP { 20 } else { 8 };
        let v6 = ends.to.is_ipv6();
        let at = if v6 { 40 } else { 20 };
        let whole = header + data.len();
        let carried = data.get(..MOST_DATA).unwrap_or(data);
        let mut bytes = vec![0; at + header];
        let put = |bytes: &mut Vec<u8>, at: usize, data: &[u8]| crate::wire::put(bytes, at, data);
        match (ends.from.ip(), ends.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                put(&mut bytes, 0, &[0x45, tos]);
                put(&mut bytes, 2, &((at + whole).min(0xffff) as u16).to_be_bytes());
                put(&mut bytes, 6, &[0x40, 0, ttl, ends.protocol]);
                put(&mut bytes, 12, &from.octets());
                put(&mut bytes, 16, &to.octets());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                put(&mut bytes, 0, &[0x60 | tos >> 4, tos << 4]);
                put(&mut bytes, 4, &(whole.min(0xffff) as u16).to_be_bytes());
                put(&mut bytes, 6, &[ends.protocol, ttl]);
                put(&mut bytes, 8, &from.octets());
                put(&mut bytes, 24, &to.octets());
            }
            _ => return None,
        }
        match ends.protocol {
            protocol::ICMP | protocol::ICMPV6 => {
                let id = ends.from.port().to_be_bytes();
                put(&mut bytes, at, &ends.detail.to_be_bytes());
                put(&mut bytes, at + 4, &id);
            }
            p => {
                put(&mut bytes, at, &ends.from.port().to_be_bytes());
                put(&mut bytes, at + 2, &ends.to.port().to_be_bytes());
                if p == protocol::TCP {
                    put(&mut bytes, at + 12, &[(header as u8 / 4) << 4, ends.detail as u8]);
                    put(&mut bytes, at + 20, options);
                } else {
                    put(&mut bytes, at + 4, &(whole.min(0xffff) as u16).to_be_bytes());
                }
            }
        }
        bytes.extend_from_slice(carried);
        Packet::parse(bytes, now)
    }

    /// It is one of IPv6.
    pub fn is_v6(&self) -> bool {
        self.v6
    }

    /// The protocol above IP.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// It is a fragment without a transport header.
    pub fn is_later_fragment(&self) -> bool {
        self.fragment
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the transport header starts.
    pub fn transport_offset(&self) -> usize {
        self.transport
    }

    /// The transport header and what follows; nothing in later fragments.
    pub fn transport(&self) -> &[u8] {
        let rest = self.bytes.get(self.transport..).unwrap_or_default();
        if self.fragment { &[] } else { rest }
    }

    /// Length as the header has it.
    pub fn len(&self) -> u32 {
        if self.v6 {
            40 + u32::from(word(&self.bytes, 4).unwrap_or(0))
        } else {
            u32::from(word(&self.bytes, 2).unwrap_or(0))
        }
    }

    fn address(&self, v4: usize, v6: usize) -> IpAddr {
        let at = if self.v6 { v6 } else { v4 };
        let rest = self.bytes.get(at..).unwrap_or_default();
        if self.v6 {
            rest.first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |b| Ipv6Addr::from(*b)).into()
        } else {
            rest.first_chunk::<4>().map_or(Ipv4Addr::UNSPECIFIED, |b| Ipv4Addr::from(*b)).into()
        }
    }

    /// Where it comes from.
    pub fn source(&self) -> IpAddr {
        self.address(12, 8)
    }

    /// Where it goes.
    pub fn destination(&self) -> IpAddr {
        self.address(16, 24)
    }

    /// Source and destination port, where the protocol has them.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let has = matches!(self.protocol, protocol::TCP | protocol::UDP | 33 | 132 | 136);
        let header = self.transport();
        if !has {
            return None;
        }
        Some((word(header, 0)?, word(header, 2)?))
    }

    /// Type and code, of ICMP and ICMPv6.
    pub fn icmp(&self) -> Option<(u8, u8)> {
        let wanted = if self.v6 { protocol::ICMPV6 } else { protocol::ICMP };
        match self.transport() {
            [kind, code, ..] if self.protocol == wanted => Some((*kind, *code)),
            _ => None,
        }
    }

    /// Identifier of an echo message.
    pub fn icmp_id(&self) -> u16 {
        word(self.transport(), 4).unwrap_or(0)
    }

    /// Flags of TCP.
    pub fn tcp_flags(&self) -> Option<u8> {
        if self.protocol != protocol::TCP { None } else { self.transport().get(13).copied() }
    }

    /// Both ends. The port of protocols without ports is 0, of echo messages the identifier.
    pub fn ends(&self) -> (SocketAddr, SocketAddr) {
        let (from, to) = self.ports().unwrap_or_else(|| match self.icmp() {
            Some(_) => (self.icmp_id(), self.icmp_id()),
            None => (0, 0),
        });
        (SocketAddr::new(self.source(), from), SocketAddr::new(self.destination(), to))
    }

    /// Writes bytes at an offset from the IP header, if they fit.
    pub fn write(&mut self, at: usize, data: &[u8]) {
        let place = self.bytes.get_mut(at..).and_then(|rest| rest.get_mut(..data.len()));
        if let Some(place) = place {
            place.copy_from_slice(data);
            self.changed = true;
        }
    }

    /// Gives it another source (`true`) or destination, but the same ports.
    pub fn set_address(&mut self, source: bool, ip: IpAddr) {
        let at = match (self.v6, source) {
            (false, true) => 12,
            (false, false) => 16,
            (true, true) => 8,
            (true, false) => 24,
        };
        match (self.v6, ip) {
            (false, IpAddr::V4(ip)) => self.write(at, &ip.octets()),
            (true, IpAddr::V6(ip)) => self.write(at, &ip.octets()),
            _ => {}
        }
    }

    /// Gives it another source (`true`) or destination. Checksums are the caller's business.
    pub fn set_end(&mut self, source: bool, end: SocketAddr) {
        self.set_address(source, end.ip());
        let port = end.port().to_be_bytes();
        if self.ports().is_some() {
            self.write(self.transport + if source { 0 } else { 2 }, &port);
        } else if self.icmp().is_some() && source {
            self.write(self.transport + 4, &port);
        }
    }

    /// Its bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
