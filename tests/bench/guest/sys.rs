//! The system calls that the benchmarks make, wrapped so that the rest needs no `unsafe`.

#![expect(unsafe_code, reason = "the benchmarks measure raw system calls")]

use std::ffi::CString;
use std::io;
use std::sync::atomic::AtomicU32;

/// What `libc` reports for the calling thread, with the call's name.
fn last_error(call: &str) -> io::Error {
    let error = io::Error::last_os_error();
    io::Error::new(error.kind(), format!("{call}: {error}"))
}

/// getppid(2), the cheapest call there is.
pub fn getppid() -> i32 {
    // SAFETY: getppid takes no arguments and cannot fail.
    unsafe { libc::getppid() }
}

/// A system call whose arguments are numbers and descriptors.
pub fn plain_call(number: i64, [a, b, c]: [u64; 3]) -> i64 {
    // SAFETY: the callers name calls that take no pointers.
    unsafe { libc::syscall(number, a, b, c) }
}

/// Opens `path` read-only and closes it.
///
/// # Errors
/// What open(2) reports.
pub fn open_close(path: &CString) -> io::Result<()> {
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(last_error("open"));
    }
    // SAFETY: `fd` was opened above and is owned by nobody else.
    unsafe { libc::close(fd) };
    Ok(())
}

/// Changes the set of blocked signals: `how` is SIG_BLOCK or SIG_UNBLOCK, what is changed SIGUSR1.
pub fn change_mask(how: i32) {
    let (set, mut old) = (1u64 << (libc::SIGUSR1 - 1), 0u64);
    // SAFETY: both sets are of the size that is given.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, &raw mut old, 8) };
}

/// FUTEX_WAIT on `word` while it holds `expected`; returns also when it does not, or on a signal.
pub fn futex_wait(word: &AtomicU32, expected: u32) {
    let no_timeout = std::ptr::null::<libc::timespec>();
    // SAFETY: `word` is a live, aligned 32-bit word and the time-out is absent.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            no_timeout,
        )
    };
}

/// FUTEX_WAKE of one waiter on `word`.
pub fn futex_wake(word: &AtomicU32) {
    // SAFETY: `word` is a live, aligned 32-bit word; waking touches no memory.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            1,
        )
    };
}

/// Waits for `pid` and returns its raw wait status.
///
/// # Errors
/// What waitpid(2) reports.
pub fn wait(pid: i32) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a live integer that the call may write.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } >= 0 {
            return Ok(status);
        }
        let error = last_error("waitpid");
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Forks; the child runs `child`, which must make system calls only, and exits with its result.
///
/// # Errors
/// What fork(2) reports.
pub fn fork(child: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: the program has one thread whenever it forks, so the child may do anything; it
    // leaves through _exit and never returns into the parent's code.
    match unsafe { libc::fork() } {
        -1 => Err(last_error("fork")),
        0 => {
            let status = child();
            // SAFETY: _exit ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(pid),
    }
}

/// Replaces the program by `program` with the arguments `program`, `argument`.
///
/// Returns only when execve(2) failed.
pub fn exec(program: &CString, argument: &CString) -> i32 {
    let argv = [program.as_ptr(), argument.as_ptr(), std::ptr::null()];
    let envp = [std::ptr::null()];
    // SAFETY: both arrays end with a null pointer and their strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) }
}

/// A fresh private anonymous mapping.
#[derive(Debug)]
pub struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    /// Maps `length` bytes, with huge pages refused so that every page is a fault.
    ///
    /// # Errors
    /// What mmap(2) reports.
    pub fn new(length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: the kernel chooses the place, so no existing mapping is touched.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(last_error("mmap"));
        }
        // SAFETY: the range was mapped above. Advice may be refused; the mapping stays valid.
        unsafe { libc::madvise(start, length, libc::MADV_NOHUGEPAGE) };
        Ok(Self { start: start.cast(), length })
    }

    /// Writes one byte to every page, in order.
    pub fn touch(&mut self, page: usize) {
        for offset in (0..self.length).step_by(page.max(1)) {
            // SAFETY: `offset` is below `length`, so the byte lies inside the mapping.
            unsafe { self.start.add(offset).write_volatile(1) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly the one mapped in `new`, and nothing borrows from it.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}
