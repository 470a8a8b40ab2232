//! What the guest's addresses stand for, and who may reach them.

use super::questions::Questions;
use crate::address::{DNS, RESOLVER, Refusal, Target, target};
use crate::policy::guard::{Asked, Verdict};
use crate::policy::{Allowed, Guard};
use crate::protocol::{Program, Protocol};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// A destination that may be reached.
#[derive(Debug)]
pub(super) struct Admitted {
    /// On the host.
    pub host: SocketAddr,
    /// To the guest.
    pub guest: SocketAddr,
    /// Who wants it.
    pub program: Program,
    /// Because of a name, which a TLS client has to ask for.
    pub by_name: bool,
    /// It is a name server, and the policy has to see what it is asked; the others come after it.
    pub names: Option<VecDeque<SocketAddr>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Rules {
    name_servers: Vec<SocketAddr>,
    names_only: bool,
    host_loopback: bool,
    guard: Guard,
    /// What the name servers were asked.
    pub(super) questions: Questions,
}

pub(super) fn is_resolver(to: SocketAddr) -> bool {
    to == SocketAddr::from((RESOLVER, DNS))
}

impl Rules {
    pub(super) fn new(
        name_servers: Vec<SocketAddr>,
        names_only: bool,
        host_loopback: bool,
        guard: Guard,
    ) -> Self {
        let questions = Questions::new(name_servers.clone());
        Self { name_servers, names_only, host_loopback, guard, questions }
    }

    fn reached(&self, protocol: Protocol, to: SocketAddr) -> Result<(SocketAddr, Allowed), i32> {
        let host = match target(to) {
            Ok(Target::Resolver) if protocol != Protocol::Echo => {
                let server = self.name_servers.first().copied().ok_or(libc::ECONNREFUSED)?;
                return Ok((server, Allowed::ByAddress));
            }
            _ if self.names_only => return Err(libc::EACCES),
            Ok(Target::Host(to)) => to,
            // A gateway answers echo requests; that says nothing of the host.
            Ok(Target::Loopback(to)) if self.host_loopback || protocol == Protocol::Echo => to,
            // As a gateway without any service.
            Ok(Target::Loopback(_)) => return Err(libc::ECONNREFUSED),
            Err(Refusal::Forbidden) => return Err(libc::EACCES),
            Ok(Target::Resolver) | Err(Refusal::Nobody) => return Err(libc::EHOSTUNREACH),
        };
        let why = self.guard.check(to).ok_or(libc::EACCES)?;
        Ok((host, why))
    }

    /// What `to` is on the host, or why it is not reached (`errno(3)`).
    pub(super) fn host(&self, protocol: Protocol, to: SocketAddr) -> Result<SocketAddr, i32> {
        self.reached(protocol, to).map(|(host, _)| host)
    }

    /// The same for a program, whose refusals are reported.
    pub(super) fn admit(
        &mut self,
        protocol: Protocol,
        guest: SocketAddr,
        program: Program,
    ) -> Result<Admitted, i32> {
        match self.reached(protocol, guest) {
            Ok((host, why)) => {
                let by_name = why == Allowed::ByName;
                let seen =
                    protocol == Protocol::Tcp && is_resolver(guest) && !self.guard.is_empty();
                let names = seen.then(|| self.name_servers.iter().skip(1).copied().collect());
                Ok(Admitted { host, guest, program, by_name, names })
            }
            Err(errno) => {
                if errno == libc::EACCES {
                    self.guard.refused(&program, protocol, guest);
                }
                Err(errno)
            }
        }
    }

    /// What becomes of a connection whose first bytes are `bytes`.
    pub(super) fn first(&mut self, admitted: &Admitted, bytes: &[u8]) -> Verdict {
        self.guard.first(&admitted.program, admitted.guest, bytes)
    }

    /// The answer to a question for a name that may not be resolved; `None` for everything else.
    pub(super) fn question(
        &mut self,
        protocol: Protocol,
        to: SocketAddr,
        data: &[u8],
    ) -> Option<Vec<u8>> {
        if protocol != Protocol::Udp || !is_resolver(to) {
            return None;
        }
        match self.guard.question(&Program::default(), protocol, to, data) {
            Asked::Pass => None,
            Asked::Refuse(answer) => Some(answer),
        }
    }

    /// What becomes of a question over TCP.
    pub(super) fn asked(&mut self, program: &Program, question: &[u8]) -> Asked {
        let to = (RESOLVER, DNS).into();
        self.guard.question(program, Protocol::Tcp, to, question)
    }

    /// A name server has answered over TCP.
    pub(super) fn learn(&mut self, answer: &[u8]) {
        self.guard.answered(answer);
    }

    /// The name server has answered something.
    pub(super) fn answered(&mut self, from: SocketAddr, data: &[u8]) {
        if is_resolver(from) {
            self.guard.answered(data);
        }
    }
}
