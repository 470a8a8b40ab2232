//! OCI bundles: from config.json to what the sandbox is started from.
//!
//! Follows the OCI runtime specification 1.2; what the sandbox cannot do is refused by name.

pub mod capabilities;
mod checks;
#[cfg(test)]
mod fuzz;
mod hooks;
pub mod linux;
pub mod mount_options;
pub mod mounts;
pub mod pod;
pub mod process;
mod rootfs;
pub mod scheduling;
pub mod seccomp;
mod submounts;
mod user_namespace;

use crate::cli::{FileAccess, Global};
use crate::sandbox::Exports;
use anyhow::{Context, bail};
use oci_spec::runtime::{Linux, LinuxNamespaceType, ProcessBuilder, Spec, SpecBuilder};
use sentry::boot::{ContainerSpec, MountKind, ProcessSpec, RootSpec};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Name of the configuration in a bundle.
pub const CONFIG: &str = "config.json";

/// Largest config.json that is read, in bytes.
const CONFIG_MAX: u64 = 16 << 20;

/// A bundle, read.
pub struct Bundle {
    /// config.json.
    pub config: Spec,
    /// The bundle's directory, absolute.
    pub directory: PathBuf,
    /// What it describes.
    pub container: ContainerSpec,
    /// What the gofer serves for it.
    pub exports: Exports,
}

/// Reads a bundle's configuration, or the one at `config` as if it were the bundle's. With `--overlay2=none` writes to a root that is not read-only reach the
/// bundle.
pub fn load(
    bundle: &Path,
    config: Option<&Path>,
    id: &str,
    flags: &Global,
) -> anyhow::Result<Bundle> {
    let directory = std::path::absolute(bundle)
        .with_context(|| format!("cannot use {} as bundle directory", bundle.display()))?;
    let path = match config {
        // As crun: the plain name is the bundle's file, others start where we are.
        Some(path) if path != Path::new(CONFIG) => std::path::absolute(path)
            .with_context(|| format!("cannot use {} as configuration", path.display()))?,
        _ => directory.join(CONFIG),
    };
    let config = parse(&path)?;
    let (container, exports) = translate(&config, &directory, id, flags)
        .with_context(|| format!("{} cannot be used", path.display()))?;
    Ok(Bundle { config, directory, container, exports })
}

/// The root file system's directory.
pub fn rootfs(config: &Spec, directory: &Path) -> Option<PathBuf> {
    config.root().as_ref().map(|root| directory.join(root.path()))
}

/// The network namespace that a container joins.
pub fn network_namespace(linux: &Linux) -> Option<PathBuf> {
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let found = namespaces.iter().find(|n| n.typ() == LinuxNamespaceType::Network)?;
    found.path().clone().filter(|path| !path.as_os_str().is_empty())
}

/// The pid namespace of another container that a container joins.
pub fn pid_namespace(linux: &Linux) -> Option<PathBuf> {
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let found = namespaces.iter().find(|n| n.typ() == LinuxNamespaceType::Pid)?;
    found.path().clone().filter(|path| !path.as_os_str().is_empty())
}

/// True for a container with a network namespace of its own, which nobody has made yet.
pub fn new_network_namespace(linux: &Linux) -> bool {
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    namespaces.iter().any(|n| n.typ() == LinuxNamespaceType::Network)
        && network_namespace(linux).is_none()
}

fn parse(path: &Path) -> anyhow::Result<Spec> {
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::NotFound => bail!(
            "{} does not exist: name a bundle with --bundle, or make one with `runsc spec`",
            path.display()
        ),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    if !meta.is_file() || meta.len() > CONFIG_MAX {
        bail!("{} is not a regular file of at most 16 MiB", path.display());
    }
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not a valid OCI configuration", path.display()))
}

