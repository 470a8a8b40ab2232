//! Propagation of mounts (`mount_namespaces(7)`, "Shared subtrees").
//!
//! Mounts of one [`PeerGroup`] receive each other's mounts and unmounts; slaves of a group receive from it
//! and give nothing back. A mount can be a slave of one group and a member of another.

use super::Mount;
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, rank};
use crate::vfs::dentry::Dentry;
use std::sync::{Arc, Weak};

/// How a mount propagates (`mount(2)`, `mount_setattr(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// `MS_PRIVATE`
    Private,
    /// `MS_SHARED`
    Shared,
    /// `MS_SLAVE`
    Slave,
    /// `MS_UNBINDABLE`
    Unbindable,
}

impl Propagation {
    /// All that [`Propagation::wanted`] looks at.
    pub const FLAGS: u64 =
        libc::MS_UNBINDABLE | libc::MS_PRIVATE | libc::MS_SLAVE | libc::MS_SHARED;

    /// The one of `mount(2)`'s flags. `EINVAL` when there are several.
    pub fn wanted(flags: u64) -> Result<Option<Propagation>> {
        match flags & Self::FLAGS {
            0 => Ok(None),
            libc::MS_UNBINDABLE => Ok(Some(Self::Unbindable)),
            libc::MS_PRIVATE => Ok(Some(Self::Private)),
            libc::MS_SLAVE => Ok(Some(Self::Slave)),
            libc::MS_SHARED => Ok(Some(Self::Shared)),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Mounts that share what is mounted in them.
pub struct PeerGroup {
    id: u32,
    members: Mutex<Members, { rank::LEAF }>,
}

#[derive(Default)]
struct Members {
    peers: Vec<Weak<Mount>>,
    slaves: Vec<Weak<Mount>>,
}

/// Ids in use, so that the lowest free one can be given out as in Linux.
static IDS: Mutex<Vec<u32>, { rank::LEAF }> = Mutex::new(Vec::new());

impl PeerGroup {
    fn new() -> Arc<PeerGroup> {
        let mut ids = IDS.lock();
        let free = (1..).zip(ids.iter()).find(|(want, id)| want != *id).map(|(want, _)| want);
        let id = free.unwrap_or(ids.len() as u32 + 1);
        ids.insert(id as usize - 1, id);
        Arc::new(PeerGroup { id, members: Mutex::new(Members::default()) })
    }

    /// As `mountinfo` shows it.
    pub fn id(&self) -> u32 {
        self.id
    }

    fn peers(&self) -> Vec<Arc<Mount>> {
        self.members.lock().peers.iter().filter_map(Weak::upgrade).collect()
    }

    fn slaves(&self) -> Vec<Arc<Mount>> {
        self.members.lock().slaves.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Drop for PeerGroup {
    fn drop(&mut self) {
        let mut ids = IDS.lock();
        if let Ok(i) = ids.binary_search(&self.id) {
            ids.remove(i);
        }
    }
}

/// Which groups a mount belongs to.
#[derive(Default, Clone)]
pub(super) struct Relations {
    shared: Option<Arc<PeerGroup>>,
    master: Option<Arc<PeerGroup>>,
    unbindable: bool,
}

fn forget(list: &mut Vec<Weak<Mount>>, mount: &Mount) {
    list.retain(|other| other.strong_count() > 0 && !std::ptr::eq(other.as_ptr(), mount));
}

impl Mount {
    /// The group it shares its mounts with.
    pub fn peer_group(&self) -> Option<Arc<PeerGroup>> {
        self.relations.lock().shared.clone()
    }

    /// The group it is a slave of.
    pub fn master(&self) -> Option<Arc<PeerGroup>> {
        self.relations.lock().master.clone()
    }

    /// True if it shares its mounts.
    pub fn is_shared(&self) -> bool {
        self.relations.lock().shared.is_some()
    }

    /// True if it cannot be bind mounted.
    pub fn is_unbindable(&self) -> bool {
        self.relations.lock().unbindable
    }

    fn relations(&self) -> Relations {
        self.relations.lock().clone()
    }

    fn set_relations(self: &Arc<Self>, new: Relations) {
        let old = std::mem::replace(&mut *self.relations.lock(), new.clone());
        if let Some(group) = &old.shared {
            forget(&mut group.members.lock().peers, self);
        }
        if let Some(group) = &old.master {
            forget(&mut group.members.lock().slaves, self);
        }
        if let Some(group) = &new.shared {
            group.members.lock().peers.push(Arc::downgrade(self));
        }
        if let Some(group) = &new.master {
            group.members.lock().slaves.push(Arc::downgrade(self));
        }
    }

    /// It no longer gives or receives. Slaves of a group that it leaves empty get its master.
    pub(super) fn leave_relations(self: &Arc<Self>) {
        let old = self.relations();
        self.set_relations(Relations::default());
        hand_over_slaves(&old);
    }

    /// Changes how it propagates (`mount(2)`).
    pub(super) fn change_propagation(self: &Arc<Self>, to: Propagation) {
        let old = self.relations();
        let new = match to {
            Propagation::Shared => Relations {
                shared: Some(old.shared.clone().unwrap_or_else(PeerGroup::new)),
                unbindable: false,
                ..old.clone()
            },
            Propagation::Private => Relations::default(),
            Propagation::Unbindable => Relations { unbindable: true, ..Relations::default() },
            // The last of its group has no one to be a slave of, but what the group itself was.
            Propagation::Slave => match &old.shared {
                Some(group) if group.peers().len() > 1 => {
                    Relations { master: Some(group.clone()), ..Relations::default() }
                }
                _ => Relations { master: old.master.clone(), ..Relations::default() },
            },
        };
        self.set_relations(new);
        if to != Propagation::Shared {
            hand_over_slaves(&old);
        }
    }

    /// Related to others as `original` is (a bind mount, a copy for a peer).
    pub(super) fn relate_like(self: &Arc<Self>, original: &Mount) {
        self.set_relations(original.relations());
    }

    /// Receives what `original` gets, and gives nothing back (a copy for a less privileged namespace).
    pub(super) fn relate_below(self: &Arc<Self>, original: &Mount) {
        let theirs = original.relations();
        let master = theirs.shared.or(theirs.master);
        self.set_relations(Relations { shared: None, master, unbindable: theirs.unbindable });
    }

    /// As [`Mount::relate_below`], but what is mounted in it goes to a group of its own.
    fn relate_below_shared(self: &Arc<Self>, original: &Mount) {
        let theirs = original.relations();
        let master = theirs.shared.or(theirs.master);
        self.set_relations(Relations { shared: Some(PeerGroup::new()), master, unbindable: false });
    }

    /// Joins the set of mounts that share, if it does not yet.
    pub(super) fn share(self: &Arc<Self>) {
        if !self.is_shared() {
            self.change_propagation(Propagation::Shared);
        }
    }
}

/// A group without members cannot give anything to its slaves: they become slaves of what it was a
/// slave of.
fn hand_over_slaves(old: &Relations) {
    let Some(group) = &old.shared else { return };
    if !group.peers().is_empty() {
        return;
    }
    for slave in group.slaves() {
        let new = Relations { master: old.master.clone(), ..slave.relations() };
        slave.set_relations(new);
    }
}

/// How a mount that propagates to a place is to be related to the one it was copied from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copied {
    /// Mounted in a peer.
    Peer,
    /// Mounted in a slave.
    Slave,
    /// Mounted in a slave that shares with others.
    SharedSlave,
}

impl Copied {
    pub(super) fn relate(self, copy: &Arc<Mount>, original: &Mount) {
        match self {
            Copied::Peer => copy.relate_like(original),
            Copied::Slave => copy.relate_below(original),
            Copied::SharedSlave => copy.relate_below_shared(original),
        }
    }
}

/// A mount that receives what is mounted in another one.
pub(super) struct Receiver {
    pub mount: Arc<Mount>,
    /// Index of the receiver whose copy this one's is made from; `None`: the original.
    pub from: Option<usize>,
    pub copied: Copied,
}

/// Every mount that receives what is mounted on `dentry` in `mount`, itself left out.
pub(super) fn receivers(mount: &Arc<Mount>, dentry: &Arc<Dentry>) -> Vec<Receiver> {
    let mut found: Vec<Receiver> = Vec::new();
    let Some(group) = mount.peer_group() else { return found };
    let mut seen = vec![mount.id()];
    // Groups whose members and slaves are still to be looked at, with the receiver that stands for them.
    let mut todo = vec![(group, None)];
    while let Some((group, from)) = todo.pop() {
        let peers = group.peers().into_iter().map(|peer| (peer, Copied::Peer));
        let slaves = group.slaves().into_iter().map(|slave| {
            let copied = if slave.is_shared() { Copied::SharedSlave } else { Copied::Slave };
            (slave, copied)
        });
        for (other, copied) in peers.chain(slaves) {
            if seen.contains(&other.id()) || other.namespace().is_none() {
                continue;
            }
            seen.push(other.id());
            let visible = dentry.is_within(other.root());
            let index = found.len();
            let next = (copied == Copied::SharedSlave).then(|| other.peer_group()).flatten();
            if visible {
                found.push(Receiver { mount: other, from, copied });
            }
            if let Some(next) = next {
                todo.push((next, if visible { Some(index) } else { from }));
            }
        }
    }
    found
}
