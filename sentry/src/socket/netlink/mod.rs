//! `AF_NETLINK` (`netlink(7)`): questions to the kernel about its network.
//!
//! * [`socket`]: the sockets. [`message`]: the format. [`route`] and [`change`]: `NETLINK_ROUTE`. [`nft`]:
//!   `NETLINK_NETFILTER`.
//! * [`notify`]: news for members of groups. [`diag`]: `NETLINK_SOCK_DIAG`. Answers are made at once and lie in the socket's receive queue.

pub mod change;
pub mod diag;
pub mod message;
pub mod nft;
pub mod notify;
pub mod nsid;
pub mod route;
pub mod socket;

use super::Socket;
use super::family::Family;
use super::options::Options;
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::socket::inet::Net;
use socket::NetlinkSocket;
use std::sync::Arc;

/// `AF_NETLINK`
pub const AF_NETLINK: i32 = 16;
/// `NETLINK_ROUTE`
pub const NETLINK_ROUTE: i32 = 0;
/// `NETLINK_SOCK_DIAG`
pub const NETLINK_SOCK_DIAG: i32 = 4;
/// `NETLINK_NETFILTER`
pub const NETLINK_NETFILTER: i32 = 12;
/// `NETLINK_KOBJECT_UEVENT`: nothing is ever announced.
pub const NETLINK_KOBJECT_UEVENT: i32 = 15;

const SOCK_DGRAM: i32 = 2;
const SOCK_RAW: i32 = 3;

/// `AF_NETLINK`.
pub struct NetlinkFamily;

impl Family for NetlinkFamily {
    fn number(&self) -> i32 {
        AF_NETLINK
    }

    fn create(&self, t: &CurrentTask, kind: i32, protocol: i32) -> Result<Arc<dyn Socket>> {
        let kind = match kind {
            SOCK_DGRAM => super::Kind::Dgram,
            SOCK_RAW => super::Kind::Raw,
            _ => return Err(Errno::ESOCKTNOSUPPORT),
        };
        match protocol {
            NETLINK_ROUTE | NETLINK_SOCK_DIAG | NETLINK_KOBJECT_UEVENT | NETLINK_NETFILTER => {
                Ok(NetlinkSocket::new(&Net::of(t), kind, protocol, Options::new(t)))
            }
            _ => Err(Errno::EPROTONOSUPPORT),
        }
    }
}
