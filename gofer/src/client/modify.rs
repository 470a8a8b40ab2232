//! Calls that change files. All fail with `EROFS` on a read-only export.
//!
//! Where a call takes an `owner`, `None` leaves the new file to the user the gofer runs as. Setting
//! another one needs a gofer that is root (`EPERM` otherwise). Modes are taken as they are: the
//! guest's umask is the caller's business.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::{Client, Path, Result, UNEXPECTED, bounded};
use crate::protocol::{
    Attr, CreateFlags, MAX_PATH, NodeId, Owner, RenameFlags, Reply, Request, SetAttr,
};

/// What [`Client::create`] made.
#[derive(Debug)]
pub struct Created {
    /// Its identifier, if asked for.
    pub node: Option<NodeId>,
    /// Its attributes.
    pub attr: Attr,
    /// It, open for reading and writing, if asked for.
    pub fd: Option<OwnedFd>,
}

impl Client {
    /// Creates the regular file `names`; the last name is the new one. `EEXIST` if it exists in
    /// any form, also as a dangling symbolic link: open it instead.
    pub fn create(
        &self,
        dir: NodeId,
        names: &[&[u8]],
        mode: u32,
        flags: CreateFlags,
        owner: Option<Owner>,
    ) -> Result<Created> {
        let path = Path::new(dir, names)?;
        let request = Request::Create { at: path.at(), mode, flags, owner };
        self.call(request, |reply, fd| match reply {
            Reply::Node { node, attr }
                if fd.is_some() == flags.contains(CreateFlags::OPEN)
                    && node.is_some() == flags.contains(CreateFlags::NODE) =>
            {
                Ok(Created { node, attr, fd })
            }
            _ => Err(UNEXPECTED),
        })
    }

    /// Creates a regular file without a name on the file system of the directory `names`: it, open for reading and
    /// writing, its identifier and its attributes. [`Client::link`] can give it a name. `EOPNOTSUPP` where the file system
    /// has no such files.
    pub fn create_unnamed(
        &self,
        dir: NodeId,
        names: &[&[u8]],
        mode: u32,
        owner: Option<Owner>,
    ) -> Result<(OwnedFd, NodeId, Attr)> {
        let path = Path::new(dir, names)?;
        let request = Request::CreateUnnamed { at: path.at(), mode, owner };
        self.call(request, |reply, fd| match (reply, fd) {
            (Reply::Node { node: Some(node), attr }, Some(fd)) => Ok((fd, node, attr)),
            _ => Err(UNEXPECTED),
        })
    }

    /// Creates the directory `names` and returns its identifier and attributes.
    pub fn mkdir(
        &self,
        dir: NodeId,
        names: &[&[u8]],
        mode: u32,
        owner: Option<Owner>,
    ) -> Result<(NodeId, Attr)> {
        let path = Path::new(dir, names)?;
        self.node(Request::Mkdir { at: path.at(), mode, owner, want_node: true })
    }

    /// Creates the symbolic link `names`, pointing to `target`.
    pub fn symlink(
        &self,
        dir: NodeId,
        names: &[&[u8]],
        target: &[u8],
        owner: Option<Owner>,
    ) -> Result<Attr> {
        let path = Path::new(dir, names)?;
        let target = bounded(target, MAX_PATH, Errno::ENAMETOOLONG)?;
        self.attr(Request::Symlink { at: path.at(), target, owner })
    }

    /// Creates a regular file, FIFO or socket node, as the `S_IFMT` bits of `mode` say, or a whiteout, which is the
    /// character device 0:0. Block devices are refused with `EPERM`.
    pub fn mknod(
        &self,
        dir: NodeId,
        names: &[&[u8]],
        mode: u32,
        owner: Option<Owner>,
    ) -> Result<Attr> {
        let path = Path::new(dir, names)?;
        self.attr(Request::Mknod { at: path.at(), mode, owner })
    }

    /// Binds a Unix socket to the name `names`; `kind` is `SOCK_STREAM` or `SOCK_SEQPACKET`. Programs outside can connect
    /// to it from then on. `EPERM` unless the export allows it.
    pub fn bind_socket(
        &self,
        dir: NodeId,
        names: &[&[u8]],
        kind: i32,
        mode: u32,
        owner: Option<Owner>,
    ) -> Result<(OwnedFd, Attr)> {
        let path = Path::new(dir, names)?;
        let request = Request::Bind { at: path.at(), kind, mode, owner };
        self.call(request, |reply, fd| match (reply, fd) {
            (Reply::Node { attr, .. }, Some(fd)) => Ok((fd, attr)),
            _ => Err(UNEXPECTED),
        })
    }

    /// Creates `names` beneath `dir` as another name of the file `file`. `EXDEV` across exports.
    pub fn link(&self, file: NodeId, dir: NodeId, names: &[&[u8]]) -> Result<Attr> {
        let from = Path::new(file, &[])?;
        let to = Path::new(dir, names)?;
        self.attr(Request::Link { from: from.at(), to: to.at() })
    }

    /// Removes the name `names`, which is not a directory's.
    pub fn unlink(&self, dir: NodeId, names: &[&[u8]]) -> Result<()> {
        let path = Path::new(dir, names)?;
        self.done(Request::Unlink { at: path.at() })
    }

    /// Removes the empty directory `names`.
    pub fn rmdir(&self, dir: NodeId, names: &[&[u8]]) -> Result<()> {
        let path = Path::new(dir, names)?;
        self.done(Request::Rmdir { at: path.at() })
    }

    /// Moves a name. `EXDEV` across exports.
    pub fn rename(
        &self,
        from_dir: NodeId,
        from: &[&[u8]],
        to_dir: NodeId,
        to: &[&[u8]],
        flags: RenameFlags,
    ) -> Result<()> {
        let from = Path::new(from_dir, from)?;
        let to = Path::new(to_dir, to)?;
        self.done(Request::Rename { from: from.at(), to: to.at(), flags })
    }

    /// Changes attributes and returns the new ones.
    pub fn setattr(&self, dir: NodeId, names: &[&[u8]], set: SetAttr) -> Result<Attr> {
        let path = Path::new(dir, names)?;
        self.attr(Request::SetAttr { at: path.at(), set })
    }

    /// Writes a file or directory to the disk; `data_only` as in `fdatasync(2)`.
    pub fn fsync(&self, dir: NodeId, names: &[&[u8]], data_only: bool) -> Result<()> {
        let path = Path::new(dir, names)?;
        self.done(Request::Fsync { at: path.at(), data_only })
    }
}
