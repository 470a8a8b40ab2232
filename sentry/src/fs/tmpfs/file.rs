//! Regular files of tmpfs.

use super::Tmpfs;
use super::inode::TmpfsInode;
use super::pages::{Pages, Run};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::mm::{Discard, Mappings, PAGE_SIZE};
use crate::sync::{Mutex, rank};
use crate::vfs::{File, FileOps, Mappable, OpenFlags};
use platform::MapSource;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Largest file, in bytes (`MAX_LFS_FILESIZE`).
const MAX_SIZE: u64 = i64::MAX as u64;

/// `F_SEAL_SEAL`: no further seals.
pub(super) const F_SEAL_SEAL: u32 = 1;
const F_SEAL_SHRINK: u32 = 2;
const F_SEAL_GROW: u32 = 4;
const F_SEAL_WRITE: u32 = 8;
const F_SEAL_FUTURE_WRITE: u32 = 16;
/// `F_SEAL_EXEC`: who may execute it stays as it is.
pub(super) const F_SEAL_EXEC: u32 = 32;
const ALL_SEALS: u32 =
    F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_EXEC;

const FALLOC_KEEP_SIZE: u32 = 1;
const FALLOC_PUNCH_HOLE: u32 = 2;
const FALLOC_ZERO_RANGE: u32 = 0x10;

/// Most bytes that one hold of the write lock backs ahead of copying: a write that faults halfway
/// should not have taken all of the file system.
const WRITE_CHUNK: u64 = 1 << 20;

/// Contents of a regular file.
#[derive(Default)]
pub(super) struct Contents {
    size: AtomicU64,
    seals: AtomicU32,
    mappings: Mappings,
    pages: Mutex<Pages, { rank::FILE_PAGES }>,
    /// Serialises writes and changes of the size (`i_rwsem`).
    writing: Mutex<(), { rank::INODE }>,
}

impl Contents {
    /// Contents of a file that no seals can be added to: of every file that has a name.
    pub(super) fn unsealable() -> Self {
        Self { seals: AtomicU32::new(F_SEAL_SEAL), ..Self::default() }
    }

    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(super) fn allocated(&self) -> u64 {
        self.pages.lock().allocated()
    }

    pub(super) fn seals(&self) -> u32 {
        self.seals.load(Ordering::Relaxed)
    }

    /// Adds seals (`F_ADD_SEALS`). `EPERM` once sealed against that, `EBUSY` for a seal against writing
    /// while the file is mapped.
    pub(super) fn add_seals(&self, seals: u32) -> Result<()> {
        if seals & !ALL_SEALS != 0 {
            return Err(Errno::EINVAL);
        }
        let _touched;
        let _writing = self.writing.lock();
        if self.seals() & F_SEAL_SEAL != 0 {
            return Err(Errno::EPERM);
        }
        if seals & F_SEAL_WRITE != 0 && self.seals() & F_SEAL_WRITE == 0 {
            let mapped;
            (mapped, _touched) = self.mappings.shared_writable();
            if mapped {
                return Err(Errno::EBUSY);
            }
        }
        self.seals.fetch_or(seals, Ordering::Relaxed);
        Ok(())
    }

    /// `EPERM` if one of the seals is set.
    fn check_seals(&self, seals: u32) -> Result<()> {
        if self.seals() & seals != 0 { Err(Errno::EPERM) } else { Ok(()) }
    }

    pub(super) fn truncate(&self, fs: &Tmpfs, size: u64) -> Result<()> {
        if size > MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        let _touched;
        let _writing = self.writing.lock();
        let old = self.size();
        if size < old {
            self.check_seals(F_SEAL_SHRINK)?;
            self.size.store(size, Ordering::Release);
            _touched = self.mappings.discard(size..u64::MAX, Discard::Everything);
            self.pages.lock().clear(fs, size..round_up(old), false)?;
        } else if size > old {
            self.check_seals(F_SEAL_GROW)?;
            self.size.store(size, Ordering::Release);
        }
        Ok(())
    }

