//! File handles (`name_to_handle_at(2)`).
//!
//! A handle is the device and inode number of a file. Whoever may open files by handles could reach every file with one, so
//! only handles that have been given out are good for that: the table keeps where they lead.

use super::Dentry;
use crate::errno::{Errno, Result};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Most handles that are kept; the oldest become stale.
const MOST: usize = 4096;

/// What a handle holds: device and inode number.
pub type Identity = (u64, u64);

/// A handle with device and inode number.
pub const TYPE_INODE: i32 = 0x81;
/// A handle of a file system that the kernel makes up: the inode number (`FILEID_KERNFS`).
pub const TYPE_KERNFS: i32 = 0xfe;

/// A file's handle.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Its type (`handle_type`).
    pub kind: i32,
    /// What it consists of (`f_handle`).
    pub bytes: Vec<u8>,
    /// What it stands for.
    pub identity: Identity,
}

impl Handle {
    /// The handle of an object. `EOPNOTSUPP` where the file system gives none out that files could be opened by, and
    /// that is what they are wanted for.
    pub fn of(dentry: &Dentry, only_id: bool) -> Result<Handle> {
        let attr = dentry.inode().attr()?;
        let identity = (attr.dev, attr.ino);
        let (kind, bytes) = match dentry.fs().type_name() {
            "proc" | "devpts" | "mqueue" | "nsfs" | "pipefs" | "sockfs" if !only_id => {
                return Err(Errno::EOPNOTSUPP);
            }
            "cgroup2" | "sysfs" => (TYPE_KERNFS, attr.ino.to_le_bytes().to_vec()),
            _ => (TYPE_INODE, [attr.dev.to_le_bytes(), attr.ino.to_le_bytes()].concat()),
        };
        Ok(Handle { kind, bytes, identity })
    }
}

/// The handles that have been given out.
#[derive(Default)]
pub struct Handles {
    places: BTreeMap<Identity, Arc<Dentry>>,
    order: VecDeque<Identity>,
}

impl Handles {
    /// Notes where a handle leads. What is returned is to be dropped without a lock.
    pub fn give(&mut self, identity: Identity, place: &Arc<Dentry>) -> Vec<Arc<Dentry>> {
        let old = self.places.insert(identity, place.clone());
        let mut displaced: Vec<_> = old.into_iter().collect();
        if displaced.is_empty() {
            self.order.push_back(identity);
        }
        while self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            displaced.extend(self.places.remove(&oldest));
        }
        displaced
    }

    /// As [`Handles::give`], but where a handle leads already, a name that is gone is not preferred.
    pub fn note(&mut self, identity: Identity, place: &Arc<Dentry>) -> Vec<Arc<Dentry>> {
        match place.is_unlinked() && self.places.contains_key(&identity) {
            true => Vec::new(),
            false => self.give(identity, place),
        }
    }

    /// Where a handle leads, if that is known.
    pub fn find(&self, identity: Identity) -> Option<Arc<Dentry>> {
        self.places.get(&identity).cloned()
    }
}
