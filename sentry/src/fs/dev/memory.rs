//! The memory devices: `null`, `zero`, `full`, `random` and `urandom`.

use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::kernel::CurrentTask;
use crate::vfs::device::{self, Device};
use crate::vfs::{File, FileOps, Mappable, OpenFlags, Path};
use crate::wait::{EventMask, WaitQueue};
use platform::MapSource;
use std::any::Any;
use std::sync::Arc;

/// Major number of the memory devices.
const MEM_MAJOR: u32 = 1;

/// Registers them.
pub fn register() {
    device::register(MEM_MAJOR, 3..=9, "mem", open);
}

fn open(
    _t: Option<&CurrentTask>,
    _path: &Path,
    _flags: OpenFlags,
    device: Device,
) -> Result<Arc<dyn FileOps>> {
    let kind = match device.minor {
        3 => Kind::Null,
        5 => Kind::Zero,
        7 => Kind::Full,
        8 => Kind::Random,
        9 => Kind::Urandom,
        _ => return Err(Errno::ENXIO),
    };
    Ok(Arc::new(MemoryDevice { kind, queue: WaitQueue::default() }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Zero,
    Full,
    Random,
    Urandom,
}

struct MemoryDevice {
    kind: Kind,
    /// Of `random`, which can be polled although it is always ready.
    queue: WaitQueue,
}

/// Largest piece of random bytes made at a time.
const RANDOM_CHUNK: usize = 4096;

fn put_random(dst: &mut dyn Sink) -> Result<usize> {
    let mut done = 0;
    let mut buf = [0; RANDOM_CHUNK];
    while dst.remaining() > 0 {
        let n = dst.remaining().min(buf.len());
        let chunk = buf.get_mut(..n).unwrap_or_default();
        platform::host::random::fill(chunk).map_err(crate::io::from_host)?;
        match dst.put(chunk) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(done)
}

impl FileOps for MemoryDevice {
    fn read(&self, _file: &File, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        match self.kind {
            Kind::Null => Ok(0),
            Kind::Zero | Kind::Full => dst.put_zeroes(dst.remaining()),
            Kind::Random | Kind::Urandom => put_random(dst),
        }
    }

    fn write(&self, _file: &File, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        match self.kind {
            Kind::Full => Err(Errno::ENOSPC),
            Kind::Null | Kind::Zero => Ok(src.remaining()),
            Kind::Random | Kind::Urandom => {
                // The kernel's pool is the host's; what is written has to be readable, no more.
                let mut buf = [0; RANDOM_CHUNK];
                let mut done = 0;
                while src.remaining() > 0 {
                    match src.take(&mut buf) {
                        Ok(0) => break,
                        Ok(n) => done += n,
                        Err(e) if done == 0 => return Err(e),
                        Err(_) => break,
                    }
                }
                Ok(done)
            }
        }
    }

    fn seekable(&self) -> bool {
        true
    }

    fn ignores_position(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(0)
    }

    fn poll(&self, _file: &File) -> EventMask {
        match self.kind {
            // Written entropy is taken at any time, but no one has to bring some.
            Kind::Random => EventMask::READABLE,
            _ => EventMask::READABLE | EventMask::WRITABLE,
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        (self.kind == Kind::Random).then_some(&self.queue)
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        match self.kind {
            Kind::Zero => Ok(Arc::new(Zeroes)),
            _ => Err(Errno::ENODEV),
        }
    }

    fn ioctl(&self, task: &crate::kernel::Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        /// `RNDGETENTCNT` of `random(4)`.
        const RNDGETENTCNT: u32 = 0x8004_5200;
        match (self.kind, cmd) {
            (Kind::Random | Kind::Urandom, RNDGETENTCNT) => {
                super::super::ioctl::put_int(task, arg, 256)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Memory behind `/dev/zero`: each mapping has its own.
struct Zeroes;

impl Mappable for Zeroes {
    fn translate(&self, _offset: u64, len: u64, _write: bool) -> Result<Option<(u64, MapSource)>> {
        let task = crate::kernel::current().ok_or(Errno::ENOMEM)?;
        let frames = task.kernel().memory.allocate(len).map_err(|_| Errno::ENOMEM)?;
        Ok(Some((len, MapSource::Frames(frames))))
    }
}
