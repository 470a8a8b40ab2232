//! What is in an image: the super block, inodes, and where the data of a file lies.
//!
//! Layout and names are those of `Documentation/filesystems/erofs.rst` in Linux. All numbers are little-endian.

use crate::errno::{Errno, Result};
use crate::io::from_host;
use crate::vfs::FileType;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

const SUPER_OFFSET: u64 = 1024;
const SUPER_MAGIC: u32 = 0xe0f5_e1e2;
/// Properties that a reader must know. That LZ4 data stands at the end of its blocks matters to those who read it;
/// the others stand for files in chunks, and for long prefixes of names of attributes.
const KNOWN: u32 = ZERO_PADDING | CHUNKED_FILES | XATTR_PREFIXES;
const ZERO_PADDING: u32 = 1;
const CHUNKED_FILES: u32 = 4;
const XATTR_PREFIXES: u32 = 0x40;
/// Address of a chunk that is a hole.
const HOLE: u32 = u32::MAX;

/// What was read cannot be so: `EUCLEAN` in Linux.
pub const DAMAGED: Errno = Errno::EUCLEAN;

/// Bytes of the image, being taken apart.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `n` bytes. An error if there are none.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(DAMAGED)?;
        self.0 = rest;
        Ok(head)
    }

    fn number(&mut self, n: usize) -> Result<u64> {
        Ok(self.bytes(n)?.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8> {
        self.number(1).map(|n| n as u8)
    }

    /// A 16-bit number.
    pub fn u16(&mut self) -> Result<u16> {
        self.number(2).map(|n| n as u16)
    }

    /// A 32-bit number.
    pub fn u32(&mut self) -> Result<u32> {
        self.number(4).map(|n| n as u32)
    }

    /// A 64-bit number.
    pub fn u64(&mut self) -> Result<u64> {
        self.number(8)
    }
}

/// The data of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// In one piece at this offset.
    Plain(u64),
    /// As `Plain`, but what is left after the last full block stands at the second offset.
    Inline(u64, u64),
    /// In chunks of `1 << bits` bytes, of which the table stands at `table`; each entry has `entry` bytes.
    Chunks { table: u64, bits: u32, entry: u64 },
    /// Nothing, or a device number.
    None,
}

/// Where a stretch of a file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At this offset of the image.
    At(u64),
    /// Nowhere: zeroes.
    Hole,
}

/// An inode as the image has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Type and permission bits.
    pub mode: u32,
    /// Links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change, in nanoseconds.
    pub mtime: i64,
    /// Device number.
    pub rdev: u64,
    /// Where its extended attributes stand, and how many bytes they have.
    pub xattrs: (u64, u64),
    layout: Layout,
}

/// An image.
pub struct Image {
    fd: Arc<OwnedFd>,
    len: u64,
    block_bits: u32,
    directory_bits: u32,
    root: u64,
    inodes: u64,
    blocks: u64,
    build_time: (u64, u32),
    meta: u64,
    /// Where shared extended attributes stand.
    pub shared_xattrs: u64,
    /// Where the long prefixes of their names stand, and how many there are.
    pub prefixes: (u64, u8),
}

