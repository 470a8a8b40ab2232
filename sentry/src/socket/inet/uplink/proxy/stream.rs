//! A TCP connection that the proxy has made: a socket of the host.

use super::{Proxy, poll};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source, from_host};
use crate::socket::inet::addr::Endpoint;
use crate::socket::inet::stream::StreamSocket;
use crate::socket::inet::stream::core::{Core, WRITABLE};
use crate::socket::inet::stream::remote::Transport;
use crate::socket::inet::stream::{TCP_CLOSE, TCP_ESTABLISHED, TCP_SYN_SENT};
use crate::sync::{Mutex, rank};
use crate::wait::EventMask;
use netproxy::protocol::{MAX_FIRST, Request};
use platform::host::{inet, tty};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// Most bytes that are copied at a time where they cannot go straight into the guest's memory.
const CHUNK: usize = 64 << 10;
/// Size of `struct tcp_info`, as far as it is known here.
const INFO: usize = 248;

enum Phase {
    /// With the options that were set meanwhile: level, name, value.
    Connecting(Vec<(i32, i32, i32)>),
    /// Established, but the proxy has to see first what is sent first.
    Gated(Gate),
    Open(Arc<OwnedFd>),
    Failed,
}

/// A connection that the proxy holds back.
struct Gate {
    /// Options that were set meanwhile.
    options: Vec<(i32, i32, i32)>,
    /// What was sent so far.
    first: Vec<u8>,
    /// The proxy is looking at it.
    waiting: bool,
    /// `shutdown(2)` was called with that.
    shut: Option<i32>,
}

/// See the module.
pub struct ProxiedStream {
    id: u64,
    proxy: Arc<Proxy>,
    core: Arc<Core>,
    phase: Mutex<Phase, { rank::LEAF }>,
    /// Why it did not come about, until somebody has been told.
    error: AtomicI32,
}

impl ProxiedStream {
    fn new(proxy: &Arc<Proxy>, core: &Arc<Core>, phase: Phase) -> Arc<ProxiedStream> {
        Arc::new(ProxiedStream {
            id: proxy.next_id(),
            proxy: proxy.clone(),
            core: core.clone(),
            phase: Mutex::new(phase),
            error: AtomicI32::new(0),
        })
    }

    /// Begins to connect.
    pub fn connect(proxy: &Arc<Proxy>, core: &Arc<Core>, to: Endpoint) -> Result<Arc<Self>> {
        let stream = Self::new(proxy, core, Phase::Connecting(Vec::new()));
        proxy.connect(&stream, to)?;
        Ok(stream)
    }

    /// A connection that there is already.
    pub fn open(proxy: &Arc<Proxy>, core: &Arc<Core>, fd: OwnedFd) -> Result<Arc<Self>> {
        let fd = Arc::new(fd);
        let stream = Self::new(proxy, core, Phase::Open(fd.clone()));
        proxy.watch(&stream, fd.as_fd())?;
        Ok(stream)
    }

    /// Its name.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The connection was established, and `sent` bytes of what was sent first are on their way.
    pub(super) fn connected(self: &Arc<Self>, fd: OwnedFd, sent: usize) {
        let fd = Arc::new(fd);
        {
            let mut phase = self.phase.lock();
            let (options, first, shut) = match &mut *phase {
                Phase::Connecting(options) => (std::mem::take(options), Vec::new(), None),
                Phase::Gated(gate) => {
                    (std::mem::take(&mut gate.options), std::mem::take(&mut gate.first), gate.shut)
                }
                _ => return,
            };
            for (level, name, value) in options {
                // It was checked when it was set; a size that the host does not allow stays smaller.
                let _ = inet::set_option(fd.as_fd(), level, name, value);
            }
            let rest = first.get(sent..).unwrap_or_default();
            // A new connection has room for it; one that has ended meanwhile says so to the next call.
            let _ = platform::host::io::write(fd.as_fd(), rest, None);
            let _ = shut.map(|how| inet::shutdown(fd.as_fd(), how));
            *phase = Phase::Open(fd.clone());
        }
        if let Err(e) = self.proxy.watch(self, fd.as_fd()) {
            self.failed(e);
        }
        self.core.queue.notify(WRITABLE);
    }

    /// The connection was established; the proxy has to see what is sent first.
    pub(super) fn gated(&self) {
        {
            let mut phase = self.phase.lock();
            let Phase::Connecting(options) = &mut *phase else { return };
            let options = std::mem::take(options);
            *phase = Phase::Gated(Gate { options, first: Vec::new(), waiting: false, shut: None });
        }
        self.core.queue.notify(WRITABLE);
    }

