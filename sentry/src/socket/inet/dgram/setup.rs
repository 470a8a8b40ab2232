//! Binding and connecting.

use super::{DgramSocket, Protocol, Setup};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::socket::family::AF_UNSPEC;
use crate::socket::inet::addr::{self, AF_INET, Endpoint};
use crate::socket::inet::ip;
use crate::socket::inet::port::Binding;
use crate::socket::options::so;
use std::net::IpAddr;

impl DgramSocket {
    fn binding(&self, ip: IpAddr, peer: Option<Endpoint>) -> Binding {
        let options = &self.common.options;
        Binding {
            ip,
            only_v6: self.common.ip.is_on(ip::V6ONLY),
            v4_socket: self.common.family() == AF_INET,
            device: self.common.device(),
            reuse_addr: options.is_on(so::REUSEADDR),
            reuse_port: options.is_on(so::REUSEPORT),
            uid: options.creator.uid,
            listening: false,
            peer,
            range: self.common.ip.value(ip::PORT_RANGE) as u32,
            by_connect: false,
        }
    }

    /// `bind(2)`.
    pub(super) fn do_bind(&self, t: &CurrentTask, address: &[u8]) -> Result<()> {
        let common = &self.common;
        let at = addr::parse_bind(common.family(), address)?;
        if common.family() != AF_INET && at.ip.is_ipv4() && common.ip.is_on(ip::V6ONLY) {
            return Err(Errno::EINVAL);
        }
        if !common.net.may_bind(at.ip) && !common.ip.is_on(ip::FREEBIND) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if self.protocol != Protocol::Echo && !common.net.may_use_port(t, at.port) {
            return Err(Errno::EACCES);
        }
        let mut setup = self.setup.lock();
        if setup.peer.is_some() || setup.claim.is_some() {
            return Err(Errno::EINVAL);
        }
        self.take_port(&mut setup, at)?;
        setup.chose_port = at.port != 0;
        setup.chose_ip = !at.ip.is_unspecified();
        Ok(())
    }

    fn take_port(&self, setup: &mut Setup, at: Endpoint) -> Result<()> {
        let claim = self.ports().bind(at.port, self.binding(at.ip, None), &self.this)?;
        setup.local = Some(Endpoint { ip: at.ip, port: claim.port() });
        setup.claim = Some(claim);
        self.open_remote(Endpoint { ip: at.ip, port: setup.local.map_or(0, |l| l.port) })
    }

    /// Binds to any free port, if it is not bound. `EAGAIN` if there is none.
    pub(super) fn autobind(&self, setup: &mut Setup) -> Result<Endpoint> {
        if setup.claim.is_none() {
            let ip = setup.local.map_or(addr::any(self.common.family()), |l| l.ip);
            self.take_port(setup, Endpoint { ip, port: 0 }).map_err(|_| Errno::EAGAIN)?;
        }
        setup.local.ok_or(Errno::EINVAL)
    }

    /// Lets a changed option act on a port that is bound already.
    pub(super) fn rebind(&self) {
        let setup = self.setup.lock();
        if let (Some(claim), Some(local)) = (&setup.claim, setup.local) {
            let fresh = self.binding(local.ip, setup.peer);
            let _ = claim.update(false, |binding| *binding = fresh);
        }
    }

    /// `connect(2)`.
    pub(super) fn do_connect(&self, address: &[u8]) -> Result<()> {
        let common = &self.common;
        if addr::family_of(address)? == AF_UNSPEC {
            return self.disconnect();
        }
        let mut peer = match addr::parse(common.family(), address) {
            Err(Errno::EAFNOSUPPORT) if common.family() != AF_INET => {
                addr::parse_destination(common.family(), address)?.ok_or(Errno::EAFNOSUPPORT)?
            }
            other => other?,
        };
        if peer.ip.is_unspecified() {
            peer.ip = addr::loopback_for(peer.ip);
        }
        if self.protocol == Protocol::Echo {
            peer.port = 0;
        }
        let foreign = common.family() != AF_INET && peer.ip.is_ipv4();
        if foreign && common.ip.is_on(ip::V6ONLY) {
            return Err(Errno::ENETUNREACH);
        }
        let route = common.net.route(peer.ip, self.device_for(peer.ip, 0))?;
        if common.net.is_broadcast(peer.ip) && !common.options.is_on(so::BROADCAST) {
            return Err(Errno::EACCES);
        }
        if !route.local {
            self.may_leave()?;
            self.may_name(peer)?;
        }
        let mut setup = self.setup.lock();
        self.autobind(&mut setup)?;
        let bound = setup.local.map(|l| l.ip).filter(|ip| !ip.is_unspecified());
        let ip = bound.unwrap_or(route.source);
        let port = setup.claim.as_ref().map_or(0, |c| c.port());
        setup.local = Some(Endpoint { ip, port });
        setup.peer = Some(peer);
        *self.hears_only.lock() = Some(peer);
        if let Some(claim) = &setup.claim {
            let fresh = self.binding(ip, Some(peer));
            claim.update(false, |binding| *binding = fresh)?;
        }
        if !route.local {
            self.connect_remote(peer)?;
        }
        Ok(())
    }

    fn disconnect(&self) -> Result<()> {
        let mut setup = self.setup.lock();
        setup.peer = None;
        *self.hears_only.lock() = None;
        let any = addr::any(self.common.family());
        let ip = setup.local.map_or(any, |l| if setup.chose_ip { l.ip } else { any });
        if setup.chose_port {
            setup.local = setup.local.map(|l| Endpoint { ip, ..l });
            if let Some(claim) = &setup.claim {
                let fresh = self.binding(ip, None);
                claim.update(false, |binding| *binding = fresh)?;
            }
        } else {
            setup.local = setup.chose_ip.then_some(Endpoint { ip, port: 0 });
            setup.claim = None;
            self.close_remote();
        }
        self.disconnect_remote();
        Ok(())
    }

    /// The interface for a destination: the one the message names, the socket is bound to, or groups
    /// are sent on.
    pub(super) fn device_for(&self, to: IpAddr, named: u32) -> u32 {
        let common = &self.common;
        let group = match to {
            IpAddr::V4(_) => ip::MULTICAST_IF,
            IpAddr::V6(_) => ip::MULTICAST_IF6,
        };
        let chosen = if to.is_multicast() { common.ip.value(group) as u32 } else { 0 };
        [named, common.device(), chosen].into_iter().find(|d| *d != 0).unwrap_or(0)
    }

    /// `shutdown(2)`.
    pub(super) fn do_shutdown(&self, how: i32) -> Result<()> {
        self.inbox.shutdown(how, self.setup.lock().peer.is_some())
    }
}
