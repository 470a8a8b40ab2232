//! What groups watch: inodes, mounts and file systems.
//!
//! Marks of inodes hang on them; those of mounts and file systems are in one table. As long as there is no
//! mark in the sandbox, an event is one relaxed load.

use super::handles::Subject;
use super::{Group, MAX_MARKS, event};
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, RwLock, rank};
use crate::vfs::notify::Happened;
use crate::vfs::{Dentry, FileSystem, Mount, Path};
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

    /// True if a place lies in it, for mounts and file systems.
    fn has(&self, place: &Place<'_>) -> bool {
        match self {
            Target::Inode(_) => false,
            Target::Mount(mount) => place
                .path
                .is_some_and(|path| std::ptr::eq(mount.as_ptr(), Arc::as_ptr(&path.mount))),
            Target::FileSystem(fs) => std::ptr::addr_eq(fs.as_ptr(), Arc::as_ptr(place.own.fs())),
        }
    }
}

impl<'a> Place<'a> {
    /// An object in its directory.
    fn of(own: &'a Arc<Dentry>) -> Self {
        Self { own, parent: own.parent(), second: None, path: None, is_dir: own.is_dir() }
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
            if left & (event::PLAIN | event::OF_HANDLES | event::PERMISSIONS) != 0 {
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

/// Where an event happens, for those who watch.
struct Place<'a> {
    /// Who watches this object, or directory, is told.
    own: &'a Arc<Dentry>,
    /// Who watches what is in this directory is told, too.
    parent: Option<Arc<Dentry>>,
    /// The directory that a name moves to.
    second: Option<&'a Arc<Dentry>>,
    /// The mount, if it is known.
    path: Option<&'a Path>,
    /// A directory is the subject.
    is_dir: bool,
}

/// What marks of one group say of an event.
struct Wanted {
    group: Arc<Group>,
    mask: u64,
    ignored: u64,
    seen_by: SeenBy,
}

/// Which marks of a group an event has met.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SeenBy {
    /// One of the file system.
    pub file_system: bool,
    /// One of the object or directory.
    pub own: bool,
    /// One of the directory that a name moves to.
    pub second: bool,
}

/// Whom to tell, or ask, of `mask` there.
fn wanted(place: &Place<'_>, mask: u64) -> Vec<(Arc<Group>, u64, SeenBy)> {
    let mut all: Vec<Wanted> = Vec::new();
    let mut note = |mark: &Mark, of_child: bool, second: bool| {
        let Some(group) = mark.group.upgrade() else { return };
        let mut wants = mark.mask.load(Ordering::Relaxed);
        let mut ignored = mark.ignored.load(Ordering::Relaxed);
        if of_child && wants & event::ON_CHILD == 0 {
            (wants, ignored) = (0, 0);
        }
        if place.is_dir && wants & event::ONDIR == 0 {
            wants = 0;
        }
        let wanted = match all.iter_mut().position(|w| Arc::ptr_eq(&w.group, &group)) {
            Some(at) => all.get_mut(at),
            None => {
                all.push(Wanted { group, mask: 0, ignored: 0, seen_by: SeenBy::default() });
                all.last_mut()
            }
        };
        let Some(wanted) = wanted else { return };
        wanted.mask |= wants;
        wanted.ignored |= ignored;
        if wants != 0 {
            let seen_by = &mut wanted.seen_by;
            match mark.target {
                Target::FileSystem(_) => seen_by.file_system = true,
                Target::Inode(_) if second => seen_by.second = true,
                Target::Inode(_) => seen_by.own |= !of_child,
                Target::Mount(_) => {}
            }
        }
    };
    let on = |dentry: &Dentry| {
        let marks = dentry.inode().attachments().get::<OnInode>();
        marks.map(|marks| marks.list.lock().clone()).unwrap_or_default()
    };
    on(place.own).iter().for_each(|mark| note(mark, false, false));
    if let Some(parent) = &place.parent {
        on(parent).iter().for_each(|mark| note(mark, true, false));
    }
    if let Some(second) = place.second {
        on(second).iter().for_each(|mark| note(mark, false, true));
    }
    let elsewhere: Vec<Arc<Mark>> = {
        let list = ELSEWHERE.read();
        list.iter().filter(|mark| mark.target.has(place)).cloned().collect()
    };
    elsewhere.iter().for_each(|mark| note(mark, false, false));
    let told = |w: Wanted| {
        let seen = mask & w.mask & !w.ignored;
        (seen != 0).then_some((w.group, seen, w.seen_by))
    };
    all.into_iter().filter_map(told).collect()
}

/// Whether there are marks.
pub fn is_any() -> bool {
    ALL.load(Ordering::Relaxed) != 0
}

/// Something happened at `path`: who watches it is told.
pub fn happened(path: &Path, what: Happened) {
    if !is_any() {
        return;
    }
    // The events of both interfaces have the same values where both have them.
    tell(path, u64::from(what.bits()) & (event::PLAIN | event::ATTRIB));
    if what.contains(Happened::MODIFY) {
        forget_ignored(path);
    }
}

/// A program was opened at `path` to be executed.
pub fn executed(path: &Path) {
    if is_any() {
        tell(path, event::OPEN_EXEC);
        tell(path, event::OPEN);
    }
}

fn tell(path: &Path, mask: u64) {
    if mask == 0 {
        return;
    }
    let subject = Subject { child: Some(path.dentry.name()), ..Subject::of(&path.dentry) };
    let place = Place { path: Some(path), ..Place::of(&path.dentry) };
    for (group, seen, _) in wanted(&place, mask) {
        group.tell(seen, Some(path), &subject);
    }
}

/// Something happened to an object, whatever it is called.
pub fn happened_itself(dentry: &Arc<Dentry>, mask: u64) {
    if is_any() {
        let place = Place { parent: None, ..Place::of(dentry) };
        for (group, seen, _) in wanted(&place, mask) {
            group.tell(seen, None, &Subject { dir: None, ..Subject::of(dentry) });
        }
    }
}

/// Something happened to a name in a directory, which stands or stood for `child`.
pub fn happened_in(dir: &Arc<Dentry>, child: &Arc<Dentry>, name: &[u8], mask: u64) {
    if !is_any() {
        return;
    }
    let subject =
        Subject { dir: Some(dir.clone()), child: Some(name.into()), ..Subject::of(child) };
    let place = Place { parent: None, is_dir: child.is_dir(), ..Place::of(dir) };
    for (group, seen, _) in wanted(&place, mask) {
        group.tell(seen, None, &subject);
    }
}

/// `child` was moved.
pub fn happened_to_name(
    child: &Arc<Dentry>,
    old_dir: &Arc<Dentry>,
    old_name: &[u8],
    new_dir: &Arc<Dentry>,
    new_name: &[u8],
) {
    if !is_any() {
        return;
    }
    let is_dir = child.is_dir();
    let place = Place { parent: None, second: Some(new_dir), is_dir, ..Place::of(old_dir) };
    for (group, seen, by) in wanted(&place, event::RENAME) {
        let (old, new) = (by.file_system || by.own, by.file_system || by.second);
        let subject = Subject {
            dir: old.then(|| old_dir.clone()),
            child: old.then(|| old_name.into()),
            moved: new.then(|| (new_dir.clone(), new_name.into())),
            ..Subject::of(child)
        };
        group.tell(seen, None, &subject);
    }
    happened_in(old_dir, child, old_name, event::MOVED_FROM);
    happened_in(new_dir, child, new_name, event::MOVED_TO);
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
    let place = Place { path: Some(path), ..Place::of(&path.dentry) };
    for (group, seen, _) in wanted(&place, mask) {
        group.ask(seen, path)?;
    }
    Ok(())
}
