//! Mappings, and touching memory that may not be there.
#![expect(unsafe_code, reason = "reads and writes guest addresses, and catches what faults")]

use super::signal::{Saved, code_name, set_action};
use super::{Ret, errno, sc};
use libc::{MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE, c_void};
use std::fmt;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::SeqCst};

/// The page size of every x86-64 Linux.
pub const PAGE: u64 = 4096;

/// mmap(2) with every argument.
pub fn mmap(addr: u64, len: u64, prot: i32, flags: i32, fd: i32, offset: i64) -> Ret {
    sc!(SYS_mmap, addr, len, prot, flags, fd, offset)
}
/// A private anonymous readable and writable mapping of `pages` pages.
pub fn anon(pages: u64) -> u64 {
    mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0).addr()
}
/// A shared anonymous readable and writable mapping of `pages` pages.
pub fn shared(pages: u64) -> u64 {
    mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0).addr()
}
/// munmap(2).
pub fn munmap(addr: u64, len: u64) -> Ret {
    sc!(SYS_munmap, addr, len)
}
/// mprotect(2).
pub fn mprotect(addr: u64, len: u64, prot: i32) -> Ret {
    sc!(SYS_mprotect, addr, len, prot)
}

/// A 32-bit word in a mapping, for futexes and for talking between processes.
pub fn word(addr: u64) -> &'static AtomicU32 {
    // SAFETY: cases pass aligned addresses inside mappings that they keep to the end of the process.
    unsafe { &*(addr as *const AtomicU32) }
}

/// What touching one byte did.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// The byte read, or the byte written.
    Value(u8),
    /// A signal: number, si_code and whether si_addr was the address touched.
    Fault(i32, i32, bool),
}

impl fmt::Display for Touch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Touch::Value(v) => write!(f, "{v}"),
            Touch::Fault(sig, code, here) => {
                let place = if here { "" } else { " elsewhere" };
                write!(f, "{} {}{place}", errno::signal(sig), code_name(sig, code))
            }
        }
    }
}

std::arch::global_asm!(
    ".globl conformance_load, conformance_load_end, conformance_store, conformance_store_end",
    "conformance_load:",
    "movzx eax, byte ptr [rdi]",
    "conformance_load_end: ret",
    "conformance_store:",
    "mov byte ptr [rdi], sil",
    "conformance_store_end: ret",
);

unsafe extern "C" {
    fn conformance_load(addr: u64) -> u32;
    fn conformance_load_end();
    fn conformance_store(addr: u64, value: u8);
    fn conformance_store_end();
}

static SIGNO: AtomicI32 = AtomicI32::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static ADDR: AtomicU64 = AtomicU64::new(0);
/// The address being called, while [`call`] runs.
static CALLED: AtomicU64 = AtomicU64::new(0);

/// Records a fault of one of the probing instructions and resumes after it.
extern "C" fn on_fault(sig: i32, info: *mut libc::siginfo_t, ctx: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo and ucontext to an SA_SIGINFO handler.
    let (info, gregs) =
        unsafe { (&*info, &mut (*ctx.cast::<libc::ucontext_t>()).uc_mcontext.gregs) };
    let rip = gregs[libc::REG_RIP as usize] as u64;
    let (load, store) =
        (conformance_load as *const () as u64, conformance_store as *const () as u64);
    if rip == load {
        gregs[libc::REG_RIP as usize] = conformance_load_end as *const () as i64;
    } else if rip == store {
        gregs[libc::REG_RIP as usize] = conformance_store_end as *const () as i64;
    } else if rip == CALLED.load(SeqCst) {
        let rsp = gregs[libc::REG_RSP as usize];
        // SAFETY: the called instruction faulted at once, so the return address is on top.
        gregs[libc::REG_RIP as usize] = unsafe { *(rsp as *const i64) };
        gregs[libc::REG_RSP as usize] = rsp + 8;
    } else {
        // SAFETY: ends this process only; a fault anywhere else is a bug of the case.
        unsafe { libc::_exit(117) }
    }
    SIGNO.store(sig, SeqCst);
    CODE.store(info.si_code, SeqCst);
    // SAFETY: memory faults fill si_addr.
    ADDR.store(unsafe { info.si_addr() } as u64, SeqCst);
}

fn guarded(addr: u64, touch: impl FnOnce() -> u8) -> Touch {
    SIGNO.store(0, SeqCst);
    let saved: Vec<Saved> = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL]
        .into_iter()
        .map(|sig| set_action(sig, on_fault as *const () as usize, libc::SA_SIGINFO, 0))
        .collect();
    let value = touch();
    for s in saved {
        s.restore();
    }
    match SIGNO.load(SeqCst) {
        0 => Touch::Value(value),
        sig => Touch::Fault(sig, CODE.load(SeqCst), ADDR.load(SeqCst) == addr),
    }
}

/// Reads one byte at any address.
pub fn peek(addr: u64) -> Touch {
    // SAFETY: a fault of the load is caught by `on_fault`; the byte belongs to a case's mapping.
    guarded(addr, || unsafe { conformance_load(addr) as u8 })
}

/// Writes one byte at any address of a case's own mapping.
pub fn poke(addr: u64, value: u8) -> Touch {
    guarded(addr, || {
        // SAFETY: a fault is caught by `on_fault`; cases write to their own mappings only.
        unsafe { conformance_store(addr, value) };
        value
    })
}

/// Calls the code at an address; it must be a bare function that changes nothing but `eax`.
pub fn call(addr: u64) -> Touch {
    CALLED.store(addr, SeqCst);
    let touch = guarded(addr, || {
        let mut rax = 0u64;
        // SAFETY: the code is a case's own few bytes ending in `ret`, or cannot be fetched, which
        // `on_fault` turns into a return.
        unsafe {
            std::arch::asm!("call {0}", in(reg) addr, inout("rax") rax, clobber_abi("C"));
        }
        rax as u8
    });
    CALLED.store(0, SeqCst);
    touch
}

/// Copies bytes to an address inside a case's own writable mapping.
pub fn fill(addr: u64, data: &[u8]) {
    // SAFETY: the case owns the mapping and nothing else refers to it.
    unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), addr as *mut u8, data.len()) }
}

/// Copies bytes from an address inside a case's own readable mapping.
pub fn copy(addr: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    // SAFETY: the case owns the mapping; `out` is fresh.
    unsafe { std::ptr::copy_nonoverlapping(addr as *const u8, out.as_mut_ptr(), len) }
    out
}
