//! File systems that a guest process serves (FUSE, `fuse(4)`).
//!
//! A daemon opens `/dev/fuse` ([`device`]), mounts the descriptor, and answers what it reads from it
//! ([`connection`]). Calls of others become requests ([`FuseFs::call`]) and wait for the reply, killable, and
//! with no lock of the VFS held ([`FileSystem::waits`]). What a daemon answers is checked where it is taken
//! apart ([`abi`]); it can be wrong, but hurts only who uses its files.
//!
//! Names and attributes are believed for as long as the daemon allows; data is not cached, every read and
//! write is a request. What is mapped is read whole when it is mapped ([`map`]).

mod abi;
mod connection;
pub mod device;
mod directory;
mod file;
mod inode;
mod map;
mod modify;
mod names;
mod options;
#[cfg(test)]
mod tests;

use super::filesystems::Mounter;
use super::super_block::next_dev;
use crate::errno::{Errno, Result};
use crate::kernel::{self, Credentials, Task};
use crate::sync::{Mutex, rank};
use crate::vfs::{Attr, FileSystem, Inode, StatFs};
use abi::{Body, Opcode, Parser, Told};
use connection::{Connection, Expect, Notice, Request, Sender};
pub use inode::FuseInode;
use options::Options;
use platform::MemoryFile;
use rustc_hash::FxHashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// `FUSE_SUPER_MAGIC`
const MAGIC: u64 = 0x6573_5546;

/// A mounted file system.
pub struct FuseFs {
    connection: Arc<Connection>,
    options: Options,
    /// `fuse`, or `fuse.` and what the daemon calls itself.
    type_name: String,
    dev: u64,
    memory: Arc<MemoryFile>,
    /// Inodes in use by node id.
    inodes: Mutex<FxHashMap<u64, Weak<FuseInode>>, { rank::LEAF }>,
}

/// True if `type_name` is `fuse` or one of its subtypes.
pub fn is_type(type_name: &[u8]) -> bool {
    type_name == b"fuse" || type_name.starts_with(b"fuse.")
}

/// Mounts what the daemon behind the option `fd` serves: its root. `EINVAL` for bad options.
pub fn mount(mounter: &Mounter<'_>, type_name: &[u8], text: &[u8]) -> Result<Arc<dyn Inode>> {
    let options = Options::parse(text, &mounter.creds.user_ns)?;
    let task = kernel::current().ok_or(Errno::EINVAL)?;
    let file = task.file(options.fd).map_err(|_| Errno::EINVAL)?;
    let device = file.ops_as::<device::FuseDevice>().ok_or(Errno::EINVAL)?;
    let connection = device.connection().clone();
    connection.connect(options.max_read)?;
    mounter.kernel.asks_guests.store(true, Ordering::Relaxed);
    let root_mode = options.root_mode;
    let fs = Arc::new(FuseFs {
        connection: connection.clone(),
        options,
        type_name: String::from_utf8_lossy(type_name).into_owned(),
        dev: next_dev(),
        memory: mounter.kernel.memory.clone(),
        inodes: Mutex::default(),
    });
    let weak = Arc::downgrade(&fs);
    let _ = connection
        .listener
        .set(Box::new(move |notice| weak.upgrade().ok_or(Errno::ENOENT)?.noticed(&notice)));
    Ok(FuseInode::root(&fs, root_mode))
}

impl FuseFs {
    /// Whether a process may use the file system at all: without `allow_other` only one that belongs to the
    /// user who mounted it, so that a daemon cannot harm or watch others.
    fn allows(&self, creds: &Credentials) -> bool {
        if self.options.allow_other {
            return self.options.owner.contains(&creds.user_ns);
        }
        let (uid, gid) = (self.options.uid, self.options.gid);
        [creds.uid, creds.euid, creds.suid].iter().all(|id| *id == uid)
            && [creds.gid, creds.egid, creds.sgid].iter().all(|id| *id == gid)
    }

    /// Who makes a request. `EOVERFLOW` for ids that the user namespace of the mount does not have.
    fn sender(&self, task: &Task) -> Result<Sender> {
        let creds = task.creds();
        let owner = &self.options.owner;
        let uid = owner.uid_from_kernel(creds.fsuid).ok_or(Errno::EOVERFLOW)?;
        let gid = owner.gid_from_kernel(creds.fsgid).ok_or(Errno::EOVERFLOW)?;
        Ok(Sender { uid, gid, pid: task.ns_tid() as u32 })
    }

