//! Dispositions, the mask and the alternate stack (`sigaction(2)`, `sigprocmask(2)`,
//! `sigaltstack(2)`).

use super::{SIGSET_SIZE, read_set};
use crate::errno::Errno;
use crate::kernel::signal::actions::SA_KNOWN;
use crate::kernel::signal::deliver::set_temporary_mask;
use crate::kernel::signal::{AltStack, SigAction, SigSet, Signal, frame, send};
use crate::kernel::{CurrentTask, Wake};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::SigNo;

/// `rt_sigaction(2)`
pub fn rt_sigaction(
    t: &mut CurrentTask,
    signal: SigNo,
    act: UserAddr,
    oldact: UserAddr,
    size: u64,
) -> SysResult {
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    let new: Option<SigAction> = if act.is_null() { None } else { Some(t.mm().read_obj(act)?) };
    let signal = Signal::new(signal.0).ok_or(Errno::EINVAL)?;
    let fixed = SigSet::UNBLOCKABLE.contains(signal);
    if fixed && new.is_some() {
        return Err(Errno::EINVAL);
    }
    let old = {
        let mut signals = t.group().signals();
        let old = signals.handlers.get(signal);
        if let Some(mut new) = new {
            new.flags &= SA_KNOWN;
            new.mask = SigSet(new.mask).without(SigSet::UNBLOCKABLE).0;
            signals.handlers.set(signal, new);
            if new.ignores(signal) {
                // What is pending and ignored now will never be handled.
                signals.shared.flush(signal.set());
                for task in &signals.tasks {
                    task.flush_pending(signal.set());
                }
            }
        }
        old
    };
    if !oldact.is_null() {
        t.mm().write_obj(oldact, &old)?;
    }
    Ok(0)
}

const SIG_BLOCK: i32 = 0;
const SIG_UNBLOCK: i32 = 1;
const SIG_SETMASK: i32 = 2;

/// `rt_sigprocmask(2)`
pub fn rt_sigprocmask(
    t: &mut CurrentTask,
    how: i32,
    set: UserAddr,
    oldset: UserAddr,
    size: u64,
) -> SysResult {
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    let old = t.blocked();
    if !set.is_null() {
        let given = read_set(t, set, size)?;
        let new = match how {
            SIG_BLOCK => old.or(given),
            SIG_UNBLOCK => old.without(given),
            SIG_SETMASK => given,
            _ => return Err(Errno::EINVAL),
        };
        send::set_blocked(t.task(), new);
    }
    if !oldset.is_null() {
        t.mm().write_obj(oldset, &old.0)?;
    }
    Ok(0)
}

/// `rt_sigpending(2)`
pub fn rt_sigpending(t: &mut CurrentTask, set: UserAddr, size: u64) -> SysResult {
    if size > SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    let pending = t.group().signals().pending_for(t.task()).and(t.blocked());
    let bytes = pending.0.to_le_bytes();
    t.mm().write(set, bytes.get(..size as usize).unwrap_or_default())?;
    Ok(0)
}

/// `sigaltstack(2)`
pub fn sigaltstack(t: &mut CurrentTask, new: UserAddr, old: UserAddr) -> SysResult {
    let sp = t.regs.rsp;
    let mut before = t.alt_stack();
    before.flags = before.status(sp) | (before.flags & frame::SS_AUTODISARM);
    if !new.is_null() {
        let stack: AltStack = t.mm().read_obj(new)?;
        t.replace_alt_stack(&stack)?;
    }
    if !old.is_null() {
        t.mm().write_obj(old, &before)?;
    }
    Ok(0)
}

/// `rt_sigreturn(2)`
pub fn rt_sigreturn(t: &mut CurrentTask) -> SysResult {
    match frame::leave(t) {
        Ok(rax) => Ok(rax),
        Err(_) => {
            send::force_segv(t.task(), None);
            Ok(t.regs.rax)
        }
    }
}

/// `pause(2)`
pub fn pause(t: &mut CurrentTask) -> SysResult {
    wait_for_signal(t)
}

/// `rt_sigsuspend(2)`
pub fn rt_sigsuspend(t: &mut CurrentTask, mask: UserAddr, size: u64) -> SysResult {
    let mask = read_set(t, mask, size)?;
    set_temporary_mask(t, mask);
    wait_for_signal(t)
}

fn wait_for_signal(t: &mut CurrentTask) -> SysResult {
    loop {
        if t.block(None) == Wake::Interrupted {
            return Err(Errno::ERESTARTNOHAND);
        }
    }
}

/// `restart_syscall(2)`: goes on with what a stop or an ignored signal interrupted.
pub fn restart_syscall(t: &mut CurrentTask) -> SysResult {
    use crate::time::restart::RestartBlock;
    match t.restart.take() {
        Some(RestartBlock::Sleep { clock, until, remaining }) => {
            crate::syscalls::families::time::sleep_until(t, clock, until, Some(remaining))
        }
        Some(RestartBlock::Futex { addr, value, bitset, private, deadline }) => {
            crate::syscalls::families::futex::wait_until(t, addr, private, value, bitset, deadline)
        }
        Some(RestartBlock::Poll { fds, count, deadline }) => {
            crate::syscalls::families::ipc::poll::restart_poll(t, fds, count, deadline)
        }
        None => Err(Errno::EINTR),
    }
}
