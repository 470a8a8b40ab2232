#![expect(unsafe_code, reason = "assembly and its symbols")]
//! The code that runs in the guest's ring 0, and where it keeps what.
//!
//! Each vCPU has four pages of the kernel half, the same in all address spaces: the code (one physical
//! page for all), its [`area`], its interrupt descriptor table, and one for copies of a program's bytes. Code finds its area
//! relative to itself, so that ring 0 needs no register for it and never touches the GS base.
//!
//! Whatever stops guest code ends up at the `hlt` below with the registers saved in the area; the
//! sentry changes them and lets the code after it go on. It touches no user-controlled
//! selector but what [`super::vcpu`] has checked, and runs with interrupts off, so it has no state of
//! its own: a vCPU that sits at the `hlt` can go on with any thread of any address space.
//!
//! The entry of SYSCALL (`calls.s`) answers some calls itself, with words that the sentry has written ([`super::boards`]): the exit
//! is all that it leaves out, registers are as after any other call. Few instructions of it access memory of the
//! program, as the program could itself; where that fails the call takes the exit.

use super::arena::{Arena, Page};
use crate::{PAGE_SIZE, PureCall};

/// Start of the kernel half that we use.
pub const KERNEL_BASE: u64 = 0xffff_8000_0000_0000;

/// Distance between the pages of two vCPUs.
pub const STRIDE: u64 = 4 * PAGE_SIZE;

/// Where the words that system calls are answered with begin ([`super::boards`]).
pub const BOARDS_BASE: u64 = KERNEL_BASE + (1 << 30);

/// Where the page of counters is that say whether anybody waits at a futex ([`super::waiters`]). The assembly has the
/// same number.
pub const WAITERS_BASE: u64 = KERNEL_BASE + (2 << 30);

/// Where the words are that are signal masks of threads ([`super::masks`]), and how far apart. The assembly has the same numbers.
pub const MASKS_BASE: u64 = KERNEL_BASE + (3 << 30);
/// See above.
pub const MASK_SIZE: u64 = 64;

/// Where the words of descriptors are ([`super::descriptors`]), a page for each table. The assembly has the same number.
pub const DESCRIPTORS_BASE: u64 = KERNEL_BASE + (4 << 30);
/// Descriptors of a table that have a word. The assembly has the same number.
pub const DESCRIPTORS: u64 = 512;

/// Where positions of open files are ([`super::positions`]). The assembly has the same number.
pub const POSITIONS_BASE: u64 = KERNEL_BASE + (5 << 30);
/// Bits of a position; the generation is above. The assembly has the same number.
pub const POSITION_BITS: u32 = 40;

/// Where the records of pipes are ([`super::pipes`]), and how far apart. The assembly has the same numbers.
pub const PIPES_BASE: u64 = KERNEL_BASE + (6 << 30);
/// See above.
pub const PIPE_SIZE: u64 = 64;
/// Where the pages of pipes are.
pub const RINGS_BASE: u64 = KERNEL_BASE + (7 << 30);

/// Which counter is that of an address. The assembly computes the same.
pub fn waiters_index(addr: u64) -> u64 {
    (addr ^ addr >> 8) >> 2 & 511
}

/// Selectors; those of user code are Linux's.
pub mod selector {
    /// Kernel code.
    pub const KERNEL_CODE: u16 = 0x10;
    /// Kernel data.
    pub const KERNEL_DATA: u16 = 0x18;
    /// 32-bit user code, without the privilege level.
    pub const USER_CODE32: u16 = 0x20;
    /// The task state segment.
    pub const TASK: u16 = 0x40;
}

