//! The groups that one socket is in, and whose datagrams it wants there.

use super::Group;
use crate::errno::{Errno, Result};
use crate::socket::inet::Net;
use crate::sync::{Mutex, rank};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// `net.ipv4.igmp_max_memberships`
const MAX_MEMBERSHIPS: usize = 20;
/// Groups of IPv6, which Linux bounds by the memory for options alone.
const MAX_MEMBERSHIPS_V6: usize = 300;
/// `net.ipv4.igmp_max_msf` and `net.ipv6.mld_max_msf`: sources of one filter.
const MAX_SOURCES: [usize; 2] = [10, 64];

/// Whether the sources of a filter are those that are heard, or those that are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `MCAST_INCLUDE`
    Include,
    /// `MCAST_EXCLUDE`
    Exclude,
}

/// What is said of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The kind of filter it belongs to.
    pub mode: Mode,
    /// Adds the source, or takes it away.
    pub add: bool,
}

struct Membership {
    group: Group,
    /// The interface's address, if it was named by that.
    address: Ipv4Addr,
    mode: Mode,
    /// `None` until a filter is set: an empty one forbids to change its mode.
    sources: Option<Vec<IpAddr>>,
}

impl Membership {
    fn hears(&self, from: IpAddr) -> bool {
        let listed = self.sources.as_ref().is_some_and(|s| s.contains(&from));
        listed == (self.mode == Mode::Include)
    }
}

/// Which membership a request is about.
#[derive(Debug, Clone, Copy)]
pub struct Which {
    /// The group.
    pub group: IpAddr,
    /// The interface; 0 for any.
    pub device: u32,
    /// The interface's address, where no index was given.
    pub address: Ipv4Addr,
}

impl Which {
    fn is(&self, membership: &Membership) -> bool {
        let (group, device) = membership.group;
        group == self.group
            && (self.device == 0 || device == self.device)
            && (self.address.is_unspecified() || self.address == membership.address)
    }
}

/// The groups that one socket is in; it leaves them when it is gone.
pub struct Memberships {
    net: Arc<Net>,
    list: Mutex<Vec<Membership>, { rank::LEAF }>,
}

impl Memberships {
    /// In no group.
    pub fn new(net: &Arc<Net>) -> Memberships {
        Memberships { net: net.clone(), list: Mutex::default() }
    }

    /// True if the socket wants what comes `from` there to the group. `all`: also what comes to groups that others are in.
    pub fn hears(&self, group: &Group, from: IpAddr, all: bool) -> bool {
        let list = self.list.lock();
        list.iter().find(|m| m.group == *group).map_or(all, |m| m.hears(from))
    }

    /// Joins a group on an interface. `EADDRINUSE` if the socket is in it, `ENOBUFS` if it is in too many.
    pub fn join(&self, group: Group, address: Ipv4Addr, mode: Mode) -> Result<()> {
        let max = if group.0.is_ipv4() { MAX_MEMBERSHIPS } else { MAX_MEMBERSHIPS_V6 };
        {
            let mut list = self.list.lock();
            if list.iter().any(|m| m.group == group) {
                return Err(Errno::EADDRINUSE);
            }
            if list.len() >= max {
                return Err(Errno::ENOBUFS);
            }
            list.push(Membership { group, address, mode, sources: None });
        }
        let joined = self.net.join_group(group);
        if joined.is_err() {
            self.list.lock().retain(|m| m.group != group);
        }
        joined
    }

    /// Leaves a group. `EADDRNOTAVAIL` if the socket is not in it.
    pub fn leave(&self, which: &Which) -> Result<()> {
        let left = {
            let mut list = self.list.lock();
            let at = list.iter().position(|m| which.is(m)).ok_or(Errno::EADDRNOTAVAIL)?;
            list.remove(at)
        };
        self.net.leave_group(&left.group);
        Ok(())
    }

    /// Changes what is heard of one source. `EINVAL` without a membership, or with a filter of the other kind;
    /// `EADDRNOTAVAIL` for a source that is there already, or is not; `ENOBUFS`.
    pub fn change_source(&self, which: &Which, source: IpAddr, change: Change) -> Result<()> {
        {
            let mut list = self.list.lock();
            let member = list.iter_mut().find(|m| which.is(m)).ok_or(Errno::EINVAL)?;
            if member.sources.is_some() && member.mode != change.mode {
                return Err(Errno::EINVAL);
            }
            member.mode = change.mode;
            if change.add {
                let sources = member.sources.get_or_insert_default();
                if sources.len() >= max_sources(source) {
                    return Err(Errno::ENOBUFS);
                }
                if sources.contains(&source) {
                    return Err(Errno::EADDRNOTAVAIL);
                }
                sources.push(source);
                return Ok(());
            }
            let sources = member.sources.as_mut().ok_or(Errno::EADDRNOTAVAIL)?;
            let at = sources.iter().position(|s| *s == source).ok_or(Errno::EADDRNOTAVAIL)?;
            if sources.len() > 1 || change.mode == Mode::Exclude {
                sources.remove(at);
                return Ok(());
            }
        }
        // Nobody is heard any more: that is to leave.
        self.leave(which)
    }

    /// Sets the whole filter. `EINVAL` without a membership, `ENOBUFS`.
    pub fn set_filter(&self, which: &Which, mode: Mode, sources: Vec<IpAddr>) -> Result<()> {
        if sources.len() > max_sources(which.group) {
            return Err(Errno::ENOBUFS);
        }
        if mode == Mode::Include && sources.is_empty() {
            return self.leave(which);
        }
        let mut list = self.list.lock();
        let member = list.iter_mut().find(|m| which.is(m)).ok_or(Errno::EINVAL)?;
        member.mode = mode;
        member.sources = Some(sources).filter(|s| !s.is_empty());
        Ok(())
    }
}

impl Drop for Memberships {
    fn drop(&mut self) {
        let list = std::mem::take(&mut *self.list.lock());
        list.iter().for_each(|m| self.net.leave_group(&m.group));
    }
}

fn max_sources(ip: IpAddr) -> usize {
    let [v4, v6] = MAX_SOURCES;
    if ip.is_ipv4() { v4 } else { v6 }
}
