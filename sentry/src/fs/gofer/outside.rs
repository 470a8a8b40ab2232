//! FIFOs and Unix sockets that are shared with programs outside, of exports that lead to them.

use super::GoferInode;
use super::children::Known;
use crate::errno::{Errno, Result};
use crate::socket::Kind;
use crate::vfs::{FileType, Inode, OpenFlags, Owner};
use gofer::Reach;
use std::os::fd::OwnedFd;
use std::sync::Arc;

fn host_kind(kind: Kind) -> Result<i32> {
    match kind {
        Kind::Stream => Ok(libc::SOCK_STREAM),
        Kind::Dgram => Ok(libc::SOCK_DGRAM),
        Kind::SeqPacket => Ok(libc::SOCK_SEQPACKET),
        Kind::Raw => Err(Errno::EPROTOTYPE),
    }
}

impl GoferInode {
    /// See [`Inode::open_outside`].
    pub(super) fn open_fifo(&self, flags: OpenFlags) -> Option<Result<OwnedFd>> {
        if self.file_type() != FileType::Fifo || !self.fs.reach.contains(Reach::FIFO) {
            return None;
        }
        let mut wanted = gofer::OpenFlags::empty();
        wanted.set(gofer::OpenFlags::READ, flags.readable());
        wanted.set(gofer::OpenFlags::WRITE, flags.writable());
        Some(self.at(|dir, names| self.client().open(dir, names, wanted)).map(|(fd, _)| fd))
    }

    /// See [`Inode::connect_outside`].
    pub(super) fn connect_socket(&self, kind: Kind) -> Option<Result<OwnedFd>> {
        if self.file_type() != FileType::Socket || !self.fs.reach.contains(Reach::CONNECT) {
            return None;
        }
        let connect = |kind| self.at(|dir, names| self.client().connect_socket(dir, names, kind));
        Some(host_kind(kind).and_then(connect))
    }

    /// See [`Inode::bind_outside`].
    pub(super) fn bind_socket(
        &self,
        name: &[u8],
        kind: Kind,
        mode: u32,
        owner: Owner,
    ) -> Option<Result<(Arc<dyn Inode>, OwnedFd)>> {
        if kind == Kind::Dgram || !self.fs.reach.contains(Reach::BIND) {
            return None;
        }
        Some(host_kind(kind).and_then(|kind| {
            let owner = Some(gofer::Owner { uid: owner.uid, gid: owner.gid });
            let bind = |dir, names: &[&[u8]]| {
                let path: Vec<&[u8]> = names.iter().copied().chain([name]).collect();
                self.client().bind_socket(dir, &path, kind, mode & 0o7777, owner)
            };
            let (fd, attr) = self.at(bind)?;
            self.changed();
            self.note(name, Known::File(attr, None));
            let inode: Arc<dyn Inode> = self.this()?.child(name, attr, None);
            Ok((inode, fd))
        }))
    }
}
