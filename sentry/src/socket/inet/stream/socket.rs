//! A TCP socket as the system calls see it.

use super::core::{RCV, SEND, WRITABLE};
use super::remote::Remote;
use super::{DEFAULT_RCVBUF, State, StreamSocket};
use crate::errno::{Errno, Result};
use crate::fs::ioctl::{FIONREAD, TIOCOUTQ, put_int};
use crate::io::{Sink, Source};
use crate::kernel::{CurrentTask, Task};
use crate::socket::inet::addr::{self, Endpoint};
use crate::socket::inet::{IPPROTO_TCP, devices};
use crate::socket::options::so;
use crate::socket::{
    Control, Destination, Kind, OptionValue, Options, RecvMsg, SOL_SOCKET, SendMsg, Socket, flags,
};
use crate::vfs::File;
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const SIOCATMARK: u32 = 0x8905;
/// `TCP_CM_INQ`
const CM_INQ: i32 = 36;
const SIOCOUTQNSD: u32 = 0x894b;

impl Socket for StreamSocket {
    fn family(&self) -> i32 {
        self.common.family()
    }

    fn kind(&self) -> Kind {
        Kind::Stream
    }

    fn protocol(&self) -> i32 {
        IPPROTO_TCP
    }

    fn options(&self) -> &Options {
        &self.common.options
    }

    fn bind(&self, t: &mut CurrentTask, addr: &[u8]) -> Result<()> {
        self.do_bind(t, addr)
    }

    fn listen(&self, _t: &CurrentTask, backlog: i32) -> Result<()> {
        self.do_listen(backlog)
    }

    fn accept(&self) -> Result<Arc<dyn Socket>> {
        Ok(self.do_accept()?)
    }

    fn connect(
        &self,
        t: &mut CurrentTask,
        _file: &Arc<File>,
        addr: &[u8],
        nonblocking: bool,
    ) -> Result<()> {
        self.do_connect(t, addr, nonblocking)
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        let family = self.common.family();
        let local = self.endpoints().0.unwrap_or(Endpoint { ip: addr::any(family), port: 0 });
        Ok(local.sockaddr(family))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        if let Some(remote) = self.remote() {
            if remote.is_connecting() || remote.is_closed() {
                return Err(Errno::ENOTCONN);
            }
            return Ok(remote.peer.sockaddr(self.common.family()));
        }
        let connected = self.connection().filter(|_| !self.core.is_over());
        connected.map(|c| c.peer.sockaddr(self.common.family())).ok_or(Errno::ENOTCONN)
    }

    fn accepted_from(&self) -> Result<Vec<u8>> {
        if let Some(remote) = self.remote() {
            return Ok(remote.peer.sockaddr(self.common.family()));
        }
        let connected = self.connection().ok_or(Errno::ENOTCONN)?;
        Ok(connected.peer.sockaddr(self.common.family()))
    }

    fn shutdown(&self, how: i32) -> Result<()> {
        self.do_shutdown(how)
    }

    fn destination(&self, _t: &CurrentTask, _addr: &[u8]) -> Result<Destination> {
        // Ignored: a stream goes where it is connected to.
        Ok(Arc::new(()))
    }

    fn send(&self, src: &mut dyn Source, msg: &mut SendMsg) -> Result<usize> {
        if msg.flags & flags::FASTOPEN != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let remote = self.remote();
        if let Some(remote) = remote {
            return remote.send(src, msg.flags & flags::OOB != 0);
        }
        let connected = match &self.setup.lock().state {
            State::Connected(connected) => connected.clone(),
            State::Connecting(..) | State::Remote(_) => return Err(Errno::EAGAIN),
            _ => return Err(self.core.take_error().unwrap_or(Errno::EPIPE)),
        };
        let more = msg.flags & flags::MORE != 0 || self.tcp.is_corked();
        let n = connected.send(src, msg.flags & flags::OOB != 0, more)?;
        self.common.net.counters.segment(n, connected.peer.ip.is_ipv6());
        Ok(n)
    }

