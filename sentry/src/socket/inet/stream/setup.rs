//! Binding, listening and connecting.

use super::core::{DEAD, RCV, SEND, WRITABLE};
use super::listening::{Listener, Offer, Patience};
use super::{Progress, Setup, State, StreamSocket, Tuple};
use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, Wake};
use crate::socket::family::AF_UNSPEC;
use crate::socket::inet::addr::{self, AF_INET, Endpoint};
use crate::socket::inet::port::Binding;
use crate::socket::inet::uplink::error::errno;
use crate::socket::inet::{Counters, ip};
use crate::socket::options::so;
use crate::wait::EventMask;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

impl StreamSocket {
    fn binding(&self, ip: IpAddr) -> Binding {
        let options = &self.common.options;
        Binding {
            ip,
            only_v6: self.common.ip.is_on(ip::V6ONLY),
            v4_socket: self.common.family() == AF_INET,
            device: self.common.device(),
            reuse_addr: options.is_on(so::REUSEADDR),
            reuse_port: options.is_on(so::REUSEPORT),
            uid: options.creator.uid,
            listening: false,
            peer: None,
            range: self.common.ip.value(ip::PORT_RANGE) as u32,
            by_connect: false,
        }
    }

    /// `bind(2)`.
    pub(super) fn do_bind(&self, t: &CurrentTask, address: &[u8]) -> Result<()> {
        let common = &self.common;
        let at = addr::parse_bind(common.family(), address)?;
        if common.family() != AF_INET {
            if at.ip.is_multicast() {
                return Err(Errno::EINVAL);
            }
            if at.ip.is_ipv4() && common.ip.is_on(ip::V6ONLY) {
                return Err(Errno::EINVAL);
            }
        }
        if !common.net.may_bind(at.ip) && !common.ip.is_on(ip::FREEBIND) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if !common.net.may_use_port(t, at.port) {
            return Err(Errno::EACCES);
        }
        let mut setup = self.setup.lock();
        if !self.is_closed(&setup.state) || setup.claim.is_some() {
            return Err(Errno::EINVAL);
        }
        if at.port == 0 && common.ip.is_on(ip::BIND_NO_PORT) && !at.ip.is_unspecified() {
            // The port is chosen by connect(2), which knows the peer.
            setup.local = Some(at);
            setup.chose_ip = true;
            return Ok(());
        }
        let claim = common.net.tcp.bind(at.port, self.binding(at.ip), &self.this)?;
        setup.local = Some(Endpoint { ip: at.ip, port: claim.port() });
        setup.claim = Some(claim);
        setup.chose_port = at.port != 0;
        setup.chose_ip = !at.ip.is_unspecified();
        Ok(())
    }

    /// `listen(2)`.
    pub(super) fn do_listen(&self, backlog: i32) -> Result<()> {
        let backlog =
            (backlog as u32).min(self.common.net.settings.somaxconn.load(Ordering::Relaxed));
        let mut setup = self.setup.lock();
        if setup.progress != Progress::Unconnected {
            return Err(Errno::EINVAL);
        }
        match &setup.state {
            State::Listening(listener) => {
                listener.set_backlog(backlog);
                if let Some(tcp) = listener.remote() {
                    tcp.listen(backlog as usize).map_err(errno)?;
                }
                return Ok(());
            }
            State::Closed => {}
            _ => return Err(Errno::EINVAL),
        }
        let claim = match &setup.claim {
            Some(claim) => claim.clone(),
            None => {
                let ip = setup.local.map_or(addr::any(self.common.family()), |l| l.ip);
                let claim = self.common.net.tcp.bind(0, self.binding(ip), &self.this)?;
                setup.local = Some(Endpoint { ip, port: claim.port() });
                claim
            }
        };
        let fresh = self.binding(setup.local.map_or(addr::any(self.common.family()), |l| l.ip));
        claim.update(true, |binding| *binding = Binding { listening: true, ..fresh })?;
        let at = Endpoint { ip: fresh.ip, port: claim.port() };
        let remote = match self.listen_remote(at, backlog) {
            Ok(remote) => remote,
            Err(e) => {
                claim.update(false, |binding| *binding = fresh)?;
                return Err(e);
            }
        };
        setup.claim = Some(claim.clone());
        self.core.clear();
        let listener = Listener::new(self.core.clone(), claim, (backlog, setup.chose_ip), remote);
        setup.state = State::Listening(listener.clone());
        let old = self.listener.lock().replace(listener);
        drop(setup);
        drop(old);
        Ok(())
    }

