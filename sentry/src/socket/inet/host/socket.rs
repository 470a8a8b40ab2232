//! A socket of the host's, as the system calls see it.

use super::{HostNet, options};
use crate::errno::{Errno, Result};
use crate::fs::ioctl::{FIONREAD, TIOCOUTQ, put_int};
use crate::io::{Sink, Source, from_host};
use crate::kernel::{CurrentTask, Task, Wake};
use crate::socket::inet::uplink::proxy::poll;
use crate::socket::inet::{
    AF_INET, AF_INET6, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, Net, devices,
};
use crate::socket::options::so;
use crate::socket::{
    Control, Destination, Kind, OptionValue, Options, RecvMsg, SOL_SOCKET, SendMsg, Socket, flags,
};
use crate::vfs::File;
use crate::wait::{EventMask, WaitQueue};
use netproxy::protocol::Protocol;
use platform::host::{hostnet, inet, tty};
use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

const SIOCATMARK: u32 = 0x8905;
const SIOCOUTQNSD: u32 = 0x894b;
/// `CAP_NET_ADMIN`
const CAP_NET_ADMIN: u32 = 12;
/// Most bytes that are copied at a time where they cannot go straight to or from the guest's memory; no datagram is
/// longer.
const CHUNK: usize = 64 << 10;
/// Most bytes of an option.
const MAX_OPTION: usize = 512;
/// What the host is told of a message that is sent: `MSG_OOB`, `_DONTROUTE`, `_EOR`, `_CONFIRM`, `_MORE`.
const SENT: u32 = flags::OOB | flags::DONTROUTE | flags::EOR | 0x800 | flags::MORE;
/// And of one that is received.
const RECEIVED: u32 = flags::OOB | flags::PEEK | flags::TRUNC | flags::ERRQUEUE;

/// See the module.
pub struct HostSocket {
    fd: OwnedFd,
    id: u64,
    v6: bool,
    protocol: Protocol,
    options: Options,
    queue: WaitQueue,
    /// Nothing more is received.
    shut: AtomicBool,
    /// Who made the connection, for one that was accepted.
    from: Option<Vec<u8>>,
    host: Arc<HostNet>,
    net: Arc<Net>,
}

impl HostSocket {
    /// A new socket.
    pub fn new(
        host: &Arc<HostNet>,
        net: &Arc<Net>,
        v6: bool,
        protocol: Protocol,
        options: Options,
    ) -> Result<Arc<HostSocket>> {
        let fd = host.make(v6, protocol)?;
        Self::watched(HostSocket {
            fd,
            id: host.next_id(),
            v6,
            protocol,
            options,
            queue: WaitQueue::new(),
            shut: AtomicBool::new(false),
            from: None,
            host: host.clone(),
            net: net.clone(),
        })
    }

    fn watched(socket: HostSocket) -> Result<Arc<HostSocket>> {
        let socket = Arc::new(socket);
        let weak: Weak<HostSocket> = Arc::downgrade(&socket);
        socket.host.sockets.lock().insert(socket.id, weak);
        socket.host.watch.add(socket.fd.as_fd(), socket.id).map_err(from_host)?;
        Ok(socket)
    }

    /// Something has changed at the host's socket.
    pub(super) fn changed(&self, events: EventMask) {
        self.queue.notify(events);
    }

    /// A datagram socket of which nothing more is received.
    fn is_shut(&self) -> bool {
        !self.is_stream() && self.shut.load(Ordering::Relaxed)
    }

    fn is_stream(&self) -> bool {
        self.protocol == Protocol::Tcp
    }

    /// Waits until an attempt to connect has ended; `late` is what it means that it takes too long.
    fn wait_connected(&self, t: &mut CurrentTask, late: Errno) -> Result<()> {
        let deadline = self.options.timeout(true);
        let deadline = deadline.map(|n| t.kernel().time.monotonic().saturating_add(n));
        let key = self.queue.add(EventMask::WRITABLE, t.waker());
        let result = loop {
            if poll(&self.fd).intersects(EventMask::WRITABLE | EventMask::ERR | EventMask::HUP) {
                break Ok(());
            }
            match t.block(deadline) {
                Wake::Event => {}
                Wake::Timeout => break Err(late),
                Wake::Interrupted if deadline.is_some() => break Err(Errno::EINTR),
                Wake::Interrupted => break Err(Errno::ERESTARTSYS),
            }
        };
        self.queue.remove(key);
        result
    }