    fn receive(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        if msg.flags & flags::ERRQUEUE != 0 {
            return Err(Errno::EAGAIN);
        }
        if let Some(remote) = self.remote() {
            return self.receive_remote(&remote, dst, msg);
        }
        let connected = match &self.setup.lock().state {
            State::Connected(connected) => connected.clone(),
            State::Listening(_) => return Err(Errno::ENOTCONN),
            _ if msg.flags & flags::OOB != 0 => return Err(Errno::EINVAL),
            State::Connecting(..) | State::Remote(_) => return Err(Errno::EAGAIN),
            State::Closed => {
                if let Some(e) = self.core.take_error() {
                    return Err(e);
                }
                return if self.core.has(RCV) { Ok(0) } else { Err(Errno::ENOTCONN) };
            }
        };
        let options = &self.common.options;
        let inline = options.is_on(so::OOBINLINE);
        let peek = msg.flags & flags::PEEK != 0;
        if msg.flags & flags::OOB != 0 {
            let n = connected.receive_urgent(dst, peek, inline)?;
            msg.out_flags |= flags::OOB;
            return Ok(n);
        }
        let from = peek.then(|| options.peek_off().unwrap_or(0));
        let discard = msg.flags & flags::TRUNC != 0;
        let n = connected.receive(dst, from, discard, inline)?;
        options.move_peek_off(if peek { n as i64 } else { -(n as i64) });
        let done = || self.core.has(super::core::DONE);
        self.tell_inq(msg, || (connected.rx.len(), done()));
        Ok(n)
    }

    fn get_option(&self, _t: &CurrentTask, level: i32, name: i32) -> Result<OptionValue> {
        let used = self.queued();
        let sndbuf = self.sndbuf.load(Ordering::Relaxed);
        if let Some(value) = self.common.get(self, (level, name), sndbuf, used) {
            return value;
        }
        if level == IPPROTO_TCP { self.tcp.get(self, name) } else { Err(Errno::EOPNOTSUPP) }
    }

    fn set_option(&self, t: &CurrentTask, level: i32, name: i32, value: &[u8]) -> Result<()> {
        let set = |n: usize| self.sndbuf.store(n, Ordering::Relaxed);
        if let Some(result) = self.common.set(t, self, (level, name), value, set) {
            if level == SOL_SOCKET && result.is_ok() {
                self.apply_options(name);
            }
            self.apply_remote();
            return result;
        }
        if level == IPPROTO_TCP {
            self.tcp.set(self, t, name, value)?;
            self.apply_remote();
            if !self.tcp.is_corked()
                && let Some(connected) = self.connection()
            {
                connected.pass_on();
            }
            Ok(())
        } else {
            Err(Errno::ENOPROTOOPT)
        }
    }

    fn take_error(&self) -> Option<Errno> {
        if let Some(remote) = self.remote() {
            return remote.take_error();
        }
        self.core.take_error()
    }

    fn is_listening(&self) -> bool {
        self.listener.lock().is_some()
    }

    fn poll(&self) -> EventMask {
        let mut events = EventMask::empty();
        let flags = self.core.flags();
        {
            let setup = self.setup.lock();
            if let State::Listening(listener) = &setup.state {
                let ready = listener.is_ready();
                return if ready { EventMask::READABLE } else { EventMask::empty() };
            }
            if let State::Remote(remote) = &setup.state {
                return remote.poll_with(self.common.options.rcvlowat());
            }
            if flags & (RCV | SEND) == RCV | SEND || self.is_closed(&setup.state) {
                events |= EventMask::HUP;
            }
            if flags & RCV != 0 {
                events |= EventMask::READABLE | EventMask::RDHUP;
            }
            match &setup.state {
                State::Closed => events |= WRITABLE,
                State::Connected(connected) => {
                    let options = &self.common.options;
                    let inline = options.is_on(so::OOBINLINE);
                    events |= connected.poll(options.rcvlowat(), inline);
                }
                _ => {}
            }
        }
        if self.core.has_error() {
            events |= EventMask::ERR;
        }
        events
    }

