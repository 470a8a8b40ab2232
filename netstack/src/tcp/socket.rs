//! The handle to a TCP endpoint.

use super::conn::{Conn, Start, State, Urgent};
use super::listen::Listener;
use super::options::{TcpInfo, TcpOptions, TcpStateName};
use super::receive::Reading;
use super::{Cx, Role, TcpEndpoint, TcpState};
use crate::demux::{FourTuple, canonical, check_family};
use crate::endpoint::{EndpointId, Family, Readiness, Shutdown, Waker};
use crate::error::{Error, Result};
use crate::random::siphash;
use crate::rxbuf::{Kept, RxBuffer};
use crate::stack::Stack;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The least buffer that an option can ask for.
const MIN_BUFFER: usize = 2048;

/// A TCP endpoint. Dropping it closes it as close(2) does: what was written is still sent.
#[derive(Debug)]
pub struct TcpSocket {
    stack: Arc<Stack>,
    endpoint: Arc<TcpEndpoint>,
}

impl Stack {
    /// A new TCP endpoint, not bound.
    ///
    /// # Errors
    /// [`Error::NoBuffers`] when there are too many endpoints.
    pub fn tcp(&self, family: Family) -> Result<TcpSocket> {
        let stack = self.arc().ok_or(Error::Invalid)?;
        let id = self.new_endpoint()?;
        let state = TcpState::new(TcpOptions::new(&self.config));
        let endpoint = TcpEndpoint::new(&stack, id, family, state);
        Ok(TcpSocket { stack, endpoint })
    }
}

