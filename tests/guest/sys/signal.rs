//! Signals: one recording handler with selectable side effects, masks and queues.
#![expect(unsafe_code, reason = "signal handlers, their contexts and jumps out of them")]

use super::{Ret, at, at_mut, errno, mem, process, sc};
use libc::{SA_SIGINFO, c_void};
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::SeqCst};

/// The bit of a signal in a kernel signal mask.
pub const fn bit(sig: i32) -> u64 {
    1 << (sig - 1)
}
/// A kernel signal mask of these signals.
pub fn set(sigs: &[i32]) -> u64 {
    sigs.iter().fold(0, |m, &s| m | bit(s))
}
/// rt_sigprocmask(2): returns the old mask.
pub fn sigmask(how: i32, mask: u64) -> u64 {
    let mut old = 0u64;
    sc!(SYS_rt_sigprocmask, how, at(&mask), at_mut(&mut old), 8);
    old
}
/// Blocks these signals; returns the old mask.
pub fn block(sigs: &[i32]) -> u64 {
    sigmask(libc::SIG_BLOCK, set(sigs))
}
/// Unblocks these signals; returns the old mask.
pub fn unblock(sigs: &[i32]) -> u64 {
    sigmask(libc::SIG_UNBLOCK, set(sigs))
}
/// The names of the signals in a mask.
pub fn names(mask: u64) -> String {
    let set: Vec<String> = (1..=64).filter(|&s| mask & bit(s) != 0).map(errno::signal).collect();
    if set.is_empty() { "none".into() } else { set.join(" ") }
}
/// The names of the pending signals.
pub fn pending() -> String {
    let mut mask = 0u64;
    sc!(SYS_rt_sigpending, at_mut(&mut mask), 8);
    names(mask)
}
/// Sends a signal to the calling thread.
pub fn raise(sig: i32) -> Ret {
    sc!(SYS_tgkill, process::getpid(), process::gettid(), sig)
}

/// A disposition that was replaced.
pub struct Saved {
    sig: i32,
    old: libc::sigaction,
}

impl Saved {
    /// Puts the disposition back.
    pub fn restore(self) {
        // SAFETY: `old` came from the kernel for the same signal.
        unsafe { libc::sigaction(self.sig, &self.old, std::ptr::null_mut()) };
    }
}

/// sigaction(2) with a raw handler address, flags and mask.
pub fn set_action(sig: i32, handler: usize, flags: i32, mask: u64) -> Saved {
    // SAFETY: sigaction is a C structure of integers; zeroes are a value.
    let (mut new, mut old): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    new.sa_sigaction = handler;
    new.sa_flags = flags;
    // SAFETY: both structures are valid; the kernel's mask is the first word of sigset_t.
    unsafe {
        *(&raw mut new.sa_mask).cast::<u64>() = mask;
        libc::sigaction(sig, &new, &mut old);
    }
    Saved { sig, old }
}

/// The disposition of a signal as text: `default`, `ignore` or `handler`, with its flags.
pub fn action(sig: i32) -> String {
    let mut raw = [0u64; 4];
    let ret = sc!(SYS_rt_sigaction, sig, 0u64, at_mut(&mut raw), 8);
    if !ret.ok() {
        return ret.to_string();
    }
    let kind = match raw[0] {
        0 => "default",
        1 => "ignore",
        _ => "handler",
    };
    // SA_RESTORER is the C library's affair.
    format!("{kind} flags {:#x} mask {}", raw[1] & !0x0400_0000, names(raw[3]))
}
/// Sets the default disposition.
pub fn default(sig: i32) {
    set_action(sig, libc::SIG_DFL, 0, 0);
}
/// Ignores a signal.
pub fn ignore(sig: i32) {
    set_action(sig, libc::SIG_IGN, 0, 0);
}

/// What the recording handler does besides recording.
#[derive(Clone, Copy)]
pub enum Extra {
    /// Nothing.
    None,
    /// Sends this signal to the own thread and looks at the pending set before returning.
    Raise(i32),
    /// Advances the saved instruction pointer by some bytes.
    Skip(u8),
    /// Blocks this signal in the mask that the return restores.
    Block(i32),
    /// Overwrites every vector register.
    Clobber,
    /// Jumps back to the innermost [`attempt`] instead of returning.
    Throw,
    /// Writes one byte to this descriptor.
    Write(i32),
    /// Makes the faulting page readable and writable.
    Unprotect,
}

