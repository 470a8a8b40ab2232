//! Guest register state, as plain data.

use crate::cpu;
use crate::stub::layout::GUEST;

/// General registers of a guest thread. Field order and meaning are `struct user_regs_struct`'s.
#[expect(missing_docs, reason = "the fields are the CPU's registers")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// System-call number at a system-call stop, else `-1`.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
    /// Not a CPU register: run one instruction, then report `SIGTRAP`.
    pub single_step: bool,
}

impl Registers {
    /// State of a thread at `execve(2)`: everything zero but entry point and stack pointer.
    pub fn at_entry(rip: u64, rsp: u64) -> Self {
        Self {
            rip,
            rsp,
            cs: USER_CS,
            ss: USER_SS,
            eflags: EFLAGS_ENTRY,
            orig_rax: u64::MAX,
            ..Self::default()
        }
    }

    /// The system call's six arguments.
    pub fn syscall_args(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }
}

/// 64-bit user code segment selector.
pub const USER_CS: u64 = 0x33;
/// User data segment selector.
pub const USER_SS: u64 = 0x2b;
/// EFLAGS of a fresh thread: IF and the always-one bit.
pub const EFLAGS_ENTRY: u64 = 0x202;
/// EFLAGS bit of a zero result.
pub const EFLAGS_ZERO: u64 = 1 << 6;
/// EFLAGS bit of single-stepping.
pub const EFLAGS_TRAP: u64 = 1 << 8;
/// 32-bit user code segment, which 64-bit code may enter by a far jump.
pub const USER32_CS: u64 = 0x23;

/// Replaces what a program cannot have loaded itself: foreign segments, kernel addresses.
pub fn sanitize(registers: &mut Registers) {
    if registers.cs != USER32_CS {
        registers.cs = USER_CS;
    }
    registers.ss = USER_SS;
    for segment in [&mut registers.ds, &mut registers.es, &mut registers.fs, &mut registers.gs] {
        if *segment & 3 != 3 || *segment > u64::from(u16::MAX) {
            *segment = 0;
        }
    }
    for base in [&mut registers.fs_base, &mut registers.gs_base] {
        if *base >= GUEST.end {
            *base = 0;
        }
    }
}

/// EFLAGS bits that user code may change (`FIX_EFLAGS` in Linux's signal return).
pub const EFLAGS_USER: u64 = 0x0005_0dd5 | (1 << 8);

/// FP and vector state in the (standard, non-compacted) XSAVE layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XState {
    /// The XSAVE area; its length is fixed per host, see [`XState::size`].
    pub bytes: Box<[u8]>,
}

impl XState {
    /// Length of the area on this host, in bytes.
    pub fn size() -> usize {
        cpu::xsave_layout().size
    }

    /// Components that programs may use; `xfeatures` in a signal frame.
    pub fn features() -> u64 {
        cpu::xsave_layout().features
    }

    /// State of a thread at `execve(2)`.
    pub fn initial() -> Self {
        let layout = cpu::xsave_layout();
        let mut bytes = vec![0; layout.size].into_boxed_slice();
        // FCW: all exceptions masked, double-extended precision. MXCSR: all exceptions masked.
        put(&mut bytes, 0, &0x37f_u16.to_le_bytes());
        put(&mut bytes, 24, &0x1f80_u32.to_le_bytes());
        let mut present = 0b11_u64;
        if let Some(offset) = layout.pkru_offset {
            // Linux's default: only key 0 may be used.
            put(&mut bytes, offset, &0x5555_5554_u32.to_le_bytes());
            present |= 1 << cpu::PKRU;
        }
        put(&mut bytes, LEGACY_SIZE, &present.to_le_bytes());
        Self { bytes }
    }

    /// Whether the CPU would load this: no reserved bit is set (`XRSTOR` in the processor's manual).
    pub fn is_valid(&self) -> bool {
        let word = |at: usize| {
            let found = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
            found.map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
        };
        let reserved = self.bytes.get(LEGACY_SIZE + 8..LEGACY_SIZE + 64).unwrap_or(&[1]);
        self.bytes.len() == Self::size()
            && word(24) as u32 & !cpu::mxcsr_mask() == 0
            && word(LEGACY_SIZE) & !Self::features() == 0
            && reserved.iter().all(|byte| *byte == 0)
    }

    /// What the thread may do with which protection keys (`PKRU`); `None` where the CPU has none.
    pub fn pkru(&self) -> Option<u32> {
        let offset = cpu::xsave_layout().pkru_offset?;
        if self.present()? & 1 << cpu::PKRU == 0 {
            return Some(0);
        }
        self.bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// Sets what [`XState::pkru`] returns.
    pub fn set_pkru(&mut self, pkru: u32) {
        if let (Some(offset), Some(present)) = (cpu::xsave_layout().pkru_offset, self.present()) {
            put(&mut self.bytes, offset, &pkru.to_le_bytes());
            put(&mut self.bytes, LEGACY_SIZE, &(present | 1 << cpu::PKRU).to_le_bytes());
        }
    }

    /// Which components hold something (`XSTATE_BV`).
    fn present(&self) -> Option<u64> {
        let header = self.bytes.get(LEGACY_SIZE..)?.first_chunk()?;
        Some(u64::from_le_bytes(*header))
    }

    /// The legacy (`fxsave`) part: the first 512 bytes.
    pub fn legacy(&self) -> &[u8] {
        self.bytes.get(..LEGACY_SIZE).unwrap_or_default()
    }
}

/// Length of the legacy (`fxsave`) part of an XSAVE area, in bytes.
pub const LEGACY_SIZE: usize = 512;

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(slot) = bytes.get_mut(at..at + value.len()) {
        slot.copy_from_slice(value);
    }
}
