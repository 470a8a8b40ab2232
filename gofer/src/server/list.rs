//! Whole directories, a page at a time.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, RawDir};
use rustix::io::Errno;

use super::hidden::{DISGUISED_KIND, disguise};
use super::node::{File, Node};
use super::resolve::{fd_errno, open_name, read_link};
use super::stat::{stat_fd, stat_name};
use super::{Result, Server};
use crate::protocol::{
    At, Attr, Bytes, FileKind, ListOptions, MAX_MESSAGE, MAX_PATH, NodeId, Reply, WireEntry,
};

/// Bytes of directory entries asked of the host at once.
const BATCH: usize = 32 * 1024;
/// Room that an entry may need beside its name and target: its attributes and all lengths.
const ENTRY_OVERHEAD: usize = 192;
/// Room for entries in one page.
const PAGE: usize = MAX_MESSAGE - 1024;

/// A directory that is being listed; belongs to one channel.
#[derive(Debug)]
pub(super) struct Listing {
    /// The directory as it was found; knows its export.
    node: Arc<Node>,
    /// Open for reading.
    dir: OwnedFd,
    dir_attr: Attr,
    /// Entries read from the host but not sent yet.
    pending: VecDeque<Pending>,
    end: bool,
    attrs_left: u32,
    targets: bool,
}

#[derive(Debug)]
struct Pending {
    name: Vec<u8>,
    ino: u64,
    kind: FileKind,
}

impl Server {
    /// The first page of a directory; what is left of it goes into `listing`.
    pub(super) fn list(
        &self,
        at: &At<'_>,
        want_node: bool,
        options: ListOptions,
        listing: &mut Option<Listing>,
    ) -> Result<Reply<'static>> {
        *listing = None;
        let found = self.find(at)?;
        if found.attr.kind() != FileKind::Directory {
            return Err(Errno::NOTDIR);
        }
        if matches!(found.node.file, File::Hidden(_)) {
            let node = if want_node { Some(self.hold(found.node)?) } else { None };
            let dir = Some(found.attr);
            return Ok(Reply::List { dir, node, entries: Vec::new(), more: false });
        }
        let dir = self.reopen(found.fd()?, OFlags::RDONLY | OFlags::DIRECTORY)?;
        // The identifier comes first: when it cannot be had, nothing was begun.
        let node = if want_node { Some(self.hold(Arc::clone(&found.node))?) } else { None };
        *listing = Some(Listing {
            node: found.node,
            dir,
            dir_attr: found.attr,
            pending: VecDeque::new(),
            end: false,
            attrs_left: options.attr_limit,
            targets: options.targets,
        });
        let page = self.page(listing, Some(found.attr), node);
        if let (Err(_), Some(node)) = (&page, node) {
            self.nodes.forget(&[node]);
        }
        page
    }

    /// The next page of the directory listed before.
    pub(super) fn list_next(&self, listing: &mut Option<Listing>) -> Result<Reply<'static>> {
        self.page(listing, None, None)
    }

    fn page(
        &self,
        listing: &mut Option<Listing>,
        dir: Option<Attr>,
        node: Option<NodeId>,
    ) -> Result<Reply<'static>> {
        let current = listing.as_mut().ok_or(Errno::INVAL)?;
        let filled = current.fill(self);
        let more = matches!(filled, Ok((_, true)));
        if !more {
            *listing = None;
        }
        let (entries, more) = filled?;
        Ok(Reply::List { dir, node, entries, more })
    }
}

impl Listing {
    /// Entries for one page, and whether there are more.
    fn fill(&mut self, server: &Server) -> Result<(Vec<WireEntry<'static>>, bool)> {
        let mut entries = Vec::new();
        let mut used = 0;
        loop {
            let Some(next) = self.pending.front() else {
                if self.end {
                    return Ok((entries, false));
                }
                self.read_batch()?;
                continue;
            };
            let target_room = match next.kind {
                FileKind::Symlink | FileKind::Unknown if self.targets => MAX_PATH,
                _ => 0,
            };
            if used + next.name.len() + ENTRY_OVERHEAD + target_room > PAGE {
                return Ok((entries, true));
            }
            let Some(next) = self.pending.pop_front() else { continue };
            let Some(entry) = self.describe(server, next)? else { continue };
            used += entry.name.len() + ENTRY_OVERHEAD;
            used += entry.target.as_ref().map_or(0, |target| target.len());
            entries.push(entry);
        }
    }

