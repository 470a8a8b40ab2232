//! Questions to the host's kernel about the network (`rtnetlink(7)`).

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST`, `NLM_F_ACK` and `NLM_F_DUMP`
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
/// `NLM_F_CREATE | NLM_F_EXCL`
const CREATE: u16 = 0x400 | 0x200;

/// Sizes of `nlmsghdr`, `ifinfomsg`, `ifaddrmsg` and `rtmsg`.
const HEADER: usize = 16;
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
const RTMSG: usize = 12;

/// `ARPHRD_ETHER`
const ARPHRD_ETHER: u16 = 1;
/// `RT_TABLE_MAIN`, `RTPROT_KERNEL` and `RTN_UNICAST`
const TABLE_MAIN: u32 = 254;
const PROTO_KERNEL: u8 = 2;
const UNICAST: u8 = 1;

/// An interface.
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: Vec<u8>,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// `ARPHRD_*`
    pub kind: u16,
    /// `IFF_*`
    pub flags: u32,
}

impl Link {
    /// True when it carries Ethernet frames.
    pub fn is_ethernet(&self) -> bool {
        self.kind == ARPHRD_ETHER
    }

    /// True when it is up.
    pub fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }
}

/// An address of an interface.
pub struct Address {
    /// The interface.
    pub index: u32,
    /// The address.
    pub ip: IpAddr,
    /// Bits of its network part.
    pub prefix: u8,
    /// All that the host says of it, as a message would say it again.
    message: Vec<u8>,
}

/// A route of the main table.
pub struct Route {
    /// The interface that it leaves by.
    pub index: u32,
    /// The network it leads to.
    pub to: IpAddr,
    /// Bits of the network part.
    pub prefix: u8,
    /// The next hop.
    pub via: Option<IpAddr>,
    /// Source address to prefer.
    pub source: Option<IpAddr>,
    /// Lower wins.
    pub metric: u32,
    /// All that the host says of it, as a message would say it again.
    message: Vec<u8>,
}

/// A connection to the host's kernel.
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens one in this process's network namespace.
    pub fn open() -> Result<Netlink, Errno> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// All interfaces.
    pub fn links(&mut self) -> Result<Vec<Link>, Errno> {
        let answers = self.dump(RTM_GETLINK, RTM_NEWLINK, IFINFOMSG)?;
        Ok(answers.iter().filter_map(|body| link(body)).collect())
    }

    /// All addresses.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Errno> {
        let answers = self.dump(RTM_GETADDR, RTM_NEWADDR, IFADDRMSG)?;
        Ok(answers.iter().filter_map(|body| address(body)).collect())
    }

    /// Routes of the main table that do not follow from the addresses.
    pub fn routes(&mut self) -> Result<Vec<Route>, Errno> {
        let answers = self.dump(RTM_GETROUTE, RTM_NEWROUTE, RTMSG)?;
        Ok(answers.iter().filter_map(|body| route(body)).collect())
    }

    /// Takes an address away from its interface. `EADDRNOTAVAIL` when it has gone already.
    pub fn remove_address(&mut self, address: &Address) -> Result<(), Errno> {
        let (family, octets) = match address.ip {
            IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
            IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
        };
        let mut body = vec![family as u8, address.prefix, 0, 0];
        body.extend_from_slice(&address.index.to_ne_bytes());
        body.extend_from_slice(&(4 + octets.len() as u16).to_ne_bytes());
        body.extend_from_slice(&libc::IFA_LOCAL.to_ne_bytes());
        body.extend_from_slice(&octets);
        self.ask(RTM_DELADDR, REQUEST | ACK, &body)?;
        self.answers(|_, _| ())
    }

    /// Gives an address back to its interface. `EEXIST` when it is there.
    pub fn add_address(&mut self, address: &Address) -> Result<(), Errno> {
        self.ask(RTM_NEWADDR, REQUEST | ACK | CREATE, &address.message)?;
        self.answers(|_, _| ())
    }

    /// Puts a route back. `EEXIST` when it is there.
    pub fn add_route(&mut self, route: &Route) -> Result<(), Errno> {
        self.ask(RTM_NEWROUTE, REQUEST | ACK | CREATE, &route.message)?;
        self.answers(|_, _| ())
    }

    fn dump(&mut self, ask: u16, wanted: u16, fixed: usize) -> Result<Vec<Vec<u8>>, Errno> {
        self.ask(ask, REQUEST | DUMP, &vec![0; fixed])?;
        let mut out = Vec::new();
        self.answers(|kind, body| {
            if kind == wanted {
                out.push(body.to_vec());
            }
        })?;
        Ok(out)
    }

    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<(), Errno> {
        self.sequence += 1;
        let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(body);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty()).map(drop)
    }

    /// Calls `each` with type and body of every answer, to the end or the first error.
    fn answers(&self, mut each: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..n).unwrap_or_default();
            while let Some(len) =
                u32_at(rest, 0).map(|len| len as usize).filter(|len| *len >= HEADER)
            {
                let kind = u16_at(rest, 4).unwrap_or(0);
                let body = rest.get(HEADER..len.min(rest.len())).unwrap_or_default();
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        return match u32_at(body, 0).map_or(libc::EIO, |n| -(n as i32)) {
                            0 => Ok(()),
                            error => Err(Errno::from_raw(error)),
                        };
                    }
                    _ => each(kind, body),
                }
                rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The value of an attribute behind a fixed part of a message.
fn attribute(body: &[u8], fixed: usize, wanted: u16) -> Option<&[u8]> {
    let mut rest = body.get(fixed..)?;
    loop {
        let len = usize::from(u16_at(rest, 0)?);
        if u16_at(rest, 2)? == wanted {
            return rest.get(4..len);
        }
        rest = rest.get(len.max(4).next_multiple_of(4)..)?;
    }
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

fn link(body: &[u8]) -> Option<Link> {
    let attr = |kind| attribute(body, IFINFOMSG, kind);
    let name = attr(libc::IFLA_IFNAME)?;
    let mac = attr(libc::IFLA_ADDRESS).and_then(|mac| mac.try_into().ok());
    Some(Link {
        index: u32_at(body, 4)?,
        name: name.split(|b| *b == 0).next().unwrap_or_default().to_vec(),
        mac: mac.unwrap_or_default(),
        mtu: attr(libc::IFLA_MTU).and_then(|mtu| u32_at(mtu, 0))?,
        kind: u16_at(body, 2)?,
        flags: u32_at(body, 8)?,
    })
}

fn address(body: &[u8]) -> Option<Address> {
    let attr = |kind| attribute(body, IFADDRMSG, kind).and_then(ip);
    Some(Address {
        index: u32_at(body, 4)?,
        ip: attr(libc::IFA_LOCAL).or_else(|| attr(libc::IFA_ADDRESS))?,
        prefix: *body.get(1)?,
        message: body.to_vec(),
    })
}

fn route(body: &[u8]) -> Option<Route> {
    let attr = |kind| attribute(body, RTMSG, kind);
    let number = |kind| attr(kind).and_then(|n| u32_at(n, 0));
    let &[family, prefix, _, _, table, protocol, _, kind, ..] = body else { return None };
    let table = number(libc::RTA_TABLE).unwrap_or_else(|| table.into());
    if table != TABLE_MAIN || kind != UNICAST || protocol == PROTO_KERNEL {
        return None;
    }
    let any = if i32::from(family) == libc::AF_INET { ip(&[0; 4]) } else { ip(&[0; 16]) };
    Some(Route {
        index: number(libc::RTA_OIF)?,
        to: attr(libc::RTA_DST).and_then(ip).or(any)?,
        prefix,
        via: attr(libc::RTA_GATEWAY).and_then(ip),
        source: attr(libc::RTA_PREFSRC).and_then(ip),
        metric: number(libc::RTA_PRIORITY).unwrap_or(0),
        message: body.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_attribute(mut fixed: Vec<u8>, kind: u16, value: &[u8]) -> Vec<u8> {
        fixed.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        fixed.extend_from_slice(&kind.to_ne_bytes());
        fixed.extend_from_slice(value);
        fixed.resize(fixed.len().next_multiple_of(4), 0);
        fixed
    }

    #[test]
    fn default_route() {
        let fixed = vec![2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
        let body = with_attribute(fixed, libc::RTA_GATEWAY, &[10, 0, 0, 1]);
        let body = with_attribute(body, libc::RTA_OIF, &7u32.to_ne_bytes());
        let route = route(&body).unwrap();
        assert_eq!((route.index, route.prefix), (7, 0));
        assert_eq!(route.via, ip(&[10, 0, 0, 1]));
        assert_eq!(route.to, ip(&[0; 4]).unwrap());
    }

    #[test]
    fn cut_off_messages() {
        let fixed = vec![2, 24, 0, 0, 3, 0, 0, 0];
        let whole = with_attribute(fixed, libc::IFA_LOCAL, &[10, 0, 0, 2]);
        assert_eq!(address(&whole).unwrap().prefix, 24);
        for len in 0..whole.len() {
            assert!(address(&whole[..len]).is_none());
        }
    }

    #[test]
    fn this_machine_has_a_loopback_interface() {
        let mut netlink = Netlink::open().unwrap();
        assert!(netlink.links().unwrap().iter().any(|link| link.name == b"lo"));
    }
}
