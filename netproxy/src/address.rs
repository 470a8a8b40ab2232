//! Addresses of a sandbox behind the proxy, and which others it may reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The guest's address, and the bits of its network.
pub const GUEST_V4: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 2, 100), 24);
/// The same for IPv6 (a unique local address, RFC 4193).
pub const GUEST_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100), 64);
/// The next hop of everything else; and the host's own loopback interface, where that is allowed.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The same for IPv6.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// Stands for the host's name server.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// Port of name servers.
pub const DNS: u16 = 53;

/// Services that tell a machine its secrets, besides those with link-local addresses: EC2 over IPv6, Alibaba's
/// and Oracle's metadata, Azure's host agent.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// What an address of the guest's view stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The machine with this address.
    Host(SocketAddr),
    /// The host's own loopback interface.
    Loopback(SocketAddr),
    /// The host's name server.
    Resolver,
}

/// Why an address is not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is never reached: this machine's own, link-local or multicast.
    Forbidden,
    /// It lies in the network between guest and gateway, where nobody has it.
    Nobody,
}

/// What `to` stands for.
pub fn target(to: SocketAddr) -> Result<Target, Refusal> {
    let ip = to.ip().to_canonical();
    let port = to.port();
    match ip {
        IpAddr::V4(v4) if v4 == RESOLVER && port == DNS => return Ok(Target::Resolver),
        IpAddr::V4(v4) if v4 == GATEWAY_V4 => {
            return Ok(Target::Loopback((Ipv4Addr::LOCALHOST, port).into()));
        }
        IpAddr::V6(v6) if v6 == GATEWAY_V6 => {
            return Ok(Target::Loopback((Ipv6Addr::LOCALHOST, port).into()));
        }
        _ => {}
    }
    if is_between(ip) {
        return Err(Refusal::Nobody);
    }
    if is_forbidden(ip) {
        return Err(Refusal::Forbidden);
    }
    Ok(Target::Host((ip, port).into()))
}

/// How the guest sees a peer of the host's: its loopback interface is the gateway.
pub fn seen_from_guest(peer: SocketAddr) -> SocketAddr {
    let ip = match peer.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_loopback() => GATEWAY_V4.into(),
        IpAddr::V6(ip) if ip.is_loopback() => GATEWAY_V6.into(),
        ip => ip,
    };
    (ip, peer.port()).into()
}

/// In the network of the guest itself.
fn is_between(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets().starts_with(&[10, 0, 2]),
        IpAddr::V6(ip) => ip.segments().starts_with(&[0xfd00, 0, 0, 0]),
    }
}

fn is_forbidden(ip: IpAddr) -> bool {
    if METADATA.contains(&ip) || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() {
        return true;
    }
    match ip {
        IpAddr::V4(ip) => {
            let [first, ..] = ip.octets();
            ip.is_link_local() || ip.is_broadcast() || first == 0
        }
        // Link-local, and what embeds an IPv4 address that may be one of the others: compatible (::/96),
        // translated (64:ff9b::/96) and 6to4 (2002::/16).
        IpAddr::V6(ip) => {
            let embedded = match ip.segments() {
                [0, 0, 0, 0, 0, 0, a, b] | [0x64, 0xff9b, 0, 0, 0, 0, a, b] => Some((a, b)),
                [0x2002, a, b, ..] => Some((a, b)),
                _ => None,
            };
            let embedded = embedded.map(|(a, b)| Ipv4Addr::from(u32::from(a) << 16 | u32::from(b)));
            ip.is_unicast_link_local() || embedded.is_some_and(|v4| is_forbidden(v4.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Target, Refusal> {
        target(text.parse().unwrap())
    }

    #[test]
    fn what_is_reached() {
        for ok in ["192.0.2.1:80", "[2001:db8::1]:443", "10.0.3.2:1", "8.8.8.8:53"] {
            assert_eq!(of(ok), Ok(Target::Host(ok.parse().unwrap())), "{ok}");
        }
        assert_eq!(of("[::ffff:192.0.2.1]:80"), of("192.0.2.1:80"));
        assert_eq!(of("10.0.2.3:53"), Ok(Target::Resolver));
        assert_eq!(of("10.0.2.2:80"), Ok(Target::Loopback("127.0.0.1:80".parse().unwrap())));
        assert_eq!(of("[fd00::2]:80"), Ok(Target::Loopback("[::1]:80".parse().unwrap())));
    }

    #[test]
    fn what_is_not() {
        for no in [
            "169.254.169.254:80",
            "[::ffff:169.254.169.254]:80",
            "[64:ff9b::a9fe:a9fe]:80",
            "[2002:a9fe:a9fe::1]:80",
            "[::169.254.169.254]:80",
            "[fe80::1]:80",
            "[fd00:ec2::254]:80",
            "100.100.100.200:80",
            "127.0.0.1:22",
            "[::1]:22",
            "0.0.0.0:22",
            "0.1.2.3:22",
            "224.0.0.1:9",
            "255.255.255.255:9",
            "[ff02::1]:9",
        ] {
            assert_eq!(of(no), Err(Refusal::Forbidden), "{no}");
        }
        for no in ["10.0.2.3:80", "10.0.2.99:1", "[fd00::9]:1"] {
            assert_eq!(of(no), Err(Refusal::Nobody), "{no}");
        }
    }

    #[test]
    fn the_host_looks_like_the_gateway() {
        let seen = |text: &str| seen_from_guest(text.parse().unwrap()).to_string();
        assert_eq!(seen("127.0.0.1:5"), "10.0.2.2:5");
        assert_eq!(seen("[::ffff:127.0.0.1]:5"), "10.0.2.2:5");
        assert_eq!(seen("[::1]:5"), "[fd00::2]:5");
        assert_eq!(seen("192.0.2.7:5"), "192.0.2.7:5");
    }
}
