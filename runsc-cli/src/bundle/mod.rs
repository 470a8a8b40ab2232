//! OCI bundles: from config.json to what the sandbox is started from.
//!
//! Follows the OCI runtime specification 1.2; what the sandbox cannot do is refused by name.

pub mod capabilities;
mod mounts;
mod process;

use crate::sandbox::Exports;
use anyhow::{Context, bail};
use oci_spec::runtime::{ProcessBuilder, Spec, SpecBuilder};
use sentry::boot::{ContainerSpec, RootSpec};
use std::io::ErrorKind;
use std::path::Path;

/// Name of the configuration in a bundle.
pub const CONFIG: &str = "config.json";

/// Largest config.json that is read, in bytes.
const CONFIG_MAX: u64 = 16 << 20;

/// Reads a bundle's configuration.
pub fn load(bundle: &Path, id: &str) -> anyhow::Result<(ContainerSpec, Exports)> {
    let bundle = std::path::absolute(bundle)
        .with_context(|| format!("cannot use {} as bundle directory", bundle.display()))?;
    let path = bundle.join(CONFIG);
    let spec = parse(&path)?;
    translate(&spec, &bundle, id).with_context(|| format!("{} cannot be used", path.display()))
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

fn translate(spec: &Spec, bundle: &Path, id: &str) -> anyhow::Result<(ContainerSpec, Exports)> {
    if !spec.version().starts_with("1.") {
        bail!("ociVersion {:?} is not supported: this runtime follows 1.x", spec.version());
    }
    let root = spec.root().as_ref().context("\"root\" is missing")?;
    let process = spec.process().as_ref().context("\"process\" is missing: nothing to run")?;
    let read_only = root.readonly().unwrap_or(false);
    let mut exports = Exports::default();
    let rootfs = bundle.join(root.path());
    if !rootfs.is_dir() {
        bail!("the root file system {} is not a directory", rootfs.display());
    }
    let export = exports.add(&rootfs, true, &[])?;
    let mounts =
        mounts::translate(spec.mounts().as_deref().unwrap_or_default(), bundle, &mut exports)?;
    let container = ContainerSpec {
        id: id.into(),
        root: RootSpec { export, read_only, overlay: Some(crate::commands::OVERLAY_SIZE) },
        mounts,
        hostname: spec.hostname().clone().unwrap_or_else(|| "runsc".into()),
        process: process::translate(process)?,
    };
    Ok((container, exports))
}

/// The configuration that `runsc spec` writes.
pub fn default_spec(command: Vec<String>, cwd: String) -> anyhow::Result<Spec> {
    let process = ProcessBuilder::default()
        .args(command)
        .cwd(cwd)
        .terminal(crate::sandbox::terminal::Terminal::available())
        .build()
        .context("cannot describe the process")?;
    SpecBuilder::default()
        .version("1.2.0")
        .hostname("runsc")
        .process(process)
        .build()
        .context("cannot make a default configuration")
}
