//! `--publish`: ports of the host that lead into a sandbox.

use anyhow::Context;
use netproxy::protocol::Protocol;
use netproxy::server::Published;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::str::FromStr;

/// A `--publish`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Where the host listens.
    pub host: SocketAddr,
    /// Port in the sandbox.
    pub guest: u16,
    /// UDP rather than TCP.
    pub udp: bool,
}

impl FromStr for Publish {
    type Err = String;

    /// Reads `[IP:]HOST:GUEST[/tcp|/udp]`; an IPv6 address stands in brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        let (ports, udp) = match text.rsplit_once('/') {
            Some((ports, "tcp")) => (ports, false),
            Some((ports, "udp")) => (ports, true),
            Some((_, other)) => return Err(format!("{other:?} is neither tcp nor udp")),
            None => (text, false),
        };
        let port = |text: &str| match text.parse::<u16>() {
            Ok(0) | Err(_) => Err(format!("{text:?} is no port (1 to 65535)")),
            Ok(port) => Ok(port),
        };
        let (rest, guest) = ports.rsplit_once(':').ok_or("expected [IP:]HOST:GUEST[/udp]")?;
        let (ip, host) = match rest.rsplit_once(':') {
            None => (Ipv4Addr::UNSPECIFIED.into(), rest),
            Some((ip, host)) => {
                let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
                let ip = bare.parse::<IpAddr>();
                (ip.map_err(|_| format!("{bare:?} is no IP address"))?, host)
            }
        };
        Ok(Self { host: SocketAddr::new(ip, port(host)?), guest: port(guest)?, udp })
    }
}

impl Publish {
    /// Takes the port.
    pub fn open(&self) -> anyhow::Result<Published> {
        let socket = if self.udp { self.open_udp() } else { self.open_tcp() };
        let name = if self.udp { "udp" } else { "tcp" };
        let socket = socket.with_context(|| {
            format!("cannot publish {}/{name}: is the port taken, or below 1024?", self.host)
        })?;
        let protocol = if self.udp { Protocol::Udp } else { Protocol::Tcp };
        Ok(Published { protocol, socket, port: self.guest })
    }

    fn open_tcp(&self) -> std::io::Result<OwnedFd> {
        let socket = TcpListener::bind(self.host)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    fn open_udp(&self) -> std::io::Result<OwnedFd> {
        let socket = UdpSocket::bind(self.host)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let parse =
            |text: &str| text.parse::<Publish>().map(|p| (p.host.to_string(), p.guest, p.udp)).ok();
        let expect = |host: &str, guest, udp| Some((host.to_string(), guest, udp));
        assert_eq!(parse("8080:80"), expect("0.0.0.0:8080", 80, false));
        assert_eq!(parse("127.0.0.1:53:5353/udp"), expect("127.0.0.1:53", 5353, true));
        assert_eq!(parse("[::1]:1:2/tcp"), expect("[::1]:1", 2, false));
        for no in ["80", "0:1", "1:0", "x:1", "1.2.3:1:2", "1:2/sctp", "1:65536", ""] {
            assert_eq!(parse(no), None, "{no}");
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = taken.local_addr().unwrap();
        let error = Publish { host, guest: 80, udp: false }.open().unwrap_err();
        assert!(format!("{error:#}").contains(&host.to_string()), "{error:#}");
    }
}
