#![expect(unsafe_code, reason = "the stub's code page, in assembly")]
//! Our code inside a `systrap` stub: the agent, the start of new threads, the signal handler.
//!
//! One position-independent page. Guest threads may jump into it anywhere, so what it may do for them is
//! decided by their filter ([`super::filter`]), not by what stands here. The agent and a new thread
//! keep their state in registers, and read only what is read-only in the stub.

use crate::stub::batch::{ENTRY, kind};
use crate::stub::layout::{
    self, BATCH, FD_CONTROL, FD_MEMORY, FD_RECEIVED, HELLO, SCRATCH, control,
};

core::arch::global_asm!(
    ".pushsection .text",
    ".p2align 6",
    ".hidden systrap_start",
    ".globl systrap_start",
    "systrap_start:",
    // First of all stubs: rid of the sentry's memory. r12 to r15: two ranges (start, length).
    ".hidden systrap_zygote",
    ".globl systrap_zygote",
    "systrap_zygote:",
    "mov eax, {munmap}",
    "mov rdi, r12",
    "mov rsi, r13",
    "syscall",
    "test rax, rax",
    "jnz 90f",
    "mov eax, {munmap}",
    "mov rdi, r14",
    "mov rsi, r15",
    "syscall",
    "test rax, rax",
    "jnz 90f",
    // The agent: waits for a message, executes the list, answers with a message whose length is 1 for
    // success and 1 + errno for failure. What the messages contain is of no matter.
    ".hidden systrap_agent",
    ".globl systrap_agent",
    "systrap_agent:",
    "mov eax, {read}",
    "mov edi, {fd_control}",
    "movabs rsi, {scratch}",
    "mov edx, 1",
    "syscall",
    "cmp rax, -{eintr}",
    "je systrap_agent",
    "test rax, rax",
    "jle 90f",
    "movabs rbx, {batch}",
    "mov rbp, [rbx + {count}]",
    "10:",
    "test rbp, rbp",
    "je 30f",
    "mov rax, [rbx]",
    "mov rdi, [rbx + 8]",
    "mov rsi, [rbx + 16]",
    "mov rdx, [rbx + 24]",
    "mov r10, [rbx + 32]",
    "mov r8, [rbx + 40]",
    "mov r9, [rbx + 48]",
    "syscall",
    "mov rcx, [rbx + 56]",
    "test rax, rax",
    "js 40f",
    "jz 50f",
    "20:",
    "add rbx, {entry}",
    "dec rbp",
    "jmp 10b",
    "30:",
    "mov edx, 1",
    "35:",
    "mov eax, {sendto}",
    "mov edi, {fd_control}",
    "movabs rsi, {batch}",
    "mov r10d, {nosignal}",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "syscall",
    "jmp systrap_agent",
    "40:",
    "cmp rcx, {hint}",
    "je 20b",
    "mov edx, 1",
    "sub rdx, rax",
    "jmp 35b",
    // A call that returned zero: in a new thread or process, perhaps.
    "50:",
    "cmp rcx, {thread}",
    "je 60f",
    "cmp rcx, {process}",
    "jne 20b",
    // A new stub, which has but this thread: its own pages, a message over its parent's socket, its own
    // socket, which the parent has just received; then it is the agent.
    "movabs rbx, {batch}",
    "mov eax, {mmap}",
    "mov rdi, rbx",
    "mov esi, 8192",
    "mov edx, {prot_read}",
    "mov r10d, {map_flags}",
    "mov r8d, {fd_memory}",
    "mov r9, [rbx + {pages}]",
    "syscall",
    "cmp rax, rbx",
    "jne 90f",
    "mov eax, {mprotect}",
    "movabs rdi, {scratch}",
    "mov esi, 4096",
    "mov edx, {prot_write}",
    "syscall",
    "test rax, rax",
    "jnz 90f",
    "mov eax, {sendto}",
    "mov edi, {fd_control}",
    "mov rsi, rbx",
    "mov edx, 1",
    "mov r10d, {nosignal}",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "syscall",
    "mov eax, {dup3}",
    "mov edi, {fd_received}",
    "mov esi, {fd_control}",
    "xor edx, edx",
    "syscall",
    "cmp rax, {fd_control}",
    "jne 90f",
    "mov eax, {close}",
    "mov edi, {fd_received}",
    "syscall",
    "jmp systrap_agent",
    // A new thread, to run guest code: signal stack, filter, a word to the agent, a report to the sentry.
    "60:",
    "movabs rbx, {batch}",
    "mov r12, [rbx + {stack}]",
    "mov eax, {sigaltstack}",
    "lea rdi, [rbx + {stack}]",
    "xor esi, esi",
    "syscall",
    "mov ebp, 2",
    "test rax, rax",
    "jnz 70f",
    "mov eax, {seccomp}",
    "mov edi, 1",
    "mov esi, {listener_flags}",
    "movabs rdx, {listener_filter}",
    "syscall",
    "cmp rax, {fd_received}",
    "jne 70f",
    "mov ebp, 1",
    "70:",
    "movabs rdi, {hello}",
    "mov [rdi], ebp",
    "mov eax, {futex}",
    "mov esi, {wake}",
    "mov edx, 1",
    "syscall",
    "cmp ebp, 1",
    "jne 80f",
    "mov rdx, r12",
    "xor edi, edi",
    "xor esi, esi",
    // Handler of all signals: rdi, rsi, rdx are as for a `sigaction(2)` handler with SA_SIGINFO.
    // The answer: bit 0 asks to load the segment bases, bit 1 to end the thread. Then the state that
    // the sentry has written to the frame is loaded.
    ".hidden systrap_signal",
    ".globl systrap_signal",
    "systrap_signal:",
    "rdfsbase r10",
    "rdgsbase r8",
    "mov eax, {signal}",
    "syscall",
    ".hidden systrap_reported",
    ".globl systrap_reported",
    "systrap_reported:",
    "test al, 2",
    "jnz 80f",
    "test al, 1",
    "jz 75f",
    "mov rcx, [rdx + 16]",
    "mov r10, [rcx - {below}]",
    "wrfsbase r10",
    "mov r10, [rcx - {below} + 8]",
    "wrgsbase r10",
    "75:",
    "mov rsp, rdx",
    "mov eax, {sigreturn}",
    "syscall",
    "ud2",
    "80:",
    "mov eax, {exit}",
    "xor edi, edi",
    "syscall",
    "ud2",
    "90:",
    "mov eax, {exit_group}",
    "mov edi, 1",
    "syscall",
    "ud2",
    ".hidden systrap_end",
    ".globl systrap_end",
    "systrap_end:",
    ".popsection",
    munmap = const libc::SYS_munmap,
    read = const libc::SYS_read,
    sendto = const libc::SYS_sendto,
    mmap = const libc::SYS_mmap,
    mprotect = const libc::SYS_mprotect,
    dup3 = const libc::SYS_dup3,
    close = const libc::SYS_close,
    sigaltstack = const libc::SYS_sigaltstack,
    seccomp = const libc::SYS_seccomp,
    futex = const libc::SYS_futex,
    sigreturn = const libc::SYS_rt_sigreturn,
    exit = const libc::SYS_exit,
    exit_group = const libc::SYS_exit_group,
    eintr = const libc::EINTR,
    nosignal = const libc::MSG_NOSIGNAL,
    prot_read = const libc::PROT_READ,
    prot_write = const libc::PROT_READ | libc::PROT_WRITE,
    map_flags = const crate::stub::filter::MAP_FLAGS,
    wake = const libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
    fd_control = const FD_CONTROL,
    fd_memory = const FD_MEMORY,
    fd_received = const FD_RECEIVED,
    batch = const BATCH,
    scratch = const SCRATCH,
    hello = const SCRATCH + HELLO,
    count = const control::COUNT,
    stack = const control::STACK,
    pages = const control::PAGES,
    entry = const ENTRY,
    hint = const kind::HINT,
    thread = const kind::THREAD,
    process = const kind::PROCESS,
    listener_flags = const super::filter::LISTENER_FLAGS,
    listener_filter = const layout::TEXT + layout::LISTENER_FILTER,
    below = const super::stack::CONTROL,
    signal = const SIGNAL_CALL,
);

