//! The Internet layer, both versions: what comes in (`input`), what goes out (`output`), fragments, ICMP and
//! the path MTU.

pub(crate) mod icmp;
pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod pmtu;
pub(crate) mod reassembly;

use crate::iface::Iface;
use crate::rxbuf::RxBuffer;
use std::net::IpAddr;
use std::sync::Arc;

/// What kind of destination a packet that came in has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DstKind {
    /// An address of ours.
    Host,
    /// All hosts of the network.
    Broadcast,
    /// A group.
    Group,
}

/// What the upper layers learn about a packet that came in.
#[derive(Clone, Copy)]
pub(crate) struct IpInfo<'a> {
    pub iface: &'a Arc<Iface>,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub kind: DstKind,
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// The transport checksum needs no checking.
    pub checksum_valid: bool,
    /// Where the packet is, if it may be kept there.
    pub buffer: Option<&'a Arc<RxBuffer>>,
    /// The frame was sent to all or a group on the link.
    pub link_group: bool,
    /// The whole packet, for errors that quote it and for raw endpoints.
    pub packet: &'a [u8],
}

impl IpInfo<'_> {
    /// True when an ICMP error may be sent about the packet (RFC 1122, section 3.2.2).
    pub(crate) fn may_answer(&self) -> bool {
        let src_ok = match self.src {
            IpAddr::V4(a) => !a.is_unspecified() && !a.is_multicast() && !a.is_broadcast(),
            IpAddr::V6(a) => !a.is_unspecified() && !a.is_multicast(),
        };
        src_ok && self.kind == DstKind::Host && !self.link_group
    }
}
