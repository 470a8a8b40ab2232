//! One guest thread's execution state on the host.

use crate::{AddressSpace, Answers, CallSite, PlatformError, Registers, Result, XState};
use nix::errno::Errno;
use std::sync::Arc;

/// Kind of memory access that faulted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Data read.
    Read,
    /// Data write.
    Write,
    /// Instruction fetch.
    Execute,
}

/// A CPU exception raised by guest code, in the terms of `sigaction(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// `SIGSEGV`, `SIGBUS`, `SIGILL`, `SIGFPE` or `SIGTRAP`.
    pub signal: i32,
    /// `si_code` as the host reported it.
    pub code: i32,
    /// `si_addr`.
    pub addr: u64,
    /// Access that faulted; `None` when the back end cannot tell (ptrace), or for other exceptions.
    pub access: Option<Access>,
    /// x86 trap number (`sigcontext.trapno`), 0 when unknown.
    pub trap: u64,
    /// x86 error code (`sigcontext.err`), 0 when unknown.
    pub error: u64,
}

/// Why guest code stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A system call: number in `orig_rax`, arguments in the usual registers. `rax` holds `-ENOSYS`,
    /// `rip` is behind the instruction, `rcx`/`r11` are as Linux leaves them.
    Syscall,
    /// A CPU exception; registers are those of the faulting instruction.
    Fault(Fault),
    /// Someone called [`Interrupter::interrupt`], or the host interrupted the thread. May be spurious.
    Interrupted,
}

/// Makes a running [`Context::switch`] return soon. Can be used from any thread.
pub trait Interrupter: Send + Sync {
    /// The current, or else the next, `switch` of the context returns [`Event::Interrupted`]
    /// (possibly after another event). Never blocks; does nothing once the context is gone.
    fn interrupt(&self);
}

/// A guest thread's execution state. Lives on the host thread that attached it.
pub trait Context {
    /// Runs guest code with `regs` until something happens, and leaves the new state in `regs`.
    ///
    /// First executes the address space's queued operations. Setting `regs.single_step` runs one
    /// instruction and reports `SIGTRAP`.
    fn switch(&mut self, regs: &mut Registers) -> Result<Event>;

    /// Completes `regs` after [`Event::Syscall`]; does nothing otherwise.
    ///
    /// At a system call only its number and arguments, `rax`, `rip` and `rcx` need be the guest's; the
    /// other registers may be from an earlier time where the back end would have to fetch them. Who is
    /// about to read those (to deliver a signal, to copy a thread) calls this first. Changes need no
    /// such call: whatever differs from what `switch` left is honoured, and the rest is the guest's.
    fn load_registers(&mut self, _regs: &mut Registers) -> Result<()> {
        Ok(())
    }

    /// After [`Event::Syscall`]: the place in guest code, when it has made so many calls that it should be patched
    /// ([`AddressSpace::patch`]). Told once.
    fn hot_site(&mut self) -> Option<CallSite> {
        None
    }

    /// Executes the address space's queued operations now.
    fn flush(&mut self) -> Result<()>;

    /// A new thread in the same address space (`CLONE_VM`). It starts with this context's FP state.
    fn new_thread(&mut self) -> Result<Box<dyn PendingContext>>;

    /// A copy of the address space and the context of its first thread, which starts with this
    /// context's FP state. Queued operations are executed first; the caller has already queued the
    /// write protection that copy-on-write needs, so that both sides have it, and lets nobody queue
    /// operations meanwhile.
    fn fork(&mut self) -> Result<(Arc<dyn AddressSpace>, Box<dyn PendingContext>)>;

    /// The FP/vector state, in XSAVE layout.
    fn xstate(&mut self) -> Result<XState>;

    /// Replaces the FP/vector state. The bytes may come from guest memory: invalid contents are an
    /// error (`EINVAL`), never a host fault.
    fn set_xstate(&mut self, state: &XState) -> Result<()>;

    /// Lets this thread's guest code read the time-stamp counter, as that of a new context may, or makes it fault
    /// (`PR_SET_TSC`, `prctl(2)`). Fails where the platform cannot see to that.
    fn set_tsc(&mut self, _allowed: bool) -> Result<()> {
        Err(PlatformError::host("forbid reading of the time-stamp counter", Errno::EOPNOTSUPP))
    }

    /// Where to write down what calls of this thread return that the platform can answer itself; `None` where it cannot.
    fn answers(&self) -> Option<Arc<dyn Answers>> {
        None
    }

    /// A handle with which other threads interrupt this context.
    fn interrupter(&self) -> Arc<dyn Interrupter>;

    /// The address space this context runs in.
    fn address_space(&self) -> Arc<dyn AddressSpace>;

    /// Tells the placement logic that the host thread is about to sleep in (`true`), or came back
    /// from (`false`), a blocking system call.
    fn set_blocked(&mut self, blocked: bool);
}

/// A context that has been made but not yet bound to the host thread that will run it.
pub trait PendingContext: Send {
    /// Binds the context to the calling host thread.
    fn attach(self: Box<Self>) -> Result<Box<dyn Context>>;
}