    /// The proxy needs more of it.
    pub(super) fn more(&self) {
        if let Phase::Gated(gate) = &mut *self.phase.lock() {
            gate.waiting = false;
        }
        self.core.queue.notify(WRITABLE);
    }

    /// Sends while the connection is held back; `None` when it is not.
    fn send_first(&self, src: &mut dyn Source) -> Option<Result<usize>> {
        match &mut *self.phase.lock() {
            Phase::Gated(gate) if gate.waiting => return Some(Err(Errno::EAGAIN)),
            Phase::Gated(_) if src.remaining() == 0 => return Some(Ok(0)),
            Phase::Gated(gate) => gate.waiting = true,
            _ => return None,
        }
        // Without the lock: the guest's memory may have to be faulted in.
        let mut data = vec![0; src.remaining().min(MAX_FIRST)];
        let taken = src.take(&mut data);
        data.truncate(*taken.as_ref().unwrap_or(&0));
        if let Phase::Gated(gate) = &mut *self.phase.lock() {
            gate.first.extend_from_slice(&data);
            gate.waiting = taken.is_ok();
        }
        Some(taken.and_then(|n| {
            self.proxy.ask(&Request::First { id: self.id, data })?;
            Ok(n)
        }))
    }

    /// It was not.
    pub(super) fn failed(&self, error: Errno) {
        {
            let mut phase = self.phase.lock();
            if !matches!(*phase, Phase::Connecting(_) | Phase::Gated(_)) {
                return;
            }
            self.error.store(error.raw(), Ordering::SeqCst);
            *phase = Phase::Failed;
        }
        self.core.queue.notify(ended());
    }

    /// Something has changed on the descriptor.
    pub(super) fn changed(&self, events: EventMask) {
        self.core.queue.notify(events);
    }

    fn fd(&self) -> Option<Arc<OwnedFd>> {
        match &*self.phase.lock() {
            Phase::Open(fd) => Some(fd.clone()),
            _ => None,
        }
    }

    /// The descriptor, to send or receive by; `gone` is what it means that there never was one.
    fn usable(&self, gone: Errno) -> Result<Arc<OwnedFd>> {
        match &*self.phase.lock() {
            Phase::Open(fd) => Ok(fd.clone()),
            Phase::Connecting(_) | Phase::Gated(_) => Err(Errno::EAGAIN),
            Phase::Failed => Err(self.kept_error().unwrap_or(gone)),
        }
    }

    fn kept_error(&self) -> Option<Errno> {
        match self.error.swap(0, Ordering::SeqCst) {
            0 => None,
            n => Some(Errno::from_raw(n)),
        }
    }

    fn set(&self, level: i32, name: i32, value: i32) {
        match &mut *self.phase.lock() {
            Phase::Connecting(options) | Phase::Gated(Gate { options, .. }) => {
                options.retain(|(l, n, _)| (*l, *n) != (level, name));
                options.push((level, name, value));
            }
            Phase::Open(fd) => {
                // As above.
                let _ = inet::set_option(fd.as_fd(), level, name, value);
            }
            Phase::Failed => {}
        }
    }
}

/// What a connection that has ended reports.
fn ended() -> EventMask {
    EventMask::READABLE | EventMask::WRITABLE | EventMask::RDHUP | EventMask::HUP | EventMask::ERR
}

impl Transport for ProxiedStream {
    fn is_connecting(&self) -> bool {
        matches!(*self.phase.lock(), Phase::Connecting(_))
    }

    fn state_number(&self) -> u8 {
        let fd = match &*self.phase.lock() {
            Phase::Connecting(_) => return TCP_SYN_SENT,
            Phase::Gated(_) => return TCP_ESTABLISHED,
            Phase::Failed => return TCP_CLOSE,
            Phase::Open(fd) => fd.clone(),
        };
        let mut state = [0];
        match inet::option(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, &mut state) {
            Ok(1) => state[0],
            _ => TCP_ESTABLISHED,
        }
    }

    fn queued(&self) -> (usize, usize) {
        let Some(fd) = self.fd() else { return (0, 0) };
        let received = tty::bytes_available(fd.as_fd()).unwrap_or(0);
        (received, inet::bytes_unsent(fd.as_fd()).unwrap_or(0))
    }

    fn at_mark(&self) -> bool {
        self.fd().is_some_and(|fd| inet::at_mark(fd.as_fd()).unwrap_or(false))
    }

    fn take_error(&self) -> Option<Errno> {
        let kept = self.kept_error();
        kept.or_else(|| self.fd().and_then(|fd| inet::take_error(fd.as_fd())).map(from_host))
    }

