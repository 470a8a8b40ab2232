//! A process: the tasks that share a process id (`signal_struct`).

use super::accounting::Usage;
use super::cgroup::{Cgroup, Member};
use super::ipc::sem::Set;
use super::namespace::PidNamespace;
use super::rlimit::{Limit, Limits, Rlimit};
use super::signal::{GroupSignals, SigHandlers};
use super::{ControllingTty, Kernel, SigInfo, Task};
use crate::sync::{Mutex, MutexGuard, RwLock, rank};
use crate::time::process_timers::ProcessTimers;
use crate::wait::WaitQueue;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// A process.
pub struct ThreadGroup {
    tgid: i32,
    /// The number of the id in its pid namespace.
    ns_tgid: i32,
    pid_ns: Arc<PidNamespace>,
    ppid: AtomicI32,
    pgid: AtomicI32,
    sid: AtomicI32,
    signals: Mutex<GroupSignals, { rank::SIGNALS }>,
    /// Signals pending for the process, to be read without the lock.
    pub(super) shared_pending: Arc<AtomicU64>,
    limits: RwLock<Limits, { rank::LEAF }>,
    /// Told when a signal has been queued for the process (signalfd, `sigtimedwait`).
    pub signal_queue: WaitQueue,
    /// Told when a child has changed state (`wait4(2)`).
    pub child_queue: WaitQueue,
    /// Told when the process or a thread of it has ended (pidfd).
    pub exit_queue: WaitQueue,
    /// Interval and POSIX timers.
    pub timers: Mutex<ProcessTimers, { rank::TASK }>,
    /// What ended threads and reaped children have used.
    pub(super) usage: Mutex<Usage, { rank::LEAF }>,
    /// Nanoseconds of `CLOCK_BOOTTIME` at which it was created.
    pub start_time: u64,
    /// Thread id of the task that created it (`PR_SET_PDEATHSIG`).
    pub(super) creator: AtomicI32,
    /// Signal sent to the parent at its end; 0 for none.
    pub exit_signal: AtomicI32,
    /// Every task has ended.
    pub(super) dead: AtomicBool,
    /// It has ended, and who waits for it has learned of that.
    pub(super) reaped: AtomicBool,
    /// Wait status with which it ended.
    pub(super) exit_code: AtomicI32,
    /// It has executed a program since it was created (`setpgid(2)`).
    pub did_exec: AtomicBool,
    /// `PR_SET_CHILD_SUBREAPER`.
    pub child_subreaper: AtomicBool,
    /// An ancestor is a subreaper.
    pub has_subreaper: AtomicBool,
    /// `PR_SET_DUMPABLE`.
    pub dumpable: AtomicU32,
    /// `/proc/PID/oom_score_adj`.
    pub oom_score_adj: AtomicI32,
    /// `/proc/PID/coredump_filter`.
    pub coredump_filter: AtomicU32,
    /// `PR_SET_THP_DISABLE`.
    pub thp_disable: AtomicBool,
    /// Its control group.
    pub(super) member: Mutex<Member, { rank::LEAF }>,
    /// Semaphore sets that it has to put right at its end (`SEM_UNDO`).
    pub semaphores: Mutex<Vec<Weak<Set>>, { rank::LEAF }>,
}

