//! A packet socket as the system calls see it.

use super::address::LinkAddress;
use super::queue::Waiting;
use super::send::To;
use super::{AF_PACKET, Binding, PacketSocket, SOL_PACKET};
use crate::errno::{Errno, Result};
use crate::fs::ioctl::{FIONREAD, TIOCOUTQ, put_int};
use crate::io::{Sink, Source};
use crate::kernel::{CurrentTask, Task};
use crate::mm::UserAddr;
use crate::socket::inet::devices;
use crate::socket::inet::interface::IFF_UP;
use crate::socket::options::so;
use crate::socket::{
    Control, Destination, Kind, OptionValue, Options, RecvMsg, SOL_SOCKET, SendMsg, Socket, flags,
};
use crate::vfs::{File, Mappable};
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// `SIOCGSTAMP` and `SIOCGSTAMPNS`, with the layouts for old and new times, which are the same here.
const STAMPS: [(u32, u64); 4] =
    [(0x8906, 1000), (0x8907, 1), (0x8010_8906, 1000), (0x8010_8907, 1)];
/// What `recvmsg(2)` may be asked here.
const RECEIVE_FLAGS: u32 = flags::PEEK | flags::DONTWAIT | flags::TRUNC | flags::ERRQUEUE;
/// Control message of `SOL_PACKET`.
const PACKET_AUXDATA: i32 = 8;
/// Flags that are the system call's own business.
const CALL_FLAGS: u32 = flags::CMSG_CLOEXEC | flags::WAITFORONE;

/// A `struct timeval` (`unit` of 1,000 ns) or `timespec` (of 1 ns).
fn time(at: u64, unit: u64) -> Vec<u8> {
    let (seconds, rest) = (at / 1_000_000_000, at % 1_000_000_000);
    [seconds.to_ne_bytes(), (rest / unit).to_ne_bytes()].concat()
}

impl PacketSocket {
    fn do_bind(&self, bytes: &[u8]) -> Result<()> {
        let to = LinkAddress::parse(bytes)?;
        let family = bytes.first_chunk().map(|f| i32::from(u16::from_ne_bytes(*f)));
        if family != Some(AF_PACKET) {
            return Err(Errno::EINVAL);
        }
        let up = match to.device {
            0 => true,
            device => {
                let up = self.net.with_device(device, |i| i.flags & IFF_UP != 0);
                up.ok_or(Errno::ENODEV)?
            }
        };
        {
            let mut binding = self.binding.lock();
            let protocol = if to.protocol == 0 { binding.protocol } else { to.protocol };
            *binding = Binding { protocol, device: to.device };
        }
        if !up {
            self.error.store(Errno::ENETDOWN.raw(), Ordering::SeqCst);
            self.queue.notify(EventMask::ERR);
        }
        Ok(())
    }

    fn do_receive(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        if msg.flags & !(RECEIVE_FLAGS | CALL_FLAGS) != 0 {
            return Err(Errno::EINVAL);
        }
        if msg.flags & flags::ERRQUEUE != 0 {
            // Nobody is told when a frame was sent.
            return Err(Errno::EAGAIN);
        }
        if let Some(e) = self.take_error() {
            return Err(e);
        }
        if msg.flags & flags::PEEK != 0 {
            let received = self.received.lock();
            let first = received.first().ok_or(Errno::EAGAIN)?;
            return self.deliver(first, dst, msg);
        }
        let frame = self.received.lock().pop().ok_or(Errno::EAGAIN)?;
        self.last.store(frame.at as u64, Ordering::Relaxed);
        self.deliver(&frame, dst, msg)
    }

    fn deliver(&self, frame: &Waiting, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        let empty = frame.data.is_empty() || dst.remaining() == 0;
        let n = if empty { 0 } else { dst.put(&frame.data)? };
        if n < frame.data.len() {
            msg.out_flags |= flags::TRUNC;
        }
        msg.from = Some(frame.from.bytes().to_vec());
        for kind in so::TIMESTAMPS {
            if self.options.is_on(kind) {
                let unit = if matches!(kind, so::TIMESTAMP | so::TIMESTAMP_NEW) { 1000 } else { 1 };
                let data = time(frame.at as u64, unit);
                msg.control.push(Control { level: SOL_SOCKET, kind, data });
            }
        }
        if self.own.wants_auxdata() {
            let data = [
                &frame.status.to_ne_bytes()[..],
                &(frame.len as u32).to_ne_bytes(),
                &(frame.data.len() as u32).to_ne_bytes(),
                &[0; 2],
                &(frame.network as u16).to_ne_bytes(),
                // No tags are taken off frames.
                &[0; 4],
            ]
            .concat();
            msg.control.push(Control { level: SOL_PACKET, kind: PACKET_AUXDATA, data });
        }
        Ok(if msg.flags & flags::TRUNC != 0 { frame.data.len() } else { n })
    }
}

