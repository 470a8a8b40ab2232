//! Making, removing and renaming names.

use super::dentry::Dentry;
use super::notify;
use super::open;
use super::path::Path;
use super::permission::{self, Access, CAP_MKNOD, check_delete};
use super::protected;
use super::walk::{self, Last, Parent, WalkContext};
use super::{Attr, FileType, Inode};
use crate::errno::{Errno, Result};
use crate::kernel::landlock::{self, access, fs::Refer};
use crate::sync::{Mutex, rank};
use std::sync::Arc;

/// `RENAME_NOREPLACE`
pub const RENAME_NOREPLACE: u32 = 1;
/// `RENAME_EXCHANGE`
pub const RENAME_EXCHANGE: u32 = 2;
/// `RENAME_WHITEOUT`
pub const RENAME_WHITEOUT: u32 = 4;

/// Serialises moves of directories between directories, so that two of them cannot make a loop.
static RENAME: Mutex<(), { rank::RENAME }> = Mutex::new(());

/// Makes one new name in the directory of `parent`, after the checks all such calls share: `EEXIST` if
/// it is there, `EROFS`, `EACCES`, `ENOENT` in a removed directory. `restricted`: what the task's own
/// restrictions say of it.
fn make(
    ctx: &WalkContext,
    parent: &Parent,
    restricted: impl FnOnce() -> Result<()>,
    make: impl FnOnce(&Arc<dyn Inode>, &[u8], &Attr) -> Result<Arc<dyn Inode>>,
) -> Result<Arc<Dentry>> {
    let dir = &parent.dir.dentry;
    if !dir.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    let name = parent.name(Errno::EEXIST)?;
    let _entries = dir.lock_entries();
    match dir.lookup_locked(name, b"") {
        Ok(_) => return Err(Errno::EEXIST),
        Err(Errno::ENOENT) => {}
        Err(e) => return Err(e),
    }
    let dir_attr = writable_dir(ctx, &parent.dir, restricted)?;
    let inode = make(dir.inode(), name, &dir_attr)?;
    let child = dir.insert(name, inode);
    notify::created(dir, &child);
    Ok(child)
}

/// `EOVERFLOW` if the ids of a new object's owner do not exist where the file system was mounted.
pub(super) fn check_owner(ctx: &WalkContext, dir: &Path) -> Result<()> {
    let owner = dir.mount.fs_owner();
    let known = owner.uid_from_kernel(ctx.creds.fsuid).is_some()
        && owner.gid_from_kernel(ctx.creds.fsgid).is_some();
    if known { Ok(()) } else { Err(Errno::EOVERFLOW) }
}

/// Attributes of a directory in which names may be made.
fn writable_dir(
    ctx: &WalkContext,
    dir: &Path,
    restricted: impl FnOnce() -> Result<()>,
) -> Result<Attr> {
    dir.mount.check_writable()?;
    if dir.dentry.is_unlinked() {
        return Err(Errno::ENOENT);
    }
    restricted()?;
    check_owner(ctx, dir)?;
    let attr = dir.inode().attr()?;
    permission::check_known(&**dir.inode(), &attr, &ctx.creds, Access::WRITE | Access::EXEC)?;
    Ok(attr)
}

/// `mkdir(2)`.
pub fn mkdir(ctx: &WalkContext, start: Path, path: &[u8], mode: u32) -> Result<()> {
    let parent = walk::resolve_parent(ctx, start, path)?;
    let restricted = || landlock::fs::check(&ctx.creds, &parent.dir, access::MAKE_DIR);
    make(ctx, &parent, restricted, |dir, name, dir_attr| {
        let mode = FileType::Directory as u32 | mode & 0o1777 & !ctx.umask;
        let (owner, mode) = permission::new_inode(dir_attr, &ctx.creds, mode);
        dir.mkdir(name, mode & 0o7777, owner)
    })?;
    Ok(())
}

