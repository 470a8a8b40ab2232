//! Neighbour discovery messages (RFC 4861). All parsers start behind the ICMPv6 checksum's four bytes.

use super::ethernet::MacAddr;
use super::{addr6, array, be16, be32, byte, put};
use std::net::Ipv6Addr;

/// Options looked at in one message: more is malformed to us.
const MAX_OPTIONS: usize = 32;

/// A prefix of a router advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub prefix: Ipv6Addr,
    pub len: u8,
    pub on_link: bool,
    pub autonomous: bool,
    /// Seconds; `u32::MAX` is for ever.
    pub valid: u32,
    pub preferred: u32,
}

/// Options of any message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub source: Option<MacAddr>,
    pub target: Option<MacAddr>,
    pub mtu: Option<u32>,
    pub prefixes: Vec<Prefix>,
}

impl Options {
    /// A zero length makes the whole message invalid (RFC 4861, section 4.6).
    fn parse(mut b: &[u8]) -> Option<Self> {
        let mut out = Self::default();
        for _ in 0..MAX_OPTIONS {
            if b.is_empty() {
                return Some(out);
            }
            let len = usize::from(byte(b, 1)?) * 8;
            if len == 0 {
                return None;
            }
            let option = b.get(..len)?;
            match (option.first(), len) {
                (Some(1), 8..) => out.source = array(option, 2).map(MacAddr),
                (Some(2), 8..) => out.target = array(option, 2).map(MacAddr),
                (Some(3), 32) => out.prefixes.push(Prefix {
                    len: byte(option, 2)?,
                    on_link: byte(option, 3)? & 0x80 != 0,
                    autonomous: byte(option, 3)? & 0x40 != 0,
                    valid: be32(option, 4)?,
                    preferred: be32(option, 8)?,
                    prefix: addr6(option, 16)?,
                }),
                (Some(5), 8) => out.mtu = be32(option, 4),
                _ => {}
            }
            b = b.get(len..)?;
        }
        None
    }
}

/// A neighbour solicitation: target and options.
pub(crate) fn parse_solicit(b: &[u8]) -> Option<(Ipv6Addr, Options)> {
    Some((addr6(b, 4)?, Options::parse(b.get(20..)?)?))
}

/// A neighbour advertisement.
#[derive(Clone, Debug)]
pub(crate) struct Advert {
    pub solicited: bool,
    pub override_: bool,
    pub target: Ipv6Addr,
    pub options: Options,
}

/// Parses a neighbour advertisement.
pub(crate) fn parse_advert(b: &[u8]) -> Option<Advert> {
    let flags = byte(b, 0)?;
    Some(Advert {
        solicited: flags & 0x40 != 0,
        override_: flags & 0x20 != 0,
        target: addr6(b, 4)?,
        options: Options::parse(b.get(20..)?)?,
    })
}

/// A router advertisement.
#[derive(Clone, Debug)]
pub(crate) struct RouterAdvert {
    /// Seconds; zero: not a default router.
    pub lifetime: u16,
    pub options: Options,
}

/// Parses a router advertisement.
pub(crate) fn parse_router_advert(b: &[u8]) -> Option<RouterAdvert> {
    Some(RouterAdvert { lifetime: be16(b, 2)?, options: Options::parse(b.get(12..)?)? })
}

/// A solicitation from the ICMPv6 type on, checksum left zero.
pub(crate) fn emit_solicit(target: Ipv6Addr, source: Option<MacAddr>) -> Vec<u8> {
    let mut b = vec![0; 24];
    put(&mut b, 0, &[super::icmp::v6::NEIGHBOR_SOLICIT]);
    put(&mut b, 8, &target.octets());
    link_option(&mut b, 1, source);
    b
}

/// An advertisement from the ICMPv6 type on, checksum left zero.
pub(crate) fn emit_advert(target: Ipv6Addr, mac: MacAddr, solicited: bool) -> Vec<u8> {
    let mut b = vec![0; 24];
    put(&mut b, 0, &[super::icmp::v6::NEIGHBOR_ADVERT]);
    put(&mut b, 4, &[0x20 | (u8::from(solicited) << 6)]);
    put(&mut b, 8, &target.octets());
    link_option(&mut b, 2, Some(mac));
    b
}

/// A router solicitation from the ICMPv6 type on, checksum left zero.
pub(crate) fn emit_router_solicit(source: Option<MacAddr>) -> Vec<u8> {
    let mut b = vec![0; 8];
    put(&mut b, 0, &[super::icmp::v6::ROUTER_SOLICIT]);
    link_option(&mut b, 1, source);
    b
}

fn link_option(b: &mut Vec<u8>, kind: u8, mac: Option<MacAddr>) {
    if let Some(mac) = mac {
        b.extend_from_slice(&[kind, 1]);
        b.extend_from_slice(&mac.0);
    }
}
