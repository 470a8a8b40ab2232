//! Connected local sockets: streams and sequenced packets.

use super::address::{self, Found, Name};
use super::message::{Message, SendBuffer, WRITABLE, stream_piece};
use super::oob;
use super::outside::Outside;
use super::{PeerCreds, Rights, Unix, WeakUnix};
use crate::errno::{Errno, Result};
use crate::fs::ioctl::{FIONREAD, TIOCOUTQ, put_int};
use crate::io::{Sink, Source};
use crate::kernel::{CurrentTask, Task, Wake};
use crate::socket::family::AF_UNIX;
use crate::socket::inet::{Net, devices};
use crate::socket::options::{DEFAULT_BUFFER, so};
use crate::socket::{Destination, Kind, OptionValue, Options, RecvMsg, SendMsg, Socket, flags};
use crate::sync::{Mutex, rank};
use crate::vfs::{File, Inode};
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// Bits of [`ConnSocket::shutdown_bits`].
const RCV: u8 = 1;
const SEND: u8 = 2;

const SIOCATMARK: u32 = 0x8905;

/// A stream or sequenced-packet socket.
pub struct ConnSocket {
    this: Weak<ConnSocket>,
    kind: Kind,
    options: Options,
    queue: Arc<WaitQueue>,
    buffer: Arc<SendBuffer>,
    shutdown_bits: AtomicU8,
    /// Pending error number; 0 for none.
    error: AtomicI32,
    peer: OnceLock<Peer>,
    /// A socket of the host's: the connection with a program outside, or where such programs connect.
    outside: OnceLock<Arc<Outside>>,
    setup: Mutex<Setup, { rank::INODE }>,
    received: Mutex<Received, { rank::INODE_NESTED }>,
}

/// What a connected socket knows of the other side.
struct Peer {
    socket: Weak<ConnSocket>,
    /// Its name when the connection was made.
    name: Option<Arc<Name>>,
    creds: PeerCreds,
}

#[derive(Default)]
struct Setup {
    name: Option<Arc<Name>>,
    /// The name is the listener's that accepted the connection.
    inherited: bool,
    listener: Option<Listener>,
}

struct Listener {
    backlog: usize,
    pending: VecDeque<Arc<ConnSocket>>,
    creds: PeerCreds,
}

#[derive(Default)]
struct Received {
    queue: VecDeque<Message>,
    /// The socket is gone: nothing more may be queued.
    closed: bool,
    /// An out-of-band byte has come at some time.
    had_urgent: bool,
}

impl ConnSocket {
    /// A socket that is not connected.
    pub fn new(kind: Kind, options: Options) -> Arc<ConnSocket> {
        ConnSocket::with_setup(kind, options, Setup::default())
    }

    fn with_setup(kind: Kind, options: Options, setup: Setup) -> Arc<ConnSocket> {
        let queue = Arc::new(WaitQueue::new());
        let socket = Arc::new_cyclic(|this| ConnSocket {
            this: this.clone(),
            kind,
            options,
            buffer: SendBuffer::new(DEFAULT_BUFFER, queue.clone()),
            queue,
            shutdown_bits: AtomicU8::new(0),
            error: AtomicI32::new(0),
            peer: OnceLock::new(),
            outside: OnceLock::new(),
            setup: Mutex::new(setup),
            received: Mutex::default(),
        });
        super::note(WeakUnix::Conn(Arc::downgrade(&socket)));
        socket
    }

    /// Two sockets connected with each other.
    pub fn pair(
        kind: Kind,
        options: [Options; 2],
        creds: PeerCreds,
    ) -> (Arc<ConnSocket>, Arc<ConnSocket>) {
        let [a, b] = options.map(|o| ConnSocket::new(kind, o));
        a.join(&b, None, creds.clone());
        b.join(&a, None, creds);
        (a, b)
    }

    /// Makes `peer` the other side. False if there is one already.
    fn join(&self, peer: &Arc<ConnSocket>, name: Option<Arc<Name>>, creds: PeerCreds) -> bool {
        self.peer.set(Peer { socket: Arc::downgrade(peer), name, creds }).is_ok()
    }

    pub(super) fn this(&self) -> Option<Arc<ConnSocket>> {
        self.this.upgrade()
    }

    /// The name it is bound to.
    pub fn name(&self) -> Option<Arc<Name>> {
        self.setup.lock().name.clone()
    }

