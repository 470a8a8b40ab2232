//! Interfaces that the guest makes (`ip link add`).
//!
//! | module | what |
//! |---|---|
//! | here | [`Made`]: any of them; making, moving and removing them |
//! | [`dummy`] | what is sent on them is gone |
//! | [`veth`] | pairs: what is sent on one comes in on the other, perhaps in another network |
//! | [`tun`] | what is sent on them a program reads, and the other way round |
//! | [`ticker`] | the thread that serves the stacks they are interfaces of |
//!
//! A network gets a stack when its first interface is made, unless it has one. What the guest can make is bounded: 63
//! interfaces of a network ([`netstack::Stack::add_interface`]), [`MAX_STACKS`] networks with such a stack.

pub mod dummy;
pub mod ticker;
pub mod tun;
pub mod veth;

use super::Net;
use super::admin::{Failure, is_name};
use super::interface::{Address, IFF_RUNNING, IFF_UP, Interface};
use super::uplink::Uplink;
use super::uplink::error::errno;
use crate::errno::{Errno, Result};
use crate::socket::netlink::notify::{self, Cause};
use crate::socket::packet::frame::{self, Checksum};
use crate::socket::packet::taps::Taps;
use dummy::Dummy;
use netstack::{Config, IfaceId, Link, Stack};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use tun::Tun;
use veth::Veth;

/// Most networks with a stack for interfaces that the guest has made.
const MAX_STACKS: usize = 256;
/// Memory of all buffers of such a stack, bytes.
const STACK_MEMORY: usize = 64 << 20;
/// `IFF_BROADCAST`, `IFF_MULTICAST`
const IFF_BROADCAST: u32 = 0x2;
const IFF_MULTICAST: u32 = 0x1000;
/// `IFF_NOARP`, `IFF_POINTOPOINT`
const IFF_NOARP: u32 = 0x80;
const IFF_POINTOPOINT: u32 = 0x10;

/// Networks that have such a stack.
static STACKS: AtomicUsize = AtomicUsize::new(0);

/// An interface that the guest has made.
#[derive(Clone)]
pub enum Made {
    /// Nobody is at the other end.
    Dummy(Arc<Dummy>),
    /// One of a pair.
    Veth(Arc<Veth>),
    /// A program is at the other end.
    Tun(Arc<Tun>),
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

/// Where an interface is.
#[derive(Clone)]
pub struct Home {
    /// The network.
    pub net: Weak<Net>,
    /// Its stack.
    pub stack: Weak<Stack>,
    /// Its packet sockets.
    pub taps: Arc<Taps>,
    /// The interface's number there.
    pub index: u32,
}

impl Home {
    /// Lets packet sockets see a frame.
    pub fn show(
        &self,
        mac: [u8; 6],
        outgoing: bool,
        bytes: &[u8],
        checksum: Checksum,
        sender: u64,
    ) {
        if !self.taps.is_watched() {
            return;
        }
        if let Some(frame) = frame::Frame::ethernet(self.index, mac, outgoing, bytes, checksum) {
            self.taps.show(&frame, (sender != 0).then_some(sender));
        }
    }
}

impl Made {
    /// `IFLA_INFO_KIND`
    pub fn kind(&self) -> &'static str {
        match self {
            Made::Dummy(_) => "dummy",
            Made::Veth(_) => "veth",
            Made::Tun(_) => "tun",
        }
    }

    fn link(&self) -> Arc<dyn Link> {
        match self {
            Made::Dummy(dummy) => dummy.clone(),
            Made::Veth(veth) => veth.clone(),
            Made::Tun(tun) => tun.clone(),
        }
    }

    fn settle(&self, home: Option<Home>) {
        match self {
            Made::Dummy(dummy) => dummy.settle(home),
            Made::Veth(veth) => veth.settle(home),
            Made::Tun(tun) => tun.settle(home),
        }
    }

    /// It was started or stopped.
    pub fn set_up(&self, up: bool) {
        match self {
            Made::Dummy(_) => {}
            Made::Veth(veth) => veth.set_up(up),
            Made::Tun(tun) => tun.set_up(up),
        }
    }

    /// True if what is sent on it arrives somewhere.
    pub fn has_carrier(&self) -> bool {
        match self {
            Made::Dummy(_) => true,
            Made::Veth(veth) => veth.has_carrier(),
            Made::Tun(tun) => tun.is_attached(),
        }
    }

