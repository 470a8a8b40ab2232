#![expect(unsafe_code, reason = "forks, and runs code in the child before it is traced")]
//! The process all stubs descend from, up to the point where the back end takes over.
//!
//! Host calls: `clone`, `pipe2`; in the child `setsid`, `rt_sigaction`, `rt_sigprocmask`, `prctl`,
//! `prlimit64`, `capset`, `fcntl`, `dup3`, `close_range`, `exit_group`.

use super::process::StubProcess;
use crate::host::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Forks the zygote and waits until it has stripped itself of descriptors, privileges and signals.
///
/// It keeps three descriptors, as 0, 1 and 2. It then calls the function at `next`, which never returns,
/// within the sentry's text and with a copy of the sentry's memory.
pub fn fork(keep: &[BorrowedFd<'_>; 3], next: u64, argument: u64) -> Result<StubProcess, Errno> {
    let fds = keep.map(|fd| fd.as_raw_fd());
    // The writing end is closed when the child has closed all it inherited, or has ended.
    let (ready, hold) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // SAFETY: clone(2) as fork(2) does it, but without an exit signal, so that stubs are invisible to
    // everybody who waits for ordinary children. The child only runs `strip`.
    let pid = unsafe { libc::syscall(libc::SYS_clone, 0_u64, 0_u64, 0_u64, 0_u64, 0_u64) };
    match Errno::result(pid)? {
        // SAFETY: this is the child; it has its own copy of all memory and one thread.
        0 => unsafe { strip(fds, next, argument) },
        pid => {
            let process = StubProcess::new(pid as i32);
            drop(hold);
            while nix::unistd::read(&ready, &mut [0]) == Err(Errno::EINTR) {}
            Ok(process)
        }
    }
}

/// Runs in the child.
///
/// # Safety
/// Must be the only thread. Locks of the C library and of Rust may be held by threads that do not
/// exist here: only plain system calls are allowed, no allocation and no panic.
unsafe fn strip(fds: [RawFd; 3], next: u64, argument: u64) -> ! {
    // SAFETY: plain system calls on local data; the last one never returns.
    unsafe {
        // A session of its own: no terminal signal reaches stubs. What is sent to them by others
        // while nobody traces them is ignored; a tracer sees all of it.
        libc::syscall(libc::SYS_setsid);
        let ignore = KernelSigaction { handler: libc::SIG_IGN, ..KernelSigaction::default() };
        for signal in 1..=64 {
            let null = std::ptr::null::<u8>();
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const ignore, null, 8_u64);
        }
        let unblocked = 0_u64;
        let null = std::ptr::null::<u8>();
        let set = &raw const unblocked;
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, set, null, 8_u64);
        libc::syscall(
            libc::SYS_prctl,
            libc::PR_SET_NAME,
            c"runsc-stub".as_ptr(),
            0_u64,
            0_u64,
            0_u64,
        );
        // The sentry must be able to trace its stubs whatever it has done to its own credentials.
        libc::syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1_u64, 0_u64, 0_u64, 0_u64);
        libc::syscall(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64);
        let no_core = [0_u64, 0];
        let limit = &raw const no_core;
        libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_CORE, limit, null);
        drop_capabilities();
        // First out of the way of the fixed numbers, then to their places.
        let mut moved = [0; 3];
        for (moved, fd) in moved.iter_mut().zip(fds) {
            *moved = libc::syscall(libc::SYS_fcntl, fd, libc::F_DUPFD, 16);
        }
        for (to, moved) in moved.iter().enumerate() {
            if libc::syscall(libc::SYS_dup3, *moved, to, 0) < 0 {
                libc::syscall(libc::SYS_exit_group, 1);
            }
        }
        if libc::syscall(libc::SYS_close_range, 3, u64::from(u32::MAX), 0) < 0 {
            libc::syscall(libc::SYS_exit_group, 1);
        }
        let next: extern "C" fn(u64) -> ! = std::mem::transmute(next as *const ());
        next(argument)
    }
}

/// The kernel's `struct sigaction`.
#[derive(Default)]
#[repr(C)]
struct KernelSigaction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// Gives up all capabilities, so that a sentry without any can trace the stubs.
///
/// # Safety
/// As [`strip`].
unsafe fn drop_capabilities() {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let none = [0_u32; 6];
    // SAFETY: both structures are valid for the call.
    unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const none) };
}
