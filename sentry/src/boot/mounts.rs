//! The container's mount tree.

use super::{BootError, ContainerSpec, MountKind, MountSpec, paths};
use crate::errno::{Errno, Result};
use crate::fs::dev;
use crate::fs::erofs::ErofsFs;
use crate::fs::filesystems::{self, Mounter};
use crate::fs::gofer::{GoferFs, Sharing};
use crate::fs::overlay;
use crate::fs::tmpfs::{Tmpfs, TmpfsOptions};
use crate::kernel::namespace::Namespaces;
use crate::kernel::{Credentials, Kernel};
use crate::vfs::mount::Propagation;
use crate::vfs::walk::{self, WalkContext, WalkFlags};
use crate::vfs::{Inode, Mount, MountFlags, MountNamespace, Owner, Path};
use gofer::Client;
use std::sync::Arc;

/// Mounts everything, as it looks from these namespaces.
pub fn build(
    kernel: &Arc<Kernel>,
    namespaces: &Arc<Namespaces>,
    client: &Arc<Client>,
    spec: &ContainerSpec,
) -> Result<Arc<MountNamespace>, BootError> {
    let failed = |what: &str, destination: &str| {
        let (what, destination) = (what.to_string(), destination.to_string());
        move |errno| BootError::Mount { what, destination, errno }
    };
    let root = root_mount(kernel, client, spec).map_err(failed("the root", "/"))?;
    let namespace = MountNamespace::new(root);
    for mount in &spec.mounts {
        attach(kernel, namespaces, client, &namespace, mount)
            .map_err(failed(name_of(&mount.kind), &mount.destination))?;
    }
    let root = namespace.root_mount();
    propagate(&namespace, &root, spec.root.propagation).map_err(failed("the root", "/"))?;
    paths::apply(kernel, namespaces, &namespace, spec)?;
    Ok(namespace)
}

fn root_mount(
    kernel: &Arc<Kernel>,
    client: &Arc<Client>,
    spec: &ContainerSpec,
) -> Result<Arc<Mount>> {
    let sharing = match spec.root.overlay {
        Some(_) => Sharing::Frozen,
        None if spec.root.shared => Sharing::Shared,
        None => Sharing::Exclusive,
    };
    let export = GoferFs::mount(client, spec.root.export, sharing)?;
    let lower: Arc<dyn Inode> = match spec.root.image {
        true => ErofsFs::mount(export.donated()?, kernel.memory.clone())?,
        false => export,
    };
    let inode = match spec.root.overlay {
        Some(size) => keep_inside(kernel, lower, size)?,
        None => lower,
    };
    let mut flags = MountFlags::RELATIME;
    let unchangeable = spec.root.image && spec.root.overlay.is_none();
    flags.set(MountFlags::RDONLY, spec.root.read_only || unchangeable);
    Ok(Mount::new(inode.fs(), inode, b"root", flags))
}

/// What is written to the directory `lower` stays in the sandbox's memory, up to so many bytes.
fn keep_inside(kernel: &Arc<Kernel>, lower: Arc<dyn Inode>, size: u64) -> Result<Arc<dyn Inode>> {
    let attr = lower.attr()?;
    let options = TmpfsOptions {
        size,
        mode: attr.mode & 0o7777,
        uid: attr.uid,
        gid: attr.gid,
        ..TmpfsOptions::default()
    };
    Ok(overlay::mount(Tmpfs::mount(kernel.memory.clone(), options), lower))
}

fn name_of(kind: &MountKind) -> &'static str {
    match kind {
        MountKind::Gofer { .. } => "a host directory",
        MountKind::Tmpfs { .. } => "tmpfs",
        MountKind::Proc => "proc",
        MountKind::Sysfs => "sysfs",
        MountKind::Dev { .. } => "the device nodes",
        MountKind::Devpts { .. } => "devpts",
        MountKind::Mqueue => "mqueue",
        MountKind::Cgroup => "cgroup2",
    }
}

