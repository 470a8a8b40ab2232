//! Local datagram sockets.

use super::address::{self, Found, Name};
use super::message::{Message, SendBuffer, WRITABLE};
use super::outside::Outside;
use super::{PeerCreds, Rights, Unix, WeakUnix};
use crate::errno::{Errno, Result};
use crate::fs::ioctl::{FIONREAD, TIOCOUTQ, put_int};
use crate::io::{Sink, Source};
use crate::kernel::{CurrentTask, Task};
use crate::socket::family::{AF_UNIX, AF_UNSPEC};
use crate::socket::inet::{Net, devices};
use crate::socket::options::DEFAULT_BUFFER;
use crate::socket::{
    Destination, Kind, OptionValue, Options, RecvMsg, SendMsg, Socket, Ucred, flags,
};
use crate::sync::{Mutex, rank};
use crate::vfs::File;
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// `net.unix.max_dgram_qlen`: datagrams that a receiver queues for strangers.
pub static MAX_QUEUE: AtomicUsize = AtomicUsize::new(10);

const RCV: u8 = 1;
const SEND: u8 = 2;

/// A datagram socket.
pub struct DgramSocket {
    this: Weak<DgramSocket>,
    options: Options,
    queue: Arc<WaitQueue>,
    buffer: Arc<SendBuffer>,
    shutdown_bits: AtomicU8,
    error: AtomicI32,
    setup: Mutex<Setup, { rank::INODE }>,
    received: Mutex<Received, { rank::INODE_NESTED }>,
}

#[derive(Default)]
struct Setup {
    name: Option<Arc<Name>>,
    peer: Option<(Weak<DgramSocket>, Option<Arc<Name>>)>,
    /// The peer is a program outside.
    outside: Option<Arc<Outside>>,
    creds: Option<PeerCreds>,
}

#[derive(Default)]
struct Received {
    queue: VecDeque<Message>,
    closed: bool,
    /// Senders that found the queue full.
    blocked: Vec<Weak<DgramSocket>>,
}

impl DgramSocket {
    /// A socket without a peer.
    pub fn new(options: Options) -> Arc<DgramSocket> {
        let queue = Arc::new(WaitQueue::new());
        let socket = Arc::new_cyclic(|this| DgramSocket {
            this: this.clone(),
            options,
            buffer: SendBuffer::new(DEFAULT_BUFFER, queue.clone()),
            queue,
            shutdown_bits: AtomicU8::new(0),
            error: AtomicI32::new(0),
            setup: Mutex::default(),
            received: Mutex::default(),
        });
        super::note(WeakUnix::Dgram(Arc::downgrade(&socket)));
        socket
    }

    /// Two sockets, each the other's peer.
    pub fn pair(options: [Options; 2], creds: PeerCreds) -> (Arc<DgramSocket>, Arc<DgramSocket>) {
        let [a, b] = options.map(DgramSocket::new);
        for (one, other) in [(&a, &b), (&b, &a)] {
            let mut setup = one.setup.lock();
            setup.peer = Some((Arc::downgrade(other), None));
            setup.creds = Some(creds.clone());
        }
        (a, b)
    }

    pub(super) fn this(&self) -> Option<Arc<DgramSocket>> {
        self.this.upgrade()
    }

    /// The name it is bound to.
    pub fn name(&self) -> Option<Arc<Name>> {
        self.setup.lock().name.clone()
    }

    /// True with a peer.
    pub fn is_connected(&self) -> bool {
        let setup = self.setup.lock();
        setup.peer.is_some() || setup.outside.is_some()
    }

    fn outside(&self) -> Option<Arc<Outside>> {
        self.setup.lock().outside.clone()
    }

    fn peer(&self) -> Option<Weak<DgramSocket>> {
        self.setup.lock().peer.as_ref().map(|(peer, _)| peer.clone())
    }

    fn is_peer(&self, other: &DgramSocket) -> bool {
        self.peer().is_some_and(|p| std::ptr::eq(p.as_ptr(), other))
    }

    fn is_shut(&self, bits: u8) -> bool {
        self.shutdown_bits.load(Ordering::SeqCst) & bits != 0
    }

    fn autobind(&self) -> Result<()> {
        if self.name().is_some() {
            return Ok(());
        }
        let name = address::autobind(Kind::Dgram, WeakUnix::Dgram(self.this.clone()))?;
        self.setup.lock().name = Some(name);
        Ok(())
    }

