#![expect(unsafe_code, reason = "fault-tolerant memory access is assembly plus a signal handler")]
//! Memory accesses that report a fault instead of crashing.
//!
//! Guest memory can vanish under the sentry: the host may have no page left for a sparse range, or a
//! mapped host file may have been truncated. Every access to it therefore runs in one of the small
//! assembly routines below. A `SIGSEGV` or `SIGBUS` whose program counter lies inside them is turned
//! into an error return; any other one is a bug in the sentry and ends it after a one-line report.
//!
//! Host calls: `rt_sigaction`, `write` (to stderr, only in the fatal report).

use crate::AccessError;
use nix::errno::Errno;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

core::arch::global_asm!(
    ".text",
    ".p2align 4",
    ".hidden platform_safecopy_start",
    ".globl platform_safecopy_start",
    "platform_safecopy_start:",
    // copy(rdi = to, rsi = from, rdx = length)
    ".hidden platform_safecopy_copy",
    ".globl platform_safecopy_copy",
    "platform_safecopy_copy:",
    "cmp rdx, 512",
    "jae 30f",
    "mov rcx, rdx",
    "shr rcx, 3",
    "je 20f",
    "10:",
    "mov rax, [rsi]",
    "mov [rdi], rax",
    "add rsi, 8",
    "add rdi, 8",
    "dec rcx",
    "jne 10b",
    "20:",
    "test dl, 4",
    "je 21f",
    "mov eax, [rsi]",
    "mov [rdi], eax",
    "add rsi, 4",
    "add rdi, 4",
    "21:",
    "test dl, 2",
    "je 22f",
    "mov ax, [rsi]",
    "mov [rdi], ax",
    "add rsi, 2",
    "add rdi, 2",
    "22:",
    "test dl, 1",
    "je 90f",
    "mov al, [rsi]",
    "mov [rdi], al",
    "jmp 90f",
    "30:",
    "mov rcx, rdx",
    "rep movsb",
    "90:",
    "xor eax, eax",
    "xor edx, edx",
    "ret",
    // zero(rdi = to, rsi = length)
    ".hidden platform_safecopy_zero",
    ".globl platform_safecopy_zero",
    "platform_safecopy_zero:",
    "mov rcx, rsi",
    "xor eax, eax",
    "rep stosb",
    "xor edx, edx",
    "ret",
    // load32(rdi), load64(rdi)
    ".hidden platform_safecopy_load32",
    ".globl platform_safecopy_load32",
    "platform_safecopy_load32:",
    "mov edx, [rdi]",
    "xor eax, eax",
    "ret",
    ".hidden platform_safecopy_load64",
    ".globl platform_safecopy_load64",
    "platform_safecopy_load64:",
    "mov rdx, [rdi]",
    "xor eax, eax",
    "ret",
    // store32(rdi, esi), store64(rdi, rsi)
    ".hidden platform_safecopy_store32",
    ".globl platform_safecopy_store32",
    "platform_safecopy_store32:",
    "mov [rdi], esi",
    "xor eax, eax",
    "xor edx, edx",
    "ret",
    ".hidden platform_safecopy_store64",
    ".globl platform_safecopy_store64",
    "platform_safecopy_store64:",
    "mov [rdi], rsi",
    "xor eax, eax",
    "xor edx, edx",
    "ret",
    // cmpxchg32(rdi, esi = expected, edx = new), cmpxchg64; the second result is the old value
    ".hidden platform_safecopy_cmpxchg32",
    ".globl platform_safecopy_cmpxchg32",
    "platform_safecopy_cmpxchg32:",
    "mov eax, esi",
    "lock cmpxchg [rdi], edx",
    "mov edx, eax",
    "xor eax, eax",
    "ret",
    ".hidden platform_safecopy_cmpxchg64",
    ".globl platform_safecopy_cmpxchg64",
    "platform_safecopy_cmpxchg64:",
    "mov rax, rsi",
    "lock cmpxchg [rdi], rdx",
    "mov rdx, rax",
    "xor eax, eax",
    "ret",
    // Where the signal handler resumes a routine that faulted; rdx is the address.
    ".hidden platform_safecopy_fault",
    ".globl platform_safecopy_fault",
    "platform_safecopy_fault:",
    "mov eax, 1",
    "ret",
    ".hidden platform_safecopy_end",
    ".globl platform_safecopy_end",
    "platform_safecopy_end:",
);

