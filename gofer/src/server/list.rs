//! Whole directories, a page at a time.
//!
//! Entries are encoded straight into the page, which stays allocated between listings: touching
//! fresh memory would cost more than asking the host for the attributes.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, RawDir};
use rustix::io::Errno;

use super::hidden::disguise;
use super::node::{File, Node};
use super::resolve::{fd_errno, open_name, read_link};
use super::stat::{stat_fd, stat_name};
use super::{Result, Server};
use crate::protocol::{
    At, Attr, Bytes, FileKind, ListOptions, MAX_PATH, NodeId, PAGE, Reply, WireEntry,
};

/// Bytes of directory entries asked of the host at once.
const BATCH: usize = 16 * 1024;

/// The directory that a channel is listing, and its buffers.
#[derive(Debug, Default)]
pub(super) struct Lister {
    listing: Option<Listing>,
    /// Encoded entries of the current page.
    page: Vec<u8>,
    /// Entries read from the host and not sent yet, the next one last.
    pending: Vec<Pending>,
    /// Their names.
    names: Vec<u8>,
    batch: Vec<MaybeUninit<u8>>,
}

#[derive(Debug)]
struct Listing {
    /// The directory as it was found; knows its export.
    node: Arc<Node>,
    /// Open for reading.
    dir: OwnedFd,
    dir_attr: Attr,
    end: bool,
    attrs_left: u32,
    targets: bool,
}

#[derive(Debug)]
struct Pending {
    /// Where in `names`.
    name: Range<usize>,
    ino: u64,
    kind: FileKind,
}

impl Lister {
    /// Forgets the listing under way.
    pub(super) fn stop(&mut self) {
        self.listing = None;
        self.pending.clear();
        self.names.clear();
    }

    /// The first page of a directory.
    pub(super) fn start(
        &mut self,
        server: &Server,
        at: &At<'_>,
        want_node: bool,
        options: ListOptions,
    ) -> Result<Reply<'_>> {
        self.stop();
        let found = server.find(at)?;
        if found.attr.kind() != FileKind::Directory {
            return Err(Errno::NOTDIR);
        }
        if matches!(found.node.file, File::Hidden(_)) {
            let node = if want_node { Some(server.hold(found.node)?) } else { None };
            let (dir, entries) = (Some(found.attr), Bytes::default());
            return Ok(Reply::List { dir, node, count: 0, entries, more: false });
        }
        let dir = server.reopen(found.fd()?, OFlags::RDONLY | OFlags::DIRECTORY)?;
        // The identifier comes first: when it cannot be had, nothing was begun.
        let node = if want_node { Some(server.hold(Arc::clone(&found.node))?) } else { None };
        self.listing = Some(Listing {
            node: found.node,
            dir,
            dir_attr: found.attr,
            end: false,
            attrs_left: options.attr_limit,
            targets: options.targets,
        });
        let reply = self.reply(server, Some(found.attr), node);
        if let (Err(_), Some(node)) = (&reply, node) {
            server.nodes.forget(&[node]);
        }
        reply
    }

    /// The next page of the directory listed before.
    pub(super) fn next(&mut self, server: &Server) -> Result<Reply<'_>> {
        self.reply(server, None, None)
    }

    fn reply(
        &mut self,
        server: &Server,
        dir: Option<Attr>,
        node: Option<NodeId>,
    ) -> Result<Reply<'_>> {
        let filled = self.fill(server);
        if !matches!(filled, Ok((_, true))) {
            self.stop();
        }
        let (count, more) = filled?;
        Ok(Reply::List { dir, node, count, entries: Bytes::borrowed(&self.page), more })
    }

    /// Fills the page, and says with how many entries and whether there are more.
    fn fill(&mut self, server: &Server) -> Result<(u32, bool)> {
        let listing = self.listing.as_mut().ok_or(Errno::INVAL)?;
        let hidden = &server.export_of(&listing.node)?.hidden;
        self.page.clear();
        let mut count = 0;
        // The last entry may go beyond it: a message has room for the longest.
        while self.page.len() < PAGE {
            let Some(next) = self.pending.pop() else {
                if listing.end {
                    return Ok((count, false));
                }
                self.names.clear();
                self.batch.resize(BATCH, MaybeUninit::uninit());
                listing.read(&mut self.batch, &mut self.pending, &mut self.names)?;
                continue;
            };
            let name = self.names.get(next.name.clone()).unwrap_or_default();
            let covers = |attr: &Attr| {
                hidden.covers_name(listing.dir.as_fd(), &listing.dir_attr, name, attr)
            };
            let mut target = [MaybeUninit::uninit(); MAX_PATH];
            let known = match listing.attrs_left.checked_sub(1) {
                None => Known { attr: None, target: None },
                Some(left) => {
                    listing.attrs_left = left;
                    let targets = listing.targets;
                    match know(listing.dir.as_fd(), name, targets, covers, &mut target)? {
                        Some(known) => known,
                        None => continue,
                    }
                }
            };
            let entry = WireEntry {
                name: Bytes::borrowed(name),
                ino: known.attr.map_or(next.ino, |attr| attr.ino),
                kind: known.attr.map_or(next.kind, |attr| attr.kind()),
                attr: known.attr,
                target: known.target,
            };
            postcard::to_io(&entry, &mut self.page).map_err(|_| Errno::NOMEM)?;
            count += 1;
        }
        Ok((count, true))
    }
}

