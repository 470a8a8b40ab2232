//! A place in the mount tree.

use super::Inode;
use super::dentry::Dentry;
use super::mount::Mount;
use std::sync::Arc;

/// A dentry seen through a mount (`struct path`).
#[derive(Clone)]
pub struct Path {
    /// The mount.
    pub mount: Arc<Mount>,
    /// The dentry; never negative.
    pub dentry: Arc<Dentry>,
}

impl Path {
    /// The object there.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.dentry.inode()
    }
}