fn attach(
    kernel: &Arc<Kernel>,
    namespaces: &Arc<Namespaces>,
    client: &Arc<Client>,
    namespace: &Arc<MountNamespace>,
    spec: &MountSpec,
) -> Result<()> {
    let (type_name, options): (&str, &str) = match &spec.kind {
        MountKind::Gofer { export, overlay } => {
            let mut inode: Arc<dyn Inode> = GoferFs::mount(client, *export, Sharing::Shared)?;
            if let Some(size) = overlay
                && inode.attr()?.is_dir()
            {
                let lower = GoferFs::mount(client, *export, Sharing::Frozen)?;
                inode = keep_inside(kernel, lower, *size)?;
            }
            return attach_inode(namespace, spec, b"volume", inode);
        }
        MountKind::Dev { console } => {
            let inode = dev::mount(&kernel.memory, *console)?;
            return attach_inode(namespace, spec, b"devtmpfs", inode);
        }
        MountKind::Tmpfs { options, .. } => ("tmpfs", options),
        MountKind::Proc => ("proc", ""),
        MountKind::Sysfs => ("sysfs", ""),
        MountKind::Devpts { options } => ("devpts", options),
        MountKind::Mqueue => ("mqueue", ""),
        MountKind::Cgroup => ("cgroup2", ""),
    };
    let mounter = Mounter {
        kernel,
        creds: &Credentials::default(),
        namespaces,
        pid_ns: &namespaces.pid_for_children,
    };
    let mut inode = filesystems::make(&mounter, type_name.as_bytes(), options.as_bytes())?;
    if matches!(spec.kind, MountKind::Tmpfs { copy_up: true, .. }) {
        let below = mount_point(namespace, spec.destination.as_bytes(), true)?;
        inode = overlay::mount(inode, below.inode().clone());
    }
    attach_inode(namespace, spec, type_name.as_bytes(), inode)
}

fn attach_inode(
    namespace: &Arc<MountNamespace>,
    spec: &MountSpec,
    source: &[u8],
    inode: Arc<dyn Inode>,
) -> Result<()> {
    let at = mount_point(namespace, spec.destination.as_bytes(), inode.attr()?.is_dir())?;
    let flags = MountFlags::from_bits_truncate(u32::try_from(spec.flags).unwrap_or(0));
    let source = spec.source.as_ref().map_or(source, String::as_bytes);
    let mount = Mount::new(inode.fs(), inode, source, times(flags));
    namespace.attach(mount.clone(), &at)?;
    propagate(namespace, &mount, spec.flags)
}

/// Makes a mount propagate as its flags say.
fn propagate(namespace: &Arc<MountNamespace>, mount: &Arc<Mount>, flags: u64) -> Result<()> {
    match Propagation::wanted(flags)? {
        Some(to) => namespace.set_propagation(mount, to, flags & libc::MS_REC != 0),
        None => Ok(()),
    }
}

/// The flags with one choice of how access times are kept, as `mount(2)` makes it.
fn times(flags: MountFlags) -> MountFlags {
    let chosen = MountFlags::NOATIME | MountFlags::STRICTATIME;
    let flags = if flags.intersects(chosen) {
        flags - MountFlags::RELATIME
    } else {
        flags | MountFlags::RELATIME
    };
    flags - MountFlags::STRICTATIME
}

/// The place for a mount; made, with the directories above it, if it does not exist.
pub(super) fn mount_point(
    namespace: &Arc<MountNamespace>,
    path: &[u8],
    directory: bool,
) -> Result<Path> {
    let ctx = WalkContext::kernel(namespace.root());
    let flags = WalkFlags::FOLLOW;
    match walk::resolve(&ctx, namespace.root(), path, flags) {
        Err(Errno::ENOENT) => {}
        found => return found,
    }
    let mut at = namespace.root();
    let names: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|name| !name.is_empty()).collect();
    for (i, name) in names.iter().enumerate() {
        at = match walk::resolve(&ctx, at.clone(), name, flags) {
            Err(Errno::ENOENT) => {
                let owner = Owner { uid: 0, gid: 0 };
                if directory || i + 1 < names.len() {
                    at.inode().mkdir(name, 0o755, owner)?;
                } else {
                    at.inode().create(name, libc::S_IFREG | 0o644, 0, owner)?;
                }
                // The cache remembers that there was nothing.
                at.dentry.forget_children();
                walk::resolve(&ctx, at, name, flags)?
            }
            found => found?,
        };
    }
    Ok(at)
}