impl Listing {
    /// Reads the next entries from the host, in the order that suits taking them from the end.
    fn read(
        &mut self,
        batch: &mut [MaybeUninit<u8>],
        pending: &mut Vec<Pending>,
        names: &mut Vec<u8>,
    ) -> Result<()> {
        let mut entries = RawDir::new(&self.dir, batch);
        loop {
            match entries.next() {
                None => self.end = true,
                Some(Err(error)) => return Err(error),
                Some(Ok(entry)) => {
                    let name = entry.file_name().to_bytes();
                    if !matches!(name, b"." | b"..") {
                        let start = names.len();
                        names.extend_from_slice(name);
                        pending.push(Pending {
                            name: start..names.len(),
                            ino: entry.ino(),
                            kind: kind(entry.file_type()),
                        });
                    }
                }
            }
            if self.end || entries.is_buffer_empty() {
                pending.reverse();
                return Ok(());
            }
        }
    }
}

/// What is known about an entry beside what its directory says.
struct Known<'a> {
    attr: Option<Attr>,
    target: Option<Bytes<'a>>,
}

/// Attributes, and target if it is a symbolic link and that is wanted. `None` if the entry has
/// vanished.
fn know<'a>(
    dir: BorrowedFd<'_>,
    name: &[u8],
    targets: bool,
    covers: impl Fn(&Attr) -> Result<bool>,
    buffer: &'a mut [MaybeUninit<u8>],
) -> Result<Option<Known<'a>>> {
    let attr = match stat_name(dir, name) {
        Ok(attr) => attr,
        Err(Errno::NOENT) => return Ok(None),
        Err(_) => return Ok(Some(Known { attr: None, target: None })),
    };
    if covers(&attr)? {
        return Ok(Some(Known { attr: Some(disguise(&attr)), target: None }));
    }
    if targets && attr.kind() == FileKind::Symlink {
        return read_target(dir, name, attr, buffer);
    }
    Ok(Some(Known { attr: Some(attr), target: None }))
}

/// The target of the symbolic link `name`, which had `attr` just before. It may be something else
/// by now (then there is no target), or gone.
fn read_target<'a>(
    dir: BorrowedFd<'_>,
    name: &[u8],
    attr: Attr,
    buffer: &'a mut [MaybeUninit<u8>],
) -> Result<Option<Known<'a>>> {
    // A target of the length that the attributes have is theirs, or as good as.
    if let Ok((target, _)) = rustix::fs::readlinkat_raw(dir, name, buffer)
        && u64::try_from(target.len()) == Ok(attr.size)
    {
        return Ok(Some(Known { attr: Some(attr), target: Some(Bytes::borrowed(target)) }));
    }
    let fd = match open_name(dir, name) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(fd_errno(error)),
    };
    let attr = stat_fd(&fd)?;
    let target = match attr.kind() {
        FileKind::Symlink => Some(Bytes::owned(read_link(fd.as_fd())?)),
        _ => None,
    };
    Ok(Some(Known { attr: Some(attr), target }))
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
