//! What is known about a file: the wire's own plain types.

use serde::{Deserialize, Serialize};

/// Names a file that the gofer holds open for the sentry.
///
/// Valid until it is given back with [`crate::Client::forget`]; never reused within a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// Owner of a file: host user and group number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
}

/// A point in time, since the epoch. `statx(2)`'s range, which a single count of nanoseconds lacks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub sec: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nsec: u32,
}

/// Type of a file, as in the `S_IFMT` bits of its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// The file system did not say (`DT_UNKNOWN`), or something Linux does not know today.
    Unknown,
}

impl FileKind {
    /// The kind that the `S_IFMT` bits of `mode` name.
    pub fn from_mode(mode: u32) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFREG => Self::Regular,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            libc::S_IFCHR => Self::CharDevice,
            libc::S_IFBLK => Self::BlockDevice,
            _ => Self::Unknown,
        }
    }

    /// The `d_type` byte of `getdents64(2)`.
    pub fn d_type(self) -> u8 {
        match self {
            Self::Regular => libc::DT_REG,
            Self::Directory => libc::DT_DIR,
            Self::Symlink => libc::DT_LNK,
            Self::Fifo => libc::DT_FIFO,
            Self::Socket => libc::DT_SOCK,
            Self::CharDevice => libc::DT_CHR,
            Self::BlockDevice => libc::DT_BLK,
            Self::Unknown => libc::DT_UNKNOWN,
        }
    }
}

/// Attributes of a file: the essentials of `statx(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attr {
    /// File type and permission bits (`st_mode`).
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owning host user.
    pub uid: u32,
    /// Owning host group.
    pub gid: u32,
    /// Inode number, unique within `dev`.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// Preferred block size for I/O, in bytes.
    pub blksize: u32,
    /// Host device the file lies on, as `makedev(3)` encodes it.
    pub dev: u64,
    /// Device that a device node names, as `makedev(3)` encodes it.
    pub rdev: u64,
    /// Host mount that the file was reached through; different ids are different mounts.
    pub mount_id: u64,
    /// The file is the root of a mount.
    pub mount_root: bool,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the contents.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Creation, when the file system records it.
    pub btime: Option<Timestamp>,
}

impl Attr {
    /// The file's type.
    pub fn kind(&self) -> FileKind {
        FileKind::from_mode(self.mode)
    }
}

/// One time stamp of [`SetAttr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeUpdate {
    /// The current time of the host (`UTIME_NOW`).
    Now,
    /// The given time.
    To(Timestamp),
}

/// Attributes to change; `None` leaves one as it is.
///
/// Applied in this order: owner, mode, size, times, so that a mode with set-id bits survives the
/// change of owner. When one fails, those before it stay changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAttr {
    /// New permission bits (07777).
    pub mode: Option<u32>,
    /// New owning user.
    pub uid: Option<u32>,
    /// New owning group.
    pub gid: Option<u32>,
    /// New size in bytes; regular files only.
    pub size: Option<u64>,
    /// New access time.
    pub atime: Option<TimeUpdate>,
    /// New modification time.
    pub mtime: Option<TimeUpdate>,
}

/// State of a file system, as in `statfs(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statfs {
    /// Type of file system (its magic number).
    pub kind: u64,
    /// Preferred block size, in bytes; the unit of the block counts.
    pub block_size: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for an unprivileged user.
    pub blocks_available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Longest name, in bytes.
    pub name_length: u64,
    /// Fragment size, in bytes.
    pub fragment_size: u64,
    /// Mount flags (`ST_RDONLY` and so on).
    pub flags: u64,
}
