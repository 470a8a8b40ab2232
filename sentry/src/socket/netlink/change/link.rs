//! Interfaces: `RTM_NEWLINK`, `RTM_SETLINK` and `RTM_DELLINK`.

use super::super::message::{EXCL, Request, attribute, u32_at};
use super::super::notify::Cause;
use super::super::nsid;
use super::CREATE;
use crate::errno::{Errno, Result};
use crate::kernel::Task;
use crate::kernel::credentials::CAP_NET_ADMIN;
use crate::kernel::namespace::NetNamespace;
use crate::socket::inet::Net;
use crate::socket::inet::admin::{Failure, Outcome};
use crate::socket::inet::interface::IFF_UP;
use crate::socket::inet::links::Wish;
use std::sync::Arc;

/// Size of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
/// `IFLA_*`
const ADDRESS: u16 = 1;
const IFNAME: u16 = 3;
const MTU: u16 = 4;
const MASTER: u16 = 10;
const QUEUE_LEN: u16 = 13;
const LINKINFO: u16 = 18;
const NET_NS_PID: u16 = 19;
const NET_NS_FD: u16 = 28;
/// `IFLA_INFO_KIND`, `IFLA_INFO_DATA`, `VETH_INFO_PEER`
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const PEER: u16 = 1;

/// A name, without its NUL.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

/// A `struct ifinfomsg` with its attributes.
#[derive(Clone, Copy)]
struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    fn attr(self, kind: u16) -> Option<&'a [u8]> {
        attribute(self.0, IFINFOMSG, kind)
    }

    fn number(self, kind: u16) -> Option<u32> {
        self.attr(kind).and_then(|bytes| u32_at(bytes, 0))
    }

    fn name(self) -> Option<&'a [u8]> {
        self.attr(IFNAME).map(text).filter(|name| !name.is_empty())
    }

    /// `EINVAL` for a hardware address of another length.
    fn mac(self) -> Result<Option<[u8; 6]>> {
        self.attr(ADDRESS).map(|bytes| bytes.try_into().map_err(|_| Errno::EINVAL)).transpose()
    }

    fn index(self) -> Result<u32> {
        let index = u32_at(self.0, 4).ok_or(Errno::EINVAL)?;
        if i32::try_from(index).is_ok() { Ok(index) } else { Err(Errno::EINVAL) }
    }

    /// What a new interface is to be; without a name it gets one that begins with its kind's.
    fn wish(self, kind: &str) -> Result<Wish> {
        let name = self.name().map_or_else(|| format!("{kind}%d").into_bytes(), <[u8]>::to_vec);
        let mac = self.mac()?;
        if mac.is_some_and(|mac| mac[0] & 1 != 0 || mac == [0; 6]) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let (mtu, queue_len) = (self.number(MTU), self.number(QUEUE_LEN));
        Ok(Wish { name, mac, mtu, queue_len })
    }

    /// The network that it names, if that is another one. `ESRCH`, `EINVAL`, `EPERM`.
    fn network(self, task: &Task) -> Result<Option<Arc<Net>>> {
        let found: Arc<NetNamespace> = if let Some(pid) = self.number(NET_NS_PID) {
            let pid = i32::try_from(pid).map_err(|_| Errno::ESRCH)?;
            task.find_task(pid)?.namespaces().net.clone()
        } else if let Some(fd) = self.number(NET_NS_FD) {
            nsid::of_file(task, fd)?
        } else {
            return Ok(None);
        };
        if !task.creds().has_in(found.user_ns(), CAP_NET_ADMIN) {
            return Err(Errno::EPERM);
        }
        Ok(Some(found.net().clone()))
    }
}

/// The interface that a message is about, if there is one.
fn find(net: &Net, message: Message<'_>) -> Result<Option<u32>> {
    let index = message.index()?;
    let interfaces = net.interfaces.read();
    Ok(match (index, message.name()) {
        (0, Some(name)) => interfaces.named(name).map(|i| i.index),
        (0, None) => None,
        (index, _) => interfaces.get(index).map(|i| i.index),
    })
}

