//! Changes of a network's configuration, for netlink and `ioctl(2)` alike.
//!
//! * here: starting, stopping, renaming and the like. [`address`], [`route`], [`neighbor`]: those.
//!
//! What is changed is changed in the list of interfaces, which sockets of this machine ask, and in the stack, by which
//! other machines are reached; then those are told who listen ([`crate::socket::netlink::notify`]). The caller has
//! checked that the task may do that.

pub mod address;
pub mod neighbor;
pub mod route;

use super::interface::{ARPHRD_LOOPBACK, Address, IFF_UP, Interface, LOOPBACK};
use super::uplink::error::errno;
use super::{Net, links};
use crate::errno::{Errno, Result};
use crate::socket::netlink::notify::{self, Cause};
use netstack::{IfaceId, MacAddr, Stack};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Smallest MTU of an Ethernet interface, and the largest of one that the guest has made (`ETH_MIN_MTU`,
/// `ETH_MAX_MTU`).
pub const MTU: [u32; 2] = [68, 65_535];
/// Smallest MTU with which an interface takes part in IPv6.
const MTU_V6: u32 = 1280;
/// Flags that programs may change besides `IFF_UP`: `IFF_DEBUG`, `IFF_NOTRAILERS`, `IFF_NOARP`, `IFF_PROMISC`,
/// `IFF_ALLMULTI`, `IFF_PORTSEL`, `IFF_AUTOMEDIA`, `IFF_DYNAMIC`, `IFF_MULTICAST`.
const CHANGEABLE: u32 = 0x4 | 0x20 | 0x80 | 0x100 | 0x200 | 0x2000 | 0x4000 | 0x8000 | 0x1000;
/// Longest name (`IFNAMSIZ`, without its NUL).
const MAX_NAME: usize = 15;

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The error.
    pub errno: Errno,
    /// The same for people (`NLMSGERR_ATTR_MSG`), where Linux has something to say.
    pub text: Option<&'static str>,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure { errno, text: None }
    }
}

impl Failure {
    /// An error with an explanation.
    pub fn new(errno: Errno, text: &'static str) -> Failure {
        Failure { errno, text: Some(text) }
    }
}

/// The result of a change.
pub type Outcome = std::result::Result<(), Failure>;

/// True for a name that an interface can have (`dev_valid_name`).
pub fn is_name(name: &[u8]) -> bool {
    let bad = |b: &u8| matches!(b, b'/' | b':') || b.is_ascii_whitespace() || *b == 0x0b;
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name != b"."
        && name != b".."
        && !name.iter().any(bad)
}

/// The link-local address that follows from a hardware address (RFC 4291, appendix A).
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> IpAddr {
    let half = |x: u8, y: u8| u16::from_be_bytes([x, y]);
    let [w, x, y, z] = [half(a ^ 2, b), half(c, 0xff), half(0xfe, d), half(e, f)];
    Ipv6Addr::new(0xfe80, 0, 0, 0, w, x, y, z).into()
}

impl Net {
    /// The stack, if there are other machines.
    pub fn stack(&self) -> Option<&Arc<Stack>> {
        self.uplink.get().and_then(|uplink| uplink.stack())
    }

    /// Starts or stops an interface. `ENODEV`.
    pub fn set_up(self: &Arc<Net>, index: u32, up: bool, cause: Cause) -> Result<()> {
        let (before, after, made, mac, kind, mtu) = {
            let mut interfaces = self.interfaces.write();
            let interface = interfaces.get_mut(index).ok_or(Errno::ENODEV)?;
            if interface.is_up() == up {
                return Ok(());
            }
            let before = interface.addresses.clone();
            interface.set_up(up);
            let Interface { addresses, made, mac, kind, mtu, .. } = interface;
            (before, addresses.clone(), made.clone(), *mac, *kind, *mtu)
        };
        if let Some(stack) = self.stack().filter(|_| index != LOOPBACK) {
            let id = IfaceId(index);
            stack.set_up(id, up).map_err(errno)?;
            if up {
                stack.restore_routes_of(id).map_err(errno)?;
            } else {
                for address in before.iter().filter(|a| a.ip.is_ipv6()) {
                    // It may have gone by itself.
                    let _ = stack.remove_address(id, address.ip);
                }
                stack.remove_routes_of(id);
            }
        }
        if !up {
            self.wire.taps.interface_gone(index, false);
        }
        notify::link(self, index, IFF_UP, cause);
        let has =
            |all: &[Address], a: &Address| all.iter().any(|b| (b.ip, b.prefix) == (a.ip, a.prefix));
        for address in before.iter().filter(|a| !has(&after, a)) {
            notify::address(self, index, address, false, cause);
        }
        for address in after.iter().filter(|a| !has(&before, a)) {
            notify::address(self, index, address, true, cause);
        }
        let kept = |a: &&Address| up && a.ip.is_ipv4() && has(&after, a);
        for address in before.iter().filter(kept) {
            notify::started(self, index, address, address.early, cause);
        }
        if let Some(made) = &made {
            made.set_up(up);
            links::carrier_changed(made);
        }
        if up && made.is_some() && kind != ARPHRD_LOOPBACK && mtu >= MTU_V6 && mac != [0; 6] {
            let own = address::Given { ip: link_local(mac), prefix: 64, broadcast: false };
            // There may be one already.
            let _ = self.add_address(index, own, true, cause);
        }
        Ok(())
    }

