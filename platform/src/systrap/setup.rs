#![expect(unsafe_code, reason = "runs code in the child before it is a stub")]
//! Setting up what all stubs descend from, a process that is nothing but an agent.
//!
//! Host calls of the child: `rseq`, `mmap`, `mprotect`, `pkey_alloc`, `pkey_free`, `rt_sigaction`, `rt_sigprocmask`, `seccomp`,
//! `munmap`, `exit_group`.

use super::agent::Agent;
use super::{code, filter, gate};
use crate::stub::batch::BatchPages;
use crate::stub::filter::MAP_FLAGS;
use crate::stub::link::Link;
use crate::stub::process::StubProcess;
use crate::stub::space::Shared;
use crate::stub::{keys, layout, zygote};
use crate::{EXECUTE_ONLY_KEY, MemoryFile, PAGE_SIZE, PlatformError, Result, placement};
use nix::errno::Errno;
use nix::libc::sock_fprog;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Signals that a stub handles: those of exceptions, of the filters, and the one that interrupts.
const HANDLED: [i32; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGUSR1,
];

/// The kernel's `struct sigaction`.
#[repr(C)]
struct SignalAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

impl SignalAction {
    /// Reports on the thread's signal stack, with all signals blocked. It never returns to the restorer
    /// that Linux insists on.
    fn handler() -> Self {
        const SA_RESTORER: u64 = 0x0400_0000;
        let flags = (libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART) as u64 | SA_RESTORER;
        let handler = code::signal();
        Self { handler, flags, restorer: handler, mask: u64::MAX }
    }
}

/// What the child works with, in its copy of our memory.
struct Plan {
    handler: SignalAction,
    filter: sock_fprog,
    /// Offsets in the memory file.
    text: u64,
    pages: u64,
}

/// Forks the first stub.
pub fn start(memory: Arc<MemoryFile>) -> Result<(Arc<Shared>, Arc<StubProcess>, Agent)> {
    placement::init();
    let text = memory.allocate(2 * PAGE_SIZE)?;
    text.write(0, code::text())?;
    text.write(PAGE_SIZE, gate::text())?;
    text.write(layout::LISTENER_FILTER, &filter::listener_in_page())?;
    let pages = BatchPages::new(&memory)?;
    let link = Link::new().map_err(host("create the descriptor channel of the stubs"))?;
    let what = "create the control socket of the first stub";
    let (control, agents) = Agent::control().map_err(host(what))?;
    let filter = filter::everyone();
    let plan = Plan {
        handler: SignalAction::handler(),
        filter: sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() },
        text: text.offset(),
        pages: pages.frames().offset(),
    };
    let keep = [memory.fd(), link.stub_end(), agents.as_fd()];
    let function = become_stub as extern "C" fn(u64) -> !;
    let process = zygote::fork(&keep, function as usize as u64, &raw const plan as u64)
        .map_err(host("fork the first stub"))?;
    drop(agents);
    let mut agent = Agent::new(process.pid(), control, pages);
    agent
        .run(&[], 0)
        .map_err(|_| PlatformError::Unsupported(REFUSED.to_owned()))?
        .map_err(host("start the first stub"))?;
    let keys = keys::has_rights() && agent.run(&keys::probe(), 0)?.is_ok();
    let shared = Arc::new(Shared { memory, link, keys, _alive: None, _text: text });
    Ok((shared, Arc::new(process), agent))
}

const REFUSED: &str = "the first stub of the systrap platform could not be set up: this host refuses \
                       seccomp filters, signal handlers or mappings at the top of the address space; \
                       use ptrace";

fn host(what: &'static str) -> impl Fn(Errno) -> PlatformError {
    move |error| PlatformError::host(what, error)
}

// SAFETY: variables of the C library (2.35 or newer) that do not change once it has started.
unsafe extern "C" {
    static __rseq_offset: isize;
    static __rseq_size: u32;
}

/// Runs in the child: maps our pages, sets handlers and filter, and leaves for the stub's code.
extern "C" fn become_stub(plan: u64) -> ! {
    // SAFETY: `zygote::fork` calls this with the address it was given, in a copy of the memory in which
    // the plan lies; there is one thread. Plain system calls on that memory; the last ones unmap
    // all of it, within code that does not need it.
    unsafe {
        let plan = &*(plan as *const Plan);
        if __rseq_size != 0 {
            // The kernel would go on writing to the C library's registration.
            const UNREGISTER: u64 = 1;
            const SIGNATURE: u64 = 0x5305_3053;
            let thread: u64;
            std::arch::asm!("mov {}, fs:0", out(reg) thread, options(nostack, readonly));
            let area = thread.wrapping_add_signed(__rseq_offset as i64);
            let size = u64::from(__rseq_size).max(32);
            require(libc::syscall(libc::SYS_rseq, area, size, UNREGISTER, SIGNATURE) == 0);
        }
        let map = |at: u64, len: u64, prot: i32, offset: u64| {
            let fd = layout::FD_MEMORY;
            libc::syscall(libc::SYS_mmap, at, len, prot, MAP_FLAGS, fd, offset) == at as i64
        };
        require(map(layout::TEXT, PAGE_SIZE, libc::PROT_READ | libc::PROT_EXEC, plan.text));
        let gate = plan.text + PAGE_SIZE;
        require(map(layout::GATE, PAGE_SIZE, libc::PROT_READ | libc::PROT_EXEC, gate));
        require(map(layout::BATCH, 2 * PAGE_SIZE, libc::PROT_READ, plan.pages));
        let call = |[number, first, second, third]: [u64; 4]| {
            libc::syscall(number as i64, first, second, third)
        };
        let mut complete = true;
        for (setup, expected) in keys::SETUP {
            complete &= call(setup) == expected;
        }
        for key in 1..=u64::from(EXECUTE_ONLY_KEY) {
            if !complete {
                call(keys::free(key));
            }
        }
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        require(libc::syscall(libc::SYS_mprotect, layout::SCRATCH, PAGE_SIZE, writable) == 0);
        // The agent takes no signals, and new threads none before they run guest code.
        let (all, null) = (u64::MAX, std::ptr::null::<u8>());
        let set = libc::SIG_SETMASK;
        require(libc::syscall(libc::SYS_rt_sigprocmask, set, &raw const all, null, 8_u64) == 0);
        let (handler, null) = (&raw const plan.handler, std::ptr::null::<u8>());
        for signal in HANDLED {
            require(libc::syscall(libc::SYS_rt_sigaction, signal, handler, null, 8_u64) == 0);
        }
        const SET_MODE_FILTER: u64 = 1;
        const SPEC_ALLOW: u64 = 4;
        let filter = &raw const plan.filter;
        require(libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, SPEC_ALLOW, filter) == 0);
        std::arch::asm!(
            "jmp {entry}",
            entry = in(reg) code::zygote(),
            in("r12") 0_u64,
            in("r13") layout::TEXT,
            in("r14") layout::GATE + PAGE_SIZE,
            in("r15") layout::TASK_END - layout::GATE - PAGE_SIZE,
            options(noreturn)
        )
    }
}

fn require(condition: bool) {
    if !condition {
        // SAFETY: ends the process.
        unsafe { libc::syscall(libc::SYS_exit_group, 1) };
    }
}
