//! The dentry cache.

use super::Inode;
use std::sync::Arc;

/// A name in a directory, and what it stands for.
pub struct Dentry {
    inode: Arc<dyn Inode>,
}

impl Dentry {
    /// The object.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }
}
