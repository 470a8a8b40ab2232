//! Creating, removing, moving and changing files.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags as HostRenameFlags, Timespec, Timestamps,
    UTIME_NOW, UTIME_OMIT, Uid,
};
use rustix::io::Errno;

use super::open::Answer;
use super::resolve::{Found, Parent, fd_errno, open_name};
use super::stat::stat_fd;
use super::{Result, Server};
use crate::protocol::{
    At, Attr, CreateFlags, FileKind, MAX_PATH, Owner, RenameFlags, Reply, SetAttr, TimeUpdate,
};

const PERMISSIONS: u32 = 0o7777;
const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;

impl Server {
    /// Creates a regular file.
    pub(super) fn create(
        &self,
        at: &At<'_>,
        mode: u32,
        flags: CreateFlags,
        owner: Option<Owner>,
    ) -> Result<Answer<'static>> {
        if CreateFlags::from_bits(flags.bits()).is_none() {
            return Err(Errno::INVAL);
        }
        let parent = self.find_parent(at)?;
        let mut host = OFlags::CREATE
            | OFlags::EXCL
            | OFlags::RDWR
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        host.set(OFlags::APPEND, flags.contains(CreateFlags::APPEND));
        let dir = parent.fd()?;
        let fd = rustix::fs::openat(dir, parent.name, host, permissions(mode)).map_err(fd_errno)?;
        let finish = || {
            let attr = give_away(fd.as_fd(), mode, owner, |mode| rustix::fs::fchmod(&fd, mode))?;
            let node = if flags.contains(CreateFlags::NODE) {
                Some(self.hold_opened(parent.node.export, fd.as_fd())?)
            } else {
                None
            };
            Ok(Reply::Node { node, attr })
        };
        let reply = undo_on_error(finish(), || remove(dir, parent.name, AtFlags::empty()))?;
        Ok((reply, flags.contains(CreateFlags::OPEN).then_some(fd)))
    }

    /// Creates a regular file that has no name yet.
    pub(super) fn create_unnamed(
        &self,
        at: &At<'_>,
        mode: u32,
        owner: Option<Owner>,
    ) -> Result<Answer<'static>> {
        let dir = self.find(at)?;
        self.writable(&dir.node)?;
        if dir.attr.kind() != FileKind::Directory {
            return Err(Errno::NOTDIR);
        }
        let host = OFlags::TMPFILE | OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir.fd()?, c".", host, permissions(mode)).map_err(fd_errno)?;
        let attr = give_away(fd.as_fd(), mode, owner, |mode| rustix::fs::fchmod(&fd, mode))?;
        let node = Some(self.hold_opened(dir.node.export, fd.as_fd())?);
        Ok((Reply::Node { node, attr }, Some(fd)))
    }

    /// Creates a directory.
    pub(super) fn mkdir(
        &self,
        at: &At<'_>,
        mode: u32,
        owner: Option<Owner>,
        want_node: bool,
    ) -> Result<Reply<'static>> {
        let parent = self.find_parent(at)?;
        let dir = parent.fd()?;
        rustix::fs::mkdirat(dir, parent.name, permissions(mode))?;
        let found = self.finish_new(&parent, FileKind::Directory, Some(mode), owner);
        let found = undo_on_error(found, || remove(dir, parent.name, AtFlags::REMOVEDIR))?;
        let attr = found.attr;
        let node = if want_node { Some(self.hold(found.node)?) } else { None };
        Ok(Reply::Node { node, attr })
    }

    /// Creates a symbolic link.
    pub(super) fn symlink(
        &self,
        at: &At<'_>,
        target: &[u8],
        owner: Option<Owner>,
    ) -> Result<Reply<'static>> {
        if target.is_empty() {
            return Err(Errno::NOENT);
        }
        if target.len() >= MAX_PATH {
            return Err(Errno::NAMETOOLONG);
        }
        let parent = self.find_parent(at)?;
        let dir = parent.fd()?;
        rustix::fs::symlinkat(target, dir, parent.name)?;
        let found = self.finish_new(&parent, FileKind::Symlink, None, owner);
        let found = undo_on_error(found, || remove(dir, parent.name, AtFlags::empty()))?;
        Ok(Self::describe(&found))
    }

    /// Creates a regular file, FIFO, socket node, or the character device 0:0: that is an overlay's whiteout, which
    /// leads to no driver and which Linux lets everyone make.
    pub(super) fn mknod(
        &self,
        at: &At<'_>,
        mode: u32,
        owner: Option<Owner>,
    ) -> Result<Reply<'static>> {
        // mknod(2): type zero is a regular file.
        let (kind, host_kind) = match mode & libc::S_IFMT {
            0 | libc::S_IFREG => (FileKind::Regular, FileType::RegularFile),
            libc::S_IFIFO => (FileKind::Fifo, FileType::Fifo),
            libc::S_IFSOCK => (FileKind::Socket, FileType::Socket),
            libc::S_IFCHR => (FileKind::CharDevice, FileType::CharacterDevice),
            libc::S_IFBLK => return Err(Errno::PERM),
            _ => return Err(Errno::INVAL),
        };
        let parent = self.find_parent(at)?;
        let dir = parent.fd()?;
        rustix::fs::mknodat(dir, parent.name, host_kind, permissions(mode), 0)?;
        let found = self.finish_new(&parent, kind, Some(mode), owner);
        let found = undo_on_error(found, || remove(dir, parent.name, AtFlags::empty()))?;
        Ok(Self::describe(&found))
    }

    /// Gives a file another name.
    pub(super) fn link(&self, from: &At<'_>, to: &At<'_>) -> Result<Reply<'static>> {
        let file = self.find(from)?;
        self.writable(&file.node)?;
        let parent = self.find_parent(to)?;
        if file.node.export != parent.node.export {
            return Err(Errno::XDEV);
        }
        if file.attr.kind() == FileKind::Directory {
            return Err(Errno::PERM);
        }
        let dir = parent.fd()?;
        self.by_name(file.fd()?, |fds, name| {
            rustix::fs::linkat(fds, name, dir, parent.name, AtFlags::SYMLINK_FOLLOW)
        })?;
        Ok(Reply::Node { node: None, attr: stat_fd(file.fd()?)? })
    }

    /// Removes a name.
    pub(super) fn unlink(&self, at: &At<'_>, directory: bool) -> Result<Reply<'static>> {
        let parent = self.find_parent(at)?;
        self.must_not_be_hidden(&parent)?;
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(parent.fd()?, parent.name, flags)?;
        Ok(Reply::Done)
    }

    /// Moves a name.
    pub(super) fn rename(
        &self,
        from: &At<'_>,
        to: &At<'_>,
        flags: RenameFlags,
    ) -> Result<Reply<'static>> {
        let mut host = HostRenameFlags::empty();
        host.set(HostRenameFlags::NOREPLACE, flags.contains(RenameFlags::NO_REPLACE));
        host.set(HostRenameFlags::EXCHANGE, flags.contains(RenameFlags::EXCHANGE));
        host.set(HostRenameFlags::WHITEOUT, flags.contains(RenameFlags::WHITEOUT));
        let others = RenameFlags::NO_REPLACE | RenameFlags::WHITEOUT;
        let contradictory = flags.contains(RenameFlags::EXCHANGE) && flags.intersects(others);
        if RenameFlags::from_bits(flags.bits()).is_none() || contradictory {
            return Err(Errno::INVAL);
        }
        let from = self.find_parent(from)?;
        let to = self.find_parent(to)?;
        if from.node.export != to.node.export {
            return Err(Errno::XDEV);
        }
        self.must_not_be_hidden(&from)?;
        self.must_not_be_hidden(&to)?;
        rustix::fs::renameat_with(from.fd()?, from.name, to.fd()?, to.name, host)?;
        Ok(Reply::Done)
    }

    /// Changes attributes, in the order that [`SetAttr`] promises.
    pub(super) fn set_attr(&self, at: &At<'_>, set: &SetAttr) -> Result<Reply<'static>> {
        let found = self.find(at)?;
        self.writable(&found.node)?;
        let fd = found.fd()?;
        if set.uid.is_some() || set.gid.is_some() {
            change_owner(fd, set.uid, set.gid)?;
        }
        if let Some(mode) = set.mode {
            if found.attr.kind() == FileKind::Symlink {
                return Err(Errno::OPNOTSUPP);
            }
            self.change_mode(fd, permissions(mode))?;
        }
        if let Some(size) = set.size {
            match found.attr.kind() {
                FileKind::Regular => {}
                FileKind::Directory => return Err(Errno::ISDIR),
                _ => return Err(Errno::INVAL),
            }
            if i64::try_from(size).is_err() {
                return Err(Errno::INVAL);
            }
            rustix::fs::ftruncate(self.reopen(fd, OFlags::WRONLY)?, size)?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            let times = Timestamps {
                last_access: timespec(set.atime)?,
                last_modification: timespec(set.mtime)?,
            };
            rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH)?;
        }
        Ok(Reply::Node { node: None, attr: stat_fd(fd)? })
    }

    /// Writes a file or directory to the disk.
    pub(super) fn fsync(&self, at: &At<'_>, data_only: bool) -> Result<Reply<'static>> {
        let found = self.find(at)?;
        if !matches!(found.attr.kind(), FileKind::Regular | FileKind::Directory) {
            return Err(Errno::INVAL);
        }
        let fd = self.reopen(found.fd()?, OFlags::RDONLY)?;
        if data_only {
            rustix::fs::fdatasync(fd)?
        } else {
            rustix::fs::fsync(fd)?
        }
        Ok(Reply::Done)
    }

    /// `EBUSY`, as for a mount point, if the name is a hidden directory's.
    fn must_not_be_hidden(&self, parent: &Parent<'_>) -> Result<()> {
        let hidden = &self.export_of(&parent.node)?.hidden;
        if hidden.pins(parent.fd()?, parent.name) { Err(Errno::BUSY) } else { Ok(()) }
    }

    /// Opens what was just created under a name, checks that it is still that, and gives it to its
    /// owner.
    fn finish_new(
        &self,
        parent: &Parent<'_>,
        kind: FileKind,
        mode: Option<u32>,
        owner: Option<Owner>,
    ) -> Result<Found> {
        let fd = open_name(parent.fd()?, parent.name).map_err(fd_errno)?;
        let attr = stat_fd(&fd)?;
        // Somebody on the host may have put another file there meanwhile, to have it given away:
        // a file just created is of the kind asked for and belongs to this process.
        if attr.kind() != kind || attr.uid != rustix::process::geteuid().as_raw() {
            return Err(Errno::AGAIN);
        }
        if kind != FileKind::Directory && attr.nlink != 1 {
            return Err(Errno::AGAIN);
        }
        let attr = give_away(fd.as_fd(), mode.unwrap_or(attr.mode), owner, |mode| {
            self.change_mode(fd.as_fd(), mode)
        })?;
        let mut found = self.adopt(&parent.node, fd)?;
        found.attr = attr;
        Ok(found)
    }

    /// Gives a socket that was just bound its mode and its owner.
    pub(super) fn finish_socket(
        &self,
        parent: &Parent<'_>,
        mode: u32,
        owner: Option<Owner>,
    ) -> Result<Found> {
        let mut found = self.finish_new(parent, FileKind::Socket, None, owner)?;
        self.change_mode(found.fd()?, permissions(mode))?;
        found.attr = stat_fd(found.fd()?)?;
        Ok(found)
    }

    fn change_mode(&self, fd: BorrowedFd<'_>, mode: Mode) -> Result<()> {
        self.by_name(fd, |fds, name| rustix::fs::chmodat(fds, name, mode, AtFlags::empty()))
    }
}