/// Offsets in a vCPU's area, in bytes. The assembly has the same numbers.
pub mod area {
    /// What to do on the way back to ring 3: the bits below.
    pub const FLAGS: u64 = 0x00;
    /// The page tables to load.
    pub const CR3: u64 = 0x08;
    /// Why it stopped: a vector, or one of [`super::kind`].
    pub const KIND: u64 = 0x10;
    /// Address of a page fault.
    pub const CR2: u64 = 0x18;
    /// Segment bases.
    pub const FS_BASE: u64 = 0x20;
    /// See above.
    pub const GS_BASE: u64 = 0x28;
    /// Selectors DS, ES, FS, GS, eight bytes each.
    pub const SELECTORS: u64 = 0x30;
    /// Program counter of a fault in ring 0.
    pub const RING0_RIP: u64 = 0x50;
    /// Address of the words that calls of the thread that runs are answered with. Registers are kept behind it: rcx, rdx, rax, rbx,
    /// rdi, rsi; then two words that it needs itself.
    pub const BOARD: u64 = 0x58;
    /// General registers in the order of `struct pt_regs`: r15 first, ss last.
    pub const BLOCK: u64 = 0x208;
    /// Error code, in the block.
    pub const ERROR: u64 = BLOCK + 120;
    /// Where the CPU goes on, in the block; then cs, flags, rsp, ss.
    pub const RIP: u64 = BLOCK + 128;
    /// End of the block: where the CPU begins to push.
    pub const BLOCK_END: u64 = BLOCK + 168;
    /// Global descriptor table.
    pub const GDT: u64 = 0x300;
    /// Its length.
    pub const GDT_LEN: u64 = 0x50;
    /// Task state segment.
    pub const TSS: u64 = 0x380;
    /// Its length.
    pub const TSS_LEN: u64 = 104;
    /// Stack for double faults: it grows down from here.
    pub const STACK_END: u64 = 0x1000;

    /// Load [`CR3`], which flushes what is cached of user mappings.
    pub const LOAD_CR3: u64 = 1;
    /// Load the selectors, then the bases.
    pub const LOAD_SELECTORS: u64 = 2;
    /// Load the segment bases.
    pub const LOAD_BASES: u64 = 4;
    /// Return by SYSRET.
    pub const SYSRET: u64 = 8;
}

/// Values of [`area::KIND`] that are no vectors.
pub mod kind {
    /// SYSCALL in 64-bit code.
    pub const SYSCALL: u64 = 0x100;
    /// SYSCALL in 32-bit code.
    pub const SYSCALL32: u64 = 0x101;
    /// Set when the exception was raised in ring 0.
    pub const RING0: u64 = 0x200;
}

/// Vector with which the sentry stops guest code.
pub const INTERRUPT: u8 = 32;

/// Vectors that have an entry of their number: the CPU's, and [`INTERRUPT`].
const VECTORS: usize = 33;

/// The vector of `int 0x80`, whose entry follows those.
pub const INT80: u8 = 0x80;

/// Bytes between two entries.
const ENTRY: usize = 16;