impl Extra {
    fn encode(self) -> i64 {
        let (kind, arg) = match self {
            Extra::None => (0, 0),
            Extra::Raise(s) => (1, s),
            Extra::Skip(n) => (2, i32::from(n)),
            Extra::Block(s) => (3, s),
            Extra::Clobber => (4, 0),
            Extra::Throw => (5, 0),
            Extra::Write(fd) => (6, fd),
            Extra::Unprotect => (7, 0),
        };
        kind << 32 | i64::from(arg)
    }
}

static EXTRA: [AtomicI64; 65] = [const { AtomicI64::new(0) }; 65];

/// Installs the recording handler.
pub fn catch(sig: i32, flags: i32) -> Saved {
    catch_with(sig, flags, 0, Extra::None)
}

/// Installs the recording handler with a mask and a side effect.
pub fn catch_with(sig: i32, flags: i32, mask: u64, extra: Extra) -> Saved {
    if let Some(slot) = usize::try_from(sig).ok().and_then(|i| EXTRA.get(i)) {
        slot.store(extra.encode(), SeqCst);
    }
    set_action(sig, on_signal as *const () as usize, flags | SA_SIGINFO, mask)
}

/// One delivered signal.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// The signal.
    pub sig: i32,
    /// si_code.
    pub code: i32,
    /// si_value (or si_status, for SIGCHLD).
    pub value: i64,
    /// si_pid.
    pub pid: i32,
    /// si_uid.
    pub uid: i32,
    /// si_addr.
    pub addr: u64,
    /// Whether the handler ran on the alternate stack.
    pub on_alt: bool,
    /// The signal mask inside the handler.
    pub mask: u64,
    /// The thread it ran on.
    pub tid: i32,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", errno::signal(self.sig), code_name(self.sig, self.code))?;
        if self.code == libc::SI_QUEUE {
            write!(f, " value {}", self.value)?;
        }
        if self.on_alt { write!(f, " on altstack") } else { Ok(()) }
    }
}

const FIELDS: usize = 9;
const SLOTS: usize = 256;
static LOG: [AtomicI64; FIELDS * SLOTS] = [const { AtomicI64::new(0) }; FIELDS * SLOTS];
static COUNT: AtomicUsize = AtomicUsize::new(0);
static ALT_BASE: AtomicU64 = AtomicU64::new(0);
static ALT_LEN: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_signal(sig: i32, info: *mut libc::siginfo_t, ctx: *mut c_void) {
    // SAFETY: a siginfo is 128 bytes of integers; 32 words may be read.
    let words = unsafe { &*info.cast::<[i32; 32]>() };
    let here = &raw const words as u64;
    let (base, len) = (ALT_BASE.load(SeqCst), ALT_LEN.load(SeqCst));
    let value = i64::from(words[6]);
    let addr = (words[4] as u32 as i64) | (words[5] as i64) << 32;
    let fields = [
        i64::from(sig),
        i64::from(words[2]),
        value,
        i64::from(words[4]),
        i64::from(words[5]),
        addr,
        i64::from(here.wrapping_sub(base) < len),
        sigmask(libc::SIG_BLOCK, 0) as i64,
        i64::from(process::gettid()),
    ];
    let slot = COUNT.fetch_add(1, SeqCst) % SLOTS;
    for (field, place) in fields.iter().zip(&LOG[slot * FIELDS..]) {
        place.store(*field, SeqCst);
    }
    let extra = EXTRA.get(sig as usize).map_or(0, |e| e.load(SeqCst));
    // SAFETY: the kernel passes a valid ucontext; the saved mask is one word.
    unsafe { side_effect(extra, addr as u64, &mut *ctx.cast::<libc::ucontext_t>()) }
}

/// # Safety
/// `ctx` must be the handler's own context.
unsafe fn side_effect(extra: i64, addr: u64, ctx: &mut libc::ucontext_t) {
    let arg = extra as i32;
    match extra >> 32 {
        1 => {
            raise(arg);
        }
        2 => ctx.uc_mcontext.gregs[libc::REG_RIP as usize] += i64::from(arg),
        // SAFETY: the kernel's mask is the first word of uc_sigmask.
        3 => unsafe { *(&raw mut ctx.uc_sigmask).cast::<u64>() |= bit(arg) },
        // SAFETY: declared as clobbers; sigreturn restores the interrupted code's values.
        4 => unsafe {
            std::arch::asm!("pcmpeqd xmm0, xmm0", "movaps xmm1, xmm0", "movaps xmm7, xmm0",
                "movaps xmm12, xmm0", "movaps xmm15, xmm0", "fninit", "fldpi",
                out("xmm0") _, out("xmm1") _, out("xmm7") _, out("xmm12") _, out("xmm15") _,
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _);
        },
        // SAFETY: only used inside `attempt`, on the same thread.
        5 => unsafe { conformance_throw() },
        6 => {
            sc!(SYS_write, arg, b"!", 1);
        }
        7 => {
            mem::mprotect(addr & !(mem::PAGE - 1), mem::PAGE, libc::PROT_READ | libc::PROT_WRITE);
        }
        _ => {}
    }
}

