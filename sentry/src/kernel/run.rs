//! The loop that drives a guest thread, on its own host thread.

use super::ptrace;
use super::seccomp::{self, Verdict};
use super::signal::deliver::{self, Next};
use super::signal::frame::{EFLAGS_TF, TrapInfo};
use super::signal::send::{self, begin_exit, killed_status};
use super::signal::{SigInfo, Signal};
use super::task::{place, syscall_work};
use super::{CurrentTask, calls, exit, pkeys};
use crate::errno::Errno;
use crate::mm::{FaultState, with_rights};
use crate::syscalls::dispatch;
use platform::{Event, Fault, PlatformError};
use std::sync::atomic::Ordering;

/// Number of `restart_syscall(2)`.
const RESTART_SYSCALL: u64 = 219;
/// `si_code` of a `SIGTRAP` behind a system call that was a single step.
const TRAP_BRKPT: i32 = 1;
/// Length of the instruction `syscall`, in bytes.
pub(super) const SYSCALL_LEN: u64 = 2;

/// Runs the guest thread until it ends.
pub(super) fn run(mut t: CurrentTask) {
    let mut faults = FaultState::default();
    let mut restart = None;
    loop {
        if t.task().work() != 0 || restart.is_some() {
            match deliver::run(&mut t, restart.take()) {
                Next::Guest => {}
                Next::Restart => {
                    restart = syscall(&mut t);
                    continue;
                }
                Next::RestartBlock => {
                    restart = restart_block(&mut t);
                    continue;
                }
                Next::Die => break,
            }
        }
        // Publish first, then look: whoever gives us work does it the other way round.
        t.task().place.store(place::GUEST, Ordering::SeqCst);
        if t.task().work() != 0 {
            t.task().place.store(place::KERNEL, Ordering::SeqCst);
            continue;
        }
        let entered = t.kernel().time.monotonic();
        t.task().guest_since.store(entered, Ordering::Relaxed);
        let event = t.context.switch(&mut t.regs);
        t.task().place.store(place::KERNEL, Ordering::Release);
        let ran = t.kernel().time.monotonic().saturating_sub(entered);
        t.task().guest_since.store(0, Ordering::Relaxed);
        t.task().guest_time.fetch_add(ran, Ordering::Relaxed);
        match event {
            Ok(Event::Syscall) => {
                if let Some(site) = t.context.hot_site() {
                    t.mm().patch(site);
                }
                restart = syscall(&mut t);
                if t.regs.single_step {
                    let info = SigInfo::fault(Signal::SIGTRAP, TRAP_BRKPT, t.regs.rip);
                    send::force(t.task(), &info);
                }
            }
            Ok(Event::Fault(fault)) => on_fault(&mut t, &fault, &mut faults),
            Ok(Event::Interrupted) if is_at_call(&t) => {
                t.regs.orig_rax = t.regs.rax;
                t.regs.rax = Errno::ENOSYS.as_return();
                t.regs.rip = t.regs.rip.wrapping_add(SYSCALL_LEN);
                (t.regs.rcx, t.regs.r11) = (t.regs.rip, t.regs.eflags);
                restart = syscall(&mut t);
            }
            Ok(Event::Interrupted) => {}
            Err(PlatformError::StubDied) => stub_died(&t),
            Err(e) => {
                tracing::error!(pid = t.tgid(), "run guest code: {e}; the process is killed");
                stub_died(&t);
            }
        }
    }
    exit::exit(t);
}

/// Whether guest code was interrupted just before a system call, which then counts as begun: on its way to the sentry
/// a call can be taken back, and a signal that comes then would find a thread that is about to sleep, not one that does.
fn is_at_call(t: &CurrentTask) -> bool {
    let stepped = t.regs.single_step || t.regs.eflags & EFLAGS_TF != 0;
    !stepped && t.mm().is_syscall(t.regs.rip)
}

/// Makes the system call in the registers. Returns the restart code if it was interrupted.
fn syscall(t: &mut CurrentTask) -> Option<Errno> {
    match t.task().syscall_work.load(Ordering::Relaxed) {
        0 => make_call(t),
        // Only the low half of rax counts: with bits above, the table of allowed calls has nothing.
        syscall_work::SECCOMP if t.task().seccomp.always_allows(t.regs.orig_rax) => make_call(t),
        _ => watched_syscall(t),
    }
}

/// As [`syscall`], for a task with filters or a tracer.
fn watched_syscall(t: &mut CurrentTask) -> Option<Errno> {
    t.regs.rax = Errno::ENOSYS.as_return();
    let skip = ptrace::syscall_entry(t);
    let nr = t.regs.orig_rax;
    let restart = match skip {
        true => None,
        // The tracer has taken the call out, and left its result.
        false if (nr as i32) < 0 => None,
        false => match seccomp::enter(t) {
            Verdict::Allow => make_call(t),
            Verdict::Skip => None,
            Verdict::Restart(e) => Some(e),
        },
    };
    if let Some(e) = restart {
        t.regs.rax = e.as_return();
    }
    if t.regs.orig_rax == u64::MAX {
        // A new program has registers of its own.
        t.regs.orig_rax = nr;
    }
    ptrace::syscall_exit(t);
    restart
}

fn make_call(t: &mut CurrentTask) -> Option<Errno> {
    // Linux looks at the low half of rax only.
    let nr = i64::from(t.regs.orig_rax as i32) as u64;
    let args = t.regs.syscall_args();
    t.task().last_call.begin(nr, &t.regs);
    calls::begin();
    let asks_guests = t.kernel().asks_guests.load(Ordering::Relaxed);
    if asks_guests {
        // The call may wait for another guest thread, which needs what this one holds.
        t.context.set_blocked(true);
    }
    let result = match pkeys::rights(t, nr, args) {
        None => dispatch::call(t, nr, args),
        Some(pkru) => {
            let keys = t.mm().keys().clone();
            with_rights(&keys, pkru, || dispatch::call(t, nr, args))
        }
    };
    if asks_guests {
        t.context.set_blocked(false);
    }
    t.task().last_call.end();
    t.send_async_signals();
    finish(t, result)
}

fn restart_block(t: &mut CurrentTask) -> Option<Errno> {
    if t.task().syscall_work.load(Ordering::Relaxed) != 0 {
        // Tracers and filters see another call.
        t.regs.orig_rax = RESTART_SYSCALL;
        return watched_syscall(t);
    }
    let result = crate::syscalls::families::signal::restart_syscall(t);
    finish(t, result)
}

fn finish(t: &mut CurrentTask, result: Result<u64, Errno>) -> Option<Errno> {
    match result {
        Ok(value) => t.regs.rax = value,
        Err(e) if e.is_restart() => return Some(e),
        Err(e) => t.regs.rax = e.as_return(),
    }
    None
}

fn on_fault(t: &mut CurrentTask, fault: &Fault, state: &mut FaultState) {
    t.task().faults.fetch_add(1, Ordering::Relaxed);
    let Err(signal) = t.mm().handle_fault(fault, state) else { return };
    let signo = Signal::new(signal.signo).unwrap_or(Signal::SIGSEGV);
    t.trap = TrapInfo { trap: fault.trap, error: fault.error, cr2: fault.addr };
    let info = match signal.key {
        0 => SigInfo::fault(signo, signal.code, signal.addr),
        key => SigInfo::key_fault(signo, signal.code, signal.addr, key),
    };
    send::force(t.task(), &info);
}

/// The process behind the guest's memory is gone: the guest process ends as by `SIGKILL`.
fn stub_died(t: &CurrentTask) {
    begin_exit(&mut t.group().signals(), killed_status(Signal::SIGKILL, false));
}
