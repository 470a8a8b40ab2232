//! Which address families there are.

use super::inet::{AF_INET, AF_INET6, InetFamily};
use super::{Kind, Socket};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use std::sync::Arc;

/// `AF_UNIX`
pub const AF_UNIX: i32 = 1;
/// `AF_UNSPEC`
pub const AF_UNSPEC: i32 = 0;

/// Both ends of a connection made by `socketpair(2)`.
pub type Pair = (Arc<dyn Socket>, Arc<dyn Socket>);

/// An address family: how its sockets are made.
pub trait Family: Sync {
    /// `AF_*` number.
    fn number(&self) -> i32;

    /// `socket(2)`. `ESOCKTNOSUPPORT` or `EPROTONOSUPPORT`.
    fn create(&self, t: &CurrentTask, kind: i32, protocol: i32) -> Result<Arc<dyn Socket>>;

    /// `socketpair(2)`. `EOPNOTSUPP` where there is no such thing.
    fn pair(&self, _t: &CurrentTask, _kind: i32, _protocol: i32) -> Result<Pair> {
        Err(Errno::EOPNOTSUPP)
    }
}

/// The families of this kernel.
static FAMILIES: &[&dyn Family] = &[
    &super::unix::UnixFamily,
    &InetFamily(AF_INET),
    &InetFamily(AF_INET6),
    &super::netlink::NetlinkFamily,
    &super::packet::PacketFamily,
];

/// The family with that number. `EAFNOSUPPORT`.
pub fn find(number: i32) -> Result<&'static dyn Family> {
    FAMILIES.iter().find(|f| f.number() == number).copied().ok_or(Errno::EAFNOSUPPORT)
}

/// The kind for a `SOCK_*` number.
pub fn kind(number: i32) -> Option<Kind> {
    Some(match number {
        1 => Kind::Stream,
        2 => Kind::Dgram,
        3 => Kind::Raw,
        5 => Kind::SeqPacket,
        _ => return None,
    })
}
