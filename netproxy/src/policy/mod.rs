//! Egress policies: whom a sandbox may reach.
//!
//! Rules are read in order, the first that fits decides. What none of them fits is allowed, unless one of them
//! allows something: then only that is allowed. A name stands for the addresses that the host's name server has
//! answered with, for as long as it has said; names that are not allowed are not resolved when names are allowed at
//! all, so that questions carry nothing out. TLS connections to an address that is allowed by name only must ask for
//! such a name.

pub mod dns;
pub mod frames;
pub mod guard;
pub mod rule;
pub mod tls;

pub use guard::{Guard, Refused};
pub use rule::{Rule, What};

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Most addresses whose names are known.
const MAX_ADDRESSES: usize = 4096;
/// Most names of one address.
const MAX_NAMES: usize = 64;
/// How long an answer holds at least, in seconds: a program needs a moment to connect.
const MIN_TTL: u64 = 10;
/// And at most.
const MAX_TTL: u64 = 24 * 3600;

/// Why something is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Whatever it is called.
    ByAddress,
    /// It has a name that is.
    ByName,
}

/// A policy, with the answers of name servers so far.
#[derive(Debug, Default)]
pub struct Policy {
    /// Lists of rules, each of which has to allow.
    lists: Vec<Vec<Rule>>,
    /// Names of addresses, and until when (seconds of a clock that never goes back).
    known: HashMap<IpAddr, Vec<(String, u64)>>,
}

impl Policy {
    /// A policy that allows what every list allows.
    pub fn new(lists: Vec<Vec<Rule>>) -> Self {
        let lists = lists.into_iter().filter(|rules| !rules.is_empty()).collect();
        Self { lists, known: HashMap::new() }
    }

    /// True without rules: everything is allowed.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Whether `to` may be reached at time `now` (seconds), and why; `None` when not.
    pub fn check(&self, to: SocketAddr, now: u64) -> Option<Allowed> {
        let ip = to.ip().to_canonical();
        let known = self.known.get(&ip);
        let names = || {
            let living = known.into_iter().flatten().filter(|(_, until)| *until > now);
            living.map(|(name, _)| name.as_str())
        };
        let mut why = Allowed::ByAddress;
        for rules in &self.lists {
            let port = |rule: &&Rule| rule.port.is_none_or(|port| port == to.port());
            let named = |rule: &Rule| names().any(|name| rule.what.names(name));
            let found = rules.iter().filter(port).find(|rule| rule.what.covers(ip) || named(rule));
            match found {
                Some(rule) if !rule.allow => return None,
                Some(rule) if !rule.what.covers(ip) => why = Allowed::ByName,
                Some(_) => {}
                None if rules.iter().any(|rule| rule.allow) => return None,
                None => {}
            }
        }
        Some(why)
    }

    /// True when a TLS client at `to` may ask for `name`.
    pub fn may_ask_for(&self, to: SocketAddr, name: &str, now: u64) -> bool {
        let Some(name) = rule::normal(name) else { return false };
        let known = self.known.get(&to.ip().to_canonical());
        let mut living = known.into_iter().flatten().filter(|(_, until)| *until > now);
        living.any(|(known, _)| *known == name) && self.may_resolve(&name)
    }

    /// True when a name may be resolved.
    pub fn may_resolve(&self, name: &str) -> bool {
        self.lists.iter().all(|rules| {
            let mut named =
                rules.iter().filter(|rule| matches!(rule.what, What::Name(_) | What::Below(_)));
            let any = named.clone().next().is_some();
            !any || named.any(|rule| rule.what.names(name))
        })
    }

    /// The name server has answered a question for `name`.
    pub fn learn(&mut self, name: &str, addresses: &[IpAddr], ttl: u32, now: u64) {
        let until = now.saturating_add(u64::from(ttl).clamp(MIN_TTL, MAX_TTL));
        for ip in addresses {
            if !self.known.contains_key(ip) && self.known.len() >= MAX_ADDRESSES {
                self.known.retain(|_, names| names.iter().any(|(_, until)| *until > now));
                if self.known.len() >= MAX_ADDRESSES {
                    return;
                }
            }
            let names = self.known.entry(*ip).or_default();
            names.retain(|(known, until)| known != name && *until > now);
            if names.len() < MAX_NAMES {
                names.push((name.to_owned(), until));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &[&str]) -> Policy {
        Policy::new(vec![rules.iter().map(|rule| rule.parse().unwrap()).collect()])
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn order_and_default() {
        assert!(policy(&[]).check(at("192.0.2.1:80"), 0).is_some());
        let some = policy(&["deny:10.0.0.0/8"]);
        assert!(some.check(at("10.1.1.1:80"), 0).is_none());
        assert!(some.check(at("192.0.2.1:80"), 0).is_some());
        let list = policy(&["deny:10.9.0.0/16", "allow:10.0.0.0/8:80"]);
        assert_eq!(list.check(at("10.1.1.1:80"), 0), Some(Allowed::ByAddress));
        for no in ["10.1.1.1:81", "10.9.1.1:80", "192.0.2.1:80", "[2001:db8::1]:80"] {
            assert_eq!(list.check(at(no), 0), None, "{no}");
        }
        assert_eq!(policy(&["deny:*"]).check(at("192.0.2.1:80"), 0), None);
        let both = Policy::new(vec![
            vec!["allow:10.0.0.0/8".parse().unwrap()],
            vec!["allow:*:80".parse().unwrap()],
        ]);
        assert!(both.check(at("10.0.0.1:80"), 0).is_some());
        assert!(
            both.check(at("10.0.0.1:81"), 0).is_none()
                && both.check(at("11.0.0.1:80"), 0).is_none()
        );
    }

    #[test]
    fn names_hold_for_their_time() {
        let mut policy = policy(&["allow:example.com:443", "allow:*.example.org"]);
        let ip = at("192.0.2.1:443");
        assert_eq!(policy.check(ip, 100), None);
        policy.learn("example.com", &[ip.ip()], 60, 100);
        assert_eq!(policy.check(ip, 100), Some(Allowed::ByName));
        assert_eq!(policy.check(at("192.0.2.1:80"), 100), None);
        assert_eq!(policy.check(at("[::ffff:192.0.2.1]:443"), 159), Some(Allowed::ByName));
        assert_eq!(policy.check(ip, 160), None);
        policy.learn("other.net", &[ip.ip()], 60, 200);
        assert_eq!(policy.check(ip, 200), None);
        policy.learn("a.example.org", &[ip.ip()], 1, 200);
        assert_eq!(policy.check(at("192.0.2.1:80"), 209), Some(Allowed::ByName));
        assert!(policy.may_ask_for(ip, "A.Example.ORG", 209));
        assert!(
            !policy.may_ask_for(ip, "other.net", 209)
                && !policy.may_ask_for(ip, "example.com", 209)
        );
        assert!(policy.may_resolve("example.com") && !policy.may_resolve("leak.example.net"));
    }

    #[test]
    fn memory_is_bounded() {
        let mut policy = policy(&["allow:*.x"]);
        for i in 0..10_000u32 {
            policy.learn("a.x", &[IpAddr::from(i.to_be_bytes())], 60, 0);
            policy.learn(&format!("n{i}.x"), &[at("1.1.1.1:1").ip()], 60, 0);
        }
        assert_eq!(policy.known.len(), MAX_ADDRESSES);
        assert!(policy.known.values().all(|names| names.len() <= MAX_NAMES));
    }
}