    /// Changes flags of an interface, those in `change`. `ENODEV`.
    pub fn set_flags(
        self: &Arc<Net>,
        index: u32,
        flags: u32,
        change: u32,
        cause: Cause,
    ) -> Result<()> {
        let wanted = change & CHANGEABLE;
        let changed = {
            let mut interfaces = self.interfaces.write();
            let interface = interfaces.get_mut(index).ok_or(Errno::ENODEV)?;
            let old = interface.flags;
            interface.flags = old & !wanted | flags & wanted;
            old ^ interface.flags
        };
        if change & IFF_UP != 0 {
            self.set_up(index, flags & IFF_UP != 0, cause)?;
        }
        if changed != 0 {
            notify::link(self, index, changed, cause);
        }
        Ok(())
    }

    /// Changes the largest packet. `ENODEV`, `EINVAL`.
    pub fn set_mtu(self: &Arc<Net>, index: u32, mtu: u32, cause: Cause) -> Outcome {
        {
            let mut interfaces = self.interfaces.write();
            let interface = interfaces.get_mut(index).ok_or(Errno::ENODEV)?;
            let [least, most] = match interface.kind {
                ARPHRD_LOOPBACK => [0, i32::MAX as u32],
                _ => MTU,
            };
            if mtu < least {
                return Err(Failure::new(Errno::EINVAL, "mtu less than device minimum"));
            }
            if mtu > most {
                return Err(Failure::new(Errno::EINVAL, "mtu greater than device maximum"));
            }
            if interface.mtu == mtu {
                return Ok(());
            }
            interface.mtu = mtu;
        }
        if let Some(stack) = self.stack().filter(|_| index != LOOPBACK) {
            stack.set_mtu(IfaceId(index), mtu as usize).map_err(errno)?;
        }
        notify::link(self, index, 0, cause);
        Ok(())
    }

    /// Gives an interface another name. `ENODEV`, `EINVAL`, `EEXIST`.
    pub fn rename(self: &Arc<Net>, index: u32, name: &[u8], cause: Cause) -> Result<()> {
        {
            let mut interfaces = self.interfaces.write();
            if interfaces.get(index).ok_or(Errno::ENODEV)?.name == name {
                return Ok(());
            }
            if !is_name(name) {
                return Err(Errno::EINVAL);
            }
            if interfaces.named(name).is_some() {
                return Err(Errno::EEXIST);
            }
            interfaces.get_mut(index).ok_or(Errno::ENODEV)?.name = name.to_vec();
        }
        notify::link(self, index, 0, cause);
        Ok(())
    }

    /// Changes the hardware address. `ENODEV`; `EADDRNOTAVAIL` for a group's; `EOPNOTSUPP` where it is not the guest's.
    pub fn set_mac(self: &Arc<Net>, index: u32, mac: [u8; 6], cause: Cause) -> Result<()> {
        let made = {
            let mut interfaces = self.interfaces.write();
            let interface = interfaces.get_mut(index).ok_or(Errno::ENODEV)?;
            if interface.made.is_none() {
                return Err(Errno::EOPNOTSUPP);
            }
            if mac[0] & 1 != 0 || mac == [0; 6] {
                return Err(Errno::EADDRNOTAVAIL);
            }
            interface.mac = mac;
            interface.made.clone()
        };
        if let Some(made) = made {
            made.set_mac(mac);
        }
        if let Some(stack) = self.stack() {
            stack.set_mac(IfaceId(index), MacAddr(mac)).map_err(errno)?;
        }
        notify::link(self, index, 0, cause);
        Ok(())
    }

    /// Changes how many packets may wait. `ENODEV`.
    pub fn set_queue_len(self: &Arc<Net>, index: u32, packets: u32, cause: Cause) -> Result<()> {
        {
            let mut interfaces = self.interfaces.write();
            interfaces.get_mut(index).ok_or(Errno::ENODEV)?.queue_len = packets;
        }
        notify::link(self, index, 0, cause);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a:b", b"a b", b"sixteen-letters-"] {
            assert!(!is_name(bad), "{}", bad.escape_ascii());
        }
        assert!(is_name(b"veth0") && is_name(b"fifteen-letters"));
        assert_eq!(link_local([0x52, 0x54, 0, 1, 2, 3]).to_string(), "fe80::5054:ff:fe01:203");
    }

    #[test]
    fn the_loopback_interface_can_be_changed() {
        let net = Net::new(false);
        let cause = Cause::default();
        net.set_up(LOOPBACK, true, cause).unwrap();
        assert!(net.is_local("127.0.0.1".parse().unwrap()));
        net.set_mtu(LOOPBACK, 1000, cause).unwrap();
        assert_eq!(net.rename(LOOPBACK, b"a/b", cause), Err(Errno::EINVAL));
        net.rename(LOOPBACK, b"lo0", cause).unwrap();
        assert_eq!(net.device_named(b"lo0"), Some(LOOPBACK));
        assert_eq!(net.set_mac(LOOPBACK, [2; 6], cause), Err(Errno::EOPNOTSUPP));
        net.set_up(LOOPBACK, false, cause).unwrap();
        assert!(!net.is_local("127.0.0.1".parse().unwrap()));
        assert_eq!(net.set_up(9, true, cause), Err(Errno::ENODEV));
    }
}
