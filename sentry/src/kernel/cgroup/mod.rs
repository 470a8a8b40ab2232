//! Control groups, version 2 (`cgroups(7)`, `Documentation/admin-guide/cgroup-v2.rst`): the tree, who is in
//! which group, and the controllers. The files that show it are `fs/cgroup`.
//!
//! A sandbox starts in a group below the root that nobody sees: it is the root of the first cgroup
//! namespace, so that, as in a container on Linux, what programs find at the top has limits.
//!
//! Locks: the shape of the tree and memberships change with the process tree locked; a group's own
//! state comes behind it ([`rank::CGROUP`]).

mod controllers;
pub mod cpu;
mod cpuset;
mod freeze;
pub mod io;
mod member;
pub mod memory;
mod pids;
mod watch;

pub use controllers::Controllers;
pub use member::Member;
pub use memory::Killed;
pub use pids::Charge;

use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::sync::{Mutex, rank};
use crate::vfs::{Inode, notify};
use crate::wait::Changes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// What the names of the groups of containers that joined a sandbox begin with.
pub const CONTAINER_PREFIX: &[u8] = b"container-";

/// Most groups in a sandbox.
const MOST_GROUPS: usize = 8192;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
static GROUPS: AtomicUsize = AtomicUsize::new(0);

/// Groups in the sandbox.
pub fn count() -> usize {
    GROUPS.load(Ordering::Relaxed)
}

/// Owner and permission bits of a group's directory or file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Files whose watchers (`inotify(7)`) are told of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// `cgroup.events`
    Events,
    /// `memory.events`
    MemoryEvents,
    /// `pids.events`
    PidsEvents,
}

/// A control group.
pub struct Cgroup {
    id: u64,
    name: Vec<u8>,
    parent: Option<Arc<Cgroup>>,
    state: Mutex<State, { rank::CGROUP }>,
    /// Living processes in the group itself.
    processes: AtomicUsize,
    /// Living processes in it and below.
    populated: AtomicUsize,
    watched: Mutex<Vec<(Watched, Weak<dyn Inode>)>, { rank::LEAF }>,
    /// Of the [`Watched`] files, in their order: `poll(2)` reports them.
    changes: [Arc<Changes>; 3],
    /// Tasks.
    pub pids: pids::Pids,
    /// Memory.
    pub memory: memory::Memory,
    /// CPU time.
    pub cpu: cpu::Cpu,
    cpuset: cpuset::CpuSet,
    io: io::Io,
}

struct State {
    children: BTreeMap<Vec<u8>, Arc<Cgroup>>,
    /// `cgroup.subtree_control`
    enabled: Controllers,
    removed: bool,
    frozen: bool,
    /// Every task has stopped since the group was frozen.
    settled: bool,
    /// `cgroup.max.depth` and `cgroup.max.descendants`; [`u64::MAX`] is `max`.
    most: [u64; 2],
    /// Of the directory (the empty name) and of files, where they are not the usual.
    access: BTreeMap<Vec<u8>, Access>,
}