/// What every routine returns, in `rax:rdx`.
#[repr(C)]
struct Outcome {
    /// 0, or 1 after a fault.
    faulted: u64,
    /// The value read, or the faulting address.
    value: u64,
}

// SAFETY: the signatures match the assembly above; the routines touch only caller-saved registers
// and the memory they are told to.
unsafe extern "C" {
    static platform_safecopy_start: u8;
    static platform_safecopy_fault: u8;
    static platform_safecopy_end: u8;
    fn platform_safecopy_copy(to: *mut u8, from: *const u8, len: usize) -> Outcome;
    fn platform_safecopy_zero(to: *mut u8, len: usize) -> Outcome;
    fn platform_safecopy_load32(from: *const u32) -> Outcome;
    fn platform_safecopy_load64(from: *const u64) -> Outcome;
    fn platform_safecopy_store32(to: *mut u32, value: u32) -> Outcome;
    fn platform_safecopy_store64(to: *mut u64, value: u64) -> Outcome;
    fn platform_safecopy_cmpxchg32(at: *mut u32, expected: u32, new: u32) -> Outcome;
    fn platform_safecopy_cmpxchg64(at: *mut u64, expected: u64, new: u64) -> Outcome;
}

impl Outcome {
    fn get(self) -> Result<u64, AccessError> {
        if self.faulted == 0 { Ok(self.value) } else { Err(AccessError) }
    }
}

/// Copies `len` bytes. Overlapping ranges give unspecified contents.
///
/// # Safety
/// `from..from+len` and `to..to+len` must be memory that no Rust reference of this process covers,
/// or (for private buffers) that the caller may read or write through the pointer. They may be
/// unmapped, or change at any time.
pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) -> Result<(), AccessError> {
    // SAFETY: the caller's promise; faults are caught.
    unsafe { platform_safecopy_copy(to, from, len) }.get().map(drop)
}

/// Writes `len` zero bytes.
///
/// # Safety
/// As [`copy`] for `to`.
pub(crate) unsafe fn zero(to: *mut u8, len: usize) -> Result<(), AccessError> {
    // SAFETY: the caller's promise; faults are caught.
    unsafe { platform_safecopy_zero(to, len) }.get().map(drop)
}

/// Loads an aligned 32-bit word in one access.
///
/// # Safety
/// As [`copy`] for `from`.
pub(crate) unsafe fn load32(from: *const u32) -> Result<u32, AccessError> {
    // SAFETY: the caller's promise; faults are caught.
    unsafe { platform_safecopy_load32(from) }.get().map(|v| v as u32)
}

/// Loads an aligned 64-bit word in one access.
///
/// # Safety
/// As [`copy`] for `from`.
pub(crate) unsafe fn load64(from: *const u64) -> Result<u64, AccessError> {
    // SAFETY: the caller's promise; faults are caught.
    unsafe { platform_safecopy_load64(from) }.get()
}

/// Stores an aligned 32-bit word in one access.
///
/// # Safety
/// As [`copy`] for `to`.
pub(crate) unsafe fn store32(to: *mut u32, value: u32) -> Result<(), AccessError> {
    // SAFETY: the caller's promise; faults are caught.
    unsafe { platform_safecopy_store32(to, value) }.get().map(drop)
}

/// Stores an aligned 64-bit word in one access.
///
/// # Safety
/// As [`copy`] for `to`.
pub(crate) unsafe fn store64(to: *mut u64, value: u64) -> Result<(), AccessError> {
    // SAFETY: the caller's promise; faults are caught.
    unsafe { platform_safecopy_store64(to, value) }.get().map(drop)
}

/// Atomic compare-and-exchange of an aligned 32-bit word; returns what was there.
///
/// # Safety
/// As [`copy`] for `to`.
pub(crate) unsafe fn cmpxchg32(at: *mut u32, old: u32, new: u32) -> Result<u32, AccessError> {
    // SAFETY: the caller's promise; faults are caught.
    unsafe { platform_safecopy_cmpxchg32(at, old, new) }.get().map(|v| v as u32)
}

/// Atomic compare-and-exchange of an aligned 64-bit word; returns what was there.
///
/// # Safety
/// As [`copy`] for `to`.
pub(crate) unsafe fn cmpxchg64(at: *mut u64, old: u64, new: u64) -> Result<u64, AccessError> {
    // SAFETY: the caller's promise; faults are caught.
    unsafe { platform_safecopy_cmpxchg64(at, old, new) }.get()
}

