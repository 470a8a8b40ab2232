//! Addresses of interfaces.

use super::super::Net;
use super::super::interface::{Address, LOOPBACK};
use super::super::uplink::error::errno;
use super::{Failure, Outcome};
use crate::errno::Errno;
use crate::socket::netlink::notify::{self, Cause};
use netstack::{Cidr, IfaceId};
use std::net::IpAddr;
use std::sync::Arc;

/// Most addresses of one interface.
const MAX_ADDRESSES: usize = 256;

/// An address to be given.
#[derive(Debug, Clone, Copy)]
pub struct Given {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the network part.
    pub prefix: u8,
    /// Its broadcast address was named.
    pub broadcast: bool,
}

impl Net {
    /// Gives an interface an address; one of IPv6 that is there already may stay if not `new`. `ENODEV`, `EEXIST`,
    /// `ENOBUFS`.
    pub fn add_address(
        self: &Arc<Net>,
        index: u32,
        given: Given,
        new: bool,
        cause: Cause,
    ) -> Outcome {
        let Given { ip, prefix, broadcast } = given;
        let v4 = ip.is_ipv4();
        let (address, up) = {
            let mut interfaces = self.interfaces.write();
            let interface = interfaces.get_mut(index).ok_or_else(|| no_device(v4))?;
            let same = |a: &Address| a.ip == ip && (!v4 || a.prefix == prefix);
            if interface.addresses.iter().any(same) {
                return match v4 {
                    true => Err(Failure::new(Errno::EEXIST, "ipv4: Address already assigned")),
                    false if new => {
                        Err(Failure::new(Errno::EEXIST, "ipv6: address already assigned"))
                    }
                    false => Ok(()),
                };
            }
            if interface.addresses.len() >= MAX_ADDRESSES {
                return Err(Errno::ENOBUFS.into());
            }
            let up = interface.is_up();
            let address = Address { ip, prefix, has_broadcast: broadcast, early: v4 && !up };
            interface.addresses.push(address);
            (address, up)
        };
        if let Err(e) = self.tell_stack(index, &address, up) {
            let mut interfaces = self.interfaces.write();
            if let Some(interface) = interfaces.get_mut(index) {
                interface.addresses.retain(|a| (a.ip, a.prefix) != (ip, prefix));
            }
            return Err(e.into());
        }
        notify::address(self, index, &address, true, cause);
        Ok(())
    }

    fn tell_stack(&self, index: u32, address: &Address, up: bool) -> Result<(), Errno> {
        let Some(stack) = self.stack() else { return Ok(()) };
        let cidr = Cidr::new(address.ip, address.prefix).ok_or(Errno::EINVAL)?;
        match stack.add_address(IfaceId(index), cidr) {
            // To the stack, as to nobody else, an address is one interface's.
            Err(netstack::Error::AddressInUse) => Err(Errno::EEXIST),
            other => other.map_err(errno),
        }?;
        if !up && index != LOOPBACK {
            stack.remove_routes_of(IfaceId(index));
        }
        Ok(())
    }

    /// Takes an address away. `ENODEV`, `EADDRNOTAVAIL`.
    pub fn remove_address(
        self: &Arc<Net>,
        index: u32,
        ip: IpAddr,
        prefix: Option<u8>,
        cause: Cause,
    ) -> Outcome {
        let v4 = ip.is_ipv4();
        let old = {
            let mut interfaces = self.interfaces.write();
            let interface = interfaces.get_mut(index).ok_or_else(|| no_device(v4))?;
            let is = |a: &Address| a.ip == ip && prefix.is_none_or(|prefix| prefix == a.prefix);
            let at = interface.addresses.iter().position(is);
            let text = if v4 { "ipv4: Address not found" } else { "ipv6: address not found" };
            let at = at.ok_or(Failure::new(Errno::EADDRNOTAVAIL, text))?;
            interface.addresses.remove(at)
        };
        if let Some(stack) = self.stack() {
            // It may have gone by itself.
            let _ = stack.remove_address(IfaceId(index), ip);
        }
        notify::address(self, index, &old, false, cause);
        Ok(())
    }
}

fn no_device(v4: bool) -> Failure {
    let text = if v4 { "ipv4: Device not found" } else { "Unable to find the specified device" };
    Failure::new(Errno::ENODEV, text)
}