impl ThreadGroup {
    /// A process without tasks.
    pub(super) fn new(
        tgid: i32,
        pid_ns: Arc<PidNamespace>,
        handlers: Arc<SigHandlers>,
        limits: Limits,
        exit_signal: i32,
        start_time: u64,
        cgroup: Arc<Cgroup>,
    ) -> Arc<ThreadGroup> {
        let signals = GroupSignals::new(handlers);
        Arc::new(ThreadGroup {
            shared_pending: signals.shared.mirror(),
            tgid,
            ns_tgid: pid_ns.local(tgid),
            pid_ns,
            ppid: AtomicI32::new(0),
            pgid: AtomicI32::new(0),
            sid: AtomicI32::new(0),
            signals: Mutex::new(signals),
            limits: RwLock::new(limits),
            signal_queue: WaitQueue::new(),
            child_queue: WaitQueue::new(),
            exit_queue: WaitQueue::new(),
            timers: Mutex::new(ProcessTimers::default()),
            usage: Mutex::new(Usage::default()),
            start_time,
            creator: AtomicI32::new(0),
            exit_signal: AtomicI32::new(exit_signal),
            dead: AtomicBool::new(false),
            reaped: AtomicBool::new(false),
            exit_code: AtomicI32::new(0),
            did_exec: AtomicBool::new(false),
            child_subreaper: AtomicBool::new(false),
            has_subreaper: AtomicBool::new(false),
            dumpable: AtomicU32::new(1),
            oom_score_adj: AtomicI32::new(0),
            coredump_filter: AtomicU32::new(0x33),
            thp_disable: AtomicBool::new(false),
            member: Mutex::new(Member::new(cgroup)),
            semaphores: Mutex::new(Vec::new()),
        })
    }

    /// Process id in the root pid namespace.
    pub fn tgid(&self) -> i32 {
        self.tgid
    }

    /// Process id in its own pid namespace.
    pub fn ns_tgid(&self) -> i32 {
        self.ns_tgid
    }

    /// Its pid namespace.
    pub fn pid_ns(&self) -> &Arc<PidNamespace> {
        &self.pid_ns
    }

    /// True for the first process of a pid namespace below the root.
    pub fn is_namespace_init(&self) -> bool {
        self.ns_tgid == 1 && !self.pid_ns.is_root()
    }

    /// Process id of the parent; 0 for the first process.
    pub fn ppid(&self) -> i32 {
        self.ppid.load(Ordering::Relaxed)
    }

    /// Process group.
    pub fn pgid(&self) -> i32 {
        self.pgid.load(Ordering::Relaxed)
    }

    /// Session.
    pub fn sid(&self) -> i32 {
        self.sid.load(Ordering::Relaxed)
    }

    /// True once every task has ended.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Wait status with which it ended.
    pub fn exit_code(&self) -> i32 {
        self.exit_code.load(Ordering::Relaxed)
    }

    /// Copies what the tree says, for readers without its lock.
    pub(super) fn set_links(&self, parent: i32, pgid: i32, sid: i32) {
        self.ppid.store(parent, Ordering::Relaxed);
        self.pgid.store(pgid, Ordering::Relaxed);
        self.sid.store(sid, Ordering::Relaxed);
        for task in &self.signals().tasks {
            task.refresh_answers();
        }
    }

    /// True if it leads its session.
    pub fn is_session_leader(&self) -> bool {
        self.sid() == self.tgid
    }

    /// The terminal of its session.
    pub fn controlling_tty(&self, kernel: &Kernel) -> Option<Arc<dyn ControllingTty>> {
        kernel.session_tty(self.sid())
    }

    /// Its signal state, locked.
    pub fn signals(&self) -> MutexGuard<'_, GroupSignals> {
        self.signals.lock()
    }

    /// Its living tasks, the leader first if it lives.
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        self.signals().tasks.clone()
    }

    /// A living task: the leader if it lives. `None` for a zombie.
    pub fn any_task(&self) -> Option<Arc<Task>> {
        self.signals().tasks.first().cloned()
    }

    /// Sends a signal to the process, on the kernel's behalf: permission is not checked.
    pub fn send_signal(self: &Arc<Self>, kernel: &Kernel, info: &SigInfo) {
        super::signal::send::to_group(kernel, self, info);
    }

    /// A resource limit.
    pub fn limit(&self, which: Rlimit) -> Limit {
        self.limits.read().get(which)
    }

    /// All limits.
    pub fn limits(&self) -> Limits {
        *self.limits.read()
    }

    /// Changes the limits.
    pub fn update_limits<T>(&self, change: impl FnOnce(&mut Limits) -> T) -> T {
        change(&mut self.limits.write())
    }
}

impl std::fmt::Debug for ThreadGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadGroup").field("tgid", &self.tgid).finish_non_exhaustive()
    }
}
