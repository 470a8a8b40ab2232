//! A container that runs, or is about to: what the control protocol acts on.

use super::process::{self, Prepared, Surroundings};
use super::protocol::{MemoryUsage, ProcessInfo, Stats, Status, Target, ThreadInfo};
use super::stdio::{self, Console, Files};
use super::{BootError, ClocksSpec, ContainerSpec, HooksSpec, LimitSpec, ProcessSpec, hooks};
use crate::errno::Errno;
use crate::fs::overlay;
use crate::io::from_host;
use crate::kernel::cgroup::{Cgroup, Killed};
use crate::kernel::namespace::{Namespaces, PidNamespace};
use crate::kernel::signal::{SigInfo, Signal};
use crate::kernel::{Kernel, Task, ThreadGroup};
use crate::socket::inet::net::Net;
use crate::vfs::{Inode, MountNamespace};
use platform::host::{Errno as HostErrno, io};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// How many containers have joined a sandbox.
pub type Joined = Arc<AtomicUsize>;

/// A container of a sandbox. Its processes are those of its control group.
pub struct Container {
    /// Its name.
    pub id: String,
    /// The kernel it runs on.
    pub kernel: Arc<Kernel>,
    inside: Surroundings,
    joined: Joined,
    /// Its root file system.
    root: Arc<dyn Inode>,
    /// What is run before the first process.
    hooks: Option<(HooksSpec, ProcessSpec)>,
    /// It is being started, or has been.
    starting: AtomicBool,
    /// The first process, until it is started.
    waiting: parking_lot::Mutex<Option<Prepared>>,
    /// The kernel's id of the first process; 0 until it is started.
    first: AtomicI32,
    /// Wait status of the first process; only the kernel knows it of the first container.
    ended: parking_lot::Mutex<Option<i32>>,
    changed: parking_lot::Condvar,
    /// The terminal of the first process.
    pub console: Option<Arc<Console>>,
    /// The connection to a gofer of its own, to be closed with it.
    pub(super) gofer: OnceLock<Arc<gofer::Client>>,
}

/// What a container is made from.
pub struct Parts<'a> {
    /// The kernel.
    pub kernel: Arc<Kernel>,
    /// Its namespaces; its mounts are made already.
    pub namespaces: Arc<Namespaces>,
    /// Its mounts.
    pub mounts: Arc<MountNamespace>,
    /// Its control group.
    pub cgroup: Arc<Cgroup>,
    /// Its pid namespace is its own.
    pub owns_pids: bool,
    /// Shared by all containers of the sandbox.
    pub joined: Joined,
    /// Files of the first process.
    pub files: Files,
    /// What it is to be.
    pub spec: &'a ContainerSpec,
}

/// A process of `runsc exec`.
pub struct Started {
    /// The kernel's id of it.
    pub id: i32,
    /// Its id in the container.
    pub pid: i32,
    /// Its terminal.
    pub console: Option<Arc<Console>>,
}

/// Nanoseconds in a microsecond, the unit of CPU limits.
const US: u64 = 1000;
/// Shortest and longest period of a CPU limit, and its shortest quota, in microseconds (`cpu.max`).
const CPU_PERIODS: (u64, u64) = (1_000, 1_000_000);
const CPU_LEAST_QUOTA: u64 = 1_000;

/// Signal that is sent to check whether there is anyone.
const PROBE: i32 = 0;

impl Container {
    /// A container whose mounts are there. Its first process can be started, as far as one can say before.
    pub fn new(parts: Parts<'_>) -> Result<Container, BootError> {
        let Parts { kernel, namespaces, mounts, cgroup, owns_pids, joined, files, spec } = parts;
        let filter = process::filter(&spec.seccomp)?;
        let (files, console) = stdio::open(&kernel, &mounts, files, &spec.process, true)?;
        let root = mounts.root().dentry.inode().clone();
        let inside = Surroundings { mounts, namespaces, cgroup, filter, owns_pids };
        let waiting = process::prepare(&kernel, &inside, files, &spec.process, owns_pids)?;
        let hooks =
            (!spec.hooks.list.is_empty()).then(|| (spec.hooks.clone(), spec.process.clone()));
        Ok(Container {
            id: spec.id.clone(),
            kernel,
            inside,
            joined,
            root,
            hooks,
            starting: AtomicBool::new(false),
            waiting: parking_lot::Mutex::new(Some(waiting)),
            first: AtomicI32::new(0),
            ended: parking_lot::Mutex::new(None),
            changed: parking_lot::Condvar::new(),
            console,
            gofer: OnceLock::new(),
        })
    }