    /// True once connected.
    pub fn is_connected(&self) -> bool {
        self.peer.get().is_some() || self.connection().is_some()
    }

    /// The connection with a program outside, if that is what it is connected to.
    fn connection(&self) -> Option<&Arc<Outside>> {
        self.outside.get().filter(|outside| !outside.peer().is_empty())
    }

    /// Connects to a program outside.
    fn connect_outside(&self, inode: &Arc<dyn Inode>, addr: &[u8]) -> Result<()> {
        if self.is_connected() {
            return Err(Errno::EISCONN);
        }
        if self.is_listening() || self.outside.get().is_some() {
            return Err(Errno::EINVAL);
        }
        let fd = Found::connect(inode, self.kind)?;
        let outside = Outside::new(fd, self.kind, addr, &self.queue)?;
        self.outside.set(outside).map_err(|_| Errno::EISCONN)?;
        self.queue.notify(WRITABLE);
        Ok(())
    }

    /// A connection that a program outside has made. `EAGAIN` when there is none.
    fn accept_outside(&self) -> Result<Arc<dyn Socket>> {
        let fd = self.outside.get().ok_or(Errno::EAGAIN)?.accept()?;
        let options = Options::with_creator(self.options.creator);
        let inherited = Setup { name: self.name(), inherited: true, listener: None };
        let socket = ConnSocket::with_setup(self.kind, options, inherited);
        socket.options.inherit(&self.options);
        // Who connects has no name.
        let outside = Outside::new(fd, self.kind, &address::sockaddr(None), &socket.queue)?;
        let _ = socket.outside.set(outside);
        Ok(socket)
    }

    fn shut(&self, bits: u8) {
        self.shutdown_bits.fetch_or(bits, Ordering::SeqCst);
        self.queue.notify(EventMask::READABLE | WRITABLE | EventMask::RDHUP | EventMask::HUP);
    }

    fn is_shut(&self, bits: u8) -> bool {
        self.shutdown_bits.load(Ordering::SeqCst) & bits != 0
    }

    fn fail(&self, error: Errno) {
        self.error.store(error.raw(), Ordering::SeqCst);
    }

    /// Adds to the receive queue. `EPIPE` if the socket is gone or will not receive.
    fn push(&self, message: Message, urgent: bool) -> Result<()> {
        let refused = {
            let mut received = self.received.lock();
            if received.closed || self.is_shut(RCV) {
                Some(message)
            } else {
                received.had_urgent |= urgent;
                match urgent {
                    true => oob::push(&mut received.queue, message),
                    false => received.queue.push_back(message),
                }
                None
            }
        };
        match refused {
            None => Ok(()),
            Some(message) => {
                drop(message);
                Err(Errno::EPIPE)
            }
        }
    }

    fn dress(&self, message: &mut Message, peer: &ConnSocket, msg: &mut SendMsg) {
        message.rights = msg.rights.take();
        if msg.explicit_creds || self.options.passcred() || peer.options.passcred() {
            message.creds = Some(msg.creds.unwrap_or(self.options.creator));
        }
    }

    fn send_stream(
        &self,
        src: &mut dyn Source,
        peer: &ConnSocket,
        msg: &mut SendMsg,
    ) -> Result<usize> {
        let mut sent = 0;
        // The last byte is the urgent one.
        let urgent = usize::from(msg.flags & flags::OOB != 0);
        while src.remaining() > 0 {
            if !self.buffer.has_room() {
                break;
            }
            let before = src.remaining() - urgent;
            let len = before.max(1).min(stream_piece(self.buffer.limit()));
            let taken = Message::take(src, len, true, &self.buffer);
            let result = taken.and_then(|mut message| {
                let n = message.bytes().len();
                self.dress(&mut message, peer, msg);
                peer.push(message, before == 0).map(|()| n)
            });
            match result {
                Ok(n) => {
                    sent += n;
                    if n < len {
                        break;
                    }
                }
                Err(e) if sent == 0 => return Err(e),
                Err(_) => break,
            }
        }
        if sent == 0 && src.remaining() > 0 {
            return Err(Errno::EAGAIN);
        }
        if sent > 0 {
            let urgent = urgent != 0 && src.remaining() == 0;
            let news = if urgent { EventMask::PRI } else { EventMask::empty() };
            peer.queue.notify(EventMask::READABLE | news);
        }
        Ok(sent)
    }

