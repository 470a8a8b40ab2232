//! Objects of a file system.

use super::{Attr, FileOps, FileType, OpenFlags, SetAttr};
use crate::errno::{Errno, Result};
use crate::kernel::Credentials;
use crate::socket::Kind;
use crate::vfs::path::Path;
use crate::vfs::permission::Access;
use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What `statfs(2)` reports of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatFs {
    /// Magic number (`f_type`).
    pub magic: u64,
    /// Block size in bytes.
    pub block_size: u64,
    /// Blocks in all, free, and available to ordinary users.
    pub blocks: [u64; 3],
    /// Inodes in all and free.
    pub files: [u64; 2],
    /// Longest name.
    pub name_max: u64,
    /// Unit of `blocks` in bytes (`f_frsize`); 0: the block size.
    pub fragment_size: u64,
}

/// An instance of a file system (Linux's super block).
pub trait FileSystem: Send + Sync + Any {
    /// Type as in `/proc/filesystems`.
    fn type_name(&self) -> &'static str;

    /// Type as `/proc/PID/mounts` shows it: with its subtype (`fuse.sshfs`).
    fn full_type(&self) -> String {
        self.type_name().to_owned()
    }

    /// Device number (`st_dev`) of its inodes.
    fn dev(&self) -> u64;

    /// Usage and limits.
    fn statfs(&self) -> Result<StatFs>;

    /// Options as `/proc/self/mounts` shows them, without `ro`/`rw`.
    fn options(&self) -> String {
        String::new()
    }

    /// True when names may appear or vanish without going through the VFS (proc): a cached dentry
    /// must be looked up again before it is used, and negative dentries are not kept.
    fn volatile_names(&self) -> bool {
        false
    }

    /// True when inodes of directories are worth keeping for a while although names are volatile: they remember names.
    fn keeps_directories(&self) -> bool {
        false
    }

    /// True when operations may wait for a guest process, as long as that likes: then the VFS holds no locks
    /// meanwhile, and order among them is the file system's affair. Names are volatile, too.
    fn waits(&self) -> bool {
        false
    }
}

bitflags::bitflags! {
    /// Flags of an inode (`ioctl_iflags(2)`), with the values of `FS_*_FL`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct InodeFlags: u32 {
        /// Nothing about it can be changed.
        const IMMUTABLE = 0x10;
        /// It can only be appended to.
        const APPEND = 0x20;
        /// `dump(8)` leaves it out.
        const NODUMP = 0x40;
        /// Its access time is not updated.
        const NOATIME = 0x80;
    }
}

impl InodeFlags {
    /// Those that a new inode takes over from its directory.
    pub const INHERITED: InodeFlags = Self::NODUMP.union(Self::NOATIME);
    /// Those that keep it from being changed.
    pub const LOCKS: InodeFlags = Self::IMMUTABLE.union(Self::APPEND);
}

/// Who will own a new inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id in the file system's (root) user namespace.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// An object of a file system. Permission checks, name checks, mount points, read-only mounts and the
/// dentry cache are the VFS's work; an inode does what it is told, or says why it cannot.
///
/// The defaults are those of an object that is not a directory, not a link, and has no attributes
/// that can be changed.
pub trait Inode: Send + Sync + Any {
    /// The file system it belongs to.
    fn fs(&self) -> Arc<dyn FileSystem>;

    /// Current attributes.
    fn attr(&self) -> Result<Attr>;

    /// Its type, which never changes.
    fn file_type(&self) -> FileType {
        self.attr().map_or(FileType::Regular, |attr| attr.file_type())
    }

    /// Whether a process may have such access, where mode and owner do not decide that; `None`: they do.
    fn permission(&self, _creds: &Credentials, _want: Access) -> Option<Result<()>> {
        None
    }

    /// As [`Inode::permission`], for `access(2)`.
    fn access(&self, creds: &Credentials, want: Access) -> Option<Result<()>> {
        self.permission(creds, want)
    }

    /// Changes attributes; `ctime` is updated by the file system.
    fn set_attr(&self, _changes: &SetAttr) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Its flags; `None` where there are none.
    fn flags(&self) -> Option<InodeFlags> {
        None
    }