core::arch::global_asm!(
    ".pushsection .rodata.kvm_shim, \"a\"",
    ".balign 4096",
    ".hidden kvm_shim_start",
    ".globl kvm_shim_start",
    "kvm_shim_start:",
    ".set AREA, kvm_shim_start + 0x1000",
    // One entry for each vector, 16 bytes apart. Those without an error code push a zero.
    ".set vector, 0",
    ".rept 34",
    ".balign 16, 0xcc",
    ".if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)",
    ".else",
    "push 0",
    ".endif",
    "push rdi",
    ".if vector == 33",
    "mov edi, 0x80",
    ".else",
    "mov edi, vector",
    ".endif",
    "jmp 20f",
    ".set vector, vector + 1",
    ".endr",
    ".balign 16, 0xcc",
    // Exceptions: rdi, error code, rip, cs, ...
    "20:",
    "test byte ptr [rsp + 24], 3",
    "jnz 30f",
    // A page fault of an access to the program's memory, which ring 0 makes in its stead: the call leaves.
    "cmp edi, 14",
    "jne 26f",
    ".irp access, kvm_shim_word, kvm_shim_set, kvm_shim_old_set, kvm_shim_give, kvm_shim_take",
    "lea rdi, [rip + \\access]",
    "cmp rdi, [rsp + 16]",
    "je 27f",
    ".endr",
    "mov edi, 14",
    "26:",
    "or edi, 0x200",
    "mov rax, [rsp + 16]",
    "mov [rip + AREA + 0x50], rax",
    "mov [rip + AREA + 0x10], rdi",
    "jmp 40f",
    "27:",
    "jmp 29f",
    // SYSCALL, up to where it leaves: at 21, or at 28 with the stack pointer saved.
    include_str!("calls.s"),
    "28:",
    "mov rdx, [rip + AREA + 0x68]",
    "mov rcx, [rip + AREA + 0x60]",
    "lea rsp, [rip + AREA + 0x208 + 152]",
    "push r11",
    "push 0x33",
    "push rcx",
    "push 0",
    "push rdi",
    "mov edi, 0x100",
    "jmp 30f",
    ".balign 16, 0xcc",
    ".hidden kvm_shim_syscall32",
    ".globl kvm_shim_syscall32",
    "kvm_shim_syscall32:",
    "mov [rip + AREA + 0x208 + 152], rsp",
    "lea rsp, [rip + AREA + 0x208 + 152]",
    "push r11",
    "push 0x23",
    "push rcx",
    "push 0",
    "push rdi",
    "mov edi, 0x101",
    "30:",
    "push rsi",
    "push rdx",
    "push rcx",
    "push rax",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rip + AREA + 0x10], rdi",
    "mov rax, cr2",
    "mov [rip + AREA + 0x18], rax",
    "rdfsbase rax",
    "mov [rip + AREA + 0x20], rax",
    "rdgsbase rax",
    "mov [rip + AREA + 0x28], rax",
    "mov eax, ds",
    "mov [rip + AREA + 0x30], rax",
    "mov eax, es",
    "mov [rip + AREA + 0x38], rax",
    "mov eax, fs",
    "mov [rip + AREA + 0x40], rax",
    "mov eax, gs",
    "mov [rip + AREA + 0x48], rax",
    "cld",
    "40:",
    "hlt",
    ".hidden kvm_shim_resume",
    ".globl kvm_shim_resume",
    "kvm_shim_resume:",
    "lea rsp, [rip + AREA + 0x208]",
    "mov rcx, [rip + AREA]",
    "test cl, 1",
    "jz 51f",
    "mov rax, [rip + AREA + 0x08]",
    "mov cr3, rax",
    "51:",
    "test cl, 2",
    "jz 52f",
    "mov eax, [rip + AREA + 0x30]",
    "mov ds, eax",
    "mov eax, [rip + AREA + 0x38]",
    "mov es, eax",
    "mov eax, [rip + AREA + 0x40]",
    "mov fs, eax",
    "mov eax, [rip + AREA + 0x48]",
    "mov gs, eax",
    "52:",
    "test cl, 4",
    "jz 53f",
    "mov rax, [rip + AREA + 0x20]",
    "wrfsbase rax",
    "mov rax, [rip + AREA + 0x28]",
    "wrgsbase rax",
    "53:",
    "test cl, 8",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rax",
    "pop rcx",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    // Pops and loads leave the flags of the test alone.
    "jnz 54f",
    "lea rsp, [rsp + 8]",
    "iretq",
    "54:",
    "mov rsp, [rip + AREA + 0x208 + 152]",
    "sysretq",
    ".hidden kvm_shim_end",
    ".globl kvm_shim_end",
    "kvm_shim_end:",
    ".popsection",
);

mod code {
    unsafe extern "C" {
        static kvm_shim_start: u8;
        static kvm_shim_syscall: u8;
        static kvm_shim_syscall32: u8;
        static kvm_shim_word: u8;
        static kvm_shim_set: u8;
        static kvm_shim_old_set: u8;
        static kvm_shim_give: u8;
        static kvm_shim_take: u8;
        static kvm_shim_writing: u8;
        static kvm_shim_written: u8;
        static kvm_shim_fix_up: u8;
        static kvm_shim_resume: u8;
        static kvm_shim_end: u8;
    }

    /// The machine code.
    pub fn bytes() -> &'static [u8] {
        let start = &raw const kvm_shim_start;
        let len = (&raw const kvm_shim_end) as usize - start as usize;
        // SAFETY: the two symbols enclose constant data of this program.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    fn offset(symbol: *const u8) -> u64 {
        symbol as u64 - (&raw const kvm_shim_start) as u64
    }

    /// Where SYSCALL goes to, from the start.
    pub fn syscall() -> u64 {
        offset(&raw const kvm_shim_syscall)
    }

    /// Where SYSCALL of 32-bit code goes to.
    pub fn syscall32() -> u64 {
        offset(&raw const kvm_shim_syscall32)
    }

    /// The instructions that access memory of programs.
    pub fn accesses() -> [u64; 5] {
        [
            &raw const kvm_shim_word,
            &raw const kvm_shim_set,
            &raw const kvm_shim_old_set,
            &raw const kvm_shim_give,
            &raw const kvm_shim_take,
        ]
        .map(offset)
    }

    /// Where a record of a pipe is locked, by whose address in rbx.
    pub fn writing() -> std::ops::Range<u64> {
        offset(&raw const kvm_shim_writing)..offset(&raw const kvm_shim_written)
    }

    /// Where it goes on if one of them fails.
    pub fn fix_up() -> u64 {
        offset(&raw const kvm_shim_fix_up)
    }

    /// What follows the `hlt`: where a vCPU starts.
    pub fn resume() -> u64 {
        offset(&raw const kvm_shim_resume)
    }
}

