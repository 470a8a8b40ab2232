//! `siginfo_t`: what a signal carries (`sigaction(2)`).

use super::Signal;

/// Sent by `kill(2)`.
pub const SI_USER: i32 = 0;
/// Sent by the kernel.
pub const SI_KERNEL: i32 = 0x80;
/// Sent by `sigqueue(3)`.
pub const SI_QUEUE: i32 = -1;
/// A POSIX timer expired.
pub const SI_TIMER: i32 = -2;
/// A message queue changed.
pub const SI_MESGQ: i32 = -3;
/// Signal-driven I/O, queued.
pub const SI_SIGIO: i32 = -5;
/// Sent by `tkill(2)` or `tgkill(2)`.
pub const SI_TKILL: i32 = -6;

/// Child has exited.
pub const CLD_EXITED: i32 = 1;
/// Child was killed.
pub const CLD_KILLED: i32 = 2;
/// Child was killed, core flag set.
pub const CLD_DUMPED: i32 = 3;
/// Traced child has trapped.
pub const CLD_TRAPPED: i32 = 4;
/// Child has stopped.
pub const CLD_STOPPED: i32 = 5;
/// Stopped child has continued.
pub const CLD_CONTINUED: i32 = 6;

/// The part of `siginfo_t` that depends on the kind of signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigFields {
    /// Who sent it.
    Kill {
        /// Sender's process id.
        pid: i32,
        /// Sender's real user id.
        uid: u32,
    },
    /// Which timer expired.
    Timer {
        /// Timer id.
        id: i32,
        /// Which setting of the timer it belongs to; not shown to programs.
        sequence: u32,
        /// Expirations missed.
        overrun: i32,
        /// `sigev_value`.
        value: u64,
    },
    /// Who sent it, with which value.
    Queue {
        /// Sender's process id.
        pid: i32,
        /// Sender's real user id.
        uid: u32,
        /// `sigval`.
        value: u64,
    },
    /// Which child changed state.
    Child {
        /// Its process id.
        pid: i32,
        /// Its real user id.
        uid: u32,
        /// Exit code or signal.
        status: i32,
        /// User time in clock ticks.
        utime: i64,
        /// System time in clock ticks.
        stime: i64,
    },
    /// Where the fault was.
    Fault {
        /// Faulting address.
        addr: u64,
    },
    /// Where the fault was, and the protection key that did not permit the access.
    KeyFault {
        /// Faulting address.
        addr: u64,
        /// `si_pkey`.
        key: u8,
    },
    /// Which file became ready.
    Poll {
        /// `si_band`.
        band: i64,
        /// Descriptor.
        fd: i32,
    },
    /// Which system call was refused (seccomp).
    Sys {
        /// Address of the instruction.
        addr: u64,
        /// System-call number.
        nr: i32,
        /// `AUDIT_ARCH_*`.
        arch: u32,
    },
    /// Given by the program itself through `rt_sigqueueinfo(2)`: bytes 16 to 128.
    Raw([u8; 112]),
}

/// What a signal carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigInfo {
    /// The signal.
    pub signal: Signal,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// The rest.
    pub fields: SigFields,
}

/// Size of `siginfo_t` in bytes.
pub const SIGINFO_SIZE: usize = 128;

impl SigInfo {
    /// Sent by the kernel itself, about nothing in particular.
    pub fn kernel(signal: Signal) -> SigInfo {
        let fields = SigFields::Kill { pid: 0, uid: 0 };
        SigInfo { signal, errno: 0, code: SI_KERNEL, fields }
    }

    /// Sent by a process with `kill(2)`.
    pub fn user(signal: Signal, pid: i32, uid: u32) -> SigInfo {
        SigInfo { signal, errno: 0, code: SI_USER, fields: SigFields::Kill { pid, uid } }
    }

    /// A fault at an address.
    pub fn fault(signal: Signal, code: i32, addr: u64) -> SigInfo {
        SigInfo { signal, errno: 0, code, fields: SigFields::Fault { addr } }
    }

    /// A fault at an address because of its protection key.
    pub fn key_fault(signal: Signal, code: i32, addr: u64, key: u8) -> SigInfo {
        SigInfo { signal, errno: 0, code, fields: SigFields::KeyFault { addr, key } }
    }

    /// A file became ready (`F_SETSIG`); `signal` other than `SIGIO` or with `queued` carries fields.
    pub fn poll(signal: Signal, code: i32, band: i64, fd: i32) -> SigInfo {
        SigInfo { signal, errno: 0, code, fields: SigFields::Poll { band, fd } }
    }

    /// True when a user program sent it (`SI_FROMUSER`).
    pub fn from_user(&self) -> bool {
        self.code <= 0
    }

    /// The structure as the program sees it.
    pub fn to_bytes(&self) -> [u8; SIGINFO_SIZE] {
        let mut out = [0u8; SIGINFO_SIZE];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = out.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(0, &self.signal.number().to_le_bytes());
        put(4, &self.errno.to_le_bytes());
        put(8, &self.code.to_le_bytes());
        match self.fields {
            SigFields::Kill { pid, uid } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
            }
            SigFields::Timer { id, overrun, value, .. } => {
                put(16, &id.to_le_bytes());
                put(20, &overrun.to_le_bytes());
                put(24, &value.to_le_bytes());
            }
            SigFields::Queue { pid, uid, value } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
                put(24, &value.to_le_bytes());
            }
            SigFields::Child { pid, uid, status, utime, stime } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
                put(24, &status.to_le_bytes());
                put(32, &utime.to_le_bytes());
                put(40, &stime.to_le_bytes());
            }
            SigFields::Fault { addr } => put(16, &addr.to_le_bytes()),
            SigFields::KeyFault { addr, key } => {
                put(16, &addr.to_le_bytes());
                put(32, &u32::from(key).to_le_bytes());
            }
            SigFields::Poll { band, fd } => {
                put(16, &band.to_le_bytes());
                put(24, &fd.to_le_bytes());
            }
            SigFields::Sys { addr, nr, arch } => {
                put(16, &addr.to_le_bytes());
                put(24, &nr.to_le_bytes());
                put(28, &arch.to_le_bytes());
            }
            SigFields::Raw(bytes) => put(16, &bytes),
        }
        out
    }

    /// The structure a program gives to `rt_sigqueueinfo(2)`, for `signal`.
    pub fn from_bytes(signal: Signal, bytes: &[u8; SIGINFO_SIZE]) -> SigInfo {
        let word = |at: usize| {
            bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_le_bytes)
        };
        let mut raw = [0u8; 112];
        if let Some(rest) = bytes.get(16..) {
            raw.copy_from_slice(rest);
        }
        SigInfo { signal, errno: word(4), code: word(8), fields: SigFields::Raw(raw) }
    }
}
