//! Making, removing and renaming names.

use super::FuseInode;
use super::abi::{Body, ENTRY_OUT, OPEN_OUT, Opcode, Parser};
use super::connection::Expect;
use crate::errno::{Errno, Result};
use crate::kernel;
use crate::vfs::{FileType, Inode, OpenFlags, Owner};
use std::sync::Arc;

/// The umask that goes with a request. It has been applied already.
fn umask() -> u32 {
    let fs = kernel::current().and_then(|task| task.fs().ok());
    fs.map_or(0, |fs| fs.umask())
}

impl FuseInode {
    fn make(
        &self,
        opcode: Opcode,
        name: &[u8],
        body: Body,
        kind: FileType,
    ) -> Result<Arc<FuseInode>> {
        self.check()?;
        let reply = self.call(opcode, body, Expect::Exactly(ENTRY_OUT))?;
        self.made(name, &reply, kind)
    }

    pub(super) fn make_node(
        &self,
        name: &[u8],
        mode: u32,
        rdev: u64,
        _owner: Owner,
    ) -> Result<Arc<FuseInode>> {
        let kind = FileType::from_mode(mode).ok_or(Errno::EINVAL)?;
        let body = Body::default().u32(mode).u32(rdev as u32).u32(umask()).u32(0).name(name);
        self.make(Opcode::MkNod, name, body, kind)
    }

    /// Makes a regular file and opens it at once.
    pub(super) fn make_open(
        &self,
        name: &[u8],
        mode: u32,
        owner: Owner,
        flags: OpenFlags,
    ) -> Result<Arc<FuseInode>> {
        if self.fs.connection.is_unknown(Opcode::Create) {
            return self.make_node(name, mode, 0, owner);
        }
        self.check()?;
        let sent = (flags | OpenFlags::CREAT) - OpenFlags::NOCTTY - OpenFlags::CLOEXEC;
        let body = Body::default().u32(sent.bits()).u32(mode).u32(umask()).u32(0).name(name);
        let expect = Expect::Exactly(ENTRY_OUT + OPEN_OUT);
        let reply = match self.fs.call_if_known(Opcode::Create, self.node, body, expect) {
            Err(Errno::EOPNOTSUPP) if self.fs.connection.is_unknown(Opcode::Create) => {
                return self.make_node(name, mode, 0, owner);
            }
            other => other?,
        };
        let (entry, opened) = reply.split_at_checked(ENTRY_OUT).ok_or(Errno::EIO)?;
        let opened = Parser(opened).open_out()?;
        let inode = self.made(name, entry, FileType::Regular)?;
        let old = inode.created.lock().replace((flags.bits() & 3, opened));
        if let Some((_, unused)) = old {
            super::file::release(&self.fs, inode.node, Opcode::Release, unused.handle, 0);
        }
        Ok(inode)
    }

    pub(super) fn make_directory(&self, name: &[u8], mode: u32) -> Result<Arc<FuseInode>> {
        let body = Body::default().u32(mode & 0o7777).u32(umask()).name(name);
        self.make(Opcode::MkDir, name, body, FileType::Directory)
    }

    pub(super) fn make_link(&self, name: &[u8], target: &[u8]) -> Result<Arc<FuseInode>> {
        let body = Body::default().name(name).name(target);
        self.make(Opcode::Symlink, name, body, FileType::Symlink)
    }

    pub(super) fn add_name(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.check()?;
        let target = target.as_any().downcast_ref::<FuseInode>().ok_or(Errno::EXDEV)?;
        if !Arc::ptr_eq(&target.fs, &self.fs) {
            return Err(Errno::EXDEV);
        }
        let body = Body::default().u64(target.node).name(name);
        let reply = self.call(Opcode::Link, body, Expect::Exactly(ENTRY_OUT))?;
        let entry = Parser(&reply).entry_out()?.ok_or(Errno::EIO)?;
        self.stale();
        let inode = self.named(name, &entry)?;
        // The name is another one of the same file, whatever the daemon calls it.
        if inode.node != target.node {
            target.stale();
        }
        Ok(())
    }

    /// The inode that a name is known to stand for.
    fn known(&self, name: &[u8]) -> Option<Arc<FuseInode>> {
        let now = 0;
        match self.names.lock().get(name, now) {
            Some(super::names::Known::Inode(inode)) => Some(inode),
            _ => None,
        }
    }

    pub(super) fn remove(&self, opcode: Opcode, name: &[u8]) -> Result<()> {
        self.check()?;
        let victim = self.known(name);
        let done = self.call(opcode, Body::default().name(name), Expect::Exactly(0));
        if matches!(done, Ok(_) | Err(Errno::EINTR)) {
            self.stale();
            self.forget_name(name);
            if let Some(victim) = victim {
                victim.unlinked();
            }
        }
        done.map(drop)
    }

    pub(super) fn move_name(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        self.check()?;
        let new_dir = new_dir.as_any().downcast_ref::<FuseInode>().ok_or(Errno::EXDEV)?;
        if !Arc::ptr_eq(&new_dir.fs, &self.fs) {
            return Err(Errno::EXDEV);
        }
        let (moved, replaced) = (self.known(name), new_dir.known(new_name));
        let names = |body: Body| body.name(name).name(new_name);
        let done = if flags == 0 {
            let body = names(Body::default().u64(new_dir.node));
            self.call(Opcode::Rename, body, Expect::Exactly(0))
        } else {
            let body = names(Body::default().u64(new_dir.node).u32(flags).u32(0));
            let expect = Expect::Exactly(0);
            match self.fs.call_if_known(Opcode::Rename2, self.node, body, expect) {
                Err(Errno::EOPNOTSUPP) => Err(Errno::EINVAL),
                other => other,
            }
        };
        if matches!(done, Ok(_) | Err(Errno::EINTR)) {
            for (dir, name) in [(self, name), (new_dir, new_name)] {
                dir.forget_name(name);
                dir.stale();
            }
            for inode in moved.iter().chain(&replaced) {
                inode.stale();
            }
            if let (Some(replaced), 0) = (replaced, flags) {
                replaced.unlinked();
            }
        }
        done.map(drop)
    }
}