    fn send_packet(
        &self,
        src: &mut dyn Source,
        peer: &ConnSocket,
        msg: &mut SendMsg,
    ) -> Result<usize> {
        let len = src.remaining();
        if len > self.buffer.limit().saturating_sub(32) {
            return Err(Errno::EMSGSIZE);
        }
        if !self.buffer.has_room() {
            return Err(Errno::EAGAIN);
        }
        let mut message = Message::take(src, len, false, &self.buffer)?;
        if message.bytes().len() < len {
            return Err(Errno::EFAULT);
        }
        self.dress(&mut message, peer, msg);
        peer.push(message, false)?;
        peer.queue.notify(EventMask::READABLE);
        Ok(len)
    }

    /// What an empty receive queue means.
    fn nothing(&self) -> Result<usize> {
        if let Some(e) = self.take_error() {
            return Err(e);
        }
        if self.is_shut(RCV) { Ok(0) } else { Err(Errno::EAGAIN) }
    }

    fn receive_stream(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        let peek = msg.flags & flags::PEEK != 0;
        let mut skip = if peek { self.options.peek_off().unwrap_or(0) } else { 0 };
        let mut done = 0;
        let mut consumed = VecDeque::new();
        let mut first_creds = None;
        let mut received = self.received.lock();
        let mut i = 0;
        let mut found = false;
        let inline = self.options.is_on(so::OOBINLINE);
        let result = loop {
            let how = oob::Read { peek, inline, copied: done > 0 };
            let Some(at) = oob::manage(&mut received.queue, i, how, &mut consumed) else {
                break Ok(());
            };
            i = at;
            let Some(message) = received.queue.get_mut(i) else { break Ok(()) };
            if peek && skip >= message.bytes().len() && !message.bytes().is_empty() {
                skip -= message.bytes().len();
                i += 1;
                continue;
            }
            // Bytes of different senders do not mix when the receiver wants to know who they are.
            if self.options.passcred() {
                match first_creds {
                    None => first_creds = Some(message.creds),
                    Some(creds) if creds != message.creds => break Ok(()),
                    Some(_) => {}
                }
                msg.creds = Some(message.creds.unwrap_or(crate::socket::Ucred::NOBODY));
            }
            let n = match message.put(dst, skip) {
                Ok(n) => n,
                Err(e) => break Err(e),
            };
            done += n;
            found = true;
            let has_rights = message.rights.is_some();
            if peek {
                let whole = skip + n >= message.bytes().len();
                skip = 0;
                if let Some(rights) = &message.rights {
                    msg.rights = Some(rights.duplicate());
                }
                i += 1;
                if has_rights || !whole {
                    break Ok(());
                }
            } else {
                message.advance(n);
                if let Some(rights) = message.rights.take() {
                    msg.rights = Some(rights);
                }
                if !message.bytes().is_empty() {
                    break Ok(());
                }
                consumed.extend(received.queue.pop_front());
                if has_rights {
                    break Ok(());
                }
            }
            if dst.remaining() == 0 {
                break Ok(());
            }
        };
        drop(received);
        drop(consumed);
        match result {
            Err(e) if done == 0 => return Err(e),
            _ => {}
        }
        if !found {
            return self.nothing();
        }
        self.options.move_peek_off(if peek { done as i64 } else { -(done as i64) });
        Ok(done)
    }

    fn receive_urgent(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        let inline = self.options.is_on(so::OOBINLINE);
        let peek = msg.flags & flags::PEEK != 0;
        let mut gone = VecDeque::new();
        let result = oob::take(&mut self.received.lock().queue, dst, peek, inline, &mut gone);
        drop(gone);
        msg.out_flags |= flags::OOB * u32::from(result.is_ok());
        result
    }

    fn receive_packet(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        let mut received = self.received.lock();
        if received.queue.is_empty() {
            drop(received);
            return self.nothing();
        }
        let peek = msg.flags & flags::PEEK != 0;
        if peek {
            let Some(message) = received.queue.front() else { return Err(Errno::EAGAIN) };
            msg.rights = message.rights.as_ref().map(Rights::duplicate);
            return super::dgram::deliver(message, dst, msg, &self.options);
        }
        let message = received.queue.pop_front();
        drop(received);
        let Some(mut message) = message else { return Err(Errno::EAGAIN) };
        msg.rights = message.rights.take();
        super::dgram::deliver(&message, dst, msg, &self.options)
    }

