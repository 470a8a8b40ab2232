//! Which TCP ports a domain may use.

use super::{Domain, NET_BIND_TCP};
use crate::errno::{Errno, Result};
use crate::kernel::Credentials;
use crate::socket::family::AF_UNSPEC;
use crate::socket::inet::{AF_INET, AF_INET6};
use crate::socket::{Kind, Socket};

/// Sizes of the addresses; that of IPv6 without the field that RFC 2553 has added.
const SOCKADDR_IN: usize = 16;
const SOCKADDR_IN6: usize = 24;

impl Domain {
    /// True if every layer that is about `right` allows it for the port.
    fn allows_port(&self, port: u16, right: u16) -> bool {
        self.layers
            .iter()
            .filter(|layer| layer.handled.net & right != 0)
            .all(|layer| layer.rules.ports.get(&port).is_some_and(|allowed| allowed & right != 0))
    }
}

/// Whether a task may bind or connect (`right`) a socket with an address. `EACCES` for a TCP port that its
/// domain does not allow; `EINVAL` and `EAFNOSUPPORT` for addresses that the socket would refuse.
pub fn check(creds: &Credentials, socket: &dyn Socket, addr: &[u8], right: u16) -> Result<()> {
    let Some(domain) = creds.landlock.as_deref().filter(|d| d.all.net != 0) else { return Ok(()) };
    let own_family = socket.family();
    if socket.kind() != Kind::Stream || !matches!(own_family, AF_INET | AF_INET6) {
        return Ok(());
    }
    let family = addr.first_chunk().map(|f| i32::from(u16::from_ne_bytes(*f)));
    let family = family.ok_or(Errno::EINVAL)?;
    match family {
        AF_UNSPEC | AF_INET if addr.len() < SOCKADDR_IN => return Err(Errno::EINVAL),
        AF_INET6 if addr.len() < SOCKADDR_IN6 => return Err(Errno::EINVAL),
        AF_UNSPEC | AF_INET | AF_INET6 => {}
        _ => return Ok(()),
    }
    if family == AF_UNSPEC {
        // Who connects to no one gives up a connection, which is always allowed.
        if right != NET_BIND_TCP {
            return Ok(());
        }
        // Binding takes it for AF_INET, if the address is any.
        if own_family != AF_INET {
            return Err(Errno::EINVAL);
        }
        if addr.get(4..8) != Some(&[0; 4]) {
            return Err(Errno::EAFNOSUPPORT);
        }
    } else if family != own_family {
        return Err(Errno::EINVAL);
    }
    let port = addr.get(2..4).and_then(|p| p.first_chunk()).map(|p| u16::from_be_bytes(*p));
    let port = port.ok_or(Errno::EINVAL)?;
    if domain.allows_port(port, right) { Ok(()) } else { Err(Errno::EACCES) }
}
