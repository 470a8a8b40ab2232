//! From a node and a path to a file, never out of the export.
//!
//! Each component is opened by itself, beneath the directory before it and without following
//! symbolic links, so that whoever renames and swaps things on the host meanwhile can only change
//! *which* file beneath the export is found. Requests contain no `..`, and `openat2(2)` would
//! refuse it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::hidden::disguise;
use super::node::{File, Node};
use super::stat::{stat_fd, stat_name};
use super::{OpenedExport, Result, Server};
use crate::protocol::{At, Attr, FileKind, PathError, Reply, components};

/// Never out, never through a link of any kind.
const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_SYMLINKS);

/// Opens the entry `name` of `dir` without access; a symbolic link is opened itself.
pub(super) fn open_name(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    rustix::fs::openat2(
        dir,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        RESOLVE,
    )
}

/// A file that a request names.
#[derive(Debug)]
pub(super) struct Found {
    /// It; shared with the table of nodes when the request named a node.
    pub(super) node: Arc<Node>,
    /// Its attributes, disguised if it is hidden.
    pub(super) attr: Attr,
}

impl Found {
    pub(super) fn fd(&self) -> Result<BorrowedFd<'_>> {
        self.node.fd()
    }
}

/// The directory that a request names an entry of.
#[derive(Debug)]
pub(super) struct Parent<'a> {
    pub(super) node: Arc<Node>,
    pub(super) name: &'a [u8],
}

impl Parent<'_> {
    pub(super) fn fd(&self) -> Result<BorrowedFd<'_>> {
        self.node.fd()
    }
}

fn path_errno(error: PathError) -> Errno {
    Errno::from_raw_os_error(error.errno())
}

impl Server {
    pub(super) fn export_of(&self, node: &Node) -> Result<&OpenedExport> {
        self.exports.get(node.export).ok_or(Errno::BADF)
    }

    /// The root of an export.
    pub(super) fn attach(&self, export: u32) -> Result<Found> {
        let index = usize::try_from(export).map_err(|_| Errno::NOENT)?;
        let opened = self.exports.get(index).ok_or(Errno::NOENT)?;
        let fd = rustix::io::fcntl_dupfd_cloexec(opened.root(), 3).map_err(fd_errno)?;
        let attr = stat_fd(&fd)?;
        // The root itself is what its owner chose to show, whatever it lies on.
        Ok(Found { node: Arc::new(Node { export: index, file: File::Open { fd, attr } }), attr })
    }

    /// The file at a path, which has no symbolic link in its middle.
    pub(super) fn find(&self, at: &At<'_>) -> Result<Found> {
        let start = self.nodes.get(at.node)?;
        let mut names = components(&at.path).map_err(path_errno)?.peekable();
        if names.peek().is_none() {
            return self.found_again(start);
        }
        if let Some(found) = self.find_at_once(&start, &at.path)? {
            return Ok(found);
        }
        let mut at = start;
        loop {
            let Some(name) = names.next() else { return Err(Errno::INVAL) };
            let found = self.step(&at, name)?;
            if names.peek().is_none() {
                return Ok(found);
            }
            match found.attr.kind() {
                FileKind::Directory => at = found.node,
                FileKind::Symlink => return Err(Errno::LOOP),
                _ => return Err(Errno::NOTDIR),
            }
        }
    }

    /// The directory of the last component of a path, on an export that can be written to.
    pub(super) fn find_parent<'a>(&self, at: &'a At<'_>) -> Result<Parent<'a>> {
        let mut names = components(&at.path).map_err(path_errno)?.peekable();
        let mut node = self.nodes.get(at.node)?;
        loop {
            let Some(name) = names.next() else { return Err(Errno::INVAL) };
            if names.peek().is_none() {
                self.writable(&node)?;
                return Ok(Parent { node, name });
            }
            let found = self.step(&node, name)?;
            match found.attr.kind() {
                FileKind::Directory => node = found.node,
                FileKind::Symlink => return Err(Errno::LOOP),
                _ => return Err(Errno::NOTDIR),
            }
        }
    }

    /// `EROFS` if the file's export is read-only.
    pub(super) fn writable(&self, node: &Node) -> Result<()> {
        if self.export_of(node)?.read_only { Err(Errno::ROFS) } else { Ok(()) }
    }

