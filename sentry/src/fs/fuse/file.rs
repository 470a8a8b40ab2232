//! Open files that a daemon serves.

use super::abi::{self, Body, FOPEN_DIRECT_IO, FOPEN_NOFLUSH, Opcode, Opened, Parser};
use super::connection::{Expect, Sender};
use super::{FuseFs, FuseInode};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::vfs::{File, FileOps, Mappable, OpenFlags};
use std::any::Any;
use std::sync::Arc;

/// An open file.
pub struct FuseFile {
    inode: Arc<FuseInode>,
    opened: Opened,
    /// The daemon has nothing to be told at the end.
    stateless: bool,
}

/// The flags of an open file as a daemon is told them.
fn flags_for_daemon(flags: OpenFlags) -> u32 {
    let hidden = OpenFlags::CREAT
        | OpenFlags::EXCL
        | OpenFlags::NOCTTY
        | OpenFlags::TRUNC
        | OpenFlags::CLOEXEC;
    (flags - hidden).bits()
}

/// Opens an inode; the second value is true if the daemon does not want to be asked.
pub(super) fn open(inode: &FuseInode, opcode: Opcode, flags: OpenFlags) -> Result<(Opened, bool)> {
    let body = Body::default().u32(flags_for_daemon(flags)).u32(0);
    let expect = Expect::Exactly(abi::OPEN_OUT);
    match inode.fs.call_if_known(opcode, inode.node, body, expect) {
        Ok(reply) => Ok((Parser(&reply).open_out()?, false)),
        Err(Errno::EOPNOTSUPP) if inode.fs.connection.is_unknown(opcode) => {
            Ok((Opened::default(), true))
        }
        Err(e) => Err(e),
    }
}

/// Tells the daemon that an open file is no longer used.
pub(super) fn release(fs: &FuseFs, node: u64, opcode: Opcode, handle: u64, flags: u32) {
    let body = Body::default().u64(handle).u32(flags).u32(0).u64(0);
    fs.tell(opcode, node, Sender::default(), body);
}

impl FuseFile {
    pub(super) fn open(inode: Arc<FuseInode>, flags: OpenFlags) -> Result<Self> {
        let made = inode.created.lock().take_if(|(access, _)| *access == flags.bits() & 3);
        let (opened, stateless) = match made {
            Some((_, opened)) => (opened, false),
            None => open(&inode, Opcode::Open, flags)?,
        };
        Ok(Self { inode, opened, stateless })
    }

    fn direct(&self, flags: OpenFlags) -> bool {
        self.opened.flags & FOPEN_DIRECT_IO != 0 || flags.contains(OpenFlags::DIRECT)
    }

    /// Reads one piece: up to `len` bytes at `offset`.
    fn read_piece(&self, flags: u32, offset: u64, len: usize) -> Result<Vec<u8>> {
        read_piece(&self.inode, Opcode::Read, self.opened.handle, flags, offset, len)
    }
}

/// Reads up to `len` bytes of an open file or directory.
pub(super) fn read_piece(
    inode: &FuseInode,
    opcode: Opcode,
    handle: u64,
    flags: u32,
    offset: u64,
    len: usize,
) -> Result<Vec<u8>> {
    let body = Body::default().u64(handle).u64(offset).u32(len as u32).u32(0);
    let body = body.u64(0).u32(flags).u32(0);
    inode.call(opcode, body, Expect::UpTo(len))
}

