//! Semaphore sets (`semget(2)`, `semop(2)`, `semctl(2)`).
//!
//! As in Linux, whoever changes a set also carries out, in their name, the operations of sleepers
//! that have become possible: who looks at the set next sees them done.

use super::ids::{Ids, Object};
use super::limits::{Limits, Semaphores};
use super::{Permissions, now};
use crate::errno::{Errno, Result};
use crate::kernel::namespace::IpcNamespace;
use crate::kernel::{Credentials, CurrentTask, ThreadGroup, Wake};
use crate::sync::{Mutex, rank};
use crate::wait::{EventMask, Waker};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most sets of a namespace.
pub const SEMMNI: usize = 32768;
/// `SEMMSL`, `SEMMNS`, `SEMOPM` and `SEMMNI` unless `kernel.sem` says otherwise.
pub const LIMITS: [u64; 4] = [32000, 32000 * 32000, 500, 32000];
/// `SEMVMX`: highest value; also that of an adjustment (`SEMAEM`).
pub const SEMVMX: i32 = 32767;
/// How many semaphores the sentry has memory for (`ENOMEM`), in all namespaces together.
const MOST: usize = 1 << 20;

/// `SEM_UNDO`
const SEM_UNDO: u16 = 0x1000;
/// `IPC_NOWAIT`
const IPC_NOWAIT: u16 = 0o4000;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A share of [`MOST`].
struct Reserved(usize);

impl Reserved {
    fn new(count: usize) -> Result<Reserved> {
        let room = |n: usize| n.checked_add(count).filter(|n| *n <= MOST);
        let got = COUNT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        got.map(|_| Reserved(count)).map_err(|_| Errno::ENOMEM)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        COUNT.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// What is added to each semaphore of a set when a process ends.
struct Adjustments {
    by: Vec<i16>,
    _memory: Reserved,
}

/// One operation (`struct sembuf`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    /// Which semaphore.
    pub num: u16,
    /// What is added; 0 waits for zero.
    pub by: i16,
    /// `IPC_NOWAIT`, `SEM_UNDO`.
    pub flags: u16,
}

impl Op {
    /// True if it changes something.
    fn alters(self) -> bool {
        self.by != 0
    }
}

/// One semaphore.
#[derive(Debug, Clone, Copy, Default)]
pub struct Semaphore {
    /// Value, `0..=SEMVMX`.
    pub value: i32,
    /// Process that changed it last.
    pub pid: i32,
}

/// Operations that wait.
struct Sleeper {
    id: u64,
    ops: Vec<Op>,
    pid: i32,
    /// The operation that cannot be done yet.
    blocking: Op,
    waker: Arc<dyn Waker>,
}

/// What can change of a set.
struct State {
    perm: Permissions,
    /// Seconds since the epoch: latest operation and change.
    otime: i64,
    ctime: i64,
    values: Vec<Semaphore>,
    /// What is added when a process ends, by its id.
    undo: BTreeMap<i32, Adjustments>,
    sleepers: Vec<Sleeper>,
    /// Results for sleepers, by their id.
    done: BTreeMap<u64, Result<()>>,
    next_sleeper: u64,
    removed: bool,
    _memory: Reserved,
    _counted: Semaphores,
}

/// A semaphore set.
pub struct Set {
    state: Mutex<State, { rank::LEAF }>,
}

/// A copy of a set's description for `IPC_STAT`.
pub struct Description {
    /// Who may use it.
    pub perm: Permissions,
    /// Latest operation.
    pub otime: i64,
    /// Latest change.
    pub ctime: i64,
    /// Number of semaphores.
    pub count: usize,
}

/// What [`Set::ask`] can tell of one semaphore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// `GETVAL`
    Value,
    /// `GETPID`
    Pid,
    /// `GETNCNT`: sleepers that wait for it to grow.
    Growing,
    /// `GETZCNT`: sleepers that wait for zero.
    Zero,
}

/// The sets of a namespace.
pub type Sets = Ids<Set>;

/// Whether something is to be undone in a namespace when the process `pid` ends.
pub fn has_undo(ns: &IpcNamespace, pid: i32) -> bool {
    ns.sem.all().0.iter().any(|(_, set)| set.state.lock().undo.contains_key(&pid))
}

