//! A raw socket as the system calls see it.

use super::super::IPPROTO_TCP;
use super::super::addr::{self, AF_INET, Endpoint};
use super::{RawSocket, Setup};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::kernel::{CurrentTask, Task};
use crate::socket::family::AF_UNSPEC;
use crate::socket::options::so;
use crate::socket::{Destination, Kind, OptionValue, Options, RecvMsg, SendMsg, Socket, flags};
use crate::vfs::File;
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl RawSocket {
    fn do_bind(&self, address: &[u8]) -> Result<()> {
        let common = &self.common;
        let v4 = common.family() == AF_INET;
        let mut typed = address.to_vec();
        if v4 && address.len() >= addr::V4_LEN {
            // The family is not looked at.
            typed.splice(..2, (AF_INET as u16).to_ne_bytes());
        }
        let at = match addr::parse(common.family(), &typed) {
            Err(Errno::EAFNOSUPPORT) => return Err(Errno::EINVAL),
            other => other?,
        };
        if !v4 && at.ip.is_ipv4() {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let mut setup = self.setup.lock();
        if setup.peer.is_some() {
            return Err(Errno::EINVAL);
        }
        drop(setup);
        if !common.net.may_bind(at.ip) && !common.ip.is_on(super::ip::FREEBIND) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        setup = self.setup.lock();
        setup.bound = Some(at.ip).filter(|ip| !ip.is_unspecified());
        Ok(())
    }

    fn do_connect(&self, address: &[u8]) -> Result<()> {
        let common = &self.common;
        if addr::family_of(address)? == AF_UNSPEC {
            // As on Linux it gives up its protocol with its addresses, and hears nothing until it is made anew.
            *self.setup.lock() = Setup { deaf: true, ..Setup::default() };
            return Ok(());
        }
        let mut peer = addr::parse(common.family(), address)?;
        if peer.ip.is_unspecified() {
            peer.ip = addr::loopback_for(peer.ip);
        }
        let route = common.net.route(peer.ip, common.device())?;
        if common.net.is_broadcast(peer.ip) && !common.options.is_on(so::BROADCAST) {
            return Err(Errno::EACCES);
        }
        let mut setup = self.setup.lock();
        setup.source = Some(route.source);
        setup.peer = Some(peer);
        Ok(())
    }

    fn do_receive(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        if msg.flags & flags::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.inbox.receive(&self.common, dst, msg, |datagram, dst, msg| {
            let (_, result) = datagram.copy(&self.common, (datagram.from, 0), dst, msg)?;
            Ok(result)
        })
    }
}

impl Socket for RawSocket {
    fn family(&self) -> i32 {
        self.common.family()
    }

    fn kind(&self) -> Kind {
        Kind::Raw
    }

    fn protocol(&self) -> i32 {
        self.protocol
    }

    fn options(&self) -> &Options {
        &self.common.options
    }

    fn bind(&self, _t: &mut CurrentTask, addr: &[u8]) -> Result<()> {
        self.do_bind(addr)
    }

    fn listen(&self, _t: &CurrentTask, _backlog: i32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn accept(&self) -> Result<Arc<dyn Socket>> {
        Err(Errno::EOPNOTSUPP)
    }

    fn connect(
        &self,
        _t: &mut CurrentTask,
        _file: &Arc<File>,
        addr: &[u8],
        _nonblocking: bool,
    ) -> Result<()> {
        self.do_connect(addr)
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        Ok(self.endpoints().0.sockaddr(self.common.family()))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        // Without a port Linux takes the socket for unconnected.
        let peer: Option<Endpoint> = self.endpoints().1.filter(|p| p.port != 0);
        Ok(peer.ok_or(Errno::ENOTCONN)?.sockaddr(self.common.family()))
    }

    fn shutdown(&self, how: i32) -> Result<()> {
        self.inbox.shutdown(how, self.setup.lock().peer.is_some())
    }

    fn destination(&self, _t: &CurrentTask, addr: &[u8]) -> Result<Destination> {
        Ok(Arc::new(self.parse_destination(addr)?))
    }

    fn send(&self, src: &mut dyn Source, msg: &mut SendMsg) -> Result<usize> {
        self.do_send(src, msg)
    }

    fn receive(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        self.do_receive(dst, msg)
    }

    fn get_option(&self, _t: &CurrentTask, level: i32, name: i32) -> Result<OptionValue> {
        if let Some(value) = self.own_option(level, name) {
            return value;
        }
        let used = (self.inbox.queued().0, 0);
        let sndbuf = self.sndbuf.load(Ordering::Relaxed);
        let value = self.common.get(self, (level, name), sndbuf, used);
        value.unwrap_or(Err(Errno::EOPNOTSUPP))
    }

    fn set_option(&self, t: &CurrentTask, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if let Some(result) = self.set_own_option(level, name, value) {
            return result;
        }
        let set = |n: usize| self.sndbuf.store(n, Ordering::Relaxed);
        let result = self.common.set(t, self, (level, name), value, set);
        result.unwrap_or(Err(Errno::ENOPROTOOPT))
    }

    fn take_error(&self) -> Option<Errno> {
        self.inbox.take_pending()
    }

    fn is_listening(&self) -> bool {
        false
    }

    fn poll(&self) -> EventMask {
        self.inbox.poll()
    }

    fn wait_queue(&self) -> &WaitQueue {
        &self.inbox.queue
    }

    fn ioctl(&self, task: &Task, cmd: u32, arg: u64) -> Result<u64> {
        self.inbox.ioctl(&self.common.net, task, cmd, arg)
    }

    fn release(&self) {
        self.common.net.wire.remove(&self.this, self.protocol == IPPROTO_TCP);
        if let Some(raw) = self.remote.get() {
            raw.set_waker(None);
        }
        self.inbox.close();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
