//! The virtual file system: mounts, dentries, inodes and open files, as in Linux.
//!
//! * [`Inode`]: an object of a file system. [`FileSystem`]: what inodes of one instance share.
//! * [`FileOps`]: what an open file does; [`File`]: the open file description around it.
//! * [`Dentry`], [`Mount`], [`Path`]: names, the mount tree, and a place in it.
//! * [`walk`]: path resolution; [`open`]: `open(2)`; [`namei`]: making, removing and
//!   renaming names.

pub mod async_io;
pub mod attachments;
pub mod attr;
#[cfg(test)]
mod copies;
pub mod dcache;
pub mod dentry;
pub mod device;
pub mod dnotify;
pub mod fd_table;
pub mod file;
pub mod fs_context;
pub mod handles;
pub mod inode;
pub mod locks;
pub mod mount;
pub mod namei;
pub mod notify;
pub mod open;
pub mod own_attr;
pub mod path;
pub mod permission;
pub mod protected;
#[cfg(test)]
mod tests;
pub mod walk;

pub use attachments::Attachments;
pub use attr::{Attr, FileType, SetAttr, TimeSet};
pub use dentry::Dentry;
pub use fd_table::FdTable;
pub use file::{DirEntry, File, FileOps, Mappable, OpenFlags};
pub use fs_context::FsContext;
pub use inode::{FileSystem, Inode, InodeFlags, Owner, StatFs};
pub use mount::{Mount, MountFlags, MountNamespace};
pub use path::Path;
pub use walk::{WalkContext, WalkFlags};
