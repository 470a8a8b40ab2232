//! `cgroup2`: the hierarchy of control groups as files (`cgroups(7)`). The groups are `kernel/cgroup`.

mod core;
mod cpu;
mod cpuset;
mod file;
mod io;
mod memory;
mod pids;

use self::file::{FILES, File};
use super::pseudo::{Directory, Listed, Node, PseudoFs, PseudoInode, Rights};
use crate::errno::{Errno, Result};
use crate::kernel::cgroup::{Access, Cgroup};
use crate::kernel::credentials::CAP_DAC_OVERRIDE;
use crate::kernel::{Kernel, Task, current};
use crate::vfs::{FileType, Inode, permission};
use std::sync::{Arc, Weak};

/// `CGROUP2_SUPER_MAGIC`.
const MAGIC: u64 = 0x6367_7270;

/// An instance that shows `root` and what is below.
pub fn mount(kernel: &Arc<Kernel>, root: &Arc<Cgroup>, dev: u64) -> Arc<PseudoInode> {
    let root = Group { kernel: Arc::downgrade(kernel), group: root.clone() };
    PseudoFs::mount("cgroup2", MAGIC, dev, true, Arc::new(root))
}

/// Checks mount options: the ones of Linux, which change nothing here. `EINVAL` for others.
pub fn check_options(options: &[u8]) -> Result<()> {
    const KNOWN: [&[u8]; 5] = [
        b"nsdelegate",
        b"favordynmods",
        b"memory_localevents",
        b"memory_recursiveprot",
        b"memory_hugetlb_accounting",
    ];
    let mut words = options.split(|c| *c == b',').filter(|word| !word.is_empty());
    if words.all(|word| KNOWN.contains(&word)) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// The group whose directory an inode is.
pub fn group_of(inode: &dyn Inode) -> Option<Arc<Cgroup>> {
    inode.as_any().downcast_ref::<PseudoInode>()?.cgroup()
}

/// Whether `task` may move processes from one group to another: it must be allowed to write the
/// `cgroup.procs` of their common ancestor, and see both in its namespace. `EACCES`, `ENOENT`.
pub fn may_move(task: &Task, from: &Arc<Cgroup>, to: &Arc<Cgroup>) -> Result<()> {
    let namespaces = task.namespaces();
    let root = namespaces.cgroup.root();
    if !from.is_within(root) || !to.is_within(root) {
        return Err(Errno::ENOENT);
    }
    let common = from.path_up().find(|g| to.is_within(g)).ok_or(Errno::ENOENT)?;
    let access = common.access(b"cgroup.procs", 0o644);
    let creds = task.creds();
    let class = if creds.fsuid == access.uid {
        0o200
    } else if permission::in_group(&creds, access.gid) {
        0o020
    } else {
        0o002
    };
    match access.mode & class != 0 || creds.has(CAP_DAC_OVERRIDE) {
        true => Ok(()),
        false => Err(Errno::EACCES),
    }
}

fn rights(access: Access) -> Rights {
    Rights { mode: access.mode, uid: access.uid, gid: access.gid }
}

fn access(rights: Rights) -> Access {
    Access { mode: rights.mode, uid: rights.uid, gid: rights.gid }
}

/// The directory of a group.
struct Group {
    kernel: Weak<Kernel>,
    group: Arc<Cgroup>,
}

impl Group {
    fn kernel(&self) -> Result<Arc<Kernel>> {
        self.kernel.upgrade().ok_or(Errno::ENODEV)
    }

    fn below(&self, group: Arc<Cgroup>) -> Node {
        Node::Directory(Arc::new(Group { kernel: self.kernel.clone(), group }))
    }
}

impl Directory for Group {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        if let Some(child) = self.group.child(name) {
            return Ok(self.below(child));
        }
        let has = self.group.controllers();
        let spec = FILES.iter().flat_map(|files| files.iter()).find(|spec| {
            spec.name.as_bytes() == name && spec.controller.is_none_or(|one| has.contains(one))
        });
        let spec = spec.ok_or(Errno::ENOENT)?;
        let (kernel, group) = (self.kernel.clone(), self.group.clone());
        Ok(Node::Text(Arc::new(File { spec, kernel, group })))
    }

    fn cgroup(&self) -> Option<Arc<Cgroup>> {
        Some(self.group.clone())
    }

    fn list(&self) -> Result<Vec<Listed>> {
        let has = self.group.controllers();
        let files = FILES.iter().flat_map(|files| files.iter());
        let files = files.filter(|spec| spec.controller.is_none_or(|one| has.contains(one)));
        let mut all: Vec<Listed> = files.map(|spec| Listed::file(spec.name)).collect();
        let children = self.group.children();
        // A group's number keeps its place, also when others go meanwhile.
        let mut children: Vec<(u64, Vec<u8>)> =
            children.into_iter().map(|(name, g)| (g.id(), name)).collect();
        children.sort_unstable();
        all.extend(children.into_iter().map(|(id, name)| Listed {
            number: u32::try_from(id).ok(),
            ..Listed::new(name, FileType::Directory)
        }));
        Ok(all)
    }

    fn make(&self, name: &[u8], rights: Rights) -> Option<Result<Node>> {
        let make = || {
            if name.contains(&b'\n') {
                return Err(Errno::EINVAL);
            }
            if self.lookup(name).is_ok() {
                return Err(Errno::EEXIST);
            }
            let child = self.group.create(&*self.kernel()?, name, access(rights))?;
            for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
                child.set_access(file.as_bytes(), Access { mode: 0o644, ..access(rights) });
            }
            Ok(self.below(child))
        };
        Some(make())
    }

    fn remove(&self, name: &[u8]) -> Option<Result<()>> {
        let remove = || {
            let here = current().map(|task| task.namespaces());
            let child = self.group.child(name);
            if let (Some(namespaces), Some(child)) = (here, child)
                && Arc::ptr_eq(namespaces.cgroup.root(), &child)
            {
                return Err(Errno::EBUSY);
            }
            self.group.remove(&*self.kernel()?, name)
        };
        Some(remove())
    }

    fn rights(&self) -> Rights {
        rights(self.group.access(b"", 0o755))
    }

    fn set_rights(&self, rights: Rights) -> Result<()> {
        self.group.set_access(b"", access(rights));
        Ok(())
    }
}
