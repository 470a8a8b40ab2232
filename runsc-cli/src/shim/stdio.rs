//! The streams of a process: FIFOs that containerd has made, or a terminal whose master is here.
//!
//! The process gets the FIFOs for output themselves. This side holds them open, too, so that it notices nothing when
//! containerd, at their other ends, is started again; it lets go when the process has ended. Input is copied through
//! a pipe, because opening its FIFO waits for a writer, which may never come.

use anyhow::{Context, bail};
use nix::fcntl::OFlag;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{IoSliceMut, Write, copy};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Stdio;
use tempfile::TempDir;

/// Where the streams lead, as containerd says it.
#[derive(Debug, Clone, Default)]
pub struct Paths {
    /// FIFO with the input; empty if there is none.
    pub stdin: String,
    /// Likewise for the output.
    pub stdout: String,
    /// Likewise for the errors.
    pub stderr: String,
    /// They are a terminal's.
    pub terminal: bool,
}

/// What this side holds.
#[derive(Default)]
pub struct Held {
    outputs: Vec<File>,
    master: Option<File>,
    /// The FIFO that input is copied from.
    input: Option<PathBuf>,
}

/// What a command that starts a process gets.
pub struct Given {
    /// Its standard input, output and error.
    pub streams: [Stdio; 3],
    console: Option<(TempDir, UnixListener)>,
}

/// Opens the streams.
pub fn open(paths: &Paths) -> anyhow::Result<(Held, Given)> {
    let mut held = Held::default();
    if paths.terminal {
        let dir = TempDir::with_prefix("runsc-shim-").context("cannot make a directory")?;
        let listener = UnixListener::bind(dir.path().join("console"))
            .context("cannot listen for the terminal")?;
        let streams = [Stdio::null(), Stdio::null(), Stdio::null()];
        return Ok((held, Given { streams, console: Some((dir, listener)) }));
    }
    let input = if paths.stdin.is_empty() {
        Stdio::null()
    } else {
        let (from, to) = std::io::pipe().context("cannot make a pipe")?;
        held.copy_input(&paths.stdin, to);
        from.into()
    };
    let mut output = |path: &str| -> anyhow::Result<Stdio> {
        if path.is_empty() {
            return Ok(Stdio::null());
        }
        let what = || format!("cannot open the output {path}");
        if let Some(file) = path.strip_prefix("file://") {
            return Ok(File::options()
                .create(true)
                .append(true)
                .open(file)
                .with_context(what)?
                .into());
        }
        if path.contains("://") {
            bail!("cannot write output to {path}: only FIFOs and file:// are known");
        }
        held.outputs.push(File::options().read(true).write(true).open(path).with_context(what)?);
        Ok(File::options().write(true).open(path).with_context(what)?.into())
    };
    let streams = [input, output(&paths.stdout)?, output(&paths.stderr)?];
    Ok((held, Given { streams, console: None }))
}

impl Given {
    /// The socket for `--console-socket`.
    pub fn console_socket(&self) -> Option<PathBuf> {
        self.console.as_ref().map(|(dir, _)| dir.path().join("console"))
    }

    /// Takes the terminal, which has been sent by a command that has succeeded, and copies from and to the FIFOs.
    pub fn take_terminal(self, paths: &Paths, held: &mut Held) -> anyhow::Result<()> {
        let Some((_dir, listener)) = self.console else { return Ok(()) };
        listener.set_nonblocking(true).context("cannot wait for the terminal")?;
        let (stream, _) = listener.accept().context("no terminal was sent")?;
        let master = File::from(receive(&stream).context("no terminal was sent")?);
        let copy_of = || master.try_clone().context("cannot duplicate the terminal");
        if !paths.stdin.is_empty() {
            held.copy_input(&paths.stdin, copy_of()?);
        }
        if !paths.stdout.is_empty() {
            let mut from = copy_of()?;
            let mut to = File::options()
                .read(true)
                .write(true)
                .open(&paths.stdout)
                .with_context(|| format!("cannot open the output {}", paths.stdout))?;
            std::thread::spawn(move || copy(&mut from, &mut to));
        }
        held.master = Some(master);
        Ok(())
    }
}

impl Held {
    /// Copies what is written to a FIFO, until its writers have closed it or the reader of `to` has.
    fn copy_input(&mut self, path: &str, mut to: impl Write + Send + 'static) {
        self.input = Some(path.into());
        let path = path.to_owned();
        std::thread::spawn(move || File::open(path).and_then(|mut from| copy(&mut from, &mut to)));
    }

    /// Nothing will be written to the input any more, but for what its writer has not written yet.
    pub fn end_input(&mut self) {
        let Some(path) = self.input.take() else { return };
        // Opening it as a writer ends the wait of a reader that has none. It fails where there is no reader either.
        let flags = OFlag::O_NONBLOCK.bits();
        drop(File::options().write(true).custom_flags(flags).open(path));
    }

    /// Lets go of everything.
    pub fn close(&mut self) {
        *self = Held::default();
    }

    /// Gives the terminal a size.
    pub fn resize(&self, width: u32, height: u32) -> anyhow::Result<()> {
        let master = self.master.as_ref().context("the process has no terminal")?;
        let size = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        let size =
            Winsize { ws_col: size(width), ws_row: size(height), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(master, size).context("cannot change the terminal's size")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end_input();
    }
}

#[expect(unsafe_code, reason = "descriptors that come with a message have no owner yet")]
fn receive(stream: &impl AsRawFd) -> anyhow::Result<OwnedFd> {
    let mut bytes = [0; 64];
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel has just made this descriptor for us, and nothing else knows its number.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    bail!("the message has no descriptor")
}
