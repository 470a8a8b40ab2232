//! Netlink sockets.

use super::message::{self, ACK, Answer, DUMP, REQUEST, Request};
use super::notify::Cause;
use super::{
    AF_NETLINK, NETLINK_KOBJECT_UEVENT, NETLINK_NETFILTER, NETLINK_ROUTE, change, diag, nft, nsid,
    route,
};
use crate::bpf::packet::PacketInput;
use crate::errno::{Errno, Result};
use crate::fs::ioctl::{FIONREAD, put_int};
use crate::io::{Sink, Source};
use crate::kernel::{CurrentTask, Task};
use crate::socket::filter::SocketFilter;
use crate::socket::inet::{Net, devices};
use crate::socket::options::int;
use crate::socket::{
    Destination, Kind, OptionValue, Options, RecvMsg, SOL_SOCKET, SendMsg, Socket, flags,
};
use crate::sync::{Mutex, rank};
use crate::vfs::File;
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// `SOL_NETLINK`
const SOL_NETLINK: i32 = 270;
const ADD_MEMBERSHIP: i32 = 1;
const DROP_MEMBERSHIP: i32 = 2;
const LIST_MEMBERSHIPS: i32 = 9;
const NO_ENOBUFS: i32 = 5;
const CAP_ACK: i32 = 10;
const EXT_ACK: i32 = 11;
/// Switches of `SOL_NETLINK`: `PKTINFO`, `BROADCAST_ERROR`, `NO_ENOBUFS`, `CAP_ACK`, `EXT_ACK`,
/// `GET_STRICT_CHK`.
const SWITCHES: [i32; 6] = [3, 4, NO_ENOBUFS, CAP_ACK, EXT_ACK, 12];
/// Most groups of a protocol here.
const MAX_GROUP: i32 = 64;
/// `RTM_GETNSID`
const GETNSID: u16 = 90;
/// Longest request.
const MAX_REQUEST: usize = 64 << 10;
/// Longest batch of `NETLINK_NETFILTER`.
const MAX_BATCH: usize = 2 << 20;
/// Most bytes of answers that wait.
const MAX_QUEUED: usize = 4 << 20;

/// A socket.
pub struct NetlinkSocket {
    this: Weak<NetlinkSocket>,
    net: Arc<Net>,
    kind: Kind,
    protocol: i32,
    options: Options,
    filter: SocketFilter,
    sndbuf: AtomicUsize,
    queue: WaitQueue,
    setup: Mutex<Setup, { rank::INODE }>,
    received: Mutex<Received, { rank::INODE_NESTED }>,
}

#[derive(Default)]
struct Setup {
    /// Its port id; 0 for none.
    port: u32,
    groups: u64,
    switches: u32,
    /// Port id and groups of the peer (`connect(2)`).
    peer: (u32, u32),
}

#[derive(Default)]
struct Received {
    /// Each with its group; 0 for an answer.
    queue: VecDeque<(u32, Vec<u8>)>,
    bytes: usize,
    /// News had no room.
    overrun: bool,
}

impl Received {
    /// Queues datagrams, as far as there is room.
    fn put(&mut self, datagrams: impl IntoIterator<Item = Vec<u8>>) {
        for datagram in datagrams {
            if self.bytes + datagram.len() > MAX_QUEUED {
                break;
            }
            self.bytes += datagram.len();
            self.queue.push_back((0, datagram));
        }
    }
}

fn sockaddr(port: u32, groups: u32) -> Vec<u8> {
    let family = [(AF_NETLINK as u16).to_ne_bytes(), [0; 2]].concat();
    [&family[..], &port.to_ne_bytes(), &groups.to_ne_bytes()].concat()
}

/// A `struct sockaddr_nl`: port id and groups. `EINVAL`.
fn parse(addr: &[u8]) -> Result<(u32, u32)> {
    let family = addr.first_chunk().map(|f| i32::from(u16::from_ne_bytes(*f)));
    if addr.len() < 12 || family != Some(AF_NETLINK) {
        return Err(Errno::EINVAL);
    }
    let word = |at| message::u32_at(addr, at).ok_or(Errno::EINVAL);
    Ok((word(4)?, word(8)?))
}