    /// Namespaces of a container: a time namespace of its own if it is to have one. `ERANGE` if its clocks cannot be
    /// shifted so far.
    pub fn namespaces(
        kernel: &Kernel,
        namespaces: Namespaces,
        spec: &ContainerSpec,
    ) -> Result<Arc<Namespaces>, BootError> {
        let Some(ClocksSpec { monotonic, boottime }) = spec.clocks else {
            return Ok(Arc::new(namespaces));
        };
        let time = namespaces.time.copy(namespaces.time.user_ns()).map_err(BootError::Kernel)?;
        time.set(kernel, Some(monotonic), Some(boottime)).map_err(BootError::Clocks)?;
        Ok(Arc::new(Namespaces { time_for_children: time.clone(), time, ..namespaces }))
    }

    /// Its pid namespace.
    pub fn space(&self) -> &Arc<PidNamespace> {
        &self.inside.namespaces.pid_for_children
    }

    /// True for the container that the sandbox was started with, and ends with.
    pub fn is_first(&self) -> bool {
        Arc::ptr_eq(&self.inside.cgroup, &self.kernel.cgroup)
    }

    /// The kernel's id for a process id of its own; 0 if there is none.
    pub fn global(&self, pid: i32) -> i32 {
        self.space().global(pid)
    }

    /// Its pid namespace is another container's.
    pub fn shares_processes(&self) -> bool {
        !self.inside.owns_pids
    }

    /// The kernel's id of its first process; 0 before it is started.
    pub fn first(&self) -> i32 {
        self.first.load(Ordering::SeqCst)
    }

    /// Notes the end of the first process of a container that joined.
    pub fn finish(&self, status: i32) {
        self.ended.lock().get_or_insert(status);
        self.changed.notify_all();
    }

    /// Waits until its first process has ended; its wait status (`wait(2)`).
    pub fn wait(&self) -> i32 {
        if self.is_first() {
            return self.kernel.wait_finished();
        }
        let mut ended = self.ended.lock();
        loop {
            if let Some(status) = *ended {
                return status;
            }
            self.changed.wait(&mut ended);
        }
    }

    /// Ends a container that joined, and waits for that: a limited time, because a process that does not die must
    /// not keep its owner waiting.
    pub fn end(&self, limit: Duration) {
        let not_started = self.waiting.lock().take().is_some();
        if not_started {
            self.finish(Signal::SIGKILL.number());
        }
        // It may have ended by itself.
        let _ = self.signal(Target::All, 0, Signal::SIGKILL.number());
        let end = Instant::now() + limit;
        let mut ended = self.ended.lock();
        while ended.is_none() && !self.changed.wait_until(&mut ended, end).timed_out() {}
        drop(ended);
        if let Some(gofer) = self.gofer.get() {
            gofer.close();
        }
    }

    /// Its living processes.
    fn groups(&self) -> Vec<Arc<ThreadGroup>> {
        let mut groups = self.inside.cgroup.members_below(&self.kernel);
        groups.sort_by_key(|group| group.tgid());
        groups
    }

    /// Lets none of its processes run, or go on; false if it was so already. The first container takes those that
    /// joined with it.
    pub fn pause(&self, paused: bool) -> bool {
        if self.inside.owns_pids {
            return match paused {
                true => self.kernel.pause(self.space()),
                false => self.kernel.resume(self.space()),
            };
        }
        let changes = self.inside.cgroup.freeze_wanted() != paused;
        self.inside.cgroup.set_frozen(&self.kernel, paused);
        changes
    }

    /// Writes what it has changed of its root to a file of the host, as a tar archive. `EINVAL` if its root has no
    /// overlay.
    pub fn archive(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        overlay::archive(&self.root, &mut |mut bytes| {
            while !bytes.is_empty() {
                match io::write(file, bytes, None) {
                    Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                    Err(HostErrno::EINTR) => {}
                    Err(e) => return Err(from_host(e)),
                }
            }
            Ok(())
        })
    }

    fn is_paused(&self) -> bool {
        self.space().is_paused() || self.inside.cgroup.freeze_wanted()
    }

    /// Another container shares the sandbox: what that uses is not this one's alone.
    fn is_alone(&self) -> bool {
        self.is_first() && self.joined.load(Ordering::SeqCst) == 0
    }

