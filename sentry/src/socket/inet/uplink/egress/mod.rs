//! Egress policies of networks with a stack of their own ([`netproxy::policy`]).
//!
//! Sockets ask before something leaves: a TCP connection or a datagram goes to whom a rule allows. What only a name
//! allows is looked at by [`super::super::stream::remote::guarded`]. Questions to the trusted name servers, those that
//! the sandbox was started with, are put by [`relay`] under numbers that the guest does not know, so that nobody
//! outside can slip in answers for it. Those who have begun to talk to the guest may be answered.
//!
//! The sentry keeps this policy itself: it holds against guests, not against a subverted sentry.
//!
//! Locks: leaves, except that a report is written with the guard's held.

mod relay;

use super::super::addr::Endpoint;
use super::super::stream::remote::stack::socket_addr;
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, rank};
use netproxy::address::DNS;
use netproxy::policy::guard::{Asked, Verdict};
use netproxy::policy::{Allowed, Guard, Policy, Refused};
use netproxy::protocol::{Program, Protocol};
use netstack::Stack;
use relay::Relay;
use rustc_hash::FxHashSet;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

/// Most of those that are remembered to have sent the guest something.
const MAX_HEARD: usize = 4096;

/// The policy of a sandbox, as its starter states it.
#[derive(Debug)]
pub struct EgressSpec {
    /// Whom it may reach.
    pub policy: Policy,
    /// Whose answers for names are believed.
    pub name_servers: Vec<IpAddr>,
    /// Called with what is refused.
    pub report: fn(&Refused<'_>),
}

/// How a destination may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// Without conditions.
    Freely,
    /// Because of a name, which a TLS client has to ask for.
    ByName,
    /// It is a trusted name server: questions are looked at.
    NameServer,
}

/// Those who have sent the guest something: its port, and they.
#[derive(Default)]
struct Heard {
    known: FxHashSet<(u16, Endpoint)>,
    order: VecDeque<(u16, Endpoint)>,
}

/// A policy that is kept.
pub struct Egress {
    guard: Mutex<Guard, { rank::LEAF }>,
    name_servers: Vec<IpAddr>,
    heard: Mutex<Heard, { rank::LEAF }>,
    relay: Arc<Relay>,
}

/// The program that runs on this thread.
pub fn program() -> Program {
    crate::kernel::current().map_or_else(Program::default, |task| Program {
        pid: task.tgid(),
        name: String::from_utf8_lossy(&task.comm()).into_owned(),
    })
}

impl Egress {
    /// Keeps the policy of `spec` on what leaves through `stack`.
    pub fn new(spec: EgressSpec, stack: &Arc<Stack>) -> Arc<Egress> {
        let EgressSpec { policy, name_servers, report } = spec;
        Arc::new_cyclic(|this| Egress {
            guard: Mutex::new(Guard::new(policy, report)),
            name_servers,
            heard: Mutex::default(),
            relay: Relay::new(stack.clone(), this.clone()),
        })
    }

    /// Whether the current program may reach `to`. `EACCES`, which is reported.
    pub fn admit(&self, protocol: Protocol, to: Endpoint) -> Result<Admitted> {
        let ip = to.ip.to_canonical();
        if to.port == DNS && protocol != Protocol::Echo && self.name_servers.contains(&ip) {
            return Ok(Admitted::NameServer);
        }
        let allowed = self.guard.lock().check(socket_addr(to));
        match allowed {
            Some(Allowed::ByAddress) => Ok(Admitted::Freely),
            Some(Allowed::ByName) => Ok(Admitted::ByName),
            None => {
                let program = program();
                self.guard.lock().refused(&program, protocol, socket_addr(to));
                Err(Errno::EACCES)
            }
        }
    }

    /// The same for a datagram from the port `from`: who has sent something there may be answered.
    pub fn admit_datagram(&self, from: u16, to: Endpoint) -> Result<Admitted> {
        if self.heard.lock().known.contains(&(from, to)) {
            return Ok(Admitted::Freely);
        }
        self.admit(Protocol::Udp, to)
    }

    /// `from` has sent something to the guest's port `to`, and was not asked to.
    pub fn heard(&self, to: u16, from: Endpoint) {
        if self.guard.lock().check(socket_addr(from)).is_some() {
            return;
        }
        let mut heard = self.heard.lock();
        if heard.known.insert((to, from)) {
            heard.order.push_back((to, from));
            if heard.order.len() > MAX_HEARD
                && let Some(oldest) = heard.order.pop_front()
            {
                heard.known.remove(&oldest);
            }
        }
    }

    /// What becomes of a connection that only a name allows, whose first bytes are `bytes`.
    pub fn first(&self, program: &Program, to: Endpoint, bytes: &[u8]) -> Verdict {
        self.guard.lock().first(program, socket_addr(to), bytes)
    }

    /// What becomes of the current program's question to a name server.
    pub fn question(&self, protocol: Protocol, to: Endpoint, data: &[u8]) -> Asked {
        let program = program();
        self.guard.lock().question(&program, protocol, socket_addr(to), data)
    }

    /// A name server has answered.
    pub fn answered(&self, data: &[u8]) {
        self.guard.lock().answered(data);
    }

    /// The relay for questions in datagrams.
    pub fn relay(&self) -> &Arc<Relay> {
        &self.relay
    }
}
