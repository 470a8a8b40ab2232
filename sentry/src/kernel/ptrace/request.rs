//! What a tracer does with a stopped task.

use super::{Options, Place, Resume, Stopped, attach, user};
use crate::errno::{Errno, Result};
use crate::kernel::signal::info::SIGINFO_SIZE;
use crate::kernel::signal::{SigInfo, SigSet, Signal, send};
use crate::kernel::task::{syscall_work, work};
use crate::kernel::{CurrentTask, Task};
use crate::mm::UserAddr;
use platform::XState;
use platform::registers::LEGACY_SIZE;
use std::sync::Arc;

/// `AUDIT_ARCH_X86_64`.
const ARCH: u32 = 0xc000_003e;
const NT_PRSTATUS: u64 = 1;
const NT_PRFPREG: u64 = 2;
const NT_X86_XSTATE: u64 = 0x202;

/// `PTRACE_*`
#[expect(missing_docs, reason = "the names of the manual page")]
pub mod nr {
    pub const TRACEME: u64 = 0;
    pub const PEEKTEXT: u64 = 1;
    pub const PEEKDATA: u64 = 2;
    pub const PEEKUSER: u64 = 3;
    pub const POKETEXT: u64 = 4;
    pub const POKEDATA: u64 = 5;
    pub const POKEUSER: u64 = 6;
    pub const CONT: u64 = 7;
    pub const KILL: u64 = 8;
    pub const SINGLESTEP: u64 = 9;
    pub const GETREGS: u64 = 12;
    pub const SETREGS: u64 = 13;
    pub const GETFPREGS: u64 = 14;
    pub const SETFPREGS: u64 = 15;
    pub const ATTACH: u64 = 16;
    pub const DETACH: u64 = 17;
    pub const SYSCALL: u64 = 24;
    pub const SYSEMU: u64 = 31;
    pub const SYSEMU_SINGLESTEP: u64 = 32;
    pub const SETOPTIONS: u64 = 0x4200;
    pub const GETEVENTMSG: u64 = 0x4201;
    pub const GETSIGINFO: u64 = 0x4202;
    pub const SETSIGINFO: u64 = 0x4203;
    pub const GETREGSET: u64 = 0x4204;
    pub const SETREGSET: u64 = 0x4205;
    pub const SEIZE: u64 = 0x4206;
    pub const INTERRUPT: u64 = 0x4207;
    pub const LISTEN: u64 = 0x4208;
    pub const PEEKSIGINFO: u64 = 0x4209;
    pub const GETSIGMASK: u64 = 0x420a;
    pub const SETSIGMASK: u64 = 0x420b;
    pub const GET_SYSCALL_INFO: u64 = 0x420e;
}

