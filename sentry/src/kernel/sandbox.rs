//! One sandbox: everything that its tasks share.

use super::cgroup::Cgroup;
use super::futex::FutexTable;
use super::namespace::{Names, Namespaces};
use super::outside::Outsiders;
use super::signal::SigInfo;
use super::trace::CallLogs;
use super::tree::Tree;
use super::{ControllingTty, KernelConfig, SandboxLimits, Task, ThreadGroup};
use crate::errno::{Errno, Result};
use crate::loader::Vdso;
use crate::sync::{Mutex, MutexGuard, rank};
use crate::time::{TimeSource, TimerQueue};
use platform::{MemoryFile, Platform};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// One sandbox.
pub struct Kernel {
    /// Guest memory.
    pub memory: Arc<MemoryFile>,
    /// Runs guest code.
    pub platform: Arc<dyn Platform>,
    /// The vDSO that programs get.
    pub vdso: Vdso,
    /// How it was configured.
    pub config: KernelConfig,
    /// What it may use.
    pub limits: SandboxLimits,
    /// The clocks.
    pub time: TimeSource,
    /// Timers.
    pub timers: Arc<TimerQueue>,
    /// Futexes that tasks wait on.
    pub futexes: FutexTable,
    /// Random id of this boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: [u8; 16],
    /// The first namespaces.
    pub namespaces: Arc<Namespaces>,
    /// The control group that it starts in.
    pub cgroup: Arc<Cgroup>,
    /// Where files of `memfd_create(2)` live; made on first use.
    pub memfd_mount: OnceLock<Arc<crate::vfs::Mount>>,
    /// Who is told of system calls.
    pub call_logs: CallLogs,
    /// Processes that were started from outside.
    pub outsiders: Outsiders,
    /// Contexts of asynchronous I/O.
    pub aio: super::aio::Aio,
    /// File handles that have been given out.
    pub handles: Mutex<crate::vfs::handles::Handles, { rank::LEAF }>,
    /// Where core dumps go.
    pub core: super::coredump::Settings,
    /// How busy it has been.
    pub load: super::load::LoadAverages,
    /// What it has said.
    pub log: super::log::Log,
    /// Keys and keyrings.
    pub keys: Mutex<super::keys::Keys, { rank::KEYS }>,
    /// Signals about files that are to be sent once no lock is held.
    pub async_signals: crate::vfs::async_io::Deferred,
    /// A file system has been mounted that waits for guests: a task's context is not held during its calls.
    pub asks_guests: AtomicBool,
    /// Number of tasks, to hold against the limit.
    pub(super) task_count: AtomicUsize,
    /// Processes ever created (`/proc/stat`).
    pub(super) forks: AtomicU64,
    /// Thread id handed out last (`/proc/loadavg`).
    pub(super) last_pid: AtomicI32,
    tree: Mutex<Tree, { rank::TASKS }>,
    finished: Finished,
    pub(super) myself: Weak<Kernel>,
}

/// Wait status of the first process, once it has ended.
#[derive(Default)]
struct Finished {
    status: parking_lot::Mutex<Option<i32>>,
    changed: parking_lot::Condvar,
}

impl Kernel {
    /// A sandbox without tasks. `ENOMEM` if there is no guest memory for the vDSO.
    pub fn new(
        config: KernelConfig,
        platform: Arc<dyn Platform>,
        memory: Arc<MemoryFile>,
    ) -> Result<Arc<Kernel>> {
        let mut boot_id = [0; 16];
        // A host without random numbers fails elsewhere first (ASLR, stack canaries).
        let _ = platform::host::random::fill(&mut boot_id);
        boot_id[6] = boot_id[6] & 0x0f | 0x40;
        boot_id[8] = boot_id[8] & 0x3f | 0x80;
        let names = Names { host: config.hostname.clone(), domain: config.domainname.clone() };
        let vdso = Vdso::new(&memory)?;
        let cgroup = Cgroup::initial();
        Ok(Arc::new_cyclic(|myself| Kernel {
            time: TimeSource::with_clock(vdso.clock().clone()),
            vdso,
            memory,
            futexes: FutexTable::new(platform.futex_waiters()),
            platform,
            limits: SandboxLimits::new(&config),
            call_logs: CallLogs::default(),
            config,
            timers: TimerQueue::new(),
            boot_id,
            namespaces: Namespaces::initial(names, &cgroup),
            cgroup,
            memfd_mount: OnceLock::new(),
            outsiders: Outsiders::default(),
            aio: Default::default(),
            handles: Mutex::default(),
            core: Default::default(),
            load: Default::default(),
            log: Default::default(),
            keys: Mutex::default(),
            async_signals: Default::default(),
            asks_guests: AtomicBool::new(false),
            task_count: AtomicUsize::new(0),
            forks: AtomicU64::new(0),
            last_pid: AtomicI32::new(0),
            tree: Mutex::new(Tree::default()),
            finished: Finished::default(),
            myself: myself.clone(),
        }))
    }

