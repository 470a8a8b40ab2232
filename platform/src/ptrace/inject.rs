//! Making a stub execute host system calls.

use super::tracee::{Resume, Stop, Tracee};
use crate::registers::{EFLAGS_ENTRY, USER_CS, USER_SS};
use crate::stub::batch::{Call, ENTRY, call};
use crate::stub::code::Entries;
use crate::stub::layout::BATCH;
use crate::{PlatformError, Registers, Result};
use nix::errno::Errno;

/// Runs the stub's code from `rip` until it traps, and returns the registers at the trap.
///
/// Signals that come meanwhile are dropped; `interrupted` is told of each.
fn run(
    tracee: &Tracee,
    entries: Entries,
    registers: &mut Registers,
    interrupted: &mut bool,
) -> Result<()> {
    registers.cs = USER_CS;
    registers.ss = USER_SS;
    registers.eflags = EFLAGS_ENTRY;
    registers.orig_rax = u64::MAX;
    tracee.set_registers(registers).map_err(gone)?;
    loop {
        tracee.resume(Resume::Native).map_err(gone)?;
        match tracee.wait().map_err(gone)? {
            Stop::Gone => return Err(PlatformError::StubDied),
            Stop::Signal(libc::SIGTRAP) => {
                tracee.registers(registers).map_err(gone)?;
                if entries.trapped(registers.rip) {
                    return Ok(());
                }
            }
            // Our code faulted; going on would fault again.
            Stop::Signal(libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGSYS)
                if tracee.signal_info().map_err(gone)?.code > 0 =>
            {
                return Err(PlatformError::StubDied);
            }
            Stop::Signal(_) => *interrupted = true,
            Stop::Other | Stop::Syscall => {}
        }
    }
}

/// Executes one system call; the inner result is the call's own.
pub fn syscall(
    tracee: &Tracee,
    entries: Entries,
    call: &Call,
    interrupted: &mut bool,
) -> Result<Result<u64, Errno>> {
    at(tracee, entries, entries.syscall(), call, interrupted)
}

/// Executes a `clone(2)` whose child parks; returns its id.
pub fn clone(tracee: &Tracee, flags: u32, interrupted: &mut bool) -> Result<Result<i32, Errno>> {
    let entries = Entries::STUB;
    let call = call(libc::SYS_clone, &[flags.into()]);
    let result = at(tracee, entries, entries.clone_and_park(), &call, interrupted)?;
    Ok(result.map(|tid| tid as i32))
}

fn at(
    tracee: &Tracee,
    entries: Entries,
    rip: u64,
    call: &Call,
    interrupted: &mut bool,
) -> Result<Result<u64, Errno>> {
    let [rax, rdi, rsi, rdx, r10, r8, r9] = *call;
    let mut registers = Registers { rip, rax, rdi, rsi, rdx, r10, r8, r9, ..Registers::default() };
    run(tracee, entries, &mut registers, interrupted)?;
    Ok(result(registers.rax))
}

/// Executes the entries `next..count` of the list that has been written to the stub's list page.
///
/// When one fails, the inner error is its index and errno; those behind it have not been executed.
pub fn batch(
    tracee: &Tracee,
    next: usize,
    count: usize,
    interrupted: &mut bool,
) -> Result<Result<(), (usize, Errno)>> {
    let entries = Entries::STUB;
    let mut registers = Registers {
        rip: entries.batch(),
        rbx: BATCH + ENTRY * next as u64,
        rbp: count.saturating_sub(next) as u64,
        ..Registers::default()
    };
    if registers.rbp == 0 {
        return Ok(Ok(()));
    }
    run(tracee, entries, &mut registers, interrupted)?;
    let failed = count.saturating_sub(registers.rbp as usize);
    Ok(if registers.rbp == 0 {
        Ok(())
    } else {
        result(registers.rax).map(drop).map_err(|e| (failed, e))
    })
}

/// A system call's result register.
fn result(rax: u64) -> Result<u64, Errno> {
    if rax > u64::MAX - 4095 {
        Err(Errno::from_raw((rax as i64).wrapping_neg() as i32))
    } else {
        Ok(rax)
    }
}

/// What the failure of a ptrace request means for the caller: `ESRCH` is a stub that was killed.
pub fn gone(error: Errno) -> PlatformError {
    match error {
        Errno::ESRCH | Errno::ECHILD => PlatformError::StubDied,
        other => PlatformError::host("ptrace of a stub", other),
    }
}
