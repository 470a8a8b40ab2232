//! The `syscall` instruction and zeroed C structures.
#![expect(unsafe_code, reason = "the system-call instruction and C structures' zero values")]

use super::Ret;

/// Makes system call `nr`; missing arguments are zero.
pub fn syscall(nr: i64, args: &[u64]) -> Ret {
    let arg = |i: usize| args.get(i).copied().unwrap_or(0);
    let mut rax = nr;
    // SAFETY: the instruction follows the kernel's register convention, clobbering rax, rcx and r11
    // only, and memory is assumed changed. What the call does to this process is the purpose of the
    // program: the pointers are either borrows that live across the call or addresses that a case
    // owns (its own mappings) or wants refused.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") rax, in("rdi") arg(0), in("rsi") arg(1),
            in("rdx") arg(2), in("r10") arg(3), in("r8") arg(4), in("r9") arg(5),
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    Ret(rax)
}

/// A C structure for which all-zero bytes are a value.
///
/// # Safety
/// Every bit pattern of zeroes must be a valid value of the type.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($t:ty),* $(,)?) => { $(
        // SAFETY: a C structure of integers, arrays of integers and raw pointers.
        unsafe impl Plain for $t {}
    )* };
}
plain!(
    libc::stat,
    libc::statx,
    libc::statfs,
    libc::siginfo_t,
    libc::rusage,
    libc::sysinfo,
    libc::utsname,
    libc::termios,
    libc::sigset_t,
    libc::signalfd_siginfo,
    libc::tms,
    libc::flock,
);

/// The all-zero value.
pub fn zeroed<T: Plain>() -> T {
    // SAFETY: `Plain` promises that zero bytes are a value.
    unsafe { std::mem::zeroed() }
}
