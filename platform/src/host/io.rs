//! Reading and writing host descriptors.
//!
//! For transfers directly into or out of guest memory see [`crate::memory_file::read_from_fd`].
//!
//! Host calls: `read`, `write`, `writev`, `pread64`, `pwrite64`.

use super::Errno;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;

fn position(offset: u64) -> Result<i64, Errno> {
    i64::try_from(offset).map_err(|_| Errno::EINVAL)
}

/// Reads at `offset` (bytes) as `pread(2)`, or with `None` at the descriptor's own position as
/// `read(2)`: pipes, terminals, sockets. Returns how many bytes, 0 at the end; `EINTR` passes
/// through.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: Option<u64>) -> Result<usize, Errno> {
    match offset {
        Some(offset) => nix::sys::uio::pread(fd, buffer, position(offset)?),
        None => nix::unistd::read(fd, buffer),
    }
}

/// Writes at `offset` (bytes) as `pwrite(2)`, or with `None` at the descriptor's own position as
/// `write(2)`. Returns how many bytes; `EINTR` passes through. The sentry ignores `SIGPIPE`.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8], offset: Option<u64>) -> Result<usize, Errno> {
    match offset {
        Some(offset) => nix::sys::uio::pwrite(fd, bytes, position(offset)?),
        None => nix::unistd::write(fd, bytes),
    }
}

/// Writes several buffers in one call as `writev(2)`: to a socket, one packet. Returns how many bytes; `EINTR`
/// passes through.
pub fn write_vectored(fd: BorrowedFd<'_>, parts: &[&[u8]]) -> Result<usize, Errno> {
    let parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    nix::sys::uio::writev(fd, &parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn with_and_without_a_position() {
        let file = nix::sys::memfd::memfd_create("t", nix::sys::memfd::MFdFlags::empty()).unwrap();
        let fd = file.as_fd();
        let mut buffer = [0; 8];
        assert_eq!(write(fd, b"abcdef", None), Ok(6));
        assert_eq!(write(fd, b"XY", Some(1)), Ok(2));
        assert_eq!(read(fd, &mut buffer, None), Ok(0));
        assert_eq!(read(fd, &mut buffer, Some(0)), Ok(6));
        assert_eq!(&buffer[..6], b"aXYdef");
        assert_eq!(read(fd, &mut buffer, Some(u64::MAX)), Err(Errno::EINVAL));
        assert_eq!(write(fd, b"x", Some(u64::MAX)), Err(Errno::EINVAL));
    }
}
