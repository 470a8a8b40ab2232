//! What the guest's addresses stand for, and who may reach them.

use crate::address::{DNS, RESOLVER, Refusal, Target, target};
use crate::policy::{Allowed, Policy, dns};
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
}

/// See the module.
#[derive(Debug)]
pub(super) struct Rules {
    name_servers: Vec<SocketAddr>,
    host_loopback: bool,
    policy: Policy,
    report: fn(&Refused<'_>),
    start: Instant,
    /// The second of the last reports, and how many there were.
    reports: (u64, u32),
}

fn is_resolver(to: SocketAddr) -> bool {
    to == SocketAddr::from((RESOLVER, DNS))
}

impl Rules {
    pub(super) fn new(
        name_servers: Vec<SocketAddr>,
        host_loopback: bool,
        policy: Policy,
        report: fn(&Refused<'_>),
    ) -> Self {
        let start = Instant::now();
        Self { name_servers, host_loopback, policy, report, start, reports: (0, 0) }
    }

    /// Seconds since the start.
    fn now(&self) -> u64 {
        self.start.elapsed().as_secs()
    }

    fn reached(&self, protocol: Protocol, to: SocketAddr) -> Result<(SocketAddr, Allowed), i32> {
        let host = match target(to) {
            // Over TCP the answers could not be looked at.
            Ok(Target::Resolver) if protocol == Protocol::Tcp && !self.policy.is_empty() => {
                return Err(libc::ECONNREFUSED);
            }
            Ok(Target::Resolver) if protocol != Protocol::Echo => {
                let server = self.name_servers.first().copied().ok_or(libc::ECONNREFUSED)?;
                return Ok((server, Allowed::ByAddress));
            }
            Ok(Target::Host(to)) => to,
            // A gateway answers echo requests; that says nothing of the host.
            Ok(Target::Loopback(to)) if self.host_loopback || protocol == Protocol::Echo => to,
            // As a gateway without any service.
            Ok(Target::Loopback(_)) => return Err(libc::ECONNREFUSED),
            Err(Refusal::Forbidden) => return Err(libc::EACCES),
            Ok(Target::Resolver) | Err(Refusal::Nobody) => return Err(libc::EHOSTUNREACH),
        };
        let why = self.policy.check(to, self.now()).ok_or(libc::EACCES)?;
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
                Ok(Admitted { host, guest, program, by_name })
            }
            Err(errno) => {
                if errno == libc::EACCES {
                    let reason = "no rule allows it";
                    let destination = guest;
                    let name = None;
                    self.tell(&Refused { program: &program, protocol, destination, name, reason });
                }
                Err(errno)
            }
        }
    }

    /// True when a TLS client that reached `admitted` by a name may ask for `name`. If not, that is reported.
    pub(super) fn may_ask_for(&mut self, admitted: &Admitted, name: Option<&str>) -> bool {
        let to = admitted.guest;
        if name.is_some_and(|name| self.policy.may_ask_for(to, name, self.now())) {
            return true;
        }
        let reason = "the TLS client asks for another name than the allowed one";
        let (program, protocol, destination) = (&admitted.program, Protocol::Tcp, to);
        self.tell(&Refused { program, protocol, destination, name, reason });
        false
    }

    /// The answer to a question for a name that may not be resolved; `None` for everything else.
    pub(super) fn question(
        &mut self,
        protocol: Protocol,
        to: SocketAddr,
        data: &[u8],
    ) -> Option<Vec<u8>> {
        if protocol != Protocol::Udp || !is_resolver(to) || self.policy.is_empty() {
            return None;
        }
        let asked = dns::asked(data);
        if asked.as_deref().is_some_and(|name| self.policy.may_resolve(name)) {
            return None;
        }
        let (program, reason) = (&Program::default(), "no rule allows the name");
        let (destination, name) = (to, asked.as_deref());
        self.tell(&Refused { program, protocol, destination, name, reason });
        // What cannot be understood is not passed on either.
        Some(dns::refuse(data).unwrap_or_default())
    }

    /// The name server has answered something.
    pub(super) fn answered(&mut self, from: SocketAddr, data: &[u8]) {
        if !is_resolver(from) || self.policy.is_empty() {
            return;
        }
        if let Some(dns::Answer { name, addresses, ttl }) = dns::answer(data)
            && self.policy.may_resolve(&name)
        {
            self.policy.learn(&name, &addresses, ttl, self.now());
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
