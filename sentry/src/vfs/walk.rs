//! Path resolution (`path_resolution(7)`).

use super::dentry::{Dentry, NAME_MAX};
use super::mount::{MountFlags, follow_mounts};
use super::path::Path;
use super::permission::check_search;
use super::protected;
use super::{FileType, FsContext};
use crate::errno::{Errno, Result};
use crate::kernel::{Credentials, CurrentTask};
use std::sync::Arc;

/// Most symbolic links followed in one resolution.
const MAX_LINKS: u32 = 40;

/// `AT_FDCWD`: the working directory.
pub const AT_FDCWD: i32 = -100;

bitflags::bitflags! {
    /// How a path is resolved.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct WalkFlags: u32 {
        /// Follow a symbolic link in the last component.
        const FOLLOW = 1;
        /// An empty path is the starting point itself (`AT_EMPTY_PATH`).
        const EMPTY_PATH = 1 << 1;
        /// `ENOTDIR` unless the result is a directory.
        const DIRECTORY = 1 << 2;
        /// `RESOLVE_BENEATH`: `EXDEV` on leaving the starting point.
        const BENEATH = 1 << 3;
        /// `RESOLVE_IN_ROOT`: the starting point is the root.
        const IN_ROOT = 1 << 4;
        /// `RESOLVE_NO_SYMLINKS`: `ELOOP` on any link.
        const NO_SYMLINKS = 1 << 5;
        /// `RESOLVE_NO_MAGICLINKS`: `ELOOP` on a magic link.
        const NO_MAGICLINKS = 1 << 6;
        /// `RESOLVE_NO_XDEV`: `EXDEV` on entering another mount.
        const NO_XDEV = 1 << 7;
    }
}

/// Who resolves a path, and where from.
#[derive(Clone)]
pub struct WalkContext {
    /// Where absolute paths start, and where `..` ends.
    pub root: Path,
    /// Where relative paths start.
    pub cwd: Path,
    /// Whose permissions count.
    pub creds: Arc<Credentials>,
    /// File mode creation mask.
    pub umask: u32,
}

impl WalkContext {
    /// That of a task.
    pub fn of(t: &CurrentTask) -> Self {
        Self::with_creds(t.fs(), t.creds().clone())
    }

    /// That of a task, but with other credentials (`access(2)`).
    pub fn with_creds(fs: &FsContext, creds: Arc<Credentials>) -> Self {
        let (root, cwd) = fs.root_and_cwd();
        Self { root, cwd, creds, umask: fs.umask() }
    }

    /// The kernel's own, before there is a task: everything is allowed.
    pub fn kernel(root: Path) -> Self {
        let creds = Credentials { effective: u64::MAX, ..Credentials::default() };
        Self { cwd: root.clone(), root, creds: Arc::new(creds), umask: 0 }
    }
}

/// A name copied out of a path: at most [`NAME_MAX`] bytes.
#[derive(Clone)]
pub struct Name {
    len: usize,
    bytes: [u8; NAME_MAX],
}

impl Name {
    fn new(bytes: &[u8]) -> Result<Name> {
        let mut name = Name { len: bytes.len(), bytes: [0; NAME_MAX] };
        name.bytes.get_mut(..bytes.len()).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(bytes);
        Ok(name)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// What the last component of a path is.
#[expect(clippy::large_enum_variant, reason = "lives on the stack for the length of one call")]
pub enum Last {
    /// A name.
    Name(Name),
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// There is none: the path is `/`.
    Root,
}

/// A path resolved up to its last component.
pub struct Parent {
    /// The directory; the caller may search it.
    pub dir: Path,
    /// The last component.
    pub last: Last,
    /// It had a slash behind it.
    pub slash: bool,
}

impl Parent {
    /// The name, or `error` if the last component is none.
    pub fn name(&self, error: Errno) -> Result<&[u8]> {
        match &self.last {
            Last::Name(name) => Ok(name.as_bytes()),
            _ => Err(error),
        }
    }
}

/// A resolution under way.
pub(super) struct Walker<'a> {
    pub(super) ctx: &'a WalkContext,
    flags: WalkFlags,
    root: Path,
    pub(super) at: Path,
    path: &'a [u8],
    pos: usize,
    /// Targets of links being followed, with the position in each.
    links: Vec<(Vec<u8>, usize)>,
    followed: u32,
    /// The component at hand is the last one.
    trailing: bool,
}

impl<'a> Walker<'a> {
    /// Starts a resolution of a non-empty path. `start` is where relative paths start.
    pub(super) fn new(
        ctx: &'a WalkContext,
        start: Path,
        path: &'a [u8],
        flags: WalkFlags,
    ) -> Result<Self> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let scoped = flags.intersects(WalkFlags::BENEATH | WalkFlags::IN_ROOT);
        let root = if scoped { start.clone() } else { ctx.root.clone() };
        let mut at = start;
        if path.first() == Some(&b'/') {
            if flags.contains(WalkFlags::BENEATH) {
                return Err(Errno::EXDEV);
            }
            if flags.contains(WalkFlags::NO_XDEV) && !Arc::ptr_eq(&at.mount, &root.mount) {
                return Err(Errno::EXDEV);
            }
            at = root.clone();
        }
        Ok(Self {
            ctx,
            flags,
            root,
            at,
            path,
            pos: 0,
            links: Vec::new(),
            followed: 0,
            trailing: false,
        })
    }