    /// Sends what has to be copied.
    fn send_copy(&self, src: &mut dyn Source, msg: &mut SendMsg) -> Result<usize> {
        let len = src.remaining();
        if len > CHUNK && !self.is_stream() {
            return Err(Errno::EMSGSIZE);
        }
        let mut data = vec![0; len.min(CHUNK)];
        let taken = if data.is_empty() { 0 } else { src.take(&mut data)? };
        if taken < data.len() && !self.is_stream() {
            return Err(Errno::EFAULT);
        }
        let data = data.get(..taken).unwrap_or_default();
        let to = match &msg.to {
            None => None,
            Some(to) => Some(to.downcast_ref::<Vec<u8>>().ok_or(Errno::EINVAL)?.as_slice()),
        };
        let given = msg.control.iter().map(|c| (c.level, c.kind, c.data.clone()));
        let control: Vec<hostnet::Control> = given.collect();
        let flags = (msg.flags & SENT) as i32;
        let sent = hostnet::send(self.fd.as_fd(), data, to, &control, flags).map_err(from_host);
        src.rewind(taken.saturating_sub(*sent.as_ref().unwrap_or(&0)));
        sent
    }
}

impl Socket for HostSocket {
    fn family(&self) -> i32 {
        if self.v6 { AF_INET6 } else { AF_INET }
    }

    fn kind(&self) -> Kind {
        if self.is_stream() { Kind::Stream } else { Kind::Dgram }
    }

