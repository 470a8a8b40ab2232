#![expect(unsafe_code, reason = "terminal ioctls")]
//! A host terminal that was handed to the sandbox.
//!
//! Host calls: `ioctl` with `TCGETS`, `TCSETS`, `TCSETSW`, `TCSETSF`, `TIOCGWINSZ`, `TIOCSWINSZ`,
//! `FIONREAD`.

use super::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The kernel's `struct termios` (not the C library's): flags, line discipline, control characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Termios {
    /// `c_iflag`.
    pub iflag: u32,
    /// `c_oflag`.
    pub oflag: u32,
    /// `c_cflag`.
    pub cflag: u32,
    /// `c_lflag`.
    pub lflag: u32,
    /// `c_line`.
    pub line: u8,
    /// `c_cc`.
    pub cc: [u8; 19],
}

/// `struct winsize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct WinSize {
    /// Rows, in characters.
    pub rows: u16,
    /// Columns, in characters.
    pub cols: u16,
    /// Width in pixels.
    pub xpixel: u16,
    /// Height in pixels.
    pub ypixel: u16,
}

/// When new terminal attributes take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At once (`TCSANOW`).
    Now,
    /// After pending output (`TCSADRAIN`).
    Drain,
    /// After pending output, dropping pending input (`TCSAFLUSH`).
    Flush,
}

/// Makes an `ioctl(2)` whose argument is a structure.
fn ioctl<T>(fd: BorrowedFd<'_>, request: libc::c_ulong, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: private to this module; each caller pairs the request with the structure the kernel
    // reads or writes for it.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) })
        .map(drop)
}

/// Terminal attributes; `ENOTTY` when it is none.
pub fn attributes(fd: BorrowedFd<'_>) -> Result<Termios, Errno> {
    let mut termios = Termios::default();
    ioctl(fd, libc::TCGETS, &mut termios)?;
    Ok(termios)
}

/// Sets terminal attributes.
pub fn set_attributes(fd: BorrowedFd<'_>, when: When, termios: &Termios) -> Result<(), Errno> {
    let request = match when {
        When::Now => libc::TCSETS,
        When::Drain => libc::TCSETSW,
        When::Flush => libc::TCSETSF,
    };
    ioctl(fd, request, &mut termios.clone())
}

/// The terminal's size.
pub fn window_size(fd: BorrowedFd<'_>) -> Result<WinSize, Errno> {
    let mut size = WinSize::default();
    ioctl(fd, libc::TIOCGWINSZ, &mut size)?;
    Ok(size)
}

/// Sets the terminal's size.
pub fn set_window_size(fd: BorrowedFd<'_>, size: &WinSize) -> Result<(), Errno> {
    ioctl(fd, libc::TIOCSWINSZ, &mut size.clone())
}

/// Bytes that can be read at once from a terminal, pipe or socket.
pub fn bytes_available(fd: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut count: libc::c_int = 0;
    ioctl(fd, libc::FIONREAD, &mut count)?;
    Ok(count.max(0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_pipe_is_no_terminal() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        assert_eq!(attributes(reader.as_fd()), Err(Errno::ENOTTY));
        nix::unistd::write(&writer, b"abc").unwrap();
        assert_eq!(bytes_available(reader.as_fd()), Ok(3));
    }

    #[test]
    fn terminal_attributes_round_trip() {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut termios = attributes(pty.slave.as_fd()).unwrap();
        termios.lflag ^= libc::ECHO;
        set_attributes(pty.slave.as_fd(), When::Now, &termios).unwrap();
        assert_eq!(attributes(pty.slave.as_fd()), Ok(termios));
        let size = WinSize { rows: 12, cols: 34, xpixel: 0, ypixel: 0 };
        set_window_size(pty.master.as_fd(), &size).unwrap();
        assert_eq!(window_size(pty.slave.as_fd()), Ok(size));
    }
}