    /// What is still to be walked of the path or link target at hand.
    fn rest(&self) -> &[u8] {
        match self.links.last() {
            Some((target, pos)) => target.get(*pos..).unwrap_or_default(),
            None => self.path.get(self.pos..).unwrap_or_default(),
        }
    }

    fn advance(&mut self, n: usize) {
        match self.links.last_mut() {
            Some((_, pos)) => *pos += n,
            None => self.pos += n,
        }
    }

    /// Skips slashes, and finished link targets. True if there was a slash.
    fn skip(&mut self) -> bool {
        let mut slash = false;
        loop {
            let n = self.rest().iter().take_while(|b| **b == b'/').count();
            slash |= n > 0;
            self.advance(n);
            if !self.rest().is_empty() || self.links.pop().is_none() {
                return slash;
            }
        }
    }

    /// Walks up to the last component, and takes that out of the path.
    pub(super) fn walk_to_last(&mut self) -> Result<(Last, bool)> {
        self.trailing = false;
        self.skip();
        loop {
            let component = self.rest();
            if component.is_empty() {
                return Ok((Last::Root, true));
            }
            if !self.at.dentry.is_dir() {
                return Err(Errno::ENOTDIR);
            }
            check_search(&**self.at.inode(), &self.ctx.creds)?;
            let len = component.iter().position(|b| *b == b'/').unwrap_or(component.len());
            let last = match component.get(..len).unwrap_or_default() {
                b"." => Last::Dot,
                b".." => Last::DotDot,
                name => Last::Name(Name::new(name)?),
            };
            self.advance(len);
            let slash = self.skip();
            if self.rest().is_empty() {
                self.trailing = true;
                return Ok((last, slash));
            }
            self.step(&last, true)?;
            // An absolute link target starts with a slash.
            self.skip();
        }
    }

    /// Goes where `last` leads from here. A link is put on the stack to be walked if `follow` is set.
    pub(super) fn step(&mut self, last: &Last, follow: bool) -> Result<()> {
        match last {
            Last::Root | Last::Dot => Ok(()),
            Last::DotDot => self.dot_dot(),
            Last::Name(name) => {
                let child = self.at.dentry.lookup(name.as_bytes(), self.rest())?;
                self.enter(child, follow)
            }
        }
    }

    /// Goes to a child of the directory at hand.
    pub(super) fn enter(&mut self, child: Arc<Dentry>, follow: bool) -> Result<()> {
        if follow && child.file_type() == FileType::Symlink {
            return self.follow_link(&child);
        }
        self.at.dentry = child;
        self.cross_mounts()
    }

    fn cross_mounts(&mut self) -> Result<()> {
        if self.at.dentry.is_mountpoint()
            && follow_mounts(&mut self.at)
            && self.flags.contains(WalkFlags::NO_XDEV)
        {
            return Err(Errno::EXDEV);
        }
        Ok(())
    }

    fn dot_dot(&mut self) -> Result<()> {
        loop {
            if self.at.same(&self.root) {
                if self.flags.contains(WalkFlags::BENEATH) {
                    return Err(Errno::EXDEV);
                }
                break;
            }
            if Arc::ptr_eq(&self.at.dentry, self.at.mount.root()) {
                let Some(mountpoint) = self.at.mount.mountpoint() else { break };
                if self.flags.contains(WalkFlags::NO_XDEV) {
                    return Err(Errno::EXDEV);
                }
                self.at = mountpoint;
                continue;
            }
            if let Some(parent) = self.at.dentry.parent() {
                self.at.dentry = parent;
            }
            break;
        }
        self.cross_mounts()
    }