impl Image {
    /// Reads the super block of an open file.
    pub fn open(fd: Arc<OwnedFd>) -> Result<Image> {
        let len = platform::host::file::fstat(fd.as_fd()).map_err(from_host)?.st_size.max(0) as u64;
        let mut image = Image {
            fd,
            len,
            block_bits: 12,
            directory_bits: 12,
            root: 0,
            inodes: 0,
            blocks: 0,
            build_time: (0, 0),
            meta: 0,
            shared_xattrs: 0,
            prefixes: (0, 0),
        };
        let bytes = image.bytes(SUPER_OFFSET, 128).map_err(|_| Errno::EINVAL)?;
        let mut fields = Fields(&bytes);
        if fields.u32()? != SUPER_MAGIC {
            return Err(Errno::EINVAL);
        }
        let (_checksum, _compatible) = (fields.u32()?, fields.u32()?);
        image.block_bits = u32::from(fields.u8()?);
        let _slots = fields.u8()?;
        image.root = u64::from(fields.u16()?);
        image.inodes = fields.u64()?;
        image.build_time = (fields.u64()?, fields.u32()?);
        image.blocks = u64::from(fields.u32()?);
        let (meta, xattrs) = (fields.u32()?, fields.u32()?);
        fields.bytes(32)?;
        let incompatible = fields.u32()?;
        let _algorithms = fields.u16()?;
        let (devices, _slot) = (fields.u16()?, fields.u16()?);
        let (more_bits, prefixes, prefix_start) = (fields.u8()?, fields.u8()?, fields.u32()?);
        if !(9..=12).contains(&image.block_bits) || more_bits > 4 {
            return Err(Errno::EINVAL);
        }
        if incompatible & !KNOWN != 0 || devices != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        image.directory_bits = image.block_bits + u32::from(more_bits);
        image.meta = u64::from(meta) << image.block_bits;
        image.shared_xattrs = u64::from(xattrs) << image.block_bits;
        image.prefixes = (u64::from(prefix_start) * 4, prefixes);
        Ok(image)
    }

    /// Number of the root directory.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// The file.
    pub fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Size of a block in bytes, number of blocks and inodes.
    pub fn totals(&self) -> (u64, u64, u64) {
        (self.block_size(), self.blocks, self.inodes)
    }

    /// Size of a block in bytes.
    pub fn block_size(&self) -> u64 {
        1 << self.block_bits
    }

    /// Size of a block of a directory in bytes.
    pub fn directory_block(&self) -> u64 {
        1 << self.directory_bits
    }

