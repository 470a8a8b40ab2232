//! Requests and replies.

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

use super::{Attr, Bytes, FileKind, NodeId, Owner, SetAttr, Statfs};

bitflags! {
    /// How a regular file is opened.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct OpenFlags: u32 {
        /// For reading.
        const READ = 1;
        /// For writing; refused with `EROFS` by a read-only export.
        const WRITE = 1 << 1;
        /// Cut to length zero (`O_TRUNC`); needs `WRITE`.
        const TRUNCATE = 1 << 2;
        /// Every write goes to the end (`O_APPEND`).
        const APPEND = 1 << 3;
        /// Writes reach the disk before they return (`O_DSYNC`).
        const DSYNC = 1 << 4;
        /// Writes and metadata reach the disk before a write returns (`O_SYNC`).
        const SYNC = 1 << 5;
        /// Bypass the page cache (`O_DIRECT`).
        const DIRECT = 1 << 6;
    }

    /// How a regular file is created. Creation is always exclusive: an existing name gives `EEXIST`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct CreateFlags: u32 {
        /// Donate a descriptor open for reading and writing.
        const OPEN = 1;
        /// The donated descriptor appends (`O_APPEND`).
        const APPEND = 1 << 1;
        /// Return an identifier of the new file.
        const NODE = 1 << 2;
    }

    /// How a name is moved, `renameat2(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct RenameFlags: u32 {
        /// Fail with `EEXIST` rather than replace (`RENAME_NOREPLACE`).
        const NO_REPLACE = 1;
        /// Swap both names (`RENAME_EXCHANGE`).
        const EXCHANGE = 1 << 1;
        /// Leave a whiteout at the old name (`RENAME_WHITEOUT`).
        const WHITEOUT = 1 << 2;
    }

    /// What of the host's an export leads to, besides its files.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Reach: u32 {
        /// Its Unix sockets can be connected to.
        const CONNECT = 1;
        /// Unix sockets can be bound in it that programs of the host can connect to.
        const BIND = 1 << 1;
        /// Its FIFOs can be opened.
        const FIFO = 1 << 2;
    }

    /// How an extended attribute is set, `setxattr(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct XattrFlags: u32 {
        /// Fail with `EEXIST` if it exists (`XATTR_CREATE`).
        const CREATE = 1;
        /// Fail with `ENODATA` if it does not (`XATTR_REPLACE`).
        const REPLACE = 1 << 1;
    }
}

/// A file: a node and a path beneath it (empty: the node itself).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At<'a> {
    /// Where the path starts.
    pub node: NodeId,
    /// Components joined with `/`; no `.`, `..` or empty ones.
    #[serde(borrow)]
    pub path: Bytes<'a>,
}

/// What a directory listing contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListOptions {
    /// Only this many entries come with attributes; the rest with name, kind and inode number, so
    /// that a directory with a million files does not cost a million `statx` calls.
    pub attr_limit: u32,
    /// Symbolic links that come with attributes also come with their targets.
    pub targets: bool,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self { attr_limit: 20_000, targets: true }
    }
}

/// One message of the sentry.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope<'a> {
    /// Identifiers that the sentry gives back, at most [`super::MAX_FORGET`].
    pub forget: Vec<NodeId>,
    /// What it asks for.
    #[serde(borrow)]
    pub request: Request<'a>,
}