    pub(super) fn each_rights(&self, f: &mut dyn FnMut(&Rights)) {
        let pending: Vec<_> = {
            let setup = self.setup.lock();
            setup.listener.iter().flat_map(|l| l.pending.iter().cloned()).collect()
        };
        for socket in pending {
            socket.each_rights(f);
        }
        let received = self.received.lock();
        received.queue.iter().filter_map(|m| m.rights.as_ref()).for_each(f);
    }

    pub(super) fn take_rights(&self) -> Vec<Rights> {
        let pending: Vec<_> = {
            let setup = self.setup.lock();
            setup.listener.iter().flat_map(|l| l.pending.iter().cloned()).collect()
        };
        let mut out: Vec<_> = pending.iter().flat_map(|s| s.take_rights()).collect();
        let mut received = self.received.lock();
        out.extend(received.queue.iter_mut().filter_map(|m| m.rights.take()));
        out
    }

    /// Puts a new connection on the backlog. `EAGAIN` when it is full.
    fn enqueue(&self, t: &CurrentTask, client: &Arc<ConnSocket>) -> Result<()> {
        let client_name = client.name();
        {
            let mut setup = self.setup.lock();
            let name = setup.name.clone();
            let Some(listener) = setup.listener.as_mut() else {
                return Err(Errno::ECONNREFUSED);
            };
            if self.is_shut(RCV) {
                return Err(Errno::ECONNREFUSED);
            }
            if listener.pending.len() > listener.backlog {
                return Err(Errno::EAGAIN);
            }
            let inherited = Setup { name: name.clone(), inherited: true, listener: None };
            let server = ConnSocket::with_setup(self.kind, Options::new(t), inherited);
            server.options.inherit(&self.options);
            server.join(client, client_name, PeerCreds::of(t));
            if !client.join(&server, name, listener.creds.clone()) {
                return Err(Errno::EISCONN);
            }
            listener.pending.push_back(server);
        }
        self.queue.notify(EventMask::READABLE);
        client.queue.notify(WRITABLE);
        Ok(())
    }

    /// Ends the connection; `embryo`: nobody has ever accepted it.
    fn close(&self, embryo: bool) {
        let unread = {
            let mut received = self.received.lock();
            received.closed = true;
            std::mem::take(&mut received.queue)
        };
        let lost = !unread.is_empty() || embryo;
        drop(unread);
        self.shut(RCV | SEND);
        if let Some(peer) = self.peer.get().and_then(|p| p.socket.upgrade()) {
            if lost {
                peer.fail(Errno::ECONNRESET);
            }
            peer.shut(RCV | SEND);
        }
    }
}