impl FileOps for FuseFile {
    fn read(&self, file: &File, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        self.inode.check()?;
        let mut max = dst.remaining();
        if !self.direct(file.flags()) {
            let end = offset.saturating_add(max as u64);
            if end > self.inode.known_size() {
                self.inode.fresh_attr()?;
            }
            let left = self.inode.known_size().saturating_sub(offset);
            max = max.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        let piece = self.inode.fs.max_data(false);
        let flags = flags_for_daemon(file.flags());
        let mut done = 0;
        while done < max {
            let len = (max - done).min(piece);
            let data = match self.read_piece(flags, offset + done as u64, len) {
                Ok(data) => data,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            };
            let put = match dst.put(&data) {
                Ok(n) => n,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            };
            done += put;
            if put < len {
                break;
            }
        }
        Ok(done)
    }

    fn write(&self, file: &File, src: &mut dyn Source, offset: u64) -> Result<usize> {
        self.inode.check()?;
        let mut at = offset;
        if file.flags().contains(OpenFlags::APPEND) {
            at = self.inode.fresh_attr()?.size;
        }
        let piece = self.inode.fs.max_data(true);
        let flags = flags_for_daemon(file.flags());
        let mut done = 0;
        while src.remaining() > 0 {
            let mut data = vec![0; src.remaining().min(piece)];
            let len = match src.take(&mut data) {
                Ok(0) => break,
                Ok(n) => n,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            };
            data.truncate(len);
            let body = Body::default().u64(self.opened.handle).u64(at).u32(len as u32).u32(0);
            let body = body.u64(0).u32(flags).u32(0).bytes(&data);
            let written = self.inode.call(Opcode::Write, body, Expect::Exactly(8));
            let written = written.and_then(|reply| match Parser(&reply).u32()? as usize {
                n if n > len => Err(Errno::EIO),
                n => Ok(n),
            });
            let written = match written {
                Ok(n) => n,
                Err(e) => {
                    src.rewind(len);
                    return if done > 0 { Ok(done) } else { Err(e) };
                }
            };
            if let Some(mapping) = self.inode.mapping() {
                mapping.written(at, data.get(..written).unwrap_or_default());
            }
            src.rewind(len - written);
            done += written;
            at = at.saturating_add(written as u64);
            self.inode.written(at);
            if written < len {
                break;
            }
        }
        Ok(done)
    }

    fn seekable(&self) -> bool {
        self.opened.flags & abi::FOPEN_NONSEEKABLE == 0
    }

    fn size(&self) -> Result<u64> {
        Ok(self.inode.fresh_attr()?.size)
    }

    fn seek_data(&self, offset: u64, data: bool) -> Result<u64> {
        const SEEK_DATA: u32 = 3;
        const SEEK_HOLE: u32 = 4;
        let whence = if data { SEEK_DATA } else { SEEK_HOLE };
        let body = Body::default().u64(self.opened.handle).u64(offset).u32(whence).u32(0);
        let node = self.inode.node;
        match self.inode.fs.call_if_known(Opcode::LSeek, node, body, Expect::Exactly(8)) {
            Ok(reply) => match Parser(&reply).u64()? {
                at if at > i64::MAX as u64 => Err(Errno::EINVAL),
                at => Ok(at),
            },
            Err(Errno::EOPNOTSUPP) => {
                let size = self.size()?;
                match (offset >= size, data) {
                    (true, _) => Err(Errno::ENXIO),
                    (false, true) => Ok(offset),
                    (false, false) => Ok(size),
                }
            }
            Err(e) => Err(e),
        }
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        self.inode.check()?;
        super::map::map(&self.inode, |offset, len| self.read_piece(0, offset, len))
    }

    fn shared_writes_map(&self) -> bool {
        false
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        self.inode.check()?;
        let body = Body::default().u64(self.opened.handle).u32(u32::from(data_only)).u32(0);
        let fs = &self.inode.fs;
        match fs.call_if_known(Opcode::FSync, self.inode.node, body, Expect::Exactly(0)) {
            Ok(_) | Err(Errno::EOPNOTSUPP) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        self.inode.check()?;
        let body = Body::default().u64(self.opened.handle).u64(offset).u64(len).u32(mode).u32(0);
        let (fs, node) = (&self.inode.fs, self.inode.node);
        fs.call_if_known(Opcode::FAllocate, node, body, Expect::Exactly(0))?;
        self.inode.stale();
        Ok(())
    }

    fn flush(&self, _file: &File) -> Result<()> {
        if self.stateless || self.opened.flags & FOPEN_NOFLUSH != 0 || self.inode.check().is_err() {
            return Ok(());
        }
        let body = Body::default().u64(self.opened.handle).u32(0).u32(0).u64(0);
        let fs = &self.inode.fs;
        if fs.connection.is_unknown(Opcode::Flush) {
            return Ok(());
        }
        match crate::kernel::current() {
            // Whoever ends does not wait.
            None => fs.tell(Opcode::Flush, self.inode.node, Sender::default(), body),
            Some(task) if task.is_ending() => {
                fs.tell(Opcode::Flush, self.inode.node, fs.sender(&task)?, body);
            }
            Some(_) => {
                let node = self.inode.node;
                match fs.call_if_known(Opcode::Flush, node, body, Expect::Exactly(0)) {
                    Ok(_) | Err(Errno::EOPNOTSUPP) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    fn release(&self, file: &File) {
        if !self.stateless {
            let flags = flags_for_daemon(file.flags());
            let inode = &self.inode;
            release(&inode.fs, inode.node, Opcode::Release, self.opened.handle, flags);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