    /// Tells `watcher` of the next of its processes that is killed for want of memory.
    pub fn watch_memory<W: Killed + 'static>(&self, watcher: &Arc<W>) {
        let watcher: Weak<W> = Arc::downgrade(watcher);
        self.inside.cgroup.memory.watch_kills(watcher);
    }

    /// Changes its limits. What is `None` stays.
    pub fn limit(&self, limits: &LimitSpec) {
        let group = &self.inside.cgroup;
        if self.is_alone() {
            self.kernel.limits.set(limits.tasks, limits.memory);
        }
        if let Some(tasks) = limits.tasks {
            group.pids.max.store(tasks, Ordering::Relaxed);
        }
        if let Some(memory) = limits.memory {
            group.memory.max.store(memory, Ordering::Relaxed);
            group.watch_memory(&self.kernel);
        }
        if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
            group.set_bandwidth(&self.kernel, |bandwidth| {
                if let Some(period) = limits.cpu_period {
                    let (least, most) = CPU_PERIODS;
                    bandwidth.period = period.clamp(least, most).saturating_mul(US);
                }
                if let Some(quota) = limits.cpu_quota {
                    bandwidth.quota = quota.max(CPU_LEAST_QUOTA).saturating_mul(US);
                }
            });
        }
    }

    /// Says now what would keep the first process from being started later.
    pub fn check(&self) -> Result<(), BootError> {
        self.waiting.lock().as_mut().map_or(Ok(()), Prepared::check)
    }

    /// Starts the first process; its id.
    pub fn start(&self) -> Result<i32, BootError> {
        if self.starting.swap(true, Ordering::SeqCst) {
            return Err(BootError::Started);
        }
        if let Some((hooks, process)) = &self.hooks {
            let output = self.waiting.lock().as_ref().and_then(Prepared::standard_error);
            hooks::run(&self.kernel, &self.inside, process, hooks, output.as_ref())?;
        }
        // It may have been ended meanwhile.
        let waiting = self.waiting.lock().take().ok_or(BootError::Started)?;
        let task = waiting.start(&self.kernel)?;
        if let Some(console) = &self.console {
            console.give_to(&task);
        }
        self.first.store(task.tgid(), Ordering::SeqCst);
        Ok(task.group().ns_tgid())
    }

    /// Starts another process.
    pub fn exec(&self, spec: &ProcessSpec, files: Files) -> Result<Started, BootError> {
        if self.status() == Status::Created {
            return Err(BootError::NotStarted);
        }
        let mounts = &self.inside.mounts;
        let (files, console) = stdio::open(&self.kernel, mounts, files, spec, false)?;
        let prepared = process::prepare(&self.kernel, &self.inside, files, spec, false)?;
        let task = prepared.start(&self.kernel)?;
        if let Some(console) = &console {
            console.give_to(&task);
        }
        Ok(Started { id: task.tgid(), pid: task.group().ns_tgid(), console })
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        if self.waiting.lock().is_some() {
            Status::Created
        } else if self.is_paused() {
            Status::Paused
        } else {
            Status::Running
        }
    }

    /// Sends a signal; `own` is the kernel's id of [`Target::Own`]. From outside the pid namespace: also a first process without a handler dies of it.
    /// `ESRCH` if there is no such process.
    pub fn signal(&self, to: Target, own: i32, number: i32) -> Result<(), Errno> {
        let groups = match to {
            Target::All => self.groups(),
            Target::Own => self.kernel.thread_group(own).into_iter().collect(),
            Target::Group(pgid) => {
                let pgid = self.space().global(pgid);
                self.groups().into_iter().filter(|group| group.pgid() == pgid).collect()
            }
            Target::Process(pid) => {
                self.kernel.thread_group(self.global(pid)).into_iter().collect()
            }
        };
        let living: Vec<_> = groups.into_iter().filter(|g| !g.is_dead()).collect();
        if living.is_empty() {
            return Err(Errno::ESRCH);
        }
        if number == PROBE {
            return Ok(());
        }
        let signal = Signal::new(number).ok_or(Errno::EINVAL)?;
        for group in living {
            group.send_signal(&self.kernel, &SigInfo::kernel(signal));
        }
        Ok(())
    }

    /// Every living process.
    pub fn processes(&self) -> Vec<ProcessInfo> {
        let groups = self.groups();
        groups.iter().filter_map(|group| self.describe(group)).collect()
    }

    fn describe(&self, group: &Arc<ThreadGroup>) -> Option<ProcessInfo> {
        let task = group.any_task()?;
        let (user, system) = group.cpu_times();
        Some(ProcessInfo {
            pid: self.space().local(group.tgid()),
            ppid: self.space().local(group.ppid()),
            uid: task.creds().euid,
            threads: u32::try_from(group.tasks().len()).unwrap_or(u32::MAX),
            age: self.kernel.time.boottime().saturating_sub(group.start_time),
            cpu: user.saturating_add(system),
            state: group.state(),
            command: command_of(&task),
        })
    }

    /// What each of its threads is doing.
    pub fn threads(&self) -> Vec<ThreadInfo> {
        let groups = self.groups();
        let tasks = groups.iter().flat_map(|group| group.tasks());
        tasks.map(|task| self.describe_thread(&task)).collect()
    }

    fn describe_thread(&self, task: &Task) -> ThreadInfo {
        let name = |number| match crate::syscalls::table::lookup(number) {
            Some(entry) => entry.name.to_string(),
            None => format!("syscall_{number}"),
        };
        let call = task.last_call.number().map(name);
        ThreadInfo {
            pid: self.space().local(task.tgid()),
            tid: self.space().local(task.tid()),
            name: String::from_utf8_lossy(&task.comm()).into_owned(),
            state: task.state(),
            call,
        }
    }

    /// What it uses.
    pub fn stats(&self) -> Stats {
        let group = &self.inside.cgroup;
        let groups = self.groups();
        let (user, all) = group.cpu_used(&self.kernel);
        let threads = groups.iter().map(|group| group.tasks().len() as u64).sum();
        let mapped = group.in_memory(&self.kernel).charged();
        let memory = match self.is_alone() {
            true => self.kernel.memory.committed_bytes().unwrap_or(mapped),
            false => mapped,
        };
        let bandwidth = group.cpu.bandwidth();
        Stats {
            user,
            system: all.saturating_sub(user),
            memory,
            processes: groups.len() as u64,
            threads,
            memory_peak: group.memory.peak.load(Ordering::Relaxed).max(memory),
            memory_limit: group.memory.max.load(Ordering::Relaxed),
            oom_kills: group.memory.events.oom_kill.load(Ordering::Relaxed),
            tasks_limit: group.pids.max.load(Ordering::Relaxed),
            periods: bandwidth.periods,
            throttled_periods: bandwidth.throttled_periods,
            throttled_time: bandwidth.throttled_time,
            shared: !self.is_alone(),
        }
    }
}

