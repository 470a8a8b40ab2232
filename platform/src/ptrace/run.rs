//! Running guest code in a traced thread.

use super::fault;
use super::inject::gone;
use super::tracee::{Resume, Stop, Tracee};
use crate::registers::{USER_CS, sanitize};
use crate::{Event, PlatformError, Registers, Result};
use nix::errno::Errno;

/// Runs guest code until something happens that concerns the guest.
pub fn run(tracee: &Tracee, registers: &mut Registers) -> Result<Event> {
    let how = if registers.single_step { Resume::Step } else { Resume::Guest };
    registers.orig_rax = u64::MAX;
    load(tracee, registers)?;
    loop {
        tracee.resume(how).map_err(gone)?;
        match tracee.wait().map_err(gone)? {
            Stop::Gone => return Err(PlatformError::StubDied),
            Stop::Other => {}
            Stop::Syscall => {
                tracee.registers(registers).map_err(gone)?;
                // The `syscall` instruction saves the program counter in rcx; other entries do
                // not. Guest code that fakes it only fools itself.
                let plausible = registers.cs == USER_CS && registers.rcx == registers.rip;
                if !plausible && !tracee.is_64bit_syscall().map_err(gone)? {
                    return Ok(fault::foreign_syscall(registers));
                }
                return Ok(Event::Syscall);
            }
            Stop::Signal(signal) => {
                if let Some(event) = take_signal(tracee, signal, registers)? {
                    return Ok(event);
                }
            }
        }
    }
}

/// What a signal means to the guest; `None` for nothing.
fn take_signal(tracee: &Tracee, signal: i32, registers: &mut Registers) -> Result<Option<Event>> {
    let synchronous = matches!(
        signal,
        libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP | libc::SIGSYS
    );
    if synchronous {
        let info = tracee.signal_info().map_err(gone)?;
        if info.code > 0 {
            tracee.registers(registers).map_err(gone)?;
            registers.orig_rax = u64::MAX;
            if let Some(event) = fault::vsyscall(tracee, signal, info, registers)? {
                return Ok(Some(event));
            }
            return Ok(Some(Event::Fault(fault::describe(signal, info, registers))));
        }
    }
    if signal == libc::SIGCHLD || signal == libc::SIGCONT {
        return Ok(None);
    }
    tracee.registers(registers).map_err(gone)?;
    Ok(Some(Event::Interrupted))
}

/// Sets the registers; values the host refuses are replaced by what a program starts with.
pub fn load(tracee: &Tracee, registers: &mut Registers) -> Result<()> {
    match tracee.set_registers(registers) {
        Err(Errno::EIO | Errno::EINVAL) => {
            sanitize(registers);
            tracee.set_registers(registers).map_err(gone)
        }
        result => result.map_err(gone),
    }
}