/// `symlink(2)`.
pub fn symlink(ctx: &WalkContext, target: &[u8], start: Path, path: &[u8]) -> Result<()> {
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let parent = walk::resolve_parent(ctx, start, path)?;
    no_slash(&parent)?;
    let restricted = || landlock::fs::check(&ctx.creds, &parent.dir, access::MAKE_SYM);
    make(ctx, &parent, restricted, |dir, name, dir_attr| {
        let mode = FileType::Symlink as u32 | 0o777;
        let (owner, _) = permission::new_inode(dir_attr, &ctx.creds, mode);
        dir.symlink(name, target, owner)
    })?;
    Ok(())
}

/// `mknod(2)`; also makes the node of a bound socket. `mode` has the type. `EPERM` for a device
/// without `CAP_MKNOD`, or for a directory.
pub fn create_node(
    ctx: &WalkContext,
    start: Path,
    path: &[u8],
    mode: u32,
    rdev: u64,
) -> Result<Path> {
    match FileType::from_mode(mode) {
        Some(FileType::Directory) => return Err(Errno::EPERM),
        Some(FileType::Symlink) | None => return Err(Errno::EINVAL),
        Some(_) => {}
    }
    let parent = walk::resolve_parent(ctx, start, path)?;
    no_slash(&parent)?;
    let name = parent.name(Errno::EEXIST)?;
    let device = match FileType::from_mode(mode) {
        // 0/0 is an overlay's whiteout, which everyone may make.
        Some(FileType::CharDevice) => rdev != 0,
        Some(FileType::BlockDevice) => true,
        _ => false,
    };
    if device && !ctx.creds.has(CAP_MKNOD) {
        // As in Linux, whether the name could be made at all is what counts first.
        let right = FileType::from_mode(mode).map_or(0, landlock::fs::right_to_make);
        let restricted = || landlock::fs::check(&ctx.creds, &parent.dir, right);
        return Err(match parent.dir.dentry.lookup(name, b"") {
            Ok(_) => Errno::EEXIST,
            Err(Errno::ENOENT) => {
                writable_dir(ctx, &parent.dir, restricted).err().unwrap_or(Errno::EPERM)
            }
            Err(e) => e,
        });
    }
    match open::create(ctx, &parent.dir, name, mode, rdev)? {
        (dentry, true) => Ok(Path { mount: parent.dir.mount, dentry }),
        (_, false) => Err(Errno::EEXIST),
    }
}

/// A name with a slash behind it can only become a directory: `EEXIST` if there is something, else
/// `ENOENT`.
fn no_slash(parent: &Parent) -> Result<()> {
    if !parent.slash {
        return Ok(());
    }
    match parent.dir.dentry.lookup(parent.name(Errno::EEXIST)?, b"") {
        Ok(_) => Err(Errno::EEXIST),
        Err(e) => Err(e),
    }
}

/// `link(2)`: makes `path` another name of what is at `old`.
pub fn link(ctx: &WalkContext, old: &Path, start: Path, path: &[u8]) -> Result<()> {
    let parent = walk::resolve_parent(ctx, start, path)?;
    no_slash(&parent)?;
    parent.name(Errno::EEXIST)?;
    if !Arc::ptr_eq(&old.mount, &parent.dir.mount) {
        return Err(Errno::EXDEV);
    }
    let attr = old.inode().attr()?;
    if attr.nlink == 0 && !old.dentry.is_linkable() {
        return Err(Errno::ENOENT);
    }
    if !may_link(&attr, ctx) {
        return Err(Errno::EPERM);
    }
    let old_dir = old.dentry.parent().unwrap_or_else(|| old.dentry.clone());
    let restricted = || {
        let refer = Refer {
            old_dir: &old_dir,
            child: &old.dentry,
            new_dir: &parent.dir,
            target: None,
            renames: false,
            exchange: false,
        };
        landlock::fs::check_refer(&ctx.creds, &refer)
    };
    make(ctx, &parent, restricted, |dir, name, _| {
        if attr.is_dir() {
            return Err(Errno::EPERM);
        }
        dir.link(name, old.inode())?;
        notify::link_count(&old.dentry);
        Ok(old.inode().clone())
    })?;
    Ok(())
}

