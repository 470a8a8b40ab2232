//! What a thread was doing when it left guest code (`/proc/PID/syscall`): stored as it begins a system call, and when it stops
//! or sleeps outside of one. Whoever reads it meanwhile may see parts of two.

use platform::Registers;
use std::sync::atomic::{AtomicU64, Ordering};

/// No system call.
const NONE: u64 = u64::MAX;

/// The system call that a thread is in, if any, and where it left guest code.
#[derive(Debug)]
pub struct LastCall {
    /// [`NONE`] outside of one.
    nr: AtomicU64,
    args: [AtomicU64; 6],
    sp: AtomicU64,
    pc: AtomicU64,
}

impl Default for LastCall {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self { nr: AtomicU64::new(NONE), args: Default::default(), sp: zero(), pc: zero() }
    }
}

impl LastCall {
    /// Number of the system call that the thread is in.
    pub fn number(&self) -> Option<u64> {
        Some(self.nr.load(Ordering::Relaxed)).filter(|nr| *nr != NONE)
    }

    /// The line of `/proc/PID/syscall` for a thread that waits or has stopped.
    pub fn line(&self) -> String {
        let [sp, pc] = [&self.sp, &self.pc].map(|word| word.load(Ordering::Relaxed));
        let Some(nr) = self.number() else { return format!("-1 {sp:#x} {pc:#x}\n") };
        let args = self.args.each_ref().map(|arg| format!("{:#x}", arg.load(Ordering::Relaxed)));
        format!("{} {} {sp:#x} {pc:#x}\n", nr as i32, args.join(" "))
    }

    /// The thread begins the system call of that number in its registers.
    pub(super) fn begin(&self, nr: u64, regs: &Registers) {
        self.nr.store(nr, Ordering::Relaxed);
        for (place, arg) in self.args.iter().zip(regs.syscall_args()) {
            place.store(arg, Ordering::Relaxed);
        }
        self.stay(regs);
    }

    /// The system call is over.
    pub(super) fn end(&self) {
        self.nr.store(NONE, Ordering::Relaxed);
    }

    /// The thread stops outside of a system call: the last one counts until it has gone back to guest code.
    pub(super) fn stop(&self, regs: &Registers) {
        self.begin(i64::from(regs.orig_rax as i32) as u64, regs);
    }

    /// The thread waits, in the system call that it has begun or in none.
    pub(super) fn stay(&self, regs: &Registers) {
        self.sp.store(regs.rsp, Ordering::Relaxed);
        self.pc.store(regs.rip, Ordering::Relaxed);
    }
}