/// Installs the `SIGSEGV` and `SIGBUS` handlers for the whole process. Idempotent.
///
/// [`crate::MemoryFile::new`] calls it. The two signals must stay unblocked in every thread that
/// touches guest memory: see [`crate::host::thread::block_signals`].
pub fn install() -> Result<(), Errno> {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if INSTALLED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: an all-zero sigaction is valid; the handler is async-signal-safe.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_fault;
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(signal, &action, std::ptr::null_mut())
        };
        Errno::result(result)?;
    }
    Ok(())
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo and ucontext to an SA_SIGINFO handler, and nothing
    // else refers to them.
    let (info, context) = unsafe { (&*info, &mut *context.cast::<libc::ucontext_t>()) };
    let registers = &mut context.uc_mcontext.gregs;
    // SAFETY: for SIGSEGV and SIGBUS the union holds an address.
    let address = unsafe { info.si_addr() } as u64;
    let rip = registers[libc::REG_RIP as usize] as u64;
    let (start, end, fault) = (
        &raw const platform_safecopy_start as u64,
        &raw const platform_safecopy_end as u64,
        &raw const platform_safecopy_fault as u64,
    );
    // A positive code means that the kernel raised it for an instruction of ours.
    if info.si_code > 0 && (start..end).contains(&rip) {
        registers[libc::REG_RIP as usize] = fault as i64;
        registers[libc::REG_RDX as usize] = address as i64;
        return;
    }
    report(signal, rip, address);
    // SAFETY: restoring the default action; the instruction then faults again and ends the process.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        if info.si_code <= 0 {
            libc::raise(signal);
        }
    }
}

/// Writes one line to stderr without allocating.
fn report(signal: c_int, rip: u64, address: u64) {
    let mut line = Line { bytes: [0; 160], len: 0 };
    line.text(b"runsc: internal error: the sentry received signal ");
    line.number(signal as u64, 10);
    line.text(b" at program counter 0x");
    line.number(rip, 16);
    line.text(b" for address 0x");
    line.number(address, 16);
    line.text(b"; the sandbox ends. Please report this.\n");
    // SAFETY: the buffer is valid for `len` bytes; a failed write changes nothing.
    let _ = unsafe { libc::write(2, line.bytes.as_ptr().cast(), line.len) };
}

/// A line of text on the stack.
struct Line {
    bytes: [u8; 160],
    len: usize,
}

impl Line {
    fn text(&mut self, text: &[u8]) {
        for byte in text {
            if let Some(slot) = self.bytes.get_mut(self.len) {
                *slot = *byte;
                self.len += 1;
            }
        }
    }

    fn number(&mut self, value: u64, base: u64) {
        if value >= base {
            self.number(value / base, base);
        }
        let digit = (value % base) as u8;
        self.text(&[if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_every_length() {
        let from: Vec<u8> = (0..2000u32).map(|i| i as u8).collect();
        for len in (0..600).chain([1999, 2000]) {
            let mut to = vec![0xee; 2001];
            // SAFETY: both buffers are valid for `len` bytes.
            unsafe { copy(to.as_mut_ptr(), from.as_ptr(), len) }.unwrap();
            assert_eq!(to[..len], from[..len]);
            assert!(to[len..].iter().all(|b| *b == 0xee));
        }
    }

    #[test]
    fn faults_become_errors() {
        install().unwrap();
        let mut buffer = [0u8; 4096];
        let hole = 0x1000 as *mut u8;
        // SAFETY: nothing is mapped at `hole`.
        unsafe {
            assert_eq!(copy(buffer.as_mut_ptr(), hole, 4096), Err(AccessError));
            assert_eq!(copy(hole, buffer.as_ptr(), 3), Err(AccessError));
            assert_eq!(zero(hole, 8), Err(AccessError));
            assert_eq!(load32(hole.cast()), Err(AccessError));
            assert_eq!(load64(hole.cast()), Err(AccessError));
            assert_eq!(store32(hole.cast(), 1), Err(AccessError));
            assert_eq!(store64(hole.cast(), 1), Err(AccessError));
            assert_eq!(cmpxchg32(hole.cast(), 0, 1), Err(AccessError));
            assert_eq!(cmpxchg64(hole.cast(), 0, 1), Err(AccessError));
        }
    }
}
