//! The guest's view of the kernel: system calls and the few things that need `unsafe`.
//!
//! Cases must be able to hand the kernel *anything* — dangling pointers, absurd lengths, closed
//! descriptors — so the call itself takes plain numbers. The cases stay safe code: buffers are
//! passed as borrows through [`Arg`], and memory behind a raw address is only touched through
//! [`mem`], which survives faults.

pub mod call;
pub mod errno;
pub mod fs;
pub mod inet;
pub mod mem;
pub mod poll;
pub mod process;
pub mod signal;
pub mod site;
pub mod sock;
pub mod thread;
pub mod time;

/// One argument of a system call, turned into the register value the kernel sees.
pub trait Arg {
    /// The register value.
    fn arg(self) -> u64;
}

macro_rules! int_args {
    ($($t:ty),*) => { $(impl Arg for $t {
        fn arg(self) -> u64 { self as i64 as u64 }
    })* };
}
int_args!(i32, u32, i64, u64, usize, isize);

impl Arg for Ret {
    fn arg(self) -> u64 {
        self.0 as u64
    }
}
impl Arg for &std::ffi::CStr {
    fn arg(self) -> u64 {
        self.as_ptr() as u64
    }
}
impl Arg for &std::ffi::CString {
    fn arg(self) -> u64 {
        self.as_ptr() as u64
    }
}
impl Arg for &[u8] {
    fn arg(self) -> u64 {
        self.as_ptr() as u64
    }
}
impl Arg for &mut [u8] {
    fn arg(self) -> u64 {
        self.as_mut_ptr() as u64
    }
}
impl<const N: usize> Arg for &[u8; N] {
    fn arg(self) -> u64 {
        self.as_ptr() as u64
    }
}
impl<const N: usize> Arg for &mut [u8; N] {
    fn arg(self) -> u64 {
        self.as_mut_ptr() as u64
    }
}

/// The address of a value the kernel only reads. The value must outlive the call.
pub fn at<T: ?Sized>(value: &T) -> u64 {
    std::ptr::from_ref(value).cast::<u8>() as u64
}

/// The address of a value the kernel may write. The value must outlive the call.
pub fn at_mut<T: ?Sized>(value: &mut T) -> u64 {
    std::ptr::from_mut(value).cast::<u8>() as u64
}

/// What a system call returned, exactly as the kernel put it into `rax`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ret(pub i64);

impl Ret {
    /// Whether the call succeeded.
    pub fn ok(self) -> bool {
        !(-4095..0).contains(&self.0)
    }
    /// The result as a file descriptor, process id or other small number; -1 after an error.
    pub fn fd(self) -> i32 {
        if self.ok() { self.0 as i32 } else { -1 }
    }
    /// The error number, or 0.
    pub fn errno(self) -> i32 {
        if self.ok() { 0 } else { -self.0 as i32 }
    }
    /// The result as an address; 0 after an error.
    pub fn addr(self) -> u64 {
        if self.ok() { self.0 as u64 } else { 0 }
    }
}

impl std::fmt::Display for Ret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.ok() { write!(f, "{}", self.0) } else { f.write_str(&errno::name(self.errno())) }
    }
}

/// Makes the system call `libc::$nr` with any arguments that implement [`Arg`]. The `match` keeps
/// temporaries whose address is an argument alive until the call has returned.
macro_rules! sc {
    ($nr:ident $(, $a:expr)* $(,)?) => {
        match [$($crate::sys::Arg::arg($a)),*] {
            args => $crate::sys::call::syscall(libc::$nr, args.as_slice() as &[u64]),
        }
    };
}
pub(crate) use sc;
