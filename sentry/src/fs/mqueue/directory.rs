//! The only directory of an `mqueue`.

use super::settings::Charge;
use super::{MqueueFs, QueueInode};
use crate::errno::{Errno, Result};
use crate::fs::anon;
use crate::kernel::Task;
use crate::sync::{Mutex, rank};
use crate::vfs::{
    Attachments, Attr, DirEntry, File, FileOps, FileSystem, FileType, Inode, OpenFlags, Owner,
    Path, SetAttr,
};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

const ROOT_INO: u64 = 1;
/// What an entry adds to the directory's size.
const DIRENT_SIZE: u64 = 20;

/// The root.
pub struct Root {
    fs: Arc<MqueueFs>,
    state: Mutex<State, { rank::INODE }>,
    attachments: Attachments,
}

struct State {
    attr: Attr,
    /// Queues by name, with the position at which they are listed.
    queues: BTreeMap<Vec<u8>, (u64, Arc<QueueInode>)>,
    next: u64,
}

impl State {
    fn changed(&mut self) {
        let now = anon::now();
        (self.attr.atime, self.attr.mtime, self.attr.ctime) = (now, now, now);
        self.attr.size = (self.queues.len() as u64 + 2) * DIRENT_SIZE;
    }
}

impl Root {
    pub(super) fn new(fs: Arc<MqueueFs>) -> Arc<Root> {
        let identity = anon::Identity { ino: ROOT_INO, uid: 0, gid: 0, born: anon::now() };
        let mut attr = identity.attr(fs.dev(), FileType::Directory as u32 | 0o1777, identity.born);
        attr.nlink = 2;
        attr.size = 2 * DIRENT_SIZE;
        let state = State { attr, queues: BTreeMap::new(), next: 2 };
        Arc::new(Root { fs, state: Mutex::new(state), attachments: Attachments::default() })
    }

    pub(super) fn mqueue_fs(&self) -> &Arc<MqueueFs> {
        &self.fs
    }

    /// A new queue; `wanted` are `mq_maxmsg` and `mq_msgsize`. `EEXIST`, `ENOSPC`, `EINVAL`, `EMFILE`.
    pub fn create_queue(
        &self,
        task: &Task,
        name: &[u8],
        mode: u32,
        owner: Owner,
        wanted: Option<(i64, i64)>,
    ) -> Result<Arc<QueueInode>> {
        let settings = &self.fs.settings;
        let mut state = self.state.lock();
        if state.queues.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        settings.check_room(&task.creds(), state.queues.len())?;
        let size = settings.size(&task.creds(), wanted)?;
        let charge = Charge::take(task, size)?;
        let identity = anon::Identity {
            ino: self.fs.next_ino(),
            uid: owner.uid,
            gid: owner.gid,
            born: anon::now(),
        };
        let queue = QueueInode::new(&self.fs, identity, mode, size, charge);
        let position = state.next;
        state.next += 1;
        state.queues.insert(name.to_vec(), (position, queue.clone()));
        state.changed();
        Ok(queue)
    }
}

impl Inode for Root {
    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn attr(&self) -> Result<Attr> {
        Ok(self.state.lock().attr)
    }

    fn set_attr(&self, changes: &SetAttr) -> Result<()> {
        changes.apply(&mut self.state.lock().attr);
        Ok(())
    }

    fn open(self: Arc<Self>, _path: &Path, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(OpenRoot { root: self }))
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let state = self.state.lock();
        let (_, queue) = state.queues.get(name).ok_or(Errno::ENOENT)?;
        Ok(queue.clone())
    }

    fn create(&self, name: &[u8], mode: u32, _rdev: u64, owner: Owner) -> Result<Arc<dyn Inode>> {
        if FileType::from_mode(mode) != Some(FileType::Regular) {
            return Err(Errno::EPERM);
        }
        // Nothing but a task gets here.
        let task = crate::kernel::current().ok_or(Errno::EPERM)?;
        Ok(self.create_queue(&task, name, mode, owner, None)?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        let (_, queue) = {
            let mut state = self.state.lock();
            let gone = state.queues.remove(name).ok_or(Errno::ENOENT)?;
            state.changed();
            gone
        };
        queue.unlinked();
        Ok(())
    }

    fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The root, open.
struct OpenRoot {
    root: Arc<Root>,
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
        let mut entries: Vec<(u64, Vec<u8>, u64)> = {
            let state = self.root.state.lock();
            let queues = state.queues.iter();
            queues.map(|(name, (at, queue))| (*at, name.clone(), queue.ino())).collect()
        };
        entries.sort();
        let dots = [(0, b".".to_vec(), ROOT_INO), (1, b"..".to_vec(), ROOT_INO)];
        for (at, name, ino) in dots.iter().chain(&entries).filter(|(at, ..)| *at >= pos) {
            let file_type = if *at < 2 { FileType::Directory } else { FileType::Regular };
            if !emit(DirEntry { name, ino: *ino, file_type, next: at + 1 }) {
                break;
            }
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
