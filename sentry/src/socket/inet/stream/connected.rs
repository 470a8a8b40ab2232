//! One end of an established connection.

use super::core::{Core, DEAD, DONE, RCV, SEND, WRITABLE};
use super::cork::{CEILING, Held};
use super::half::Half;
use super::listening::Deferred;
use super::time_wait::{End, Link};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::socket::inet::Net;
use crate::socket::inet::addr::Endpoint;
use crate::wait::EventMask;
use std::sync::{Arc, Weak};

/// One end of a connection.
pub struct Connected {
    this: Weak<Connected>,
    net: Arc<Net>,
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
    /// What is to be sent together with what follows.
    held: Held,
    link: Arc<Link>,
    /// Which end of the link it is.
    end: End,
}

impl Connected {
    /// The end of the socket with `core`.
    pub(super) fn new(
        net: &Arc<Net>,
        (local, peer): (Endpoint, Endpoint),
        (tx, rx): (Arc<Half>, Arc<Half>),
        core: Arc<Core>,
        peer_core: Arc<Core>,
        deferred: Option<Arc<Deferred>>,
        (link, end): (Arc<Link>, End),
    ) -> Arc<Connected> {
        Arc::new_cyclic(|this| Connected {
            this: this.clone(),
            net: net.clone(),
            local,
            peer,
            tx,
            rx,
            core,
            peer_core,
            deferred,
            held: Held::default(),
            link,
            end,
        })
    }

    pub(super) fn net(&self) -> &Arc<Net> {
        &self.net
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    /// Sends what fits; with `more` little is held back to be sent together with what follows. `EAGAIN` if nothing does;
    /// `EPIPE` or the pending error when there is no way.
    pub fn send(&self, src: &mut dyn Source, urgent: bool, more: bool) -> Result<usize> {
        if self.core.has_error() || self.core.has(SEND) {
            return Err(self.core.take_error().unwrap_or(Errno::EPIPE));
        }
        if more
            && !urgent
            && let Some((n, first)) = self.held.hold(src)?
        {
            if first {
                let this: Weak<Connected> = self.this.clone();
                self.net.after(CEILING, this);
            }
            return Ok(n);
        }
        self.pass_on();
        let tell = || self.peer_core.queue.notify(EventMask::READABLE);
        let show = |at: u64, bytes: &[u8]| self.show_data(at, bytes, urgent);
        let shown: Option<&dyn Fn(u64, &[u8])> =
            if self.net.shows_segments() { Some(&show) } else { None };
        let sent = self.tx.send(src, urgent, shown, tell)?;
        if sent.reset {
            self.answered_by_reset();
        } else if self.peer_core.flags() & (RCV | SEND) == RCV | SEND
            && !self.peer_core.has(DEAD)
            && sent.bytes > 0
        {
            // Nobody over there wants data any more, and the connection is half closed.
            self.show_reset(true);
            self.peer_core.reset();
            self.core.reset();
            self.link.broken();
        } else {
            if urgent {
                self.peer_core.queue.notify(EventMask::PRI);
            }
            self.undefer();
        }
        Ok(sent.bytes)
    }

    /// Sends what was held back.
    pub fn pass_on(&self) {
        let show = |at: u64, bytes: &[u8]| self.show_data(at, bytes, false);
        let shown: Option<&dyn Fn(u64, &[u8])> =
            if self.net.shows_segments() { Some(&show) } else { None };
        self.held.release(|bytes| {
            if self.tx.push(bytes, shown) {
                self.answered_by_reset();
            } else {
                self.peer_core.queue.notify(EventMask::READABLE);
                self.undefer();
            }
        });
    }

    /// Bytes that have not arrived.
    pub fn unsent(&self) -> usize {
        self.tx.unsent() + self.held.len()
    }

    /// Data came for a socket that is gone.
    fn answered_by_reset(&self) {
        self.show_reset(true);
        self.core.reset();
        self.link.broken();
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
            self.pass_on();
            self.show_end();
            self.core.set(SEND);
            self.peer_core.set(RCV | DONE);
            self.link.finished(self.end, self.core.has(DONE));
            self.undefer();
        }
    }

    /// The socket is closed; with `abort` by a reset. `patience`: how many seconds the other side's `FIN` is waited for;
    /// none for not at all.
    pub fn close(&self, abort: bool, patience: Option<u32>) {
        let lost = self.rx.len() > 0;
        self.rx.close();
        let over = self.core.is_over();
        if lost || abort || (patience.is_none() && !self.core.has(DONE)) {
            // The other side still sees that nothing more will come.
            if !lost && !abort {
                self.finish();
            }
            if !over {
                self.show_reset(false);
            }
            self.peer_core.reset();
            self.undefer();
            if !over {
                self.link.broken();
            }
        } else {
            self.finish();
            if !over && !self.core.has(DONE) {
                self.link.orphaned(self.end, patience.unwrap_or(0));
                if self.core.has(DONE) {
                    self.link.advance(self.end);
                }
            }
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
            // The receiver's buffer has no room for the end yet.
            (true, false) if self.tx.unsent() > 0 => super::TCP_FIN_WAIT1,
            (true, false) => super::TCP_FIN_WAIT2,
            (false, true) => super::TCP_CLOSE_WAIT,
            (false, false) => super::TCP_ESTABLISHED,
        }
    }
}