    /// Its hardware address was changed.
    pub fn set_mac(&self, mac: [u8; 6]) {
        match self {
            Made::Dummy(dummy) => dummy.set_mac(mac),
            Made::Veth(veth) => veth.set_mac(mac),
            Made::Tun(tun) => tun.set_mac(mac),
        }
    }

    /// The interface at the other end, and its network.
    pub fn peer(&self) -> Option<(Arc<Net>, u32)> {
        match self {
            Made::Dummy(_) | Made::Tun(_) => None,
            Made::Veth(veth) => {
                let home = veth.peer()?.home()?;
                Some((home.net.upgrade()?, home.index))
            }
        }
    }
}

/// What the maker of an interface says of it.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Its name; or one with a number in place of `%d`.
    pub name: Vec<u8>,
    /// Its hardware address.
    pub mac: Option<[u8; 6]>,
    /// Largest packet.
    pub mtu: Option<u32>,
    /// `txqueuelen`
    pub queue_len: Option<u32>,
}

/// A hardware address that nobody else has: locally administered.
fn random_mac() -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = crate::mm::random_u64().to_ne_bytes();
    [a & 0xfe | 2, b, c, d, e, f]
}

/// A name that is free in `net`. `EINVAL`, `EEXIST`, `ENFILE`.
fn free_name(net: &Net, wanted: &[u8]) -> Result<Vec<u8>> {
    let interfaces = net.interfaces.read();
    let Some(at) = wanted.windows(2).position(|w| w == b"%d") else {
        return match interfaces.named(wanted) {
            _ if !is_name(wanted) => Err(Errno::EINVAL),
            Some(_) => Err(Errno::EEXIST),
            None => Ok(wanted.to_vec()),
        };
    };
    let (before, after) = (wanted.get(..at), wanted.get(at + 2..));
    let numbered = |n: usize| {
        let number = n.to_string();
        [before.unwrap_or_default(), number.as_bytes(), after.unwrap_or_default()].concat()
    };
    let free = (0..4096).map(numbered).find(|name| interfaces.named(name).is_none());
    free.filter(|name| is_name(name)).ok_or(Errno::EINVAL)
}

impl Net {
    /// The stack, which is made if there is none. `EOPNOTSUPP` for networks that have something else, `ENOBUFS` at the
    /// limit.
    fn stack_to_build_on(self: &Arc<Net>) -> std::result::Result<Arc<Stack>, Failure> {
        let _turn = self.building.lock();
        if let Some(uplink) = self.uplink.get() {
            return uplink.stack().cloned().ok_or_else(|| Errno::EOPNOTSUPP.into());
        }
        let fits = |n: usize| (n < MAX_STACKS).then_some(n + 1);
        let taken = STACKS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map_err(|_| Errno::ENOBUFS)?;
        let config = Config { memory_limit: STACK_MEMORY, ..Config::default() };
        let stack = match ticker::make_stack(config) {
            Ok(stack) => stack,
            Err(e) => {
                STACKS.fetch_sub(1, Ordering::Relaxed);
                return Err(e.into());
            }
        };
        // Addresses that the loopback interface was given before.
        let own: Vec<Address> =
            self.interfaces.read().iter().flat_map(|i| i.addresses.clone()).collect();
        for address in own {
            if let Some(cidr) = netstack::Cidr::new(address.ip, address.prefix) {
                // Its own it has already.
                let _ = stack.add_address(IfaceId(super::interface::LOOPBACK), cidr);
            }
        }
        Uplink::adopt(self, stack.clone())?;
        self.made_stack.store(true, Ordering::Relaxed);
        Ok(stack)
    }

    /// Puts an interface into the network. `EINVAL`, `EEXIST`, `ENOBUFS`, `EOPNOTSUPP`.
    fn settle(
        self: &Arc<Net>,
        made: &Made,
        mut interface: Interface,
        name: &[u8],
        cause: Cause,
    ) -> std::result::Result<u32, Failure> {
        let stack = self.stack_to_build_on()?;
        let index = {
            // One at a time, so that names stay unique.
            let _turn = self.building.lock();
            interface.name = free_name(self, name)?;
            let text = String::from_utf8_lossy(&interface.name).into_owned();
            let id = stack.add_interface(&text, made.link()).map_err(errno)?;
            // It is started by itself.
            stack.set_up(id, false).map_err(errno)?;
            stack.set_mtu(id, interface.mtu as usize).map_err(errno)?;
            interface.index = id.0;
            interface.made = Some(made.clone());
            interface.flags &= !(IFF_UP | IFF_RUNNING);
            interface.addresses.clear();
            self.interfaces.write().push(interface);
            id.0
        };
        made.settle(Some(Home {
            net: Arc::downgrade(self),
            stack: Arc::downgrade(&stack),
            taps: self.wire.taps.clone(),
            index,
        }));
        notify::link(self, index, u32::MAX, cause);
        Ok(index)
    }