/// Makes a request about `task`, whose tracer the caller must be: `ESRCH` otherwise, or if it is not
/// stopped.
pub fn request(t: &CurrentTask, task: &Arc<Task>, op: u64, addr: u64, data: u64) -> Result<u64> {
    let mine = task.trace.lock().tracer().is_some_and(|tracer| Arc::ptr_eq(&tracer, t.task()));
    if !mine {
        return Err(Errno::ESRCH);
    }
    match op {
        nr::KILL => {
            send::to_task(task, &SigInfo::kernel(Signal::SIGKILL));
            return Ok(0);
        }
        nr::INTERRUPT => return interrupt(task),
        _ => {}
    }
    with(task, |_| Ok(()))?;
    match op {
        nr::PEEKTEXT | nr::PEEKDATA => {
            let mut word = [0; 8];
            task.mm()?.read(UserAddr(addr), &mut word).map_err(|_| Errno::EIO)?;
            t.mm().write(UserAddr(data), &word)?;
            Ok(0)
        }
        nr::POKETEXT | nr::POKEDATA => {
            let written = task.mm()?.write_forced(UserAddr(addr), &data.to_ne_bytes());
            written.map_err(|_| Errno::EIO)?;
            Ok(0)
        }
        nr::PEEKUSER => {
            let word = peek_user(task, addr)?;
            t.mm().write_obj(UserAddr(data), &word)?;
            Ok(0)
        }
        nr::POKEUSER => poke_user(task, addr, data),
        nr::GETREGS => {
            let words = with(task, |s| Ok(user::words(&s.regs)))?;
            t.mm().write_obj(UserAddr(data), &words)?;
            Ok(0)
        }
        nr::SETREGS => {
            let words: [u64; user::WORDS] = t.mm().read_obj(UserAddr(data))?;
            with(task, |s| user::set_words(&mut s.regs, &words))?;
            Ok(0)
        }
        nr::GETFPREGS => {
            let bytes = with(task, |s| Ok(s.xstate.legacy().to_vec()))?;
            t.mm().write(UserAddr(data), &bytes)?;
            Ok(0)
        }
        nr::SETFPREGS => {
            let mut bytes = vec![0; LEGACY_SIZE];
            t.mm().read(UserAddr(data), &mut bytes)?;
            set_xstate(task, &bytes)?;
            Ok(0)
        }
        nr::GETREGSET | nr::SETREGSET => regset(t, task, op == nr::SETREGSET, addr, data),
        nr::CONT | nr::SYSCALL | nr::SINGLESTEP | nr::SYSEMU | nr::SYSEMU_SINGLESTEP => {
            resume(task, op, data)
        }
        nr::DETACH => {
            let signal = valid_signal(data)?;
            attach::detach(t, task, signal);
            Ok(0)
        }
        nr::SETOPTIONS => {
            let options = options(t, data)?;
            task.trace.lock().options = options;
            Ok(0)
        }
        nr::GETEVENTMSG => {
            let message = task.trace.lock().message;
            t.mm().write_obj(UserAddr(data), &message)?;
            Ok(0)
        }
        nr::GETSIGINFO => {
            let info = with(task, |s| s.info.ok_or(Errno::EINVAL))?;
            t.mm().write(UserAddr(data), &info.to_bytes())?;
            Ok(0)
        }
        nr::SETSIGINFO => {
            let bytes: [u8; SIGINFO_SIZE] = t.mm().read_obj(UserAddr(data))?;
            let number = bytes.first_chunk::<4>().map_or(0, |b| i32::from_le_bytes(*b));
            with(task, |s| {
                let old = s.info.ok_or(Errno::EINVAL)?;
                let signal = Signal::new(number).unwrap_or(old.signal);
                s.info = Some(SigInfo::from_bytes(signal, &bytes));
                Ok(())
            })?;
            Ok(0)
        }
        nr::PEEKSIGINFO => peek_siginfo(t, task, addr, data),
        nr::GETSIGMASK | nr::SETSIGMASK if addr != 8 => Err(Errno::EINVAL),
        nr::GETSIGMASK => {
            let waiting = task.trace.lock().mask;
            let mask = waiting.unwrap_or_else(|| task.blocked());
            t.mm().write_obj(UserAddr(data), &mask.0)?;
            Ok(0)
        }
        nr::SETSIGMASK => {
            let mask = SigSet(t.mm().read_obj(UserAddr(data))?).without(SigSet::UNBLOCKABLE);
            task.trace.lock().mask = Some(mask);
            Ok(0)
        }
        nr::LISTEN => listen(task),
        nr::GET_SYSCALL_INFO => syscall_info(t, task, addr, data),
        _ => Err(Errno::EIO),
    }
}

/// Works on a stopped task. `ESRCH` if it is not, or is on its way.
fn with<T>(task: &Task, f: impl FnOnce(&mut Stopped) -> Result<T>) -> Result<T> {
    let mut trace = task.trace.lock();
    match trace.stopped.as_deref_mut() {
        Some(stopped) if stopped.resume.is_none() && !stopped.listening => f(stopped),
        _ => Err(Errno::ESRCH),
    }
}

fn valid_signal(data: u64) -> Result<i32> {
    i32::try_from(data).ok().filter(|s| (0..=64).contains(s)).ok_or(Errno::EIO)
}