impl TcpSocket {
    fn run<R>(&self, f: impl FnOnce(&mut TcpState, &mut Cx<'_>) -> R) -> R {
        let out = self.endpoint.run(&self.stack, f);
        self.stack.flush();
        out
    }

    /// The endpoint's name.
    pub fn id(&self) -> EndpointId {
        self.endpoint.id
    }

    /// Binds to a local address; port 0 takes a free one.
    ///
    /// # Errors
    /// [`Error::Invalid`] when bound already, [`Error::AddressNotAvailable`], [`Error::AddressInUse`],
    /// [`Error::Family`].
    pub fn bind(&self, addr: SocketAddr) -> Result<()> {
        let mut state = self.endpoint.state.lock();
        if state.port != 0 || !matches!(state.role, Role::Idle) {
            return Err(Error::Invalid);
        }
        let any = addr.ip().is_unspecified();
        let addr = match any {
            true if self.endpoint.family == Family::V4 && addr.is_ipv6() => {
                return Err(Error::Family);
            }
            true => addr,
            false => check_family(self.endpoint.family, state.options.v6_only, addr)?,
        };
        if !any && !self.stack.is_local(addr.ip()) {
            return Err(Error::AddressNotAvailable);
        }
        self.take_port(&mut state, (!any).then_some(addr.ip()), addr.port())
    }

    fn take_port(&self, state: &mut TcpState, addr: Option<IpAddr>, port: u16) -> Result<()> {
        let demux = &self.stack.demux;
        if port != 0 && !state.options.reuse_addr && demux.time_wait.lock().has_port(port) {
            return Err(Error::AddressInUse);
        }
        state.addr = addr;
        let bound = self.endpoint.bound(state);
        let start = self.stack.random.next_u64();
        let mut ports = demux.tcp_ports.lock();
        let taken = match port {
            0 => ports.bind_any(self.stack.config.local_ports, start, bound),
            port => ports.bind(port, bound).map(|()| port),
        };
        match taken {
            Ok(port) => state.port = port,
            Err(_) => state.addr = None,
        }
        taken.map(|_| ())
    }

    /// Listens, with room for `backlog` connections to wait; listening already, changes the backlog.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a connection; [`Error::AddressInUse`] when another listens there.
    pub fn listen(&self, backlog: usize) -> Result<()> {
        let backlog = backlog.min(self.stack.config.tcp.max_backlog);
        let mut state = self.endpoint.state.lock();
        match &mut state.role {
            Role::Listen(l) => {
                l.backlog = backlog;
                return Ok(());
            }
            Role::Conn(c) if c.state != State::Closed => return Err(Error::Invalid),
            Role::Conn(_) | Role::Idle => {}
        }
        if state.port == 0 {
            self.take_port(&mut state, None, 0)?;
        }
        state.role = Role::Listen(Box::new(Listener::new(backlog, self.stack.keys.hash)));
        let bound = self.endpoint.bound(&state);
        let bind = self.stack.demux.tcp_ports.lock().bind(state.port, bound);
        if let Err(error) = bind {
            state.role = Role::Idle;
            return Err(error);
        }
        self.stack.demux.listeners.insert(state.port, bound, self.endpoint.clone());
        Ok(())
    }

    /// Takes the next connection that is complete, and its peer.
    ///
    /// # Errors
    /// [`Error::WouldBlock`]; [`Error::Invalid`] when not listening.
    pub fn accept(&self) -> Result<(Self, SocketAddr)> {
        let child = {
            let mut state = self.endpoint.state.lock();
            let Role::Listen(l) = &mut state.role else { return Err(Error::Invalid) };
            l.accept.pop_front().ok_or(Error::WouldBlock)?
        };
        let peer = child.state.lock().conn().map(|c| c.tuple.remote).ok_or(Error::Invalid)?;
        Ok((Self { stack: self.stack.clone(), endpoint: child }, peer))
    }

    /// Begins to connect. The endpoint becomes writable when it is connected or has failed.
    ///
    /// # Errors
    /// [`Error::InProgress`] when all is well; [`Error::Already`], [`Error::IsConnected`], a pending error of
    /// the last attempt, or what a route or a port lacks.
    pub fn connect(&self, remote: SocketAddr) -> Result<()> {
        let out = self.run(|state, cx| {
            match &mut state.role {
                Role::Listen(_) => return Err(Error::IsConnected),
                Role::Conn(c) => match c.state {
                    State::SynSent | State::SynReceived => return Err(Error::Already),
                    State::Closed => {
                        if let Some(error) = c.error.take() {
                            return Err(error);
                        }
                        // Another attempt starts from nothing.
                        state.role = Role::Idle;
                    }
                    _ => return Err(Error::IsConnected),
                },
                Role::Idle => {}
            }
            let remote = check_family(self.endpoint.family, state.options.v6_only, remote)?;
            if remote.port() == 0 {
                return Err(Error::AddressNotAvailable);
            }
            let remote = match remote.ip() {
                // As Linux: "any" means this host.
                IpAddr::V4(a) if a.is_unspecified() => (Ipv4Addr::LOCALHOST, remote.port()).into(),
                IpAddr::V6(a) if a.is_unspecified() => (Ipv6Addr::LOCALHOST, remote.port()).into(),
                _ => remote,
            };
            if remote.ip().is_multicast() {
                return Err(Error::NetworkUnreachable);
            }
            self.open(state, cx, remote)
        });
        out.and(Err(Error::InProgress))
    }

    fn open(&self, state: &mut TcpState, cx: &mut Cx<'_>, remote: SocketAddr) -> Result<()> {
        let stack = &self.stack;
        let route = stack.find_route(remote.ip(), state.addr, state.options.iface)?;
        let ends = |port: u16| {
            FourTuple::new((state.addr.unwrap_or(route.src), port), (remote.ip(), remote.port()))
        };
        let mut iss = None;
        let tuple = if state.port != 0 {
            let tuple = ends(state.port);
            if !self.reserve(&tuple, &mut iss) {
                return Err(Error::AddressNotAvailable);
            }
            tuple
        } else {
            // A port that is free for this peer; other peers may have it, too.
            let (low, high) = stack.config.local_ports;
            let count = u64::from(high.saturating_sub(low)) + 1;
            let hash = siphash(stack.keys.port, &ends(0).words());
            let cursor = stack.port_cursors.get(hash as usize % stack.port_cursors.len().max(1));
            let used = cursor.map_or(0, |c| c.fetch_add(1, Ordering::Relaxed));
            let start = (hash >> 8).wrapping_add(used.into());
            let mut candidates = (0..count).map(|n| low + (start.wrapping_add(n) % count) as u16);
            let found = candidates.find(|&port| {
                let free = stack.demux.tcp_ports.lock().is_free(port);
                free && self.reserve(&ends(port), &mut iss)
            });
            ends(found.ok_or(Error::AddressNotAvailable)?)
        };
        let start = Start {
            tuple,
            state: State::SynSent,
            options: state.options.clone(),
            iss: iss.unwrap_or_else(|| stack.new_iss(&tuple)),
            ts_offset: stack.ts_offset(&tuple),
        };
        match Conn::open(cx, start) {
            Ok(conn) => {
                if state.port == 0 {
                    state.port = tuple.local.port();
                    state.held = Some(true);
                    stack.demux.tcp_ports.lock().hold(state.port, true);
                }
                state.role = Role::Conn(Box::new(conn));
                Ok(())
            }
            Err(error) => {
                stack.demux.tcp.remove(&tuple, Arc::as_ptr(&self.endpoint));
                Err(error)
            }
        }
    }

    /// Takes a four-tuple. One in TIME-WAIT is free again after a second, when its time stamps protect it
    /// (`tcp_tw_reuse`).
    fn reserve(&self, tuple: &FourTuple, iss: &mut Option<super::Seq>) -> bool {
        let mut table = self.stack.demux.time_wait.lock();
        if let Some(record) = table.get(tuple).copied() {
            let old = self.stack.now().since(record.since) > Duration::from_secs(1);
            if !record.stamps_on || !old {
                return false;
            }
            *iss = Some(record.next_iss);
            if !self.stack.demux.tcp.insert(*tuple, self.endpoint.clone()) {
                return false;
            }
            table.remove(tuple);
            return true;
        }
        drop(table);
        self.stack.demux.tcp.insert(*tuple, self.endpoint.clone())
    }

    /// Queues data to be sent; how much there was room for.
    ///
    /// # Errors
    /// A pending error first; [`Error::WouldBlock`]; [`Error::BrokenPipe`] when not connected, or not any more.
    pub fn send(&self, data: &[u8]) -> Result<usize> {
        self.write(data, None, false)
    }

    /// As [`send`](Self::send) of the first `n` bytes of a buffer, where they may stay.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_kept(&self, buffer: &Arc<RxBuffer>, n: usize) -> Result<usize> {
        let data = buffer.bytes();
        self.write(data.get(..n).unwrap_or(data), Some(buffer), false)
    }

