#![expect(unsafe_code, reason = "signal masks and thread affinity")]
//! Threads of the sentry.
//!
//! Host calls: `clone3` and what the C library does for a thread, `rt_sigprocmask`,
//! `rt_sigtimedwait`, `gettid`, `sched_getaffinity`, `sched_setaffinity`, `sched_yield`.

use super::Errno;
use std::thread::JoinHandle;

/// Stack size that suits a guest thread's sentry thread, in bytes.
pub const TASK_STACK: usize = 512 << 10;

/// Signals the sentry raises in itself by a bug or a memory access; never blocked, as the host ends a
/// process that faults while they are.
pub(crate) const SYNCHRONOUS: [i32; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGSYS,
];

/// Starts a named thread with a stack of the given size in bytes.
///
/// Fails with `EAGAIN` when the host allows no more threads or memory.
pub fn spawn<T: Send + 'static>(
    name: &str,
    stack: usize,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Errno> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(stack)
        .spawn(body)
        .map_err(|error| error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw))
}

/// The calling thread's host id.
pub fn current_tid() -> i32 {
    nix::unistd::gettid().as_raw()
}

/// Number of the CPU the calling thread is on, at this moment.
pub fn current_cpu() -> usize {
    // SAFETY: no arguments. It cannot fail on Linux.
    let cpu = unsafe { libc::sched_getcpu() };
    usize::try_from(cpu).unwrap_or(0)
}

/// Blocks every signal in the calling thread but those that report its own faults. New threads
/// inherit that; one thread then takes signals with [`wait_signal`].
pub fn block_signals() -> Result<(), Errno> {
    // SAFETY: the set is initialised by sigfillset before use.
    let result = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&mut set);
        for signal in SYNCHRONOUS {
            libc::sigdelset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(Errno::from_raw(result)) }
}

/// Blocks one signal in the calling thread.
pub fn block_signal(signal: i32) -> Result<(), Errno> {
    // SAFETY: the set is initialised by sigemptyset before use.
    let result = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(Errno::from_raw(result)) }
}

/// Waits for one of the (blocked) signals; returns its number, sender's process id and `si_code`.
///
/// `timeout` in nanoseconds, `None` for ever; `EAGAIN` when it passed. `EINTR` passes through.
pub fn wait_signal(signals: &[i32], timeout: Option<u64>) -> Result<(i32, i32, i32), Errno> {
    let time = timeout.map(|ns| libc::timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as i64,
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: set and info are valid; the timeout is null or valid; every siginfo of a signal that
    // can be sent has a pid field or zeroes in its place.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        let mut info: libc::siginfo_t = std::mem::zeroed();
        Errno::result(libc::sigtimedwait(&set, &mut info, time))?;
        Ok((info.si_signo, info.si_pid(), info.si_code))
    }
}

/// A set of host CPUs, by number.
#[derive(Clone)]
pub struct CpuSet(libc::cpu_set_t);

impl CpuSet {
    /// The set with one CPU.
    pub fn single(cpu: usize) -> Self {
        // SAFETY: all-zero is the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        if cpu < libc::CPU_SETSIZE as usize {
            // SAFETY: `cpu` is within the set.
            unsafe { libc::CPU_SET(cpu, &mut set) };
        }
        Self(set)
    }

    /// The CPUs in the set, ascending.
    pub fn cpus(&self) -> impl Iterator<Item = usize> + '_ {
        // SAFETY: the numbers are within the set.
        (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &self.0) })
    }
}

impl std::fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.cpus()).finish()
    }
}

/// The CPUs a thread may run on; 0 is the caller.
pub fn affinity(tid: i32) -> Result<CpuSet, Errno> {
    // SAFETY: all-zero is a valid set, and the size given is its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        Errno::result(libc::sched_getaffinity(tid, size_of::<libc::cpu_set_t>(), &mut set))?;
        Ok(CpuSet(set))
    }
}

/// Restricts a thread of this process or of a stub to some CPUs; 0 is the caller.
pub fn set_affinity(tid: i32, cpus: &CpuSet) -> Result<(), Errno> {
    // SAFETY: the set is valid and the size given is its size.
    let result =
        unsafe { libc::sched_setaffinity(tid, size_of::<libc::cpu_set_t>(), &raw const cpus.0) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spawn_names_the_thread_and_blocks_signals() {
        let thread = spawn("worker", TASK_STACK, || {
            block_signals().unwrap();
            // SAFETY: a signal to the calling thread, which has it blocked.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2) };
            let got = wait_signal(&[libc::SIGUSR2], None).unwrap();
            let none = wait_signal(&[libc::SIGUSR2], Some(1000));
            (std::thread::current().name().map(str::to_owned), got.0, none)
        });
        let (name, signal, none) = thread.unwrap().join().unwrap();
        assert_eq!(name.as_deref(), Some("worker"));
        assert_eq!(signal, libc::SIGUSR2);
        assert_eq!(none, Err(Errno::EAGAIN));
    }

    #[test]
    fn affinity_round_trip() {
        std::thread::spawn(|| {
            let cpu = affinity(0).unwrap().cpus().next().unwrap();
            set_affinity(current_tid(), &CpuSet::single(cpu)).unwrap();
            assert_eq!(affinity(0).unwrap().cpus().collect::<Vec<_>>(), [cpu]);
        })
        .join()
        .unwrap();
    }
}
