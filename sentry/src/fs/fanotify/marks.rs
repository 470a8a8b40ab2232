//! What groups watch: inodes, mounts and file systems.
//!
//! Marks of inodes hang on them; those of mounts and file systems are in one table. As long as there is no
//! mark in the sandbox, an event is one relaxed load.

use super::{Group, MAX_MARKS, event};
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, RwLock, rank};
use crate::vfs::notify::Happened;
use crate::vfs::{Dentry, FileSystem, Inode, Mount, Path};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// What a mark is on.
#[derive(Clone)]
pub enum Target {
    /// An object; the mark keeps it in memory.
    Inode(Arc<Dentry>),
    /// A mount.
    Mount(Weak<Mount>),
    /// A file system: all its mounts.
    FileSystem(Weak<dyn FileSystem>),
}

impl Target {
    fn same(&self, other: &Target) -> bool {
        match (self, other) {
            (Target::Inode(a), Target::Inode(b)) => Arc::ptr_eq(a.inode(), b.inode()),
            (Target::Mount(a), Target::Mount(b)) => a.ptr_eq(b),
            (Target::FileSystem(a), Target::FileSystem(b)) => a.ptr_eq(b),
            _ => false,
        }
    }

    /// True for the kind of target (`FAN_MARK_FLUSH`).
    fn same_kind(&self, other: &Target) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// True if what is at `path` lies in it, for mounts and file systems.
    fn has(&self, path: &Path) -> bool {
        match self {
            Target::Inode(_) => false,
            Target::Mount(mount) => std::ptr::eq(mount.as_ptr(), Arc::as_ptr(&path.mount)),
            Target::FileSystem(fs) => std::ptr::addr_eq(fs.as_ptr(), Arc::as_ptr(path.dentry.fs())),
        }
    }
}

/// A mark.
pub struct Mark {
    group: Weak<Group>,
    target: Target,
    /// Events that are wanted.
    mask: AtomicU64,
    /// Events that are not, whatever other marks of the group say.
    ignored: AtomicU64,
    /// Ignored events stay so when the file is written.
    keeps_ignoring: AtomicBool,
}

/// The marks of an inode.
#[derive(Default)]
struct OnInode {
    list: Mutex<Vec<Arc<Mark>>, { rank::INOTIFY }>,
}

/// The marks of mounts and file systems.
static ELSEWHERE: RwLock<Vec<Arc<Mark>>, { rank::INOTIFY }> = RwLock::new(Vec::new());
/// Marks in the sandbox, and those of them that ask.
static ALL: AtomicUsize = AtomicUsize::new(0);
/// Events that some mark has ever asked about.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// The marks of one group.
#[derive(Default)]
pub struct Marks(Vec<Arc<Mark>>);

impl Marks {
    /// Takes all of them off what they are on.
    pub(super) fn detach(self) {
        self.0.iter().for_each(|mark| mark.detach());
    }

    /// As `/proc/PID/fdinfo` shows them.
    pub(super) fn show(&self) -> String {
        let mut out = String::new();
        for mark in &self.0 {
            let (mask, ignored) =
                (mark.mask.load(Ordering::Relaxed), mark.ignored.load(Ordering::Relaxed));
            let _ = match &mark.target {
                Target::Inode(dentry) => {
                    let attr = dentry.inode().attr().ok();
                    let (ino, dev) = attr.map_or((0, 0), |a| (a.ino, a.dev));
                    write!(out, "fanotify ino:{ino:x} sdev:{dev:x}")
                }
                Target::Mount(mount) => {
                    write!(out, "fanotify mnt_id:{:x}", mount.upgrade().map_or(0, |m| m.id()))
                }
                Target::FileSystem(fs) => {
                    write!(out, "fanotify sdev:{:x}", fs.upgrade().map_or(0, |fs| fs.dev()))
                }
            };
            let _ = writeln!(out, " mflags:0 mask:{mask:x} ignored_mask:{ignored:x} ");
        }
        out
    }
}

impl Mark {
    fn attach(self: &Arc<Self>) {
        match &self.target {
            Target::Inode(dentry) => {
                let marks = dentry.inode().attachments().get_or_insert_with(OnInode::default);
                marks.list.lock().push(self.clone());
            }
            _ => ELSEWHERE.write().push(self.clone()),
        }
        ALL.fetch_add(1, Ordering::Relaxed);
    }

