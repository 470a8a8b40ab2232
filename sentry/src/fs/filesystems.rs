//! File systems that can be mounted by name (`filesystems(5)`).

use super::super_block::next_dev;
use super::tmpfs::{Tmpfs, TmpfsOptions};
use super::{dev, devpts, proc, sysfs};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::vfs::Inode;
use std::sync::Arc;

/// Makes the root of a new instance of a file system, with options in the form of `mount(8)`.
type Make = fn(&Arc<Kernel>, &[u8]) -> Result<Arc<dyn Inode>>;

/// Types, as `mount(2)` names them. None needs a device.
const TYPES: &[(&str, Make)] = &[
    ("tmpfs", |kernel, options| {
        Ok(Tmpfs::mount(kernel.memory.clone(), TmpfsOptions::parse(options)?))
    }),
    ("ramfs", |kernel, options| {
        Ok(Tmpfs::named("ramfs", kernel.memory.clone(), TmpfsOptions::parse(options)?))
    }),
    ("devtmpfs", |kernel, _| Ok(dev::mount(&kernel.memory)?)),
    ("proc", |kernel, _| Ok(proc::mount(kernel, next_dev()))),
    ("mqueue", |kernel, options| in_memory(kernel, "mqueue", options, "mode=1777")),
    ("cgroup2", |kernel, options| in_memory(kernel, "cgroup2", options, "mode=755")),
    ("devpts", |_, options| devpts::mount(options)),
    ("sysfs", |kernel, _| Ok(sysfs::mount(kernel, next_dev()))),
];

/// A tmpfs in the place of a file system whose own files are not there yet; `options` are those of
/// the real one, and not looked at.
fn in_memory(
    kernel: &Arc<Kernel>,
    name: &'static str,
    _options: &[u8],
    own: &str,
) -> Result<Arc<dyn Inode>> {
    Ok(Tmpfs::named(name, kernel.memory.clone(), TmpfsOptions::parse(own.as_bytes())?))
}

/// The root of a new instance. `ENODEV` for an unknown type, `EINVAL` for bad options.
pub fn make(kernel: &Arc<Kernel>, type_name: &[u8], options: &[u8]) -> Result<Arc<dyn Inode>> {
    let make = TYPES
        .iter()
        .find(|(name, _)| name.as_bytes() == type_name)
        .map(|(_, make)| make)
        .ok_or(Errno::ENODEV)?;
    make(kernel, options)
}

/// Names of all types, for `/proc/filesystems`.
pub fn names() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|(name, _)| *name)
}
