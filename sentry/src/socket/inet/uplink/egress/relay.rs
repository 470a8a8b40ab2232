//! Questions to name servers in datagrams: each is put from a port and with an identifier of its own.

use super::Egress;
use crate::errno::{Errno, Result};
use crate::socket::inet::addr::Endpoint;
use crate::socket::inet::dgram::DgramSocket;
use crate::socket::inet::stream::remote::stack::{endpoint, socket_addr};
use crate::socket::inet::uplink::error::errno;
use crate::sync::{Mutex, rank};
use netproxy::policy::dns;
use netstack::{Datagram, Family, Readiness, Stack, UdpSocket, Waker};
use platform::host::random;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// Most questions that wait for their answers; the oldest is given up for a new one.
const MAX_PENDING: usize = 256;
/// Length of the identifier at the start of a message.
const ID: usize = 2;

/// A question on its way.
struct Pending {
    number: u64,
    udp: UdpSocket,
    socket: Weak<DgramSocket>,
    /// The name server.
    to: Endpoint,
    /// The guest's identifier, and the one that was sent.
    ids: ([u8; ID], [u8; ID]),
    name: Option<String>,
}

#[derive(Default)]
struct State {
    next: u64,
    pending: VecDeque<Arc<Pending>>,
}

/// See the module.
pub struct Relay {
    stack: Arc<Stack>,
    egress: Weak<Egress>,
    state: Mutex<State, { rank::LEAF }>,
}

/// Tells the relay of an answer.
struct Answered {
    relay: Weak<Relay>,
    number: u64,
}

impl Waker for Answered {
    fn wake(&self, _: Readiness) {
        if let Some(relay) = self.relay.upgrade() {
            relay.collect(self.number);
        }
    }
}

impl Relay {
    pub(super) fn new(stack: Arc<Stack>, egress: Weak<Egress>) -> Arc<Relay> {
        Arc::new(Relay { stack, egress, state: Mutex::default() })
    }

    /// Puts a question of `socket`'s to the name server `to`.
    pub fn ask(
        self: &Arc<Self>,
        socket: &Weak<DgramSocket>,
        to: Endpoint,
        question: &[u8],
    ) -> Result<()> {
        let Some(own) = question.first_chunk::<ID>() else { return Ok(()) };
        let family = if to.ip.is_ipv4() { Family::V4 } else { Family::V6 };
        let udp = self.stack.udp(family).map_err(errno)?;
        udp.connect(socket_addr(to)).map_err(errno)?;
        let mut sent = [0; ID];
        random::fill(&mut sent).map_err(|_| Errno::EAGAIN)?;
        let mut message = question.to_vec();
        for (place, byte) in message.iter_mut().zip(sent) {
            *place = byte;
        }
        let old = {
            let mut state = self.state.lock();
            state.next += 1;
            let number = state.next;
            udp.set_waker(Some(Arc::new(Answered { relay: Arc::downgrade(self), number })));
            let (socket, ids, name) = (socket.clone(), (*own, sent), dns::asked(question));
            let pending = Arc::new(Pending { number, udp, socket, to, ids, name });
            state.pending.push_back(pending.clone());
            let full = state.pending.len() > MAX_PENDING;
            (full.then(|| state.pending.pop_front()).flatten(), pending)
        };
        let (given_up, pending) = old;
        drop(given_up);
        pending.udp.send(&message, None).map(drop).map_err(errno)
    }

    /// Something has come for a question.
    fn collect(&self, number: u64) {
        let find = |p: &Arc<Pending>| p.number == number;
        let Some(pending) = self.state.lock().pending.iter().find(|p| find(p)).cloned() else {
            return;
        };
        let end = match pending.udp.recv() {
            Ok(datagram) => self.answer(&pending, datagram),
            Err(netstack::Error::WouldBlock) => false,
            Err(error) => {
                if let Some(socket) = pending.socket.upgrade() {
                    socket.refused_by(pending.to, errno(error));
                }
                true
            }
        };
        if end {
            let mut state = self.state.lock();
            let at = state.pending.iter().position(find);
            let done = at.and_then(|at| state.pending.remove(at));
            drop(state);
            drop(done);
        }
    }

    /// Passes an answer on, if it is one. True when it was.
    fn answer(&self, pending: &Pending, datagram: Datagram) -> bool {
        let Datagram { mut data, from, .. } = datagram;
        let right = endpoint(from) == pending.to && data.starts_with(&pending.ids.1);
        let about = dns::answer(&data).map(|answer| answer.name);
        if !right || (about.is_some() && about != pending.name) {
            return false;
        }
        if let Some(egress) = self.egress.upgrade() {
            egress.answered(&data);
        }
        for (place, byte) in data.iter_mut().zip(pending.ids.0) {
            *place = byte;
        }
        if let Some(socket) = pending.socket.upgrade() {
            socket.relayed(pending.to, data);
        }
        true
    }
}
