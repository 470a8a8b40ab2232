//! One guest thread, seen from everywhere (`task_struct`).

use super::answers::{TableNumber, Words};
use super::last_call::LastCall;
use super::namespace::Namespaces;
use super::ptrace::Trace;
use super::sched::Sched;
use super::seccomp::filter::Seccomp;
use super::signal::{Mask, Pending, SigInfo, SigSet};
use super::{Credentials, Kernel, Limit, Rlimit, ThreadGroup};
use crate::errno::{Errno, Result};
use crate::mm::MemoryManager;
use crate::sync::{Mutex, rank};
use crate::vfs::{FdTable, File, FsContext};
use crate::wait::{EventMask, Waker};
use platform::host::park::Parker;
use platform::{Context, Interrupter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Reasons to leave guest code or a sleep (`TIF_*`), bits of [`Task::work`].
pub mod work {
    /// A signal that is not blocked may be pending.
    pub const SIGNAL: u32 = 1;
    /// The task must die.
    pub const KILL: u32 = 2;
    /// The task must stop with its process.
    pub const STOP: u32 = 4;
    /// A signal mask saved by `sigsuspend(2)` and its kin must be put back.
    pub const RESTORE_MASK: u32 = 8;
    /// The CPU-time timers must be looked at.
    pub const CPU_TIMERS: u32 = 16;
    /// The sandbox is paused.
    pub const PAUSE: u32 = 32;
    /// The tracer wants a trap (`PTRACE_INTERRUPT`).
    pub const TRACE_TRAP: u32 = 64;
    /// It has a tracer now: a stopped task looks how it is to stop.
    pub const TRACE_CHECK: u32 = 128;

    /// Its control group is frozen.
    pub const FREEZE: u32 = 256;
    /// Its control group has used up its CPU time.
    pub const THROTTLE: u32 = 512;
    /// It has read or written more than its control groups allow so far.
    pub const PAY: u32 = 1024;

    /// What keeps a task from guest code until it is taken back.
    pub const HOLDS: u32 = PAUSE | FREEZE | THROTTLE;
    /// What ends a sleep in a system call.
    pub const INTERRUPTS: u32 = SIGNAL | KILL | STOP | TRACE_TRAP;
}

/// What a system call of a task has to go through, bits of [`Task::syscall_work`].
pub mod syscall_work {
    /// The task's own filters.
    pub const SECCOMP: u32 = 1;
    /// A tracer wants to be told of entry and exit.
    pub const TRACE: u32 = 2;
    /// A tracer makes the calls itself (`PTRACE_SYSEMU`).
    pub const EMULATE: u32 = 4;
}

/// Where a task's host thread is.
pub(super) mod place {
    /// In the sentry.
    pub const KERNEL: u8 = 0;
    /// In guest code, or about to enter it.
    pub const GUEST: u8 = 1;
    /// Asleep in a system call, or about to sleep.
    pub const ASLEEP: u8 = 2;
    /// Stopped by a signal.
    pub const STOPPED: u8 = 3;
    /// Gone.
    pub const DEAD: u8 = 4;
    /// Stopped by its tracer.
    pub const TRACED: u8 = 5;
}

/// One guest thread.
pub struct Task {
    kernel: Arc<Kernel>,
    group: Arc<ThreadGroup>,
    tid: AtomicI32,
    /// The number of the id in its own pid namespace.
    ns_tid: AtomicI32,
    namespaces: Mutex<Arc<Namespaces>, { rank::LEAF }>,
    shared: Mutex<Option<Shared>, { rank::TASK }>,
    creds: Mutex<Arc<Credentials>, { rank::LEAF }>,
    comm: Mutex<[u8; 16], { rank::LEAF }>,
    /// Signals for this thread alone.
    pub(super) pending: Mutex<Pending, { rank::PENDING }>,
    /// The set of [`Task::pending`], to be read without its lock.
    pub(super) pending_set: Arc<AtomicU64>,
    /// Blocked signals; written by the task itself.
    pub(super) mask: Mask,
    /// Bits of [`work`].
    pub(super) work: AtomicU32,
    /// Where it is, a constant of [`place`].
    pub(super) place: AtomicU8,
    /// A waker was told of something since the last sleep.
    pub(super) woken: AtomicBool,
    pub(super) parker: Parker,
    pub(super) interrupter: Mutex<Option<Arc<dyn Interrupter>>, { rank::LEAF }>,
    /// Host thread that runs it, for CPU time; 0 once it is gone.
    pub(super) host_tid: AtomicI32,
    /// Nanoseconds spent in guest code.
    pub(super) guest_time: AtomicU64,
    /// `CLOCK_MONOTONIC` at which it entered guest code; 0 while in the sentry.
    pub(super) guest_since: AtomicU64,
    /// CPU time of its host thread, once that is gone.
    pub(super) final_system: AtomicU64,
    /// Bits of [`syscall_work`].
    pub(super) syscall_work: AtomicU32,
    /// Its tracer.
    pub(super) trace: Mutex<Trace, { rank::TRACE }>,
    /// It has one; to be read without the lock.
    pub(super) traced: AtomicBool,
    /// What the platform answers system calls with.
    pub(super) answers: Words,
    pub(super) table_number: TableNumber,
    /// Filters of its system calls.
    pub seccomp: Seccomp,
    /// `PR_SET_NO_NEW_PRIVS`, when another thread set it (`SECCOMP_FILTER_FLAG_TSYNC`).
    pub no_new_privs: AtomicBool,
    /// Nanoseconds of `CLOCK_BOOTTIME` at which it was created.
    pub start_time: u64,
    /// `set_tid_address(2)`.
    pub clear_child_tid: AtomicU64,
    /// `set_robust_list(2)`.
    pub robust_list: AtomicU64,
    /// `PR_SET_PDEATHSIG`.
    pub pdeath_signal: AtomicI32,
    /// `PR_SET_TIMERSLACK`, nanoseconds.
    pub timer_slack: AtomicU64,
    /// What `PR_SET_TIMERSLACK` with 0 goes back to: the maker's timer slack.
    pub default_timer_slack: u64,
    /// `personality(2)`.
    pub personality: AtomicU32,
    /// `set_mempolicy(2)`: a [`MemPolicy`](super::mempolicy::MemPolicy).
    pub mempolicy: AtomicU32,
    /// Scheduling policy, niceness and affinity.
    pub sched: Mutex<Sched, { rank::LEAF }>,
    /// When what it has read and written is paid for, with [`work::PAY`]: nanoseconds of `CLOCK_MONOTONIC`.
    pub io_due: AtomicU64,
    /// Voluntary context switches (sleeps).
    pub switches: AtomicU64,
    /// Page faults that the sentry handled.
    pub faults: AtomicU64,
    /// The system call it is in (`/proc/PID/syscall`, `wchan`).
    pub last_call: LastCall,
    /// Wait status with which it ended.
    pub(super) exit_code: AtomicI32,
    /// What it counts for in its control groups; `None` once it has ended.
    pub(super) pid_charge: Mutex<Option<super::cgroup::Charge>, { rank::LEAF }>,
}

/// What `clone(2)` can share between tasks. Gone once the task has exited.
#[derive(Clone)]
pub(super) struct Shared {
    pub mm: Arc<MemoryManager>,
    pub files: Arc<FdTable>,
    pub fs: Arc<FsContext>,
}

/// What a new task starts with.
pub(super) struct NewTask {
    pub tid: i32,
    pub ns_tid: i32,
    pub namespaces: Arc<Namespaces>,
    pub shared: Shared,
    pub creds: Arc<Credentials>,
    pub comm: [u8; 16],
    pub blocked: SigSet,
    pub sched: Sched,
    pub personality: u32,
    pub mempolicy: u32,
    pub timer_slack: u64,
}

impl Task {
    pub(super) fn new(kernel: Arc<Kernel>, group: Arc<ThreadGroup>, new: NewTask) -> Arc<Task> {
        let start_time = kernel.time.boottime();
        let pending = Pending::default();
        let table_number = TableNumber::of(Some(&new.shared.files));
        let mask = Mask::new(new.blocked, |mask| kernel.platform.signal_mask(mask));
        Arc::new(Task {
            pending_set: pending.mirror(),
            kernel,
            group,
            tid: AtomicI32::new(new.tid),
            ns_tid: AtomicI32::new(new.ns_tid),
            namespaces: Mutex::new(new.namespaces),
            shared: Mutex::new(Some(new.shared)),
            creds: Mutex::new(new.creds),
            comm: Mutex::new(new.comm),
            pending: Mutex::new(pending),
            mask,
            work: AtomicU32::new(0),
            place: AtomicU8::new(place::KERNEL),
            woken: AtomicBool::new(false),
            parker: Parker::new(),
            interrupter: Mutex::new(None),
            host_tid: AtomicI32::new(0),
            guest_time: AtomicU64::new(0),
            guest_since: AtomicU64::new(0),
            final_system: AtomicU64::new(0),
            syscall_work: AtomicU32::new(0),
            trace: Mutex::new(Trace::default()),
            traced: AtomicBool::new(false),
            answers: Words::new(None),
            table_number,
            seccomp: Seccomp::default(),
            no_new_privs: AtomicBool::new(false),
            start_time,
            clear_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            pdeath_signal: AtomicI32::new(0),
            timer_slack: AtomicU64::new(new.timer_slack),
            default_timer_slack: new.timer_slack,
            personality: AtomicU32::new(new.personality),
            mempolicy: AtomicU32::new(new.mempolicy),
            sched: Mutex::new(new.sched),
            io_due: AtomicU64::new(0),
            switches: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            exit_code: AtomicI32::new(0),
            pid_charge: Mutex::new(None),
            last_call: LastCall::default(),
        })
    }

    /// The sandbox.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// Its process.
    pub fn group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }

    /// Thread id in the root pid namespace.
    pub fn tid(&self) -> i32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// An exec'ing thread takes its leader's id.
    pub(super) fn take_leaders_tid(&self) {
        self.tid.store(self.group.tgid(), Ordering::Relaxed);
        self.ns_tid.store(self.group.ns_tgid(), Ordering::Relaxed);
        self.refresh_answers();
    }

    /// Thread id in its own pid namespace: what the guest calls it.
    pub fn ns_tid(&self) -> i32 {
        self.ns_tid.load(Ordering::Relaxed)
    }

    /// Process id in its own pid namespace.
    pub fn ns_tgid(&self) -> i32 {
        self.group.ns_tgid()
    }

    /// Its namespaces.
    pub fn namespaces(&self) -> Arc<Namespaces> {
        self.namespaces.lock().clone()
    }

    /// Goes on in other namespaces.
    pub(super) fn set_namespaces(&self, new: Arc<Namespaces>) {
        let old = std::mem::replace(&mut *self.namespaces.lock(), new);
        drop(old);
    }

    /// The task that it calls `tid`. `ESRCH` if there is none.
    pub fn find_task(&self, tid: i32) -> Result<Arc<Task>> {
        self.kernel.task(self.group.pid_ns().global(tid)).ok_or(Errno::ESRCH)
    }

    /// The process, perhaps a zombie, that it calls `pid`. `ESRCH` if there is none.
    pub fn find_group(&self, pid: i32) -> Result<Arc<ThreadGroup>> {
        self.kernel.thread_group(self.group.pid_ns().global(pid)).ok_or(Errno::ESRCH)
    }

    /// Thread id of its tracer (`TracerPid` in `status`), as a kernel id; 0 without one.
    pub fn tracer_id(&self) -> i32 {
        let tracer = self.trace.lock().tracer();
        tracer.map_or(0, |tracer| tracer.tid())
    }

    /// What it calls a kernel id; 0 if it cannot see it.
    pub fn local_id(&self, global: i32) -> i32 {
        self.group.pid_ns().local(global)
    }

    /// The kernel's id for what it calls `local`; 0 if there is none.
    pub fn global_id(&self, local: i32) -> i32 {
        self.group.pid_ns().global(local)
    }

    /// Process id.
    pub fn tgid(&self) -> i32 {
        self.group.tgid()
    }

    /// True if it is the thread whose id is the process id.
    pub fn is_leader(&self) -> bool {
        self.tid() == self.tgid()
    }

    pub(super) fn set_shared(&self, shared: Option<Shared>) -> Option<Shared> {
        self.note_files(shared.as_ref().map(|shared| &*shared.files));
        std::mem::replace(&mut *self.shared.lock(), shared)
    }

    /// Its host thread is about to run guest code in `mm`, in this context.
    pub(super) fn runs_in(&self, mm: &MemoryManager, context: &dyn Context) {
        let interrupter = context.interrupter();
        mm.add_thread(&interrupter);
        *self.interrupter.lock() = Some(interrupter);
        self.set_answers(context.answers());
    }

    /// Memory of its process. `ESRCH` once it has exited.
    pub fn mm(&self) -> Result<Arc<MemoryManager>> {
        self.shared.lock().as_ref().map(|s| s.mm.clone()).ok_or(Errno::ESRCH)
    }

    /// Its file descriptors. `ESRCH` once it has exited.
    pub fn files(&self) -> Result<Arc<FdTable>> {
        self.shared.lock().as_ref().map(|s| s.files.clone()).ok_or(Errno::ESRCH)
    }

    /// Its root, working directory and umask. `ESRCH` once it has exited.
    pub fn fs(&self) -> Result<Arc<FsContext>> {
        self.shared.lock().as_ref().map(|s| s.fs.clone()).ok_or(Errno::ESRCH)
    }

    /// Its credentials.
    pub fn creds(&self) -> Arc<Credentials> {
        self.creds.lock().clone()
    }

    pub(super) fn publish_creds(&self, creds: Arc<Credentials>) {
        *self.creds.lock() = creds;
        self.refresh_answers();
    }

    /// The file behind a descriptor. `EBADF` if there is none.
    pub fn file(&self, fd: i32) -> Result<Arc<File>> {
        self.files()?.get(fd)
    }

    /// Its name (`PR_GET_NAME`), without the NUL bytes at the end.
    pub fn comm(&self) -> Vec<u8> {
        let comm = *self.comm.lock();
        comm.split(|b| *b == 0).next().unwrap_or_default().to_vec()
    }

    /// The name with its padding.
    pub fn comm_bytes(&self) -> [u8; 16] {
        *self.comm.lock()
    }

    /// Sets the name; what is beyond 15 bytes is cut off.
    pub fn set_comm(&self, name: &[u8]) {
        *self.comm.lock() = comm_from(name);
    }

    /// A resource limit of its process.
    pub fn limit(&self, which: Rlimit) -> Limit {
        self.group.limit(which)
    }

    /// Blocked signals.
    pub fn blocked(&self) -> SigSet {
        self.mask.get()
    }

    /// Sends a signal to this thread alone, on the kernel's behalf: permission is not checked.
    pub fn send_signal(self: &Arc<Self>, info: &SigInfo) {
        super::signal::send::to_task(self, info);
    }

    /// Drops pending signals of a set. Called with the process's signals locked.
    pub fn flush_pending(&self, set: SigSet) {
        self.pending.lock().flush(set);
    }

    /// Drops the pending signals of a deleted timer. Called with the process's signals locked.
    pub fn flush_timer(&self, timer: i32) {
        self.pending.lock().flush_timer(timer);
    }

    /// Signals pending for the thread or its process, without a lock: may be a moment old.
    pub fn pending_hint(&self) -> SigSet {
        let own = self.pending_set.load(Ordering::SeqCst);
        SigSet(own | self.group.shared_pending.load(Ordering::SeqCst))
    }

    /// Bits of [`work`] that are set.
    pub fn work(&self) -> u32 {
        self.work.load(Ordering::SeqCst)
    }

    /// Takes bits of [`syscall_work`] away and sets others.
    pub(super) fn change_syscall_work(&self, clear: u32, set: u32) {
        self.syscall_work.fetch_and(!clear, Ordering::SeqCst);
        self.syscall_work.fetch_or(set, Ordering::SeqCst);
        self.refresh_answers();
    }

    /// Sets bits of [`work`] and makes the task look at them.
    pub(super) fn add_work(&self, bits: u32) {
        // Sequentially consistent, and paired with the task's own order: it publishes where it goes
        // and only then looks at the bits.
        self.work.fetch_or(bits, Ordering::SeqCst);
        match self.place.load(Ordering::SeqCst) {
            place::GUEST => {
                let interrupter = self.interrupter.lock().clone();
                if let Some(i) = interrupter {
                    i.interrupt();
                }
            }
            place::ASLEEP | place::STOPPED | place::TRACED => self.parker.unpark(),
            _ => {}
        }
    }

    pub(super) fn clear_work(&self, bits: u32) {
        self.work.fetch_and(!bits, Ordering::SeqCst);
    }

    /// State as `/proc/PID/stat` shows it: `R`, `S`, `T`, `Z` or `X`.
    pub fn state(&self) -> char {
        match self.place.load(Ordering::Relaxed) {
            place::ASLEEP => 'S',
            place::STOPPED => 'T',
            place::TRACED => 't',
            place::DEAD => 'Z',
            _ => 'R',
        }
    }

    /// True once it is gone: it will never run again.
    pub fn has_ended(&self) -> bool {
        self.place.load(Ordering::SeqCst) == place::DEAD
    }

    /// Wait status with which it ended.
    pub fn exit_code(&self) -> i32 {
        self.exit_code.load(Ordering::Relaxed)
    }

    /// CPU time used so far, in nanoseconds: in guest code and in the sentry.
    pub fn cpu_times(&self) -> (u64, u64) {
        let since = self.guest_since.load(Ordering::Relaxed);
        let now_in_guest = match since {
            0 => 0,
            since => self.kernel.time.monotonic().saturating_sub(since),
        };
        let user = self.guest_time.load(Ordering::Relaxed).saturating_add(now_in_guest);
        let system = match self.host_tid.load(Ordering::Relaxed) {
            0 => self.final_system.load(Ordering::Relaxed),
            tid => platform::host::time::thread_cpu_time(tid).unwrap_or(0),
        };
        (user, system)
    }

    /// The calling host thread, which runs this task, is about to end.
    pub(super) fn host_thread_ends(&self) {
        let (_, system) = self.cpu_times();
        self.final_system.store(system, Ordering::Relaxed);
        self.host_tid.store(0, Ordering::Relaxed);
    }
}

/// A task name: at most 15 bytes, padded with NUL.
pub fn comm_from(name: &[u8]) -> [u8; 16] {
    let mut comm = [0; 16];
    for (to, from) in comm.iter_mut().take(15).zip(name.iter().take_while(|b| **b != 0)) {
        *to = *from;
    }
    comm
}

impl Waker for Task {
    fn wake(&self, _events: EventMask) {
        self.woken.store(true, Ordering::SeqCst);
        if self.place.load(Ordering::SeqCst) == place::ASLEEP {
            self.parker.unpark();
        }
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("tid", &self.tid()).finish_non_exhaustive()
    }
}
