//! `io_uring(7)`, which is switched off (`kernel.io_uring_disabled`): there are no rings.

use crate::errno::Errno;
use crate::kernel::CurrentTask;
use crate::syscalls::SysResult;
use crate::syscalls::arg::Fd;

/// What is done with a ring: `EBADF` without a file, `EOPNOTSUPP` for any that there can be.
fn no_ring(t: &CurrentTask, fd: Fd) -> SysResult {
    t.file(fd.0)?;
    Err(Errno::EOPNOTSUPP)
}

/// `io_uring_enter(2)`.
pub fn io_uring_enter(
    t: &mut CurrentTask,
    fd: Fd,
    _to_submit: u32,
    _min_complete: u32,
    flags: u32,
) -> SysResult {
    /// `IORING_ENTER_*` of Linux 6.12, less the one for descriptors of rings that are registered.
    const KNOWN: u32 = 0x2f;
    /// `IORING_ENTER_REGISTERED_RING`
    const REGISTERED: u32 = 0x10;
    match flags {
        flags if flags & !(KNOWN | REGISTERED) != 0 => Err(Errno::EINVAL),
        flags if flags & REGISTERED != 0 => Err(Errno::EINVAL),
        _ => no_ring(t, fd),
    }
}

/// `io_uring_register(2)`.
pub fn io_uring_register(t: &mut CurrentTask, fd: Fd, opcode: u32) -> SysResult {
    /// `IORING_REGISTER_LAST` of Linux 6.12.
    const LAST: u32 = 31;
    /// `IORING_REGISTER_USE_REGISTERED_RING`
    const REGISTERED: u32 = 1 << 31;
    if opcode >= LAST || opcode & REGISTERED != 0 {
        return Err(Errno::EINVAL);
    }
    no_ring(t, fd)
}
