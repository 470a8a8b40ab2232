//! Processes as files (`pidfd_open(2)`).

use super::{CurrentTask, Rlimit, ThreadGroup};
use crate::errno::{Errno, Result};
use crate::fs::pseudo::PseudoInode;
use crate::vfs::{Attr, File, FileOps, OpenFlags};
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::Arc;

/// What a pidfd does.
pub struct PidFd {
    group: Arc<ThreadGroup>,
}

impl PidFd {
    /// The process.
    pub fn group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }
}

impl FileOps for PidFd {
    fn poll(&self, _file: &File) -> EventMask {
        if self.group.is_dead() { EventMask::READABLE } else { EventMask::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.group.exit_queue)
    }

    fn attr(&self) -> Option<Result<Attr>> {
        Some(Ok(crate::fs::anon::attr()))
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[pidfd]".to_owned())
    }

    fn fdinfo(&self) -> String {
        let pid = if self.group.is_dead() { -1 } else { self.group.tgid() };
        format!("Pid:\t{pid}\nNSpid:\t{pid}\n")
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A file that stands for a process.
pub fn file(group: &Arc<ThreadGroup>, nonblock: bool) -> Arc<File> {
    let mut flags = OpenFlags::RDWR;
    flags.set(OpenFlags::NONBLOCK, nonblock);
    File::new(Arc::new(PidFd { group: group.clone() }), None, flags)
}

/// Installs a pidfd in the caller's table, close-on-exec.
pub fn install(t: &CurrentTask, group: &Arc<ThreadGroup>) -> Result<i32> {
    t.files().insert(file(group, false), true, 0, t.limit(Rlimit::Nofile).soft)
}

/// The process behind a pidfd. `EBADF` if it is none.
pub fn group_of(t: &CurrentTask, fd: i32) -> Result<Arc<ThreadGroup>> {
    let file = t.files().get(fd)?;
    file.ops_as::<PidFd>().map(|p| p.group.clone()).ok_or(Errno::EBADF)
}

/// As [`group_of`], where a descriptor of `/proc/PID` is as good.
pub fn group_to_signal(t: &CurrentTask, fd: i32) -> Result<Arc<ThreadGroup>> {
    let file = t.files().get(fd)?;
    if let Some(pidfd) = file.ops_as::<PidFd>() {
        return Ok(pidfd.group.clone());
    }
    let inode = file.path().and_then(|path| path.inode().as_any().downcast_ref::<PseudoInode>());
    inode.and_then(PseudoInode::process).ok_or(Errno::EBADF)
}
