#![expect(unsafe_code, reason = "ptrace(2)")]
//! One traced thread: `ptrace(2)` with types.
//!
//! Every operation must come from the thread that seized it; the type is not `Send`.
//!
//! Host calls: `ptrace`, `wait4`.

use crate::cpu;
use crate::stub::process::StubProcess;
use crate::{Registers, XState};
use nix::errno::Errno;
use std::marker::PhantomData;
use std::sync::Arc;

/// `PTRACE_SYSEMU`: run until the next system call, which is not executed.
const SYSEMU: u32 = 31;
/// `PTRACE_SYSEMU_SINGLESTEP`: the same, but stop after one instruction at the latest.
const SYSEMU_SINGLESTEP: u32 = 32;
/// `NT_X86_XSTATE`.
const XSTATE: usize = 0x202;
/// `AUDIT_ARCH_X86_64`.
const ARCH_X86_64: u32 = 0xc000_003e;

const OPTIONS: i32 = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD;

/// A traced thread of a stub.
#[derive(Debug)]
pub struct Tracee {
    process: Arc<StubProcess>,
    tid: i32,
    /// ptrace belongs to one tracer thread.
    _not_send: PhantomData<*const ()>,
}

/// How to let a tracee run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Our own code: system calls are executed.
    Native,
    /// Guest code: a system call stops.
    Guest,
    /// One instruction of guest code.
    Step,
}

/// Why a tracee stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// At a system call.
    Syscall,
    /// A signal is about to be delivered.
    Signal(i32),
    /// Something of no interest: `PTRACE_INTERRUPT`, a group stop.
    Other,
    /// It has ended.
    Gone,
}

/// The parts of `siginfo_t` that describe a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalInfo {
    /// `si_code`; positive when the kernel raised it for an instruction.
    pub code: i32,
    /// `si_addr`, which is also `si_call_addr` of a `SIGSYS`.
    pub address: u64,
}

impl Tracee {
    /// Attaches to a thread of a stub that nobody traces, and waits until it has stopped.
    ///
    /// `ESRCH` when it is gone, `EPERM` when tracing is not allowed here.
    pub fn seize(process: &Arc<StubProcess>, tid: i32) -> Result<Self, Errno> {
        let tracee = Self { process: process.clone(), tid, _not_send: PhantomData };
        tracee.request(libc::PTRACE_SEIZE, 0, OPTIONS as usize)?;
        tracee.request(libc::PTRACE_INTERRUPT, 0, 0)?;
        loop {
            match tracee.wait()? {
                Stop::Gone => return Err(Errno::ESRCH),
                Stop::Other => return Ok(tracee),
                // A signal that came first; the stop we asked for is still to come.
                Stop::Signal(_) | Stop::Syscall => tracee.resume(Resume::Native)?,
            }
        }
    }

    /// Lets it go; it continues with the registers it has.
    pub fn detach(&self) -> Result<(), Errno> {
        self.request(libc::PTRACE_DETACH, 0, 0)
    }

    /// Lets it run; a signal it stopped for is dropped.
    pub fn resume(&self, how: Resume) -> Result<(), Errno> {
        let request = match how {
            Resume::Native => libc::PTRACE_CONT,
            Resume::Guest => SYSEMU,
            Resume::Step => SYSEMU_SINGLESTEP,
        };
        self.request(request, 0, 0)
    }

    /// Waits for the next stop.
    pub fn wait(&self) -> Result<Stop, Errno> {
        match self.process.wait(self.tid) {
            Ok(status) => Ok(decode(status)),
            Err(Errno::ECHILD) => Ok(Stop::Gone),
            Err(error) => Err(error),
        }
    }

    /// Host thread id.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// General registers.
    pub fn registers(&self, registers: &mut Registers) -> Result<(), Errno> {
        // The fields of `Registers` begin with `struct user_regs_struct`.
        const { assert!(size_of::<Registers>() >= size_of::<libc::user_regs_struct>()) };
        const { assert!(std::mem::offset_of!(Registers, gs) == 26 * 8) };
        let step = registers.single_step;
        // SAFETY: the kernel fills `user_regs_struct`, which is plain integers at the beginning of
        // the exclusively borrowed, `repr(C)` value.
        let result = unsafe {
            libc::ptrace(libc::PTRACE_GETREGS, self.tid, 0_usize, std::ptr::from_mut(registers))
        };
        registers.single_step = step;
        Errno::result(result).map(drop)
    }

