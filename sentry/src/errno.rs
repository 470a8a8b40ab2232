//! Linux error numbers, as the kernel's own error type.
//!
//! `errno(3)`; the values are those of `asm-generic/errno.h`. The restart codes (512 and up) never
//! reach a guest: signal delivery turns them into `EINTR` or a restarted call (`signal(7)`).

use std::fmt;
use std::num::NonZeroU16;

/// A Linux error number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(NonZeroU16);

/// Result of a kernel operation.
pub type Result<T, E = Errno> = std::result::Result<T, E>;

macro_rules! errnos {
    ($($name:ident = $value:literal),* $(,)?) => {
        #[expect(missing_docs, reason = "the names are errno(3)'s")]
        impl Errno {
            $(pub const $name: Errno = Errno::constant($value);)*
        }
        impl Errno {
            /// Name of the error, as in `errno(3)`.
            pub fn name(self) -> Option<&'static str> {
                match self.0.get() {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = 1, ENOENT = 2, ESRCH = 3, EINTR = 4, EIO = 5, ENXIO = 6, E2BIG = 7, ENOEXEC = 8, EBADF = 9,
    ECHILD = 10, EAGAIN = 11, ENOMEM = 12, EACCES = 13, EFAULT = 14, ENOTBLK = 15, EBUSY = 16,
    EEXIST = 17, EXDEV = 18, ENODEV = 19, ENOTDIR = 20, EISDIR = 21, EINVAL = 22, ENFILE = 23,
    EMFILE = 24, ENOTTY = 25, ETXTBSY = 26, EFBIG = 27, ENOSPC = 28, ESPIPE = 29, EROFS = 30,
    EMLINK = 31, EPIPE = 32, EDOM = 33, ERANGE = 34, EDEADLK = 35, ENAMETOOLONG = 36, ENOLCK = 37,
    ENOSYS = 38, ENOTEMPTY = 39, ELOOP = 40, ENOMSG = 42, EIDRM = 43, ENODATA = 61, ETIME = 62,
    ENOLINK = 67, EPROTO = 71, EBADMSG = 74, EOVERFLOW = 75, EBADFD = 77, EILSEQ = 84, EUSERS = 87,
    ENOTSOCK = 88, EDESTADDRREQ = 89, EMSGSIZE = 90, EPROTOTYPE = 91, ENOPROTOOPT = 92,
    EPROTONOSUPPORT = 93, ESOCKTNOSUPPORT = 94, EOPNOTSUPP = 95, EPFNOSUPPORT = 96,
    EAFNOSUPPORT = 97, EADDRINUSE = 98, EADDRNOTAVAIL = 99, ENETDOWN = 100, ENETUNREACH = 101,
    ECONNABORTED = 103, ECONNRESET = 104, ENOBUFS = 105, EISCONN = 106, ENOTCONN = 107,
    ESHUTDOWN = 108, ETOOMANYREFS = 109, ETIMEDOUT = 110, ECONNREFUSED = 111, EHOSTDOWN = 112,
    EHOSTUNREACH = 113, EALREADY = 114, EINPROGRESS = 115, ESTALE = 116, EUCLEAN = 117, EDQUOT = 122,
    ENOMEDIUM = 123, ECANCELED = 125, ENOKEY = 126, EKEYEXPIRED = 127,
    EKEYREVOKED = 128, EOWNERDEAD = 130, ENOTRECOVERABLE = 131,
    ERFKILL = 132, EHWPOISON = 133,
    // Internal: see the module's head.
    ERESTARTSYS = 512, ERESTARTNOINTR = 513, ERESTARTNOHAND = 514, ERESTART_RESTARTBLOCK = 516,
}

impl Errno {
    const fn constant(value: u16) -> Errno {
        match NonZeroU16::new(value) {
            Some(n) => Errno(n),
            None => Errno(NonZeroU16::MIN),
        }
    }

    /// `EWOULDBLOCK` is `EAGAIN` on Linux.
    pub const EWOULDBLOCK: Errno = Errno::EAGAIN;
    /// `ENOTSUP` is `EOPNOTSUPP` on Linux.
    pub const ENOTSUP: Errno = Errno::EOPNOTSUPP;

    /// The error for a raw number, as the host or the gofer reports it; `EIO` for nonsense.
    pub fn from_raw(raw: i32) -> Errno {
        u16::try_from(raw)
            .ok()
            .and_then(NonZeroU16::new)
            .filter(|n| n.get() < 512)
            .map_or(Errno::EIO, Errno)
    }

    /// The positive number.
    pub fn raw(self) -> i32 {
        i32::from(self.0.get())
    }

    /// What the guest finds in `rax`.
    pub fn as_return(self) -> u64 {
        (-i64::from(self.0.get())) as u64
    }

    /// True for the codes that ask signal delivery to restart the call or turn it into `EINTR`.
    pub fn is_restart(self) -> bool {
        self.0.get() >= 512
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Errno {}
