//! Mounts and mount namespaces (`mount_namespaces(7)`).
//!
//! * [`Mount`]: a file system, or a part of one, attached to a tree. [`MountNamespace`]: such a tree.
//! * [`propagation`]: how what is mounted at one place is mounted at others, too.

pub mod detached;
mod namespace;
pub mod propagation;

pub use namespace::MountNamespace;
pub use propagation::Propagation;

use super::dentry::Dentry;
use super::path::Path;
use super::{FileSystem, Inode};
use crate::errno::{Errno, Result};
use crate::kernel::namespace::UserNamespace;
use crate::sync::{Mutex, RwLock, rank};
use propagation::Relations;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

bitflags::bitflags! {
    /// Flags of one mount, with the values of `mount(2)`'s `MS_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct MountFlags: u32 {
        /// Nothing can be changed through it.
        const RDONLY = 1;
        /// Set-id bits and file capabilities do nothing.
        const NOSUID = 2;
        /// Device nodes cannot be opened.
        const NODEV = 4;
        /// Programs cannot be run.
        const NOEXEC = 8;
        /// Symbolic links are not followed.
        const NOSYMFOLLOW = 256;
        /// Access times are not updated.
        const NOATIME = 1024;
        /// Access times of directories are not updated.
        const NODIRATIME = 2048;
        /// Access times are updated when they lie behind the modification time.
        const RELATIME = 1 << 21;
        /// Access times are always updated.
        const STRICTATIME = 1 << 24;
    }
}

impl MountFlags {
    /// Those that a less privileged copy of the mount must keep.
    const LOCKABLE: MountFlags =
        Self::RDONLY.union(Self::NOSUID).union(Self::NODEV).union(Self::NOEXEC);
    /// How access times are kept: one choice, locked as a whole.
    pub const ATIME: MountFlags = Self::NOATIME.union(Self::NODIRATIME).union(Self::RELATIME);
}

static NEXT_MOUNT_ID: AtomicU64 = AtomicU64::new(1);

/// A file system, or a part of one, attached to the tree.
pub struct Mount {
    id: u64,
    fs: Arc<dyn FileSystem>,
    root: Arc<Dentry>,
    /// What was mounted, as `/proc/self/mounts` shows it.
    source: Vec<u8>,
    flags: AtomicU32,
    /// Flags that cannot be taken away: the mount came from a more privileged namespace.
    locked_flags: AtomicU32,
    /// It cannot be unmounted alone: what it hides must stay hidden.
    locked: AtomicBool,
    /// It is the kernel's own, never part of a tree (memfds, namespaces).
    internal: AtomicBool,
    /// The user namespace the file system was mounted in; unset for the root one.
    fs_owner: OnceLock<Arc<UserNamespace>>,
    relations: Mutex<Relations, { rank::LEAF }>,
    /// The tree it is in.
    namespace: RwLock<Weak<MountNamespace>, { rank::LEAF }>,
    /// Where it is mounted; `None` for the root of a namespace and for detached mounts.
    mountpoint: Mutex<Option<Path>, { rank::LEAF }>,
    children: RwLock<Vec<Arc<Mount>>, { rank::MOUNTS }>,
}

impl Mount {
    /// A mount of a whole file system, attached nowhere.
    pub fn new(
        fs: Arc<dyn FileSystem>,
        root: Arc<dyn Inode>,
        source: &[u8],
        flags: MountFlags,
    ) -> Arc<Mount> {
        Self::of(fs, Dentry::new_root(root), source, flags)
    }

    /// A mount of the tree below `root` (a bind mount), attached nowhere.
    pub fn of(
        fs: Arc<dyn FileSystem>,
        root: Arc<Dentry>,
        source: &[u8],
        flags: MountFlags,
    ) -> Arc<Mount> {
        Arc::new(Mount {
            id: NEXT_MOUNT_ID.fetch_add(1, Ordering::Relaxed),
            fs,
            root,
            source: source.to_vec(),
            flags: AtomicU32::new(flags.bits()),
            locked_flags: AtomicU32::new(0),
            locked: AtomicBool::new(false),
            internal: AtomicBool::new(false),
            fs_owner: OnceLock::new(),
            relations: Mutex::new(Relations::default()),
            namespace: RwLock::new(Weak::new()),
            mountpoint: Mutex::new(None),
            children: RwLock::new(Vec::new()),
        })
    }

    /// A mount of the kernel's own, which never becomes part of a tree.
    pub fn new_internal(fs: Arc<dyn FileSystem>, root: Arc<Dentry>, source: &[u8]) -> Arc<Mount> {
        let mount = Self::of(fs, root, source, MountFlags::empty());
        mount.internal.store(true, Ordering::Relaxed);
        mount
    }

    /// True for a mount of the kernel's own.
    pub fn is_internal(&self) -> bool {
        self.internal.load(Ordering::Relaxed)
    }

    /// Never reused; `stx_mnt_id` and the first field of `mountinfo`.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its id in the form that no old-style id can be taken for (`STATX_MNT_ID_UNIQUE`).
    pub fn unique_id(&self) -> u64 {
        (1 << 31) + self.id
    }

