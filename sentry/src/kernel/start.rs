//! The first process of a container, and processes started from outside (`runsc exec`).

use super::cgroup::Cgroup;
use super::clone::{FirstTask, Start, first_task};
use super::credentials;
use super::exec::exec_file;
use super::mempolicy::MemPolicy;
use super::namespace::Namespaces;
use super::sched::Sched;
use super::seccomp::action;
use super::seccomp::filter::Filter;
use super::task::Shared;
use super::{Credentials, Kernel, Limits, Rlimit, Task};
use crate::errno::{Errno, Result};
use crate::loader::{self, LoadRequest};
use crate::vfs::walk::{self, WalkContext, WalkFlags};
use crate::vfs::{FdTable, File, FsContext};
use platform::Registers;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A process to start.
#[derive(Clone)]
pub struct ProcessStart {
    /// The program, an absolute path or one relative to the working directory of `fs`.
    pub program: Vec<u8>,
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
    /// Credentials, before the program's set-id bits.
    pub creds: Credentials,
    /// Descriptors.
    pub files: Arc<FdTable>,
    /// Root, working directory and umask.
    pub fs: Arc<FsContext>,
    /// Resource limits.
    pub limits: Limits,
    /// Its namespaces.
    pub namespaces: Arc<Namespaces>,
    /// Its control group.
    pub cgroup: Arc<Cgroup>,
    /// How it is scheduled.
    pub sched: Sched,
    /// `personality(2)`
    pub personality: u32,
    /// `set_mempolicy(2)`
    pub mempolicy: MemPolicy,
    /// It is the first process of its pid namespace, with the number 1. Others leave that number to it.
    pub init: bool,
    /// The filter of its system calls, of which `execve(2)` of the program is the first.
    pub filter: Option<Arc<Filter>>,
}

/// Number of `execve(2)`.
const EXECVE: i32 = 59;

impl ProcessStart {
    /// Whether its filter lets it execute its program. The error is the filter's, or `EPERM` where the call would
    /// have ended the process.
    fn may_execute(&self) -> Result<()> {
        let value = self.filter.as_ref().map_or(action::ALLOW, |f| f.verdict(EXECVE, [0; 6]));
        match value & action::MASK {
            action::ALLOW | action::LOG => Ok(()),
            action::ERRNO => Err(Errno::from_raw((value & !action::MASK) as i32)),
            action::TRACE => Err(Errno::ENOSYS),
            _ => Err(Errno::EPERM),
        }
    }
}

/// Opens a program as the process itself would (`open_exec`).
fn open_program(start: &ProcessStart, path: &[u8]) -> Result<Arc<File>> {
    let ctx = WalkContext::with_creds(&start.fs, Arc::new(start.creds.clone()));
    let from = if path.first() == Some(&b'/') { ctx.root.clone() } else { ctx.cwd.clone() };
    let _ = walk::AT_FDCWD;
    crate::vfs::open::open_exec_at(&ctx, from, path, WalkFlags::FOLLOW)
}

/// Whether a program could be executed, without executing it. Errors are those of `execve(2)`.
pub fn check_program(start: &ProcessStart) -> Result<()> {
    start.may_execute()?;
    open_program(start, &start.program).map(drop)
}

/// Starts a process without a parent in the sandbox: process 1, or one of the
/// [`Outsiders`](super::outside::Outsiders). Errors are those of `execve(2)`; `ENOMEM` if its pid namespace has
/// lost its first process.
pub fn start_process(kernel: &Arc<Kernel>, start: ProcessStart) -> Result<Arc<Task>> {
    start.may_execute()?;
    let file = open_program(&start, &start.program)?;
    let limit = |which| start.limits.get(which).soft;
    let limits = crate::mm::Limits::new(
        limit(Rlimit::As),
        limit(Rlimit::Data),
        limit(Rlimit::Stack),
        limit(Rlimit::Memlock),
    );
    let loaded = loader::load(LoadRequest {
        platform: &*kernel.platform,
        memory: &kernel.memory,
        vdso: &kernel.vdso,
        shifts: start.namespaces.time.enter(kernel)?,
        file,
        filename: start.program.clone(),
        inaccessible: false,
        argv: start.argv.clone(),
        envp: start.envp.clone(),
        limits,
        randomize: true,
        open: &|path| open_program(&start, path),
        credentials: &|file| {
            let file = exec_file(kernel.config.setuid_exec, file)?;
            let (creds, secure) = credentials::for_exec(&start.creds, &file);
            Ok((Arc::new(creds), secure))
        },
    })?;
    if let Some(copy) = kernel.platform.descriptors() {
        start.files.set_copy(copy);
    }
    let shared = Shared { mm: loaded.mm, files: start.files, fs: start.fs };
    let comm = start.program.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let (creds, limits) = (loaded.credentials, start.limits);
    let new = FirstTask {
        namespaces: start.namespaces,
        shared: shared.clone(),
        creds,
        limits,
        sched: start.sched,
        cgroup: start.cgroup,
        init: start.init,
    };
    let task = first_task(kernel, new, comm)?;
    task.personality.store(start.personality, Ordering::Relaxed);
    task.mempolicy.store(start.mempolicy.raw(), Ordering::Relaxed);
    if let Some(filter) = start.filter {
        task.restrict(filter);
    }
    Start {
        task: task.clone(),
        shared,
        pending: loaded.pending,
        regs: Registers::at_entry(loaded.entry, loaded.stack_pointer),
        set_tid: None,
        alt_stack: Default::default(),
        no_tsc: false,
        vfork: None,
    }
    .spawn()?;
    Ok(task)
}
