//! Multicast groups of an interface: who is a member, and the reports that routers need (IGMPv3 with
//! version 2 as fallback, MLDv2). Plain data; `stack` sends the reports.

use crate::error::{Error, Result};
use crate::time::{Instant, earliest};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Groups of one interface.
const MAX: usize = 1024;
/// Unsolicited reports of a change (the robustness variable).
const REPORTS: u8 = 2;
/// Between two of them (RFC 3376, section 8.11).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How long an older querier is remembered (RFC 3376, section 8.12).
const OLDER_QUERIER: Duration = Duration::from_secs(400);

/// What a report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// A member, in answer to a query.
    Member(IpAddr),
    /// Just joined.
    Joined(IpAddr),
    /// Just left.
    Left(IpAddr),
}

#[derive(Debug)]
struct Group {
    members: u32,
    /// Unsolicited reports still to be sent.
    changes: u8,
    change_at: Option<Instant>,
    answer_at: Option<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<IpAddr, Group>,
    version2_until: Option<Instant>,
}

impl Groups {
    /// Adds a member; true when it is the first, whose report is to be sent now.
    pub(crate) fn join(&mut self, addr: IpAddr, now: Instant) -> Result<bool> {
        if let Some(group) = self.groups.get_mut(&addr)
            && group.members > 0
        {
            group.members = group.members.saturating_add(1);
            return Ok(false);
        }
        if self.groups.len() >= MAX {
            return Err(Error::TooManyMemberships);
        }
        self.groups.insert(addr, Group::changed(1, now));
        Ok(true)
    }

    /// Removes a member; true when it was the last, whose leaving is to be reported now.
    pub(crate) fn leave(&mut self, addr: IpAddr, now: Instant) -> Result<bool> {
        let group = self.groups.get_mut(&addr).filter(|g| g.members > 0);
        let group = group.ok_or(Error::AddressNotAvailable)?;
        group.members -= 1;
        if group.members > 0 {
            return Ok(false);
        }
        *group = Group::changed(0, now);
        Ok(true)
    }

    /// True when packets to the group are wanted.
    pub(crate) fn is_member(&self, addr: IpAddr) -> bool {
        always(addr) || self.groups.get(&addr).is_some_and(|g| g.members > 0)
    }

    /// A router asks. `within`: the time to answer in; `dice`: a random number.
    pub(crate) fn query(
        &mut self,
        group: IpAddr,
        version: u8,
        within: Duration,
        now: Instant,
        dice: u64,
    ) {
        if version < 3 && group.is_ipv4() {
            self.version2_until = Some(now + OLDER_QUERIER);
        }
        for (n, (addr, g)) in self.groups.iter_mut().enumerate() {
            let asked =
                addr.is_ipv4() == group.is_ipv4() && (group.is_unspecified() || *addr == group);
            if asked && g.members > 0 && reported(*addr) {
                // Spread over the time, another point for each group.
                let part = dice.rotate_left(n as u32 * 7) % 1000;
                let at = now + within.mul_f64(part as f64 / 1000.0);
                g.answer_at = Some(g.answer_at.map_or(at, |old| old.min(at)));
            }
        }
    }

    /// True when routers here speak IGMP version 2.
    pub(crate) fn version2(&self, now: Instant) -> bool {
        self.version2_until.is_some_and(|until| now < until)
    }

    /// The reports that are due.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<Report> {
        let mut out = Vec::new();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        for (addr, g) in &mut self.groups {
            if due(g.change_at) {
                g.changes = g.changes.saturating_sub(1);
                g.change_at = (g.changes > 0).then(|| now + REPORT_INTERVAL);
                if reported(*addr) {
                    out.push(if g.members > 0 {
                        Report::Joined(*addr)
                    } else {
                        Report::Left(*addr)
                    });
                }
            }
            if due(g.answer_at) {
                g.answer_at = None;
                out.push(Report::Member(*addr));
            }
        }
        self.groups.retain(|_, g| g.members > 0 || g.changes > 0);
        out
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.groups.values().fold(None, |at, g| earliest(earliest(at, g.change_at), g.answer_at))
    }

    /// The groups that have members.
    pub(crate) fn list(&self) -> Vec<IpAddr> {
        self.groups.iter().filter(|(_, g)| g.members > 0).map(|(a, _)| *a).collect()
    }
}

impl Group {
    fn changed(members: u32, now: Instant) -> Self {
        Self { members, changes: REPORTS, change_at: Some(now), answer_at: None }
    }
}

/// Every host is a member of all-hosts and all-nodes without saying so.
fn always(addr: IpAddr) -> bool {
    addr == IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1))
        || addr == IpAddr::V6(crate::wire::ipv6::ALL_NODES)
}

/// Groups that are never reported: all-hosts, and IPv6 scopes below link-local.
fn reported(addr: IpAddr) -> bool {
    !always(addr)
        && match addr {
            IpAddr::V4(_) => true,
            IpAddr::V6(a) => Ipv6Addr::octets(&a)[1] & 15 > 1,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 1, 2, 3));

    #[test]
    fn joins_are_counted_and_reported_twice() {
        let mut g = Groups::default();
        assert!(g.join(GROUP, at(0)).unwrap());
        assert!(!g.join(GROUP, at(0)).unwrap());
        assert_eq!(g.poll(at(0)), [Report::Joined(GROUP)]);
        assert_eq!(g.deadline(), Some(at(1000)));
        assert_eq!(g.poll(at(1000)), [Report::Joined(GROUP)]);
        assert_eq!(g.deadline(), None);
        assert!(!g.leave(GROUP, at(2000)).unwrap());
        assert!(g.leave(GROUP, at(2000)).unwrap());
        assert!(!g.is_member(GROUP));
        assert_eq!(g.poll(at(2000)), [Report::Left(GROUP)]);
        assert_eq!(g.poll(at(3000)), [Report::Left(GROUP)]);
        assert!(g.groups.is_empty());
        assert_eq!(g.leave(GROUP, at(0)), Err(Error::AddressNotAvailable));
    }

    #[test]
    fn queries_are_answered_within_their_time() {
        let mut g = Groups::default();
        g.join(GROUP, at(0)).unwrap();
        let _ = (g.poll(at(0)), g.poll(at(1000)));
        let all = Ipv4Addr::UNSPECIFIED.into();
        g.query(all, 3, Duration::from_secs(10), at(2000), 12345);
        let when = g.deadline().unwrap();
        assert!(when >= at(2000) && when < at(12_000));
        assert_eq!(g.poll(when), [Report::Member(GROUP)]);
        assert!(!g.version2(when));
        g.query(all, 2, Duration::from_secs(1), at(20_000), 1);
        assert!(g.version2(at(21_000)));
        assert!(!g.version2(at(500_000)));
    }

    #[test]
    fn all_hosts_needs_no_joining() {
        let g = Groups::default();
        assert!(g.is_member("224.0.0.1".parse().unwrap()));
        assert!(g.is_member("ff02::1".parse().unwrap()));
        assert!(!g.is_member(GROUP));
    }

    #[test]
    fn memberships_are_bounded() {
        let mut g = Groups::default();
        for n in 0..MAX as u32 {
            g.join(Ipv4Addr::from(0xef00_0000 + n).into(), at(0)).unwrap();
        }
        assert_eq!(g.join("239.255.0.1".parse().unwrap(), at(0)), Err(Error::TooManyMemberships));
    }
}
