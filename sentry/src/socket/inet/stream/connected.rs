//! One end of an established connection.

use super::core::{Core, DEAD, DONE, RCV, SEND, WRITABLE};
use super::half::Half;
use super::{StreamSocket, listening::Deferred};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::socket::inet::addr::Endpoint;
use crate::socket::inet::table::Registered;
use crate::wait::EventMask;
use std::sync::Arc;

/// One end of a connection.
pub struct Connected {
    /// The socket's own address.
    pub local: Endpoint,
    /// The other side's.
    pub peer: Endpoint,
    /// What it sends.
    pub tx: Arc<Half>,
    /// What it receives.
    pub rx: Arc<Half>,
    core: Arc<Core>,
    /// The other side's.
    peer_core: Arc<Core>,
    /// Goes to the backlog of a listener when the first data is sent.
    deferred: Option<Arc<Deferred>>,
    _entry: Registered<StreamSocket>,
}

impl Connected {
    /// The end of the socket with `core`.
    pub(super) fn new(
        local: Endpoint,
        peer: Endpoint,
        (tx, rx): (Arc<Half>, Arc<Half>),
        core: Arc<Core>,
        peer_core: Arc<Core>,
        deferred: Option<Arc<Deferred>>,
        entry: Registered<StreamSocket>,
    ) -> Arc<Connected> {
        Arc::new(Connected { local, peer, tx, rx, core, peer_core, deferred, _entry: entry })
    }

    /// Sends what fits. `EAGAIN` if nothing does; `EPIPE` or the pending error when there is no way.
    pub fn send(&self, src: &mut dyn Source, urgent: bool) -> Result<usize> {
        if self.core.has_error() || self.core.has(SEND) {
            return Err(self.core.take_error().unwrap_or(Errno::EPIPE));
        }
        let tell = || self.peer_core.queue.notify(EventMask::READABLE);
        let sent = self.tx.send(src, urgent, tell)?;
        if sent.reset {
            self.answered_by_reset();
        } else if self.peer_core.flags() & (RCV | SEND) == RCV | SEND
            && !self.peer_core.has(DEAD)
            && sent.bytes > 0
        {
            // Nobody over there wants data any more, and the connection is half closed.
            self.peer_core.reset();
            self.core.reset();
        } else {
            if urgent {
                self.peer_core.queue.notify(EventMask::PRI);
            }
            self.undefer();
        }
        Ok(sent.bytes)
    }

    /// Data came for a socket that is gone.
    fn answered_by_reset(&self) {
        self.core.reset();
    }

    /// A listener with `TCP_DEFER_ACCEPT` now learns of the connection.
    pub fn undefer(&self) {
        if let Some(deferred) = &self.deferred {
            deferred.deliver();
        }
    }

    /// What an empty receive queue means.
    fn nothing(&self) -> Result<usize> {
        if self.core.has(DONE) {
            return Ok(0);
        }
        if let Some(e) = self.core.take_error() {
            return Err(e);
        }
        if self.core.has(RCV) { Ok(0) } else { Err(Errno::EAGAIN) }
    }

    /// Receives, or looks (`peek`: from that offset on).
    pub fn receive(
        &self,
        dst: &mut dyn Sink,
        peek: Option<usize>,
        discard: bool,
        inline: bool,
    ) -> Result<usize> {
        if dst.remaining() == 0 {
            return if self.rx.len() > 0 { Ok(0) } else { self.nothing() };
        }
        let attempt = |dst: &mut dyn Sink| match peek {
            Some(skip) => self.rx.peek(dst, skip, inline),
            None => self.rx.receive(dst, discard, inline),
        };
        let mut n = attempt(dst)?;
        if n == 0 {
            let end = self.nothing();
            // The end was looked at after the queue: what came between is not lost.
            n = attempt(dst)?;
            if n == 0 {
                return end;
            }
        }
        if peek.is_none() && self.rx.take_relief() {
            self.peer_core.queue.notify(WRITABLE);
        }
        Ok(n)
    }

    /// Receives the urgent byte.
    pub fn receive_urgent(&self, dst: &mut dyn Sink, peek: bool, inline: bool) -> Result<usize> {
        if inline {
            return Err(Errno::EINVAL);
        }
        self.rx.receive_urgent(dst, peek)
    }

    /// Says that nothing more will be sent.
    pub fn finish(&self) {
        if !self.core.has(SEND | DEAD) {
            self.core.set(SEND);
            self.peer_core.set(RCV | DONE);
            self.undefer();
        }
    }

    /// The socket is closed; with `abort` by a reset.
    pub fn close(&self, abort: bool) {
        let lost = self.rx.len() > 0;
        self.rx.close();
        if lost || abort {
            self.peer_core.reset();
            self.undefer();
        } else {
            self.finish();
        }
        self.core.set(RCV | SEND | DEAD);
    }

    /// Readiness, as `tcp_poll` in Linux; `lowat` as in `SO_RCVLOWAT`.
    pub fn poll(&self, lowat: usize, inline: bool) -> EventMask {
        let mut events = EventMask::empty();
        let flags = self.core.flags();
        let mut target = lowat;
        if !inline && self.rx.at_mark() {
            target += 1;
        }
        if self.rx.len() >= target.max(1) {
            events |= EventMask::READABLE;
        }
        if flags & SEND != 0 || self.tx.is_writable() {
            events |= WRITABLE;
        }
        if self.rx.has_urgent() {
            events |= EventMask::PRI;
        }
        events
    }

    /// The state's number (`TCP_*` in `/proc/net/tcp`).
    pub fn state_number(&self) -> u8 {
        let flags = self.core.flags();
        match (flags & SEND != 0, flags & DONE != 0) {
            _ if flags & DEAD != 0 => super::TCP_CLOSE,
            (true, true) => super::TCP_CLOSE,
            (true, false) => super::TCP_FIN_WAIT2,
            (false, true) => super::TCP_CLOSE_WAIT,
            (false, false) => super::TCP_ESTABLISHED,
        }
    }
}
