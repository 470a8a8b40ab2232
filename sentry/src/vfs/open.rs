//! `open(2)`, and opening programs for `execve(2)`.

use super::file::{File, FileOps, OpenFlags};
use super::locks::lease;
use super::mount::MountFlags;
use super::notify::{self, Happened};
use super::path::Path;
use super::permission::{self, Access};
use super::protected;
use super::walk::{self, Last, WalkContext, WalkFlags, Walker};
use super::{Dentry, FileType, Inode, Owner, SetAttr, device};
use crate::errno::{Errno, Result};
use crate::fs::fanotify::{event, marks};
use crate::fs::host::fifo;
use crate::fs::pipe::{FifoSlot, open_fifo};
use crate::kernel::CurrentTask;
use crate::kernel::landlock::{self, access};
use crate::mm::PatchedCode;
use std::any::Any;
use std::sync::Arc;

const S_IFREG: u32 = FileType::Regular as u32;

/// How to open: `openat2(2)`'s structure, checked.
#[derive(Debug, Clone, Copy)]
pub struct OpenHow {
    /// Flags.
    pub flags: OpenFlags,
    /// Permission bits of a new file, before the umask.
    pub mode: u32,
    /// Restrictions of the path walk.
    pub resolve: WalkFlags,
}

/// Opens `path` relative to the directory descriptor `dirfd` of the task. May wait for the other side
/// of a FIFO.
pub fn open(
    t: &mut CurrentTask,
    dirfd: i32,
    path: &[u8],
    flags: OpenFlags,
    mode: u32,
) -> Result<Arc<File>> {
    open_how(t, dirfd, path, OpenHow { flags, mode, resolve: WalkFlags::empty() })
}

/// As [`open`], with the restrictions of `openat2(2)`.
pub fn open_how(t: &mut CurrentTask, dirfd: i32, path: &[u8], how: OpenHow) -> Result<Arc<File>> {
    let ctx = WalkContext::of(t);
    // With `RESOLVE_IN_ROOT` an absolute path, too, starts at the descriptor.
    let scoped = how.resolve.contains(WalkFlags::IN_ROOT);
    let relative = if scoped { b"." } else { path };
    let start = walk::start(t, &ctx, dirfd, relative)?;
    open_at(Some(t), &ctx, start, path, how)
}

/// Opens `path` from `start`. Without a task, FIFOs cannot be opened.
pub fn open_at(
    t: Option<&mut CurrentTask>,
    ctx: &WalkContext,
    start: Path,
    path: &[u8],
    how: OpenHow,
) -> Result<Arc<File>> {
    let flags = how.flags;
    if flags.tmpfile() {
        return open_unnamed(t, ctx, start, path, how);
    }
    if flags.contains(OpenFlags::CREAT) {
        return open_or_create(t, ctx, start, path, how);
    }
    let mut walk_flags = how.resolve;
    walk_flags.set(WalkFlags::FOLLOW, !flags.contains(OpenFlags::NOFOLLOW));
    walk_flags.set(WalkFlags::DIRECTORY, flags.contains(OpenFlags::DIRECTORY));
    let path = walk::resolve(ctx, start, path, walk_flags)?;
    if flags.contains(OpenFlags::PATH) {
        return Ok(File::new(Arc::new(PathOnly), Some(path), flags));
    }
    open_path(t, ctx, path, flags)
}

/// A file with `O_PATH` that stands for a place.
pub fn path_only(path: Path) -> Arc<File> {
    File::new(Arc::new(PathOnly), Some(path), OpenFlags::PATH)
}

/// `O_CREAT`.
fn open_or_create(
    t: Option<&mut CurrentTask>,
    ctx: &WalkContext,
    start: Path,
    path: &[u8],
    how: OpenHow,
) -> Result<Arc<File>> {
    let exclusive = how.flags.contains(OpenFlags::EXCL);
    let follow = !exclusive && !how.flags.contains(OpenFlags::NOFOLLOW);
    let mut walker = Walker::new(ctx, start, path, how.resolve)?;
    let dir = loop {
        let (last, slash) = walker.walk_to_last()?;
        let Last::Name(name) = &last else {
            return Err(if exclusive { Errno::EEXIST } else { Errno::EISDIR });
        };
        if slash {
            return Err(Errno::EISDIR);
        }
        let dir = walker.at.clone();
        let child = match dir.dentry.lookup(name.as_bytes(), b"") {
            Err(Errno::ENOENT) => {
                match create_open(
                    ctx,
                    &dir,
                    name.as_bytes(),
                    S_IFREG | how.mode & 0o7777,
                    how.flags,
                )? {
                    (child, true) => {
                        let path = Path { mount: dir.mount, dentry: child };
                        let file = open_checked(t, ctx, path, how.flags - OpenFlags::TRUNC)?;
                        file.set_created();
                        return Ok(file);
                    }
                    (child, false) => child,
                }
            }
            other => other?,
        };
        if exclusive {
            return Err(Errno::EEXIST);
        }
        walker.enter(child, follow)?;
        if walker.done() {
            break dir;
        }
    };
    let path = walker.at;
    if path.dentry.is_dir() {
        return Err(Errno::EISDIR);
    }
    if path.dentry.file_type() != FileType::Symlink {
        protected::may_open_found(&dir.dentry, &path.dentry, &ctx.creds)?;
    }
    open_path(t, ctx, path, how.flags)
}