/// Makes an interface, or changes one that there is.
pub(super) fn new(net: &Arc<Net>, task: &Task, request: &Request<'_>, cause: Cause) -> Outcome {
    let message = Message(request.body);
    let has_index = message.index()? != 0;
    let found = find(net, message)?;
    if let Some(index) = found {
        if request.flags & EXCL != 0 {
            return Err(Errno::EEXIST.into());
        }
        return change(net, task, index, message, cause);
    }
    if request.flags & CREATE == 0 {
        return Err(Errno::ENODEV.into());
    }
    if has_index {
        // Numbers are given out here.
        return Err(Errno::EOPNOTSUPP.into());
    }
    let info = message.attr(LINKINFO).unwrap_or_default();
    let kind = attribute(info, 0, INFO_KIND).map(text).unwrap_or_default();
    let data = attribute(info, 0, INFO_DATA).unwrap_or_default();
    let home = message.network(task)?.unwrap_or_else(|| net.clone());
    match kind {
        b"dummy" => {
            let index = home.make_dummy(&message.wish("dummy")?, cause)?;
            start(&home, index, message, cause)
        }
        b"veth" => {
            let peer = Message(attribute(data, 0, PEER).unwrap_or_default());
            let peer_home = peer.network(task)?.unwrap_or_else(|| net.clone());
            let (wish, other) = (message.wish("veth")?, peer.wish("veth")?);
            home.make_veth(&wish, &peer_home, &other, cause)?;
            match home.device_named(&wish.name) {
                Some(index) => start(&home, index, message, cause),
                None => Ok(()),
            }
        }
        _ => Err(Failure::new(Errno::EOPNOTSUPP, "Unknown device type")),
    }
}

/// A new interface is started if the message says so.
fn start(net: &Arc<Net>, index: u32, message: Message<'_>, cause: Cause) -> Outcome {
    let flags = u32_at(message.0, 8).unwrap_or(0);
    if flags & IFF_UP != 0 {
        net.set_up(index, true, cause)?;
    }
    Ok(())
}

/// Changes an interface that there is.
pub(super) fn set(net: &Arc<Net>, task: &Task, request: &Request<'_>, cause: Cause) -> Outcome {
    let message = Message(request.body);
    if message.index()? == 0 && message.name().is_none() {
        return Err(Errno::EINVAL.into());
    }
    let index = find(net, message)?.ok_or(Errno::ENODEV)?;
    change(net, task, index, message, cause)
}

fn change(net: &Arc<Net>, task: &Task, index: u32, message: Message<'_>, cause: Cause) -> Outcome {
    let word = |at| u32_at(message.0, at).ok_or(Errno::EINVAL);
    let (flags, mask) = (word(8)?, word(12)?);
    if message.number(MASTER).is_some_and(|master| master != 0) {
        // There are no bridges and bonds.
        return Err(Errno::EOPNOTSUPP.into());
    }
    let name = message.name().filter(|_| message.index() != Ok(0));
    if let Some(there) = message.network(task)? {
        return net.move_link(index, &there, name, cause);
    }
    if let Some(mac) = message.mac()? {
        net.set_mac(index, mac, cause)?;
    }
    if let Some(mtu) = message.number(MTU) {
        net.set_mtu(index, mtu, cause)?;
    }
    if let Some(name) = name {
        net.rename(index, name, cause)?;
    }
    if let Some(packets) = message.number(QUEUE_LEN) {
        net.set_queue_len(index, packets, cause)?;
    }
    // Old programs change flags without saying which.
    if flags != 0 || mask != 0 {
        net.set_flags(index, flags, if mask == 0 { u32::MAX } else { mask }, cause)?;
    }
    Ok(())
}

/// Removes an interface that the guest has made.
pub(super) fn delete(net: &Arc<Net>, request: &Request<'_>, cause: Cause) -> Outcome {
    let message = Message(request.body);
    if message.index()? == 0 && message.name().is_none() {
        return Err(Errno::EINVAL.into());
    }
    let index = find(net, message)?.ok_or(Errno::ENODEV)?;
    Ok(net.remove_link(index, cause)?)
}