    /// As [`send`](Self::send), with the last byte urgent (`MSG_OOB`).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_urgent(&self, data: &[u8]) -> Result<usize> {
        self.write(data, None, true)
    }

    fn write(&self, data: &[u8], buffer: Option<&Arc<RxBuffer>>, urgent: bool) -> Result<usize> {
        self.run(|state, cx| {
            let c = state.conn().ok_or(Error::BrokenPipe)?;
            if let Some(error) = c.error.take() {
                return Err(error);
            }
            match c.state {
                State::SynSent | State::SynReceived if !c.snd.fin => return Err(Error::WouldBlock),
                _ if c.snd.fin => return Err(Error::BrokenPipe),
                State::Established | State::CloseWait => {}
                _ => return Err(Error::BrokenPipe),
            }
            let room = c.snd.buffer.saturating_sub(c.snd.tx.len());
            let n = data.len().min(room);
            let data = data.get(..n).unwrap_or_default();
            if n == 0 || !(c.snd.tx.keep(buffer, data) || c.snd.tx.append(data)) {
                return if data.is_empty() && room > 0 { Ok(0) } else { Err(Error::WouldBlock) };
            }
            if urgent {
                c.snd.up = Some(c.data_end());
            }
            c.output(cx);
            Ok(n)
        })
    }

    /// Receives; 0 is the end of the stream.
    ///
    /// # Errors
    /// A pending error behind the data; [`Error::WouldBlock`]; [`Error::NotConnected`].
    pub fn recv(&self, to: &mut [u8]) -> Result<usize> {
        self.read(Reading::Take(to))
    }

    /// Receives up to `n` bytes and forgets them: what was looked at before, or is not wanted.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn discard(&self, n: usize) -> Result<usize> {
        self.read(Reading::Discard(n))
    }

    /// What is first in the receive buffer, where it need not be copied for that; it stays there.
    pub fn lend(&self) -> Option<Kept> {
        self.run(|state, _| state.conn().and_then(|c| c.lend()))
    }

    /// Receives and leaves the data where it is.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn peek(&self, to: &mut [u8]) -> Result<usize> {
        self.read(Reading::Peek(to))
    }

    fn read(&self, how: Reading<'_>) -> Result<usize> {
        self.run(|state, cx| match &mut state.role {
            Role::Conn(c) if c.state == State::SynSent => Err(Error::WouldBlock),
            Role::Conn(c) => c.read(cx, how),
            _ => Err(Error::NotConnected),
        })
    }

    /// Receives the urgent byte (`MSG_OOB`).
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is none, it was read, or it is inline; [`Error::WouldBlock`] when it
    /// was announced and has not come.
    pub fn recv_urgent(&self, peek: bool) -> Result<u8> {
        let mut state = self.endpoint.state.lock();
        let c = state.conn().ok_or(Error::NotConnected)?;
        if c.options.oob_inline {
            return Err(Error::Invalid);
        }
        match c.rcv.urgent {
            Urgent::Ready(at, byte) => {
                if !peek {
                    c.rcv.urgent = Urgent::Taken(at);
                }
                Ok(byte)
            }
            Urgent::Expected(_) => Err(Error::WouldBlock),
            Urgent::None | Urgent::Taken(_) => Err(Error::Invalid),
        }
    }

    /// The next byte to be read is the urgent one (`SIOCATMARK`).
    pub fn at_mark(&self) -> bool {
        self.endpoint.state.lock().conn().is_some_and(|c| c.mark() == Some(0))
    }

    /// Bytes to be read, and bytes sent or to be sent and not acknowledged (`SIOCINQ`, `SIOCOUTQ`).
    pub fn queued(&self) -> (usize, usize) {
        let mut state = self.endpoint.state.lock();
        state.conn().map_or((0, 0), |c| (c.readable(), c.snd.tx.len()))
    }

    /// Shuts down one or both directions.
    ///
    /// # Errors
    /// [`Error::NotConnected`].
    pub fn shutdown(&self, how: Shutdown) -> Result<()> {
        let mut children = Vec::new();
        let out = self.run(|state, cx| match &mut state.role {
            Role::Idle => Err(Error::NotConnected),
            Role::Listen(l) if how != Shutdown::Write => {
                children.extend(l.accept.drain(..));
                self.stack.demux.listeners.remove(state.port, self.endpoint.id);
                state.role = Role::Idle;
                cx.events |= Readiness::IN | Readiness::HUP;
                Ok(())
            }
            Role::Listen(_) => Ok(()),
            Role::Conn(c) => c.shutdown(cx, how),
        });
        self.drop_children(children);
        out
    }

    /// Ends the connection with a reset.
    pub fn abort(&self) {
        self.run(|state, cx| {
            if let Some(c) = state.conn()
                && c.state != State::Closed
            {
                c.abort(cx);
            }
        });
    }

    /// Takes the pending error (`SO_ERROR`).
    pub fn take_error(&self) -> Option<Error> {
        self.endpoint.state.lock().conn().and_then(|c| c.error.take())
    }

    /// The local address; the port is 0 when not bound.
    pub fn local_addr(&self) -> SocketAddr {
        let mut state = self.endpoint.state.lock();
        if let Some(c) = state.conn() {
            return c.tuple.local;
        }
        let any = match self.endpoint.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        canonical(SocketAddr::new(state.addr.unwrap_or(any), state.port))
    }

    /// The peer, once there is one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        let mut state = self.endpoint.state.lock();
        let c = state.conn()?;
        (c.is_synchronized()).then_some(c.tuple.remote)
    }

    /// The options.
    pub fn options(&self) -> TcpOptions {
        self.endpoint.state.lock().options.clone()
    }

    /// Sets the options. They act at once, except where their documentation says otherwise.
    pub fn set_options(&self, options: TcpOptions) {
        let mut options = options;
        options.rcvbuf = options.rcvbuf.map(|n| n.max(MIN_BUFFER));
        options.sndbuf = options.sndbuf.map(|n| n.max(MIN_BUFFER));
        self.run(|state, cx| {
            state.options = options;
            if state.port != 0 && !matches!(state.role, Role::Conn(_)) {
                let bound = self.endpoint.bound(state);
                if matches!(state.role, Role::Listen(_)) {
                    let listeners = &self.stack.demux.listeners;
                    listeners.insert(state.port, bound, self.endpoint.clone());
                }
            }
            let options = state.options.clone();
            let Some(c) = state.conn() else { return };
            let quick = options.quickack && !c.options.quickack;
            if let Some(n) = options.rcvbuf {
                c.rcv.buffer = n;
            }
            if let Some(n) = options.sndbuf {
                c.snd.buffer = n;
            }
            let path =
                c.options.max_segment != options.max_segment || c.options.iface != options.iface;
            c.options = options;
            if path {
                c.route = None;
            }
            if quick && c.at.delack.is_some() {
                c.ack.now = true;
            }
            c.arm_keepalive(cx.now);
            // No delay, no cork: what was held back goes.
            c.output(cx);
        });
    }

    /// What the endpoint is ready for.
    pub fn readiness(&self) -> Readiness {
        let state = self.endpoint.state.lock();
        match &state.role {
            Role::Idle => Readiness::OUT | Readiness::HUP,
            Role::Listen(l) if l.accept.is_empty() => Readiness::empty(),
            Role::Listen(_) => Readiness::IN,
            Role::Conn(c) => c.readiness(),
        }
    }

    /// Registers who is told about readiness; one at a time.
    pub fn set_waker(&self, waker: Option<Arc<dyn Waker>>) {
        self.endpoint.waker.set(waker);
    }

    /// The state of the endpoint. A connection in TIME-WAIT is closed to its endpoint.
    pub fn state(&self) -> TcpStateName {
        match &self.endpoint.state.lock().role {
            Role::Idle => TcpStateName::Closed,
            Role::Listen(_) => TcpStateName::Listen,
            Role::Conn(c) => name(c.state),
        }
    }

    /// `TCP_INFO`.
    pub fn info(&self) -> TcpInfo {
        let mut state = self.endpoint.state.lock();
        let mut info = TcpInfo {
            state: TcpStateName::Closed,
            backoff: 0,
            negotiated: [false; 4],
            shifts: (0, 0),
            rto: super::rtt::RTO_INIT,
            rtt: (Duration::ZERO, Duration::ZERO),
            min_rtt: None,
            snd_mss: 536,
            cwnd: 0,
            ssthresh: u32::MAX,
            unacked: 0,
            sacked: 0,
            lost: 0,
            total_retrans: 0,
            bytes_acked: 0,
            bytes_received: 0,
            snd_wnd: 0,
            rcv_wnd: 0,
            buffers: (0, 0),
            backlog: (0, 0),
        };
        match &mut state.role {
            Role::Idle => {}
            Role::Listen(l) => {
                info.state = TcpStateName::Listen;
                info.backlog = (l.accept.len(), l.backlog);
                info.unacked = l.half_open() as u32;
            }
            Role::Conn(c) => fill_info(&mut info, c),
        }
        info
    }

    fn drop_children(&self, children: Vec<Arc<TcpEndpoint>>) {
        for child in children {
            child.run(&self.stack, |state, cx| {
                if let Some(c) = state.conn()
                    && c.state != State::Closed
                {
                    c.detached = true;
                    c.abort(cx);
                }
            });
        }
        self.stack.flush();
    }
}

