//! `devpts`: the directory of pseudo-terminal slaves, and `ptmx`, which makes new ones.
//!
//! Every mount is an instance of its own, as with the option `newinstance`.

mod inode;

use super::anon;
use super::super_block::next_dev;
use super::tty::Tty;
use super::tty::master::{MasterFile, Owner};
use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, Kernel};
use crate::sync::{Mutex, rank};
use crate::vfs::{FileOps, FileSystem, Inode, Path, StatFs};
pub use inode::DevptsInode;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// Highest number of a slave.
pub const MAX_INDEX: u32 = (1 << 20) - 1;
/// Most terminals of one instance (`kernel.pty.max`).
const DEFAULT_MAX: usize = 4096;

/// An instance.
pub struct Devpts {
    this: Weak<Devpts>,
    dev: u64,
    options: Options,
    born: i64,
    slaves: Mutex<BTreeMap<u32, Slave>, { rank::LEAF }>,
}

struct Slave {
    tty: Arc<Tty>,
    inode: Arc<DevptsInode>,
}

/// Mount options.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Options {
    /// Owner of new slaves; `None`: whoever makes them.
    uid: Option<u32>,
    gid: Option<u32>,
    mode: u32,
    ptmxmode: u32,
    max: usize,
}

impl Options {
    /// From the form of `mount(8)`. `EINVAL` for an unknown option.
    fn parse(text: &[u8]) -> Result<Options> {
        let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        let mut out = Options { uid: None, gid: None, mode: 0o600, ptmxmode: 0, max: DEFAULT_MAX };
        for option in text.split(',').filter(|o| !o.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let number = || value.parse::<u32>().map_err(|_| Errno::EINVAL);
            let octal = || u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL);
            match name {
                "uid" => out.uid = Some(number()?),
                "gid" => out.gid = Some(number()?),
                "mode" => out.mode = octal()? & 0o7777,
                "ptmxmode" => out.ptmxmode = octal()? & 0o7777,
                "max" => out.max = (number()? as usize).min(DEFAULT_MAX),
                "newinstance" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(out)
    }
}

static NEWEST: Mutex<Weak<Devpts>, { rank::LEAF }> = Mutex::new(Weak::new());

/// The root directory of a new instance. `EINVAL` for bad options.
pub fn mount(options: &[u8]) -> Result<Arc<dyn Inode>> {
    let options = Options::parse(options)?;
    let fs = Arc::new_cyclic(|this| Devpts {
        this: this.clone(),
        dev: next_dev(),
        options,
        born: anon::now(),
        slaves: Mutex::new(BTreeMap::new()),
    });
    *NEWEST.lock() = Arc::downgrade(&fs);
    Ok(DevptsInode::root(fs))
}

impl Devpts {
    /// A new terminal, its slave side locked. `ENOSPC` when there are too many.
    fn allocate(&self, kernel: &Arc<Kernel>, uid: u32, gid: u32) -> Result<Arc<Tty>> {
        let fs = self.this.upgrade().ok_or(Errno::EIO)?;
        let mut slaves = self.slaves.lock();
        if slaves.len() >= self.options.max {
            return Err(Errno::ENOSPC);
        }
        let index = (0..=MAX_INDEX).find(|i| !slaves.contains_key(i)).ok_or(Errno::ENOSPC)?;
        let tty = Tty::new(kernel, index);
        let uid = self.options.uid.unwrap_or(uid);
        let gid = self.options.gid.unwrap_or(gid);
        let inode = DevptsInode::slave(fs, index, self.options.mode, uid, gid);
        slaves.insert(index, Slave { tty: tty.clone(), inode });
        Ok(tty)
    }

    fn tty(&self, index: u32) -> Option<Arc<Tty>> {
        self.slaves.lock().get(&index).map(|s| s.tty.clone())
    }

    fn inode(&self, index: u32) -> Option<Arc<DevptsInode>> {
        self.slaves.lock().get(&index).map(|s| s.inode.clone())
    }

    fn indices(&self) -> Vec<u32> {
        self.slaves.lock().keys().copied().collect()
    }
}

impl Owner for Devpts {
    fn closed(&self, index: u32) {
        let gone = self.slaves.lock().remove(&index);
        drop(gone);
    }
}

impl FileSystem for Devpts {
    fn type_name(&self) -> &'static str {
        "devpts"
    }

    fn dev(&self) -> u64 {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: 0x1cd1, block_size: 4096, name_max: 255, ..StatFs::default() })
    }

    fn options(&self) -> String {
        let o = &self.options;
        let mut out = Vec::new();
        out.extend(o.uid.map(|uid| format!("uid={uid}")));
        out.extend(o.gid.map(|gid| format!("gid={gid}")));
        out.push(format!("mode={:03o}", o.mode));
        out.push(format!("ptmxmode={:03o}", o.ptmxmode));
        out.join(",")
    }

    fn volatile_names(&self) -> bool {
        true
    }
}

fn instance_at(path: &Path) -> Option<Arc<Devpts>> {
    path.inode().as_any().downcast_ref::<DevptsInode>().map(|inode| inode.instance().clone())
}

/// Opens `ptmx`: a new terminal. A `ptmx` node that lies elsewhere belongs to the newest instance.
pub fn open_master(t: &CurrentTask, path: &Path) -> Result<Arc<dyn FileOps>> {
    let fs = match instance_at(path) {
        Some(fs) => fs,
        None => NEWEST.lock().upgrade().ok_or(Errno::ENODEV)?,
    };
    let tty = fs.allocate(t.kernel(), t.creds().fsuid, t.creds().fsgid)?;
    let owner: Weak<dyn Owner> = fs.this.clone();
    Ok(MasterFile::new(tty, owner))
}

/// The terminal behind a slave node. `ENXIO`, `EIO` if it is gone.
pub fn slave_at(path: &Path, index: u32) -> Result<Arc<Tty>> {
    let fs = match instance_at(path) {
        Some(fs) => fs,
        None => NEWEST.lock().upgrade().ok_or(Errno::ENXIO)?,
    };
    fs.tty(index).ok_or(Errno::EIO)
}

/// A new, unlocked terminal in the instance whose root is `root`, without a master file: the caller
/// drives the master side itself.
pub fn allocate(kernel: &Arc<Kernel>, root: &dyn Any, uid: u32, gid: u32) -> Result<Arc<Tty>> {
    let root = root.downcast_ref::<DevptsInode>().ok_or(Errno::EINVAL)?;
    let tty = root.instance().allocate(kernel, uid, gid)?;
    tty.set_locked(false);
    Ok(tty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let o = Options::parse(b"newinstance,ptmxmode=0666,mode=0620,gid=5").unwrap();
        assert_eq!((o.gid, o.mode, o.ptmxmode), (Some(5), 0o620, 0o666));
        assert_eq!(Options::parse(b"size=5"), Err(Errno::EINVAL));
        assert_eq!(Options::parse(b"gid=x"), Err(Errno::EINVAL));
    }
}