    /// Sets the general registers. `EIO` when the host refuses a value.
    pub fn set_registers(&self, registers: &Registers) -> Result<(), Errno> {
        // SAFETY: the kernel reads `user_regs_struct` from the beginning of the `repr(C)` value.
        let result = unsafe {
            libc::ptrace(libc::PTRACE_SETREGS, self.tid, 0_usize, std::ptr::from_ref(registers))
        };
        Errno::result(result).map(drop)
    }

    /// FP and vector state.
    pub fn xstate(&self) -> Result<XState, Errno> {
        let mut bytes = vec![0; XState::size()].into_boxed_slice();
        let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: the kernel writes at most the vector's length into the buffer.
        Errno::result(unsafe {
            libc::ptrace(libc::PTRACE_GETREGSET, self.tid, XSTATE, &raw mut vector)
        })?;
        Ok(XState { bytes })
    }

    /// Sets the FP and vector state. `EINVAL` when the contents are not valid.
    pub fn set_xstate(&self, state: &XState) -> Result<(), Errno> {
        if state.bytes.len() != XState::size() {
            return Err(Errno::EINVAL);
        }
        // The kernel wants the components that the process may not use, too; they are in their initial state.
        let mut bytes = state.bytes.to_vec();
        bytes.resize(cpu::xsave_layout().full_size, 0);
        let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: the kernel only reads the buffer.
        Errno::result(unsafe {
            libc::ptrace(libc::PTRACE_SETREGSET, self.tid, XSTATE, &raw mut vector)
        })
        .map(drop)
    }

    /// About the signal it stopped for.
    pub fn signal_info(&self) -> Result<SignalInfo, Errno> {
        // SAFETY: all-zero is a valid siginfo, which the kernel then fills.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        Errno::result(unsafe {
            libc::ptrace(libc::PTRACE_GETSIGINFO, self.tid, 0_usize, &raw mut info)
        })?;
        // SAFETY: an integer, whatever the union holds.
        let address = unsafe { info.si_addr() } as u64;
        Ok(SignalInfo { code: info.si_code, address })
    }

    /// Whether the system call it stopped at was made with the 64-bit `syscall` instruction, and not
    /// through a 32-bit entry.
    pub fn is_64bit_syscall(&self) -> Result<bool, Errno> {
        // SAFETY: all-zero is valid; the kernel fills at most the size given.
        let (result, info) = unsafe {
            let mut info: libc::ptrace_syscall_info = std::mem::zeroed();
            let size = size_of::<libc::ptrace_syscall_info>();
            let request = libc::PTRACE_GET_SYSCALL_INFO;
            (libc::ptrace(request, self.tid, size, &raw mut info), info)
        };
        Errno::result(result)?;
        Ok(info.arch == ARCH_X86_64)
    }

    /// A word of its memory; `EIO` when it cannot be read.
    pub fn peek(&self, address: u64) -> Result<u64, Errno> {
        let mut word = 0_u64;
        // The kernel's own interface (unlike the C library's) stores the word.
        // SAFETY: `word` is valid for the result.
        let result = unsafe {
            libc::syscall(
                libc::SYS_ptrace,
                u64::from(libc::PTRACE_PEEKDATA),
                self.tid,
                address,
                &raw mut word,
            )
        };
        Errno::result(result).map(|_| word)
    }

    /// The restartable-sequences registration it inherited: address, length and signature.
    pub fn rseq(&self) -> Result<Option<(u64, u32, u32)>, Errno> {
        const GET_RSEQ_CONFIGURATION: u32 = 0x420f;
        #[derive(Default)]
        #[repr(C)]
        struct Configuration {
            pointer: u64,
            size: u32,
            signature: u32,
            flags: u32,
            pad: u32,
        }
        let mut found = Configuration::default();
        let size = size_of::<Configuration>();
        // SAFETY: the kernel fills at most the size given.
        let result =
            unsafe { libc::ptrace(GET_RSEQ_CONFIGURATION, self.tid, size, &raw mut found) };
        Errno::result(result)?;
        Ok((found.pointer != 0).then_some((found.pointer, found.size, found.signature)))
    }

    fn request(&self, request: u32, address: usize, data: usize) -> Result<(), Errno> {
        // SAFETY: private to this module, whose callers pass only requests that take plain values.
        Errno::result(unsafe { libc::ptrace(request, self.tid, address, data) }).map(drop)
    }
}

fn decode(status: i32) -> Stop {
    if !libc::WIFSTOPPED(status) {
        return Stop::Gone;
    }
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        0 if signal == libc::SIGTRAP | 0x80 => Stop::Syscall,
        0 => Stop::Signal(signal),
        _ => Stop::Other,
    }
}