/// Makes a file (not a directory or link) called `name` in `dir`, unless there is one: the dentry,
/// and whether it is new. `mode` has the type; the umask is applied here.
pub(crate) fn create(
    ctx: &WalkContext,
    dir: &Path,
    name: &[u8],
    mode: u32,
    rdev: u64,
) -> Result<(Arc<Dentry>, bool)> {
    create_with(ctx, dir, name, mode, |mode, owner| dir.inode().create(name, mode, rdev, owner))
}

/// As [`create`], for a regular file that is opened next.
fn create_open(
    ctx: &WalkContext,
    dir: &Path,
    name: &[u8],
    mode: u32,
    flags: OpenFlags,
) -> Result<(Arc<Dentry>, bool)> {
    let inode = dir.inode();
    create_with(ctx, dir, name, mode, |mode, owner| {
        inode.create_for_open(name, mode, owner, flags - OpenFlags::TRUNC)
    })
}

/// As [`create`], with a function that makes the inode from its mode and owner.
pub(crate) fn create_with(
    ctx: &WalkContext,
    dir: &Path,
    name: &[u8],
    mode: u32,
    make: impl FnOnce(u32, Owner) -> Result<Arc<dyn Inode>>,
) -> Result<(Arc<Dentry>, bool)> {
    let _entries = dir.dentry.lock_entries();
    match dir.dentry.lookup_locked(name, b"") {
        Ok(child) => return Ok((child, false)),
        Err(Errno::ENOENT) => {}
        Err(e) => return Err(e),
    }
    dir.mount.check_writable()?;
    if dir.dentry.is_unlinked() {
        return Err(Errno::ENOENT);
    }
    let right = FileType::from_mode(mode).map_or(0, landlock::fs::right_to_make);
    landlock::fs::check(&ctx.creds, dir, right)?;
    super::namei::check_owner(ctx, dir)?;
    let dir_attr = dir.inode().attr()?;
    let want = Access::WRITE | Access::EXEC;
    permission::check_known(&**dir.inode(), &dir_attr, &ctx.creds, want)?;
    let (owner, mode) = permission::new_inode(&dir_attr, &ctx.creds, mode & !ctx.umask);
    let inode = make(mode, owner)?;
    let child = dir.dentry.insert(name, inode);
    notify::created(&dir.dentry, &child);
    Ok((child, true))
}

/// `O_TMPFILE`.
fn open_unnamed(
    t: Option<&mut CurrentTask>,
    ctx: &WalkContext,
    start: Path,
    path: &[u8],
    how: OpenHow,
) -> Result<Arc<File>> {
    let mut walk_flags = how.resolve | WalkFlags::DIRECTORY;
    walk_flags.set(WalkFlags::FOLLOW, !how.flags.contains(OpenFlags::NOFOLLOW));
    let dir = walk::resolve(ctx, start, path, walk_flags)?;
    dir.mount.check_writable()?;
    let dir_attr = dir.inode().attr()?;
    let want = Access::WRITE | Access::EXEC;
    permission::check_known(&**dir.inode(), &dir_attr, &ctx.creds, want)?;
    let mode = S_IFREG | how.mode & 0o7777 & !ctx.umask;
    let (owner, mode) = permission::new_inode(&dir_attr, &ctx.creds, mode);
    let inode = dir.inode().create_unnamed(mode, owner)?;
    let name = format!("#{}", inode.attr()?.ino);
    let linkable = !how.flags.contains(OpenFlags::EXCL);
    let dentry = Dentry::new_unnamed(inode, &dir.dentry, name.as_bytes(), linkable);
    open_checked(t, ctx, Path { mount: dir.mount, dentry }, how.flags - OpenFlags::TRUNC)
}

