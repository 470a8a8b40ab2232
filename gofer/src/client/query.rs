//! Calls that change nothing.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::{Client, ClientError, Exchange, Path, Result, UNEXPECTED};
use crate::protocol::{
    Attr, Entry, ListOptions, Listing, NodeId, OpenFlags, Reach, Reply, Request, Statfs, Walked,
    WireEntry,
};

impl Client {
    /// The root of an export: its identifier and attributes, and what the export leads to besides its files. `ENOENT` if
    /// there is no such export.
    pub fn attach(&self, export: u32) -> Result<(NodeId, Attr, Reach)> {
        self.call(Request::Attach { export }, |reply, _| match reply {
            Reply::Root { node, attr, reach } => Ok((node, attr, reach)),
            _ => Err(UNEXPECTED),
        })
    }

    /// Walks `names` from `dir` in one message, stopping at symbolic links.
    ///
    /// Failing to find a component is no error of the call, see [`Walked::error`]. Errors are those
    /// of the request as a whole: `EBADF` (no such identifier), `EINVAL` and `ENAMETOOLONG` (not a
    /// name), `ENFILE` (the gofer holds too many files; give some back).
    pub fn walk(&self, dir: NodeId, names: &[&[u8]], want_node: bool) -> Result<Walked> {
        let path = Path::new(dir, names)?;
        let request = Request::Walk { at: path.at(), want_node };
        self.call(request, |reply, _| match reply {
            Reply::Walk { attrs, node, target, error } if attrs.len() <= names.len() => {
                Ok(Walked {
                    attrs,
                    node,
                    target: target.map(|target| target.into_box()),
                    error: error.map(Errno::from_raw),
                })
            }
            _ => Err(UNEXPECTED),
        })
    }

    /// Attributes of the file at `names` beneath `dir` (none: of `dir` itself). A symbolic link at
    /// the end is not followed; one in the middle gives `ELOOP`.
    pub fn stat(&self, dir: NodeId, names: &[&[u8]]) -> Result<Attr> {
        let path = Path::new(dir, names)?;
        self.attr(Request::Stat { at: path.at() })
    }

    /// A whole directory, with attributes.
    ///
    /// One round trip per 128 KiB or so of answer; the pages are consistent only as far as the
    /// host's `getdents64` is.
    pub fn list(
        &self,
        dir: NodeId,
        names: &[&[u8]],
        want_node: bool,
        options: ListOptions,
    ) -> Result<Listing> {
        let path = Path::new(dir, names)?;
        self.conversation(|exchange| {
            let first = Request::List { at: path.at(), want_node, options };
            let mut entries = Vec::new();
            let (head, mut more) = exchange.page(first, &mut entries)?;
            let Some((dir, node)) = head else { return Err(UNEXPECTED) };
            while more {
                let before = entries.len();
                (_, more) = exchange.page(Request::ListNext, &mut entries)?;
                if more && entries.len() == before {
                    // Every page makes progress, or a broken gofer could keep us here for ever.
                    return Err(UNEXPECTED);
                }
            }
            let complete = entries.iter().all(|entry| entry.attr.is_some());
            Ok(Listing { dir, node, entries, complete })
        })
    }

    /// Opens a regular file and returns the donated host descriptor.
    ///
    /// Errors: those of `open(2)`; `ELOOP` for a symbolic link, `EISDIR` for a directory, `ENXIO`
    /// for a FIFO, socket or device, `EROFS` for writing to a read-only export.
    pub fn open(&self, dir: NodeId, names: &[&[u8]], flags: OpenFlags) -> Result<(OwnedFd, Attr)> {
        let (fd, _, attr) = self.open_inner(dir, names, flags, false)?;
        Ok((fd, attr))
    }

    /// As [`Client::open`], and returns an identifier of the file.
    pub fn open_node(
        &self,
        dir: NodeId,
        names: &[&[u8]],
        flags: OpenFlags,
    ) -> Result<(OwnedFd, NodeId, Attr)> {
        match self.open_inner(dir, names, flags, true)? {
            (fd, Some(node), attr) => Ok((fd, node, attr)),
            _ => Err(UNEXPECTED),
        }
    }

    fn open_inner(
        &self,
        dir: NodeId,
        names: &[&[u8]],
        flags: OpenFlags,
        want_node: bool,
    ) -> Result<(OwnedFd, Option<NodeId>, Attr)> {
        let path = Path::new(dir, names)?;
        let request = Request::Open { at: path.at(), flags, want_node };
        self.call(request, |reply, fd| match (reply, fd) {
            (Reply::Node { node, attr }, Some(fd)) => Ok((fd, node, attr)),
            _ => Err(UNEXPECTED),
        })
    }

    /// Connects to the Unix socket at `names`; `kind` is `SOCK_STREAM`, `SOCK_DGRAM` or
    /// `SOCK_SEQPACKET`. `ECONNREFUSED` unless the export allows it.
    pub fn connect_socket(&self, dir: NodeId, names: &[&[u8]], kind: i32) -> Result<OwnedFd> {
        let path = Path::new(dir, names)?;
        self.call(Request::Connect { at: path.at(), kind }, |reply, fd| match (reply, fd) {
            (Reply::Done, Some(fd)) => Ok(fd),
            _ => Err(UNEXPECTED),
        })
    }

    /// Target of a symbolic link; `EINVAL` if it is none.
    pub fn readlink(&self, dir: NodeId, names: &[&[u8]]) -> Result<Vec<u8>> {
        let path = Path::new(dir, names)?;
        self.bytes(Request::Readlink { at: path.at() })
    }

    /// State of the file system that the file lies on.
    pub fn statfs(&self, dir: NodeId, names: &[&[u8]]) -> Result<Statfs> {
        let path = Path::new(dir, names)?;
        self.call(Request::Statfs { at: path.at() }, |reply, _| match reply {
            Reply::Statfs(statfs) => Ok(statfs),
            _ => Err(UNEXPECTED),
        })
    }

    pub(super) fn attr(&self, request: Request<'_>) -> Result<Attr> {
        self.call(request, |reply, _| match reply {
            Reply::Node { attr, .. } => Ok(attr),
            _ => Err(UNEXPECTED),
        })
    }

    pub(super) fn node(&self, request: Request<'_>) -> Result<(NodeId, Attr)> {
        self.call(request, |reply, _| match reply {
            Reply::Node { node: Some(node), attr } => Ok((node, attr)),
            _ => Err(UNEXPECTED),
        })
    }
}

/// The directory's attributes and identifier, which only the first page has.
type PageHead = Option<(Attr, Option<NodeId>)>;

impl Exchange<'_> {
    /// One page of a directory; its entries are appended to `entries`.
    fn page(&mut self, request: Request<'_>, entries: &mut Vec<Entry>) -> Result<(PageHead, bool)> {
        self.round_trip(request, |reply, _| match reply {
            Reply::List { dir, node, count, entries: page, more } => {
                let mut rest: &[u8] = &page;
                for _ in 0..count {
                    let (entry, after) = postcard::take_from_bytes(rest)
                        .map_err(|_| ClientError::Protocol("a directory entry does not decode"))?;
                    entries.push(owned(entry));
                    rest = after;
                }
                if !rest.is_empty() {
                    return Err(UNEXPECTED);
                }
                Ok((dir.map(|dir| (dir, node)), more))
            }
            _ => Err(UNEXPECTED),
        })
    }
}

fn owned(entry: WireEntry<'_>) -> Entry {
    Entry {
        name: entry.name.into_box(),
        ino: entry.ino,
        kind: entry.kind,
        attr: entry.attr,
        target: entry.target.map(|target| target.into_box()),
    }
}