    fn poll(&self) -> EventMask {
        let fd = match &*self.phase.lock() {
            Phase::Connecting(_) => return EventMask::empty(),
            Phase::Gated(gate) if gate.waiting => return EventMask::empty(),
            Phase::Gated(_) => return WRITABLE,
            Phase::Failed if self.error.load(Ordering::SeqCst) != 0 => return ended(),
            Phase::Failed => return ended() - EventMask::ERR,
            Phase::Open(fd) => fd.clone(),
        };
        poll(&fd)
    }

    fn send(&self, src: &mut dyn Source, urgent: bool) -> Result<usize> {
        if let Some(sent) = self.send_first(src) {
            return sent;
        }
        let fd = self.usable(Errno::EPIPE)?;
        if urgent {
            let mut buffer = vec![0; src.remaining().min(CHUNK)];
            let taken = if buffer.is_empty() { 0 } else { src.take(&mut buffer)? };
            let data = buffer.get(..taken).unwrap_or_default();
            let sent = inet::send_urgent(fd.as_fd(), data).map_err(from_host);
            src.rewind(taken.saturating_sub(*sent.as_ref().unwrap_or(&0)));
            return sent;
        }
        let mut done = 0;
        while src.remaining() > 0 {
            match src.write_host(fd.as_fd(), None, src.remaining()) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn receive(&self, dst: &mut dyn Sink, peek: Option<usize>, discard: bool) -> Result<usize> {
        let fd = match self.usable(Errno::EPIPE) {
            // The end of what never began.
            Err(Errno::EPIPE) => return Ok(0),
            fd => fd?,
        };
        if let Some(skip) = peek {
            let (ready, _) = self.queued();
            let mut buffer = vec![0; skip.saturating_add(dst.remaining()).min(ready.max(1))];
            let n = inet::peek(fd.as_fd(), &mut buffer).map_err(from_host)?;
            return match buffer.get(skip..n).unwrap_or_default() {
                [] if n > 0 => Err(Errno::EAGAIN),
                [] => Ok(0),
                data => dst.put(data),
            };
        }
        if discard {
            let mut buffer = vec![0; dst.remaining().min(CHUNK)];
            return platform::host::io::read(fd.as_fd(), &mut buffer, None).map_err(from_host);
        }
        if dst.remaining() == 0 {
            return Ok(0);
        }
        dst.read_host(fd.as_fd(), None, dst.remaining())
    }

    fn receive_urgent(&self, dst: &mut dyn Sink, peek: bool) -> Result<usize> {
        let fd = self.usable(Errno::ENOTCONN)?;
        match inet::receive_urgent(fd.as_fd(), peek).map_err(from_host)? {
            Some(byte) => dst.put(&[byte]),
            None => Ok(0),
        }
    }

    fn shutdown(&self, how: i32) -> Result<()> {
        if let Phase::Gated(gate) = &mut *self.phase.lock() {
            gate.shut = Some(gate.shut.map_or(how, |before| if before == how { how } else { 2 }));
            // Nothing more will be sent: whatever it is, it is no TLS client.
            let data = Vec::new();
            return if how == 0 {
                Ok(())
            } else {
                self.proxy.ask(&Request::First { id: self.id, data })
            };
        }
        let fd = self.fd().ok_or(Errno::ENOTCONN)?;
        let result = inet::shutdown(fd.as_fd(), how).map_err(from_host);
        if result.is_ok() {
            self.core.queue.notify(poll(&fd));
        }
        result
    }

    fn abort(&self) {
        if let Some(fd) = self.fd() {
            // Failing it ends in the ordinary way.
            let _ = inet::reset_on_close(fd.as_fd());
        }
    }

    fn apply(&self, socket: &StreamSocket) {
        for (level, name, value) in socket.host_options() {
            self.set(level, name, value);
        }
    }

    fn info(&self) -> Option<Vec<u8>> {
        let mut info = vec![0; INFO];
        let fd = self.fd()?;
        let n = inet::option(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).ok()?;
        (n > 0).then_some(info)
    }

    fn segment_size(&self) -> Option<i32> {
        let mut value = [0; 4];
        let fd = self.fd()?;
        inet::option(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_MAXSEG, &mut value).ok()?;
        Some(i32::from_ne_bytes(value))
    }
}

impl Drop for ProxiedStream {
    fn drop(&mut self) {
        let known = matches!(*self.phase.lock(), Phase::Connecting(_) | Phase::Gated(_));
        self.proxy.forget_stream(self.id, known);
    }
}
