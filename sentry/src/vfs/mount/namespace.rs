//! Mount namespaces: trees of mounts, and how they change.

use super::propagation::{Propagation, receivers};
use super::{Mount, dismantle, follow_mounts};
use crate::errno::{Errno, Result};
use crate::kernel::namespace::{Counted, Kind, UserNamespace, next_id};
use crate::sync::{Mutex, RwLock, rank};
use crate::vfs::FileType;
use crate::vfs::dcache;
use crate::vfs::dentry::Dentry;
use crate::vfs::path::Path;
use crate::wait::Changes;
use std::sync::Arc;

/// Serialises changes of all trees: mounts propagate from one to another.
static TREES: Mutex<(), { rank::MOUNT_TREE }> = Mutex::new(());

/// A mount tree (`mount_namespaces(7)`).
pub struct MountNamespace {
    id: u64,
    user_ns: Arc<UserNamespace>,
    root: RwLock<Arc<Mount>, { rank::MOUNTS }>,
    /// Mounts have come or gone (`/proc/PID/mountinfo` is polled for it).
    changes: Arc<Changes>,
    _counted: Option<Counted>,
}

/// Most mounts of a namespace (`fs.mount-max`'s default).
const MOUNT_MAX: usize = 100_000;

fn adopt(namespace: &Arc<MountNamespace>, top: &Arc<Mount>) {
    for mount in top.tree() {
        *mount.namespace.write() = Arc::downgrade(namespace);
    }
    namespace.changes.happened();
}

/// True if `path` is `under` or below it.
fn is_reachable(path: &Path, under: &Path) -> bool {
    let mut at = path.clone();
    while !Arc::ptr_eq(&at.mount, &under.mount) {
        match at.mount.mountpoint() {
            Some(mountpoint) => at = mountpoint,
            None => return false,
        }
    }
    at.dentry.is_within(&under.dentry)
}

impl MountNamespace {
    /// The first namespace, whose root is `root`.
    pub fn new(root: Arc<Mount>) -> Arc<MountNamespace> {
        let namespace = Arc::new(MountNamespace {
            id: Kind::Mount.initial_id(),
            user_ns: UserNamespace::root(),
            root: RwLock::new(root.clone()),
            changes: Arc::default(),
            _counted: None,
        });
        adopt(&namespace, &root);
        namespace
    }

    /// A copy that belongs to `user_ns`, with every mount of the original and its copy. In a user namespace
    /// other than the original's the copies only receive, and keep their restrictions.
    pub fn copy(
        &self,
        user_ns: &Arc<UserNamespace>,
    ) -> Result<(Arc<MountNamespace>, Vec<(Arc<Mount>, Arc<Mount>)>)> {
        let counted = Some(Counted::new(Kind::Mount)?);
        let _change = TREES.lock();
        let less = *user_ns != self.user_ns;
        let root = self.root_mount();
        let pairs = copy_mounts(&root, &root.root, true, true, |copy, original| {
            if less {
                copy.relate_below(original);
                copy.lock_down(!Arc::ptr_eq(original, &root));
            } else {
                copy.relate_like(original);
            }
        });
        let top = pairs.first().map(|(_, copy)| copy.clone()).ok_or(Errno::ENOMEM)?;
        let namespace = Arc::new(MountNamespace {
            id: next_id(),
            user_ns: user_ns.clone(),
            root: RwLock::new(top.clone()),
            changes: Arc::default(),
            _counted: counted,
        });
        adopt(&namespace, &top);
        Ok((namespace, pairs))
    }

