//! Files of the host, behind the gofer.
//!
//! An *exclusive* mount (the root) is ours alone: names and attributes are asked for once and then
//! known. Several components of a path are fetched by one message, and a directory in which a few
//! names were looked up is fetched whole; after that look-ups, failing ones too, are local. In a
//! *shared* mount (a volume) the host may change things: there the same holds of directories that are
//! watched ([`watch`]), and names and attributes in others are asked for each time. In both, the contents of open files are read, written and mapped through the descriptor the
//! gofer donated.

mod children;
mod convert;
mod directory;
mod donated;
mod file;
mod handles;
mod inode;
mod modify;
mod outside;
mod watch;

use donated::Donated;
use handles::Handles;
pub use inode::GoferInode;

use super::super_block::next_dev;
use crate::errno::{Errno, Result};
use crate::kernel::cgroup::io;
use crate::sync::{Mutex, rank};
use crate::vfs::{FileSystem, StatFs};
use gofer::{Client, NodeId, Reach};
use rustc_hash::FxHashMap;
use std::sync::{Arc, Weak};
use watch::Watches;

/// How an export is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// No one changes it: the lower layer of an overlay.
    Frozen,
    /// No one else changes it.
    Exclusive,
    /// The host may change it at any time.
    Shared,
}

/// One mounted export.
pub struct GoferFs {
    client: Arc<Client>,
    sharing: Sharing,
    root: NodeId,
    /// What of the host's it leads to besides its files.
    reach: Reach,
    /// Device number in the guest for each device of the host.
    devs: Mutex<FxHashMap<u64, u64>, { rank::LEAF }>,
    /// Inodes in use by host device and number: names of one file are one inode.
    inodes: Mutex<FxHashMap<(u64, u64), Weak<GoferInode>>, { rank::LEAF }>,
    /// Which inodes have descriptors.
    donated: Donated,
    /// Which directories have a handle that may go again.
    handles: Handles,
    /// Which directories of a shared mount are watched.
    watches: Watches,
    /// One file at a time is found to have been moved by the host.
    moves: Mutex<(), { rank::GOFER_WATCHES }>,
    dev: u64,
}

impl GoferFs {
    /// Mounts an export: its root inode.
    pub fn mount(client: &Arc<Client>, export: u32, sharing: Sharing) -> Result<Arc<GoferInode>> {
        let (root, attr, reach) = client.attach(export).map_err(convert::errno)?;
        let dev = next_dev();
        io::add_device(dev);
        let devs = FxHashMap::from_iter([(attr.dev, dev)]);
        let fs = Arc::new(Self {
            client: client.clone(),
            sharing,
            root,
            reach,
            devs: Mutex::new(devs),
            inodes: Mutex::default(),
            donated: Donated::default(),
            handles: Handles::default(),
            watches: Watches::default(),
            moves: Mutex::default(),
            dev,
        });
        Ok(GoferInode::root(&fs, root, attr))
    }

    fn exclusive(&self) -> bool {
        self.sharing != Sharing::Shared
    }

    fn frozen(&self) -> bool {
        self.sharing == Sharing::Frozen
    }

    /// The guest's number for a device of the host.
    fn dev_of(&self, host: u64) -> u64 {
        let mut devs = self.devs.lock();
        if let Some(dev) = devs.get(&host) {
            return *dev;
        }
        let dev = next_dev();
        devs.insert(host, dev);
        drop(devs);
        io::add_device(dev);
        dev
    }
}

impl FileSystem for GoferFs {
    fn type_name(&self) -> &'static str {
        "gofer"
    }

    fn dev(&self) -> u64 {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs> {
        let s = self.client.statfs(self.root, &[]).map_err(convert::errno)?;
        Ok(StatFs {
            magic: s.kind,
            block_size: s.block_size,
            blocks: [s.blocks, s.blocks_free, s.blocks_available],
            files: [s.files, s.files_free],
            name_max: s.name_length,
            fragment_size: 0,
        })
    }

    fn volatile_names(&self) -> bool {
        !self.exclusive()
    }

    fn keeps_directories(&self) -> bool {
        true
    }
}

/// Most components fetched by one message.
const LOOK_AHEAD: usize = 16;

/// After so many look-ups that had to ask, a directory is listed.
const LIST_AFTER: u32 = 4;

/// Of so many files the attributes come with a list. Those of more are fetched when one name in
/// [`ASKED_OF`] has been asked for.
const LIST_ATTRS: u32 = 128;

/// Directories of shared mounts that have more names are not remembered whole.
const MAX_LISTED: usize = 4096;

/// See [`LIST_ATTRS`].
const ASKED_OF: usize = 16;

/// An error that only a gofer of another version could cause.
const UNEXPECTED: Errno = Errno::EIO;
