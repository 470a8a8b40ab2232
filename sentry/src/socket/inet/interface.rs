//! Network interfaces (`netdevice(7)`).

use super::links::Made;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Index of the loopback interface.
pub const LOOPBACK: u32 = 1;

/// `IFF_UP`
pub const IFF_UP: u32 = 0x1;
/// `IFF_LOOPBACK`
pub const IFF_LOOPBACK: u32 = 0x8;
/// `IFF_RUNNING`
pub const IFF_RUNNING: u32 = 0x40;
/// `IFF_LOWER_UP`
pub const IFF_LOWER_UP: u32 = 0x1_0000;
/// `ARPHRD_LOOPBACK`
pub const ARPHRD_LOOPBACK: u16 = 772;

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the network part.
    pub prefix: u8,
    /// Its broadcast address was named when it was given (`IFA_BROADCAST`).
    pub has_broadcast: bool,
    /// It was given while the interface was down, which has not been started or stopped since: as on Linux it is the
    /// machine's already.
    pub early: bool,
}

impl Address {
    /// An address whose broadcast address, if there is one, is the usual one.
    pub fn new(ip: IpAddr, prefix: u8) -> Address {
        Address { ip, prefix, has_broadcast: true, early: false }
    }

    /// The network mask, for IPv4.
    pub fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0)
    }

    /// The last address of an IPv4 network, if it has more than two.
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        let IpAddr::V4(ip) = self.ip else { return None };
        (self.prefix < 31).then(|| Ipv4Addr::from(u32::from(ip) | !self.mask()))
    }

    fn has(&self, ip: Ipv4Addr) -> bool {
        let IpAddr::V4(own) = self.ip else { return false };
        u32::from(own) & self.mask() == u32::from(ip) & self.mask()
    }
}

/// An interface.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Its number, from 1.
    pub index: u32,
    /// Its name, shorter than 16 bytes.
    pub name: Vec<u8>,
    /// `IFF_*`.
    pub flags: u32,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// `ARPHRD_*`.
    pub kind: u16,
    /// Hardware address.
    pub mac: [u8; 6],
    /// How many sockets want all frames of it (`PACKET_MR_PROMISC`).
    pub promiscuity: u32,
    /// Packets that wait at most (`txqueuelen`). Nothing waits here; programs set it.
    pub queue_len: u32,
    /// Addresses, in the order in which they were given.
    pub addresses: Vec<Address>,
    /// What it is, if the guest has made it.
    pub made: Option<Made>,
}

impl Default for Interface {
    fn default() -> Interface {
        Interface {
            index: 0,
            name: Vec::new(),
            flags: 0,
            mtu: 1500,
            kind: 1,
            mac: [0; 6],
            promiscuity: 0,
            queue_len: 1000,
            addresses: Vec::new(),
            made: None,
        }
    }
}

impl Interface {
    /// True for the loopback interface.
    pub fn is_loopback(&self) -> bool {
        self.flags & IFF_LOOPBACK != 0
    }

    /// Starts or stops it. A loopback interface has its addresses from its first start on.
    pub fn set_up(&mut self, up: bool) {
        for address in &mut self.addresses {
            address.early = false;
        }
        if !up {
            self.flags &= !(IFF_UP | IFF_RUNNING);
            // As on Linux IPv6 addresses go with the link.
            self.addresses.retain(|a| a.ip.is_ipv4());
            return;
        }
        self.flags |= IFF_UP | IFF_RUNNING;
        if self.is_loopback() {
            let own = [(Ipv4Addr::LOCALHOST.into(), 8), (Ipv6Addr::LOCALHOST.into(), 128)];
            for (ip, prefix) in own {
                let same_family = |a: &Address| a.ip.is_ipv4() == IpAddr::is_ipv4(&ip);
                if !self.addresses.iter().any(same_family) {
                    self.addresses.push(Address::new(ip, prefix));
                }
            }
        }
    }

    /// True once it was started.
    pub fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }

    /// Its first address of the family of `to`.
    pub fn source_for(&self, to: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().map(|a| a.ip).find(|ip| ip.is_ipv4() == to.is_ipv4())
    }
}

/// All interfaces of a network.
#[derive(Debug, Default)]
pub struct Interfaces(Vec<Interface>);

impl Interfaces {
    /// `lo` alone.
    pub fn with_loopback(up: bool) -> Interfaces {
        let mut lo = Interface {
            index: LOOPBACK,
            name: b"lo".to_vec(),
            flags: IFF_LOOPBACK,
            mtu: 65536,
            kind: ARPHRD_LOOPBACK,
            ..Interface::default()
        };
        if up {
            lo.set_up(true);
        }
        Interfaces(vec![lo])
    }

    /// Adds one.
    pub fn push(&mut self, interface: Interface) {
        self.0.push(interface);
    }

    /// The one with that index, to be changed.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Interface> {
        self.0.iter_mut().find(|i| i.index == index)
    }

    /// Takes one away.
    pub fn remove(&mut self, index: u32) -> Option<Interface> {
        let at = self.0.iter().position(|i| i.index == index)?;
        Some(self.0.remove(at))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by index.
    pub fn iter(&self) -> impl Iterator<Item = &Interface> {
        self.0.iter()
    }

    /// The one with that index.
    pub fn get(&self, index: u32) -> Option<&Interface> {
        self.0.iter().find(|i| i.index == index)
    }

    /// The one with that name.
    pub fn named(&self, name: &[u8]) -> Option<&Interface> {
        self.0.iter().find(|i| i.name == name)
    }

    /// True if some interface has exactly this address.
    pub fn is_exactly(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|i| i.addresses.iter().any(|a| a.ip == ip))
    }

    /// The interface whose address it is; all of a network's addresses are the loopback interface's.
    pub fn owner_of(&self, ip: IpAddr) -> Option<&Interface> {
        self.0.iter().find(|i| {
            let network = |a: &Address| matches!(ip, IpAddr::V4(v4) if a.has(v4));
            let is = |a: &Address| a.ip == ip || (i.is_loopback() && network(a));
            i.addresses.iter().any(|a| (i.is_up() || a.early) && is(a))
        })
    }

    /// The interface on whose network it is the broadcast address.
    pub fn broadcast_of(&self, ip: Ipv4Addr) -> Option<&Interface> {
        let is = |i: &&Interface| i.addresses.iter().any(|a| a.broadcast() == Some(ip));
        self.0.iter().filter(|i| i.is_up()).find(is)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_owns_its_network() {
        let all = Interfaces::with_loopback(true);
        let owner = |ip: &str| all.owner_of(ip.parse().unwrap()).map(|i| i.index);
        assert_eq!(owner("127.0.0.1"), Some(1));
        assert_eq!(owner("127.9.9.9"), Some(1));
        assert_eq!(owner("128.0.0.1"), None);
        assert_eq!(owner("::1"), Some(1));
        assert_eq!(owner("::2"), None);
        assert!(all.broadcast_of(Ipv4Addr::new(127, 255, 255, 255)).is_some());
        let down = Interfaces::with_loopback(false);
        assert!(down.owner_of(Ipv4Addr::LOCALHOST.into()).is_none());
    }
}