/// Takes every signal recorded so far, in the order of delivery.
pub fn hits() -> Vec<Hit> {
    let n = COUNT.swap(0, SeqCst).min(SLOTS);
    (0..n)
        .map(|i| {
            let f = |k: usize| LOG[i * FIELDS + k].load(SeqCst);
            Hit {
                sig: f(0) as i32,
                code: f(1) as i32,
                value: f(2),
                pid: f(3) as i32,
                uid: f(4) as i32,
                addr: f(5) as u64,
                on_alt: f(6) == 1,
                mask: f(7) as u64,
                tid: f(8) as i32,
            }
        })
        .collect()
}
/// Takes every signal recorded so far as one line of text.
pub fn caught() -> String {
    let all: Vec<String> = hits().iter().map(Hit::to_string).collect();
    if all.is_empty() { "none".into() } else { all.join(", ") }
}
/// How many signals were recorded since the last [`hits`].
pub fn count() -> usize {
    COUNT.load(SeqCst)
}

/// sigaltstack(2) with fresh memory of `len` bytes and these flags.
pub fn altstack(len: u64, flags: i32) -> Ret {
    let base = mem::anon(len.div_ceil(mem::PAGE).max(1));
    let ret = sc!(SYS_sigaltstack, at(&[base, flags as u64, len]), 0u64);
    if ret.ok() {
        ALT_BASE.store(base, SeqCst);
        ALT_LEN.store(len, SeqCst);
    }
    ret
}

/// rt_sigqueueinfo(2) or, with `tid` nonzero, rt_tgsigqueueinfo(2).
pub fn queue(pid: i32, tid: i32, sig: i32, code: i32, value: i32) -> Ret {
    let mut info = [0i32; 32];
    info[0] = sig;
    info[2] = code;
    info[4] = process::getpid();
    info[5] = sc!(SYS_getuid).fd();
    info[6] = value;
    match tid {
        0 => sc!(SYS_rt_sigqueueinfo, pid, sig, at(&info)),
        _ => sc!(SYS_rt_tgsigqueueinfo, pid, tid, sig, at(&info)),
    }
}

/// rt_sigtimedwait(2): the signal's name and code, or the error.
pub fn sigwait(sigs: &[i32], timeout_ms: i64) -> String {
    let mut info = [0i32; 32];
    let mask = set(sigs);
    let span = super::time::span(timeout_ms);
    let ret = sc!(SYS_rt_sigtimedwait, at(&mask), at_mut(&mut info), at(&span), 8);
    if !ret.ok() {
        return ret.to_string();
    }
    let value = if info[2] == libc::SI_QUEUE { format!(" value {}", info[6]) } else { "".into() };
    format!("{} {}{value}", errno::signal(ret.fd()), code_name(info[0], info[2]))
}

/// The symbolic name of a si_code.
pub fn code_name(sig: i32, code: i32) -> String {
    let special = match (sig, code) {
        (_, 0) => "SI_USER",
        (_, 0x80) => "SI_KERNEL",
        (_, -1) => "SI_QUEUE",
        (_, -2) => "SI_TIMER",
        (_, -3) => "SI_MESGQ",
        (_, -4) => "SI_ASYNCIO",
        (_, -5) => "SI_SIGIO",
        (_, -6) => "SI_TKILL",
        (libc::SIGSEGV, 1) => "SEGV_MAPERR",
        (libc::SIGSEGV, 2) => "SEGV_ACCERR",
        (libc::SIGBUS, 1) => "BUS_ADRALN",
        (libc::SIGBUS, 2) => "BUS_ADRERR",
        (libc::SIGFPE, 1) => "FPE_INTDIV",
        (libc::SIGFPE, 7) => "FPE_FLTINV",
        (libc::SIGFPE, 3) => "FPE_FLTDIV",
        (libc::SIGILL, 2) => "ILL_ILLOPN",
        (libc::SIGTRAP, 1) => "TRAP_BRKPT",
        (libc::SIGTRAP, 2) => "TRAP_TRACE",
        (libc::SIGCHLD, 1) => "CLD_EXITED",
        // Whether a core was written is the machine's setting, not the kernel's behaviour.
        (libc::SIGCHLD, 2 | 3) => "CLD_KILLED",
        (libc::SIGCHLD, 5) => "CLD_STOPPED",
        (libc::SIGCHLD, 6) => "CLD_CONTINUED",
        (libc::SIGIO, 1) => "POLL_IN",
        (libc::SIGSYS, 1) => "SYS_SECCOMP",
        _ => return format!("code {code}"),
    };
    special.to_string()
}

