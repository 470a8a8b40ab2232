//! The process tree: who exists, who is whose parent, group and session.
//!
//! Objects name each other by id; everything here is guarded by one lock ([`rank::TASKS`]) that only
//! fork, exit, wait and job control take.
//!
//! [`rank::TASKS`]: crate::sync::rank::TASKS

use super::namespace::PidNamespace as Namespace;
use super::ptrace::Tracee;
use super::{ControllingTty, Task, ThreadGroup};
use crate::errno::Result;
use crate::kernel::exit::Exit;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Ids above this are not handed out (Linux's largest `pid_max`).
pub const PID_MAX: i32 = 4_194_304;
/// `kernel.pid_max`: ids of all pid namespaces are below it.
pub static PID_LIMIT: AtomicU32 = AtomicU32::new(PID_MAX as u32);

/// [`PID_LIMIT`] as it is now.
pub(super) fn pid_limit() -> i32 {
    PID_LIMIT.load(Ordering::Relaxed) as i32
}

/// Where allocation starts again after [`PID_MAX`] (`RESERVED_PIDS`).
const RESERVED_PIDS: i32 = 300;

/// A process in the tree, until it is reaped.
pub struct Node {
    /// The process.
    pub group: Arc<ThreadGroup>,
    /// Process id of the parent; 0 for the first process.
    pub parent: i32,
    /// Process ids of the children, oldest first.
    pub children: Vec<i32>,
    /// Process group.
    pub pgid: i32,
    /// Session.
    pub sid: i32,
    /// How it ended, once it has.
    pub exit: Option<Exit>,
}

/// A process group (`setpgid(2)`).
pub struct ProcessGroup {
    /// Its session.
    pub sid: i32,
    /// Process ids of the members, zombies included.
    pub members: Vec<i32>,
}

/// A session (`setsid(2)`).
pub struct Session {
    /// Controlling terminal.
    pub tty: Option<Arc<dyn ControllingTty>>,
    /// Ids of its process groups.
    pub groups: Vec<i32>,
}

/// The ids of one pid namespace.
pub struct PidNamespace {
    last: i32,
    /// Living tasks by thread id.
    pub tasks: FxHashMap<i32, Arc<Task>>,
}

/// Every process, process group and session.
pub struct Tree {
    /// The pid namespace of the sandbox.
    pub pids: PidNamespace,
    /// Processes by id, zombies included.
    pub nodes: BTreeMap<i32, Node>,
    /// Process groups by id.
    pub pgroups: FxHashMap<i32, ProcessGroup>,
    /// Sessions by id.
    pub sessions: FxHashMap<i32, Session>,
    /// Traced tasks by thread id; threads that have ended until their tracer has seen it.
    pub(super) tracees: BTreeMap<i32, Tracee>,
    /// Namespaces of the ids that have numbers in one below the root.
    spaces: FxHashMap<i32, Arc<Namespace>>,
}

impl Default for Tree {
    fn default() -> Self {
        Tree {
            // The number 1 waits for the first process.
            pids: PidNamespace { last: 1, tasks: FxHashMap::default() },
            nodes: BTreeMap::new(),
            pgroups: FxHashMap::default(),
            sessions: FxHashMap::default(),
            tracees: BTreeMap::new(),
            spaces: FxHashMap::default(),
        }
    }
}

impl Tree {
    /// True if the id names a task, a process, a process group or a session.
    pub(super) fn is_used(&self, id: i32) -> bool {
        self.pids.tasks.contains_key(&id)
            || self.nodes.contains_key(&id)
            || self.pgroups.contains_key(&id)
            || self.sessions.contains_key(&id)
            || self.tracees.contains_key(&id)
    }

    /// The next free id, in Linux's order: ever upwards, then again from 300.
    pub fn allocate_pid(&mut self) -> i32 {
        loop {
            self.pids.last = match self.pids.last {
                last if last >= pid_limit() - 1 => RESERVED_PIDS,
                last => last + 1,
            };
            // There are far fewer tasks (`max_tasks`) than ids: a free one comes soon.
            if !self.is_used(self.pids.last) {
                return self.pids.last;
            }
        }
    }

    /// Gives a new id its numbers in a pid namespace and those above it; see [`Namespace::number`].
    pub(super) fn number(&mut self, id: i32, space: &Arc<Namespace>, wanted: &[i32]) -> Result<()> {
        if !space.is_root() {
            space.number(id, wanted)?;
            self.spaces.insert(id, space.clone());
        }
        Ok(())
    }

    /// Gives up the numbers of an id that names nothing any more.
    pub(super) fn release(&mut self, id: i32) {
        if !self.spaces.is_empty()
            && !self.is_used(id)
            && let Some(space) = self.spaces.remove(&id)
        {
            space.release(id);
        }
    }

    /// Removes a task that has ended.
    pub(super) fn remove_task(&mut self, tid: i32) {
        self.pids.tasks.remove(&tid);
        self.release(tid);
    }

    /// Adds a process with its first task. Ids have been allocated.
    pub fn insert_process(&mut self, group: &Arc<ThreadGroup>, parent: i32, pgid: i32, sid: i32) {
        let id = group.tgid();
        group.set_links(parent, pgid, sid);
        let node =
            Node { group: group.clone(), parent, children: Vec::new(), pgid, sid, exit: None };
        self.nodes.insert(id, node);
        if let Some(p) = self.nodes.get_mut(&parent) {
            p.children.push(id);
        }
        self.join_pgroup(id, pgid, sid);
    }

    fn join_pgroup(&mut self, id: i32, pgid: i32, sid: i32) {
        let group = self.pgroups.entry(pgid).or_insert(ProcessGroup { sid, members: Vec::new() });
        group.members.push(id);
        let session = self.sessions.entry(sid).or_insert(Session { tty: None, groups: Vec::new() });
        if !session.groups.contains(&pgid) {
            session.groups.push(pgid);
        }
    }

    fn leave_pgroup(&mut self, id: i32, pgid: i32) {
        let Some(group) = self.pgroups.get_mut(&pgid) else { return };
        group.members.retain(|&m| m != id);
        if !group.members.is_empty() {
            return;
        }
        let sid = group.sid;
        self.pgroups.remove(&pgid);
        if let Some(session) = self.sessions.get_mut(&sid) {
            session.groups.retain(|&g| g != pgid);
            if session.groups.is_empty() {
                self.sessions.remove(&sid);
            }
        }
        self.release(pgid);
        self.release(sid);
    }

    /// Moves a process to another process group (and session).
    pub fn set_pgroup(&mut self, id: i32, pgid: i32, sid: i32) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let old = node.pgid;
        node.pgid = pgid;
        node.sid = sid;
        node.group.set_links(node.parent, pgid, sid);
        if old != pgid {
            // Join first, so that a session with one group survives the move.
            self.join_pgroup(id, pgid, sid);
            self.leave_pgroup(id, old);
        }
    }

    /// Makes `parent` the parent of `id`.
    pub fn reparent(&mut self, id: i32, parent: i32) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let old = std::mem::replace(&mut node.parent, parent);
        node.group.set_links(parent, node.pgid, node.sid);
        if let Some(p) = self.nodes.get_mut(&old) {
            p.children.retain(|&c| c != id);
        }
        if let Some(p) = self.nodes.get_mut(&parent) {
            p.children.push(id);
        }
    }

    /// Removes a reaped process.
    pub fn remove_process(&mut self, id: i32) {
        let Some(node) = self.nodes.remove(&id) else { return };
        node.group.reaped.store(true, Ordering::SeqCst);
        if let Some(p) = self.nodes.get_mut(&node.parent) {
            p.children.retain(|&c| c != id);
        }
        self.leave_pgroup(id, node.pgid);
        self.release(id);
    }

    /// The process of that id, zombies included.
    pub fn process(&self, id: i32) -> Option<&Arc<ThreadGroup>> {
        self.nodes.get(&id).map(|n| &n.group)
    }

    /// Members of a process group, zombies included.
    pub fn members(&self, pgid: i32) -> Vec<Arc<ThreadGroup>> {
        let ids = self.pgroups.get(&pgid).map(|g| g.members.as_slice()).unwrap_or_default();
        ids.iter().filter_map(|id| self.process(*id).cloned()).collect()
    }

    /// True when no living member of the group has a living parent in another group of the same
    /// session; `without` counts as having gone.
    pub fn is_orphaned(&self, pgid: i32, without: Option<i32>) -> bool {
        let Some(group) = self.pgroups.get(&pgid) else { return true };
        !group.members.iter().any(|&id| {
            let Some(node) = self.nodes.get(&id) else { return false };
            if Some(id) == without || node.exit.is_some() {
                return false;
            }
            // The first process counts like any other: it may well be a shell with jobs.
            self.nodes
                .get(&node.parent)
                .is_some_and(|parent| parent.pgid != pgid && parent.sid == node.sid)
        })
    }
}