/// What the sentry can ask for. The reply that belongs to each is named in its comment.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Request<'a> {
    /// Opens a channel → [`Reply::Hello`].
    Hello {
        /// [`super::MAGIC`].
        magic: u32,
        /// [`super::VERSION`].
        version: u32,
    },
    /// Nothing, or only giving identifiers back → [`Reply::Done`].
    Nop,
    /// The root of an export → [`Reply::Root`].
    Attach {
        /// Its index in the list the gofer was started with.
        export: u32,
    },
    /// Walks a path, stopping at symbolic links → [`Reply::Walk`].
    Walk {
        /// The path.
        #[serde(borrow)]
        at: At<'a>,
        /// Return an identifier of the file reached.
        want_node: bool,
    },
    /// Attributes of one file → [`Reply::Node`] without identifier.
    Stat {
        /// The file; a symbolic link at its end is not followed.
        #[serde(borrow)]
        at: At<'a>,
    },
    /// The first page of a directory → [`Reply::List`].
    List {
        /// The directory.
        #[serde(borrow)]
        at: At<'a>,
        /// Return an identifier of the directory.
        want_node: bool,
        /// What to return.
        options: ListOptions,
    },
    /// The next page of the directory listed last on this channel → [`Reply::List`].
    ListNext,
    /// Opens a regular file, or a FIFO where the export allows it → [`Reply::Node`] with a descriptor.
    Open {
        /// The file.
        #[serde(borrow)]
        at: At<'a>,
        /// How.
        flags: OpenFlags,
        /// Return an identifier too.
        want_node: bool,
    },
    /// Creates a regular file → [`Reply::Node`], with a descriptor if asked for.
    Create {
        /// The new name.
        #[serde(borrow)]
        at: At<'a>,
        /// Permission bits, not masked any further.
        mode: u32,
        /// What to return.
        flags: CreateFlags,
        /// Owner, if not the gofer's own.
        owner: Option<Owner>,
    },
    /// Creates a regular file without a name (`O_TMPFILE`), which [`Request::Link`] can give one → [`Reply::Node`] with
    /// an identifier and a descriptor for reading and writing.
    CreateUnnamed {
        /// The directory whose file system it is to lie on.
        #[serde(borrow)]
        at: At<'a>,
        /// Permission bits, not masked any further.
        mode: u32,
        /// Owner, if not the gofer's own.
        owner: Option<Owner>,
    },
    /// Creates a directory → [`Reply::Node`].
    Mkdir {
        /// The new name.
        #[serde(borrow)]
        at: At<'a>,
        /// Permission bits.
        mode: u32,
        /// Owner, if not the gofer's own.
        owner: Option<Owner>,
        /// Return an identifier.
        want_node: bool,
    },
    /// Creates a symbolic link → [`Reply::Node`].
    Symlink {
        /// The new name.
        #[serde(borrow)]
        at: At<'a>,
        /// What it points to: any bytes but zero, at most `PATH_MAX` - 1.
        #[serde(borrow)]
        target: Bytes<'a>,
        /// Owner, if not the gofer's own.
        owner: Option<Owner>,
    },
    /// Creates a regular file, FIFO or socket node → [`Reply::Node`].
    Mknod {
        /// The new name.
        #[serde(borrow)]
        at: At<'a>,
        /// Type and permission bits; devices are refused with `EPERM`.
        mode: u32,
        /// Owner, if not the gofer's own.
        owner: Option<Owner>,
    },
    /// Creates a hard link → [`Reply::Node`] without identifier.
    Link {
        /// The existing file.
        #[serde(borrow)]
        from: At<'a>,
        /// The new name.
        #[serde(borrow)]
        to: At<'a>,
    },
    /// Removes a name that is not a directory's → [`Reply::Done`].
    Unlink {
        /// The name.
        #[serde(borrow)]
        at: At<'a>,
    },
    /// Removes an empty directory → [`Reply::Done`].
    Rmdir {
        /// The name.
        #[serde(borrow)]
        at: At<'a>,
    },
    /// Moves a name → [`Reply::Done`].
    Rename {
        /// The old name.
        #[serde(borrow)]
        from: At<'a>,
        /// The new name.
        #[serde(borrow)]
        to: At<'a>,
        /// How.
        flags: RenameFlags,
    },
    /// Changes attributes → [`Reply::Node`] without identifier.
    SetAttr {
        /// The file.
        #[serde(borrow)]
        at: At<'a>,
        /// What to change.
        set: SetAttr,
    },
    /// Target of a symbolic link → [`Reply::Bytes`].
    Readlink {
        /// The link.
        #[serde(borrow)]
        at: At<'a>,
    },
    /// State of the file system a file lies on → [`Reply::Statfs`].
    Statfs {
        /// The file.
        #[serde(borrow)]
        at: At<'a>,
    },
    /// Writes a file or directory to the disk → [`Reply::Done`].
    Fsync {
        /// The file.
        #[serde(borrow)]
        at: At<'a>,
        /// Only what is needed to read the data back (`fdatasync`).
        data_only: bool,
    },
    /// Value of an extended attribute → [`Reply::Bytes`].
    GetXattr {
        /// The file.
        #[serde(borrow)]
        at: At<'a>,
        /// The attribute: `user.…` or `security.capability`.
        #[serde(borrow)]
        name: Bytes<'a>,
    },
    /// Names of the extended attributes that can be asked for, each ended by a zero byte →
    /// [`Reply::Bytes`].
    ListXattr {
        /// The file.
        #[serde(borrow)]
        at: At<'a>,
    },
    /// Sets an extended attribute → [`Reply::Done`].
    SetXattr {
        /// The file.
        #[serde(borrow)]
        at: At<'a>,
        /// The attribute: `user.…`.
        #[serde(borrow)]
        name: Bytes<'a>,
        /// Its value.
        #[serde(borrow)]
        value: Bytes<'a>,
        /// How.
        flags: XattrFlags,
    },
    /// Removes an extended attribute → [`Reply::Done`].
    RemoveXattr {
        /// The file.
        #[serde(borrow)]
        at: At<'a>,
        /// The attribute: `user.…`.
        #[serde(borrow)]
        name: Bytes<'a>,
    },
    /// Connects to a Unix socket in the file system → [`Reply::Done`] with a descriptor. Refused
    /// with `ECONNREFUSED` unless the export allows it.
    Connect {
        /// The socket.
        #[serde(borrow)]
        at: At<'a>,
        /// `SOCK_STREAM`, `SOCK_DGRAM` or `SOCK_SEQPACKET`.
        kind: i32,
    },
    /// Binds a Unix socket to a new name, and makes it accept connections → [`Reply::Node`] with a descriptor. Refused
    /// with `EPERM` unless the export allows it.
    Bind {
        /// The new name.
        #[serde(borrow)]
        at: At<'a>,
        /// `SOCK_STREAM` or `SOCK_SEQPACKET`.
        kind: i32,
        /// Permission bits.
        mode: u32,
        /// Owner, if not the gofer's own.
        owner: Option<Owner>,
    },
    /// Makes a watcher → [`Reply::Watcher`] with a descriptor to read the events from, `inotify(7)`. `EMFILE` beyond
    /// the host's limit or the gofer's.
    NewWatcher,
    /// Watches a directory for changes of the names in it and of what they stand for → [`Reply::Watching`].
    /// `EOPNOTSUPP` where not every change is one by this host, `ENOSPC` beyond the host's limit.
    Watch {
        /// The watcher.
        watcher: u32,
        /// The directory.
        #[serde(borrow)]
        at: At<'a>,
    },
    /// Ends a watch → [`Reply::Done`].
    Unwatch {
        /// The watcher.
        watcher: u32,
        /// The watch.
        number: i32,
    },
}