    /// Sets its flags.
    fn set_flags(&self, _flags: InodeFlags) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Opens it. `path` is where it was found; `flags` have been checked against permissions.
    /// Truncation by `O_TRUNC` is done by the VFS through [`Inode::set_attr`].
    fn open(self: Arc<Self>, path: &Path, flags: OpenFlags) -> Result<Arc<dyn FileOps>>;

    /// Opens a FIFO that is shared with programs outside the sandbox, without waiting for the other side; `None` for
    /// anything else.
    fn open_outside(&self, _flags: OpenFlags) -> Option<Result<OwnedFd>> {
        None
    }

    /// Connects to the Unix socket that a program outside has bound here; `None` where there are none.
    fn connect_outside(&self, _kind: Kind) -> Option<Result<OwnedFd>> {
        None
    }

    /// As [`Inode::create`] for the node of a Unix socket to which programs outside can connect; also gives that socket,
    /// which listens. `None` where there are none.
    fn bind_outside(
        &self,
        _name: &[u8],
        _kind: Kind,
        _mode: u32,
        _owner: Owner,
    ) -> Option<Result<(Arc<dyn Inode>, OwnedFd)>> {
        None
    }

    /// Child of that name. `ENOENT` if there is none, `ENOTDIR` if this is not a directory.
    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOTDIR)
    }

    /// As [`Inode::lookup`]. `rest` is the rest of the path being walked, slashes included: only a
    /// hint, for file systems that can fetch several components at once.
    fn lookup_ahead(&self, name: &[u8], _rest: &[u8]) -> Result<Arc<dyn Inode>> {
        self.lookup(name)
    }

    /// Makes a file that is not a directory or link: `mode` has the type, `rdev` the device number.
    /// `EEXIST` if the name is taken.
    fn create(
        &self,
        _name: &[u8],
        _mode: u32,
        _rdev: u64,
        _owner: Owner,
    ) -> Result<Arc<dyn Inode>> {
        Err(Errno::EPERM)
    }

    /// Makes a regular file that is opened with `flags` next, for file systems that can do both at once.
    fn create_for_open(
        &self,
        name: &[u8],
        mode: u32,
        owner: Owner,
        _flags: OpenFlags,
    ) -> Result<Arc<dyn Inode>> {
        self.create(name, mode, 0, owner)
    }

    /// Makes an unnamed regular file (`O_TMPFILE`).
    fn create_unnamed(&self, _mode: u32, _owner: Owner) -> Result<Arc<dyn Inode>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Makes a directory.
    fn mkdir(&self, _name: &[u8], _mode: u32, _owner: Owner) -> Result<Arc<dyn Inode>> {
        Err(Errno::EPERM)
    }

    /// Makes a symbolic link.
    fn symlink(&self, _name: &[u8], _target: &[u8], _owner: Owner) -> Result<Arc<dyn Inode>> {
        Err(Errno::EPERM)
    }

    /// Makes `name` another name of `target`, which is of the same file system.
    fn link(&self, _name: &[u8], _target: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes the name of something that is not a directory.
    fn unlink(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes an empty directory.
    fn rmdir(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Renames a child to `new_name` in `new_dir` (same file system). `flags` are `RENAME_*` of
    /// `renameat2(2)`. The VFS has excluded loops and type conflicts.
    fn rename(
        &self,
        _name: &[u8],
        _new_dir: &Arc<dyn Inode>,
        _new_name: &[u8],
        _flags: u32,
    ) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Target of a symbolic link.
    fn readlink(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }

    /// Where a magic link (`/proc/PID/fd/N`, `exe`, `cwd`, `root`) leads; `None` for ordinary links,
    /// whose text is walked.
    fn magic_link(&self) -> Option<Result<Path>> {
        None
    }

    /// Value of an extended attribute. `ENODATA` if there is none.
    fn get_xattr(&self, _name: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets an extended attribute; `flags` are `XATTR_CREATE`/`XATTR_REPLACE`.
    fn set_xattr(&self, _name: &[u8], _value: &[u8], _flags: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Names of the extended attributes.
    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes an extended attribute.
    fn remove_xattr(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// What is attached to the inode as long as it lives in memory: advisory locks, inotify watches,
    /// a bound socket, a FIFO's pipe.
    fn attachments(&self) -> &super::attachments::Attachments;

    /// For downcasts within a file system.
    fn as_any(&self) -> &dyn Any;
}
