//! Terminal attributes (`termios(3)`).

use platform::host::tty::Termios as HostTermios;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bits of the flag words, and indices of control characters, as in `asm-generic/termbits.h`.
#[expect(missing_docs, reason = "the names are termios(3)'s")]
pub mod bits {
    pub const PARMRK: u32 = 0o10;
    pub const ISTRIP: u32 = 0o40;
    pub const INLCR: u32 = 0o100;
    pub const IGNCR: u32 = 0o200;
    pub const ICRNL: u32 = 0o400;
    pub const IUCLC: u32 = 0o1000;
    pub const IXON: u32 = 0o2000;
    pub const IXANY: u32 = 0o4000;
    pub const IMAXBEL: u32 = 0o20000;
    pub const IUTF8: u32 = 0o40000;

    pub const OPOST: u32 = 0o1;
    pub const OLCUC: u32 = 0o2;
    pub const ONLCR: u32 = 0o4;
    pub const OCRNL: u32 = 0o10;
    pub const ONOCR: u32 = 0o20;
    pub const ONLRET: u32 = 0o40;
    pub const XTABS: u32 = 0o14000;

    pub const ISIG: u32 = 0o1;
    pub const ICANON: u32 = 0o2;
    pub const ECHO: u32 = 0o10;
    pub const ECHOE: u32 = 0o20;
    pub const ECHOK: u32 = 0o40;
    pub const ECHONL: u32 = 0o100;
    pub const NOFLSH: u32 = 0o200;
    pub const TOSTOP: u32 = 0o400;
    pub const ECHOCTL: u32 = 0o1000;
    pub const ECHOPRT: u32 = 0o2000;
    pub const ECHOKE: u32 = 0o4000;
    pub const IEXTEN: u32 = 0o100000;
    pub const EXTPROC: u32 = 0o200000;

    pub const VINTR: usize = 0;
    pub const VQUIT: usize = 1;
    pub const VERASE: usize = 2;
    pub const VKILL: usize = 3;
    pub const VEOF: usize = 4;
    pub const VTIME: usize = 5;
    pub const VMIN: usize = 6;
    pub const VSTART: usize = 8;
    pub const VSTOP: usize = 9;
    pub const VSUSP: usize = 10;
    pub const VEOL: usize = 11;
    pub const VREPRINT: usize = 12;
    pub const VWERASE: usize = 14;
    pub const VLNEXT: usize = 15;
    pub const VEOL2: usize = 16;
}

/// `struct termios2`; `struct termios` is its first 36 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Termios {
    /// Input modes.
    pub iflag: u32,
    /// Output modes.
    pub oflag: u32,
    /// Control modes.
    pub cflag: u32,
    /// Local modes.
    pub lflag: u32,
    /// Line discipline.
    pub line: u8,
    /// Control characters.
    pub cc: [u8; 19],
    /// Input speed.
    pub ispeed: u32,
    /// Output speed.
    pub ospeed: u32,
}

/// Bytes of `struct termios`.
pub const TERMIOS_SIZE: usize = 36;

impl Default for Termios {
    /// Those of a new terminal (`tty_std_termios`).
    fn default() -> Self {
        let mut cc = [0; 19];
        let set = b"\x03\x1c\x7f\x15\x04\0\x01\0\x11\x13\x1a\0\x12\x0f\x17\x16\0";
        for (to, from) in cc.iter_mut().zip(set) {
            *to = *from;
        }
        Self {
            iflag: 0x500,
            oflag: 5,
            cflag: 0xbf,
            lflag: 0x8a3b,
            line: 0,
            cc,
            ispeed: 38400,
            ospeed: 38400,
        }
    }
}

impl Termios {
    /// True if a bit of the input modes is set.
    pub fn i(&self, bit: u32) -> bool {
        self.iflag & bit != 0
    }

    /// True if a bit of the output modes is set.
    pub fn o(&self, bit: u32) -> bool {
        self.oflag & bit != 0
    }

    /// True if a bit of the local modes is set.
    pub fn l(&self, bit: u32) -> bool {
        self.lflag & bit != 0
    }

    /// A control character; 0 when it is off.
    pub fn cc(&self, index: usize) -> u8 {
        self.cc.get(index).copied().unwrap_or(0)
    }

    /// True if `byte` is the control character at `index`.
    pub fn is(&self, index: usize, byte: u8) -> bool {
        byte != 0 && self.cc(index) == byte
    }

    /// Takes over a host terminal's attributes.
    pub fn from_host(host: &HostTermios) -> Termios {
        Termios {
            iflag: host.iflag,
            oflag: host.oflag,
            cflag: host.cflag,
            lflag: host.lflag,
            line: host.line,
            cc: host.cc,
            ..Termios::default()
        }
    }
}

/// `struct winsize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct WinSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
    /// Width in pixels.
    pub xpixel: u16,
    /// Height in pixels.
    pub ypixel: u16,
}
