//! Mounts.

/// A file system attached to the tree.
pub struct Mount {}
