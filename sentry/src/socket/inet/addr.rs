//! Internet addresses (`ip(7)`, `ipv6(7)`): `sockaddr_in` and `sockaddr_in6`.
//!
//! Inside, an address is an [`Endpoint`]; an IPv4 address mapped into IPv6 is always kept as IPv4, so
//! that sockets of both families compare equal. Which form a program sees depends on its socket.

use crate::errno::{Errno, Result};
use crate::socket::family::AF_UNSPEC;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `AF_INET`
pub const AF_INET: i32 = 2;
/// `AF_INET6`
pub const AF_INET6: i32 = 10;

/// Size of `struct sockaddr_in`.
pub const V4_LEN: usize = 16;
/// Least size of `struct sockaddr_in6` (without the scope, RFC 2133).
pub const V6_MIN_LEN: usize = 24;

/// An address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Never an IPv4 address mapped into IPv6.
    pub ip: IpAddr,
    /// Port, or what else tells the endpoints of a protocol apart (ICMP identifier).
    pub port: u16,
}

impl Endpoint {
    /// An endpoint; a mapped address is unmapped.
    pub fn new(ip: IpAddr, port: u16) -> Endpoint {
        Endpoint { ip: ip.to_canonical(), port }
    }

    /// As a program with a socket of `family` sees it.
    pub fn sockaddr(&self, family: i32) -> Vec<u8> {
        let mut out = (family as u16).to_ne_bytes().to_vec();
        out.extend_from_slice(&self.port.to_be_bytes());
        match (family, self.ip) {
            (AF_INET, IpAddr::V4(ip)) => {
                out.extend_from_slice(&ip.octets());
                out.extend_from_slice(&[0; 8]);
            }
            // A socket of IPv4 has no IPv6 addresses.
            (AF_INET, IpAddr::V6(_)) => out.extend_from_slice(&[0; 12]),
            (_, ip) => {
                out.extend_from_slice(&[0; 4]);
                out.extend_from_slice(&mapped(ip).octets());
                out.extend_from_slice(&[0; 4]);
            }
        }
        out
    }
}

/// An address as IPv6 writes it.
pub fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        // The wildcard of IPv4 is shown as that of IPv6 by those who were bound to neither.
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// "Any address" of a family.
pub fn any(family: i32) -> IpAddr {
    if family == AF_INET { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// The loopback address that stands for "any address" as a destination.
pub fn loopback_for(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// The family in the first two bytes. `EINVAL` if there are none.
pub fn family_of(addr: &[u8]) -> Result<i32> {
    addr.first_chunk().map(|f| i32::from(u16::from_ne_bytes(*f))).ok_or(Errno::EINVAL)
}

fn v4(addr: &[u8]) -> Option<Endpoint> {
    let port = u16::from_be_bytes(*addr.get(2..)?.first_chunk()?);
    let ip = Ipv4Addr::from(*addr.get(4..)?.first_chunk::<4>()?);
    Some(Endpoint { ip: ip.into(), port })
}

fn v6(addr: &[u8]) -> Option<Endpoint> {
    let port = u16::from_be_bytes(*addr.get(2..)?.first_chunk()?);
    let ip = Ipv6Addr::from(*addr.get(8..)?.first_chunk::<16>()?);
    Some(Endpoint::new(ip.into(), port))
}

/// Takes an address for a socket of `family` apart. `EINVAL` if it is too short, `EAFNOSUPPORT` for
/// another family.
pub fn parse(family: i32, addr: &[u8]) -> Result<Endpoint> {
    let least = if family == AF_INET { V4_LEN } else { V6_MIN_LEN };
    if addr.len() < least {
        return Err(Errno::EINVAL);
    }
    if family_of(addr)? != family {
        return Err(Errno::EAFNOSUPPORT);
    }
    let parsed = if family == AF_INET { v4(addr) } else { v6(addr) };
    parsed.ok_or(Errno::EINVAL)
}

/// As [`parse`], for `bind(2)`: an IPv4 socket takes `AF_UNSPEC` for the wildcard address.
pub fn parse_bind(family: i32, addr: &[u8]) -> Result<Endpoint> {
    if family == AF_INET && addr.len() >= V4_LEN && family_of(addr)? == AF_UNSPEC {
        return v4(addr).filter(|e| e.ip.is_unspecified()).ok_or(Errno::EAFNOSUPPORT);
    }
    parse(family, addr)
}

/// As [`parse`], for the destination of a datagram: `None` for `AF_UNSPEC` on an IPv6 socket, which
/// means the peer; an IPv6 socket also takes IPv4 addresses.
pub fn parse_destination(family: i32, addr: &[u8]) -> Result<Option<Endpoint>> {
    let given = family_of(addr)?;
    match (family, given) {
        (AF_INET, AF_UNSPEC) if addr.len() >= V4_LEN => Ok(v4(addr)),
        (AF_INET6, AF_UNSPEC) => Ok(None),
        (AF_INET6, AF_INET) if addr.len() >= V4_LEN => Ok(v4(addr)),
        (AF_INET6, AF_INET6) => parse(family, addr).map(Some),
        (AF_INET6, _) => Err(Errno::EINVAL),
        _ => parse(family, addr).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let e = Endpoint::new("127.0.0.1".parse().unwrap(), 80);
        assert_eq!(e.sockaddr(AF_INET), b"\x02\0\0\x50\x7f\0\0\x01\0\0\0\0\0\0\0\0");
        let six = e.sockaddr(AF_INET6);
        assert_eq!(six.len(), 28);
        assert_eq!(parse(AF_INET6, &six), Ok(e));
        assert_eq!(parse(AF_INET, &six), Err(Errno::EAFNOSUPPORT));
        assert_eq!(parse(AF_INET, &[2; 15]), Err(Errno::EINVAL));
        assert_eq!(parse_destination(AF_INET6, &e.sockaddr(AF_INET)), Ok(Some(e)));
    }
}