/// `fs.protected_hardlinks`: only the owner links special, set-id or unreadable files.
fn may_link(attr: &Attr, ctx: &WalkContext) -> bool {
    const S_ISUID: u32 = 0o4000;
    const S_ISGID_EXEC: u32 = 0o2010;
    let safe = !protected::restricts_hard_links()
        || attr.file_type() == FileType::Regular
            && attr.mode & S_ISUID == 0
            && attr.mode & S_ISGID_EXEC != S_ISGID_EXEC
            && permission::check_attr(attr, &ctx.creds, Access::READ | Access::WRITE).is_ok();
    safe || permission::is_owner_or_capable(attr, &ctx.creds)
}

/// The child that is to be removed, and a check that it may be. `right`: what a task must be allowed by its own
/// restrictions.
fn victim(ctx: &WalkContext, dir: &Path, name: &[u8], right: u16) -> Result<Arc<Dentry>> {
    let child = dir.dentry.lookup_locked(name, b"")?;
    dir.mount.check_writable()?;
    landlock::fs::check(&ctx.creds, dir, right)?;
    removable(ctx, dir, &child)?;
    Ok(child)
}

/// Whether a name may be removed; the attributes of what it names.
fn removable(ctx: &WalkContext, dir: &Path, child: &Dentry) -> Result<Attr> {
    let attr = child.inode().attr()?;
    check_delete(&**dir.inode(), &dir.inode().attr()?, &attr, &ctx.creds)?;
    permission::check_flags_of_removal(&**dir.inode(), &**child.inode())?;
    Ok(attr)
}

/// `unlink(2)`.
pub fn unlink(ctx: &WalkContext, start: Path, path: &[u8]) -> Result<()> {
    let parent = walk::resolve_parent(ctx, start, path)?;
    let name = parent.name(Errno::EISDIR)?;
    let dir = &parent.dir.dentry;
    let _gone = {
        let _entries = dir.lock_entries();
        if parent.slash {
            let child = dir.lookup_locked(name, b"")?;
            return Err(if child.is_dir() { Errno::EISDIR } else { Errno::ENOTDIR });
        }
        let child = victim(ctx, &parent.dir, name, access::REMOVE_FILE)?;
        if child.is_dir() {
            return Err(Errno::EISDIR);
        }
        if child.is_mountpoint() {
            return Err(Errno::EBUSY);
        }
        dir.inode().unlink(name)?;
        child.set_unlinked(dir, name);
        notify::removed(dir, &child, name);
        child
    };
    Ok(())
}

/// `rmdir(2)`.
pub fn rmdir(ctx: &WalkContext, start: Path, path: &[u8]) -> Result<()> {
    let parent = walk::resolve_parent(ctx, start, path)?;
    let name = match &parent.last {
        Last::Name(name) => name.as_bytes(),
        Last::Dot => return Err(Errno::EINVAL),
        Last::DotDot => return Err(Errno::ENOTEMPTY),
        Last::Root => return Err(Errno::EBUSY),
    };
    let dir = &parent.dir.dentry;
    let _gone = {
        let _entries = dir.lock_entries();
        let child = victim(ctx, &parent.dir, name, access::REMOVE_DIR)?;
        if !child.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if child.is_mountpoint() {
            return Err(Errno::EBUSY);
        }
        dir.inode().rmdir(name)?;
        child.set_unlinked(dir, name);
        notify::removed(dir, &child, name);
        child
    };
    Ok(())
}

/// True if a dentry would lie in itself after a move, or the exchange with another one.
fn makes_loop(
    old_dir: &Arc<Dentry>,
    child: &Arc<Dentry>,
    new_dir: &Arc<Dentry>,
    exchanged: Option<&Arc<Dentry>>,
) -> bool {
    new_dir.is_within(child) || exchanged.is_some_and(|other| old_dir.is_within(other))
}

