//! `nsfs`: namespaces as files (`ioctl_nsfs(2)`).
//!
//! A link in `/proc/PID/ns` leads to an inode made for the occasion, on a mount of its own that is attached
//! nowhere. A descriptor of it, or a bind mount, keeps the namespace alive.

use super::super_block;
use crate::errno::{Errno, Result};
use crate::kernel::namespace::{Namespace, UserNamespace};
use crate::kernel::{Rlimit, Task};
use crate::mm::UserAddr;
use crate::vfs::{
    Attachments, Attr, Dentry, File, FileOps, FileSystem, FileType, Inode, Mount, OpenFlags, Path,
    StatFs,
};
use std::any::Any;
use std::sync::{Arc, OnceLock};

/// `NSFS_MAGIC`
const MAGIC: u64 = 0x6e73_6673;

const NS_GET_USERNS: u32 = 0xb701;
const NS_GET_PARENT: u32 = 0xb702;
const NS_GET_NSTYPE: u32 = 0xb703;
const NS_GET_OWNER_UID: u32 = 0xb704;
const NS_GET_MNTNS_ID: u32 = 0x8008_b705;
const NS_GET_PID_FROM_PIDNS: u32 = 0x8004_b706;
const NS_GET_TGID_FROM_PIDNS: u32 = 0x8004_b707;
const NS_GET_PID_IN_PIDNS: u32 = 0x8004_b708;
const NS_GET_TGID_IN_PIDNS: u32 = 0x8004_b709;

struct Nsfs;

impl FileSystem for Nsfs {
    fn type_name(&self) -> &'static str {
        "nsfs"
    }

    fn dev(&self) -> u64 {
        static DEV: OnceLock<u64> = OnceLock::new();
        *DEV.get_or_init(super_block::next_dev)
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: MAGIC, block_size: 4096, name_max: 255, ..StatFs::default() })
    }
}

/// A namespace as an inode.
pub struct NsInode {
    ns: Namespace,
    fs: Arc<dyn FileSystem>,
    attachments: Attachments,
}

impl NsInode {
    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.ns
    }
}

impl Inode for NsInode {
    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn file_type(&self) -> FileType {
        FileType::Regular
    }

    fn attr(&self) -> Result<Attr> {
        Ok(Attr { mode: FileType::Regular as u32 | 0o444, ..self.plain_attr() })
    }

    fn open(self: Arc<Self>, _path: &Path, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        if flags.writable() {
            return Err(Errno::EPERM);
        }
        Ok(Arc::new(NsFile(self.ns.clone())))
    }

    fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl NsInode {
    fn plain_attr(&self) -> Attr {
        super::anon::Identity { ino: self.ns.id(), uid: 0, gid: 0, born: 0 }.attr(
            self.fs.dev(),
            0,
            0,
        )
    }
}

/// Where a link to a namespace leads.
pub fn place(ns: Namespace) -> Path {
    let fs: Arc<dyn FileSystem> = Arc::new(Nsfs);
    let inode = Arc::new(NsInode { ns, fs: fs.clone(), attachments: Attachments::default() });
    let dentry = Dentry::new_root(inode);
    Path { mount: Mount::new_internal(fs, dentry.clone(), b"nsfs"), dentry }
}

/// The namespace that an open file stands for.
pub fn namespace_of(file: &File) -> Option<Namespace> {
    file.ops_as::<NsFile>().map(|f| f.0.clone())
}

/// The namespace at a place (a bind mount of one).
pub fn namespace_at(path: &Path) -> Option<&Namespace> {
    path.inode().as_any().downcast_ref::<NsInode>().map(NsInode::namespace)
}

/// An open namespace.
struct NsFile(Namespace);

impl FileOps for NsFile {
    fn link_text(&self) -> Option<String> {
        Some(self.0.text())
    }

    fn ioctl(&self, task: &Task, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        let addr = UserAddr(arg);
        match (cmd, &self.0) {
            (NS_GET_USERNS, ns) => {
                let owner = ns.owner().ok_or(Errno::EPERM)?;
                visible(task, &owner)?;
                open(task, Namespace::User(owner))
            }
            (NS_GET_PARENT, Namespace::User(ns)) => {
                let parent = ns.parent().ok_or(Errno::EPERM)?;
                visible(task, parent)?;
                open(task, Namespace::User(parent.clone()))
            }
            (NS_GET_PARENT, Namespace::Pid(ns)) => {
                let parent = ns.parent().filter(|p| task.group().pid_ns().contains(p));
                open(task, Namespace::Pid(parent.ok_or(Errno::EPERM)?.clone()))
            }
            (NS_GET_PARENT, _) => Err(Errno::EINVAL),
            (NS_GET_NSTYPE, ns) => Ok(ns.kind().flag().bits()),
            (NS_GET_OWNER_UID, Namespace::User(ns)) => {
                let uid = task.creds().user_ns.show_uid(ns.owner());
                task.mm()?.write_obj(addr, &uid)?;
                Ok(0)
            }
            (NS_GET_OWNER_UID, _) => Err(Errno::EINVAL),
            (NS_GET_MNTNS_ID, Namespace::Mount(ns)) => {
                task.mm()?.write_obj(addr, &ns.id())?;
                Ok(0)
            }
            (NS_GET_PID_FROM_PIDNS | NS_GET_TGID_FROM_PIDNS, Namespace::Pid(ns)) => {
                let found = task.kernel().task(ns.global(arg as i32)).ok_or(Errno::ESRCH)?;
                let id = if cmd == NS_GET_PID_FROM_PIDNS { found.tid() } else { found.tgid() };
                nonzero(task.local_id(id))
            }
            (NS_GET_PID_IN_PIDNS | NS_GET_TGID_IN_PIDNS, Namespace::Pid(ns)) => {
                let found = task.find_task(arg as i32)?;
                let id = if cmd == NS_GET_PID_IN_PIDNS { found.tid() } else { found.tgid() };
                nonzero(ns.local(id))
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn nonzero(id: i32) -> Result<u64> {
    if id == 0 { Err(Errno::ESRCH) } else { Ok(id as u64) }
}

/// `EPERM` for a user namespace that is not the task's own or below it.
fn visible(task: &Task, ns: &UserNamespace) -> Result<()> {
    if task.creds().user_ns.contains(ns) { Ok(()) } else { Err(Errno::EPERM) }
}

/// A descriptor of a namespace, close-on-exec.
pub fn open(task: &Task, ns: Namespace) -> Result<u64> {
    let path = place(ns.clone());
    let file = File::new(Arc::new(NsFile(ns)), Some(path), OpenFlags::empty());
    let fd = task.files()?.insert(file, true, 0, task.limit(Rlimit::Nofile).soft)?;
    Ok(fd as u64)
}
