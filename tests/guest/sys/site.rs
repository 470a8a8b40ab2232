//! Code of a case's own, in a file, and calls of it with every register that a system call may change.
#![expect(unsafe_code, reason = "calls machine code that a case has written")]

use super::fs::put;
use super::mem::{PAGE, mmap};
use super::signal::set_action;
use libc::{MAP_PRIVATE, O_RDONLY, PROT_EXEC, PROT_READ, c_void};
use std::ffi::CStr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};

/// `endbr64`, with which functions begin.
const START: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
/// Offset of the `syscall` in [`load`].
pub const CALL: u64 = 9;
/// Offset of the `syscall` in [`TAIL`].
pub const TAIL_CALL: u64 = 4;

/// `endbr64; mov $number, %eax; syscall; ret`.
pub fn load(number: i64) -> Vec<u8> {
    let mut code = START.to_vec();
    code.push(0xb8);
    code.extend_from_slice(&(number as u32).to_le_bytes());
    code.extend_from_slice(&[0x0f, 0x05, 0xc3]);
    code
}

/// As [`load`] with a `nop` before the `ret`: behind the call is no instruction that could stand elsewhere.
pub fn load_alone(number: i64) -> Vec<u8> {
    let mut code = load(number);
    code.insert(CALL as usize + 2, 0x90);
    code
}

/// `endbr64; syscall; cmp $-4095, %rax; ret`: the number is the caller's.
pub const TAIL: [u8; 13] =
    [0xf3, 0x0f, 0x1e, 0xfa, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0xc3];

/// A private, readable and executable mapping of a new file with this code, a page long.
pub fn map(name: &CStr, code: &[u8]) -> u64 {
    let mut page = code.to_vec();
    page.resize(PAGE as usize, 0xcc);
    put(name, page);
    map_again(name, MAP_PRIVATE)
}

/// Another mapping of the first page of such a file.
pub fn map_again(name: &CStr, flags: i32) -> u64 {
    let fd = super::fs::open(name, O_RDONLY, 0);
    let at = mmap(near(), PAGE, PROT_READ | PROT_EXEC, flags, fd.fd(), 0).addr();
    super::fs::close(fd);
    at
}

/// The next free address in the neighbourhood of this program's own code. Processes have different ones, for a kernel may
/// remember what it did for a place.
pub fn near() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let own = (super::process::getpid() as u64 & 0xfff) << 18;
    let below = (64 << 20) + own + NEXT.fetch_add(2 * PAGE, SeqCst);
    (near as *const () as u64 & !(PAGE - 1)) - below
}

/// Registers after a call.
#[derive(Clone, Copy)]
pub struct After {
    /// The result.
    pub rax: i64,
    /// Where Linux says that the call returned to.
    pub rcx: u64,
    /// Flags that Linux says the call was made with.
    pub r11: u64,
    /// The flags.
    pub flags: u64,
    /// Whether the words 8 and 120 bytes below the stack pointer of the code are as they were.
    pub red_zone: bool,
}

/// Calls code with these arguments in `rax`, `rdi`, `rsi`, `rdx`, `r10`, with these flags.
pub fn enter(code: u64, args: [u64; 5], flags: u64) -> After {
    let [mut rax, rdi, rsi, rdx, r10] = args;
    let (mut rcx, mut r11, near, far): (u64, u64, u64, u64);
    let mut seen: u64;
    // SAFETY: the code is a case's own; it changes only what a system call changes and keeps the stack. The
    // words below the stack pointer are of this function's own frame.
    unsafe {
        std::arch::asm!(
            "sub rsp, 256",
            "mov r12, 0x1122334455667788",
            // Below the return address that the code finds at its stack pointer, which is at -8.
            "mov [rsp - 16], r12",
            "mov [rsp - 128], r12",
            "push {flags}",
            "popfq",
            "call {code}",
            "pushfq",
            "pop {seen}",
            "cld",
            "mov r12, [rsp - 16]",
            "mov r13, [rsp - 128]",
            "add rsp, 256",
            flags = in(reg) flags,
            code = in(reg) code,
            seen = lateout(reg) seen,
            inout("rax") rax, in("rdi") rdi, in("rsi") rsi, in("rdx") rdx, in("r10") r10,
            out("rcx") rcx, out("r11") r11, out("r12") near, out("r13") far,
        );
    }
    let word = 0x1122_3344_5566_7788;
    After { rax: rax as i64, rcx, r11, flags: seen, red_zone: near == word && far == word }
}

/// Makes a place hot: calls it some thousands of times with the same arguments; the last result.
pub fn heat(code: u64, args: [u64; 5]) -> i64 {
    let mut last = 0;
    for _ in 0..3000 {
        last = enter(code, args, 0x202).rax;
    }
    last
}

/// Start of the code whose interruptions [`interrupted`] tells about.
static CODE: AtomicU64 = AtomicU64::new(0);
static OFFSET: AtomicI64 = AtomicI64::new(-1);
static NUMBER: AtomicI64 = AtomicI64::new(0);
/// One bit for each of the first 64 offsets at which the code was interrupted.
static OFFSETS: AtomicU64 = AtomicU64::new(0);
/// Interruptions in memory that is neither this program's, nor a library's, nor the code.
static STRANGE: AtomicU64 = AtomicU64::new(0);

/// Whether an address is in this program, which is linked with all that it uses.
fn is_program(address: u64) -> bool {
    unsafe extern "C" {
        static __ehdr_start: u8;
        static etext: u8;
    }
    (&raw const __ehdr_start as u64..&raw const etext as u64).contains(&address)
}

extern "C" fn on_signal(_: i32, _: *mut libc::siginfo_t, ctx: *mut c_void) {
    // SAFETY: the kernel passes a valid ucontext to an SA_SIGINFO handler.
    let gregs = unsafe { &(*ctx.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let offset = (gregs[libc::REG_RIP as usize] as u64).wrapping_sub(CODE.load(SeqCst));
    match offset {
        0..64 => {
            OFFSETS.fetch_or(1 << offset, SeqCst);
        }
        _ if !is_program(gregs[libc::REG_RIP as usize] as u64) => {
            STRANGE.fetch_add(1, SeqCst);
        }
        _ => {}
    }
    OFFSET.store(offset as i64, SeqCst);
    NUMBER.store(gregs[libc::REG_RAX as usize], SeqCst);
}

/// Records where in this code a signal comes.
pub fn watch(sig: i32, flags: i32, code: u64) {
    CODE.store(code, SeqCst);
    set_action(sig, on_signal as *const () as usize, flags | libc::SA_SIGINFO, 0);
}

/// Where the last one came: its offset in the code, and `rax`.
pub fn interrupted() -> (i64, i64) {
    (OFFSET.load(SeqCst), NUMBER.load(SeqCst))
}

/// All offsets where signals came, as bits, and how many came outside of all code that there is.
pub fn interruptions() -> (u64, u64) {
    (OFFSETS.load(SeqCst), STRANGE.load(SeqCst))
}
