//! Keeps a policy: asks it, learns from name servers, and reports what is refused.

use super::tls::{self, First};
use super::{Allowed, Policy, dns};
use crate::protocol::{Program, Protocol};
use std::net::SocketAddr;
use std::time::Instant;

/// Refusals that are reported in one second.
const MAX_REPORTS: u32 = 50;

/// Something that was refused.
#[derive(Debug)]
pub struct Refused<'a> {
    /// Who wanted it.
    pub program: &'a Program,
    /// By what.
    pub protocol: Protocol,
    /// Whom to reach.
    pub destination: SocketAddr,
    /// The name that a TLS client asked for, or a question to the name server.
    pub name: Option<&'a str>,
    /// Why not.
    pub reason: &'static str,
}

/// What becomes of a connection that only a name allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// More of its first bytes are needed.
    More,
    /// It may go on.
    Open,
    /// It may not; that was reported.
    Refused,
}

/// What becomes of a question to a name server.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// It goes there.
    Pass,
    /// This is the answer instead; the refusal was reported.
    Refuse(Vec<u8>),
}

/// A policy that is kept.
#[derive(Debug)]
pub struct Guard {
    policy: Policy,
    report: fn(&Refused<'_>),
    start: Instant,
    /// The second of the last reports, and how many there were.
    reports: (u64, u32),
}

impl Guard {
    /// Keeps `policy`; `report` is called with what is refused, so often in a second at most.
    pub fn new(policy: Policy, report: fn(&Refused<'_>)) -> Self {
        Self { policy, report, start: Instant::now(), reports: (0, 0) }
    }

    /// True without rules: everything is allowed.
    pub fn is_empty(&self) -> bool {
        self.policy.is_empty()
    }

    /// Seconds since the start.
    fn now(&self) -> u64 {
        self.start.elapsed().as_secs()
    }

    /// Whether `to` may be reached, and why; `None` when not.
    pub fn check(&self, to: SocketAddr) -> Option<Allowed> {
        self.policy.check(to, self.now())
    }

    /// Reports that no rule allows `destination`.
    pub fn refused(&mut self, program: &Program, protocol: Protocol, destination: SocketAddr) {
        let (name, reason) = (None, "no rule allows it");
        self.tell(&Refused { program, protocol, destination, name, reason });
    }

    /// What becomes of a connection to `to` that only a name allows, whose first bytes are `bytes`.
    pub fn first(&mut self, program: &Program, to: SocketAddr, bytes: &[u8]) -> Verdict {
        let name = match tls::first(bytes) {
            First::More if bytes.len() <= 2 * tls::MAX_HELLO => return Verdict::More,
            First::Other => return Verdict::Open,
            First::More => None,
            First::Tls(name) => name,
        };
        if name.is_some_and(|name| self.policy.may_ask_for(to, name, self.now())) {
            return Verdict::Open;
        }
        let reason = "the TLS client asks for another name than the allowed one";
        let (protocol, destination) = (Protocol::Tcp, to);
        self.tell(&Refused { program, protocol, destination, name, reason });
        Verdict::Refused
    }

    /// What becomes of a question to the name server `to`.
    pub fn question(
        &mut self,
        program: &Program,
        protocol: Protocol,
        to: SocketAddr,
        data: &[u8],
    ) -> Asked {
        if self.is_empty() {
            return Asked::Pass;
        }
        let asked = dns::asked(data);
        if asked.as_deref().is_some_and(|name| self.policy.may_resolve(name)) {
            return Asked::Pass;
        }
        let reason = "no rule allows the name";
        let (destination, name) = (to, asked.as_deref());
        self.tell(&Refused { program, protocol, destination, name, reason });
        // What cannot be understood is not passed on either.
        Asked::Refuse(dns::refuse(data).unwrap_or_default())
    }

    /// A name server has answered something.
    pub fn answered(&mut self, data: &[u8]) {
        if self.is_empty() {
            return;
        }
        if let Some(dns::Answer { name, addresses, ttl }) = dns::answer(data)
            && self.policy.may_resolve(&name)
        {
            let now = self.now();
            self.policy.learn(&name, &addresses, ttl, now);
        }
    }

    fn tell(&mut self, refused: &Refused<'_>) {
        let now = self.now();
        let (second, count) = &mut self.reports;
        if *second != now {
            (*second, *count) = (now, 0);
        }
        *count += 1;
        if *count <= MAX_REPORTS {
            (self.report)(refused);
        }
    }
}
