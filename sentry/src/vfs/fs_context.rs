//! Root, working directory and umask of a task (`fs_struct`).

use super::mount::MountNamespace;
use super::path::Path;
use crate::errno::Result;
use crate::kernel::namespace::UserNamespace;
use crate::sync::{RwLock, rank};
use std::sync::Arc;

/// Shared by tasks cloned with `CLONE_FS`.
pub struct FsContext {
    state: RwLock<State, { rank::FS_CONTEXT }>,
}

#[derive(Clone)]
struct State {
    namespace: Arc<MountNamespace>,
    root: Path,
    cwd: Path,
    umask: u32,
}

impl FsContext {
    /// The context of the first task: root and working directory are the namespace's root, the umask
    /// is 022.
    pub fn new(namespace: Arc<MountNamespace>) -> Arc<FsContext> {
        let root = namespace.root();
        let state = State { namespace, cwd: root.clone(), root, umask: 0o022 };
        Arc::new(FsContext { state: RwLock::new(state) })
    }

    /// A copy for a new task (`fork(2)`, `unshare(CLONE_FS)`).
    pub fn fork(&self) -> Arc<FsContext> {
        let state = self.state.read().clone();
        Arc::new(FsContext { state: RwLock::new(state) })
    }

    /// A copy in a copy of the mount namespace that belongs to `user_ns` (`CLONE_NEWNS`). `ENOSPC` when
    /// there are too many.
    pub fn unshare_mounts(&self, user_ns: &Arc<UserNamespace>) -> Result<Arc<FsContext>> {
        let mut state = self.state.read().clone();
        let (namespace, pairs) = state.namespace.copy(user_ns)?;
        for path in [&mut state.root, &mut state.cwd] {
            if let Some((_, copy)) = pairs.iter().find(|(old, _)| Arc::ptr_eq(old, &path.mount)) {
                path.mount = copy.clone();
            }
        }
        let old = std::mem::replace(&mut state.namespace, namespace);
        let new = Arc::new(FsContext { state: RwLock::new(state) });
        drop(old);
        Ok(new)
    }

    /// Goes to the root of another mount namespace (`setns(2)`).
    pub fn enter(&self, namespace: Arc<MountNamespace>) {
        let root = namespace.root();
        let new = |umask| State { namespace, cwd: root.clone(), root, umask };
        let mut state = self.state.write();
        let umask = state.umask;
        let old = std::mem::replace(&mut *state, new(umask));
        drop(state);
        drop(old);
    }

    /// The mount namespace.
    pub fn namespace(&self) -> Arc<MountNamespace> {
        self.state.read().namespace.clone()
    }

    /// The root directory.
    pub fn root(&self) -> Path {
        self.state.read().root.clone()
    }

    /// The working directory.
    pub fn cwd(&self) -> Path {
        self.state.read().cwd.clone()
    }

    /// Root and working directory, of one moment.
    pub fn root_and_cwd(&self) -> (Path, Path) {
        let state = self.state.read();
        (state.root.clone(), state.cwd.clone())
    }

    /// The file mode creation mask.
    pub fn umask(&self) -> u32 {
        self.state.read().umask
    }

    /// Sets the file mode creation mask and returns the old one.
    pub fn set_umask(&self, umask: u32) -> u32 {
        std::mem::replace(&mut self.state.write().umask, umask & 0o777)
    }

    /// Changes the root directory (`chroot(2)`).
    pub fn set_root(&self, root: Path) {
        let old = std::mem::replace(&mut self.state.write().root, root);
        drop(old);
    }

    /// Changes the working directory (`chdir(2)`).
    pub fn set_cwd(&self, cwd: Path) {
        let old = std::mem::replace(&mut self.state.write().cwd, cwd);
        drop(old);
    }

    /// Replaces `from` by `to` where it is the root or working directory (`pivot_root(2)`).
    pub fn replace(&self, from: &Path, to: &Path) {
        let mut state = self.state.write();
        if state.root.same(from) {
            state.root = to.clone();
        }
        if state.cwd.same(from) {
            state.cwd = to.clone();
        }
    }
}
