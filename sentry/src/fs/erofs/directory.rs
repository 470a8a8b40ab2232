//! Directories of an image: blocks of entries, each block followed by its names.

use super::ErofsInode;
use super::image::{DAMAGED, Fields, Image, Record};
use crate::errno::{Errno, Result};
use crate::io::Sink;
use crate::vfs::{DirEntry, File, FileOps, FileType};
use std::any::Any;
use std::sync::Arc;

/// Length of an entry without its name.
const ENTRY: usize = 12;
const NAME_MAX: usize = 255;

/// An entry: name, inode number, type.
type Entry<'a> = (&'a [u8], u64, u8);

/// The entries of a block.
fn entries(block: &[u8]) -> Result<Vec<Entry<'_>>> {
    let header = |i: usize| -> Result<(u64, usize, u8)> {
        let mut fields = Fields(block.get(i * ENTRY..).ok_or(DAMAGED)?);
        Ok((fields.u64()?, usize::from(fields.u16()?), fields.u8()?))
    };
    // The names begin where the entries end.
    let (_, names, _) = header(0)?;
    if names == 0 || !names.is_multiple_of(ENTRY) || names > block.len() {
        return Err(DAMAGED);
    }
    let count = names / ENTRY;
    let mut all = Vec::with_capacity(count);
    for i in 0..count {
        let (number, from, kind) = header(i)?;
        let name = if i + 1 < count {
            let (_, to, _) = header(i + 1)?;
            block.get(from..to)
        } else {
            let rest = block.get(from..).unwrap_or_default();
            rest.split(|byte| *byte == 0).next()
        };
        let name = name.filter(|name| !name.is_empty() && name.len() <= NAME_MAX).ok_or(DAMAGED)?;
        if from < names || name.contains(&b'/') || name.contains(&0) {
            return Err(DAMAGED);
        }
        all.push((name, number, kind));
    }
    Ok(all)
}

fn blocks(image: &Image, record: &Record) -> u64 {
    record.size.div_ceil(image.directory_block())
}

fn block(image: &Image, record: &Record, index: u64) -> Result<Vec<u8>> {
    let size = image.directory_block();
    let bytes = image.read(record, index.checked_mul(size).ok_or(DAMAGED)?, size as usize)?;
    if bytes.is_empty() { Err(DAMAGED) } else { Ok(bytes) }
}

/// The number that a name stands for. Names are sorted, over all blocks.
pub fn find(image: &Image, record: &Record, name: &[u8]) -> Result<Option<u64>> {
    let (mut low, mut high) = (0, blocks(image, record));
    while low < high {
        let middle = low + (high - low) / 2;
        let bytes = block(image, record, middle)?;
        let entries = entries(&bytes)?;
        let (first, last) = match (entries.first(), entries.last()) {
            (Some(first), Some(last)) => (first.0, last.0),
            _ => return Err(DAMAGED),
        };
        if name < first {
            high = middle;
        } else if name > last {
            low = middle + 1;
        } else {
            let found = entries.iter().find(|(known, ..)| *known == name);
            return Ok(found.map(|(_, number, _)| *number));
        }
    }
    Ok(None)
}

/// An open directory. A position is the number of a block and of an entry in it.
pub struct ErofsDirectory {
    pub(super) inode: Arc<ErofsInode>,
}

/// Bits of a position for the entry: a block of 64 KiB has fewer entries.
const ENTRY_BITS: u32 = 16;

impl FileOps for ErofsDirectory {
    fn read(&self, _file: &File, _dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn readdir(
        &self,
        _file: &File,
        pos: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let (image, record) = (&self.inode.fs.image, &self.inode.record);
        let (mut index, mut skip) = (pos >> ENTRY_BITS, pos & ((1 << ENTRY_BITS) - 1));
        while index < blocks(image, record) {
            let bytes = block(image, record, index)?;
            for (i, (name, ino, kind)) in (0..).zip(entries(&bytes)?).skip(skip as usize) {
                let file_type = match kind {
                    2 => FileType::Directory,
                    3 => FileType::CharDevice,
                    4 => FileType::BlockDevice,
                    5 => FileType::Fifo,
                    6 => FileType::Socket,
                    7 => FileType::Symlink,
                    _ => FileType::Regular,
                };
                let next = index << ENTRY_BITS | (i + 1);
                if !emit(DirEntry { name, ino, file_type, next }) {
                    return Ok(());
                }
            }
            (index, skip) = (index + 1, 0);
        }
        Ok(())
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(self.inode.record.size)
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