    pub(super) fn release(&mut self, fs: &Tmpfs) {
        self.pages.get_mut().release(fs);
    }

    /// What backs the file at `offset`.
    fn run(&self, offset: u64, len: u64) -> (Run, u64) {
        self.pages.lock().run(offset, len)
    }

    fn read(&self, dst: &mut dyn Sink, mut offset: u64) -> Result<usize> {
        let mut done = 0;
        while dst.remaining() > 0 {
            let left = self.size().saturating_sub(offset).min(dst.remaining() as u64);
            if left == 0 {
                break;
            }
            let (run, len) = self.run(offset, left);
            let put = match run {
                Run::Data(frames, at) => dst.put_frames(&frames, at, len as usize),
                Run::Hole => dst.put_zeroes(len as usize),
            };
            match put {
                Ok(n) => {
                    done += n;
                    offset += n as u64;
                    if (n as u64) < len {
                        break;
                    }
                }
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn write(&self, fs: &Tmpfs, src: &mut dyn Source, offset: Option<u64>) -> Result<(usize, u64)> {
        let _writing = self.writing.lock();
        self.check_seals(F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)?;
        let start = offset.unwrap_or_else(|| self.size());
        if start >= MAX_SIZE && src.remaining() > 0 {
            return Err(Errno::EFBIG);
        }
        let mut end = start.saturating_add(src.remaining() as u64).min(MAX_SIZE);
        if self.seals() & F_SEAL_GROW != 0 && end > self.size() {
            end = self.size();
            if start >= end {
                return Err(Errno::EPERM);
            }
        }
        let mut at = start;
        let result = loop {
            if at >= end {
                break Ok(());
            }
            let chunk = (end - at).min(WRITE_CHUNK);
            let pages = at / PAGE_SIZE..(at + chunk).div_ceil(PAGE_SIZE);
            let filled = self.pages.lock().fill(fs, pages);
            match self.copy_in(src, at, chunk) {
                Ok(n) => at += n,
                Err(e) => break filled.and(Err(e)),
            }
            if let Err(e) = filled {
                break Err(e);
            }
            if src.remaining() == 0 {
                break Ok(());
            }
        };
        if at > self.size() {
            self.size.store(at, Ordering::Release);
        }
        match result {
            Err(e) if at == start => Err(e),
            _ => Ok(((at - start) as usize, at)),
        }
    }

    /// Copies into backed pages, up to the first hole. Returns how many bytes; fails only when there
    /// is none.
    fn copy_in(&self, src: &mut dyn Source, start: u64, len: u64) -> Result<u64> {
        let end = start + len;
        let mut at = start;
        while at < end {
            let (Run::Data(frames, inside), n) = self.run(at, end - at) else {
                return if at == start { Err(Errno::ENOSPC) } else { Ok(at - start) };
            };
            match src.take_frames(&frames, inside, n as usize) {
                Ok(0) => break,
                Ok(m) => {
                    at += m as u64;
                    // Published piece by piece: a mapping or reader may follow a long write.
                    if at > self.size() {
                        self.size.store(at, Ordering::Release);
                    }
                    if (m as u64) < n {
                        break;
                    }
                }
                Err(e) if at == start => return Err(e),
                Err(_) => break,
            }
        }
        if at == start { Err(Errno::EFAULT) } else { Ok(at - start) }
    }

    fn allocate(&self, fs: &Tmpfs, mode: u32, offset: u64, len: u64) -> Result<()> {
        let end = offset.checked_add(len).filter(|end| *end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        let _touched;
        let _writing = self.writing.lock();
        let keep_size = mode & FALLOC_KEEP_SIZE != 0;
        match mode & !FALLOC_KEEP_SIZE {
            FALLOC_PUNCH_HOLE if keep_size => {
                self.check_seals(F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)?;
                // Nothing is visible behind the end; up to there the last page counts as whole.
                let end = if end >= self.size() { round_up(end) } else { end };
                _touched = self.mappings.discard(offset..end, Discard::Shared);
                return self.pages.lock().clear(fs, offset..end, false);
            }
            0 => {}
            FALLOC_ZERO_RANGE => {
                self.check_seals(F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)?;
                self.pages.lock().clear(fs, offset..end, true)?;
            }
            _ => return Err(Errno::EOPNOTSUPP),
        }
        if end > self.size() && !keep_size {
            self.check_seals(F_SEAL_GROW)?;
        }
        let pages = offset / PAGE_SIZE..end.div_ceil(PAGE_SIZE);
        {
            let mut backing = self.pages.lock();
            if let Err(e) = backing.fill(fs, pages) {
                // What lies behind the end is of no use to anyone.
                let from = offset.max(round_up(self.size()));
                if from < end {
                    backing.clear(fs, from..round_up(end), false)?;
                }
                return Err(e);
            }
        }
        if end > self.size() && !keep_size {
            self.size.store(end, Ordering::Release);
        }
        Ok(())
    }
}

fn round_up(offset: u64) -> u64 {
    offset.checked_next_multiple_of(PAGE_SIZE).unwrap_or(!(PAGE_SIZE - 1))
}

/// An open regular file.
pub(super) struct RegularFile {
    inode: Arc<TmpfsInode>,
}

impl RegularFile {
    pub(super) fn new(inode: Arc<TmpfsInode>) -> Self {
        Self { inode }
    }
}

impl FileOps for RegularFile {
    fn read(&self, file: &File, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        let n = self.inode.contents()?.read(dst, offset)?;
        self.inode.accessed(file);
        Ok(n)
    }

    fn write(&self, file: &File, src: &mut dyn Source, offset: u64) -> Result<usize> {
        let at = (!file.flags().contains(OpenFlags::APPEND)).then_some(offset);
        let (n, _) = self.inode.contents()?.write(self.inode.tmpfs(), src, at)?;
        if n > 0 {
            self.inode.touch();
        }
        Ok(n)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(self.inode.contents()?.size())
    }

    fn seek_data(&self, offset: u64, data: bool) -> Result<u64> {
        let contents = self.inode.contents()?;
        let size = contents.size();
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        contents.pages.lock().seek(offset, size, data)
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        Ok(self.inode.clone())
    }

    fn write_sealed(&self) -> bool {
        self.inode.seals().is_ok_and(|s| s & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) != 0)
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        self.inode.contents()?.allocate(self.inode.tmpfs(), mode, offset, len)?;
        self.inode.touch();
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Mappable for TmpfsInode {
    fn translate(&self, offset: u64, len: u64, _write: bool) -> Result<Option<(u64, MapSource)>> {
        let contents = self.contents()?;
        let left = round_up(contents.size()).saturating_sub(offset).min(len);
        if left == 0 {
            return Ok(None);
        }
        let mut pages = contents.pages.lock();
        let (mut run, mut n) = pages.run(offset, left);
        if matches!(run, Run::Hole) {
            let first = offset / PAGE_SIZE;
            pages.fill(self.tmpfs(), first..first + n / PAGE_SIZE)?;
            (run, n) = pages.run(offset, left);
        }
        match run {
            Run::Data(frames, at) => {
                let part = frames.slice(at..at + n).ok_or(Errno::EINVAL)?;
                Ok(Some((n, MapSource::Frames(part))))
            }
            Run::Hole => Err(Errno::ENOSPC),
        }
    }

    fn mappings(&self) -> Option<&Mappings> {
        self.contents().ok().map(|contents| &contents.mappings)
    }

    fn resident(&self, offset: u64) -> bool {
        let Ok(contents) = self.contents() else { return false };
        match contents.pages.lock().run(offset, PAGE_SIZE) {
            (Run::Data(frames, at), _) => frames.committed(at..at.saturating_add(PAGE_SIZE)) > 0,
            (Run::Hole, _) => false,
        }
    }

    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        let mode = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE;
        self.contents()?.allocate(self.tmpfs(), mode, offset, len)?;
        self.touch();
        Ok(())
    }
}
