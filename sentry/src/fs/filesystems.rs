//! File systems that can be mounted by name (`filesystems(5)`).

use super::super_block::next_dev;
use super::tmpfs::{Tmpfs, TmpfsOptions};
use super::{cgroup, dev, devpts, fuse, proc, sysfs};
use crate::errno::{Errno, Result};
use crate::kernel::namespace::{Namespaces, PidNamespace, UserNamespace};
use crate::kernel::{Credentials, Kernel};
use crate::vfs::Inode;
use std::sync::Arc;

/// Who mounts a file system: what it shows, and whom it belongs to.
pub struct Mounter<'a> {
    /// The sandbox.
    pub kernel: &'a Arc<Kernel>,
    /// Credentials.
    pub creds: &'a Credentials,
    /// Namespaces; `proc` shows the processes of [`Mounter::pid_ns`].
    pub namespaces: &'a Namespaces,
    /// Pid namespace.
    pub pid_ns: &'a Arc<PidNamespace>,
}

/// Makes the root of a new instance of a file system, with options in the form of `mount(8)`.
type Make = fn(&Mounter<'_>, &[u8]) -> Result<Arc<dyn Inode>>;

/// Types, as `mount(2)` names them. None needs a device.
const TYPES: &[(&str, Make)] = &[
    ("tmpfs", |m, options| {
        let options = TmpfsOptions::parse_for(options, m.creds)?;
        Ok(Tmpfs::mount(m.kernel.memory.clone(), options))
    }),
    ("ramfs", |m, options| {
        let options = TmpfsOptions::parse_for(options, m.creds)?;
        Ok(Tmpfs::named("ramfs", m.kernel.memory.clone(), options))
    }),
    ("devtmpfs", |m, _| Ok(dev::mount(&m.kernel.memory, true)?)),
    ("proc", |m, _| Ok(proc::mount(m.kernel, m.pid_ns, next_dev()))),
    ("mqueue", |m, _| Ok(m.namespaces.ipc.mqueue.root().clone())),
    ("cgroup2", |m, options| {
        cgroup::check_options(options)?;
        Ok(cgroup::mount(m.kernel, m.namespaces.cgroup.root(), next_dev()))
    }),
    ("devpts", |_, options| devpts::mount(options)),
    ("sysfs", |m, _| Ok(sysfs::mount(m.kernel, next_dev()))),
];

/// The root of a new instance. `ENODEV` for an unknown type, `EINVAL` for bad options.
pub fn make(mounter: &Mounter<'_>, type_name: &[u8], options: &[u8]) -> Result<Arc<dyn Inode>> {
    if fuse::is_type(type_name) {
        return fuse::mount(mounter, type_name, options);
    }
    let make = TYPES
        .iter()
        .find(|(name, _)| name.as_bytes() == type_name)
        .map(|(_, make)| make)
        .ok_or(Errno::ENODEV)?;
    make(mounter, options)
}

/// True if there is such a type.
pub fn is_known(type_name: &[u8]) -> bool {
    fuse::is_type(type_name) || TYPES.iter().any(|(name, _)| name.as_bytes() == type_name)
}

/// The user namespace in which `CAP_SYS_ADMIN` is needed to mount a type; a new instance belongs to it.
pub fn owner(mounter: &Mounter<'_>, type_name: &[u8]) -> Arc<UserNamespace> {
    match type_name {
        b"proc" => mounter.pid_ns.user_ns().clone(),
        b"sysfs" => mounter.namespaces.net.user_ns().clone(),
        b"mqueue" => mounter.namespaces.ipc.user_ns().clone(),
        b"cgroup2" => mounter.namespaces.cgroup.user_ns().clone(),
        b"devtmpfs" => UserNamespace::root(),
        _ => mounter.creds.user_ns.clone(),
    }
}

/// Names of all types, for `/proc/filesystems`.
pub fn names() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|(name, _)| *name).chain(["fuse"])
}