/// `renameat2(2)`.
pub fn rename(
    ctx: &WalkContext,
    old_start: Path,
    old_path: &[u8],
    new_start: Path,
    new_path: &[u8],
    flags: u32,
) -> Result<()> {
    let exchange = flags & RENAME_EXCHANGE != 0;
    if flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) != 0
        || exchange && flags & (RENAME_NOREPLACE | RENAME_WHITEOUT) != 0
    {
        return Err(Errno::EINVAL);
    }
    let old = walk::resolve_parent(ctx, old_start, old_path)?;
    let new = walk::resolve_parent(ctx, new_start, new_path)?;
    if !Arc::ptr_eq(&old.dir.mount, &new.dir.mount) {
        return Err(Errno::EXDEV);
    }
    let old_name = old.name(Errno::EBUSY)?;
    let taken = if flags & RENAME_NOREPLACE != 0 { Errno::EEXIST } else { Errno::EBUSY };
    let new_name = new.name(taken)?;
    old.dir.mount.check_writable()?;
    let (old_dir, new_dir) = (&old.dir.dentry, &new.dir.dentry);
    // Only moves between directories can change which directory lies in which.
    let waits = old_dir.waits();
    let _rename = (!waits && !Arc::ptr_eq(old_dir, new_dir)).then(|| RENAME.lock());
    let _entries = Dentry::lock_two(old_dir, new_dir);

    let child = old_dir.lookup_locked(old_name, b"")?;
    let target = match new_dir.lookup_locked(new_name, b"") {
        Ok(_) if flags & RENAME_NOREPLACE != 0 => return Err(Errno::EEXIST),
        Ok(target) => Some(target),
        Err(Errno::ENOENT) if !exchange => None,
        Err(e) => return Err(e),
    };
    // A directory cannot go into itself, nor take the place of one it lies in.
    if child.is_dir() && new_dir.is_within(&child) {
        return Err(Errno::EINVAL);
    }
    if let Some(target) = &target
        && target.is_dir()
        && old_dir.is_within(target)
    {
        return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    let slash_without_dir = old.slash || (new.slash && !exchange);
    if !child.is_dir() && slash_without_dir
        || exchange && new.slash && target.as_ref().is_some_and(|t| !t.is_dir())
    {
        return Err(Errno::ENOTDIR);
    }
    let refer = Refer {
        old_dir,
        child: &child,
        new_dir: &new.dir,
        target: target.as_ref(),
        renames: true,
        exchange,
    };
    landlock::fs::check_refer(&ctx.creds, &refer)?;
    if target.as_ref().is_some_and(|target| Arc::ptr_eq(target.inode(), child.inode())) {
        return Ok(());
    }
    let child_attr = removable(ctx, &old.dir, &child)?;
    let new_dir_attr = writable_dir(ctx, &new.dir, || Ok(()))?;
    if let Some(target) = &target {
        check_delete(&**new_dir.inode(), &new_dir_attr, &target.inode().attr()?, &ctx.creds)?;
        if !exchange {
            match (child.is_dir(), target.is_dir()) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                _ => {}
            }
        }
    }
    // Moving a directory changes its `..`, so it must be writable itself.
    if !Arc::ptr_eq(old_dir, new_dir) {
        if child.is_dir() {
            permission::check_known(&**child.inode(), &child_attr, &ctx.creds, Access::WRITE)?;
        }
        if let Some(target) = target.as_ref().filter(|t| exchange && t.is_dir()) {
            permission::check(&**target.inode(), &ctx.creds, Access::WRITE)?;
        }
    }
    if child.is_mountpoint() || target.as_ref().is_some_and(|t| t.is_mountpoint()) {
        return Err(Errno::EBUSY);
    }
    old_dir.inode().rename(old_name, new_dir.inode(), new_name, flags)?;
    // Nothing was locked meanwhile: a guest may have agreed to what makes a loop.
    let _settled = waits.then(|| RENAME.lock());
    if waits && makes_loop(old_dir, &child, new_dir, target.as_ref().filter(|_| exchange)) {
        return Ok(());
    }
    match &target {
        Some(target) if exchange => {
            Dentry::exchange(&child, old_dir, old_name, target, new_dir, new_name)
        }
        _ => {
            if let Some(target) = &target {
                target.set_unlinked(new_dir, new_name);
            }
            child.set_place(new_dir, new_name);
            if flags & RENAME_WHITEOUT == 0 {
                old_dir.set_negative(old_name);
            }
        }
    }
    let replaced = target.as_ref().filter(|_| !exchange);
    notify::moved(&child, old_dir, old_name, new_dir, new_name, replaced);
    if let Some(target) = target.as_ref().filter(|_| exchange) {
        notify::moved(target, new_dir, new_name, old_dir, old_name, None);
    }
    Ok(())
}
