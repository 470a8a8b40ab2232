//! The files that the sentry has identifiers of.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;

use super::Result;
use crate::protocol::{Attr, NodeId};

/// Most files held at once. The limit on descriptors is usually lower, but hidden files have none.
const MAX_NODES: usize = 1 << 20;

/// A file held for the sentry.
#[derive(Debug)]
pub(super) struct Node {
    /// Index of the export it was reached through.
    pub(super) export: usize,
    /// It.
    pub(super) file: File,
}

/// How a file is held.
#[derive(Debug)]
pub(super) enum File {
    /// Open without access (`O_PATH`).
    Open {
        /// The descriptor.
        fd: OwnedFd,
        /// Its attributes when it was opened; only what identifies file and mount is used.
        attr: Attr,
    },
    /// A hidden one: these attributes are all there is.
    Hidden(Attr),
}

impl Node {
    /// The descriptor; a hidden file has none, and cannot be changed.
    pub(super) fn fd(&self) -> Result<BorrowedFd<'_>> {
        match &self.file {
            File::Open { fd, .. } => Ok(fd.as_fd()),
            File::Hidden(_) => Err(Errno::ACCESS),
        }
    }
}

/// One slot of the table.
#[derive(Debug, Default)]
struct Slot {
    /// How often the slot was used: the upper half of its identifiers, so that a stale one is
    /// noticed rather than naming another file.
    generation: u32,
    node: Option<Arc<Node>>,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// All files held for the sentry, by identifier.
#[derive(Debug, Default)]
pub(super) struct NodeTable(Mutex<Slots>);

impl NodeTable {
    /// Holds `node` and returns its identifier.
    pub(super) fn insert(&self, node: Node) -> Result<NodeId> {
        let mut slots = self.0.lock();
        let index = match slots.free.pop() {
            Some(index) => index,
            None if slots.slots.len() >= MAX_NODES => return Err(Errno::NFILE),
            None => {
                let index = u32::try_from(slots.slots.len()).map_err(|_| Errno::NFILE)?;
                slots.slots.push(Slot::default());
                index
            }
        };
        let slot = slots.slots.get_mut(index as usize).ok_or(Errno::NFILE)?;
        slot.node = Some(Arc::new(node));
        Ok(NodeId(u64::from(slot.generation) << 32 | u64::from(index)))
    }

    /// The file of an identifier, `EBADF` if there is none.
    pub(super) fn get(&self, id: NodeId) -> Result<Arc<Node>> {
        let (generation, index) = split(id);
        let slots = self.0.lock();
        let slot = slots.slots.get(index as usize).ok_or(Errno::BADF)?;
        match &slot.node {
            Some(node) if slot.generation == generation => Ok(Arc::clone(node)),
            _ => Err(Errno::BADF),
        }
    }

    /// Lets go of files. Identifiers of none are ignored.
    pub(super) fn forget(&self, ids: &[NodeId]) {
        for &id in ids {
            let (generation, index) = split(id);
            let mut slots = self.0.lock();
            let Some(slot) = slots.slots.get_mut(index as usize) else { continue };
            if slot.generation != generation || slot.node.is_none() {
                continue;
            }
            let node = slot.node.take();
            // After 2^32 uses the slot is left empty for good: no identifier ever comes back.
            if let Some(next) = slot.generation.checked_add(1) {
                slot.generation = next;
                slots.free.push(index);
            }
            drop(slots);
            // Closing may take long (a network file system), so not under the lock.
            drop(node);
        }
    }

    /// Number of files held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().slots.iter().filter(|slot| slot.node.is_some()).count()
    }
}

fn split(id: NodeId) -> (u32, u32) {
    // Both halves fit by construction.
    ((id.0 >> 32) as u32, (id.0 & u64::from(u32::MAX)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        let fd = rustix::fs::open(
            "/",
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        let attr = super::super::stat::stat_fd(&fd).unwrap();
        Node { export: 0, file: File::Open { fd, attr } }
    }

    #[test]
    fn identifiers_do_not_come_back() {
        let table = NodeTable::default();
        let first = table.insert(node()).unwrap();
        table.forget(&[first, first, NodeId(u64::MAX)]);
        let second = table.insert(node()).unwrap();
        assert_ne!(first, second);
        assert_eq!(table.get(first).err(), Some(Errno::BADF));
        assert!(table.get(second).is_ok());
        assert_eq!(table.len(), 1);
    }
}