impl Socket for PacketSocket {
    fn family(&self) -> i32 {
        AF_PACKET
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn options(&self) -> &Options {
        &self.options
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
        _addr: &[u8],
        _nonblocking: bool,
    ) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        let binding = self.binding();
        let mut out = LinkAddress {
            protocol: binding.protocol,
            device: binding.device,
            ..LinkAddress::default()
        };
        let device = self.net.with_device(binding.device, |i| (i.kind, i.mac));
        if let Some((hardware, mac)) = device {
            out.hardware = hardware;
            out.len = mac.len() as u8;
            for (to, from) in out.address.iter_mut().zip(mac) {
                *to = from;
            }
        }
        Ok(out.name())
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }

    fn shutdown(&self, _how: i32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn destination(&self, _t: &CurrentTask, addr: &[u8]) -> Result<Destination> {
        Ok(Arc::new(To::parse(addr)?))
    }

    fn send(&self, src: &mut dyn Source, msg: &mut SendMsg) -> Result<usize> {
        self.do_send(src, msg)
    }

    fn receive(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        self.do_receive(dst, msg)
    }

    fn get_option(&self, t: &CurrentTask, level: i32, name: i32) -> Result<OptionValue> {
        self.answer_option(t, (level, name), &mut || Err(Errno::EINVAL))
    }

    fn answer_option(
        &self,
        _t: &CurrentTask,
        (level, name): (i32, i32),
        given: &mut dyn FnMut() -> Result<i32>,
    ) -> Result<OptionValue> {
        match level {
            SOL_SOCKET => {
                let sndbuf = self.sndbuf.load(Ordering::Relaxed);
                self.options.get(self, sndbuf, name).ok_or(Errno::ENOPROTOOPT)
            }
            SOL_PACKET => self.own_option(name, given),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn set_option(&self, t: &CurrentTask, level: i32, name: i32, value: &[u8]) -> Result<()> {
        match level {
            SOL_SOCKET => {
                if let Some(result) = self.filter.set(t, &self.options, name, value) {
                    return result;
                }
                let set = |n| self.sndbuf.store(n, Ordering::Relaxed);
                let known = self.options.set(t.creds(), name, value, set);
                known.unwrap_or(Err(Errno::ENOPROTOOPT))
            }
            SOL_PACKET => self.set_own_option(t, name, value),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn take_error(&self) -> Option<Errno> {
        match self.error.swap(0, Ordering::SeqCst) {
            0 => None,
            n => Some(Errno::from_raw(n)),
        }
    }

    fn is_listening(&self) -> bool {
        false
    }

    fn poll(&self) -> EventMask {
        let mut events = EventMask::WRITABLE | EventMask::WRBAND;
        if self.error.load(Ordering::SeqCst) != 0 {
            events |= EventMask::ERR;
        }
        if self.received.lock().is_readable() {
            events |= EventMask::READABLE;
        }
        events
    }

    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        let received = self.received.lock();
        let ring = received.ring.as_ref().ok_or(Errno::EINVAL)?;
        Ok(ring.memory().clone())
    }

    fn ioctl(&self, task: &Task, cmd: u32, arg: u64) -> Result<u64> {
        if let Some((_, unit)) = STAMPS.iter().find(|(stamp, _)| *stamp == cmd) {
            let at = self.last.load(Ordering::Relaxed);
            if at == 0 {
                return Err(Errno::ENOENT);
            }
            task.mm()?.write(UserAddr(arg), &time(at, *unit))?;
            return Ok(0);
        }
        match cmd {
            FIONREAD => {
                let len = self.received.lock().first().map_or(0, |frame| frame.data.len());
                put_int(task, arg, len)
            }
            TIOCOUTQ => put_int(task, arg, 0),
            _ => devices::ioctl(&self.net, task, cmd, arg),
        }
    }

    fn release(&self) {
        self.net.wire.remove_tap(&self.this);
        self.drop_memberships();
        let (unread, ring) = self.received.lock().close();
        if let Some(ring) = ring {
            self.net.wire.taps.give_ring(ring.memory().len());
        }
        drop(unread);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl PacketSocket {
    /// A line of `/proc/net/packet`.
    pub fn listed(&self, show_uid: &dyn Fn(u32) -> u32) -> String {
        let binding = self.binding();
        let memory = self.received.lock().charged();
        // The fields are those of Linux: address, references, type, protocol, interface, running, memory.
        format!(
            "{:016x} {:<6} {:<4}   {:04x}   {:<5} {:1} {memory:<6} {:<6} {:<6}\n",
            0,
            // Who is shown nothing is in no list.
            if binding.protocol == 0 { 2 } else { 3 },
            self.kind as i32,
            binding.protocol,
            binding.device as i32,
            u8::from(binding.protocol != 0),
            show_uid(self.options.creator.uid),
            self.options.ino.load(Ordering::Relaxed)
        )
    }
}