/// Opens what was found at `path`, after checking that `ctx` may.
pub fn open_path(
    t: Option<&mut CurrentTask>,
    ctx: &WalkContext,
    path: Path,
    flags: OpenFlags,
) -> Result<Arc<File>> {
    let mut flags = flags;
    let mut want = Access::empty();
    want.set(Access::READ, !flags.contains(OpenFlags::WRONLY));
    want.set(Access::WRITE, flags.intersects(OpenFlags::WRONLY | OpenFlags::RDWR));
    if flags.contains(OpenFlags::WRONLY | OpenFlags::RDWR) {
        want |= Access::READ;
    }
    let file_type = path.dentry.file_type();
    if file_type != FileType::Regular {
        match file_type {
            FileType::Symlink => return Err(Errno::ELOOP),
            FileType::Directory if want.contains(Access::WRITE) => return Err(Errno::EISDIR),
            FileType::CharDevice | FileType::BlockDevice
                if path.mount.flags().contains(MountFlags::NODEV) =>
            {
                return Err(Errno::EACCES);
            }
            FileType::Directory if flags.contains(OpenFlags::TRUNC) => return Err(Errno::EISDIR),
            _ => flags -= OpenFlags::TRUNC,
        }
    }
    if flags.contains(OpenFlags::TRUNC) {
        want |= Access::WRITE;
    }
    if want.contains(Access::WRITE)
        && matches!(file_type, FileType::Regular | FileType::Directory | FileType::Symlink)
    {
        path.mount.check_writable()?;
    }
    permission::check_immutable(&**path.inode(), want)?;
    let needs_attr = flags.contains(OpenFlags::NOATIME);
    // Root reads and writes what it likes; only for others must the attributes be asked for.
    if needs_attr || path.dentry.waits() || !ctx.creds.has(permission::CAP_DAC_OVERRIDE) {
        let attr = path.inode().attr()?;
        permission::check_known(&**path.inode(), &attr, &ctx.creds, want)?;
        if needs_attr && !permission::is_owner_or_capable(&attr, &ctx.creds) {
            return Err(Errno::EPERM);
        }
    }
    open_checked(t, ctx, path, flags)
}

/// Opens what is at `path`; permission has been checked.
fn open_checked(
    t: Option<&mut CurrentTask>,
    ctx: &WalkContext,
    path: Path,
    flags: OpenFlags,
) -> Result<Arc<File>> {
    let refused = refused(ctx, &path, flags)?;
    if t.is_some() {
        marks::ask(&path, event::OPEN_PERM)?;
    }
    let file = open_by_type(t, path, flags)?;
    if flags.contains(OpenFlags::DIRECT) && !file.can_be_direct()? {
        return Err(Errno::EINVAL);
    }
    file.set_refused(refused);
    if let Some(path) = file.path() {
        notify::happened(path, Happened::OPEN);
    }
    Ok(file)
}

/// What a task's own restrictions say: `EACCES`, or the rights that it will not have over the open file.
fn refused(ctx: &WalkContext, path: &Path, flags: OpenFlags) -> Result<u16> {
    if ctx.creds.landlock.is_none() {
        return Ok(0);
    }
    let mut rights = 0;
    if path.dentry.is_dir() {
        rights = access::READ_DIR;
    } else {
        rights |= if flags.readable() { access::READ_FILE } else { 0 };
        rights |= if flags.writable() { access::WRITE_FILE } else { 0 };
    }
    let refused = landlock::fs::check_open(&ctx.creds, path, rights);
    let cut = flags.contains(OpenFlags::TRUNC);
    let refused = match refused {
        Ok(refused) if refused & access::TRUNCATE == 0 || !cut => return Ok(refused),
        _ => Errno::EACCES,
    };
    // That a program is running is noticed before.
    if flags.writable() && path.dentry.file_type() == FileType::Regular {
        let attachments = path.inode().attachments();
        attachments.allow_write()?;
        attachments.end_write();
    }
    Err(refused)
}

