//! What a container's description says about single paths: device nodes, masked and read-only paths, and the
//! settings of `/proc/sys`.

use super::mounts::mount_point;
use super::{BootError, ContainerSpec, DeviceSpec};
use crate::errno::{Errno, Result};
use crate::fs::proc::starting;
use crate::fs::tmpfs::{Tmpfs, TmpfsOptions};
use crate::io::BufSource;
use crate::kernel::Kernel;
use crate::kernel::namespace::Namespaces;
use crate::vfs::device::Device;
use crate::vfs::open::{OpenHow, open_at};
use crate::vfs::walk::{self, WalkContext, WalkFlags};
use crate::vfs::{Mount, MountFlags, MountNamespace, OpenFlags, Owner, Path, SetAttr};
use std::sync::Arc;

/// Applies it to a mount tree that is complete.
pub fn apply(
    kernel: &Arc<Kernel>,
    namespaces: &Arc<Namespaces>,
    namespace: &Arc<MountNamespace>,
    spec: &ContainerSpec,
) -> Result<(), BootError> {
    let failed = |what: &str, path: &str| {
        let (what, destination) = (what.to_string(), path.to_string());
        move |errno| BootError::Mount { what, destination, errno }
    };
    for device in &spec.devices {
        node(namespace, device).map_err(failed("the device node", &device.path))?;
    }
    for (name, value) in &spec.sysctl {
        match starting::at_start(namespaces, || sysctl(namespace, name, value)) {
            // A host's stack has settings that this one does not have, and none that it needs.
            Err(e) if name.starts_with("net/") => tracing::warn!("ignored: {e}"),
            done => done?,
        }
    }
    for path in &spec.read_only_paths {
        read_only(namespace, path).map_err(failed("a read-only path", path))?;
    }
    for path in &spec.masked_paths {
        mask(kernel, namespace, path).map_err(failed("a masked path", path))?;
    }
    Ok(())
}

/// The place a path of the container leads to; `None` if there is none, which is no error for any of these.
fn find(namespace: &Arc<MountNamespace>, path: &str) -> Result<Option<Path>> {
    let ctx = WalkContext::kernel(namespace.root());
    match walk::resolve(&ctx, namespace.root(), path.as_bytes(), WalkFlags::FOLLOW) {
        Ok(path) => Ok(Some(path)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Makes a device node. One that exists already gets the permissions and the owner.
fn node(namespace: &Arc<MountNamespace>, device: &DeviceSpec) -> Result<()> {
    let (dir, name) = device.path.rsplit_once('/').ok_or(Errno::EINVAL)?;
    let at = mount_point(namespace, dir.as_bytes(), true)?;
    let owner = Owner { uid: device.uid, gid: device.gid };
    let rdev = Device { major: device.major, minor: device.minor }.rdev();
    match at.inode().create(name.as_bytes(), device.mode, rdev, owner) {
        Ok(_) => {
            at.dentry.forget_children();
            Ok(())
        }
        Err(Errno::EEXIST) => {
            let Some(existing) = find(namespace, &device.path)? else { return Ok(()) };
            existing.inode().set_attr(&SetAttr {
                mode: Some(device.mode & 0o7777),
                uid: Some(device.uid),
                gid: Some(device.gid),
                ..SetAttr::default()
            })
        }
        Err(e) => Err(e),
    }
}

/// Mounts a path over itself, read-only.
fn read_only(namespace: &Arc<MountNamespace>, path: &str) -> Result<()> {
    let Some(at) = find(namespace, path)? else { return Ok(()) };
    let copy = namespace.copy_tree(&at, true)?;
    for mount in copy.tree() {
        mount.set_flags(mount.flags() | MountFlags::RDONLY)?;
    }
    namespace.attach(copy, &at)
}

/// Hides what is at a path: below an empty directory, or as an empty file.
fn mask(kernel: &Arc<Kernel>, namespace: &Arc<MountNamespace>, path: &str) -> Result<()> {
    let Some(at) = find(namespace, path)? else { return Ok(()) };
    if at.dentry.is_dir() {
        let options =
            TmpfsOptions { size: 4096, inodes: 1, mode: 0o755, ..TmpfsOptions::default() };
        let empty = Tmpfs::mount(kernel.memory.clone(), options);
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        let mount = Mount::new(crate::vfs::Inode::fs(&*empty), empty, b"tmpfs", flags);
        return namespace.attach(mount, &at);
    }
    match find(namespace, "/dev/null")? {
        Some(null) => namespace.attach(namespace.copy_tree(&null, false)?, &at),
        None => Err(Errno::ENOENT),
    }
}

/// Writes a setting. One that cannot be written is accepted if it has the value already.
fn sysctl(namespace: &Arc<MountNamespace>, name: &str, value: &str) -> Result<(), BootError> {
    let path = format!("/proc/sys/{name}");
    let ctx = WalkContext::kernel(namespace.root());
    let open = |flags| {
        let how = OpenHow { flags, mode: 0, resolve: WalkFlags::empty() };
        open_at(None, &ctx, namespace.root(), path.as_bytes(), how)
    };
    let written = open(OpenFlags::WRONLY).and_then(|file| {
        file.ops().write(&file, &mut BufSource::new(value.as_bytes()), 0).map(drop)
    });
    let Err(errno) = written else { return Ok(()) };
    let current = open(OpenFlags::empty()).and_then(|file| {
        let mut text = [0; 256];
        let n = file.ops().read(&file, &mut crate::io::BufSink::new(&mut text), 0)?;
        Ok(String::from_utf8_lossy(text.get(..n).unwrap_or_default()).into_owned())
    });
    let words = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    if current.is_ok_and(|current| words(&current) == words(value)) {
        return Ok(());
    }
    Err(BootError::Sysctl { name: name.replace('/', "."), value: value.into(), errno })
}
