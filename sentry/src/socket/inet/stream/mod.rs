//! TCP sockets (`tcp(7)`).
//!
//! A [`StreamSocket`] is in one of four states: closed, [`listening`], connecting, or [`connected`]. Two
//! connected sockets of one sandbox share two [`half`]s, one for each direction; no packets are made.
//! Of TCP's states (RFC 9293, 3.3.2) those are seen that a program can see: a `FIN` arrives when it is
//! sent, so `LAST-ACK` and `CLOSING` pass at once. What is left of a connection afterwards is [`time_wait`]'s. What other
//! machines take part in is [`remote`].

pub mod connected;
pub mod core;
mod cork;
mod filtered;
pub mod half;
pub mod listening;
pub mod options;
pub mod remote;
mod setup;
mod shown;
mod socket;
#[cfg(test)]
mod tests;
pub mod time_wait;

use self::core::{Core, DEAD, DONE, RCV, SEND, WRITABLE};
use super::addr::{self, Endpoint};
use super::common::Common;
use super::port::Claim;
use super::table::Tuple;
use super::{Counters, Net};
use crate::errno::{Errno, Result};
use crate::socket::Options;
use crate::sync::{Mutex, rank};
use connected::Connected;
use half::Half;
use listening::{Deferred, Listener};
use options::TcpOptions;
use remote::Remote;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use time_wait::Link;

/// `TCP_ESTABLISHED`
pub const TCP_ESTABLISHED: u8 = 1;
/// `TCP_SYN_SENT`
pub const TCP_SYN_SENT: u8 = 2;
/// `TCP_FIN_WAIT1`
pub const TCP_FIN_WAIT1: u8 = 4;
/// `TCP_FIN_WAIT2`
pub const TCP_FIN_WAIT2: u8 = 5;
/// `TCP_TIME_WAIT`
pub const TCP_TIME_WAIT: u8 = 6;
/// `TCP_CLOSE`
pub const TCP_CLOSE: u8 = 7;
/// `TCP_CLOSE_WAIT`
pub const TCP_CLOSE_WAIT: u8 = 8;
/// `TCP_LISTEN`
pub const TCP_LISTEN: u8 = 10;

/// Send buffer of a socket that is not connected (`tcp_wmem`).
pub const DEFAULT_SNDBUF: usize = 16_384;
/// Receive buffer (`tcp_rmem`).
pub const DEFAULT_RCVBUF: usize = 131_072;
/// Send buffer that a connection over the loopback interface grows to.
const LOOPBACK_SNDBUF: usize = 2_626_560;

/// A TCP socket.
pub struct StreamSocket {
    this: Weak<StreamSocket>,
    common: Common,
    tcp: TcpOptions,
    core: Arc<Core>,
    sndbuf: AtomicUsize,
    setup: Mutex<Setup, { rank::INODE }>,
    /// Set while it listens; apart from `setup` so that those who connect can hold their own.
    listener: Mutex<Option<Arc<Listener>>, { rank::INODE_NESTED }>,
    /// Gives up when a listener's backlog stays full.
    patience: Mutex<Option<Arc<listening::Patience>>, { rank::LEAF }>,
    /// Sends the SYN again that the packet filter has dropped.
    again: Mutex<Option<Arc<filtered::Again>>, { rank::LEAF }>,
}

/// What the program has done so far (`socket_state` in Linux).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Unconnected,
    /// `connect(2)` was called, and has not said yet how it ended.
    Connecting,
    Connected,
}

enum State {
    Closed,
    Listening(Arc<Listener>),
    /// Waits for room in a listener's backlog, or for the packet filter to let it pass: the peer, and the ends as
    /// the listener sees them.
    Connecting(Endpoint, (Endpoint, Endpoint)),
    Connected(Arc<Connected>),
    /// With another machine; its own state says how far that has come.
    Remote(Arc<Remote>),
}

struct Setup {
    progress: Progress,
    state: State,
    claim: Option<Arc<Claim<StreamSocket>>>,
    local: Option<Endpoint>,
    /// The program chose the port, or the address: they outlive a connection.
    chose_port: bool,
    chose_ip: bool,
}

impl Setup {
    fn new(state: State, progress: Progress) -> Setup {
        let (claim, local) = (None, None);
        Setup { progress, state, claim, local, chose_port: false, chose_ip: false }
    }

    /// Its port may be used towards other peers, unless it is still to be connected: from then on the connection is in the
    /// table that says so.
    fn has_connected(&self) {
        if let Some(claim) =
            self.claim.as_ref().filter(|_| !matches!(self.state, State::Connecting(..)))
        {
            claim.has_connected();
        }
    }

    /// Back to where `bind(2)` left it.
    fn unconnect(&mut self) -> State {
        self.progress = Progress::Unconnected;
        if !self.chose_port {
            self.claim = None;
        }
        self.local = self.local.map(|local| {
            let ip = if self.chose_ip {
                local.ip
            } else if local.ip.is_ipv4() {
                addr::any(addr::AF_INET)
            } else {
                addr::any(addr::AF_INET6)
            };
            // The port is told of even when it is no longer taken, as by Linux.
            Endpoint { ip, port: local.port }
        });
        std::mem::replace(&mut self.state, State::Closed)
    }
}

