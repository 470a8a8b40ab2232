//! A terminal of the sandbox whose master side is a terminal (or whatever else) of the host: how
//! `runsc do` gives a program the user's terminal.
//!
//! Two threads carry bytes between the host's descriptor and the master side; both sleep when there
//! is nothing to carry. The host's terminal is in raw mode (the caller's work): the line discipline
//! is ours.

use super::Tty;
use super::slave::SlaveFile;
use super::termios::WinSize;
use crate::errno::{Errno, Result};
use crate::fs::devpts;
use crate::io::from_host;
use crate::kernel::{Kernel, Task};
use crate::vfs::{File, OpenFlags, Path};
use crate::wait::{EventMask, WaitKey, Waker};
use platform::host::park::Parker;
use platform::host::{Errno as HostErrno, io, poll, thread};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const CHUNK: usize = 4096;
/// Stack of each thread, in bytes.
const STACK: usize = 64 << 10;

/// The bridge between a host terminal and one of the sandbox.
pub struct Console {
    tty: Arc<Tty>,
    shared: Arc<Shared>,
}

struct Shared {
    tty: Arc<Tty>,
    /// The host's terminal, to read from and to write to.
    host: [OwnedFd; 2],
    bell: Bell,
    /// Wakes the thread that reads the host's terminal.
    stop: poll::Waker,
    closing: AtomicBool,
    /// Everything has been shown.
    drained: Parker,
}

/// Wakes the thread that shows output.
#[derive(Default)]
struct Bell(Arc<Ring>);

#[derive(Default)]
struct Ring {
    parker: Parker,
}

impl Waker for Ring {
    fn wake(&self, _events: EventMask) {
        self.parker.unpark();
    }
}

impl Console {
    /// Makes a terminal in the instance of devpts whose root directory is `pts`, and connects it
    /// with the host's descriptors: one to read from, one to write to. Returns the open slave side, for the program's standard streams.
    pub fn start(
        kernel: &Arc<Kernel>,
        pts: &Path,
        host: [OwnedFd; 2],
        size: WinSize,
        uid: u32,
    ) -> Result<(Console, Arc<File>)> {
        let tty = devpts::allocate(kernel, pts.inode().as_any(), uid, uid)?;
        tty.set_size(size);
        tty.set_utf8();
        let dentry = pts.dentry.lookup(tty.index().to_string().as_bytes(), b"")?;
        let path = Path { mount: pts.mount.clone(), dentry };
        let slave =
            File::new(SlaveFile::open(&tty, None, OpenFlags::RDWR)?, Some(path), OpenFlags::RDWR);
        let shared = Arc::new(Shared {
            tty: tty.clone(),
            host,
            bell: Bell::default(),
            stop: poll::Waker::new().map_err(from_host)?,
            closing: AtomicBool::new(false),
            drained: Parker::new(),
        });
        let (input, output) = (shared.clone(), shared.clone());
        thread::spawn("console-in", STACK, move || input.type_in()).map_err(from_host)?;
        thread::spawn("console-out", STACK, move || output.show()).map_err(from_host)?;
        Ok((Console { tty, shared }, slave))
    }

    /// Makes it what `/dev/console` opens.
    pub fn show_as_console(&self) {
        super::device::set_console(&self.tty);
    }

    /// Makes it the controlling terminal of a session leader.
    pub fn give_to(&self, task: &Task) {
        self.tty.take_session(task);
    }

    /// The host terminal's size has changed.
    pub fn resize(&self, size: WinSize) {
        self.tty.set_size(size);
    }

    /// Takes on the size of the host's terminal.
    pub fn follow_host(&self) {
        // Without a size the terminal is gone, which the reading side notices.
        if let Ok(size) = platform::host::tty::window_size(self.shared.host[0].as_fd()) {
            let platform::host::tty::WinSize { rows, cols, xpixel, ypixel } = size;
            self.tty.set_size(WinSize { rows, cols, xpixel, ypixel });
        }
    }

    /// Shows what is left and ends the bridge.
    pub fn finish(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.bell.0.parker.unpark();
        self.shared.stop.wake();
        self.shared.drained.park();
    }
}

impl Shared {
    /// From the host to the sandbox.
    fn type_in(&self) {
        let mut buf = [0; CHUNK];
        let queue = self.tty.master_queue();
        let room = Arc::new(Ring::default());
        while !self.closing.load(Ordering::SeqCst) {
            let mut wanted =
                [(self.host[0].as_fd(), libc::POLLIN), (self.stop.as_fd(), libc::POLLIN)];
            match poll::poll(&mut wanted, None) {
                Ok(_) | Err(HostErrno::EINTR | HostErrno::EAGAIN) => {}
                Err(_) => return,
            }
            if self.closing.load(Ordering::SeqCst) {
                return;
            }
            let n = match io::read(self.host[0].as_fd(), &mut buf, None) {
                Ok(0) => return self.tty.hang_up(),
                Ok(n) => n,
                Err(HostErrno::EAGAIN | HostErrno::EINTR) => continue,
                // The user's terminal is gone.
                Err(_) => return self.tty.hang_up(),
            };
            let mut rest = buf.get(..n).unwrap_or_default();
            while !rest.is_empty() && !self.closing.load(Ordering::SeqCst) {
                let key: WaitKey = queue.add(EventMask::WRITABLE, room.clone());
                match self.tty.type_in(rest) {
                    Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                    Err(_) => room.parker.park(),
                }
                queue.remove(key);
            }
        }
    }

    /// From the sandbox to the host.
    fn show(&self) {
        let key = self.tty.master_queue().add(EventMask::READABLE, self.bell.0.clone());
        loop {
            let out = self.tty.take_output(CHUNK);
            if out.is_empty() {
                if self.closing.load(Ordering::SeqCst) {
                    break;
                }
                self.bell.0.parker.park();
                continue;
            }
            if self.write_all(&out).is_err() {
                break;
            }
        }
        self.tty.master_queue().remove(key);
        self.drained.unpark();
    }

    fn write_all(&self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            match io::write(self.host[1].as_fd(), data, None) {
                Ok(n) => data = data.get(n..).unwrap_or_default(),
                Err(HostErrno::EAGAIN) => {
                    let mut wanted = [(self.host[1].as_fd(), libc::POLLOUT)];
                    poll::poll(&mut wanted, None).map_err(from_host)?;
                }
                Err(HostErrno::EINTR) => {}
                Err(_) => return Err(Errno::EIO),
            }
        }
        Ok(())
    }
}