    fn wait_queue(&self) -> &WaitQueue {
        &self.core.queue
    }

    fn ioctl(&self, task: &Task, cmd: u32, arg: u64) -> Result<u64> {
        if !matches!(cmd, FIONREAD | TIOCOUTQ | SIOCOUTQNSD | SIOCATMARK) {
            return devices::ioctl(&self.common.net, task, cmd, arg);
        }
        if let Some(remote) = self.remote() {
            let (received, sent) = remote.queued();
            let value = match cmd {
                FIONREAD => received,
                SIOCATMARK => usize::from(remote.at_mark()),
                _ => sent,
            };
            return put_int(task, arg, value);
        }
        let connected = match &self.setup.lock().state {
            State::Listening(_) if cmd != SIOCATMARK => return Err(Errno::EINVAL),
            State::Connected(connected) => Some(connected.clone()),
            _ => None,
        };
        let inline = self.common.options.is_on(so::OOBINLINE);
        let value = connected.map_or(0, |c| match cmd {
            FIONREAD => c.rx.readable(inline),
            SIOCATMARK => usize::from(c.rx.at_mark()),
            _ => c.unsent(),
        });
        put_int(task, arg, value)
    }

    fn linger(&self, t: &mut CurrentTask, nanos: u64) {
        self.do_linger(t, nanos);
    }

    fn release(&self) {
        self.do_release();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl StreamSocket {
    fn receive_remote(
        &self,
        remote: &Remote,
        dst: &mut dyn Sink,
        msg: &mut RecvMsg,
    ) -> Result<usize> {
        let options = &self.common.options;
        let peek = msg.flags & flags::PEEK != 0;
        if msg.flags & flags::OOB != 0 {
            let n = remote.receive_urgent(dst, peek)?;
            msg.out_flags |= flags::OOB;
            return Ok(n);
        }
        let from = peek.then(|| options.peek_off().unwrap_or(0));
        let n = remote.receive(dst, from, msg.flags & flags::TRUNC != 0)?;
        options.move_peek_off(if peek { n as i64 } else { -(n as i64) });
        self.tell_inq(msg, || (remote.queued().0, n == 0));
        Ok(n)
    }

    /// Tells how many bytes are left (`TCP_INQ`): 1 at the end of the stream.
    fn tell_inq(&self, msg: &mut RecvMsg, left: impl FnOnce() -> (usize, bool)) {
        if !self.tcp.tells_inq() {
            return;
        }
        let (left, done) = left();
        let left = if left == 0 && done { 1 } else { i32::try_from(left).unwrap_or(i32::MAX) };
        let data = left.to_ne_bytes().to_vec();
        msg.control.push(Control { level: IPPROTO_TCP, kind: CM_INQ, data });
    }

    /// Lets a changed buffer size or switch act on what exists already.
    fn apply_options(&self, name: i32) {
        let options = &self.common.options;
        match name {
            so::SNDBUF | so::SNDBUFFORCE | so::RCVBUF | so::RCVBUFFORCE => {
                if let Some(connected) = self.connection() {
                    connected.tx.set_buffer(self.sndbuf.load(Ordering::Relaxed));
                    connected.rx.set_window(options.rcvbuf());
                }
                self.core.queue.notify(WRITABLE);
            }
            so::REUSEADDR | so::REUSEPORT => {
                let setup = self.setup.lock();
                if let Some(claim) = &setup.claim {
                    let _ = claim.update(false, |b| {
                        // What a listener shares was settled when it began to listen.
                        if !b.listening {
                            b.reuse_addr = options.is_on(so::REUSEADDR);
                            b.reuse_port = options.is_on(so::REUSEPORT);
                        }
                    });
                }
            }
            so::RCVLOWAT => self.core.queue.notify(EventMask::READABLE),
            _ => {}
        }
    }

    /// Window offered to a peer, in bytes (`TCP_INFO`).
    pub(super) fn window(&self) -> usize {
        self.common.options.rcvbuf().max(DEFAULT_RCVBUF / 2)
    }
}