impl StreamSocket {
    /// A closed socket of `family`.
    pub fn new(family: i32, net: &Arc<Net>, options: Options) -> Arc<StreamSocket> {
        options.set_rcvbuf(DEFAULT_RCVBUF);
        let common = Common::new(family, net, options);
        let setup = Setup::new(State::Closed, Progress::Unconnected);
        StreamSocket::with(common, TcpOptions::default(), setup, DEFAULT_SNDBUF, Arc::default())
    }

    fn with(
        common: Common,
        tcp: TcpOptions,
        setup: Setup,
        sndbuf: usize,
        core: Arc<Core>,
    ) -> Arc<StreamSocket> {
        Arc::new_cyclic(|this| StreamSocket {
            this: this.clone(),
            common,
            tcp,
            core,
            sndbuf: AtomicUsize::new(sndbuf),
            setup: Mutex::new(setup),
            listener: Mutex::new(None),
            patience: Mutex::new(None),
            again: Mutex::new(None),
        })
    }

    /// What all Internet sockets have.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// True if it listens.
    fn accepts(&self) -> bool {
        self.listener.lock().is_some()
    }

    /// The connection, if there is one.
    pub fn connection(&self) -> Option<Arc<Connected>> {
        match &self.setup.lock().state {
            State::Connected(connected) => Some(connected.clone()),
            _ => None,
        }
    }

    fn accepting(&self) -> Option<Arc<Listener>> {
        self.listener.lock().clone()
    }

    /// Its own address and the peer's, as far as there are any.
    pub fn endpoints(&self) -> (Option<Endpoint>, Option<Endpoint>) {
        let setup = self.setup.lock();
        match &setup.state {
            State::Connected(c) => (Some(c.local), Some(c.peer)),
            State::Remote(r) => (Some(r.local), Some(r.peer)),
            State::Connecting(peer, _) => (setup.local, Some(*peer)),
            _ => (setup.local, None),
        }
    }

    /// Number of its state (`/proc/net/tcp`).
    pub fn state_number(&self) -> u8 {
        match &self.setup.lock().state {
            State::Closed => TCP_CLOSE,
            State::Listening(_) => TCP_LISTEN,
            State::Connecting(..) => TCP_SYN_SENT,
            State::Connected(c) => c.state_number(),
            State::Remote(r) => r.state_number(),
        }
    }

    /// Bytes to be received and to be sent; of a listener: connections that wait, and its backlog.
    pub fn queued(&self) -> (usize, usize) {
        match &self.setup.lock().state {
            // The end of the stream has a place in it, too.
            State::Connected(c) => (c.rx.len() + usize::from(self.core.has(DONE)), c.unsent()),
            State::Remote(r) => r.queued(),
            State::Listening(l) => (l.pending(), l.backlog() as usize),
            // The SYN.
            State::Connecting(..) => (0, 1),
            _ => (0, 0),
        }
    }

    /// The send buffer once it is connected.
    fn connected_sndbuf(&self) -> usize {
        if !self.common.sndbuf_locked() {
            self.sndbuf.store(LOOPBACK_SNDBUF, Ordering::Relaxed);
        }
        self.sndbuf.load(Ordering::Relaxed)
    }

    /// The queue for what this socket sends to one with `receiver`'s buffers.
    fn half_to(&self, receiver: &StreamSocket) -> Arc<Half> {
        Arc::new(Half::new(receiver.common.options.rcvbuf(), self.connected_sndbuf()))
    }