    /// Bytes of the image. `EUCLEAN` if it is not so long.
    pub fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.len) {
            return Err(DAMAGED);
        }
        let mut bytes = vec![0; len];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let read = platform::host::io::read(self.fd.as_fd(), rest, Some(at));
            match read.map_err(from_host)? {
                0 => return Err(Errno::EIO),
                n => done += n,
            }
        }
        Ok(bytes)
    }

    /// The inode of a number. `EOPNOTSUPP` if its data is compressed.
    pub fn inode(&self, number: u64) -> Result<Record> {
        let place = number.checked_mul(32).and_then(|at| at.checked_add(self.meta));
        let place = place.ok_or(DAMAGED)?;
        let format = Fields(&self.bytes(place, 2)?).u16()?;
        let extended = format & 1 != 0;
        let size: u64 = if extended { 64 } else { 32 };
        let bytes = self.bytes(place, size as usize)?;
        let mut fields = Fields(&bytes);
        let (_format, xattr_count, mode) = (fields.u16()?, fields.u16()?, u32::from(fields.u16()?));
        let mut record = Record {
            mode,
            nlink: 1,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: time(self.build_time),
            rdev: 0,
            xattrs: (place + size, 0),
            layout: Layout::None,
        };
        let data;
        if extended {
            fields.u16()?;
            record.size = fields.u64()?;
            data = fields.u32()?;
            fields.u32()?;
            (record.uid, record.gid) = (fields.u32()?, fields.u32()?);
            record.mtime = time((fields.u64()?, fields.u32()?));
            record.nlink = fields.u32()?;
        } else {
            record.nlink = u32::from(fields.u16()?);
            record.size = u64::from(fields.u32()?);
            fields.u32()?;
            data = fields.u32()?;
            fields.u32()?;
            (record.uid, record.gid) = (u32::from(fields.u16()?), u32::from(fields.u16()?));
        }
        if record.size > i64::MAX as u64 {
            return Err(DAMAGED);
        }
        if xattr_count > 0 {
            record.xattrs.1 = 12 + u64::from(xattr_count - 1) * 4;
        }
        let behind = record.xattrs.0 + record.xattrs.1;
        match FileType::from_mode(mode).ok_or(DAMAGED)? {
            FileType::Regular | FileType::Directory | FileType::Symlink => {
                record.layout = self.layout(format >> 1 & 7, data, behind, record.size)?;
            }
            FileType::CharDevice | FileType::BlockDevice => {
                record.rdev = u64::from(data);
                record.size = 0;
            }
            FileType::Fifo | FileType::Socket => record.size = 0,
        }
        Ok(record)
    }

    fn layout(&self, kind: u16, data: u32, behind: u64, size: u64) -> Result<Layout> {
        const PLAIN: u16 = 0;
        const INLINE: u16 = 2;
        const CHUNKS: u16 = 4;
        let start = u64::from(data) << self.block_bits;
        match kind {
            PLAIN => Ok(Layout::Plain(start)),
            INLINE => {
                let tail = size & (self.block_size() - 1);
                // The tail never goes beyond the block in which it begins.
                if (behind & (self.block_size() - 1)) + tail > self.block_size() {
                    return Err(DAMAGED);
                }
                Ok(Layout::Inline(start, behind))
            }
            CHUNKS => {
                const INDEXES: u32 = 0x20;
                if data & !0x3f != 0 {
                    return Err(Errno::EOPNOTSUPP);
                }
                let entry: u64 = if data & INDEXES != 0 { 8 } else { 4 };
                let table = behind.next_multiple_of(entry);
                Ok(Layout::Chunks { table, bits: self.block_bits + (data & 0x1f), entry })
            }
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    /// Where the bytes from `offset` of a file lie, and how many stand there in one piece; not behind its end.
    pub fn place(&self, record: &Record, offset: u64) -> Result<Option<(Place, u64)>> {
        let left = record.size.saturating_sub(offset);
        if left == 0 {
            return Ok(None);
        }
        let checked = |at: u64, len: u64| match at.checked_add(len) {
            Some(end) if end <= self.len => Ok(Some((Place::At(at), len))),
            _ => Err(DAMAGED),
        };
        match record.layout {
            Layout::None => Ok(None),
            Layout::Plain(start) => checked(start.checked_add(offset).ok_or(DAMAGED)?, left),
            Layout::Inline(start, tail) => {
                let blocks = record.size & !(self.block_size() - 1);
                if offset < blocks {
                    checked(start.checked_add(offset).ok_or(DAMAGED)?, blocks - offset)
                } else {
                    checked(tail + (offset - blocks), left)
                }
            }
            Layout::Chunks { table, bits, entry } => {
                let chunk = 1_u64 << bits;
                let (index, within) = (offset >> bits, offset & (chunk - 1));
                let at = index.checked_mul(entry).and_then(|at| at.checked_add(table));
                let bytes = self.bytes(at.ok_or(DAMAGED)?, entry as usize)?;
                let mut fields = Fields(&bytes);
                if entry == 8 {
                    let (_advice, device) = (fields.u16()?, fields.u16()?);
                    if device != 0 {
                        return Err(Errno::EOPNOTSUPP);
                    }
                }
                let block = fields.u32()?;
                let len = left.min(chunk - within);
                if block == HOLE {
                    return Ok(Some((Place::Hole, len)));
                }
                checked((u64::from(block) << self.block_bits) + within, len)
            }
        }
    }

    /// Up to `len` bytes of a file from `offset`, fewer only at its end.
    pub fn read(&self, record: &Record, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < len {
            let Some((place, run)) = self.place(record, offset + out.len() as u64)? else { break };
            let n = run.min((len - out.len()) as u64) as usize;
            match place {
                Place::Hole => out.resize(out.len() + n, 0),
                Place::At(at) => out.extend(self.bytes(at, n)?),
            }
        }
        Ok(out)
    }
}

fn time((seconds, nanos): (u64, u32)) -> i64 {
    let whole = (seconds as i64).saturating_mul(1_000_000_000);
    whole.saturating_add(i64::from(nanos.min(999_999_999)))
}