    fn detach(&self) {
        let is_self = |other: &Arc<Mark>| std::ptr::eq(Arc::as_ptr(other), self);
        let gone = match &self.target {
            Target::Inode(dentry) => {
                let marks = dentry.inode().attachments().get::<OnInode>();
                marks.and_then(|marks| {
                    let mut list = marks.list.lock();
                    let at = list.iter().position(is_self);
                    at.map(|i| list.swap_remove(i))
                })
            }
            _ => {
                let mut list = ELSEWHERE.write();
                let at = list.iter().position(is_self);
                at.map(|i| list.swap_remove(i))
            }
        };
        if gone.is_some() {
            ALL.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What `fanotify_mark(2)` changes.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// Events.
    pub mask: u64,
    /// The events are to be ignored, not told.
    pub ignore: bool,
    /// They stay ignored when the file is written.
    pub survives: bool,
}

impl Group {
    /// Adds events to the mark on a target, or makes one. `ENOSPC` when there are too many.
    pub fn add_mark(&self, target: Target, change: Change) -> Result<()> {
        let mut marks = self.marks.lock();
        let known = marks.0.iter().find(|m| m.target.same(&target)).cloned();
        let mark = match known {
            Some(mark) => mark,
            None => {
                let most = MAX_MARKS.load(Ordering::Relaxed) as usize;
                if !self.has_any_number_of_marks() && ALL.load(Ordering::Relaxed) >= most {
                    return Err(Errno::ENOSPC);
                }
                let mark = Arc::new(Mark {
                    group: self.weak(),
                    target,
                    mask: AtomicU64::new(0),
                    ignored: AtomicU64::new(0),
                    keeps_ignoring: AtomicBool::new(false),
                });
                marks.0.push(mark.clone());
                mark.attach();
                mark
            }
        };
        if change.ignore {
            mark.ignored.fetch_or(change.mask, Ordering::Relaxed);
            if change.survives {
                mark.keeps_ignoring.store(true, Ordering::Relaxed);
            }
        } else {
            mark.mask.fetch_or(change.mask, Ordering::Relaxed);
            ASKED.fetch_or(change.mask & event::PERMISSIONS, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes events off the mark on a target; without any left it goes. `ENOENT` if there is none.
    pub fn remove_mark(&self, target: &Target, change: Change) -> Result<()> {
        let gone = {
            let mut marks = self.marks.lock();
            let at = marks.0.iter().position(|m| m.target.same(target)).ok_or(Errno::ENOENT)?;
            let mark = marks.0.get(at).cloned().ok_or(Errno::ENOENT)?;
            let of = if change.ignore { &mark.ignored } else { &mark.mask };
            of.fetch_and(!change.mask, Ordering::Relaxed);
            let left = mark.mask.load(Ordering::Relaxed) | mark.ignored.load(Ordering::Relaxed);
            if left & (event::PLAIN | event::PERMISSIONS) != 0 {
                return Ok(());
            }
            marks.0.swap_remove(at)
        };
        gone.detach();
        Ok(())
    }

    /// Takes away all marks on targets of the kind of `like`.
    pub fn flush_marks(&self, like: &Target) {
        let gone = {
            let mut marks = self.marks.lock();
            let all = std::mem::take(&mut marks.0);
            let (gone, left) = all.into_iter().partition(|m| m.target.same_kind(like));
            marks.0 = left;
            Marks(gone)
        };
        gone.detach();
    }
}

/// What marks of one group say of an event.
struct Wanted {
    group: Arc<Group>,
    mask: u64,
    ignored: u64,
}

/// Whom to tell, or ask, of `mask` at `path`.
fn wanted(path: &Path, mask: u64) -> Vec<(Arc<Group>, u64)> {
    let mut all: Vec<Wanted> = Vec::new();
    let mut note = |mark: &Mark, of_child: bool| {
        let Some(group) = mark.group.upgrade() else { return };
        let mut wants = mark.mask.load(Ordering::Relaxed);
        let mut ignored = mark.ignored.load(Ordering::Relaxed);
        if of_child && wants & event::ON_CHILD == 0 {
            (wants, ignored) = (0, 0);
        }
        match all.iter_mut().find(|w| Arc::ptr_eq(&w.group, &group)) {
            Some(wanted) => {
                wanted.mask |= wants;
                wanted.ignored |= ignored;
            }
            None => all.push(Wanted { group, mask: wants, ignored }),
        }
    };
    let on = |inode: &dyn Inode| {
        let marks = inode.attachments().get::<OnInode>();
        marks.map(|marks| marks.list.lock().clone()).unwrap_or_default()
    };
    on(&**path.inode()).iter().for_each(|mark| note(mark, false));
    if let Some(parent) = path.dentry.parent() {
        on(&**parent.inode()).iter().for_each(|mark| note(mark, true));
    }
    let elsewhere: Vec<Arc<Mark>> = {
        let list = ELSEWHERE.read();
        list.iter().filter(|mark| mark.target.has(path)).cloned().collect()
    };
    elsewhere.iter().for_each(|mark| note(mark, false));
    let is_dir = path.dentry.is_dir();
    let told = |w: Wanted| {
        if is_dir && w.mask & event::ONDIR == 0 {
            return None;
        }
        let seen = mask & w.mask & !w.ignored;
        (seen != 0).then_some((w.group, seen))
    };
    all.into_iter().filter_map(told).collect()
}

/// Something happened at `path`: who watches it is told.
pub fn happened(path: &Path, what: Happened) {
    if ALL.load(Ordering::Relaxed) == 0 {
        return;
    }
    // The events of both interfaces have the same values where both have them.
    let mask = u64::from(what.bits()) & event::PLAIN;
    tell(path, mask);
    if what.contains(Happened::MODIFY) {
        forget_ignored(path);
    }
}

/// A program was opened at `path` to be executed.
pub fn executed(path: &Path) {
    if ALL.load(Ordering::Relaxed) != 0 {
        tell(path, event::OPEN_EXEC);
        tell(path, event::OPEN);
    }
}

fn tell(path: &Path, mask: u64) {
    if mask == 0 {
        return;
    }
    let dir = if path.dentry.is_dir() { event::ONDIR } else { 0 };
    for (group, seen) in wanted(path, mask) {
        group.tell(seen | dir, path);
    }
}

/// What is written is no longer ignored, but where it was said to be.
fn forget_ignored(path: &Path) {
    let Some(marks) = path.inode().attachments().get::<OnInode>() else { return };
    for mark in marks.list.lock().iter() {
        if !mark.keeps_ignoring.load(Ordering::Relaxed) {
            mark.ignored.store(0, Ordering::Relaxed);
        }
    }
}

/// Asks whether the calling task may do what the bits of `mask` say at `path`. `EPERM`. No lock may be held.
pub fn ask(path: &Path, mask: u64) -> Result<()> {
    if ALL.load(Ordering::Relaxed) == 0 || ASKED.load(Ordering::Relaxed) & mask == 0 {
        return Ok(());
    }
    for (group, seen) in wanted(path, mask) {
        group.ask(seen, path)?;
    }
    Ok(())
}