impl Socket for ConnSocket {
    fn family(&self) -> i32 {
        AF_UNIX
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn bind(&self, t: &mut CurrentTask, addr: &[u8]) -> Result<()> {
        address::parse(addr)?;
        if self.name().is_some() {
            return Err(Errno::EINVAL);
        }
        let this = WeakUnix::Conn(self.this.clone());
        let (name, fd) = address::bind(t, addr, self.kind, this)?;
        if let Some(fd) = fd {
            let _ = self.outside.set(Outside::new(fd, self.kind, &[], &self.queue)?);
        }
        self.setup.lock().name = Some(name);
        Ok(())
    }

    fn listen(&self, t: &CurrentTask, backlog: i32) -> Result<()> {
        let max = Net::of(t).settings.somaxconn.load(Ordering::Relaxed);
        let backlog = (backlog as u32).min(max) as usize;
        {
            let mut setup = self.setup.lock();
            if setup.name.is_none() || self.is_connected() {
                return Err(Errno::EINVAL);
            }
            let creds = PeerCreds::of(t);
            match &mut setup.listener {
                Some(listener) => {
                    listener.backlog = backlog;
                    listener.creds = creds;
                }
                None => {
                    setup.listener = Some(Listener { backlog, pending: VecDeque::new(), creds });
                }
            }
        }
        self.queue.notify(WRITABLE);
        Ok(())
    }

    fn accept(&self) -> Result<Arc<dyn Socket>> {
        let socket = {
            let mut setup = self.setup.lock();
            let listener = setup.listener.as_mut().ok_or(Errno::EINVAL)?;
            match listener.pending.pop_front() {
                Some(socket) => socket,
                None if self.is_shut(RCV) => return Err(Errno::EINVAL),
                None => {
                    drop(setup);
                    return self.accept_outside();
                }
            }
        };
        // Those who found the backlog full wait for this; the listener itself is not written to.
        self.queue.notify(EventMask::WRBAND);
        Ok(socket)
    }

    fn connect(
        &self,
        t: &mut CurrentTask,
        _file: &Arc<File>,
        addr: &[u8],
        nonblocking: bool,
    ) -> Result<()> {
        let this = self.this.upgrade().ok_or(Errno::EINVAL)?;
        if self.options.passcred() && self.name().is_none() {
            let name = address::autobind(self.kind, WeakUnix::Conn(self.this.clone()))?;
            self.setup.lock().name = Some(name);
        }
        let listener = match address::find(t, addr, self.kind)? {
            Found::Inside(Unix::Conn(listener)) => listener,
            Found::Inside(Unix::Dgram(_)) => return Err(Errno::EPROTOTYPE),
            Found::Outside(inode) => return self.connect_outside(&inode, addr),
        };
        if listener.kind != self.kind {
            return Err(Errno::EPROTOTYPE);
        }
        if self.is_listening() {
            let refused = !listener.is_listening();
            return Err(if refused { Errno::ECONNREFUSED } else { Errno::EINVAL });
        }
        let attempt = |t: &CurrentTask| {
            if self.is_connected() && listener.is_listening() {
                return Err(Errno::EISCONN);
            }
            super::check_scope(t, listener.name(), &listener.options)?;
            listener.enqueue(t, &this)
        };
        match attempt(t) {
            Err(Errno::EAGAIN) if !nonblocking => {}
            other => return other,
        }
        let deadline = self.options.timeout(true).map(|n| t.kernel().time.monotonic() + n);
        let key = listener.queue.add(WRITABLE | EventMask::READABLE, t.waker());
        let result = loop {
            match attempt(t) {
                Err(Errno::EAGAIN) => {}
                other => break other,
            }
            match t.block(deadline) {
                Wake::Event => {}
                Wake::Timeout => break Err(Errno::EAGAIN),
                Wake::Interrupted if deadline.is_some() => break Err(Errno::EINTR),
                Wake::Interrupted => break Err(Errno::ERESTARTSYS),
            }
        };
        listener.queue.remove(key);
        result
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        Ok(address::sockaddr(self.name().as_deref()))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        if let Some(outside) = self.connection() {
            return Ok(outside.peer());
        }
        let peer = self.peer.get().ok_or(Errno::ENOTCONN)?;
        let now = peer.socket.upgrade().and_then(|s| s.name());
        Ok(address::sockaddr(now.as_ref().or(peer.name.as_ref()).map(|n| &**n)))
    }

    fn shutdown(&self, how: i32) -> Result<()> {
        let (bits, other) = match how {
            0 => (RCV, SEND),
            1 => (SEND, RCV),
            2 => (RCV | SEND, RCV | SEND),
            _ => return Err(Errno::EINVAL),
        };
        if let Some(outside) = self.connection() {
            outside.shutdown(how)?;
        }
        self.shut(bits);
        if let Some(peer) = self.peer.get().and_then(|p| p.socket.upgrade()) {
            peer.shut(other);
        }
        Ok(())
    }

    fn destination(&self, _t: &CurrentTask, _addr: &[u8]) -> Result<Destination> {
        match (self.kind, self.is_connected()) {
            // Ignored, as by Linux.
            (Kind::SeqPacket, _) => Ok(Arc::new(())),
            (_, true) => Err(Errno::EISCONN),
            (_, false) => Err(Errno::EOPNOTSUPP),
        }
    }

    fn send(&self, src: &mut dyn Source, msg: &mut SendMsg) -> Result<usize> {
        if let Some(outside) = self.connection() {
            return outside.send(src, msg);
        }
        let stream = self.kind == Kind::Stream;
        if msg.flags & flags::OOB != 0 && (!stream || src.remaining() == 0) {
            return Err(Errno::EOPNOTSUPP);
        }
        let peer = self.peer.get().ok_or(Errno::ENOTCONN)?;
        if !stream && let Some(e) = self.take_error() {
            return Err(e);
        }
        if self.is_shut(SEND) {
            return Err(Errno::EPIPE);
        }
        let peer = peer.socket.upgrade().ok_or(Errno::EPIPE)?;
        if stream {
            if src.remaining() > 0 && peer.is_shut(RCV) {
                return Err(Errno::EPIPE);
            }
            self.send_stream(src, &peer, msg)
        } else {
            self.send_packet(src, &peer, msg)
        }
    }

    fn receive(&self, dst: &mut dyn Sink, msg: &mut RecvMsg) -> Result<usize> {
        if let Some(outside) = self.connection() {
            return outside.receive(dst, msg);
        }
        if msg.flags & flags::ERRQUEUE != 0 {
            return Err(Errno::EAGAIN);
        }
        let stream = self.kind == Kind::Stream;
        if !self.is_connected() {
            return Err(if stream { Errno::EINVAL } else { Errno::ENOTCONN });
        }
        if msg.flags & flags::OOB != 0 {
            return if stream { self.receive_urgent(dst, msg) } else { Err(Errno::EOPNOTSUPP) };
        }
        if stream { self.receive_stream(dst, msg) } else { self.receive_packet(dst, msg) }
    }

    fn get_option(&self, _t: &CurrentTask, level: i32, name: i32) -> Result<OptionValue> {
        if level == crate::socket::SOL_SOCKET
            && let Some(value) = self.options.get(self, self.buffer.limit(), name)
        {
            return Ok(value);
        }
        let own = self.setup.lock().listener.as_ref().map(|l| l.creds.clone());
        let peer = self.peer.get().map(|p| &p.creds).or(own.as_ref());
        super::get_option(peer, level, name)
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
        !self.is_connected() && self.setup.lock().listener.is_some()
    }

    fn poll(&self) -> EventMask {
        if let Some(outside) = self.connection() {
            return outside.poll();
        }
        let mut events = EventMask::empty();
        if self.error.load(Ordering::SeqCst) != 0 {
            events |= EventMask::ERR;
        }
        let bits = self.shutdown_bits.load(Ordering::SeqCst);
        if bits == RCV | SEND {
            events |= EventMask::HUP;
        }
        if bits & RCV != 0 {
            events |= EventMask::RDHUP | EventMask::READABLE;
        }
        if !self.is_connected() {
            let setup = self.setup.lock();
            match &setup.listener {
                Some(listener) if !listener.pending.is_empty() => events |= EventMask::READABLE,
                Some(_)
                    if self
                        .outside
                        .get()
                        .is_some_and(|outside| outside.poll().intersects(EventMask::IN)) =>
                {
                    events |= EventMask::READABLE;
                }
                Some(_) => {}
                None => events |= EventMask::HUP | WRITABLE,
            }
            return events;
        }
        let received = self.received.lock();
        if !received.queue.is_empty() {
            events |= EventMask::READABLE;
        }
        if received.had_urgent && oob::pending(&received.queue) {
            events |= EventMask::PRI;
        }
        drop(received);
        if self.buffer.is_writable() {
            events |= WRITABLE;
        }
        events
    }

    fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn ioctl(&self, task: &Task, cmd: u32, arg: u64) -> Result<u64> {
        match cmd {
            FIONREAD if self.is_listening() => Err(Errno::EINVAL),
            FIONREAD if let Some(outside) = self.connection() => {
                put_int(task, arg, outside.available()?)
            }
            FIONREAD => {
                let n = self.received.lock().queue.iter().map(|m| m.bytes().len()).sum();
                put_int(task, arg, n)
            }
            SIOCATMARK => {
                let at_mark = oob::at_mark(&self.received.lock().queue);
                put_int(task, arg, usize::from(at_mark))
            }
            TIOCOUTQ => put_int(task, arg, self.buffer.used()),
            _ => devices::ioctl(&Net::of(task), task, cmd, arg),
        }
    }

    fn release(&self) {
        let (name, pending) = {
            let mut setup = self.setup.lock();
            let name = if setup.inherited { None } else { setup.name.take() };
            (name, setup.listener.take())
        };
        if let Some(name) = name {
            address::unbind(&name);
        }
        if let Some(listener) = pending {
            for socket in listener.pending {
                socket.close(true);
            }
            self.queue.notify(WRITABLE | EventMask::READABLE | EventMask::HUP);
        }
        self.close(false);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