type Wakers = Vec<Arc<dyn Waker>>;

fn wake(wakers: Wakers) {
    for waker in wakers {
        waker.wake(EventMask::READABLE);
    }
}

/// Why operations were not carried out.
enum Stop {
    /// This one would have to wait.
    Blocked(Op),
    /// They never can be.
    Failed(Errno),
}

impl State {
    /// Carries out all operations or none.
    fn attempt(&mut self, ops: &[Op], pid: i32) -> Result<(), Stop> {
        let mut values = Vec::with_capacity(ops.len());
        let mut undo: Vec<(u16, i16)> = Vec::new();
        for op in ops {
            let num = usize::from(op.num);
            let before = values.iter().rev().find(|(n, _)| *n == num).map(|(_, value)| *value);
            let before = match before {
                Some(value) => value,
                None => self.values.get(num).ok_or(Stop::Failed(Errno::EFBIG))?.value,
            };
            let after = before + i32::from(op.by);
            if (op.by == 0 && before != 0) || after < 0 {
                return Err(Stop::Blocked(*op));
            }
            if after > SEMVMX {
                return Err(Stop::Failed(Errno::ERANGE));
            }
            if op.flags & SEM_UNDO != 0 {
                let known = undo.iter().rev().find(|(n, _)| *n == op.num).map(|(_, adj)| *adj);
                let old = self.undo.get(&pid).and_then(|u| u.by.get(num)).copied().unwrap_or(0);
                let adj = known.unwrap_or(old).checked_sub(op.by);
                undo.push((op.num, adj.ok_or(Stop::Failed(Errno::ERANGE))?));
            }
            values.push((num, after));
        }
        if !undo.is_empty() {
            let count = self.values.len();
            let list = match self.undo.entry(pid) {
                Entry::Occupied(list) => list.into_mut(),
                Entry::Vacant(place) => {
                    let memory = Reserved::new(count).map_err(Stop::Failed)?;
                    place.insert(Adjustments { by: vec![0; count], _memory: memory })
                }
            };
            for (num, adj) in undo {
                if let Some(place) = list.by.get_mut(usize::from(num)) {
                    *place = adj;
                }
            }
        }
        for (num, value) in values {
            if let Some(semaphore) = self.values.get_mut(num) {
                *semaphore = Semaphore { value, pid };
            }
        }
        Ok(())
    }

    /// Carries out what sleepers wait for, as far as that is possible now.
    fn settle(&mut self) -> Wakers {
        let mut wakers = Wakers::new();
        let mut at = 0;
        while at < self.sleepers.len() {
            let mut sleeper = self.sleepers.remove(at);
            let result = match self.attempt(&sleeper.ops, sleeper.pid) {
                Err(Stop::Blocked(op)) => {
                    sleeper.blocking = op;
                    self.sleepers.insert(at, sleeper);
                    at += 1;
                    continue;
                }
                Err(Stop::Failed(e)) => Err(e),
                Ok(()) => Ok(()),
            };
            if result.is_ok() {
                self.otime = now();
                if sleeper.ops.iter().any(|op| op.alters()) {
                    // Those before it may be able to go on now.
                    at = 0;
                }
            }
            self.done.insert(sleeper.id, result);
            wakers.push(sleeper.waker);
        }
        wakers
    }
}

impl Object for Set {
    fn permissions(&self) -> Permissions {
        self.state.lock().perm
    }
}

impl Set {
    fn new(perm: Permissions, count: usize, limits: &Limits) -> Result<Set> {
        let counted = limits.count_semaphores(count)?;
        let memory = Reserved::new(count)?;
        let state = State {
            perm,
            otime: 0,
            ctime: now(),
            values: vec![Semaphore::default(); count],
            undo: BTreeMap::new(),
            sleepers: Vec::new(),
            done: BTreeMap::new(),
            next_sleeper: 0,
            removed: false,
            _memory: memory,
            _counted: counted,
        };
        Ok(Set { state: Mutex::new(state) })
    }