/// Where the slots of calls by their numbers are in the page of the code, a byte for each. The assembly has the same number.
const CALLS: u64 = 0xf00;

/// [`PureCall::slot`] by the number of the call plus one, 0 for those of others and for what is no number.
fn calls() -> [u8; 256] {
    let mut slots = [0; 256];
    for call in PureCall::ALL {
        if let Some(slot) = slots.get_mut(call.number() as usize + 1) {
            *slot = call.slot();
        }
    }
    slots
}

/// The physical page with the code.
pub fn code_page(arena: &Arena) -> Option<Page> {
    let page = arena.allocate()?;
    arena.write(page, 0, code::bytes());
    arena.write(page, CALLS, &calls());
    Some(page)
}

/// Virtual addresses of a vCPU's pages.
#[derive(Debug, Clone, Copy)]
pub struct Place(u64);

impl Place {
    /// Those of vCPU number `index`.
    pub fn new(index: u32) -> Self {
        Self(KERNEL_BASE + u64::from(index) * STRIDE)
    }

    /// The code.
    pub fn code(self) -> u64 {
        self.0
    }

    /// The area.
    pub fn area(self) -> u64 {
        self.0 + PAGE_SIZE
    }

    /// The interrupt descriptor table.
    pub fn idt(self) -> u64 {
        self.0 + 2 * PAGE_SIZE
    }

    /// Where it copies what programs write and read.
    pub fn copies(self) -> u64 {
        self.0 + 3 * PAGE_SIZE
    }

    /// Whether it has a pipe locked at an address of the code.
    pub fn is_writing(self, address: u64) -> bool {
        code::writing().contains(&address.wrapping_sub(self.0))
    }

    /// Where SYSCALL goes to (`IA32_LSTAR`).
    pub fn syscall(self) -> u64 {
        self.0 + code::syscall()
    }

    /// Where SYSCALL of 32-bit code goes to (`IA32_CSTAR`).
    pub fn syscall32(self) -> u64 {
        self.0 + code::syscall32()
    }

    /// Where it goes on if the instruction at an address cannot access a program's memory; `None` for all that do not.
    pub fn fix_up(self, address: u64) -> Option<u64> {
        let access = address.wrapping_sub(self.0);
        code::accesses().contains(&access).then(|| self.0 + code::fix_up())
    }

    /// Where it starts.
    pub fn resume(self) -> u64 {
        self.0 + code::resume()
    }
}

/// Fills a vCPU's area with its descriptor table and task state segment.
pub fn write_area(arena: &Arena, page: Page, place: Place) {
    let tss = place.area() + area::TSS;
    let descriptors: [u64; 10] = [
        0,
        0,
        // Present, long mode code, ring 0; present, writable data, ring 0.
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        // Ring 3: 32-bit code, data, 64-bit code.
        0x00cf_fb00_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
        0,
        // Busy 64-bit task state segment.
        (area::TSS_LEN - 1) | (tss & 0x00ff_ffff) << 16 | 0x8b << 40 | (tss >> 24 & 0xff) << 56,
        tss >> 32,
    ];
    for (index, descriptor) in descriptors.into_iter().enumerate() {
        arena.store(page, area::GDT + 8 * index as u64, descriptor);
    }
    let mut task = [0; area::TSS_LEN as usize];
    let mut put = |at: usize, value: &[u8]| {
        if let Some(slot) = task.get_mut(at..at + value.len()) {
            slot.copy_from_slice(value);
        }
    };
    // Stack of ring 0; stack 1 of the interrupt stack table; no port is allowed.
    put(4, &(place.area() + area::BLOCK_END).to_le_bytes());
    put(36, &(place.area() + area::STACK_END).to_le_bytes());
    put(102, &(area::TSS_LEN as u16).to_le_bytes());
    arena.write(page, area::TSS, &task);
}