    /// Connects `self`, whose setup the caller has locked, with a new socket of the listener `host`, which sees the
    /// connection come from and to other endpoints if the packet filter has translated it.
    fn join(
        &self,
        setup: &mut Setup,
        tuple: Tuple,
        (from, to): (Endpoint, Endpoint),
        host: &StreamSocket,
        listener: &Arc<Listener>,
    ) -> Result<()> {
        let Tuple { local, peer } = tuple;
        let net = &self.common.net;
        let child = host.child();
        let (there, back) = (self.half_to(&child), child.half_to(self));
        let entry = net.connections.enter(tuple, self.this.clone()).ok_or(Errno::EADDRNOTAVAIL)?;
        let reverse = Tuple { local: to, peer: from };
        let other = net.connections.enter(reverse, child.this.clone());
        let other = other.ok_or(Errno::EADDRNOTAVAIL)?;
        // A new connection takes the place of what is left of an older one.
        net.time_wait.forget(&tuple);
        net.time_wait.forget(&reverse);
        let halves = (back.clone(), there.clone());
        let (ours, theirs) = (self.core.clone(), child.core.clone());
        let claims = [setup.claim.clone(), Some(listener.claim().clone())];
        let families = [self.common.family(), host.common.family()];
        let link = Link::new(net, entry, Some(other), families, claims);
        let end = (link.clone(), 1);
        let server =
            Connected::new(net, (to, from), halves, theirs.clone(), ours.clone(), None, end);
        let end = server.clone();
        {
            // Only those who list the sockets can hold the new one's lock, and they hold no other.
            let mut place = loop {
                match child.setup.try_lock() {
                    Some(place) => break place,
                    None => std::thread::yield_now(),
                }
            };
            place.claim = Some(listener.claim().clone());
            place.local = Some(to);
            place.state = State::Connected(server);
            // It has neither port nor address of its own once it is disconnected.
            (place.chose_port, place.chose_ip) = (false, listener.chose_ip());
        }
        net.show_handshake((local, peer), (to, from), (&there, &back));
        let seconds = host.tcp.defer_accept();
        let deferred = (seconds > 0).then(|| Deferred::new(listener.clone(), child.clone()));
        if let Some(deferred) = &deferred {
            let target: Weak<Deferred> = Arc::downgrade(deferred);
            let after = u64::from(seconds).saturating_mul(1_000_000_000);
            net.after(after, target);
        } else if !listener.push(child.clone()) {
            end.close(true, None);
            return Err(Errno::ECONNREFUSED);
        }
        let end = (link, 0);
        let client = Connected::new(net, (local, peer), (there, back), ours, theirs, deferred, end);
        setup.local = Some(local);
        setup.state = State::Connected(client);
        setup.has_connected();
        Counters::add(&net.counters.tcp_passive_opens, 1);
        // A SYN with an acknowledgement, and the acknowledgement.
        net.counters.segment(0, to.ip.is_ipv6());
        net.counters.segment(0, to.ip.is_ipv6());
        Ok(())
    }

    /// A socket that connects to its own port meets itself (RFC 9293, 3.5, simultaneous open).
    fn join_itself(&self, setup: &mut Setup, local: Endpoint) -> Result<()> {
        let half = self.half_to(self);
        let net = &self.common.net;
        let tuple = Tuple { local, peer: local };
        let entry = net.connections.enter(tuple, self.this.clone()).ok_or(Errno::EADDRNOTAVAIL)?;
        let halves = (half.clone(), half);
        let core = self.core.clone();
        net.time_wait.forget(&tuple);
        let link =
            Link::new(net, entry, None, [self.common.family(); 2], [setup.claim.clone(), None]);
        let end = Connected::new(net, (local, local), halves, core.clone(), core, None, (link, 0));
        setup.local = Some(local);
        setup.state = State::Connected(end);
        Ok(())
    }

    fn child(&self) -> Arc<StreamSocket> {
        let setup = Setup::new(State::Closed, Progress::Connected);
        let sndbuf = self.sndbuf.load(Ordering::Relaxed);
        let tcp = self.tcp.clone();
        StreamSocket::with(self.common.child(), tcp, setup, sndbuf, Arc::default())
    }

    /// Resets the connection (nobody has accepted it).
    fn abort(&self) {
        if let Some(connected) = self.connection() {
            connected.close(true, None);
        }
        if let Some(remote) = self.remote() {
            remote.abort();
        }
    }

    /// The connection that was asked for does not come about.
    fn refuse(&self) {
        {
            let mut setup = self.setup.lock();
            if !matches!(setup.state, State::Connecting(..)) {
                return;
            }
            setup.state = State::Closed;
        }
        Counters::add(&self.common.net.counters.tcp_attempt_fails, 1);
        self.core.fail(Errno::ECONNREFUSED);
    }

    /// There is room in the backlog now: goes on with connecting to `host`.
    fn admit(&self, host: &StreamSocket, listener: &Arc<Listener>) {
        let result = {
            let mut setup = self.setup.lock();
            let State::Connecting(peer, seen) = setup.state else { return };
            let Some(local) = setup.local else { return };
            self.join(&mut setup, Tuple { local, peer }, seen, host, listener)
        };
        match result {
            Ok(()) => self.core.queue.notify(WRITABLE),
            Err(_) => self.refuse(),
        }
    }

    /// True if the connection is over or never was: what `TCP_CLOSE` means for a program.
    fn is_closed(&self, state: &State) -> bool {
        match state {
            State::Closed => true,
            State::Connected(_) => self.core.is_over(),
            State::Remote(remote) => remote.is_closed(),
            _ => false,
        }
    }

    /// Ends whatever it does.
    fn shut_state(&self, state: State, linger_reset: bool) {
        match state {
            State::Closed | State::Connecting(..) => self.core.set(RCV | SEND | DEAD),
            State::Listening(listener) => {
                let old = self.listener.lock().take();
                drop(old);
                listener.close();
            }
            State::Connected(connected) => {
                connected.close(linger_reset, self.tcp.fin_timeout(&self.common.net.settings));
                self.common.net.filter_closed(connected.local, connected.peer, linger_reset);
            }
            State::Remote(remote) => {
                if linger_reset {
                    remote.abort();
                }
                self.common.net.filter_closed(remote.local, remote.peer, linger_reset);
                // The stack goes on with what is still to be sent.
                drop(remote);
                self.core.set(RCV | SEND | DEAD);
            }
        }
    }
}
