//! A raw socket as the system calls see it.

use super::super::addr::{self, AF_INET, Endpoint};
use super::super::devices;
use super::super::dgram::receive::describe;
use super::{RCV, RawSocket, SEND, Setup};
use crate::errno::{Errno, Result};
use crate::fs::ioctl::{FIONREAD, TIOCOUTQ, put_int};
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
        let v4 = common.family == AF_INET;
        let mut typed = address.to_vec();
        if v4 && address.len() >= addr::V4_LEN {
            // The family is not looked at.
            typed.splice(..2, (AF_INET as u16).to_ne_bytes());
        }
        let at = match addr::parse(common.family, &typed) {
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
        let mut peer = addr::parse(common.family, address)?;
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
        if msg.flags & flags::ERRQUEUE != 0 {
            let (n, next) = self.errors.receive(&self.common, dst, msg)?;
            // The pending error is always that of the first in the queue.
            self.error.store(next.map_or(0, Errno::raw), Ordering::SeqCst);
            return Ok(n);
        }
        if let Some(e) = self.take_pending() {
            return Err(e);
        }
        if msg.flags & flags::PEEK != 0 {
            let received = self.received.lock();
            if let Some(datagram) = received.first() {
                return self.deliver(datagram, dst, msg);
            }
        } else {
            let datagram = self.received.lock().pop();
            if let Some(datagram) = datagram {
                return self.deliver(&datagram, dst, msg);
            }
        }
        // As in Linux the end is only seen by those who would wait for it.
        if self.is_shut(RCV) && !msg.nonblocking { Ok(0) } else { Err(Errno::EAGAIN) }
    }

    fn deliver(
        &self,
        datagram: &super::Datagram,
        dst: &mut dyn Sink,
        msg: &mut RecvMsg,
    ) -> Result<usize> {
        let bytes = &datagram.data;
        let n = if bytes.is_empty() || dst.remaining() == 0 { 0 } else { dst.put(bytes)? };
        if n < bytes.len() {
            msg.out_flags |= flags::TRUNC;
        }
        msg.from = Some(datagram.from.sockaddr(self.common.family));
        describe(&self.common, datagram, msg);
        Ok(if msg.flags & flags::TRUNC != 0 { bytes.len() } else { n })
    }
}

impl Socket for RawSocket {
    fn family(&self) -> i32 {
        self.common.family
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
        Ok(self.endpoints().0.sockaddr(self.common.family))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        // Without a port Linux takes the socket for unconnected.
        let peer: Option<Endpoint> = self.endpoints().1.filter(|p| p.port != 0);
        Ok(peer.ok_or(Errno::ENOTCONN)?.sockaddr(self.common.family))
    }

    fn shutdown(&self, how: i32) -> Result<()> {
        let bits = match how {
            0 => RCV,
            1 => SEND,
            2 => RCV | SEND,
            _ => return Err(Errno::EINVAL),
        };
        let connected = self.setup.lock().peer.is_some();
        self.shutdown_bits.fetch_or(bits, Ordering::SeqCst);
        self.queue
            .notify(EventMask::READABLE | EventMask::WRITABLE | EventMask::RDHUP | EventMask::HUP);
        if connected { Ok(()) } else { Err(Errno::ENOTCONN) }
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
        let used = (self.received.lock().charged(), 0);
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
        self.take_pending()
    }

    fn is_listening(&self) -> bool {
        false
    }

    fn poll(&self) -> EventMask {
        let mut events = EventMask::WRITABLE | EventMask::WRBAND;
        if self.error.load(Ordering::SeqCst) != 0 || !self.errors.is_empty() {
            events |= EventMask::ERR;
        }
        let bits = self.shutdown_bits.load(Ordering::SeqCst);
        if bits & RCV != 0 {
            events |= EventMask::RDHUP | EventMask::READABLE;
        }
        if bits == RCV | SEND {
            events |= EventMask::HUP;
        }
        if !self.received.lock().is_empty() {
            events |= EventMask::READABLE;
        }
        events
    }

    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn ioctl(&self, task: &Task, cmd: u32, arg: u64) -> Result<u64> {
        match cmd {
            FIONREAD => {
                let len = self.received.lock().first_len();
                put_int(task, arg, len)
            }
            TIOCOUTQ => put_int(task, arg, 0),
            _ => devices::ioctl(&self.common.net, task, cmd, arg),
        }
    }

    fn release(&self) {
        self.common.net.wire.remove(&self.this);
        if let Some(raw) = self.remote.get() {
            raw.set_waker(None);
        }
        let unread = self.received.lock().close();
        drop(unread);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