    /// Asks the daemon and waits for its reply. `ENOTCONN` without a daemon, `ECONNABORTED` if it ends,
    /// `EINTR` if the calling task is killed; else what the daemon says.
    fn call(&self, opcode: Opcode, node: u64, body: Body, expect: Expect) -> Result<Vec<u8>> {
        let task = kernel::current().ok_or(Errno::EIO)?;
        let sender = self.sender(&task)?;
        self.wait_for_terms(&task)?;
        let request = Request::new(opcode, node, sender, body, expect, Some(task.clone()));
        self.connection.queue(request.clone())?;
        if !task.sleep_until(|| request.is_done(), true) {
            self.connection.interrupt(&request);
            if !task.sleep_until(|| request.is_done(), false) {
                self.connection.abandon(&request);
                return Err(Errno::EINTR);
            }
        }
        request.take_reply()
    }

    /// As [`FuseFs::call`], for something a daemon need not know: `EOPNOTSUPP`, and it is not asked again.
    fn call_if_known(
        &self,
        opcode: Opcode,
        node: u64,
        body: Body,
        expect: Expect,
    ) -> Result<Vec<u8>> {
        if self.connection.is_unknown(opcode) {
            return Err(Errno::EOPNOTSUPP);
        }
        match self.call(opcode, node, body, expect) {
            Err(Errno::ENOSYS) => {
                self.connection.set_unknown(opcode);
                Err(Errno::EOPNOTSUPP)
            }
            other => other,
        }
    }

    /// Tells the daemon something and does not wait.
    fn tell(&self, opcode: Opcode, node: u64, sender: Sender, body: Body) {
        let expect = Expect::UpTo(0);
        // Without a daemon there is no one to tell.
        let _ = self.connection.queue(Request::new(opcode, node, sender, body, expect, None));
    }

    /// Waits until the daemon has told its terms.
    fn wait_for_terms(&self, task: &Arc<Task>) -> Result<()> {
        let connection = &self.connection;
        let known = || {
            connection.terms().is_some() || connection.is_refused() || !connection.is_connected()
        };
        if connection.terms().is_none() {
            let key = connection.starters.add(crate::wait::EventMask::IN, task.clone());
            let came = task.sleep_until(known, false);
            connection.starters.remove(key);
            if !came {
                return Err(Errno::EINTR);
            }
        }
        Ok(())
    }

    /// Most bytes of one read or write.
    fn max_data(&self, write: bool) -> usize {
        let terms = self.connection.terms();
        let max = terms.map_or(4096, |t| if write { t.max_write } else { t.max_read });
        max.max(1) as usize
    }

    /// Attributes as a daemon tells them, with the ids of its user namespace translated.
    fn complete(&self, told: Told) -> Attr {
        const OVERFLOW: u32 = 65534;
        let owner = &self.options.owner;
        let mut attr = told.attr;
        attr.dev = self.dev;
        attr.uid = owner.uid_to_kernel(attr.uid).unwrap_or(OVERFLOW);
        attr.gid = owner.gid_to_kernel(attr.gid).unwrap_or(OVERFLOW);
        attr
    }

    /// The moment, in nanoseconds of the monotonic clock, until which something may be believed.
    fn until(&self, valid: u64) -> u64 {
        if valid == 0 { 0 } else { self.now().saturating_add(valid) }
    }

    fn now(&self) -> u64 {
        kernel::current().map_or(u64::MAX, |task| task.kernel().time.monotonic())
    }

    /// A daemon says that something has changed.
    fn noticed(&self, notice: &Notice) -> Result<()> {
        let find = |node: &u64| self.inodes.lock().get(node).and_then(Weak::upgrade);
        match notice {
            Notice::Inode(node) => find(node).ok_or(Errno::ENOENT)?.stale(),
            Notice::Entry(node, name) => {
                let dir = find(node).ok_or(Errno::ENOENT)?;
                if !dir.forget_name(name) {
                    return Err(Errno::ENOENT);
                }
            }
        }
        Ok(())
    }
}

impl FileSystem for FuseFs {
    fn type_name(&self) -> &'static str {
        "fuse"
    }

    fn full_type(&self) -> String {
        self.type_name.clone()
    }

    fn dev(&self) -> u64 {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs> {
        let mut found = StatFs { magic: MAGIC, ..StatFs::default() };
        if !kernel::current().is_some_and(|task| self.allows(&task.creds())) {
            return Ok(found);
        }
        let expect = Expect::Exactly(80);
        let reply = self.call(Opcode::StatFs, abi::ROOT_ID, Body::default(), expect)?;
        let mut reply = Parser(&reply);
        found.blocks = [reply.u64()?, reply.u64()?, reply.u64()?];
        found.files = [reply.u64()?, reply.u64()?];
        found.block_size = u64::from(reply.u32()?);
        found.name_max = u64::from(reply.u32()?);
        found.fragment_size = u64::from(reply.u32()?);
        Ok(found)
    }

    fn options(&self) -> String {
        self.options.to_string()
    }

    fn volatile_names(&self) -> bool {
        true
    }

    fn waits(&self) -> bool {
        true
    }
}

impl Drop for FuseFs {
    fn drop(&mut self) {
        self.connection.end();
    }
}
