//! `F_NOTIFY` of `fcntl(2)`: signals about what happens in a directory, as there were before `inotify(7)`.

use super::async_io::{self, LeaseBell};
use super::notify::{self, Happened, Watcher};
use super::{File, Path};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::sync::{Mutex, rank};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

/// `fs.dir-notify-enable`: whether directories can be watched so.
pub static ENABLED: AtomicU32 = AtomicU32::new(1);

/// Goes on after the first event (`DN_MULTISHOT`).
const MULTISHOT: u32 = 0x8000_0000;

/// `DN_*`, and what they stand for.
const EVENTS: [(u32, Happened); 6] = [
    (0x1, Happened::ACCESS),
    (0x2, Happened::MODIFY),
    (0x4, Happened::CREATE.union(Happened::MOVED_TO)),
    (0x8, Happened::DELETE.union(Happened::MOVED_FROM)),
    (0x10, Happened::RENAMED),
    (0x20, Happened::ATTRIB),
];

/// The watches of a directory.
#[derive(Default)]
struct Watches {
    list: Mutex<Vec<Arc<Watch>>, { rank::LEAF }>,
}

/// A directory that is watched through a file, by those who share a descriptor table.
struct Watch {
    this: Weak<Watch>,
    file: u64,
    table: u64,
    /// Events, and [`MULTISHOT`].
    wanted: AtomicU32,
    bell: LeaseBell,
    path: Path,
}

impl Watch {
    /// Takes it off the directory.
    fn end(&self) {
        let attachments = self.path.inode().attachments();
        let Some(watches) = attachments.get::<Watches>() else { return };
        let gone = {
            let mut list = watches.list.lock();
            let at = list.iter().position(|other| std::ptr::eq(Arc::as_ptr(other), self));
            at.map(|i| list.swap_remove(i))
        };
        if let Some(gone) = gone {
            let watcher: Arc<dyn Watcher> = gone;
            notify::unwatch(&**self.path.inode(), &watcher);
        }
    }
}

impl Watcher for Watch {
    fn event(&self, what: Happened, _cookie: u32, _name: Option<&[u8]>) {
        let wanted = self.wanted.load(Ordering::Relaxed);
        let meant = EVENTS.iter().any(|(bit, event)| wanted & bit != 0 && what.intersects(*event));
        if !meant {
            return;
        }
        self.bell.ring();
        if wanted & MULTISHOT == 0
            && let Some(this) = self.this.upgrade()
        {
            this.end();
        }
    }
}

/// `F_NOTIFY`: watches the directory behind a descriptor, or no longer if nothing is wanted. `ENOTDIR` if it is
/// none, `EINVAL` while `fs.dir-notify-enable` is 0.
pub fn set(t: &CurrentTask, file: &Arc<File>, fd: i32, wanted: u32) -> Result<()> {
    if ENABLED.load(Ordering::Relaxed) == 0 {
        return Err(Errno::EINVAL);
    }
    let table = t.files().id();
    if wanted & !MULTISHOT == 0 {
        end(file, table);
        return Ok(());
    }
    let path = file.path().filter(|path| path.dentry.is_dir()).ok_or(Errno::ENOTDIR)?;
    let inode = path.inode();
    let watches = inode.attachments().get_or_insert_with(Watches::default);
    let find = |watch: &&Arc<Watch>| watch.file == file.id() && watch.table == table;
    if let Some(known) = watches.list.lock().iter().find(find) {
        known.wanted.fetch_or(wanted, Ordering::Relaxed);
        return Ok(());
    }
    let bell = async_io::lease_bell(t, file, fd);
    let watch = Arc::new_cyclic(|this: &Weak<Watch>| Watch {
        this: this.clone(),
        file: file.id(),
        table,
        wanted: AtomicU32::new(wanted),
        bell,
        path: path.clone(),
    });
    watches.list.lock().push(watch.clone());
    notify::watch(&**inode, watch);
    Ok(())
}

/// A descriptor of the table `table` no longer stands for `file`: its watch ends.
pub fn end(file: &File, table: u64) {
    let Some(path) = file.path().filter(|path| path.dentry.is_dir()) else { return };
    let Some(watches) = path.inode().attachments().get::<Watches>() else { return };
    let found = {
        let list = watches.list.lock();
        list.iter().find(|watch| watch.file == file.id() && watch.table == table).cloned()
    };
    if let Some(watch) = found {
        watch.end();
    }
}
