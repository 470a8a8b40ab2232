//! Frames that packet sockets send.

use super::PacketSocket;
use super::address::{LinkAddress, has_whole_address};
use super::frame::{self, Checksum, ETH_P_ALL, ETHERNET_HEADER};
use crate::errno::{Errno, Result};
use crate::io::Source;
use crate::socket::inet::interface::{IFF_UP, LOOPBACK};
use crate::socket::inet::links::tun::ARPHRD_NONE;
use crate::socket::inet::packet::{self, Header};
use crate::socket::{Kind, SendMsg};
use netstack::IfaceId;

/// Room for a tag beyond the MTU.
const VLAN_HEADER: usize = 4;

/// Where a frame goes, as the program named it.
#[derive(Debug, Clone, Copy)]
pub(super) struct To {
    address: LinkAddress,
    /// Bytes that were given.
    given: usize,
}

impl To {
    /// `EINVAL`.
    pub(super) fn parse(bytes: &[u8]) -> Result<To> {
        let address = LinkAddress::parse(bytes)?;
        let given = bytes.len();
        if !has_whole_address(&address, given) {
            return Err(Errno::EINVAL);
        }
        Ok(To { address, given })
    }
}

/// What of an interface matters for sending.
struct Device {
    index: u32,
    mac: [u8; 6],
    mtu: usize,
    up: bool,
    /// Length of its frames' header.
    header: usize,
}

impl PacketSocket {
    /// Sends one frame.
    pub(super) fn do_send(&self, src: &mut dyn Source, msg: &SendMsg) -> Result<usize> {
        let to = match &msg.to {
            Some(to) => Some(*to.downcast_ref::<To>().ok_or(Errno::EINVAL)?),
            None => None,
        };
        let binding = self.binding();
        let (index, protocol) = to.map_or((binding.device, binding.protocol), |to| {
            (to.address.device, to.address.protocol)
        });
        let device = self.net.with_device(index, |i| Device {
            index: i.index,
            mac: i.mac,
            mtu: i.mtu as usize,
            up: i.flags & IFF_UP != 0,
            header: if i.kind == ARPHRD_NONE { 0 } else { ETHERNET_HEADER },
        });
        let device = device.ok_or(Errno::ENXIO)?;
        if !device.up {
            return Err(Errno::ENETDOWN);
        }
        let raw = self.kind == Kind::Raw;
        let len = src.remaining();
        let header = if raw { device.header } else { 0 };
        if len > device.mtu + header + VLAN_HEADER {
            return Err(Errno::EMSGSIZE);
        }
        let mut bytes = if raw { Vec::new() } else { self.header(&device, to, protocol)? };
        if raw && len < device.header {
            return Err(Errno::EINVAL);
        }
        let start = bytes.len();
        bytes.resize(start + len, 0);
        if src.take(bytes.get_mut(start..).unwrap_or_default())? < len {
            return Err(Errno::EFAULT);
        }
        // Only a tag may go beyond the MTU.
        if bytes.len() > device.mtu + device.header && frame::protocol_of(&bytes) != 0x8100 {
            return Err(Errno::EMSGSIZE);
        }
        self.transmit(&device, &bytes, protocol)?;
        Ok(len)
    }

    /// The header of a frame whose program leaves that to the kernel. `EINVAL`.
    fn header(&self, device: &Device, to: Option<To>, protocol: u16) -> Result<Vec<u8>> {
        if device.header == 0 {
            return Ok(Vec::new());
        }
        let receiver: [u8; 6] = match to {
            Some(to) if to.given < 12 + 6 => return Err(Errno::EINVAL),
            Some(To { address, .. }) if address.len != 0 => {
                *address.address.first_chunk().ok_or(Errno::EINVAL)?
            }
            _ if device.index == LOOPBACK => [0; 6],
            _ => return Err(Errno::EINVAL),
        };
        Ok([&receiver[..], &device.mac, &protocol.to_be_bytes()].concat())
    }

    fn transmit(&self, device: &Device, bytes: &[u8], protocol: u16) -> Result<()> {
        let net = &self.net;
        if device.index != LOOPBACK {
            let stack = net.uplink.get().and_then(|u| u.stack()).ok_or(Errno::ENETDOWN)?;
            return match stack.inject(IfaceId(device.index), bytes, self.id) {
                Ok(true) => Ok(()),
                Ok(false) => Err(Errno::ENOBUFS),
                Err(_) => Err(Errno::ENXIO),
            };
        }
        let taps = &net.wire.taps;
        taps.show_loopback(bytes, Checksum::Unknown, Some(self.id));
        let data = bytes.get(ETHERNET_HEADER..).unwrap_or_default();
        let named = frame::protocol_of(bytes);
        let named =
            if self.kind == Kind::Dgram && protocol != ETH_P_ALL { protocol } else { named };
        net.counters.packet(data.len(), named == frame::ETH_P_IPV6);
        let version = data.first().map(|first| first >> 4);
        let known =
            matches!((named, version), (frame::ETH_P_IP, Some(4)) | (frame::ETH_P_IPV6, Some(6)));
        // What did not come out of a socket may not say that it comes from here (`martian source`).
        let martian = |header: &Header| {
            header.from.is_ipv4() && (header.to.is_loopback() || net.is_local(header.from))
        };
        if known && packet::parse(data).is_some_and(|(header, _)| !martian(&header)) {
            net.take_in(data);
        }
        Ok(())
    }
}
