//! File attributes: what `stat(2)` reports and `chmod(2)` and its kin change.

/// Type of a file, with the values of `S_IFMT` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum FileType {
    /// `S_IFIFO`
    Fifo = 0o010000,
    /// `S_IFCHR`
    CharDevice = 0o020000,
    /// `S_IFDIR`
    Directory = 0o040000,
    /// `S_IFBLK`
    BlockDevice = 0o060000,
    /// `S_IFREG`
    Regular = 0o100000,
    /// `S_IFLNK`
    Symlink = 0o120000,
    /// `S_IFSOCK`
    Socket = 0o140000,
}

impl FileType {
    /// The type in a `st_mode`; `None` for bits that name no type.
    pub fn from_mode(mode: u32) -> Option<FileType> {
        Some(match mode & 0o170000 {
            0o010000 => FileType::Fifo,
            0o020000 => FileType::CharDevice,
            0o040000 => FileType::Directory,
            0o060000 => FileType::BlockDevice,
            0o100000 => FileType::Regular,
            0o120000 => FileType::Symlink,
            0o140000 => FileType::Socket,
            _ => return None,
        })
    }

    /// The `d_type` of `getdents64(2)`.
    pub fn dirent_type(self) -> u8 {
        ((self as u32) >> 12) as u8
    }
}

/// Attributes of an inode (`stat(2)`, `statx(2)`). Times are nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Device of the file system (`makedev` encoding as in `st_dev`).
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Preferred I/O size in bytes.
    pub blksize: u32,
    /// Allocated 512-byte blocks.
    pub blocks: u64,
    /// Last access.
    pub atime: i64,
    /// Last change of contents.
    pub mtime: i64,
    /// Last change of attributes.
    pub ctime: i64,
    /// Creation, if known.
    pub btime: Option<i64>,
}

impl Attr {
    /// The type in `mode`. File systems only make modes that have one.
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode).unwrap_or(FileType::Regular)
    }

    /// True for a regular file; anonymous inodes, which have no type, are none.
    pub fn is_regular(&self) -> bool {
        FileType::from_mode(self.mode) == Some(FileType::Regular)
    }

    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type() == FileType::Directory
    }
}

/// New value for a time stamp (`utimensat(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSet {
    /// The current time (`UTIME_NOW`).
    Now,
    /// Nanoseconds since the epoch.
    At(i64),
}

/// Attributes to change; `None` leaves one as it is. Permission has been checked by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// New permission bits (07777).
    pub mode: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New size in bytes (`truncate(2)`).
    pub size: Option<u64>,
    /// New access time.
    pub atime: Option<TimeSet>,
    /// New modification time.
    pub mtime: Option<TimeSet>,
}

impl SetAttr {
    /// Makes the changes, the size apart, and notes when.
    pub fn apply(&self, attr: &mut Attr) {
        let now = crate::fs::anon::now();
        let time = |set: TimeSet| match set {
            TimeSet::Now => now,
            TimeSet::At(at) => at,
        };
        if let Some(mode) = self.mode {
            attr.mode = attr.mode & !0o7777 | mode & 0o7777;
        }
        attr.uid = self.uid.unwrap_or(attr.uid);
        attr.gid = self.gid.unwrap_or(attr.gid);
        attr.atime = self.atime.map_or(attr.atime, time);
        attr.mtime = self.mtime.map_or(attr.mtime, time);
        attr.ctime = now;
    }
}
