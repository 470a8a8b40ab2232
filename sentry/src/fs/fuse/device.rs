//! `/dev/fuse`: a daemon's end of a connection.

use super::abi;
use super::connection::Connection;
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::kernel::{CurrentTask, Task};
use crate::mm::UserAddr;
use crate::vfs::device::{self, Device};
use crate::vfs::{File, FileOps, OpenFlags, Path};
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::{Arc, OnceLock};

/// Major number of miscellaneous devices, and the minor number of this one.
pub const DEVICE: Device = Device { major: 10, minor: 229 };

/// Registers the driver.
pub fn register() {
    device::register(DEVICE.major, DEVICE.minor..=DEVICE.minor, "misc", open);
}

fn open(
    _t: Option<&CurrentTask>,
    _path: &Path,
    _flags: OpenFlags,
    _device: Device,
) -> Result<Arc<dyn FileOps>> {
    Ok(Arc::new(FuseDevice { connection: Arc::default(), clone_of: OnceLock::new() }))
}

/// An open `/dev/fuse`.
pub struct FuseDevice {
    connection: Arc<Connection>,
    /// The connection of another file, if it was made to serve that (`FUSE_DEV_IOC_CLONE`).
    clone_of: OnceLock<Arc<Connection>>,
}

impl FuseDevice {
    /// The connection that mounting makes use of.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    fn served(&self) -> &Arc<Connection> {
        self.clone_of.get().unwrap_or(&self.connection)
    }

    /// `FUSE_DEV_IOC_CLONE`: serves the connection of another file from now on.
    fn serve_another(&self, task: &Task, arg: u64) -> Result<u64> {
        let fd: u32 = task.mm()?.read_obj(UserAddr(arg))?;
        let file = task.file(i32::try_from(fd).map_err(|_| Errno::EINVAL)?);
        let file = file.map_err(|_| Errno::EINVAL)?;
        let other = file.ops_as::<FuseDevice>().ok_or(Errno::EINVAL)?.served().clone();
        if !other.is_used() {
            return Err(Errno::EPERM);
        }
        if self.connection.is_used() {
            return Err(Errno::EINVAL);
        }
        other.add_device();
        if let Err(other) = self.clone_of.set(other) {
            other.device_closed();
            return Err(Errno::EINVAL);
        }
        Ok(0)
    }
}

impl FileOps for FuseDevice {
    fn read(&self, _file: &File, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        let connection = self.served();
        let (message, unique) = connection.next_message(dst.remaining())?;
        match dst.put(&message) {
            Ok(n) if n == message.len() => Ok(n),
            other => {
                if let Some(unique) = unique {
                    connection.undelivered(unique);
                }
                other.and(Err(Errno::EFAULT))
            }
        }
    }

    fn write(&self, _file: &File, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        let connection = self.served();
        if !connection.is_used() {
            return Err(Errno::EPERM);
        }
        let len = src.remaining();
        if !(abi::OUT_HEADER..=abi::OUT_HEADER + abi::MAX_REPLY).contains(&len) {
            return Err(Errno::EINVAL);
        }
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            match src.take(bytes.get_mut(done..).unwrap_or_default())? {
                0 => return Err(Errno::EFAULT),
                n => done += n,
            }
        }
        connection.received(&bytes)?;
        Ok(len)
    }

    fn poll(&self, _file: &File) -> EventMask {
        let connection = self.served();
        if !connection.is_used() {
            return EventMask::ERR;
        }
        if !connection.is_connected() {
            return EventMask::WRITABLE | EventMask::ERR;
        }
        let mut ready = EventMask::WRITABLE;
        ready.set(EventMask::READABLE, connection.is_readable());
        ready
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.served().readers)
    }

    fn ioctl(&self, task: &Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        /// `FUSE_DEV_IOC_CLONE`
        const CLONE: u32 = 0x8004_e500;
        match cmd {
            CLONE => self.serve_another(task, arg),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn release(&self, _file: &File) {
        if let Some(other) = self.clone_of.get() {
            other.device_closed();
        }
        self.connection.device_closed();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
