//! Pid namespaces (`pid_namespaces(7)`): process ids of their own.
//!
//! Inside the kernel every task, process, process group and session has one id, that of the root
//! namespace. A namespace below the root has its own numbers for those ids that it can see; they are
//! translated where a guest names or is shown one.

use super::{Counted, Kind, UserNamespace, next_id};
use crate::errno::{Errno, Result};
use crate::kernel::tree::pid_limit;
use crate::sync::{Mutex, rank};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Deepest nesting (`MAX_PID_NS_LEVEL`).
const MAX_LEVEL: u32 = 32;
/// Where allocation starts again after the highest id.
const RESERVED_PIDS: i32 = 300;

#[derive(Default)]
struct Ids {
    last: i32,
    /// The kernel's id by number here.
    global: BTreeMap<i32, i32>,
    /// The number here by the kernel's id.
    local: FxHashMap<i32, i32>,
    /// The first process has ended: nothing can be made here any more.
    dead: bool,
    /// In the root only: kernel ids that it does not show, those of other containers.
    hidden: FxHashSet<i32>,
}

/// A pid namespace.
pub struct PidNamespace {
    id: u64,
    level: u32,
    parent: Option<Arc<PidNamespace>>,
    user_ns: Arc<UserNamespace>,
    ids: Mutex<Ids, { rank::LEAF }>,
    ended: Ended,
    paused: AtomicBool,
    /// It is a container's beside that of the root: neither sees the other's processes.
    separate: bool,
    /// How many ids the root does not show.
    hidden: AtomicUsize,
    _counted: Option<Counted>,
}

/// Counts processes that ended here or below, for whoever waits for all of them.
#[derive(Default)]
struct Ended {
    count: parking_lot::Mutex<u64>,
    changed: parking_lot::Condvar,
}

impl PidNamespace {
    pub(super) fn initial(user_ns: &Arc<UserNamespace>) -> Arc<Self> {
        Arc::new(Self {
            id: Kind::Pid.initial_id(),
            level: 0,
            parent: None,
            user_ns: user_ns.clone(),
            ids: Mutex::new(Ids::default()),
            ended: Ended::default(),
            paused: AtomicBool::new(false),
            separate: false,
            hidden: AtomicUsize::new(0),
            _counted: None,
        })
    }

    /// A child of `self`. `ENOSPC` when nested too deeply or too many.
    pub fn create(self: &Arc<Self>, user_ns: &Arc<UserNamespace>) -> Result<Arc<Self>> {
        self.create_child(user_ns, false)
    }

    /// A child of the root whose processes the root does not show: another container's.
    pub fn create_separate(self: &Arc<Self>, user_ns: &Arc<UserNamespace>) -> Result<Arc<Self>> {
        self.create_child(user_ns, self.is_root())
    }

    fn create_child(
        self: &Arc<Self>,
        user_ns: &Arc<UserNamespace>,
        separate: bool,
    ) -> Result<Arc<Self>> {
        if self.level >= MAX_LEVEL {
            return Err(Errno::ENOSPC);
        }
        let counted = Some(Counted::new(Kind::Pid)?);
        Ok(Arc::new(Self {
            id: next_id(),
            level: self.level + 1,
            parent: Some(self.clone()),
            user_ns: user_ns.clone(),
            ids: Mutex::new(Ids::default()),
            ended: Ended::default(),
            paused: AtomicBool::new(false),
            separate,
            hidden: AtomicUsize::new(0),
            _counted: counted,
        }))
    }

    /// Inode number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The user namespace it belongs to.
    pub fn user_ns(&self) -> &Arc<UserNamespace> {
        &self.user_ns
    }

    /// The namespace above.
    pub fn parent(&self) -> Option<&Arc<PidNamespace>> {
        self.parent.as_ref()
    }

    /// Steps below the root namespace.
    pub fn level(&self) -> u32 {
        self.level
    }

