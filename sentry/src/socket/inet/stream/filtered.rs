//! Connecting while the packet filter has rules: they may turn a connection elsewhere, refuse it, or drop its SYN,
//! which is then sent again as often as Linux does (`tcp_syn_retries`).

use super::{Setup, State, StreamSocket, Tuple};
use crate::errno::{Errno, Result};
use crate::socket::inet::addr::Endpoint;
use crate::socket::inet::filter::{Passed, SYN, Sent, Stopped};
use crate::socket::inet::net::Route;
use crate::socket::inet::{Counters, IPPROTO_TCP, ip};
use crate::sync::MutexGuard;
use crate::time::{TimerQueue, TimerTarget};
use platform::host::time::Clock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

const SECOND: u64 = 1_000_000_000;

/// Sends the SYN of a socket again.
pub(super) struct Again {
    socket: Weak<StreamSocket>,
    route: Route,
    attempts: AtomicU32,
}

impl TimerTarget for Again {
    fn expired(&self, queue: &Arc<TimerQueue>, _cookie: u64) {
        let Some(socket) = self.socket.upgrade() else { return };
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        socket.try_again(self, attempt, queue);
    }
}

impl StreamSocket {
    fn syn(&self, local: Endpoint, peer: Endpoint, route: Route) -> Sent<'static> {
        let common = &self.common;
        let v6 = peer.ip.is_ipv6();
        let tos = common.ip.value(if v6 { ip::TCLASS } else { ip::TOS }).max(0);
        let creator = common.options.creator;
        Sent {
            from: local,
            to: peer,
            protocol: IPPROTO_TCP,
            detail: SYN,
            header: (common.ip.ttl(common, v6, false), tos as u8),
            data: &[],
            owner: Some((creator.uid, creator.gid)),
            mark: common.options.mark(),
            route,
        }
    }

    /// Begins to connect to `peer`, as far as the rules let it.
    pub(super) fn connect_filtered(
        &self,
        mut setup: MutexGuard<'_, Setup>,
        route: Route,
        peer: Endpoint,
    ) -> Result<()> {
        let Some(local) = setup.local else { return Err(Errno::EINVAL) };
        match self.attempt(&mut setup, local, peer, route) {
            Ok(Some(result)) => {
                setup.has_connected();
                let remote = matches!(setup.state, State::Remote(_));
                if !remote {
                    drop(setup);
                    self.begun(result);
                }
                Ok(())
            }
            Ok(None) => {
                setup.state = State::Connecting(peer, (local, peer));
                drop(setup);
                self.wait_for_rules(route);
                Ok(())
            }
            Err(e) => {
                setup.unconnect();
                Err(e)
            }
        }
    }

    /// One SYN. `Ok(None)` if nobody answered it.
    fn attempt(
        &self,
        setup: &mut Setup,
        local: Endpoint,
        peer: Endpoint,
        route: Route,
    ) -> Result<Option<Result<()>>> {
        let net = &self.common.net;
        let syn = self.syn(local, peer, route);
        let passed = match net.filter_sent(&syn) {
            Ok(passed) => passed,
            Err(stopped) => return Ok(self.stopped(peer, &stopped)),
        };
        if !passed.route.local {
            if !net.filter_handshake(&syn, &passed, false) {
                return Ok(None);
            }
            return self.connect_remote(setup, local, (peer, passed.to)).map(|()| Some(Ok(())));
        }
        let Passed { from, to, route, .. } = passed;
        let host = net.tcp.find(to, from, route.device, |b| b.listening);
        let refused = host.as_ref().is_none_or(|h| h.accepting().is_none()) && local != to;
        if !net.filter_handshake(&syn, &passed, refused) {
            return Ok(None);
        }
        if refused {
            Counters::add(&net.counters.tcp_resets, 1);
            net.show_attempt(local, peer, true);
            return Ok(Some(Err(Errno::ECONNREFUSED)));
        }
        let tuple = Tuple { local, peer };
        Ok(Some(self.connect_locally(setup, tuple, (from, to), host.as_deref())))
    }

    fn stopped(&self, peer: Endpoint, stopped: &Stopped) -> Option<Result<()>> {
        stopped.errno(peer.ip.is_ipv6()).map(Err)
    }

    fn wait_for_rules(&self, route: Route) {
        let again: Arc<Again> =
            Arc::new(Again { socket: self.this.clone(), route, attempts: AtomicU32::new(1) });
        let target: Weak<Again> = Arc::downgrade(&again);
        *self.again.lock() = Some(again);
        self.common.net.after(SECOND, target);
    }

    fn try_again(&self, again: &Again, attempt: u32, queue: &Arc<TimerQueue>) {
        let retries = self.common.net.settings.syn_retries.load(Ordering::Relaxed);
        let result = {
            let mut setup = self.setup.lock();
            let State::Connecting(peer, _) = setup.state else { return };
            let Some(local) = setup.local else { return };
            if attempt > retries.max(1) as u32 {
                setup.state = State::Closed;
                Some(Err(Errno::ETIMEDOUT))
            } else {
                match self.attempt(&mut setup, local, peer, again.route) {
                    Ok(Some(Err(e))) | Err(e) => {
                        setup.state = State::Closed;
                        Some(Err(e))
                    }
                    Ok(other) => other,
                }
            }
        };
        match result {
            Some(result) => {
                self.begun(result);
                self.again.lock().take();
            }
            None => {
                let wait = SECOND << attempt.min(7);
                let target = self.again.lock().as_ref().map(Arc::downgrade);
                if let Some(target) = target {
                    queue.set(Clock::Monotonic.now().saturating_add(wait), target, 0);
                }
            }
        }
    }

    /// `SO_ORIGINAL_DST`. `ENOENT` if it is not known, or there is no connection.
    pub fn original_destination(&self) -> Result<Endpoint> {
        let (Some(local), Some(peer)) = self.endpoints() else { return Err(Errno::ENOENT) };
        self.common.net.original_destination(local, peer).ok_or(Errno::ENOENT)
    }
}