/// Reads options. `EINVAL` for unknown ones, `EPERM` for what takes privileges.
pub fn options(t: &CurrentTask, data: u64) -> Result<Options> {
    let bits = u32::try_from(data).map_err(|_| Errno::EINVAL)?;
    let options = Options::from_bits(bits).ok_or(Errno::EINVAL)?;
    if options.contains(Options::SUSPEND_SECCOMP) {
        let admin = t.creds().has(crate::kernel::credentials::CAP_SYS_ADMIN);
        return Err(if admin { Errno::EINVAL } else { Errno::EPERM });
    }
    Ok(options)
}

fn resume(task: &Arc<Task>, op: u64, data: u64) -> Result<u64> {
    let signal = valid_signal(data)?;
    let trace = matches!(op, nr::SYSCALL);
    let emulate = matches!(op, nr::SYSEMU | nr::SYSEMU_SINGLESTEP);
    let step = matches!(op, nr::SINGLESTEP | nr::SYSEMU_SINGLESTEP);
    let bits = if trace { syscall_work::TRACE } else { 0 }
        | if emulate { syscall_work::EMULATE } else { 0 };
    with(task, |s| {
        let both = syscall_work::TRACE | syscall_work::EMULATE;
        task.change_syscall_work(both, bits);
        s.regs.single_step = step;
        s.resume = Some(Resume { signal });
        Ok(())
    })?;
    task.parker.unpark();
    Ok(0)
}

fn interrupt(task: &Arc<Task>) -> Result<u64> {
    {
        let mut trace = task.trace.lock();
        if !trace.seized {
            return Err(Errno::EIO);
        }
        trace.trap = true;
        // A task that only listens traps again.
        if let Some(stopped) = trace.stopped.as_deref_mut().filter(|s| s.listening) {
            stopped.resume = Some(Resume { signal: 0 });
        }
    }
    task.add_work(work::TRACE_TRAP);
    task.parker.unpark();
    Ok(0)
}

fn listen(task: &Arc<Task>) -> Result<u64> {
    {
        let mut trace = task.trace.lock();
        // Something has happened since the stop: it traps again, to tell.
        let (seized, news) = (trace.seized, trace.trap);
        let stopped = trace.stopped.as_deref_mut();
        let stopped = stopped.filter(|s| s.resume.is_none() && !s.listening).ok_or(Errno::ESRCH)?;
        if !seized || stopped.code >> 8 != super::event::STOP as i32 {
            return Err(Errno::EIO);
        }
        if news {
            stopped.resume = Some(Resume { signal: 0 });
        } else {
            stopped.listening = true;
        }
    }
    task.parker.unpark();
    Ok(0)
}

fn peek_user(task: &Task, addr: u64) -> Result<u64> {
    if !addr.is_multiple_of(8) || addr >= user::USER_SIZE {
        return Err(Errno::EIO);
    }
    let index = (addr / 8) as usize;
    with(task, |s| Ok(user::words(&s.regs).get(index).copied().unwrap_or(0)))
}

fn poke_user(task: &Task, addr: u64, data: u64) -> Result<u64> {
    if !addr.is_multiple_of(8) || addr >= user::USER_SIZE {
        return Err(Errno::EIO);
    }
    let index = (addr / 8) as usize;
    if index >= user::WORDS {
        // Debug registers can only be cleared: there are none.
        let debug = (user::DEBUG_OFFSET..user::USER_SIZE).contains(&addr);
        return if debug && data == 0 { Ok(0) } else { Err(Errno::EIO) };
    }
    with(task, |s| user::set_word(&mut s.regs, index, data))?;
    Ok(0)
}

fn set_xstate(task: &Task, bytes: &[u8]) -> Result<()> {
    with(task, |s| {
        for (to, from) in s.xstate.bytes.iter_mut().zip(bytes) {
            *to = *from;
        }
        s.xstate_changed = true;
        Ok(())
    })
}

