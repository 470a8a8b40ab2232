//! `mqueue`: the file system of POSIX message queues (`mq_overview(7)`).
//!
//! An IPC namespace has one, wherever it is mounted; `mq_open(3)` finds queues in it without a mount.

mod directory;
mod file;
mod inode;
mod notify;
mod queue;
mod settings;

pub use directory::Root;
pub use file::QueueFile;
pub use inode::QueueInode;
pub use notify::{COOKIE_LEN, How, Registration};
pub use queue::{PRIO_MAX, Received, Sent};
pub use settings::{HARD_MSGMAX, HARD_MSGSIZEMAX, Settings};

use super::super_block::next_dev;
use crate::errno::Result;
use crate::vfs::{FileSystem, Mount, MountFlags, StatFs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// `MQUEUE_MAGIC`
const MAGIC: u64 = 0x1980_0202;

/// The message queues of an IPC namespace.
pub struct Mqueue {
    root: Arc<Root>,
    mount: OnceLock<Arc<Mount>>,
}

impl Default for Mqueue {
    fn default() -> Self {
        let fs = Arc::new(MqueueFs {
            dev: next_dev(),
            next_ino: AtomicU64::new(2),
            settings: Settings::default(),
        });
        Self { root: Root::new(fs), mount: OnceLock::new() }
    }
}

impl Mqueue {
    /// The root directory.
    pub fn root(&self) -> &Arc<Root> {
        &self.root
    }

    /// The mount that `mq_open(2)` uses, attached nowhere.
    pub fn mount(&self) -> &Arc<Mount> {
        self.mount.get_or_init(|| {
            let fs = self.root.mqueue_fs().clone();
            Mount::new(fs, self.root.clone(), b"mqueue", MountFlags::empty())
        })
    }

    /// The limits (`/proc/sys/fs/mqueue`).
    pub fn settings(&self) -> &Settings {
        &self.root.mqueue_fs().settings
    }
}

/// The file system.
pub struct MqueueFs {
    dev: u64,
    next_ino: AtomicU64,
    settings: Settings,
}

impl MqueueFs {
    fn next_ino(&self) -> u64 {
        self.next_ino.fetch_add(1, Ordering::Relaxed)
    }
}

impl FileSystem for MqueueFs {
    fn type_name(&self) -> &'static str {
        "mqueue"
    }

    fn dev(&self) -> u64 {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: MAGIC, block_size: 4096, name_max: 255, ..StatFs::default() })
    }

    fn volatile_names(&self) -> bool {
        // It may be mounted in several places, each with a cache of its own.
        true
    }
}