    fn follow_link(&mut self, link: &Arc<Dentry>) -> Result<()> {
        self.followed += 1;
        if self.followed > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
        if self.trailing {
            let dir = || self.at.inode().attr();
            protected::may_follow(dir, || link.inode().attr(), &self.ctx.creds)?;
        }
        if self.flags.contains(WalkFlags::NO_SYMLINKS)
            || self.at.mount.flags().contains(MountFlags::NOSYMFOLLOW)
        {
            return Err(Errno::ELOOP);
        }
        if let Some(place) = link.inode().magic_link() {
            if self.flags.contains(WalkFlags::NO_MAGICLINKS) {
                return Err(Errno::ELOOP);
            }
            if self.flags.intersects(WalkFlags::BENEATH | WalkFlags::IN_ROOT) {
                return Err(Errno::EXDEV);
            }
            let place = place?;
            if self.flags.contains(WalkFlags::NO_XDEV) && !Arc::ptr_eq(&place.mount, &self.at.mount)
            {
                return Err(Errno::EXDEV);
            }
            self.at = place;
            return Ok(());
        }
        let target = link.inode().readlink()?;
        match target.first() {
            None => return Err(Errno::ENOENT),
            Some(b'/') => {
                if self.flags.contains(WalkFlags::BENEATH) {
                    return Err(Errno::EXDEV);
                }
                if self.flags.contains(WalkFlags::NO_XDEV)
                    && !Arc::ptr_eq(&self.at.mount, &self.root.mount)
                {
                    return Err(Errno::EXDEV);
                }
                self.at = self.root.clone();
            }
            Some(_) => {}
        }
        self.links.push((target, 0));
        Ok(())
    }

    /// True when nothing is left to be walked.
    pub(super) fn done(&mut self) -> bool {
        // Not `skip`: a slash behind a link must still be seen with the link's last component.
        self.links.is_empty() && self.rest().is_empty()
    }
}

/// Resolves `path` from `start`.
pub fn resolve(ctx: &WalkContext, start: Path, path: &[u8], flags: WalkFlags) -> Result<Path> {
    if path.is_empty() && flags.contains(WalkFlags::EMPTY_PATH) {
        return Ok(start);
    }
    let mut walker = Walker::new(ctx, start, path, flags)?;
    let mut must_be_dir = flags.contains(WalkFlags::DIRECTORY);
    loop {
        let (last, slash) = walker.walk_to_last()?;
        must_be_dir |= slash;
        walker.step(&last, slash || flags.contains(WalkFlags::FOLLOW))?;
        if walker.done() {
            break;
        }
    }
    if must_be_dir && !walker.at.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    Ok(walker.at)
}

/// Resolves `path` from `start` up to its last component, which need not exist and, if it is a link,
/// is not followed.
pub fn resolve_parent(ctx: &WalkContext, start: Path, path: &[u8]) -> Result<Parent> {
    let mut walker = Walker::new(ctx, start, path, WalkFlags::empty())?;
    let (last, slash) = walker.walk_to_last()?;
    Ok(Parent { dir: walker.at, last, slash })
}

/// Where a path given with a directory descriptor starts: `EBADF` for a bad descriptor, `ENOTDIR` if
/// it is not a directory's. An absolute path makes the descriptor irrelevant.
pub fn start(t: &CurrentTask, ctx: &WalkContext, dirfd: i32, path: &[u8]) -> Result<Path> {
    if dirfd == AT_FDCWD || path.first() == Some(&b'/') {
        return Ok(ctx.cwd.clone());
    }
    let file = t.files().get_raw(dirfd)?;
    match file.path() {
        Some(at) if path.is_empty() || at.dentry.is_dir() => Ok(at.clone()),
        _ => Err(Errno::ENOTDIR),
    }
}

/// Resolves `path` relative to the directory descriptor `dirfd` of a task.
pub fn lookup(t: &CurrentTask, dirfd: i32, path: &[u8], flags: WalkFlags) -> Result<Path> {
    let ctx = WalkContext::of(t);
    let start = start(t, &ctx, dirfd, path)?;
    resolve(&ctx, start, path, flags)
}