std::arch::global_asm!(
    ".globl conformance_try, conformance_throw",
    "conformance_try:",
    "push rbp; push rbx; push r12; push r13; push r14; push r15; sub rsp, 8",
    "mov [rip + conformance_jump], rsp",
    "call rdi",
    "xor eax, eax",
    "2: add rsp, 8; pop r15; pop r14; pop r13; pop r12; pop rbx; pop rbp; ret",
    "conformance_throw:",
    "mov rsp, [rip + conformance_jump]",
    "mov eax, 1",
    "jmp 2b",
    ".lcomm conformance_jump, 8",
);
unsafe extern "C" {
    fn conformance_try(f: extern "C" fn()) -> u32;
    fn conformance_throw() -> !;
}

/// Runs `f`; true when a handler with [`Extra::Throw`] jumped out of it, as siglongjmp(3) would.
/// The jump restores no signal mask.
pub fn attempt(f: extern "C" fn()) -> bool {
    // SAFETY: `conformance_try` saves every callee-saved register, and `f` owns nothing that needs
    // dropping, so leaving it early is sound.
    unsafe { conformance_try(f) == 1 }
}

/// Faulting instructions, for handlers that look at or resume from them.
#[derive(Clone, Copy)]
pub enum Fault {
    /// `ud2`, two bytes.
    Undefined,
    /// `int3`; the saved instruction pointer is already behind it.
    Breakpoint,
    /// A division by zero, two bytes.
    Divide,
    /// A read of address 0, two bytes.
    Null,
    /// `hlt`, one byte, a general protection fault.
    Privileged,
    /// A read of a non-canonical address, two bytes.
    NonCanonical,
}

/// Executes a faulting instruction; a handler that skips it makes this return.
pub fn fault(kind: Fault) {
    // SAFETY: each either ends the process or is resumed behind by a handler; registers written are
    // declared.
    unsafe {
        match kind {
            Fault::Undefined => std::arch::asm!("ud2"),
            Fault::Breakpoint => std::arch::asm!("int3"),
            Fault::Divide => std::arch::asm!("div ecx", inout("eax") 1 => _, inout("edx") 0 => _,
                in("ecx") 0),
            Fault::Null => std::arch::asm!("mov eax, [rax]", inout("rax") 0u64 => _),
            Fault::Privileged => std::arch::asm!("hlt"),
            Fault::NonCanonical => {
                std::arch::asm!("mov eax, [rax]", inout("rax") 0x8000_0000_0000_0000u64 => _);
            }
        }
    }
}

/// Whether vector registers, the x87 stack and MXCSR survive a system call that delivers `sig`.
pub fn fp_survives(sig: i32) -> bool {
    let (pid, tid) = (process::getpid(), process::gettid());
    let want: [u32; 4] = [0x1111_1111, 0x2222_2222, 0x3333_3333, 0x4444_4444];
    let (mut low, mut high, mut st, mut mxcsr) = ([0u32; 4], [0u32; 4], 0f64, 0u32);
    let new_mxcsr = 0x3f80u32;
    let old_mxcsr = 0x1f80u32;
    let value = 1234.5f64;
    // SAFETY: only declared registers and the named variables are changed; MXCSR (rounding) is put
    // back and the x87 stack is left empty.
    unsafe {
        std::arch::asm!(
            "ldmxcsr [{nm}]", "movups xmm7, [{w}]", "movups xmm12, [{w}]", "fld qword ptr [{v}]",
            "syscall",
            "movups [{lo}], xmm7", "movups [{hi}], xmm12", "fstp qword ptr [{s}]",
            "stmxcsr [{m}]", "ldmxcsr [{om}]",
            nm = in(reg) &new_mxcsr, w = in(reg) &want, v = in(reg) &value, lo = in(reg) &mut low,
            hi = in(reg) &mut high, s = in(reg) &mut st, m = in(reg) &mut mxcsr,
            om = in(reg) &old_mxcsr,
            inout("rax") libc::SYS_tgkill => _, in("rdi") pid, in("rsi") tid, in("rdx") sig,
            out("rcx") _, out("r11") _, out("xmm7") _, out("xmm12") _,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
        );
    }
    low == want && high == want && st == value && mxcsr & 0xffc0 == new_mxcsr & 0xffc0
}
