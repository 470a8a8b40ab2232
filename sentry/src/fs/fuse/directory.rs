//! Open directories that a daemon serves.

use super::abi::{self, Body, InitFlags, Opcode, Opened, Parser};
use super::connection::Expect;
use super::{FuseInode, file};
use crate::errno::{Errno, Result};
use crate::io::Sink;
use crate::vfs::{DirEntry, File, FileOps, FileType, OpenFlags};
use std::any::Any;
use std::sync::Arc;

/// How much of a directory is asked for at once, in bytes.
const PIECE: usize = 4096;
/// Length of `struct fuse_dirent` without the name.
const DIRENT: usize = 24;

/// An open directory.
pub struct FuseDirectory {
    inode: Arc<FuseInode>,
    opened: Opened,
    /// The daemon has nothing to be told at the end.
    stateless: bool,
}

impl FuseDirectory {
    pub(super) fn open(inode: Arc<FuseInode>, flags: OpenFlags) -> Result<Self> {
        let (opened, stateless) = file::open(&inode, Opcode::OpenDir, flags)?;
        Ok(Self { inode, opened, stateless })
    }

    /// With attributes: at the start of a pass, if the daemon can.
    fn plus(&self, pos: u64) -> bool {
        let terms = self.inode.fs.connection.terms();
        let flags = terms.map_or(InitFlags::empty(), |terms| terms.flags);
        flags.contains(InitFlags::DO_READDIRPLUS)
            && (pos == 0 || !flags.contains(InitFlags::READDIRPLUS_AUTO))
            && !self.inode.fs.connection.is_unknown(Opcode::ReadDirPlus)
    }

    fn ask(&self, plus: bool, pos: u64) -> Result<Vec<u8>> {
        let opcode = if plus { Opcode::ReadDirPlus } else { Opcode::ReadDir };
        file::read_piece(&self.inode, opcode, self.opened.handle, 0, pos, PIECE)
    }

    /// Goes through the entries of a reply. Every inode that one names is taken over, whether there is room
    /// for the entry or not: the daemon has counted it.
    fn go_through(
        &self,
        reply: &[u8],
        plus: bool,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let mut rest = reply;
        let mut full = false;
        let head = DIRENT + if plus { abi::ENTRY_OUT } else { 0 };
        while rest.len() >= head {
            let mut parser = Parser(rest);
            let entry = if plus { parser.entry_out() } else { Ok(None) };
            let (ino, next) = (parser.u64()?, parser.u64()?);
            let (len, kind) = (parser.u32()? as usize, parser.u32()?);
            if len == 0 || len > abi::NAME_MAX {
                return Err(Errno::EIO);
            }
            // A last entry that is cut off is asked for again.
            let Some(name) = parser.0.get(..len) else { break };
            if name.contains(&b'/') || name.contains(&0) {
                return Err(Errno::EIO);
            }
            if let Ok(Some(entry)) = entry
                && name != b"."
                && name != b".."
                && entry.node != abi::ROOT_ID
            {
                self.inode.named(name, &entry)?;
            }
            let file_type = FileType::from_mode(kind << 12);
            full = full
                || !emit(DirEntry {
                    name,
                    ino,
                    file_type: file_type.unwrap_or(FileType::Regular),
                    next,
                });
            let size = (head + len).next_multiple_of(8);
            rest = rest.get(size..).unwrap_or_default();
        }
        Ok(())
    }
}

impl FileOps for FuseDirectory {
    fn read(&self, _file: &File, _dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn readdir(
        &self,
        _file: &File,
        pos: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        self.inode.check()?;
        let mut plus = self.plus(pos);
        let reply = match self.ask(plus, pos) {
            Err(Errno::ENOSYS) if plus => {
                self.inode.fs.connection.set_unknown(Opcode::ReadDirPlus);
                plus = false;
                self.ask(false, pos)?
            }
            other => other?,
        };
        self.go_through(&reply, plus, emit)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(self.inode.fresh_attr()?.size)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        self.inode.check()?;
        let body = Body::default().u64(self.opened.handle).u32(u32::from(data_only)).u32(0);
        let (fs, node) = (&self.inode.fs, self.inode.node);
        match fs.call_if_known(Opcode::FSyncDir, node, body, Expect::Exactly(0)) {
            Ok(_) | Err(Errno::EOPNOTSUPP) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn release(&self, file: &File) {
        if !self.stateless {
            let (inode, flags) = (&self.inode, file.flags().bits());
            file::release(&inode.fs, inode.node, Opcode::ReleaseDir, self.opened.handle, flags);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
