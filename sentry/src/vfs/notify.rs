//! Where what happens to files is announced: the VFS's side of `inotify(7)` and `fanotify(7)`.
//!
//! Watches hang on inodes. As long as there is none in the whole sandbox, an announcement is one
//! relaxed load.

use super::path::Path;
use super::{Dentry, Inode};
use crate::fs::fanotify::{event, marks};
use crate::sync::{Mutex, rank};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

bitflags::bitflags! {
    /// What happened, with the values of `inotify(7)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Happened: u32 {
        /// Was read.
        const ACCESS = 0x1;
        /// Was written or truncated.
        const MODIFY = 0x2;
        /// Attributes changed.
        const ATTRIB = 0x4;
        /// A file open for writing was closed.
        const CLOSE_WRITE = 0x8;
        /// A file not open for writing was closed.
        const CLOSE_NOWRITE = 0x10;
        /// Was opened.
        const OPEN = 0x20;
        /// Was moved out of the directory.
        const MOVED_FROM = 0x40;
        /// Was moved into the directory.
        const MOVED_TO = 0x80;
        /// Was made in the directory.
        const CREATE = 0x100;
        /// Was removed from the directory.
        const DELETE = 0x200;
        /// Is itself gone.
        const DELETE_SELF = 0x400;
        /// Was itself moved.
        const MOVE_SELF = 0x800;
        /// Its file system was unmounted.
        const UNMOUNT = 0x2000;
        /// Was given another name in the same directory; comes with [`Happened::MOVED_FROM`].
        const RENAMED = 0x1000_0000;
        /// The subject is a directory.
        const ISDIR = 0x4000_0000;
    }
}

/// Someone who watches an inode.
pub trait Watcher: Send + Sync {
    /// Something happened to the inode, or, with a name, to that name in it. `cookie` ties the two
    /// halves of a move together. May be called with a directory's entries locked: it must only note
    /// the event, and take no lock below [`rank::INOTIFY`].
    fn event(&self, what: Happened, cookie: u32, name: Option<&[u8]>);

    /// True if it is not told what happens to children without a name (`IN_EXCL_UNLINK`).
    fn excludes_unlinked(&self) -> bool {
        false
    }
}

/// The watchers of one inode.
#[derive(Default)]
struct Watches {
    list: Mutex<Vec<Arc<dyn Watcher>>, { rank::INOTIFY }>,
}

/// Watches in the sandbox.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);
static NEXT_COOKIE: AtomicU32 = AtomicU32::new(1);

fn active() -> bool {
    ACTIVE.load(Ordering::Relaxed) != 0
}

/// Adds a watcher to an inode. The watcher must keep the inode alive as long as it watches.
pub fn watch(inode: &dyn Inode, watcher: Arc<dyn Watcher>) {
    let watches = inode.attachments().get_or_insert_with(Watches::default);
    watches.list.lock().push(watcher);
    ACTIVE.fetch_add(1, Ordering::Relaxed);
}