/// Number of the system call with which the handler reports: none that Linux has.
pub const SIGNAL_CALL: u32 = 0x3fff_fffe;

/// The answer to a report: load the segment bases from the thread's control words.
pub const LOAD_BASES: u64 = 1;
/// The answer to a report: end the thread.
pub const END_THREAD: u64 = 2;

// SAFETY: the labels above; only their addresses and the bytes between them are used.
unsafe extern "C" {
    static systrap_start: u8;
    static systrap_zygote: u8;
    static systrap_signal: u8;
    static systrap_reported: u8;
    static systrap_end: u8;
}

fn in_stub(label: *const u8) -> u64 {
    layout::TEXT + (label as u64 - &raw const systrap_start as u64)
}

/// Address, in a stub, of the code that gets rid of everything else and becomes an agent.
pub fn zygote() -> u64 {
    in_stub(&raw const systrap_zygote)
}

/// Address of the signal handler.
pub fn signal() -> u64 {
    in_stub(&raw const systrap_signal)
}

/// Where a handler is while it reports.
pub fn reported() -> u64 {
    in_stub(&raw const systrap_reported)
}

/// The code's bytes; less than [`layout::LISTENER_FILTER`].
pub fn text() -> &'static [u8] {
    let (start, end) = (&raw const systrap_start, &raw const systrap_end);
    // SAFETY: both labels delimit bytes of this program's read-only text.
    unsafe { std::slice::from_raw_parts(start, end as usize - start as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_fits_its_place() {
        assert!(!text().is_empty() && (text().len() as u64) < layout::LISTENER_FILTER);
        let reported = (reported() - layout::TEXT) as usize;
        assert_eq!(text()[reported - 2..reported], [0x0f, 0x05]);
    }
}