/// One entry of a directory page, as it travels.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct WireEntry<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Bytes<'a>,
    /// Inode number.
    pub ino: u64,
    /// Type.
    pub kind: FileKind,
    /// Attributes, see [`ListOptions::attr_limit`].
    pub attr: Option<Attr>,
    /// What a symbolic link points to.
    #[serde(borrow)]
    pub target: Option<Bytes<'a>>,
}

/// The gofer's answers.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply<'a> {
    /// The request failed with this errno.
    Error(i32),
    /// The channel is open.
    Hello {
        /// The gofer's [`super::VERSION`].
        version: u32,
        /// Number of exports.
        exports: u32,
    },
    /// It is done.
    Done,
    /// The root of an export.
    Root {
        /// Its identifier.
        node: NodeId,
        /// Its attributes.
        attr: Attr,
        /// What the export leads to besides.
        reach: Reach,
    },
    /// A file.
    Node {
        /// Its identifier, if one was asked for.
        node: Option<NodeId>,
        /// Its attributes.
        attr: Attr,
    },
    /// How far a walk came.
    Walk {
        /// Attributes of each component reached, in order.
        attrs: Vec<Attr>,
        /// The last one's identifier, if asked for and nothing failed.
        node: Option<NodeId>,
        /// Its target, if it is a symbolic link.
        #[serde(borrow)]
        target: Option<Bytes<'a>>,
        /// Why the component after the last one could not be reached.
        error: Option<i32>,
    },
    /// One page of a directory.
    List {
        /// The directory's attributes, taken before it was read (first page only).
        dir: Option<Attr>,
        /// Its identifier, if asked for (first page only).
        node: Option<NodeId>,
        /// Number of entries.
        count: u32,
        /// That many [`WireEntry`], encoded one after the other; without `.` and `..`.
        #[serde(borrow)]
        entries: Bytes<'a>,
        /// There are more: ask with [`Request::ListNext`].
        more: bool,
    },
    /// A watcher's number.
    Watcher(u32),
    /// A watch's number, as its events have it (`wd`).
    Watching(i32),
    /// A byte string.
    Bytes(#[serde(borrow)] Bytes<'a>),
    /// State of a file system.
    Statfs(Statfs),
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: Box<[u8]>,
    /// Inode number.
    pub ino: u64,
    /// Type; exact if `attr` is present, else as the directory records it.
    pub kind: FileKind,
    /// Attributes, unless the directory is larger than [`ListOptions::attr_limit`] or the file
    /// vanished while it was listed.
    pub attr: Option<Attr>,
    /// What a symbolic link points to, if asked for and `attr` is present.
    pub target: Option<Box<[u8]>>,
}

/// A whole directory.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The directory's attributes, taken before it was read: when its `mtime` is still the same
    /// later, nothing was added or removed since.
    pub dir: Attr,
    /// Its identifier, if asked for.
    pub node: Option<NodeId>,
    /// Its entries without `.` and `..`, in the host's order.
    pub entries: Vec<Entry>,
    /// Every entry has attributes.
    pub complete: bool,
}

/// How far a walk came.
#[derive(Clone, Debug)]
pub struct Walked {
    /// Attributes of each component reached, in order. Fewer than were asked for when a symbolic
    /// link was reached or `error` is set.
    pub attrs: Vec<Attr>,
    /// The last one's identifier, if asked for and `error` is `None`.
    pub node: Option<NodeId>,
    /// The last one's target, if it is a symbolic link. The walk ends there, also in the middle of
    /// the path: resolving links is the caller's business.
    pub target: Option<Box<[u8]>>,
    /// Why the component after the last one could not be reached (`ENOENT`, `ENOTDIR`, `EACCES`…).
    pub error: Option<nix::errno::Errno>,
}