/// Fills a vCPU's interrupt descriptor table.
pub fn write_idt(arena: &Arena, page: Page, place: Place) {
    let own = (0..VECTORS).map(|vector| (vector, vector));
    for (vector, index) in own.chain([(INT80.into(), VECTORS)]) {
        let entry = place.code() + (index * ENTRY) as u64;
        // Interrupt gates. Programs may use those of `int3`, `into` and 32-bit system calls.
        let level: u64 = if matches!(vector, 3 | 4 | 0x80) { 3 } else { 0 };
        let stack = u64::from(vector == 8);
        let low = entry & 0xffff
            | u64::from(selector::KERNEL_CODE) << 16
            | stack << 32
            | (0x8e | level << 5) << 40
            | (entry >> 16 & 0xffff) << 48;
        arena.store(page, 16 * vector as u64, low);
        arena.store(page, 16 * vector as u64 + 8, entry >> 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::HELD;
    use crate::kvm::pipes::{
        self, BASE, GENERATION, HEAD, IS_READER, IS_WRITER, RING, TAIL, WRITING,
    };

    #[test]
    fn the_code_is_one_page_and_its_entries_are_where_the_table_says() {
        let code = code::bytes();
        assert!(code.len() < CALLS as usize);
        assert_eq!(calls().iter().filter(|slot| **slot != 0).count(), PureCall::ALL.len());
        for vector in 0..VECTORS {
            let with_error = matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30);
            let expected: &[u8] = if with_error { &[0x57, 0xbf] } else { &[0x6a, 0, 0x57, 0xbf] };
            let entry = &code[vector * ENTRY..];
            assert_eq!(&entry[..expected.len()], expected, "vector {vector}");
            assert_eq!(usize::from(entry[expected.len()]), vector);
        }
        assert_eq!(code[VECTORS * ENTRY..][..5], [0x6a, 0, 0x57, 0xbf, INT80]);
        // The instruction before the start is the `hlt`.
        assert_eq!(code[code::resume() as usize - 1], 0xf4);
        assert_eq!((area::BLOCK_END) % 16, 0);
        // `mov ecx, [rdx]`, `mov rbx, [rdx]`, `mov [rdx], rax`, `rep movsb` two times.
        let instructions: [&[u8]; 5] =
            [&[0x8b, 0x0a], &[0x48, 0x8b, 0x1a], &[0x48, 0x89, 0x02], &[0xf3, 0xa4], &[0xf3, 0xa4]];
        for (access, instruction) in code::accesses().into_iter().zip(instructions) {
            assert_eq!(code[access as usize..][..instruction.len()], *instruction);
        }
        let place = Place::new(7);
        assert_eq!(
            place.fix_up(place.code() + code::accesses()[0]),
            Some(place.code() + code::fix_up())
        );
        assert_eq!(place.fix_up(place.code() + code::accesses()[0] + 1), None);
        // Where ring 0 pushes while it accesses memory of programs: the CPU aligns the stack.
        assert_eq!((area::RIP + 24) % 16, 0);
        // What the assembly has as numbers.
        assert_eq!(PureCall::Futex.slot(), 9);
        assert_eq!(WAITERS_BASE, 0xffff_8000_8000_0000);
        assert_eq!(PureCall::Sigprocmask.slot(), 10);
        assert_eq!((MASKS_BASE, MASK_SIZE), (0xffff_8000_c000_0000, 1 << 6));
        assert_eq!(HELD, 1 << (libc::SIGKILL - 1));
        assert_eq!(PureCall::Lseek.slot(), 11);
        assert_eq!((DESCRIPTORS_BASE, DESCRIPTORS), (0xffff_8001_0000_0000, 512));
        assert_eq!((PureCall::Read.slot(), PureCall::Write.slot()), (12, 13));
        assert_eq!((PIPES_BASE, PIPE_SIZE), (0xffff_8001_8000_0000, 1 << 6));
        assert_eq!((HEAD, TAIL, BASE, GENERATION, RING), (0, 8, 16, 24, 32));
        assert_eq!((pipes::HELD, WRITING), (1 << 63, 1 << 62));
        assert_eq!((IS_READER, IS_WRITER), (1 << 33, 1 << 34));
        assert_eq!(place.copies(), place.area() + 0x2000);
        let writing = code::writing();
        assert!(writing.start < writing.end && writing.end < code.len() as u64);
        assert_eq!((POSITIONS_BASE, POSITION_BITS), (0xffff_8001_4000_0000, 40));
    }
}
