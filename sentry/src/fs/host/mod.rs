//! Host descriptors that the sandbox was started with: the standard streams.
//!
//! They may be anything (pipe, socket, terminal, file) and are shared with programs outside, so that
//! their flags are not ours to change: readiness is asked for before every call.
//!
//! [`again`]: a stream that is opened once more. [`watch`]: the thread that watches descriptors of the host. [`fifo`]: FIFOs that are shared with programs outside.

pub mod again;
pub mod fifo;
pub mod watch;

use super::anon::Identity;
use super::ioctl::{FIONREAD, put_int};
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source, from_host};
use crate::kernel::Task;
use crate::mm::UserAddr;
use crate::vfs::{Attachments, Attr, File, FileOps, FileType, Mappable, OpenFlags};
use crate::wait::{EventMask, WaitQueue};
use platform::MapSource;
use platform::host::{file, poll, tty};
use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use watch::Watched;

/// A host descriptor as an open file.
pub struct HostFile {
    fd: Arc<OwnedFd>,
    kind: FileType,
    tty: bool,
    rdev: u64,
    /// `O_APPEND` outside.
    appends: bool,
    /// What may be done with it.
    access: OpenFlags,
    identity: Identity,
    queue: Arc<WaitQueue>,
    watched: OnceLock<Watched>,
    attachments: Attachments,
}

/// Device number of `/dev/null`.
const NULL: u64 = 0x103;
/// Terminal attributes (`tty_ioctl(2)`).
const TCGETS: u32 = 0x5401;
/// Terminal size.
const TIOCGWINSZ: u32 = 0x5413;

/// Largest write to a pipe that cannot block once it is writable (`PIPE_BUF`).
const PIPE_BUF: usize = 4096;

impl HostFile {
    /// Wraps a descriptor.
    pub fn open(fd: OwnedFd) -> Result<Arc<File>> {
        let stat = file::fstat(fd.as_fd()).map_err(from_host)?;
        let flags = file::status_flags(fd.as_fd()).map_err(from_host)?;
        let kind = FileType::from_mode(stat.st_mode).unwrap_or(FileType::CharDevice);
        let tty = kind == FileType::CharDevice && tty::attributes(fd.as_fd()).is_ok();
        let flags = OpenFlags::from_bits_retain(flags as u32);
        let access = flags & (OpenFlags::WRONLY | OpenFlags::RDWR);
        let identity = Identity {
            ino: stat.st_ino,
            uid: 0,
            gid: 0,
            born: stat.st_mtime.saturating_mul(1_000_000_000),
        };
        let host = Arc::new(Self {
            fd: Arc::new(fd),
            kind,
            tty,
            rdev: stat.st_rdev,
            appends: flags.contains(OpenFlags::APPEND),
            access,
            identity,
            queue: Arc::new(WaitQueue::new()),
            watched: OnceLock::new(),
            attachments: Attachments::default(),
        });
        if !host.seekable() {
            let _ = host.watched.set(Watched::new(host.fd.as_fd(), &host.queue)?);
        }
        Ok(File::new(host, None, access | (flags & OpenFlags::APPEND)))
    }

    /// True when both are one open file description outside, as after `2>&1`.
    pub fn same_description(&self, other: &Self) -> bool {
        file::same_description(self.fd.as_fd(), other.fd.as_fd())
    }

    /// `EAGAIN` unless one of `events` is there, so that the call that follows does not block.
    fn ready(&self, events: poll::Events) -> Result<()> {
        if self.seekable() {
            return Ok(());
        }
        match poll::poll_now(self.fd.as_fd(), events).map_err(from_host)? {
            0 => Err(Errno::EAGAIN),
            _ => Ok(()),
        }
    }

    /// Sets the size of a regular file; other streams have none, as with `O_TRUNC` on a device.
    pub fn truncate(&self, size: u64) -> Result<()> {
        match self.kind {
            FileType::Regular => file::ftruncate(self.fd.as_fd(), size).map_err(from_host),
            _ => Ok(()),
        }
    }
}

