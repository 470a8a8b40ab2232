//! A standard stream that is a regular file, opened again (`/dev/stdout`, `/proc/self/fd/1`): as on Linux the new
//! open file description has a position of its own, while that of the stream is shared with programs outside.

use super::HostFile;
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::kernel::Task;
use crate::vfs::{Attachments, Attr, File, FileOps, Mappable, OpenFlags};
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::Arc;

/// The stream, with a position that only the new description has.
struct Again(Arc<dyn FileOps>);

/// Opens `file`, which is a stream, again. `EACCES` for an access that the stream itself was not given: the file behind it
/// has no name here by which it could be asked for.
pub fn open(file: &File, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let ops = file.ops().clone();
    let Some(host) = file.ops_as::<HostFile>().filter(|host| host.seekable()) else {
        return Ok(ops);
    };
    let denied = |wanted: fn(OpenFlags) -> bool| wanted(flags) && !wanted(host.access);
    if denied(OpenFlags::readable) || denied(OpenFlags::writable) {
        return Err(Errno::EACCES);
    }
    Ok(Arc::new(Again(ops)))
}

impl FileOps for Again {
    fn read(&self, file: &File, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        self.0.read(file, dst, offset)
    }

    fn write(&self, file: &File, src: &mut dyn Source, offset: u64) -> Result<usize> {
        self.0.write(file, src, offset)
    }

    fn seekable(&self) -> bool {
        self.0.seekable()
    }

    fn size(&self) -> Result<u64> {
        self.0.size()
    }

    fn poll(&self, file: &File) -> EventMask {
        self.0.poll(file)
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        self.0.wait_queue()
    }

    fn ioctl(&self, task: &Task, file: &File, cmd: u32, arg: u64) -> Result<u64> {
        self.0.ioctl(task, file, cmd, arg)
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        self.0.mappable()
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        self.0.sync(data_only)
    }

    fn attr(&self) -> Option<Result<Attr>> {
        self.0.attr()
    }

    fn attachments(&self) -> Option<&Attachments> {
        self.0.attachments()
    }

    fn link_text(&self) -> Option<String> {
        self.0.link_text()
    }

    fn as_any(&self) -> &dyn Any {
        self.0.as_any()
    }
}
