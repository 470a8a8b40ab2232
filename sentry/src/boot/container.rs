//! A container that runs, or is about to: what the control protocol acts on.

use super::process::{self, Prepared};
use super::protocol::{MemoryUsage, ProcessInfo, Stats, Status, Target, ThreadInfo};
use super::stdio::{self, Console, Files};
use super::{BootError, ProcessSpec};
use crate::errno::Errno;
use crate::kernel::namespace::{Namespaces, PidNamespace};
use crate::kernel::signal::{SigInfo, Signal};
use crate::kernel::{Kernel, Task, ThreadGroup};
use crate::socket::inet::net::Net;
use crate::vfs::MountNamespace;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Pid namespaces of the containers that joined a sandbox: what is in them is not its first container's.
pub type Joined = Arc<parking_lot::Mutex<Vec<Arc<PidNamespace>>>>;

/// A container of a sandbox. Its processes are those of a pid namespace: the first container's is the root, in
/// which those of the others can be seen.
pub struct Container {
    /// Its name.
    pub id: String,
    /// The kernel it runs on.
    pub kernel: Arc<Kernel>,
    namespaces: Arc<Namespaces>,
    mounts: Arc<MountNamespace>,
    joined: Joined,
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
    /// Its name.
    pub id: &'a str,
    /// The kernel.
    pub kernel: Arc<Kernel>,
    /// Its namespaces; its mounts are made already.
    pub namespaces: Arc<Namespaces>,
    /// Its mounts.
    pub mounts: Arc<MountNamespace>,
    /// Shared by all containers of the sandbox.
    pub joined: Joined,
    /// Files of the first process.
    pub files: Files,
    /// The first process.
    pub process: &'a ProcessSpec,
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

/// Signal that is sent to check whether there is anyone.
const PROBE: i32 = 0;

impl Container {
    /// A container whose mounts are there. Its first process can be started, as far as one can say before.
    pub fn new(parts: Parts<'_>) -> Result<Container, BootError> {
        let Parts { id, kernel, namespaces, mounts, joined, files, process } = parts;
        let (files, console) = stdio::open(&kernel, &mounts, files, process, true)?;
        let waiting = process::prepare(&kernel, &mounts, &namespaces, files, process)?;
        Ok(Container {
            id: id.into(),
            kernel,
            namespaces,
            mounts,
            joined,
            waiting: parking_lot::Mutex::new(Some(waiting)),
            first: AtomicI32::new(0),
            ended: parking_lot::Mutex::new(None),
            changed: parking_lot::Condvar::new(),
            console,
            gofer: OnceLock::new(),
        })
    }

    /// Its pid namespace.
    pub fn space(&self) -> &Arc<PidNamespace> {
        &self.namespaces.pid_for_children
    }

    /// True for the container that the sandbox was started with, and ends with.
    pub fn is_first(&self) -> bool {
        self.space().is_root()
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

    /// Its processes, zombies included.
    fn groups(&self) -> Vec<Arc<ThreadGroup>> {
        let mut groups = self.kernel.thread_groups();
        if self.is_first() {
            let others = self.joined.lock();
            groups.retain(|group| !others.iter().any(|space| space.contains(group.pid_ns())));
        } else {
            groups.retain(|group| self.space().contains(group.pid_ns()));
        }
        groups
    }

    /// Says now what would keep the first process from being started later.
    pub fn check(&self) -> Result<(), BootError> {
        self.waiting.lock().as_mut().map_or(Ok(()), Prepared::check)
    }

    /// Starts the first process; its id.
    pub fn start(&self) -> Result<i32, BootError> {
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
        let (files, console) = stdio::open(&self.kernel, &self.mounts, files, spec, false)?;
        let prepared = process::prepare(&self.kernel, &self.mounts, &self.namespaces, files, spec)?;
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
        } else if self.space().is_paused() {
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
                self.kernel.thread_group(self.space().global(pid)).into_iter().collect()
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
        let call = match task.syscall.load(Ordering::Relaxed) {
            u64::MAX => None,
            number => Some(match crate::syscalls::table::lookup(number) {
                Some(entry) => entry.name.to_string(),
                None => format!("syscall_{number}"),
            }),
        };
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
        let groups = self.groups();
        let times = groups.iter().map(|group| {
            let (user, system) = group.cpu_times();
            let children = group.children_rusage();
            (user.saturating_add(children.user), system.saturating_add(children.system))
        });
        let (user, system) = times.fold((0u64, 0u64), |(u, s), (user, system)| {
            (u.saturating_add(user), s.saturating_add(system))
        });
        let living = groups.iter().filter(|group| !group.is_dead()).count();
        let threads = groups.iter().map(|group| group.tasks().len() as u64).sum();
        let memory = match self.is_first() && self.joined.lock().is_empty() {
            true => self.kernel.memory.committed_bytes().unwrap_or(0),
            false => groups.iter().map(memory_of).sum(),
        };
        Stats { user, system, memory, processes: living as u64, threads }
    }
}

impl Container {
    /// The network that its processes see at first.
    pub fn net(&self) -> &Arc<Net> {
        self.namespaces.net.net()
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
        let alone = self.is_first() && self.joined.lock().is_empty();
        let mapped = anonymous.saturating_add(shared);
        let total = self.stats().memory;
        let unmapped = if alone { total.saturating_sub(mapped) } else { 0 };
        MemoryUsage { anonymous, file, shared, unmapped, total }
    }
}

/// Memory of a process, in bytes; what it shares with another one counts for both.
fn memory_of(group: &Arc<ThreadGroup>) -> u64 {
    let mm = group.any_task().and_then(|task| task.mm().ok());
    mm.map_or(0, |mm| mm.usage(0, u64::MAX).total())
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