    /// True if `sender` would have to wait; it is told when there is room.
    fn is_full_for(&self, sender: &DgramSocket) -> bool {
        // Sockets connected with each other are bounded by their send buffers alone.
        if std::ptr::eq(self, sender) || self.is_peer(sender) {
            return false;
        }
        let mut received = self.received.lock();
        if received.queue.len() <= MAX_QUEUE.load(Ordering::Relaxed) {
            return false;
        }
        if !received.blocked.iter().any(|s| s.ptr_eq(&sender.this)) {
            received.blocked.retain(|s| s.strong_count() > 0);
            received.blocked.push(sender.this.clone());
        }
        true
    }

    fn pop(&self) -> Option<Message> {
        let (message, blocked) = {
            let mut received = self.received.lock();
            let message = received.queue.pop_front()?;
            (message, std::mem::take(&mut received.blocked))
        };
        for sender in blocked.iter().filter_map(Weak::upgrade) {
            sender.queue.notify(WRITABLE);
        }
        Some(message)
    }

    fn disconnect(&self) {
        let old = {
            let mut setup = self.setup.lock();
            setup.creds = None;
            setup.outside = None;
            setup.peer.take()
        };
        // Datagrams of the old peer are lost, and it is told so.
        if let Some(other) = old.and_then(|(peer, _)| peer.upgrade())
            && other.is_peer(self)
        {
            let lost = std::mem::take(&mut self.received.lock().queue);
            if !lost.is_empty() {
                other.error.store(Errno::ECONNRESET.raw(), Ordering::SeqCst);
                other.queue.notify(EventMask::ERR);
            }
            drop(lost);
        }
    }

    /// Where a message goes: the given destination, or the peer.
    fn target(&self, msg: &SendMsg) -> Result<Arc<DgramSocket>> {
        if let Some(to) = &msg.to {
            let to = to.downcast_ref::<Weak<DgramSocket>>().ok_or(Errno::EINVAL)?;
            return to.upgrade().ok_or(Errno::ECONNREFUSED);
        }
        let peer = self.peer().ok_or(Errno::ENOTCONN)?;
        match peer.upgrade().filter(|p| !p.received.lock().closed) {
            Some(peer) => Ok(peer),
            None => {
                self.setup.lock().peer = None;
                Err(Errno::ECONNREFUSED)
            }
        }
    }

    pub(super) fn each_rights(&self, f: &mut dyn FnMut(&Rights)) {
        self.received.lock().queue.iter().filter_map(|m| m.rights.as_ref()).for_each(f);
    }

    pub(super) fn take_rights(&self) -> Vec<Rights> {
        self.received.lock().queue.iter_mut().filter_map(|m| m.rights.take()).collect()
    }
}

/// Gives a whole message to a reader: what does not fit is cut off, and said so.
pub(super) fn deliver(
    message: &Message,
    dst: &mut dyn Sink,
    msg: &mut RecvMsg,
    options: &Options,
) -> Result<usize> {
    let peek = msg.flags & flags::PEEK != 0;
    let skip = if peek { options.peek_off().unwrap_or(0) } else { 0 };
    let len = message.bytes().len().saturating_sub(skip);
    let n = message.put(dst, skip)?;
    if n < len {
        msg.out_flags |= flags::TRUNC;
    }
    if options.passcred() {
        msg.creds = Some(message.creds.unwrap_or(Ucred::NOBODY));
    }
    msg.from = Some(match &message.from {
        Some(name) => address::sockaddr(Some(name)),
        None => Vec::new(),
    });
    options.move_peek_off(if peek { n as i64 } else { -(len as i64) });
    Ok(if msg.flags & flags::TRUNC != 0 { len } else { n })
}

impl Socket for DgramSocket {
    fn family(&self) -> i32 {
        AF_UNIX
    }