impl Container {
    /// The network that its processes see at first.
    pub fn net(&self) -> &Arc<Net> {
        self.inside.namespaces.net.net()
    }

    /// What it uses memory for.
    pub fn memory_usage(&self) -> MemoryUsage {
        let (mut anonymous, mut file, mut shared) = (0u64, 0u64, 0u64);
        for group in self.groups() {
            let mm = group.any_task().and_then(|task| task.mm().ok());
            let Some(usage) = mm.map(|mm| mm.usage(0, u64::MAX)) else { continue };
            anonymous = anonymous.saturating_add(usage.anonymous);
            file = file.saturating_add(usage.file);
            shared = shared.saturating_add(usage.shared);
        }
        let alone = self.is_alone();
        let mapped = anonymous.saturating_add(shared);
        let total = self.stats().memory;
        let unmapped = if alone { total.saturating_sub(mapped) } else { 0 };
        MemoryUsage { anonymous, file, shared, unmapped, total }
    }
}

/// Longest command line that is shown, in bytes.
const COMMAND_MAX: usize = 4096;

/// The command line, or the name in brackets if the process has none.
fn command_of(task: &Task) -> String {
    let mut bytes = Vec::new();
    if let Ok(mm) = task.mm() {
        let args = mm.exec_info().args.clone();
        let len = usize::try_from(args.end.saturating_sub(args.start)).unwrap_or(0);
        bytes = vec![0; len.min(COMMAND_MAX)];
        // The program may have unmapped it.
        if mm.read(crate::mm::UserAddr(args.start), &mut bytes).is_err() {
            bytes.clear();
        }
    }
    let words: Vec<_> = bytes.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
    let line = words.join(" ").trim_end().to_string();
    if line.is_empty() { format!("[{}]", String::from_utf8_lossy(&task.comm())) } else { line }
}
