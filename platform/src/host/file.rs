#![expect(unsafe_code, reason = "raw file system calls")]
//! Donated host files.
//!
//! Host calls: `fstat`, `ftruncate`, `fallocate`, `fsync`, `fdatasync`, `lseek`, `fcntl`, `kcmp`.

use super::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag};
use std::os::fd::{AsRawFd, BorrowedFd};

pub use libc::stat64 as Stat;
pub use nix::unistd::Whence;

fn position(offset: u64) -> Result<i64, Errno> {
    i64::try_from(offset).map_err(|_| Errno::EINVAL)
}

/// `fstat(2)`.
pub fn fstat(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    let mut stat = std::mem::MaybeUninit::uninit();
    // SAFETY: the descriptor is open and `stat` has room for the result.
    Errno::result(unsafe { libc::fstat64(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded and filled it.
    Ok(unsafe { stat.assume_init() })
}

/// `ftruncate(2)`; `len` in bytes.
pub fn ftruncate(fd: BorrowedFd<'_>, len: u64) -> Result<(), Errno> {
    nix::unistd::ftruncate(fd, position(len)?)
}

/// `fallocate(2)`; `mode` is Linux's, unknown bits are the host's to refuse.
pub fn fallocate(fd: BorrowedFd<'_>, mode: i32, offset: u64, len: u64) -> Result<(), Errno> {
    let mode = FallocateFlags::from_bits_retain(mode);
    nix::fcntl::fallocate(fd, mode, position(offset)?, position(len)?)
}

/// `fsync(2)`.
pub fn fsync(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    nix::unistd::fsync(fd)
}

/// `fdatasync(2)`.
pub fn fdatasync(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    nix::unistd::fdatasync(fd)
}

/// `lseek(2)`; returns the new position.
pub fn lseek(fd: BorrowedFd<'_>, offset: i64, whence: Whence) -> Result<u64, Errno> {
    nix::unistd::lseek(fd, offset, whence).map(|at| at.max(0) as u64)
}

/// True when both descriptors are one open file description (`kcmp(2)`, `KCMP_FILE`); false also
/// where the host does not tell.
pub fn same_description(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    /// `KCMP_FILE`, which `libc` does not name.
    const KCMP_FILE: i32 = 0;
    let own = nix::unistd::getpid().as_raw();
    // SAFETY: kcmp takes integers and writes nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_kcmp, own, own, KCMP_FILE, a.as_raw_fd(), b.as_raw_fd()) };
    result == 0
}

/// Status flags (`O_APPEND`, `O_NONBLOCK`, access mode …), `fcntl(F_GETFL)`.
pub fn status_flags(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    nix::fcntl::fcntl(fd, FcntlArg::F_GETFL)
}

/// Sets or clears `O_NONBLOCK`.
///
/// The flag belongs to the open file description, which inherited descriptors share with the
/// program that started us: prefer [`super::poll`] for those.
pub fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> Result<(), Errno> {
    let mut flags = OFlag::from_bits_retain(status_flags(fd)?);
    flags.set(OFlag::O_NONBLOCK, on);
    nix::fcntl::fcntl(fd, FcntlArg::F_SETFL(flags)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_file() {
        let file = nix::sys::memfd::memfd_create("t", nix::sys::memfd::MFdFlags::empty()).unwrap();
        let fd = file.as_fd();
        assert_eq!(ftruncate(fd, u64::MAX), Err(Errno::EINVAL));
        ftruncate(fd, 8).unwrap();
        assert_eq!(fstat(fd).unwrap().st_size, 8);
        ftruncate(fd, 6).unwrap();
        assert_eq!(lseek(fd, 0, Whence::SeekEnd), Ok(6));
        assert_eq!(fallocate(fd, 0x4000, 0, 1), Err(Errno::EOPNOTSUPP));
    }
}