    /// Reads the next entries from the host.
    fn read_batch(&mut self) -> Result<()> {
        let mut buffer = vec![MaybeUninit::uninit(); BATCH];
        let mut entries = RawDir::new(&self.dir, &mut buffer);
        loop {
            match entries.next() {
                None => {
                    self.end = true;
                    return Ok(());
                }
                Some(Err(error)) => return Err(error),
                Some(Ok(entry)) => {
                    let name = entry.file_name().to_bytes();
                    if !matches!(name, b"." | b"..") {
                        self.pending.push_back(Pending {
                            name: name.to_vec(),
                            ino: entry.ino(),
                            kind: kind(entry.file_type()),
                        });
                    }
                }
            }
            if entries.is_buffer_empty() {
                return Ok(());
            }
        }
    }

    /// One entry with its attributes, or `None` if it has vanished.
    fn describe(&mut self, server: &Server, entry: Pending) -> Result<Option<WireEntry<'static>>> {
        let Pending { name, ino, kind } = entry;
        if self.attrs_left == 0 {
            let name = Bytes::owned(name);
            return Ok(Some(WireEntry { name, ino, kind, attr: None, target: None }));
        }
        self.attrs_left -= 1;
        let attr = match stat_name(&self.dir, &name) {
            Ok(attr) => Some(attr),
            Err(Errno::NOENT) => return Ok(None),
            Err(_) => None,
        };
        let Some(mut attr) = attr else {
            let name = Bytes::owned(name);
            return Ok(Some(WireEntry { name, ino, kind, attr: None, target: None }));
        };
        let dir = self.dir.as_fd();
        let hidden = &server.export_of(&self.node)?.hidden;
        if hidden.covers_name(dir, &self.dir_attr, &name, &attr)? {
            let attr = disguise(&attr);
            let name = Bytes::owned(name);
            let kind = DISGUISED_KIND;
            return Ok(Some(WireEntry {
                name,
                ino: attr.ino,
                kind,
                attr: Some(attr),
                target: None,
            }));
        }
        let mut target = None;
        if self.targets && attr.kind() == FileKind::Symlink {
            match read_target(dir, &name, &attr)? {
                Some((of, bytes)) => {
                    attr = of;
                    target = bytes.map(Bytes::owned);
                }
                None => return Ok(None),
            }
        }
        let name = Bytes::owned(name);
        Ok(Some(WireEntry { name, ino: attr.ino, kind: attr.kind(), attr: Some(attr), target }))
    }
}

/// Attributes and target of the symbolic link `name`, which had `attr` just before. It may be
/// something else by now (then there is no target), or gone.
fn read_target(
    dir: BorrowedFd<'_>,
    name: &[u8],
    attr: &Attr,
) -> Result<Option<(Attr, Option<Vec<u8>>)>> {
    // A target of the length that the attributes have is theirs, or as good as.
    if let Ok(target) = rustix::fs::readlinkat(dir, name, Vec::new())
        && u64::try_from(target.as_bytes().len()) == Ok(attr.size)
    {
        return Ok(Some((*attr, Some(target.into_bytes()))));
    }
    let fd = match open_name(dir, name) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(fd_errno(error)),
    };
    let attr = stat_fd(&fd)?;
    let target = match attr.kind() {
        FileKind::Symlink => Some(read_link(fd.as_fd())?),
        _ => None,
    };
    Ok(Some((attr, target)))
}

fn kind(kind: FileType) -> FileKind {
    match kind {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::Unknown => FileKind::Unknown,
    }
}
