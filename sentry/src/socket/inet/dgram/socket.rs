//! A datagram socket as the system calls see it.

use super::{DgramSocket, Protocol};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::kernel::{CurrentTask, Task};
use crate::socket::inet::addr::{self, Endpoint};
use crate::socket::inet::{IPPROTO_UDP, IPPROTO_UDPLITE, ip};
use crate::socket::options::{int, so};
use crate::socket::{
    Destination, Kind, OptionValue, Options, RecvMsg, SOL_SOCKET, SendMsg, Socket,
};
use crate::vfs::File;
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const UDP_CORK: i32 = 1;
const UDP_ENCAP: i32 = 100;
const UDP_SEGMENT: i32 = 103;
const UDP_GRO: i32 = 104;

impl Socket for DgramSocket {
    fn family(&self) -> i32 {
        self.common.family()
    }

    fn kind(&self) -> Kind {
        Kind::Dgram
    }

    fn protocol(&self) -> i32 {
        self.number(addr::any(self.common.family()))
    }

    fn options(&self) -> &Options {
        &self.common.options
    }

    fn bind(&self, t: &mut CurrentTask, addr: &[u8]) -> Result<()> {
        self.do_bind(t, addr)
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
        let family = self.common.family();
        let local = self.endpoints().0.unwrap_or(Endpoint { ip: addr::any(family), port: 0 });
        Ok(local.sockaddr(family))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        let peer = self.endpoints().1.filter(|_| self.protocol != Protocol::Echo);
        Ok(peer.ok_or(Errno::ENOTCONN)?.sockaddr(self.common.family()))
    }

    fn shutdown(&self, how: i32) -> Result<()> {
        self.do_shutdown(how)
    }

    fn destination(&self, _t: &CurrentTask, addr: &[u8]) -> Result<Destination> {
        let to = addr::parse_destination(self.common.family(), addr)?;
        Ok(Arc::new(to))
    }

    fn send(&self, src: &mut dyn Source, msg: &mut SendMsg) -> Result<usize> {
        self.do_send(src, msg)
    }

    fn receive(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        self.do_receive(dst, msg)
    }

    fn get_option(&self, _t: &CurrentTask, level: i32, name: i32) -> Result<OptionValue> {
        let sndbuf = self.sndbuf.load(Ordering::Relaxed);
        let used = (self.inbox.queued().0, 0);
        if let Some(value) = self.common.get(self, (level, name), sndbuf, used) {
            return value;
        }
        if !matches!(level, IPPROTO_UDP | IPPROTO_UDPLITE) || self.protocol == Protocol::Echo {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(OptionValue::Int(match name {
            UDP_CORK => i32::from(self.cork.load(Ordering::Relaxed)),
            UDP_SEGMENT => self.segment.load(Ordering::Relaxed) as i32,
            UDP_GRO => i32::from(self.coalesce.load(Ordering::Relaxed)),
            UDP_ENCAP => 0,
            _ => self.get_coverage(name)?,
        }))
    }

    fn set_option(&self, t: &CurrentTask, level: i32, name: i32, value: &[u8]) -> Result<()> {
        let set = |n: usize| self.sndbuf.store(n, Ordering::Relaxed);
        if let Some(result) = self.common.set(t, self, (level, name), value, set) {
            let rebinds = level == SOL_SOCKET && matches!(name, so::REUSEADDR | so::REUSEPORT | 25)
                || (level, name) == ip::V6ONLY
                || (level, name) == ip::ADDRFORM;
            if rebinds && result.is_ok() {
                self.rebind();
            }
            return result;
        }
        if !matches!(level, IPPROTO_UDP | IPPROTO_UDPLITE) || self.protocol == Protocol::Echo {
            return Err(Errno::ENOPROTOOPT);
        }
        let n = int(value)?;
        match name {
            UDP_CORK => {
                self.cork.store(n != 0, Ordering::Relaxed);
                if n == 0 { self.uncork() } else { Ok(()) }
            }
            UDP_SEGMENT => {
                let n = u16::try_from(n).map_err(|_| Errno::EINVAL)?;
                self.segment.store(usize::from(n), Ordering::Relaxed);
                Ok(())
            }
            // Datagrams may be received together, and need not be.
            UDP_GRO => {
                self.coalesce.store(n != 0, Ordering::Relaxed);
                Ok(())
            }
            _ => self.set_coverage(name, n),
        }
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
        let (claim, corked) = {
            let mut setup = self.setup.lock();
            (setup.claim.take(), setup.corked.take())
        };
        self.close_remote();
        self.inbox.close();
        drop((claim, corked));
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