    /// `connect(2)`.
    pub(super) fn do_connect(
        &self,
        t: &mut CurrentTask,
        address: &[u8],
        nonblocking: bool,
    ) -> Result<()> {
        if addr::family_of(address)? == AF_UNSPEC {
            return self.disconnect();
        }
        let progress = self.setup.lock().progress;
        let mut late = Errno::EINPROGRESS;
        match progress {
            Progress::Connected => return Err(Errno::EISCONN),
            Progress::Connecting => {
                late = Errno::EALREADY;
                if nonblocking && !self.connecting_ended() {
                    return Err(late);
                }
            }
            Progress::Unconnected => {
                self.start(address)?;
                if nonblocking {
                    return Err(Errno::EINPROGRESS);
                }
            }
        }
        if !self.connecting_ended() {
            self.wait_connected(t, late)?;
        }
        self.finish_connect()
    }

    fn connecting_ended(&self) -> bool {
        match &self.setup.lock().state {
            State::Connecting(..) => false,
            State::Remote(remote) => !remote.is_connecting(),
            _ => true,
        }
    }

    fn wait_connected(&self, t: &mut CurrentTask, late: Errno) -> Result<()> {
        let deadline = self.common.options.timeout(true);
        let deadline = deadline.map(|n| t.kernel().time.monotonic().saturating_add(n));
        let key = self.core.queue.add(EventMask::WRITABLE, t.waker());
        let result = loop {
            if self.connecting_ended() {
                break Ok(());
            }
            match t.block(deadline) {
                Wake::Event => {}
                Wake::Timeout => break Err(late),
                Wake::Interrupted if deadline.is_some() => break Err(Errno::EINTR),
                Wake::Interrupted => break Err(Errno::ERESTARTSYS),
            }
        };
        self.core.queue.remove(key);
        result
    }

    /// The result of a connection attempt that has ended.
    fn finish_connect(&self) -> Result<()> {
        let old = {
            let mut setup = self.setup.lock();
            match &setup.state {
                State::Connected(_) if !self.core.has(DEAD) => {
                    setup.progress = Progress::Connected;
                    return Ok(());
                }
                // One that has ended already had begun.
                State::Remote(remote) if !remote.is_closed() => {
                    setup.progress = Progress::Connected;
                    return Ok(());
                }
                _ => setup.unconnect(),
            }
        };
        let error = match &old {
            State::Remote(remote) => remote.take_error(),
            _ => self.core.take_error(),
        };
        let error = error.unwrap_or(Errno::ECONNABORTED);
        self.shut_state(old, false);
        self.core.clear();
        Err(error)
    }

    /// `connect(2)` with `AF_UNSPEC`.
    fn disconnect(&self) -> Result<()> {
        let old = {
            let mut setup = self.setup.lock();
            let old = setup.unconnect();
            if let (State::Listening(_), Some(claim)) = (&old, &setup.claim) {
                claim.update(false, |binding| binding.listening = false)?;
            }
            old
        };
        // An established connection is aborted (RFC 9293, 3.10.5).
        self.shut_state(old, true);
        self.core.take_error();
        self.core.clear();
        Ok(())
    }

    /// Where `connect(2)` is to go, after the checks that cost nothing.
    fn target(&self, address: &[u8]) -> Result<Endpoint> {
        let common = &self.common;
        let mut peer = addr::parse(common.family(), address)?;
        if peer.ip.is_unspecified() {
            peer.ip = addr::loopback_for(peer.ip);
        }
        let foreign = common.family() != AF_INET && peer.ip.is_ipv4();
        if peer.ip.is_multicast()
            || common.net.is_broadcast(peer.ip)
            || (foreign && common.ip.is_on(ip::V6ONLY))
        {
            return Err(Errno::ENETUNREACH);
        }
        Ok(peer)
    }

