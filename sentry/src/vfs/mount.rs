//! Mounts and mount namespaces.

use super::dentry::Dentry;
use super::path::Path;
use super::{FileSystem, Inode, dcache};
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, RwLock, rank};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

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

/// How mounts below a mount travel to its peers. Kept and shown; a sandbox has one namespace, so
/// there is no one to tell yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum Propagation {
    /// `MS_PRIVATE`
    #[default]
    Private = 0,
    /// `MS_SHARED`
    Shared = 1,
    /// `MS_SLAVE`
    Slave = 2,
    /// `MS_UNBINDABLE`
    Unbindable = 3,
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
    propagation: AtomicU32,
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
            propagation: AtomicU32::new(0),
            mountpoint: Mutex::new(None),
            children: RwLock::new(Vec::new()),
        })
    }

    /// Never reused; `stx_mnt_id` and the first field of `mountinfo`.
    pub fn id(&self) -> u64 {
        self.id
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

    /// Its flags.
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Replaces its flags (`MS_REMOUNT`).
    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }

    /// How it propagates.
    pub fn propagation(&self) -> Propagation {
        match self.propagation.load(Ordering::Relaxed) {
            1 => Propagation::Shared,
            2 => Propagation::Slave,
            3 => Propagation::Unbindable,
            _ => Propagation::Private,
        }
    }

    /// Changes how it propagates.
    pub fn set_propagation(&self, propagation: Propagation) {
        self.propagation.store(propagation as u32, Ordering::Relaxed);
    }

    /// `EROFS` if nothing may be changed through it.
    pub fn check_writable(&self) -> Result<()> {
        if self.flags().contains(MountFlags::RDONLY) { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> Option<Path> {
        self.mountpoint.lock().clone()
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

    /// A copy of this one mount, attached nowhere, that shows `root`.
    pub fn clone_at(&self, root: &Arc<Dentry>) -> Arc<Mount> {
        let copy = Self::of(self.fs.clone(), root.clone(), &self.source, self.flags());
        copy.set_propagation(self.propagation());
        copy
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(at) = self.mountpoint.get_mut() {
            at.dentry.count_mount(false);
        }
    }
}

static NEXT_NAMESPACE_ID: AtomicU64 = AtomicU64::new(0xf000_0001);

/// A mount tree (`mount_namespaces(7)`).
pub struct MountNamespace {
    id: u64,
    root: RwLock<Arc<Mount>, { rank::MOUNTS }>,
    /// Serialises changes of the tree.
    change: Mutex<(), { rank::MOUNT_TREE }>,
}

/// Most mounts of a namespace (`fs.mount-max`'s default).
const MOUNT_MAX: usize = 100_000;

impl MountNamespace {
    /// A namespace whose root is `root`.
    pub fn new(root: Arc<Mount>) -> Arc<MountNamespace> {
        Arc::new(MountNamespace {
            id: NEXT_NAMESPACE_ID.fetch_add(1, Ordering::Relaxed),
            root: RwLock::new(root),
            change: Mutex::new(()),
        })
    }

    /// Inode number of `/proc/PID/ns/mnt`.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The mount at the bottom of the tree.
    pub fn root_mount(&self) -> Arc<Mount> {
        self.root.read().clone()
    }

    /// `/`, with whatever is mounted over it.
    pub fn root(&self) -> Path {
        let mut path = self.root_mount().root_path();
        follow_mounts(&mut path);
        path
    }

    /// Every mount, parents first.
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        self.root_mount().tree()
    }

    /// Attaches a detached `mount` (perhaps with mounts below it) at `at`. `ENOTDIR` if one is a
    /// directory and the other is not, `ENOENT` if the place has been removed, `ENOSPC` when there
    /// are too many mounts.
    pub fn attach(&self, mount: Arc<Mount>, at: &Path) -> Result<()> {
        let _change = self.change.lock();
        self.attach_locked(mount, at)
    }

    fn attach_locked(&self, mount: Arc<Mount>, at: &Path) -> Result<()> {
        // Someone may have mounted over the place since it was looked up.
        let mut at = at.clone();
        follow_mounts(&mut at);
        if at.dentry.is_unlinked() {
            return Err(Errno::ENOENT);
        }
        if mount.root.is_dir() != at.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if self.mounts().len() + mount.tree().len() > MOUNT_MAX {
            return Err(Errno::ENOSPC);
        }
        at.dentry.count_mount(true);
        *mount.mountpoint.lock() = Some(at.clone());
        at.mount.children.write().push(mount);
        Ok(())
    }

    /// Takes a mount out of the tree. With `lazily`, what is mounted below it goes with it
    /// (`MNT_DETACH`); otherwise that is `EBUSY`, as is use by anyone when `busy` says so. `EINVAL`
    /// for the root of the namespace.
    pub fn detach(&self, mount: &Arc<Mount>, lazily: bool) -> Result<()> {
        let _change = self.change.lock();
        if !lazily && !mount.children.read().is_empty() {
            return Err(Errno::EBUSY);
        }
        self.detach_locked(mount)?;
        if !self.mounts().iter().any(|m| Arc::ptr_eq(&m.fs, &mount.fs)) {
            dcache::drop_fs(&mount.fs);
        }
        Ok(())
    }

    fn detach_locked(&self, mount: &Arc<Mount>) -> Result<()> {
        let Some(at) = mount.mountpoint.lock().take() else { return Err(Errno::EINVAL) };
        at.dentry.count_mount(false);
        at.mount.children.write().retain(|child| !Arc::ptr_eq(child, mount));
        Ok(())
    }

    /// Moves a mount to another place (`MS_MOVE`). `EINVAL` for the root, `ELOOP` beneath itself.
    pub fn move_mount(&self, mount: &Arc<Mount>, to: &Path) -> Result<()> {
        let _change = self.change.lock();
        if mount.mountpoint.lock().is_none() {
            return Err(Errno::EINVAL);
        }
        if mount.tree().iter().any(|m| Arc::ptr_eq(m, &to.mount)) {
            return Err(Errno::ELOOP);
        }
        if mount.root.is_dir() != to.dentry.is_dir() {
            return Err(Errno::EINVAL);
        }
        self.detach_locked(mount)?;
        self.attach_locked(mount.clone(), to)
    }

    /// A copy of the tree below `from`, attached nowhere (`MS_BIND`); with `recursive`, what is
    /// mounted below comes along (`MS_REC`), but for unbindable mounts. `EINVAL` for an unbindable one.
    pub fn copy_tree(&self, from: &Path, recursive: bool) -> Result<Arc<Mount>> {
        let _change = self.change.lock();
        if from.mount.propagation() == Propagation::Unbindable {
            return Err(Errno::EINVAL);
        }
        let top = from.mount.clone_at(&from.dentry);
        if recursive {
            let mut pairs = vec![(from.mount.clone(), top.clone())];
            while let Some((old, new)) = pairs.pop() {
                for child in old.children() {
                    let Some(at) = child.mountpoint() else { continue };
                    if !at.dentry.is_within(&new.root)
                        || child.propagation() == Propagation::Unbindable
                    {
                        continue;
                    }
                    let copy = child.clone_at(&child.root);
                    at.dentry.count_mount(true);
                    *copy.mountpoint.lock() =
                        Some(Path { mount: new.clone(), dentry: at.dentry.clone() });
                    new.children.write().push(copy.clone());
                    pairs.push((child, copy));
                }
            }
        }
        Ok(top)
    }

    /// `pivot_root(2)`: `new_root` becomes the root of the tree, the old root moves to `put_old`.
    pub fn pivot_root(&self, new_root: &Path, put_old: &Path, old_root: &Path) -> Result<()> {
        let _change = self.change.lock();
        let new = &new_root.mount;
        let old = &old_root.mount;
        if Arc::ptr_eq(new, old) || Arc::ptr_eq(&put_old.mount, old) {
            return Err(Errno::EBUSY);
        }
        if !Arc::ptr_eq(&new_root.dentry, &new.root) || !Arc::ptr_eq(&old_root.dentry, &old.root) {
            return Err(Errno::EINVAL);
        }
        let Some(old_at) = new.mountpoint() else { return Err(Errno::EINVAL) };
        if !new.tree().iter().any(|m| Arc::ptr_eq(m, &put_old.mount)) {
            return Err(Errno::EINVAL);
        }
        let _ = old_at;
        self.detach_locked(new)?;
        // What the old root was mounted on (nothing, if it was the tree's root) the new one takes.
        let below = old.mountpoint.lock().take();
        match below {
            Some(at) => {
                at.dentry.count_mount(false);
                at.mount.children.write().retain(|child| !Arc::ptr_eq(child, old));
                self.attach_locked(new.clone(), &at)?;
            }
            None => *self.root.write() = new.clone(),
        }
        self.attach_locked(old.clone(), put_old)
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
