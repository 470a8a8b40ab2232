//! Inodes of `devpts`.

use super::Devpts;
use crate::errno::{Errno, Result};
use crate::fs::anon;
use crate::fs::tty::PTS_MAJOR;
use crate::fs::tty::device::TTY_MAJOR;
use crate::sync::{Mutex, rank};
use crate::vfs::device::Device;
use crate::vfs::{
    Attachments, Attr, DirEntry, File, FileOps, FileSystem, FileType, Inode, OpenFlags, Path,
    SetAttr,
};
use std::any::Any;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Root,
    Ptmx,
    Slave(u32),
}

/// The root, `ptmx`, or a slave.
pub struct DevptsInode {
    fs: Arc<Devpts>,
    kind: Kind,
    attr: Mutex<Attr, { rank::LEAF }>,
    attachments: Attachments,
}

const ROOT_INO: u64 = 1;
const PTMX_INO: u64 = 2;

impl DevptsInode {
    fn new(fs: Arc<Devpts>, kind: Kind, mode: u32, uid: u32, gid: u32) -> Arc<DevptsInode> {
        let (ino, rdev) = match kind {
            Kind::Root => (ROOT_INO, 0),
            Kind::Ptmx => (PTMX_INO, Device { major: TTY_MAJOR, minor: 2 }.rdev()),
            Kind::Slave(n) => (u64::from(n) + 3, Device { major: PTS_MAJOR, minor: n }.rdev()),
        };
        let now = if kind == Kind::Root { fs.born } else { anon::now() };
        let attr = Attr {
            dev: fs.dev,
            ino,
            mode,
            nlink: if kind == Kind::Root { 2 } else { 1 },
            uid,
            gid,
            rdev,
            size: 0,
            blksize: 1024,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: None,
        };
        Arc::new(DevptsInode { fs, kind, attr: Mutex::new(attr), attachments: Default::default() })
    }

    /// The root of an instance.
    pub fn root(fs: Arc<Devpts>) -> Arc<DevptsInode> {
        Self::new(fs, Kind::Root, FileType::Directory as u32 | 0o755, 0, 0)
    }

    /// A slave.
    pub fn slave(fs: Arc<Devpts>, index: u32, mode: u32, uid: u32, gid: u32) -> Arc<DevptsInode> {
        Self::new(fs, Kind::Slave(index), FileType::CharDevice as u32 | mode, uid, gid)
    }

    /// The instance it belongs to.
    pub fn instance(&self) -> &Arc<Devpts> {
        &self.fs
    }
}

impl Inode for DevptsInode {
    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn attr(&self) -> Result<Attr> {
        Ok(*self.attr.lock())
    }

    fn set_attr(&self, changes: &SetAttr) -> Result<()> {
        changes.apply(&mut self.attr.lock());
        Ok(())
    }

    fn open(self: Arc<Self>, _path: &Path, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match self.kind {
            Kind::Root => Ok(Arc::new(OpenRoot { root: self })),
            // Devices are opened through their drivers.
            Kind::Ptmx | Kind::Slave(_) => Err(Errno::ENXIO),
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if self.kind != Kind::Root {
            return Err(Errno::ENOTDIR);
        }
        if name == b"ptmx" {
            let mode = FileType::CharDevice as u32 | self.fs.options.ptmxmode;
            return Ok(Self::new(self.fs.clone(), Kind::Ptmx, mode, 0, 0));
        }
        let text = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let index: u32 = text.parse().map_err(|_| Errno::ENOENT)?;
        if index.to_string() != text {
            return Err(Errno::ENOENT);
        }
        let inode = self.fs.inode(index).ok_or(Errno::ENOENT)?;
        Ok(inode)
    }

    fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The root directory, open.
struct OpenRoot {
    root: Arc<DevptsInode>,
}

impl FileOps for OpenRoot {
    fn read(&self, _: &File, _: &mut dyn crate::io::Sink, _: u64) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn readdir(
        &self,
        _file: &File,
        pos: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let mut entries = vec![
            (".".to_string(), ROOT_INO, FileType::Directory),
            ("..".to_string(), ROOT_INO, FileType::Directory),
            ("ptmx".to_string(), PTMX_INO, FileType::CharDevice),
        ];
        for index in self.root.fs.indices() {
            entries.push((index.to_string(), u64::from(index) + 3, FileType::CharDevice));
        }
        for (i, (name, ino, file_type)) in entries.iter().enumerate().skip(pos as usize) {
            let next = i as u64 + 1;
            if !emit(DirEntry { name: name.as_bytes(), ino: *ino, file_type: *file_type, next }) {
                break;
            }
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