    /// Counts mounts that come, go or move.
    pub fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// Inode number of `/proc/PID/ns/mnt`.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The user namespace it belongs to.
    pub fn user_ns(&self) -> &Arc<UserNamespace> {
        &self.user_ns
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

    /// Attaches a detached `mount` (perhaps with mounts below it) at `at`, and copies of it wherever that
    /// propagates to. `ENOTDIR` if one is a directory and the other is not, `ENOENT` if the place has been
    /// removed, `EINVAL` if it is not in this tree, `ENOSPC` when there are too many mounts.
    pub fn attach(self: &Arc<Self>, mount: Arc<Mount>, at: &Path) -> Result<()> {
        let _change = TREES.lock();
        let result = self.attach_locked(&mount, at);
        if result.is_err() {
            dismantle(&mount);
        }
        result
    }

    fn attach_locked(self: &Arc<Self>, mount: &Arc<Mount>, at: &Path) -> Result<()> {
        // Someone may have mounted over the place since it was looked up.
        let mut at = at.clone();
        follow_mounts(&mut at);
        if !at.mount.is_in(self) {
            return Err(Errno::EINVAL);
        }
        // A link of `/proc/PID/fd` is gone before anyone could find what is mounted there.
        let fleeting =
            at.dentry.file_type() == FileType::Symlink && at.dentry.fs().type_name() == "proc";
        if at.dentry.is_unlinked() || fleeting {
            return Err(Errno::ENOENT);
        }
        if mount.root.is_dir() != at.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        let receivers = receivers(&at.mount, &at.dentry);
        let more = mount.tree().len().saturating_mul(receivers.len() + 1);
        if self.mounts().len() + more > MOUNT_MAX {
            return Err(Errno::ENOSPC);
        }
        if at.mount.is_shared() {
            for mount in mount.tree() {
                mount.share();
            }
        }
        let mut copies: Vec<Arc<Mount>> = Vec::new();
        for receiver in &receivers {
            let from = receiver.from.and_then(|i| copies.get(i)).unwrap_or(mount);
            let pairs = copy_mounts(from, &from.root, true, true, |copy, original| {
                receiver.copied.relate(copy, original);
            });
            let Some((_, copy)) = pairs.first().cloned() else { continue };
            let Some(namespace) = receiver.mount.namespace() else { continue };
            if namespace.user_ns != self.user_ns {
                for (original, copy) in &pairs {
                    copy.lock_down(!Arc::ptr_eq(original, from));
                }
            }
            let mut place = Path { mount: receiver.mount.clone(), dentry: at.dentry.clone() };
            follow_mounts(&mut place);
            copy.hang(&place);
            adopt(&namespace, &copy);
            copies.push(copy);
        }
        mount.hang(&at);
        adopt(self, mount);
        Ok(())
    }

    /// Takes a mount out of the tree, and out of those it propagates to. With `lazily`, what is mounted
    /// below it goes with it (`MNT_DETACH`); otherwise that is `EBUSY`. `EINVAL` for the root of the
    /// namespace, a mount of another one, and one that must stay.
    pub fn detach(self: &Arc<Self>, mount: &Arc<Mount>, lazily: bool) -> Result<()> {
        let _change = TREES.lock();
        if !lazily && !mount.children.read().is_empty() {
            return Err(Errno::EBUSY);
        }
        if !mount.is_in(self) || mount.is_locked() {
            return Err(Errno::EINVAL);
        }
        let at = mount.mountpoint().ok_or(Errno::EINVAL)?;
        for receiver in receivers(&at.mount, &at.dentry) {
            let Some(copy) = receiver.mount.child_at(&at.dentry) else { continue };
            if !copy.is_locked() && (lazily || copy.children.read().is_empty()) {
                dismantle(&copy);
            }
        }
        dismantle(mount);
        if !self.mounts().iter().any(|m| Arc::ptr_eq(&m.fs, &mount.fs)) {
            dcache::drop_fs(&mount.fs);
        }
        Ok(())
    }

    /// Moves a mount to another place (`MS_MOVE`). `EINVAL` for the root, in a shared mount or one that must
    /// stay, `ELOOP` beneath itself.
    pub fn move_mount(self: &Arc<Self>, mount: &Arc<Mount>, to: &Path) -> Result<()> {
        let _change = TREES.lock();
        let at = mount.mountpoint().ok_or(Errno::EINVAL)?;
        if !mount.is_in(self) || mount.is_locked() || at.mount.is_shared() {
            return Err(Errno::EINVAL);
        }
        if mount.root.is_dir() != to.dentry.is_dir() {
            return Err(Errno::EINVAL);
        }
        // What cannot be bound must not be copied by propagation.
        if to.mount.is_shared() && mount.tree().iter().any(|m| m.is_unbindable()) {
            return Err(Errno::EINVAL);
        }
        if mount.tree().iter().any(|m| Arc::ptr_eq(m, &to.mount)) {
            return Err(Errno::ELOOP);
        }
        mount.unhang();
        let moved = self.attach_locked(mount, to);
        match moved {
            Ok(_) => self.changes.happened(),
            Err(_) => mount.hang(&at),
        }
        moved
    }

    /// Puts a detached `mount` beneath the one whose root is `to` (`MOVE_MOUNT_BENEATH`): what is seen there stays
    /// the same until that is unmounted. `EINVAL` if nothing is mounted there that could be, or if the mount would
    /// have to propagate.
    pub fn attach_beneath(self: &Arc<Self>, mount: &Arc<Mount>, to: &Path) -> Result<()> {
        let _change = TREES.lock();
        let top = &to.mount;
        if !top.is_in(self) || top.is_locked() || !Arc::ptr_eq(&to.dentry, &top.root) {
            return Err(Errno::EINVAL);
        }
        let at = top.mountpoint().ok_or(Errno::EINVAL)?;
        if at.mount.is_shared() || mount.tree().iter().any(|m| Arc::ptr_eq(m, top)) {
            return Err(Errno::EINVAL);
        }
        if mount.root.is_dir() != at.dentry.is_dir() {
            return Err(Errno::EINVAL);
        }
        if self.mounts().len() + mount.tree().len() > MOUNT_MAX {
            return Err(Errno::ENOSPC);
        }
        top.unhang();
        mount.hang(&at);
        top.hang(&mount.root_path());
        adopt(self, mount);
        Ok(())
    }

    /// A copy of the tree below `from`, attached nowhere (`MS_BIND`); with `recursive`, what is
    /// mounted below comes along (`MS_REC`), but for unbindable mounts. `EINVAL` for an unbindable one, or
    /// when it would show what a mount must hide.
    pub fn copy_tree(&self, from: &Path, recursive: bool) -> Result<Arc<Mount>> {
        let _change = TREES.lock();
        if from.mount.is_unbindable() {
            return Err(Errno::EINVAL);
        }
        if !recursive && hides_something(from) {
            return Err(Errno::EINVAL);
        }
        let relate = |copy: &Arc<Mount>, original: &Arc<Mount>| copy.relate_like(original);
        let pairs = copy_mounts(&from.mount, &from.dentry, recursive, false, relate);
        let top = pairs.first().map(|(_, copy)| copy.clone()).ok_or(Errno::ENOMEM)?;
        top.locked.store(false, std::sync::atomic::Ordering::Relaxed);
        Ok(top)
    }

    /// Changes how mounts propagate. `EINVAL` unless `mount` is in this tree.
    pub fn set_propagation(
        self: &Arc<Self>,
        mount: &Arc<Mount>,
        to: Propagation,
        recursive: bool,
    ) -> Result<()> {
        let _change = TREES.lock();
        if !mount.is_in(self) {
            return Err(Errno::EINVAL);
        }
        let mounts = if recursive { mount.tree() } else { vec![mount.clone()] };
        for mount in mounts {
            mount.change_propagation(to);
        }
        Ok(())
    }

    /// As [`MountNamespace::set_propagation`], for mounts of this tree or of none.
    pub fn change_propagation(&self, mounts: &[Arc<Mount>], to: Propagation) {
        let _change = TREES.lock();
        for mount in mounts {
            mount.change_propagation(to);
        }
    }

    /// `pivot_root(2)`: `new_root` becomes the root of the tree, the old root moves to `put_old`.
    pub fn pivot_root(
        self: &Arc<Self>,
        new_root: &Path,
        put_old: &Path,
        old_root: &Path,
    ) -> Result<()> {
        let _change = TREES.lock();
        let new = &new_root.mount;
        let old = &old_root.mount;
        let shared_parent = |m: &Arc<Mount>| m.mountpoint().is_some_and(|at| at.mount.is_shared());
        if put_old.mount.is_shared()
            || shared_parent(new)
            || shared_parent(old)
            || !old.is_in(self)
            || !new.is_in(self)
            || new.is_locked()
        {
            return Err(Errno::EINVAL);
        }
        if new_root.dentry.is_unlinked() {
            return Err(Errno::ENOENT);
        }
        if Arc::ptr_eq(new, old) || Arc::ptr_eq(&put_old.mount, old) {
            return Err(Errno::EBUSY);
        }
        if !Arc::ptr_eq(&new_root.dentry, &new.root) || !Arc::ptr_eq(&old_root.dentry, &old.root) {
            return Err(Errno::EINVAL);
        }
        if new.mountpoint().is_none()
            || !is_reachable(put_old, new_root)
            || !is_reachable(new_root, old_root)
        {
            return Err(Errno::EINVAL);
        }
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        new.locked.store(old.locked.swap(false, relaxed), relaxed);
        new.unhang();
        // What the old root was mounted on (nothing, if it was the tree's root) the new one takes.
        match old.unhang() {
            Some(at) => new.hang(&at),
            None => *self.root.write() = new.clone(),
        }
        let mut put_old = put_old.clone();
        follow_mounts(&mut put_old);
        old.hang(&put_old);
        Ok(())
    }
}

/// True if a mount that must stay is mounted below `at` in its mount.
fn hides_something(at: &Path) -> bool {
    at.mount.children().iter().any(|child| {
        child.is_locked() && child.mountpoint().is_some_and(|p| p.dentry.is_within(&at.dentry))
    })
}

/// Copies a mount, showing `root`, and with `recursive` what is mounted below that. The pairs of original
/// and copy, the top first; `relate` makes each copy's relations.
fn copy_mounts(
    top: &Arc<Mount>,
    root: &Arc<Dentry>,
    recursive: bool,
    unbindable_too: bool,
    relate: impl Fn(&Arc<Mount>, &Arc<Mount>),
) -> Vec<(Arc<Mount>, Arc<Mount>)> {
    let copy = top.clone_at(root);
    relate(&copy, top);
    let mut pairs = vec![(top.clone(), copy)];
    let mut i = 0;
    while let Some((old, new)) = pairs.get(i).cloned() {
        i += 1;
        if !recursive {
            break;
        }
        for child in old.children() {
            let Some(at) = child.mountpoint() else { continue };
            if !at.dentry.is_within(&new.root) || (child.is_unbindable() && !unbindable_too) {
                continue;
            }
            let copy = child.clone_at(&child.root);
            relate(&copy, &child);
            copy.hang(&Path { mount: new.clone(), dentry: at.dentry.clone() });
            pairs.push((child, copy));
        }
    }
    pairs
}

impl Drop for MountNamespace {
    fn drop(&mut self) {
        // Mounts and what is mounted on them refer to each other: without this they would stay for ever.
        dismantle(&self.root_mount());
    }
}
