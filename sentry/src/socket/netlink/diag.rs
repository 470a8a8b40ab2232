//! `NETLINK_SOCK_DIAG` (`sock_diag(7)`): the sockets there are, as `ss` lists them.

use super::message::{Answer, Request, u32_at};
use crate::errno::{Errno, Result};
use crate::kernel::Task;
use crate::socket::inet::addr::mapped;
use crate::socket::inet::listing::{self, Listed};
use crate::socket::inet::raw::IPPROTO_RAW;
use crate::socket::inet::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, Net};
use std::net::IpAddr;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Size of `struct inet_diag_req_v2`.
const REQUEST: usize = 56;

/// Answers a question. `ENOENT` for families and protocols that have no list.
pub fn answer(
    net: &Net,
    task: &Task,
    request: &Request<'_>,
    dump: bool,
    out: &mut Answer,
) -> Result<()> {
    if request.kind != SOCK_DIAG_BY_FAMILY {
        return Err(Errno::EINVAL);
    }
    let family = i32::from(*request.body.first().ok_or(Errno::EINVAL)?);
    let protocol = i32::from(*request.body.get(1).ok_or(Errno::EINVAL)?);
    if !matches!(family, AF_INET | AF_INET6) {
        return Err(Errno::ENOENT);
    }
    let list = match protocol {
        IPPROTO_TCP => listing::tcp(net),
        IPPROTO_UDP => listing::udp(net),
        IPPROTO_UDPLITE => listing::udp_lite(net),
        IPPROTO_RAW => listing::raw(net),
        _ => return Err(Errno::ENOENT),
    };
    if !dump {
        return Err(Errno::EOPNOTSUPP);
    }
    if request.body.len() < REQUEST {
        return Err(Errno::EINVAL);
    }
    let states = u32_at(request.body, 4).unwrap_or(0);
    let wanted = |s: &&Listed| s.family == family && states >> s.state & 1 == 1;
    for socket in list.iter().filter(wanted) {
        put(socket, task, out);
    }
    Ok(())
}

/// A `struct inet_diag_msg`.
fn put(socket: &Listed, task: &Task, out: &mut Answer) {
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(ip) if socket.family == AF_INET => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&ip.octets());
            octets
        }
        ip => mapped(ip).octets(),
    };
    let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_ne_bytes();
    let cookie = socket.cookie.to_ne_bytes();
    let fixed = [
        &[socket.family as u8, socket.state, 0, 0][..],
        &socket.local.port.to_be_bytes(),
        &socket.peer.port.to_be_bytes(),
        &address(socket.local.ip),
        &address(socket.peer.ip),
        &socket.device.to_ne_bytes(),
        &cookie,
        &[0; 4],
        &word(socket.received),
        &word(socket.sent),
        &task.creds().user_ns.show_uid(socket.uid).to_ne_bytes(),
        &(socket.ino as u32).to_ne_bytes(),
    ]
    .concat();
    out.put(SOCK_DIAG_BY_FAMILY, &fixed, |b| b.attr(8, &[0]));
}