    /// True for the first one, whose numbers are the kernel's ids.
    pub fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    /// It and the namespaces above it, but for the root.
    fn chain(&self) -> impl Iterator<Item = &PidNamespace> {
        fn above<'a>(ns: &&'a PidNamespace) -> Option<&'a PidNamespace> {
            ns.parent.as_deref()
        }
        std::iter::successors(Some(self), above).take_while(|ns| !ns.is_root())
    }

    /// True if `self` is `other` or above it: it can see what is in `other`.
    pub fn contains(&self, other: &PidNamespace) -> bool {
        self.is_root() || other.chain().any(|ns| ns.id == self.id)
    }

    /// The number here of a kernel id; 0 if it cannot be seen from here.
    pub fn local(&self, global: i32) -> i32 {
        if self.is_root() || global <= 0 {
            return if self.hides(global) { 0 } else { global };
        }
        self.ids.lock().local.get(&global).copied().unwrap_or(0)
    }

    /// The kernel's id of a number here; 0, which nothing has, for one that is not in use.
    pub fn global(&self, local: i32) -> i32 {
        if self.is_root() {
            return if self.hides(local) { 0 } else { local };
        }
        self.ids.lock().global.get(&local).copied().unwrap_or(0)
    }

    /// True for ids that the root does not show.
    fn hides(&self, global: i32) -> bool {
        self.hidden.load(Ordering::Acquire) != 0 && self.ids.lock().hidden.contains(&global)
    }

    /// Of a container's namespace: lets the root show a kernel id no more, or forget it.
    fn hide_from_root(&self, global: i32, hide: bool) {
        let Some(root) = self.parent.as_ref().filter(|_| self.separate) else { return };
        let mut ids = root.ids.lock();
        let changed = if hide { ids.hidden.insert(global) } else { ids.hidden.remove(&global) };
        match (changed, hide) {
            (true, true) => root.hidden.fetch_add(1, Ordering::Release),
            (true, false) => root.hidden.fetch_sub(1, Ordering::Release),
            (false, _) => 0,
        };
    }

    /// The numbers of a kernel id from namespace `outer` down to this one (`NSpid` in `status`).
    pub fn numbers_from(&self, outer: &PidNamespace, global: i32) -> Vec<i32> {
        let mut numbers = Vec::new();
        let mut at = Some(self);
        while let Some(ns) = at.filter(|ns| ns.level >= outer.level) {
            numbers.push(ns.local(global));
            at = ns.parent.as_deref();
        }
        numbers.reverse();
        numbers
    }

    /// Kernel ids in use here, by number.
    pub fn all(&self) -> Vec<i32> {
        self.ids.lock().global.values().copied().collect()
    }

    /// Gives a kernel id numbers here and above. `wanted`: the numbers asked for, the one here first.
    /// `ENOMEM` once the first process has ended, `EEXIST` for a number in use, `EINVAL` unless the first
    /// number is 1.
    pub fn number(&self, global: i32, wanted: &[i32]) -> Result<()> {
        for (i, ns) in self.chain().enumerate() {
            let mut ids = ns.ids.lock();
            let wanted = wanted.get(i).copied().unwrap_or(0);
            let result = match ids.dead {
                true => Err(Errno::ENOMEM),
                false if wanted > 0 && ids.global.contains_key(&wanted) => Err(Errno::EEXIST),
                false if wanted > 1 && ids.last == 0 => Err(Errno::EINVAL),
                false => Ok(()),
            };
            if let Err(e) = result {
                drop(ids);
                self.release(global);
                return Err(e);
            }
            let local = if wanted > 0 { wanted } else { ids.next() };
            if ids.last == 0 {
                ids.last = local;
            }
            ids.global.insert(local, global);
            ids.local.insert(global, local);
            drop(ids);
            ns.hide_from_root(global, true);
        }
        Ok(())
    }

    /// Leaves the number 1 to whoever asks for it, where nothing has a number yet.
    pub fn reserve_first(&self) {
        let mut ids = self.ids.lock();
        ids.last = ids.last.max(1);
    }

    /// A kernel id is no longer in use.
    pub fn release(&self, global: i32) {
        for ns in self.chain() {
            let mut ids = ns.ids.lock();
            if let Some(local) = ids.local.remove(&global) {
                ids.global.remove(&local);
            }
            drop(ids);
            ns.hide_from_root(global, false);
        }
    }

    /// A process here has ended.
    pub fn process_ended(&self) {
        for ns in self.chain() {
            *ns.ended.count.lock() += 1;
            ns.ended.changed.notify_all();
        }
    }

    /// How many processes have ended here and below.
    pub fn ended(&self) -> u64 {
        *self.ended.count.lock()
    }

    /// Waits until more than `seen` processes have ended. The caller holds no lock.
    pub fn wait_ended(&self, seen: u64) {
        let mut count = self.ended.count.lock();
        while *count == seen {
            self.ended.changed.wait(&mut count);
        }
    }

    /// Notes that it is paused, or no longer; what it was before.
    pub fn set_paused(&self, paused: bool) -> bool {
        self.paused.swap(paused, Ordering::SeqCst)
    }

    /// True while it, or one above it, is paused.
    pub fn is_paused(&self) -> bool {
        let mut at = Some(self);
        while let Some(ns) = at {
            if ns.paused.load(Ordering::SeqCst) {
                return true;
            }
            at = ns.parent.as_deref();
        }
        false
    }

    /// Its first process has ended: nothing can be made here any more.
    pub fn die(&self) {
        self.ids.lock().dead = true;
    }

    /// True once nothing can be made here any more.
    pub fn is_dead(&self) -> bool {
        self.chain().any(|ns| ns.ids.lock().dead)
    }
}

impl Ids {
    fn next(&mut self) -> i32 {
        loop {
            self.last = match self.last {
                last if last >= pid_limit() - 1 => RESERVED_PIDS,
                last => last + 1,
            };
            // There are far fewer tasks than numbers: a free one comes soon.
            if !self.global.contains_key(&self.last) {
                return self.last;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_has_its_own_numbers() {
        let user = UserNamespace::root();
        let root = PidNamespace::initial(&user);
        let a = root.create(&user).unwrap();
        let b = a.create(&user).unwrap();
        a.number(100, &[]).unwrap();
        b.number(101, &[]).unwrap();
        assert_eq!((a.local(100), a.local(101), b.local(101), b.local(100)), (1, 2, 1, 0));
        assert_eq!((root.local(101), b.global(1), a.global(9)), (101, 101, 0));
        assert_eq!(b.number(102, &[1]), Err(Errno::EEXIST));
        assert_eq!(a.local(102), 0);
        b.release(101);
        assert_eq!((a.global(2), b.global(1)), (0, 0));
        assert!(root.contains(&b) && a.contains(&b) && !b.contains(&a));
    }

    #[test]
    fn a_containers_processes_are_its_own() {
        let user = UserNamespace::root();
        let root = PidNamespace::initial(&user);
        let a = root.create_separate(&user).unwrap();
        let below = a.create(&user).unwrap();
        a.reserve_first();
        // A hook leaves the first number to the first process.
        a.number(100, &[]).unwrap();
        a.number(101, &[1]).unwrap();
        below.number(102, &[]).unwrap();
        assert_eq!((a.local(100), a.local(101), a.local(102), below.local(102)), (2, 1, 3, 1));
        for id in 100..103 {
            assert_eq!((root.local(id), root.global(id)), (0, 0));
        }
        assert_eq!((root.local(1), root.global(1)), (1, 1));
        a.release(101);
        assert_eq!(root.local(101), 101);
    }
}