    fn kind(&self) -> Kind {
        Kind::Dgram
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn bind(&self, t: &mut CurrentTask, addr: &[u8]) -> Result<()> {
        address::parse(addr)?;
        if self.name().is_some() {
            return Err(Errno::EINVAL);
        }
        let this = WeakUnix::Dgram(self.this.clone());
        let (name, _) = address::bind(t, addr, Kind::Dgram, this)?;
        self.setup.lock().name = Some(name);
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
        t: &mut CurrentTask,
        _file: &Arc<File>,
        addr: &[u8],
        _nonblocking: bool,
    ) -> Result<()> {
        let family = addr.first_chunk().map(|f| u16::from_ne_bytes(*f));
        if family.map(i32::from) == Some(AF_UNSPEC) {
            self.disconnect();
            return Ok(());
        }
        if self.options.passcred() {
            self.autobind()?;
        }
        let other = match address::find(t, addr, Kind::Dgram)? {
            Found::Inside(Unix::Dgram(other)) => other,
            Found::Inside(Unix::Conn(_)) => return Err(Errno::EPROTOTYPE),
            Found::Outside(inode) => {
                let fd = Found::connect(&inode, Kind::Dgram)?;
                let outside = Outside::new(fd, Kind::Dgram, addr, &self.queue)?;
                self.disconnect();
                self.setup.lock().outside = Some(outside);
                self.queue.notify(WRITABLE);
                return Ok(());
            }
        };
        if other.is_connected() && !other.is_peer(self) {
            return Err(Errno::EPERM);
        }
        if !self.is_peer(&other) {
            super::check_scope(t, other.name(), &other.options)?;
            self.disconnect();
        }
        let name = other.name();
        let mut setup = self.setup.lock();
        setup.outside = None;
        setup.peer = Some((Arc::downgrade(&other), name));
        drop(setup);
        self.queue.notify(WRITABLE);
        Ok(())
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        Ok(address::sockaddr(self.name().as_deref()))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        if let Some(outside) = self.outside() {
            return Ok(outside.peer());
        }
        let (peer, name) = self.setup.lock().peer.clone().ok_or(Errno::ENOTCONN)?;
        let now = peer.upgrade().and_then(|s| s.name());
        Ok(address::sockaddr(now.as_ref().or(name.as_ref()).map(|n| &**n)))
    }

    fn shutdown(&self, how: i32) -> Result<()> {
        let bits = match how {
            0 => RCV,
            1 => SEND,
            2 => RCV | SEND,
            _ => return Err(Errno::EINVAL),
        };
        self.shutdown_bits.fetch_or(bits, Ordering::SeqCst);
        self.queue.notify(EventMask::READABLE | WRITABLE | EventMask::RDHUP | EventMask::HUP);
        Ok(())
    }

    fn destination(&self, t: &CurrentTask, addr: &[u8]) -> Result<Destination> {
        if self.is_shut(SEND) {
            return Err(Errno::EPIPE);
        }
        match address::find(t, addr, Kind::Dgram)? {
            Found::Inside(Unix::Dgram(socket)) => {
                if !self.is_peer(&socket) {
                    super::check_scope(t, socket.name(), &socket.options)?;
                }
                Ok(Arc::new(Arc::downgrade(&socket)))
            }
            Found::Inside(Unix::Conn(_)) => Err(Errno::EPROTOTYPE),
            Found::Outside(inode) => {
                let fd = Found::connect(&inode, Kind::Dgram)?;
                Ok(Outside::new(fd, Kind::Dgram, addr, &self.queue)?)
            }
        }
    }

    fn send(&self, src: &mut dyn Source, msg: &mut SendMsg) -> Result<usize> {
        if msg.flags & flags::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let to = msg.to.clone().map(|to| to.downcast::<Outside>().ok());
        if let Some(outside) = to.unwrap_or_else(|| self.outside()) {
            return if self.is_shut(SEND) { Err(Errno::EPIPE) } else { outside.send(src, msg) };
        }
        if msg.to.is_none() && !self.is_connected() {
            return Err(if self.is_shut(SEND) { Errno::EPIPE } else { Errno::ENOTCONN });
        }
        if self.options.passcred() {
            self.autobind()?;
        }
        let len = src.remaining();
        if len > self.buffer.limit().saturating_sub(32) {
            return Err(Errno::EMSGSIZE);
        }
        if let Some(e) = self.take_error() {
            return Err(e);
        }
        if self.is_shut(SEND) {
            return Err(Errno::EPIPE);
        }
        if !self.buffer.has_room() {
            return Err(Errno::EAGAIN);
        }
        let target = self.target(msg)?;
        if target.is_connected() && !target.is_peer(self) {
            return Err(Errno::EPERM);
        }
        if target.is_shut(RCV) {
            return Err(Errno::EPIPE);
        }
        if target.is_full_for(self) {
            return Err(Errno::EAGAIN);
        }
        let mut message = Message::take(src, len, false, &self.buffer)?;
        if message.bytes().len() < len {
            return Err(Errno::EFAULT);
        }
        message.from = self.name();
        message.rights = msg.rights.take();
        if msg.explicit_creds || self.options.passcred() || target.options.passcred() {
            message.creds = Some(msg.creds.unwrap_or(self.options.creator));
        }
        let refused = {
            let mut received = target.received.lock();
            if received.closed {
                Some(message)
            } else {
                received.queue.push_back(message);
                None
            }
        };
        if let Some(message) = refused {
            drop(message);
            return Err(Errno::ECONNREFUSED);
        }
        target.queue.notify(EventMask::READABLE);
        Ok(len)
    }

    fn receive(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        if msg.flags & flags::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if msg.flags & flags::ERRQUEUE != 0 {
            return Err(Errno::EAGAIN);
        }
        if msg.flags & flags::PEEK != 0 {
            let received = self.received.lock();
            if let Some(message) = received.queue.front() {
                msg.rights = message.rights.as_ref().map(Rights::duplicate);
                return deliver(message, dst, msg, &self.options);
            }
        } else if let Some(mut message) = self.pop() {
            msg.rights = message.rights.take();
            return deliver(&message, dst, msg, &self.options);
        }
        if let Some(outside) = self.outside()
            && !self.is_shut(RCV)
        {
            return outside.receive(dst, msg);
        }
        if let Some(e) = self.take_error() {
            return Err(e);
        }
        // As in Linux the end is only seen by those who would wait for it.
        if self.is_shut(RCV) && !msg.nonblocking { Ok(0) } else { Err(Errno::EAGAIN) }
    }

    fn get_option(&self, _t: &CurrentTask, level: i32, name: i32) -> Result<OptionValue> {
        if level == crate::socket::SOL_SOCKET
            && let Some(value) = self.options.get(self, self.buffer.limit(), name)
        {
            return Ok(value);
        }
        let creds = self.setup.lock().creds.clone();
        super::get_option(creds.as_ref(), level, name)
    }

    fn set_option(&self, t: &CurrentTask, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if level == crate::socket::SOL_SOCKET {
            let set = |n| self.buffer.set_limit(n);
            if let Some(result) = self.options.set(t.creds(), name, value, set) {
                return result;
            }
        }
        super::set_option(level)
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
        let mut events = EventMask::empty();
        if self.error.load(Ordering::SeqCst) != 0 {
            events |= EventMask::ERR;
        }
        let bits = self.shutdown_bits.load(Ordering::SeqCst);
        if bits & RCV != 0 {
            events |= EventMask::RDHUP | EventMask::READABLE;
        }
        if bits == RCV | SEND {
            events |= EventMask::HUP;
        }
        if !self.received.lock().queue.is_empty() {
            events |= EventMask::READABLE;
        }
        if let Some(outside) = self.outside() {
            return events | outside.poll();
        }
        if self.buffer.is_writable() {
            let peer = self.peer().and_then(|p| p.upgrade());
            if !peer.is_some_and(|p| p.is_full_for(self)) {
                events |= WRITABLE;
            }
        }
        events
    }

    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn ioctl(&self, task: &Task, cmd: u32, arg: u64) -> Result<u64> {
        match cmd {
            FIONREAD => {
                let n = self.received.lock().queue.front().map_or(0, |m| m.bytes().len());
                put_int(task, arg, n)
            }
            TIOCOUTQ => put_int(task, arg, self.buffer.used()),
            _ => devices::ioctl(&Net::of(task), task, cmd, arg),
        }
    }

    fn release(&self) {
        let (name, peer) = {
            let mut setup = self.setup.lock();
            (setup.name.take(), setup.peer.take())
        };
        if let Some(name) = name {
            address::unbind(&name);
        }
        let (unread, blocked) = {
            let mut received = self.received.lock();
            received.closed = true;
            (std::mem::take(&mut received.queue), std::mem::take(&mut received.blocked))
        };
        drop(unread);
        for sender in blocked.iter().filter_map(Weak::upgrade) {
            sender.queue.notify(WRITABLE);
        }
        if let Some(peer) = peer.and_then(|(p, _)| p.upgrade()) {
            peer.queue.notify(WRITABLE);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
