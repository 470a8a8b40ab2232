#![expect(unsafe_code, reason = "the vDSO's functions are assembly, copied as bytes")]
//! The vDSO's functions, as the guest runs them.
//!
//! The bytes between `vdso_start` and `vdso_end` are copied to the page behind the image's headers;
//! the page of parameters ([`super::params::field`]) lies two pages below them, and below that the page with
//! what the time namespace adds to each clock. All addresses are relative to the instruction pointer.
//! Registers are those a C function may change.

use super::params::field;

/// 2^75 / 5^9, rounded up.
const PER_SECOND: u64 = ((1 << 75_u128) / 1_953_125_u128 + 1) as u64;

core::arch::global_asm!(
    ".pushsection .rodata.vdso, \"a\", @progbits",
    ".p2align 6",
    ".hidden sentry_vdso_start",
    ".globl sentry_vdso_start",
    "sentry_vdso_start:",
    // int clock_gettime(clockid_t edi, struct timespec *rsi)
    ".p2align 4",
    ".hidden sentry_vdso_clock_gettime",
    ".globl sentry_vdso_clock_gettime",
    "sentry_vdso_clock_gettime:",
    "mov r9d, {monotonic}",
    "cmp edi, 1",
    "je 2f",
    "cmp edi, 6",
    "je 2f",
    "mov r9d, {realtime}",
    "test edi, edi",
    "je 2f",
    "cmp edi, 5",
    "je 2f",
    "mov r9d, {boottime}",
    "cmp edi, 7",
    "jne 3f",
    "2:",
    "call sentry_vdso_read",
    "test rax, rax",
    "je 3f",
    "call sentry_vdso_split",
    "mov [rsi], rdx",
    "mov [rsi + 8], rcx",
    "xor eax, eax",
    "ret",
    "3:",
    "mov eax, 228",
    "syscall",
    "ret",
    // int gettimeofday(struct timeval *rdi, struct timezone *rsi)
    ".p2align 4",
    ".hidden sentry_vdso_gettimeofday",
    ".globl sentry_vdso_gettimeofday",
    "sentry_vdso_gettimeofday:",
    "test rsi, rsi",
    "jne 3f",
    "test rdi, rdi",
    "je 3f",
    "mov r9d, {realtime}",
    "call sentry_vdso_read",
    "test rax, rax",
    "je 3f",
    "call sentry_vdso_split",
    "mov [rdi], rdx",
    // / 1000, of less than 2^30.
    "imul rcx, rcx, 274877907",
    "shr rcx, 38",
    "mov [rdi + 8], rcx",
    "xor eax, eax",
    "ret",
    "3:",
    "mov eax, 96",
    "syscall",
    "ret",
    // time_t time(time_t *rdi)
    ".p2align 4",
    ".hidden sentry_vdso_time",
    ".globl sentry_vdso_time",
    "sentry_vdso_time:",
    "mov r9d, {realtime}",
    "call sentry_vdso_read",
    "test rax, rax",
    "je 3f",
    "call sentry_vdso_split",
    "mov rax, rdx",
    "test rdi, rdi",
    "je 2f",
    "mov [rdi], rax",
    "2:",
    "ret",
    "3:",
    "mov eax, 201",
    "syscall",
    "ret",
    // int clock_getres(clockid_t edi, struct timespec *rsi)
    ".p2align 4",
    ".hidden sentry_vdso_clock_getres",
    ".globl sentry_vdso_clock_getres",
    "sentry_vdso_clock_getres:",
    "mov eax, 229",
    "syscall",
    "ret",
    // int getcpu(unsigned *rdi, unsigned *rsi, void *)
    // Linux keeps the numbers in the limit of a segment: bits 0-11 the CPU, above them the node.
    ".p2align 4",
    ".hidden sentry_vdso_getcpu",
    ".globl sentry_vdso_getcpu",
    "sentry_vdso_getcpu:",
    "mov eax, 0x7b",
    "lsl eax, eax",
    "jne 4f",
    "mov edx, eax",
    "and eax, 0xfff",
    "shr edx, 12",
    "test rdi, rdi",
    "je 2f",
    "mov [rdi], eax",
    "2:",
    "test rsi, rsi",
    "je 3f",
    "mov [rsi], edx",
    "3:",
    "xor eax, eax",
    "ret",
    "4:",
    "mov eax, 309",
    "syscall",
    "ret",
    // Nanoseconds in rax as seconds in rdx and the rest in rcx. Changes rax. A division takes longer than all the rest
    // of reading a clock: n / 10^9 = ((n >> 9) * ceil(2^75 / 5^9)) >> 75, exact for all n below 2^64, as
    // (n >> 9) * (ceil(2^75 / 5^9) * 5^9 - 2^75) is below 2^75.
    ".p2align 4",
    "sentry_vdso_split:",
    "mov rcx, rax",
    "shr rax, 9",
    "movabs rdx, {per_second}",
    "mul rdx",
    "shr rdx, 11",
    "imul rax, rdx, 1000000000",
    "sub rcx, rax",
    "ret",
    // Nanoseconds of the clock whose field is r9 in rax; 0 if the counter cannot be used. Changes
    // rdx, r8, r10.
    ".p2align 4",
    "sentry_vdso_read:",
    "lea r8, [rip + sentry_vdso_start - 0x2000]",
    "1:",
    "mov r10d, [r8 + {seq}]",
    "test r10d, 1",
    "jne 2f",
    "cmp dword ptr [r8 + {mode}], 1",
    "jne 3f",
    "lfence",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "sub rax, [r8 + {base_tsc}]",
    "jae 4f",
    "xor eax, eax",
    "4:",
    "mul qword ptr [r8 + {mult}]",
    "shrd rax, rdx, 32",
    "add rax, [r8 + r9]",
    "add rax, [r8 + r9 - 0x1000]",
    "cmp r10d, [r8 + {seq}]",
    "jne 1b",
    "ret",
    "2:",
    "pause",
    "jmp 1b",
    "3:",
    "xor eax, eax",
    "ret",
    ".hidden sentry_vdso_end",
    ".globl sentry_vdso_end",
    "sentry_vdso_end:",
    ".popsection",
    per_second = const PER_SECOND,
    seq = const field::SEQ,
    mode = const field::MODE,
    base_tsc = const field::BASE_TSC,
    mult = const field::MULT,
    monotonic = const field::MONOTONIC,
    realtime = const field::REALTIME,
    boottime = const field::BOOTTIME,
);