    fn protocol(&self) -> i32 {
        match self.protocol {
            Protocol::Tcp => IPPROTO_TCP,
            Protocol::Udp => IPPROTO_UDP,
            Protocol::Echo if self.v6 => IPPROTO_ICMPV6,
            Protocol::Echo => IPPROTO_ICMP,
        }
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn bind(&self, _t: &mut CurrentTask, addr: &[u8]) -> Result<()> {
        hostnet::bind(self.fd.as_fd(), addr).map_err(from_host)
    }

    fn listen(&self, _t: &CurrentTask, backlog: i32) -> Result<()> {
        hostnet::listen(self.fd.as_fd(), backlog).map_err(from_host)
    }

    fn accept(&self) -> Result<Arc<dyn Socket>> {
        let (fd, from) = hostnet::accept(self.fd.as_fd()).map_err(from_host)?;
        let options = Options::with_creator(self.options.creator);
        options.inherit_all(&self.options);
        let child = Self::watched(HostSocket {
            fd,
            id: self.host.next_id(),
            v6: self.v6,
            protocol: self.protocol,
            options,
            queue: WaitQueue::new(),
            shut: AtomicBool::new(false),
            from: Some(from),
            host: self.host.clone(),
            net: self.net.clone(),
        })?;
        Ok(child)
    }

    fn connect(
        &self,
        t: &mut CurrentTask,
        _file: &Arc<File>,
        addr: &[u8],
        nonblocking: bool,
    ) -> Result<()> {
        let late = match hostnet::connect(self.fd.as_fd(), addr).map_err(from_host) {
            Err(late @ (Errno::EINPROGRESS | Errno::EALREADY)) if !nonblocking => late,
            result => return result,
        };
        self.wait_connected(t, late)?;
        // This says how it ended, and the host's socket learns that somebody knows.
        match hostnet::connect(self.fd.as_fd(), addr).map_err(from_host) {
            Err(Errno::EISCONN) => Ok(()),
            result => result,
        }
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        hostnet::local_name(self.fd.as_fd()).map_err(from_host)
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        hostnet::peer_name(self.fd.as_fd()).map_err(from_host)
    }

    fn accepted_from(&self) -> Result<Vec<u8>> {
        self.from.clone().map_or_else(|| self.peer_address(), Ok)
    }

    fn shutdown(&self, how: i32) -> Result<()> {
        if !(0..=2).contains(&how) {
            return Err(Errno::EINVAL);
        }
        let result = inet::shutdown(self.fd.as_fd(), how).map_err(from_host);
        // Of a datagram socket that is not connected, too.
        if how != 1 {
            self.shut.store(true, Ordering::Relaxed);
        }
        self.queue.notify(poll(&self.fd));
        result
    }

    fn destination(&self, _t: &CurrentTask, addr: &[u8]) -> Result<Destination> {
        Ok(Arc::new(addr.to_vec()))
    }

    fn send(&self, src: &mut dyn Source, msg: &mut SendMsg) -> Result<usize> {
        let plain = msg.flags & SENT == 0 && msg.to.is_none() && msg.control.is_empty();
        if !self.is_stream() || !plain {
            return self.send_copy(src, msg);
        }
        let mut done = 0;
        while src.remaining() > 0 {
            match src.write_host(self.fd.as_fd(), None, src.remaining()) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn receive(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        let wanted = msg.flags & RECEIVED;
        if self.is_stream() && wanted == 0 {
            let room = dst.remaining();
            if room > 0 {
                return dst.read_host(self.fd.as_fd(), None, room);
            }
        }
        let mut buffer = vec![0; dst.remaining().min(CHUNK)];
        let got = hostnet::receive(self.fd.as_fd(), &mut buffer, wanted as i32);
        let hostnet::Received { len, flags: told, from, control } = match got.map_err(from_host) {
            // Who would wait learns that nothing more comes.
            Err(Errno::EAGAIN) if self.is_shut() && !msg.nonblocking => return Ok(0),
            got => got?,
        };
        msg.out_flags |=
            told as u32 & (flags::TRUNC | flags::CTRUNC | flags::OOB | flags::ERRQUEUE);
        if !from.is_empty() {
            msg.from = Some(from);
        }
        let control = control.into_iter().map(|(level, kind, data)| Control { level, kind, data });
        msg.control.extend(control);
        if self.is_stream() && wanted & flags::TRUNC != 0 {
            // Nobody gets it.
            return Ok(len);
        }
        let data = buffer.get(..len.min(buffer.len())).unwrap_or_default();
        let put = if data.is_empty() { 0 } else { dst.put(data)? };
        Ok(if wanted & flags::TRUNC != 0 { len } else { put })
    }

    fn get_option(&self, _t: &CurrentTask, level: i32, name: i32) -> Result<OptionValue> {
        let own = [so::RCVTIMEO, so::SNDTIMEO, so::RCVTIMEO_NEW, so::SNDTIMEO_NEW, so::MARK];
        if level == SOL_SOCKET && own.contains(&name) {
            return self.options.get(self, 0, name).ok_or(Errno::ENOPROTOOPT);
        }
        if !options::is_read(level, name) {
            return Err(options::unknown(self.protocol(), level));
        }
        let mut value = vec![0; MAX_OPTION];
        let n = inet::option(self.fd.as_fd(), level, name, &mut value).map_err(from_host)?;
        value.truncate(n);
        match value.first_chunk() {
            Some(int) if n == size_of::<i32>() => Ok(OptionValue::Int(i32::from_ne_bytes(*int))),
            _ => Ok(OptionValue::Bytes(value)),
        }
    }

    fn set_option(&self, t: &CurrentTask, level: i32, name: i32, value: &[u8]) -> Result<()> {
        let own = [so::RCVTIMEO, so::SNDTIMEO, so::RCVTIMEO_NEW, so::SNDTIMEO_NEW];
        if level == SOL_SOCKET && own.contains(&name) {
            let set = self.options.set(t.creds(), name, value, |_| ());
            return set.unwrap_or(Err(Errno::ENOPROTOOPT));
        }
        let name = match (level, name) {
            // The host's limits hold all the same.
            (SOL_SOCKET, so::SNDBUFFORCE | so::RCVBUFFORCE) => {
                if !Net::capable(t, CAP_NET_ADMIN) {
                    return Err(Errno::EPERM);
                }
                if name == so::SNDBUFFORCE { so::SNDBUF } else { so::RCVBUF }
            }
            (SOL_SOCKET, so::MARK) => return Err(Errno::EPERM),
            _ => name,
        };
        if !options::is_set(level, name) {
            return Err(Errno::ENOPROTOOPT);
        }
        let value = value.get(..value.len().min(MAX_OPTION)).unwrap_or_default();
        inet::set_bytes(self.fd.as_fd(), level, name, value).map_err(from_host)
    }

    fn take_error(&self) -> Option<Errno> {
        inet::take_error(self.fd.as_fd()).map(from_host)
    }

    fn is_listening(&self) -> bool {
        let mut value = [0; 4];
        let known = inet::option(self.fd.as_fd(), SOL_SOCKET, so::ACCEPTCONN, &mut value);
        known.is_ok() && i32::from_ne_bytes(value) != 0
    }

    fn poll(&self) -> EventMask {
        let events = poll(&self.fd);
        let writable = !self.is_stream() && events.contains(EventMask::WRITABLE);
        if writable { events | EventMask::WRBAND } else { events }
    }

    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn ioctl(&self, task: &Task, cmd: u32, arg: u64) -> Result<u64> {
        let fd = self.fd.as_fd();
        let value = match cmd {
            FIONREAD => tty::bytes_available(fd).map_err(from_host)?,
            TIOCOUTQ | SIOCOUTQNSD => inet::bytes_unsent(fd).map_err(from_host)?,
            SIOCATMARK => usize::from(inet::at_mark(fd).map_err(from_host)?),
            _ => return devices::ioctl(&self.net, task, cmd, arg),
        };
        put_int(task, arg, value)
    }

    fn release(&self) {
        self.host.sockets.lock().remove(&self.id);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for HostSocket {
    fn drop(&mut self) {
        // One that never had an open file.
        self.host.sockets.lock().remove(&self.id);
    }
}
