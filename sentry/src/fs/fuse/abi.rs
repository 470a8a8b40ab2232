//! The protocol between the kernel and a FUSE daemon, version 7 (`fuse(4)`, `linux/fuse.h`): numbers,
//! and the structures as bytes in the machine's order.

use crate::errno::{Errno, Result};
use crate::vfs::{Attr, FileType};

/// Version that is offered, and the oldest minor one that is spoken.
pub const VERSION: (u32, u32) = (7, 38);
/// Longest name of a directory entry.
pub const NAME_MAX: usize = 1024;
/// Length of `struct fuse_in_header` and `struct fuse_out_header`.
pub const IN_HEADER: usize = 40;
/// See [`IN_HEADER`].
pub const OUT_HEADER: usize = 16;
/// Node id of the root directory.
pub const ROOT_ID: u64 = 1;
/// Smallest buffer that a daemon may read requests with.
pub const MIN_READ_BUFFER: usize = 8192;
/// Most bytes in the data of one request.
pub const MAX_DATA: u32 = 1 << 20;
/// Most bytes in one reply: the data, and what may stand before it.
pub const MAX_REPLY: usize = MAX_DATA as usize + 4096;

macro_rules! opcodes {
    ($($name:ident = $n:literal),* $(,)?) => {
        /// What a request asks for (`enum fuse_opcode`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Opcode { $($name = $n),* }
    };
}

opcodes! {
    Lookup = 1, Forget = 2, GetAttr = 3, SetAttr = 4, ReadLink = 5, Symlink = 6, MkNod = 8, MkDir = 9,
    Unlink = 10, RmDir = 11, Rename = 12, Link = 13, Open = 14, Read = 15, Write = 16, StatFs = 17,
    Release = 18, FSync = 20, SetXattr = 21, GetXattr = 22, ListXattr = 23, RemoveXattr = 24,
    Flush = 25, Init = 26, OpenDir = 27, ReadDir = 28, ReleaseDir = 29, FSyncDir = 30, Access = 34,
    Create = 35, Interrupt = 36, BatchForget = 42, FAllocate = 43, ReadDirPlus = 44,
    Rename2 = 45, LSeek = 46,
}

bitflags::bitflags! {
    /// What both sides can (`flags` of `FUSE_INIT`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct InitFlags: u32 {
        /// Reads of one file may be under way at once.
        const ASYNC_READ = 1;
        /// Writes may be larger than a page.
        const BIG_WRITES = 1 << 5;
        /// The umask is the daemon's to apply; here it has been applied, which makes no difference.
        const DONT_MASK = 1 << 6;
        /// Cached data goes when a file's times or size change; here none is cached.
        const AUTO_INVAL_DATA = 1 << 12;
        /// Directories can be read with attributes.
        const DO_READDIRPLUS = 1 << 13;
        /// The kernel chooses when that is done.
        const READDIRPLUS_AUTO = 1 << 14;
        /// Direct reads and writes may be under way at once.
        const ASYNC_DIO = 1 << 15;
        /// `ENOSYS` for `FUSE_OPEN` means that files need not be opened.
        const NO_OPEN_SUPPORT = 1 << 17;
        /// Look-ups in one directory may be under way at once.
        const PARALLEL_DIROPS = 1 << 18;
        /// The daemon says how many pages a request may have.
        const MAX_PAGES = 1 << 22;
        /// As `NO_OPEN_SUPPORT`, for directories.
        const NO_OPENDIR_SUPPORT = 1 << 24;
    }
}

/// What is offered to a daemon.
pub const OFFERED: InitFlags = InitFlags::all();

/// Reads and writes bypass caches: the size that attributes tell does not count (`FOPEN_DIRECT_IO`).
pub const FOPEN_DIRECT_IO: u32 = 1;
/// The file has no position that could be set (`FOPEN_NONSEEKABLE`).
pub const FOPEN_NONSEEKABLE: u32 = 1 << 2;
/// `FUSE_FLUSH` is not wanted (`FOPEN_NOFLUSH`).
pub const FOPEN_NOFLUSH: u32 = 1 << 5;

/// Which attributes `FUSE_SETATTR` changes.
pub mod valid {
    /// `FATTR_MODE`
    pub const MODE: u32 = 1;
    /// `FATTR_UID`
    pub const UID: u32 = 1 << 1;
    /// `FATTR_GID`
    pub const GID: u32 = 1 << 2;
    /// `FATTR_SIZE`
    pub const SIZE: u32 = 1 << 3;
    /// `FATTR_ATIME`
    pub const ATIME: u32 = 1 << 4;
    /// `FATTR_MTIME`
    pub const MTIME: u32 = 1 << 5;
    /// `FATTR_ATIME_NOW`
    pub const ATIME_NOW: u32 = 1 << 7;
    /// `FATTR_MTIME_NOW`
    pub const MTIME_NOW: u32 = 1 << 8;
}

/// What a daemon tells without being asked (`enum fuse_notify_code`).
pub mod notice {
    /// An inode's attributes have changed.
    pub const INVAL_INODE: i32 = 2;
    /// A name has changed.
    pub const INVAL_ENTRY: i32 = 3;
    /// A name has gone.
    pub const DELETE: i32 = 6;
}

/// A body that is being written.
#[derive(Default)]
pub struct Body(pub Vec<u8>);

impl Body {
    /// Adds a 32-bit number.
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    /// Adds a 64-bit number.
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    /// Adds a name and the NUL behind it.
    pub fn name(mut self, name: &[u8]) -> Self {
        self.0.extend_from_slice(name);
        self.0.push(0);
        self
    }