impl std::fmt::Debug for Cgroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cgroup").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        GROUPS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cgroup {
    fn new(name: &[u8], parent: Option<Arc<Cgroup>>) -> Arc<Cgroup> {
        GROUPS.fetch_add(1, Ordering::Relaxed);
        let state = State {
            children: BTreeMap::new(),
            enabled: Controllers::empty(),
            removed: false,
            frozen: false,
            settled: false,
            most: [u64::MAX; 2],
            access: BTreeMap::new(),
        };
        Arc::new(Cgroup {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: name.to_vec(),
            parent,
            state: Mutex::new(state),
            processes: AtomicUsize::new(0),
            populated: AtomicUsize::new(0),
            watched: Mutex::new(Vec::new()),
            changes: Default::default(),
            pids: pids::Pids::default(),
            memory: memory::Memory::default(),
            cpu: cpu::Cpu::default(),
            cpuset: cpuset::CpuSet::default(),
            io: io::Io::default(),
        })
    }

    /// The group that a sandbox starts in, below a root of its own.
    pub fn initial() -> Arc<Cgroup> {
        let root = Cgroup::new(b"", None);
        root.state.lock().enabled = Controllers::all();
        let first = Cgroup::new(b"sandbox", Some(root.clone()));
        root.state.lock().children.insert(first.name.clone(), first.clone());
        first
    }

    /// A number that no other group of the sandbox has or had.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The group and all above it, upwards.
    pub fn path_up(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Cgroup>> {
        std::iter::successors(Some(self), |g| g.parent.as_ref())
    }

    /// True if `self` is `other` or below it.
    pub fn is_within(self: &Arc<Self>, other: &Arc<Cgroup>) -> bool {
        self.path_up().any(|g| Arc::ptr_eq(g, other))
    }

    /// Where the group is, as seen from `root`: `/a/b`, with `..` where it is not below it.
    pub fn path_from(self: &Arc<Self>, root: &Arc<Cgroup>) -> Vec<u8> {
        let common = root.path_up().position(|g| self.is_within(g)).unwrap_or(0);
        let above = root.path_up().nth(common);
        let below = self.path_up().take_while(|g| above.is_none_or(|a| !Arc::ptr_eq(a, g)));
        let names: Vec<&[u8]> = below.map(|g| &*g.name).collect();
        let steps = std::iter::repeat_n(&b".."[..], common).chain(names.into_iter().rev());
        let path: Vec<u8> = steps.flat_map(|name| [b"/", name].concat()).collect();
        if path.is_empty() { b"/".to_vec() } else { path }
    }

    /// Name of the group directly below the root that it is in: each container of the sandbox has one.
    pub fn top(self: &Arc<Self>) -> Vec<u8> {
        let top = self.path_up().find(|g| g.parent.as_ref().is_some_and(|p| p.parent.is_none()));
        top.map_or(Vec::new(), |g| g.name.clone())
    }

    /// The group directly above.
    pub fn parent(&self) -> Option<&Arc<Cgroup>> {
        self.parent.as_ref()
    }

    /// The groups directly below, by name.
    pub fn children(&self) -> Vec<(Vec<u8>, Arc<Cgroup>)> {
        self.state.lock().children.iter().map(|(n, g)| (n.clone(), g.clone())).collect()
    }

    /// The group of that name directly below.
    pub fn child(&self, name: &[u8]) -> Option<Arc<Cgroup>> {
        self.state.lock().children.get(name).cloned()
    }

    /// The group and all below it.
    pub fn subtree(self: &Arc<Self>) -> Vec<Arc<Cgroup>> {
        let mut all = vec![self.clone()];
        let mut at = 0;
        while let Some(group) = all.get(at) {
            let children = group.children();
            all.extend(children.into_iter().map(|(_, child)| child));
            at += 1;
        }
        all
    }

    /// Controllers that the group has (`cgroup.controllers`).
    pub fn controllers(&self) -> Controllers {
        self.parent.as_ref().map_or(Controllers::all(), |p| p.enabled())
    }

    /// Controllers that the groups below have (`cgroup.subtree_control`).
    pub fn enabled(&self) -> Controllers {
        self.state.lock().enabled
    }

    /// Living processes in it and below.
    pub fn is_populated(&self) -> bool {
        self.populated.load(Ordering::SeqCst) != 0
    }

    /// `cgroup.max.depth` and `cgroup.max.descendants`.
    pub fn most(&self) -> [u64; 2] {
        self.state.lock().most
    }

    /// Changes what [`Cgroup::most`] gives.
    pub fn set_most(&self, change: impl FnOnce(&mut [u64; 2])) {
        change(&mut self.state.lock().most);
    }

    /// Makes a group directly below. `EEXIST`, `ENODEV` if this one has been removed, `EAGAIN` at a
    /// limit (`cgroup.max.*`, or of the sandbox).
    pub fn create(
        self: &Arc<Self>,
        kernel: &Kernel,
        name: &[u8],
        access: Access,
    ) -> Result<Arc<Cgroup>> {
        let _tree = kernel.tree();
        for (depth, above) in (1..).zip(self.path_up()) {
            let [most_deep, most] = above.most();
            if depth > most_deep || above.subtree().len() as u64 > most {
                return Err(Errno::EAGAIN);
            }
        }
        if GROUPS.load(Ordering::Relaxed) >= MOST_GROUPS {
            return Err(Errno::EAGAIN);
        }
        let child = Cgroup::new(name, Some(self.clone()));
        child.set_access(b"", access);
        let mut state = self.state.lock();
        if state.removed {
            return Err(Errno::ENODEV);
        }
        if state.children.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        state.children.insert(name.to_vec(), child.clone());
        Ok(child)
    }

    /// Removes a group directly below that has no groups and no living processes. `ENOENT`, `EBUSY`.
    pub fn remove(self: &Arc<Self>, kernel: &Kernel, name: &[u8]) -> Result<()> {
        let _tree = kernel.tree();
        let child = self.child(name).ok_or(Errno::ENOENT)?;
        {
            let mut state = child.state.lock();
            if child.is_populated() || !state.children.is_empty() {
                return Err(Errno::EBUSY);
            }
            state.removed = true;
        }
        self.cpu.take_over(&child.cpu);
        self.io.take_over(&child.io);
        self.state.lock().children.remove(name);
        Ok(())
    }

    /// Changes what the groups below have. `ENOENT` for a controller that the group lacks, `EBUSY` if it
    /// has processes of its own, or a group below hands the controller on.
    pub fn enable(
        self: &Arc<Self>,
        kernel: &Kernel,
        on: Controllers,
        off: Controllers,
    ) -> Result<()> {
        let _tree = kernel.tree();
        let (now, has) = (self.enabled(), self.controllers());
        if !has.contains(on) {
            return Err(Errno::ENOENT);
        }
        let new = on.difference(now);
        if !new.is_empty() && self.processes.load(Ordering::SeqCst) != 0 {
            return Err(Errno::EBUSY);
        }
        let below = self.children();
        if below.iter().any(|(_, child)| child.enabled().intersects(off)) {
            return Err(Errno::EBUSY);
        }
        self.state.lock().enabled = now.union(on).difference(off);
        Ok(())
    }

    /// Owner and permission bits of a file, or with an empty name of the directory.
    pub fn access(&self, file: &[u8], usual: u32) -> Access {
        let own = self.state.lock().access.get(file).copied();
        own.unwrap_or(Access { mode: usual, uid: 0, gid: 0 })
    }

    /// Changes what [`Cgroup::access`] gives.
    pub fn set_access(&self, file: &[u8], access: Access) {
        self.state.lock().access.insert(file.to_vec(), access);
    }

    /// `inode` is one of the group's files whose watchers are to be told of changes.
    pub fn watch(&self, file: Watched, inode: Weak<dyn Inode>) {
        let mut watched = self.watched.lock();
        watched.retain(|(_, inode)| inode.strong_count() != 0);
        watched.push((file, inode));
    }

    /// Counts the changes of a file.
    pub fn changes(&self, file: Watched) -> Option<&Arc<Changes>> {
        self.changes.get(file as usize)
    }

    /// Tells who watches a file that it has changed.
    fn notify_file(&self, file: Watched) {
        if let Some(changes) = self.changes(file) {
            changes.happened();
        }
        let inodes: Vec<_> = {
            let watched = self.watched.lock();
            watched.iter().filter(|(f, _)| *f == file).filter_map(|(_, i)| i.upgrade()).collect()
        };
        for inode in inodes {
            notify::modified(&*inode);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cgroup;
    use std::sync::Arc;

    fn below(parent: &Arc<Cgroup>, name: &[u8]) -> Arc<Cgroup> {
        Cgroup::new(name, Some(parent.clone()))
    }

    #[test]
    fn paths_are_relative_to_the_namespace() {
        let first = Cgroup::initial();
        let (a, b) = (below(&first, b"a"), below(&first, b"b"));
        let c = below(&a, b"c");
        assert_eq!(first.path_from(&first), b"/");
        assert_eq!(c.path_from(&first), b"/a/c");
        assert_eq!(c.path_from(&a), b"/c");
        assert_eq!(b.path_from(&a), b"/../b");
        assert_eq!(first.path_from(&c), b"/../..");
    }
}
