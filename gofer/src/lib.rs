//! The gofer: the only process of a sandbox that may open host files.
//!
//! The sentry asks it, over a set of connected sockets, to look up, list, open, create and change
//! files inside the *exports* it was started with; what it opens comes back as a donated file
//! descriptor. Four parts:
//!
//! - [`protocol`]: the messages, their bounds, and how they travel (one datagram each, with at most
//!   one descriptor);
//! - [`server`]: the process that answers them, resolving every name beneath an export;
//! - [`sandbox`] and [`process`]: how that process is started and locked up;
//! - [`client`]: the sentry's side.
//!
//! Neither side trusts the other: a message that does not decode, or a reply that does not fit its
//! request, ends the connection and nothing else.
//!
//! # Lock order
//!
//! Client: one channel's lock, then (never while sending) the list of identifiers to forget.
//! Server: the node table's lock is a leaf, held only to copy a reference out or in.

pub mod client;
pub mod process;
pub mod protocol;
pub mod sandbox;
pub mod server;

pub use client::{Client, ClientError, Created, Watcher};
pub use protocol::{
    Attr, CreateFlags, Entry, FileKind, ListOptions, Listing, NodeId, OpenFlags, Owner, Reach,
    RenameFlags, SetAttr, Statfs, TimeUpdate, Timestamp, Walked, XattrFlags,
};