/// Takes a watcher away again. One that is not there is ignored.
pub fn unwatch(inode: &dyn Inode, watcher: &Arc<dyn Watcher>) {
    let Some(watches) = inode.attachments().get::<Watches>() else { return };
    let removed = {
        let mut list = watches.list.lock();
        let at = list.iter().position(|w| Arc::ptr_eq(w, watcher));
        at.map(|i| list.swap_remove(i))
    };
    if removed.is_some() {
        ACTIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

fn tell(inode: &dyn Inode, what: Happened, cookie: u32, name: Option<&[u8]>) {
    tell_some(inode, what, cookie, name, |_| true);
}

/// Tells those watchers of `inode` that want to know.
fn tell_some(
    inode: &dyn Inode,
    what: Happened,
    cookie: u32,
    name: Option<&[u8]>,
    wants: impl Fn(&dyn Watcher) -> bool,
) {
    let Some(watches) = inode.attachments().get::<Watches>() else { return };
    // Watchers are called without the list's lock: an event may end a watch.
    let list = watches.list.lock().clone();
    for watcher in list.iter().filter(|w| wants(&***w)) {
        watcher.event(what, cookie, name);
    }
}

fn kind(dentry: &Dentry) -> Happened {
    if dentry.is_dir() { Happened::ISDIR } else { Happened::empty() }
}

/// Something happened to what is at `path`: its watchers and those of its directory are told.
pub fn happened(path: &Path, what: Happened) {
    if active() {
        happened_to(&path.dentry, what);
    }
    marks::happened(path, what);
}

/// The program at `path` was opened to be executed.
pub fn executed(path: &Path) {
    if active() {
        happened_to(&path.dentry, Happened::OPEN);
    }
    marks::executed(path);
}

fn happened_to(dentry: &Arc<Dentry>, what: Happened) {
    let what = what | kind(dentry);
    if let Some(parent) = dentry.parent() {
        let unlinked = dentry.is_unlinked();
        let wants = |w: &dyn Watcher| !unlinked || !w.excludes_unlinked();
        tell_some(&**parent.inode(), what, 0, Some(&dentry.name()), wants);
    }
    tell(&**dentry.inode(), what, 0, None);
}

/// The kernel itself has changed what is in a file: its watchers are told.
pub fn modified(inode: &dyn Inode) {
    if active() {
        tell(inode, Happened::MODIFY, 0, None);
    }
}

/// What a dentry stands for has one name more or less.
pub fn link_count(dentry: &Arc<Dentry>) {
    if active() {
        tell(&**dentry.inode(), Happened::ATTRIB, 0, None);
    }
    marks::happened_itself(dentry, event::ATTRIB);
}

/// `child` was made in `dir`.
pub fn created(dir: &Arc<Dentry>, child: &Arc<Dentry>) {
    if active() {
        let what = Happened::CREATE | kind(child);
        tell(&**dir.inode(), what, 0, Some(&child.name()));
    }
    marks::happened_in(dir, child, &child.name(), event::CREATE);
}

/// `child` was removed from `dir`, where it was called `name`.
pub fn removed(dir: &Arc<Dentry>, child: &Arc<Dentry>, name: &[u8]) {
    if !child.is_dir() {
        link_count(child);
    }
    replaced(child);
    if active() {
        tell(&**dir.inode(), Happened::DELETE | kind(child), 0, Some(name));
    }
    marks::happened_in(dir, child, name, event::DELETE);
}

/// `child` was moved from `old_name` in `old_dir` to `new_name` in `new_dir`, where it replaced `target`.
pub fn moved(
    child: &Arc<Dentry>,
    old_dir: &Arc<Dentry>,
    old_name: &[u8],
    new_dir: &Arc<Dentry>,
    new_name: &[u8],
    target: Option<&Arc<Dentry>>,
) {
    marks::happened_to_name(child, old_dir, old_name, new_dir, new_name);
    if active() {
        tell_of_move(child, old_dir, old_name, new_dir, new_name);
    }
    if let Some(target) = target {
        link_count(target);
    }
    if active() {
        tell(&**child.inode(), Happened::MOVE_SELF, 0, None);
    }
    marks::happened_itself(child, event::MOVE_SELF);
    if let Some(target) = target {
        replaced(target);
    }
}

fn tell_of_move(
    child: &Arc<Dentry>,
    old_dir: &Arc<Dentry>,
    old_name: &[u8],
    new_dir: &Arc<Dentry>,
    new_name: &[u8],
) {
    let cookie = NEXT_COOKIE.fetch_add(1, Ordering::Relaxed);
    let kind = kind(child);
    let mut from = Happened::MOVED_FROM | kind;
    from.set(Happened::RENAMED, Arc::ptr_eq(old_dir, new_dir));
    tell(&**old_dir.inode(), from, cookie, Some(old_name));
    tell(&**new_dir.inode(), Happened::MOVED_TO | kind, cookie, Some(new_name));
}

/// What `child` stood for has perhaps lost its last name.
fn replaced(child: &Arc<Dentry>) {
    if !active() && !marks::is_any() {
        return;
    }
    let inode = &**child.inode();
    if child.is_dir() || inode.attr().is_ok_and(|attr| attr.nlink == 0) {
        tell(inode, Happened::DELETE_SELF, 0, None);
        marks::happened_itself(child, event::DELETE_SELF);
    }
}
