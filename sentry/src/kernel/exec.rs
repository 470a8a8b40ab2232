//! Executing programs (`execve(2)`).

use super::credentials::{self, ExecFile};
use super::signal::{AltStack, Signal};
use super::task::place;
use super::{CurrentTask, exit};
use crate::errno::{Errno, Result};
use crate::loader::{self, LoadRequest, Loaded};
use crate::vfs::File;
use platform::Registers;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// `ADDR_NO_RANDOMIZE`.
pub const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;
/// Bits of the personality that a privileged program does not inherit (`PER_CLEAR_ON_SETID`).
const PER_CLEAR_ON_SETID: u32 = 0x0400_0000 | 0x0010_0000 | 0x0020_0000 | ADDR_NO_RANDOMIZE;

/// A program to execute.
pub struct Program {
    /// The file, opened for execution.
    pub file: Arc<File>,
    /// Its name: the path given, or `/dev/fd/N`.
    pub filename: Vec<u8>,
    /// The program will not be able to open `filename`.
    pub inaccessible: bool,
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
}

/// What a file's set-id bits mean for whoever executes it.
pub(super) fn exec_file(t_setuid: bool, file: &File) -> Result<ExecFile> {
    let attr = file.attr()?;
    let nosuid = file
        .path()
        .is_some_and(|p| p.mount.flags().contains(crate::vfs::mount::MountFlags::NOSUID));
    let honoured = t_setuid && !nosuid;
    Ok(ExecFile {
        uid: (honoured && attr.mode & 0o4000 != 0).then_some(attr.uid),
        // Without group execution the bit means mandatory locking.
        gid: (honoured && attr.mode & 0o2010 == 0o2010).then_some(attr.gid),
    })
}

/// Replaces the calling process's program. On success the registers are those of the new program. Errors
/// leave the caller as it was, unless it dies.
pub fn execve(t: &mut CurrentTask, program: Program) -> Result<u64> {
    let kernel = t.kernel().clone();
    let personality = t.personality.load(Ordering::Relaxed);
    let filename = program.filename.clone();
    let loaded = {
        let this: &CurrentTask = t;
        let limits = t.mm().limits().clone();
        loader::load(LoadRequest {
            platform: &*kernel.platform,
            memory: &kernel.memory,
            vdso: &kernel.vdso,
            shifts: this.namespaces().time_for_children.enter(&kernel)?,
            file: program.file,
            filename: program.filename,
            inaccessible: program.inaccessible,
            argv: program.argv,
            envp: program.envp,
            limits,
            randomize: personality & ADDR_NO_RANDOMIZE == 0,
            open: &|path| crate::vfs::open::open_exec(this, crate::vfs::walk::AT_FDCWD, path, 0),
            credentials: &|file| {
                let file = exec_file(kernel.config.setuid_exec, file)?;
                let mut creds = (**this.creds()).clone();
                creds.no_new_privs |= this.no_new_privs.load(Ordering::Relaxed);
                let (creds, secure) = credentials::for_exec(&creds, &file);
                Ok((Arc::new(creds), secure))
            },
        })?
    };
    loaded.mm.inherit_mdwe(t.mm());
    if !exit::kill_other_tasks(t) {
        // Another thread ends the process, or executes a program first: this one dies.
        return Err(Errno::ERESTARTNOINTR);
    }
    let old = t.tid();
    exit::become_leader(t);
    install(t, loaded, &filename)?;
    super::ptrace::exec_stop(t, old);
    Ok(t.regs.rax)
}

/// The point of no return.
fn install(t: &mut CurrentTask, loaded: Loaded, filename: &[u8]) -> Result<()> {
    super::futex::robust::exit(t);
    super::futex::pi::exit(t);
    let no_tsc = t.no_tsc;
    let attached = loaded.pending.attach().and_then(|mut context| {
        if no_tsc {
            context.set_tsc(false)?;
        }
        Ok(context)
    });
    let context = match attached {
        Ok(context) => context,
        Err(e) => {
            tracing::warn!(pid = t.tgid(), "attach to the new program: {e}; the process is killed");
            let killed = super::signal::send::killed_status(Signal::SIGKILL, false);
            exit::begin_group_exit(t, killed);
            return Err(Errno::ENOMEM);
        }
    };
    debug_assert_eq!(t.task().place.load(Ordering::Relaxed), place::KERNEL);
    super::namespace::change::enter_time_for_children(t);
    t.task().runs_in(&loaded.mm, &*context);
    super::accounting::note_before_exec(t);
    let old_context = std::mem::replace(&mut t.context, context);
    let old_mm = t.set_mm(loaded.mm);
    drop(old_context);
    old_mm.end();
    // Before anyone can learn of the new program: from vfork(2), or a descriptor that closes.
    t.group().did_exec.store(true, Ordering::SeqCst);
    if let Some(vfork) = t.vfork.take() {
        vfork.complete();
    }
    // Two references are this task's own; more means that the table is shared.
    if Arc::strong_count(t.files()) > 2 {
        let Ok(own) = t.files().fork() else {
            // As Linux does it so late.
            let killed = super::signal::send::killed_status(Signal::SIGKILL, false);
            exit::begin_group_exit(t, killed);
            return Err(Errno::EMFILE);
        };
        t.set_files(own);
    }
    t.files().close_on_exec();
    {
        let mut signals = t.group().signals();
        let handlers = signals.handlers.for_exec();
        signals.handlers = Arc::new(handlers);
    }
    let privileged = loaded.secure || loaded.credentials.euid != t.creds().euid;
    if privileged {
        t.personality.fetch_and(!PER_CLEAR_ON_SETID, Ordering::Relaxed);
        t.pdeath_signal.store(0, Ordering::Relaxed);
    }
    t.group().dumpable.store(u32::from(!privileged), Ordering::Relaxed);
    t.set_creds((*loaded.credentials).clone());
    crate::time::process_timers::delete_posix(t.kernel(), t.group());
    t.alt_stack = AltStack::default();
    t.restart = None;
    t.clear_child_tid.store(0, Ordering::Relaxed);
    t.robust_list.store(0, Ordering::Relaxed);
    let name = filename.rsplit(|b| *b == b'/').next().unwrap_or_default();
    t.task().set_comm(name);
    t.group().exit_signal.store(Signal::SIGCHLD.number(), Ordering::Relaxed);
    t.regs = Registers::at_entry(loaded.entry, loaded.stack_pointer);
    Ok(())
}
