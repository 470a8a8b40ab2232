//! Questions to the host's name servers in datagrams: the next server is asked when one is silent or not there.

use super::packets::{Outgoing, Peer};
use crate::protocol::Protocol;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a server may take before the next one is asked.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Most questions that wait for an answer.
const MAX_PENDING: usize = 256;
/// Longest question that is asked again, in bytes.
const MAX_QUESTION: usize = 4096;

/// A question that waits.
#[derive(Debug)]
struct Question {
    id: u64,
    guest: SocketAddr,
    header: (u8, u8),
    data: Vec<u8>,
    /// Servers that were asked already.
    tries: usize,
    due: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Questions {
    servers: Vec<SocketAddr>,
    /// The one that has answered last: it is asked first.
    first: usize,
    pending: VecDeque<Question>,
}

impl Question {
    fn outgoing(&self, host: SocketAddr) -> Outgoing<'_> {
        let to = Peer { guest: self.guest, host };
        let (ttl, tos) = self.header;
        Outgoing { id: self.id, protocol: Protocol::Udp, to, ttl, tos, data: &self.data }
    }
}

impl Questions {
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, first: 0, pending: VecDeque::new() }
    }

    fn server(&self, tries: usize) -> Option<SocketAddr> {
        let at = (self.first + tries).checked_rem(self.servers.len())?;
        self.servers.get(at).copied().filter(|_| tries < self.servers.len())
    }

    /// Where a question goes first; it is kept.
    pub(super) fn ask(&mut self, out: &mut Outgoing<'_>, now: Instant) {
        let Some(server) = self.server(0) else { return };
        out.to.host = server;
        if self.servers.len() < 2 || out.data.len() > MAX_QUESTION {
            return;
        }
        if self.pending.len() >= MAX_PENDING {
            self.pending.pop_front();
        }
        let (id, guest, header) = (out.id, out.to.guest, (out.ttl, out.tos));
        let (data, due) = (out.data.to_vec(), now + PATIENCE);
        self.pending.push_back(Question { id, guest, header, data, tries: 0, due });
    }

    /// A server has answered the socket `id`.
    pub(super) fn answered(&mut self, id: u64, from: SocketAddr, answer: &[u8]) {
        let same = |q: &Question| q.id == id && q.data.get(..2) == answer.get(..2);
        let known = self.pending.len();
        self.pending.retain(|question| !same(question));
        if self.pending.len() < known
            && let Some(at) = self.servers.iter().position(|server| *server == from)
            && at != self.first
        {
            // The others have been asked in the order of before.
            self.first = at;
            self.pending.clear();
        }
    }

    /// The server `host` is not there for the socket `id`: its questions are due. False when there is none.
    pub(super) fn failed(&mut self, id: u64, host: SocketAddr, now: Instant) -> bool {
        let mut any = false;
        for at in 0..self.pending.len() {
            let Some(tries) = self.pending.get(at).filter(|q| q.id == id).map(|q| q.tries) else {
                continue;
            };
            let more = self.server(tries + 1).is_some();
            if self.server(tries) == Some(host)
                && more
                && let Some(question) = self.pending.get_mut(at)
            {
                question.due = now;
                any = true;
            }
        }
        any
    }

    /// When the next question is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.pending.iter().map(|question| question.due).min()
    }

    /// Puts the questions that are due to the next server.
    pub(super) fn repeat(&mut self, now: Instant, mut send: impl FnMut(&Outgoing<'_>)) {
        let mut waiting = VecDeque::with_capacity(self.pending.len());
        while let Some(mut question) = self.pending.pop_front() {
            if question.due <= now {
                question.tries += 1;
                let Some(server) = self.server(question.tries) else { continue };
                question.due = now + PATIENCE;
                send(&question.outgoing(server));
            }
            waiting.push_back(question);
        }
        self.pending = waiting;
    }

    /// A socket is gone.
    pub(super) fn close(&mut self, id: u64) {
        self.pending.retain(|question| question.id != id);
    }
}
