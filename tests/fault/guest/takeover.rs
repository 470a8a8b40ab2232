//! A guest that attacks the process it runs in: it gives away all memory, and knows where our code is.
#![expect(unsafe_code, reason = "jumps into code that is not its own")]

use crate::sys::process::{Status, child, kill, wait, waitid};
use crate::sys::{mem, sc};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the code of a stub is (`platform/src/stub/layout.rs`).
const OUR_CODE: u64 = 0x7fff_ffff_0000;
/// Words of a `ucontext_t`.
const WORDS: usize = 38;

/// Runs all.
pub fn main() -> Result<(), String> {
    let gone = wait(child(unmap_everything));
    if signal(gone) != Some(libc::SIGSEGV) {
        return Err(format!("a process that has unmapped everything ends with {gone}"));
    }
    println!("takeover: unmapped everything: {gone}");
    for offset in (0..4096).step_by(7) {
        let pid = child(|| enter(OUR_CODE + offset));
        // Some of it waits or runs for ever.
        for _ in 0..20 {
            if is_over(pid) {
                break;
            }
            sc!(SYS_sched_yield);
        }
        kill(pid, libc::SIGKILL);
        wait(pid);
    }
    println!("takeover: entered at every 7th byte");
    let told = mem::shared(1);
    TOLD.store(told, Ordering::Relaxed);
    let deaf = child(become_deaf);
    while mem::word(told).load(Ordering::Relaxed) == 0 && !is_over(deaf) {
        sc!(SYS_sched_yield);
    }
    kill(deaf, libc::SIGKILL);
    let status = wait(deaf);
    println!("takeover: deaf: {status}");
    match signal(status) {
        // Where there is no such code it cannot be entered.
        Some(libc::SIGKILL | libc::SIGSEGV) => Ok(()),
        _ => Err(format!("a process that blocks our signals ends with {status}")),
    }
}

/// Whether a child has ended; it can still be waited for.
fn is_over(pid: i32) -> bool {
    let options = libc::WNOHANG | libc::WEXITED | libc::WNOWAIT;
    waitid(libc::P_PID, pid, options).pid == pid
}

/// The signal that has ended a child.
fn signal(Status(ret, status): Status) -> Option<i32> {
    (ret.ok() && libc::WIFSIGNALED(status)).then(|| libc::WTERMSIG(status))
}

fn unmap_everything() -> i32 {
    sc!(SYS_munmap, 0_u64, 0x7fff_ffff_f000_u64);
    // Only where the range is refused.
    let step = 1_u64 << 40;
    for index in 0..128 {
        sc!(SYS_munmap, index * step, step);
    }
    0
}

fn enter(address: u64) -> i32 {
    let numbers = [9_u64, 11, 15, 47, 56, 60, 202, 231, 317];
    let number = numbers.get((address % 9) as usize).copied().unwrap_or(0);
    // SAFETY: this child has no other thread, and its only purpose is to be ended.
    unsafe {
        std::arch::asm!("jmp {address}", address = in(reg) address, in("rax") number, in("rdi") 1, options(noreturn));
    }
}

/// Where the deaf process tells that it is.
static TOLD: AtomicU64 = AtomicU64::new(0);

extern "C" fn spin() -> ! {
    mem::word(TOLD.load(Ordering::Relaxed)).store(1, Ordering::Relaxed);
    loop {
        std::hint::spin_loop();
    }
}

/// Blocks all signals of the host by a call from our code.
fn become_deaf() -> i32 {
    let text = mem::copy(OUR_CODE, 2048);
    let Some(at) = text.windows(2).position(|pair| pair == [0x0f, 0x05]) else { return 1 };
    let mut context = [0_u64; WORDS];
    let stack = mem::anon(4) + 2 * mem::PAGE;
    let values = [(0, 6), (20, stack), (21, spin as *const () as u64), (22, 0x202)];
    let rest = [(23, 0x33 | 0x2b << 48), (37, u64::MAX)];
    for (index, value) in values.into_iter().chain(rest) {
        if let Some(word) = context.get_mut(index) {
            *word = value;
        }
    }
    // SAFETY: the state that is loaded runs `spin` on a stack of its own.
    unsafe {
        std::arch::asm!("mov rsp, {context}", "jmp {address}", context = in(reg) context.as_ptr(),
            address = in(reg) OUR_CODE + at as u64, in("rax") libc::SYS_rt_sigreturn, options(noreturn));
    }
}
