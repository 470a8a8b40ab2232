//! One file of a control group: what the tables of the controllers describe.

use super::{access, core, cpu, cpuset, io, memory, pids, rights};
use crate::errno::{Errno, Result};
use crate::fs::pseudo::{Rights, Text};
use crate::kernel::Kernel;
use crate::kernel::cgroup::{Cgroup, Controllers, Watched};
use crate::vfs::Inode;
use crate::wait::Changes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// A group, and the sandbox it is in.
pub(super) struct Subject<'a> {
    pub kernel: &'a Arc<Kernel>,
    pub group: &'a Arc<Cgroup>,
}

type Read = fn(&Subject<'_>) -> Result<String>;
type Write = fn(&Subject<'_>, &str) -> Result<()>;

/// A file that groups have.
pub(super) struct Spec {
    pub name: &'static str,
    /// The controller that it belongs to; `None`: every group has it.
    pub controller: Option<Controllers>,
    /// Its contents; `None`: it can only be written.
    pub read: Option<Read>,
    /// Takes a word or line; `None`: it can only be read.
    pub write: Option<Write>,
    /// Its watchers are told of changes.
    pub watched: Option<Watched>,
}

/// Every file, by controller.
pub(super) const FILES: [&[Spec]; 6] =
    [core::FILES, cpuset::FILES, cpu::FILES, io::FILES, memory::FILES, pids::FILES];

impl Spec {
    pub const fn read(name: &'static str, read: Read) -> Spec {
        Spec { name, controller: None, read: Some(read), write: None, watched: None }
    }

    pub const fn write_only(name: &'static str, write: Write) -> Spec {
        Spec { name, controller: None, read: None, write: Some(write), watched: None }
    }

    pub const fn both(name: &'static str, read: Read, write: Write) -> Spec {
        Spec { name, controller: None, read: Some(read), write: Some(write), watched: None }
    }

    pub const fn of(self, controller: Controllers) -> Spec {
        Spec { controller: Some(controller), ..self }
    }

    pub const fn watched(self, watched: Watched) -> Spec {
        Spec { watched: Some(watched), ..self }
    }
}

/// A [`Spec`] of a certain group.
pub(super) struct File {
    pub spec: &'static Spec,
    pub kernel: Weak<Kernel>,
    pub group: Arc<Cgroup>,
}

impl File {
    fn usual_mode(&self) -> u32 {
        let read = if self.spec.read.is_some() { 0o444 } else { 0 };
        read | if self.spec.write.is_some() { 0o200 } else { 0 }
    }
}

impl Text for File {
    fn read(&self) -> Result<Vec<u8>> {
        let kernel = self.kernel.upgrade().ok_or(Errno::ENODEV)?;
        let read = self.spec.read.ok_or(Errno::EINVAL)?;
        read(&Subject { kernel: &kernel, group: &self.group }).map(String::into_bytes)
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let kernel = self.kernel.upgrade().ok_or(Errno::ENODEV)?;
        let write = self.spec.write.ok_or(Errno::EINVAL)?;
        let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        write(&Subject { kernel: &kernel, group: &self.group }, text.trim())
    }

    fn rights(&self) -> Rights {
        rights(self.group.access(self.spec.name.as_bytes(), self.usual_mode()))
    }

    fn takes_writes_at(&self, writable: bool) -> bool {
        writable
    }

    fn set_rights(&self, rights: Rights) -> Result<()> {
        self.group.set_access(self.spec.name.as_bytes(), access(rights));
        Ok(())
    }

    fn changes(&self) -> Option<Arc<Changes>> {
        self.spec.watched.and_then(|file| self.group.changes(file)).cloned()
    }

    fn found(&self, inode: Weak<dyn Inode>) {
        if let Some(watched) = self.spec.watched {
            self.group.watch(watched, inode);
        }
    }
}

/// A number, or `max` for [`u64::MAX`].
pub(super) fn number(value: &AtomicU64) -> String {
    line(value.load(Ordering::Relaxed))
}

/// As [`number`].
pub(super) fn line(value: u64) -> String {
    if value == u64::MAX { "max\n".into() } else { format!("{value}\n") }
}

/// What [`line`] writes. `EINVAL`.
pub(super) fn parse(text: &str) -> Result<u64> {
    if text == "max" {
        return Ok(u64::MAX);
    }
    text.parse().map_err(|_| Errno::EINVAL)
}

/// A flag: `0` or `1`. `EINVAL` for what is no number, `ERANGE` for another number.
pub(super) fn parse_flag(text: &str) -> Result<bool> {
    match text.parse::<i64>().map_err(|_| Errno::EINVAL)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::ERANGE),
    }
}