fn regset(t: &CurrentTask, task: &Task, set: bool, kind: u64, data: u64) -> Result<u64> {
    let [base, len]: [u64; 2] = t.mm().read_obj(UserAddr(data))?;
    let current = match kind {
        NT_PRSTATUS => {
            let words = with(task, |s| Ok(user::words(&s.regs)))?;
            words.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<u8>>()
        }
        NT_PRFPREG => with(task, |s| Ok(s.xstate.legacy().to_vec()))?,
        NT_X86_XSTATE => with(task, |s| Ok(shown_xstate(&s.xstate)))?,
        _ => return Err(Errno::EINVAL),
    };
    let unit = if kind == NT_PRFPREG { 4 } else { 8 };
    if len % unit != 0 {
        return Err(Errno::EINVAL);
    }
    let len = len.min(current.len() as u64);
    if !set {
        let shown = current.get(..len as usize).unwrap_or_default();
        t.mm().write(UserAddr(base), shown)?;
    } else {
        let mut new = vec![0; len as usize];
        t.mm().read(UserAddr(base), &mut new)?;
        match kind {
            NT_PRSTATUS => {
                let (words, _) = new.as_chunks::<8>();
                let words: Vec<u64> = words.iter().map(|w| u64::from_ne_bytes(*w)).collect();
                with(task, |s| user::set_words(&mut s.regs, &words))?;
            }
            NT_X86_XSTATE if new.len() != current.len() => return Err(Errno::EFAULT),
            _ => set_xstate(task, &new)?,
        }
    }
    t.mm().write_obj(UserAddr(data).offset(8), &len)?;
    Ok(0)
}

/// The XSAVE area with the enabled features where debuggers look for them (`sw_reserved`).
pub(in crate::kernel) fn shown_xstate(state: &XState) -> Vec<u8> {
    const FEATURES_OFFSET: usize = 464;
    let mut bytes = state.bytes.to_vec();
    if let Some(place) = bytes.get_mut(FEATURES_OFFSET..FEATURES_OFFSET + 8) {
        place.copy_from_slice(&XState::features().to_ne_bytes());
    }
    bytes
}

fn peek_siginfo(t: &CurrentTask, task: &Task, addr: u64, data: u64) -> Result<u64> {
    const SHARED: u32 = 1;
    let offset: u64 = t.mm().read_obj(UserAddr(addr))?;
    let [flags, count]: [u32; 2] = t.mm().read_obj(UserAddr(addr).offset(8))?;
    if flags & !SHARED != 0 || (count as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let infos = {
        let signals = task.group().signals();
        if flags & SHARED != 0 { signals.shared.list() } else { task.pending.lock().list() }
    };
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut done = 0;
    for info in infos.iter().skip(start).take(count as usize) {
        let at = UserAddr(data).offset(done * SIGINFO_SIZE as u64);
        match t.mm().write(at, &info.to_bytes()) {
            Ok(()) => done += 1,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// `PTRACE_GET_SYSCALL_INFO`: the size of all there is, whatever `size` has room for.
fn syscall_info(t: &CurrentTask, task: &Task, size: u64, data: u64) -> Result<u64> {
    let (place, regs) = with(task, |s| Ok((s.place, s.regs)))?;
    let op = match place {
        Place::None => 0_u32,
        Place::Entry => 1,
        Place::Exit => 2,
        Place::Seccomp(_) => 3,
    };
    let mut out = op.to_ne_bytes().to_vec();
    out.extend_from_slice(&ARCH.to_ne_bytes());
    let mut put = |word: u64| out.extend_from_slice(&word.to_ne_bytes());
    put(regs.rip);
    put(regs.rsp);
    match place {
        Place::None => {}
        Place::Entry | Place::Seccomp(_) => {
            put(regs.orig_rax);
            regs.syscall_args().into_iter().for_each(&mut put);
        }
        Place::Exit => put(regs.rax),
    }
    match place {
        Place::Exit => out.push(u8::from(regs.rax > (-4096_i64) as u64)),
        Place::Seccomp(value) => {
            out.extend_from_slice(&value.to_ne_bytes());
            out.extend_from_slice(&[0; 4]);
        }
        _ => {}
    }
    let shown = out.len().min(usize::try_from(size).unwrap_or(usize::MAX));
    t.mm().write(UserAddr(data), out.get(..shown).unwrap_or_default())?;
    Ok(out.len() as u64)
}