    /// `IPC_STAT`
    pub fn describe(&self) -> Description {
        let s = self.state.lock();
        Description { perm: s.perm, otime: s.otime, ctime: s.ctime, count: s.values.len() }
    }

    /// `IPC_SET`
    pub fn set_permissions(&self, uid: u32, gid: u32, mode: u32) {
        let mut state = self.state.lock();
        state.perm.change(uid, gid, mode);
        state.ctime = now();
    }

    /// `GETVAL` and its kin. `EINVAL` for a semaphore that is not there.
    pub fn ask(&self, num: i32, what: Question) -> Result<i32> {
        let state = self.state.lock();
        let index = usize::try_from(num).map_err(|_| Errno::EINVAL)?;
        let semaphore = state.values.get(index).ok_or(Errno::EINVAL)?;
        let waiting = |zero: bool| {
            let hit =
                |s: &&Sleeper| usize::from(s.blocking.num) == index && (s.blocking.by == 0) == zero;
            state.sleepers.iter().filter(hit).count() as i32
        };
        Ok(match what {
            Question::Value => semaphore.value,
            Question::Pid => semaphore.pid,
            Question::Growing => waiting(false),
            Question::Zero => waiting(true),
        })
    }

    /// `GETALL`
    pub fn values(&self) -> Vec<u16> {
        self.state.lock().values.iter().map(|s| s.value as u16).collect()
    }

    /// `SETVAL`. The value is one that a semaphore can have.
    pub fn set_value(&self, num: i32, value: i32, pid: i32) -> Result<()> {
        let wakers = {
            let mut state = self.state.lock();
            if state.removed {
                return Err(Errno::EIDRM);
            }
            let index = usize::try_from(num).map_err(|_| Errno::EINVAL)?;
            *state.values.get_mut(index).ok_or(Errno::EINVAL)? = Semaphore { value, pid };
            for adj in state.undo.values_mut().filter_map(|list| list.by.get_mut(index)) {
                *adj = 0;
            }
            state.ctime = now();
            state.settle()
        };
        wake(wakers);
        Ok(())
    }

    /// `SETALL`. `EINVAL` unless there is a value for each.
    pub fn set_values(&self, values: &[u16], pid: i32) -> Result<()> {
        let wakers = {
            let mut state = self.state.lock();
            if state.removed {
                return Err(Errno::EIDRM);
            }
            for (semaphore, value) in state.values.iter_mut().zip(values) {
                *semaphore = Semaphore { value: i32::from(*value), pid };
            }
            state.undo.clear();
            state.ctime = now();
            state.settle()
        };
        wake(wakers);
        Ok(())
    }

    /// Ends everyone's sleep with `EIDRM`.
    fn retire(&self) {
        let mut wakers = Wakers::new();
        {
            let mut state = self.state.lock();
            state.removed = true;
            state.undo.clear();
            for sleeper in std::mem::take(&mut state.sleepers) {
                state.done.insert(sleeper.id, Err(Errno::EIDRM));
                wakers.push(sleeper.waker);
            }
        }
        wake(wakers);
    }

    /// Gives back what a process that ends owes.
    fn undo(&self, pid: i32) {
        let wakers = {
            let mut state = self.state.lock();
            let Some(list) = state.undo.remove(&pid) else { return };
            for (semaphore, adj) in
                state.values.iter_mut().zip(list.by).filter(|(_, adj)| *adj != 0)
            {
                let value = (semaphore.value + i32::from(adj)).clamp(0, SEMVMX);
                *semaphore = Semaphore { value, pid };
            }
            state.settle()
        };
        wake(wakers);
    }
}

/// `semget(2)`.
pub fn get(t: &CurrentTask, key: i32, count: i32, flags: u32) -> Result<i32> {
    let ns = &*t.namespaces().ipc;
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let [most, _, _, sets] = ns.limits.sem.each_ref().map(Limits::count);
    if count > most {
        return Err(Errno::EINVAL);
    }
    let enough = |set: &Set| match count <= set.describe().count {
        true => Ok(()),
        false => Err(Errno::EINVAL),
    };
    let bounds = (sets, &ns.limits.sem_next_id);
    ns.sem.get((ns, t.creds()), (key, flags), bounds, enough, |perm| match count {
        0 => Err(Errno::EINVAL),
        n => Set::new(perm, n, &ns.limits),
    })
}

