//! A container that runs, or is about to: what the control protocol acts on.

use super::process::{self, Prepared};
use super::protocol::{ProcessInfo, Stats, Status, Target};
use super::stdio::{self, Console, Files};
use super::{BootError, ProcessSpec};
use crate::errno::Errno;
use crate::kernel::signal::{SigInfo, Signal};
use crate::kernel::{Kernel, Task, ThreadGroup};
use crate::vfs::MountNamespace;
use std::sync::Arc;
use std::time::Duration;

/// The container of a sandbox.
pub struct Container {
    /// The kernel it runs on.
    pub kernel: Arc<Kernel>,
    namespace: Arc<MountNamespace>,
    /// The first process, until it is started.
    waiting: parking_lot::Mutex<Option<Prepared>>,
    /// The terminal of the first process.
    pub console: Option<Arc<Console>>,
    reports: Reports,
}

/// Reports of a process's end that somebody waits for.
#[derive(Default)]
struct Reports {
    pending: parking_lot::Mutex<usize>,
    changed: parking_lot::Condvar,
}

/// A report that is to be sent before the sandbox may end.
pub struct Report(Arc<Container>);

impl Drop for Report {
    fn drop(&mut self) {
        *self.0.reports.pending.lock() -= 1;
        self.0.reports.changed.notify_all();
    }
}

/// How long the end of the sandbox waits for its last reports to be sent.
const LAST_REPORTS: Duration = Duration::from_millis(500);

/// A process of `runsc exec`.
pub struct Started {
    /// Its id.
    pub pid: i32,
    /// Its terminal.
    pub console: Option<Arc<Console>>,
}

/// Signal that is sent to check whether there is anyone.
const PROBE: i32 = 0;

impl Container {
    /// A container whose mounts are there. Its first process can be started, as far as one can say before.
    pub fn new(
        kernel: Arc<Kernel>,
        namespace: Arc<MountNamespace>,
        files: Files,
        spec: &ProcessSpec,
    ) -> Result<Container, BootError> {
        let (files, console) = stdio::open(&kernel, &namespace, files, spec, true)?;
        let waiting = process::prepare(&namespace, files, spec)?;
        Ok(Container {
            kernel,
            namespace,
            waiting: parking_lot::Mutex::new(Some(waiting)),
            console,
            reports: Reports::default(),
        })
    }

    /// Announces a report; it counts as sent when the result is dropped.
    pub fn report(self: &Arc<Self>) -> Report {
        *self.reports.pending.lock() += 1;
        Report(self.clone())
    }

    /// Waits until every report of an end has been sent, for a limited time: a process that does not die of
    /// SIGKILL must not keep the sandbox alive.
    pub fn wait_reports(&self) {
        let mut pending = self.reports.pending.lock();
        let end = std::time::Instant::now() + LAST_REPORTS;
        while *pending > 0 && !self.reports.changed.wait_until(&mut pending, end).timed_out() {}
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
        Ok(task.tgid())
    }

    /// Starts another process.
    pub fn exec(&self, spec: &ProcessSpec, files: Files) -> Result<Started, BootError> {
        if self.status() == Status::Created {
            return Err(BootError::NotStarted);
        }
        let (files, console) = stdio::open(&self.kernel, &self.namespace, files, spec, false)?;
        let prepared = process::prepare(&self.namespace, files, spec)?;
        let task = prepared.start(&self.kernel)?;
        if let Some(console) = &console {
            console.give_to(&task);
        }
        Ok(Started { pid: task.tgid(), console })
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        if self.waiting.lock().is_some() {
            Status::Created
        } else if self.kernel.is_paused() {
            Status::Paused
        } else {
            Status::Running
        }
    }

    /// Sends a signal. From outside the pid namespace: also a first process without a handler dies of it.
    /// `ESRCH` if there is no such process.
    pub fn signal(&self, to: Target, own: i32, number: i32) -> Result<(), Errno> {
        let groups = match to {
            Target::All => self.kernel.thread_groups(),
            Target::Own => self.kernel.thread_group(own).into_iter().collect(),
            Target::Process(pid) => self.kernel.thread_group(pid).into_iter().collect(),
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
        let groups = self.kernel.thread_groups();
        groups.iter().filter_map(|group| self.describe(group)).collect()
    }

    fn describe(&self, group: &Arc<ThreadGroup>) -> Option<ProcessInfo> {
        let task = group.any_task()?;
        let (user, system) = group.cpu_times();
        Some(ProcessInfo {
            pid: group.tgid(),
            ppid: group.ppid(),
            uid: task.creds().euid,
            threads: u32::try_from(group.tasks().len()).unwrap_or(u32::MAX),
            age: self.kernel.time.boottime().saturating_sub(group.start_time),
            cpu: user.saturating_add(system),
            state: group.state(),
            command: command_of(&task),
        })
    }

    /// What it uses.
    pub fn stats(&self) -> Stats {
        let groups = self.kernel.thread_groups();
        let times = groups.iter().map(|group| {
            let (user, system) = group.cpu_times();
            let children = group.children_rusage();
            (user.saturating_add(children.user), system.saturating_add(children.system))
        });
        let (user, system) = times.fold((0u64, 0u64), |(u, s), (user, system)| {
            (u.saturating_add(user), s.saturating_add(system))
        });
        let living = groups.iter().filter(|group| !group.is_dead()).count();
        Stats {
            user,
            system,
            memory: self.kernel.memory.committed_bytes().unwrap_or(0),
            processes: living as u64,
            threads: self.kernel.task_count() as u64,
        }
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