impl NetlinkSocket {
    /// A socket without a port id.
    pub fn new(net: &Arc<Net>, kind: Kind, protocol: i32, options: Options) -> Arc<NetlinkSocket> {
        Arc::new_cyclic(|this| NetlinkSocket {
            this: this.clone(),
            net: net.clone(),
            kind,
            protocol,
            options,
            filter: SocketFilter::default(),
            sndbuf: AtomicUsize::new(crate::socket::options::DEFAULT_BUFFER),
            queue: WaitQueue::new(),
            setup: Mutex::default(),
            received: Mutex::default(),
        })
    }

    /// Takes a port id: the wanted one, or the process's own, or any. `EADDRINUSE`.
    fn take_port(&self, setup: &mut Setup, wanted: u32) -> Result<()> {
        if setup.port != 0 {
            return if wanted == 0 || wanted == setup.port { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let mut ports = self.net.netlink_ports.lock();
        let mut take = |port: u32| ports.insert((self.protocol, port)).then_some(port);
        let port = if wanted != 0 {
            take(wanted)
        } else {
            let own = self.options.creator.pid as u32;
            take(own).or_else(|| (0x8000_0000..=u32::MAX).rev().find_map(take))
        };
        setup.port = port.ok_or(Errno::EADDRINUSE)?;
        Ok(())
    }

    fn switch(&self, setup: &Setup, name: i32) -> bool {
        SWITCHES.iter().position(|s| *s == name).is_some_and(|i| setup.switches & 1 << i != 0)
    }

    /// Gives it a datagram from the kernel.
    pub fn deliver(&self, mut datagram: Vec<u8>) {
        let input = PacketInput { whole: &datagram, ..PacketInput::default() };
        let most = self.filter.admits(&input);
        if most == 0 {
            return;
        }
        datagram.truncate(most);
        self.received.lock().put([datagram]);
        self.queue.notify(EventMask::READABLE);
    }

    /// News of a group: for members. Who has no room for them is told that something is missing (`ENOBUFS`).
    pub fn announce(&self, group: u32, message: &[u8]) {
        let (member, tells) = {
            let setup = self.setup.lock();
            let member = group.checked_sub(1).is_some_and(|n| setup.groups >> n.min(63) & 1 == 1);
            (member && self.protocol == NETLINK_ROUTE, !self.switch(&setup, NO_ENOBUFS))
        };
        let input = PacketInput { whole: message, ..PacketInput::default() };
        if !member || self.filter.admits(&input) == 0 {
            return;
        }
        let event = {
            let mut received = self.received.lock();
            if received.bytes + message.len() > self.options.rcvbuf() {
                received.overrun |= tells;
                EventMask::ERR
            } else {
                received.bytes += message.len();
                received.queue.push_back((group, message.to_vec()));
                EventMask::READABLE
            }
        };
        self.queue.notify(event);
    }

    /// It is a member of other groups now.
    fn listen_to(&self, setup: &Setup) {
        if self.protocol != NETLINK_ROUTE {
            return;
        }
        match setup.groups {
            0 => self.net.listeners.remove(&self.this),
            _ => self.net.listeners.add(&self.this),
        }
    }

    /// Answers everything in one datagram.
    fn handle(&self, task: &Task, data: &[u8]) {
        let (port, capped, explain) = {
            let setup = self.setup.lock();
            (setup.port, self.switch(&setup, CAP_ACK), self.switch(&setup, EXT_ACK))
        };
        if self.protocol == NETLINK_NETFILTER {
            let asker = nft::Asker { task, port, capped };
            let answers = nft::handle(&self.net, &asker, data);
            self.received.lock().put(answers);
            self.queue.notify(EventMask::READABLE);
            return;
        }
        let mut rest = data;
        while let Some(request) = message::next(&mut rest) {
            // Below 16 there are only control messages.
            if request.flags & REQUEST == 0 || request.kind < 16 {
                continue;
            }
            let change = self.protocol == NETLINK_ROUTE && is_change(&request);
            let dump = request.flags & DUMP == DUMP && !change;
            let mut answer = Answer::new(request.seq, port, dump);
            if change {
                let cause = Cause { port, seq: request.seq };
                let result = change::apply(&self.net, task, &request, cause);
                if result.is_err() || request.flags & ACK != 0 {
                    answer.explained(&request, result, capped, explain);
                }
                self.received.lock().put(answer.into_datagrams());
                continue;
            }
            let result = match self.protocol {
                NETLINK_ROUTE if request.kind == GETNSID && !dump => {
                    nsid::answer(&self.net, task, &request, &mut answer)
                }
                NETLINK_ROUTE => route::answer(&self.net, &request, dump, &mut answer),
                NETLINK_KOBJECT_UEVENT => Err(Errno::EOPNOTSUPP),
                _ => diag::answer(&self.net, task, &request, dump, &mut answer),
            };
            match result {
                Ok(()) if dump => answer.done(),
                Ok(()) if request.flags & ACK == 0 => {}
                result => answer.status(&request, result, capped),
            }
            self.received.lock().put(answer.into_datagrams());
        }
        self.queue.notify(EventMask::READABLE);
    }
}

/// True for messages of `NETLINK_ROUTE` that make, change or delete something; the third of each four
/// asks.
fn is_change(request: &Request<'_>) -> bool {
    request.kind & 3 != 2
}

impl Socket for NetlinkSocket {
    fn family(&self) -> i32 {
        AF_NETLINK
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn protocol(&self) -> i32 {
        self.protocol
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn bind(&self, _t: &mut CurrentTask, addr: &[u8]) -> Result<()> {
        let (port, groups) = parse(addr)?;
        let mut setup = self.setup.lock();
        self.take_port(&mut setup, port)?;
        setup.groups = setup.groups & !0xffff_ffff | u64::from(groups);
        self.listen_to(&setup);
        Ok(())
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
        let family = addr.first_chunk().map(|f| u16::from_ne_bytes(*f)).ok_or(Errno::EINVAL)?;
        let mut setup = self.setup.lock();
        if family == 0 {
            setup.peer = (0, 0);
            return Ok(());
        }
        let peer = parse(addr)?;
        self.take_port(&mut setup, 0)?;
        setup.peer = peer;
        Ok(())
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        let setup = self.setup.lock();
        Ok(sockaddr(setup.port, setup.groups as u32))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        let (port, groups) = self.setup.lock().peer;
        Ok(sockaddr(port, groups))
    }

    fn shutdown(&self, _how: i32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn destination(&self, _t: &CurrentTask, addr: &[u8]) -> Result<Destination> {
        let (port, _groups) = parse(addr)?;
        Ok(Arc::new(port))
    }

    fn send(&self, src: &mut dyn Source, msg: &mut SendMsg) -> Result<usize> {
        if msg.flags & flags::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let to = match &msg.to {
            Some(to) => *to.downcast_ref::<u32>().ok_or(Errno::EINVAL)?,
            None => self.setup.lock().peer.0,
        };
        // Everybody speaks to the kernel only.
        if to != 0 {
            return Err(Errno::ECONNREFUSED);
        }
        let len = src.remaining();
        if len == 0 {
            return Err(Errno::ENODATA);
        }
        let most = if self.protocol == NETLINK_NETFILTER { MAX_BATCH } else { MAX_REQUEST };
        if len > most {
            return Err(Errno::EMSGSIZE);
        }
        let mut data = vec![0; len];
        if src.take(&mut data)? < len {
            return Err(Errno::EFAULT);
        }
        {
            let mut setup = self.setup.lock();
            self.take_port(&mut setup, 0)?;
        }
        let task = crate::kernel::current().ok_or(Errno::EINVAL)?;
        self.handle(&task, &data);
        Ok(len)
    }

    fn receive(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        if msg.flags & flags::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let peek = msg.flags & flags::PEEK != 0;
        let (group, data) = {
            let mut received = self.received.lock();
            if std::mem::take(&mut received.overrun) {
                return Err(Errno::ENOBUFS);
            }
            if peek {
                received.queue.front().cloned().ok_or(Errno::EAGAIN)?
            } else {
                let (group, data) = received.queue.pop_front().ok_or(Errno::EAGAIN)?;
                received.bytes = received.bytes.saturating_sub(data.len());
                (group, data)
            }
        };
        let n = if dst.remaining() == 0 { 0 } else { dst.put(&data)? };
        if n < data.len() {
            msg.out_flags |= flags::TRUNC;
        }
        // Groups beyond the 32nd have no bit.
        let groups = group.checked_sub(1).and_then(|n| 1u32.checked_shl(n)).unwrap_or(0);
        msg.from = Some(sockaddr(0, groups));
        Ok(if msg.flags & flags::TRUNC != 0 { data.len() } else { n })
    }

    fn get_option(&self, _t: &CurrentTask, level: i32, name: i32) -> Result<OptionValue> {
        if level == SOL_SOCKET {
            let sndbuf = self.sndbuf.load(Ordering::Relaxed);
            return self.options.get(self, sndbuf, name).ok_or(Errno::ENOPROTOOPT);
        }
        if level != SOL_NETLINK {
            return Err(Errno::ENOPROTOOPT);
        }
        let setup = self.setup.lock();
        match name {
            LIST_MEMBERSHIPS => Ok(OptionValue::Bytes(setup.groups.to_ne_bytes().to_vec())),
            name if SWITCHES.contains(&name) => {
                Ok(OptionValue::Int(i32::from(self.switch(&setup, name))))
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn set_option(&self, t: &CurrentTask, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if level == SOL_SOCKET {
            if let Some(result) = self.filter.set(t, &self.options, name, value) {
                return result;
            }
            let set = |n| self.sndbuf.store(n, Ordering::Relaxed);
            let known = self.options.set(t.creds(), name, value, set);
            return known.unwrap_or(Err(Errno::ENOPROTOOPT));
        }
        if level != SOL_NETLINK {
            return Err(Errno::ENOPROTOOPT);
        }
        let n = int(value)?;
        let mut setup = self.setup.lock();
        match name {
            ADD_MEMBERSHIP | DROP_MEMBERSHIP => {
                if !(1..=MAX_GROUP).contains(&n) {
                    return Err(Errno::EINVAL);
                }
                let bit = 1u64 << (n - 1);
                if name == ADD_MEMBERSHIP {
                    setup.groups |= bit;
                } else {
                    setup.groups &= !bit;
                }
                self.listen_to(&setup);
                Ok(())
            }
            name => {
                let place = SWITCHES.iter().position(|s| *s == name).ok_or(Errno::ENOPROTOOPT)?;
                setup.switches &= !(1 << place);
                setup.switches |= u32::from(n != 0) << place;
                Ok(())
            }
        }
    }

    fn take_error(&self) -> Option<Errno> {
        None
    }

    fn is_listening(&self) -> bool {
        false
    }

    fn poll(&self) -> EventMask {
        let mut events = EventMask::WRITABLE | EventMask::WRBAND;
        let received = self.received.lock();
        if !received.queue.is_empty() {
            events |= EventMask::READABLE;
        }
        if received.overrun {
            events |= EventMask::ERR;
        }
        events
    }

    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn ioctl(&self, task: &Task, cmd: u32, arg: u64) -> Result<u64> {
        if cmd == FIONREAD {
            let len = self.received.lock().queue.front().map_or(0, |(_, data)| data.len());
            return put_int(task, arg, len);
        }
        devices::ioctl(&self.net, task, cmd, arg)
    }

    fn release(&self) {
        let port = std::mem::take(&mut self.setup.lock().port);
        self.net.netlink_ports.lock().remove(&(self.protocol, port));
        self.net.listeners.remove(&self.this);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
