//! Raw sockets of `IPPROTO_RAW` (`raw(7)`): nothing comes to them, and through them options are set that concern a
//! whole network (iptables). They do not send yet.

use super::common::Common;
use super::{Net, devices};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::kernel::{CurrentTask, Task};
use crate::socket::options::DEFAULT_BUFFER;
use crate::socket::{Destination, Kind, OptionValue, Options, RecvMsg, SendMsg, Socket};
use crate::vfs::File;
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `IPPROTO_RAW`
pub const IPPROTO_RAW: i32 = 255;

/// The socket.
pub struct RawSocket {
    common: Common,
    sndbuf: AtomicUsize,
    queue: WaitQueue,
}

impl RawSocket {
    /// One of `family`.
    pub fn new(family: i32, net: &Arc<Net>, options: Options) -> Arc<RawSocket> {
        let common = Common::new(family, net, options);
        let (sndbuf, queue) = (AtomicUsize::new(DEFAULT_BUFFER), WaitQueue::new());
        Arc::new(RawSocket { common, sndbuf, queue })
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
        IPPROTO_RAW
    }

    fn options(&self) -> &Options {
        &self.common.options
    }

    fn bind(&self, _t: &mut CurrentTask, _addr: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
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
        let ip = super::addr::any(self.common.family);
        Ok(super::addr::Endpoint { ip, port: 0 }.sockaddr(self.common.family))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        Err(Errno::ENOTCONN)
    }

    fn shutdown(&self, _how: i32) -> Result<()> {
        Err(Errno::ENOTCONN)
    }

    fn destination(&self, _t: &CurrentTask, _addr: &[u8]) -> Result<Destination> {
        Err(Errno::EOPNOTSUPP)
    }

    fn send(&self, _src: &mut dyn Source, _msg: &mut SendMsg) -> Result<usize> {
        Err(Errno::EOPNOTSUPP)
    }

    fn receive(&self, _dst: &mut dyn Sink, _msg: &mut RecvMsg) -> Result<usize> {
        Err(Errno::EAGAIN)
    }

    fn get_option(&self, _t: &CurrentTask, level: i32, name: i32) -> Result<OptionValue> {
        let sndbuf = self.sndbuf.load(Ordering::Relaxed);
        let value = self.common.get(self, (level, name), sndbuf, (0, 0));
        value.unwrap_or(Err(Errno::ENOPROTOOPT))
    }

    fn set_option(&self, t: &CurrentTask, level: i32, name: i32, value: &[u8]) -> Result<()> {
        let set = |n| self.sndbuf.store(n, Ordering::Relaxed);
        let result = self.common.set(t, self, (level, name), value, set);
        result.unwrap_or(Err(Errno::ENOPROTOOPT))
    }

    fn take_error(&self) -> Option<Errno> {
        None
    }

    fn is_listening(&self) -> bool {
        false
    }

    fn poll(&self) -> EventMask {
        EventMask::WRITABLE
    }

    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn ioctl(&self, task: &Task, cmd: u32, arg: u64) -> Result<u64> {
        devices::ioctl(&self.common.net, task, cmd, arg)
    }

    fn release(&self) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}