    /// Begins to connect. Afterwards the socket is connecting, connected, or closed with an error.
    pub fn start(&self, address: &[u8]) -> Result<()> {
        let common = &self.common;
        let net = &common.net;
        if !self.is_closed(&self.setup.lock().state) {
            return Err(Errno::EISCONN);
        }
        let peer = self.target(address)?;
        let route = net.route(peer.ip, common.device())?;
        let mut setup = self.setup.lock();
        if !self.is_closed(&setup.state) {
            return Err(Errno::EISCONN);
        }
        let bound = setup.local.map(|l| l.ip).filter(|ip| !ip.is_unspecified());
        let ip = bound.unwrap_or(route.source);
        if ip.is_ipv4() != peer.ip.is_ipv4() {
            return Err(Errno::EINVAL);
        }
        let claim = match &setup.claim {
            Some(claim) => claim.clone(),
            None => {
                let unused = |port| {
                    let local = Endpoint { ip, port };
                    let tuple = Tuple { local, peer };
                    !net.connections.contains(&tuple) && net.time_wait.may_reuse(&tuple)
                };
                let binding = self.binding(bound.unwrap_or(ip));
                net.tcp.bind_to_connect(binding, peer, &self.this, unused)?
            }
        };
        let local = Endpoint { ip, port: claim.port() };
        if net.connections.contains(&Tuple { local, peer }) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        setup.claim = Some(claim);
        setup.local = Some(local);
        self.core.clear();
        Counters::add(&net.counters.tcp_active_opens, 1);
        if route.local {
            net.counters.segment(0, peer.ip.is_ipv6());
        }
        setup.progress = Progress::Connecting;
        if net.is_filtered() {
            return self.connect_filtered(setup, route, peer);
        }
        if !route.local {
            let begun = self.connect_remote(&mut setup, local, (peer, peer));
            setup.has_connected();
            if begun.is_err() {
                setup.unconnect();
            }
            return begun;
        }
        let tuple = Tuple { local, peer };
        let host = net.tcp.find(peer, local, route.device, |b| b.listening);
        let refused = self.connect_locally(&mut setup, tuple, (local, peer), host.as_deref());
        setup.has_connected();
        drop(setup);
        self.begun(refused);
        Ok(())
    }

    /// Notes how connecting within the sandbox has begun.
    pub(super) fn begun(&self, result: Result<()>) {
        match result {
            Ok(()) => self.core.queue.notify(WRITABLE),
            Err(e) => {
                Counters::add(&self.common.net.counters.tcp_attempt_fails, 1);
                self.core.fail(e);
            }
        }
    }

    /// Connects with a listener of this sandbox. `tuple` is the connection as this socket sees it; the listener
    /// sees it come from and to the endpoints of `seen`.
    pub(super) fn connect_locally(
        &self,
        setup: &mut Setup,
        tuple: Tuple,
        seen: (Endpoint, Endpoint),
        host: Option<&StreamSocket>,
    ) -> Result<()> {
        let net = &self.common.net;
        let listener = host.and_then(|host| Some((host, host.accepting()?)));
        let Some((host, listener)) = listener else {
            if let Some(names) = net.name_server(tuple.peer) {
                return self.connect_name_server(setup, tuple, names);
            }
            if tuple.local == tuple.peer {
                return self.join_itself(setup, tuple.local);
            }
            Counters::add(&net.counters.tcp_resets, 1);
            net.show_attempt(tuple.local, tuple.peer, true);
            // The SYN ended what the other end had kept of an older connection.
            net.time_wait.forget(&Tuple { local: seen.1, peer: seen.0 });
            return Err(Errno::ECONNREFUSED);
        };
        match listener.offer(&self.this) {
            Offer::Room => self.join(setup, tuple, seen, host, &listener),
            Offer::Full => {
                Counters::add(&net.counters.listen_overflows, 1);
                net.show_attempt(tuple.local, tuple.peer, false);
                setup.state = State::Connecting(tuple.peer, seen);
                let patience = Patience::new(self.this.clone());
                let target: Weak<Patience> = Arc::downgrade(&patience);
                *self.patience.lock() = Some(patience);
                net.after(self.tcp.syn_patience(&net.settings), target);
                Ok(())
            }
            Offer::Refused => Err(Errno::ECONNREFUSED),
        }
    }