/// `semop(2)` and `semtimedop(2)`: `EAGAIN` when `deadline` (as for [`CurrentTask::block`]) passes.
pub fn operate(t: &mut CurrentTask, id: i32, ops: Vec<Op>, deadline: Option<u64>) -> Result<()> {
    let namespaces = t.namespaces();
    let ns = &*namespaces.ipc;
    let set = ns.sem.find(id)?;
    let alters = ops.iter().any(|op| op.alters());
    let highest = ops.iter().map(|op| usize::from(op.num)).max().unwrap_or(0);
    let Description { perm, count, .. } = set.describe();
    if highest >= count {
        return Err(Errno::EFBIG);
    }
    perm.check(ns, t.creds(), if alters { 2 } else { 4 })?;
    let group = t.group().clone();
    if ops.iter().any(|op| op.flags & SEM_UNDO != 0) {
        let mut sets = group.semaphores.lock();
        if !sets.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(&set))) {
            sets.retain(|known| known.strong_count() > 0);
            sets.push(Arc::downgrade(&set));
        }
    }
    let pid = group.tgid();
    let (sleeper, wakers) = {
        let mut state = set.state.lock();
        if state.removed {
            return Err(Errno::EIDRM);
        }
        match state.attempt(&ops, pid) {
            Ok(()) => {
                state.otime = now();
                let wakers = if alters { state.settle() } else { Wakers::new() };
                (None, wakers)
            }
            Err(Stop::Failed(e)) => return Err(e),
            Err(Stop::Blocked(op)) if op.flags & IPC_NOWAIT != 0 => return Err(Errno::EAGAIN),
            Err(Stop::Blocked(blocking)) => {
                state.next_sleeper += 1;
                let id = state.next_sleeper;
                state.sleepers.push(Sleeper { id, ops, pid, blocking, waker: t.waker() });
                (Some(id), Wakers::new())
            }
        }
    };
    wake(wakers);
    match sleeper {
        Some(id) => sleep(t, &set, id, deadline),
        None => Ok(()),
    }
}

fn sleep(t: &mut CurrentTask, set: &Set, id: u64, deadline: Option<u64>) -> Result<()> {
    loop {
        let wake = t.block(deadline);
        let mut state = set.state.lock();
        if let Some(result) = state.done.remove(&id) {
            return result;
        }
        let error = match wake {
            Wake::Event => continue,
            Wake::Timeout => Errno::EAGAIN,
            // Never restarted, whatever the handler's flags (`signal(7)`).
            Wake::Interrupted => Errno::EINTR,
        };
        state.sleepers.retain(|sleeper| sleeper.id != id);
        return Err(error);
    }
}

/// `IPC_RMID`
pub fn remove(ns: &IpcNamespace, creds: &Credentials, id: i32) -> Result<()> {
    let set = ns.sem.find(id)?;
    set.permissions().check_owner(ns, creds)?;
    ns.sem.remove(id);
    set.retire();
    Ok(())
}

/// Undoes what a process did with `SEM_UNDO`, at its end or when it leaves its namespace.
pub fn exit(group: &ThreadGroup) {
    let sets = std::mem::take(&mut *group.semaphores.lock());
    for set in sets.iter().filter_map(std::sync::Weak::upgrade) {
        set.undo(group.tgid());
    }
}

/// The contents of `/proc/sysvipc/sem`.
pub fn proc_text(ns: &IpcNamespace) -> String {
    use std::fmt::Write;
    let mut out = String::from(
        "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n",
    );
    for (id, set) in ns.sem.all().0 {
        let Description { perm: p, otime, ctime, count } = set.describe();
        let _ = writeln!(
            out,
            "{:10} {id:10}  {:4o} {count:10} {:5} {:5} {:5} {:5} {otime:10} {ctime:10}",
            p.key, p.mode, p.uid, p.gid, p.cuid, p.cgid
        );
    }
    out
}