/// Gives a new file to its owner; changing the owner drops the set-id bits, so they are set again.
fn give_away(
    fd: BorrowedFd<'_>,
    mode: u32,
    owner: Option<Owner>,
    change_mode: impl FnOnce(Mode) -> Result<()>,
) -> Result<Attr> {
    let attr = stat_fd(fd)?;
    let Some(owner) = owner else { return Ok(attr) };
    if (attr.uid, attr.gid) == (owner.uid, owner.gid) {
        return Ok(attr);
    }
    change_owner(fd, Some(owner.uid), Some(owner.gid))?;
    if mode & SET_ID != 0 && attr.kind() != FileKind::Symlink {
        change_mode(permissions(mode))?;
    }
    stat_fd(fd)
}

fn change_owner(fd: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    // The largest number means "leave it" to the host, and is nobody's.
    if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        return Err(Errno::INVAL);
    }
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH).map_err(|error| match error {
        // A user that an unprivileged gofer's namespace does not have.
        Errno::INVAL => Errno::PERM,
        error => error,
    })
}

/// Takes a new name away again when what belongs to it failed; the first error is the answer.
fn undo_on_error<T>(result: Result<T>, undo: impl FnOnce()) -> Result<T> {
    if result.is_err() {
        undo();
    }
    result
}

fn remove(dir: BorrowedFd<'_>, name: &[u8], flags: AtFlags) {
    // Best effort: the caller reports why it came to this.
    let _ = rustix::fs::unlinkat(dir, name, flags);
}

fn permissions(mode: u32) -> Mode {
    Mode::from_bits_retain(mode & PERMISSIONS)
}

fn timespec(update: Option<TimeUpdate>) -> Result<Timespec> {
    let (tv_sec, tv_nsec) = match update {
        None => (0, UTIME_OMIT),
        Some(TimeUpdate::Now) => (0, UTIME_NOW),
        Some(TimeUpdate::To(time)) if time.nsec < 1_000_000_000 => (time.sec, i64::from(time.nsec)),
        Some(TimeUpdate::To(_)) => return Err(Errno::INVAL),
    };
    Ok(Timespec { tv_sec, tv_nsec })
}