fn fill_info(info: &mut TcpInfo, c: &Conn) {
    info.state = name(c.state);
    info.backoff = c.rtt.backoff;
    info.negotiated = [c.stamps.on, c.sack_on, c.scaling_on, c.ecn.on];
    info.shifts = (c.rcv.shift, c.snd.shift);
    info.rto = c.rtt.rto();
    info.rtt = (c.rtt.srtt.unwrap_or_default(), c.rtt.var);
    info.min_rtt = c.rtt.min;
    info.snd_mss = c.snd.mss;
    info.cwnd = c.cc.cwnd;
    info.ssthresh = c.cc.ssthresh;
    info.unacked = c.snd.nxt.since(c.snd.una);
    info.sacked = c.board.sacked();
    info.lost = c.board.lost();
    info.total_retrans = c.total_retrans;
    info.bytes_acked = c.bytes_acked;
    info.bytes_received = c.bytes_received;
    info.snd_wnd = c.snd.wnd;
    info.rcv_wnd = c.rcv.edge.since(c.rcv.nxt);
    info.buffers = (c.rcv.buffer, c.snd.buffer);
}

/// The RFC's name of a connection's state.
pub(super) fn name(state: State) -> TcpStateName {
    match state {
        State::SynSent => TcpStateName::SynSent,
        State::SynReceived => TcpStateName::SynReceived,
        State::Established => TcpStateName::Established,
        State::FinWait1 => TcpStateName::FinWait1,
        State::FinWait2 => TcpStateName::FinWait2,
        State::CloseWait => TcpStateName::CloseWait,
        State::Closing => TcpStateName::Closing,
        State::LastAck => TcpStateName::LastAck,
        State::Closed => TcpStateName::Closed,
    }
}

impl Drop for TcpSocket {
    fn drop(&mut self) {
        let mut children = Vec::new();
        let port = self.run(|state, cx| {
            match std::mem::replace(&mut state.role, Role::Idle) {
                Role::Idle => {}
                Role::Listen(mut l) => {
                    children.extend(l.accept.drain(..));
                    self.stack.demux.listeners.remove(state.port, self.endpoint.id);
                }
                Role::Conn(mut c) => {
                    let open = c.state != State::Closed;
                    if open {
                        c.detach(cx);
                    }
                    if open && c.state != State::Closed {
                        state.orphan = true;
                        self.stack.orphans.fetch_add(1, Ordering::Relaxed);
                        // A port that was bound stays a connection's until its end.
                        if state.held.is_none() {
                            let reusable = state.options.reuse_addr;
                            state.held = Some(reusable);
                            self.stack.demux.tcp_ports.lock().hold(state.port, reusable);
                        }
                    }
                    state.role = Role::Conn(c);
                }
            }
            state.port
        });
        self.endpoint.waker.set(None);
        if port != 0 {
            self.stack.demux.tcp_ports.lock().release(port, self.endpoint.id);
        }
        self.drop_children(children);
    }
}