    /// Adds bytes.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// Bytes that a daemon sent, being read. What is not there is an error (`EIO`).
pub struct Parser<'a>(pub &'a [u8]);

impl<'a> Parser<'a> {
    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(Errno::EIO)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.bytes(N)?.try_into().map_err(|_| Errno::EIO)
    }

    /// A 16-bit number.
    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_ne_bytes)
    }

    /// A 32-bit number.
    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    /// A 64-bit number.
    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_ne_bytes)
    }
}

/// Length of `struct fuse_entry_out`.
pub const ENTRY_OUT: usize = 128;
/// Length of `struct fuse_attr_out`.
pub const ATTR_OUT: usize = 104;
/// Length of `struct fuse_open_out`.
pub const OPEN_OUT: usize = 16;

/// Attributes and for how long they may be believed.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// The attributes; the device is the file system's to fill in.
    pub attr: Attr,
    /// Nanoseconds.
    pub valid: u64,
}

/// `struct fuse_entry_out`.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The daemon's name for the inode; 0: there is no such name.
    pub node: u64,
    /// Tells a node id that is used again from the one before.
    pub generation: u64,
    /// For how long the name may be believed, in nanoseconds.
    pub valid: u64,
    /// Its attributes.
    pub told: Told,
}

/// `struct fuse_open_out`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Opened {
    /// The daemon's handle.
    pub handle: u64,
    /// `FOPEN_*`.
    pub flags: u32,
}

fn nanoseconds(seconds: u64, nanos: u32) -> u64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(nanos.min(999_999_999)))
}

fn time(seconds: u64, nanos: u32) -> i64 {
    let whole = (seconds as i64).saturating_mul(1_000_000_000);
    whole.saturating_add(i64::from(nanos.min(999_999_999)))
}

impl Parser<'_> {
    /// `struct fuse_attr`. `EIO` for a mode without a type, or a size that is none.
    fn attr(&mut self) -> Result<Attr> {
        let (ino, size, blocks) = (self.u64()?, self.u64()?, self.u64()?);
        let seconds = [self.u64()?, self.u64()?, self.u64()?];
        let nanos = [self.u32()?, self.u32()?, self.u32()?];
        let (mode, nlink, uid, gid) = (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
        let (rdev, blksize, _flags) = (self.u32()?, self.u32()?, self.u32()?);
        if FileType::from_mode(mode).is_none() || size > i64::MAX as u64 {
            return Err(Errno::EIO);
        }
        let [atime, mtime, ctime] = [0, 1, 2].map(|i: usize| {
            let at = |s: &[u64; 3], n: &[u32; 3]| {
                time(s.get(i).copied().unwrap_or(0), n.get(i).copied().unwrap_or(0))
            };
            at(&seconds, &nanos)
        });
        Ok(Attr {
            dev: 0,
            ino,
            mode,
            nlink,
            uid,
            gid,
            rdev: u64::from(rdev),
            size,
            blksize: if blksize == 0 { 4096 } else { 1 << blksize.ilog2() },
            blocks,
            atime,
            mtime,
            ctime,
            btime: None,
        })
    }

    /// `struct fuse_attr_out`.
    pub fn attr_out(&mut self) -> Result<Told> {
        let (seconds, nanos, _) = (self.u64()?, self.u32()?, self.u32()?);
        Ok(Told { attr: self.attr()?, valid: nanoseconds(seconds, nanos) })
    }

    /// `struct fuse_entry_out`. A name that does not exist needs no attributes.
    pub fn entry_out(&mut self) -> Result<Option<Entry>> {
        let mut whole = Parser(self.bytes(ENTRY_OUT)?);
        let (node, generation) = (whole.u64()?, whole.u64()?);
        let (entry, attr) = (whole.u64()?, whole.u64()?);
        let (entry_nanos, attr_nanos) = (whole.u32()?, whole.u32()?);
        if node == 0 {
            return Ok(None);
        }
        let valid = nanoseconds(entry, entry_nanos);
        let told = Told { attr: whole.attr()?, valid: nanoseconds(attr, attr_nanos) };
        Ok(Some(Entry { node, generation, valid, told }))
    }

    /// For how long a `fuse_entry_out` says that there is no such name, in nanoseconds.
    pub fn negative_valid(bytes: &[u8]) -> Result<u64> {
        let mut parser = Parser(bytes.get(16..).unwrap_or_default());
        let (entry, _attr) = (parser.u64()?, parser.u64()?);
        Ok(nanoseconds(entry, parser.u32()?))
    }

    /// `struct fuse_open_out`.
    pub fn open_out(&mut self) -> Result<Opened> {
        let opened = Opened { handle: self.u64()?, flags: self.u32()? };
        self.u32()?;
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let mut bytes = vec![0; ENTRY_OUT];
        assert!(Parser(&bytes).entry_out().unwrap().is_none());
        bytes[0] = 5;
        // A mode without a type.
        assert_eq!(Parser(&bytes).entry_out().unwrap_err(), Errno::EIO);
        bytes[40 + 60..40 + 64].copy_from_slice(&0o100644_u32.to_ne_bytes());
        bytes[16..24].copy_from_slice(&u64::MAX.to_ne_bytes());
        let entry = Parser(&bytes).entry_out().unwrap().unwrap();
        assert_eq!((entry.node, entry.valid, entry.told.attr.mode), (5, u64::MAX, 0o100644));
        assert_eq!(Parser(&bytes[..100]).entry_out().unwrap_err(), Errno::EIO);
        bytes[48..56].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert_eq!(Parser(&bytes).entry_out().unwrap_err(), Errno::EIO);
    }
}