    /// The process tree, locked.
    pub fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock()
    }

    /// The living task of that thread id.
    pub fn task(&self, tid: i32) -> Option<Arc<Task>> {
        self.tree().pids.tasks.get(&tid).cloned()
    }

    /// The process of that id, zombies included.
    pub fn thread_group(&self, tgid: i32) -> Option<Arc<ThreadGroup>> {
        self.tree().process(tgid).cloned()
    }

    /// Every process in the order of their ids, zombies included.
    pub fn thread_groups(&self) -> Vec<Arc<ThreadGroup>> {
        self.tree().nodes.values().map(|n| n.group.clone()).collect()
    }

    /// Name of the container that a control group belongs to.
    pub fn container_of(&self, group: &Arc<Cgroup>) -> Vec<u8> {
        let top = group.top();
        match top.strip_prefix(super::cgroup::CONTAINER_PREFIX) {
            Some(name) => name.to_vec(),
            None => self.config.container.clone().into_bytes(),
        }
    }

    /// Number of living tasks.
    pub fn task_count(&self) -> usize {
        self.task_count.load(Ordering::Relaxed)
    }

    /// Processes created since boot.
    pub fn forks(&self) -> u64 {
        self.forks.load(Ordering::Relaxed)
    }

    /// Thread id handed out last.
    pub fn last_pid(&self) -> i32 {
        self.last_pid.load(Ordering::Relaxed)
    }

    /// Sends a signal to every process of a process group, on the kernel's behalf. `ESRCH` if there
    /// is no such group.
    pub fn signal_process_group(&self, pgid: i32, info: &SigInfo) -> Result<()> {
        let members = self.tree().members(pgid);
        if members.is_empty() {
            return Err(Errno::ESRCH);
        }
        for group in members {
            group.send_signal(self, info);
        }
        Ok(())
    }

    /// True when no member of the process group has a parent in another group of its session: the
    /// terminal must not stop it (`setpgid(2)`).
    pub fn is_orphaned_pgroup(&self, pgid: i32) -> bool {
        self.tree().is_orphaned(pgid, None)
    }

    /// The session of a process group.
    pub fn session_of_pgroup(&self, pgid: i32) -> Option<i32> {
        self.tree().pgroups.get(&pgid).map(|g| g.sid)
    }

    /// The controlling terminal of a session.
    pub fn session_tty(&self, sid: i32) -> Option<Arc<dyn ControllingTty>> {
        self.tree().sessions.get(&sid)?.tty.clone()
    }

    /// Gives a session a controlling terminal, or takes it away. Returns the one it had.
    pub fn set_session_tty(
        &self,
        sid: i32,
        tty: Option<Arc<dyn ControllingTty>>,
    ) -> Option<Arc<dyn ControllingTty>> {
        let mut tree = self.tree();
        let session = tree.sessions.get_mut(&sid)?;
        std::mem::replace(&mut session.tty, tty)
    }

    /// A reference to it; `None` while it is being dropped.
    pub fn arc(&self) -> Option<Arc<Kernel>> {
        self.myself.upgrade()
    }

    /// Waits until the first process has ended; its wait status (`wait(2)`).
    pub fn wait_finished(&self) -> i32 {
        let mut status = self.finished.status.lock();
        loop {
            if let Some(s) = *status {
                return s;
            }
            self.finished.changed.wait(&mut status);
        }
    }

    /// Notes that the first process has ended, or could not be started.
    pub fn finish(&self, status: i32) {
        let mut place = self.finished.status.lock();
        if place.is_none() {
            *place = Some(status);
        }
        self.finished.changed.notify_all();
    }
}