    /// The file system.
    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }

    /// The dentry that the mount shows as its root.
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    /// What was mounted, as `/proc/self/mounts` shows it.
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// The user namespace the file system was mounted in.
    pub fn fs_owner(&self) -> Arc<UserNamespace> {
        self.fs_owner.get().cloned().unwrap_or_else(UserNamespace::root)
    }

    /// Notes the user namespace the file system was mounted in; the first one counts.
    pub fn set_fs_owner(&self, owner: &Arc<UserNamespace>) {
        if !owner.is_root() {
            let _ = self.fs_owner.set(owner.clone());
        }
    }

    /// Its flags.
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// `EPERM` if such flags would take a locked one away.
    pub fn check_flags(&self, flags: MountFlags) -> Result<()> {
        let locked = MountFlags::from_bits_retain(self.locked_flags.load(Ordering::Relaxed));
        let kept = locked & MountFlags::LOCKABLE;
        let old = self.flags();
        let times = locked.contains(MountFlags::STRICTATIME)
            && (flags & MountFlags::ATIME) != (old & MountFlags::ATIME);
        if !flags.contains(kept) || times {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// Replaces its flags (`MS_REMOUNT`). `EPERM` if that would take a locked one away.
    pub fn set_flags(&self, flags: MountFlags) -> Result<()> {
        self.check_flags(flags)?;
        self.flags.store(flags.bits(), Ordering::Relaxed);
        Ok(())
    }

    /// `EROFS` if nothing may be changed through it.
    pub fn check_writable(&self) -> Result<()> {
        if self.flags().contains(MountFlags::RDONLY) { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> Option<Path> {
        self.mountpoint.lock().clone()
    }

    /// The tree it is in; `None` for a detached mount.
    pub fn namespace(&self) -> Option<Arc<MountNamespace>> {
        self.namespace.read().upgrade()
    }

    /// True if it is in that tree.
    pub fn is_in(&self, namespace: &Arc<MountNamespace>) -> bool {
        std::ptr::eq(self.namespace.read().as_ptr(), Arc::as_ptr(namespace))
    }

    /// True if it cannot be unmounted alone.
    pub fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed)
    }

    /// Copied to a less privileged user namespace: its restrictions are there to stay.
    fn lock_down(&self, not_the_top: bool) {
        // STRICTATIME, which is never kept as a flag, stands for the choice about access times.
        let locked = (self.flags() & MountFlags::LOCKABLE) | MountFlags::STRICTATIME;
        self.locked_flags.fetch_or(locked.bits(), Ordering::Relaxed);
        self.locked.store(not_the_top, Ordering::Relaxed);
    }

    /// What is mounted on `dentry` in this mount.
    pub fn child_at(&self, dentry: &Arc<Dentry>) -> Option<Arc<Mount>> {
        self.children
            .read()
            .iter()
            .find(|child| {
                child.mountpoint.lock().as_ref().is_some_and(|p| Arc::ptr_eq(&p.dentry, dentry))
            })
            .cloned()
    }

    /// What is mounted in it.
    pub fn children(&self) -> Vec<Arc<Mount>> {
        self.children.read().clone()
    }

    /// It and everything below it, parents first.
    pub fn tree(self: &Arc<Self>) -> Vec<Arc<Mount>> {
        let mut all = vec![self.clone()];
        let mut i = 0;
        while let Some(mount) = all.get(i) {
            let children = mount.children();
            all.extend(children);
            i += 1;
        }
        all
    }

    /// Whether an open file, a working directory, a root or another mount uses it. References beyond
    /// its parent's and the caller's are uses.
    pub fn is_busy(self: &Arc<Self>) -> bool {
        !self.children.read().is_empty() || Arc::strong_count(self) > 2
    }

    /// Its root, as a path.
    pub fn root_path(self: &Arc<Self>) -> Path {
        Path { mount: self.clone(), dentry: self.root.clone() }
    }

    /// A copy of this one mount, attached nowhere and related to none, that shows `root`.
    fn clone_at(&self, root: &Arc<Dentry>) -> Arc<Mount> {
        let copy = Self::of(self.fs.clone(), root.clone(), &self.source, self.flags());
        copy.set_fs_owner(&self.fs_owner());
        copy.locked_flags.store(self.locked_flags.load(Ordering::Relaxed), Ordering::Relaxed);
        copy.locked.store(self.is_locked(), Ordering::Relaxed);
        copy
    }

    /// Puts it at a place. The caller has checked the place.
    fn hang(self: &Arc<Self>, at: &Path) {
        at.dentry.count_mount(true);
        *self.mountpoint.lock() = Some(at.clone());
        at.mount.children.write().push(self.clone());
    }

    /// Takes it from its place; returns that.
    fn unhang(self: &Arc<Self>) -> Option<Path> {
        let at = self.mountpoint.lock().take()?;
        at.dentry.count_mount(false);
        at.mount.children.write().retain(|child| !Arc::ptr_eq(child, self));
        Some(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(at) = self.mountpoint.get_mut() {
            at.dentry.count_mount(false);
        }
    }
}

/// Takes a tree of mounts apart: none of them is mounted on another any more, or related to one.
pub fn dismantle(top: &Arc<Mount>) {
    for mount in top.tree() {
        let was_in = std::mem::take(&mut *mount.namespace.write()).upgrade();
        mount.leave_relations();
        let place = mount.unhang();
        drop(place);
        if let Some(namespace) = was_in {
            namespace.changes().happened();
        }
    }
}

/// Goes to the top of whatever is mounted on `path`. True if it moved.
pub fn follow_mounts(path: &mut Path) -> bool {
    let mut moved = false;
    while path.dentry.is_mountpoint() {
        let Some(mount) = path.mount.child_at(&path.dentry) else { break };
        path.dentry = mount.root.clone();
        path.mount = mount;
        moved = true;
    }
    moved
}