/// Repeats a transfer, which does one host call at a time, until `max` bytes are done or the file ends.
fn all_of(max: usize, mut step: impl FnMut(usize) -> Result<usize>) -> Result<usize> {
    let mut done = 0;
    while done < max {
        match step(max - done) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(done)
}

impl FileOps for HostFile {
    fn read(&self, _file: &File, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        self.ready(libc::POLLIN)?;
        let max = dst.remaining();
        if !self.seekable() {
            return dst.read_host(self.fd.as_fd(), None, max);
        }
        dst.read_host(self.fd.as_fd(), Some(offset), max)
    }

    fn write(&self, file: &File, src: &mut dyn Source, offset: u64) -> Result<usize> {
        let max = src.remaining();
        if self.seekable() {
            let append = file.flags().contains(OpenFlags::APPEND);
            let offset = if append { self.size()? } else { offset };
            return src.write_host(self.fd.as_fd(), Some(offset), max);
        }
        all_of(max, |left| {
            self.ready(libc::POLLOUT)?;
            src.write_host(self.fd.as_fd(), None, PIPE_BUF.min(left))
        })
    }

    fn seekable(&self) -> bool {
        matches!(self.kind, FileType::Regular | FileType::BlockDevice)
    }

    fn has_own_position(&self) -> bool {
        false
    }

    fn shared_position(&self) -> Option<u64> {
        if !self.seekable() {
            return None;
        }
        file::lseek(self.fd.as_fd(), 0, file::Whence::SeekCur).ok()
    }

    fn moved(&self, to: u64) {
        if self.seekable()
            && let Ok(to) = i64::try_from(to)
        {
            // A position that the host's file system refuses stays where it was.
            let _ = file::lseek(self.fd.as_fd(), to, file::Whence::SeekSet);
        }
    }

    fn read_shared(&self, dst: &mut dyn Sink) -> Option<Result<usize>> {
        self.seekable()
            .then(|| all_of(dst.remaining(), |left| dst.read_host(self.fd.as_fd(), None, left)))
    }

    fn write_shared(&self, file: &File, src: &mut dyn Source) -> Option<Result<usize>> {
        // O_APPEND that the guest set or took away is its own; the host's descriptor keeps what it had.
        let same = file.flags().contains(OpenFlags::APPEND) == self.appends;
        (same && self.seekable())
            .then(|| all_of(src.remaining(), |left| src.write_host(self.fd.as_fd(), None, left)))
    }

    fn size(&self) -> Result<u64> {
        match self.seekable() {
            true => Ok(file::fstat(self.fd.as_fd()).map_err(from_host)?.st_size.max(0) as u64),
            false => Err(Errno::ESPIPE),
        }
    }

    fn poll(&self, file: &File) -> EventMask {
        watch::ready_now(self.fd.as_fd(), file, libc::POLLPRI | libc::POLLRDHUP)
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        (!self.seekable()).then_some(&self.queue)
    }

    fn ioctl(&self, task: &Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        let fd = self.fd.as_fd();
        let mm = task.mm()?;
        match (cmd, self.tty) {
            (FIONREAD, _) if !self.seekable() => {
                put_int(task, arg, tty::bytes_available(fd).map_err(from_host)?)
            }
            (TCGETS, true) => {
                let t = tty::attributes(fd).map_err(from_host)?;
                let flags = [t.iflag, t.oflag, t.cflag, t.lflag].map(u32::to_le_bytes).concat();
                mm.write(UserAddr(arg), &[&flags[..], &[t.line], &t.cc].concat())?;
                Ok(0)
            }
            (TIOCGWINSZ, true) => {
                let s = tty::window_size(fd).map_err(from_host)?;
                let size = [s.rows, s.cols, s.xpixel, s.ypixel].map(u16::to_le_bytes).concat();
                mm.write(UserAddr(arg), &size)?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        match self.kind {
            FileType::Regular => Ok(Arc::new(HostMappable(self.fd.clone()))),
            _ => Err(Errno::ENODEV),
        }
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        match (self.kind, data_only) {
            (FileType::Regular, true) => file::fdatasync(self.fd.as_fd()).map_err(from_host),
            (FileType::Regular, false) => file::fsync(self.fd.as_fd()).map_err(from_host),
            _ => Err(Errno::EINVAL),
        }
    }

    fn attr(&self) -> Option<Result<Attr>> {
        let stat = match file::fstat(self.fd.as_fd()) {
            Ok(stat) => stat,
            Err(e) => return Some(Err(from_host(e))),
        };
        let mut attr = self.identity.attr(super::anon::PIPE_DEV, stat.st_mode, self.identity.born);
        attr.size = stat.st_size.max(0) as u64;
        attr.blocks = stat.st_blocks.max(0) as u64;
        attr.rdev = stat.st_rdev;
        Some(Ok(attr))
    }

    fn attachments(&self) -> Option<&Attachments> {
        Some(&self.attachments)
    }

    fn link_text(&self) -> Option<String> {
        let kind = match self.kind {
            FileType::Fifo => "pipe",
            FileType::Socket => "socket",
            _ if self.tty => return Some("/dev/tty".into()),
            FileType::CharDevice if self.rdev == NULL => return Some("/dev/null".into()),
            _ => "host",
        };
        Some(format!("{kind}:[{}]", self.identity.ino))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Memory behind a regular file on a standard stream.
struct HostMappable(Arc<OwnedFd>);

impl Mappable for HostMappable {
    fn translate(&self, offset: u64, len: u64, _write: bool) -> Result<Option<(u64, MapSource)>> {
        let size = file::fstat(self.0.as_fd()).map_err(from_host)?.st_size.max(0) as u64;
        let pages = size.next_multiple_of(crate::mm::PAGE_SIZE);
        if offset >= pages {
            return Ok(None);
        }
        Ok(Some((len.min(pages - offset), MapSource::HostFd(self.0.clone(), offset))))
    }
}