// SAFETY: the labels above; only their addresses are used, and the bytes between the first and the
// last.
unsafe extern "C" {
    static sentry_vdso_start: u8;
    static sentry_vdso_end: u8;
    static sentry_vdso_clock_gettime: u8;
    static sentry_vdso_gettimeofday: u8;
    static sentry_vdso_time: u8;
    static sentry_vdso_clock_getres: u8;
    static sentry_vdso_getcpu: u8;
}

/// The machine code, and where its functions are.
pub struct Code {
    /// Position-independent bytes.
    pub bytes: &'static [u8],
    /// Name without the prefix `__vdso_`, and offset in `bytes`.
    pub functions: [(&'static str, u64); 5],
}

/// The functions above.
pub fn bytes() -> Code {
    let start = &raw const sentry_vdso_start;
    let offset = |label: *const u8| (label as usize - start as usize) as u64;
    let len = offset(&raw const sentry_vdso_end) as usize;
    // SAFETY: the assembler laid the labels out in this order in one read-only section, so the bytes
    // between them are initialised and never change.
    let bytes = unsafe { std::slice::from_raw_parts(start, len) };
    Code {
        bytes,
        functions: [
            ("clock_gettime", offset(&raw const sentry_vdso_clock_gettime)),
            ("gettimeofday", offset(&raw const sentry_vdso_gettimeofday)),
            ("time", offset(&raw const sentry_vdso_time)),
            ("clock_getres", offset(&raw const sentry_vdso_clock_getres)),
            ("getcpu", offset(&raw const sentry_vdso_getcpu)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::PER_SECOND;

    #[test]
    fn seconds_without_a_division() {
        let split = |n: u64| (u128::from(n >> 9) * u128::from(PER_SECOND) >> 75) as u64;
        let edges =
            (0..=u64::MAX / 1_000_000_000).step_by(7_654_321).chain([u64::MAX / 1_000_000_000]);
        for n in edges.map(|s| s * 1_000_000_000) {
            for n in [n, n.saturating_sub(1), n.saturating_add(999_999_999)] {
                assert_eq!(split(n), n / 1_000_000_000, "{n}");
            }
        }
        for n in (0..64).map(|shift| u64::MAX >> shift) {
            assert_eq!(split(n), n / 1_000_000_000, "{n}");
        }
        for n in (0..1_000_000_000_u64).step_by(977).chain([999, 1000, 999_999_999]) {
            assert_eq!(n * 274_877_907 >> 38, n / 1000, "{n}");
        }
    }
}