    /// Walks a path and says how far it came.
    pub(super) fn walk(&self, at: &At<'_>, want_node: bool) -> Result<Reply<'static>> {
        let mut attrs = Vec::new();
        let mut names = components(&at.path).map_err(path_errno)?.peekable();
        let mut node = self.nodes.get(at.node)?;
        let mut error = None;
        let mut target = None;
        while let Some(name) = names.next() {
            let last = names.peek().is_none();
            let stepped = if last && !want_node {
                self.look(&node, name)
            } else {
                self.step(&node, name).map(|found| (found.attr, Some(found.node)))
            };
            let (attr, next) = match stepped {
                Ok(found) => found,
                Err(Errno::MFILE | Errno::NFILE) => return Err(Errno::NFILE),
                Err(errno) => {
                    error = Some(errno.raw_os_error());
                    break;
                }
            };
            attrs.push(attr);
            match next {
                Some(next) => node = next,
                None => break,
            }
            if attr.kind() == FileKind::Symlink {
                target = Some(crate::protocol::Bytes::owned(read_link(node.fd()?)?));
                break;
            }
            if attr.kind() != FileKind::Directory && !last {
                error = Some(Errno::NOTDIR.raw_os_error());
                break;
            }
        }
        let node = match error {
            None if want_node => Some(self.hold(node)?),
            _ => None,
        };
        Ok(Reply::Walk { attrs, node, target, error })
    }

    /// Gives the sentry an identifier of a file.
    pub(super) fn hold(&self, node: Arc<Node>) -> Result<crate::protocol::NodeId> {
        match Arc::try_unwrap(node) {
            Ok(node) => self.nodes.insert(node),
            // Held under another identifier already: every identifier is given back by itself.
            Err(shared) => {
                let file = match &shared.file {
                    File::Hidden(attr) => File::Hidden(*attr),
                    File::Open { fd, attr } => File::Open {
                        fd: rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(fd_errno)?,
                        attr: *attr,
                    },
                };
                self.nodes.insert(Node { export: shared.export, file })
            }
        }
    }

    /// Wraps a file just opened beneath `dir`, hidden if need be.
    pub(super) fn adopt(&self, dir: &Node, fd: OwnedFd) -> Result<Found> {
        let attr = stat_fd(&fd)?;
        let hidden = &self.export_of(dir)?.hidden;
        let from = match &dir.file {
            File::Open { attr, .. } => Some(attr),
            File::Hidden(_) => None,
        };
        let (file, attr) = if hidden.covers(fd.as_fd(), &attr, from)? {
            let attr = disguise(&attr);
            (File::Hidden(attr), attr)
        } else {
            (File::Open { fd, attr }, attr)
        };
        Ok(Found { node: Arc::new(Node { export: dir.export, file }), attr })
    }

    /// One component further.
    fn step(&self, dir: &Node, name: &[u8]) -> Result<Found> {
        let File::Open { fd, .. } = &dir.file else { return Err(Errno::NOENT) };
        let fd = open_name(fd.as_fd(), name).map_err(fd_errno)?;
        self.adopt(dir, fd)
    }

    /// Attributes of the entry `name`, opening it only when it is a symbolic link (to read its
    /// target from the same file).
    fn look(&self, dir: &Node, name: &[u8]) -> Result<(Attr, Option<Arc<Node>>)> {
        let File::Open { fd, attr: dir_attr } = &dir.file else { return Err(Errno::NOENT) };
        let attr = stat_name(fd, name)?;
        if attr.kind() == FileKind::Symlink {
            return self.step(dir, name).map(|found| (found.attr, Some(found.node)));
        }
        let hidden = &self.export_of(dir)?.hidden;
        if hidden.covers_name(fd.as_fd(), dir_attr, name, &attr)? {
            return Ok((disguise(&attr), None));
        }
        Ok((attr, None))
    }

    fn found_again(&self, node: Arc<Node>) -> Result<Found> {
        let attr = match &node.file {
            File::Open { fd, .. } => stat_fd(fd)?,
            File::Hidden(attr) => *attr,
        };
        Ok(Found { node, attr })
    }

    /// A whole path in one host call, when that cannot have led through something hidden: there are
    /// no hidden directories, and without `..` a path that ends on the mount it began on has never
    /// left it. `None` if it must be walked.
    fn find_at_once(&self, start: &Node, path: &[u8]) -> Result<Option<Found>> {
        let File::Open { fd, attr: from } = &start.file else { return Err(Errno::NOENT) };
        if !self.export_of(start)?.hidden.only_whole_mounts() {
            return Ok(None);
        }
        let fd = open_name(fd.as_fd(), path).map_err(fd_errno)?;
        let attr = stat_fd(&fd)?;
        if (attr.mount_id, attr.dev) != (from.mount_id, from.dev) {
            return Ok(None);
        }
        let node = Node { export: start.export, file: File::Open { fd, attr } };
        Ok(Some(Found { node: Arc::new(node), attr }))
    }
}

/// The gofer's own limit on descriptors is the sandbox's as a whole: `ENFILE`, not `EMFILE`.
pub(super) fn fd_errno(error: Errno) -> Errno {
    if error == Errno::MFILE { Errno::NFILE } else { error }
}

/// Target of a symbolic link that is open itself.
pub(super) fn read_link(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    match rustix::fs::readlinkat(fd, c"", Vec::new()) {
        Ok(target) => Ok(target.into_bytes()),
        // An empty name is "not found" for a file that is no symbolic link.
        Err(Errno::NOENT) => Err(Errno::INVAL),
        Err(error) => Err(error),
    }
}
