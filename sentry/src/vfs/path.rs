//! A place in the mount tree.

use super::Inode;
use super::dentry::Dentry;
use super::mount::Mount;
use std::fmt;
use std::sync::Arc;

/// A dentry seen through a mount (`struct path`).
#[derive(Clone)]
pub struct Path {
    /// The mount.
    pub mount: Arc<Mount>,
    /// The dentry; never negative.
    pub dentry: Arc<Dentry>,
}

/// How a path looks from some root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathText {
    /// Absolute path.
    pub bytes: Vec<u8>,
    /// False when the place cannot be reached from that root (`getcwd(2)` then says
    /// `(unreachable)`).
    pub reachable: bool,
    /// The name has been removed.
    pub deleted: bool,
}

impl Path {
    /// The object there.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.dentry.inode()
    }

    /// True if both are the same place.
    pub fn same(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.dentry, &other.dentry) && Arc::ptr_eq(&self.mount, &other.mount)
    }

    /// Where this is, seen from `root`.
    pub fn text(&self, root: &Path) -> PathText {
        let mut names: Vec<Arc<[u8]>> = Vec::new();
        let deleted = self.dentry.is_unlinked();
        let mut at = self.clone();
        let reachable = loop {
            if at.same(root) {
                break true;
            }
            if Arc::ptr_eq(&at.dentry, at.mount.root()) {
                match at.mount.mountpoint() {
                    Some(mountpoint) => at = mountpoint,
                    None => break false,
                }
                continue;
            }
            names.push(at.dentry.name());
            match at.dentry.parent() {
                Some(parent) => at.dentry = parent,
                None => break false,
            }
        };
        let mut bytes = Vec::with_capacity(names.iter().map(|n| n.len() + 1).sum::<usize>().max(1));
        for name in names.iter().rev() {
            bytes.push(b'/');
            bytes.extend_from_slice(name);
        }
        if bytes.is_empty() {
            bytes.push(b'/');
        }
        PathText { bytes, reachable, deleted }
    }

    /// The absolute path as `/proc/PID/fd/N` and `/proc/PID/maps` show it, with ` (deleted)` when the
    /// name is gone.
    pub fn to_bytes(&self, root: &Path) -> Vec<u8> {
        let mut text = self.text(root);
        if text.deleted {
            text.bytes.extend_from_slice(b" (deleted)");
        }
        text.bytes
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Path")
            .field("mount", &self.mount.id())
            .field("dentry", &self.dentry)
            .finish()
    }
}