    /// Makes a dummy interface.
    pub fn make_dummy(
        self: &Arc<Net>,
        wish: &Wish,
        cause: Cause,
    ) -> std::result::Result<u32, Failure> {
        let mac = wish.mac.unwrap_or_else(random_mac);
        let made = Made::Dummy(Dummy::new(mac));
        let interface = Interface {
            flags: IFF_BROADCAST | IFF_NOARP,
            mac,
            mtu: wish.mtu.unwrap_or(1500),
            queue_len: wish.queue_len.unwrap_or(1000),
            ..Interface::default()
        };
        self.settle(&made, interface, &wish.name, cause)
    }

    /// Makes a pair of interfaces, the second one in the network `there`.
    pub fn make_veth(
        self: &Arc<Net>,
        wish: &Wish,
        there: &Arc<Net>,
        peer: &Wish,
        cause: Cause,
    ) -> std::result::Result<(), Failure> {
        let macs = [wish, peer].map(|w| w.mac.unwrap_or_else(random_mac));
        let [a, b] = Veth::pair(macs);
        let interface = |wish: &Wish, mac: [u8; 6]| Interface {
            flags: IFF_BROADCAST | IFF_MULTICAST,
            mac,
            mtu: wish.mtu.unwrap_or(1500),
            queue_len: wish.queue_len.unwrap_or(1000),
            ..Interface::default()
        };
        let [mac, peer_mac] = macs;
        let second = there.settle(&Made::Veth(b), interface(peer, peer_mac), &peer.name, cause)?;
        let first = self.settle(&Made::Veth(a), interface(wish, mac), &wish.name, cause);
        first.inspect_err(|_| {
            // It may have gone already: its other end has.
            let _ = there.remove_link(second, cause);
        })?;
        Ok(())
    }

    /// Makes a TUN or TAP interface that its maker has: it and its name.
    pub fn make_tun(
        self: &Arc<Net>,
        wish: &Wish,
        tap: bool,
        cause: Cause,
    ) -> std::result::Result<(Arc<Tun>, Vec<u8>), Failure> {
        let mac = tap.then(random_mac);
        let tun = Tun::new(mac);
        let interface = Interface {
            flags: if tap { IFF_BROADCAST } else { IFF_POINTOPOINT | IFF_NOARP } | IFF_MULTICAST,
            kind: if tap { frame::ARPHRD_ETHER } else { tun::ARPHRD_NONE },
            mac: mac.unwrap_or_default(),
            queue_len: if tap { 1000 } else { 500 },
            ..Interface::default()
        };
        let index = self.settle(&Made::Tun(tun.clone()), interface, &wish.name, cause)?;
        let name = self.with_device(index, |i| i.name.clone()).ok_or(Errno::ENODEV)?;
        Ok((tun, name))
    }

    /// The interface of that name, if there is one, and if it is one of these.
    pub fn tun_named(&self, name: &[u8]) -> Option<Option<Arc<Tun>>> {
        self.interfaces.read().named(name).map(|i| match &i.made {
            Some(Made::Tun(tun)) => Some(tun.clone()),
            _ => None,
        })
    }

    /// Takes an interface out of the network: what it was, without its name being anybody's.
    fn unsettle(self: &Arc<Net>, index: u32, cause: Cause) -> Result<Interface> {
        self.with_device(index, |i| i.made.is_some())
            .ok_or(Errno::ENODEV)?
            .then_some(())
            .ok_or(Errno::EOPNOTSUPP)?;
        self.set_up(index, false, cause)?;
        let addresses = self.with_device(index, |i| i.addresses.clone()).unwrap_or_default();
        for address in addresses {
            // Somebody else may have taken it away meanwhile.
            let _ = self.remove_address(index, address.ip, Some(address.prefix), cause);
        }
        let old = self.interfaces.write().remove(index).ok_or(Errno::ENODEV)?;
        if let Some(stack) = self.stack() {
            // The list of interfaces has said that it is there.
            let _ = stack.remove_interface(IfaceId(index));
        }
        if let Some(made) = &old.made {
            made.settle(None);
        }
        self.wire.taps.interface_gone(index, true);
        notify::link_gone(self, &old, cause);
        Ok(old)
    }

