//! Multicast groups (`ip(7)`, `ipv6(7)`; RFC 3376, RFC 3678).
//!
//! * [`Groups`]: how many sockets of a network are in a group on an interface; what is sent to a group that nobody on
//!   this machine has joined goes nowhere, or to other machines only.
//! * [`member`]: the groups one socket is in, and whom it hears there.
//! * [`request`]: the options that join, leave and filter.

pub mod member;
mod request;

pub use member::Memberships;
pub use request::{interface_address, is_option, set};

use super::Net;
use super::interface::LOOPBACK;
use super::uplink::Uplink;
use crate::errno::Result;
use crate::socket::inet::uplink::error::errno;
use crate::sync::{Mutex, rank};
use netstack::IfaceId;
use rustc_hash::FxHashMap;
use std::net::IpAddr;

/// A group on an interface.
pub type Group = (IpAddr, u32);

/// The groups of a network: how many sockets are in each.
#[derive(Default)]
pub struct Groups(Mutex<FxHashMap<Group, usize>, { rank::LEAF }>);

impl Groups {
    /// True if some socket is in the group.
    pub fn has(&self, group: &Group) -> bool {
        self.0.lock().contains_key(group)
    }

    /// Every group.
    pub fn all(&self) -> Vec<(Group, usize)> {
        self.0.lock().iter().map(|(group, users)| (*group, *users)).collect()
    }

    fn add(&self, group: Group) {
        *self.0.lock().entry(group).or_default() += 1;
    }

    fn remove(&self, group: &Group) {
        let mut groups = self.0.lock();
        if let Some(count) = groups.get_mut(group) {
            *count -= 1;
            if *count == 0 {
                groups.remove(group);
            }
        }
    }
}

impl Net {
    /// Another socket is in the group. What comes from other machines is asked for (IGMP, MLD).
    fn join_group(&self, group: Group) -> Result<()> {
        let (ip, device) = group;
        if let Some(Uplink::Stack(stack)) = self.uplink.get()
            && device != LOOPBACK
        {
            stack.join_group(IfaceId(device), ip).map_err(errno)?;
        }
        self.groups.add(group);
        Ok(())
    }

    /// Undoes that.
    fn leave_group(&self, group: &Group) {
        let (ip, device) = *group;
        if let Some(Uplink::Stack(stack)) = self.uplink.get()
            && device != LOOPBACK
        {
            // An interface that is gone has no groups.
            let _ = stack.leave_group(IfaceId(device), ip);
        }
        self.groups.remove(group);
    }
}
