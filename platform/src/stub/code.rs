#![expect(unsafe_code, reason = "the stub's code page, in assembly")]
//! The only code of ours that runs inside a stub: position-independent, stackless, one page.
//!
//! It keeps all state in registers, which other threads of the stub cannot touch, and reads nothing
//! but the list of calls that is read-only there.

use super::layout;

core::arch::global_asm!(
    ".pushsection .text",
    ".p2align 6",
    ".hidden platform_stub_start",
    ".globl platform_stub_start",
    "platform_stub_start:",
    // One system call, then a trap to the tracer.
    "syscall",
    "int3",
    "nop",
    ".p2align 4",
    // clone(2): the parent traps, the child (which is not traced yet) parks.
    ".hidden platform_stub_clone",
    ".globl platform_stub_clone",
    "platform_stub_clone:",
    "syscall",
    "test rax, rax",
    "je 20f",
    "int3",
    "nop",
    ".p2align 4",
    // A list of calls: rbx points to the next entry, rbp counts those left. Traps at the end (rbp is
    // zero then) or behind the first that failed.
    ".hidden platform_stub_batch",
    ".globl platform_stub_batch",
    "platform_stub_batch:",
    "mov rax, [rbx]",
    "mov rdi, [rbx + 8]",
    "mov rsi, [rbx + 16]",
    "mov rdx, [rbx + 24]",
    "mov r10, [rbx + 32]",
    "mov r8, [rbx + 40]",
    "mov r9, [rbx + 48]",
    "syscall",
    "cmp rax, -4095",
    "jae 10f",
    "add rbx, 64",
    "dec rbp",
    "jne platform_stub_batch",
    "10:",
    "int3",
    "nop",
    ".p2align 4",
    // Wait for a tracer; end with the sentry.
    ".hidden platform_stub_park",
    ".globl platform_stub_park",
    "platform_stub_park:",
    "20:",
    "mov eax, {read}",
    "mov edi, {alive}",
    "xor esi, esi",
    "mov edx, 1",
    "syscall",
    "cmp rax, -{eintr}",
    "je 20b",
    "mov eax, {exit_group}",
    "xor edi, edi",
    "syscall",
    ".p2align 4",
    // End of one thread.
    ".hidden platform_stub_exit",
    ".globl platform_stub_exit",
    "platform_stub_exit:",
    "mov eax, {exit}",
    "xor edi, edi",
    "syscall",
    "ud2",
    ".hidden platform_stub_end",
    ".globl platform_stub_end",
    "platform_stub_end:",
    ".popsection",
    read = const libc::SYS_read,
    alive = const layout::FD_ALIVE,
    eintr = const libc::EINTR,
    exit = const libc::SYS_exit,
    exit_group = const libc::SYS_exit_group,
);

// SAFETY: the labels above; only their addresses and the bytes between them are used.
unsafe extern "C" {
    static platform_stub_start: u8;
    static platform_stub_clone: u8;
    static platform_stub_batch: u8;
    static platform_stub_park: u8;
    static platform_stub_exit: u8;
    static platform_stub_end: u8;
}

/// Where the entry points are, given where the code is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entries {
    base: u64,
}

impl Entries {
    /// In a stub.
    pub const STUB: Self = Self { base: layout::TEXT };

    /// In the sentry's own text, which the zygote still has when it starts.
    pub fn sentry() -> Self {
        Self { base: &raw const platform_stub_start as u64 }
    }

    fn at(self, label: *const u8) -> u64 {
        self.base + (label as u64 - &raw const platform_stub_start as u64)
    }

    /// `syscall; int3`.
    pub fn syscall(self) -> u64 {
        self.base
    }

    /// `clone(2)` whose child parks.
    pub fn clone_and_park(self) -> u64 {
        self.at(&raw const platform_stub_clone)
    }

    /// Runs a list of calls.
    pub fn batch(self) -> u64 {
        self.at(&raw const platform_stub_batch)
    }

    /// Waits for a tracer.
    pub fn park(self) -> u64 {
        self.at(&raw const platform_stub_park)
    }

    /// Ends the thread.
    pub fn exit(self) -> u64 {
        self.at(&raw const platform_stub_exit)
    }

    /// Whether code that is at `rip` has just trapped on purpose. (A `nop` follows each trap, so that
    /// no jump leads there.)
    pub fn trapped(self, rip: u64) -> bool {
        const INT3: u8 = 0xcc;
        let before = rip.checked_sub(self.base + 1);
        before.and_then(|at| text().get(at as usize)) == Some(&INT3)
    }
}

/// The code's bytes; less than a page.
pub fn text() -> &'static [u8] {
    let (start, end) = (&raw const platform_stub_start, &raw const platform_stub_end);
    // SAFETY: both labels delimit bytes of this program's read-only text.
    unsafe { std::slice::from_raw_parts(start, end as usize - start as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_fits_a_page() {
        assert!(!text().is_empty() && (text().len() as u64) < crate::PAGE_SIZE);
        assert_eq!(text()[..3], [0x0f, 0x05, 0xcc]);
        assert!(Entries::STUB.exit() > Entries::STUB.park());
        assert!(Entries::STUB.trapped(layout::TEXT + 3));
        for entry in [Entries::STUB.syscall(), Entries::STUB.batch(), Entries::STUB.park()] {
            assert!(!Entries::STUB.trapped(entry));
        }
    }
}