fn translate(
    spec: &Spec,
    bundle: &Path,
    id: &str,
    flags: &Global,
) -> anyhow::Result<(ContainerSpec, Exports)> {
    if !spec.version().starts_with("1.") {
        bail!("ociVersion {:?} is not supported: this runtime follows 1.x", spec.version());
    }
    checks::check(spec, pod::sandbox_of(spec, id)?.is_some())?;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let root = spec.root().as_ref().context("\"root\" is missing")?;
    let process = spec.process().as_ref().context("\"process\" is missing: nothing to run")?;
    let read_only = root.readonly().unwrap_or(false);
    let mut exports = Exports::default();
    exports.users = linux::users(spec)?;
    let image = rootfs::image(spec, bundle)?;
    let mut wanted = flags.overlay();
    if let Some(root) = image.as_ref().and_then(|image| image.overlay) {
        wanted.root = root;
    }
    // An image is never written to.
    let read_only = read_only || image.is_some() && !wanted.root;
    // Mount points have to be made somewhere: for a read-only root, never in the bundle.
    let overlay = (wanted.root || read_only).then_some(wanted.size);
    let shared = flags.file_access == FileAccess::Shared;
    let propagation = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
    let propagation = propagation.and_then(mount_options::propagation).unwrap_or(0);
    let (image, export) = match image {
        Some(image) => (true, exports.add_file(image.file)?),
        None => {
            let rootfs = bundle.join(root.path());
            if !rootfs.is_dir() {
                bail!("the root file system {} is not a directory", rootfs.display());
            }
            mounts::check_places(spec.mounts().as_deref().unwrap_or_default(), &rootfs)?;
            (false, exports.add(&rootfs, overlay.is_some() || read_only, &[])?)
        }
    };
    let mut mounts =
        mounts::translate(spec.mounts().as_deref().unwrap_or_default(), bundle, &mut exports)?;
    if wanted.mounts {
        mounts::keep_inside(&mut mounts, wanted.size);
    }
    let terminal = spec.process().as_ref().and_then(|process| process.terminal());
    for mount in &mut mounts {
        if let MountKind::Dev { console } = &mut mount.kind {
            *console = terminal.unwrap_or(false);
        }
    }
    let mut container = ContainerSpec {
        id: id.into(),
        root: RootSpec { export, image, read_only, overlay, shared, propagation },
        mounts,
        hostname: spec.hostname().clone().unwrap_or_else(|| "runsc".into()),
        domainname: spec.domainname().clone(),
        devices: linux::devices(spec)?,
        sysctl: linux::sysctl(spec)?,
        masked_paths: linux::masked_paths(spec),
        read_only_paths: linux::read_only_paths(spec),
        limits: linux::limits(resources),
        clocks: linux::clocks(spec)?,
        id_maps: linux::id_maps(exports.users.as_ref()),
        allow_suid: flags.allow_suid,
        init_immune: true,
        seccomp: match linux::seccomp(spec).filter(|_| flags.oci_seccomp) {
            Some(profile) => seccomp::compile(profile)?,
            None => Vec::new(),
        },
        pids_of: None,
        hooks: hooks::inside(spec, bundle, id)?,
        process: ProcessSpec {
            make_cwd: true,
            personality: linux::personality(spec),
            mempolicy: linux::memory_policy(spec)?,
            // That is for those of `exec`.
            affinity: Vec::new(),
            ..process::translate(process)?
        },
    };
    capabilities::heed_net_raw(flags.net_raw, &mut container.process.capabilities);
    Ok((container, exports))
}

/// The configuration that `runsc spec` writes.
pub fn default_spec(command: Vec<String>, cwd: String, rootless: bool) -> anyhow::Result<Spec> {
    let process = ProcessBuilder::default()
        .args(command)
        .cwd(cwd)
        .terminal(crate::sandbox::terminal::Terminal::available())
        .build()
        .context("cannot describe the process")?;
    let mut builder = SpecBuilder::default().version("1.2.0").hostname("runsc").process(process);
    if rootless {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let whole = Spec::rootless(uid, gid);
        if let (Some(linux), Some(mounts)) = (whole.linux(), whole.mounts()) {
            builder = builder.linux(linux.clone()).mounts(mounts.clone());
        }
    }
    builder.build().context("cannot make a default configuration")
}