    /// Removes an interface that the guest has made, and the other one of a pair. `ENODEV`; `EOPNOTSUPP` for others.
    pub fn remove_link(self: &Arc<Net>, index: u32, cause: Cause) -> Result<()> {
        let peer = self.with_device(index, |i| i.made.clone()).flatten().and_then(|m| m.peer());
        let old = self.unsettle(index, cause)?;
        if let Some((net, index)) = peer {
            // It may be on its way out as well.
            let _ = net.unsettle(index, cause);
        }
        drop(old);
        Ok(())
    }

    /// Moves an interface to another network, under the name that it has or another. `EINVAL` for those that cannot be
    /// moved, `EEXIST`.
    pub fn move_link(
        self: &Arc<Net>,
        index: u32,
        there: &Arc<Net>,
        name: Option<&[u8]>,
        cause: Cause,
    ) -> std::result::Result<(), Failure> {
        if Arc::ptr_eq(self, there) {
            return Ok(());
        }
        let known = self.with_device(index, |i| (i.made.is_some(), i.name.clone()));
        let (made, own) = known.ok_or(Errno::ENODEV)?;
        if !made {
            return Err(Failure::new(Errno::EINVAL, "The interface netns is immutable"));
        }
        let name = name.map_or(own, <[u8]>::to_vec);
        free_name(there, &name)?;
        there.stack_to_build_on()?;
        let old = self.unsettle(index, cause)?;
        let Some(made) = old.made.clone() else { return Err(Errno::ENODEV.into()) };
        let moved = there.settle(&made, old, &name, cause);
        if let (Err(_), Some((net, peer))) = (&moved, made.peer()) {
            // Somebody was faster with the name: it is lost with its other end.
            let _ = net.unsettle(peer, cause);
        }
        moved.map(|_| ())
    }
}

/// An interface of a pair was started or stopped: the other one's state changes with it.
pub fn carrier_changed(made: &Made) {
    let Some((net, index)) = made.peer() else { return };
    // One that is not started has no state that could change.
    if net.with_device(index, Interface::is_up) == Some(true) {
        notify::link(&net, index, 0, Cause::default());
    }
}

/// The last of a network is gone.
pub fn network_gone(net: &Net) {
    if net.made_stack.load(Ordering::Relaxed) {
        STACKS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(name: &[u8]) -> Wish {
        Wish { name: name.to_vec(), ..Wish::default() }
    }

    #[test]
    fn interfaces_come_and_go() {
        let (a, b) = (Net::new(true), Net::new(true));
        let cause = Cause::default();
        a.make_dummy(&wish(b"dummy%d"), cause).unwrap();
        a.make_dummy(&wish(b"dummy%d"), cause).unwrap();
        assert!(a.device_named(b"dummy0").is_some() && a.device_named(b"dummy1").is_some());
        let twice = a.make_dummy(&wish(b"dummy0"), cause);
        assert_eq!(twice, Err(Errno::EEXIST.into()));
        a.make_veth(&wish(b"v0"), &b, &wish(b"v1"), cause).unwrap();
        let (v0, v1) = (a.device_named(b"v0").unwrap(), b.device_named(b"v1").unwrap());
        let carrier = || {
            let made = a.with_device(v0, |i| i.made.clone()).flatten();
            made.unwrap().has_carrier()
        };
        a.set_up(v0, true, cause).unwrap();
        assert!(!carrier());
        b.set_up(v1, true, cause).unwrap();
        assert!(carrier());
        // The name is free again in the network that it leaves.
        b.move_link(v1, &a, Some(b"v2"), cause).unwrap();
        assert!(b.device_named(b"v1").is_none() && !carrier());
        a.remove_link(v0, cause).unwrap();
        assert!(a.device_named(b"v2").is_none());
        assert_eq!(a.remove_link(1, cause), Err(Errno::EOPNOTSUPP));
    }

    #[test]
    fn interfaces_are_bounded() {
        let net = Net::new(true);
        let made = (0..100).filter(|_| net.make_dummy(&wish(b"d%d"), Cause::default()).is_ok());
        assert_eq!(made.count(), 63);
    }
}
