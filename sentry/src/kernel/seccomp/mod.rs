//! A guest's own system-call filters (`seccomp(2)`).
//!
//! * [`data`]: what filters see, and which programs may be one. [`filter`]: chains of filters, and how they are installed.
//! * [`notify`]: supervisors that decide on system calls (`seccomp_unotify(2)`).
//! * [`enter`]: what becomes of a system call.

pub mod data;
pub mod filter;
pub mod notify;

use super::CurrentTask;
use super::signal::send::{self, killed_status};
use super::signal::{SigFields, SigInfo, Signal};
use super::trace::watched;
use crate::errno::Errno;
use crate::syscalls::events;
use data::Data;
use filter::Mode;
use std::sync::atomic::Ordering;

/// `AUDIT_ARCH_X86_64`.
const ARCH: u32 = 0xc000_003e;
/// `SYS_SECCOMP`, `si_code` of `SIGSYS`.
const SYS_SECCOMP: i32 = 1;

/// Values that a filter returns: the action in the high half, data for it in the low one.
pub mod action {
    /// The process dies of `SIGSYS`.
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    /// The thread dies of `SIGSYS`.
    pub const KILL_THREAD: u32 = 0;
    /// The thread gets `SIGSYS`.
    pub const TRAP: u32 = 0x0003_0000;
    /// The call fails with the error in the data.
    pub const ERRNO: u32 = 0x0005_0000;
    /// A supervisor decides.
    pub const USER_NOTIF: u32 = 0x7fc0_0000;
    /// A tracer decides.
    pub const TRACE: u32 = 0x7ff0_0000;
    /// Allowed, and logged.
    pub const LOG: u32 = 0x7ffc_0000;
    /// Allowed.
    pub const ALLOW: u32 = 0x7fff_0000;
    /// The part that is the action.
    pub const MASK: u32 = 0xffff_0000;
    /// Every action.
    pub const ALL: [u32; 8] =
        [KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, USER_NOTIF, TRACE, LOG, ALLOW];
}

/// What becomes of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is made.
    Allow,
    /// It is not made; the result is in the registers.
    Skip,
    /// It is not made now, but perhaps again.
    Restart(Errno),
}

fn data_of(t: &CurrentTask) -> Data {
    Data {
        nr: t.regs.orig_rax as i32,
        arch: ARCH,
        instruction_pointer: t.regs.rip,
        args: t.regs.syscall_args(),
    }
}

/// Asks the filters of the calling task about the system call in its registers.
pub fn enter(t: &mut CurrentTask) -> Verdict {
    match t.task().seccomp.mode() {
        Mode::Disabled => Verdict::Allow,
        Mode::Strict => strict(t),
        Mode::Filter => filtered(t, false),
    }
}

/// read, write, exit and `rt_sigreturn`: all else kills the thread.
fn strict(t: &mut CurrentTask) -> Verdict {
    const ALLOWED: [i32; 4] = [0, 1, 60, 15];
    if ALLOWED.contains(&(t.regs.orig_rax as i32)) {
        return Verdict::Allow;
    }
    kill_thread(t, Signal::SIGKILL);
    Verdict::Skip
}

fn filtered(t: &mut CurrentTask, again: bool) -> Verdict {
    let data = data_of(t);
    let Some((value, filter)) = t.task().seccomp.evaluate(&data) else { return Verdict::Allow };
    let low = value & !action::MASK;
    if !again
        && !matches!(value & action::MASK, action::ALLOW | action::LOG)
        && t.kernel().call_logs.watched() & watched::EVENTS != 0
    {
        events::filtered(t, t.regs.orig_rax, value);
    }
    match value & action::MASK {
        action::ALLOW | action::LOG => Verdict::Allow,
        action::ERRNO => {
            let errno = u64::from(low.min(4095));
            t.regs.rax = errno.wrapping_neg();
            Verdict::Skip
        }
        action::TRAP => {
            t.regs.rax = t.regs.orig_rax;
            send::force(t.task(), &signal(&data, low));
            Verdict::Skip
        }
        // Once a tracer has had its say, the call goes its way.
        action::TRACE if again => Verdict::Allow,
        action::TRACE => {
            if !super::ptrace::seccomp_stop(t, low) {
                t.regs.rax = Errno::ENOSYS.as_return();
                return Verdict::Skip;
            }
            if (t.regs.orig_rax as i32) < 0 {
                return Verdict::Skip;
            }
            filtered(t, true)
        }
        action::USER_NOTIF => notify::ask(t, filter.listener(), &data),
        action::KILL_THREAD if t.group().signals().tasks.len() > 1 => {
            kill_thread(t, Signal::SIGSYS);
            Verdict::Skip
        }
        _ => {
            // The call is shown as it was made.
            t.regs.rax = t.regs.orig_rax;
            super::coredump::end(t, &signal(&data, low));
            Verdict::Skip
        }
    }
}

fn signal(data: &Data, errno: u32) -> SigInfo {
    let fields = SigFields::Sys { addr: data.instruction_pointer, nr: data.nr, arch: data.arch };
    SigInfo { signal: Signal::SIGSYS, errno: errno as i32, code: SYS_SECCOMP, fields }
}

/// Ends the calling thread as by a signal.
fn kill_thread(t: &mut CurrentTask, signal: Signal) {
    t.exit_status = killed_status(signal, false);
    t.task().work.fetch_or(super::task::work::KILL, Ordering::SeqCst);
}