    /// Nobody has answered the SYN for too long.
    pub(super) fn give_up(&self) {
        {
            let mut setup = self.setup.lock();
            if !matches!(setup.state, State::Connecting(..)) {
                return;
            }
            setup.state = State::Closed;
        }
        self.begun(Err(Errno::ETIMEDOUT));
    }

    /// `shutdown(2)`.
    pub(super) fn do_shutdown(&self, how: i32) -> Result<()> {
        let bits = match how {
            0 => RCV,
            1 => SEND,
            2 => RCV | SEND,
            _ => return Err(Errno::EINVAL),
        };
        let mut setup = self.setup.lock();
        match &setup.state {
            State::Listening(_) if bits & RCV == 0 => Ok(()),
            State::Listening(_) | State::Connecting(..) => {
                let old = setup.unconnect();
                if let Some(claim) = &setup.claim {
                    claim.update(false, |binding| binding.listening = false)?;
                }
                drop(setup);
                self.shut_state(old, false);
                self.core.take_error();
                self.core.clear();
                Ok(())
            }
            State::Remote(remote) if remote.is_connecting() => {
                let old = setup.unconnect();
                drop(setup);
                self.shut_state(old, false);
                self.core.clear();
                Ok(())
            }
            State::Remote(remote) => {
                let remote = remote.clone();
                if setup.progress == Progress::Connecting {
                    setup.progress = Progress::Connected;
                }
                drop(setup);
                remote.shutdown(how)
            }
            State::Connected(connected) if !self.core.is_over() => {
                let connected = connected.clone();
                if setup.progress == Progress::Connecting {
                    setup.progress = Progress::Connected;
                }
                drop(setup);
                if bits & SEND != 0 {
                    connected.finish();
                }
                self.core.set(bits & RCV);
                Ok(())
            }
            _ => {
                drop(setup);
                self.core.set(bits);
                Err(Errno::ENOTCONN)
            }
        }
    }

    /// `accept(2)`.
    pub(super) fn do_accept(&self) -> Result<Arc<StreamSocket>> {
        let listener = self.accepting().ok_or(Errno::EINVAL)?;
        let (child, next) = match (listener.take(), listener.remote()) {
            (Err(Errno::EAGAIN), Some(tcp)) => {
                return self.accept_remote(&tcp, listener.claim());
            }
            (taken, _) => taken?,
        };
        if let Some(client) = next {
            client.admit(self, &listener);
        }
        Ok(child)
    }

    /// Says that nothing more will be sent, and waits until the other side's buffer has taken what was.
    pub(super) fn do_linger(&self, t: &mut CurrentTask, nanos: u64) {
        let Some(connected) = self.connection() else { return };
        // Unread data means a reset, for which nobody waits.
        if connected.rx.len() > 0 || self.core.is_over() {
            return;
        }
        connected.finish();
        let deadline = t.kernel().time.monotonic().saturating_add(nanos);
        let key = self.core.queue.add(EventMask::WRITABLE | EventMask::HUP, t.waker());
        while !connected.tx.is_drained() && !self.core.has(DEAD) {
            if !matches!(t.block(Some(deadline)), Wake::Event) {
                break;
            }
        }
        self.core.queue.remove(key);
    }

    /// The open file is gone.
    pub(super) fn do_release(&self) {
        let linger = self.common.options.linger();
        let (old, claim) = {
            let mut setup = self.setup.lock();
            (std::mem::replace(&mut setup.state, State::Closed), setup.claim.take())
        };
        if let (State::Listening(_), Some(claim)) = (&old, &claim) {
            // Connections that it accepted may go on with the port.
            let _ = claim.update(false, |binding| binding.listening = false);
        }
        self.shut_state(old, linger == Some(0));
        drop(claim);
    }
}