fn open_by_type(t: Option<&mut CurrentTask>, path: Path, flags: OpenFlags) -> Result<Arc<File>> {
    let file_type = path.dentry.file_type();
    match file_type {
        FileType::Regular => {
            let attachments = path.inode().attachments();
            let writes = flags.writable();
            if writes {
                attachments.allow_write()?;
                PatchedCode::opened_for_writing(attachments);
            }
            if let Some(t) = t {
                // As in Linux, truncation alone does not count as writing here; who waits to write does.
                let nonblocking = flags.contains(OpenFlags::NONBLOCK);
                let broken = lease::break_leases(t, attachments, writes, nonblocking);
                if broken.is_err() && writes {
                    attachments.end_write();
                }
                broken?;
            }
            if !writes && flags.contains(OpenFlags::TRUNC) {
                attachments.allow_write()?;
            }
            let opened = open_regular(&path, flags);
            if flags.contains(OpenFlags::TRUNC) && !writes || opened.is_err() && writes {
                attachments.end_write();
            }
            let ops = opened?;
            Ok(if writes {
                File::new_writer(ops, path, flags)
            } else {
                File::new_reader(ops, path, flags)
            })
        }
        FileType::Directory => {
            let ops = path.inode().clone().open(&path, flags)?;
            Ok(File::new(ops, Some(path), flags))
        }
        FileType::CharDevice => {
            let ops = device::open(t.as_deref(), &path, flags)?;
            Ok(File::new(ops, Some(path), flags))
        }
        FileType::Fifo => {
            let t = t.ok_or(Errno::ENXIO)?;
            if let Some(opened) = fifo::open(t, &path, flags) {
                return opened;
            }
            let slot = path.inode().attachments().get_or_insert_with(FifoSlot::default);
            open_fifo(t, &slot, path, flags)
        }
        FileType::BlockDevice | FileType::Socket => Err(Errno::ENXIO),
        FileType::Symlink => Err(Errno::ELOOP),
    }
}

fn open_regular(path: &Path, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let ops = path.inode().clone().open(path, flags)?;
    if flags.contains(OpenFlags::TRUNC) {
        path.inode().set_attr(&SetAttr { size: Some(0), ..SetAttr::default() })?;
        notify::happened(path, Happened::MODIFY);
    }
    Ok(ops)
}

/// Opens the program at `path` relative to `dirfd` for `execve(2)`. `flags` are `AT_EMPTY_PATH` and
/// `AT_SYMLINK_NOFOLLOW`. As long as the file is open no one can write the program.
///
/// `EACCES` if it is not a regular file, not executable, or on a `noexec` mount; `ELOOP` for a link
/// with `AT_SYMLINK_NOFOLLOW`; `ETXTBSY` if someone has it open for writing.
pub fn open_exec(t: &CurrentTask, dirfd: i32, path: &[u8], at_flags: u32) -> Result<Arc<File>> {
    const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
    const AT_EMPTY_PATH: u32 = 0x1000;
    if at_flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let ctx = WalkContext::of(t);
    let start = walk::start(t, &ctx, dirfd, path)?;
    let mut walk_flags = WalkFlags::empty();
    walk_flags.set(WalkFlags::FOLLOW, at_flags & AT_SYMLINK_NOFOLLOW == 0);
    walk_flags.set(WalkFlags::EMPTY_PATH, at_flags & AT_EMPTY_PATH != 0);
    open_exec_at(&ctx, start, path, walk_flags)
}

/// As [`open_exec`], from `start`.
pub fn open_exec_at(
    ctx: &WalkContext,
    start: Path,
    path: &[u8],
    flags: WalkFlags,
) -> Result<Arc<File>> {
    let path = walk::resolve(ctx, start, path, flags)?;
    match path.dentry.file_type() {
        FileType::Regular => {}
        FileType::Symlink => return Err(Errno::ELOOP),
        _ => return Err(Errno::EACCES),
    }
    if path.mount.flags().contains(MountFlags::NOEXEC) {
        return Err(Errno::EACCES);
    }
    permission::check(&**path.inode(), &ctx.creds, Access::EXEC)?;
    let rights = access::EXECUTE | access::READ_FILE;
    landlock::fs::check_open(&ctx.creds, &path, rights)?;
    marks::ask(&path, event::OPEN_EXEC_PERM)?;
    marks::ask(&path, event::OPEN_PERM)?;
    let attachments = path.inode().attachments();
    attachments.deny_write()?;
    match path.inode().clone().open(&path, OpenFlags::empty()) {
        Ok(ops) => {
            let file = File::new_program(ops, path);
            if let Some(path) = file.path() {
                notify::executed(path);
            }
            Ok(file)
        }
        Err(e) => {
            attachments.end_deny_write();
            Err(e)
        }
    }
}

/// What can be done with a file opened with `O_PATH`: nothing.
struct PathOnly;

impl FileOps for PathOnly {
    fn read(&self, _: &File, _: &mut dyn crate::io::Sink, _: u64) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn write(&self, _: &File, _: &mut dyn crate::io::Source, _: u64) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn sync(&self, _: bool) -> Result<()> {
        Err(Errno::EBADF)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
