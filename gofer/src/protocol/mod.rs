//! The messages between the sentry and the gofer, and their bounds.
//!
//! One request and one reply at a time travel over a channel, each as one datagram of a connected
//! `SOCK_SEQPACKET` socket, encoded with postcard. A datagram may carry one file descriptor
//! (`SCM_RIGHTS`). The first exchange of a channel is [`Request::Hello`].
//!
//! Bounds: a datagram has at most [`MAX_MESSAGE`] bytes, a path at most [`MAX_PATH`] bytes in at
//! most [`MAX_COMPONENTS`] components of at most [`MAX_NAME`] bytes. A message that breaks one of
//! them, does not decode, or has bytes left over ends its channel.

mod attr;
mod bytes;
mod cpus;
mod message;
mod path;
mod transport;

pub use attr::{Attr, FileKind, NodeId, Owner, SetAttr, Statfs, TimeUpdate, Timestamp};
pub use bytes::Bytes;
pub use cpus::{MAX_CHANNELS, channel_count, channel_cpus};
pub use message::{
    At, CreateFlags, Entry, Envelope, ListOptions, Listing, OpenFlags, Reach, RenameFlags, Reply,
    Request, Walked, WireEntry, XattrFlags,
};
pub use path::{PathError, check_name, components, join};
pub use transport::{Transport, TransportError, channel_pair};

/// First word of a handshake: tells a gofer channel from anything else.
pub const MAGIC: u32 = 0x676f_6665;
/// Version of the protocol. Both sides must have the same one.
pub const VERSION: u32 = 3;
/// Largest datagram, in bytes.
///
/// Below the default socket buffer of Linux (212,992 bytes), which an unprivileged process cannot
/// raise; larger answers are paged.
pub const MAX_MESSAGE: usize = 128 * 1024;
/// How far a page of a directory is filled, in bytes: entries are added until it is exceeded.
///
/// Small enough that both sides' buffers stay in memory that was touched before.
pub const PAGE: usize = 32 * 1024;
/// Longest path of one request, in bytes, separators included (`PATH_MAX`).
pub const MAX_PATH: usize = 4096;
/// Longest name of one directory entry, in bytes (`NAME_MAX`).
pub const MAX_NAME: usize = 255;
/// Largest number of components in one path: those of one datagram's attributes.
pub const MAX_COMPONENTS: usize = 512;
/// Longest extended attribute name, in bytes (`XATTR_NAME_MAX`).
pub const MAX_XATTR_NAME: usize = 255;
/// Largest extended attribute value or list, in bytes (`XATTR_SIZE_MAX`).
pub const MAX_XATTR_VALUE: usize = 64 * 1024;
/// Largest number of identifiers that one request can give back.
pub const MAX_FORGET: usize = 512;
/// Largest number of exports of one gofer.
pub const MAX_EXPORTS: usize = 4096;
