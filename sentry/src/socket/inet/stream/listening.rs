//! Listeners: their backlog, and those who wait for room in it.

use super::StreamSocket;
use super::core::{Core, RCV, SEND};
use crate::errno::{Errno, Result};
use crate::socket::inet::port::Claim;
use crate::sync::{Mutex, rank};
use crate::wait::EventMask;
use netstack::{Readiness, TcpSocket};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

/// The accepting side of a socket that listens.
pub struct Listener {
    core: Arc<Core>,
    claim: Arc<Claim<StreamSocket>>,
    backlog: AtomicU32,
    /// The program chose the address.
    chose_ip: bool,
    inner: Mutex<Inner, { rank::INODE_NESTED }>,
    /// Where other machines connect to.
    remote: Mutex<Option<Arc<TcpSocket>>, { rank::LEAF }>,
}

#[derive(Default)]
struct Inner {
    ready: VecDeque<Arc<StreamSocket>>,
    /// Sockets that connect and found no room (their SYN was dropped, as it were).
    waiting: VecDeque<Weak<StreamSocket>>,
    /// Connections without data yet (`TCP_DEFER_ACCEPT`); those that got some have left it.
    deferred: usize,
    closed: bool,
}

/// What a listener says to a connection.
pub enum Offer {
    /// It may be pushed.
    Room,
    /// The backlog is full: the socket is in the list of those who wait.
    Full,
    /// It no longer listens.
    Refused,
}

impl Listener {
    /// A listener of the socket with `core`, on the port of `claim`; other machines connect to `remote`.
    pub fn new(
        core: Arc<Core>,
        claim: Arc<Claim<StreamSocket>>,
        (backlog, chose_ip): (u32, bool),
        remote: Option<TcpSocket>,
    ) -> Arc<Listener> {
        let remote = Mutex::new(remote.map(Arc::new));
        let backlog = AtomicU32::new(backlog);
        Arc::new(Listener { core, claim, backlog, chose_ip, inner: Mutex::default(), remote })
    }

    /// Where other machines connect to, if they can.
    pub fn remote(&self) -> Option<Arc<TcpSocket>> {
        self.remote.lock().clone()
    }

    /// The port, which its connections share.
    pub fn claim(&self) -> &Arc<Claim<StreamSocket>> {
        &self.claim
    }

    /// Changes the backlog. The sockets that find room now are to be connected.
    pub fn set_backlog(&self, backlog: u32) {
        self.backlog.store(backlog, Ordering::Relaxed);
    }

    /// The backlog.
    pub fn backlog(&self) -> u32 {
        self.backlog.load(Ordering::Relaxed)
    }

    /// True if the program chose the address that it listens at.
    pub fn chose_ip(&self) -> bool {
        self.chose_ip
    }

    /// Connections that wait for `accept(2)`.
    pub fn pending(&self) -> usize {
        self.inner.lock().ready.len()
    }

    /// Is there room for `client`? If not it is remembered.
    pub fn offer(&self, client: &Weak<StreamSocket>) -> Offer {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Offer::Refused;
        }
        // As on Linux one more than the backlog fits.
        if inner.ready.len() + inner.deferred > self.backlog() as usize {
            inner.waiting.retain(|s| s.strong_count() > 0 && !s.ptr_eq(client));
            inner.waiting.push_back(client.clone());
            return Offer::Full;
        }
        Offer::Room
    }

    /// True while it takes another connection.
    pub fn has_room(&self) -> bool {
        let inner = self.inner.lock();
        // As on Linux one more than the backlog fits.
        !inner.closed && inner.ready.len() + inner.deferred <= self.backlog() as usize
    }

    /// Adds a connection. False if the listener is closed.
    pub fn push(&self, child: Arc<StreamSocket>) -> bool {
        let refused = {
            let mut inner = self.inner.lock();
            if inner.closed {
                Some(child)
            } else {
                inner.ready.push_back(child);
                None
            }
        };
        if refused.is_some() {
            return false;
        }
        self.core.queue.notify(EventMask::READABLE);
        true
    }

    /// Takes the oldest connection, and someone who waited for its place. `EAGAIN`; `EINVAL` once
    /// closed.
    pub fn take(&self) -> Result<(Arc<StreamSocket>, Option<Arc<StreamSocket>>)> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(Errno::EINVAL);
        }
        let child = inner.ready.pop_front().ok_or(Errno::EAGAIN)?;
        let next = loop {
            match inner.waiting.pop_front() {
                None => break None,
                Some(weak) => {
                    if let Some(socket) = weak.upgrade() {
                        break Some(socket);
                    }
                }
            }
        };
        Ok((child, next))
    }

    /// True when `accept(2)` would succeed.
    pub fn is_ready(&self) -> bool {
        !self.inner.lock().ready.is_empty()
            || self.remote().is_some_and(|tcp| tcp.readiness().contains(Readiness::IN))
    }

    /// Ends it: connections that nobody accepted are reset, those who wait are refused.
    pub fn close(&self) {
        let remote = self.remote.lock().take();
        drop(remote);
        let (ready, waiting) = {
            let mut inner = self.inner.lock();
            inner.closed = true;
            (std::mem::take(&mut inner.ready), std::mem::take(&mut inner.waiting))
        };
        for child in ready {
            child.abort();
        }
        for client in waiting.iter().filter_map(Weak::upgrade) {
            client.refuse();
        }
        self.core.set(RCV | SEND);
    }
}

/// How long a socket waits for room in a listener's backlog: until its SYN would have been sent for the last time.
pub struct Patience(Weak<StreamSocket>);

impl Patience {
    /// Of `socket`.
    pub fn new(socket: Weak<StreamSocket>) -> Arc<Patience> {
        Arc::new(Patience(socket))
    }
}

impl crate::time::TimerTarget for Patience {
    fn expired(&self, _queue: &Arc<crate::time::TimerQueue>, _cookie: u64) {
        if let Some(socket) = self.0.upgrade() {
            socket.give_up();
        }
    }
}

/// A connection that a listener with `TCP_DEFER_ACCEPT` does not know of yet.
pub struct Deferred {
    listener: Arc<Listener>,
    child: Mutex<Option<Arc<StreamSocket>>, { rank::INODE_NESTED }>,
}

impl Deferred {
    /// Holds `child` back from `listener`.
    pub fn new(listener: Arc<Listener>, child: Arc<StreamSocket>) -> Arc<Deferred> {
        listener.inner.lock().deferred += 1;
        Arc::new(Deferred { listener, child: Mutex::new(Some(child)) })
    }

    /// There is data (or time is up): the connection may be accepted.
    pub fn deliver(&self) {
        let child = self.child.lock().take();
        if let Some(child) = child {
            {
                let mut inner = self.listener.inner.lock();
                inner.deferred = inner.deferred.saturating_sub(1);
            }
            if !self.listener.push(child.clone()) {
                child.abort();
            }
        }
    }
}

impl crate::time::TimerTarget for Deferred {
    fn expired(&self, _queue: &Arc<crate::time::TimerQueue>, _cookie: u64) {
        self.deliver();
    }
}
